"""`p2pnode trade receipts` and `trade history`: what is proven of one's own past and of others'."""

import json
from pathlib import Path
from typing import Any, Final

import click

from p2pnode.app.commands.frame import Session, common, entry, hanging, hex_prefix
from p2pnode.app.commands.trade_export import write_new
from p2pnode.app.commands.trade_view import btc, fiat
from p2pnode.base.units import moment

_HEAD: Final = f"{'TRADE':<10} {'FUNDED':<10} {'ROLE':<7} {'BTC':>12} {'FIAT':>16} {'WITH':<10}"


@click.command()
@common
@click.argument("trade_id", required=False)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the receipt of TRADE_ID to this new file, for `proof verify`.",
)
def receipts(session: Session, trade_id: str | None, out: Path | None) -> None:
    r"""Show what your receipts prove of your past.

    Your node makes one of every trade that closes released, or by a verdict: no peer can
    refuse it. One weighs once its counterparty's own first trade is 30 days old. Your
    offers show the counts alone; the receipts, which name your counterparties, are shown
    to whom you take an offer of and who takes yours.

    \b
    p2pnode trade receipts
    p2pnode trade receipts 7f3a91 --out receipt.json
    """
    if out is not None and trade_id is None:
        raise click.UsageError("--out writes one receipt: name its TRADE_ID")
    if trade_id is not None:
        found = session.client.get(f"/v1/receipts/{hex_prefix('trade_id', trade_id)}")
        if out is not None:
            write_new(out, json.dumps(found, indent=1) + "\n")
        size = len(found["receipt"]) // 2
        written = entry("written", str(out)) if out else entry("", "to a file: --out FILE")
        session.emit(found, f"Receipt of {trade_id}   {size} bytes", written)
        return
    answers = session.client.get("/v1/receipts")
    session.emit_rows(answers, _HEAD, _row, "no receipts: no trade of yours has closed yet")
    if answers:
        good = [a for a in answers if a["weighs"]]
        partners = len({a["partner"] for a in good})
        session.remark(f"{_trades(len(good))} with {_partners(partners)} weigh now")


@click.command()
@common
@click.argument("node_id", metavar="NODE")
@click.option("--kept", is_flag=True, help="Show what is known here; ask nobody.")
def history(session: Session, node_id: str, kept: bool) -> None:
    r"""Ask a node for its receipts and show what they prove.

    NODE is a node's id or its beginning, or offer:ID for the maker of an offer. A maker
    answers who knows a current offer of his, and a peer with whom a trade goes on. What he
    says in his offer stands beside what is proven on your own chain, and of every receipt
    that weighs nothing the reason.

    \b
    p2pnode trade history offer:3fa2b1
    p2pnode trade history 9c0d11ab
    p2pnode trade history 9c0d11ab --kept
    """
    whom = node_id.strip()
    if whom.startswith("offer:"):
        whom = f"offer:{hex_prefix('offer_id', whom.removeprefix('offer:'))}"
    else:
        whom = hex_prefix("node_id", whom)
    path = f"/v1/history/{whom}"
    answer = session.client.get(path) if kept else session.client.post(path)
    proven, claimed = answer["proven"], answer["claimed"]
    lines = [f"Node {answer['node_id'][:16]}…"]
    if answer["why"]:
        lines.append(entry("no answer", answer["why"]))
    if answer["asked"]:
        lines.append(
            entry("shown", f"{answer['shown']} receipt{'' if answer['shown'] == 1 else 's'}")
        )
    if claimed:
        lines.append(entry("claims", _numbers(claimed)))
    lines.append(entry("proven", _numbers(proven)))
    if answer["known_since"]:
        lines.append(entry("known", f"since {moment(answer['known_since'])}"))
    lines += [entry("no proof", fault) for fault in answer["faults"]]
    if answer["receipts"]:
        lines += ["", click.style(_HEAD, bold=True), *map(_row, answer["receipts"])]
    session.emit(answer, *lines)


def _numbers(past: dict[str, Any]) -> str:
    if not past["trades"]:
        return "no trade"
    since = f", the first {past['days']} days ago" if past["first_at"] else ""
    return f"{_trades(past['trades'])} with {_partners(past['partners'])}{since}"


def _trades(count: int) -> str:
    return f"{count} trade{'' if count == 1 else 's'}"


def _partners(count: int) -> str:
    return f"{count} counterpart{'y' if count == 1 else 'ies'}"


def _row(a: dict[str, Any]) -> str:
    row = (
        f"{a['trade_id'][:8]:<10} {moment(a['funded_at'])[:10]:<10} {a['role']:<7} "
        f"{btc(a['amount_sat']):>12} {fiat(a):>16} {a['partner'][:8]:<10}"
    ).rstrip()
    return row if a["weighs"] else f"{row}\n" + hanging(f"{'':<10} weighs nothing: ", a["why"])
