"""`p2pnode trade`: take an offer and see the trade through."""

from typing import Any, Final

import click

from p2pnode.app.commands.frame import Session, coins, common, entry, hanging, hex_prefix
from p2pnode.app.commands.offer import price
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.units import decimal, moment, parse_decimal

_PLACES: Final = 8
_HEAD: Final = f"{'ID':<10} {'STATE':<12} {'ROLE':<7} {'BTC':>12} {'FIAT':>16}"


def btc(sat: int) -> str:
    """Write satoshi as people read them."""
    return decimal(sat, _PLACES)


def fiat(answer: dict[str, Any]) -> str:
    """Write the counter-payment as people read it."""
    return f"{decimal(answer['fiat_minor'], answer['exponent'])} {answer['currency']}"


def path(trade_id: str, verb: str = "") -> str:
    """Return the API's path of a trade. Raises InvalidRecord for what cannot be its id."""
    return f"/v1/trades/{hex_prefix('trade_id', trade_id)}{verb}"


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
    p2pnode trade take c05e12 --amount 0.01 --account home --yes --json
    """
    amount_sat = parse_decimal("amount", amount, _PLACES)
    found = session.client.get(f"/v1/offers/{hex_prefix('offer', offer, 1)}")
    if not found["min_sat"] <= amount_sat <= found["max_sat"]:
        span = f"{coins(found['min_sat'])} to {coins(found['max_sat'])} BTC"
        raise InvalidRecord("amount", f"this offer is for {span}")
    seller = found["side"] == "buy"
    rate = found["deposit_seller_bp" if seller else "deposit_buyer_bp"]
    locked = max(-(-amount_sat * rate // 10_000), 10_000) + (amount_sat if seller else 0)
    session.remark(
        f"You {'sell' if seller else 'buy'} {coins(amount_sat)} BTC at {price(found)} "
        f"{found['currency']}/BTC.\n"
        f"{coins(locked)} BTC of yours and the network fee are locked until the trade ends."
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
    return row.rstrip() + "\n" + hanging(f"{'':<10} next: ", answer["next"])


@trade.command()
@common
@click.argument("trade_id")
def show(session: Session, trade_id: str) -> None:
    r"""Show one trade: where it stands, what to do next and by when.

    \b
    p2pnode trade show 7f3a91
    """
    _show(session, session.client.get(path(trade_id)))


@trade.command()
@common
@click.argument("trade_id")
def watch(session: Session, trade_id: str) -> None:
    r"""Show each change of one trade until it ends or Ctrl-C.

    \b
    p2pnode trade watch 7f3a91
    """
    whole = session.client.get(path(trade_id))
    _show(session, whole)
    last = session.client.get("/v1/status")["last_event"]
    for event in session.client.events(last, timeout=24 * 3600):
        if event.get("trade_id") == whole["trade_id"]:
            answer = session.client.get(path(whole["trade_id"]))
            session.emit(answer, hanging(f"{answer['state']:<12} ", answer["next"]))
            if answer["state"] in {"Closed", "Aborted", "Void"}:
                return


@trade.command()
@common
@click.argument("trade_id")
@click.option("--reason", default="cancelled by its user", help="What the peer is told.")
def cancel(session: Session, trade_id: str, reason: str) -> None:
    r"""Stop a trade while your funding signature has not left.

    \b
    p2pnode trade cancel 7f3a91 --reason "wrong offer"
    """
    _show(session, session.client.post(path(trade_id, "/cancel"), reason=reason))


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
    _show(session, session.client.post(path(trade_id, "/paid"), note=note))


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
    _show(session, session.client.post(path(trade_id, "/not-paid"), note=note))


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
    _show(session, session.client.post(path(trade_id, "/received")))


def _sum(session: Session, trade_id: str, yes: bool) -> str:
    """Return what is paid in a trade, for a question that will be asked."""
    answer = {} if yes else session.client.get(path(trade_id))
    return fiat(answer) if "fiat_minor" in answer else "amount"


def _show(session: Session, answer: dict[str, Any]) -> None:
    short = answer["trade_id"][:8]
    lines = [f"Trade {short}   {answer['state']}"]
    if "amount_sat" in answer:
        verb = "BUY" if answer["role"] == "buyer" else "SELL"
        lines[0] = f"Trade {short}   {verb} {btc(answer['amount_sat'])} BTC for {fiat(answer)}"
        lines.append(entry("state", answer["state"]))
    if "escrow_address" in answer:
        lines += _escrow(answer)
    if "peer_account" in answer:
        whose = "pay to" if answer["role"] == "buyer" else "paid from"
        lines.append(entry(whose, answer["peer_account"]))
    lines += deadlines(answer)
    if "verdict" in answer:
        verdict = answer["verdict"]
        shares = f"buyer {btc(verdict['buyer_sat'])}, seller {btc(verdict['seller_sat'])} BTC"
        lines += [entry("verdict", shares), entry("", verdict["reason"])]
    if answer.get("payout_txid"):
        lines.append(entry("payout", f"{answer['payout_confirmations']} of 6 confirmations"))
        lines.append(entry("", answer["payout_txid"]))
    if answer["note"]:
        lines.append(entry("note", answer["note"]))
    session.emit(answer, *lines, entry("next", answer["next"]))


def _escrow(answer: dict[str, Any]) -> list[str]:
    """Write where the bitcoin is, and who was drawn to judge."""
    have, wanted = answer.get("confirmations", 0), answer["depth"]
    depth = f"{have} of {wanted} confirmations" if have < wanted else f"{have} confirmations"
    return [
        entry("escrow", f"{btc(answer['escrow_sat'])} BTC, {depth}"),
        entry("", answer["escrow_address"]),
        entry("arbiter", f"{answer['arbiter'][:16]}… (drawn, verified here)"),
    ]


def deadlines(answer: dict[str, Any]) -> list[str]:
    """Write what falls due in a funded trade; the chain's clock decides, not ours."""
    state, now = answer["state"], answer.get("mtp", 0)
    if "pay_by_mtp" not in answer or state not in {"Funded", "Paid", "Disputed"}:
        return []

    def until(seconds: int) -> str:
        return f"by {moment(seconds)}" + (": over" if now >= seconds else "")

    lines = [entry("chain", f"{moment(now)} by its clock; the dates below go by it")]
    if state == "Funded" and "peer_account" not in answer:
        lines.append(entry("details", f"exchanged {until(answer['ack_by_mtp'])}"))
    if state == "Funded":
        lines.append(entry("payment", until(answer["pay_by_mtp"])))
    since = moment(answer["ruling_below_release_from_mtp"])
    lines.append(entry("ruling", f"less than all to the buyer: not before {since}"))
    return lines
