"""A whole node under attack, in a process of its own, while an honest peer keeps asking it.

Each attack must have been felt (the node's own counters say so), each honest question is
answered within three seconds, the node ends with the log lines that it wrote itself. How the
node's limits were lowered for speed stands in each test.
"""

import os
import struct

import pytest
import trio
from attack_kit import ask, attacked, calling_from, drained, stranger
from dht_kit import NETWORK, NOTE, identity, note, note_key

from dht import rpc
from dht.endpoint import Peer
from dht.rpc import Answer, Ask, News
from dht.transport_libp2p import open_streams
from dht.transport_secure import Handshake
from p2pnode.base import wire
from p2pnode.base.clock import SystemClock
from p2pnode.base.errors import Unreachable
from p2pnode.base.identity import Identity, works

MULTISTREAM = b"\x13/multistream/1.0.0\n"
NO_CAPS_FOR_LOOPBACK = []  # the node's exempt networks: 127.1.0.0/24 is a subnet like any other
DEAF = 3.0


def fresh(signer, market, **more):
    return note(signer, market, **{"expires_at": SystemClock().now() + 3600} | more)


async def secured(it, who):
    """Return the encrypted bytes of a raw connection on which Yamux would run."""
    tcp = await it.tcp()
    connection = await Handshake(who, NETWORK).secure(tcp, it.node_id, it.addrs[0])
    return connection._muxed.secured_conn


async def ended(secured_connection):
    """Read until the node closes; true if it did within three seconds."""
    with trio.move_on_after(DEAF):
        try:
            while await secured_connection.read(4096):
                pass
        except Exception:  # noqa: BLE001 - whatever the library makes of a closed socket
            return True
        return True
    return False


async def send_garbage(streams, it, count):
    """Send frames that cannot be read, each on a stream of its own."""
    for _ in range(count):
        try:
            channel = await it.open(streams)
            await channel.send(wire.pack([9, 9, 9]))
            await channel.receive()
        except Unreachable:
            continue


# ------------------------------------------------------------------ before the handshake


async def test_half_open_connections_garbage_and_dribbles_before_the_handshake(tmp_path):
    """1,000 connections that say nothing, then 60 that dribble, then 200 of garbage."""
    patch = {"dht.transport_libp2p:INBOUND_DEADLINE": 2.0}
    junk = (
        os.urandom(300),
        MULTISTREAM + b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + b"A" * 3000,
        MULTISTREAM + b"\x07/noise\n\xff\xff" + os.urandom(3000),
        MULTISTREAM + b"\x04\xff\xfe\xfd\n",
        b"2026-01-01 00:00:00,000 ERROR dht: forged\r\n\x1b[2J" * 50,
    )
    async with attacked(tmp_path / "node", patch=patch, log="DEBUG") as it:
        before = it.rss()
        silent = [await it.tcp() for _ in range(1000)]
        report = await it.until(lambda r: r["transport"]["connections_refused"] >= 850)
        assert report["inbound"] <= 130
        assert report["fds"] < 250

        async def dribble(tcp, words):
            try:
                for byte in words:
                    await tcp.send_all(bytes([byte]))
                    await trio.sleep(0.15)
            except trio.BrokenResourceError:
                return

        async with trio.open_nursery() as nursery:
            loris = [await it.tcp() for _ in range(60)]
            for number, tcp in enumerate(loris):
                begun = (b"", MULTISTREAM, MULTISTREAM + b"\x07/noise\n\x00\x20")[number % 3]
                await tcp.send_all(begun)
                nursery.start_soon(dribble, tcp, (MULTISTREAM + b"\x07/noise\n" + bytes(99))[:40])
            with trio.fail_after(15):
                for tcp in loris:
                    await drained(tcp)
            nursery.cancel_scope.cancel()
        for number in range(200):
            tcp = await it.tcp()
            try:
                await tcp.send_all(junk[number % len(junk)])
            except trio.BrokenResourceError:
                pass
            tcp.socket.close()
        with trio.fail_after(15):
            for tcp in silent:
                await drained(tcp)
        report = await it.until(lambda r: r["inbound"] == 1)
        assert report["transport"]["handshakes_failed"] >= 1000
        assert it.rss() - before < 30 << 20


