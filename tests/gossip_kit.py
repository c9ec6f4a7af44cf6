"""Gossip over the real transport: nodes with a judge that can be told what to say."""

from contextlib import asynccontextmanager

import trio
from dht_kit import LISTEN, NETWORK, identity

from dht.endpoint import Peer
from dht.shell_gossip import Gossiper
from dht.transport_libp2p import open_streams
from p2pnode.base.clock import SystemRandomness
from p2pnode.base.ports import Verdict

TOPIC = "/p2pnode/sandbox/book/EUR/1"


class Talker:
    """One node: its gossip and what its judge has seen."""

    def __init__(self, streams):
        self.streams = streams
        self.gossip = Gossiper(streams, SystemRandomness(), tally=streams.tally)
        self.judged = []
        self.verdict = lambda data: Verdict.ACCEPT

    @property
    def id(self):
        return self.streams.node_id

    @property
    def peer(self):
        return Peer(self.id, self.streams.addrs())

    @property
    def counts(self):
        return self.gossip.tally.counts

    def got(self, data):
        return data in [seen for seen, _ in self.judged]

    def meshed(self):
        return set(self.gossip.router.mesh(TOPIC))

    def join(self, topic=TOPIC):
        self.gossip.join(topic, self._judge)

    async def _judge(self, data, peer):
        verdict = self.verdict(data)
        self.judged.append((data, peer))
        await trio.lowlevel.checkpoint()
        return verdict


@asynccontextmanager
async def talkers(count, *, joined=True):
    """Run nodes that do not know each other yet; whatever fails in one fails the test."""
    async with trio.open_nursery() as nursery:

        async def run(name, task_status=trio.TASK_STATUS_IGNORED):
            async with open_streams(identity(name), NETWORK, listen=LISTEN) as streams:
                talker = Talker(streams)
                await nursery.start(talker.gossip.run)
                if joined:
                    talker.join()
                task_status.started(talker)
                await trio.sleep_forever()

        made = [await nursery.start(run, f"talker {i}") for i in range(count)]
        yield made
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def stranger(name="stranger"):
    """Run a transport without gossip, for a test to speak as it likes."""
    async with open_streams(identity(name), NETWORK, listen=LISTEN) as streams:
        yield streams
