"""How long an honest peer waits while strangers attack the node: `python -m benchmarks attack`.

    bench ── lines of JSON ──▶ node       a whole `Dht` over the real transport, limits as shipped
          ── lines of JSON ──▶ honest     one peer, a question every 10 ms on one stream
          ── a kill at the end ─▶ attacker   one process, its rate bounded

Four processes on loopback, no delay added. Each attack has an idle stretch right before and
right after it, with the attacker's process not running: the ratio is the honest p99 of the
attack over that of both. All share the machine's cores, so what an attacker costs beside the
node is in the figure as well; the rows `attack_cpu_…` say how much of a core it took.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from benchmarks.fleet import KIND, NETWORK, signed, validate
from benchmarks.report import Report, percentile
from dht import rpc
from dht.keys import record_key
from dht.records import Kinds
from dht.rpc import Ask
from dht.shell_node import Dht
from dht.transport_libp2p import open_streams
from p2pnode.base.clock import SystemClock, SystemRandomness
from p2pnode.base.errors import NodeError
from p2pnode.base.identity import Identity
from p2pnode.base.store import Database

ATTACKS = {
    "garbage": "50 connections a second, each with 5 KB that are no handshake",
    "half_open": "1,000 connections that say nothing, then 25 more a second",
    "store_storm": "4 peers who store valid records as fast as they are answered",
    "idle_connections": "500 peers who have proved their keys and stay",
}
BAR = 2
STRETCH_S = 8.0
SETTLE_S = 2.0
EVERY_S = 0.01
READY_LIMIT_S = 60.0
DHT = NETWORK.protocol("dht")
QUESTIONS = (
    (rpc.PING, ()),
    (rpc.FIND_NODE, (bytes(32),)),
    (rpc.FIND_VALUE, (KIND, record_key(NETWORK, KIND, ""), b"")),
)


def identity(name):
    """Return a key that carries the network's work."""
    return Identity.grind(NETWORK, name.encode())


def say(what):
    """Print one line for the other side of the pipe."""
    print(json.dumps(what), flush=True)


# ------------------------------------------------------------------ the node, the honest peer


async def node(directory):
    """Serve until stdin ends; a line asks for the counters."""
    me = identity("node")
    async with open_streams(me, NETWORK, listen=["/ip4/127.0.0.1/tcp/0"]) as streams:
        kinds = Kinds({KIND: validate})
        database = Database(Path(directory) / "dht.sqlite", durable=False)
        clock, randomness = SystemClock(), SystemRandomness()
        dht = Dht(streams, NETWORK, clock, randomness, database, kinds, identity=me)
        async with trio.open_nursery() as nursery:
            await nursery.start(dht.run)
            say([me.node_id.hex(), *streams.addrs()])
            async for _ in trio.lowlevel.FdStream(os.dup(0)):
                say({**dht.tally.counts, **streams.tally.counts, "inbound": streams.inbound()})
            nursery.cancel_scope.cancel()


async def honest(node_id, addr):
    """Ask all the time; a line asks for the seconds that the answers took since the last."""
    took: list[float] = []
    async with open_streams(identity("honest"), NETWORK) as streams:
        channel = await streams.open(bytes.fromhex(node_id), [addr], DHT, limit=rpc.FRAME_LIMIT)

        async def ask():
            number = 0
            due = trio.current_time()
            while True:
                method, args = QUESTIONS[number % len(QUESTIONS)]
                number += 1
                began = trio.current_time()
                await channel.send(rpc.encode(Ask(number, method, args)))
                await channel.receive()
                took.append(trio.current_time() - began)
                due = max(due + EVERY_S, trio.current_time())
                await trio.sleep_until(due)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            say("ready")
            async for _ in trio.lowlevel.FdStream(os.dup(0)):
                say(took)
                took.clear()
            nursery.cancel_scope.cancel()


# ------------------------------------------------------------------ the attackers


async def attacker(what, node_id, addr):
    """Attack until killed; says when the attack is at its height."""
    host, port = addr.split("/")[2], int(addr.rsplit("/", 1)[1])
    await {
        "garbage": _garbage,
        "half_open": _half_open,
        "store_storm": _store_storm,
        "idle_connections": _idle,
    }[what](bytes.fromhex(node_id), addr, host, port)


async def _garbage(_node_id, _addr, host, port):
    say("ready")
    due = trio.current_time()
    while True:
        tcp = await trio.open_tcp_stream(host, port)
        with suppress(trio.BrokenResourceError):
            await tcp.send_all(os.urandom(5000))
        tcp.socket.close()
        due = max(due + 0.02, trio.current_time())
        await trio.sleep_until(due)


