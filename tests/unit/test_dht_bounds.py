"""What a stranger's answers and bytes may take of a node: harvest, news, frames, lines, names."""

import itertools
from contextlib import suppress

import pytest
import trio
from dht_kit import NOTE, NOW, Clock, Randomness, identity, note, note_key, validate_note
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.protocol_muxer.exceptions import MultiselectCommunicatorError
from libp2p.stream_muxer.exceptions import MuxedStreamError

from dht import harvest, rpc, shell_link, transport_bounds
from dht.endpoint import Peer
from dht.harvest import Harvest
from dht.records import Bounds, Kinds, merge
from dht.rpc import PING, Answer, Ask, News
from dht.shell_link import Link
from dht.shell_upkeep import Upkeep
from dht.store_records import RecordStore
from dht.subnets import Subnets
from dht.tally import Tally
from dht.transport_bounds import Bounds as Room
from dht.transport_bounds import Lines, PacedFrames, Unread
from dht.transport_names import Names
from dht.transport_yamux import BatchedStream
from p2pnode.base.errors import Unreachable
from p2pnode.base.store import Database

ALICE, BOB = identity("alice").node_id, identity("bob").node_id


# ------------------------------------------------------------------ harvest


def kinds(per_key=8):
    found = Kinds()
    found.register(NOTE, validate_note, Bounds(per_key=per_key))
    return found


def test_stale_records_are_dropped_and_are_no_lies_and_forged_ones_are():
    it, owner = Harvest(kinds(), NOTE, note_key("m"), NOW), identity("owner")
    stale = note(owner, "m", expires_at=NOW)
    forged = note(owner, "m")[:-1] + b"\x00"
    for _ in range(3):
        assert not it.take(stale, ALICE, 1)
        assert not it.take(forged, BOB, 1)
    assert (it.lies(ALICE), it.lies(BOB)) == (0, 3)
    assert it.take(note(owner, "m"), ALICE, 1)
    assert len(it.result(()).records) == 1


def test_who_serves_the_same_again_has_not_served_more():
    it, owner = Harvest(kinds(2), NOTE, note_key("m"), NOW), identity("owner")
    raws = [note(owner, "m", id=bytes([n])) for n in range(3)]
    for _ in range(5):
        assert it.take(raws[0], ALICE, 1)
        assert it.take(raws[1], ALICE, 1)
    assert not it.spent(ALICE)
    assert not it.take(raws[2], ALICE, 1)
    assert it.spent(ALICE)
    assert it.lies(ALICE) == 0


