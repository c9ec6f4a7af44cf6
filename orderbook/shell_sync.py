"""Sync: the markets this node follows, kept whole, and served to others (docs/wire/book.md).

holders (DHT) ── push ──┐
servers ── shares ──────┼──▶ intake ──▶ book ──▶ served to others
gossip ── push ─────────┘
"""

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final

import trio

from orderbook import book_wire, market_server
from orderbook.currencies import check_currency
from orderbook.needs import Crowd, Spread
from orderbook.offer import Offer
from orderbook.shell_intake import Intake, OnNews, Taken
from orderbook.shell_market import Market
from orderbook.shell_rooms import Rooms
from orderbook.shell_serve import Service
from orderbook.shell_source import Source
from orderbook.store_book import BookStore
from p2pnode.base.errors import NodeError, StorageFault
from p2pnode.base.identity import Identity
from p2pnode.base.networks import Network
from p2pnode.base.ports import Clock, Randomness, Streams

log: Final = logging.getLogger(__name__)

MAX_MARKETS: Final = 16  # followed at once; the one asked for longest ago makes room,
# markets without own offers first
FIRST_S: Final = 10.0  # what a first `follow` waits
FORGET_EVERY: Final = 60.0


class Events:
    """What has happened to the book, counted by name; the names are in docs/operations.md."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, name: str, n: int = 1) -> None:
        """Count `n` more of `name`, if any."""
        if n:
            self.counts[name] += n


class Sync:
    """Follows markets while `run` runs."""

    def __init__(
        self,
        store: BookStore,
        streams: Streams,
        crowd: Crowd,
        spread: Spread | None,
        identity: Identity,
        network: Network,
        clock: Clock,
        randomness: Randomness,
        group: Callable[[str], str | None] = lambda host: host or None,
    ) -> None:
        self._store, self._streams, self._spread = store, streams, spread
        self._identity, self._network, self._clock = identity, network, clock
        tally = Events()
        self.counts = tally.counts  # events since the start, for metrics
        self._intake = Intake(store, network, clock, tally)
        self._rooms = Rooms(
            *(store, self._intake, streams, crowd, network, clock, randomness, tally, group)
        )
        self._service = Service(store, clock, tally, group)
        self._markets: OrderedDict[str, tuple[Market, trio.CancelScope]] = OrderedDict()
        self._own: set[str] = set()  # markets of own offers
        self._nursery: trio.Nursery | None = None

    def _forget(self) -> None:
        try:
            self._store.forget(self._clock.now())
        except StorageFault as error:  # what has expired is shown to nobody anyway
            log.warning("the book cannot be cleared: %s", error)

    def on_news(self, listener: OnNews) -> None:
        """Have `listener(offer, raw)` called for each offer that changes the book."""
        self._intake.on_news.append(listener)

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Serve, and follow what was followed before, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._streams.serve(
                self._network.protocol("book"), self._service.answer, limit=book_wire.FRAME_LIMIT
            )
            for currency in self._store.followed(self._clock.now())[-MAX_MARKETS:]:
                self._start(currency)
            task_status.started()
            try:
                while True:
                    await trio.sleep(FORGET_EVERY)
                    self._forget()
            finally:
                self._nursery = None

    async def follow(self, currency: str) -> None:
        """Follow a market; returns once its first sync is over, or after ten seconds.

        Raises InvalidRecord for what is no currency.
        """
        check_currency("currency", currency)
        self._store.follow(currency, self._clock.now())
        market = self._start(currency)
        if market is not None:
            with trio.move_on_after(FIRST_S):
                await market.whole()

    def reading(self, currency: str) -> tuple[bool, int]:
        """Tell whether a market's first sync is over, and how many sources it has."""
        market, _ = self._markets.get(currency, (None, None))
        return (market.is_whole, market.united) if market else (False, 0)

    async def take(self, raws: Sequence[bytes], currency: str) -> Taken:
        """Take in offers of a market that came from anywhere. Raises StorageFault."""
        return await self._intake.take(raws, currency)

    def own(self, offer: Offer, raw: bytes) -> None:
        """Spread a version of an own offer, which is in the book; its market is followed.

        But not if all that are followed are of own offers: they would oust each other at
        every refresh.
        """
        self._own.add(offer.currency)
        if len(self._markets) < MAX_MARKETS or not self._own.issuperset(self._markets):
            self._start(offer.currency)
        if self._spread is not None and self._nursery is not None:
            self._nursery.start_soon(self._tell, self._spread, offer.currency, raw)

    async def _tell(self, spread: Spread, currency: str, raw: bytes) -> None:
        try:
            await spread.publish(currency, raw)
        except NodeError as error:
            log.warning("%s: an offer is not spread: %s", currency, error)

    def view(self) -> dict[str, Any]:
        """Return for each market its sources, and who withholds how much, for people."""
        now = trio.current_time()
        return {
            currency: {
                "sources": market.united,
                "servers": sorted(node_id.hex() for node_id in market.servers),
                "omitting": {
                    node_id.hex(): number
                    for node_id, number in market.omissions.omitted(now).items()
                },
            }
            for currency, (market, _) in self._markets.items()
        }

    # ------------------------------------------------------------------ markets

    def _start(self, currency: str) -> Market | None:
        """Return the market, followed; None before `run`."""
        if currency in self._markets:
            self._markets.move_to_end(currency)
            return self._markets[currency][0]
        if self._nursery is None:
            return None
        if len(self._markets) >= MAX_MARKETS:
            foreign = (name for name in self._markets if name not in self._own)
            _, scope = self._markets.pop(next(foreign, next(iter(self._markets))))
            scope.cancel()

        def met(found: Sequence[Source]) -> None:
            if self._spread:
                self._spread.meet(currency, found)

        market, scope = Market(currency, self._rooms, met), trio.CancelScope()
        self._markets[currency] = (market, scope)
        self._nursery.start_soon(self._run, market, scope)
        return market

    async def _run(self, market: Market, scope: trio.CancelScope) -> None:
        try:
            if self._spread:
                self._spread.join(market.currency)
        except NodeError as error:  # too many topics: holders and servers are left
            log.warning("%s: no gossip: %s", market.currency, error)
        try:
            with scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(market.serve, self._signed)
                    await market.run()
        finally:
            followed = self._markets.get(market.currency, (market, scope))
            if self._spread and followed[0] is market:  # and not anew since we were told to go
                self._spread.leave(market.currency)

    def _signed(self, currency: str) -> bytes:
        expires_at = self._clock.now() + market_server.LIFE_S
        return market_server.sign(self._identity, self._network, currency, expires_at)
