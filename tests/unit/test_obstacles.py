"""Why one could not take an offer: each code, its sentence, and the edge where it goes."""

from typing import Any

import pytest
from orderbook_kit import KEY, NOW, OTHER, offer

from orderbook import limits
from orderbook.obstacles import Market, Taker, obstacles
from orderbook.offer import Side
from p2pnode.base.history import History

DAY = 86_400
PRICED = Market(reference=61_240_000_000)


def taker(**has: Any) -> Taker:
    return Taker(**({"node_id": OTHER.node_id, "methods": frozenset({"CUSTOM"}), "now": NOW} | has))


def codes(one: Any, who: Taker, market: Market = PRICED, amount: int = 0) -> list[str]:
    found = obstacles(one, who, market, amount)
    for each in found:
        field, _, rest = each.text.partition(": ")
        assert field.isidentifier()
        assert rest
        assert "\n" not in each.text
    return [each.code for each in found]


def text(one: Any, who: Taker, market: Market = PRICED) -> str:
    (found,) = obstacles(one, who, market)
    return found.text


def test_a_good_offer_has_none() -> None:
    assert codes(offer(), taker()) == []


def test_ones_own_has_that_one_alone() -> None:
    assert codes(offer(methods=("SEPA",)), taker(node_id=KEY.node_id)) == ["own"]


def test_a_blocked_maker() -> None:
    assert codes(offer(), taker(blocked=frozenset({KEY.node_id}))) == ["blocked"]


def test_no_account_of_a_method() -> None:
    said = text(offer(methods=("SEPA", "SEPA_INSTANT")), taker())
    assert said == (
        "methods: you have no account of SEPA or SEPA_INSTANT: p2pnode account form SEPA"
    )
    assert codes(offer(methods=("CUSTOM", "SEPA")), taker()) == []


def test_what_the_operator_has_capped() -> None:
    one = offer()
    capped = taker(caps={"CUSTOM": one.min_sat - 1})
    assert codes(one, capped) == ["limit"]
    assert codes(one, taker(caps={"CUSTOM": one.min_sat})) == []


def test_a_method_that_does_not_carry_the_currency() -> None:
    sepa = taker(methods=frozenset({"SEPA"}))
    assert codes(offer(methods=("SEPA",), currency="USD"), sepa) == ["currency"]
    assert codes(offer(methods=("SEPA",)), sepa) == []


def test_countries_and_languages_of_both_sides() -> None:
    german = taker(countries=frozenset({"DE"}), languages=frozenset({"de"}))
    assert codes(offer(countries=("AT", "CH"), languages=("fr",)), german) == [
        "country",
        "language",
    ]
    assert codes(offer(countries=("AT", "DE"), languages=("de", "fr")), german) == []
    assert codes(offer(), german) == []
    assert codes(offer(countries=("AT",), languages=("fr",)), taker()) == []
    assert "`countries` in config.toml" in text(offer(countries=("AT",)), german)


def test_a_method_that_does_not_reach_the_country() -> None:
    there = taker(methods=frozenset({"PIX"}), countries=frozenset({"DE"}))
    one = offer(methods=("PIX",), currency="BRL")
    assert codes(one, there) == ["country"]
    assert codes(one, taker(methods=frozenset({"PIX"}), countries=frozenset({"BR"}))) == []


def test_what_a_method_carries_at_most() -> None:
    cap = limits.cap_sat("CUSTOM")
    big = {"min_sat": cap, "max_sat": cap + 1, "dep_b_bp": 1500}
    assert codes(offer(**big), taker()) == []
    assert codes(offer(**big), taker(), amount=cap + 1) == ["limit"]
    assert codes(offer(min_sat=cap + 1, max_sat=cap + 1), taker()) == ["limit"]