async def test_idle_connections_take_no_place_from_others(tmp_path):
    """1,000 strangers from 10 subnets, at a node with room for 100 and 14 handshakes a subnet."""
    wish = {
        "exempt": NO_CAPS_FOR_LOOPBACK,
        "limits": {"inbound": 100, "per_subnet": 30, "per_address": 15},
        "patch": {"dht.admission:HANDSHAKE_BURST": 14.0, "dht.admission:HANDSHAKE_RATE": 0.2},
    }
    async with attacked(tmp_path / "node", source="127.2.0.1", **wish) as it:
        kept = []

        async def knock(number):
            with calling_from(f"127.1.{number % 10}.{1 + number // 10 % 5}"):
                try:
                    with trio.move_on_after(2):
                        kept.append(await secured(it, identity(f"idle{number}")))
                except Exception:  # noqa: BLE001 - refused: the library says it in many ways
                    return

        for start in range(0, 1000, 100):
            async with trio.open_nursery() as nursery:
                for number in range(start, start + 100):
                    nursery.start_soon(knock, number)
        report = await it.report()
        assert 90 <= report["inbound"] <= 100
        assert report["transport"]["connections_refused"] >= 800
        assert len(kept) >= 100
        async with open_streams(identity("newcomer"), NETWORK) as newcomer:
            with calling_from("127.2.1.1"), trio.fail_after(5):
                assert await ask(await it.open(newcomer), rpc.PING) == Answer(1, ())


async def test_keys_without_work_are_not_let_in(tmp_path):
    lazy = (i for n in range(256) if not works(NETWORK, (i := Identity(bytes([n]) * 32)).node_id))
    async with attacked(tmp_path / "node") as it:
        for _, who in zip(range(10), lazy, strict=False):
            async with open_streams(who, NETWORK) as streams:
                with pytest.raises(Unreachable):
                    await it.open(streams)
        report = await it.report()
        assert report["transport"]["handshakes_failed"] >= 10
        assert report["peers"] == {}


# ------------------------------------------------------------------ frames


async def test_frames_that_are_none_end_streams_and_get_their_sender_banned(tmp_path):
    """A frame must end within a second here, not thirty."""
    patch = {"dht.transport_channel:READ_DEADLINE": 1.0}
    async with attacked(tmp_path / "node", patch=patch, log="DEBUG") as it:
        async with stranger() as mallory:
            for method, args in (
                ("dance", ()),
                ("find_node", (b"short",)),
                ("ping", ((1,) * 9000,)),
                ("x\\n\\t", ()),
            ):
                channel = await it.open(mallory)
                assert (await ask(channel, method, *args)).error
                await channel.close()
            with pytest.raises(Unreachable, match="does not serve"):
                await mallory.open(it.node_id, it.addrs, "/none/1", limit=100)
            cut = await it.open(mallory)
            await cut._stream.write(b"\x00\x00\x10\x00half")
            await cut.reset()  # truncated
            slow = await it.open(mallory)
            await slow._stream.write(b"\x00\x00\x10\x00half")
            with trio.fail_after(5), pytest.raises(Unreachable):
                await slow.receive()
            large = await it.open(mallory)
            await large.send(bytes(rpc.FRAME_LIMIT + 1))
            with trio.fail_after(5), pytest.raises(Unreachable):
                await large.receive()
            await send_garbage(mallory, it, 8)
            report = await it.until(lambda r: r["view"]["bans"] == 1)
            assert report["bans"][0]["subject"] == mallory.node_id.hex()
            with pytest.raises(Unreachable):
                await it.open(mallory)
            report = await it.report()
        dht, transport = report["dht"], report["transport"]
        assert dht["refused_method"] >= 2
        assert dht["refused"] >= 4
        assert dht["garbage"] >= 4
        assert transport["streams_stalled"] == 1
        assert transport["streams_unknown"] >= 1
        assert transport["connections_barred"] >= 1


