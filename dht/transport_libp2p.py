"""The encrypted transport: dial a node id, serve protocols (docs/wire/dht.md, "Transport").

One listener, any number of connections, many streams on each; every task lives in the
nursery of `open_streams`. Whatever a stranger's bytes make the library raise ends his own
connection and nothing else: `_supervised` is this room's one supervisor.

Only this module's family (`dht.transport_*`) imports libp2p, which takes most of a second.
"""

import logging
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio
from libp2p.protocol_muxer.multiselect import Multiselect
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator

from dht import endpoint
from dht.transport_channel import Libp2pChannel
from dht.transport_secure import NEGOTIATE_DEADLINE, Connection, Handshake
from p2pnode.base.errors import InvalidRecord, Misconfigured, NodeError, PeerFault, Unreachable
from p2pnode.base.identity import Identity
from p2pnode.base.networks import Network
from p2pnode.base.ports import Channel, Handler

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = logging.getLogger(__name__)

DIAL_DEADLINE: Final = 4.0  # seconds an address, handshake included
OPEN_DEADLINE: Final = 8.0  # seconds for `open` in all
INBOUND_DEADLINE: Final = 5.0  # seconds for a stranger's handshake
MAX_INBOUND: Final = 512  # connections others have made to us
MAX_INBOUND_PER_ADDRESS: Final = 32  # of them from one address (loopback is exempt)
MAX_HANDSHAKES: Final = 32  # under way at a time: each costs some 8 ms of a core
MAX_OUTBOUND: Final = 512
MAX_PER_PEER: Final = 8


