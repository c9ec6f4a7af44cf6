"""mDNS: what is said and understood, what a liar on the LAN can have us do, two nodes on loopback."""

import socket
import struct
from collections import Counter

import pytest
import trio
import trio.testing
from dht_kit import NETWORK, Randomness, identity, until
from hypothesis import given
from hypothesis import strategies as st
from zeroconf import DNSIncoming, DNSOutgoing, DNSPointer, DNSService, DNSText

from dht import backend_mdns
from dht.backend_mdns import SERVICE, Neighbours, Wording
from dht.endpoint import Peer
from p2pnode.base.identity import peer_id
from p2pnode.base.networks import network

ALICE, BOB = identity("alice").node_id, identity("bob").node_id
HOST = "192.0.2.7"
ADDR = f"/ip4/{HOST}/tcp/4001"
DNSADDR = f"dnsaddr={ADDR}/p2p/{peer_id(ALICE)}"
HERE = "/ip4/127.0.0.1/tcp/4001"


def wording(node_id=BOB, net=NETWORK, name="bob"):
    return Wording(node_id, net, name)


def told(*strings, host=HOST, ttl=120, name=f"x.{SERVICE}", records=1):
    """Return what is understood of a packet with these strings in its TXT record."""
    text = b"".join(bytes([len(s)]) + s.encode("latin-1") for s in strings)
    out = DNSOutgoing(0x8400)
    for _ in range(records):
        out.add_answer_at_time(DNSText(name, 16, 1, ttl, text), 0)
    return wording().read(out.packets()[0], host)


# ------------------------------------------------------------------ words


def test_a_question_is_understood_and_answered():
    alice, bob = wording(ALICE, name="alice"), wording()
    assert bob.read(alice.question(), HOST) == (True, ())
    assert bob.read(alice.answer([ADDR]), HOST) == (False, (Peer(ALICE, (ADDR,)),))


def test_an_answer_says_the_network_and_the_address_and_nothing_else():
    packet = DNSIncoming(wording(ALICE, name="ab12").answer([ADDR]))
    pointer, text = packet.answers()
    assert (pointer.name, pointer.alias) == (SERVICE, f"ab12.{SERVICE}")
    assert text.name == f"ab12.{SERVICE}"
    assert text.text == b"\x0fnetwork=sandbox" + bytes([len(DNSADDR)]) + DNSADDR.encode()
    assert packet.data.count(b"4001") == 1


def test_four_of_the_longest_addresses_fit_one_packet():
    addrs = [f"/dns4/{'a' * 60}.{'b' * 39}/tcp/6553{n}" for n in range(4)]
    assert len(wording(ALICE).answer(addrs)) < 1460
    out = DNSIncoming(wording(ALICE).answer(addrs))
    assert len(out.answers()) == 2


def test_who_knows_our_answer_gets_none():
    bob = wording()
    out = DNSOutgoing(0)
    question = DNSIncoming(bob.question()).questions[0]
    out.add_question(question)
    out.add_answer_at_time(DNSPointer(SERVICE, 12, 1, 100, f"bob.{SERVICE}"), 0)
    assert bob.read(out.packets()[0], HOST) == (False, ())
    assert wording(name="carol").read(out.packets()[0], HOST) == (True, ())


def test_our_own_words_are_not_news():
    assert wording(ALICE).read(wording(ALICE).answer([ADDR]), HOST) == (False, ())


@pytest.mark.parametrize(
    "strings",
    [
        [DNSADDR],
        ["network=regtest", DNSADDR],
        ["network=sandbox ", DNSADDR],
        ["network=sandbox"],
        ["network=sandbox", DNSADDR[:-1]],
        ["network=sandbox", "dnsaddr=" + ADDR],
        ["network=sandbox", DNSADDR.replace(HOST, "192.0.2.8")],
        ["network=sandbox", DNSADDR.replace(HOST, "127.0.0.1")],
        ["network=sandbox", DNSADDR.replace(f"ip4/{HOST}", "dns4/victim.example")],
        ["network=sandbox", DNSADDR.replace("tcp/4001", "tcp/0")],
        ["network=sandbox", DNSADDR.replace("tcp", "udp")],
        ["network=sandbox", DNSADDR.replace("dnsaddr", "addr")],
        ["network=sandbox", "\xff" + DNSADDR],
        *[["network=sandbox", *[""] * 15, DNSADDR]],
    ],
)
def test_what_is_not_exactly_a_peer_of_ours_at_that_address_is_nothing(strings):
    assert told("network=sandbox", DNSADDR) == (False, (Peer(ALICE, (ADDR,)),))
    assert told(*strings) == (False, ())


