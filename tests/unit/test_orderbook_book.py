"""The book believes nothing that a store returns, and shows own offers among the others'."""

import pytest
from maker_kit import EUR, FLOATING, Histories, References
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
)

from orderbook.obstacles import Taker
from orderbook.offer import LIFE_S, Offer, Side
from orderbook.own import OfferState
from orderbook.query import Query, Sort
from orderbook.shell_book import Book, Listed
from p2pnode.base.errors import InvalidRecord, NotFound, Unreachable
from p2pnode.base.history import History
from p2pnode.base.identity import Identity

ANY = Query(currency="EUR")
THIRD = Identity.grind(NET, b"third".ljust(32))


class Pair:
    """A maker and a taker with one market between them."""

    def __init__(self) -> None:
        self.market, self.clock = Market(), FakeClock()
        self.maker = make_book(self.market, self.clock)
        self.taker = make_book(self.market, self.clock, OTHER, seed="taker")

    async def found(self, query: Query = ANY) -> list[Offer]:
        return [one.offer for one in await self.taker.find(query)]


@pytest.fixture
def pair() -> Pair:
    return Pair()


def numbers(found: list[Listed] | list[Offer]) -> list[int]:
    return [(one.offer if isinstance(one, Listed) else one).offer_id[0] for one in found]


def numbered(number: int, **terms: object) -> Offer:
    return offer(**({"offer_id": bytes([number]) * 16, "slot": number} | terms))


# -- finding


async def test_a_taker_finds_what_a_maker_publishes(pair: Pair) -> None:
    own = await pair.maker.maker.create(**TERMS, terms="no calls")
    assert (own.state, own.acked) == (OfferState.ENABLED, 4)
    (found,) = await pair.taker.find(Query(currency="EUR", side=Side.SELL))
    assert (found.offer, found.price, found.mine) == (own.offer, own.offer.price, False)
    assert await pair.found(Query(currency="EUR", side=Side.BUY)) == []
    assert await pair.found(Query(currency="USD")) == []


async def test_own_offers_are_listed_as_such_and_once(pair: Pair) -> None:
    own = await pair.maker.maker.create(**TERMS)
    (found,) = await pair.maker.find(ANY)
    assert (found.offer, found.mine) == (own.offer, True)


async def test_an_own_offer_that_is_not_enabled_is_not_listed(pair: Pair) -> None:
    own = await pair.maker.maker.create(**TERMS)
    pair.maker.maker.reserve(own.offer_id, b"t" * 32)
    assert await pair.maker.find(ANY) == []


async def test_own_versions_are_in_the_book_before_any_holder_has_them(pair: Pair) -> None:
    pair.market.down = True
    told: list[tuple[Offer, bytes]] = []
    pair.maker.on_own.append(lambda one, raw: told.append((one, raw)))
    own = await pair.maker.maker.create(**TERMS)
    assert [one.offer for one in pair.maker.listing(ANY)] == [own.offer]
    assert [one for one, _ in told] == [own.offer]
    assert pair.maker.store.knows(told[0][1])


async def test_best_price_first_for_the_taker_then_the_older(pair: Pair) -> None:
    for i, (side, price) in enumerate([(1, 700), (1, 500), (0, 300), (0, 400), (1, 500)]):
        made = numbered(i, side=Side(side), price=price * 10**8)
        pair.market.records = [made.to_wire(KEY)]
        await pair.taker.find(ANY)
        pair.clock.time += 1
    assert numbers(await pair.found()) == [1, 4, 0, 3, 2]
    buyers = await pair.found(Query(currency="EUR", side=Side.BUY))
    assert {one.side for one in buyers} == {Side.BUY}


