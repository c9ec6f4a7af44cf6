"""js-libp2p 3 in another process: what the tests that speak with it share.

`make jspeer` installs its packages; without them, or without node, the tests skip, and
with CI set that is a failure.
"""

import itertools
import json
import os
import shutil
import subprocess
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from dht_kit import NETWORK

HERE = Path(__file__).parent
NODE = shutil.which("node")
SECONDS = 20  # for one step of the other process on a busy machine


@pytest.fixture(autouse=True)
def installed():
    """Skip where the other implementation is not."""
    if NODE and (HERE / "node_modules/libp2p").is_dir():
        return
    why = "js-libp2p is not here: it takes node 18 or later with npm, and `make jspeer`"
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


class Refused(Exception):
    """What the other side answered instead of a result."""


class JsPeer:
    """The other process. Bytes travel as {"hex"}."""

    def __init__(self, process, hello):
        self.node_id = hello["node_id"]
        self.peer_id = hello["peer_id"]
        self.addrs = tuple(hello["addrs"])
        self.version = hello["node"]
        self._process = process
        self._numbers = itertools.count(1)
        self._waiting = {}
        self._into, self.news = trio.open_memory_channel(100)

    async def read(self, lines):
        async for line in lines:
            message = json.loads(line, object_hook=_from_hex)
            if "news" in message:
                await self._into.send(message["news"])
            else:
                event, box = self._waiting.pop(message["id"])
                box.append(message)
                event.set()

    async def do(self, what, **args):
        """Have it do something. Raises Refused with what it says went wrong."""
        number = next(self._numbers)
        event, box = self._waiting[number] = trio.Event(), []
        line = json.dumps({"id": number, "do": what, **args}, default=_to_hex) + "\n"
        await self._process.stdin.send_all(line.encode())
        with trio.fail_after(SECONDS):
            await event.wait()
        if "error" in box[0]:
            raise Refused(box[0]["error"])
        return box[0]["ok"]

    async def ask(self, node, method, *args):
        """Have it ask one of our nodes on its stream to that node."""
        return await self.do(
            "ask", peer={"id": node.id, "addrs": node.streams.addrs()}, method=method, args=args
        )


def _from_hex(item):
    return bytes.fromhex(item["hex"]) if set(item) == {"hex"} else item


def _to_hex(item):
    return {"hex": item.hex()}


async def _lines(stream):
    held = b""
    async for chunk in stream:
        *whole, held = (held + chunk).split(b"\n")
        for line in whole:
            yield line


@asynccontextmanager
async def js_peer(bits=NETWORK.identity_bits):
    """Run the other process; it ends with its input."""
    argv = [NODE, str(HERE / "peer.mjs"), NETWORK.name, str(bits)]
    run = partial(trio.run_process, argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    async with trio.open_nursery() as nursery:
        process = await nursery.start(run)
        lines = _lines(process.stdout)
        with trio.fail_after(SECONDS):
            hello = json.loads(await anext(lines), object_hook=_from_hex)
        peer = JsPeer(process, hello)
        nursery.start_soon(peer.read, lines)
        try:
            yield peer
        finally:
            await process.stdin.aclose()
            with trio.move_on_after(5) as ending:
                await process.wait()
            nursery.cancel_scope.cancel()
        assert not ending.cancelled_caught, "the other process did not end with its input"
