"""The book's file against a model of a few lines: any versions, clocks, restarts and questions."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from orderbook_kit import KEY, NET, NOW, OTHER, offer

from orderbook.offer import MAX_LIFE_S, Offer, Side
from orderbook.query import Query, Sort
from orderbook.store_book import BookStore
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.store import Database
from p2pnode.base.units import fiat_for

MAKERS = (KEY.node_id, OTHER.node_id)
PRICES = st.sampled_from([0, 10**9, 5 * 10**10, 5 * 10**10 + 1, 6 * 10**10])
REFERENCES = st.sampled_from([0, 1, 5 * 10**10, 6 * 10**10, 2**53 - 1])


@dataclass
class Known:
    offer: Offer
    hashed: bytes
    first_seen: int


class Model:
    """What the book should hold, as plainly as it can be said."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, bytes], Known] = {}
        self.blocked: set[bytes] = set()

    @staticmethod
    def live(one: Known, now: int) -> bool:
        return now < one.offer.expires_at <= now + MAX_LIFE_S

    def admit(self, made: Offer, raw: bytes, now: int) -> bool | None:
        """Return whether it changed the set; None for one that is refused."""
        if not now < made.expires_at <= now + MAX_LIFE_S:
            return None
        key, hashed = (made.currency, made.place), hashlib.sha256(raw).digest()
        held = self.known.get(key)
        if held and self.live(held, now):
            if held.hashed == hashed:
                return False
            mine, theirs = (made.seq, hashed), (held.offer.seq, held.hashed)
            if mine[0] < theirs[0] or (mine[0] == theirs[0] and mine[1] > theirs[1]):
                return None
            self.known[key] = Known(made, hashed, held.first_seen)
        else:
            self.known[key] = Known(made, hashed, now)
        return True

    def forget(self, now: int) -> None:
        self.known = {key: one for key, one in self.known.items() if self.live(one, now)}

    def items(self, currency: str, now: int) -> list[tuple[bytes, bytes]]:
        return sorted(
            (place, one.hashed)
            for (market, place), one in self.known.items()
            if market == currency and self.live(one, now)
        )

    def listing(self, query: Query, reference: int, now: int) -> list[tuple[bytes, int, int, bool]]:
        shown = [one for one in self.known.values() if self.live(one, now)]
        shown = [one for one in shown if not one.offer.withdrawn]
        found = [one for one in shown if self._fits(one.offer, query, reference)]
        found.sort(key=lambda one: self._order(one, query, reference))
        return [
            (
                one.hashed,
                one.offer.price_at(reference) if one.offer.price or reference else 0,
                one.first_seen,
                any(
                    other.offer.maker == one.offer.maker
                    and other.offer.slot < one.offer.slot
                    and other.offer.alike == one.offer.alike
                    for other in shown
                ),
            )
            for one in found[query.offset : query.offset + query.limit]
        ]

    def _fits(self, one: Offer, query: Query, reference: int) -> bool:
        price = one.price_at(reference) if one.price or reference else 0
        money = query.fiat_minor
        return (
            one.currency == query.currency
            and query.side in (None, one.side)
            and (not query.method or query.method in one.methods)
            and (not query.country or not one.countries or query.country in one.countries)
            and (not query.language or not one.languages or query.language in one.languages)
            and (not query.amount_sat or one.min_sat <= query.amount_sat <= one.max_sat)
            and (not query.least_price or price >= max(1, query.least_price))
            and (not query.most_price or 0 < price <= query.most_price)
            and (
                not money
                or (
                    price > 0
                    and fiat_for(one.min_sat, price) <= money <= fiat_for(one.max_sat, price)
                )
            )
            and (query.hidden or one.maker not in self.blocked)
        )

    def _order(self, one: Known, query: Query, reference: int) -> tuple[Any, ...]:
        made = one.offer
        if query.sort is Sort.AGE:
            return (one.first_seen, made.place)
        if query.sort is Sort.AMOUNT:
            return (-made.max_sat, made.place)
        sign = 1 if made.side is Side.SELL else -1
        price = made.price_at(reference)
        unpriced = made.floating and not reference
        return (
            -made.side,
            unpriced,
            sign * price,
            sign * made.margin_bp,
            one.first_seen,
            made.place,
        )


@st.composite
def offers(draw: st.DrawFn) -> Offer:
    price = draw(PRICES)
    low = draw(st.sampled_from([200_000, 300_000, 1_000_000]))
    made = offer(
        maker=draw(st.sampled_from(MAKERS)),
        slot=draw(st.integers(0, 2)),
        offer_id=draw(st.sampled_from([b"a" * 16, b"b" * 16])),
        seq=draw(st.integers(0, 3)),
        currency=draw(st.sampled_from(["EUR", "USD"])),
        side=draw(st.sampled_from(Side)),
        min_sat=low,
        max_sat=draw(st.integers(low, 1_000_000)),
        price=price,
        margin_bp=0 if price else draw(st.sampled_from([-5000, -1, 0, 1, 100])),
        methods=draw(st.sampled_from([("CUSTOM",), ("CUSTOM", "SEPA"), ("SEPA_INSTANT",)])),
        countries=draw(st.sampled_from([(), ("DE",), ("AT", "DE")])),
        languages=draw(st.sampled_from([(), ("en",), ("de", "en")])),
        expires_at=NOW + draw(st.integers(1, MAX_LIFE_S)),
    )
    return draw(st.sampled_from([made, made, made.withdrawal()]))


