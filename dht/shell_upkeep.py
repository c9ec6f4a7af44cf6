"""What a node does unasked: meet again, refresh, publish, pass records on.

Records are passed on twice: to a newcomer who is one of the k closest to their key, by the
nearest of those who had them; and from time to time among the k closest, each comparing what
it holds with three of the others (`dht.digest`) and moving only what is missing, both ways.
A key that others have stored to lately is left to them (Kademlia, section 2.5).
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import trio

from dht import digest, rpc
from dht.endpoint import Peer
from dht.keys import distance
from dht.records import Kinds, Record
from dht.shell_answers import Answers
from dht.shell_contacts import Contacts
from dht.shell_find import Finder
from dht.shell_rpc import Calls
from dht.standing import is_lie
from dht.store_records import Kept, RecordStore
from dht.tally import Tally
from p2pnode.base.errors import InvalidRecord, PeerFault, Unreachable
from p2pnode.base.identity import dht_id
from p2pnode.base.networks import Network
from p2pnode.base.ports import Clock, Randomness

log = logging.getLogger(__name__)

KEEP_WARM_AFTER: Final = 60.0  # seconds of silence before a close contact is asked again
PASS_ON_EVERY: Final = 3600.0  # seconds between two comparisons of a key
KEYS_A_ROUND: Final = 64  # keys compared at a time
PARTNERS: Final = 3  # holders that one is compared with
MAX_RANGES: Final = 64  # that differ, followed up in one comparison
MAX_PAGES: Final = 256  # read of one range
MAX_HANDED: Final = 512  # records given to one newcomer at a time
MAX_NEWCOMERS: Final = 64  # that wait for their records
COMPARE_DEADLINE: Final = 30.0  # seconds; one that answers ever so slowly holds up nobody
ROUND_DEADLINE: Final = 120.0  # of all comparisons at a time; what is left is due the next time
HAND_DEADLINE: Final = 60.0  # of the records given to one newcomer

Where = tuple[str, bytes]  # kind, key


class Upkeep:
    """Keeps close contacts warm and passes on what this node holds."""

    def __init__(
        self,
        network: Network,
        calls: Calls,
        contacts: Contacts,
        finder: Finder,
        answers: Answers,
        kinds: Kinds,
        store: RecordStore,
        clock: Clock,
        randomness: Randomness,
        tally: Tally,
    ) -> None:
        self._own, self._network, self._calls = calls.own, network, calls
        self._contacts, self._finder, self._answers = contacts, finder, answers
        self._kinds, self._store, self._clock = kinds, store, clock
        self._random, self._tally = randomness, tally
        self._due: dict[Where, float] = {}
        self._put_off: set[Where] = set()  # once each: else one store an hour would stop it
        self._into, self._newcomers = trio.open_memory_channel[Peer](MAX_NEWCOMERS)

    async def keep_warm(self) -> None:
        """Keep a stream open to the closest contacts: a cold dial takes 9 round trips."""
        close = self._contacts.table.closest(dht_id(self._own))
        self._calls.warm = frozenset(peer.node_id for peer in close)
        silent = trio.current_time() - KEEP_WARM_AFTER
        async with trio.open_nursery() as nursery:
            for peer in close:
                if (self._contacts.heard(peer.node_id) or 0.0) <= silent:
                    nursery.start_soon(self._contacts.ping, peer)

    # ------------------------------------------------------------------ newcomers

    def met(self, peer: Peer) -> None:
        """Take note of a newcomer in the table; `hand_over` gives it what is its to hold."""
        with suppress(trio.WouldBlock):  # the comparisons reach it later
            self._into.send_nowait(peer)

    async def hand_over(self) -> None:
        """Give newcomers their records, one newcomer at a time, until cancelled."""
        async for peer in self._newcomers:
            with trio.move_on_after(HAND_DEADLINE):
                await self._hand_to(peer)

    async def _hand_to(self, peer: Peer) -> None:
        given = 0
        try:
            for where in await self._theirs(peer):
                for record in self._store.all_of(*where, self._clock.now()):
                    if given >= MAX_HANDED or not await self._give(peer, record):
                        break
                    given += 1
        finally:
            if given:
                self._tally.add("records_handed_over", given)

    async def _theirs(self, peer: Peer) -> list[Where]:
        """Return the keys of which a newcomer is one of the k closest and we the nearest other."""
        table, place, own = self._contacts.table, dht_id(peer.node_id), dht_id(self._own)
        around = [distance(dht_id(p.node_id), own) for p in table.closest(own)]
        # Beyond a quarter of our neighbourhood some five others are nearer, so it is not us.
        far = around[-1] // 4 if len(around) == table.ksize else 1 << 256
        found = []
        for number, (kind, key) in enumerate(self._store.held_keys()):
            if number % KEYS_A_ROUND == 0:
                await trio.lowlevel.checkpoint()
            theirs, ours = distance(place, key), distance(own, key)
            if ours > far or not self._kinds.bounds(kind).passed_on:
                continue
            near = [p for p in table.closest(key) if p.node_id != peer.node_id]
            away = [distance(dht_id(p.node_id), key) for p in near]
            among = len(away) < table.ksize or theirs < away[-1]
            if among and (not away or ours < away[0]):
                found.append((kind, key))
        return found

    # ------------------------------------------------------------------ comparisons

    async def pass_on(self) -> None:
        """Compare the keys that are due with other holders; at most `KEYS_A_ROUND` of them."""
        now = trio.current_time()
        held = (w for w in self._store.held_keys() if self._kinds.bounds(w[0]).passed_on)
        self._due = {w: self._due.get(w) or now + self._soon() for w in held}
        self._put_off &= self._due.keys()
        for where, at in self._answers.touched.items():
            if where in self._due and where not in self._put_off:
                self._put_off.add(where)
                self._due[where] = max(self._due[where], at + PASS_ON_EVERY + self._soon() / 4)
        self._answers.touched.clear()
        due = sorted((w for w, at in self._due.items() if at <= now), key=lambda w: self._due[w])
        with trio.move_on_after(ROUND_DEADLINE):
            for where in due[:KEYS_A_ROUND]:
                self._due[where] = now + PASS_ON_EVERY
                self._put_off.discard(where)
                await self._compare_with_some(where)

    async def _compare_with_some(self, where: Where) -> None:
        nodes = await self._finder.nodes(where[1])
        partners = self._some(nodes[: self._contacts.table.ksize])
        for peer in partners:
            try:
                with trio.move_on_after(COMPARE_DEADLINE) as comparing:
                    await self.compare(peer, where)
                if comparing.cancelled_caught:
                    self._tally.add("comparisons_late")
            except (Unreachable, PeerFault) as error:
                log.debug("no comparison with %s: %s", peer.node_id.hex()[:16], error)
            except InvalidRecord:
                await self._contacts.lied(peer.node_id)

    async def compare(self, peer: Peer, where: Where) -> None:
        """Make a peer and us hold the same under a key. Raises Unreachable and the like."""
        self._tally.add("comparisons")
        ranges: list[tuple[bytes, bytes]] = [(b"", b"")]
        for _ in range(MAX_RANGES):
            if not ranges:
                return
            low, high = ranges.pop()
            told = await self._contacts.call(peer, rpc.DIGEST, (*where, low, high))
            parts = digest.parts_in(told, low, high)
            items = self._store.items(*where, self._clock.now())
            for start, end, count in digest.differing(items, low, parts):
                ours = sum(digest.between(at, start, end) for at, _ in items)
                few = max(count, ours) <= digest.FEW or not min(count, ours)
                if not few and (start, end) != (low, high):
                    ranges.append((start, end))
                else:
                    await self._level(peer, where, start, end)

    async def _level(self, peer: Peer, where: Where, low: bytes, high: bytes) -> None:
        """Read a range of the peer's, and give it what it lacks there."""
        theirs = await self._read(peer, where, low, high)
        for record in self._store.all_of(*where, self._clock.now()):
            at = record.owner + record.id
            lacks = digest.between(at, low, high) and theirs.get(at) != record.raw
            if lacks and not await self._give(peer, record):
                return

    async def _read(self, peer: Peer, where: Where, low: bytes, high: bytes) -> dict[bytes, bytes]:
        """Return, by place, what a peer holds in a range, and keep what is new to us."""
        theirs: dict[bytes, bytes] = {}
        cursor = low[:-1]  # sorts before `low`, and not much before it
        for _ in range(MAX_PAGES):
            told = await self._contacts.call(peer, rpc.FIND_VALUE, (*where, cursor))
            page = rpc.page_in(told, self._network)
            for raw in page.raws:
                try:
                    record = self._kinds.admit(*where, raw, self._clock.now())
                except InvalidRecord as error:
                    if is_lie(error):
                        raise
                    continue  # it expires about now
                at = record.owner + record.id
                if high and at >= high:
                    return theirs
                if at >= low:
                    theirs[at] = raw
                    if self._answers.keep(record) is Kept.NEW:
                        self._tally.add("records_fetched")
            if page.cursor <= cursor:
                break  # the last page, or one that leads back
            cursor = page.cursor
        return theirs

    async def _give(self, peer: Peer, record: Record) -> bool:
        """Store at a peer; tell whether it takes such records."""
        args = (record.kind, record.key, record.raw)
        try:
            rpc.stored_in(await self._contacts.call(peer, rpc.STORE, args), self._network)
        except (Unreachable, PeerFault) as error:
            log.debug("%s does not take a record: %s", peer.node_id.hex()[:16], error)
            return False
        except InvalidRecord:
            await self._contacts.lied(peer.node_id)
            return False
        self._tally.add("records_given")
        return True

    def _soon(self) -> float:
        """Return a random part of the interval, so that holders do not act at once."""
        share = int.from_bytes(self._random.bytes(4), "big") / 2**32
        return share * PASS_ON_EVERY

    def _some(self, peers: Sequence[Peer]) -> list[Peer]:
        keyed = [(self._random.bytes(8), peer) for peer in peers]
        return [peer for _, peer in sorted(keyed, key=lambda pair: pair[0])][:PARTNERS]
