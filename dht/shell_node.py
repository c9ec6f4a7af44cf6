"""The DHT as the node uses it: join, put, get, announce, locate.

Everything asked goes through `Contacts`, everything believed through `Kinds`.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import trio

from dht import address, rpc
from dht.endpoint import MAX_ADDRS, Peer, merge_peers
from dht.harvest import Harvest, Lookup
from dht.keys import distance
from dht.records import Kinds, Record
from dht.shell_answers import Answers
from dht.shell_contacts import Contacts
from dht.shell_lookup import Crawl, Question
from dht.shell_rpc import Calls
from dht.store_records import RecordStore
from p2pnode.base.errors import (
    InvalidRecord,
    LocalFault,
    NodeError,
    PeerFault,
    StorageFault,
    Unreachable,
)
from p2pnode.base.identity import Identity, dht_id
from p2pnode.base.networks import Network
from p2pnode.base.ports import Clock, Randomness, Streams
from p2pnode.base.store import Database

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = logging.getLogger(__name__)

MAX_PAGES: Final = 128  # of one peer in one lookup
MAX_LIES: Final = 8  # bad records in one lookup before the peer is dropped
MAINTAIN_EVERY: Final = 60.0
MAINTAIN_ALONE: Final = 2.0  # while nobody answers
SAVED_PEERS: Final = 64  # tried at a start, besides the seeds


@dataclass(frozen=True, slots=True)
class PutResult:
    """How a put went: `acked` of the `closest` nodes hold the record now."""

    acked: int
    closest: int
    holders: tuple[bytes, ...]


class Dht:
    """One node of the DHT; `run` serves it, the other methods work while it runs."""

    def __init__(
        self,
        streams: Streams,
        network: Network,
        clock: Clock,
        randomness: Randomness,
        database: Database,
        kinds: Kinds,
        k: int = 20,
        *,
        identity: Identity,
    ) -> None:
        self._streams = streams
        self._network = network
        self._clock = clock
        self._random = randomness
        self._identity = identity
        self._kinds = kinds
        self._kinds.setdefault(address.KIND, address.validator(network))
        self._k = min(k, rpc.MAX_CONTACTS)
        self._store = RecordStore(database)
        self._calls = Calls(streams, network.protocol("dht"))
        self._contacts = Contacts(self._calls, streams.node_id, self._k)
        self._answers = Answers(streams, self._contacts, kinds, self._store, clock)
        self.table = self._contacts.table
        self._running = False
        self._seeds: tuple[Peer, ...] = ()
        self._published: dict[str, tuple[Callable[[int], bytes], int, float]] = {}

    async def run(self, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Serve and maintain until cancelled; started once others may call."""
        async with trio.open_nursery() as nursery:
            self._calls.start(nursery, self._answers.serve)
            self._contacts.start(nursery)
            self._running = True
            nursery.start_soon(self._maintain)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._running = False
                with suppress(StorageFault):  # they are a help at the next start, no more
                    self._store.save_peers(list(self.table), self._clock.now())

    # ------------------------------------------------------------------ for the node

    async def join(self, contacts: Sequence[Peer]) -> int:
        """Enter the network through seeds and peers met before; return how many answered."""
        self._seeds = tuple(contacts)
        own = self._streams.node_id
        known = merge_peers([*contacts, *self._store.peers(SAVED_PEERS)])
        answered: list[bytes] = []

        async def knock(peer: Peer) -> None:
            if await self._contacts.ping(peer):
                answered.append(peer.node_id)

        async with trio.open_nursery() as nursery:
            for peer in known:
                if peer.node_id != own:
                    nursery.start_soon(knock, peer)
        if answered:
            await self.find_nodes(dht_id(own))
            await self.refresh()
            self._store.save_peers(list(self.table), self._clock.now())
        return len(answered)

    async def refresh(self, older: float = 0.0) -> None:
        """Look up a random id in each bucket without news for `older` seconds."""
        for low, high in self.table.lonely(older):
            number = low + int.from_bytes(self._random.bytes(32), "big") % (high - low + 1)
            await self.find_nodes(number.to_bytes(32, "big"))

    async def find_nodes(self, target: bytes) -> list[Peer]:
        """Return the live peers nearest to `target` that a lookup reaches, nearest first."""

        async def ask(peer: Peer, _depth: int) -> Iterable[Peer] | None:
            try:
                told = await self._contacts.call(peer, rpc.FIND_NODE, (target,))
                return rpc.peers_in(told, self._network)
            except (Unreachable, PeerFault):
                return None
            except InvalidRecord:
                await self._contacts.fail(peer.node_id)
                return None

        return await self._crawl(target, ask).find()

    async def put(self, kind: str, raw: bytes) -> PutResult:
        """Store a record at the k nodes closest to its key, ourselves included if we are one.

        Raises InvalidRecord if it is not valid.
        """
        record = self._kinds.accept(kind, raw, self._clock.now())
        nodes = await self.find_nodes(record.key)
        if self._streams.addrs():
            nodes.append(Peer(self._streams.node_id, self._streams.addrs()))
        nodes.sort(key=lambda peer: distance(dht_id(peer.node_id), record.key))
        asked: dict[bytes, bool] = {}  # who answered, and whether he holds it now

        async def give(peer: Peer) -> None:
            with suppress(Unreachable):  # then the next nearest takes the place
                asked[peer.node_id] = await self._give(peer, record)

        rest = nodes
        while rest and len(asked) < self._k:
            count = self._k - len(asked)
            batch, rest = rest[:count], rest[count:]
            async with trio.open_nursery() as nursery:
                for peer in batch:
                    nursery.start_soon(give, peer)
        holders = [node_id for node_id, holds in asked.items() if holds]
        return PutResult(len(holders), min(self._k, len(nodes)), tuple(holders))

    async def get(self, kind: str, key: bytes) -> Lookup:
        """Join what the k closest nodes and whoever is asked on the way hold under `key`."""
        now = self._clock.now()
        harvest = Harvest(self._kinds, kind, key, now)
        for record in self._store.all_of(kind, key, now):
            harvest.take(record.raw, self._streams.node_id, 0)

        async def ask(peer: Peer, depth: int) -> Iterable[Peer] | None:
            try:
                return await self._ask_value(peer, depth, kind, key, harvest)
            except (Unreachable, PeerFault):
                return None
            except InvalidRecord:
                await self._contacts.fail(peer.node_id)
                return None

        nodes = await self._crawl(key, ask).find()
        return harvest.result(peer.node_id for peer in nodes[: self._k])

    async def announce(self) -> PutResult:
        """Publish where we listen, signed; `run` does it again before it expires."""
        self.publish(address.KIND, self._own_address, address.LIFETIME // 3)
        if not self._streams.addrs():
            return PutResult(0, 0, ())
        return await self.put(address.KIND, self._own_address(self._clock.now()))

    def publish(self, kind: str, make: Callable[[int], bytes], every: int) -> None:
        """Have `run` put `make(now)` every `every` seconds, first after that time."""
        self._published[kind] = (make, every, trio.current_time() + every)

    async def locate(self, node_id: bytes) -> tuple[str, ...]:
        """Return where a node may be reached, the surest first; nothing if nobody knows."""
        if live := self._calls.addrs_of(node_id):
            return live
        found = await self.get(address.KIND, address.address_key(self._network, node_id))
        addrs: dict[str, None] = {}
        for record in found.records:
            if record.owner == node_id:
                signed = address.parse(record.raw, self._network, self._clock.now())
                addrs.update(dict.fromkeys(signed.addrs))
        saved = self._store.peer(node_id)
        addrs.update(dict.fromkeys(self.table.addrs_of(node_id)))
        addrs.update(dict.fromkeys(saved.addrs if saved else ()))
        return tuple(addrs)[:MAX_ADDRS]

    def peers(self) -> tuple[Peer, ...]:
        """Return the contacts in the routing table."""
        return tuple(self.table)

    def view(self) -> dict[str, Any]:
        """Return counts for people: contacts, buckets, open streams, records by kind."""
        return {
            "contacts": len(self.table),
            "buckets": len(self.table.buckets),
            "streams": len(self._calls.links()),
            "records": self._store.count(),
            "kinds": self._store.kinds(),
        }

    def stored(self, kind: str, key: bytes) -> tuple[Record, ...]:
        """Return the live records of a key that this node itself holds."""
        return tuple(self._store.all_of(kind, key, self._clock.now()))

    # ------------------------------------------------------------------ asking

    def _crawl(self, target: bytes, ask: Question) -> Crawl:
        if not self._running:
            raise LocalFault("the DHT is not running")
        start = self.table.closest(target)
        return Crawl(target, start, self._k, self._streams.node_id, ask)

    async def _ask_value(
        self, peer: Peer, depth: int, kind: str, key: bytes, harvest: Harvest
    ) -> Iterable[Peer]:
        """Read all pages a peer has for a key; returns the peers it names."""
        named: tuple[Peer, ...] = ()
        cursor, lies = b"", 0
        for number in range(MAX_PAGES):
            told = await self._contacts.call(peer, rpc.FIND_VALUE, (kind, key, cursor))
            page = rpc.page_in(told, self._network)
            named = named if number else page.peers
            lies += sum(not harvest.take(raw, peer.node_id, depth) for raw in page.raws)
            if lies > MAX_LIES:
                raise InvalidRecord("records", "are too often invalid")
            if page.cursor <= cursor:
                break  # the last page, or one that leads back
            cursor = page.cursor
        return named

    async def _give(self, peer: Peer, record: Record) -> bool:
        """Tell whether the peer holds the record now. Raises Unreachable."""
        if peer.node_id == self._streams.node_id:
            return self._keep(record)
        try:
            stored = await self._contacts.call(
                peer, rpc.STORE, (record.kind, record.key, record.raw)
            )
        except PeerFault as error:
            log.debug("%s did not store: %s", peer.node_id.hex()[:16], error)
            return False
        return bool(stored == (1,))

    def _keep(self, record: Record) -> bool:
        try:
            return self._store.put(record)
        except StorageFault as error:
            log.warning("the DHT cannot store: %s", error)
            return False

    # ------------------------------------------------------------------ upkeep

    async def _maintain(self) -> None:
        while True:
            await trio.sleep(MAINTAIN_EVERY if len(self.table) else MAINTAIN_ALONE)
            try:
                await self._upkeep()
            except NodeError as error:
                log.warning("upkeep of the DHT: %s", error)

    async def _upkeep(self) -> None:
        self._store.purge(self._clock.now())
        if not len(self.table):
            await self.join(self._seeds)
        await self.refresh(older=3600.0)
        for kind, (make, every, due) in list(self._published.items()):
            if due <= trio.current_time():
                self._published[kind] = (make, every, trio.current_time() + every)
                await self.put(kind, make(self._clock.now()))
        self._store.save_peers(list(self.table), self._clock.now())

    def _own_address(self, now: int) -> bytes:
        return address.sign(
            self._identity,
            self._network,
            self._streams.addrs(),
            seq=self._store.next_seq(address.KIND, now),
            expires_at=now + address.LIFETIME,
        )
