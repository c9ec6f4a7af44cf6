"""What a node does unasked: meet again, refresh, publish, pass records on.

Records are passed on twice: to a newcomer who is one of the k closest to their key, by the
nearest of those who had them; and from time to time among the k closest, each comparing what
it holds with three of the others (`dht.digest`) and moving only what is missing, both ways.
Who is one of them no more gives what they lack and fetches nothing: what he has will expire.
A key that others have stored to lately is left to them (Kademlia, section 2.5).
"""

import logging
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final

import trio

from dht import rpc
from dht.endpoint import Peer
from dht.holdings import Where
from dht.keys import distance
from dht.records import Kinds, Record, better
from dht.shell_answers import Answers
from dht.shell_contacts import Contacts
from dht.shell_find import Finder
from dht.shell_rpc import Calls
from dht.standing import is_lie
from dht.store_records import Kept, RecordStore
from dht.tally import Tally
from p2pnode.base import ranges
from p2pnode.base.errors import InvalidRecord, NodeError, PeerFault, Unreachable
from p2pnode.base.identity import dht_id
from p2pnode.base.networks import Network
from p2pnode.base.ports import Clock, Randomness

log = logging.getLogger(__name__)

KEEP_WARM_AFTER: Final = 60.0  # seconds of silence before a close contact is asked again
PASS_ON_EVERY: Final = 3600.0  # seconds between two comparisons of a key
ROUND_EVERY: Final = 60.0  # seconds between two rounds of comparisons, or longer
KEYS_A_ROUND: Final = 64  # keys compared at a time, or as many more as `PASS_ON_EVERY` asks for
MAX_KEYS_A_ROUND: Final = 256  # at the most: 15,360 keys an hour, each some 70 ms of a core
KEYS_A_STEP: Final = 256  # looked at before others get their turn
PARTNERS: Final = 3  # holders that one is compared with
MAX_RANGES: Final = 64  # that differ, followed up in one comparison
MAX_PAGES: Final = 256  # read of one range
MAX_HANDED: Final = 512  # records given to one newcomer at a time
MAX_NEWCOMERS: Final = 64  # that wait for their records
TURNS_TO_TELL: Final = 8  # of other tasks for each record read: to push one takes about four
COMPARE_DEADLINE: Final = 30.0  # seconds; one that answers ever so slowly holds up nobody
ROUND_DEADLINE: Final = 120.0  # of all comparisons at a time; what is left is due the next time
HAND_DEADLINE: Final = 60.0  # of the records given to one newcomer
MAX_REFUSALS: Final = 3  # in a row: the peer has no room


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
        self._round_at: float | None = None  # when the last round began
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
            try:
                await self._hand_to(peer)
            except NodeError as error:  # a stranger and our failing disk do not end the node
                log.warning("no records for %s: %s", peer.node_id.hex()[:16], error)

    async def _hand_to(self, peer: Peer) -> None:
        with trio.move_on_after(HAND_DEADLINE):
            keys, now = await self._theirs(peer), self._clock.now()
            records = (record for where in keys for record in self._store.all_of(*where, now))
            try:
                await self._give_all(peer, islice(records, MAX_HANDED), handed=True)
            except (Unreachable, PeerFault) as error:
                log.debug("no more for %s: %s", peer.node_id.hex()[:16], error)
            except InvalidRecord:
                await self._contacts.lied(peer.node_id)

    async def _theirs(self, peer: Peer) -> list[Where]:
        """Return the keys of which a newcomer is one of the k closest and we the nearest other."""
        table, place, own = self._contacts.table, dht_id(peer.node_id), dht_id(self._own)
        around = [distance(dht_id(p.node_id), own) for p in table.closest(own)]
        # Beyond a quarter of our neighbourhood some five others are nearer, so it is not us.
        far = around[-1] // 4 if len(around) == table.ksize else 1 << 256
        found = []
        for number, (kind, key) in enumerate(self._store.held_keys()):
            if number % KEYS_A_STEP == 0:
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
        """Compare keys that are due with other holders: the longest due, a round's share."""
        now, known = trio.current_time(), {}
        for number, where in enumerate(self._store.held_keys()):
            if number % KEYS_A_STEP == 0:
                await trio.lowlevel.checkpoint()
            if self._kinds.bounds(where[0]).passed_on:
                known[where] = self._due.get(where) or now + self._soon()
        self._due = known
        self._put_off &= self._due.keys()
        for where, at in self._answers.touched.items():
            if where in self._due and where not in self._put_off:
                self._put_off.add(where)
                self._due[where] = max(self._due[where], at + PASS_ON_EVERY + self._soon() / 4)
        self._answers.touched.clear()
        due = sorted((w for w, at in self._due.items() if at <= now), key=lambda w: self._due[w])
        with trio.move_on_after(ROUND_DEADLINE):
            for where in due[: self._share(now)]:
                self._due[where] = now + PASS_ON_EVERY
                self._put_off.discard(where)
                await self._compare_with_some(where)

    def _share(self, now: float) -> int:
        """Return how many keys to compare now, so that each has its turn in `PASS_ON_EVERY`."""
        since = ROUND_EVERY if self._round_at is None else max(ROUND_EVERY, now - self._round_at)
        self._round_at = now
        share = math.ceil(len(self._due) * since / PASS_ON_EVERY)
        return min(max(KEYS_A_ROUND, share), MAX_KEYS_A_ROUND)

    async def _compare_with_some(self, where: Where) -> None:
        nodes, k = await self._finder.nodes(where[1]), self._contacts.table.ksize
        partners, ours = self._some(nodes[:k]), distance(dht_id(self._own), where[1])
        # Whoever fetched what others are to hold would have every key in the end.
        away = len(nodes) >= k and ours > distance(dht_id(nodes[k - 1].node_id), where[1])
        for peer in partners:
            try:
                with trio.move_on_after(COMPARE_DEADLINE) as comparing:
                    await self.compare(peer, where, give_only=away)
                if comparing.cancelled_caught:
                    self._tally.add("comparisons_late")
            except (Unreachable, PeerFault) as error:
                log.debug("no comparison with %s: %s", peer.node_id.hex()[:16], error)
            except InvalidRecord:
                await self._contacts.lied(peer.node_id)

    async def compare(self, peer: Peer, where: Where, *, give_only: bool = False) -> None:
        """Make a peer and us hold the same under a key, or it what we hold with `give_only`.

        Ends early if the peer has no room. Raises Unreachable, PeerFault, InvalidRecord.
        """
        self._tally.add("comparisons")
        to_ask: list[tuple[bytes, bytes]] = [(b"", b"")]
        for _ in range(MAX_RANGES):
            if not to_ask:
                return
            low, high = to_ask.pop()
            told = await self._contacts.call(peer, rpc.DIGEST, (*where, low, high))
            parts = ranges.parts_in(told, low, high)
            items = self._store.items(*where, self._clock.now())
            for start, end, count in ranges.differing(items, low, parts):
                ours = sum(ranges.between(at, start, end) for at, _ in items)
                if give_only and not ours:
                    continue
                few = max(count, ours) <= ranges.FEW or not min(count, ours)
                if not few and (start, end) != (low, high):
                    to_ask.append((start, end))
                elif not await self._level(peer, where, start, end, fetch=not give_only):
                    return

    async def _level(
        self, peer: Peer, where: Where, low: bytes, high: bytes, *, fetch: bool
    ) -> bool:
        """Read a range of the peer's and give it what it lacks there; False if it has no room."""
        theirs = await self._read(peer, where, low, high, fetch=fetch)
        lacking = []
        for record in self._store.all_of(*where, self._clock.now()):
            at = record.owner + record.id
            if ranges.between(at, low, high):
                held = theirs.get(at)
                if held is None or (held.raw != record.raw and better(held, record) is record):
                    lacking.append(record)
        return await self._give_all(peer, lacking, handed=False)

    async def _read(
        self, peer: Peer, where: Where, low: bytes, high: bytes, *, fetch: bool
    ) -> dict[bytes, Record]:
        """Return, by place, what a peer holds in a range; `fetch` keeps what is new to us."""
        theirs: dict[bytes, Record] = {}
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
                    theirs[at] = record
                    if fetch and self._answers.keep(record) is Kept.NEW:
                        self._tally.add("records_fetched")
                    for _ in range(TURNS_TO_TELL):  # or a page overflows who listens to us
                        await trio.lowlevel.checkpoint()
            if page.cursor <= cursor:
                break  # the last page, or one that leads back
            cursor = page.cursor
        return theirs

    async def _give_all(self, peer: Peer, records: Iterable[Record], *, handed: bool) -> bool:
        """Store at a peer and count what it holds then; False if it refuses three in a row."""
        refused = 0
        for record in records:
            if await self._give(peer, record):
                self._tally.add("records_handed_over" if handed else "records_given")
                refused = 0
            else:
                refused += 1
            if refused >= MAX_REFUSALS:
                return False
        return True

    async def _give(self, peer: Peer, record: Record) -> bool:
        """Store at a peer; tell whether it holds the record now."""
        args = (record.kind, record.key, record.raw)
        try:
            told = await self._contacts.call(peer, rpc.STORE, args)
        except PeerFault as error:
            log.debug("%s does not take a record: %s", peer.node_id.hex()[:16], error)
            return False
        held, _ = rpc.stored_in(told, self._network)
        return held

    def _soon(self) -> float:
        """Return a random part of the interval, so that holders do not act at once."""
        share = int.from_bytes(self._random.bytes(4), "big") / 2**32
        return share * PASS_ON_EVERY

    def _some(self, peers: Sequence[Peer]) -> list[Peer]:
        keyed = [(self._random.bytes(8), peer) for peer in peers]
        return [peer for _, peer in sorted(keyed, key=lambda pair: pair[0])][:PARTNERS]
