"""The DHT among peers that lie, flood, stall, vanish and come back."""

import pytest
import trio
from dht_kit import (
    NETWORK,
    NOTE,
    NOW,
    Clock,
    identity,
    note,
    note_key,
    town,
    until,
)

from dht import address, rpc, shell_serve
from dht.endpoint import Peer
from dht.rpc import Answer, Ask
from dht.transport_libp2p import open_streams
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, PeerFault, Unreachable
from p2pnode.base.identity import Identity, works
from p2pnode.base.store import Database

MALLORY = identity("mallory")
LIMIT = rpc.FRAME_LIMIT


async def ask(channel, method, *args, number=1):
    await channel.send(rpc.encode(Ask(number, method, args)))
    return rpc.decode(await channel.receive())


def opened(streams, node):
    return streams.open(node.id, node.streams.addrs(), NETWORK.protocol("dht"), limit=LIMIT)


def bad_records():
    good = note(MALLORY, "m")
    forged = bytearray(good)
    forged[-1] ^= 1
    return {
        "signature": (NOTE, note_key("m"), bytes(forged)),
        "expires_at": (NOTE, note_key("m"), note(MALLORY, "m", expires_at=NOW)),
        "ahead": (NOTE, note_key("m"), note(MALLORY, "m", expires_at=NOW + 31 * 86400)),
        "record": (NOTE, note_key("m"), note(MALLORY, "m", text=bytes(2000))),
        "key": (NOTE, note_key("other"), good),
        "kind": ("rumour", note_key("m"), good),
        "garbage": (NOTE, note_key("m"), b"\xc1\xff"),
        "address of another": (address.KIND, note_key("m"), good),
    }


@pytest.mark.parametrize("what", bad_records())
async def test_a_bad_record_is_refused_on_store(what):
    kind, key, raw = bad_records()[what]
    async with town() as build, open_streams(MALLORY, NETWORK) as mallory:
        node = await build.node("a")
        channel = await opened(mallory, node)
        answer = await ask(channel, rpc.STORE, kind, key, raw)
        assert answer.error
        assert node.dht.view()["records"] == 0
        good = await ask(channel, rpc.STORE, NOTE, note_key("m"), note(MALLORY, "m"), number=2)
        assert good == Answer(2, (1, ()))  # the stream has not suffered


@pytest.mark.parametrize("what", bad_records())
async def test_a_bad_record_is_dropped_on_read(what):
    _, _, raw = bad_records()[what]
    good = note(identity("honest"), "m")
    key = note_key("other" if what == "key" else "m")
    good = note(identity("honest"), "other" if what == "key" else "m")

    async def lie(channel):
        while True:
            asked = rpc.decode(await channel.receive())
            result = {rpc.HELLO: (), rpc.PING: ()}.get(asked.method, ((), (raw[:2048], good), b""))
            await channel.send(rpc.encode(Answer(asked.id, result)))

    async with town() as build, build.liar("liar", lie) as (_, liar):
        node = await build.node("a")
        node.dht.table.welcome(liar)
        found = await node.dht.get(NOTE, key)
        if what in ("kind", "address of another"):  # they are notes, told apart by their key
            assert len(found.records) == 2
        else:
            assert [r.raw for r in found.records] == [good]


async def test_a_peer_that_serves_rubbish_without_end_is_left():
    pages = []

    async def flood(channel):
        number = 0
        while True:
            asked = rpc.decode(await channel.receive())
            number += 1
            result = ((), (b"rubbish %d" % number,), number.to_bytes(32, "big"))
            if asked.method == rpc.FIND_VALUE:
                pages.append(number)
            else:
                result = ()
            await channel.send(rpc.encode(Answer(asked.id, result)))

    async with town() as build, build.liar("liar", flood) as (_, liar):
        node = await build.node("a")
        node.dht.table.welcome(liar)
        with trio.fail_after(5):
            found = await node.dht.get(NOTE, note_key("m"))
        assert found.records == ()
        assert len(pages) < 20
        assert liar.node_id not in node.dht.table


