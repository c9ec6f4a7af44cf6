"""The book finds what makers publish, and believes nothing that a store returns."""

import pytest
import trio
import trio.testing
from orderbook_kit import (
    KEY,
    NET,
    NOW,
    OTHER,
    TERMS,
    FakeClock,
    Market,
    make_book,
    offer,
    signed_body,
    values,
)

from orderbook.offer import LIFE_S, Side
from orderbook.shelf import Shelf
from orderbook.shell_book import TICK_S
from orderbook.store_offers import OfferState
from p2pnode.base.errors import InvalidRecord, NotFound, Unreachable
from p2pnode.base.identity import Identity

TRADE = b"t" * 32


class Pair:
    """A maker and a taker with one market between them."""

    def __init__(self) -> None:
        self.market, self.clock = Market(), FakeClock()
        self.maker = make_book(self.market, self.clock)
        self.taker = make_book(self.market, self.clock, OTHER, seed="taker")


@pytest.fixture
def pair() -> Pair:
    return Pair()


async def ticks(count: int = 1) -> None:
    """Let `run` look `count` times at what is due (needs autojump_clock)."""
    for _ in range(count):
        await trio.sleep(TICK_S)
        await trio.testing.wait_all_tasks_blocked()


# -- publishing and finding


async def test_a_taker_finds_what_a_maker_publishes(pair: Pair) -> None:
    own = await pair.maker.create(**TERMS, terms="no calls")
    assert (own.state, own.acked) == (OfferState.ENABLED, 4)
    (found,) = await pair.taker.find("EUR", Side.SELL)
    assert found == own.offer
    assert not pair.taker.is_mine(found)
    assert await pair.taker.find("EUR", Side.BUY) == ()
    assert await pair.taker.find("USD") == ()


async def test_own_offers_are_listed_as_such_and_once(pair: Pair) -> None:
    own = await pair.maker.create(**TERMS)
    (found,) = await pair.maker.find("EUR")
    assert found == own.offer
    assert pair.maker.is_mine(found)