class Libp2pStreams:
    """The `Streams` port over libp2p's TCP, Noise and Yamux."""

    def __init__(self, identity: Identity, network: Network, nursery: trio.Nursery) -> None:
        self.node_id = identity.node_id
        self._handshake = Handshake(identity, network)
        self._nursery = nursery
        self._addrs: tuple[str, ...] = ()
        self._served: dict[str, tuple[Handler, int]] = {}
        self._protocols = Multiselect()
        self._connections: dict[bytes, list[Connection]] = {}
        self._dialling: dict[bytes, trio.Lock] = {}
        self._inbound: Counter[str] = Counter()
        self._handshakes = trio.CapacityLimiter(MAX_HANDSHAKES)
        self._outbound = 0

    def addrs(self) -> tuple[str, ...]:
        """Return the multiaddrs we listen on, without the /p2p part."""
        return self._addrs

    def connected(self) -> tuple[bytes, ...]:
        """Return the node ids that a live connection leads to."""
        return tuple(self._connections)

    def serve(self, protocol: str, handler: Handler, *, limit: int) -> None:
        """Answer inbound streams of `protocol` with `handler`, one task each."""
        self._served[protocol] = (handler, limit)
        self._protocols.add_handler(protocol, None)

    async def open(
        self, peer: bytes, addrs: Sequence[str], protocol: str, *, limit: int
    ) -> Channel:
        """Dial and open a stream with frames of at most `limit` bytes. Raises Unreachable."""
        if peer == self.node_id:
            raise Unreachable("the peer is this node itself")
        try:
            with trio.fail_after(OPEN_DEADLINE):
                channel = await self._on_live(peer, protocol, limit)
                if channel is None:
                    connection = await self._dial(peer, addrs)
                    channel = await connection.open(protocol, limit)
                return channel
        except trio.TooSlowError:
            raise Unreachable(f"{peer.hex()[:16]}: did not answer in time") from None
        except PeerFault as error:
            raise Unreachable(f"{peer.hex()[:16]}: {error}") from None

    async def _on_live(self, peer: bytes, protocol: str, limit: int) -> Libp2pChannel | None:
        """Try the connections we hold; one that stays silent is not tried again."""
        for connection in reversed(self._connections.get(peer, []).copy()):
            try:
                return await connection.open(protocol, limit)
            except Unreachable:
                self._forget(connection)  # its watch ends it, unless its peer was only slow
        return None

    async def _dial(self, peer: bytes, addrs: Sequence[str]) -> Connection:
        lock = self._dialling.setdefault(peer, trio.Lock())
        try:
            async with lock:
                if live := self._connections.get(peer):  # made while we waited for the lock
                    return live[-1]
                if self._outbound >= MAX_OUTBOUND:
                    raise Unreachable("too many connections are open")
                for addr in addrs[: endpoint.MAX_ADDRS]:
                    made: list[Connection] = []
                    with trio.move_on_after(DIAL_DEADLINE):
                        await self._supervised("dial", partial(self._dial_one, peer, addr, made))
                    if made:
                        return made[0]
        finally:
            if not lock.locked():
                self._dialling.pop(peer, None)
        raise Unreachable(f"{peer.hex()[:16]}: no address of it answered")

    async def _dial_one(self, peer: bytes, addr: str, made: list[Connection]) -> None:
        host, port, _ = endpoint.parse("addr", addr)
        tcp = await trio.open_tcp_stream(host, port)
        try:
            connection = await self._handshake.secure(tcp, peer)
            await self._nursery.start(self._keep, connection, True)
            made.append(connection)
        finally:
            if not made:
                tcp.socket.close()

    async def _keep(
        self,
        connection: Connection,
        outbound: bool,
        task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Hold a connection in the table for as long as it lives."""
        held = self._connections.setdefault(connection.peer, [])
        if len(held) >= MAX_PER_PEER:
            self._forget(oldest := held[0])
            oldest.kill()
            held = self._connections.setdefault(connection.peer, [])
        held.append(connection)
        self._outbound += outbound
        try:
            await self._supervised(
                "connection", partial(connection.run, self._accept, task_status=task_status)
            )
        finally:
            self._outbound -= outbound
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        held = self._connections.get(connection.peer, [])
        if connection in held:
            held.remove(connection)
        if not held:
            self._connections.pop(connection.peer, None)

    # ------------------------------------------------------------------ inbound

    def listen(self, listeners: Sequence[trio.SocketListener], announce: Sequence[str]) -> None:
        """Accept on bound listeners; `announce` replaces their addresses for others."""
        bound = [_text_of(listener.socket) for listener in listeners]
        self._addrs = tuple(announce or bound)[: endpoint.MAX_ADDRS]
        if listeners:
            self._nursery.start_soon(trio.serve_listeners, self._inbound_tcp, listeners)

    async def _inbound_tcp(self, tcp: trio.SocketStream) -> None:
        try:
            address = str(tcp.socket.getpeername()[0])
        except OSError:
            return  # gone before we looked
        crowded = self._inbound[address] >= MAX_INBOUND_PER_ADDRESS
        if self._inbound.total() >= MAX_INBOUND or (crowded and not _loopback(address)):
            return
        self._inbound[address] += 1
        try:
            made: list[Connection] = []
            with trio.move_on_after(INBOUND_DEADLINE):
                async with self._handshakes:
                    await self._supervised("handshake", partial(self._greet, tcp, made))
            if made:
                await self._keep(made[0], False)
        finally:
            self._inbound[address] -= 1
            if not self._inbound[address]:
                del self._inbound[address]

    async def _greet(self, tcp: trio.SocketStream, made: list[Connection]) -> None:
        made.append(await self._handshake.secure(tcp, None))

    async def _accept(self, connection: Connection, stream: Any) -> None:
        """Agree on the protocol of an inbound stream, then hand it to its handler's task."""
        await self._supervised("stream", partial(self._negotiate, connection, stream))

    async def _negotiate(self, connection: Connection, stream: Any) -> None:
        channel = None
        try:
            with trio.move_on_after(NEGOTIATE_DEADLINE):
                protocol, _ = await self._protocols.negotiate(MultiselectCommunicator(stream))
                if protocol in self._served:
                    handler, limit = self._served[protocol]
                    channel = connection.channel(stream, limit)
        finally:
            if channel is None:
                await Libp2pChannel(stream, connection.peer, 1).reset()
        if channel is not None:
            self._nursery.start_soon(self._handle, handler, channel)

    async def _handle(self, handler: Handler, channel: Libp2pChannel) -> None:
        try:
            await self._supervised("handler", partial(handler, channel))
        finally:
            await channel.close()

    async def _supervised(self, what: str, job: Callable[[], Awaitable[None]]) -> None:
        """Run a job; its failure ends it alone. A bug of ours is logged with its traceback."""
        try:
            await job()
        except* (NodeError, OSError) as group:
            log.debug("%s ended: %s", what, _innermost(group))
        except* Exception as group:
            if what == "handler":
                log.exception("a stream's handler failed", exc_info=_innermost(group))
            else:
                log.info("%s ended: %r", what, _innermost(group))


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _bind(addrs: Sequence[str]) -> list[trio.SocketListener]:
    """Return listening sockets. Raises Misconfigured."""
    listeners: list[trio.SocketListener] = []
    for addr in addrs:
        try:
            host, port, _ = endpoint.parse("listen", addr)
            listeners += await trio.open_tcp_listeners(port, host=host)
        except (InvalidRecord, OSError) as error:
            for listener in listeners:
                listener.socket.close()
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise Misconfigured(f"listen: {addr[:128]}: {why}", field="listen") from None
    return listeners


def _loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"


def _text_of(listening: Any) -> str:
    host, port = listening.getsockname()[:2]
    kind = "ip6" if listening.family == socket.AF_INET6 else "ip4"
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = _outward(listening.family, host)
    return f"/{kind}/{host}/tcp/{port}"


def _outward(family: int, anywhere: str) -> str:
    """Return our address on the way out (no packet is sent), or loopback without a way."""
    probe = "2001:db8::1" if family == socket.AF_INET6 else "192.0.2.1"
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect((probe, 9))
        except OSError:
            return "::1" if anywhere == "::" else "127.0.0.1"
        return str(asking.getsockname()[0])


@asynccontextmanager
async def open_streams(
    identity: Identity,
    network: Network,
    *,
    listen: Sequence[str] = (),
    announce: Sequence[str] = (),
) -> AsyncIterator[Libp2pStreams]:
    """Run the transport inside the block; all of its tasks and sockets end with it.

    `announce` replaces the addresses told to others (behind a port forward). Raises
    Misconfigured if an address cannot be listened on.
    """
    listeners = await _bind(listen)
    async with trio.open_nursery() as nursery:
        streams = Libp2pStreams(identity, network, nursery)
        streams.listen(listeners, announce)
        try:
            yield streams
        finally:
            nursery.cancel_scope.cancel()
