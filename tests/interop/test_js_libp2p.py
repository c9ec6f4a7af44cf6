"""js-libp2p 3 as a peer: a program written from docs/wire/dht.md on another implementation.

It dials us over TCP, Noise and Yamux, pings and identifies us and speaks our DHT protocol;
we dial it. `make jspeer` installs its packages; without them, or without node, the tests
skip, and with CI set that is a failure.
"""

from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from dht_kit import NETWORK, NOTE, NOW, identity, note, note_key, town, until, validate_note
from js_kit import SECONDS, Refused, installed, js_peer  # noqa: F401 - a fixture for all

from dht import address, rpc
from dht.rpc import Answer, Ask
from dht.transport_identify import IDENTIFY, PING
from p2pnode import __version__
from p2pnode.base.errors import Unreachable
from p2pnode.base.identity import node_id_of, peer_id, works

DHT = NETWORK.protocol("dht")


@asynccontextmanager
async def scene(count=3):
    """Yield a town of our nodes, joined through the first, and the other process."""
    async with town() as build, js_peer() as js:
        nodes = [await build.node(name) for name in "abcdef"[:count]]
        for node in nodes[1:]:
            assert await node.dht.join([nodes[0].peer]) == 1
        yield js, *nodes


def where(node):
    return f"{node.streams.addrs()[0]}/p2p/{peer_id(node.id)}"


# ------------------------------------------------------------------ ping, identify, negotiation


async def test_it_pings_and_identifies_us():
    async with scene(1) as (js, a):
        assert node_id_of(js.peer_id) == js.node_id  # one key, one peer id on both sides
        assert works(NETWORK, js.node_id)
        assert 0 <= await js.do("ping", addr=where(a)) < 1000 * SECONDS
        assert a.streams.tally.counts["pings"] == 1
        told = await js.do("identify", addr=where(a))
        assert told["peerId"] == peer_id(a.id)
        assert told["agentVersion"] == f"p2pnode/{__version__}"
        assert told["protocolVersion"] == "ipfs/0.1.0"
        assert {PING, IDENTIFY, DHT} <= set(told["protocols"])
        assert told["listenAddrs"] == list(a.streams.addrs())
        host = told["observedAddr"].rsplit("/", 1)
        assert host[0] == "/ip4/127.0.0.1/tcp"
        assert int(host[1]) not in (0, int(js.addrs[0].rsplit("/", 1)[1]))  # whence it dialled


async def test_what_we_do_not_serve_is_said_so():
    async with scene(1) as (js, a):
        assert await js.do("select", addr=where(a), protocol=DHT) == DHT
        for protocol in ("/p2pnode/main/dht/1", "/ipfs/id/push/1.0.0", "/ipfs/kad/1.0.0"):
            with pytest.raises(Refused, match="UnsupportedProtocolError"):
                await js.do("select", addr=where(a), protocol=protocol)
        assert await js.do("ping", addr=where(a)) >= 0  # on the connection that stayed


async def test_its_key_without_the_work_gets_no_further_than_the_handshake():
    async with town() as build, js_peer(-NETWORK.identity_bits) as js:
        a = await build.node("a")
        assert not works(NETWORK, js.node_id)
        with pytest.raises(Refused):
            await js.do("ping", addr=where(a))
        assert a.streams.tally.counts["handshakes_failed"] >= 1
        with pytest.raises(Unreachable):
            await a.streams.open(js.node_id, js.addrs, PING, limit=28)


