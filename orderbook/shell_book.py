"""The book: everybody's offers found and verified, own ones among them.

With a `Follower` the markets asked for are kept up to date by it; without one each question
goes to the record store first, whose records are believed once they were verified.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Protocol

import trio

from orderbook.currencies import check_currency
from orderbook.needs import Records
from orderbook.obstacles import Market, Obstacle, Taker, obstacles
from orderbook.offer import Offer
from orderbook.query import MAX_ROWS, Query, Row, Sort, has_prefix, hex_prefix, single
from orderbook.shell_maker import Maker
from orderbook.store_book import BookStore
from p2pnode.base.errors import InvalidRecord, NotFound
from p2pnode.base.history import History
from p2pnode.base.ports import Clock
from p2pnode.base.store import Database

VERIFY_BATCH: Final = 64  # records checked before other tasks get their turn
STEP: Final = 100  # offers of a listing read before other tasks get their turn
MAX_FOUND: Final = 40_000  # records read from one answer


class Follower(Protocol):
    """What keeps markets up to date."""

    async def follow(self, currency: str) -> None:
        """Return when a market has been read once, at most ten seconds later."""
        ...

    def reading(self, currency: str) -> tuple[bool, int]:
        """Tell whether a market has been read once, and from how many sources it comes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An offer as a listing shows it.

    `price` is the one at the reference, 0 while unpriced; `again`: its maker has the same
    terms in a lower slot; `proven` is what this node has seen proven of its maker's past.
    """

    offer: Offer
    price: int
    first_seen: int
    again: bool
    mine: bool
    proven: History
    obstacles: tuple[Obstacle, ...] = ()


class Book:
    """Everybody's offers as this node knows them."""

    def __init__(
        self,
        maker: Maker,
        clock: Clock,
        records: Records,
        store: BookStore | None = None,
        follower: Follower | None = None,
    ) -> None:
        self.maker, self._clock, self._records = maker, clock, records
        self.store = BookStore(Database(None), maker.network) if store is None else store
        self.follower = follower
        self.on_own: list[Callable[[Offer, bytes], object]] = []  # told of own new versions
        maker.on_version = self._own

    async def find(self, query: Query, taker: Taker | None = None) -> list[Listed]:
        """Return what a query asks for of its market, own enabled offers included.

        With a `taker` each carries what keeps him from it. Other tasks get their turn: a full
        book takes seconds to read. Raises Unreachable where nothing follows the market and the
        record store does not answer.
        """
        await self.follow(query.currency)
        steps = self._steps(query, taker)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                found: list[Listed] = end.value
                return found
            await trio.lowlevel.checkpoint()

    def listing(self, query: Query, taker: Taker | None = None) -> list[Listed]:
        """Return the same of what is known now, without a pause."""
        steps = self._steps(query, taker)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                found: list[Listed] = end.value
                return found

    def _steps(self, query: Query, taker: Taker | None) -> Generator[None, None, list[Listed]]:
        """Return what is known, pausing every STEP offers."""
        now = self._clock.now()
        self.store.forget(now)
        reference = self.maker.references.reference(query.currency)
        typical = 0 if reference or taker is None else self.store.typical(query.currency, now)
        market = Market(reference=reference, typical=typical)
        if not (query.takeable or query.least_trades or query.sort is Sort.HISTORY):
            rows = self.store.listing(query, reference, now)
            return list(self._listed(rows, query, taker, market))
        found: list[Listed] = []
        for one in self._chosen(query, taker, market, now):
            if one is None:
                yield
                continue
            found.append(one)
            if query.sort is not Sort.HISTORY and len(found) >= query.offset + query.limit:
                break
        if query.sort is Sort.HISTORY:
            found.sort(key=_by_history)
        return found[query.offset : query.offset + query.limit]

    def _chosen(
        self, query: Query, taker: Taker | None, market: Market, now: int
    ) -> Iterator[Listed | None]:
        """Yield what the store cannot choose by itself, page by page; None for a pause."""
        offset = 0
        while True:
            page = replace(query, limit=MAX_ROWS, offset=offset)
            rows = self.store.listing(page, market.reference, now)
            for start in range(0, len(rows), STEP):
                some = rows[start : start + STEP]
                for one in self._listed(some, query, taker, market):
                    if one.proven.trades < query.least_trades:
                        continue
                    if not (query.takeable and one.obstacles):
                        yield one
                yield None
            if len(rows) < MAX_ROWS:
                return
            offset += MAX_ROWS

    def _listed(
        self, rows: Sequence[Row], query: Query, taker: Taker | None, market: Market
    ) -> Iterator[Listed]:
        enabled = {own.offer.offer_id for own in self.maker.enabled()}
        for row in rows:
            try:
                offer = row.offer
            except InvalidRecord:
                continue  # damaged on the disk; the next version takes its place
            mine = self.is_mine(offer)
            if mine and offer.offer_id not in enabled:
                continue
            yield Listed(
                offer=offer,
                price=row.price,
                first_seen=row.first_seen,
                again=row.again,
                mine=mine,
                proven=self.maker.histories.history(offer.maker),
                obstacles=(
                    obstacles(offer, taker, market, query.amount_at(row.price)) if taker else ()
                ),
            )

    def judged(self, offer: Offer, taker: Taker) -> tuple[Obstacle, ...]:
        """Return what keeps him from one offer."""
        reference = self.maker.references.reference(offer.currency)
        typical = 0 if reference else self.store.typical(offer.currency, self._clock.now())
        return obstacles(offer, taker, Market(reference=reference, typical=typical))

    def is_mine(self, offer: Offer) -> bool:
        """Tell whether this node is the maker."""
        return offer.maker == self.maker.node_id

    def get(self, prefix: str, maker: bytes = b"") -> Offer:
        """Return the offer known here whose id or hash begins so, of that maker if one is named.

        An id is its maker's choice, so another may have copied it. Raises NotFound.
        """
        digits = hex_prefix(prefix)
        known = self.store.matching(digits, self._clock.now(), maker)
        others = [offer for offer in known if not self.is_mine(offer)]
        mine = [own.offer for own in self.maker.mine() if has_prefix(own.offer, digits)]
        return single((*others, *(o for o in mine if maker in (b"", o.maker))), digits)

    async def fetch(self, prefix: str, maker: bytes = b"") -> Offer:
        """Return the offer as its market shows it now. Raises NotFound, Unreachable."""
        offer = self.get(prefix, maker)
        if self.is_mine(offer):
            return offer
        await self.follow(offer.currency)
        now = self._clock.now()
        for current in self.store.matching(offer.offer_id.hex(), now, offer.maker):
            if (current.maker, current.offer_id) == (offer.maker, offer.offer_id):
                return current
        raise NotFound(f"offer {offer.offer_id.hex()[:6]} has just been withdrawn or has expired")

    def maker_named(self, prefix: str) -> bytes:
        """Return the maker whose id begins so: a whole id, or one of the book's makers.

        Raises InvalidRecord, NotFound.
        """
        digits = hex_prefix(prefix, "node_id")
        if len(digits) == 64:
            return bytes.fromhex(digits)
        found = self.store.makers(digits)
        if len(found) != 1:
            what = "several makers" if found else "no maker known here"
            raise NotFound(f"node_id: {digits!r} fits {what}; give more of it", field="node_id")
        return found[0]

    def block(self, node_id: bytes, note: str) -> None:
        """Hide a maker's offers. Raises InvalidRecord for oneself or a note too long."""
        if node_id == self.maker.node_id:
            raise InvalidRecord("node_id", "is your own: `p2pnode offer disable` hides an offer")
        self.store.block(node_id, note, self._clock.now())

    async def follow(self, currency: str) -> None:
        """Have a market read, and kept up to date for the next days.

        Raises InvalidRecord for an unknown currency, Unreachable.
        """
        check_currency("currency", currency)
        self.store.follow(currency, self._clock.now())
        if self.follower is not None:
            await self.follower.follow(currency)
        else:
            await self._ask(currency)

    def _own(self, offer: Offer, raw: bytes) -> None:
        """Have a new version of an own offer in the book at once."""
        with suppress(InvalidRecord):  # a newer one of this node is known
            self.store.admit(offer, raw, self._clock.now())
        for listener in self.on_own:
            listener(offer, raw)

    async def _ask(self, currency: str) -> None:
        found = await self._records.find(currency)
        for i in range(0, min(len(found), MAX_FOUND), VERIFY_BATCH):
            await trio.lowlevel.checkpoint()
            now, good = self._clock.now(), []
            for raw in found[i : i + VERIFY_BATCH]:
                with suppress(InvalidRecord):  # what is not shown harms nobody
                    if type(raw) is bytes and not self.store.knows(raw):
                        offer = Offer.from_wire(raw, network=self.maker.network, now=now)
                        if offer.currency == currency:
                            good.append((offer, raw))
            self.store.admit_all(good, now)


def _by_history(one: Listed) -> tuple[int, int, int, bytes]:
    """Order by what is proven, then by what is said, then by id."""
    return (-one.proven.trades, -one.proven.partners, -one.offer.said_trades, one.offer.offer_id)
