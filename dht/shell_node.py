"""The DHT as the node uses it: join, put, get, listen, announce, locate, ban.

    Finder ── searches ──▶ Contacts ── calls ──▶ Calls ── streams ──▶ peers
    peers ──▶ Service ── quotas ──▶ Answers ──▶ RecordStore       Upkeep, Subscriptions

Everything asked goes through `Contacts`, everything believed through `Kinds`.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import TYPE_CHECKING, Any, Final

import trio

from dht import address, rpc
from dht.endpoint import MAX_ADDRS, Peer, merge_peers
from dht.harvest import Found
from dht.keys import KEY_BYTES
from dht.records import Kinds, Record
from dht.room import Room
from dht.routing import Table
from dht.rtt import Rtts
from dht.shell_answers import Answers
from dht.shell_contacts import Contacts
from dht.shell_find import Finder, PutResult
from dht.shell_listen import Subscriptions
from dht.shell_rpc import Calls
from dht.shell_serve import Service
from dht.shell_upkeep import Upkeep
from dht.standing import Ban, Standing, subject_of
from dht.store_bans import BanStore
from dht.store_records import RecordStore
from dht.subnets import Subnets
from dht.tally import Tally
from p2pnode.base.errors import NodeError, StorageFault
from p2pnode.base.identity import Identity, dht_id
from p2pnode.base.networks import Network
from p2pnode.base.ports import Clock, Randomness, Streams
from p2pnode.base.store import Database

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = logging.getLogger(__name__)

MAINTAIN_EVERY: Final = 60.0
MAINTAIN_ALONE: Final = 2.0  # while nobody answers
SAVED_PEERS: Final = 64  # tried at a start, besides the seeds
REFRESH_AFTER: Final = 3600.0  # seconds without news of a bucket


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
        room: Room | None = None,
        subnets: Subnets | None = None,
    ) -> None:
        room, subnets = room or Room(), subnets or Subnets()
        self.tally = Tally()
        self._streams, self._network, self._clock = streams, network, clock
        self._random, self._identity, self._kinds = randomness, identity, kinds
        if address.KIND not in kinds:
            kinds.register(address.KIND, address.validator(network))
        self._store = RecordStore(database, limit=room.records)
        self._ban_store = BanStore(database)
        rtts, tally = Rtts(), self.tally
        self._rtts = rtts
        self._calls = Calls(streams, network.protocol("dht"), rtts, tally, limit=room.links)
        self.table = Table(streams.node_id, min(k, rpc.MAX_CONTACTS), trio.current_time)
        self._standing = Standing(subnets, self._ban_store.all(clock.now()))
        self._contacts = Contacts(
            self._calls, self.table, rtts, self._standing, subnets, clock, anywhere=network.bondless
        )
        self._answers = Answers(
            streams, self._contacts, kinds, self._store, clock, tally, listens=room.listens
        )
        self._finder = Finder(
            streams, network, self._contacts, self._answers, kinds, self._store, clock, tally
        )
        self._upkeep = Upkeep(
            network, self._calls, self._contacts, self._finder,
            self._answers, kinds, self._store, clock, randomness, tally,
        )  # fmt: skip
        self._service = Service(
            self._answers.serve, self._answers.listens.forget,
            self._contacts.barred, self._contacts.note, subnets, tally,
        )  # fmt: skip
        self._contacts.met = self._upkeep.met
        self._contacts.banned = self._enforce
        self._nursery: trio.Nursery | None = None
        self._seeds: tuple[Peer, ...] = ()
        self._published: dict[str, tuple[Callable[[int], bytes], int, tuple[float, int]]] = {}
        self._subscriptions = Subscriptions(
            self._finder, self._answers, self._calls, self._contacts, kinds, clock, tally
        )

    async def run(self, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Serve and maintain until cancelled; started once others may call."""
        self._streams.refuse(self._contacts.barred)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._calls.start(nursery)
            self._contacts.start(nursery)
            self._finder.start(nursery)
            self._streams.serve(
                self._network.protocol("dht"), self._service.answer, limit=rpc.FRAME_LIMIT
            )
            nursery.start_soon(self._maintain)
            nursery.start_soon(self._upkeep.hand_over)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None
                self._finder.stop()
                with suppress(StorageFault):  # they are a help at the next start, no more
                    self._store.save_peers(list(self.table), self._clock.now())

    # ------------------------------------------------------------------ the network

    async def join(self, contacts: Sequence[Peer]) -> int:
        """Enter the network through seeds and peers met before; return how many answered."""
        self._seeds = tuple(contacts)
        known = merge_peers([*contacts, *self._store.peers(SAVED_PEERS)])
        answered = await self.meet(known)
        if answered:
            self._store.save_peers(list(self.table), self._clock.now())
        return answered

    async def meet(self, peers: Sequence[Peer]) -> int:
        """Ask peers that were found elsewhere whether they live, and get to know theirs.

        Returns how many answered.
        """
        answered: list[bytes] = []

        async def knock(peer: Peer) -> None:
            if await self._contacts.ping(peer, dialled=True):
                answered.append(peer.node_id)

        async with trio.open_nursery() as nursery:
            for peer in peers:
                if peer.node_id != self._streams.node_id:
                    nursery.start_soon(knock, peer)
        if answered:
            await self.find_nodes(dht_id(self._streams.node_id))
            await self.refresh()
        return len(answered)

    async def refresh(self, older: float = 0.0) -> None:
        """Look up a random id in each bucket without news for `older` seconds."""
        for low, high in self.table.lonely(older):
            self.table.touch(low)
            number = low + int.from_bytes(self._random.bytes(32), "big") % (high - low + 1)
            await self.find_nodes(number.to_bytes(KEY_BYTES, "big"))

    async def find_nodes(self, target: bytes) -> list[Peer]:
        """Return the live peers nearest to `target` that a lookup reaches, nearest first."""
        return await self._finder.nodes(target)

    def peers(self) -> tuple[Peer, ...]:
        """Return the contacts in the routing table."""
        return tuple(self.table)

    # ------------------------------------------------------------------ records

    async def put(self, kind: str, raw: bytes, *, whole: bool = False) -> PutResult:
        """Store a record at the k nodes closest to its key, ourselves included if we are one.

        Returns when most of them hold it, and goes on in the background; with `whole` when
        each has answered or failed. Raises InvalidRecord if it is not valid.
        """
        record = self._kinds.accept(kind, raw, self._clock.now())
        result = await self._finder.put(record, whole=whole)
        if result.acked and (take := self._answers.own.get((kind, record.key))):
            take((raw,))  # holders do not tell us what we told them
        return result

    async def get(self, kind: str, key: bytes, *, quorum: int = 0) -> Found:
        """Join what the k closest nodes and whoever is asked on the way hold under `key`.

        With a quorum it ends as soon as so many peers have shown a valid record.
        """
        return await self._finder.get(kind, key, quorum=quorum)

    def listen(
        self, kind: str, key: bytes
    ) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[Record]]:
        """Yield a channel of the records under a key: those there are, then each change.

        Ready once the holders that could be reached have agreed to tell us. The channel ends
        if its reader falls 1,024 records behind: listen again.
        """
        return self._subscriptions.listen((kind, key))

    def tellers(self, kind: str, key: bytes) -> tuple[bytes, ...]:
        """Return the nodes that have promised to tell us of changes under a key."""
        return self._subscriptions.tellers((kind, key))

    def stored(self, kind: str, key: bytes) -> tuple[Record, ...]:
        """Return the live records of a key that this node itself holds."""
        return tuple(self._store.all_of(kind, key, self._clock.now()))

    # ------------------------------------------------------------------ addresses

    async def announce(self) -> PutResult:
        """Publish where we listen, signed; `run` does it again before it expires."""
        self.publish(address.KIND, self._own_address, address.LIFETIME // 3)
        if not self._streams.addrs():
            return PutResult(0, 0, ())
        return await self.put(address.KIND, self._own_address(self._clock.now()))

    def publish(self, kind: str, make: Callable[[int], bytes], every: int) -> None:
        """Have `run` put `make(now)` every `every` seconds, first after that time."""
        due = trio.current_time() + every, self._clock.now() + every
        self._published[kind] = (make, every, due)

    async def locate(self, node_id: bytes) -> tuple[str, ...]:
        """Return where a node may be reached, the surest first; nothing if nobody knows."""
        link = self._calls.link_of(node_id)
        if link is not None and link.addrs:
            return link.addrs
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

    def _own_address(self, now: int) -> bytes:
        return address.sign(
            self._identity,
            self._network,
            self._streams.addrs(),
            seq=self._store.next_seq(address.KIND, now),
            expires_at=now + address.LIFETIME,
        )

    # ------------------------------------------------------------------ for people

    def view(self) -> dict[str, Any]:
        """Return counts for people and for metrics."""
        return {
            "contacts": len(self.table),
            "buckets": len(self.table.buckets),
            "streams": len(self._calls.links()),
            "records": self._store.count(),
            "kinds": self._store.kinds(),
            "listens": len(self._answers.listens),
            "subscriptions": len(self._subscriptions),
            "bans": len(self.bans()),
        }

    def peer_rows(self) -> list[dict[str, Any]]:
        """Return each contact: addresses, round-trip time (ms), silence (s), points held."""
        now, rows = trio.current_time(), []
        for peer in self.table:
            heard, mean = self._contacts.heard(peer.node_id), self._rtts.mean(peer.node_id)
            rows.append(
                {
                    "node_id": peer.node_id.hex(),
                    "addrs": list(peer.addrs),
                    "rtt_ms": None if mean is None else round(1000 * mean, 1),
                    "silent_s": None if heard is None else int(now - heard),
                    "points": round(self._standing.points(peer.node_id.hex(), self._clock.now())),
                }
            )
        return rows

    def bans(self) -> list[Ban]:
        """Return the bans in force, the latest first."""
        return self._standing.bans(self._clock.now())

    def ban(self, subject: str, reason: str, seconds: int) -> Ban:
        """Keep a key or a network out, for ever with 0 seconds. Raises InvalidRecord."""
        ban = self._standing.ban(subject, reason, seconds, self._clock.now())
        self._enforce([ban])
        return ban

    def lift(self, subject: str) -> Ban | None:
        """Let a subject in again; return the ban lifted, or None. Raises InvalidRecord."""
        name = subject_of("subject", subject)
        self._ban_store.remove(name)
        return self._standing.lift(name)

    async def lied(self, node_id: bytes) -> None:
        """Hold against a peer what it has served by another protocol and is not valid."""
        await self._contacts.lied(node_id)

    def _enforce(self, bans: list[Ban]) -> None:
        for peer in self.peers():
            if self._contacts.kept_out(peer):
                self.table.drop(peer.node_id)
        self._streams.close_barred()
        for ban in bans:
            self.tally.add("bans")
            try:
                self._ban_store.save(ban)
            except StorageFault as error:  # it holds until this node ends
                log.warning("a ban cannot be kept: %s", error)

    # ------------------------------------------------------------------ upkeep

    async def _maintain(self) -> None:
        while True:
            await trio.sleep(MAINTAIN_EVERY if len(self.table) else MAINTAIN_ALONE)
            try:
                await self._maintain_once()
            except NodeError as error:
                log.warning("upkeep of the DHT: %s", error)

    async def _maintain_once(self) -> None:
        self._store.purge(self._clock.now())
        if not len(self.table):
            await self.join(self._seeds)
        await self._upkeep.keep_warm()
        await self.refresh(older=REFRESH_AFTER)
        for kind, (make, every, due) in list(self._published.items()):
            # By either clock: one stands still while the machine sleeps, one may be set back.
            if due[0] <= trio.current_time() or due[1] <= self._clock.now():
                self.publish(kind, make, every)
                await self.put(kind, make(self._clock.now()))
        await self._upkeep.pass_on()
        self._store.save_peers(list(self.table), self._clock.now())