async def test_what_yamux_would_obey_is_paced_and_what_it_does_not_know_ends_the_connection(
    tmp_path,
):
    ping, window = struct.pack("!BBHII", 0, 2, 1, 0, 1), struct.pack("!BBHII", 0, 1, 0, 77, 1)
    async with attacked(tmp_path / "node", least=60) as it:
        for foreign in (struct.pack("!BBHII", 0, 9, 0, 0, 0), b"\x01" * 12):
            connection = await secured(it, identity("foreign"))
            await connection.write(foreign * 5000)
            assert await ended(connection)
        began = (await it.report())["cpu_s"]
        for frame in (ping, window):
            connection = await secured(it, identity("flood"))
            with trio.move_on_after(3):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(ended, connection)
                    while True:
                        await connection.write(frame * 1000)
        report = await it.report()
        assert report["transport"]["frames_paced"] >= 10
        print(f"CPU under 6 s of Yamux floods: {report['cpu_s'] - began:.2f} s")


async def test_unread_bytes_have_one_room(tmp_path):
    """4 MiB for all connections together, not 64; each stranger ignores flow control."""
    patch = {
        "dht.transport_bounds:MAX_UNREAD": 4 << 20,
        "dht.shell_serve:RATE": 20.0,
        "dht.shell_serve:BURST": 40.0,
    }
    async with attacked(tmp_path / "node", patch=patch) as it:
        before = it.rss()
        filler = wire.frame(
            rpc.encode(Ask(1, rpc.STORE, (NOTE, bytes(32), bytes(12_000)))), 1 << 20
        )

        async def pour(name):
            async with stranger(name) as mallory:
                channel = await it.open(mallory)
                channel._stream.send_window = 1 << 30
                try:
                    with trio.move_on_after(4):
                        while True:
                            await channel._stream.write(filler)
                except Exception:  # noqa: BLE001 - the node has closed the connection
                    return

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(pour, f"pour{number}")
        report = await it.report()
        assert report["transport"]["connections_overfull"] >= 1
        assert it.rss() - before < 40 << 20


async def test_a_hundred_thousand_hostile_messages_leave_memory_as_it_was(tmp_path):
    """20,000 questions that are refused, 80,000 frames of Yamux for streams that are not there.

    Quotas are lifted, so that the messages arrive: with them it would take minutes.
    """
    patch = {
        "dht.shell_serve:RATE": 1e6,
        "dht.shell_serve:BURST": 1e6,
        "dht.transport_bounds:FRAME_RATE": 1e6,
        "dht.transport_bounds:FRAME_BURST": 1e6,
    }
    window = struct.pack("!BBHII", 0, 1, 0, 77, 1)
    bad = (
        ("dance", ()),
        (rpc.FIND_NODE, (b"short",)),
        (rpc.STORE, ("rumour", bytes(32), b"x")),
        (rpc.STORE, (NOTE, note_key("m"), fresh(identity("mallory"), "m", expires_at=1))),
        (rpc.DIGEST, (NOTE, bytes(32), b"z", b"a")),
    )
    async with attacked(tmp_path / "node", patch=patch) as it:
        async with stranger() as mallory:
            channel = await it.open(mallory)

            async def hear(count):
                for _ in range(count):
                    await channel.receive()

            async def flood(count):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(hear, count)
                    for number in range(count):
                        await channel.send(rpc.encode(Ask(number, *bad[number % len(bad)])))

            await flood(1000)
            before = it.rss()
            await flood(20_000)
            raw = await secured(it, identity("frames"))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ended, raw)
                for _ in range(80):
                    await raw.write(window * 1000)
                nursery.cancel_scope.cancel()
            assert await ask(channel, rpc.PING) == Answer(1, ())
        report = await it.report()
        assert report["dht"]["refused"] >= 20_000
        grown = it.rss() - before
        print(f"memory after 10^5 hostile messages: {grown / 2**20:+.1f} MiB")
        assert grown < 50 << 20


# ------------------------------------------------------------------ records and listeners


