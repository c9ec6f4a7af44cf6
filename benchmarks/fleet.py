"""Our own 64 nodes, through the same course as the others: `python -m benchmarks.fleet`.

    course ── lines of JSON ──▶ worker (living) ─┐
           ── lines of JSON ──▶ worker (living) ─┼─ delayed TCP on loopback
           ── lines of JSON ──▶ worker (doomed) ─┘

Each worker is a process with some nodes: whole `Dht`s over the real transport, records signed
and checked. To die by silence the worker of the doomed is stopped (SIGSTOP): its connections
stay open and nothing answers. With `--death closed` it is killed (SIGKILL), so the kernel
closes its sockets and every peer hears of it.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import trio

from benchmarks import tcp_delay
from benchmarks.peers import measure
from dht.endpoint import Peer
from dht.keys import record_key
from dht.records import Kinds, Record
from dht.shell_node import Dht
from dht.transport_libp2p import open_streams
from p2pnode.base import wire
from p2pnode.base.clock import SystemClock, SystemRandomness
from p2pnode.base.identity import Identity, verify
from p2pnode.base.networks import network
from p2pnode.base.store import Database

NETWORK = network("sandbox")
KIND = "bench"
TAG = wire.tag(NETWORK.name, KIND)
LIFETIME_S = 3600
SEEDS = 6  # peers each node is told at the start
JOIN_AT_ONCE = 3  # nodes of one worker that join at a time
QUIET_CPU = 0.15  # of a core: below it, the joins' echoes have ended
QUIET_LIMIT_S = 30.0
NEWS_LIMIT_S = 10.0


def signed(who, value, now):
    """Return a record of one value under a key of its own, and the key."""
    name = hashlib.sha256(value).hexdigest()
    body = wire.pack([name, who.node_id, 1, now + LIFETIME_S, value])
    return wire.pack([body, who.sign(TAG + body)]), record_key(NETWORK, KIND, name)


def validate(raw, _now):
    """Check a record as a kind of the node's own does. Raises InvalidRecord."""
    body, signature = wire.fields("record", wire.unpack("record", raw, limit=2048), 2)
    fields = wire.fields("body", wire.unpack("body", body, limit=2048), 5)
    name, owner, seq, expires_at, value = fields
    verify("signature", wire.exact("owner", owner, 32), TAG + body, signature)
    wire.exact("name", name.encode(), 64)
    wire.blob("value", value, 1024)
    return Record(KIND, record_key(NETWORK, KIND, name), owner, b"", seq, expires_at, raw)


class Worker:
    """The nodes of one process, and what the course may ask of them."""

    def __init__(self, nursery):
        self.nursery = nursery
        self.before = measure.resident()
        self.nodes = {}
        self.news = {}

    async def start(self, first, last):
        for number in range(first, last):
            await self.nursery.start(self._run, number)
        told = [(node[0].node_id.hex(), node[1].addrs()) for node in self.nodes.values()]
        return {"peers": told, "before": self.before}

    async def _run(self, number, task_status=trio.TASK_STATUS_IGNORED):
        who = Identity.grind(NETWORK, b"bench %d" % number)
        listen = ("/ip4/127.0.0.1/tcp/0",)
        async with open_streams(who, NETWORK, listen=listen) as streams:
            dht = Dht(
                streams, NETWORK, SystemClock(), SystemRandomness(), Database(None),
                Kinds({KIND: validate}), identity=who,
            )  # fmt: skip
            async with trio.open_nursery() as nursery:
                await nursery.start(dht.run)
                self.nodes[number] = (who, streams, dht)
                task_status.started()

    async def join(self, peers):
        gate = trio.CapacityLimiter(JOIN_AT_ONCE)
        peers = [Peer(bytes.fromhex(node_id), tuple(addrs)) for node_id, addrs in peers]

        async def one(number):
            seeds = [peers[(number + step * step) % len(peers)] for step in range(1, 1 + SEEDS)]
            async with gate:
                await self.nodes[number][2].join(seeds)

        async with trio.open_nursery() as nursery:
            for number in self.nodes:
                nursery.start_soon(one, number)
        return {}

    async def freeze(self):
        measure.freeze()
        return {}

    async def put(self, node, value):
        who, _, dht = self.nodes[node]
        raw, key = signed(who, bytes.fromhex(value), SystemClock().now())
        start = time.monotonic()
        result = await dht.put(KIND, raw)
        end = time.monotonic()
        return {"start": start, "s": end - start, "acked": result.acked, "key": key.hex()}

    async def get(self, node, key, value):
        dht, found = self.nodes[node][2], False
        start = time.monotonic()
        with trio.move_on_after(measure.GET_LIMIT_S):
            got = await dht.get(KIND, bytes.fromhex(key), quorum=1)
            found = any(bytes.fromhex(value) in record.raw for record in got.records)
        return {"s": time.monotonic() - start, "found": found}

    async def holders(self, key):
        held = bytes.fromhex(key)
        return {"nodes": [n for n, node in self.nodes.items() if node[2].stored(KIND, held)]}

    async def listen(self, node, key):
        """Answer when the listener is ready; `heard` then tells when the news came."""
        await self.nursery.start(self._listen, node, bytes.fromhex(key))
        return {}

    async def _listen(self, node, key, task_status=trio.TASK_STATUS_IGNORED):
        came, at = self.news[key.hex()] = trio.Event(), []
        with trio.move_on_after(NEWS_LIMIT_S):
            async with self.nodes[node][2].listen(KIND, key) as records:
                task_status.started()
                async for _ in records:
                    at.append(time.monotonic())
                    came.set()
                    return

    async def heard(self, key):
        came, at = self.news.pop(key)
        with trio.move_on_after(NEWS_LIMIT_S):
            await came.wait()
        return {"at": at[0] if at else None}

    async def spent(self):
        counts = [node[2].tally.counts for node in self.nodes.values()]
        asked = sum(n for one in counts for name, n in one.items() if name.startswith("asked_"))
        return {"cpu": time.process_time(), "rpcs": asked, "resident": measure.resident()}


