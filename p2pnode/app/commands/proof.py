"""`p2pnode proof`: that somebody signed two things of which he may sign one; or a receipt."""

import json
from pathlib import Path
from typing import Any, Final

import click

from p2pnode.app.commands.frame import Session, common, entry, hex_prefix
from p2pnode.app.commands.json_file import read_json
from p2pnode.app.commands.trade_export import write_new
from p2pnode.app.commands.trade_view import btc
from p2pnode.base.units import moment

_HEAD: Final = f"{'NO':<3} {'WHAT':<27} SIGNED BY"


@click.group()
def proof() -> None:
    """Show and check proofs that somebody signed two things."""


@proof.command()
@common
@click.argument("trade_id")
@click.option("--pick", type=click.IntRange(1), metavar="NO", help="One of several.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write it to this new file."
)
def show(session: Session, trade_id: str, pick: int | None, out: Path | None) -> None:
    r"""Show what a trade or case has proven: who signed what twice.

    Two messages of one number, or an arbiter's two verdicts. Your node keeps a proof where
    it meets one and publishes none. The file of --out is for anybody: of messages it holds
    the headers alone, of verdicts also what they say.

    \b
    p2pnode proof show 7f3a91
    p2pnode proof show 7f3a91 --pick 2 --out proof.json
    """
    found = session.client.get(f"/v1/proofs/{hex_prefix('trade_id', trade_id)}")
    if pick is not None and pick > len(found):
        raise click.UsageError(f"--pick {pick}: {len(found)} proofs are held of this trade")
    numbered = list(enumerate(found, 1))
    if pick is not None:
        numbered = numbered[pick - 1 : pick]
    if out is not None:
        if len(numbered) != 1:
            raise click.UsageError(f"{len(found)} proofs are held: name one with --pick")
        write_new(out, json.dumps(numbered[0][1], indent=1) + "\n")
    numbers = iter(number for number, _ in numbered)
    session.emit_rows(
        (value for _, value in numbered),
        _HEAD,
        lambda value: _row(next(numbers), value),
        "nobody is proven to have signed two things in this trade",
    )


def _row(number: int, value: dict[str, Any]) -> str:
    from escrow.equivocation import Equivocation

    told = _told(Equivocation.from_json(value))
    lines = [f"{number:<3} {told['what']:<27} {told['by'][:32]}…"]
    lines += [f"    {_line(message)}" for message in told["messages"]]
    return "\n".join(lines)


@proof.command()
@common
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def verify(session: Session, file: Path) -> None:
    r"""Check a proof, or a receipt, from its file.

    Both signatures and all that the two must share are checked again; neither a node nor
    a chain is needed. Exit code 0 if every line holds; 65 naming the line that does not.
    A receipt proves a trade: its signatures and transactions are checked the same way, and
    your node tells whether both transactions are six deep in its own chain.

    It proves that one key signed both, not why: a node that was restored from an older
    copy of its data does it too. Who was drawn as arbiter, `draw verify` tells.

    \b
    p2pnode proof verify proof.json
    """
    from escrow.equivocation import MAX_FILE, Equivocation
    from escrow.receiptfile import is_receipt

    value = read_json(file, MAX_FILE)
    if is_receipt(value):
        _receipt(session, value)
        return
    told = _told(Equivocation.from_json(value))
    session.emit(
        {"verified": True} | told,
        f"verified   {told['what']}, on {told['network']}",
        f"signed by  {told['by']}",
        f"in trade   {told['trade_id']}",
        *(entry("both", _line(message)) for message in told["messages"]),
    )


def _receipt(session: Session, value: object) -> None:
    """Check a receipt: by itself, then in the chain of the user's own node."""
    from escrow.receiptfile import receipt_from_json

    receipt = receipt_from_json(value)
    contract = receipt.contract
    seen = session.client.post("/v1/receipts/check", receipt=receipt.wire().hex())
    told = {
        "verified": True,
        "network": receipt.network.name,
        "what": "receipt",
        "trade_id": contract.trade_id.hex(),
        "seller": contract.seller.hex(),
        "buyer": contract.buyer.hex(),
        "amount_sat": contract.amount_sat,
        "currency": contract.currency,
        "fiat_minor": contract.fiat_minor,
        "method": contract.method,
        "ended_by": ("RECEIVED", "VERDICT", "VERDICT")[receipt.ended.by],
    } | seen
    depth = seen["tip_height"] - seen["payout_height"] + 1
    session.emit(
        told,
        f"verified   a trade of {btc(contract.amount_sat)} BTC, on {receipt.network.name}",
        f"seller     {contract.seller.hex()}",
        f"buyer      {contract.buyer.hex()}",
        f"in trade   {contract.trade_id.hex()}",
        entry("ended by", f"{told['ended_by']}, paid out at block {seen['payout_height']}"),
        entry("depth", f"{depth} blocks in your chain"),
        entry("funded", moment(seen["funded_at"])),
    )


def _told(found: Any) -> dict[str, Any]:
    """Return what a proof says, in the units of the API."""
    from escrow.equivocation import What, split_of

    messages = []
    for message in found:
        plain = {
            "kind": message.kind.name,
            "seq": message.seq,
            "recipient": message.recipient.hex(),
            "id": message.id.hex(),
            "tip_height": message.tip_height,
        }
        if found.what is What.VERDICTS:
            names = ("buyer_sat", "seller_sat", "arbiter_sat")
            plain |= dict(zip(names, split_of(message), strict=True))
        messages.append(plain)
    return {
        "network": found.first.network.name,
        "what": found.what.words,
        "by": found.sender.hex(),
        "trade_id": found.trade_id.hex(),
        "messages": messages,
    }


def _line(m: dict[str, Any]) -> str:
    """Write one of the two: what, to whom, when by the sender's chain."""
    said = f"{m['kind']}, number {m['seq']} to {m['recipient'][:16]}…, at block {m['tip_height']}"
    if "buyer_sat" in m:
        said += f": buyer {btc(m['buyer_sat'])}, seller {btc(m['seller_sat'])} BTC"
    return said
