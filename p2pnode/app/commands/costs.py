"""What a trade costs, all in, as people read it before they say yes."""

from typing import Any, Final

from p2pnode.app.commands.frame import coins, entry
from p2pnode.app.commands.offer_view import PRICE_DECIMALS, margin, written
from p2pnode.base.errors import UsageFault
from p2pnode.base.units import MAX_FIAT_MINOR, MAX_PRICE, decimal, fiat_for, parse_decimal

_DAY: Final = 86_400
_WORDS: Final = {
    "wsh-2of3": "2 of 3",
    "wsh-2of3-backup": "2 of 3 with a backup",
}


def quoted(answer: dict[str, Any]) -> str:
    """Write the counter-payment."""
    return f"{decimal(answer['fiat_minor'], answer['exponent'])} {answer['currency']}"


def fiat_of(
    market: dict[str, Any], amount_sat: int, price_text: str | None, fiat_text: str | None
) -> int:
    """Return the sum meant by a price or by a sum. Raises UsageFault, InvalidRecord."""
    if (price_text is None) == (fiat_text is None):
        raise UsageFault("say --price or --fiat, one of the two", field="price")
    if fiat_text is not None:
        fiat_minor = parse_decimal("fiat", fiat_text, market["exponent"])
    else:
        per_btc = parse_decimal("price", price_text or "", market["exponent"] + PRICE_DECIMALS)
        if not 1 <= per_btc <= MAX_PRICE:
            raise UsageFault("price: is zero or too large", field="price")
        fiat_minor = fiat_for(amount_sat, per_btc)
    if not 1 <= fiat_minor <= MAX_FIAT_MINOR:
        raise UsageFault("fiat: is zero or too large a sum", field="fiat")
    return fiat_minor


def span(seconds: int) -> str:
    """Write a time limit."""
    if seconds % _DAY == 0:
        return f"{seconds // _DAY} day{'s' if seconds > _DAY else ''}"
    if seconds % 3600 == 0:
        return f"{seconds // 3600} h"
    return f"{seconds // 60} min" if seconds % 60 == 0 else f"{seconds} s"


def costs(quote: dict[str, Any]) -> list[str]:
    """Write a quote, a line for each figure."""
    seller = quote["role"] == "seller"
    mine = quote["deposit_seller_sat" if seller else "deposit_buyer_sat"]
    theirs = quote["deposit_buyer_sat" if seller else "deposit_seller_sat"]
    locked = f"{coins(quote['locked_sat'])} BTC"
    if seller:
        locked += f": {coins(quote['amount_sat'])} to sell and a deposit of {coins(mine)}"
    elif mine:
        locked += ": your deposit"
    else:
        locked = "nothing: this offer asks no deposit of the buyer"
    found = [
        f"You {'sell' if seller else 'buy'} {coins(quote['amount_sat'])} BTC for {quoted(quote)}",
        entry("price", _price(quote)),
        *([entry("paid by", _account(quote))] if quote.get("account") else []),
        entry("you lock", locked),
        entry("they lock", _theirs(quote, seller, theirs)),
        entry("fee now", _funding(quote)),
        entry("fee later", _payout(quote, seller)),
        entry("back", f"{coins(quote['returned_sat'])} BTC to you when all goes well"),
        entry("arbiter", _arbiter(quote)),
        entry("escrow", _escrow(quote)),
        entry("time", _time(quote)),
    ]
    return found


def _price(quote: dict[str, Any]) -> str:
    """Write the price; of one that follows the market also how, and from which reference."""
    places, offered = quote["exponent"], quote["offer_price"]
    as_offered = fiat_for(quote["amount_sat"], offered) == quote["fiat_minor"]
    text = f"{written(offered if as_offered else quote['price'], places)} {quote['currency']}/BTC"
    if quote.get("margin_bp") is None:
        return text
    theirs = "" if as_offered else f"the offer's {written(offered, places)} is "
    return f"{text}, {theirs}{margin(quote)}"


def _account(quote: dict[str, Any]) -> str:
    """Name the method, and the account of ours that the other side is going to be told."""
    return f"{quote['method']}: they are told your account {quote['account']}"


def _theirs(quote: dict[str, Any], seller: bool, theirs: int) -> str:
    if not seller:
        whole = quote["amount_sat"] + theirs
        return f"{coins(whole)} BTC: what they sell and a deposit of {coins(theirs)}"
    return f"{coins(theirs)} BTC: a deposit" if theirs else "nothing: no deposit of the buyer"


def _funding(quote: dict[str, Any]) -> str:
    if not quote["funding_fee_sat"]:
        return "none: you bring no coin"
    return f"{quote['funding_fee_sat']} sat for one coin, at {quote['rate']} sat/vB"


def _payout(quote: dict[str, Any], seller: bool) -> str:
    return f"{quote['payout_fee_sat']} sat, " + ("off the buyer's share" if seller else "off yours")


def _arbiter(quote: dict[str, Any]) -> str:
    low, high = quote["arbiter_fee_low_sat"], quote["arbiter_fee_high_sat"]
    if not quote["arbiters"]:
        return "none is known now who could be drawn, and without one no trade begins"
    fee = f"{low} sat" if low == high else f"{low} to {high} sat"
    return f"one of {quote['arbiters']}: {fee}, only in a dispute, off the escrow whoever wins"


def _escrow(quote: dict[str, Any]) -> str:
    words = _WORDS.get(quote["escrow_kind"]) or str(quote["escrow_kind"])
    if days := quote["backup_blocks"] // 144:
        words += f": after {days} days the runner-up can judge"
    return words


def _time(quote: dict[str, Any]) -> str:
    confirmed = f"{quote['depth']} confirmation{'s' if quote['depth'] > 1 else ''}"
    pay = span(quote["ack_s"] + quote["period_s"])
    judge = span(quote["reply_s"] + quote["verdict_s"])
    return (
        f"{span(quote['signing_s'])} to sign, {confirmed}, then {pay} to pay; a dispute "
        f"takes up to {judge} more"
    )