def test_another_service_and_a_goodbye_are_nothing():
    good = ("network=sandbox", DNSADDR)
    assert told(*good, name="x._http._tcp.local.") == (False, ())
    assert told(*good, ttl=0) == (False, ())
    assert told(*good, name=f"X.{SERVICE.upper()}") == (False, (Peer(ALICE, (ADDR,)),))


def test_a_packet_brings_a_few_peers_at_the_most():
    out = DNSOutgoing(0x8400)
    for n in range(30):
        said = f"dnsaddr={ADDR}/p2p/{peer_id(identity(f'n{n}').node_id)}"
        text = b"\x0fnetwork=sandbox" + bytes([len(said)]) + said.encode()
        out.add_answer_at_time(DNSText(f"n{n}.{SERVICE}", 16, 1, 120, text), 0)
    raw = b"".join(out.packets()[:1])
    _, peers = wording().read(raw, HOST)
    assert 0 < len(peers) <= backend_mdns.MAX_TEXTS


def test_an_answer_of_a_responder_that_adds_more_records_is_understood():
    """As libp2p's own implementations do: SRV beside PTR and TXT."""
    text = b"\x0fnetwork=sandbox" + bytes([len(DNSADDR)]) + DNSADDR.encode()
    out = DNSOutgoing(0x8400)
    out.add_answer_at_time(DNSPointer(SERVICE, 12, 1, 120, f"x.{SERVICE}"), 0)
    out.add_additional_answer(DNSService(f"x.{SERVICE}", 33, 1, 120, 10, 1, 4001, "x.local."))
    out.add_additional_answer(DNSText(f"x.{SERVICE}", 16, 1, 120, text))
    assert wording().read(out.packets()[0], HOST) == (False, (Peer(ALICE, (ADDR,)),))


VALID = [wording(ALICE).question(), wording(ALICE).answer([ADDR, ADDR])]


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_an_error(raw):
    wording().read(raw, HOST)


@given(
    st.sampled_from(VALID),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=8),
    st.integers(0, 400),
)
def test_a_mangled_packet_is_read_without_an_error(packet, changes, end):
    raw = bytearray(packet)
    for at, value in changes:
        raw[at % len(raw)] = value
    _, peers = wording().read(bytes(raw[:end] if end < len(raw) else raw), HOST)
    assert all(p.addrs == (ADDR,) or p.addrs[0].startswith(f"/ip4/{HOST}/") for p in peers)


# ------------------------------------------------------------------ on the wire


class Met:
    def __init__(self):
        self.peers, self.calls = Counter(), 0

    async def __call__(self, peers):
        self.calls += 1
        self.peers.update(p.node_id for p in peers)
        return len(peers)


def neighbours(node_id, met, *, net=NETWORK, addr=HERE, seed="r"):
    return Neighbours(node_id, net, [addr], met, Randomness(seed + node_id.hex()))


async def test_two_nodes_on_one_interface_find_each_other():
    alice, bob, stranger = Met(), Met(), Met()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(neighbours(ALICE, alice).run)
        nursery.start_soon(neighbours(BOB, bob, addr=HERE.replace("4001", "4002")).run)
        elsewhere = network("regtest")
        nursery.start_soon(neighbours(identity("c").node_id, stranger, net=elsewhere).run)
        await until(lambda: BOB in alice.peers and ALICE in bob.peers)
        nursery.cancel_scope.cancel()
    assert set(alice.peers) == {BOB}
    assert not stranger.peers


