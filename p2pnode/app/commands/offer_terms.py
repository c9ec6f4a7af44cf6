"""What an offer says: the options that `offer create`, `edit` and `clone` share."""

import re
from collections.abc import Callable
from typing import Any, Final

import click

from p2pnode.app.commands.offer_answers import MAX_WITHIN_BP, policy, with_answers
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.units import MAX_PRICE, PRICE_DECIMALS, decimal, parse_decimal

_UNITS: Final = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SPAN: Final = re.compile(r"(\d{1,6})([mhdw])", re.ASCII)
ANY: Final = "any"
NEVER: Final = "never"
_OPTIONS: Final = (
    click.option("--min", "low", metavar="BTC", help="The least you trade."),
    click.option("--max", "high", metavar="BTC", help="The most you trade."),
    click.option("--price", help="Fixed, in units of the currency per BTC: 61240.00."),
    click.option(
        "--margin",
        metavar="PERCENT",
        help="Instead of a fixed price: above the reference price, below it with a minus.",
    ),
    click.option(
        "--account",
        "accounts",
        multiple=True,
        metavar="NAME",
        help="An account you trade with, one for each method; stays private.",
    ),
    click.option(
        "--country",
        "countries",
        multiple=True,
        metavar="CC",
        help="Where your counterparty's account must be (ISO 3166-1) [default: any].",
    ),
    click.option(
        "--language",
        "languages",
        multiple=True,
        metavar="LL",
        help="What you speak (ISO 639-1), such as en [default: any].",
    ),
    click.option(
        "--deposit",
        metavar="PERCENT",
        help="Of the amount, from each side: 10 to 50 [default: 15].",
    ),
    click.option("--buyer-deposit", metavar="PERCENT", help="The buyer's alone; 0 asks for none."),
    click.option(
        "--escrow",
        "kinds",
        multiple=True,
        type=click.Choice(("wsh-2of3-backup", "wsh-2of3")),
        help="A kind of escrow you agree to [default: each].",
    ),
    click.option(
        "--peer-trades", type=int, metavar="N", help="Trades your counterparty must prove."
    ),
    click.option(
        "--peer-days",
        type=int,
        metavar="DAYS",
        help="How long ago the first of them must be.",
    ),
    click.option("--terms", help="A public text of at most 500 bytes."),
    click.option("--expires", metavar="TIME", help="End it after 12h, 7d, 2w … [default: never]."),
    click.option(
        "--disable-below",
        metavar="PRICE",
        help="Take it out of the book while you are not looking: the reference fell below.",
    ),
    click.option(
        "--disable-above", metavar="PRICE", help="The same when the reference rose above."
    ),
)


_MEANT = click.option(
    "--yes", is_flag=True, help="Publish it though it is over 20 % off the reference price."
)


def with_terms(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say what an offer is."""
    function = with_answers(function)
    for option in reversed((*_OPTIONS, _MEANT)):
        function = option(function)
    return function


def said(places: int, o: dict[str, Any]) -> dict[str, Any]:
    """Return what the options say as the API takes it; `places` are the currency's decimals.

    Raises InvalidRecord naming the option.
    """
    body: dict[str, Any] = {}
    for name, field, option in (("min_sat", "min", "low"), ("max_sat", "max", "high")):
        if o[option] is not None:
            body[name] = number(field, o[option], 8)
    body |= _price(places, o["price"], o["margin"])
    if o["yes"]:
        body["any_price"] = True
    if o["accounts"]:
        body["accounts"] = list(o["accounts"])
    for name, change in (("countries", str.upper), ("languages", str.lower)):
        if o[name]:
            codes = [change(code.strip()) for code in o[name]]
            body[name] = [] if [code.lower() for code in codes] == [ANY] else codes
    if o["deposit"] is not None:
        body["deposit_buyer_bp"] = body["deposit_seller_bp"] = number("deposit", o["deposit"], 2)
    if o["buyer_deposit"] is not None:
        body["deposit_buyer_bp"] = number("buyer-deposit", o["buyer_deposit"], 2)
    if o["kinds"]:
        body["escrow_kinds"] = list(o["kinds"])
    for name in ("peer_trades", "peer_days", "terms"):
        if o[name] is not None:
            body[name] = o[name]
    if o["expires"] is not None:
        body["ends_in_s"] = _seconds(o["expires"])
    for name in ("disable_below", "disable_above"):
        if o[name] is not None:
            body[name] = number(name.replace("_", "-"), o[name], places + PRICE_DECIMALS)
    return body | policy(o["accept_within"], o["counter_within"], o["otherwise"])


def _price(places: int, price: str | None, margin: str | None) -> dict[str, int]:
    if price is not None and margin is not None:
        raise click.UsageError("Say --price or --margin, not both.")
    if price is not None:
        return {"price": number("price", price, places + PRICE_DECIMALS, 1)}
    if margin is None:
        return {}
    text = margin.strip()
    bp = parse_decimal("margin", text.removeprefix("-").removeprefix("+"), 2)
    if bp > MAX_WITHIN_BP:
        most = MAX_WITHIN_BP // 100
        raise InvalidRecord("margin", f"is not -{most} to {most} percent")
    return {"margin_bp": -bp if text.startswith("-") else bp}


def _seconds(text: str) -> int:
    """Read 30m, 12h, 7d or 2w in seconds, `never` as 0. Raises InvalidRecord."""
    plain = text.strip().lower()
    if plain == NEVER:
        return 0
    match = _SPAN.fullmatch(plain)
    if match is None or not int(match[1]):
        raise InvalidRecord("expires", f"{text[:40]!r} is not a time such as 12h, 7d or never")
    return int(match[1]) * _UNITS[match[2]]


def number(field: str, text: str, places: int, least: int = 0) -> int:
    """Read a decimal as an integer that the API can carry. Raises InvalidRecord."""
    value = parse_decimal(field, text, places)
    if not least <= value <= MAX_PRICE:
        low, high = decimal(least, places), decimal(MAX_PRICE, places)
        raise InvalidRecord(field, f"{text[:40]!r} is not {low} to {high}")
    return value
