"""The serving side of the book protocol: what this node holds of a market, for whoever asks.

Each stream is answered in order by one task: a digest at once, a fetch page by page as the
asker reads. Streams are few, short-lived and paced; when all places are taken, of the subnet that
has the most of them the one that was opened first gives way, so that nobody keeps the others out,
by reading slowly or by asking again and again under many names.
"""

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from itertools import count
from typing import Final

import trio

from orderbook import book_wire
from orderbook.book_wire import Answer, Ask, Digest, Page, Refusal
from orderbook.needs import Tally
from orderbook.store_book import BookStore
from p2pnode.base import ranges
from p2pnode.base.errors import InvalidRecord, StorageFault, Unreachable
from p2pnode.base.ports import Channel, Clock
from p2pnode.base.quota import Buckets
from p2pnode.base.ranges import Item

log: Final = logging.getLogger(__name__)

MAX_STREAMS: Final = 64  # in all; a page of each is in memory
MAX_PER_PEER: Final = 6
STREAM_S: Final = 120.0  # a stream's life
IDLE_S: Final = 30.0  # of it without a question
PAGE_S: Final = 10.0  # for the asker to take one page
PAGE_ROWS: Final = 120  # read for one page; most offers take 300 bytes, so it is nearly full
ANSWER_BYTES: Final = 1 << 20  # of one fetch; more is asked for by another
RATE: Final = 64.0  # pages a second for one peer, lasting: 2 MiB
BURST: Final = 512.0
SUBNET_RATE: Final = 128.0
SUBNET_BURST: Final = 1024.0
DIGEST_COST: Final = 4  # in pages
ITEMS_S: Final = 1.0  # how old the list may be that digests are made from
MAX_LISTS: Final = 16


class Service:
    """Answers every inbound stream of the book protocol from one book."""

    def __init__(
        self,
        store: BookStore,
        clock: Clock,
        tally: Tally,
        group: Callable[[str], str | None],
    ) -> None:
        self._store, self._clock, self._tally, self._group = store, clock, tally, group
        self._peers = Buckets(RATE, BURST)
        self._groups = Buckets(SUBNET_RATE, SUBNET_BURST)
        self._inbound: Counter[bytes] = Counter()
        self._open: OrderedDict[int, tuple[trio.CancelScope, object]] = OrderedDict()
        self._numbers = count()
        self._lists: OrderedDict[str, tuple[float, list[Item]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    async def answer(self, channel: Channel) -> None:
        """Answer one inbound stream until it ends; garbage and slowness end it."""
        peer = channel.peer
        if self._inbound[peer] >= MAX_PER_PEER:
            self._tally.add("streams_refused")
            return
        if len(self._open) >= MAX_STREAMS:
            self._oust()
        number = next(self._numbers)
        self._inbound[peer] += 1
        try:
            with trio.move_on_after(STREAM_S) as scope:
                self._open[number] = scope, self._group(channel.host) or peer
                await self._converse(channel)
        except InvalidRecord as error:
            self._tally.add("garbage")
            log.debug("%s asks what cannot be read: %s", peer.hex()[:16], error)
        finally:
            self._open.pop(number, None)
            self._inbound[peer] -= 1
            if not self._inbound[peer]:
                del self._inbound[peer]

    def _oust(self) -> None:
        """End the oldest stream of the subnet that has the most, of peers without one by peer."""
        self._tally.add("streams_ousted")
        held = Counter(crowd for _, crowd in self._open.values())
        most = max(held.values())
        number = next(n for n, (_, crowd) in self._open.items() if held[crowd] == most)
        self._open.pop(number)[0].cancel()

    async def _converse(self, channel: Channel) -> None:
        while True:
            with trio.move_on_after(IDLE_S) as idle:
                payload = await channel.receive()
            if idle.cancelled_caught:
                return
            ask = book_wire.ask_in(payload)
            try:
                if ask.what == book_wire.DIGEST:
                    await self._digest(channel, ask)
                else:
                    await self._pages(channel, ask)
            except StorageFault as error:
                log.warning("the book cannot be read: %s", error)
                await self._send(channel, Refusal(ask.id, "the disk of this node refuses"))

    async def _digest(self, channel: Channel, ask: Ask) -> None:
        await self._pace(channel, DIGEST_COST)
        self._tally.add("answered_digest")
        found = ranges.parts(self.items(ask.currency), ask.low, ask.high)
        await self._send(channel, Digest(ask.id, ranges.parts_out(found)))

    async def _pages(self, channel: Channel, ask: Ask) -> None:
        """Send what we hold of [low, high), as much as one answer may be."""
        self._tally.add("answered_fetch")
        low, left, done = ask.low, ANSWER_BYTES, False
        while not done:
            await self._pace(channel, 1)
            raws, more = self._page(ask, low)
            left -= sum(len(raw) for raw in raws)
            until = book_wire.after(book_wire.place_of(raws[-1])) if more else ask.high
            done = not more or left <= 0 or until == ask.high
            self._tally.add("offers_served", len(raws))
            await self._send(channel, Page(ask.id, until, done, raws))
            low = until

    def _page(self, ask: Ask, low: bytes) -> tuple[tuple[bytes, ...], bool]:
        """Return the offers of a page from `low` on, and whether there may be more."""
        now = self._clock.now()
        held = self._store.raws(ask.currency, low, ask.high, now, PAGE_ROWS)
        return book_wire.filled(held), bool(held)  # a damaged row is left out: fewer say nothing

    def items(self, currency: str) -> list[Item]:
        """Return places and hashes of a market's live versions, as they were a moment ago."""
        now = trio.current_time()
        made, found = self._lists.get(currency, (-ITEMS_S, []))
        if made + ITEMS_S <= now:
            found = self._store.items(currency, self._clock.now())
            self._lists[currency] = (now, found)
            self._lists.move_to_end(currency)
            if len(self._lists) > MAX_LISTS:
                self._lists.popitem(last=False)
        return found

    async def _send(self, channel: Channel, answer: Answer) -> None:
        with trio.move_on_after(PAGE_S) as sending:
            await channel.send(book_wire.encode(answer))
        if sending.cancelled_caught:
            self._tally.add("streams_slow")
            raise Unreachable("the asker reads too slowly")

    async def _pace(self, channel: Channel, cost: int) -> None:
        """Spend of the peer's and its subnet's quota, waiting for it if need be."""
        now = trio.current_time()
        wait = self._peers.spend(channel.peer, now, cost)
        if group := self._group(channel.host):
            wait = max(wait, self._groups.spend(group, now, cost))
        if wait:
            self._tally.add("quota_waits")
            await trio.sleep(wait)
