"""The book's file: newest versions alone, bounded, however it is flooded, broken or dated."""

import hashlib
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from orderbook_kit import KEY, NET, NOW, OTHER, offer

from orderbook import listing
from orderbook.book_table import SCRIPTS
from orderbook.offer import MAX_LIFE_S, Offer, Side
from orderbook.query import Query, Sort
from orderbook.store_book import FOLLOW_S, BookStore
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, StorageFault
from p2pnode.base.store import Database
from p2pnode.base.units import fiat_for

ANY = Query(currency="EUR")


def store(**bounds: int) -> BookStore:
    return BookStore(Database(None), NET, **bounds)


def put(book: BookStore, *found: Offer, now: int = NOW) -> list[bytes]:
    """Admit offers as if they had been verified; return their bytes."""
    raws = [raw_of(one) for one in found]
    book.admit_all(list(zip(found, raws, strict=True)), now)
    return raws


def raw_of(one: Offer) -> bytes:
    """Return an offer's bytes, signed by nobody."""
    return wire.pack((one.body(), bytes(64)))


BASE = offer()


def cheap(number: int, maker: int = 0, **terms: object) -> Offer:
    """Return one of as many offers as a flood has; nothing is ground or signed."""
    made = object.__new__(Offer)
    known = {"slot": number % 64, "offer_id": number.to_bytes(16, "big")}
    made.__dict__.update(BASE.__dict__ | known | {"maker": maker.to_bytes(32, "big")} | terms)
    made.__dict__.pop("hash", None)
    return made


# -- versions


def test_the_highest_seq_stays_in_whatever_order_they_come() -> None:
    one, two, three = offer(seq=1), offer(seq=2).withdrawal(), offer(seq=3)
    book = store()
    assert book.admit(two, raw_of(two), NOW)
    with pytest.raises(InvalidRecord, match="seq: is 1, but a better version is known"):
        book.admit(one, raw_of(one), NOW)
    assert book.listing(ANY, 0, NOW) == []
    assert book.items("EUR", NOW) == [(two.place, hashlib.sha256(raw_of(two)).digest())]
    assert book.admit(three, raw_of(three), NOW)
    assert not book.admit(three, raw_of(three), NOW)
    assert [row.offer for row in book.listing(ANY, 0, NOW)] == [three]
    assert len(book) == 1


def test_of_one_seq_the_lower_hash_stays() -> None:
    pair = sorted(
        (offer(price=price) for price in (5 * 10**10, 6 * 10**10)),
        key=lambda one: hashlib.sha256(raw_of(one)).digest(),
    )
    for order in (pair, pair[::-1]):
        book = store()
        put(book, *order)
        assert [row.offer for row in book.listing(ANY, 0, NOW)] == pair[:1]


def test_a_slot_is_its_own_in_each_market_and_of_each_maker() -> None:
    book = store()
    put(book, offer(), offer(currency="USD"), offer(slot=1), offer(maker=OTHER.node_id))
    assert len(book) == 4
    assert len(book.items("EUR", NOW)) == 3


def test_a_version_that_has_expired_is_known_no_more() -> None:
    book = store()
    late = offer(seq=9, expires_at=NOW + 100).withdrawal()
    put(book, late)
    again = offer(seq=3, expires_at=NOW + 1500)
    assert book.admit(again, raw_of(again), NOW + 100)  # nobody has to remember for ever
    (row,) = book.listing(ANY, 0, NOW + 100)
    assert (row.offer, row.first_seen) == (again, NOW + 100)


def test_age_counts_from_the_first_version_seen() -> None:
    book = store()
    put(book, offer(seq=1))
    put(book, offer(seq=2), now=NOW + 50)
    assert [row.first_seen for row in book.listing(ANY, 0, NOW + 60)] == [NOW]


def test_what_has_expired_is_not_taken_in() -> None:
    book, one = store(), offer(expires_at=NOW)
    with pytest.raises(InvalidRecord, match="expires_at"):
        book.admit(one, raw_of(one), NOW)
    assert book.admit_all([(one, raw_of(one))], NOW) == ()


