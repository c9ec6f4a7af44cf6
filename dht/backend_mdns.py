"""Peers on the local network, by multicast DNS (RFC 6762), in the manner of libp2p's mDNS.

    question  PTR _p2pnode._udp.local.
    answer    PTR _p2pnode._udp.local. → RANDOM._p2pnode._udp.local.
              TXT RANDOM._p2pnode._udp.local. → "network=sandbox",
                                                "dnsaddr=/ip4/192.0.2.7/tcp/4001/p2p/12D3…"

zeroconf reads and writes the packets; the one socket is trio's own, so there is no thread
to end and no cache to fill. It hears and speaks on one interface, that of the address we
listen on. Everything heard is hostile: who speaks, how often and how much is bounded, and
an address counts only if the datagram came from it, so that nobody on the network can
have us dial somebody else. Whoever is found is met like any other stranger.
"""

import logging
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

import trio
from zeroconf import (  # type: ignore[attr-defined]
    DNSIncoming,
    DNSOutgoing,
    DNSPointer,
    DNSQuestion,
    DNSText,
)

from dht import endpoint
from dht.endpoint import Peer
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.identity import peer_id
from p2pnode.base.networks import Network
from p2pnode.base.ports import Randomness
from p2pnode.base.quota import Buckets

log = logging.getLogger(__name__)

SERVICE: Final = "_p2pnode._udp.local."
GROUP: Final = "224.0.0.251"
PORT: Final = 5353
MAX_PACKET: Final = 9000  # bytes (RFC 6762, section 17)
MAX_TEXTS: Final = 8  # TXT records read of one packet
MAX_STRINGS: Final = 16  # strings read of one TXT record
TTL: Final = 120  # seconds that others may remember an answer
HEARD_RATE: Final = 20.0  # packets a second read of one address, lasting
HEARD_BURST: Final = 100.0
HEARD_RATE_ALL: Final = 100.0  # and of all, whose addresses may be invented
HEARD_BURST_ALL: Final = 500.0
ANSWER_EVERY: Final = 1.0  # seconds between two answers at least (section 6)
JITTER: Final = (0.02, 0.12)  # seconds before an answer, so that not all speak at once
ASK_LEAST: Final = 1.0  # seconds between two questions, then twice as long each time
ASK_MOST: Final = 3600.0
AGAIN: Final = 60.0  # seconds before a peer that is heard again is met again
FAILED_AGAIN: Final = 5.0  # the same, if not all that were heard with it have answered
MAX_MET: Final = 256  # peers remembered for that
MAX_WAITING: Final = 16  # peers waiting to be met; more are heard again
GOODBYE_S: Final = 0.5
_PTR, _TXT, _IN, _FLUSH = 12, 16, 1, 0x8000  # RFC 1035, RFC 6762 section 10.2
_QUERY, _RESPONSE = 0x0000, 0x8400
_MULTICAST_ALL: Final = 49  # Linux, ip(7): 0 hears only the groups this socket has joined

Meet = Callable[[Sequence[Peer]], Awaitable[int]]


class Wording:
    """What is said on the network, and what is understood of it."""

    def __init__(self, node_id: bytes, network: Network, name: str) -> None:
        self._own, self._network = node_id, network
        self._name = f"{name}.{SERVICE}"

    def question(self) -> bytes:
        """Return the packet that asks who is there."""
        out = DNSOutgoing(_QUERY)
        out.add_question(DNSQuestion(SERVICE, _PTR, _IN))
        return bytes(out.packets()[0])

    def answer(self, addrs: Sequence[str], ttl: int = TTL) -> bytes:
        """Return the packet that says where we are; with `ttl` 0 that we leave."""
        said = [f"dnsaddr={addr}/p2p/{peer_id(self._own)}" for addr in addrs]
        strings = [text.encode() for text in (f"network={self._network.name}", *said)]
        text = b"".join(bytes([len(string)]) + string for string in strings)
        out = DNSOutgoing(_RESPONSE)
        out.add_answer_at_time(DNSPointer(SERVICE, _PTR, _IN, ttl, self._name), 0)
        out.add_additional_answer(DNSText(self._name, _TXT, _IN | _FLUSH, ttl, text))
        return bytes(out.packets()[0])

    def read(self, raw: bytes, host: str) -> tuple[bool, tuple[Peer, ...]]:
        """Return whether a packet from `host` asks for us, and the peers it tells of there."""
        packet = DNSIncoming(raw)
        if not packet.valid:
            return False, ()
        if packet.is_query():
            asks = any(q.name.lower() == SERVICE and q.type == _PTR for q in packet.questions)
            return asks and not self._known(packet), ()
        found: list[Peer] = []
        texts = [a for a in packet.answers() if isinstance(a, DNSText)]
        for record in texts[:MAX_TEXTS]:
            if record.name.lower().endswith(f".{SERVICE}") and record.ttl > 0:
                found += self._peers(record.text, host)
        return False, endpoint.merge_peers([p for p in found if p.node_id != self._own])

    def _known(self, packet: DNSIncoming) -> bool:
        """Tell whether the asker has our answer already (section 7.1)."""
        return any(
            isinstance(a, DNSPointer) and a.alias == self._name and a.ttl >= TTL // 2
            for a in packet.answers()
        )

    def _peers(self, text: bytes, host: str) -> Iterator[Peer]:
        strings = list(_strings(text))
        if f"network={self._network.name}" not in strings:
            return
        for string in strings:
            name, _, value = string.partition("=")
            if name == "dnsaddr":
                with suppress(InvalidRecord):
                    if endpoint.parse("dnsaddr", value)[0] == host:
                        yield endpoint.parse_peer("dnsaddr", value)