def bad_stores(it):
    """Return what no holder may keep, by what is wrong with it."""
    mallory, key = identity("mallory"), note_key("m")
    good = fresh(mallory, "m")
    body, _ = wire.unpack("note", good, limit=2048)
    foreign = wire.pack([body, mallory.sign(wire.tag("main", NOTE) + body)])
    return {
        "forged": (NOTE, key, wire.pack([body, bytes(64)])),
        "of another network": (NOTE, key, foreign),
        "of another key": (NOTE, note_key("other"), good),
        "stale": (NOTE, key, fresh(mallory, "m", expires_at=1)),
        "too far ahead": (NOTE, key, fresh(mallory, "m", expires_at=2**39)),
        "oversized": (NOTE, key, fresh(mallory, "m", text=bytes(2000))),
        "unknown kind": ("rumour", key, good),
        "no record": (NOTE, key, b"\xc1\xff"),
        "empty": (NOTE, key, b""),
    }


async def test_a_storm_of_stores_fills_the_room_and_no_more_and_forgers_are_banned(tmp_path):
    """Room for 200 records, and for a flood of 300 questions before quotas hold it."""
    patch = {"dht.shell_serve:BURST": 300.0, "dht.shell_serve:RATE": 300.0}
    wish = {"room": {"records": 200}, "patch": patch}
    async with attacked(tmp_path / "node", **wish) as it:

        async def storm(name):
            owner = identity(name)
            async with stranger(name) as mallory:
                channel = await it.open(mallory)
                for number in range(150):
                    raw = fresh(owner, f"{name}{number % 9}", id=bytes([number]), text=bytes(1500))
                    args = (NOTE, note_key(f"{name}{number % 9}"), raw)
                    held = await ask(channel, rpc.STORE, *args, number=number)
                    assert not held.error

        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(storm, f"storm{number}")
        async with stranger() as mallory:
            channel = await it.open(mallory)
            for what, args in bad_stores(it).items():
                assert (await ask(channel, rpc.STORE, *args)).error, what
            forged = bad_stores(it)["forged"]
            with trio.fail_after(10), pytest.raises(Unreachable):
                while True:
                    await ask(channel, rpc.STORE, *forged)
            report = await it.report()
        assert [ban["subject"] for ban in report["bans"]] == [mallory.node_id.hex()]
        assert report["view"]["records"] == 200
        assert report["dht"]["records_new"] >= 200
        assert report["dht"]["quota_waits"] >= 1
        assert report["dht"]["refused"] >= 15
        assert report["sizes"]["touched"] <= 27


async def test_a_listener_that_never_reads_and_one_who_takes_every_place(tmp_path):
    """Room for 100 listens; quotas are lifted so that the news is a flood."""
    wish = {
        "room": {"listens": 100},
        "patch": {"dht.shell_serve:RATE": 1e6, "dht.shell_serve:BURST": 1e6},
    }
    async with attacked(tmp_path / "node", **wish) as it:
        before = it.rss()
        async with stranger("greedy") as greedy, stranger("modest") as modest:
            channels = [await it.open(greedy) for _ in range(3)]
            granted = []
            for channel in channels:
                for number in range(70):
                    args = (NOTE, number.to_bytes(32, "big"), 600)
                    answer = await ask(channel, rpc.LISTEN, *args, number=number)
                    granted.append(answer.result[0])
            assert granted[:70] == [600] * 64 + [0] * 6  # his share
            assert sum(map(bool, granted)) == 100  # the room
            asking = await it.open(modest)
            wished = await ask(asking, rpc.LISTEN, NOTE, note_key("m"), 600)
            assert wished == Answer(1, (600,))  # a place of the greedy one's
            with trio.fail_after(5), pytest.raises(Unreachable):
                await channels[0].receive()  # who learns that news may be missing

            deaf = await it.open(greedy)
            assert (await ask(deaf, rpc.LISTEN, NOTE, note_key("n"), 600)).result == (600,)
            deaf._over.cancel()  # its pump: nobody reads, so no window is given back
            writer, owner = await it.open(modest), identity("writer")
            for number in range(600):
                raw = fresh(owner, "n", id=bytes([number % 32]), seq=number, text=bytes(1700))
                await ask(writer, rpc.STORE, NOTE, note_key("n"), raw, number=number)
            report = await it.until(lambda r: r["dht"].get("news_dropped", 0) >= 1)
            assert report["dht"]["listens_ousted"] == 1
            assert report["dht"]["listens_refused"] >= 90
            assert report["view"]["listens"] <= 100
        await it.until(lambda r: r["view"]["listens"] == 0)
        assert it.rss() - before < 30 << 20


