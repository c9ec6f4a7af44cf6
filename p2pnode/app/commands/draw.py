"""`p2pnode draw`: how an arbiter was drawn, and the proof of it for anybody."""

import json
from pathlib import Path
from typing import Any

import click

from p2pnode.app.commands.frame import Session, common, hex_prefix
from p2pnode.app.commands.json_file import read_json
from p2pnode.app.commands.trade_view import path
from p2pnode.base.errors import StorageFault


@click.group()
def draw() -> None:
    """Check how an arbiter was drawn, from the transcript alone."""


@draw.command()
@common
@click.argument("trade_id")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the transcript to this file.",
)
def show(session: Session, trade_id: str, out: Path | None) -> None:
    r"""Show how a trade's arbiter was drawn.

    With --out the whole transcript goes to a file for `draw verify`.

    \b
    p2pnode draw show 7f3a91 --out draw.json
    """
    answer = session.client.get(path(trade_id, "/draw"))
    if out is not None:
        try:
            out.write_text(json.dumps(answer, indent=1) + "\n")
        except OSError as error:
            raise StorageFault(f"{out}: {error.strerror}", field="out") from None
    written = () if out is None else (f"written    {out}",)
    session.emit(
        answer,
        f"arbiter    {answer['arbiter']}",
        f"runner-up  {answer['runner_up']}",
        f"seed       {answer['seed']}",
        f"records    {len(answer['records'])}",
        *written,
    )


@draw.command()
@common
@click.argument("node_id")
@click.option("--stated", type=int, help="His count of draws, if no trade with him lies here.")
def record(session: Session, node_id: str, stated: int | None) -> None:
    r"""Show which of a node's draws came to nothing.

    Each TAKE and DRAW states its sender's count of draws. Looked up are the 32
    numbers up to the last one that he stated to you. An entry blames nobody; many
    counterparties tell more than many entries.

    \b
    p2pnode draw record $(p2pnode trade show 7f3a91 --json | jq -r .peer)
    """
    query = f"?stated={stated}" if stated is not None else ""
    found = session.client.get(f"/v1/draws/{hex_prefix('node_id', node_id, 64)}{query}")
    missing = f", {found['unanswered']} not answered" if found["unanswered"] else ""
    lines = [
        f"draws      {found['stated']} stated, the last {found['looked_up']} looked up{missing}",
        f"broken     {found['broken']}, with {found['counterparties']} counterparties",
        f"with you   {found['drawn_here']} drawn, {found['signed_here']} funded by his signature",
    ]
    if found["used_twice"]:
        lines.append(f"warning    {found['used_twice']} numbers stand for more than one trade")
    for entry in found["entries"]:
        lines.append(f"  {entry['draw_no']:<8} as {entry['as']}, with {entry['with'][:16]}…")
    session.emit(found, *lines)


@draw.command()
@common
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--electrum", required=True, metavar="HOST:PORT", help="The Electrum server to check against."
)
def verify(session: Session, file: Path, electrum: str) -> None:
    r"""Check a draw from its transcript.

    Everything is computed again from the file and a chain alone; no node need run.

    Exit code 0 if every line holds; 65 naming the line that does not.

    \b
    p2pnode draw verify draw.json --electrum 127.0.0.1:50001
    """
    from escrow.drawfile import MAX_FILE, draw_from_json

    transcript = draw_from_json(read_json(file, MAX_FILE))
    drawn = _with_chain(transcript, electrum)
    answer = {
        "verified": True,
        "arbiter": drawn.arbiter.node_id.hex(),
        "runner_up": drawn.runner_up.node_id.hex(),
        "seed": drawn.seed.hex(),
        "eligible": drawn.eligible,
    }
    session.emit(
        answer,
        f"verified   drawn from {drawn.eligible} eligible arbiters",
        f"arbiter    {answer['arbiter']}",
        f"runner-up  {answer['runner_up']}",
    )


def _with_chain(transcript: Any, electrum: str) -> Any:
    """Connect to the chain server, verify, disconnect."""
    import trio

    from escrow.backend_electrum import ElectrumChain
    from p2pnode.app.config import endpoint
    from p2pnode.base.clock import SystemClock
    from p2pnode.base.groups import one_fault

    host, port = endpoint("electrum", electrum)

    async def main() -> Any:
        chain = ElectrumChain(host, port, transcript.network, SystemClock())
        async with trio.open_nursery() as nursery:
            await nursery.start(chain.run)
            chain.tip()  # says who is not there
            drawn = transcript.verify(chain)
            nursery.cancel_scope.cancel()
        return drawn

    with one_fault():
        return trio.run(main)
