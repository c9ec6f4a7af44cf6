"""The sandbox on loopback TCP: connections, their bounds, and notices to subscribers.

No client can end another: every line is bounded and read by one strict decoder, a client
that does not read is not read from, one that leaves notices unread or dawdles over a line
is cut off, and sessions are counted.
"""

import errno
import math
from typing import Any, Final

import trio

from p2pnode.app.sandbox import rpc
from p2pnode.app.sandbox.electrum import Session
from p2pnode.app.sandbox.mempool import Sandbox
from p2pnode.app.sandbox.rpc import RPCError
from p2pnode.app.sandbox.status import script_status, tip
from p2pnode.base.errors import Locked, Unreachable

MAX_SESSIONS: Final = 256
MAX_NOTICES: Final = 20_000  # unread, a session
LINE_SECONDS: Final = 30  # for the first line, and for each line once begun
SEND_SECONDS: Final = 60
HOST: Final = "127.0.0.1"
_GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)


class _Connection:
    """One client's stream: requests in, answers and notices out."""

    def __init__(self, server: "ElectrumServer", stream: trio.SocketStream) -> None:
        self.session = Session(server.box, server.flush)
        self._server = server
        self._stream = stream
        self._notices, self._outbox = trio.open_memory_channel[bytes](MAX_NOTICES)
        self._lock = trio.Lock()  # answers and notices share the stream

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            try:
                await self._read()
            except _GONE:
                pass
            finally:
                nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._stream)

    def push(self, method: str, params: list[Any]) -> None:
        """Queue a notice; a client that left too many unread is cut off."""
        try:
            notice = {"jsonrpc": "2.0", "method": method, "params": params}
            self._notices.send_nowait(rpc.encode(notice))
        except trio.WouldBlock:
            self._notices.close()
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            return

    async def _write(self) -> None:
        try:
            async for line in self._outbox:
                await self._send(line)
        except _GONE:
            pass
        await trio.aclose_forcefully(self._stream)

    async def _send(self, line: bytes) -> None:
        async with self._lock:
            with trio.fail_after(SEND_SECONDS):
                await self._stream.send_all(line)

    async def _read(self) -> None:
        buffer, patience = bytearray(), float(LINE_SECONDS)
        deadline = trio.current_time() + patience
        while True:
            with trio.fail_at(deadline):
                chunk = await self._stream.receive_some()
            if not chunk:
                return
            fresh = not buffer
            buffer += chunk
            # a chunk without an end is not searched again: drops of one byte stay cheap
            *lines, rest = buffer.split(b"\n") if b"\n" in chunk else [buffer]
            if len(rest) > rpc.MAX_LINE or any(len(line) > rpc.MAX_LINE for line in lines):
                return
            for line in lines:
                if not await self._answer(bytes(line)):
                    return
            buffer = bytearray(rest) if lines else buffer
            if lines or fresh:
                patience = float(LINE_SECONDS) if buffer else math.inf
                deadline = trio.current_time() + patience

    async def _answer(self, line: bytes) -> bool:
        """Answer one line; False ends a session that does not speak JSON."""
        try:
            batch, items = rpc.parse_line(line)
        except RPCError as error:
            await self._send(rpc.encode(rpc.failure(None, error)))
            return False
        answers = [await self._one(item) for item in items]
        await self._send(rpc.encode(answers if batch else answers[0]))
        return True

    async def _one(self, item: Any) -> dict[str, Any]:
        try:
            request = rpc.parse_request(item)
            return rpc.result(request, await self.session.call(request))
        except RPCError as error:
            return rpc.failure(rpc.request_id(item), error)
        finally:
            self._server.flush()


class ElectrumServer:
    """Serves one sandbox; `flush` after changing it from outside."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self._connections: set[_Connection] = set()
        self._tip = box.chain.tip

    @property
    def sessions(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    def flush(self) -> None:
        """Tell the subscribers what changed since the last flush; the header first."""
        touched = self.box.take_touched()
        moved = self.box.chain.tip != self._tip
        if not moved and not touched:
            return
        self._tip = self.box.chain.tip
        for connection in self._connections:
            session = connection.session
            if moved and session.headers_wanted:
                connection.push("blockchain.headers.subscribe", [tip(self.box)])
            for name in session.scripts.keys() & touched:
                status = script_status(self.box, name)
                if status != session.scripts[name]:
                    session.scripts[name] = status
                    connection.push("blockchain.scripthash.subscribe", [name, status])

    async def _handle(self, stream: trio.SocketStream) -> None:
        if self.sessions >= MAX_SESSIONS:
            await trio.aclose_forcefully(stream)
            return
        connection = _Connection(self, stream)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    async def listen(self, port: int) -> list[trio.SocketListener]:
        """Open the loopback port, 0 for a free one. Raises Locked or Unreachable."""
        try:
            return list(await trio.open_tcp_listeners(port, host=HOST))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Locked(f"port: {port} is taken; name another with --port") from None
            raise Unreachable(f"port: {port} cannot be opened ({error.strerror})") from None

    async def accept(self, listeners: list[trio.SocketListener]) -> None:
        """Answer clients until cancelled."""
        await trio.serve_listeners(self._handle, listeners)

    async def serve(self, port: int = 0, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Listen and answer until cancelled: `port = await nursery.start(server.serve, 0)`."""
        listeners = await self.listen(port)
        task_status.started(port_of(listeners))
        await self.accept(listeners)


def port_of(listeners: list[trio.SocketListener]) -> int:
    """Return the port that was opened."""
    port: int = listeners[0].socket.getsockname()[1]
    return port