async def test_digests_of_ranges_without_sense_and_digests_without_end(tmp_path):
    patch = {"dht.shell_serve:BURST": 60.0}
    async with attacked(tmp_path / "node", patch=patch) as it, stranger() as mallory:
        channel, owner = await it.open(mallory), identity("o")
        for number in range(30):
            raw = fresh(owner, "m", id=bytes([number]))
            await ask(channel, rpc.STORE, NOTE, note_key("m"), raw, number=number)
        for low, high in ((b"z", b"a"), (b"a", b"a"), (bytes(65), b"")):
            assert (await ask(channel, rpc.DIGEST, NOTE, note_key("m"), low, high)).error
        for low in (b"", b"\xff" * 64, owner.node_id):
            answer = await ask(channel, rpc.DIGEST, NOTE, note_key("m"), low, b"")
            assert 1 <= len(answer.result) <= 16
        with trio.move_on_after(4):
            for number in range(1000):
                await ask(channel, rpc.DIGEST, NOTE, note_key("m"), b"", b"", number=number)
        report = await it.report()
        assert report["dht"]["quota_waits"] >= 5
        assert report["dht"]["answered_digest"] < 300


# ------------------------------------------------------------------ answers that lie


class Liar:
    """A peer whose answers to the node are what a test makes of them."""

    def __init__(self, answers, *, after=None):
        self.answers, self.after = answers, after
        self.asked = []
        self.addrs = ()

    async def __call__(self, channel):
        while True:
            message = rpc.decode(await channel.receive())
            self.asked.append(message.method)
            if message.method == rpc.HELLO:
                result = self.addrs
            elif message.method in self.answers:
                result = self.answers[message.method](message)
            else:
                plain = {rpc.FIND_VALUE: ((), (), b""), rpc.STORE: (1, ())}
                result = plain.get(message.method, ())
            await channel.send(rpc.encode(Answer(message.id, result)))
            if self.after:
                await self.after(channel, message)

    async def join(self, it, mine):
        """Have the node know us: its owner names us."""
        self.addrs = mine.addrs()
        assert await it.ask("know", mine.node_id.hex(), *mine.addrs()) == {"answered": 1}


def page(*raws):
    return lambda _message: ((), raws, b"")


async def test_records_that_are_lies_are_held_against_their_teller_and_stale_ones_are_not(tmp_path):
    key_owner = identity("mallory")
    stale = [fresh(key_owner, "m", id=bytes([n]), expires_at=1) for n in range(20)]
    good = fresh(key_owner, "m", id=b"good")
    async with attacked(tmp_path / "node") as it:
        forged = bad_stores(it)["forged"][2]
        tired = Liar({rpc.FIND_VALUE: page(*stale[:8], good)})
        lying = Liar({rpc.FIND_VALUE: page(*[forged] * 12)})
        async with stranger("tired", handler=tired) as one, stranger("liar", handler=lying) as two:
            await tired.join(it, one)
            for _ in range(3):
                assert (await it.ask("get", "m"))["records"] == 1
            report = await it.report()
            assert one.node_id.hex() in report["peers"]
            assert report["dht"].get("lies", 0) == 0
            for _ in range(10):
                await lying.join(it, two)
                assert (await it.ask("get", "m"))["records"] == 1
            report = await it.until(lambda r: r["view"]["bans"] == 1)
            assert report["bans"][0]["subject"] == two.node_id.hex()
            assert report["dht"]["lies"] == 10


