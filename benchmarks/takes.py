"""From `take` to both CONTRACTs, between two whole trading halves over the real transport.

    taker ── Noise over TCP, half the round trip each way ── maker      sandbox chain: no delay

Everything of a node that trades is real: journal and wallet in a SQLite file of their own, keys,
Electrum client, transport. The order book and the DHT are tests/trade_fakes.py: both traders know
the arbiters beforehand, as a node does that has run for half a minute. Connected beforehand.
"""

import hashlib
import statistics
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import bdkpython as bdk
import trio
from trade_fakes import Desk, Registry
from trade_kit import NET, Rig
from trade_node import Node

from benchmarks import tcp_delay
from dht.transport_libp2p import open_streams
from escrow.messages import Kind
from escrow.model import Broadcast
from p2pnode.base.identity import Identity
from p2pnode.base.store import Database

ARBITERS = 3
PATIENCE_S = 30.0
REST_S = 0.5


@dataclass(frozen=True)
class Takes:
    """How long each take took, in milliseconds, and the round trips that its messages need."""

    ms: tuple[float, ...]
    round_trips: float


class FarNode(Node):
    """A node whose trade streams are the real transport's."""

    async def run(self, task_status=trio.TASK_STATUS_IGNORED):
        listen = ["/ip4/127.0.0.1/tcp/0"]
        async with open_streams(self.identity, NET, listen=listen) as self.streams:
            await super().run(task_status)

    def build(self):
        super().build()
        world, rig, courier = self.exchange.world, self.rig, self.exchange._courier

        async def locate(peer):
            await trio.lowlevel.checkpoint()
            return rig.by_id(peer).streams.addrs()

        courier._streams, courier._locate = self.streams, locate
        self.agreed = trio.Event()  # our peer's CONTRACT is committed
        publish, wake = world.announce.publish, self.exchange.trades.wake
        heard = set()

        def publishing(kind, **what):
            heard.add(what.get("received"))
            publish(kind, **what)

        def waking(trade_id):  # what follows each commit
            if Kind.CONTRACT.name in heard:
                heard.clear()
                self.agreed.set()
            wake(trade_id)

        world.announce.publish, self.exchange.trades.wake = publishing, waking


class FarRig(Rig):
    """A rig whose traders are apart."""

    def __init__(self, nursery, stack, folder):
        super().__init__(nursery)
        self._stack, self._folder = stack, folder

    async def _add(self, name):
        if name.startswith("arbiter"):
            await super()._add(name)
            return
        seed = hashlib.sha256(name.encode()).digest()
        words = str(bdk.Mnemonic.from_entropy(seed[:16]))
        database = Database(self._folder / f"{name}.sqlite")
        self._stack.callback(database.close)
        identity, registry = Identity.grind(NET, seed), Registry(self.records)
        node = FarNode(name, self, identity, words, database, Desk(name), registry)
        self.nodes[name], self.post.names[node.id] = node, name
        await self.nursery.start(node.run)


def one_ways(messages):
    """Return how often the direction changes until both CONTRACTs are said, and once more."""
    signed = [n for n, m in enumerate(messages) if m.kind is Kind.CONTRACT]
    return len(list(groupby(messages[: signed[1] + 1], key=lambda m: m.sender)))


async def take_once(rig):
    """Take an offer; return the milliseconds until both hold both CONTRACTs, and the trade."""
    maker, taker = rig["maker"], rig["taker"]
    maker.agreed, taker.agreed = trio.Event(), trio.Event()
    terms = rig.offer()
    start = trio.current_time()
    with trio.fail_after(PATIENCE_S):
        trade_id = await rig.take(terms)
        await maker.agreed.wait()
        await taker.agreed.wait()
    spent = 1000 * (trio.current_time() - start)
    await rig.both(trade_id, Broadcast)
    await at_rest(rig)  # else its funding would run beside the next take
    return spent, trade_id


async def at_rest(rig):
    """Wait until no message is under way, and a while for the wallets to see the funding."""

    async def there():
        for name in ("maker", "taker"):
            assert not rig[name].journal.recipients()

    await rig.eventually(there)
    await trio.sleep(REST_S)


async def measured(rtt_s, count):
    """Take `count` offers, one after the other, after one that warms up."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        nursery = await stack.enter_async_context(trio.open_nursery())
        rig = FarRig(nursery, stack, folder)
        stack.callback(rig.box.close)
        try:
            coins = [800_000] * (count + 1)
            rig.box.mine(2 * len(coins))  # the faucet pays out of mature coinbases
            await rig.start(ARBITERS, coins, ())
            near = {rig.port}
            await stack.enter_async_context(tcp_delay.one_way(rtt_s / 2, near))
            spent, trips = [], 0.0
            for turn in range(count + 1):
                ms, trade_id = await take_once(rig)
                trips = one_ways(rig["taker"].journal.messages(trade_id)) / 2
                if turn:
                    spent.append(ms)
            return Takes(tuple(spent), trips)
        finally:
            nursery.cancel_scope.cancel()


def take(rtt_s, count):
    """Run `measured` in a loop of its own."""
    return trio.run(measured, rtt_s, count)


def median(takes):
    """Return the median of the takes in milliseconds."""
    return statistics.median(takes.ms)
