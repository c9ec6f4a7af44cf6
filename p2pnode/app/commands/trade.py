"""`p2pnode trade`: take an offer and see the trade through.

Taking, talk, other splits and watching have modules of their own: trade_take, trade_talk,
trade_accord, trade_watch.
"""

from typing import Any, Final

import click

from p2pnode.app.commands.frame import Session, common, hanging
from p2pnode.app.commands.trade_accord import agree, ask, decline
from p2pnode.app.commands.trade_export import export
from p2pnode.app.commands.trade_history import history, receipts
from p2pnode.app.commands.trade_take import take
from p2pnode.app.commands.trade_talk import chat, note
from p2pnode.app.commands.trade_view import btc, fiat, path, show_trade, unread
from p2pnode.app.commands.trade_watch import watch

_HEAD: Final = f"{'ID':<10} {'STATE':<12} {'ROLE':<7} {'BTC':>12} {'FIAT':>16}"


@click.group()
def trade() -> None:
    """Take an offer and see the trade through."""


for _command in (*(take, ask, agree, decline, chat, note, watch, export, receipts, history),):
    trade.add_command(_command)


@trade.command("list")
@common
def list_(session: Session) -> None:
    r"""List your trades, newest first, with the next step of each.

    \b
    p2pnode trade list
    p2pnode trade list --json | jq -r 'select(.state=="Funded").trade_id'
    """
    session.emit_rows(
        session.client.get("/v1/trades"),
        _HEAD,
        _row,
        "no trades: `p2pnode offer list --cur EUR` shows what is offered",
    )


def _row(answer: dict[str, Any]) -> str:
    row = f"{answer['trade_id'][:8]:<10} {answer['state']:<12}"
    if "amount_sat" in answer:
        row += f" {answer['role']:<7} {btc(answer['amount_sat']):>12} {fiat(answer):>16}"
    lines = [row.rstrip(), hanging(f"{'':<10} next: ", answer["next"])]
    if answer.get("unread"):
        lines.append(hanging(f"{'':<10} unread: ", unread(answer)))
    return "\n".join(lines)


@trade.command()
@common
@click.argument("trade_id")
def show(session: Session, trade_id: str) -> None:
    r"""Show one trade: where it stands, what to do next and by when.

    \b
    p2pnode trade show 7f3a91
    """
    show_trade(session, session.client.get(path(trade_id)))


@trade.command()
@common
@click.argument("trade_id")
@click.option("--reason", default="cancelled by its user", help="What the peer is told.")
def cancel(session: Session, trade_id: str, reason: str) -> None:
    r"""Stop a trade while your funding signature has not left.

    \b
    p2pnode trade cancel 7f3a91 --reason "wrong offer"
    """
    show_trade(session, session.client.post(path(trade_id, "/cancel"), reason=reason))


@trade.command("pay-sent")
@common
@click.argument("trade_id")
@click.option("--note", default="", help="A reference the seller can find the payment by.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def pay_sent(session: Session, trade_id: str, note: str, yes: bool) -> None:
    r"""Buyer: say that you have sent the money.

    Words alone: the seller's `trade received` is what releases the bitcoin.

    \b
    p2pnode trade pay-sent 7f3a91 --note "reference 7f3a91"
    """
    session.confirm(f"Have you sent the whole {_sum(session, trade_id, yes)}?", yes)
    show_trade(session, session.client.post(path(trade_id, "/paid"), note=note))


@trade.command("not-paid")
@common
@click.argument("trade_id")
@click.option("--note", default="", help="Why not.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def not_paid(session: Session, trade_id: str, note: str, yes: bool) -> None:
    r"""Buyer: declare that you will not pay.

    It cannot be taken back. An arbiter may then return the bitcoin to the seller at once.

    \b
    p2pnode trade not-paid 7f3a91 --note "the account is closed"
    """
    session.confirm("Declare that you will never pay in this trade?", yes)
    show_trade(session, session.client.post(path(trade_id, "/not-paid"), note=note))


@trade.command()
@common
@click.argument("trade_id")
@click.option("--yes", is_flag=True, help="Do not ask.")
def received(session: Session, trade_id: str, yes: bool) -> None:
    r"""Seller: the money is in; release the bitcoin.

    Your signature hands the bitcoin to the buyer: look into your account first, not at
    what anybody says.

    \b
    p2pnode trade received 7f3a91
    """
    session.confirm(f"Is the whole {_sum(session, trade_id, yes)} in your account, for good?", yes)
    show_trade(session, session.client.post(path(trade_id, "/received")))


def _sum(session: Session, trade_id: str, yes: bool) -> str:
    """Return what is paid in a trade, for a question that will be asked."""
    answer = {} if yes else session.client.get(path(trade_id))
    return fiat(answer) if "fiat_minor" in answer else "amount"
