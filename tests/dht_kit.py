"""What the DHT's tests share: identities, a test kind of record, nodes over the real transport."""

from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from dht.endpoint import Peer
from dht.keys import record_key
from dht.records import Kinds, Record
from dht.shell_node import Dht
from dht.transport_libp2p import open_streams
from p2pnode.base import wire
from p2pnode.base.identity import Identity, verify
from p2pnode.base.networks import network
from p2pnode.base.store import Database

NETWORK = network("sandbox")
NOW = 1_800_000_000
NOTE = "note"
LISTEN = ("/ip4/127.0.0.1/tcp/0",)


def identity(name):
    return Identity.grind(NETWORK, name.encode())


def note_key(market):
    return record_key(NETWORK, NOTE, market)


def note(signer, market, *, seq=1, expires_at=NOW + 1000, id=b"", text=b""):
    body = wire.pack([market, signer.node_id, id, seq, expires_at, text])
    return wire.pack([body, signer.sign(wire.tag("sandbox", NOTE) + body)])


def validate_note(raw, now):
    body, signature = wire.fields("note", wire.unpack("note", raw, limit=2048), 2)
    fields = wire.fields("body", wire.unpack("body", body, limit=2048), 6)
    market, owner, id_, seq, expires_at, _ = fields
    verify("signature", wire.exact("owner", owner, 32), wire.tag("sandbox", NOTE) + body, signature)
    return Record(NOTE, note_key(market), owner, id_, seq, expires_at, raw)


class Clock:
    def __init__(self, now=NOW):
        self.seconds = now

    def now(self):
        return self.seconds


class Randomness:
    """Repeatable."""

    def __init__(self, seed):
        self.state = seed.encode()

    def bytes(self, count):
        self.state = wire.digest(b"test", [self.state])
        return (self.state * (count // 32 + 1))[:count]


@dataclass
class Node:
    identity: Identity
    dht: Dht
    streams: object
    clock: Clock
    scope: trio.CancelScope
    gone: trio.Event

    @property
    def id(self):
        return self.identity.node_id

    @property
    def peer(self):
        return Peer(self.id, self.streams.addrs())

    async def kill(self):
        self.scope.cancel()
        await self.gone.wait()


class Town:
    """Starts nodes and ends them all."""

    def __init__(self, nursery):
        self._nursery = nursery

    async def node(self, name, *, k=20, database=None, clock=None, listen=LISTEN):
        return await self._nursery.start(self._run, name, k, database, clock, listen)

    async def _run(self, name, k, database, clock, listen, task_status=trio.TASK_STATUS_IGNORED):
        who, gone, clock = identity(name), trio.Event(), clock or Clock()
        try:
            with trio.CancelScope() as scope:
                async with open_streams(who, NETWORK, listen=listen) as streams:
                    dht = Dht(
                        streams, NETWORK, clock, Randomness(name), database or Database(None),
                        Kinds({NOTE: validate_note}), k, identity=who,
                    )  # fmt: skip
                    async with trio.open_nursery() as nursery:
                        await nursery.start(dht.run)
                        task_status.started(Node(who, dht, streams, clock, scope, gone))
        finally:
            gone.set()

    @asynccontextmanager
    async def liar(self, name, handler):
        """Run a peer whose DHT protocol is `handler(channel)`."""
        async with open_streams(identity(name), NETWORK, listen=LISTEN) as streams:
            streams.serve(NETWORK.protocol("dht"), handler, limit=1 << 20)
            yield streams, Peer(streams.node_id, streams.addrs())


@asynccontextmanager
async def town():
    async with trio.open_nursery() as nursery:
        yield Town(nursery)
        nursery.cancel_scope.cancel()


async def hood(build, count, *, k=20):
    """Start nodes that all know each other."""
    nodes = [await build.node(f"n{i}", k=k) for i in range(count)]
    for node in nodes[1:]:
        await node.dht.join([nodes[0].peer])
    for node in nodes:
        await node.dht.refresh()
    return nodes


async def until(condition, seconds=10):
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - the condition is another node's
            await trio.sleep(0.01)