def test_admit_all_tells_what_was_news_and_skips_the_beaten() -> None:
    book = store()
    old, new, other = offer(seq=1), offer(seq=2), offer(slot=1)
    raws = [raw_of(one) for one in (new, old, other, new)]
    pairs = list(zip((new, old, other, new), raws, strict=True))
    assert book.admit_all(pairs, NOW) == (raws[0], raws[2])
    assert book.admit_all(pairs, NOW) == ()
    assert book.knows(raws[0])
    assert not book.knows(raws[1])


# -- the clock


def test_a_clock_that_jumps_shows_nothing_that_may_not_be() -> None:
    book = store()
    put(book, offer())
    for jump in (-86_400, MAX_LIFE_S, 86_400):
        now = NOW + jump
        assert book.listing(ANY, 0, now) == []
        assert book.items("EUR", now) == []
        assert book.raws("EUR", b"", b"", now, 10) == []
        assert book.matching("0", now) == ()
    assert len(book.listing(ANY, 0, NOW)) == 1  # nothing was lost by looking
    book.forget(NOW - 86_400)
    assert len(book) == 0


def test_a_version_of_a_wrong_future_does_not_keep_the_right_one_out() -> None:
    book = store()
    ahead = 86_400
    put(book, offer(seq=NOW + ahead, expires_at=NOW + ahead + 1500), now=NOW + ahead)
    today = offer(seq=NOW)
    assert book.admit(today, raw_of(today), NOW)
    assert [row.offer for row in book.listing(ANY, 0, NOW)] == [today]
    assert len(book) == 1


# -- bounds


def test_one_maker_fills_no_more_than_his_share() -> None:
    book = store()
    for market in ("EUR", "USD", "JPY"):
        put(book, *(cheap(i, currency=market, expires_at=NOW + 600 + i) for i in range(64)))
    put(book, offer(maker=OTHER.node_id))
    assert len(book) == 65
    held = [row for market in ("EUR", "USD", "JPY") for row in book.items(market, NOW)]
    assert len(held) == 65


def test_when_all_is_full_high_slots_go_in_bulk_and_then_the_newest() -> None:
    book = store(capacity=100)
    put(book, *(cheap(i % 2, maker=i, expires_at=NOW + 10 + i) for i in range(100)))
    assert len(book) == 100
    put(book, cheap(0, maker=500, expires_at=NOW + 1000), now=NOW + 1)
    assert len(book) == 90
    places = [place for place, _ in book.items("EUR", NOW + 1)]
    assert sum(place[32] for place in places) == 39  # of fifty in slot 1
    assert sum(not place[32] for place in places) == 51  # all of slot 0, the newest too
    put(book, *(cheap(0, maker=600 + i, expires_at=NOW + 1800) for i in range(61)), now=NOW + 2)
    kept = {int.from_bytes(place[:32], "big") for place, _ in book.items("EUR", NOW + 2)}
    assert {*range(0, 100, 2), 500} <= kept  # who was there


def test_what_has_expired_makes_room_before_anything_else() -> None:
    book = store(capacity=100)
    put(book, *(cheap(0, maker=i, expires_at=NOW + 10 + i) for i in range(100)))
    put(book, cheap(0, maker=500, expires_at=NOW + 1000), now=NOW + 60)
    assert len(book) == 50


def test_a_flood_of_twenty_thousand_is_bounded_and_costs_little() -> None:
    book = store(capacity=5_000)
    for start in range(0, 20_000, 500):
        put(book, *(cheap(0, maker=i, price=10**9 + i) for i in range(start, start + 500)))
        assert len(book) <= 5_000
    assert len(book.items("EUR", NOW)) == len(book)
    rows = book.listing(replace(ANY, limit=50), 0, NOW)
    assert len(rows) == 50
    assert [row.price for row in rows] == sorted(row.price for row in rows)


def test_the_count_is_right_after_a_restart_and_after_a_failed_step() -> None:
    database = Database(None)
    book = BookStore(database, NET)
    put(book, offer(), offer(slot=1))
    assert len(BookStore(database, NET)) == 2
    broken = cheap(1)
    broken.__dict__["min_sat"] = "no number"
    with pytest.raises(Exception, match="min_sat"):
        put(book, offer(slot=2), broken)
    assert len(book) == len(BookStore(database, NET)) == 2


