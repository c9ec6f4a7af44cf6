"""One framed stream over a Yamux stream: the `Channel` port (docs/wire/dht.md, "Transport").

A pump task reads; `receive` only takes what it has cut, so a caller may give up on a
`receive` at any time without losing bytes. A `send` that is given up half-way leaves the
peer with half a frame, so it resets the stream. Frames of our own protocols have four bytes
of length, those of libp2p's a varint.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.stream_muxer.yamux.yamux import YamuxStream

from dht import varint
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, Unreachable

READ_DEADLINE: Final = 30.0  # seconds from a frame's first byte to its last
SEND_DEADLINE: Final = 30.0  # seconds for one frame, flow control included
CLOSE_DEADLINE: Final = 1.0
CHUNK: Final = 65_536

Agreed = Callable[[], Awaitable[bool]]

LIBRARY_FAULTS: Final = (
    BaseLibp2pError,
    OSError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)


class Libp2pChannel:
    """Frames of at most `limit` bytes to and from one authenticated peer."""

    def __init__(
        self,
        stream: YamuxStream,
        peer: bytes,
        limit: int,
        host: str = "",
        addr: str = "",
        *,
        varints: bool = False,
    ) -> None:
        self._stream = stream
        self._peer = peer
        self._host = host
        self._addr = addr
        self._limit = limit
        self._varints = varints
        self._sending = trio.Lock()
        self._frames, self._inbox = trio.open_memory_channel[bytes](0)
        self._fault: InvalidRecord | None = None
        self._over = trio.CancelScope()
        self._closed = False
        self.held = 0  # bytes read that nobody has received
        self.stalled = False  # a frame was begun and not ended in time

    @property
    def peer(self) -> bytes:
        """Return the node id that the handshake proved."""
        return self._peer

    @property
    def host(self) -> str:
        """Return the IP address the peer speaks from."""
        return self._host

    @property
    def addr(self) -> str:
        """Return the multiaddr we dialled, empty if the peer dialled us."""
        return self._addr

    async def pump(self, agreed: Agreed | None = None) -> None:
        """Read frames until the stream ends; run by the connection, once.

        `agreed`, if given, reads the negotiation's answer first; without a good one nothing comes.
        """
        decoder: wire.FrameDecoder | varint.Decoder = wire.FrameDecoder(self._limit)
        if self._varints:
            decoder = varint.Decoder(self._limit)
        late = float("inf")
        with self._over, self._frames:
            if agreed is not None and not await agreed():
                return
            while True:
                data = await self._read_until(late)
                if not data:
                    return
                try:
                    frames = decoder.feed(data)
                except InvalidRecord as error:
                    self._fault = error
                    return
                self.held = decoder.pending + sum(map(len, frames))
                for frame in frames:
                    await self._frames.send(frame)
                    self.held -= len(frame)
                if not decoder.pending:
                    late = float("inf")
                elif frames or late == float("inf"):
                    late = trio.current_time() + READ_DEADLINE

    async def _read_until(self, late: float) -> bytes:
        """Read; nothing comes of a frame that was begun and not ended in time: a slow loris."""
        if late == float("inf"):
            return await self._read()
        data = b""
        with trio.move_on_at(late) as reading:
            data = await self._read()
        self.stalled |= reading.cancelled_caught
        return data

    async def _read(self) -> bytes:
        try:
            return bytes(await self._stream.read(CHUNK))
        except LIBRARY_FAULTS:
            return b""

    async def send(self, payload: bytes) -> None:
        """Send one frame. Raises Unreachable if the stream has ended, InvalidRecord if too big."""
        frame = (varint if self._varints else wire).frame(payload, self._limit)
        async with self._sending:
            if self._closed:
                raise Unreachable("the stream to the peer has ended")
            done = False
            try:
                with trio.fail_after(SEND_DEADLINE):
                    await self._stream.write(frame)
                done = True
            except (*LIBRARY_FAULTS, trio.TooSlowError):
                raise Unreachable("the stream to the peer has ended") from None
            finally:
                if not done:
                    await self.reset()

    async def receive(self) -> bytes:
        """Return the next frame. Raises Unreachable at the end, InvalidRecord on garbage."""
        try:
            return await self._inbox.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            await self.reset()
            if self._fault:
                raise self._fault from None
            raise Unreachable("the stream to the peer has ended") from None

    async def close(self) -> None:
        """End the stream after what was sent; never raises."""
        await self._finish(reset=False)

    async def reset(self) -> None:
        """End the stream at once, dropping what is under way; never raises."""
        await self._finish(reset=True)

    async def _finish(self, *, reset: bool) -> None:
        if self._closed:
            return
        self._closed = True
        with trio.move_on_after(CLOSE_DEADLINE) as closing, suppress(*LIBRARY_FAULTS):
            closing.shield = True
            await (self._stream.reset() if reset else self._stream.close())
        self._over.cancel()
