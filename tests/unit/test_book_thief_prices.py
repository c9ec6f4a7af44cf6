"""A hostile price source: whatever it answers, the node reads a price or says what is wrong."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orderbook.backend_prices_file import read_prices
from orderbook.price_adapters import ADAPTERS, read_answer
from orderbook.prices import STALE_S, Quote, read_json, read_price, refer
from p2pnode.base.errors import InvalidRecord

NOW = 1_800_000_000
EUR = 61_240_000_000
NAMES = ("error", "result", "XXBTZEUR", "c", "data", "currency", "rates", "EUR", "eur", "last")
NAMES += ("timestamp", "bitcoin", "last_updated_at", "time", "BTC")


@pytest.mark.parametrize("number", ["1e99999999999999999999", "1E-99999999999999999999", "-1e9"])
def test_a_number_that_no_price_has_is_refused(number: str) -> None:
    with pytest.raises(InvalidRecord):
        read_price("price", read_json(f'{{"EUR": {number}}}'.encode())["EUR"], "EUR")
    with pytest.raises(InvalidRecord):
        read_prices(f'{{"EUR": {number}}}'.encode())


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["61240.1", "BTC", "1e5", "٣", "9" * 50, 1_788_000_000, -1])
)
ANSWERS = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("name", sorted(ADAPTERS))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(answer=ANSWERS)
def test_whatever_a_source_answers_is_a_price_or_a_fault(name: str, answer: object) -> None:
    adapter = ADAPTERS[name]
    for told in (answer, _around(name, answer)):
        try:
            said = read_answer(adapter, json.dumps(told).encode(), ["EUR"])
        except InvalidRecord:
            continue
        assert all(price > 0 for price, _ in said.prices.values())


def _around(name: str, inner: object) -> object:
    """Put an answer where the adapter looks, so that the fuzz gets past the first member."""
    return {
        "kraken": {"error": [], "result": inner},
        "coinbase": {"data": {"currency": "BTC", "rates": inner}},
        "bitstamp": {"last": inner, "timestamp": inner},
        "coingecko": {"bitcoin": {"eur": inner, "last_updated_at": inner}},
        "mempool": {"EUR": inner, "time": inner},
        "blockchain": {"EUR": {"last": inner}},
    }[name]


@settings(max_examples=200, deadline=None)
@given(raw=st.binary(max_size=60) | st.text(alphabet='{}[]",:0123456789eE+-.EURnul', max_size=40))
def test_whatever_a_price_file_holds_is_prices_or_a_fault(raw: bytes | str) -> None:
    try:
        read_prices(raw if isinstance(raw, bytes) else raw.encode())
    except InvalidRecord:
        return


def test_one_liar_of_three_moves_the_reference_by_no_more_than_the_honest_spread() -> None:
    honest = [Quote("a", "EUR", EUR, NOW), Quote("b", "EUR", EUR + EUR // 1000, NOW)]
    for lie in (1, EUR // 2, EUR * 95 // 100, EUR * 104 // 100, EUR * 2, EUR * 10**5):
        found = refer("EUR", [*honest, Quote("liar", "EUR", lie, NOW)], {}, NOW)
        assert EUR <= found.price <= EUR + EUR // 1000


def test_a_clock_that_was_set_back_keeps_no_old_price_alive() -> None:
    """It would count as fresh until the clock is there again, whatever the market does."""
    old = [Quote(name, "EUR", EUR, NOW) for name in ("a", "b", "c")]
    assert refer("EUR", old, {}, NOW - STALE_S).price == EUR
    found = refer("EUR", old, {}, NOW - STALE_S - 1)
    assert (found.price, found.why) == (0, "every price is stale")
    assert {out.reason for out in found.left_out} == {"stale: its time is yet to come"}
