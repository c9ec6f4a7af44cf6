"""libp2p's kad_dht (PyPI) on its own hosts: Noise and Yamux over delayed TCP.

Two processes: this one has the callers, its child the doomed, which is stopped whole (SIGSTOP)
to silence them: connections stay open and nothing answers. Every node knows all others and
answers; only CALLERS of them have their connections made beforehand, since one connection
with its identify exchanges costs some 40 ms of a core, and refreshes of 64 tables at once busy
the machine for minutes. So there are as many samples after the deaths as callers.
"""

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import AsyncExitStack

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_new_x25519_key_pair
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.network.config import ConnectionConfig
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.records.validator import BlankValidator, NamespacedValidator
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from multiaddr import Multiaddr

from benchmarks import tcp_delay
from benchmarks.peers import measure

CALLERS = 8
# Left on, all hosts begin after 10 or 30 s to dial whom they know, and nothing gets through.
CALM = ConnectionConfig(min_connections=0, low_watermark=0, auto_connect_interval=3600.0)
SPACE = "bench"
WARMING_S = 40.0
AT_ONCE = 6  # handshakes; more, and identify times out and closes connections


class Node:
    """A host with its DHT, and how many streams it opened (one an RPC)."""

    def __init__(self):
        keys = create_new_key_pair()
        noise = NoiseTransport(keys, noise_privkey=create_new_x25519_key_pair().private_key)
        self.host = new_host(key_pair=keys, sec_opt={NOISE: noise}, connection_config=CALM)
        self.dht = None
        self.opened = 0
        self.new_stream = self.host.new_stream
        self.host.new_stream = self.count

    async def count(self, *args, **kwargs):
        self.opened += 1
        return await self.new_stream(*args, **kwargs)

    async def start(self, stack):
        listen = [Multiaddr("/ip4/127.0.0.1/tcp/0")]
        await stack.enter_async_context(self.host.run(listen_addrs=listen))
        validator = NamespacedValidator({SPACE: BlankValidator()})
        self.dht = KadDHT(self.host, DHTMode.SERVER, validator=validator)

    def told(self):
        """Return the peer id and addresses as JSON can hold them."""
        addrs = [str(addr).partition("/p2p/")[0] for addr in self.host.get_addrs()]
        return self.host.get_id().to_bytes().hex(), addrs

    async def know(self, everybody):
        for peer in everybody:
            if peer.peer_id != self.host.get_id():
                self.host.get_peerstore().add_addrs(peer.peer_id, peer.addrs, 3600)
                await self.dht.add_peer(peer.peer_id, skip_server_mode_check=True)


def heard(line):
    """Return the peers that a line of JSON tells."""
    peers = json.loads(line)
    return [PeerInfo(ID(bytes.fromhex(i)), [Multiaddr(a) for a in addrs]) for i, addrs in peers]


class KadDht:
    news = "has no push"
    at_once = CALLERS  # each waits seconds for the dead; the CPU is idle meanwhile

    def __init__(self, nodes, child):
        self.nodes, self.child = nodes, child
        self.callers = list(range(CALLERS))
        self.doomed = list(range(len(nodes), measure.NODES))

    async def put(self, node, value):
        key = f"/{SPACE}/{hashlib.sha256(value).hexdigest()}"
        start = time.perf_counter()
        with trio.move_on_after(measure.GET_LIMIT_S) as limit:
            await self.nodes[node].dht.put_value(key, value)
        return time.perf_counter() - start, None if limit.cancelled_caught else key

    async def get(self, node, key, value):
        start, got = time.perf_counter(), None
        with trio.move_on_after(measure.GET_LIMIT_S):
            got = await self.nodes[node].dht.get_value(key, quorum=1)
        return time.perf_counter() - start, got == value

    async def kill(self):
        os.kill(self.child.pid, signal.SIGSTOP)

    def silenced(self):
        return len(self.doomed) if measure.stopped(self.child.pid) else 0

    async def all(self, jobs):
        results = []

        async def one(job):
            results.append(await job)

        async with trio.open_nursery() as nursery:
            for job in jobs:
                nursery.start_soon(one, job)
        return results

    async def holders(self, key):
        held = key.encode()
        return {node for node in self.callers if self.nodes[node].dht.value_store.get(held)}

    async def spent(self):
        used = time.process_time() + measure.cpu(self.child.pid)
        return used, sum(node.opened for node in self.nodes)


async def started(count, stack):
    nodes = [Node() for _ in range(count)]
    for node in nodes:
        await node.start(stack)
    return nodes


async def warm(callers, everybody):
    """Connect the callers to everybody."""
    gate = trio.CapacityLimiter(AT_ONCE)

    async def connect(node, peer):
        async with gate:
            await node.host.connect(peer)

    with trio.move_on_after(WARMING_S):
        async with trio.open_nursery() as nursery:
            for node in callers:
                for peer in everybody:
                    if peer.peer_id != node.host.get_id():
                        nursery.start_soon(connect, node, peer)


async def doomed(count):
    """The child: serve until stopped."""
    async with tcp_delay.one_way(measure.ONE_WAY_S), AsyncExitStack() as stack:
        before = measure.resident()
        nodes = await started(count, stack)
        print(json.dumps([node.told() for node in nodes]), flush=True)
        everybody = heard(await trio.to_thread.run_sync(sys.stdin.readline))
        for node in nodes:
            await node.know(everybody)
        measure.freeze()
        print(before, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        os._exit(0)  # leaving a host properly takes seconds a peer


async def main(child):
    living, _ = measure.fates()
    async with tcp_delay.one_way(measure.ONE_WAY_S), AsyncExitStack() as stack:
        before = measure.resident()
        nodes = await started(len(living), stack)
        others = await trio.to_thread.run_sync(child.stdout.readline)
        everybody = json.dumps([node.told() for node in nodes] + json.loads(others))
        child.stdin.write(everybody + "\n")
        child.stdin.flush()
        everybody = heard(everybody)
        for node in nodes:
            await node.know(everybody)
        before += int(await trio.to_thread.run_sync(child.stdout.readline))
        await warm(nodes[:CALLERS], everybody)
        held = measure.resident() + measure.resident(child.pid)
        idle = (held - before) / measure.NODES
        try:
            await measure.Measurement(KadDht(nodes, child), measure.NODES, idle).run()
        finally:
            child.kill()
        os._exit(0)  # leaving a host properly takes seconds a peer


def start():
    doomed_argv = [sys.executable, "-m", "benchmarks.peers.kad_dht", str(len(measure.fates()[1]))]
    with subprocess.Popen(  # noqa: S603
        doomed_argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            trio.run(main, child)
        finally:
            child.kill()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    if len(sys.argv) > 1:
        trio.run(doomed, int(sys.argv[1]))
    else:
        start()
