"""The transport against strangers: who gets in, and what their bytes can do."""

import logging
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from dht_kit import LISTEN, NETWORK, identity, until

from benchmarks import tcp_delay
from dht import transport_channel, transport_secure
from dht.transport_libp2p import open_streams
from p2pnode.base.errors import InvalidRecord, Misconfigured, Unreachable
from p2pnode.base.identity import Identity, peer_id_bytes, works

ECHO = "/echo/1"
LIMIT = 1 << 20


async def echo(channel):
    while True:
        await channel.send(await channel.receive())


@asynccontextmanager
async def pair():
    async with (
        open_streams(identity("a"), NETWORK, listen=LISTEN) as a,
        open_streams(identity("b"), NETWORK, listen=LISTEN) as b,
    ):
        b.serve(ECHO, echo, limit=LIMIT)
        yield a, b


def port_of(streams):
    return int(streams.addrs()[0].rsplit("/", 1)[1])


async def works_for(a, b):
    with trio.fail_after(5):
        channel = await a.open(b.node_id, b.addrs(), ECHO, limit=LIMIT)
        await channel.send(b"still here")
        assert await channel.receive() == b"still here"
        await channel.close()


async def test_frames_arrive_whole_and_in_order_and_the_peer_is_known():
    seen = []

    async def who(channel):
        seen.append(channel.peer)
        await echo(channel)

    async with pair() as (a, b):
        b.serve("/who/1", who, limit=LIMIT)
        channel = await a.open(b.node_id, b.addrs(), "/who/1", limit=LIMIT)
        sizes = (1, 70_000, LIMIT, 3)

        async def speak():
            for size in sizes:
                await channel.send(bytes([size % 251]) * size)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(speak)
            for size in sizes:
                assert await channel.receive() == bytes([size % 251]) * size
        assert seen == [a.node_id]
        assert channel.peer == b.node_id


async def test_a_frame_over_the_limit_is_refused_by_sender_and_by_receiver():
    caught = []

    async def small(channel):
        try:
            await channel.receive()
        except InvalidRecord as error:
            caught.append(error.field)

    async with pair() as (a, b):
        b.serve("/small/1", small, limit=100)
        channel = await a.open(b.node_id, b.addrs(), "/small/1", limit=LIMIT)
        await channel.send(bytes(101))
        with trio.fail_after(5), pytest.raises(Unreachable):
            await channel.receive()
        assert caught == ["frame"]
        tight = await a.open(b.node_id, b.addrs(), ECHO, limit=100)
        with pytest.raises(InvalidRecord, match="frame"):
            await tight.send(bytes(101))
        await works_for(a, b)


async def test_a_bug_in_one_handler_ends_its_stream_alone_and_is_logged(caplog):
    async def broken(channel):
        raise KeyError(await channel.receive())

    async with pair() as (a, b):
        b.serve("/broken/1", broken, limit=LIMIT)
        good = await a.open(b.node_id, b.addrs(), ECHO, limit=LIMIT)
        bad = await a.open(b.node_id, b.addrs(), "/broken/1", limit=LIMIT)
        await bad.send(b"boom")
        with trio.fail_after(5), pytest.raises(Unreachable):
            await bad.receive()
        await good.send(b"x")
        assert await good.receive() == b"x"
    assert any("handler" in r.message and r.levelno == logging.ERROR for r in caplog.records)


async def test_giving_up_a_receive_loses_nothing():
    async with pair() as (a, b):
        channel = await a.open(b.node_id, b.addrs(), ECHO, limit=LIMIT)
        with trio.move_on_after(0.05):
            await channel.receive()
        await channel.send(b"one")
        for _ in range(50):
            with trio.move_on_after(0):
                await channel.receive()
        assert await channel.receive() == b"one"


