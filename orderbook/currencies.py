"""Currencies: every code of ISO 4217 that has a minor unit, and the coins of the registry.

The list is ISO's own table as the `iso4217` package carries it, not a table of ours.
Codes without a minor unit (gold, test and accounting codes) cannot price an offer. Coins
of other chains (`orderbook/payment_methods.toml`) stand beside them with three capitals
that ISO has not given away.
"""

from typing import Final

from iso4217 import Currency

from orderbook.registry import COINS, Broken
from p2pnode.base import wire
from p2pnode.base.errors import UnknownName

ISO: Final[dict[str, int]] = {
    c.code: c.exponent for c in Currency if c.exponent is not None
}  # EUR 2, JPY 0, KWD 3
EXPONENTS: Final[dict[str, int]] = ISO | {code: exponent for code, (exponent, _) in COINS.items()}

for _code in COINS:
    if _code in {c.code for c in Currency}:
        raise Broken(f"coin.{_code}", "is a code of ISO 4217")


def check_currency(field: str, value: object) -> str:
    """Return `value` if it is such a code. Raises InvalidRecord."""
    code = wire.text(field, value, 3, low=3)
    if code not in EXPONENTS:
        raise UnknownName(
            field,
            f"{code!r} is neither an ISO 4217 currency with a minor unit nor one of "
            f"{', '.join(COINS)}",
        )
    return code


def exponent(currency: str) -> int:
    """Return how many decimals a minor unit is: 2 for EUR. Raises InvalidRecord."""
    return EXPONENTS[check_currency("currency", currency)]