async def lines(stream):
    """Yield what each line of a stream holds."""
    rest = b""
    async for data in stream:
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield json.loads(line)


async def work():
    """Serve the course until it closes our standard input."""
    async with tcp_delay.one_way(measure.ONE_WAY_S), trio.open_nursery() as nursery:
        worker = Worker(nursery)

        async def answer(number, name, arguments):
            result = await getattr(worker, name)(**arguments)
            os.write(1, json.dumps([number, result]).encode() + b"\n")

        async for asked in lines(trio.lowlevel.FdStream(os.dup(0))):
            nursery.start_soon(answer, *asked)
        os._exit(0)  # nobody is left to say goodbye to


class Remote:
    """A worker as the course sees it."""

    def __init__(self, process, first, last):
        self.process, self.first, self.last = process, first, last
        self._asked, self._answers = 0, {}

    async def listen(self, task_status=trio.TASK_STATUS_IGNORED):
        task_status.started()
        async for number, result in lines(self.process.stdout):
            self._answers.pop(number).send_nowait(result)
        for answer in self._answers.values():
            answer.close()  # the worker has ended: whoever waits is told

    async def ask(self, name, **arguments):
        self._asked += 1
        number = self._asked
        self._answers[number], answer = trio.open_memory_channel(1)
        line = json.dumps([number, name, arguments]) + "\n"
        await self.process.stdin.send_all(line.encode())
        return await answer.receive()


class Fleet:
    """Ours as a `measure.System`: two workers of the living, one of the doomed."""

    news = None
    at_once = 1

    def __init__(self, closes):
        doomed = len(measure.fates()[1])
        living = measure.NODES - doomed
        self.callers = list(range(living))
        self.doomed = list(range(living, measure.NODES))
        self.cuts = (0, living // 2, living, measure.NODES)
        self.closes = closes
        self.remotes = []
        self.acked = []

    async def start(self, nursery):
        """Start the workers, have everybody join; return the bytes of memory a node takes."""
        peers, before = [], 0
        for first, last in zip(self.cuts, self.cuts[1:], strict=False):
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "benchmarks.fleet", "--worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
            self.remotes.append(Remote(process, first, last))
            await nursery.start(self.remotes[-1].listen)
        for remote in self.remotes:
            told = await remote.ask("start", first=remote.first, last=remote.last)
            peers += told["peers"]
            before += told["before"]
        async with trio.open_nursery() as joining:
            for remote in self.remotes:
                joining.start_soon(partial(remote.ask, "join", peers=peers))
        await self._quiet()
        for remote in self.remotes:
            await remote.ask("freeze")
        return (sum([one["resident"] for one in await self._all_spent()]) - before) / measure.NODES

    async def _quiet(self):
        with trio.move_on_after(QUIET_LIMIT_S):
            used, _ = await self.spent()
            while True:
                await trio.sleep(1)  # the CPU of a second is what is looked at
                last, (used, _) = used, await self.spent()
                if used - last < QUIET_CPU:
                    return

    def at(self, node):
        return next(remote for remote in self.remotes if remote.first <= node < remote.last)

    async def put(self, node, value):
        got = await self.at(node).ask("put", node=node, value=value.hex())
        self.acked.append(got["acked"])
        return got["s"], got["key"] if got["acked"] else None

    async def get(self, node, key, value):
        got = await self.at(node).ask("get", node=node, key=key, value=value.hex())
        return got["s"], got["found"]

    async def hear(self, listener, speaker):
        value = os.urandom(measure.VALUE_BYTES)
        key = record_key(NETWORK, KIND, hashlib.sha256(value).hexdigest()).hex()
        await self.at(listener).ask("listen", node=listener, key=key)
        put = await self.at(speaker).ask("put", node=speaker, value=value.hex())
        heard = await self.at(listener).ask("heard", key=key)
        return None if heard["at"] is None else heard["at"] - put["start"]

    async def kill(self):
        self.remotes[-1].process.send_signal(signal.SIGKILL if self.closes else signal.SIGSTOP)
        if self.closes:
            await self.remotes[-1].process.wait()

    def silenced(self):
        process = self.remotes[-1].process
        gone = process.returncode is not None if self.closes else measure.stopped(process.pid)
        return len(self.doomed) if gone else 0

    async def all(self, jobs):
        return [await job for job in jobs]

    async def holders(self, key):
        living = self.remotes[:-1]
        return {
            node for remote in living for node in (await remote.ask("holders", key=key))["nodes"]
        }

    async def _all_spent(self):
        return [await remote.ask("spent") for remote in self.remotes]

    async def spent(self):
        spent = await self._all_spent()
        return sum(one["cpu"] for one in spent), sum(one["rpcs"] for one in spent)


async def course(closes):
    """Take our fleet through the measurement."""
    fleet = Fleet(closes)
    async with trio.open_nursery() as nursery:
        try:
            idle = await fleet.start(nursery)
            await measure.Measurement(fleet, measure.NODES, idle).run()
        finally:
            for remote in fleet.remotes:
                remote.process.kill()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    if "--worker" in sys.argv:
        trio.run(work)
    else:
        trio.run(course, "closed" in sys.argv)
