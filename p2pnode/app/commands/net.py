"""`p2pnode net`: peers, what the DHT does, and lists of seeds; bans are in net_ban.py."""

import json
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import click

from p2pnode.app.commands.frame import Session, common, hanging
from p2pnode.app.commands.net_ban import ban, span
from p2pnode.base.errors import InvalidRecord, UsageFault
from p2pnode.base.units import moment

_SHOWN: Final = 16  # hex digits of a node id


@click.group()
def net() -> None:
    """Peers and what the network knows."""


net.add_command(ban)


# ------------------------------------------------------------------ peers


@net.command()
@common
def peers(session: Session) -> None:
    r"""List the nodes that have answered this one, and where.

    RTT is the mean round trip, HEARD how long ago the last answer came, POINTS what is
    held against a peer: at 100 it is banned for an hour. They halve every ten minutes.

    \b
    p2pnode net peers
    p2pnode net peers --json | jq -r 'select(.points>50).node_id'
    """
    session.emit_rows(
        session.client.get("/v1/net/peers"),
        f"{'NODE':<16} {'RTT':>8} {'HEARD':>10} {'POINTS':>6}  ADDRESS",
        _peer_row,
        "no peers: name a seed with `p2pnode run --bootstrap MULTIADDR`",
    )


def _peer_row(peer: dict[str, Any]) -> str:
    silent = peer["silent_s"]
    head = (
        f"{peer['node_id'][:_SHOWN]:<16} {_milliseconds(peer['rtt_ms']):>8} "
        f"{'-' if silent is None else f'{span(silent)} ago':>10} {round(peer['points']):>6}  "
    )
    return head + f"\n{' ' * len(head)}".join(peer["addrs"] or ["-"])


def _milliseconds(rtt: float | None) -> str:
    if rtt is None:
        return "-"
    return "<1 ms" if rtt < 1 else f"{round(rtt):,} ms"


# ------------------------------------------------------------------ the DHT


@net.command()
@common
def dht(session: Session) -> None:
    r"""Show what this node holds, does and refuses.

    The counts are explained in docs/operations.md; --json has all of them.

    \b
    p2pnode net dht
    p2pnode net dht --json | jq .counts
    """
    answer = session.client.get("/v1/net/dht")
    session.emit(answer, *_dht_lines(answer))


def _dht_lines(answer: dict[str, Any]) -> list[str]:
    counts, below = answer["counts"], answer["transport_counts"]
    addrs = [f"{addr}/p2p/{answer['peer_id']}" for addr in answer["addrs"]]
    kinds = ", ".join(f"{n:,} {kind}" for kind, n in sorted(answer["kinds"].items()))
    reached = "not yet: nobody has connected to this node since it started"
    if answer["reached"]:
        reached = f"yes: {_many(answer['reached'], 'connection')} came in, "
        reached += f"{answer['inbound']:,} open now"
    refused = {
        "connection": below.get("connections_refused", 0) + below.get("connections_barred", 0),
        "stream": counts.get("streams_refused", 0),
        "question": counts.get("refused", 0) + counts.get("refused_method", 0),
    }
    return [
        f"node      {answer['node_id']}",
        *(f"listens   {addr}" for addr in addrs or ["nowhere: it can ask, and cannot be asked"]),
        hanging("reached   ", reached),
        hanging(
            "contacts  ",
            f"{answer['contacts']:,} in {_many(answer['buckets'], 'bucket')}; "
            f"connected to {_many(answer['connected'], 'node')}, "
            f"{_many(answer['streams'], 'stream')} open",
        ),
        hanging(
            "records   ",
            f"{answer['records']:,} held{f': {kinds}' if kinds else ''}",
        ),
        hanging(
            "minute    ",
            f"{_many(answer['lookups_minute'], 'lookup')}, {answer['asked_minute']:,} questions "
            f"asked, {answer['answered_minute']:,} answered",
        ),
        hanging(
            "news      ",
            f"listens to {_many(answer['subscriptions'], 'key')}, "
            f"serves {_many(answer['listens'], 'subscription')}",
        ),
        hanging(
            "refused   ",
            f"{', '.join(_many(n, what) for what, n in refused.items())}; "
            f"{_many(counts.get('quota_waits', 0), 'wait')} for a quota, since the start",
        ),
        f"bans      {answer['bans']:,}{' (p2pnode net ban list)' if answer['bans'] else ''}",
    ]