async def test_a_plaintext_only_dialler_is_refused():
    from libp2p.crypto.ed25519 import create_new_key_pair
    from libp2p.io.trio import TrioTCPStream
    from libp2p.network.connection.raw_connection import RawConnection
    from libp2p.peer.id import ID
    from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
    from libp2p.transport.exceptions import SecurityUpgradeFailure
    from libp2p.transport.upgrader import TransportUpgrader

    async with pair() as (a, b):
        keys = create_new_key_pair(identity("a").secret_seed())
        plain = TransportUpgrader({PLAINTEXT_PROTOCOL_ID: InsecureTransport(keys)}, {})
        tcp = await trio.open_tcp_stream("127.0.0.1", port_of(b))
        raw = RawConnection(TrioTCPStream(tcp), True)
        with trio.fail_after(5), pytest.raises(SecurityUpgradeFailure):
            await plain.upgrade_security(raw, True, ID(peer_id_bytes(b.node_id)))
        tcp.socket.close()
        assert b.connected() == ()
        await works_for(a, b)


def lazy_identity():
    return next(
        i for n in range(256) if not works(NETWORK, (i := Identity(bytes([n]) * 32)).node_id)
    )


async def test_a_key_without_its_work_is_refused_both_ways():
    async with pair() as (a, b), open_streams(lazy_identity(), NETWORK, listen=LISTEN) as lazy:
        lazy.serve(ECHO, echo, limit=LIMIT)
        with pytest.raises(Unreachable):
            await a.open(lazy.node_id, lazy.addrs(), ECHO, limit=LIMIT)
        with pytest.raises(Unreachable):
            await lazy.open(b.node_id, b.addrs(), ECHO, limit=LIMIT)
        assert b.connected() == ()


async def test_a_key_that_is_not_ed25519_is_refused(monkeypatch):
    from libp2p.crypto.secp256k1 import create_new_key_pair

    def worked(_):  # the bytes that would pass for a node id carry the work
        while True:
            keys = create_new_key_pair()
            if works(NETWORK, keys.public_key.to_bytes()[-32:]):
                return keys

    async with pair() as (_, b):
        monkeypatch.setattr(transport_secure, "create_new_key_pair", worked)
        async with open_streams(identity("c"), NETWORK) as other:
            with pytest.raises(Unreachable):
                await other.open(b.node_id, b.addrs(), ECHO, limit=LIMIT)
        assert b.connected() == ()


async def test_an_address_that_leads_to_another_node_is_not_believed():
    async with pair() as (a, b):
        with pytest.raises(Unreachable):
            await a.open(identity("c").node_id, b.addrs(), ECHO, limit=LIMIT)


async def test_garbage_and_silence_on_the_port_stop_nobody(monkeypatch):
    monkeypatch.setattr("dht.transport_libp2p.INBOUND_DEADLINE", 1.0)
    async with pair() as (a, b):
        silent = [await trio.open_tcp_stream("127.0.0.1", port_of(b)) for _ in range(20)]
        for junk in (
            os.urandom(5000),
            b"\x13/multistream/1.0.0\n" + b"\xff\xff\xff\xff\x7f" + b"A" * 100_000,
            b"\x13/multistream/1.0.0\n\x07/noise\n\xff\xff" + os.urandom(65_535),
            b"\x13/multistream/1.0.0\n\x04\xff\xfe\xfd\n",
        ):
            stream = await trio.open_tcp_stream("127.0.0.1", port_of(b))
            try:
                with trio.fail_after(5):
                    await stream.send_all(junk)
                    while await stream.receive_some():
                        pass
            except trio.BrokenResourceError:
                pass
            stream.socket.close()
        await works_for(a, b)
        with trio.fail_after(5):  # the silent ones are let go, too
            for stream in silent:
                try:
                    while await stream.receive_some():
                        pass
                except trio.BrokenResourceError:
                    pass


async def test_a_stranger_may_not_talk_without_end_before_the_handshake():
    async with pair() as (a, b):
        stream = await trio.open_tcp_stream("127.0.0.1", port_of(b))

        async def talk():
            await stream.send_all(b"\x13/multistream/1.0.0\n")
            for _ in range(40):
                await stream.send_all(b"\x03ls\n" * 1000)

        heard = 0
        with trio.fail_after(4):  # less than the deadline of a handshake
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_broken, talk)
                try:
                    while data := await stream.receive_some():
                        heard += len(data)
                except trio.BrokenResourceError:
                    pass
        assert heard > 0
        stream.socket.close()
        await works_for(a, b)


