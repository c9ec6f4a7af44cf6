"""Finding, putting and getting: what a search asks each peer, and what it makes of the answer."""

import logging
from collections.abc import Awaitable
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from dht import rpc
from dht.endpoint import Peer
from dht.harvest import Found, Harvest
from dht.keys import distance
from dht.lookup import Lookup, Question
from dht.placement import Placement, reach
from dht.records import Kinds, Record
from dht.shell_answers import Answers
from dht.shell_contacts import Contacts
from dht.shell_search import SEARCH_DEADLINE, find
from dht.store_records import RecordStore
from dht.tally import Tally
from p2pnode.base.errors import InvalidRecord, LocalFault, PeerFault, StorageFault, Unreachable
from p2pnode.base.identity import dht_id
from p2pnode.base.networks import Network
from p2pnode.base.ports import Clock, Streams

log = logging.getLogger(__name__)

MAX_PAGES: Final = 512  # of one peer in one lookup
MAX_LIES: Final = 8  # bad records in one answer's pages before the peer is dropped
START: Final = 3  # times k contacts of ours to begin with, should the nearest have died
PATHS: Final = 2  # disjoint ones, for reads that matter


@dataclass(frozen=True, slots=True)
class PutResult:
    """How a put stands: `acked` of the `closest` nodes hold the record now.

    Held by this node alone it is not published: `acked` is 0 then.
    """

    acked: int
    closest: int
    holders: tuple[bytes, ...]


