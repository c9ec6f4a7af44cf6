"""How deep a market is: offers added up by price. Pure.

An offer counts with the most that its maker trades at once (`max_sat`); nothing shows that
he has it. Prices in minor units of the currency per BTC x 10^4, amounts in satoshi. Where
the prices are too many for a table they are gathered in round steps, away from the best: a
seller's price upwards, a buyer's downwards, so that no level looks better than it is.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from orderbook.offer import Side

NEAR: Final = 90  # percent of a side's offers, from the best on, that set the scale
MAX_LEVELS: Final = 1000
MAX_COLUMNS: Final = 1000

Entry = tuple[Side, int, int, int]  # side, price, min_sat, max_sat


@dataclass(frozen=True, slots=True)
class Level:
    """The offers at a price. `total_sat` counts the better ones too.

    With `beyond` it stands for all the worse ones, and its price is the worst of them.
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


def depth(entries: Iterable[Entry], levels: int) -> Depth:
    """Return the table of at most `levels` levels a side."""
    sides = _sides(entries)
    step = _step(sides, levels)
    return Depth(
        step,
        _levels(sides[Side.BUY], Side.BUY, step, levels),
        _levels(sides[Side.SELL], Side.SELL, step, levels),
    )


def curve(entries: Iterable[Entry], columns: int) -> Curve | None:
    """Return the curves over the prices of nine offers in ten a side; None without offers."""
    sides = _sides(entries)
    near = [offers[: _near(offers)] for offers in sides.values()]
    prices = [price for offers in near for price, _ in offers]
    if not prices:
        return None
    low, high = min(prices), max(prices)
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


def _near(offers: Sequence[tuple[int, int]]) -> int:
    """Return how many offers set the scale: whoever names an absurd price does not."""
    return -(-len(offers) * NEAR // 100)


def _step(sides: dict[Side, list[tuple[int, int]]], levels: int) -> int:
    """Return the least of 1, 2, 5, 10, … with which both sides fit, or 0 if they do as is."""
    if all(len({price for price, _ in offers}) <= levels for offers in sides.values()):
        return 0
    reach = max(
        abs(offers[_near(offers) - 1][0] - offers[0][0]) for offers in sides.values() if offers
    )
    power = 1
    while True:
        for digit in (1, 2, 5):
            # A span of so many whole steps touches one more; the last level is what lies beyond.
            if reach // (digit * power) + 2 < levels or digit * power > reach + 1:
                return digit * power
        power *= 10


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