# -- the file


def test_a_damaged_row_costs_that_offer_alone(tmp_path: Path) -> None:
    path = tmp_path / "book.sqlite"
    book = BookStore(Database(path, durable=False), NET)
    bad, good = offer(), offer(slot=1, offer_id=b"g" * 16)
    raws = [one.to_wire(KEY) for one in (bad, good)]
    book.admit_all(list(zip((bad, good), raws, strict=True)), NOW)
    with sqlite3.connect(path) as other:
        changed = other.execute(
            "UPDATE book_offer SET raw = ? WHERE offer_id = ?",
            (raws[0][:60] + b"?" + raws[0][61:], bad.offer_id),
        ).rowcount
    assert changed == 1
    rows = book.listing(ANY, 0, NOW)
    with pytest.raises(InvalidRecord, match="offer: is damaged"):
        _ = rows[0].offer
    assert rows[1].offer == good
    assert book.raws("EUR", b"", b"", NOW, 10) == [raws[1]]
    assert book.matching("", NOW) == (good,)


def test_a_row_that_was_forged_with_its_hash_is_not_taken_for_a_trade(tmp_path: Path) -> None:
    path = tmp_path / "book.sqlite"
    book = BookStore(Database(path, durable=False), NET)
    one = offer()
    book.admit(one, one.to_wire(KEY), NOW)
    forged = wire.pack((replace(one, price=1_000_000_000).body(), one.to_wire(KEY)[-64:]))
    with sqlite3.connect(path) as other:
        other.execute(
            "UPDATE book_offer SET raw = ?, hash = ?", (forged, hashlib.sha256(forged).digest())
        )
    assert book.matching("", NOW) == ()


def test_the_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    database = Database(tmp_path / "book.sqlite", durable=False)
    database.migrate("book", [*SCRIPTS, "CREATE TABLE later (a INTEGER)"])
    with pytest.raises(StorageFault, match="newer version"):
        BookStore(database, NET)


def test_all_of_it_is_there_after_a_restart(tmp_path: Path) -> None:
    database = Database(tmp_path / "book.sqlite", durable=False)
    book = BookStore(database, NET)
    (raw,) = put(book, offer())
    book.follow("EUR", NOW)
    book.block(OTHER.node_id, "late", NOW)
    database.close()
    again = BookStore(Database(tmp_path / "book.sqlite", durable=False), NET)
    assert again.knows(raw)
    assert again.followed(NOW) == ("EUR",)
    assert [one.note for one in again.blocked()] == ["late"]
    put(again, offer(maker=OTHER.node_id))
    assert [row.offer.maker for row in again.listing(ANY, 0, NOW)] == [KEY.node_id]


# -- for other nodes


def test_raws_are_pages_in_order_of_place_with_withdrawals() -> None:
    book = store()
    found = sorted(
        [offer(slot=i, maker=key.node_id) for key in (KEY, OTHER) for i in range(8)],
        key=lambda one: one.place,
    )
    found[3] = found[3].withdrawal()
    raws = put(book, *found)
    assert book.raws("EUR", b"", b"", NOW, 100) == raws
    assert book.raws("EUR", b"", b"", NOW, 5) == raws[:5]
    low, high = found[2].place, found[11].place
    assert book.raws("EUR", low, high, NOW, 100) == raws[2:11]
    assert book.raws("EUR", high, b"", NOW, 100) == raws[11:]
    assert book.raws("USD", b"", b"", NOW, 100) == []
    assert [place for place, _ in book.items("EUR", NOW)] == [one.place for one in found]


def test_markets_asked_for_are_followed_for_seven_days() -> None:
    book = store()
    book.follow("EUR", NOW)
    book.follow("USD", NOW + 100)
    assert book.followed(NOW + 100) == ("EUR", "USD")
    assert book.followed(NOW + FOLLOW_S) == ("USD",)
    book.follow("EUR", NOW + FOLLOW_S)
    assert book.followed(NOW + FOLLOW_S) == ("EUR", "USD")


# -- what a listing costs and says