async def test_our_dialler_reaches_it():
    async with scene(1) as (js, a):
        channel = await a.streams.open(js.node_id, js.addrs, PING, limit=28)
        await channel.send(b"x" * 28)  # with its length it is a ping of 32 bytes
        with trio.fail_after(SECONDS):
            assert await channel.receive() == b"x" * 28
        await channel.close()
        with pytest.raises(Unreachable, match="does not serve"):
            await a.streams.open(js.node_id, js.addrs, "/none/1", limit=1)
        with pytest.raises(Unreachable):
            await a.streams.open(identity("nobody").node_id, js.addrs, PING, limit=28)
        channel = await a.streams.open(js.node_id, js.addrs, DHT, limit=rpc.FRAME_LIMIT)
        for question, answer in [
            (Ask(0, rpc.HELLO, (a.streams.addrs(),)), js.addrs),
            (Ask(1, rpc.PING, ()), ()),
            (Ask(2, rpc.FIND_VALUE, (NOTE, note_key("m"), b"")), ((), (), b"")),
        ]:
            await channel.send(rpc.encode(question))
            with trio.fail_after(SECONDS):
                assert rpc.decode(await channel.receive()) == Answer(question.id, answer)
        await channel.send(rpc.encode(Ask(3, "rumour", ())))
        with trio.fail_after(SECONDS):
            assert rpc.decode(await channel.receive()).error
        assert await js.do("asked") == [
            [a.id.hex(), method] for method in (rpc.HELLO, rpc.PING, rpc.FIND_VALUE, "rumour")
        ]


# ------------------------------------------------------------------ the DHT protocol


async def test_it_asks_what_the_page_says_and_is_answered_so():
    async with scene() as (js, a, b, c):
        assert await js.ask(a, rpc.PING) == []
        told = await js.ask(a, rpc.FIND_NODE, b"\x00" * 32)
        assert sorted(told) == sorted([n.id, list(n.streams.addrs())] for n in (b, c))
        with pytest.raises(Refused, match="refused: key"):
            await js.ask(a, rpc.FIND_NODE, b"short")
        with pytest.raises(Refused, match="refused: method"):
            await js.ask(a, "rumour")
        raw = note(identity("owner"), "m")
        held, peers = await js.ask(a, rpc.STORE, NOTE, note_key("m"), raw)
        assert held == 1
        assert {node_id for node_id, _ in peers} == {b.id, c.id}
        held, _ = await js.ask(a, rpc.STORE, NOTE, note_key("m"), raw)
        assert held == 1  # it holds it now
        better = note(identity("owner"), "m", seq=2)
        assert (await js.ask(a, rpc.STORE, NOTE, note_key("m"), better))[0] == 1
        assert (await js.ask(a, rpc.STORE, NOTE, note_key("m"), raw))[0] == 0
        peers, records, cursor = await js.ask(a, rpc.FIND_VALUE, NOTE, note_key("m"), b"")
        assert ({node_id for node_id, _ in peers}, records, cursor) == ({b.id, c.id}, [better], b"")
        with pytest.raises(Refused, match="refused: signature"):
            await js.ask(a, rpc.STORE, NOTE, note_key("m"), better[:-1] + bytes([better[-1] ^ 1]))
        assert a.dht.stored(NOTE, note_key("m"))[0].raw == better


async def test_it_enters_the_table_once_it_has_answered_our_own_call():
    async with scene(2) as (js, a, b):
        assert await js.ask(a, rpc.PING) == []  # its hello said where it listens
        await until(lambda: js.node_id in {peer.node_id for peer in a.dht.peers()}, SECONDS)
        assert [a.id.hex(), rpc.HELLO] in await js.do("asked")  # we dialled and it greeted
        (entry,) = [p for p in a.dht.peers() if p.node_id == js.node_id]
        assert entry.addrs == js.addrs
        told = await js.ask(b, rpc.FIND_NODE, b"\x00" * 32)
        assert [a.id, list(a.streams.addrs())] in told
        await b.dht.find_nodes(b"\x00" * 32)  # a names it to b
        await until(lambda: js.node_id in {peer.node_id for peer in b.dht.peers()}, SECONDS)


async def test_a_record_it_signs_and_puts_is_found_by_ours():
    async with scene() as (js, a, b, c):
        assert await js.ask(a, rpc.PING) == []
        market = js.node_id.hex()
        body = [1, NETWORK.name, js.node_id, js.addrs, 7, NOW + 3600]
        raw = await js.do("sign", kind=address.KIND, body=body)
        assert await js.do("put", kind=address.KIND, market=market, record=raw) == 3
        for node in (a, b, c):
            key = address.address_key(NETWORK, js.node_id)
            found = await node.dht.get(address.KIND, key)
            assert [record.raw for record in found.records] == [raw]
            assert [record.owner for record in found.records] == [js.node_id]
            assert [record.raw for record in node.dht.stored(address.KIND, key)] == [raw]
        assert await c.dht.locate(js.node_id) == js.addrs