class Finder:
    """The three searches over one node's contacts."""

    def __init__(
        self,
        streams: Streams,
        network: Network,
        contacts: Contacts,
        answers: Answers,
        kinds: Kinds,
        store: RecordStore,
        clock: Clock,
        tally: Tally,
    ) -> None:
        self._streams, self._network, self._contacts = streams, network, contacts
        self._answers, self._kinds, self._store = answers, kinds, store
        self._clock, self._tally = clock, tally
        self._nursery: trio.Nursery | None = None

    def start(self, nursery: trio.Nursery) -> None:
        """Begin to search; what outlives a call lives in `nursery`."""
        self._nursery = nursery

    def stop(self) -> None:
        """Refuse further searches."""
        self._nursery = None

    async def nodes(self, target: bytes) -> list[Peer]:
        """Return the live peers nearest to `target` that a lookup reaches, nearest first."""
        lookup = self._lookup(target)
        await find(self._contacts, self.nursery, lookup, partial(self._ask_node, lookup))
        return lookup.closest()

    async def get(self, kind: str, key: bytes, *, quorum: int = 0) -> Found:
        """Join what holders have under `key`: all of the k closest, or the first `quorum`.

        All are reached over disjoint paths; a quorum counts peers with a valid record.
        """
        harvest = Harvest(self._kinds, kind, key, self._clock.now())
        for record in self._store.all_of(kind, key, self._clock.now()):
            harvest.take(record.raw, self._streams.node_id, 0)
        lookup = self._lookup(key, paths=1 if quorum else PATHS, quorum=quorum)

        async def ask(question: Question) -> None:
            with trio.move_on_after(SEARCH_DEADLINE) as reading:
                await self._ask_value(lookup, question, harvest)
            if reading.cancelled_caught:
                raise Unreachable("the peer has pages without end")

        async def asking(question: Question) -> bool:
            return await self._judged(question.peer, ask(question))

        await find(self._contacts, self.nursery, lookup, asking)
        return harvest.result(lookup.closest()[: lookup.k])

    async def put(self, record: Record, *, whole: bool) -> PutResult:
        """Store at the k closest; returns once most of them hold it, or with `whole` all."""
        # Our own neighbourhood looks sparse while contacts are lost; the key's seldom does too.
        near = reach(self._streams.node_id, self._neighbours(), self._contacts.table.ksize)
        near = min(near, self._farthest(record.key) // 2)
        own = None
        if self._streams.addrs():
            own = distance(dht_id(self._streams.node_id), record.key)
        lookup = self._lookup(record.key, sure=near)
        surely = own is not None and own <= self._farthest(record.key)
        kept = surely and self.keep(record)
        placement = Placement(lookup, near, own, held=kept or not surely)
        until = (lambda: False) if whole else (lambda: placement.settled)
        asking = partial(self._give, placement, record)
        await find(self._contacts, self.nursery, placement, asking, until)
        if placement.keeps and not surely:
            kept = self.keep(record)
        own_holds = placement.keeps and kept
        holders = [self._streams.node_id] * own_holds + placement.holders()
        acked = len(holders) if placement.holders() else 0
        return PutResult(acked, max(placement.closest, len(holders)), tuple(holders))

    async def page(self, peer: Peer, where: tuple[str, bytes], cursor: bytes) -> rpc.Page:
        """Read what a peer holds under (kind, key) behind a cursor.

        Raises Unreachable, PeerFault, InvalidRecord.
        """
        told = await self._contacts.call(peer, rpc.FIND_VALUE, (*where, cursor))
        return rpc.page_in(told, self._network)

    def keep(self, record: Record) -> bool:
        """Hold a record ourselves; tell whether we do now."""
        try:
            return self._answers.keep(record).held
        except StorageFault as error:
            log.warning("the DHT cannot store: %s", error)
            return False

    # ------------------------------------------------------------------ questions

    def _lookup(self, target: bytes, *, paths: int = 1, quorum: int = 0, sure: int = -1) -> Lookup:
        self._tally.add("lookups")
        k = self._contacts.table.ksize
        return Lookup(
            target,
            self._contacts.table.closest(target, START * k),
            own=self._streams.node_id,
            k=k,
            paths=paths,
            quorum=quorum,
            sure=sure,
            group_of=self._contacts.group_of,
        )

    async def _ask_node(self, lookup: Lookup, question: Question) -> bool:
        async def ask() -> None:
            told = await self._contacts.call(question.peer, rpc.FIND_NODE, (lookup.target,))
            lookup.answer(question.peer.node_id, self._named(rpc.peers_in(told, self._network)))

        return await self._judged(question.peer, ask())

    async def _ask_value(self, lookup: Lookup, question: Question, harvest: Harvest) -> None:
        """Read all pages a peer has for a key."""
        peer, cursor, good = question.peer, b"", False
        named: list[Peer] = []
        for number in range(MAX_PAGES):
            args = (harvest.kind, harvest.key, cursor)
            page = rpc.page_in(await self._contacts.call(peer, rpc.FIND_VALUE, args), self._network)
            named = named if number else self._named(page.peers)
            for raw in page.raws:
                good |= harvest.take(raw, peer.node_id, question.depth)
                if harvest.lies(peer.node_id) > MAX_LIES:
                    raise InvalidRecord("records", "are too often invalid")
            if page.cursor <= cursor or harvest.spent(peer.node_id):
                break  # the last page, one that leads back, or more than a key may hold
            cursor = page.cursor
        lookup.answer(peer.node_id, named, good=good)

    async def _give(self, placement: Placement, record: Record, question: Question) -> bool:
        peer = question.peer

        async def store() -> None:
            args = (record.kind, record.key, record.raw)
            try:
                told = await self._contacts.call(peer, rpc.STORE, args)
            except PeerFault as error:
                log.debug("%s did not store: %s", peer.node_id.hex()[:16], error)
                placement.stored(peer.node_id, (), held=False)
                return
            held, named = rpc.stored_in(told, self._network)
            placement.stored(peer.node_id, self._named(named), held=held)

        async def ask() -> None:
            told = await self._contacts.call(peer, rpc.FIND_NODE, (record.key,))
            placement.answer(peer.node_id, self._named(rpc.peers_in(told, self._network)))

        return await self._judged(peer, store() if question.store else ask())

    async def _judged(self, peer: Peer, asking: Awaitable[None]) -> bool:
        """Await one question; tell whether it was answered by the protocol."""
        try:
            await asking
        except (Unreachable, PeerFault):
            return False
        except InvalidRecord as error:
            log.info("%s answers wrongly: %s", peer.node_id.hex()[:16], error)
            self._tally.add("lies")
            await self._contacts.lied(peer.node_id)
            return False
        return True

    # ------------------------------------------------------------------ around us

    @property
    def nursery(self) -> trio.Nursery:
        """Return where searches live. Raises LocalFault while there is no such place."""
        if self._nursery is None:
            raise LocalFault("the DHT is not running")
        return self._nursery

    def _named(self, peers: tuple[Peer, ...]) -> list[Peer]:
        return self._contacts.dialable(peers)

    def _neighbours(self) -> list[Peer]:
        return self._contacts.table.closest(dht_id(self._streams.node_id))

    def _farthest(self, key: bytes) -> int:
        """Return how far from a key the farthest of its k closest contacts is."""
        table = self._contacts.table
        closest = table.closest(key)
        if len(closest) < table.ksize:
            return 1 << 256
        return distance(dht_id(closest[-1].node_id), key)