async def test_whoever_comes_later_is_found_and_nobody_is_met_twice_in_a_row():
    alice, bob = Met(), Met()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(neighbours(ALICE, alice).run)
        first = trio.CancelScope()
        nursery.start_soon(scoped, first, neighbours(BOB, bob).run)
        await until(lambda: alice.peers[BOB] and bob.peers[ALICE])
        first.cancel()
        again = Met()
        nursery.start_soon(neighbours(BOB, again, seed="s").run)
        await until(lambda: again.peers[ALICE])
        nursery.cancel_scope.cancel()
    assert alice.peers == {BOB: 1}  # heard again and again, within a minute


async def scoped(scope, run):
    with scope:
        await run()


async def test_it_says_goodbye_when_it_is_cancelled(autojump_clock):
    del autojump_clock
    said = []

    async def record(_udp, packet):
        said.append(DNSIncoming(packet))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend_mdns, "_say", record)
        with trio.move_on_after(10):
            await neighbours(ALICE, Met()).run()
    questions = [p for p in said if p.is_query()]
    assert len(questions) == 4  # at 0, 1, 3 and 7 seconds
    assert [a.ttl for a in said[-1].answers()] == [0, 0]


async def test_a_flood_is_read_no_faster_than_its_share():
    met, read, dropped = Met(), [], []
    node = neighbours(ALICE, met)
    understand, take = node._wording.read, node._heard.take
    node._wording.read = lambda raw, host: read.append(host) or understand(raw, host)
    node._heard.take = lambda host, now: take(host, now) or dropped.append(host)
    packet = wording(BOB).answer([HERE])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.run)
        with await backend_mdns._open("127.0.0.1") as udp:
            for _ in range(1000):
                await udp.sendto(packet, (backend_mdns.GROUP, backend_mdns.PORT))
        await until(lambda: met.peers[BOB] and dropped)
        nursery.cancel_scope.cancel()
    assert 1 <= len(read) <= backend_mdns.HEARD_BURST + 100
    assert met.peers == {BOB: 1}


async def test_an_answer_from_another_port_is_not_heard():
    met, bob = Met(), Met()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(neighbours(ALICE, met).run)
        liar = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        liar.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        lie = wording(identity("liar").node_id).answer([HERE])
        for _ in range(5):
            await liar.sendto(lie, (backend_mdns.GROUP, backend_mdns.PORT))
        liar.close()
        nursery.start_soon(neighbours(BOB, bob).run)  # what comes after it is heard
        await until(lambda: met.peers[BOB])
        nursery.cancel_scope.cancel()
    assert set(met.peers) == {BOB}


async def test_without_an_interface_it_says_so_and_ends(caplog):
    await neighbours(ALICE, Met(), addr="/ip4/192.0.2.77/tcp/1").run()
    assert "no peers are looked for on the LAN" in caplog.text


def witness(index):
    """Return a socket that hears the group on the interface of this index, and sends nothing."""
    udp = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    udp.setsockopt(socket.IPPROTO_IP, backend_mdns._MULTICAST_ALL, 0)
    member = socket.inet_aton(backend_mdns.GROUP) + bytes(4) + struct.pack("@i", index)
    udp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    return udp


async def test_it_speaks_on_the_interface_of_its_address_alone():
    heard = Counter()

    async def listen(name, udp):
        with udp:
            await udp.bind((backend_mdns.GROUP, backend_mdns.PORT))
            while True:
                raw, _ = await udp.recvfrom(9000)
                if ours in raw:
                    heard[name] += 1

    node = neighbours(ALICE, Met())
    ours = node._wording._name.split(".")[0].encode()
    async with trio.open_nursery() as nursery:
        for index, name in socket.if_nameindex():
            try:
                nursery.start_soon(listen, name, witness(index))
            except OSError:
                continue  # an interface that is down or takes no groups
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(node.run)
        bob = Met()
        nursery.start_soon(neighbours(BOB, bob).run)
        await until(lambda: bob.peers[ALICE] and heard["lo"] >= 2)
        nursery.cancel_scope.cancel()
    assert set(heard) == {"lo"}