def _many(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


# ------------------------------------------------------------------ seeds


@net.group()
def seeds() -> None:
    """The nodes a newcomer asks first."""


@seeds.command()
@click.option(
    "--addr",
    metavar="MULTIADDR",
    multiple=True,
    help="Where newcomers reach it; may be repeated [default: where it listens].",
)
@click.option("--days", type=click.IntRange(1, 366), default=90, show_default=True)
@common
def sign(session: Session, addr: tuple[str, ...], days: int) -> None:
    r"""Print the running node's entry for a bootstrap_nodes.json, signed by its key.

    Nobody can alter a signed entry, and it goes stale by itself: sign anew before it does.

    \b
    p2pnode net seeds sign --addr /dns4/seed.example.org/tcp/4001 --days 90
    p2pnode net seeds sign --json | jq .entry
    """
    answer = session.client.post("/v1/net/seeds/sign", addrs=list(addr), days=days)
    entry, network = answer["entry"], answer["network"]
    session.emit(answer, json.dumps(entry, indent=2))
    for near in filter(_is_near, entry["addrs"]):
        session.remark(f"{near} is reached from near by alone: name the outside with --addr")
    session.remark(
        f"for networks.{network} of a bootstrap_nodes.json; good until "
        f"{moment(entry['expires_at'])}: sign anew before that"
    )


def _is_near(addr: str) -> bool:
    """Tell whether an address cannot be reached from everywhere."""
    kind, host = addr.split("/")[1:3]
    return kind in ("ip4", "ip6") and not ip_address(host).is_global


@seeds.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@common
def verify(session: Session, file: Path) -> None:
    r"""Check a bootstrap_nodes.json.

    Each entry is told: signed, unsigned, or why it is skipped. Exit code 65 if one is.

    \b
    p2pnode net seeds verify bootstrap_nodes.json
    """
    from dht.bootstrap import verify as check

    complaints: list[str] = []
    for listing in check(_read(file), int(time.time())):
        session.emit(_plain(listing), *_listing_lines(listing))
        complaints += listing.complaints()
    if complaints:
        rest = f" (and {len(complaints) - 1} more)" if len(complaints) > 1 else ""
        raise InvalidRecord("seeds", f"{complaints[0]}{rest}")


def _read(file: Path) -> str:
    from dht.bootstrap import MAX_FILE_BYTES

    try:
        with file.open("rb") as opened:
            return opened.read(MAX_FILE_BYTES + 1).decode()
    except OSError as error:
        raise UsageFault(f"file: {file}: {error.strerror}", field="file") from None
    except UnicodeDecodeError:
        raise InvalidRecord("file", "is not text in UTF-8") from None


def _plain(listing: Any) -> dict[str, Any]:
    return {
        "network": listing.network,
        "seeds": len(listing.peers()),
        "signed_only": listing.signed_only,
        "why": listing.why,
        "entries": [
            {
                "index": f.index,
                "usable": not f.why,
                "state": f.state,
                "why": f.why,
                "peer_id": f.peer_id,
                "expires_at": f.expires_at,
            }
            for f in listing.findings
        ],
    }


def _listing_lines(listing: Any) -> list[str]:
    only = ", signed entries only" if listing.signed_only else ""
    lines = [f"{listing.network:<10} {_many(len(listing.peers()), 'seed')}{only}"]
    lines += [hanging("  skipped: ", listing.why)] if listing.why else []
    for f in listing.findings:
        if f.why:
            lines.append(hanging(f"  [{f.index}] {f.state}, skipped: ", f.why))
        else:
            until = f" until {moment(f.expires_at)}" if f.expires_at is not None else ""
            lines.append(f"  [{f.index}] {f.state}{until}, {f.peer.addrs[0]}")
    return lines
