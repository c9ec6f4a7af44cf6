"""Gossip between real nodes over loopback: the mesh forms, messages are judged once and reach all."""

import trio
from dht_kit import until
from gossip_kit import TOPIC, talkers

from p2pnode.base.ports import Verdict


async def test_a_message_reaches_everybody_and_is_judged_once_by_each():
    async with talkers(8) as nodes:
        for i, node in enumerate(nodes):
            node.gossip.meet(TOPIC, [other.peer for other in nodes[:i]])
        await until(lambda: all(len(node.meshed()) >= 4 for node in nodes))
        sent = [f"offer {i}".encode() for i in range(20)]
        for i, data in enumerate(sent):
            assert await nodes[i % 8].gossip.publish(TOPIC, data) >= 4
        for i, data in enumerate(sent):
            others = [node for node in nodes if node is not nodes[i % 8]]
            await until(lambda data=data, others=others: all(node.got(data) for node in others))
        await until(lambda: sum(node.counts["gossip_duplicates"] for node in nodes) > 100)
        for node in nodes:
            seen = [data for data, _ in node.judged]
            assert len(seen) == len(set(seen))
        assert await nodes[0].gossip.publish(TOPIC, sent[0]) == 0  # said before


async def test_what_is_not_accepted_goes_no_further():
    async with talkers(3) as (a, b, c):
        b.gossip.meet(TOPIC, [a.peer, c.peer])
        await until(lambda: b.meshed() == {a.id, c.id})
        b.verdict = lambda data: Verdict.IGNORE if data == b"ignore" else Verdict.ACCEPT
        for data in (b"ignore", b"accept"):
            await a.gossip.publish(TOPIC, data)
        await until(lambda: c.got(b"accept"))
        assert b.got(b"ignore")
        assert not c.got(b"ignore")
        assert b.gossip.router.score(a.id, trio.current_time()) > 0  # nobody's fault


async def test_who_brings_what_is_rejected_is_closed_and_not_let_in_again():
    async with talkers(3) as (a, b, c):
        b.gossip.meet(TOPIC, [a.peer, c.peer])
        await until(lambda: b.meshed() == {a.id, c.id})
        b.verdict = lambda data: Verdict.REJECT if data.startswith(b"bad") else Verdict.ACCEPT
        for i in range(3):
            await a.gossip.publish(TOPIC, b"bad %d" % i)
            await until(lambda i=i: b.got(b"bad %d" % i))
        await until(lambda: a.id not in b.gossip.router.peers())
        assert b.counts["gossip_closed"] == 1
        a.gossip.meet(TOPIC, [b.peer])
        await until(lambda: b.counts["gossip_refused"] > 0, 20)
        assert not [data for data, _ in c.judged if data.startswith(b"bad")]
        await b.gossip.publish(TOPIC, b"good")
        await until(lambda: c.got(b"good"))


async def test_an_address_that_is_not_public_is_not_dialled_on_a_strangers_word():
    async with talkers(2) as (a, b):
        a.gossip._anywhere = False
        before = b.counts["connections_in"]
        a.gossip.meet(TOPIC, [b.peer])
        await until(lambda: a.counts["gossip_dials_failed"] == 1)
        assert b.counts["connections_in"] == before
        a.gossip._anywhere = True
        a.gossip.meet(TOPIC, [b.peer])
        await until(lambda: a.id in b.meshed(), 20)  # after its wait of five seconds


async def test_a_peer_that_comes_back_is_dialled_again():
    async with talkers(2) as (a, b):
        a.gossip.meet(TOPIC, [b.peer])
        await until(lambda: b.id in a.meshed() and a.id in b.meshed())
        for held in list(a.streams._connections.values()):
            for connection in held.copy():
                connection.kill()
        await until(lambda: not a.meshed() and not b.meshed())
        await until(lambda: b.id in a.meshed() and a.id in b.meshed(), 20)
        await b.gossip.publish(TOPIC, b"back")
        await until(lambda: a.got(b"back"))


async def test_who_leaves_the_topic_is_let_go():
    async with talkers(2) as (a, b):
        a.gossip.meet(TOPIC, [b.peer])
        await until(lambda: b.id in a.meshed() and a.id in b.meshed())
        b.gossip.leave(TOPIC)
        await until(lambda: not a.meshed())
        a.gossip.leave(TOPIC)
        for node in (a, b):
            await until(lambda node=node: not node.gossip.router.peers(TOPIC))
            assert await node.gossip.publish(TOPIC, b"nobody") == 0