def _strings(text: bytes) -> Iterator[str]:
    """Yield the strings of a TXT record (RFC 1035, section 3.3.14), as far as they are whole."""
    at = 0
    for _ in range(MAX_STRINGS):
        if at >= len(text) or at + 1 + text[at] > len(text):
            return
        yield text[at + 1 : at + 1 + text[at]].decode("ascii", "replace")
        at += 1 + text[at]


class Neighbours:
    """One node's mDNS: says where it is, and hands whom it hears of to `meet`."""

    def __init__(
        self,
        node_id: bytes,
        network: Network,
        addrs: Sequence[str],
        meet: Meet,
        randomness: Randomness,
    ) -> None:
        self._interface = next(iter(_hosts(addrs)), "")
        self._addrs = [a for a in addrs if endpoint.parse("addr", a)[0] == self._interface]
        self._wording = Wording(node_id, network, randomness.bytes(20).hex())
        self._meet, self._random = meet, randomness
        self._heard = Buckets(HEARD_RATE, HEARD_BURST)
        self._heard_all = Buckets(HEARD_RATE_ALL, HEARD_BURST_ALL)
        self._met: OrderedDict[bytes, float] = OrderedDict()
        self._asked, self._asks = trio.open_memory_channel[None](1)
        self._found, self._finds = trio.open_memory_channel[Peer](MAX_WAITING)

    async def run(self) -> None:
        """Look for peers and be found, until cancelled; without a network it ends at once."""
        try:
            udp = await _open(self._interface)
        except OSError as error:
            log.warning("no peers are looked for on the LAN: %s", error.strerror or error)
            return
        with udp:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen, udp)
                nursery.start_soon(self._reply, udp)
                nursery.start_soon(self._greet)
                try:
                    await self._ask(udp)
                finally:
                    with trio.CancelScope(shield=True), trio.move_on_after(GOODBYE_S):
                        await _say(udp, self._wording.answer(self._addrs, ttl=0))

    async def _ask(self, udp: trio.socket.SocketType) -> None:
        """Say that we are here, ask who else is, then ask ever more rarely (section 5.2)."""
        gap = ASK_LEAST
        await _say(udp, self._wording.answer(self._addrs))
        while True:
            await _say(udp, self._wording.question())
            await trio.sleep(gap)
            gap = min(2 * gap, ASK_MOST)

    async def _listen(self, udp: trio.socket.SocketType) -> None:
        while True:
            raw, (host, port) = await udp.recvfrom(MAX_PACKET)
            now = trio.current_time()
            if port != PORT or not (
                self._heard.take(host, now) and self._heard_all.take("all", now)
            ):
                continue
            asks, peers = self._wording.read(raw, host)
            if asks:
                with suppress(trio.WouldBlock):  # an answer is under way
                    self._asked.send_nowait(None)
            for peer in peers:
                self._hear(peer)

    def _hear(self, peer: Peer) -> None:
        now = trio.current_time()
        if now - self._met.get(peer.node_id, -AGAIN) < AGAIN:
            return
        with suppress(trio.WouldBlock):
            self._found.send_nowait(peer)
            self._met[peer.node_id] = now
            self._met.move_to_end(peer.node_id)
            if len(self._met) > MAX_MET:
                self._met.popitem(last=False)

    async def _reply(self, udp: trio.socket.SocketType) -> None:
        async for _ in self._asks:
            low, high = JITTER
            await trio.sleep(low + (high - low) * self._random.bytes(1)[0] / 255)
            await _say(udp, self._wording.answer(self._addrs))
            await trio.sleep(ANSWER_EVERY)

    async def _greet(self) -> None:
        async for peer in self._finds:
            batch = [peer]
            with suppress(trio.WouldBlock):
                while True:
                    batch.append(self._finds.receive_nowait())
            answered = await self._meet(batch)
            log.info("met %d of the peers heard on the LAN, of %d", answered, len(batch))
            if answered < len(batch):
                soon = trio.current_time() - AGAIN + FAILED_AGAIN
                self._met.update((p.node_id, soon) for p in batch if p.node_id in self._met)


def _hosts(addrs: Sequence[str]) -> Iterator[str]:
    for addr in addrs:
        if addr.startswith("/ip4/"):
            yield endpoint.parse("addr", addr)[0]


async def _open(interface: str) -> trio.socket.SocketType:
    """Return a socket in the group, on this interface alone. Raises OSError."""
    udp = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        here, group = socket.inet_aton(interface), socket.inet_aton(GROUP)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # other responders live here too
        udp.setsockopt(socket.IPPROTO_IP, _MULTICAST_ALL, 0)
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + here)
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, here)
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)  # nodes of one machine
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        await udp.bind((GROUP, PORT))  # what is sent to us alone is not heard
    except BaseException:
        udp.close()
        raise
    return udp


async def _say(udp: trio.socket.SocketType, packet: bytes) -> None:
    try:
        await udp.sendto(packet, (GROUP, PORT))
    except OSError as error:  # the network is down; it may come back
        log.info("the LAN was not asked: %s", error.strerror)
