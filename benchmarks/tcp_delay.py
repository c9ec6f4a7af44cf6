"""A fixed one-way delay on every TCP connection of a trio program, in the process itself.

What a program writes leaves later, in order; the writer goes on at once, as with a kernel
buffer that is never full. A dial takes the round trip that SYN and SYN-ACK take. Closing a
stream waits until what was written has left; closing its socket drops it. Both ends of a
connection have to run under a delay to have a round trip of two of them. Connections to or from
a `near` port are left as they are.
"""

import os
from collections import deque
from contextlib import asynccontextmanager
from functools import partial
from weakref import WeakKeyDictionary

import trio

TICK_S = 0.0005  # epoll wakes on whole milliseconds, rounded up: half of one on the average


class _Line:
    """What one connection has written and the wire has not taken."""

    def __init__(self):
        self.waiting = deque()
        self.broken = False
        self.draining = False
        self.empty = trio.Event()
        self.empty.set()


class _Wire:
    def __init__(self, one_way_s, near):
        self.one_way_s = one_way_s
        self.near = frozenset(near)
        self.written = 0
        self.lines = WeakKeyDictionary()  # by stream
        self.order = deque()
        self.filled = trio.Event()
        self.send_all = trio.SocketStream.send_all
        self.aclose = trio.SocketStream.aclose
        self.open_tcp_stream = trio.open_tcp_stream

    async def write(self, stream, data):
        if self.is_near(stream):
            await self.send_all(stream, data)
            return
        await trio.lowlevel.checkpoint()
        line = self.lines.get(stream)
        if line is None:
            line = self.lines[stream] = _Line()
        if stream.socket.fileno() < 0:
            self.lines.pop(stream)
            raise trio.ClosedResourceError("the socket was closed")
        if line.broken:
            raise trio.BrokenResourceError("the peer has gone")
        self.written += 1
        line.waiting.append(bytes(data))
        line.empty = trio.Event() if line.empty.is_set() else line.empty
        self.order.append((trio.current_time() + self.one_way_s, stream))
        self.filled.set()

    def is_near(self, stream):
        """Tell whether a stream's end here, or there, is a near port."""
        if not self.near or stream.socket.fileno() < 0:
            return False
        try:
            ends = (stream.socket.getsockname(), stream.socket.getpeername())
        except OSError:  # it has gone; writing to it will say so
            return False
        return any(port in self.near for _host, port in (end[:2] for end in ends))

    async def close(self, stream):
        line = self.lines.get(stream)
        if line is not None and stream.socket.fileno() >= 0:
            await line.empty.wait()
        self.lines.pop(stream, None)
        await self.aclose(stream)

    async def dial(self, *args, **kwargs):
        stream = await self.open_tcp_stream(*args, **kwargs)
        if self.is_near(stream):
            return stream
        try:
            await trio.sleep(2 * self.one_way_s)
        except BaseException:
            stream.socket.close()
            raise
        return stream

    async def deliver(self, nursery):
        while True:
            while not self.order:
                self.filled = trio.Event()
                await self.filled.wait()
            await trio.sleep_until(self.order[0][0] - TICK_S)
            now = trio.current_time() + TICK_S
            while self.order and self.order[0][0] <= now:
                _, stream = self.order.popleft()
                line = self.lines.get(stream)
                if line is not None and line.waiting and not line.draining:
                    self.hand_over(nursery, stream, line)

    def hand_over(self, nursery, stream, line):
        """Give the socket the oldest write; if it is full, a task of its own goes on."""
        data = line.waiting.popleft()
        try:
            sent = os.write(stream.socket.fileno(), data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.lose(stream, line)
            return
        if sent < len(data):
            line.waiting.appendleft(data[sent:])
            line.draining = True
            nursery.start_soon(self.drain, stream, line)
        elif not line.waiting:
            line.empty.set()

    async def drain(self, stream, line):
        """Write everything that a full socket has held up (already late: at once)."""
        try:
            while line.waiting:
                await self.send_all(stream, line.waiting.popleft())
            line.empty.set()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.lose(stream, line)
        finally:
            line.draining = False

    def lose(self, stream, line):
        line.broken = True
        line.waiting.clear()
        line.empty.set()
        if stream.socket.fileno() < 0:
            self.lines.pop(stream, None)


@asynccontextmanager
async def one_way(seconds, near=()):
    """Delay all TCP inside the block but that of `near` ports.

    Yields the wire, whose `written` counts the delayed writes.
    """
    wire = _Wire(seconds, near)

    async def send_all(stream, data):
        await wire.write(stream, data)

    async def aclose(stream):
        await wire.close(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(wire.deliver, nursery))
        trio.SocketStream.send_all = send_all
        trio.SocketStream.aclose = aclose
        trio.open_tcp_stream = wire.dial
        try:
            yield wire
        finally:
            trio.SocketStream.send_all = wire.send_all
            trio.SocketStream.aclose = wire.aclose
            trio.open_tcp_stream = wire.open_tcp_stream
            nursery.cancel_scope.cancel()
