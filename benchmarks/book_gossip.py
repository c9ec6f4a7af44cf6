"""A new offer on its way to 50 nodes by gossip: `python -m benchmarks.book_gossip`.

    course ── lines of JSON ──▶ worker (25 nodes) ─┐
           ── lines of JSON ──▶ worker (25 nodes) ─┴─ delayed TCP on loopback, 100 ms one way

Each node is whole below the DHT: transport, gossip, the one way into the book that verifies,
the book itself. Every node is told of all others, as the records of a market's servers would,
and dials six. An offer counts as seen when it is in the book, and goes on only then. The floor
is the one-way delay for each hop of the mesh that was in fact built: from the publisher to all
its peers, then along the meshes, until the last node.
"""

import json
import os
import subprocess
import sys
import time
from collections import deque
from dataclasses import replace
from functools import partial

import trio

from benchmarks import tcp_delay
from benchmarks.fleet import Remote, lines
from benchmarks.peers import measure
from benchmarks.report import Report, percentile
from dht.endpoint import Peer
from dht.shell_gossip import Gossiper
from dht.transport_libp2p import open_streams
from orderbook import work
from orderbook.offer import LIFE_S, Offer, Side
from orderbook.shell_gossip import MarketGossip, topic_of
from orderbook.shell_intake import Intake
from orderbook.shell_sync import Events
from orderbook.store_book import BookStore
from p2pnode.base.clock import SystemClock, SystemRandomness
from p2pnode.base.identity import Identity
from p2pnode.base.networks import NETWORKS
from p2pnode.base.store import Database

NET = NETWORKS["sandbox"]
EUR = "EUR"
TOPIC = topic_of(NET, EUR)
NODES = 50
WORKERS = 2
OFFERS = 20
ONE_WAY_S = 0.1  # half a round trip between continents
JOIN_AT_ONCE = 5
SETTLE_S = 60.0
MIN_MESH = 4
PATIENCE_S = 10.0
BETWEEN_S = 0.5
LISTEN = ("/ip4/127.0.0.1/tcp/0",)


def identity(number):
    return Identity.grind(NET, b"gossip %d" % number)


def offer(number, now):
    """Return a maker's signed offer."""
    maker = Identity.grind(NET, b"maker %d" % number)
    made = Offer(
        network=NET, offer_id=number.to_bytes(16, "big"), maker=maker.node_id, side=Side.SELL,
        currency=EUR, min_sat=200_000, max_sat=1_000_000, price=0, margin_bp=100,
        methods=("CUSTOM",), countries=("DE", "FR"), languages=("de", "en"),
        terms="Payment within the hour on workdays.", expires_at=now + LIFE_S,
    )  # fmt: skip
    place = (NET, maker.node_id, EUR, 0, work.day_of(made.expires_at))
    return replace(made, work=work.find(*place, start=0, tries=1 << 24)).to_wire(maker)


# ------------------------------------------------------------------ the nodes


class Worker:
    """The nodes of one process, and what the course may ask of them."""

    def __init__(self, nursery):
        self.nursery = nursery
        self.nodes = {}
        self.seen = {}  # offer -> node -> when it was in its book

    async def start(self, first, last):
        for number in range(first, last):
            await self.nursery.start(self._run, number)
        return [(node[0].node_id.hex(), node[0].addrs()) for node in self.nodes.values()]

    async def _run(self, number, task_status=trio.TASK_STATUS_IGNORED):
        async with open_streams(identity(number), NET, listen=LISTEN) as streams:
            clock = SystemClock()
            store = BookStore(Database(None), NET)
            intake = Intake(store, NET, clock, Events())
            gossip = Gossiper(streams, SystemRandomness(), tally=streams.tally)
            market = MarketGossip(gossip, NET, store)
            market.feed(intake.take)
            intake.on_news += [market.heard, partial(self._see, number)]
            async with trio.open_nursery() as nursery:
                await nursery.start(gossip.run)
                market.join(EUR)
                self.nodes[number] = (streams, gossip, market, intake)
                task_status.started()

    def _see(self, number, _offer, raw):
        self.seen.setdefault(raw, {})[number] = time.monotonic()

    async def meet(self, peers):
        known = [Peer(bytes.fromhex(node_id), tuple(addrs)) for node_id, addrs in peers]
        for _, _, market, _ in self.nodes.values():
            market.meet(EUR, known)
            await trio.sleep(1 / JOIN_AT_ONCE)

    async def freeze(self):
        measure.freeze()

    async def graph(self):
        return {
            number: {
                "id": streams.node_id.hex(),
                "peers": [peer.hex() for peer in gossip.router.peers(TOPIC)],
                "mesh": [peer.hex() for peer in gossip.router.mesh(TOPIC)],
            }
            for number, (streams, gossip, _, _) in self.nodes.items()
        }

    async def publish(self, node, raw):
        raw = bytes.fromhex(raw)
        _, _, market, intake = self.nodes[node]
        start = time.monotonic()
        await intake.take([raw], EUR)
        await market.publish(EUR, raw)
        return start

    async def saw(self, raw):
        return self.seen.get(bytes.fromhex(raw), {})

    async def spent(self):
        total = {}
        for streams, _, _, _ in self.nodes.values():
            for name, count in streams.tally.counts.items():
                if name.startswith("gossip_"):
                    total[name] = total.get(name, 0) + count
        return {"cpu": time.process_time(), "counts": total}


