"""Money as integers: satoshi, minor fiat units, prices. Never a float. And times for people.

A price is minor units of the currency per BTC x 10^4 (docs/wire.md, "Units").
"""

import re
from datetime import UTC, datetime
from typing import Final

from p2pnode.base.errors import InvalidRecord

COIN: Final = 100_000_000  # satoshi in a BTC
MAX_SAT: Final = 21_000_000 * COIN
PRICE_SCALE: Final = 10_000
PRICE_DECIMALS: Final = 4  # of a price, beyond its currency's own
MAX_FIAT_MINOR: Final = 2**53 - 1
MAX_PRICE: Final = 2**53 - 1
MAX_DIGITS: Final = 16  # of a decimal before the point

_DECIMAL: Final = re.compile(r"(\d{1,64})(?:\.(\d{1,64}))?", re.ASCII)


def fiat_for(amount_sat: int, price: int) -> int:
    """Return price x amount in minor units, rounded half up, by integers alone."""
    scale = COIN * PRICE_SCALE
    return (2 * amount_sat * price + scale) // (2 * scale)


def decimal(value: int, places: int) -> str:
    """Write a fixed-point integer as people read it: 150 with 2 places is "1.50"."""
    sign, value = ("-", -value) if value < 0 else ("", value)
    whole, rest = divmod(value, 10**places)
    return f"{sign}{whole:,}" + (f".{rest:0{places}d}" if places else "")


def price_text(price: int, exponent: int) -> str:
    """Write a price with its currency's decimals, and the finer ones only if there are any."""
    text, fine = decimal(price, exponent + PRICE_DECIMALS), PRICE_DECIMALS
    while fine and text.endswith("0"):
        text, fine = text[:-1], fine - 1
    return text.rstrip(".")


def parse_decimal(field: str, text: str, places: int) -> int:
    """Read "0.005" with at most `places` decimals as an integer. Raises InvalidRecord."""
    match = _DECIMAL.fullmatch(text.strip())
    if match is None:
        raise InvalidRecord(field, f"{text[:40]!r} is not a decimal number such as 0.005")
    whole, rest = match[1], match[2] or ""
    if len(whole) > MAX_DIGITS:
        raise InvalidRecord(field, f"has more than {MAX_DIGITS} digits before the point")
    if len(rest.rstrip("0")) > places:
        raise InvalidRecord(field, f"has more than {places} decimals")
    value: int = int(whole) * int(10**places) + int(rest[:places].ljust(places, "0") or "0")
    return value


def moment(seconds: int) -> str:
    """Write unix seconds as people read them."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
