"""`p2pnode trade`: take an offer and see the trade through."""

from typing import Any, Final

import click

from p2pnode.app.commands.frame import Session, common
from p2pnode.base.units import decimal, parse_decimal

_PLACES: Final = 8
_HEAD: Final = f"{'ID':<10} {'STATE':<12} {'ROLE':<7} {'BTC':>12} {'FIAT':>16}"


def btc(sat: int) -> str:
    """Write satoshi as people read them."""
    return decimal(sat, _PLACES)


def fiat(answer: dict[str, Any]) -> str:
    """Write the counter-payment as people read it."""
    return f"{decimal(answer['fiat_minor'], answer['exponent'])} {answer['currency']}"


@click.group()
def trade() -> None:
    """Take an offer and see the trade through."""


@trade.command()
@common
@click.argument("offer")
@click.option("--amount", required=True, metavar="BTC", help="How much bitcoin to trade.")
@click.option("--account", required=True, metavar="NAME", help="Your payment account for it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def take(session: Session, offer: str, amount: str, account: str, yes: bool) -> None:
    r"""Take OFFER (its id or a unique beginning of it).

    Your deposit, and as a seller the amount, are locked in a 2-of-3 escrow once both sides
    have signed the contract; the arbiter is drawn at random while you wait.

    \b
    p2pnode trade take c05e12 --amount 0.01 --account home
    p2pnode trade take c05e12 --amount 0.01 --account home --yes --json | jq -r .trade_id
    """
    amount_sat = parse_decimal("amount", amount, _PLACES)
    found = session.client.get(f"/v1/offers/{offer}")
    seller = found["side"] == "buy"
    rate = found["deposit_seller_bp" if seller else "deposit_buyer_bp"]
    locked = max(-(-amount_sat * rate // 10_000), 10_000) + (amount_sat if seller else 0)
    session.remark(
        f"You {'sell' if seller else 'buy'} {btc(amount_sat)} BTC at "
        f"{decimal(found['price'] // 10_000, found['exponent'])} {found['currency']}/BTC and lock "
        f"{btc(locked)} BTC and the network fee until the trade ends."
    )
    session.confirm("Take this offer?", yes)
    answer = session.client.post(
        "/v1/trades", offer_id=found["offer_id"], amount_sat=amount_sat, account=account
    )
    _show(session, answer)


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
    return f"{row}\n{'':<10} next: {answer['next']}"


@trade.command()
@common
@click.argument("trade_id")
def show(session: Session, trade_id: str) -> None:
    """Show one trade: where it stands, what to do next and by when."""
    _show(session, session.client.get(f"/v1/trades/{trade_id}"))


@trade.command()
@common
@click.argument("trade_id")
def watch(session: Session, trade_id: str) -> None:
    """Show each change of one trade until it ends or Ctrl-C."""
    whole = session.client.get(f"/v1/trades/{trade_id}")
    _show(session, whole)
    last = session.client.get("/v1/status")["last_event"]
    for event in session.client.events(last, timeout=24 * 3600):
        if event.get("trade_id") == whole["trade_id"]:
            answer = session.client.get(f"/v1/trades/{whole['trade_id']}")
            session.emit(answer, f"{answer['state']:<12} {answer['next']}")
            if answer["state"] in {"Closed", "Aborted", "Void"}:
                return


@trade.command()
@common
@click.argument("trade_id")
@click.option("--reason", default="cancelled by its user", help="What the peer is told.")
def cancel(session: Session, trade_id: str, reason: str) -> None:
    """Stop a trade while your funding signature has not left."""
    _show(session, session.client.post(f"/v1/trades/{trade_id}/cancel", reason=reason))


@trade.command("pay-sent")
@common
@click.argument("trade_id")
@click.option("--note", default="", help="A reference the seller can find the payment by.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def pay_sent(session: Session, trade_id: str, note: str, yes: bool) -> None:
    """Buyer: say that you have sent the money."""
    session.confirm("Have you sent the whole amount?", yes)
    _show(session, session.client.post(f"/v1/trades/{trade_id}/paid", note=note))


@trade.command("not-paid")
@common
@click.argument("trade_id")
@click.option("--note", default="", help="Why not.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def not_paid(session: Session, trade_id: str, note: str, yes: bool) -> None:
    """Buyer: declare that you have not paid and will not; it cannot be taken back."""
    session.confirm("Declare that you will never pay in this trade?", yes)
    _show(session, session.client.post(f"/v1/trades/{trade_id}/not-paid", note=note))


@trade.command()
@common
@click.argument("trade_id")
@click.option("--yes", is_flag=True, help="Do not ask.")
def received(session: Session, trade_id: str, yes: bool) -> None:
    """Seller: the money is in your account; sign the bitcoin over to the buyer."""
    session.confirm("Is the whole amount in your account, for good?", yes)
    _show(session, session.client.post(f"/v1/trades/{trade_id}/received"))


def _show(session: Session, answer: dict[str, Any]) -> None:
    short = answer["trade_id"][:8]
    lines = [f"Trade {short}   {answer['state']}"]
    if "amount_sat" in answer:
        verb = "BUY" if answer["role"] == "buyer" else "SELL"
        lines[0] = f"Trade {short}   {verb} {btc(answer['amount_sat'])} BTC for {fiat(answer)}"
        lines.append(f"  state     {answer['state']}")
    if "escrow_address" in answer:
        depth = f"{answer.get('confirmations', 0)} of {answer['depth']} confirmations"
        lines.append(f"  escrow    {btc(answer['escrow_sat'])} BTC, {depth}")
        lines.append(f"            {answer['escrow_address']}")
        lines.append(f"  arbiter   {answer['arbiter'][:16]}… (drawn, verified here)")
    if "peer_account" in answer:
        lines.append(f"  account   {answer['peer_account']}")
    if "verdict" in answer:
        verdict = answer["verdict"]
        shares = f"buyer {btc(verdict['buyer_sat'])}, seller {btc(verdict['seller_sat'])}"
        lines.append(f"  verdict   {shares}: {verdict['reason']}")
    if answer.get("payout_txid"):
        lines.append(f"  payout    {answer['payout_txid']} ({answer['payout_confirmations']} conf)")
    if answer["note"]:
        lines.append(f"  note      {answer['note']}")
    lines.append(f"  next      {answer['next']}")
    session.emit(answer, *lines)
