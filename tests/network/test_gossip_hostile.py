"""Strangers on a gossip stream over the real transport: each loses his place, the service goes on."""

import os
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from dht_kit import LISTEN, NETWORK, identity, until
from gossip_kit import TOPIC, talkers
from libp2p.stream_muxer.exceptions import MuxedStreamError

from dht import shell_gossip, varint
from dht.gossip_wire import FRAME_LIMIT, PROTOCOL, Rpc
from dht.transport_libp2p import open_streams
from dht.transport_pubsub import encode
from p2pnode.base.errors import Unreachable
from p2pnode.base.ports import Verdict

HELLO = Rpc(subscriptions=((TOPIC, True),), graft=(TOPIC,))


class Foe:
    """A stranger with a stream to a node; what the node says to it is read only if it wants."""

    def __init__(self, streams, node, reads):
        self.streams, self.node, self.id = streams, node, streams.node_id
        self.heard = 0
        self.reads = trio.Event()
        if reads:
            self.reads.set()
        streams.serve(PROTOCOL, self._listen, limit=FRAME_LIMIT, varints=True)

    async def _listen(self, channel):
        await self.reads.wait()
        while True:
            self.heard += len(await channel.receive())

    async def open(self):
        self.channel = await self.streams.open(
            self.node.id, self.node.streams.addrs(), PROTOCOL, limit=1 << 20, varints=True
        )
        await self.say(HELLO)

    async def say(self, rpc):
        await self.channel.send(encode(rpc))

    async def raw(self, data):
        """Write bytes that need not be a frame."""
        with suppress(MuxedStreamError):  # it is refused before it has ended
            await self.channel._stream.write(data)


@asynccontextmanager
async def scene(*, reads=True):
    """Yield two honest nodes in each other's mesh, and a stranger in the first one's."""
    async with (
        talkers(2) as (a, b),
        open_streams(identity("foe"), NETWORK, listen=LISTEN) as streams,
    ):
        b.gossip.meet(TOPIC, [a.peer])
        await until(lambda: b.id in a.meshed() and a.id in b.meshed())
        foe = Foe(streams, a, reads)
        await foe.open()
        await until(lambda: foe.id in a.meshed())
        yield a, b, foe
        await serves(a, b)


async def serves(a, b):
    """Assert that messages still pass both ways."""
    for sender, other in [(a, b), (b, a)]:
        data = os.urandom(16)
        await sender.gossip.publish(TOPIC, data)
        await until(lambda data=data, other=other: other.got(data))


async def gone(node, foe):
    await until(lambda: foe.id not in node.gossip.router.peers())


@pytest.mark.parametrize(
    "garbage",
    [
        varint.frame(b"\xff" * 100, 100),  # no protobuf
        b"\xff\xff\xff\xff\xff\xff",  # a length without end
        varint.frame(bytes(FRAME_LIMIT + 1), 1 << 20),  # too long
        varint.frame(b"\x12\x06\x0a\x02\xff", 100),  # a message cut short
    ],
    ids=["no-protobuf", "endless-length", "too-long", "cut-short"],
)
async def test_garbage_ends_its_own_stream_and_in_the_end_its_sender(garbage):
    async with scene() as (a, b, foe):
        await foe.raw(garbage)
        await gone(a, foe)
        assert a.counts["gossip_garbage"] == 1
        assert a.gossip.router.score(foe.id, trio.current_time()) < 0
        await foe.open()
        await until(lambda: foe.id in a.gossip.router.peers())
        await foe.raw(garbage)
        await gone(a, foe)
        with suppress(Unreachable):
            await foe.open()
        await until(lambda: a.counts["gossip_refused"] == 1)
        assert b.id in a.meshed()


async def test_half_a_frame_holds_nothing_but_itself():
    async with scene() as (a, b, foe):
        await foe.raw(varint.frame(bytes(1000), 1000)[:500])
        await serves(a, b)
        assert foe.id in a.gossip.router.peers()


async def test_invalid_messages_close_their_sender():
    async with scene() as (a, b, foe):
        a.verdict = lambda data: Verdict.REJECT if data.startswith(b"bad") else Verdict.ACCEPT
        with pytest.raises(Unreachable):
            for number in range(10_000):
                await foe.say(Rpc(messages=((TOPIC, b"bad %d" % number),)))
        await gone(a, foe)
        judged = [data for data, _ in a.judged if data.startswith(b"bad")]
        assert len(judged) == 3
        assert not any(data.startswith(b"bad") for data, _ in b.judged)


