"""`p2pnode trade export`: what another wallet needs to move a trade's escrow."""

import json
import os
from pathlib import Path

import click

from p2pnode.app.commands.frame import Session, coins, common, entry
from p2pnode.app.commands.trade_view import path
from p2pnode.base.errors import LocalFault, StorageFault


@click.command()
@common
@click.argument("trade_id")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write it all to this new file.",
)
def export(session: Session, trade_id: str, out: Path | None) -> None:
    r"""Print what any other wallet needs to pay a trade out.

    With the words of two of the three parties, Bitcoin Core moves the escrow from this alone.
    The file holds no secret key, but names, accounts and everything that was said.

    \b
    p2pnode trade export 7f3a91
    p2pnode trade export 7f3a91 --out trade-7f3a91.json
    """
    answer = session.client.get(path(trade_id, "/export"))
    lines = [
        f"Trade {answer['trade_id'][:8]}   {answer['escrow_kind']}",
        entry("escrow", f"{coins(answer['escrow_sat'])} BTC at {answer['outpoint']}"),
        entry("", answer["address"]),
        entry("descriptor", answer["descriptor"]),
    ]
    for p in answer["payouts"]:
        signed = f", {len(p['signed_by'])} signed" if p["signed_by"] else ""
        name = f"{p['name']} ({p['branch']}) at {p['rate']} sat/vB{signed}"
        shares = f"buyer {coins(p['buyer_sat'])}, seller {coins(p['seller_sat'])} BTC"
        lines += [entry("payout", f"{name}: {shares}")]
    if out is None:
        lines.append(entry("", "the PSBTs and the transcript: --out FILE, or --json"))
    else:
        write_new(out, json.dumps(answer, indent=1) + "\n")
        lines.append(entry("written", str(out)))
    session.emit(answer, *lines)


def write_new(out: Path, text: str) -> None:
    """Write a file of one's own, 0600, over nothing. Raises LocalFault, StorageFault."""
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise LocalFault(f"out: {out} is there already: name another file", field="out") from None
    except OSError as error:
        raise StorageFault(f"out: {out}: {error.strerror}", field="out") from None
