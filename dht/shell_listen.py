"""A subscription: told of each change under a key by the nodes that hold it.

It listens at all of the k closest, so that a holder's death loses nothing and a lying one
hides nothing. A holder whose stream ends is replaced at once; at half of each grant all are
renewed, and whoever holds another set than we have seen is read again (`p2pnode.base.ranges`).
"""

import hashlib
import logging
import math
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import trio

from dht import rpc
from dht.endpoint import Peer
from dht.records import Kinds, Record, better, place
from dht.shell_answers import Answers
from dht.shell_contacts import Contacts
from dht.shell_find import Finder
from dht.shell_link import MAX_LIES
from dht.shell_rpc import Calls
from dht.standing import is_lie
from dht.tally import Tally
from p2pnode.base import ranges
from p2pnode.base.errors import InvalidRecord, NodeError, PeerFault, Unreachable
from p2pnode.base.ports import Clock
from p2pnode.base.ranges import Item

log = logging.getLogger(__name__)

GRANT: Final = rpc.MAX_LISTEN_S  # seconds asked for
AGAIN_AFTER: Final = 0.25  # seconds before a lost holder is replaced, doubled up to
AGAIN_MOST: Final = 30.0
MARGIN: Final = 60.0  # seconds of a grant that are left when it is renewed
MAX_PAGES: Final = 256  # read of one range
READ_EVERY: Final = 900.0  # seconds after which the key is read again in any case
MAX_UNREAD: Final = 1024  # records that wait for one reader; beyond, his channel ends
MAX_SEEN: Final = 4096  # places whose latest record is remembered