async def test_lists_of_neighbours_that_are_poison(tmp_path):
    """Names without work or with giant addresses lose their teller his place; dead ones nobody."""
    lazy = [n for i in range(200) if not works(NETWORK, (n := Identity(bytes([i]) * 32).node_id))]
    invented = [identity(f"invented{n}").node_id for n in range(40)]
    dead, subnet = "/ip4/127.0.0.1/tcp/1", "/ip4/127.3.0.{}/tcp/1"
    async with attacked(tmp_path / "node", exempt=NO_CAPS_FOR_LOOPBACK, source="127.2.0.1") as it:
        lists = {
            "dead": tuple((n, (dead,)) for n in invented[:20]),
            "subnet": tuple((n, (subnet.format(i),)) for i, n in enumerate(invented[20:])),
            "itself": ((it.node_id, it.addrs),) * 20,
            "idle": ((lazy[0], (dead,)),),
            "giant": ((invented[0], ("/dns4/" + "a" * 120 + "/tcp/1",)),),
            "port 0": ((invented[0], ("/ip4/127.0.0.1/tcp/0",)),),
            "many": ((invented[0], (dead,) * 5),),
            "endless": tuple((n, (dead,)) for n in invented[:21]),
        }
        for what, named in lists.items():
            answers = {
                rpc.FIND_NODE: lambda _m, named=named: named,
                rpc.FIND_VALUE: lambda _m, named=named: (named, (), b""),
            }
            liar = Liar(answers)
            async with stranger(f"poison {what}", handler=liar) as mine:
                await liar.join(it, mine)
                with trio.fail_after(12):
                    took = await it.ask("get", "m")
                assert took["records"] == 0
                report = await it.report()
                stays = mine.node_id.hex() in report["peers"]
                assert stays is (what in ("dead", "subnet", "itself")), what
                assert not set(report["peers"]) & {n.hex() for n in (*invented, lazy[0])}
                assert it.node_id.hex() not in report["peers"]
        assert report["dht"]["lies"] >= 5


async def test_pages_and_parts_without_end_hold_up_no_upkeep(tmp_path):
    """A comparison may take two seconds here, not thirty."""
    patch = {"dht.shell_upkeep:COMPARE_DEADLINE": 2.0, "dht.shell_find:SEARCH_DEADLINE": 3.0}
    number = 0

    def endless(message):
        nonlocal number
        number += 1
        return (), (), number.to_bytes(32, "big")

    def parts(message):
        return ((message.args[3], 200, os.urandom(16)),)

    async def dawdle(_channel, _message):
        await trio.sleep(0.02)

    liar = Liar({rpc.FIND_VALUE: endless, rpc.DIGEST: parts}, after=dawdle)
    async with attacked(tmp_path / "node", patch=patch) as it:
        await it.ask("put", "owner", "m")
        assert (await it.report())["view"]["records"] == 1
        async with stranger("endless", handler=liar) as mine:
            await liar.join(it, mine)
            with trio.fail_after(10):
                assert (await it.ask("compare", "m"))["s"] < 5
            with trio.fail_after(10):
                assert (await it.ask("get", "m"))["records"] == 1
            report = await it.report()
            assert report["dht"]["comparisons_late"] >= 1
            assert number > 20


async def test_answers_and_news_that_nobody_asked_for(tmp_path):
    good = fresh(identity("writer"), "m")

    async def invent(channel, message):
        if message.method == rpc.FIND_NODE:
            await channel.send(rpc.encode(Answer(message.id + 1000, ())))

    async def repeat(channel, message):
        if message.method == rpc.FIND_NODE:
            for _ in range(200):
                await channel.send(rpc.encode(Answer(message.id, ())))

    async def tell(channel, message):
        if message.method == rpc.FIND_NODE:
            for _ in range(200):
                await channel.send(rpc.encode(News(message.id, (good,))))

    async with attacked(tmp_path / "node") as it:
        for name, after in (("invent", invent), ("repeat", repeat), ("tell", tell)):
            liar = Liar({}, after=after)
            async with stranger(name, handler=liar) as mine:
                for _ in range(4):
                    liar.addrs = mine.addrs()
                    await it.ask("know", mine.node_id.hex(), *mine.addrs())
                who = mine.node_id.hex()
                report = await it.until(
                    lambda r, who=who: who in [ban["subject"] for ban in r["bans"]]
                )
                assert who not in report["peers"]
        assert report["dht"]["garbage"] >= 12


