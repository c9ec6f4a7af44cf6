"""The encrypted transport: dial a node id, serve protocols (docs/wire/dht.md, "Transport").

One listener, any number of connections, many streams on each; every task lives in the
nursery of `open_streams`. Whatever a stranger's bytes make the library raise ends his own
connection and nothing else: `_supervised` is this room's one supervisor. Who may knock at
all is decided by `dht.admission` and by the bans, before a handshake costs anything.

Only this module's family (`dht.transport_*`) imports libp2p, which takes most of a second.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio
from libp2p.protocol_muxer.multiselect import Multiselect

from dht import endpoint, transport_identify
from dht.admission import Door, Full, Guest, Limits
from dht.subnets import Subnets
from dht.tally import Tally
from dht.transport_bounds import Lines
from dht.transport_channel import Libp2pChannel
from dht.transport_listen import bind, text_of
from dht.transport_names import Names
from dht.transport_secure import NEGOTIATE_DEADLINE, Connection, Handshake
from p2pnode.base.errors import NodeError, PeerFault, Unreachable
from p2pnode.base.identity import Identity
from p2pnode.base.networks import Network
from p2pnode.base.ports import Channel, Handler

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = logging.getLogger(__name__)

DIAL_DEADLINE: Final = 4.0  # seconds for all addresses of a peer, tried at once
OPEN_DEADLINE: Final = 8.0  # seconds for `open` in all
INBOUND_DEADLINE: Final = 5.0  # seconds for a stranger's handshake

Barred = Callable[[bytes, str], str]  # node id (empty: not known yet), host -> why, or ""
RawHandler = Callable[[Connection, Any], Awaitable[None]]  # a stream without our framing


class Libp2pStreams:
    """The `Streams` port over libp2p's TCP, Noise and Yamux."""

    def __init__(
        self,
        identity: Identity,
        network: Network,
        nursery: trio.Nursery,
        *,
        limits: Limits,
        subnets: Subnets,
    ) -> None:
        self.node_id = identity.node_id
        self.tally = Tally()
        self._handshake = Handshake(identity, network, subnets, self.tally)
        self._nursery = nursery
        self._limits = limits
        self._door = Door(limits, subnets)
        self._names = Names(anywhere=network.bondless)
        self._barred: Barred = lambda _peer, _host: ""
        self._addrs: tuple[str, ...] = ()
        self._served: dict[str, tuple[Handler, int, bool]] = {}
        self._raw: dict[str, RawHandler] = {}
        self._protocols = Multiselect()
        self._connections: dict[bytes, list[Connection]] = {}
        self._dialling: dict[bytes, trio.Lock] = {}
        self._outbound = 0

    def addrs(self) -> tuple[str, ...]:
        """Return the multiaddrs we listen on, without the /p2p part."""
        return self._addrs

    def connected(self) -> tuple[bytes, ...]:
        """Return the node ids that a live connection leads to."""
        return tuple(self._connections)

    def protocols(self) -> tuple[str, ...]:
        """Return the protocol ids that a stream may be opened for."""
        return (*self._raw, *self._served)

    def inbound(self) -> int:
        """Return how many connections others have made to us."""
        return len(self._door)

    def serve(self, protocol: str, handler: Handler, *, limit: int, varints: bool = False) -> None:
        """Answer inbound streams of `protocol` with `handler`, one task each."""
        self._served[protocol] = (handler, limit, varints)
        self._protocols.add_handler(protocol, None)

    def serve_raw(self, protocol: str, handler: RawHandler) -> None:
        """Answer inbound streams of a protocol that has framing of its own."""
        self._raw[protocol] = handler
        self._protocols.add_handler(protocol, None)

    def refuse(self, barred: Barred) -> None:
        """Close whoever `barred` names a reason for: by address at once, by key once proved."""
        self._barred = barred

    def close_barred(self) -> None:
        """Close the connections of those who have been barred since they came."""
        for held in list(self._connections.values()):
            for connection in held.copy():
                if self._barred(connection.peer, connection.host):
                    connection.kill()

    # ------------------------------------------------------------------ outbound

    async def open(
        self,
        peer: bytes,
        addrs: Sequence[str],
        protocol: str,
        *,
        limit: int,
        dialled: bool = False,
        early: bool = False,
        varints: bool = False,
    ) -> Channel:
        """Open a stream with frames of at most `limit` bytes, dialling if need be.

        With `dialled` only a connection will do that we made at one of `addrs`; with `early`
        the stream is there before the peer has agreed. Raises Unreachable.
        """
        if peer == self.node_id:
            raise Unreachable("the peer is this node itself")
        if why := self._barred(peer, ""):
            raise Unreachable(f"{peer.hex()[:16]}: is banned: {why}")
        try:
            with trio.fail_after(OPEN_DEADLINE):
                live = self._live(peer, addrs if dialled else None)
                job = partial(
                    Connection.open, protocol=protocol, limit=limit, early=early, varints=varints
                )
                channel = await self._on_live(live, job)
                if channel is None:
                    connection = await self._dial(peer, addrs, dialled=dialled)
                    channel = await job(connection)
                return channel
        except trio.TooSlowError:
            raise Unreachable(f"{peer.hex()[:16]}: did not answer in time") from None
        except PeerFault as error:
            raise Unreachable(f"{peer.hex()[:16]}: {error}") from None

    def _live(self, peer: bytes, dialled_at: Sequence[str] | None) -> list[Connection]:
        """Return the connections to a peer, or only those that we dialled at some addresses."""
        held = self._connections.get(peer, [])
        live = [connection for connection in held if not connection.stale]
        return [c for c in live if dialled_at is None or c.addr in dialled_at]

    async def _on_live(
        self, live: list[Connection], job: Callable[[Connection], Awaitable[Libp2pChannel]]
    ) -> Libp2pChannel | None:
        """Try the connections we hold; one that stays silent is not tried again."""
        for connection in reversed(live):
            try:
                return await job(connection)
            except Unreachable:
                connection.stale = True  # its watch ends it, unless its peer was only slow
        return None

    async def _dial(self, peer: bytes, addrs: Sequence[str], *, dialled: bool) -> Connection:
        lock = self._dialling.setdefault(peer, trio.Lock())
        try:
            async with lock:
                if live := self._live(
                    peer, addrs if dialled else None
                ):  # made while we waited for the lock
                    return live[-1]
                if self._outbound >= self._limits.outbound:
                    self._make_room()
                made = await self._race(peer, addrs[: endpoint.MAX_ADDRS])
        finally:
            if not lock.locked():
                self._dialling.pop(peer, None)
        if not made:
            raise Unreachable(f"{peer.hex()[:16]}: no address of it answered")
        return made[0]

    def _make_room(self) -> None:
        """Close the connection that we made and used longest ago. Raises Full if all are in use."""
        made = (c for held in self._connections.values() for c in held if c.addr and not c.wanted)
        leaver = min(made, key=lambda c: c.used_at, default=None)
        if leaver is None or leaver.used_at > trio.current_time() - OPEN_DEADLINE:
            raise Full("too many connections are open")
        self.tally.add("connections_retired")
        self._forget(leaver)
        leaver.kill()

    async def _race(self, peer: bytes, addrs: Sequence[str]) -> list[Connection]:
        """Dial all addresses at once; the first that leads to the peer wins."""
        made: list[Connection] = []
        with trio.move_on_after(DIAL_DEADLINE):
            async with trio.open_nursery() as race:

                async def dial(addr: str, host: str) -> None:
                    job = partial(self._dial_one, peer, addr, host, made)
                    await self._supervised("dial", job)
                    if made:
                        race.cancel_scope.cancel()

                async def resolve(addr: str) -> None:
                    for host in await self._names.hosts(endpoint.parse("addr", addr)[0]):
                        if not self._barred(peer, host):
                            race.start_soon(dial, addr, host)

                for addr in addrs:
                    race.start_soon(self._supervised, "dial", partial(resolve, addr))
        return made

    async def _dial_one(self, peer: bytes, addr: str, host: str, made: list[Connection]) -> None:
        tcp = await trio.open_tcp_stream(host, endpoint.parse("addr", addr)[1])
        connection = None
        try:
            connection = await self._handshake.secure(tcp, peer, addr)
            if made:
                return  # another address was faster
            made.append(connection)
            await self._nursery.start(self._keep, connection, True)
        finally:
            if connection is None or connection not in made:
                tcp.socket.close()

    async def _keep(
        self,
        connection: Connection,
        outbound: bool,
        task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Hold a connection in the table for as long as it lives."""
        held = self._connections.setdefault(connection.peer, [])
        if len(held) >= self._limits.per_peer:
            self._forget(oldest := held[0])
            oldest.kill()
            held = self._connections.setdefault(connection.peer, [])
        held.append(connection)
        self._outbound += outbound
        self.tally.add("connections_out" if outbound else "connections_in")
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
        bound = [text_of(listener.socket) for listener in listeners]
        self._addrs = tuple(announce or bound)[: endpoint.MAX_ADDRS]
        if listeners:
            self._nursery.start_soon(trio.serve_listeners, self._inbound_tcp, listeners)

    async def _inbound_tcp(self, tcp: trio.SocketStream) -> None:
        try:
            guest = Guest(str(tcp.socket.getpeername()[0]), tcp.socket.close)
        except OSError:
            return  # gone before we looked
        if self._barred(b"", guest.host):
            self.tally.add("connections_barred")
            return
        leaver = self._door.admit(guest, trio.current_time())
        if leaver is not None:
            self.tally.add("connections_refused")
            leaver.close()
        if leaver is guest:
            return
        try:
            made: list[Connection] = []
            with trio.move_on_after(INBOUND_DEADLINE):
                await self._supervised("handshake", partial(self._greet, tcp, made))
            if not made:
                self.tally.add("handshakes_failed")
            elif self._barred(made[0].peer, guest.host):
                self.tally.add("connections_barred")
            else:
                guest.known = True
                await self._keep(made[0], False)
        finally:
            self._door.leave(guest)

    async def _greet(self, tcp: trio.SocketStream, made: list[Connection]) -> None:
        made.append(await self._handshake.secure(tcp, None))

    async def _accept(self, connection: Connection, stream: Any) -> None:
        """Agree on the protocol of an inbound stream, then hand it to its handler's task."""
        await self._supervised("stream", partial(self._negotiate, connection, stream))

    async def _negotiate(self, connection: Connection, stream: Any) -> None:
        job: Callable[[], Awaitable[None]] | None = None
        try:
            with trio.move_on_after(NEGOTIATE_DEADLINE):
                protocol, _ = await self._protocols.negotiate(Lines(stream))
                if protocol in self._raw:
                    job = partial(self._raw[protocol], connection, stream)
                elif protocol in self._served:
                    handler, limit, varints = self._served[protocol]
                    channel = connection.channel(stream, limit, varints=varints)
                    job = partial(self._handle, handler, channel)
        finally:
            if job is None:
                self.tally.add("streams_unknown")
                await Libp2pChannel(stream, connection.peer, 1).reset()
        if job is not None:
            self._nursery.start_soon(self._supervised, "handler", job)

    async def _handle(self, handler: Handler, channel: Libp2pChannel) -> None:
        try:
            await handler(channel)
        finally:
            if channel.stalled:
                self.tally.add("streams_stalled")
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
                log.info("%s ended: %.200r", what, _innermost(group))


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@asynccontextmanager
async def open_streams(
    identity: Identity,
    network: Network,
    *,
    listen: Sequence[str] = (),
    announce: Sequence[str] = (),
    limits: Limits | None = None,
    subnets: Subnets | None = None,
) -> AsyncIterator[Libp2pStreams]:
    """Run the transport inside the block; all of its tasks and sockets end with it.

    `announce` replaces the addresses told to others (behind a port forward). Raises
    Misconfigured if an address cannot be listened on.
    """
    listeners = await bind(listen)
    async with trio.open_nursery() as nursery:
        streams = Libp2pStreams(
            identity,
            network,
            nursery,
            limits=limits or Limits(),
            subnets=subnets or Subnets(),
        )
        transport_identify.serve(streams)
        streams.listen(listeners, announce)
        try:
            yield streams
        finally:
            nursery.cancel_scope.cancel()
