"""The socket below and the streams above upstream's Noise and Yamux, made whole and bounded."""

import struct
from typing import Final

import libp2p.stream_muxer.yamux.yamux as yamux
import trio
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.io.trio import TrioTCPStream
from libp2p.stream_muxer.exceptions import MuxedStreamError

from dht.transport_channel import CHUNK

HANDSHAKE_BYTES: Final = 64 * 1024  # what a stranger may send before Yamux runs
WINDOW_DEADLINE: Final = 5.0  # seconds for a peer to take more of a stream


class Socket(TrioTCPStream):  # type: ignore[misc]
    """A TCP stream that a stranger may feed only `allowance` bytes before he is known.

    It returns what was asked for, whole: upstream reads on a hundred times when it gets less,
    which costs milliseconds at each stream's end and breaks a frame of over a hundred segments.
    """

    allowance: float = HANDSHAKE_BYTES
    heard = 0.0  # when the peer last sent anything

    def __init__(self, stream: trio.SocketStream) -> None:
        super().__init__(stream)
        self._read = bytearray()

    async def read(self, n: int | None = None) -> bytes:
        """Return `n` bytes, or some. Raises ConnectionClosedError at the end or the allowance's."""
        async with self.read_lock:
            while len(self._read) < (1 if n is None else n):
                self._read += await self._more()
            size = len(self._read) if n is None else n
            data = bytes(self._read[:size])
            del self._read[:size]
        self.allowance -= size
        if self.allowance < 0:
            raise ConnectionClosedError("too many bytes before the handshake ended")
        return data

    async def _more(self) -> bytes:
        try:
            data = await self.stream.receive_some(CHUNK)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        if not data:
            raise ConnectionClosedError("the peer has ended the connection")
        self.heard = trio.current_time()
        return bytes(data)


class BatchedStream(yamux.YamuxStream):  # type: ignore[misc]
    """A stream whose window stays 256 KiB and is refilled by halves (Yamux spec, "Window").

    Upstream answers each read with a window update, which makes three frames of every two
    and costs a third of a question's time, and grows a stranger's window to 16 MiB. While a
    peer gives no window upstream looks a hundred times a second; here the update wakes it.
    """

    _room = 0
    _ended = False
    _news: trio.Event | None = None  # of either, for who waits to send

    @property
    def send_window(self) -> int:
        """Return how many bytes the peer will take."""
        return self._room

    @send_window.setter
    def send_window(self, size: int) -> None:
        self._room = size
        if self._news is not None:
            self._news.set()

    @property
    def closed(self) -> bool:
        """Tell whether the stream has ended both ways."""
        return self._ended

    @closed.setter
    def closed(self, ended: bool) -> None:
        self._ended = ended
        if self._news is not None:
            self._news.set()

    async def write(self, data: bytes) -> None:
        """Send bytes as the peer has room. Raises MuxedStreamError at the stream's end."""
        view = memoryview(data)
        while view:
            if self._room <= 0:
                await self._window()
            if self._room <= 0 or self.closed or self.send_closed:
                raise MuxedStreamError("the stream is closed, or its peer gives no window")
            size = min(self._room, len(view), yamux.MAX_MESSAGE_SIZE - yamux.HEADER_SIZE)
            self._room -= size
            form, kind = yamux.YAMUX_HEADER_FORMAT, yamux.TYPE_DATA
            header = struct.pack(form, 0, kind, 0, self.stream_id, size)
            await self.conn._write_frame(header + view[:size])
            view = view[size:]

    async def _window(self) -> None:
        """Wait until the peer takes more, the stream has ended, or it is too late."""
        with trio.move_on_after(WINDOW_DEADLINE):
            while self._room <= 0 and not self.closed:
                self._news = trio.Event()
                await self._news.wait()

    async def _auto_tune_and_send_window_update(self, *, bytes_read: int = 0) -> None:
        async with self.window_lock:
            freed: int = self._pending_recv_release + bytes_read  # type: ignore[has-type]
            full = freed >= yamux.DEFAULT_WINDOW_SIZE // 2
            self._pending_recv_release = 0 if full else freed
            if not full:
                return
            self.recv_window += freed
        await self.send_window_update(freed, skip_lock=True)


yamux.YamuxStream = BatchedStream  # Yamux makes its streams by this name
