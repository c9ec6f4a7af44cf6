"""Offers at absurd prices and amounts: the depth table and both charts hold, and end in time."""

import time
from typing import Any

import click
from hypothesis import given, settings
from hypothesis import strategies as st

from orderbook.depth import Entry, curve, depth
from orderbook.offer import MAX_OFFER_SAT, Side
from p2pnode.app.commands import market_chart
from p2pnode.app.routes_market import _curve, _level
from p2pnode.base.units import MAX_PRICE

PRICES = st.integers(1, MAX_PRICE) | st.sampled_from([1, 2, MAX_PRICE, 61_240_000_000])
ENTRIES = st.lists(
    st.tuples(st.sampled_from(Side), PRICES, st.just(1), st.integers(1, MAX_OFFER_SAT)), max_size=40
)


def shown(entries: list[Entry], levels: int, columns: int) -> dict[str, Any]:
    table, drawn = depth(entries, levels), curve(entries, columns)
    assert len(table.buy) <= levels
    assert len(table.sell) <= levels
    for side, told in ((Side.BUY, table.buy), (Side.SELL, table.sell)):
        total = sum(most for one, _, _, most in entries if one is side)
        assert (told[-1].total_sat if told else 0) == total
    return {
        "currency": "EUR",
        "exponent": 2,
        "reference": 61_240_000_000,
        "why": "",
        "step": table.step or None,
        "buy": [_level(level) for level in table.buy],
        "sell": [_level(level) for level in table.sell],
        "curve": _curve(drawn) if drawn else None,
        "unpriced": 0,
        "repeated": 0,
    }


@settings(max_examples=150, deadline=None)
@given(entries=ENTRIES, levels=st.integers(3, 30), columns=st.integers(48, 160))
def test_no_offer_breaks_the_table_or_the_chart(
    entries: list[Entry], levels: int, columns: int
) -> None:
    found = shown(entries, levels, columns)
    with click.Context(click.Command("market")).scope():
        for line in market_chart.book_lines(found):
            assert "\x1b" not in click.unstyle(line)
        if entries:  # without any the command says so
            market_chart.draw_depth(found)


def test_twenty_thousand_offers_are_summed_in_a_moment() -> None:
    entries = [
        (Side.SELL if n % 2 else Side.BUY, 1 + n * (MAX_PRICE // 20_001), 1, MAX_OFFER_SAT)
        for n in range(20_000)
    ]
    began = time.process_time()
    shown(entries, 10, 120)
    assert time.process_time() - began < 1.0


@settings(max_examples=60, deadline=None)
@given(
    prices=st.lists(PRICES, min_size=1, max_size=30),
    since=st.integers(0, 2**33),
    span=st.integers(1, 90 * 86_400),
)
def test_no_price_breaks_the_history(prices: list[int], since: int, span: int) -> None:
    samples = [
        {"at": since + n * span // 30, "price": price, "spread_bp": 0, "exponent": 2}
        for n, price in enumerate(prices)
    ]
    with click.Context(click.Command("market")).scope():
        market_chart.draw_history("EUR", samples, since, since + span)