async def test_a_cursor_that_leads_back_is_not_followed():
    asked_for = []
    good = note(identity("honest"), "m")

    async def circle(channel):
        while True:
            asked = rpc.decode(await channel.receive())
            result = ()
            if asked.method == rpc.FIND_VALUE:
                asked_for.append(asked.args[2])
                result = ((), (good,), b"again")
            await channel.send(rpc.encode(Answer(asked.id, result)))

    async with town() as build, build.liar("liar", circle) as (_, liar):
        node = await build.node("a")
        node.dht.table.welcome(liar)
        assert len((await node.dht.get(NOTE, note_key("m"))).records) == 1
        assert asked_for == [b"", b"again"]


async def test_invented_peers_without_work_or_life_do_not_stop_a_lookup():
    lazy = [n for i in range(200) if not works(NETWORK, (n := Identity(bytes([i]) * 32).node_id))]
    dead = [identity(f"dead{i}").node_id for i in range(20)]
    names = {"lazy": lazy[:1], "dead": dead}

    async def lie(channel, which):
        while True:
            asked = rpc.decode(await channel.receive())
            peers = tuple((n, ("/ip4/127.0.0.1/tcp/1",)) for n in names[which])
            named = {rpc.FIND_NODE: peers, rpc.FIND_VALUE: (peers, (), b"")}
            await channel.send(rpc.encode(Answer(asked.id, named.get(asked.method, ()))))

    async with (
        town() as build,
        build.liar("liar", lambda c: lie(c, "lazy")) as (_, one),
        build.liar("liar2", lambda c: lie(c, "dead")) as (_, two),
    ):
        node, holder = await build.node("a"), await build.node("b")
        await holder.dht.put(NOTE, note(identity("honest"), "m"))
        assert await node.dht.join([holder.peer]) == 1
        for liar in (one, two):
            node.dht.table.welcome(liar)
        with trio.fail_after(8):
            found = await node.dht.get(NOTE, note_key("m"))
        assert len(found.records) == 1
        assert one.node_id not in node.dht.table  # its answer was not by the protocol


@pytest.mark.parametrize(
    "frame",
    [
        b"\xc1",
        wire.pack([0, 1, "ping"]),
        wire.pack([0, -1, "ping", []]),
        wire.pack([3, 1, "ping", []]),
        wire.pack([1, 1, []]),
        b"\x94\x00\xcd\x00\x01\xa4ping\x90",  # a longer spelling of 1
        bytes(LIMIT + 1),
    ],
)
async def test_garbage_closes_the_stream_and_nothing_else(frame):
    async with town() as build, open_streams(MALLORY, NETWORK) as mallory:
        node = await build.node("a")
        other = await opened(mallory, node)
        assert await ask(other, rpc.PING) == Answer(1, ())
        channel = await mallory.open(
            node.id, node.streams.addrs(), NETWORK.protocol("dht"), limit=1 << 20
        )
        await channel.send(frame)
        with trio.fail_after(3), pytest.raises(Unreachable):
            await channel.receive()
        assert await ask(other, rpc.PING, number=2) == Answer(2, ())


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("dance", ()),
        (rpc.FIND_NODE, (b"short",)),
        (rpc.FIND_NODE, ()),
        (rpc.FIND_VALUE, (NOTE, bytes(32), bytes(65))),
        (rpc.STORE, (NOTE, bytes(32), b"")),
        (rpc.HELLO, (("/ip4/127.0.0.1/udp/1",),)),
        (rpc.HELLO, (("/ip4/127.0.0.1/tcp/1",) * 5,)),
        (rpc.HELLO, (("/ip4/1.2.3.4/tcp/1/p2p/12D3KooWxyz",),)),
    ],
)
async def test_a_question_that_makes_no_sense_gets_a_refusal(method, args):
    async with town() as build, open_streams(MALLORY, NETWORK) as mallory:
        node = await build.node("a")
        channel = await opened(mallory, node)
        assert (await ask(channel, method, *args)).error
        assert await ask(channel, rpc.PING, number=2) == Answer(2, ())


