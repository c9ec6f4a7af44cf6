"""What the book's tests share: makers, streams and a crowd in memory that may lose and lie."""

import random
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

import trio
from orderbook_kit import NET, NOW, Counted, FakeClock, offer

from orderbook import book_wire, market_server
from orderbook.offer import Offer
from orderbook.shell_sync import Sync
from orderbook.store_book import BookStore
from p2pnode.base import ranges, wire
from p2pnode.base.errors import InvalidRecord, NodeError, Unreachable
from p2pnode.base.identity import Identity
from p2pnode.base.store import Database

EUR = "EUR"
BOOK = NET.protocol("book")


def who(name):
    return Identity.grind(NET, name.encode())


def signed(maker, *, slot=0, seq=1, now=NOW, **change):
    """Return an offer of `maker` as it travels."""
    values = {"maker": maker.node_id, "slot": slot, "seq": seq, "expires_at": now + 1500}
    return offer(**(values | change)).to_wire(maker)


def many(count, *, makers=None, seq=1, now=NOW, prefix="m"):
    """Return that many offers of as many makers, or of a few with many slots."""
    names = [who(f"{prefix}{n}") for n in range(makers or count)]
    return [signed(names[n % len(names)], slot=n // len(names), seq=seq, now=now)
            for n in range(count)]  # fmt: skip


def parsed(raw, now=NOW):
    return Offer.from_wire(raw, network=NET, now=now)


def withdrawal(maker, raw, seq, now=NOW):
    made = parsed(raw, now).withdrawal()
    return replace(made, seq=seq, expires_at=now + 1500).to_wire(maker)


class Pipe:
    """One end of a stream in memory: whole frames, at most `room` of them under way."""

    def __init__(self, peer, into, out, limit):
        self.peer, self.host, self.addr = peer, "", ""
        self._into, self._out, self._limit = into, out, limit

    async def send(self, payload):
        if not 0 < len(payload) <= self._limit:
            raise InvalidRecord("frame", "is too long")
        try:
            await self._into.send(payload)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Unreachable("the stream to the peer has ended") from None

    async def receive(self):
        try:
            return await self._out.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            raise Unreachable("the stream to the peer has ended") from None

    async def close(self):
        self._into.close()
        self._out.close()


def pipes(one, other, limit, room=4):
    """Return two ends: what `one` has, who speaks to `other`, and the reverse."""
    there, theirs = trio.open_memory_channel(room)
    back, ours = trio.open_memory_channel(room)
    return Pipe(other, there, ours, limit), Pipe(one, back, theirs, limit)


class Net:
    """Everybody's streams: a seeded net that refuses, cuts and parts."""

    def __init__(self, seed=0):
        self.random = random.Random(seed)
        self.ends = {}  # node id -> MemoryStreams
        self.loss = 0.0  # of streams that are not opened
        self.cut = 0.0  # of frames that end their stream
        self.sides = None  # node id -> side, while the net is parted
        self.fired = {"lost": 0, "cut": 0, "parted": 0}

    def parted(self, one, other):
        return self.sides is not None and self.sides.get(one) != self.sides.get(other)


class MemoryStreams:
    """The `Streams` port over a net in memory."""

    def __init__(self, node_id, net, nursery):
        self.node_id, self._net, self._nursery = node_id, net, nursery
        self.served = {}
        self.opened = 0
        net.ends[node_id] = self

    def addrs(self):
        return ("/memory/" + self.node_id.hex()[:8],)

    def serve(self, protocol, handler, *, limit):
        self.served[protocol] = (handler, limit)

    async def open(self, peer, addrs, protocol, *, limit, dialled=False, early=False):
        await trio.lowlevel.checkpoint()
        net, far = self._net, self._net.ends.get(peer)
        if net.parted(self.node_id, peer):
            net.fired["parted"] += 1
            raise Unreachable("no route")
        if net.random.random() < net.loss:
            net.fired["lost"] += 1
            raise Unreachable("lost")
        if far is None or protocol not in far.served:
            raise Unreachable("nobody there")
        self.opened += 1
        handler, _ = far.served[protocol]
        near, there = pipes(self.node_id, peer, limit)
        there = Cutting(there, net, self.node_id)
        far._nursery.start_soon(far._handle, handler, there)
        return near

    async def _handle(self, handler, channel):
        with suppress(NodeError):
            await handler(channel)
        await channel.close()


class Cutting:
    """The far end of a stream on a net that cuts."""

    def __init__(self, pipe, net, near):
        self._pipe, self._net = pipe, net
        self.peer, self.host, self.addr = near, "", ""

    async def send(self, payload):
        if self._net.random.random() < self._net.cut:
            self._net.fired["cut"] += 1
            await self._pipe.close()
        await self._pipe.send(payload)

    async def receive(self):
        return await self._pipe.receive()

    async def close(self):
        await self._pipe.close()


class Holders:
    """The DHT of all nodes as their books see it: what is put reaches who listens and can."""

    def __init__(self, net, clock, *, per_key=1024):
        self.net, self.clock, self.per_key = net, clock, per_key
        self.records = {}  # place -> raw, latest
        self.listeners = {}  # node id -> send channel
        self.registered = {}  # node id -> server record
        self.hides = set()  # makers that the holders withhold
        self.loss = 0.0  # of news
        self.lost = 0
        self.lies = []

    def put(self, raw, by=None):
        made = Offer.unverified(raw, network=NET, now=self.clock.now())[0]
        held = self.records.get(made.place)
        if held is not None and held[0] >= made.seq:
            return
        if held is None and len(self.records) >= self.per_key:
            return
        self.records[made.place] = (made.seq, raw)
        for node_id, channel in list(self.listeners.items()):
            if by is not None and self.net.parted(by, node_id):
                self.net.fired["parted"] += 1
                continue
            if made.maker in self.hides:
                continue
            if self.net.random.random() < self.loss:
                self.lost += 1
                continue
            with suppress(trio.WouldBlock, trio.BrokenResourceError):
                channel.send_nowait(raw)


class MemoryCrowd:
    """The `Crowd` port of one node."""

    def __init__(self, node_id, holders, clock):
        self._id, self._holders, self._clock = node_id, holders, clock

    async def hear(self, currency, take, ready):
        into, news = trio.open_memory_channel(10_000)
        there = self._holders
        there.listeners[self._id] = into
        shown = [raw for _, raw in there.records.values()]
        await take([raw for raw in shown if maker_of(raw) not in there.hides])
        ready()
        async for raw in news:
            await take([raw])

    def holders(self, currency):
        there = self._id in self._holders.listeners
        return frozenset([b"one", b"two", b"six"] if there else [])

    async def servers(self, currency):
        await trio.lowlevel.checkpoint()
        net = self._holders.net
        return tuple(
            raw for node_id, raw in self._holders.registered.items()
            if not net.parted(self._id, node_id)
        )  # fmt: skip

    async def serve(self, record):
        await trio.lowlevel.checkpoint()
        self._holders.registered[self._id] = record
        return 3

    async def locate(self, node_id):
        await trio.lowlevel.checkpoint()
        return ("/memory/" + node_id.hex()[:8],)

    async def lied(self, node_id):
        await trio.lowlevel.checkpoint()
        self._holders.lies.append(node_id)


def maker_of(raw):
    return wire.unpack("offer", raw, limit=2048)[0][3]


@dataclass
class Node:
    identity: Identity
    store: BookStore
    sync: Sync
    streams: MemoryStreams
    clock: FakeClock
    scope: trio.CancelScope
    gone: trio.Event

    async def kill(self, net):
        """End it as a crash does: its streams lead nowhere."""
        net.ends.pop(self.id, None)
        self.scope.cancel()
        await self.gone.wait()

    @property
    def id(self):
        return self.identity.node_id

    @property
    def counts(self):
        return self.sync.counts

    def hashes(self):
        return {hashed for _, hashed in self.store.items(EUR, self.clock.now())}


class Hiding(BookStore):
    """A book that shows nobody the offers of some makers."""

    makers = frozenset()

    def items(self, currency, now):
        return [i for i in super().items(currency, now) if i[0][:32] not in self.makers]

    def raws(self, currency, low, high, now, limit):
        found = super().raws(currency, low, high, now, limit)
        return [raw for raw in found if maker_of(raw) not in self.makers]


class VirtualClock:
    """Wall-clock time that goes with trio's."""

    def now(self):
        return NOW + int(trio.current_time())


class World:
    """Nodes with books on one net."""

    def __init__(self, nursery, seed=0, *, per_key=1024, clock=None):
        self.nursery, self.seed = nursery, seed
        self.net = Net(seed)
        self.clock = clock or FakeClock()
        self.holders = Holders(self.net, self.clock, per_key=per_key)

    async def node(self, name, raws=(), *, database=None, serves=False, hides=()):
        """Start a node whose book holds `raws` already; `serves` registers it at once.

        It shows nobody the offers of the makers that it `hides`.
        """
        identity = who(name)
        store = (Hiding if hides else BookStore)(database or Database(None), NET)
        if hides:
            store.makers = frozenset(hides)
        now = self.clock.now()
        store.admit_all([(parsed(raw, now), raw) for raw in raws], now)
        streams = MemoryStreams(identity.node_id, self.net, self.nursery)
        crowd = MemoryCrowd(identity.node_id, self.holders, self.clock)
        sync = Sync(
            *(store, streams, crowd, None, identity, NET, self.clock),
            Counted(f"{self.seed}/{name}"),
        )
        scope, gone = trio.CancelScope(), trio.Event()

        async def run(task_status=trio.TASK_STATUS_IGNORED):
            with scope:
                await sync.run(task_status=task_status)
            gone.set()

        await self.nursery.start(run)
        if serves:
            self.register(identity)
        return Node(identity, store, sync, streams, self.clock, scope, gone)

    def register(self, identity):
        expires_at = self.clock.now() + market_server.LIFE_S
        self.holders.registered[identity.node_id] = market_server.sign(
            identity, NET, EUR, expires_at
        )

    def hostile(self, name, handler):
        """Register a server of the market whose book protocol is `handler(channel)`."""
        identity = who(name)
        streams = MemoryStreams(identity.node_id, self.net, self.nursery)
        streams.serve(BOOK, handler, limit=1 << 20)
        self.register(identity)
        return identity


@asynccontextmanager
async def world(seed=0, **kwargs):
    async with trio.open_nursery() as nursery:
        yield World(nursery, seed, **kwargs)
        nursery.cancel_scope.cancel()


async def forge(channel, raws):
    """Serve these whatever is asked, as a hostile server may."""
    while True:
        ask = book_wire.ask_in(await channel.receive())
        if ask.what == book_wire.DIGEST:
            told = ranges.parts_out([ranges.Part(ask.high, 7, bytes(16))])
            await channel.send(book_wire.encode(book_wire.Digest(ask.id, told)))
        else:
            fits = [raw for raw in sorted(raws, key=book_wire.place_of)
                    if ranges.between(book_wire.place_of(raw), ask.low, ask.high)]  # fmt: skip
            page = book_wire.Page(ask.id, ask.high, True, tuple(fits))
            await channel.send(book_wire.encode(page))


async def until(condition, seconds=10):
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - the condition is another node's
            await trio.sleep(0.01)
