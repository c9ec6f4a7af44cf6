"""`p2pnode net`: peers, what the DHT holds, and whether a list of seeds is sound."""

from pathlib import Path
from typing import Any

import click

from p2pnode.app.commands.frame import Session, common
from p2pnode.base.errors import InvalidRecord, UsageFault


@click.group()
def net() -> None:
    """Peers and what the network knows."""


@net.command()
@common
def peers(session: Session) -> None:
    r"""List the nodes that have answered this one, and where.

    \b
    p2pnode net peers
    p2pnode net peers --json | jq -r .node_id
    """
    session.emit_rows(
        session.client.get("/v1/net/peers"),
        f"{'NODE':<16}  ADDRESS",
        lambda peer: f"{peer['node_id'][:16]}  {', '.join(peer['addrs'])}",
        "no peers: name a seed with `p2pnode run --bootstrap MULTIADDR`",
    )


@net.command()
@common
def dht(session: Session) -> None:
    r"""Show where this node listens and what it holds.

    \b
    p2pnode net dht
    """
    answer = session.client.get("/v1/net/dht")
    session.emit(answer, *_dht_lines(answer))


def _dht_lines(answer: dict[str, Any]) -> list[str]:
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(answer["kinds"].items()))
    addrs = [f"{addr}/p2p/{answer['peer_id']}" for addr in answer["addrs"]]
    return [
        f"node      {answer['node_id']}",
        *(f"listens   {addr}" for addr in addrs or ["nowhere: it can ask, and cannot be asked"]),
        f"contacts  {answer['contacts']} in {answer['buckets']} buckets, "
        f"{answer['streams']} streams open",
        f"records   {answer['records']}{f' ({kinds})' if kinds else ''}",
    ]


@net.group()
def seeds() -> None:
    """The nodes a newcomer asks first."""


@seeds.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@common
def verify(session: Session, file: Path) -> None:
    r"""Check a bootstrap_nodes.json.

    Each bad entry is named; exit code 65 if there is one.

    \b
    p2pnode net seeds verify bootstrap_nodes.json
    """
    from dht.bootstrap import MAX_FILE_BYTES
    from dht.bootstrap import verify as check

    try:
        with file.open("rb") as opened:
            text = opened.read(MAX_FILE_BYTES + 1).decode()
    except OSError as error:
        raise UsageFault(f"file: {file}: {error.strerror}", field="file") from None
    except UnicodeDecodeError:
        raise InvalidRecord("file", "is not text in UTF-8") from None
    complaints = []
    for network, usable, complaint in check(text):
        if complaint:
            complaints.append(complaint)
        else:
            session.emit({"network": network, "seeds": usable}, f"{network:<10} {usable} seeds")
    for complaint in complaints:
        session.remark(complaint)
    if complaints:
        rest = f" (and {len(complaints) - 1} more)" if len(complaints) > 1 else ""
        raise InvalidRecord("seeds", f"{complaints[0]}{rest}")
