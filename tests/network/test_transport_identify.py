"""Ping and identify as any libp2p implementation may ask for them, and as nobody should."""

import os
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from dht_kit import LISTEN, NETWORK, identity, until
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.stream_muxer.exceptions import MuxedStreamEOF, MuxedStreamError, MuxedStreamReset
from multiaddr import Multiaddr

from dht import transport_identify
from dht.transport_identify import IDENTIFY, PING
from dht.transport_libp2p import open_streams
from p2pnode import __version__
from p2pnode.base.errors import Unreachable

NONE = "/none/1"
END, RESET = "end", "reset"


@asynccontextmanager
async def pair(**more):
    """Yield an asker's live connection and the node that it leads to."""
    async with (
        open_streams(identity("a"), NETWORK) as a,
        open_streams(identity("b"), NETWORK, listen=LISTEN, **more) as b,
    ):
        with pytest.raises(Unreachable):  # what it asks for is not served: only the connection
            await a.open(b.node_id, b._bound, NONE, limit=1)
        yield a._connections[b.node_id][0], b


@pytest.fixture(autouse=True)
def bound(monkeypatch):
    """Keep where a node listens, whatever it announces."""
    from dht.transport_libp2p import Libp2pStreams, text_of

    listen = Libp2pStreams.listen

    def remember(self, listeners, announce):
        self._bound = [text_of(listener.socket) for listener in listeners]
        listen(self, listeners, announce)

    monkeypatch.setattr(Libp2pStreams, "listen", remember)


async def opened(connection, protocol):
    stream = await connection._muxed.open_stream()
    talk = MultiselectCommunicator(stream)
    await talk.write("/multistream/1.0.0")
    await talk.write(protocol)
    assert [await talk.read(), await talk.read()] == ["/multistream/1.0.0", protocol]
    return stream


async def exactly(stream, count):
    data = b""
    while len(data) < count:
        data += await stream.read(count - len(data))
    return data


async def to_the_end(stream):
    """Return what comes before the stream's end, and whether that was a reset."""
    data = b""
    while True:
        try:
            data += await stream.read(4096)
        except (MuxedStreamEOF, MuxedStreamReset):
            return data, RESET if stream.reset_received else END


async def pongs(connection):
    stream = await opened(connection, PING)
    data = os.urandom(32)
    await stream.write(data)
    assert await exactly(stream, 32) == data
    await stream.close()
    assert await to_the_end(stream) == (b"", END)


async def test_a_ping_comes_back_again_and_again_until_the_asker_ends():
    async with pair() as (connection, b):
        stream = await opened(connection, PING)
        with trio.fail_after(5):
            for _ in range(5):
                data = os.urandom(32)
                await stream.write(data)
                assert await exactly(stream, 32) == data
            await stream.close()
            assert await to_the_end(stream) == (b"", END)
        assert b.tally.counts["pings"] == 5
        assert b.tally.counts["replies_reset"] == 0


async def test_pings_at_once_in_pieces_and_half_open_are_echoed_in_order():
    async with pair() as (connection, b):
        stream = await opened(connection, PING)
        data = os.urandom(96)
        with trio.fail_after(5):
            for cut in (data[:1], data[1:33], data[33:]):
                await stream.write(cut)
            await stream.close()  # the asker has said all and still listens
            assert await to_the_end(stream) == (data, END)
        assert b.tally.counts["pings"] == 3
        await until(lambda: not b._connections[identity("a").node_id][0].streams)


async def test_half_a_ping_and_then_the_end_is_reset():
    async with pair() as (connection, b):
        stream = await opened(connection, PING)
        await stream.write(bytes(31))
        await stream.close()
        with trio.fail_after(5):
            assert await to_the_end(stream) == (b"", RESET)
        assert b.tally.counts["replies_reset"] == 1
        await pongs(connection)


async def test_a_ping_that_never_gets_whole_is_reset_at_its_deadline(monkeypatch):
    monkeypatch.setattr(transport_identify, "PING_DEADLINE", 0.3)
    async with pair() as (connection, b):
        stream = await opened(connection, PING)
        began = trio.current_time()

        async def drip():  # a byte now and then buys no time
            while True:
                await stream.write(b"x")
                await trio.sleep(0.05)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip)
            with trio.fail_after(5):
                assert await to_the_end(stream) == (b"", RESET)
            nursery.cancel_scope.cancel()
        assert trio.current_time() - began < 1.5
        assert b.tally.counts["replies_reset"] == 1
        await pongs(connection)


async def test_one_who_pings_and_never_reads_is_reset(monkeypatch):
    monkeypatch.setattr(transport_identify, "WRITE_DEADLINE", 0.3)
    monkeypatch.setattr(transport_identify, "BURST", 1e9)
    async with pair() as (connection, b):
        stream = await opened(connection, PING)
        theirs = await _the_other_end(b, stream.stream_id)
        theirs.send_window = -(1 << 20)  # as if the asker had taken nothing for a while
        await stream.write(bytes(32 * 10))
        await until(lambda: b.tally.counts["replies_reset"] == 1)
        assert b.tally.counts["pings"] == 0
        await pongs(connection)