async def test_a_flood_of_news_to_a_subscriber(tmp_path):
    """Forged news ends the stream; valid news arrives at the pace of a stream, 50 a second here."""
    patch = {"dht.shell_link:NEWS_BURST": 50.0, "dht.shell_link:NEWS_RATE": 50.0}
    owner = identity("writer")
    valid = [fresh(owner, "m", id=bytes([n])) for n in range(200)]

    async def flood(channel, message, raws=valid):
        if message.method == rpc.LISTEN and message.args[2]:
            for raw in raws:
                await channel.send(rpc.encode(News(message.id, (raw,))))

    granting = {rpc.LISTEN: lambda _m: (600,), rpc.DIGEST: lambda _m: ((b"", 0, bytes(16)),)}
    async with attacked(tmp_path / "node", patch=patch) as it:
        forged = bad_stores(it)["forged"][2]

        async def forge(channel, message):
            await flood(channel, message, [forged] * 100)

        liar = Liar(granting, after=forge)
        async with stranger("forging", handler=liar) as mine:
            await liar.join(it, mine)
            await it.ask("listen", "m")
            report = await it.until(lambda r: r["dht"].get("garbage", 0) >= 1)
            assert 9 <= report["dht"]["news_invalid"] <= 9 * report["dht"]["garbage"] + 9
            assert report["heard"] == 0
        loud = Liar(granting, after=flood)
        async with stranger("loud", handler=loud) as mine:
            await loud.join(it, mine)
            await it.ask("listen", "n")
            before = it.rss()
            await it.until(lambda r: rpc.LISTEN in loud.asked)
            assert it.rss() - before < 20 << 20


async def test_a_peer_that_always_answers_at_the_last_moment(tmp_path):
    async def slow(channel):
        while True:
            message = rpc.decode(await channel.receive())
            if message.method != rpc.HELLO:
                await trio.sleep(0.45)  # lost at 0.5 at the earliest
            result = {rpc.FIND_VALUE: ((), (), b""), rpc.STORE: (1, ())}.get(message.method, ())
            if message.method == rpc.HELLO:
                result = addrs[channel.host]
            await channel.send(rpc.encode(Answer(message.id, result)))

    addrs = {}
    async with attacked(tmp_path / "node") as it:
        await it.ask("put", "owner", "m")
        assert (await it.report())["view"]["records"] == 1
        async with stranger("slow", handler=slow) as mine:
            addrs["127.0.0.1"] = mine.addrs()
            assert (await it.ask("know", mine.node_id.hex(), *mine.addrs()))["answered"] == 1
            for _ in range(3):
                took = await it.ask("get", "m")
                assert took["records"] == 1
                assert took["s"] < 3


# ------------------------------------------------------------------ dials on a stranger's word


class Canary:
    """Somebody who never asked for a connection: counts those that reach him."""

    def __init__(self):
        self.reached = 0
        self.addr = ""

    async def run(self, host, task_status=trio.TASK_STATUS_IGNORED):
        async def count(_tcp):
            self.reached += 1

        (listener,) = await trio.open_tcp_listeners(0, host=host)
        self.addr = f"/ip4/{host}/tcp/{listener.socket.getsockname()[1]}"
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, count, [listener])
            task_status.started()
            await trio.sleep_forever()


async def test_a_storm_of_hellos_cannot_aim_the_node_at_others(tmp_path):
    """40 strangers of two subnets state somebody else's address: 20 dials at first, then 10 a minute."""
    canary = Canary()
    wish = {"exempt": NO_CAPS_FOR_LOOPBACK, "source": "127.2.0.1"}
    async with attacked(tmp_path / "node", **wish) as it, trio.open_nursery() as nursery:
        await nursery.start(canary.run, "127.9.0.1")
        for number in range(40):
            with calling_from(f"127.1.{number % 2}.{1 + number // 8}"):
                async with stranger(f"aim{number}") as mallory:
                    channel = await it.open(mallory)
                    for _ in range(3):
                        await ask(channel, rpc.HELLO, (canary.addr,), number=0)
        report = await it.report()
        assert report["dht"]["answered_hello"] >= 100
        print(f"the canary was dialled {canary.reached} times")
        assert 1 <= canary.reached <= 22
        assert report["peers"] == {}
        honest = Liar({})
        with calling_from("127.4.0.1"):  # who says where he calls from is asked back
            async with open_streams(
                identity("met"), NETWORK, listen=["/ip4/127.4.0.1/tcp/0"]
            ) as mine:
                mine.serve(NETWORK.protocol("dht"), honest, limit=1 << 20)
                honest.addrs = mine.addrs()
                await ask(await it.open(mine), rpc.HELLO, mine.addrs(), number=0)
                await it.until(lambda r: mine.node_id.hex() in r["peers"])
        nursery.cancel_scope.cancel()