async def _half_open(_node_id, _addr, host, port):
    held = [await trio.open_tcp_stream(host, port) for _ in range(1000)]
    say("ready")
    due = trio.current_time()
    while True:
        held.append(await trio.open_tcp_stream(host, port))
        held.pop(0).socket.close()
        due = max(due + 0.04, trio.current_time())
        await trio.sleep_until(due)


async def _store_storm(node_id, addr, _host, _port):
    async def storm(name, task_status=trio.TASK_STATUS_IGNORED):
        me, now, number = identity(name), SystemClock().now(), 0
        async with open_streams(me, NETWORK) as streams:
            channel = await streams.open(node_id, [addr], DHT, limit=rpc.FRAME_LIMIT)
            task_status.started()
            while True:
                number += 1
                raw, key = signed(me, f"{name} {number}".encode() + bytes(900), now)
                await channel.send(rpc.encode(Ask(number, rpc.STORE, (KIND, key, raw))))
                await channel.receive()

    async with trio.open_nursery() as nursery:
        for number in range(4):
            await nursery.start(storm, f"storm{number}")
        say("ready")


async def _idle(node_id, addr, _host, _port):
    async def stay(name):
        async with open_streams(identity(name), NETWORK) as streams:
            try:
                await streams.open(node_id, [addr], DHT, limit=rpc.FRAME_LIMIT)
            except NodeError as error:
                print(f"{name}: {error}", file=sys.stderr)
                return
            await opened.send(None)
            await trio.sleep_forever()

    opened, counted = trio.open_memory_channel[None](0)
    async with trio.open_nursery() as nursery:
        for number in range(500):
            nursery.start_soon(stay, f"idle{number}")
            await counted.receive()
        say("ready")


# ------------------------------------------------------------------ the course


class Part:
    """One process of the course."""

    def __init__(self, *argv):
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "benchmarks.attack", *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.ready = self._line()

    def _line(self):
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a part of the benchmark has ended: {self._process.args[3:]}")
        return json.loads(line)

    def told(self):
        """Return what the part has to say now."""
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        return self._line()

    def cpu(self):
        """Return the CPU seconds it has taken."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self):
        """End it, by its own id."""
        self._process.kill()
        self._process.wait()


def stretch(peer):
    """Return the seconds that honest answers took over one stretch."""
    time.sleep(SETTLE_S)
    peer.told()
    time.sleep(STRETCH_S)
    return peer.told()


def attack(report, what, say=lambda text: print(text, file=sys.stderr)):
    """Measure one attack on a node of its own and print its rows."""
    with TemporaryDirectory() as directory:
        parts = [Part("node", directory)]
        try:
            target = parts[0].ready
            parts.append(Part("honest", *target))
            idle = stretch(parts[1])
            parts.append(Part("attacker", what, *target))
            before, node_before = parts[2].cpu(), parts[0].cpu()
            under = stretch(parts[1])
            spent, node_spent = parts[2].cpu() - before, parts[0].cpu() - node_before
            counts = parts[0].told()
            parts.pop().end()
            idle += stretch(parts[1])
        finally:
            for part in reversed(parts):  # the node last, so that nobody misses it
                part.end()
    for name, values in (("idle", idle), ("attack", under)):
        say(f"{what} {name}: {len(values)} answers, p50 {1000 * percentile(values, 50):.2f} ms")
    say(f"{what}: {ATTACKS[what]}; the node counted {json.dumps(counts)}")
    figures = [1000 * percentile(values, 99) for values in (under, idle)]
    report.row(f"attack_p99_{what}", "ms", figures[0], {"idle": figures[1]}, bar=BAR)
    wall = STRETCH_S + SETTLE_S
    report.row(f"attack_cpu_{what}", "cores", node_spent / wall, {"attacker": spent / wall})


def main(only: tuple[str, ...] = ()) -> int:
    """Print the rows and return the exit status."""
    chosen = [what for what in ATTACKS if not only or what in only]
    report = Report("attack", [f"attack_p99_{what}" for what in chosen])
    for what in chosen:
        attack(report, what)
    return report.status()


ROLES: dict[str, Callable[..., object]] = {"node": node, "honest": honest, "attacker": attacker}

if __name__ == "__main__":
    trio.run(ROLES[sys.argv[1]], *sys.argv[2:])