async def test_a_slow_and_a_mute_peer_do_not_stop_the_others(monkeypatch):
    async def mute(_channel):
        await trio.sleep_forever()

    async with town() as build, build.liar("mute", mute) as (_, silent):
        nodes = [await build.node(f"s{i}") for i in range(4)]
        for node in nodes[1:]:
            await node.dht.join([nodes[0].peer])
        for node in nodes:
            node.dht.table.welcome(silent)
        with trio.fail_after(8):
            put = await nodes[1].dht.put(NOTE, note(MALLORY, "m"), whole=True)
        assert put.acked == 4
        await until(lambda: silent.node_id not in nodes[1].dht.table)  # it had its chance
        with trio.fail_after(8):
            found = await nodes[2].dht.get(NOTE, note_key("m"))
        assert len(found.records) == 1


async def test_a_caller_becomes_a_contact_only_when_it_answers():
    async def mute(_channel):
        await trio.sleep_forever()

    async with town() as build, build.liar("mute", mute) as (streams, silent):
        node = await build.node("a")
        channel = await opened(streams, node)
        stated = await ask(channel, rpc.HELLO, streams.addrs(), number=0)
        assert stated.result == node.streams.addrs()
        honest = await build.node("b")
        await honest.dht.join([node.peer])
        await until(lambda: honest.id in node.dht.table)
        assert silent.node_id not in node.dht.table


async def test_hearsay_does_not_move_a_contact():
    async with town() as build:
        a, b = await build.node("a"), await build.node("b")
        await a.dht.join([b.peer])
        false = Peer(b.id, ("/ip4/127.0.0.1/tcp/1",))
        await a.dht._contacts.call(false, rpc.PING, ())
        assert a.dht.table.addrs_of(b.id) == b.streams.addrs()


async def test_a_flood_of_questions_is_slowed_for_its_sender_alone(monkeypatch):
    monkeypatch.setattr(shell_serve, "BURST", 20.0)
    monkeypatch.setattr(shell_serve, "RATE", 40.0)
    async with town() as build, open_streams(MALLORY, NETWORK) as mallory:
        node = await build.node("a")
        channel = await opened(mallory, node)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:

            async def flood():
                for number in range(60):
                    await channel.send(rpc.encode(Ask(number, rpc.PING, ())))

            nursery.start_soon(flood)
            for _ in range(60):
                await channel.receive()
        assert trio.current_time() - began > 0.8  # 20 at once, 40 at 40 a second
        other = await build.node("b")
        began = trio.current_time()
        assert await other.dht.join([node.peer]) == 1
        assert trio.current_time() - began < 2


async def test_one_peer_cannot_hold_many_streams():
    async with town() as build, open_streams(MALLORY, NETWORK) as mallory:
        node = await build.node("a")
        channels = [await opened(mallory, node) for _ in range(shell_serve.MAX_INBOUND_PER_PEER)]
        for channel in channels:
            assert await ask(channel, rpc.PING) == Answer(1, ())
        extra = await opened(mallory, node)
        with trio.fail_after(3), pytest.raises(Unreachable):
            await ask(extra, rpc.PING)
        await channels[0].close()
        with trio.fail_after(3):
            while True:
                try:
                    assert await ask(await opened(mallory, node), rpc.PING) == Answer(1, ())
                    break
                except Unreachable:
                    await trio.sleep(0.01)


async def test_a_key_with_more_records_than_a_frame_comes_in_pages():
    async with town() as build:
        a, b = await build.node("a"), await build.node("b")
        await b.dht.join([a.peer])
        await a.dht.join([b.peer])
        owner = identity("owner")
        for number in range(30):
            raw = note(owner, "m", id=bytes([number]), text=bytes(1500))
            a.dht._store.put(a.dht._kinds.accept(NOTE, raw, NOW))
        found = await b.dht.get(NOTE, note_key("m"))
        assert len(found.records) == 30
        for number in range(100):  # many small ones: more than one read of the store
            raw = note(identity(f"o{number}"), "small")
            a.dht._store.put(a.dht._kinds.accept(NOTE, raw, NOW))
        assert len((await b.dht.get(NOTE, note_key("small"))).records) == 100


