"""Whole nodes that follow a market meet through the DHT and pass its offers on by gossip."""

from dataclasses import dataclass

import trio
from book_kit import EUR, parsed, signed, until, who
from dht_kit import LISTEN, Clock, Randomness
from orderbook_kit import NET, NOW

from dht.endpoint import Peer
from dht.shell_gossip import Gossiper
from dht.shell_node import Dht
from dht.transport_libp2p import open_streams
from orderbook import shell_market
from orderbook.shell_gossip import MarketGossip, topic_of
from orderbook.shell_sync import Sync
from orderbook.store_book import BookStore
from p2pnode.app import fit
from p2pnode.app.crowd import DhtCrowd
from p2pnode.base.clock import SystemRandomness
from p2pnode.base.store import Database

TOPIC = topic_of(NET, EUR)


@dataclass
class Node:
    streams: object
    gossip: Gossiper
    store: BookStore
    sync: Sync

    @property
    def counts(self):
        return self.streams.tally.counts

    def raws(self):
        return set(self.store.raws(EUR, b"", b"", NOW, 1000))


async def run(name, known, task_status=trio.TASK_STATUS_IGNORED):
    """Compose a node as `p2pnode.app.node` does, below the trade."""
    me, clock = who(name), Clock()
    async with open_streams(me, NET, listen=LISTEN) as streams, trio.open_nursery() as own:
        dht = Dht(
            streams, NET, clock, Randomness(name), Database(None), fit.kinds(NET), identity=me
        )
        await own.start(dht.run)
        await dht.join(known)
        await dht.announce()
        store = BookStore(Database(None), NET)
        gossip = Gossiper(streams, SystemRandomness(), tally=streams.tally)
        spread = MarketGossip(gossip, NET, store)
        crowd = DhtCrowd(dht, NET, fit.OFFER)
        sync = Sync(store, streams, crowd, spread, me, NET, clock, SystemRandomness())
        spread.feed(sync.take)
        sync.on_news(spread.heard)
        await own.start(gossip.run)
        await own.start(sync.run)
        task_status.started(Node(streams, gossip, store, sync))


async def test_an_own_offer_reaches_all_followers_by_gossip_alone(monkeypatch):
    monkeypatch.setattr(shell_market, "SOON", 0.2)
    async with trio.open_nursery() as nursery:
        first = await nursery.start(run, "node0", ())
        known = [Peer(first.streams.node_id, first.streams.addrs())]
        nodes = [first] + [await nursery.start(run, f"node{n}", known) for n in range(1, 5)]
        for node in nodes:
            await node.sync.follow(EUR)
        await until(lambda: all(len(n.gossip.router.mesh(TOPIC)) >= 3 for n in nodes))
        maker = who("maker")
        for number, node in enumerate(nodes):
            raw = signed(maker, slot=number)  # not put into the DHT
            await node.sync.take([raw], EUR)
            node.sync.own(parsed(raw), raw)
            await until(lambda raw=raw: all(raw in n.raws() for n in nodes))
        for node in nodes:
            assert node.counts["gossip_published"] == 1
            assert node.counts["gossip_invalid"] == 0
        assert sum(node.counts["gossip_accepted"] for node in nodes) == 5 * 4
        nursery.cancel_scope.cancel()
