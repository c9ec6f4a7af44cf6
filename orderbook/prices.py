"""What bitcoin costs elsewhere: a reference price out of what several sources say. Pure.

    quotes ── fresh? ── in agreement? ── more than half of the fresh? ── median, spread
                │ no        │ no                 │ no
                └ left out and named             └ no reference, and why

A price is minor units of the currency per BTC x 10^4 (docs/wire.md, "Units"); its only
ways in are `read_price`, which is strict, and the constructor of `Quote`. As long as fewer
than half of the fresh sources lie, what they can move is bounded by STRAY_BP.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from typing import Any, Final

from orderbook.currencies import check_currency, exponent
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.units import MAX_PRICE

STALE_S: Final = 600  # a quote older than this is left out
FIRM_S: Final = 180  # and one older than this where money hangs on it: two tries have failed
STRAY_BP: Final = 500  # and one further than this from the median of the others
PRICE_DECIMALS: Final = 4  # beyond the currency's own
MAX_DIGITS: Final = 40  # of a number that a source says
_PLAIN: Final = re.compile(r"\d{1,20}(\.\d{1,20})?", re.ASCII)
_WIDE: Final = Context(prec=3 * MAX_DIGITS)


@dataclass(frozen=True, slots=True)
class Quote:
    """What one source says: `price` in minor units per BTC x 10^4, `at` in unix seconds.

    `at` is when it was received, or earlier where the source says that it is older.
    """

    source: str
    currency: str
    price: int
    at: int

    def __post_init__(self) -> None:
        check_currency("currency", self.currency)
        wire.within("price", self.price, 1, MAX_PRICE)


@dataclass(frozen=True, slots=True)
class Said:
    """One answer of a source: (price, its time or 0) of a currency, or what is wrong with it."""

    prices: Mapping[str, tuple[int, int]]
    faults: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A source that does not count now, and why; `price` 0: it has said none."""

    source: str
    reason: str
    price: int = 0
    at: int = 0


@dataclass(frozen=True, slots=True)
class Reference:
    """A market's reference price; `price` is 0 where there is none, and `why` says why.

    `spread_bp` is from the lowest to the highest used, in basis points of the median,
    rounded up; `at` the time of the oldest used.
    """

    currency: str
    price: int
    spread_bp: int
    at: int
    used: tuple[Quote, ...]
    left_out: tuple[LeftOut, ...]
    why: str = ""


def read_price(field: str, value: object, currency: str) -> int:
    """Return a source's price per BTC as an integer, rounded half up.

    Takes a decimal text without sign or exponent, or a number of JSON read as int or
    Decimal. Raises InvalidRecord for anything else, for zero, and for what no price can be.
    """
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        value = Decimal(value)
    if type(value) is int and abs(value) <= MAX_PRICE:
        value = Decimal(value)
    if not isinstance(value, Decimal) or not value.is_finite():
        raise InvalidRecord(field, f"{_short(value)} is not a decimal number")
    if value <= 0:
        raise InvalidRecord(field, f"{_short(value)} is not above zero")
    if len(value.as_tuple().digits) > MAX_DIGITS or abs(value.adjusted()) > MAX_DIGITS:
        raise InvalidRecord(field, "is no price of a bitcoin")
    places = exponent(currency) + PRICE_DECIMALS
    scaled = int(
        value.scaleb(places, _WIDE).to_integral_value(rounding=ROUND_HALF_UP, context=_WIDE)
    )
    if not 0 < scaled <= MAX_PRICE:
        raise InvalidRecord(field, f"{_short(value)} {currency} is no price of a bitcoin")
    return scaled


def read_json(raw: bytes) -> Any:
    """Parse JSON (RFC 8259) with its numbers as int and Decimal. Raises InvalidRecord."""
    try:
        return json.loads(
            raw.decode(),
            object_pairs_hook=_once,
            parse_float=_number,
            parse_int=_number,
            parse_constant=_number,
        )
    except (ValueError, RecursionError) as error:
        raise InvalidRecord("JSON", f"cannot be read: {str(error)[:100]}") from None


