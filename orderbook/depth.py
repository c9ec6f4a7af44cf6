"""How deep a market is: offers added up by price. Pure.

An offer counts with the most that its maker trades at once (`max_sat`); nothing shows that
he has it. Prices in minor units of the currency per BTC x 10^4, amounts in satoshi. Where
the prices are too many for a table they are gathered in round steps, away from the best: a
seller's price upwards, a buyer's downwards, so that no level looks better than it is. What is
far from the reference sets no scale: a stranger's absurd offer hides nobody's.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median_low
from typing import Final

from orderbook.offer import Side

FAR: Final = 20  # percent from the reference, or the median price without one: sets no scale
NEAR: Final = 90  # percent of the other offers of a side, from the best on, that set it
MAX_LEVELS: Final = 1000
MAX_COLUMNS: Final = 1000

Entry = tuple[Side, int, int, int]  # side, price, min_sat, max_sat


@dataclass(frozen=True, slots=True)
class Level:
    """The offers at a price. `total_sat` counts the better ones too.

    With `beyond` it stands for all the worse ones, and its price is the worst of them; so is
    that of a first level which stands for all that are better than FAR allows.
    """

    price: int
    amount_sat: int
    total_sat: int
    offers: int
    beyond: bool = False


@dataclass(frozen=True, slots=True)
class Depth:
    """Both sides, the best price first. `step` is 0 where each price has its own level."""

    step: int
    buy: tuple[Level, ...]
    sell: tuple[Level, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """Satoshi wanted and offered along an axis of prices from `low` to `high`, by column.

    A column of `sell` holds all that is sold at its upper end or below, one of `buy` all that
    is bought at its lower end or above.
    """

    low: int
    high: int
    buy: tuple[int, ...]
    sell: tuple[int, ...]


def depth(entries: Iterable[Entry], levels: int, reference: int = 0) -> Depth:
    """Return the table of at most `levels` levels a side; `reference` 0: there is none."""
    sides = _sides(entries)
    if all(len({price for price, _ in offers}) <= levels for offers in sides.values()):
        step = 0
    else:
        reach = _reach(sides, reference)
        better = any(span and sides[side][0][0] != span[0] for side, span in reach.items())
        step = _step(reach, levels - better)
        for side, offers in sides.items():
            sides[side] = _without_better(offers, reach[side])
    return Depth(
        step,
        _levels(sides[Side.BUY], Side.BUY, step, levels),
        _levels(sides[Side.SELL], Side.SELL, step, levels),
    )


def curve(entries: Iterable[Entry], columns: int, reference: int = 0) -> Curve | None:
    """Return the curves over the prices of nine sane offers in ten a side; None without offers."""
    sides = _sides(entries)
    ends = [end for span in _reach(sides, reference).values() for end in span]
    if not ends:
        return None
    low, high = min(ends), max(ends)
    pad = max(1, (high - low) // 20)
    low, high = max(0, low - pad), high + pad
    edges = [low + (high - low) * i // columns for i in range(columns + 1)]
    sell = _totals([(price, sat) for price, sat in sides[Side.SELL]], edges[1:])
    wanted = [(-price, sat) for price, sat in sides[Side.BUY]]
    buy = _totals(wanted, [-edge for edge in edges[:-1]])
    return Curve(low, high, buy, sell)


def _sides(entries: Iterable[Entry]) -> dict[Side, list[tuple[int, int]]]:
    """Return (price, most) of each side, the best price first."""
    sides: dict[Side, list[tuple[int, int]]] = {Side.BUY: [], Side.SELL: []}
    for side, price, _, most in entries:
        sides[side].append((price, most))
    sides[Side.BUY].sort(key=lambda offer: -offer[0])
    sides[Side.SELL].sort(key=lambda offer: offer[0])
    return sides


def _reach(sides: dict[Side, list[tuple[int, int]]], reference: int) -> dict[Side, tuple[int, ...]]:
    """Return the prices of each side that set the scale: the best and the worst, if there are any.

    Of a side that is far from the reference as a whole, nine in ten.
    """
    every = [price for offers in sides.values() for price, _ in offers]
    middle = reference or (median_low(every) if every else 0)
    found: dict[Side, tuple[int, ...]] = {}
    for side, offers in sides.items():
        prices = [price for price, _ in offers]
        sane = [price for price in prices if abs(price - middle) * 100 <= middle * FAR] or prices
        near = sane[: -(-len(sane) * NEAR // 100)]
        found[side] = (near[0], near[-1]) if near else ()
    return found


def _step(reach: dict[Side, tuple[int, ...]], levels: int) -> int:
    """Return the least of 1, 2, 5, 10, … with which both sides fit."""
    most = max(abs(span[1] - span[0]) for span in reach.values() if span)
    power = 1
    while True:
        for digit in (1, 2, 5):
            # A span of so many whole steps touches one more; the last level is what lies beyond.
            if most // (digit * power) + 2 < levels or digit * power > most + 1:
                return digit * power
        power *= 10


def _without_better(
    offers: Sequence[tuple[int, int]], span: Sequence[int]
) -> list[tuple[int, int]]:
    """Have all that is better than the scale's best price stand at the worst of their prices."""
    if not span:
        return list(offers)
    first = next(i for i, (price, _) in enumerate(offers) if price == span[0])
    return [(offers[first - 1][0], sat) for _, sat in offers[:first]] + list(offers[first:])


def _levels(
    offers: Sequence[tuple[int, int]], side: Side, step: int, most: int
) -> tuple[Level, ...]:
    gathered: list[tuple[int, int, int]] = []  # price, amount, offers
    for price, amount in offers:
        name = _rounded(price, side, step)
        if gathered and gathered[-1][0] == name:
            gathered[-1] = (name, gathered[-1][1] + amount, gathered[-1][2] + 1)
        else:
            gathered.append((name, amount, 1))
    beyond = len(gathered) > most
    if beyond:
        rest = gathered[most - 1 :]
        worst = (offers[-1][0], sum(r[1] for r in rest), sum(r[2] for r in rest))
        gathered = [*gathered[: most - 1], worst]
    found, total = [], 0
    for i, (price, amount, count) in enumerate(gathered):
        total += amount
        found.append(Level(price, amount, total, count, beyond and i == most - 1))
    return tuple(found)


def _rounded(price: int, side: Side, step: int) -> int:
    if not step:
        return price
    return price // step * step if side is Side.BUY else -(-price // step) * step


def _totals(offers: Sequence[tuple[int, int]], ends: Sequence[int]) -> tuple[int, ...]:
    """Return, for each end, what is offered at prices up to it; `offers` ascend."""
    prices = [price for price, _ in offers]
    totals = [0, *accumulate(amount for _, amount in offers)]
    return tuple(totals[bisect_right(prices, end)] for end in ends)