async def test_it_finds_the_records_that_ours_have_put_page_by_page():
    async with scene() as (js, a, b, c):
        assert await js.ask(a, rpc.PING) == []
        await until(lambda: js.node_id in {peer.node_id for peer in a.dht.peers()}, SECONDS)
        raws = {
            note(identity("owner"), "m", id=bytes([n]), text=bytes([n]) * 1800) for n in range(20)
        }
        for raw in raws:
            assert js.node_id in (await a.dht.put(NOTE, raw, whole=True)).holders
        assert set(await js.do("held", kind=NOTE, market="m")) == raws
        found = await js.do("get", kind=NOTE, market="m")
        assert set(found["records"]) == raws
        assert found["pages"] >= 3 * 3  # 36 KB in frames of 16, from three nodes
        await the_digest_is_right(js, a, dict(sorted((raw_place(raw), raw) for raw in raws)))
        body = await js.do("open", kind=NOTE, record=found["records"][0], owner=1)
        assert body[:2] == ["m", identity("owner").node_id]
        for node in (b, c):  # who reads it from all, the other process among them
            found = await node.dht.get(NOTE, note_key("m"))
            assert {record.raw for record in found.records} == raws


def raw_place(raw):
    record = validate_note(raw, NOW)
    return record.owner + record.id


async def the_digest_is_right(js, node, raws):
    """Both sides cut 20 records into parts and hash each part alike; `raws` in order."""
    ours = await js.ask(node, rpc.DIGEST, NOTE, note_key("m"), b"", b"")
    channel = await node.streams.open(js.node_id, js.addrs, DHT, limit=rpc.FRAME_LIMIT)
    await channel.send(rpc.encode(Ask(0, rpc.DIGEST, (NOTE, note_key("m"), b"", b""))))
    with trio.fail_after(SECONDS):
        theirs = rpc.decode(await channel.receive()).result
    await channel.close()
    for parts in (ours, theirs):
        low = b""
        assert 1 < len(parts) <= 16
        assert parts[-1][0] == b""
        for until_, count, fingerprint in parts:
            within = [raw for at, raw in raws.items() if low <= at and (at < until_ or not until_)]
            assert count == len(within)
            assert fingerprint == await js.do("fingerprint", records=within)
            low = until_
        assert sum(count for _, count, _ in parts) == len(raws)


async def test_it_listens_and_hears_what_is_put_later():
    async with scene() as (js, a, b, c):
        assert await js.ask(a, rpc.PING) == []
        peer = {"id": c.id, "addrs": c.streams.addrs()}
        listen = partial(js.do, "listen", peer=peer, kind=NOTE, market="m")
        assert await listen(seconds=60) == [60]
        first, second, third = (note(identity("owner"), "m", seq=n) for n in (1, 2, 3))
        assert c.id in (await a.dht.put(NOTE, first, whole=True)).holders
        with trio.fail_after(SECONDS):
            assert await js.news.receive() == [first]
        assert (await js.ask(c, rpc.STORE, NOTE, note_key("m"), first))[0] == 1  # nothing new
        await b.dht.put(NOTE, second)
        with trio.fail_after(SECONDS):
            assert await js.news.receive() == [second]
        assert await listen(seconds=0) == [0]
        await b.dht.put(NOTE, third)
        assert [r.raw for r in c.dht.stored(NOTE, note_key("m"))] == [third]
        assert await js.ask(c, rpc.PING) == []  # news would have come before this answer
        with pytest.raises(trio.WouldBlock):
            js.news.receive_nowait()


async def test_we_listen_at_it_and_hear_what_it_comes_to_hold():
    async with scene(1) as (js, a):
        assert await js.ask(a, rpc.PING) == []
        await until(lambda: js.node_id in {peer.node_id for peer in a.dht.peers()}, SECONDS)
        async with a.dht.listen(NOTE, note_key("m")) as records:
            assert [a.id.hex(), rpc.LISTEN] in await js.do("asked")
            for seq in (1, 2):
                raw = note(identity("owner"), "m", seq=seq)
                await js.do("hold", kind=NOTE, market="m", record=raw)
                with trio.fail_after(SECONDS):
                    assert (await records.receive()).raw == raw