def test_floating_prices_merge_exactly_where_products_are_over_64_bits() -> None:
    book, reference = store(), 2**53 - 12_345
    margins = [-5000, -4999, -1, 0, 1]
    put(book, *(offer(slot=i, price=0, margin_bp=bp) for i, bp in enumerate(margins)))
    rows = book.listing(ANY, reference, NOW)
    assert [row.price for row in rows] == [row.offer.price_at(reference) for row in rows]
    assert [row.offer.margin_bp for row in rows] == margins


def test_offers_in_rials_can_be_asked_for_by_sum() -> None:
    book, price = store(), 6 * 10**9 * 10**6  # a BTC at 6e9 rials of 100 dinars
    put(
        book,
        offer(currency="IRR", price=0, max_sat=10**8),
        offer(slot=1, currency="IRR", price=10**9),
    )
    asked = Query(currency="IRR", fiat_minor=6 * 10**9 * 100)
    (row,) = book.listing(asked, price, NOW)
    assert row.price == price


@pytest.mark.parametrize("amount", [199_999, 200_000, 1_000_000, 1_000_001])
def test_the_amount_asked_for_lies_in_the_range(amount: int) -> None:
    book = store()
    put(book, offer())
    found = book.listing(Query(currency="EUR", amount_sat=amount), 0, NOW)
    assert bool(found) == (200_000 <= amount <= 1_000_000)


@pytest.mark.parametrize("price", [61_240_000_000, 0, 61_240_000_001, 59_999_999_999])
def test_the_sum_asked_for_is_rounded_as_the_trade_rounds_it(price: int) -> None:
    book, one = store(), offer(price=price, min_sat=200_003, max_sat=999_997)
    put(book, one)
    reference = 61_239_999_999
    low, high = (fiat_for(sat, one.price_at(reference)) for sat in (one.min_sat, one.max_sat))
    for money in (low - 1, low, low + 1, high - 1, high, high + 1):
        found = book.listing(Query(currency="EUR", fiat_minor=money), reference, NOW)
        assert bool(found) == (low <= money <= high), money


def test_the_same_terms_in_another_slot_are_flagged_until_the_first_is_gone() -> None:
    book = store()
    first = offer(slot=3)
    put(book, first, offer(slot=5, offer_id=b"x" * 16), offer(slot=6, price=10**10))
    put(book, offer(slot=1, maker=OTHER.node_id))
    flags = {(row.offer.maker, row.offer.slot): row.again for row in book.listing(ANY, 0, NOW)}
    assert [slot for (_, slot), again in flags.items() if again] == [5]
    put(book, replace(first, seq=1).withdrawal())
    assert not any(row.again for row in book.listing(ANY, 0, NOW))


def test_what_is_usual_needs_five_makers_and_counts_each_once() -> None:
    book = store()
    for maker in range(4):
        put(book, cheap(0, maker=maker, price=(100 + maker) * 10**9))
    put(book, *(cheap(i, maker=1, price=10**15) for i in range(1, 40)))
    assert book.typical("EUR", NOW) == 0
    put(book, cheap(0, maker=9, price=104 * 10**9, side=Side.BUY))
    assert book.typical("EUR", NOW) == 103 * 10**9
    assert book.typical("USD", NOW) == 0


def test_every_listing_is_answered_from_the_head_of_an_index() -> None:
    """The best of a market are found without reading, or sorting, the rest of it."""
    database = Database(None)
    book = BookStore(database, NET)
    sql, args = listing.listing(replace(ANY, side=Side.SELL), 10**10, NOW, blocks=False)
    plan = [row["detail"] for row in database.all(f"EXPLAIN QUERY PLAN {sql}", *args)]
    heads = [line for line in plan if "book_offer USING" in line and "book_best" in line]
    assert len(heads) == 2, plan
    assert all("currency=? AND side=? AND priced=?" in line for line in heads)
    assert not any("SCAN book_offer" in line for line in plan), plan
    assert not any("book_expiry" in line for line in plan), plan
    assert any("SEARCH b USING INDEX book_maker (place>? AND place<?)" in p for p in plan), plan
    sorted_ = [i for i, line in enumerate(plan) if "TEMP B-TREE" in line]
    assert all("SCAN (subquery" in plan[i - 1] for i in sorted_), plan  # the heads alone
    assert book.listing(replace(ANY, sort=Sort.AGE), 0, NOW) == []