async def _the_other_end(b, stream_id):
    (connection,) = b._connections[identity("a").node_id]
    await until(lambda: stream_id in connection._muxed.streams)
    return connection._muxed.streams[stream_id]


async def test_a_flood_of_pings_is_answered_at_the_set_pace(monkeypatch):
    monkeypatch.setattr(transport_identify, "BURST", 10.0)
    monkeypatch.setattr(transport_identify, "RATE", 20.0)
    async with pair() as (connection, b):
        began = trio.current_time()
        stream = await opened(connection, PING)
        with trio.fail_after(10):
            await stream.write(bytes(32 * 30))
            assert await exactly(stream, 32 * 30) == bytes(32 * 30)
        assert trio.current_time() - began >= 20 / 20 - 0.1
        assert b.tally.counts["pings"] == 30


@pytest.mark.parametrize("protocol", [PING, IDENTIFY])
async def test_a_third_stream_at_once_is_reset_and_room_comes_back(protocol, monkeypatch):
    monkeypatch.setattr(transport_identify, "END_DEADLINE", 60.0)
    async with pair() as (connection, b):
        held = [await opened(connection, protocol) for _ in range(2)]
        with trio.fail_after(5), pytest.raises((MuxedStreamEOF, MuxedStreamReset)):
            third = await opened(connection, protocol)
            while True:
                assert not await third.read(1)
        assert b.tally.counts["replies_reset"] == 1
        for stream in held:
            await stream.close()
            assert (await to_the_end(stream))[1] == END
        await until(lambda: not b._connections[identity("a").node_id][0].streams)
        await pongs(connection)


def parsed(data):
    """Return the message behind its length, a varint that says how much follows."""
    size = 1 if data[0] < 0x80 else 2
    length = data[0] & 0x7F | (data[1] << 7 if size == 2 else 0)
    assert length == len(data) - size
    return Identify.FromString(data[size:])


async def identified(connection):
    stream = await opened(connection, IDENTIFY)
    with trio.fail_after(5):
        data, end = await to_the_end(stream)
        await stream.close()
    assert end == END
    return parsed(data)


async def test_identify_tells_key_addresses_protocols_version_and_nothing_else():
    async def silent(_channel):
        await trio.sleep_forever()

    async with pair() as (connection, b):
        b.serve("/mine/1", silent, limit=1)
        told = await identified(connection)
        assert told.agent_version == f"p2pnode/{__version__}"
        assert told.protocol_version == "ipfs/0.1.0"
        assert told.public_key == bytes.fromhex("08011220") + b.node_id
        assert [str(Multiaddr(raw)) for raw in told.listen_addrs] == list(b.addrs())
        assert sorted(told.protocols) == [IDENTIFY, PING, "/mine/1"]
        ours = connection._socket.stream.socket.getsockname()
        assert str(Multiaddr(told.observed_addr)) == f"/ip4/127.0.0.1/tcp/{ours[1]}"
        assert {field.name for field, _ in told.ListFields()} == {
            "agent_version",
            "listen_addrs",
            "observed_addr",
            "protocol_version",
            "protocols",
            "public_key",
        }
        assert b.tally.counts["identified"] == 1


async def test_identify_tells_what_is_announced_where_libp2p_can_spell_it():
    announce = ("/dns4/seed.example/tcp/4001", "/dns4/under_score.example/tcp/4001")
    async with pair(announce=announce) as (connection, _):
        told = await identified(connection)
        assert [str(Multiaddr(raw)) for raw in told.listen_addrs] == [announce[0]]


async def test_an_identify_that_its_asker_leaves_open_is_reset(monkeypatch):
    monkeypatch.setattr(transport_identify, "END_DEADLINE", 1.0)
    async with pair() as (connection, b):
        stream = await opened(connection, IDENTIFY)
        with trio.fail_after(5):
            data, end = await to_the_end(stream)  # it is read while its end is not said
            assert end == END
            await until(lambda: b.tally.counts["replies_reset"] == 1)
        await until(lambda: not b._connections[identity("a").node_id][0].streams)
        assert parsed(data).public_key[4:] == b.node_id


async def test_an_asker_that_talks_to_identify_is_reset_and_not_read():
    async with pair() as (connection, b):
        stream = await opened(connection, IDENTIFY)
        with suppress(MuxedStreamError):  # it is cut short
            await stream.write(bytes(200_000))
        await until(lambda: b.tally.counts["replies_reset"] == 1)
        assert b.connected() == (identity("a").node_id,)
        await pongs(connection)


@pytest.mark.parametrize("protocol", [PING, IDENTIFY])
async def test_streams_and_connections_torn_away_leave_nothing(protocol, caplog):
    async with pair() as (connection, b):
        for _ in range(20):
            stream = await opened(connection, protocol)
            if protocol == PING:
                await stream.write(bytes(7))
            await stream.reset()
        (theirs,) = b._connections[identity("a").node_id]
        await until(lambda: not theirs.streams)
        await pongs(connection)
        await opened(connection, protocol)
        connection.kill()
        await until(lambda: not b.connected())
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