async def _until_broken(talk):
    try:
        await talk()
    except trio.BrokenResourceError:
        pass


async def test_a_send_given_up_half_way_ends_the_stream():
    async def never_read(_channel):
        await trio.sleep_forever()

    async with pair() as (a, b):
        b.serve("/deaf/1", never_read, limit=LIMIT)
        channel = await a.open(b.node_id, b.addrs(), "/deaf/1", limit=LIMIT)
        with trio.move_on_after(0.5) as waiting:
            while True:
                await channel.send(bytes(LIMIT))
        assert waiting.cancelled_caught
        with trio.fail_after(5), pytest.raises(Unreachable):
            await channel.send(b"the rest would be read as part of what was given up")
        await works_for(a, b)


async def test_a_frame_that_never_ends_costs_the_stream(monkeypatch):
    monkeypatch.setattr(transport_channel, "READ_DEADLINE", 0.3)
    ended = trio.Event()

    async def wait(channel):
        try:
            await channel.receive()
        except Unreachable:
            ended.set()

    async with pair() as (a, b):
        b.serve("/wait/1", wait, limit=LIMIT)
        channel = await a.open(b.node_id, b.addrs(), "/wait/1", limit=LIMIT)
        await channel._stream.write(b"\x00\x00\x10\x00half")
        with trio.fail_after(5):
            await ended.wait()
        await works_for(a, b)


async def test_a_peer_that_ignores_flow_control_loses_the_connection(monkeypatch):
    monkeypatch.setattr(transport_secure, "MAX_BUFFERED", 300_000)

    async def never_read(_channel):
        await trio.sleep_forever()

    async with pair() as (a, b):
        b.serve("/deaf/1", never_read, limit=LIMIT)
        channel = await a.open(b.node_id, b.addrs(), "/deaf/1", limit=LIMIT)
        channel._stream.send_window = 1 << 30
        with trio.fail_after(10), pytest.raises(Unreachable):
            while True:
                await channel.send(bytes(60_000))
        await until(lambda: not b.connected())
        await works_for(a, b)


async def test_a_connection_gone_silent_is_ended_and_a_living_one_is_not(monkeypatch):
    monkeypatch.setattr(transport_secure, "SILENCE_DEADLINE", 0.8)  # the first ping goes after 0.5
    async with pair() as (a, b):
        await works_for(a, b)
        await trio.sleep(0.9)
        assert a.connected() == (b.node_id,)
        for connections in b._connections.values():
            for connection in connections:
                connection._muxed._write_lock.acquire_nowait()  # b says nothing any more
        await until(lambda: not a.connected(), 3)


async def test_a_protocol_nobody_serves_is_said_so_and_the_connection_stays():
    async with pair() as (a, b):
        await works_for(a, b)
        with pytest.raises(Unreachable, match="does not serve /none/1"):
            await a.open(b.node_id, b.addrs(), "/none/1", limit=LIMIT)
        assert a.connected() == (b.node_id,)


async def test_an_early_stream_spends_no_round_trip_and_a_refusal_shows_when_one_receives():
    rtt_s = 1.0
    async with pair() as (a, b):
        await works_for(a, b)
        async with tcp_delay.one_way(rtt_s / 2):
            start = trio.current_time()
            early = await a.open(b.node_id, b.addrs(), ECHO, limit=LIMIT, early=True)
            await early.send(b"at once")
            await early.send(b"and more")
            assert trio.current_time() - start < rtt_s / 2
            assert [await early.receive(), await early.receive()] == [b"at once", b"and more"]
            assert rtt_s <= trio.current_time() - start < 2 * rtt_s
        none = await a.open(b.node_id, b.addrs(), "/none/1", limit=LIMIT, early=True)
        with trio.fail_after(5), pytest.raises(Unreachable):
            await none.receive()
        await works_for(a, b)
        assert len(b.connected()) == 1  # the same connection still


