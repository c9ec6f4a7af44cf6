"""What strangers' bytes may take of this node: frames a second, unread bytes, line lengths.

Upstream's Yamux answers pings and reads frames as fast as they come, without giving way to
other tasks, and keeps what nobody reads. Here each peer and each subnet has a pace of
frames, and all connections together have one room for unread bytes: when it is full, the
connection that holds most of it is closed.
"""

import struct
from collections.abc import Callable
from typing import Any, Final

import trio
from libp2p.exceptions import ParseError
from libp2p.io.exceptions import ConnectionClosedError, IOException
from libp2p.protocol_muxer.exceptions import MultiselectCommunicatorError
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.stream_muxer.yamux.yamux import FLAG_SYN, TYPE_GO_AWAY, YAMUX_HEADER_FORMAT
from libp2p.utils.varint import read_varint_prefixed_bytes_limited

from dht.subnets import Subnets
from dht.tally import Tally
from p2pnode.base.quota import Buckets

FRAME_RATE: Final = 2_000.0  # Yamux frames a second read of one peer, lasting; a question is three
FRAME_BURST: Final = 4_000.0
SUBNET_FRAME_RATE: Final = 4_000.0  # and of all peers of one subnet
SUBNET_FRAME_BURST: Final = 8_000.0
STREAM_COST: Final = 25  # frames that a new stream counts for: a millisecond or two
MAX_UNREAD: Final = 64 * 1024 * 1024  # bytes that all peers together have sent and nobody has read
MAX_LINE: Final = 1024  # bytes of a multistream-select line


class Bounds:
    """One transport's share of its strangers."""

    def __init__(self, subnets: Subnets, tally: Tally) -> None:
        self._subnets, self._tally = subnets, tally
        self._peers = Buckets(FRAME_RATE, FRAME_BURST)
        self._groups = Buckets(SUBNET_FRAME_RATE, SUBNET_FRAME_BURST)
        self._unread: dict[Unread, int] = {}
        self._total = 0

    async def pace(self, peer: bytes, host: str, cost: int) -> None:
        """Wait until a peer may send so many frames; gives way to other tasks in any case."""
        now = trio.current_time()
        wait = self._peers.spend(peer, now, cost)
        if group := self._subnets.group(host):
            wait = max(wait, self._groups.spend(group, now, cost))
        if wait:
            self._tally.add("frames_paced")
        await trio.sleep(wait)

    def room_for(self, holder: "Unread", size: int) -> bool:
        """Take note that a connection holds `size` unread bytes; False if it must be closed."""
        self._note(holder, size)
        if self._total > MAX_UNREAD:
            for other in list(self._unread):
                self._note(other, max(size, other.size()) if other is holder else other.size())
        while self._total > MAX_UNREAD:
            most = max(self._unread, key=lambda u: self._unread[u])
            self._tally.add("connections_overfull")
            self.forget(most)
            if most is holder:
                return False
            most.kill()
        return True

    def forget(self, holder: "Unread") -> None:
        """Take note that a connection has ended."""
        self._total -= self._unread.pop(holder, 0)

    def _note(self, holder: "Unread", size: int) -> None:
        self._total += size - self._unread.get(holder, 0)
        self._unread[holder] = size


class Unread:
    """How much one connection holds unread, and how to end it."""

    def __init__(self, size: Callable[[], int], kill: Callable[[], None]) -> None:
        self.size, self.kill = size, kill


class PacedFrames:
    """What Yamux reads from a secured connection, header by header at the peer's pace."""

    def __init__(self, secured: Any, bounds: Bounds, peer: bytes, host: str) -> None:
        self._secured, self._bounds, self._peer, self._host = secured, bounds, peer, host
        self.body = False  # a frame's body is being read, not a header

    async def read(self, n: int | None = None) -> bytes:
        """Read like the secured connection. Raises ConnectionClosedError on a foreign frame."""
        data = bytes(await self._secured.read(n))
        if not self.body and len(data) == n:
            version, kind, flags, _, _ = struct.unpack(YAMUX_HEADER_FORMAT, data)
            if version or kind > TYPE_GO_AWAY:
                raise ConnectionClosedError("the peer does not speak Yamux")
            opens = flags & FLAG_SYN and kind < 2
            await self._bounds.pace(self._peer, self._host, STREAM_COST if opens else 1)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._secured, name)


class Lines(MultiselectCommunicator):  # type: ignore[misc]
    """multistream-select whose lines are bounded: upstream collects what a length announces."""

    async def read(self) -> str:
        """Return a line. Raises MultiselectCommunicatorError."""
        try:
            line = await read_varint_prefixed_bytes_limited(self.read_writer, MAX_LINE)
            text = str(line.decode())
        except (ParseError, IOException, UnicodeDecodeError) as error:
            raise MultiselectCommunicatorError("no line of multistream-select") from error
        if not text.endswith("\n"):
            raise MultiselectCommunicatorError("a line of multistream-select has no end")
        return text[:-1]