async def test_records_and_peers_survive_a_restart(tmp_path):
    async with town() as build:
        seed = await build.node("seed")
        first = await build.node("a", database=Database(tmp_path / "x.sqlite"))
        await first.dht.join([seed.peer])
        await first.dht.put(NOTE, note(identity("owner"), "m"))
        await first.kill()
        again = await build.node("a", database=Database(tmp_path / "x.sqlite"))
        assert len(again.dht.stored(NOTE, note_key("m"))) == 1
        assert await again.dht.join([]) == 1  # the seed, remembered


async def test_what_has_expired_is_neither_served_nor_kept():
    clock = Clock()
    async with town() as build:
        a, b = await build.node("a", clock=clock), await build.node("b", clock=clock)
        await b.dht.join([a.peer])
        await a.dht.join([b.peer])
        await a.dht.put(NOTE, note(identity("owner"), "m", expires_at=NOW + 5))
        assert len((await b.dht.get(NOTE, note_key("m"))).records) == 1
        clock.seconds = NOW + 5
        assert (await b.dht.get(NOTE, note_key("m"))).records == ()
        await a.dht._maintain_once()
        assert a.dht.view()["records"] == 0
        with pytest.raises(InvalidRecord, match="expires_at"):
            await a.dht.put(NOTE, note(identity("owner"), "m", expires_at=NOW + 5))


async def test_a_node_is_located_by_its_own_word_after_it_moved():
    async with town() as build:
        seed, asker = await build.node("seed"), await build.node("asker")
        moving = await build.node("moving")
        for node in (asker, moving):
            await node.dht.join([seed.peer])
        assert (await moving.dht.announce()).acked >= 2  # most of three
        assert await asker.dht.locate(moving.id) == moving.streams.addrs()
        await moving.kill()
        moved = await build.node("moving", clock=Clock(NOW + 1))
        assert moved.streams.addrs() != moving.streams.addrs()
        await moved.dht.join([seed.peer])
        await moved.dht.announce()
        assert (await asker.dht.locate(moved.id))[0] == moved.streams.addrs()[0]
        assert await asker.dht.locate(identity("nobody").node_id) == ()


async def test_a_node_that_does_not_listen_asks_and_holds_nothing():
    async with town() as build:
        a = await build.node("a")
        mute = await build.node("mute", listen=())
        assert await mute.dht.join([a.peer]) == 1
        put = await mute.dht.put(NOTE, note(mute.identity, "m"))
        assert put.holders == (a.id,)
        assert len((await mute.dht.get(NOTE, note_key("m"))).records) == 1
        assert (await mute.dht.announce()).acked == 0
        assert len(a.dht.table) == 0


async def test_alone_is_not_an_error():
    async with town() as build:
        node = await build.node("a")
        assert await node.dht.join([Peer(identity("x").node_id, ("/ip4/127.0.0.1/tcp/1",))]) == 0
        put = await node.dht.put(NOTE, note(node.identity, "m"))
        assert put.holders == (node.id,)
        found = await node.dht.get(NOTE, note_key("m"))
        assert found.hops == {(node.id, b""): 0}


async def test_a_refusal_is_a_peer_fault_and_the_peer_stays():
    async with town() as build:
        a, b = await build.node("a"), await build.node("b")
        await a.dht.join([b.peer])
        with pytest.raises(PeerFault, match="method"):
            await a.dht._contacts.call(b.peer, "dance", ())
        assert b.id in a.dht.table


async def test_a_seed_that_comes_late_is_joined_without_being_told_again(monkeypatch):
    monkeypatch.setattr("dht.shell_node.MAINTAIN_ALONE", 0.1)
    async with town() as build:
        ghost = await build.node("seed")
        peer = ghost.peer
        await ghost.kill()
        node = await build.node("a")
        assert await node.dht.join([peer]) == 0
        await build.node("seed", listen=peer.addrs)
        await until(lambda: peer.node_id in node.dht.table)
