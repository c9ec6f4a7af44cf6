"""A thief's offers in the book: numbers, copied ids, places, and what he may not push out."""

from dataclasses import replace

import pytest
import trio
from book_kit import parsed, signed, who
from orderbook_kit import NET, NOW, FakeClock, Market, make_book

from orderbook.obstacles import Taker
from orderbook.offer import MAX_LIFE_S
from orderbook.query import Query, Sort
from orderbook.shell_book import STEP, Book
from orderbook.store_book import MATCHES, BookStore, level
from p2pnode.base.errors import NotFound
from p2pnode.base.store import Database

CROWD = [who(f"thief {n}") for n in range(12)]


def admit(store: BookStore, raws: list[bytes], now: int = NOW) -> None:
    store.admit_all([(parsed(raw, now), raw) for raw in raws], now)


def test_a_flood_that_expires_last_drives_nobody_out_who_was_there() -> None:
    """Honest makers sign for 1,500 s; a thief for 1,800, and again every minute."""
    store = BookStore(Database(None), NET, capacity=50)
    honest = [signed(who(f"honest {n}")) for n in range(20)]
    admit(store, honest)
    for minute in range(1, 6):
        now = NOW + 60 * minute
        flood = [
            signed(thief, slot=slot, seq=now, expires_at=now + MAX_LIFE_S)
            for thief in CROWD
            for slot in range(8)
        ]
        admit(store, flood, now)
        assert len(store) <= 50
        assert all(store.knows(raw) for raw in honest), minute


def test_a_flood_of_one_market_takes_no_place_of_another() -> None:
    """The other market is filled later, with high slots: by rank its offers would go first."""
    store = BookStore(Database(None), NET, capacity=50)
    honest = [signed(who(f"honest {n}"), slot=9, currency="CHF") for n in range(20)]
    for minute in range(1, 4):
        now = NOW + minute
        flood = [signed(thief, slot=slot, seq=now) for thief in CROWD for slot in range(8)]
        admit(store, flood, now)
        admit(store, honest, now)
        assert len(store) <= 50
        assert all(store.knows(raw) for raw in honest), minute
        assert len(store.items("EUR", now)) >= 20


@pytest.mark.parametrize(
    ("counts", "room", "most"),
    [
        ((), 10, 10),
        ((3, 4), 10, 4),
        ((3, 40), 10, 7),
        ((40, 3, 40), 13, 5),
        ((40, 40, 40), 10, 3),
        ((1, 2, 3, 100), 6, 1),
        ((5,), 0, 0),
    ],
)
def test_the_most_of_each_market(counts: tuple[int, ...], room: int, most: int) -> None:
    assert level(counts, room) == most
    assert sum(min(count, most) for count in counts) <= room


def test_a_thiefs_own_share_is_cut_from_his_high_slots() -> None:
    store = BookStore(Database(None), NET, per_maker=4)
    thief = CROWD[0]
    admit(store, [signed(thief, slot=slot, expires_at=NOW + 60 + slot) for slot in range(8)])
    assert [place[32] for place, _ in store.items("EUR", NOW)] == [0, 1, 2, 3]


def copied() -> Book:
    """Return a book with a victim's offer and two of thieves who have copied its id."""
    book = make_book(Market(), FakeClock(), identity=who("reader"))
    made = signed(who("victim"), offer_id=b"\xc0\x5e" + bytes(14))
    thieves = [signed(one, offer_id=b"\xc0\x5e" + bytes(14), price=10**9) for one in CROWD[:2]]
    admit(book.store, [*thieves, made])
    return book


async def test_a_copied_id_keeps_nobody_from_the_offer_of_the_maker_whom_he_has_seen() -> None:
    book, victim = copied(), who("victim").node_id
    prefix = "c05e" + "0" * 28
    with pytest.raises(NotFound, match="name one by its hash") as told:
        book.get(prefix)
    named = book.get(prefix, victim)
    assert named.maker == victim
    assert named.hash.hex()[:12] in str(told.value)
    assert book.get(named.hash.hex()[:12]) == named
    with pytest.raises(NotFound):
        book.get(prefix, who("reader").node_id)
    assert await book.fetch(prefix, victim) == named


def test_an_empty_store_is_the_store_that_was_given() -> None:
    store = BookStore(Database(None), NET)
    made = make_book(Market(), FakeClock())
    assert Book(made.maker, FakeClock(), Market(), store).store is store


async def test_a_search_of_a_flooded_book_leaves_other_tasks_their_turn() -> None:
    """Offers by the thousand that one cannot take, and a user who asks for those he can."""
    book, turns = make_book(Market(), FakeClock(), identity=who("reader")), 0
    many = [who(f"one of many {n}") for n in range(96)]
    raws = [signed(thief, slot=slot) for thief in many for slot in range(8)]
    assert len(raws) > 7 * STEP
    admit(book.store, raws)
    taker, query = Taker(node_id=who("reader").node_id, now=NOW), Query(currency="EUR")
    asked = [
        replace(query, takeable=True),
        replace(query, least_trades=1),
        replace(query, sort=Sort.HISTORY, limit=5, offset=3),
    ]
    async with trio.open_nursery() as nursery:

        async def others() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        nursery.start_soon(others)
        for one in asked:
            before = turns
            found = await book.find(one, taker)
            assert turns - before >= len(raws) // STEP - 3  # whose turn is first is by lot
            assert found == book.listing(one, taker)
            assert len(found) == (5 if one.sort is Sort.HISTORY else 0)
        nursery.cancel_scope.cancel()


async def test_an_id_that_a_hundred_have_copied_hides_no_offer_of_a_maker_whom_one_has_seen() -> (
    None
):
    book, victim = make_book(Market(), FakeClock(), identity=who("reader")), who("victim")
    copies = [signed(thief, slot=n) for thief in CROWD[:4] for n in range(MATCHES // 3)]
    assert len(copies) > MATCHES
    admit(book.store, [*copies, signed(victim)])
    assert book.get("00" * 16, victim.node_id).maker == victim.node_id
    assert (await book.fetch("00" * 16, victim.node_id)).maker == victim.node_id
