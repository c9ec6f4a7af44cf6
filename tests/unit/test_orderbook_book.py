"""The book keeps own offers published, and believes nothing that a store returns."""

from dataclasses import replace
from pathlib import Path
from typing import Any

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

from orderbook.offer import LIFE_S, REFRESH_S, Side
from orderbook.shelf import Shelf
from orderbook.shell_book import MAX_OWN, TICK_S, Book
from orderbook.store_offers import _SCRIPTS, GRACE_S, Answers, OfferState, OfferStore
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, LocalFault, NotFound, Unreachable
from p2pnode.base.identity import Identity
from p2pnode.base.store import Database

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


# -- own offers


async def test_cancel_is_once_and_own(pair: Pair) -> None:
    own = await pair.maker.create(**TERMS)
    gone = await pair.maker.withdraw(own.offer.offer_id)
    assert (gone.state, gone.acked) == (OfferState.WITHDRAWN, 4)
    assert gone.offer.max_sat == own.offer.max_sat  # its maker still sees the terms
    sent = pair.market.last(NOW)
    assert (sent.seq, sent.min_sat, sent.max_sat) == (1, 0, 0)
    assert sent.expires_at >= own.offer.expires_at  # outlives every earlier version
    with pytest.raises(LocalFault, match="is withdrawn"):
        await pair.maker.withdraw(own.offer.offer_id)
    with pytest.raises(NotFound):
        await pair.taker.withdraw(own.offer.offer_id)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"min_sat": 0, "max_sat": 0}, "min_sat"),
        ({"min_sat": 199_999}, "min_sat"),
        ({"max_sat": 199_999}, "max_sat"),
        ({"price": 0}, "price"),
        ({"currency": "XAU"}, "currency"),
        ({"method": "SEPA"}, "methods"),
        ({"dep_b_bp": 999}, "dep_b_bp"),
        ({"dep_s_bp": 5001}, "dep_s_bp"),
        ({"terms": "x" * 501}, "terms"),
    ],
)
async def test_bad_terms_are_neither_kept_nor_sent(
    pair: Pair, change: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidRecord) as caught:
        await pair.maker.create(**(TERMS | change))
    assert caught.value.field == field
    assert pair.maker.mine() == ()
    assert pair.market.records == []


async def test_there_is_a_most_of_own_offers(pair: Pair) -> None:
    made = [await pair.maker.create(**TERMS) for _ in range(MAX_OWN)]
    with pytest.raises(LocalFault, match=f"{MAX_OWN} own offers already"):
        await pair.maker.create(**TERMS)
    await pair.maker.withdraw(made[0].offer.offer_id)
    await pair.maker.create(**TERMS)


