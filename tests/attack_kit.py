"""A node under attack: its process, an honest peer that keeps asking it, strangers of all kinds."""

import contextvars
import json
import os
import re
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio
from dht_kit import LISTEN, NETWORK, identity

from dht import rpc
from dht.endpoint import Peer
from dht.rpc import Answer, Ask
from dht.transport_libp2p import open_streams
from p2pnode.base.errors import NodeError

HERE = Path(__file__).resolve().parent
BOUND_S = 3.0  # for each honest question, attacker, node and asker sharing two busy cores
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ [\w.]+: \S")
DHT = NETWORK.protocol("dht")

_source = contextvars.ContextVar("source", default=None)


@contextmanager
def calling_from(host):
    """Dial from another loopback address inside the block."""
    token = _source.set(host)
    try:
        yield
    finally:
        _source.reset(token)


@contextmanager
def sources():
    """Make `calling_from` count for whoever dials."""
    dial = trio.open_tcp_stream

    async def dial_from(host, port, **more):
        return await dial(host, port, local_address=_source.get(), **more)

    trio.open_tcp_stream = dial_from
    try:
        yield
    finally:
        trio.open_tcp_stream = dial


class Target:
    """The node under attack, as its test sees it."""

    def __init__(self, process, directory):
        self._process, self._directory = process, directory
        self._turn = trio.Lock()
        self.pid = process.pid
        self.node_id, self.addrs = b"", ()

    @property
    def peer(self):
        return Peer(self.node_id, self.addrs)

    @property
    def port(self):
        return int(self.addrs[0].rsplit("/", 1)[1])

    @property
    def host(self):
        return self.addrs[0].split("/")[2]

    async def _line(self):
        read = self._process.stdout.readline
        with trio.fail_after(60):
            line = await trio.to_thread.run_sync(read, abandon_on_cancel=True)
        assert line, f"the node has ended: {self.log()[-2000:]}"
        return json.loads(line)

    async def ready(self):
        told = await self._line()
        self.node_id, self.addrs = bytes.fromhex(told["node_id"]), tuple(told["addrs"])

    async def ask(self, *order):
        """Have the node do something, and return what came of it."""
        async with self._turn:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
            return await self._line()

    async def report(self):
        return await self.ask("report")

    async def until(self, condition, seconds=20):
        """Wait until the report satisfies `condition`; return it."""
        report = await self.report()
        with trio.move_on_after(seconds):
            while not condition(report):
                await trio.sleep(0.1)
                report = await self.report()
        assert condition(report), report
        return report

    def rss(self):
        """Return the resident memory in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * int(re.search(r"VmRSS:\s+(\d+)", status)[1])

    def log(self):
        return (self._directory / "node.log").read_text()

    async def tcp(self):
        return await trio.open_tcp_stream(self.host, self.port)

    async def open(self, streams, *, limit=1 << 20, dialled=False):
        """Open a DHT stream to the node."""
        return await streams.open(self.node_id, self.addrs, DHT, limit=limit, dialled=dialled)


@asynccontextmanager
async def target(directory, **wish):
    """Run a node until the block ends; its log must consist of lines that it wrote itself."""
    directory.mkdir(exist_ok=True)
    paths = os.pathsep.join((str(HERE), str(HERE.parent)))
    process = subprocess.Popen(  # noqa: ASYNC220 - it starts and is not waited for
        [
            sys.executable,
            str(HERE / "network" / "attacked_node.py"),
            json.dumps({"dir": str(directory), **wish}),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": paths},
    )
    it = Target(process, directory)
    try:
        await it.ready()
        yield it
        await it.report()  # it is still there
        for line in it.log().splitlines():
            assert LINE.match(line), line
    finally:
        process.kill()
        _, errors = process.communicate()
        print(errors.decode()[-2000:])
    assert errors == b""


class Honest:
    """Asks the node all the while, one question after the other, and is always answered."""

    def __init__(self, it, streams):
        self._target, self._streams = it, streams
        self.took = []
        self.failed = []
        self._number = 0

    async def run(self, task_status=trio.TASK_STATUS_IGNORED):
        channel = await self._target.open(self._streams)
        task_status.started()
        while True:
            await self._ask(channel, rpc.PING)
            await self._ask(channel, rpc.FIND_NODE, self._target.node_id)
            await self._ask(channel, rpc.FIND_VALUE, "note", bytes(32), b"")
            await trio.sleep(0.02)

    async def _ask(self, channel, method, *args):
        began = trio.current_time()
        self._number += 1
        await channel.send(rpc.encode(Ask(self._number, method, args)))
        try:
            with trio.fail_after(BOUND_S):
                answer = rpc.decode(await channel.receive())
        except (trio.TooSlowError, NodeError) as error:
            self.failed.append((method, repr(error)))
            raise
        assert isinstance(answer, Answer)
        assert answer.id == self._number
        assert not answer.error
        self.took.append(trio.current_time() - began)


@asynccontextmanager
async def attacked(directory, *, source=None, least=20, **wish):
    """Run a node and an honest peer of it around an attack."""
    with sources():
        async with target(directory, **wish) as it, open_streams(identity("honest"), NETWORK) as me:
            honest = Honest(it, me)
            async with trio.open_nursery() as nursery:
                with calling_from(source):
                    await nursery.start(honest.run)
                yield it
                count = len(honest.took)
                with trio.fail_after(30):  # and it answers when all is over
                    while len(honest.took) < max(least, count + 3):  # noqa: ASYNC110
                        await trio.sleep(0.01)
                nursery.cancel_scope.cancel()
            assert max(honest.took) < BOUND_S
            print(f"{len(honest.took)} honest answers, the slowest {max(honest.took):.3f} s")


@asynccontextmanager
async def stranger(name="mallory", *, listen=(), handler=None):
    """Run a transport of an attacker's; `handler` answers its DHT protocol."""
    async with open_streams(identity(name), NETWORK, listen=LISTEN if handler else listen) as mine:
        if handler:
            mine.serve(DHT, handler, limit=1 << 20)
        yield mine


async def ask(channel, method, *args, number=1):
    await channel.send(rpc.encode(Ask(number, method, args)))
    return rpc.decode(await channel.receive())


async def drained(tcp):
    """Read until the other side ends the connection."""
    try:
        while await tcp.receive_some():
            pass
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