async def test_a_public_node_dials_no_private_address_that_a_stranger_names(tmp_path):
    """Loopback stands for the private network: by hello, by a name, by a list, by a contact."""
    canary = Canary()
    async with attacked(tmp_path / "node", public=True) as it, trio.open_nursery() as nursery:
        await nursery.start(canary.run, "127.0.0.1")
        port = canary.addr.rsplit("/", 1)[1]
        aims = (canary.addr, f"/dns4/localhost/tcp/{port}")
        async with stranger() as mallory:
            channel = await it.open(mallory)
            for aim in aims:
                await ask(channel, rpc.HELLO, (aim,), number=0)
        named = tuple((identity(f"in{n}").node_id, (aims[n % 2],)) for n in range(10))
        liar = Liar({rpc.FIND_NODE: lambda _m: named, rpc.FIND_VALUE: lambda _m: (named, (), b"")})
        async with stranger("lister", handler=liar) as mine:
            await liar.join(it, mine)
            liar.addrs = (mine.addrs()[0], canary.addr)
            await it.ask("get", "m")
            report = await it.report()
            assert report["peers"] == {mine.node_id.hex(): list(mine.addrs())}
        moved = Liar({})
        async with stranger("moved", handler=moved) as mine:
            moved.addrs = (canary.addr,)  # it answers where we dialled, and states another
            assert (await it.ask("know", mine.node_id.hex(), *mine.addrs()))["answered"] == 1
            report = await it.report()
            assert report["peers"][mine.node_id.hex()] == list(mine.addrs())
            await it.ask("nodes", bytes(32).hex())
        assert canary.reached == 0
        nursery.cancel_scope.cancel()


async def test_a_hello_for_somebody_elses_address_harms_nobody(tmp_path):
    async with attacked(tmp_path / "node") as it:
        victim = Liar({})
        async with stranger("victim", handler=victim) as theirs, stranger() as mallory:
            await victim.join(it, theirs)
            channel = await it.open(mallory)
            for _ in range(5):
                await ask(channel, rpc.HELLO, theirs.addrs(), number=0)
            report = await it.until(lambda r: r["dht"]["answered_hello"] >= 5)
            assert set(report["peers"]) == {theirs.node_id.hex()}
            assert report["view"]["bans"] == 0


async def test_the_connections_we_made_take_no_place_for_good(tmp_path):
    """Room for 25 connections of our own making, 24 streams: 40 peers who all want to stay."""
    wish = {
        "limits": {"outbound": 25},
        "room": {"links": 24},
        "patch": {"dht.transport_libp2p:OPEN_DEADLINE": 1.0},
    }
    async with attacked(tmp_path / "node", **wish) as it, trio.open_nursery() as nursery:
        peers = []

        async def peer(number, task_status):
            liar = Liar({})
            async with stranger(f"stays{number}", handler=liar) as mine:
                liar.addrs = mine.addrs()
                peers.append(Peer(mine.node_id, mine.addrs()))
                task_status.started()
                await trio.sleep_forever()

        for number in range(40):
            await nursery.start(peer, number)
        for known in peers:
            with trio.fail_after(10):
                order = ("know", known.node_id.hex(), *known.addrs)
                while not (await it.ask(*order))["answered"]:  # noqa: ASYNC110 - the node has room then
                    await trio.sleep(0.1)
        report = await it.report()
        assert report["transport"]["connections_retired"] >= 10
        assert len(report["peers"]) >= 36
        nursery.cancel_scope.cancel()
