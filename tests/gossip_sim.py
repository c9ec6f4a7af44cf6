"""Gossip in simulation: routers over a network of links with delay and loss, by an event heap.

Everything follows from the seed: who knows whom, every delay, every loss, every choice.
"""

import heapq
import itertools
import random

from dht.gossip import HEARTBEAT_S, Close, Router
from dht.gossip_wire import Rpc
from dht.subnets import Subnets
from dht.tally import Tally
from p2pnode.base.ports import Verdict

TOPIC = "/p2pnode/sandbox/book/EUR/1"


class Draws:
    """Repeatable."""

    def __init__(self, seed):
        self._draws = random.Random(seed)

    def bytes(self, count):
        return self._draws.randbytes(count)


class SimNode:
    """An honest node: judges by `verdict(data)`, remembers what it accepted and when."""

    def __init__(self, world, name, host):
        self.world, self.id, self.host = world, name.encode().ljust(32, b"."), host
        self.tally = Tally()
        self.router = Router(Draws(f"{world.seed}{name}"), Subnets(), self.tally)
        self.got = {}

    def start(self):
        self.router.join(TOPIC, self.world.now)
        self.world.after(self.world.draws.uniform(0, HEARTBEAT_S), self.beat)

    def beat(self):
        self.router.heartbeat(self.world.now)
        self.flush()
        self.world.after(HEARTBEAT_S, self.beat)

    def publish(self, data):
        self.got[data] = self.world.now
        self.router.publish(TOPIC, data, self.world.now)
        self.flush()

    def met(self, other, named):
        if not self.router.connected(other.id, other.host, named=named, now=self.world.now):
            self.world.unlink(self, other)
        self.flush()

    def hear(self, peer, rpc):
        now = self.world.now
        for topic, data in rpc.messages:
            id = self.router.offered(peer.id, topic, data, now)
            if id is not None:
                verdict = self.world.verdict(data)
                if verdict is Verdict.ACCEPT:
                    self.got.setdefault(data, now)
                self.router.judged(peer.id, topic, data, id, verdict, now)
        self.router.control(peer.id, rpc, now)
        self.flush()

    def lost(self, other):
        self.router.gone(other.id)

    def flush(self):
        out = self.router.out
        while out:
            effect = out.popleft()
            if isinstance(effect, Close):
                self.world.unlink(self, self.world.nodes[effect.peer])
                continue
            for peer in effect.peers:
                self.world.send(self, self.world.nodes[peer], effect.rpc)


class Sybil:
    """Takes part in every mesh that lets it in, and passes nothing on."""

    def __init__(self, world, name, host):
        self.world, self.id, self.host = world, name.encode().ljust(32, b"."), host
        self.swallowed = 0

    def start(self):
        pass

    def met(self, other, named):
        self.world.send(self, other, Rpc(subscriptions=((TOPIC, True),), graft=(TOPIC,)))

    def hear(self, peer, rpc):
        self.swallowed += len(rpc.messages)

    def lost(self, other):
        pass


class World:
    """The links and the time."""

    def __init__(self, seed, *, delay=(0.02, 0.2), loss=0.0):
        self.seed, self.draws = seed, random.Random(seed)
        self.now, self.loss, self._delay = 0.0, loss, delay
        self.nodes, self.links = {}, set()
        self.lost = 0
        self._heap, self._numbers = [], itertools.count()
        self.verdict = lambda data: Verdict.ACCEPT

    def add(self, kind, name, host="127.0.0.1"):
        node = kind(self, name, host)
        self.nodes[node.id] = node
        return node

    def after(self, seconds, job, *args):
        heapq.heappush(self._heap, (self.now + seconds, next(self._numbers), job, args))

    def run(self, seconds):
        until = self.now + seconds
        while self._heap and self._heap[0][0] <= until:
            self.now, _, job, args = heapq.heappop(self._heap)
            job(*args)
        self.now = until

    def link(self, dialler, other):
        """Connect two nodes, the first having dialled the second."""
        pair = frozenset((dialler.id, other.id))
        if pair not in self.links:
            self.links.add(pair)
            dialler.met(other, True)
            other.met(dialler, False)

    def unlink(self, one, other):
        pair = frozenset((one.id, other.id))
        if pair in self.links:
            self.links.discard(pair)
            one.lost(other)
            other.lost(one)

    def send(self, one, other, rpc):
        if frozenset((one.id, other.id)) not in self.links:
            return
        if rpc.subscriptions == () and self.draws.random() < self.loss:
            self.lost += 1  # subscriptions are said once, and on a stream: they are not lost
            return
        self.after(self.draws.uniform(*self._delay), self._arrive, one, other, rpc)

    def _arrive(self, one, other, rpc):
        if frozenset((one.id, other.id)) in self.links:
            other.hear(one, rpc)


def town(seed, count=50, *, dials=6, sybils=0, sybil_links=10, **world):
    """Return a world of honest nodes that dialled some others each, and the nodes."""
    made = World(seed, **world)
    nodes = [made.add(SimNode, f"n{i}") for i in range(count)]
    for node in nodes:
        node.start()
    foes = [made.add(Sybil, f"s{i}") for i in range(sybils)]
    for foe in foes:  # they come first, so that the meshes are theirs
        for node in made.draws.sample(nodes, sybil_links):
            made.link(foe, node)
    made.run(3)
    for i, node in enumerate(nodes):
        others = nodes[:i] + nodes[i + 1 :]
        for other in made.draws.sample(others, dials):
            made.link(node, other)
    made.run(5)
    return made, nodes, foes
