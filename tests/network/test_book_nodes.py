"""Whole nodes over the real transport: books are filled and kept by the DHT and by each other."""

from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio
from book_kit import EUR, many, parsed, signed, until, who, withdrawal
from dht_kit import LISTEN, Clock, Randomness
from orderbook_kit import NET, NOW

from dht.endpoint import Peer
from dht.shell_node import Dht
from dht.transport_libp2p import open_streams
from orderbook import shell_market
from orderbook.shell_sync import Sync
from orderbook.store_book import BookStore
from p2pnode.app import fit
from p2pnode.app.crowd import DhtCrowd
from p2pnode.base.identity import Identity
from p2pnode.base.store import Database


@dataclass
class Node:
    identity: Identity
    streams: object
    dht: Dht
    store: BookStore
    sync: Sync
    scope: trio.CancelScope

    @property
    def peer(self):
        return Peer(self.identity.node_id, self.streams.addrs())

    def raws(self):
        return set(self.store.raws(EUR, b"", b"", NOW, 10_000))


@asynccontextmanager
async def town(count):
    """Start that many nodes that know each other, and a way to start more."""

    async def run(name, known, raws, task_status=trio.TASK_STATUS_IGNORED):
        me, clock = who(name), Clock()
        with trio.CancelScope() as scope:
            async with open_streams(me, NET, listen=LISTEN) as streams, trio.open_nursery() as own:
                dht = Dht(
                    streams, NET, clock, Randomness(name), Database(None), fit.kinds(NET),
                    identity=me,
                )  # fmt: skip
                await own.start(dht.run)
                await dht.join(known)
                store = BookStore(Database(None), NET)
                store.admit_all([(parsed(raw), raw) for raw in raws], NOW)
                crowd = DhtCrowd(dht, NET, fit.OFFER)
                sync = Sync(store, streams, crowd, None, me, NET, clock, Randomness(name))
                await own.start(sync.run)
                task_status.started(Node(me, streams, dht, store, sync, scope))

    async with trio.open_nursery() as nursery:

        async def start(name, known=(), raws=()):
            return await nursery.start(run, name, known, raws)

        nodes = [await start("node0")]
        for n in range(1, count):
            nodes.append(await start(f"node{n}", [nodes[0].peer]))
        yield nodes, start
        nursery.cancel_scope.cancel()


async def test_offers_in_the_dht_reach_a_follower_and_later_changes_are_pushed():
    async with town(5) as (nodes, _):
        maker, first = who("maker"), signed(who("maker"))
        await nodes[1].dht.put(fit.OFFER, first, whole=True)
        follower = nodes[4]
        await follower.sync.follow(EUR)
        assert follower.raws() == {first}
        asked = follower.dht.tally.counts["asked_find_value"]
        for newer in (signed(maker, seq=2), withdrawal(maker, first, 3)):
            await nodes[2].dht.put(fit.OFFER, newer)
            await until(lambda newer=newer: follower.raws() == {newer})
        assert follower.dht.tally.counts["asked_find_value"] == asked  # pushed, not polled
        assert follower.sync.view()[EUR]["sources"] == 4


async def test_followers_find_and_serve_each_other_beyond_what_the_dht_holds(monkeypatch):
    monkeypatch.setattr(shell_market, "SOON", 0.2)
    raws = many(300, makers=40)
    async with town(4) as (nodes, start):
        full = [await start(f"full{n}", [nodes[0].peer], raws) for n in range(3)]
        for node in full:
            await node.sync.follow(EUR)  # nothing of it is in the DHT
        await until(lambda: all(len(n.sync.view()[EUR]["servers"]) == 2 for n in full))
        new = await start("new", [nodes[0].peer])
        await new.sync.follow(EUR)
        assert new.raws() == set(raws)
        assert new.sync.counts["offers_invalid"] == 0
        assert sum(node.sync.counts["offers_served"] for node in full) >= 300
        servers = set(new.sync.view()[EUR]["servers"])
        assert servers == {node.identity.node_id.hex() for node in full}
        for node in full:  # the market's servers are gone: it goes on
            node.scope.cancel()
        await nodes[1].dht.put(fit.OFFER, signed(who("later")), whole=True)
        await until(lambda: signed(who("later")) in new.raws())


async def test_whoever_the_book_has_caught_lying_twelve_times_is_banned_from_the_node():
    async with town(3) as (nodes, _):
        liar = nodes[0].identity.node_id
        for _ in range(12):
            await nodes[2].dht.lied(liar)
        assert [ban.subject for ban in nodes[2].dht.bans()] == [liar.hex()]
