"""js-libp2p's gossipsub and ours: each in the other's mesh, messages both ways, verdicts too."""

from contextlib import asynccontextmanager

import trio
from dht_kit import until
from gossip_kit import TOPIC, talkers
from js_kit import SECONDS, installed, js_peer  # noqa: F401 - the fixture is for all tests here

from dht.endpoint import Peer
from dht.gossip_wire import MAX_DATA, PROTOCOL, Rpc, message_id
from p2pnode.base.identity import peer_id
from p2pnode.base.ports import Verdict


@asynccontextmanager
async def scene(count=1, *, we_dial=False, refuse="none"):
    """Yield the other process and nodes of ours, all in one topic, each linked to it."""
    async with talkers(count) as nodes, js_peer() as js:
        await js.do("join", topic=TOPIC, refuse=refuse)
        for node in nodes:
            if we_dial:
                node.gossip.meet(TOPIC, [Peer(js.node_id, js.addrs)])
            else:
                await js.do("dial", addr=f"{node.streams.addrs()[0]}/p2p/{peer_id(node.id)}")
        for node in nodes:
            await until(lambda node=node: node.meshed() == {js.node_id}, SECONDS)
        ours = {peer_id(node.id) for node in nodes}
        await around(js, "mesh", ours)
        yield js, *nodes


async def around(js, what, peers):
    """Wait until the other process has these in its mesh, or as subscribers."""
    with trio.fail_after(SECONDS):
        while set((await js.do("around", topic=TOPIC))[what]) != peers:  # noqa: ASYNC110 - its state
            await trio.sleep(0.05)


async def hears(js, data):
    with trio.fail_after(SECONDS):
        assert await js.news.receive() == [TOPIC, data]


async def test_it_dials_us_and_messages_go_both_ways():
    async with scene() as (js, a):
        told = await js.do("around", topic=TOPIC)
        assert told["subscribers"] == [peer_id(a.id)]
        assert told["protocols"] == [PROTOCOL]
        assert await a.gossip.publish(TOPIC, b"from us") == 1
        await hears(js, b"from us")
        longest = bytes(range(256)) * (MAX_DATA // 256)
        assert await js.do("publish", topic=TOPIC, data=longest) == 1
        await until(lambda: a.got(longest), SECONDS)
        assert a.counts["gossip_invalid"] == 0


async def test_we_dial_it_and_messages_go_both_ways():
    async with scene(we_dial=True) as (js, a):
        await a.gossip.publish(TOPIC, b"from us")
        await hears(js, b"from us")
        await js.do("publish", topic=TOPIC, data=b"from it")
        await until(lambda: a.got(b"from it"), SECONDS)


async def test_it_passes_our_messages_on_and_we_its():
    async with scene(2) as (js, a, b):
        for data, sender, other in [(b"a to b", a, b), (b"b to a", b, a)]:
            await sender.gossip.publish(TOPIC, data)
            await hears(js, data)
            await until(lambda data=data, other=other: other.got(data), SECONDS)
    async with scene(1) as (js, a), js_peer() as second:
        await second.do("join", topic=TOPIC, refuse="none")
        await second.do("dial", addr=f"{a.streams.addrs()[0]}/p2p/{peer_id(a.id)}")
        await until(lambda: a.meshed() == {js.node_id, second.node_id}, SECONDS)
        await js.do("publish", topic=TOPIC, data=b"through us")
        await hears(second, b"through us")


async def test_what_it_missed_it_asks_for_and_what_we_missed_we_ask_for():
    """Outside each other's meshes IHAVE and IWANT carry messages."""
    async with scene() as (js, a):
        router = a.gossip.router
        router._meshes[TOPIC].prune(js.node_id, trio.current_time(), 60)
        router._send(js.node_id, Rpc(prune=((TOPIC, 60),)))
        await around(js, "mesh", set())
        router._seen.note(message_id(b"it missed"), Verdict.ACCEPT, trio.current_time())
        router._history.put(message_id(b"it missed"), TOPIC, b"it missed")
        await hears(js, b"it missed")
        assert a.counts["gossip_answered"] == 1
        await js.do("publish", topic=TOPIC, data=b"we missed")  # its own goes to everybody
        await until(lambda: a.got(b"we missed"), SECONDS)
        router._seen.forget(message_id(b"we missed"))
        a.judged.clear()
        await until(lambda: a.got(b"we missed"), SECONDS)
        assert a.counts["gossip_asked"] == 1


async def test_its_rejects_and_ours_lower_the_other():
    async with scene(refuse="bad") as (js, a):
        await a.gossip.publish(TOPIC, b"bad to it")
        await a.gossip.publish(TOPIC, b"good")
        await hears(js, b"good")
        a.verdict = lambda data: Verdict.REJECT
        for i in range(3):
            await js.do("publish", topic=TOPIC, data=b"bad to us %d" % i)
        await until(lambda: js.node_id not in a.gossip.router.peers(), SECONDS)
        assert a.counts["gossip_closed"] == 1


async def test_leaving_is_understood_both_ways():
    async with scene() as (js, a):
        await js.do("leave", topic=TOPIC)
        await until(lambda: not a.meshed() and not a.gossip.router.peers(TOPIC), SECONDS)
        await js.do("join", topic=TOPIC, refuse="none")
        await until(lambda: js.node_id in a.gossip.router.peers(TOPIC), SECONDS)
        a.gossip.leave(TOPIC)
        await around(js, "subscribers", set())