def test_a_buyer_of_a_method_that_can_be_taken_back_begins_small() -> None:
    method = "REVOLUT"
    least = limits.NEWCOMER_SAT
    one = offer(methods=(method,), min_sat=least + 1, max_sat=10 * least)
    new = taker(methods=frozenset({method}))
    assert codes(one, new) == ["limit"]
    assert "begin with smaller trades" in text(one, new)
    old = taker(methods=frozenset({method}), history=History(trades=3, first_at=NOW - 61 * DAY))
    assert codes(one, old) == []
    assert codes(offer(methods=(method,), side=Side.BUY, min_sat=least + 1), new) == []


def test_what_the_wallet_must_hold() -> None:
    sells = offer(side=Side.BUY, min_sat=400_000, dep_s_bp=2000)
    assert codes(sells, taker(balance_sat=480_000)) == []
    assert codes(sells, taker(balance_sat=479_999)) == ["deposit"]
    assert codes(sells, taker(balance_sat=399_999)) == ["amount"]
    buys = offer(min_sat=400_000, dep_b_bp=1500)
    assert codes(buys, taker(balance_sat=60_000)) == []
    assert codes(buys, taker(balance_sat=59_999)) == ["deposit"]
    assert codes(buys, taker(balance_sat=60_000), amount=500_000) == ["deposit"]
    assert codes(offer(dep_b_bp=0), taker(balance_sat=0)) == []
    assert codes(sells, taker(balance_sat=None)) == []


def test_the_history_that_the_maker_asks_for() -> None:
    asks = offer(peer_trades=5, peer_days=30)
    assert codes(asks, taker()) == ["history", "history"]
    assert text(offer(peer_days=1), taker()) == (
        "peer_days: the maker asks for a first trade 1 day ago, you have none; "
        "take offers that ask for less"
    )
    proven = History(trades=5, first_at=NOW - 30 * DAY)
    assert codes(asks, taker(history=proven)) == []
    young = History(trades=5, first_at=NOW - 30 * DAY + 1)
    assert codes(asks, taker(history=young)) == ["history"]


def test_a_floating_price_without_a_reference() -> None:
    floating = offer(price=0, margin_bp=100)
    assert codes(floating, taker(), Market()) == ["unpriced"]
    assert codes(floating, taker(), PRICED) == []
    assert "name a source (`prices` in config.toml)" in text(floating, taker(), Market())


@pytest.mark.parametrize("typical", [False, True])
def test_an_absurd_price_is_more_than_a_fifth_off(typical: bool) -> None:
    middle = 50_000_000_000
    market = Market(typical=middle) if typical else Market(reference=middle)
    for price, absurd in (
        (40_000_000_000, False),
        (39_999_999_999, True),
        (60_000_000_000, False),
        (60_000_000_001, True),
    ):
        found = codes(offer(price=price), taker(), market)
        assert found == (["absurd"] if absurd else []), price
    assert codes(offer(price=10**9), taker(), Market()) == []


def test_the_reference_outweighs_what_others_ask() -> None:
    market = Market(reference=61_240_000_000, typical=10**9)
    assert codes(offer(), taker(), market) == []
    assert codes(offer(price=0, margin_bp=2001), taker(), market) == ["absurd"]
    said = text(offer(price=30_620_000_000), taker(), market)
    assert said.startswith("price: is 50.00 % below the reference price")


def test_an_escrow_that_this_node_does_not_make() -> None:
    one = offer(escrow_kinds=("wsh-2of3-backup",))
    assert codes(one, taker(escrow_kinds=frozenset({"wsh-2of3"}))) == ["escrow"]
    assert codes(one, taker()) == []


def test_all_that_stands_in_the_way_is_told() -> None:
    worst = offer(
        methods=("SEPA",),
        countries=("DE",),
        languages=("de",),
        peer_trades=1,
        price=0,
        escrow_kinds=("wsh-2of3",),
        side=Side.BUY,
    )
    who = taker(
        countries=frozenset({"FR"}),
        languages=frozenset({"fr"}),
        balance_sat=0,
        blocked=frozenset({KEY.node_id}),
        escrow_kinds=frozenset({"none"}),
    )
    found = codes(worst, who, Market())
    assert found == [
        *("blocked", "method", "country", "language", "amount", "history", "unpriced", "escrow"),
    ]