async def test_a_million_ids_are_not_taken_in():
    async with scene() as (a, _, foe):
        before = a.gossip.router.holds()
        with pytest.raises(Unreachable):
            for start in range(0, 1_000_000, 5000):
                ids = tuple((start + n).to_bytes(32, "big") for n in range(5000))
                await foe.say(Rpc(ihave=((TOPIC, ids),)))
        await gone(a, foe)
        assert a.counts["gossip_asked"] <= 10_000  # a thousand a heartbeat, until it is closed
        held = a.gossip.router.holds()
        assert held["promises"] <= 1024
        assert held["seen"] == before["seen"]


async def test_a_flood_of_grafts_closes_its_sender():
    async with scene() as (a, _, foe):
        await foe.say(Rpc(prune=((TOPIC, 60),)))
        with pytest.raises(Unreachable):
            for _ in range(2000):
                await foe.say(Rpc(graft=(TOPIC,)))
                await trio.sleep(0.005)  # beyond the two seconds in which one may have crossed
        await gone(a, foe)
        assert a.counts["gossip_early_grafts"] >= 5


async def test_a_flood_of_iwants_gets_each_message_three_times():
    async with scene() as (a, b, foe):
        data = os.urandom(2000)
        await b.gossip.publish(TOPIC, data)
        await until(lambda: a.got(data))
        from dht.gossip_wire import message_id

        for _ in range(500):
            await foe.say(Rpc(iwant=(message_id(data),) * 100))
        await serves(a, b)
        assert 0 < a.counts["gossip_answered"] <= 3


async def test_a_storm_of_replays_is_judged_once_and_held_to_a_pace():
    async with scene() as (a, b, foe):
        batch = Rpc(messages=((TOPIC, b"again"),) * 200)
        with trio.move_on_after(2):
            while True:
                await foe.say(batch)
        await until(lambda: a.counts["gossip_paced"] > 0)
        assert [data for data, _ in a.judged].count(b"again") == 1
        assert a.counts["gossip_duplicates"] < 200 * 30
        await until(lambda: b.got(b"again"))
        assert [data for data, _ in b.judged].count(b"again") == 1


async def test_who_does_not_read_loses_what_his_outbox_cannot_hold(monkeypatch):
    monkeypatch.setattr(shell_gossip, "MAX_OUTBOX", 16 * 1024)
    async with scene(reads=False) as (a, b, foe):
        link = a.gossip._links[foe.id]
        for number in range(400):  # more than a Yamux window and the outbox
            await a.gossip.publish(TOPIC, number.to_bytes(4, "big") * 500)
            if number % 20 == 19:
                await trio.sleep(0.01)
        await until(lambda: a.counts["gossip_dropped"] > 0)
        assert link._size <= 16 * 1024
        await gone(a, foe)  # a stream that takes nothing for five seconds is lost
        assert len(b.judged) == 400


async def test_one_peer_has_one_stream():
    async with scene() as (a, _, foe):
        first = foe.channel
        for _ in range(20):
            await foe.open()
        await until(lambda: len(a.gossip.router.peers()) == 2)
        with pytest.raises(Unreachable):
            for _ in range(500):
                await first.send(encode(Rpc()))
                await trio.sleep(0.01)
        await until(lambda: foe.id in a.meshed())


async def test_a_judge_that_fails_or_hangs_costs_one_message(monkeypatch):
    monkeypatch.setattr(shell_gossip, "JUDGE_S", 0.2)
    async with scene() as (a, b, foe):
        failing = {b"fails": Unreachable("the judge's own trouble"), b"hangs": None}

        async def judge(data, peer):
            if data not in failing:
                return await a._judge(data, peer)
            if failing[data]:
                raise failing[data]
            await trio.sleep_forever()

        a.gossip.join(TOPIC, judge)
        for data in failing:
            await foe.say(Rpc(messages=((TOPIC, data),)))
        await serves(a, b)
        await until(lambda: a.counts["gossip_ignored"] == 1)
        assert foe.id in a.gossip.router.peers()
        assert not b.got(b"fails")
        assert a.gossip.router.holds()["judging"] == 0