def refer(
    currency: str,
    quotes: Sequence[Quote],
    failed: Mapping[str, str],
    now: int,
    stale_s: int = STALE_S,
) -> Reference:
    """Return the market's reference from the last quote of each source.

    `failed` names what last went wrong with a source; quotes older than `stale_s` do not
    count. The outcome depends on no order.
    """
    left_out: list[LeftOut] = []
    fresh: list[Quote] = []
    for quote in sorted(quotes, key=lambda q: (q.price, q.source)):
        if quote.currency != currency:
            continue
        if quote.at - now > stale_s:  # our clock was set back: who knows how old it is
            left_out.append(_out(quote, "stale: its time is yet to come"))
        elif now - quote.at > stale_s:
            said = f"stale: {age(now - quote.at)} old"
            last = failed.get(quote.source)
            left_out.append(_out(quote, f"{said}; {last}" if last else said))
        else:
            fresh.append(quote)
    silent = set(failed) - {q.source for q in quotes if q.currency == currency}
    left_out += [LeftOut(source, failed[source]) for source in silent]
    used, strays = _agreeing(fresh)
    left_out += strays
    why = _why(fresh, used, left_out)
    if why:
        gone = [_out(q, "the sources disagree") for q in used]
        return Reference(currency, 0, 0, 0, (), _by_name((*left_out, *gone)), why)
    price = _median([q.price for q in used])
    spread = -(-(used[-1].price - used[0].price) * 10_000 // price)
    oldest = min(q.at for q in used)
    by_name = tuple(sorted(used, key=lambda q: q.source))
    return Reference(currency, price, spread, oldest, by_name, _by_name(left_out))


def age(seconds: int) -> str:
    """Write a span as people read it: 42 s, 14 min, 3 h, 2 d."""
    seconds = max(0, seconds)
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * unit or (unit == 60 and seconds >= unit):
            return f"{seconds // unit} {name}"
    return f"{seconds} s"


def percent(basis_points: int) -> str:
    """Write basis points as a percentage: 151 is 1.51 %."""
    return f"{basis_points // 100}.{basis_points % 100:02d} %"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidRecord("JSON", "has a name twice in one object")
    return found


def _number(text: str) -> int | Decimal:
    """Read a number of JSON exactly; one of more digits than any price has is refused."""
    if len(text) > 2 * MAX_DIGITS or text in ("NaN", "Infinity", "-Infinity"):
        raise InvalidRecord("JSON", f"has the number {text[:20]}")
    try:
        return int(text) if text.lstrip("-").isdecimal() else Decimal(text)
    except InvalidOperation:  # an exponent beyond what Decimal can hold
        raise InvalidRecord("JSON", f"has the number {text[:20]}") from None


def _agreeing(fresh: Sequence[Quote]) -> tuple[list[Quote], list[LeftOut]]:
    """Leave out, furthest first, what strays from the median of the others, down to two."""
    used, strays = list(fresh), []
    while len(used) > 2:
        others = [_median([q.price for q in used if q is not quote]) for quote in used]
        off = [_off_bp(quote.price, m) for quote, m in zip(used, others, strict=True)]
        worst = max(
            range(len(used)),
            key=lambda i: (_ratio(used[i].price, others[i]), off[i], used[i].source),
        )
        if off[worst] <= STRAY_BP:
            break
        reason = f"strays: {percent(off[worst])} from the median of the others"
        strays.append(_out(used.pop(worst), reason))
    return used, strays


def _why(fresh: Sequence[Quote], used: Sequence[Quote], left_out: Sequence[LeftOut]) -> str:
    """Return why there is no reference, or nothing."""
    if not fresh:
        stale = any(out.price for out in left_out)
        return "every price is stale" if stale else "no source has said a price"
    low, high = used[0].price, used[-1].price
    if len(used) == 2 and _off_bp(high, low) > STRAY_BP:
        apart = percent(_off_bp(high, low))
        return f"two sources are {apart} apart, more than {percent(STRAY_BP)}, and no third decides"
    if 2 * len(used) <= len(fresh):
        return f"no more than {len(used)} of {len(fresh)} sources agree"
    return ""


def _median(prices: Sequence[int]) -> int:
    ordered, middle = sorted(prices), len(prices) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle] + 1) // 2


def _off_bp(price: int, median: int) -> int:
    """Return how far a price is from a median, in basis points of the median, rounded up."""
    return -(-abs(price - median) * 10_000 // median)


def _ratio(price: int, median: int) -> int:
    """Return the greater over the smaller: a price of half is as far off as one of double."""
    return max(price, median) * 10**12 // min(price, median)


def _out(quote: Quote, reason: str) -> LeftOut:
    return LeftOut(quote.source, reason, quote.price, quote.at)


def _by_name(left_out: Sequence[LeftOut]) -> tuple[LeftOut, ...]:
    return tuple(sorted(left_out, key=lambda out: out.source))


def _short(value: object) -> str:
    return repr(str(value) if isinstance(value, (Decimal, str)) else value)[:40]