async def test_a_reserved_offer_leaves_the_book_and_comes_back(
    pair: Pair, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    nursery.start_soon(pair.maker.run)
    own = await pair.maker.create(**TERMS)
    offer_id = own.offer.offer_id
    pair.maker.reserve(offer_id, TRADE)
    pair.maker.reserve(offer_id, TRADE)  # the same effect, performed again after a crash
    await trio.testing.wait_all_tasks_blocked()
    assert pair.maker.own(offer_id).offer.seq == 1
    assert await pair.taker.find("EUR") == await pair.maker.find("EUR") == ()
    with pytest.raises(LocalFault, match="is reserved"):
        pair.maker.reserve(offer_id, b"u" * 32)
    with pytest.raises(LocalFault, match="reserved by trade 747474"):
        await pair.maker.withdraw(offer_id)
    pair.maker.release(offer_id, b"u" * 32)
    assert pair.maker.own(offer_id).state is OfferState.RESERVED
    pair.maker.release(offer_id, TRADE)
    pair.maker.release(offer_id, TRADE)
    await trio.testing.wait_all_tasks_blocked()
    (found,) = await pair.taker.find("EUR")
    assert (found.offer_id, found.seq, found.max_sat) == (offer_id, 2, own.offer.max_sat)


async def test_a_reservation_is_undone_with_the_step_it_belongs_to(pair: Pair) -> None:
    database = Database(None)
    book = make_book(pair.market, pair.clock, database=database)
    own = await book.create(**TERMS)
    with pytest.raises(RuntimeError), database.transaction():
        book.reserve(own.offer.offer_id, TRADE)
        raise RuntimeError("the step failed")
    assert book.own(own.offer.offer_id) == own


async def test_a_take_may_name_any_version_that_has_not_expired(
    pair: Pair, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    own = await pair.maker.create(**TERMS)
    nursery.start_soon(pair.maker.run)
    pair.clock.time += REFRESH_S
    await ticks()
    now = pair.maker.own(own.offer.offer_id)
    assert (now.offer.seq, now.offer.hash != own.offer.hash) == (1, True)
    for version in (own.offer, now.offer):
        assert pair.maker.own_version(version.hash) == (version, now)
    with pytest.raises(NotFound, match="offer_hash"):
        pair.maker.own_version(now.offer.withdrawal().hash)
    pair.clock.time += LIFE_S - REFRESH_S
    with pytest.raises(NotFound, match="offer_hash"):
        pair.maker.own_version(own.offer.hash)
    assert pair.maker.own_version(now.offer.hash)


# -- the background task


async def test_offers_are_refreshed_every_ten_minutes_and_withdrawn_ones_are_not(
    pair: Pair, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    await pair.maker.create(**TERMS)
    gone = await pair.maker.create(**TERMS)
    await pair.maker.withdraw(gone.offer.offer_id)
    nursery.start_soon(pair.maker.run)
    await ticks()
    assert len(pair.market.records) == 3
    for turn in (1, 2, 3):
        pair.clock.time += REFRESH_S - 1
        await ticks()
        assert len(pair.market.records) == 2 + turn
        pair.clock.time += 1
        await ticks()
        assert pair.market.last(pair.clock.time).seq == turn
    assert len(await pair.taker.find("EUR")) == 1


async def test_what_no_node_took_is_tried_again(
    pair: Pair, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    pair.market.down = True
    own = await pair.maker.create(**TERMS)
    assert own.acked == 0
    nursery.start_soon(pair.maker.run)
    await ticks(2)
    pair.market.down, pair.market.holders = False, 0
    await ticks(2)
    assert pair.market.records == []
    pair.market.holders = 3
    await ticks(2)
    assert len(pair.market.records) == 1  # and not a fourth time
    assert pair.maker.own(own.offer.offer_id).acked == 3


async def test_after_a_restart_offers_are_signed_anew_and_undone_withdrawals_sent(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    market, clock = Market(), FakeClock()
    first = make_book(market, clock, database=Database(tmp_path / "node.sqlite"))
    kept, gone, held = [await first.create(**TERMS) for _ in range(3)]
    market.down = True
    await first.withdraw(gone.offer.offer_id)  # the record does not get out
    first.reserve(held.offer.offer_id, TRADE)
    market.down, clock.time = False, clock.time + 60
    again: Book = make_book(market, clock, database=Database(tmp_path / "node.sqlite"), seed="2")
    assert [o.state.value for o in again.mine()] == ["enabled", "withdrawn", "reserved"]
    assert again.own(held.offer.offer_id).trade_id == TRADE
    nursery.start_soon(again.run)
    await ticks()
    taker = make_book(market, clock, OTHER)
    (found,) = await taker.find("EUR")
    assert (found.offer_id, found.seq) == (kept.offer.offer_id, 1)
    assert found.expires_at == clock.time + LIFE_S


async def test_old_versions_are_pruned(
    pair: Pair, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    database = Database(None)
    book = make_book(pair.market, pair.clock, database=database)
    own = await book.create(**TERMS)
    nursery.start_soon(book.run)
    for _ in range(12):
        pair.clock.time += REFRESH_S
        await ticks()
    (count,) = database.one("SELECT count(*) FROM offers_version") or (0,)
    assert count <= (LIFE_S + GRACE_S) // REFRESH_S + 2
    assert replace(book.own(own.offer.offer_id).offer, seq=0, expires_at=0) == replace(
        own.offer, expires_at=0
    )


async def test_an_acknowledgement_of_an_older_version_says_nothing_of_the_newer(
    pair: Pair, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """A put still under way when its offer is withdrawn must not count for the withdrawal."""
    gate = trio.Event()
    put = pair.market.put

    async def slow(raw: bytes) -> int:
        await gate.wait()
        return await put(raw)

    pair.market.put = slow  # type: ignore[method-assign]
    nursery.start_soon(lambda: pair.maker.create(**TERMS))
    await trio.testing.wait_all_tasks_blocked()
    (own,) = pair.maker.mine()
    pair.maker.reserve(own.offer.offer_id, TRADE)
    gate.set()
    await trio.testing.wait_all_tasks_blocked()
    late = pair.maker.own(own.offer.offer_id)
    assert (late.unpublished, late.acked) == (True, 0)
    nursery.start_soon(pair.maker.run)
    await ticks()
    assert pair.market.last(NOW).withdrawn
    assert not pair.maker.own(own.offer.offer_id).unpublished


def test_the_shelf_takes_nothing_from_another_market_nor_after_its_time() -> None:
    shelf, raw = Shelf(NET), offer().to_wire(KEY)
    with pytest.raises(InvalidRecord, match="currency: is filed under USD"):
        shelf.admit(raw, market="USD", now=NOW)
    assert len(shelf) == 0
    shelf.admit(raw, market="EUR", now=NOW)
    with pytest.raises(InvalidRecord, match="expires_at"):
        shelf.admit(raw, market="EUR", now=NOW + LIFE_S)


async def test_answers_to_proposals_are_kept_and_never_published() -> None:
    market, clock, database = Market(), FakeClock(), Database(None)
    book = make_book(market, clock, database=database)
    made = await book.create(**TERMS, answers=Answers(accept_bp=100))
    assert made.answers == Answers(accept_bp=100, counter_bp=0, otherwise="ask")
    published, seq = list(market.records), made.offer.seq
    wanted = Answers(accept_bp=50, counter_bp=200, otherwise="refuse")
    changed = book.answer(made.offer.offer_id, wanted)
    assert (changed.answers, changed.offer.seq) == (wanted, seq)
    assert market.records == published
    again = make_book(market, clock, database=database, seed="later")
    assert again.own(made.offer.offer_id).answers == wanted
    await book.withdraw(made.offer.offer_id)
    with pytest.raises(LocalFault, match="withdrawn"):
        book.answer(made.offer.offer_id, Answers())


@pytest.mark.parametrize(
    "change", [{"accept_bp": -1}, {"accept_bp": 5001}, {"counter_bp": True}, {"otherwise": "yes"}]
)
def test_answers_are_bounded(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRecord) as caught:
        Answers(**change)
    assert caught.value.field in change


def test_a_database_from_before_the_answers_gets_them() -> None:
    database = Database(None)
    database.migrate("offers", _SCRIPTS[:1])
    old = offer(seq=3)
    database.run(
        "INSERT INTO offers_own VALUES (?, ?, 'enabled', ?, NULL, 1, 1, 3, 4)",
        old.offer_id,
        wire.pack(old.body()),
        bytes(32),
    )
    (own,) = OfferStore(database, NET).all()
    assert (own.offer, own.answers) == (old, Answers())