FILTERS: dict[str, list[Any]] = {
    "side": list(Side),
    "method": ["SEPA", "CUSTOM"],
    "country": ["DE", "FR"],
    "language": ["de", "fr"],
    "amount_sat": [200_000, 500_000],
    "fiat_minor": [2, 10_000, 15_000, 10_001],
    "least_price": [5 * 10**10, 6 * 10**10],
    "most_price": [5 * 10**10, 6 * 10**10],
    "hidden": [True],
    "sort": [Sort.AGE, Sort.AMOUNT],
    "limit": [1, 2],
    "offset": [1, 2],
}


@st.composite
def queries(draw: st.DrawFn) -> Query:
    names = draw(st.lists(st.sampled_from(sorted(FILTERS)), max_size=3, unique=True))
    chosen = {name: draw(st.sampled_from(FILTERS[name])) for name in names}
    return Query(currency=draw(st.sampled_from(["EUR", "EUR", "USD"])), **chosen)


def act(name: str, what: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, Any]]:
    return st.tuples(st.just(name), what)


ADMIT, ASK = act("admit", offers()), act("ask", st.tuples(queries(), REFERENCES))
RARE = st.one_of(
    act("clock", st.sampled_from([1, 60, 600, -60, -MAX_LIFE_S, 86_400])),
    act("forget", st.none()),
    act("restart", st.none()),
    act("block", st.sampled_from(MAKERS)),
    act("unblock", st.sampled_from(MAKERS)),
)
ACTS = st.one_of(ADMIT, ADMIT, RARE, ASK, ASK)
COURSES = st.builds(
    lambda first, rest: first + rest,
    st.lists(ADMIT, min_size=4, max_size=12),
    st.lists(ACTS, min_size=10, max_size=40),
)


@given(COURSES)
@settings(max_examples=150, deadline=None)
def test_the_book_is_what_the_model_says(acts: list[tuple[str, Any]]) -> None:
    database, model, now = Database(None), Model(), NOW
    book = BookStore(database, NET)
    for act, what in acts:
        if act == "clock":
            now += what
        elif act == "admit":
            raw = wire.pack((what.body(), bytes(64)))
            expected = model.admit(what, raw, now)
            try:
                assert book.admit(what, raw, now) == expected
            except InvalidRecord:
                assert expected is None
        elif act == "forget":
            book.forget(now)
            model.forget(now)
            assert len(book) == len(model.known)
        elif act == "restart":
            book = BookStore(database, NET)
        elif act == "block":
            book.block(what, "", now)
            model.blocked.add(what)
        elif act == "unblock":
            book.unblock(what)
            model.blocked.discard(what)
        else:
            query, reference = what
            rows = book.listing(query, reference, now)
            seen = [(row.hashed, row.price, row.first_seen, row.again) for row in rows]
            assert seen == model.listing(query, reference, now)
        for market in ("EUR", "USD"):
            items = model.items(market, now)
            assert book.items(market, now) == items
            raws = book.raws(market, b"", b"", now, 1000)
            assert [hashlib.sha256(raw).digest() for raw in raws] == [h for _, h in items]


@given(st.lists(offers(), max_size=25), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_any_order_and_repetition_of_versions_makes_the_same_book(
    found: list[Offer], random: Any
) -> None:
    """The book is a join: what it holds depends on the set of versions, not on their order."""
    pairs = [(one, wire.pack((one.body(), bytes(64)))) for one in found]
    books = []
    for _ in range(3):
        random.shuffle(pairs)
        book = BookStore(Database(None), NET)
        half = len(pairs) // 2
        book.admit_all(pairs[:half], NOW)
        for one, raw in pairs[half:] + pairs[:3]:
            book.admit_all([(one, raw)], NOW)
        books.append([book.items(market, NOW) for market in ("EUR", "USD")])
    assert books[0] == books[1] == books[2]


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 63), st.integers(1, 900)), max_size=120),
    st.integers(1, 40),
    st.integers(1, 20),
)
@settings(max_examples=60, deadline=None)
def test_the_bounds_hold_and_what_goes_expires_first(
    found: list[tuple[int, int, int]], capacity: int, per_maker: int
) -> None:
    book, base = BookStore(Database(None), NET, capacity=capacity, per_maker=per_maker), offer()
    for maker, slot, life in found:
        one = object.__new__(Offer)
        one.__dict__.update(base.__dict__)
        one.__dict__.update(
            maker=maker.to_bytes(32, "big"), slot=slot, seq=life, expires_at=NOW + life
        )
        one.__dict__.pop("hash", None)
        before = {place for place, _ in book.items("EUR", NOW)}
        book.admit_all([(one, wire.pack((one.body(), bytes(64))))], NOW)
        after = {place for place, _ in book.items("EUR", NOW)}
        assert len(book) == len(after) <= capacity
        assert sum(place[:32] == one.maker for place in after) <= per_maker
        gone = before - after - {one.place}
        if len(before) + 1 <= capacity and gone:
            assert all(place[:32] == one.maker for place in gone)
    book.forget(NOW + MAX_LIFE_S)
    assert len(book) == 0


def test_the_model_is_asked_something() -> None:
    """The questions above find offers: a listing of nothing would prove nothing."""
    model, made = Model(), offer(price=5 * 10**10, methods=("CUSTOM", "SEPA"))
    assert model.admit(made, wire.pack((made.body(), bytes(64))), NOW)
    asked = Query(currency="EUR", method="SEPA", amount_sat=500_000, most_price=5 * 10**10)
    assert len(model.listing(asked, 0, NOW)) == 1
    assert model.listing(replace(asked, least_price=6 * 10**10), 0, NOW) == []
