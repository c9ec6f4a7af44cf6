"""How much one trade may move, by method and by the buyer's history (docs/payment-methods.md).

A method's risk class caps the amount; a method may have a lower cap of its own. Where a
payment can be taken back, a buyer begins low: 30 days after the first trade that his
receipts prove he may trade half of the cap, after 60 days the whole. An operator may lower
caps, by risk class or by method, never raise them.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from orderbook.methods import METHODS, check_method
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.history import History

CAPS_SAT: Final = MappingProxyType(
    {"very_low": 25_000_000, "low": 12_500_000, "mid": 8_300_000, "high": 6_250_000}
)
NEWCOMER_SAT: Final = 200_000
HALF_AFTER_DAYS: Final = 30
WHOLE_AFTER_DAYS: Final = 60
_NO_CAPS: Final[Mapping[str, int]] = MappingProxyType({})


def check_caps(caps: Mapping[str, int]) -> Mapping[str, int]:
    """Return an operator's caps: satoshi by risk class or method. Raises InvalidRecord."""
    for name, sat in caps.items():
        if name not in CAPS_SAT and name not in METHODS:
            raise InvalidRecord(
                "caps", f"{str(name)[:40]!r} is neither a method nor one of {', '.join(CAPS_SAT)}"
            )
        most = CAPS_SAT[name] if name in CAPS_SAT else cap_sat(name)
        if type(sat) is not int or not 0 <= sat <= most:
            raise InvalidRecord("caps", f"{name} is not 0 to {most} sat: caps are only lowered")
    return caps


def cap_sat(method: str, caps: Mapping[str, int] = _NO_CAPS) -> int:
    """Return the most satoshi of one trade by this method. Raises InvalidRecord."""
    known = METHODS.get(method) or check_method("method", method)
    most = CAPS_SAT[known.risk]
    lowered = (known.cap_sat or most, caps.get(known.risk, most), caps.get(known.id, most))
    return min(most, *lowered)


def most_sat(method: str, history: History, now: int, caps: Mapping[str, int] = _NO_CAPS) -> int:
    """Return the most satoshi that a buyer of this history may trade. Raises InvalidRecord."""
    cap = cap_sat(method, caps)
    if not METHODS[method].chargeback:
        return cap
    days, least = history.days(now), min(cap, NEWCOMER_SAT)
    if days < HALF_AFTER_DAYS:
        return least
    return cap if days >= WHOLE_AFTER_DAYS else max(least, cap // 2)