def test_what_cannot_win_is_let_go_on_the_way_and_the_result_is_the_same():
    it = Harvest(kinds(), NOTE, note_key("m"), NOW)
    raws = []
    for number in range(200):
        owner = identity(f"owner{number % 25}")
        raw = note(owner, "m", id=bytes([number // 25]), expires_at=NOW + 1 + number * 37 % 200)
        raws.append(raw)
        assert it.take(raw, number.to_bytes(32, "big"), 1)
        assert it._valid <= harvest.ROOM * 8 + 1
    found = it.result(())
    whole = merge((validate_note(raw, NOW) for raw in raws), per_key=8)
    assert found.records == whole
    assert len(it._judged) < 50
    assert all(found.holders[(r.owner, r.id)] for r in whole)


def test_an_old_version_does_not_come_back_when_the_new_one_was_let_go():
    it, owner = Harvest(kinds(1), NOTE, note_key("m"), NOW), identity("owner")
    assert it.take(note(owner, "m", seq=5, expires_at=NOW + 1), ALICE, 1)
    for number in range(9):
        it.take(note(identity(f"o{number}"), "m", expires_at=NOW + 50), bytes([number]), 1)
    assert it._beaten[(owner.node_id, b"")][0] == 5
    assert it.take(note(owner, "m", seq=4, expires_at=NOW + 99), BOB, 1)
    assert owner.node_id not in [r.owner for r in it.result(()).records]


# ------------------------------------------------------------------ a stream that we opened


class Scripted:
    """A channel whose peer says what a test says."""

    peer, host, addr = ALICE, "127.0.0.1", "/ip4/127.0.0.1/tcp/1"

    def __init__(self):
        self._into, self._frames = trio.open_memory_channel(10_000)

    def say(self, message):
        self._into.send_nowait(rpc.encode(message))

    async def receive(self):
        return await self._frames.receive()

    async def send(self, _payload):
        await trio.lowlevel.checkpoint()

    async def close(self):
        self._into.close()

    reset = close


async def broken_after(script, asks=0, listen=None):
    """Run a link on which `asks` questions are given up; tell whether `script` breaks it."""
    channel = Scripted()
    link = Link(channel, ())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        await link.greet()
        channel.say(Answer(0, ()))
        for _ in range(asks):
            with trio.move_on_after(0.001):
                await link.ask(PING, ())
        if listen:
            nursery.start_soon(_listen, link, listen)
            await trio.sleep(0.01)
        for message in script:
            channel.say(message)
        await trio.sleep(0.05)
        broke = link.broke
        nursery.cancel_scope.cancel()
    return broke


async def _listen(link, take):
    with suppress(Unreachable):
        await link.ask("listen", (), shell_link.Listener(take, lambda: None))


async def test_late_answers_are_free_and_more_than_were_asked_for_break_the_stream(autojump_clock):
    late = [Answer(n, ()) for n in range(1, 100)]
    free = shell_link.MAX_UNASKED
    assert not await broken_after(late, asks=99)
    assert not await broken_after([Answer(1, ())] * free, asks=0 + 1)
    assert await broken_after([Answer(1, ())] * (free + 2), asks=1)
    assert await broken_after([News(1, (b"x",))] * (free + 2), asks=1)
    assert await broken_after([Answer(2, ())], asks=1)  # a number not given out yet
    assert await broken_after([Ask(1, PING, ())], asks=1)


async def test_news_is_taken_at_a_pace_and_eight_lies_are_forgiven(monkeypatch, autojump_clock):
    monkeypatch.setattr(shell_link, "NEWS_RATE", 1.0)
    monkeypatch.setattr(shell_link, "NEWS_BURST", 20.0)
    taken = []

    def take(raws):
        taken.append(raws)
        return 0

    assert not await broken_after([News(1, (b"x",))] * 50, listen=take)
    assert len(taken) == 20  # the others wait for their time
    assert not await broken_after([News(1, (b"x",))] * 8, listen=lambda _raws: 1)
    assert await broken_after([News(1, (b"x",))] * 9, listen=lambda _raws: 1)


# ------------------------------------------------------------------ frames, lines, names


class Session:
    """The bytes of a secured connection."""

    def __init__(self, data):
        self.data = data

    async def read(self, n=None):
        await trio.lowlevel.checkpoint()
        taken, self.data = self.data[:n], self.data[n:]
        return taken


async def test_a_header_that_is_not_of_yamux_ends_the_connection():
    room = Room(Subnets(), Tally())
    good, foreign = b"\x00\x02" + bytes(10), b"\x00\x04" + bytes(10)
    frames = PacedFrames(Session(good + foreign + b"\x01" + bytes(11)), room, ALICE, "127.0.0.1")
    assert await frames.read(12) == good
    for _ in range(2):
        with pytest.raises(ConnectionClosedError):
            await frames.read(12)
    body = PacedFrames(Session(foreign), room, ALICE, "127.0.0.1")
    body.body = True
    assert await body.read(12) == foreign


async def test_frames_have_a_pace_by_peer_and_by_subnet(autojump_clock, monkeypatch):
    monkeypatch.setattr(transport_bounds, "FRAME_BURST", 100.0)
    monkeypatch.setattr(transport_bounds, "FRAME_RATE", 50.0)
    monkeypatch.setattr(transport_bounds, "SUBNET_FRAME_BURST", 150.0)
    monkeypatch.setattr(transport_bounds, "SUBNET_FRAME_RATE", 10.0)
    tally = Tally()
    room = Room(Subnets(), tally)
    await room.pace(ALICE, "192.0.2.1", 100)
    assert trio.current_time() == 0
    await room.pace(ALICE, "192.0.2.1", 50)
    assert trio.current_time() == 1
    await room.pace(BOB, "192.0.2.2", 100)  # the subnet has spent 150 and earned 10
    assert trio.current_time() == 10
    await room.pace(BOB, "192.0.3.2", 100)
    assert tally.counts["frames_paced"] >= 2


def test_unread_bytes_have_one_room_and_who_holds_most_leaves(monkeypatch):
    monkeypatch.setattr(transport_bounds, "MAX_UNREAD", 100)
    room, ended, held = Room(Subnets(), Tally()), [], {"a": 30, "b": 50, "c": 20}
    holders = {
        name: Unread(lambda name=name: held[name], lambda name=name: ended.append(name))
        for name in held
    }
    assert all(room.room_for(holders[name], held[name]) for name in held)
    assert room.room_for(holders["c"], 40)
    assert ended == ["b"]
    held["a"] = 0  # read meanwhile, which is seen when room is short
    assert room.room_for(holders["c"], 90)
    assert not room.room_for(holders["c"], 101)
    room.forget(holders["a"])
    assert room._total == 0


class Wire:
    """What a Yamux stream writes to."""

    def __init__(self):
        self.sent = []

    async def _write_frame(self, frame):
        await trio.lowlevel.checkpoint()
        self.sent.append(len(frame) - 12)


async def test_a_stream_waits_for_its_window_without_looking_again_and_again(autojump_clock):
    wire = Wire()
    stream = BatchedStream(1, wire, True)
    await stream.write(bytes(256 * 1024))
    assert sum(wire.sent) == 256 * 1024
    assert max(wire.sent) < 65_536
    wire.sent.clear()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.write, bytes(3000))
        ticks = Ticks()
        trio.lowlevel.add_instrument(ticks)
        await trio.sleep(4)
        trio.lowlevel.remove_instrument(ticks)
        assert ticks.count < 20  # upstream: 400 looks
        stream.send_window += 1000
        await trio.sleep(4)  # each window has its own deadline
        stream.send_window += 5000
    assert wire.sent == [1000, 2000]
    assert stream.send_window == 3000
    stream.send_window = 0
    began = trio.current_time()
    with pytest.raises(MuxedStreamError):
        await stream.write(b"x")
    assert trio.current_time() - began == 5
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_refused, stream)
        await trio.sleep(1)
        stream.closed = True  # as a reset or the connection's end does
    assert trio.current_time() - began == 6


class Ticks(trio.abc.Instrument):
    """Counts how often any task runs."""

    count = 0

    def before_task_step(self, _task):
        self.count += 1


async def _refused(stream):
    with pytest.raises(MuxedStreamError):
        await stream.write(b"x")


async def test_a_line_of_multistream_is_short_text():
    async def read(data):
        return await Lines(Session(data)).read()

    assert await read(b"\x07/noise\n") == "/noise"
    for bad in (
        b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(3000),
        b"\x81\x08" + b"a" * 1025,
        b"\x03abc",
        b"\x03\xff\xfe\n",
        b"\x07/no",
        b"",
        b"\x00",
    ):
        with pytest.raises(MultiselectCommunicatorError):
            await read(bad)


async def test_a_name_leads_to_private_addresses_on_private_networks_alone():
    assert "127.0.0.1" in await Names(anywhere=True).hosts("localhost")
    with pytest.raises(Unreachable):
        await Names(anywhere=False).hosts("localhost")
    assert await Names(anywhere=False).hosts("127.0.0.1") == ["127.0.0.1"]  # our own owner's word


# ------------------------------------------------------------------ upkeep


class Around:
    """What upkeep asks of the rest of a node."""

    def __init__(self):
        self.own, self.touched = ALICE, {}


async def test_stores_of_others_put_a_comparison_off_once_and_not_for_ever(
    monkeypatch, autojump_clock
):
    around, store, compared = Around(), RecordStore(Database(None)), []
    store.put(validate_note(note(identity("owner"), "m"), NOW))
    upkeep = Upkeep(
        None, around, around, None, around, kinds(), store, Clock(), Randomness("r"), Tally()
    )

    async def compare(where):
        compared.append((where, trio.current_time()))

    monkeypatch.setattr(upkeep, "_compare_with_some", compare)
    for _ in range(60 * 10):
        around.touched[NOTE, note_key("m")] = trio.current_time()
        await upkeep.pass_on()
        await trio.sleep(60)
    assert {where for where, _ in compared} == {(NOTE, note_key("m"))}
    gaps = [b - a for (_, a), (_, b) in itertools.pairwise(compared)]
    assert 3 <= len(gaps) <= 9
    assert max(gaps) <= 2.3 * 3600


def test_peers_saved_at_once_come_back_in_any_order():
    store = RecordStore(Database(None))
    store.save_peers([Peer(bytes([n]) * 32, ("/ip4/192.0.2.1/tcp/1",)) for n in range(100)], NOW)
    store.save_peers([Peer(b"\xff" * 32, ("/ip4/192.0.2.1/tcp/1",))], NOW + 1)
    drawn = [[p.node_id for p in store.peers(20)] for _ in range(20)]
    assert all(found[0] == b"\xff" * 32 for found in drawn)  # the latest is first
    assert len({node_id for found in drawn for node_id in found}) > 80