async def serve():
    """Serve the course until it closes our standard input."""
    async with tcp_delay.one_way(ONE_WAY_S), trio.open_nursery() as nursery:
        worker = Worker(nursery)

        async def answer(number, name, arguments):
            result = await getattr(worker, name)(**arguments)
            os.write(1, json.dumps([number, result]).encode() + b"\n")

        async for asked in lines(trio.lowlevel.FdStream(os.dup(0))):
            nursery.start_soon(answer, *asked)
        os._exit(0)  # nobody is left to say goodbye to


# ------------------------------------------------------------------ the course


def depth(graph, publisher):
    """Return how many hops the farthest node is from a publisher, and how many are reached."""
    far, queue = {publisher: 0}, deque([publisher])
    while queue:
        node = queue.popleft()
        for other in graph[node]["mesh" if node != publisher else "peers"]:
            if other not in far:
                far[other] = far[node] + 1
                queue.append(other)
    return max(far.values()), len(far)


class Course:
    """Fifty nodes, and offers sent among them."""

    def __init__(self):
        self.remotes = []

    async def all(self, name, **arguments):
        return [await remote.ask(name, **arguments) for remote in self.remotes]

    async def start(self, nursery):
        peers, share = [], NODES // WORKERS
        for number in range(WORKERS):
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "benchmarks.book_gossip", "--worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
            self.remotes.append(Remote(process, number * share, (number + 1) * share))
            await nursery.start(self.remotes[-1].listen)
        for remote in self.remotes:
            peers += await remote.ask("start", first=remote.first, last=remote.last)
        async with trio.open_nursery() as meeting:
            for remote in self.remotes:
                meeting.start_soon(partial(remote.ask, "meet", peers=peers))

    async def graph(self):
        """Return each node's peers and mesh, by its id."""
        return {
            node["id"]: node | {"number": int(number)}
            for part in await self.all("graph")
            for number, node in part.items()
        }

    async def settled(self):
        """Wait until every node has a mesh."""
        with trio.fail_after(SETTLE_S):
            while True:
                graph = await self.graph()
                if all(len(node["mesh"]) >= MIN_MESH for node in graph.values()):
                    return
                await trio.sleep(1)

    async def spread(self, number):
        """Publish an offer; return seconds until the last node has it, and the hops to it."""
        graph = await self.graph()
        publisher = sorted(graph)[number * 7 % NODES]
        node = graph[publisher]["number"]
        hops, reached = depth(graph, publisher)
        raw = offer(number, SystemClock().now()).hex()
        remote = next(one for one in self.remotes if one.first <= node < one.last)
        start = await remote.ask("publish", node=node, raw=raw)
        saw = {}
        with trio.move_on_after(PATIENCE_S):
            while len(saw) < NODES:
                await trio.sleep(BETWEEN_S)
                saw = {n: at for part in await self.all("saw", raw=raw) for n, at in part.items()}
        return max(saw.values()) - start, hops, reached, len(saw)


async def measured():
    """Return for each offer what `Course.spread` does, and what the nodes have spent."""
    course = Course()
    async with trio.open_nursery() as nursery:
        try:
            await course.start(nursery)
            await course.settled()
            await course.all("freeze")
            before = sum(one["cpu"] for one in await course.all("spent"))
            found = [await course.spread(number) for number in range(OFFERS)]
            spent = await course.all("spent")
        finally:
            for remote in course.remotes:
                remote.process.kill()
        nursery.cancel_scope.cancel()
    return found, sum(one["cpu"] for one in spent) - before, [one["counts"] for one in spent]


def run(report):
    """Print spread_50 and spread_50_second; tell on stderr what they are made of."""
    found, cpu, counts = trio.run(measured)
    times = [1000 * s for s, _, _, _ in found]
    hops = percentile([hops for _, hops, _, _ in found], 50)
    everywhere = all(saw == NODES for _, _, _, saw in found)
    total = {name: sum(one.get(name, 0) for one in counts) for one in counts for name in one}
    told = {
        "one_way_ms": 1000 * ONE_WAY_S,
        "hops": [hops for _, hops, _, _ in found],
        "by_mesh_alone": [reached for _, _, reached, _ in found],
        "ms": [round(t) for t in times],
        "seen": [saw for _, _, _, saw in found],
        "cpu_ms_an_offer": round(1000 * cpu / OFFERS),
        "counts": total,
    }
    print(json.dumps(told), file=sys.stderr)
    ours = percentile(times, 50) if everywhere else None
    report.row("spread_50", "ms", ours, {}, limit=1000 * ONE_WAY_S * hops, bar=1.5)
    report.row("spread_50_second", "ms", ours, {}, limit=1000.0, bar=1.0)


if __name__ == "__main__":
    if "--worker" in sys.argv:
        trio.run(serve)
    else:
        made = Report("book", ("spread_50", "spread_50_second"))
        run(made)
        sys.exit(made.status())
