"""OpenDHT: a runner a node, unsigned values, `listen` for the news."""

import asyncio
import hashlib
import os
import sys
import threading
import time

import opendht

from benchmarks.peers import measure

SETTLE_S = 10.0  # what the runners need to find each other
NEIGHBOURS = 6  # each is told at the start; with one, some values are not found at all
LISTENING_S = 1.0  # until a listener is known to the nodes near its key
NEWS_LIMIT_S = 10.0
REST_LIMIT_S = 0.2


class OpenDht(measure.Datagrams):
    news = None
    at_once = 1

    def __init__(self, runners, ports, state):
        super().__init__(ports, state)
        self.runners = runners

    async def put(self, node, value):
        key = opendht.InfoHash.get(hashlib.sha256(value).hexdigest())
        ended, oks = threading.Event(), []

        def done(ok, _nodes):
            oks.append(ok)
            ended.set()

        start = time.perf_counter()
        self.runners[node].put(key, opendht.Value(value), done)
        ended.wait(measure.GET_LIMIT_S)
        return time.perf_counter() - start, key if oks and oks[0] else None

    async def get(self, node, key, value):
        came, ended, at = threading.Event(), threading.Event(), []

        def one(got):
            if got.data == value:
                at.append(time.perf_counter())
                came.set()
            return True

        def done(_ok, _nodes):
            came.set()
            ended.set()

        start = time.perf_counter()
        self.runners[node].get(key, one, done)
        came.wait(measure.GET_LIMIT_S)
        taken = (at[0] if at else time.perf_counter()) - start
        ended.wait(REST_LIMIT_S)  # the rest of the search is not to disturb the next
        return taken, bool(at)

    async def hear(self, listener, speaker):
        value = os.urandom(measure.VALUE_BYTES)
        key = opendht.InfoHash.get(hashlib.sha256(value).hexdigest())
        heard, at = threading.Event(), []

        def one(got, expired):
            if got.data == value and not expired:
                at.append(time.perf_counter())
                heard.set()
            return True

        token = self.runners[listener].listen(key, one)
        await asyncio.sleep(LISTENING_S)
        start = time.perf_counter()
        self.runners[speaker].put(key, opendht.Value(value))
        heard.wait(NEWS_LIMIT_S)
        self.runners[listener].cancelListen(token)
        return at[0] - start if at else None


async def main():
    state = measure.State(sys.argv[1])
    before = measure.resident()
    ports, runners = measure.free_ports(measure.NODES), []
    for port in ports:
        config = opendht.DhtConfig()
        config.setRateLimit(-1, -1)  # one address speaks for all
        runners.append(opendht.DhtRunner())
        runners[-1].run(port=port, ipv4="127.0.0.1", ipv6="::1", config=config)
    for number, runner in enumerate(runners):
        for step in range(1, 1 + NEIGHBOURS):
            port = ports[(number + step * step) % len(ports)]
            runner.bootstrap("127.0.0.1", str(port))
    await asyncio.sleep(SETTLE_S)
    idle = (measure.resident() - before) / len(runners)
    await measure.Measurement(OpenDht(runners, ports, state), len(runners), idle).run()
    os._exit(0)  # joining 64 runners' threads takes longer than the measurement


if __name__ == "__main__":
    asyncio.run(main())