class Subscription:
    """One key listened to; `run` keeps it so, each reader gets what is there and what comes."""

    def __init__(
        self,
        where: tuple[str, bytes],
        finder: Finder,
        calls: Calls,
        contacts: Contacts,
        kinds: Kinds,
        clock: Clock,
        tally: Tally,
    ) -> None:
        self.where = where
        self.ready = trio.Event()  # listened to, and read once
        self.over = trio.CancelScope()  # ends `run`
        self.left = trio.Event()  # the holders have been told
        self._readers: list[trio.MemorySendChannel[Record]] = []
        self._finder = finder
        self._calls, self._contacts = calls, contacts
        self._kinds, self._clock, self._tally = kinds, clock, tally
        self._seen: OrderedDict[tuple[bytes, bytes], Record] = OrderedDict()
        self._nodes: list[Peer] = []  # where we listen
        self._asked: set[bytes] = set()  # who may tell us
        self._holders: dict[bytes, float] = {}  # who has granted it -> until when
        self._read_at = -math.inf
        self._full: set[bytes] = set()  # who has had no room to tell us, since then
        self._barren: set[bytes] = set()  # who differed and had nothing for us, since then
        self._lost = trio.Event()
        self._closing = False
        self._told = 0  # records that were new

    def read(self) -> trio.MemoryReceiveChannel[Record]:
        """Return a channel of the records known now, then of each change."""
        into, records = trio.open_memory_channel[Record](MAX_UNREAD + len(self._seen))
        for record in self._seen.values():
            if record.expires_at > self._clock.now():
                into.send_nowait(record)
        self._readers.append(into)
        return records

    def tellers(self) -> tuple[bytes, ...]:
        """Return the holders whose grant holds now."""
        now = trio.current_time()
        return tuple(node_id for node_id, until in self._holders.items() if until > now)

    @property
    def unread(self) -> bool:
        """Tell whether nobody reads any more."""
        self._readers = [r for r in self._readers if r.statistics().open_receive_channels]
        return not self._readers

    async def run(self) -> None:
        """Listen until cancelled, then tell the holders to stop."""
        try:
            with self.over:
                await self._listen()
        finally:
            self._closing = True
            for reader in self._readers:
                reader.close()
            self.ready.set()  # nobody waits for what does not come any more
            with trio.move_on_after(1) as leaving:
                leaving.shield = True
                await self._leave()
            self.left.set()

    async def _listen(self) -> None:
        pause = AGAIN_AFTER
        while True:
            self._lost = trio.Event()
            before = trio.current_time()
            await self._renew()
            self.ready.set()
            with trio.move_on_after(GRANT / 2):
                await self._lost.wait()
            quick = trio.current_time() - before < AGAIN_MOST
            await trio.sleep(pause)
            pause = min(AGAIN_MOST, 2 * pause) if quick else AGAIN_AFTER

    def take(self, raws: tuple[bytes, ...]) -> int:
        """Take what a holder pushes, or what was read; only what is valid and new goes on.

        Returns how many are lies; the ninth is the last that is looked at.
        """
        lies = 0
        for raw in raws:
            if lies > MAX_LIES:
                break
            try:
                record = self._kinds.admit(*self.where, raw, self._clock.now())
            except InvalidRecord as error:
                self._tally.add("news_invalid")
                log.debug("news refused: %s", error)
                lies += is_lie(error)
                continue
            self._deliver(record)
        return lies

    def _deliver(self, record: Record) -> None:
        held = self._seen.get(place(record))
        if held is not None and (held.raw == record.raw or better(held, record) is held):
            return
        self._told += 1
        for reader in self._readers:
            try:
                reader.send_nowait(record)
            except trio.WouldBlock:
                self._tally.add("news_unread")
                reader.close()  # the reader sees the end, and opens another that tells all
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                continue  # it has gone
        self._seen[place(record)] = record
        self._seen.move_to_end(place(record))
        if len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)

    # ------------------------------------------------------------------ holders

    async def _renew(self) -> None:
        """Listen at the k closest first, then read what was missed before."""
        await self._listen_at(self._nodes or self._contacts.table.closest(self.where[1]))
        now = trio.current_time()
        told = all(self._holders.get(p.node_id, 0) > now for p in self._nodes if self._has_room(p))
        if told and now <= self._read_at + READ_EVERY:
            await self._catch_up()
            return
        try:
            found = await self._finder.get(*self.where)
        except NodeError as error:
            log.info("a key listened to cannot be read: %s", error)
            return
        self.take(tuple(record.raw for record in found.records))
        self._nodes = [p for p in found.closest if p.node_id != self._calls.own]
        self._read_at = trio.current_time()
        self._full.clear()
        self._barren.clear()
        await self._listen_at(self._nodes)

    def _has_room(self, peer: Peer) -> bool:
        return peer.node_id not in self._full

    async def _listen_at(self, nodes: list[Peer]) -> None:
        due = trio.current_time() + GRANT / 2 + MARGIN  # before the next round is over
        async with trio.open_nursery() as nursery:
            for peer in nodes:
                if self._holders.get(peer.node_id, 0) <= due:
                    nursery.start_soon(self._listen_one, peer)

    async def _listen_one(self, peer: Peer) -> None:
        ended = partial(self._ended, peer.node_id)
        self._asked.add(peer.node_id)
        try:
            granted = await self._calls.listen(peer, *self.where, GRANT, self.take, ended)
        except (Unreachable, PeerFault, InvalidRecord) as error:
            log.debug("%s does not let us listen: %s", peer.node_id.hex()[:16], error)
            self._holders.pop(peer.node_id, None)
            return
        if granted:
            self._holders[peer.node_id] = trio.current_time() + granted
            self._full.discard(peer.node_id)
        else:
            self._holders.pop(peer.node_id, None)
            self._full.add(peer.node_id)

    def _ended(self, node_id: bytes) -> None:
        if self._holders.pop(node_id, None) is not None and not self._closing:
            self._tally.add("listens_lost")
            self._lost.set()

    async def _catch_up(self) -> None:
        """Read from each holder the ranges in which it has another set than we have seen."""
        now = self._clock.now()
        seen = [r for r in self._seen.values() if r.expires_at > now]
        ours: list[Item] = sorted((r.owner + r.id, hashlib.sha256(r.raw).digest()) for r in seen)
        before, vain = self._told, set[bytes]()

        async def compare(peer: Peer) -> None:
            try:
                told = await self._contacts.call(peer, rpc.DIGEST, (*self.where, b"", b""))
                parts = ranges.parts_in(told, b"", b"")
                for low, high, count in ranges.differing(ours, b"", parts):
                    if count and not await self._read(peer, low, high):
                        vain.add(peer.node_id)
            except (Unreachable, PeerFault):
                return
            except InvalidRecord:
                await self._contacts.lied(peer.node_id)

        async with trio.open_nursery() as nursery:
            for peer in self._nodes:
                if peer.node_id not in self._barren:
                    nursery.start_soon(compare, peer)
        if self._told == before:  # else they may have had what another was faster to give
            self._barren |= vain

    async def _read(self, peer: Peer, low: bytes, high: bytes) -> int:
        """Take what a peer holds in a range; return how much of it was new."""
        cursor, told = low[:-1], self._told
        for _ in range(MAX_PAGES):
            page = await self._finder.page(peer, self.where, cursor)
            if self.take(page.raws) > MAX_LIES:
                raise InvalidRecord("records", "are too often invalid")
            if page.cursor <= cursor or (high and page.cursor >= high):
                break
            cursor = page.cursor
        return self._told - told

    async def _leave(self) -> None:
        async with trio.open_nursery() as nursery:
            for node_id in self._asked:
                nursery.start_soon(self._stop_one, node_id)

    async def _stop_one(self, node_id: bytes) -> None:
        try:
            await self._calls.unlisten(node_id, *self.where, self.take)
        except NodeError as error:
            log.debug("%s was not told that we stopped listening: %s", node_id.hex()[:16], error)


