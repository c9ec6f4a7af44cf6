"""Ping and identify, which every libp2p implementation asks of a peer (docs/wire/dht.md).

    /ipfs/ping/1.0.0   each 32 bytes come back, until the asker ends (libp2p ping spec)
    /ipfs/id/1.0.0     one protobuf behind its length as a varint (libp2p identify spec)

Our own nodes use neither. What identify tells is what a peer knows or could find out anyway:
the key, the addresses of `hello`, the protocols that a stream may be opened for, the version.
A reply that goes wrong, is too slow or too much resets its own stream.
"""

from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio
from libp2p.crypto.ed25519 import Ed25519PublicKey
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.stream_muxer.exceptions import MuxedStreamEOF, MuxedStreamReset
from libp2p.utils.varint import encode_varint_prefixed
from multiaddr import Multiaddr
from multiaddr.exceptions import StringParseError

from dht.transport_channel import LIBRARY_FAULTS, Libp2pChannel
from dht.transport_secure import Connection
from p2pnode import __version__
from p2pnode.base.quota import Buckets

if TYPE_CHECKING:
    from dht.transport_libp2p import Libp2pStreams

PING: Final = "/ipfs/ping/1.0.0"
IDENTIFY: Final = "/ipfs/id/1.0.0"
AGENT: Final = f"p2pnode/{__version__}"
PROTOCOL_VERSION: Final = "ipfs/0.1.0"  # the identify spec's own example; nobody reads it

PING_BYTES: Final = 32
PING_DEADLINE: Final = 30.0  # seconds from one ping's end to the next one's
WRITE_DEADLINE: Final = 5.0  # seconds for the asker to take a reply
END_DEADLINE: Final = 5.0  # seconds for the asker to end its side after ours
MAX_STREAMS: Final = 2  # of one peer and protocol at once (the ping spec's SHOULD)
RATE: Final = 5.0  # replies a second to one peer, lasting
BURST: Final = 50.0

Reply = Callable[[Connection, Any], Awaitable[bool]]  # whether it went as the spec says


def serve(streams: "Libp2pStreams") -> None:
    """Answer ping and identify on a transport."""
    replies = _Replies(streams)
    streams.serve_raw(PING, partial(replies.run, PING, replies.ping))
    streams.serve_raw(IDENTIFY, partial(replies.run, IDENTIFY, replies.identify))


class _Replies:
    """Runs replies within one peer's bounds."""

    def __init__(self, streams: "Libp2pStreams") -> None:
        self._streams = streams
        self._open: Counter[tuple[str, bytes]] = Counter()
        self._quota = Buckets(RATE, BURST)

    async def run(self, protocol: str, reply: Reply, connection: Connection, stream: Any) -> None:
        """Reply on a stream; end it if that went well, else reset it."""
        place = protocol, connection.peer
        channel = Libp2pChannel(stream, connection.peer, 1)  # for its bounded ends alone
        well = False
        self._open[place] += 1
        try:
            if self._open[place] <= MAX_STREAMS:
                well = await reply(connection, stream)
        except (*LIBRARY_FAULTS, trio.TooSlowError):
            well = False
        finally:
            self._open[place] -= 1
            if not self._open[place]:
                del self._open[place]
            if not well:
                self._streams.tally.add("replies_reset")
                await channel.reset()

    async def ping(self, connection: Connection, stream: Any) -> bool:
        """Send each 32 bytes back until the asker ends."""
        while True:
            with trio.fail_after(PING_DEADLINE):
                data = await _exactly(stream, PING_BYTES)
            if len(data) < PING_BYTES:
                return not data and await self._end(stream)
            await self._pace(connection.peer)
            await _write(stream, data)
            self._streams.tally.add("pings")

    async def identify(self, connection: Connection, stream: Any) -> bool:
        """Say who we are and whence the asker is seen to call."""
        await self._pace(connection.peer)
        message = _message(self._streams, stream.get_remote_address())
        await _write(stream, encode_varint_prefixed(message.SerializeToString()))
        self._streams.tally.add("identified")
        return await self._end(stream)

    async def _pace(self, peer: bytes) -> None:
        await trio.sleep(self._quota.spend(peer, trio.current_time()))

    async def _end(self, stream: Any) -> bool:
        """End our side and see the asker end his, so that no half a stream lingers."""
        with trio.fail_after(WRITE_DEADLINE):
            await stream.close()
        with trio.fail_after(END_DEADLINE):
            return not await _exactly(stream, 1)


async def _write(stream: Any, data: bytes) -> None:
    with trio.fail_after(WRITE_DEADLINE):
        await stream.write(data)


async def _exactly(stream: Any, count: int) -> bytes:
    """Return `count` bytes, fewer if the stream ended before; raises if it was reset."""
    data = b""
    while len(data) < count:
        try:
            more = await stream.read(count - len(data))
        except MuxedStreamEOF:
            more = b""
        if stream.reset_received:  # upstream calls it an end if nobody was reading
            raise MuxedStreamReset("the asker has reset the stream")
        if not more:
            break
        data += more
    return data


def _message(streams: "Libp2pStreams", remote: tuple[str, int] | None) -> Identify:
    message = Identify(
        protocol_version=PROTOCOL_VERSION,
        agent_version=AGENT,
        public_key=Ed25519PublicKey.from_bytes(streams.node_id).serialize(),
        listen_addrs=[raw for addr in streams.addrs() if (raw := _binary(addr))],
        protocols=streams.protocols(),
    )
    if remote is not None:
        kind = "ip6" if ":" in remote[0] else "ip4"
        if observed := _binary(f"/{kind}/{remote[0]}/tcp/{remote[1]}"):
            message.observed_addr = observed
    return message


def _binary(addr: str) -> bytes:
    """Return a multiaddr's bytes; none for a host name that only our own text form allows."""
    try:
        return bytes(Multiaddr(addr).to_bytes())
    except StringParseError:
        return b""