async def test_an_early_stream_that_nobody_answers_gets_no_successor(monkeypatch):
    monkeypatch.setattr(transport_secure, "NEGOTIATE_DEADLINE", 0.3)
    async with pair() as (a, b):
        await works_for(a, b)
        (connection,) = a._connections[b.node_id]
        b._protocols = Silence()
        early = await a.open(b.node_id, b.addrs(), ECHO, limit=LIMIT, early=True)
        assert not connection.stale
        with trio.fail_after(5), pytest.raises(Unreachable):
            await early.receive()
        assert connection.stale


class Silence:
    """A negotiation that never answers."""

    async def negotiate(self, _lines):
        await trio.sleep_forever()


async def test_nobody_there_is_unreachable_at_once():
    async with open_streams(identity("a"), NETWORK) as a:
        with trio.fail_after(2), pytest.raises(Unreachable):
            await a.open(identity("b").node_id, ["/ip4/127.0.0.1/tcp/1"], ECHO, limit=LIMIT)
        with pytest.raises(Unreachable):
            await a.open(identity("b").node_id, ["/unix/x", "nonsense"], ECHO, limit=LIMIT)


async def test_the_end_of_the_block_ends_every_task_and_descriptor():
    def count():
        return trio.lowlevel.current_statistics().tasks_living, len(os.listdir("/proc/self/fd"))

    async with pair() as (a, b):
        await works_for(a, b)
    before = count()
    for _ in range(3):
        async with pair() as (a, b):
            channel = await a.open(b.node_id, b.addrs(), ECHO, limit=LIMIT)
            await channel.send(b"x")
    assert count() == before


async def test_a_connection_that_went_leaves_nothing_behind():
    async with open_streams(identity("b"), NETWORK, listen=LISTEN) as b:
        b.serve(ECHO, echo, limit=LIMIT)
        seen = []
        for _ in range(4):
            async with open_streams(identity("a"), NETWORK) as a:
                await works_for(a, b)
            await until(lambda: not b.connected())
            await trio.testing.wait_all_tasks_blocked()
            seen.append(trio.lowlevel.current_statistics().tasks_living)
        assert len(set(seen)) == 1


async def test_listening_where_one_cannot_is_a_sentence():
    async with pair():
        with pytest.raises(Misconfigured, match="listen"):
            async with open_streams(identity("c"), NETWORK, listen=["/ip4/192.0.2.1/tcp/9"]):
                pass


SERVER = """
import sys, trio
sys.path[:0] = {path!r}
from dht_kit import identity, NETWORK
from dht.transport_libp2p import open_streams
async def echo(channel):
    while True:
        await channel.send(await channel.receive())
async def main():
    async with open_streams(identity("b"), NETWORK, listen=["/ip4/127.0.0.1/tcp/0"]) as b:
        b.serve("/echo/1", echo, limit=1 << 20)
        print(b.addrs()[0], flush=True)
        await trio.sleep_forever()
trio.run(main)
"""


def start_server():
    here = Path(__file__).resolve()
    code = SERVER.format(path=[str(here.parents[2]), str(here.parents[1])])
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    return process, process.stdout.readline().decode().strip()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_peer_that_restarts_elsewhere_is_found_again_at_once(how):
    """SIGKILL: the socket says so. SIGSTOP: it does not, and the stale connection must not block."""
    first, old = start_server()
    second = None
    try:
        async with open_streams(identity("a"), NETWORK) as a:
            peer = identity("b").node_id
            channel = await a.open(peer, [old], ECHO, limit=LIMIT)
            await channel.send(b"x")
            assert await channel.receive() == b"x"
            first.send_signal(how)
            second, new = start_server()
            assert new != old
            with trio.fail_after(3):
                again = await a.open(peer, [new], ECHO, limit=LIMIT)
                await again.send(b"y")
                assert await again.receive() == b"y"
            if how == signal.SIGKILL:
                with trio.fail_after(2), pytest.raises(Unreachable):
                    await channel.receive()
    finally:
        first.kill()
        assert first.communicate()[1] == b""
        if second:
            second.kill()
            assert second.communicate()[1] == b""  # libp2p is quiet on stderr
