"""kademlia (PyPI) as it comes: its own server, one UDP datagram a message."""

import asyncio
import hashlib
import logging
import sys
import time

from kademlia.network import Server
from kademlia.utils import digest

from benchmarks.peers import measure

JOIN_AT_ONCE = 10


class Kademlia(measure.Datagrams):
    news = "has no push"
    at_once = 15  # each waits seconds for the dead; the CPU is idle meanwhile

    def __init__(self, servers, ports, state):
        super().__init__(ports, state)
        self.servers = servers

    async def put(self, node, value):
        key = hashlib.sha256(value).hexdigest()
        start = time.perf_counter()
        stored = await self.servers[node].set(key, value)
        return time.perf_counter() - start, key if stored else None

    async def get(self, node, key, value):
        start = time.perf_counter()
        try:
            got = await asyncio.wait_for(self.servers[node].get(key), measure.GET_LIMIT_S)
        except TimeoutError:
            got = None
        return time.perf_counter() - start, got == value

    async def all(self, jobs):
        return await asyncio.gather(*jobs)

    async def holders(self, key):
        held = digest(key)
        return {node for node in self.callers if self.servers[node].storage.get(held) is not None}


async def main():
    logging.disable(logging.CRITICAL)
    state = measure.State(sys.argv[1])
    before = measure.resident()
    ports, servers = measure.free_ports(measure.NODES), []
    for port in ports:
        servers.append(Server(node_id=hashlib.sha1(b"%d" % port).digest()))  # noqa: S324
        await servers[-1].listen(port, interface="127.0.0.1")
    seed = [("127.0.0.1", ports[0])]
    for first in range(1, len(servers), JOIN_AT_ONCE):
        some = servers[first : first + JOIN_AT_ONCE]
        await asyncio.gather(*(server.bootstrap(seed) for server in some))
    idle = (measure.resident() - before) / len(servers)
    system = Kademlia(servers, ports, state)
    await measure.Measurement(system, len(servers), idle).run()


if __name__ == "__main__":
    asyncio.run(main())