async def test_best_price_first_for_the_taker_then_the_older(pair: Pair) -> None:
    for i, (side, price) in enumerate([(1, 700), (1, 500), (0, 300), (0, 400), (1, 500)]):
        pair.market.records = [
            offer(offer_id=bytes([i]) * 16, side=Side(side), price=price * 10**8).to_wire(KEY)
        ]
        await pair.taker.find("EUR")
        pair.clock.time += 1
    listed = await pair.taker.find("EUR")
    assert [p // 10**8 for p in values(listed)] == [500, 500, 700, 400, 300]
    assert [o.offer_id[0] for o in listed] == [1, 4, 0, 3, 2]
    assert {o.side for o in await pair.taker.find("EUR", Side.BUY)} == {Side.BUY}


async def test_a_market_that_does_not_exist_is_refused(pair: Pair) -> None:
    with pytest.raises(InvalidRecord, match="currency"):
        await pair.taker.find("XXX")


async def test_no_network_is_said_to_the_taker(pair: Pair) -> None:
    pair.market.down = True
    with pytest.raises(Unreachable):
        await pair.taker.find("EUR")


async def test_lies_of_a_store_are_left_out_and_the_honest_offer_shown(pair: Pair) -> None:
    own = await pair.maker.create(**TERMS)
    good = pair.market.records[0]
    body = list(offer(offer_id=b"f" * 16).body())
    pair.market.records = [
        b"",
        b"\xc1",
        good[:-1] + bytes([good[-1] ^ 1]),
        signed_body(body, OTHER),
        signed_body([2, "future"]),
        offer(offer_id=b"u" * 16, currency="USD").to_wire(KEY),  # in the wrong market
        offer(offer_id=b"o" * 16, expires_at=NOW).to_wire(KEY),
        b"x" * 100_000,
        good,
        good,
    ]
    assert await pair.taker.find("EUR") == (own.offer,)


async def test_a_withdrawn_offer_stays_gone_when_a_holder_replays_it(pair: Pair) -> None:
    own = await pair.maker.create(**TERMS)
    assert await pair.taker.find("EUR") == (own.offer,)
    await pair.maker.withdraw(own.offer.offer_id)
    first, last = pair.market.records
    assert await pair.taker.find("EUR") == ()
    pair.market.records = [first]
    assert await pair.taker.find("EUR") == ()
    fresh = make_book(pair.market, pair.clock, OTHER)
    pair.market.records = [last, first]
    assert await fresh.find("EUR") == ()


async def test_two_versions_of_one_seq_are_resolved_alike_by_all(pair: Pair) -> None:
    one, two = offer(price=5 * 10**10).to_wire(KEY), offer(price=6 * 10**10).to_wire(KEY)
    seen = []
    for records in ([one, two], [two, one]):
        pair.market.records = list(records)
        seen.append(values(await make_book(pair.market, pair.clock, OTHER).find("EUR")))
    assert seen[0] == seen[1]
    assert len(seen[0]) == 1


async def test_an_offer_that_expires_leaves_the_list(pair: Pair) -> None:
    await pair.maker.create(**TERMS)
    assert len(await pair.taker.find("EUR")) == 1
    pair.clock.time += LIFE_S
    assert await pair.taker.find("EUR") == ()
    with pytest.raises(NotFound):
        pair.taker.get("00")


async def test_an_offer_seen_before_survives_an_omission(pair: Pair) -> None:
    own = await pair.maker.create(**TERMS)
    await pair.taker.find("EUR")
    pair.market.records = []
    assert await pair.taker.find("EUR") == (own.offer,)


async def test_one_maker_cannot_fill_the_book(pair: Pair) -> None:
    flood = Identity.grind(NET, b"flood".ljust(32))
    pair.market.records = [
        offer(maker=flood.node_id, offer_id=bytes([i]) * 16, price=10**9).to_wire(flood)
        for i in range(200)
    ]
    honest = await pair.maker.create(**TERMS)
    listed = await pair.taker.find("EUR")
    assert honest.offer in listed
    assert len(listed) == 65


# -- by id


async def test_offers_are_named_by_a_unique_prefix_of_id_or_hash(pair: Pair) -> None:
    own = await pair.maker.create(**TERMS)
    with pytest.raises(NotFound, match="list its market first"):
        pair.taker.get(own.offer.offer_id.hex())
    await pair.taker.find("EUR")
    for text in (own.offer.offer_id.hex(), own.offer.hash.hex()):
        assert pair.taker.get(text[:8]) == pair.taker.get(text.upper()) == own.offer
        assert pair.maker.get(text[:8]) == own.offer


async def test_a_prefix_that_fits_two_is_refused(pair: Pair) -> None:
    pair.market.records = [
        offer(offer_id=b"\xab\x01" + bytes(14)).to_wire(KEY),
        offer(offer_id=b"\xab\x02" + bytes(14)).to_wire(KEY),
    ]
    await pair.taker.find("EUR")
    with pytest.raises(NotFound, match="fits 2 offers"):
        pair.taker.get("ab0")
    assert pair.taker.get("ab02").offer_id[1] == 2


@pytest.mark.parametrize("text", ["", "xyz", "../..", "a" * 65, "%", "é"])
def test_a_prefix_that_is_no_hex_is_refused(pair: Pair, text: str) -> None:
    with pytest.raises(InvalidRecord, match="offer_id: is not 1 to 64 hex digits"):
        pair.taker.get(text)


async def test_fetch_asks_the_market_again(pair: Pair) -> None:
    own = await pair.maker.create(**TERMS)
    await pair.taker.find("EUR")
    name = own.offer.offer_id.hex()
    assert await pair.taker.fetch(name) == own.offer
    await pair.maker.withdraw(own.offer.offer_id)
    with pytest.raises(NotFound, match="withdrawn"):
        await pair.taker.fetch(name)


def test_the_shelf_takes_nothing_from_another_market_nor_after_its_time() -> None:
    shelf, raw = Shelf(NET), offer().to_wire(KEY)
    with pytest.raises(InvalidRecord, match="currency: is filed under USD"):
        shelf.admit(raw, market="USD", now=NOW)
    assert len(shelf) == 0
    shelf.admit(raw, market="EUR", now=NOW)
    with pytest.raises(InvalidRecord, match="expires_at"):
        shelf.admit(raw, market="EUR", now=NOW + LIFE_S)
