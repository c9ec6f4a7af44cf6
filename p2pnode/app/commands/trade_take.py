"""`p2pnode trade take`: at the offer's price, or at another that its maker agrees to."""

import time
from typing import Any

import click

from p2pnode.app.commands.costs import costs, fiat_of
from p2pnode.app.commands.frame import Session, coins, common, entry, hex_prefix
from p2pnode.app.commands.proposal import lines
from p2pnode.app.commands.trade_view import PLACES, show_trade
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.units import parse_decimal


@click.command()
@common
@click.argument("offer")
@click.option("--amount", required=True, metavar="BTC", help="How much bitcoin to trade.")
@click.option(
    "--account",
    default="",
    metavar="NAME",
    help="Your payment account for it [default: the only one that fits].",
)
@click.option("--method", default="", metavar="METHOD", help="One of the offer's.")
@click.option("--price", "price_text", help="Propose another price: units per BTC.")
@click.option("--fiat", "fiat_text", help="Propose another sum, instead of a price.")
@click.option("--escrow-kind", default="", help="One of the offer's [default: with a backup].")
@click.option(
    "--wait",
    type=click.IntRange(0, 600),
    default=30,
    show_default=True,
    help="Seconds to wait for the answer to a proposal.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def take(
    session: Session,
    offer: str,
    amount: str,
    account: str,
    method: str,
    price_text: str | None,
    fiat_text: str | None,
    escrow_kind: str,
    wait: int,
    yes: bool,
) -> None:
    r"""Take OFFER (its id or a unique beginning of it).

    What it costs you, all in, is shown first; a price that follows the market is your own
    node's view of it, and the maker's may be up to 1 % off. Your deposit, and as a seller the
    amount, are locked in a 2-of-3 escrow once both sides have signed the contract; the arbiter
    is drawn at random while you wait. With --price or --fiat the maker is asked first: the
    offer is taken if he agrees in time; what else he answers, `p2pnode proposal` shows.

    \b
    p2pnode trade take c05e12 --amount 0.01 --account home
    p2pnode trade take c05e12 --amount 0.01 --method SEPA
    p2pnode trade take c05e12 --amount 0.01 --account home --price 60900
    p2pnode trade take c05e12 --amount 0.01 --account home --yes --json
    """
    amount_sat = parse_decimal("amount", amount, PLACES)
    found = session.client.get(f"/v1/offers/{hex_prefix('offer', offer, 1)}")
    if not found["min_sat"] <= amount_sat <= found["max_sat"]:
        span = f"{coins(found['min_sat'])} to {coins(found['max_sat'])} BTC"
        raise InvalidRecord("amount", f"this offer is for {span}")
    asked = {
        "offer_id": found["offer_id"],
        "maker": found["maker"],
        "amount_sat": amount_sat,
        "escrow_kind": escrow_kind,
        "account": account,
        "method": method.strip().upper(),
    }
    proposing = price_text is not None or fiat_text is not None
    if proposing:
        asked["fiat_minor"] = fiat_of(found, amount_sat, price_text, fiat_text)
    quote = session.client.post("/v1/quotes", **asked)
    warnings = [entry("!", one["text"]) for one in found.get("obstacles", ())]
    session.remark("\n".join([*costs(quote), *warnings]))
    asked["method"], asked["terms"] = quote["method"], quote["terms"]
    if not proposing:
        session.confirm("Take this offer?", yes)
        asked["fiat_minor"] = quote["fiat_minor"]  # taken at what was shown, or not at all
        show_trade(session, session.client.post("/v1/trades", **asked))
        return
    session.confirm("Propose this, and take the offer if the maker agrees?", yes)
    made = session.client.post("/v1/proposals", **asked)
    _follow(session, made, wait)


def _follow(session: Session, made: dict[str, Any], wait: int) -> None:
    """Wait for the maker's answer; a yes is taken, anything else shown."""
    where = f"/v1/proposals/{made['proposal_id']}"
    session.remark(f"proposed as {made['proposal_id'][:8]}; waiting for the maker …")
    until = time.monotonic() + wait
    answer = made
    while answer["state"] == "Proposed" and time.monotonic() < until:
        time.sleep(0.2)
        answer = session.client.get(where)
    if answer["state"] == "Countered" and answer["fiat_minor"] == made["fiat_minor"]:
        taken = session.client.post(f"{where}/accept")
        if session.as_json:
            session.emit(taken)
        else:
            show_trade(session, taken["trade"])
        return
    session.emit(answer, *lines(answer))