class Subscriptions:
    """The keys that this node listens to, each with any number of readers."""

    def __init__(
        self,
        finder: Finder,
        answers: Answers,
        calls: Calls,
        contacts: Contacts,
        kinds: Kinds,
        clock: Clock,
        tally: Tally,
    ) -> None:
        self._finder, self._answers = finder, answers
        self._rooms = (finder, calls, contacts, kinds, clock, tally)
        self._leaving: dict[tuple[str, bytes], Subscription] = {}
        self._live: dict[tuple[str, bytes], Subscription] = {}

    def __len__(self) -> int:
        return len(self._live)

    def tellers(self, where: tuple[str, bytes]) -> tuple[bytes, ...]:
        """Return the holders that have granted us a key's changes, and whose stream lives."""
        live = self._live.get(where)
        return live.tellers() if live else ()

    @asynccontextmanager
    async def listen(
        self, where: tuple[str, bytes]
    ) -> AsyncIterator[trio.MemoryReceiveChannel[Record]]:
        """Yield a channel of what is and what comes under (kind, key), once holders tell us."""
        while (leaving := self._leaving.get(where)) is not None:
            await leaving.left.wait()  # its farewell would end our promise
        subscription = self._live.get(where)
        if subscription is None:
            subscription = self._live[where] = Subscription(where, *self._rooms)
            self._answers.own[where] = subscription.take
            self._finder.nursery.start_soon(self._run, subscription)
        with subscription.read() as records:
            try:
                await subscription.ready.wait()
                yield records
            finally:
                records.close()
                if subscription.unread:
                    self._end(subscription)
                    if not subscription.left.is_set():
                        self._leaving[where] = subscription
                    subscription.over.cancel()

    async def _run(self, subscription: Subscription) -> None:
        try:
            await subscription.run()
        finally:
            self._end(subscription)
            if self._leaving.get(subscription.where) is subscription:
                del self._leaving[subscription.where]

    def _end(self, subscription: Subscription) -> None:
        """Forget a subscription, whose place a new one may already have taken."""
        if self._live.get(subscription.where) is subscription:
            del self._live[subscription.where]
            self._answers.own.pop(subscription.where, None)
