"""One DHT node in a process of its own, to be attacked; the test talks to it over stdin and stdout.

python attacked_node.py '{"listen": …, "patch": {"module:NAME": value}, "exempt": [], …}'

It prints one JSON line when it serves, then one for each line it reads: ["report"],
["get", MARKET], ["put", OWNER, MARKET], ["listen", MARKET], ["compare", MARKET],
["nodes", KEY_HEX], ["know", PEER_HEX, ADDR]. The end of stdin ends it.
"""

import dataclasses
import importlib
import ipaddress
import json
import logging
import os
import sys
import time
from pathlib import Path

import trio
from dht_kit import NETWORK, NOTE, Randomness, identity, note, note_key, validate_note

from dht.admission import Limits
from dht.endpoint import Peer
from dht.records import Kinds
from dht.room import Room
from dht.shell_node import Dht
from dht.subnets import LOOPBACK, Subnets
from dht.transport_libp2p import open_streams
from p2pnode.app import daemon
from p2pnode.base.clock import SystemClock
from p2pnode.base.errors import NodeError
from p2pnode.base.store import Database


class Attacked:
    """The node, and what its test may ask of it."""

    def __init__(self, dht, streams, clock, nursery):
        self.dht, self.streams, self.clock, self.nursery = dht, streams, clock, nursery
        self.heard = 0

    async def obey(self, order, *args):
        """Return what is to be printed."""
        return await getattr(self, f"do_{order}")(*args)

    async def do_report(self):
        upkeep, contacts = self.dht._upkeep, self.dht._contacts
        return {
            "dht": dict(self.dht.tally.counts),
            "transport": dict(self.streams.tally.counts),
            "view": self.dht.view(),
            "bans": [dataclasses.asdict(ban) for ban in self.dht.bans()],
            "inbound": self.streams.inbound(),
            "connected": len(self.streams.connected()),
            "peers": {p.node_id.hex(): p.addrs for p in self.dht.peers()},
            "fds": len(os.listdir("/proc/self/fd")),
            "tasks": trio.lowlevel.current_statistics().tasks_living,
            "cpu_s": time.process_time(),
            "heard": self.heard,
            "sizes": {
                "touched": len(self.dht._answers.touched),
                "asked_back": len(contacts._asked_back),
                "due": len(upkeep._due),
                "heard": len(contacts._heard),
            },
        }

    async def do_get(self, market):
        began = trio.current_time()
        found = await self.dht.get(NOTE, note_key(market))
        return {"records": len(found.records), "s": trio.current_time() - began}

    async def do_put(self, owner, market):
        raw = note(identity(owner), market, expires_at=self.clock.now() + 1000)
        return {"acked": (await self.dht.put(NOTE, raw)).acked}

    async def do_nodes(self, key):
        began = trio.current_time()
        found = await self.dht.find_nodes(bytes.fromhex(key))
        return {"found": [p.node_id.hex() for p in found], "s": trio.current_time() - began}

    async def do_listen(self, market):
        ready = trio.Event()

        async def listen():
            async with self.dht.listen(NOTE, note_key(market)) as news:
                ready.set()
                async for _ in news:
                    self.heard += 1

        self.nursery.start_soon(listen)
        await ready.wait()
        return {}

    async def do_compare(self, market):
        began = trio.current_time()
        await self.dht._upkeep._compare_with_some((NOTE, note_key(market)))
        return {"s": trio.current_time() - began}

    async def do_know(self, peer, *addrs):
        """Have it join through a peer, as its owner's word."""
        return {"answered": await self.dht.meet([Peer(bytes.fromhex(peer), addrs)])}


def say(what):
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def orders(attacked):
    stdin, waiting = trio.lowlevel.FdStream(os.dup(0)), b""
    async with trio.open_nursery() as nursery:

        async def obey(order):
            try:
                say(await attacked.obey(*order))
            except NodeError as error:
                say({"error": str(error)})

        async for data in stdin:
            *lines, waiting = (waiting + data).split(b"\n")
            for line in lines:
                nursery.start_soon(obey, json.loads(line))


async def main(wish):
    for name, value in wish.get("patch", {}).items():
        module, _, attribute = name.partition(":")
        assert hasattr(importlib.import_module(module), attribute), name
        setattr(importlib.import_module(module), attribute, value)
    daemon.configure_logging(Path(wish["dir"]))
    logging.getLogger("dht").setLevel(wish.get("log", "INFO"))
    exempt = wish.get("exempt")
    nets = LOOPBACK if exempt is None else tuple(map(ipaddress.ip_network, exempt))
    network = dataclasses.replace(NETWORK, bondless=not wish.get("public", False))
    subnets, clock = Subnets(nets), SystemClock()
    who = identity(wish.get("name", "attacked"))
    async with open_streams(
        who,
        network,
        listen=[wish.get("listen", "/ip4/127.0.0.1/tcp/0")],
        limits=Limits(**wish.get("limits", {})),
        subnets=subnets,
    ) as streams:
        dht = Dht(
            streams, network, clock, Randomness("attacked"),
            Database(Path(wish["dir"]) / "dht.sqlite", durable=False), Kinds({NOTE: validate_note}),
            wish.get("k", 20), identity=who, subnets=subnets,
            room=Room(**wish.get("room", {})),
        )  # fmt: skip
        async with trio.open_nursery() as nursery:
            await nursery.start(dht.run)
            say({"node_id": who.node_id.hex(), "addrs": streams.addrs(), "pid": os.getpid()})
            await orders(Attacked(dht, streams, clock, nursery))
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, json.loads(sys.argv[1]))
