"""Depth: what is added up, where it is gathered, and that no level looks better than it is."""

from hypothesis import given
from hypothesis import strategies as st

from orderbook.depth import curve, depth
from orderbook.offer import Side

BUY, SELL = Side.BUY, Side.SELL
prices = st.integers(1, 10**14)
entries = st.lists(
    st.tuples(st.sampled_from([BUY, SELL]), prices, st.just(0), st.integers(1, 10**10)), max_size=60
)


def rows(levels):
    return [(level.price, level.amount_sat, level.total_sat, level.offers) for level in levels]


def test_each_price_has_a_level_while_they_fit():
    found = depth([(SELL, 103, 0, 5), (SELL, 101, 0, 7), (SELL, 101, 0, 1), (BUY, 99, 0, 2)], 12)
    assert found.step == 0
    assert rows(found.sell) == [(101, 8, 8, 2), (103, 5, 13, 1)]
    assert rows(found.buy) == [(99, 2, 2, 1)]


def test_many_prices_are_gathered_away_from_the_best():
    found = depth(
        [(SELL, 1001 + i, 0, 1) for i in range(100)] + [(BUY, 999 - i, 0, 1) for i in range(100)],
        12,
    )
    assert found.step == 10
    assert rows(found.sell)[:2] == [(1010, 10, 10, 10), (1020, 10, 20, 10)]
    assert rows(found.buy)[:2] == [(990, 10, 10, 10), (980, 10, 20, 10)]
    assert found.sell[-1].total_sat == found.buy[-1].total_sat == 100


def test_an_absurd_price_does_not_set_the_scale():
    sane = [(SELL, 100_000 + i * 10, 0, 1) for i in range(40)]
    found = depth([*sane, (SELL, 10**12, 0, 1)], 10)
    assert found.step <= 50
    last = found.sell[-1]
    assert last.price == 10**12
    assert last.total_sat == 41
    drawn = curve([*sane, (SELL, 10**12, 0, 1)], 50)
    assert drawn.high < 110_000


def test_no_stranger_hides_the_market_with_a_few_absurd_offers():
    """Too good to be true comes first of its side, and would set the step alone."""
    sane = [(SELL, 61_000_000 + i * 50_000, 0, 1) for i in range(25)]
    bids = [(BUY, 60_900_000 - i * 50_000, 0, 1) for i in range(25)]
    bait = [(SELL, 6_124_000 + i, 0, 1) for i in range(14)] + [
        (BUY, 10**9 + i, 0, 1) for i in (0, 1)
    ]
    for reference in (61_240_000, 0):
        found = depth([*sane, *bids, *bait], 12, reference)
        assert found.step <= 200_000
        assert (found.sell[0].price, found.sell[0].offers) == (6_200_000, 14)
        assert (found.buy[0].price, found.buy[0].offers) == (10**9, 2)
        assert len(found.sell) > 6 < len(found.buy)
        drawn = curve([*sane, *bids, *bait], 50, reference)
        assert 59_000_000 < drawn.low < drawn.high < 63_000_000


def test_a_side_that_is_far_off_as_a_whole_has_its_own_scale():
    found = depth([(SELL, 200_000 + i, 0, 1) for i in range(100)], 12, 100_000)
    assert found.step == 10
    assert len(found.sell) > 4


@given(entries, st.integers(3, 20))
def test_nothing_is_lost_and_no_level_looks_better_than_it_is(found, most):
    made = depth(found, most)
    for side, levels in ((BUY, made.buy), (SELL, made.sell)):
        mine = [e for e in found if e[0] is side]
        assert len(levels) <= most
        assert sum(level.amount_sat for level in levels) == sum(e[3] for e in mine)
        assert sum(level.offers for level in levels) == len(mine)
        total = 0
        for level in levels:
            total += level.amount_sat
            assert level.total_sat == total
            within = [
                e for e in mine if (e[1] >= level.price if side is BUY else e[1] <= level.price)
            ]
            assert level.total_sat <= sum(e[3] for e in within)
        order = [level.price for level in levels]
        assert order == sorted(order, reverse=side is BUY)
        assert not any(level.beyond for level in levels[:-1])


@given(entries, st.integers(10, 100))
def test_a_curve_says_what_there_is_at_each_column(found, columns):
    drawn = curve(found, columns)
    if not found:
        assert drawn is None
        return
    assert len(drawn.buy) == len(drawn.sell) == columns
    assert list(drawn.sell) == sorted(drawn.sell)
    assert list(drawn.buy) == sorted(drawn.buy, reverse=True)
    for i in range(columns):
        left = drawn.low + (drawn.high - drawn.low) * i // columns
        right = drawn.low + (drawn.high - drawn.low) * (i + 1) // columns
        assert drawn.sell[i] == sum(e[3] for e in found if e[0] is SELL and e[1] <= right)
        assert drawn.buy[i] == sum(e[3] for e in found if e[0] is BUY and e[1] >= left)