async def test_a_floating_price_follows_the_reference(pair: Pair) -> None:
    await pair.maker.maker.create(**TERMS)
    references = References()
    pair.maker.maker.references = pair.taker.maker.references = references
    own = await pair.maker.maker.create(**FLOATING)
    first, last = await pair.taker.find(ANY)
    assert (first.price, last.offer, last.price) == (EUR, own.offer, EUR * 10_120 // 10_000)
    references.prices["EUR"] = EUR // 2
    first, _ = await pair.taker.find(ANY)
    assert (first.offer, first.price) == (own.offer, EUR // 2 * 10_120 // 10_000)
    references.prices.clear()
    _, last = await pair.taker.find(ANY)
    assert (last.offer, last.price) == (own.offer, 0)


async def test_what_a_taker_could_not_take_is_said_or_left_out(pair: Pair) -> None:
    await pair.maker.maker.create(**TERMS)
    without = Taker(node_id=OTHER.node_id, now=NOW)
    (found,) = await pair.taker.find(ANY, without)
    assert [one.code for one in found.obstacles] == ["method"]
    assert await pair.taker.find(Query(currency="EUR", takeable=True), without) == []
    able = Taker(node_id=OTHER.node_id, now=NOW, methods=frozenset({"CUSTOM"}))
    assert len(await pair.taker.find(Query(currency="EUR", takeable=True), able)) == 1
    assert pair.taker.judged(found.offer, without) == found.obstacles


async def test_what_the_store_cannot_choose_is_chosen_over_all_its_pages(pair: Pair) -> None:
    """2,500 offers: proven histories and obstacles are looked at page by page."""
    now, found = NOW, []
    for number in range(2_500):
        maker = number.to_bytes(32, "big")
        one = object.__new__(Offer)
        one.__dict__.update(offer(price=10**9 + number).__dict__)
        one.__dict__.update(maker=maker, hash=maker)
        found.append((one, offer().to_wire(KEY) + number.to_bytes(2, "big")))
    pair.taker.store.admit_all(found, now)
    raws = {raw: one for one, raw in found}
    pair.taker.store.listing = reading(pair.taker, raws)  # type: ignore[method-assign]
    histories = Histories()
    for number in (3, 1_200, 2_499):
        histories.known[number.to_bytes(32, "big")] = History(trades=number, first_at=1)
    pair.taker.maker.histories = histories
    proven = Query(currency="EUR", least_trades=3)
    assert [one.proven.trades for one in pair.taker.listing(proven)] == [3, 1_200, 2_499]
    later = Query(currency="EUR", least_trades=3, offset=1, limit=1)
    assert [one.proven.trades for one in pair.taker.listing(later)] == [1_200]
    sort = Query(currency="EUR", sort=Sort.HISTORY, limit=4)
    assert [one.proven.trades for one in pair.taker.listing(sort)] == [2_499, 1_200, 3, 0]


def reading(book: Book, raws: dict[bytes, Offer]):
    """Let rows be read as the offers that were put there, which nobody signed."""
    listing = book.store.listing

    def read(query: Query, reference: int, now: int):
        rows = listing(query, reference, now)
        for row in rows:
            row.read = raws[row.raw]
        return rows

    return read


async def test_a_market_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InvalidRecord, match="currency"):
        Query(currency="XXX")


async def test_no_network_is_said_to_the_taker(pair: Pair) -> None:
    pair.market.down = True
    with pytest.raises(Unreachable):
        await pair.taker.find(ANY)


async def test_with_a_follower_the_store_answers_and_nobody_else_is_asked(pair: Pair) -> None:
    followed = []

    class Follower:
        async def follow(self, currency: str) -> None:
            followed.append(currency)

    pair.taker.follower = Follower()
    pair.market.down = True
    assert await pair.found() == []
    assert followed == ["EUR"]
    assert pair.taker.store.followed(NOW) == ("EUR",)


async def test_lies_of_a_store_are_left_out_and_the_honest_offer_shown(pair: Pair) -> None:
    own = await pair.maker.maker.create(**TERMS)
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
    assert await pair.found() == [own.offer]
    assert len(pair.taker.store) == 1


async def test_a_withdrawn_offer_stays_gone_when_a_holder_replays_it(pair: Pair) -> None:
    own = await pair.maker.maker.create(**TERMS)
    assert await pair.found() == [own.offer]
    await pair.maker.maker.withdraw(own.offer_id)
    first, last = pair.market.records
    assert await pair.found() == []
    pair.market.records = [first]
    assert await pair.found() == []
    fresh = make_book(pair.market, pair.clock, OTHER)
    pair.market.records = [last, first]
    assert await fresh.find(ANY) == []


async def test_an_offer_that_expires_leaves_the_list(pair: Pair) -> None:
    await pair.maker.maker.create(**TERMS)
    assert len(await pair.found()) == 1
    pair.clock.time += LIFE_S
    assert await pair.found() == []
    with pytest.raises(NotFound):
        pair.taker.get("00")


async def test_an_offer_seen_before_survives_an_omission(pair: Pair) -> None:
    own = await pair.maker.maker.create(**TERMS)
    await pair.found()
    pair.market.records = []
    assert await pair.found() == [own.offer]


# -- by id


async def test_offers_are_named_by_a_unique_prefix_of_id_or_hash(pair: Pair) -> None:
    own = await pair.maker.maker.create(**TERMS)
    with pytest.raises(NotFound, match="list its market first"):
        pair.taker.get(own.offer_id.hex())
    await pair.found()
    for text in (own.offer_id.hex(), own.offer.hash.hex()):
        assert pair.taker.get(text[:8]) == pair.taker.get(text.upper()) == own.offer
        assert pair.taker.get(text) == pair.taker.get(text[:1]) == own.offer
        assert pair.maker.get(text[:8]) == own.offer


async def test_a_prefix_that_fits_two_is_refused(pair: Pair) -> None:
    pair.market.records = [
        numbered(0, offer_id=b"\xab\x01" + bytes(14)).to_wire(KEY),
        numbered(1, offer_id=b"\xab\x02" + bytes(14)).to_wire(KEY),
    ]
    await pair.found()
    with pytest.raises(NotFound, match="fits 2 offers"):
        pair.taker.get("ab0")
    assert pair.taker.get("ab02").offer_id[1] == 2


async def test_an_id_copied_by_another_maker_is_told_apart_by_its_hash(pair: Pair) -> None:
    one, copy = offer(), offer(maker=THIRD.node_id)
    pair.market.records = [one.to_wire(KEY), copy.to_wire(THIRD)]
    await pair.found()
    with pytest.raises(NotFound, match="fits 2 offers"):
        await pair.taker.fetch(one.offer_id.hex())
    assert await pair.taker.fetch(one.hash.hex()) == one
    assert await pair.taker.fetch(copy.hash.hex()) == copy


@pytest.mark.parametrize("text", ["", "xyz", "../..", "a" * 65, "%", "é"])
def test_a_prefix_that_is_no_hex_is_refused(pair: Pair, text: str) -> None:
    with pytest.raises(InvalidRecord, match="offer_id: is not 1 to 64 hex digits"):
        pair.taker.get(text)


async def test_fetch_asks_the_market_again(pair: Pair) -> None:
    own = await pair.maker.maker.create(**TERMS)
    await pair.found()
    name = own.offer_id.hex()
    assert await pair.taker.fetch(name) == own.offer
    await pair.maker.maker.withdraw(own.offer_id)
    with pytest.raises(NotFound, match="withdrawn"):
        await pair.taker.fetch(name)


# -- makers one does not want to see


async def test_a_blocked_makers_offers_are_hidden_from_lists_alone(pair: Pair) -> None:
    own = await pair.maker.maker.create(**TERMS)
    await pair.found()
    pair.taker.block(KEY.node_id, "late")
    assert await pair.found() == []
    assert await pair.found(Query(currency="EUR", hidden=True)) == [own.offer]
    assert pair.taker.get(own.offer_id.hex()) == own.offer
    pair.taker.store.unblock(KEY.node_id)
    assert await pair.found() == [own.offer]
    with pytest.raises(InvalidRecord, match="is your own"):
        pair.taker.block(OTHER.node_id, "")


async def test_a_maker_is_named_by_a_unique_prefix_of_his_id(pair: Pair) -> None:
    pair.market.records = [offer().to_wire(KEY), offer(maker=THIRD.node_id).to_wire(THIRD)]
    await pair.found()
    assert pair.taker.maker_named(KEY.node_id.hex()[:4]) == KEY.node_id
    stranger = "ab" * 32
    assert pair.taker.maker_named(stranger) == bytes.fromhex(stranger)
    with pytest.raises(NotFound, match="fits no maker known here"):
        pair.taker.maker_named("00ff00ff")
