"""One encrypted connection: TCP, Noise XX, Yamux, built from libp2p's own layers.

libp2p's swarm and host stay out: they admit 250 inbound connections in a lifetime, block a
peer's address for 60 s after a failed dial, close connections one by one with 0.2 s of
sleep each, and let one stream's exception stop the whole host. Noise is the only security
offered (libp2p Noise spec, "/noise"), so a plaintext dialler meets a refusal; a peer whose
key is not Ed25519, or lacks the proof of work of the network, is closed after the handshake.
"""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import libp2p.stream_muxer.yamux.yamux as yamux
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_new_x25519_key_pair
from libp2p.custom_types import TProtocol
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.protocol_muxer.generic_selector import GenericMultistreamSelector
from libp2p.protocol_muxer.multiselect_client import MULTISELECT_PROTOCOL_ID
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable
from libp2p.transport.upgrader import TransportUpgrader

from dht.subnets import Subnets
from dht.tally import Tally
from dht.transport_bounds import Bounds, Lines, PacedFrames, Unread
from dht.transport_channel import LIBRARY_FAULTS, Agreed, Libp2pChannel
from dht.transport_yamux import Socket
from p2pnode.base.errors import PeerFault, Unreachable
from p2pnode.base.identity import Identity, peer_id_bytes, works
from p2pnode.base.networks import Network

if TYPE_CHECKING:
    from trio_typing import TaskStatus

NEGOTIATE_DEADLINE: Final = 2.0  # seconds to agree on a stream's protocol
WRITE_DEADLINE: Final = 10.0  # seconds for the socket to take one Yamux frame
SILENCE_DEADLINE: Final = 100.0  # seconds without a byte; Yamux pings every 30 to 40
MAX_STREAMS: Final = 256  # open streams of one connection
MAX_BUFFERED: Final = 8 * 1024 * 1024  # unread bytes of one connection

_quiet = logging.getLogger("libp2p")
if not _quiet.handlers:  # without a handler Python would print its warnings on stderr
    _quiet.addHandler(logging.NullHandler())
    _quiet.setLevel(logging.CRITICAL)


class _BoundedYamux(yamux.Yamux):  # type: ignore[misc]
    """Yamux whose frames are written whole or not at all, and whose buffers are bounded."""

    def __init__(self, secured: Any, socket: Socket, bounds: Bounds, outbound: bool) -> None:
        peer = secured.get_remote_peer()
        host = str(socket.stream.socket.getpeername()[0])
        super().__init__(PacedFrames(secured, bounds, peer.to_bytes()[-32:], host), peer, outbound)
        self.channels: set[Libp2pChannel] = set()
        self._bounds = bounds
        self._unread = Unread(self._held, socket.stream.socket.close)

    async def _write_frame(self, data: bytes) -> None:
        async with self._write_lock:
            with trio.move_on_after(WRITE_DEADLINE) as writing:
                writing.shield = True
                await self.secured_conn.write(data)
        if writing.cancelled_caught:
            await self.secured_conn.close()  # half a frame went out: the connection is lost
            raise ConnectionClosedError("the peer does not read")

    async def _read_data_body(self, length: int) -> bytes:
        held = length + self._held()
        if held > MAX_BUFFERED or not self._bounds.room_for(self._unread, held):
            raise trio.TooSlowError  # what upstream answers by closing the connection
        self.secured_conn.body = True
        try:
            return bytes(await super()._read_data_body(length))
        finally:
            self.secured_conn.body = False

    def _held(self) -> int:
        """Return how many bytes the peer has sent that no handler has taken."""
        cut = sum(channel.held for channel in self.channels)
        return cut + sum(map(len, self.stream_buffers.values()))

    def forget(self) -> None:
        """Hold nothing more."""
        self._bounds.forget(self._unread)


class Connection:
    """A live connection; `run` owns its tasks and ends them all."""

    def __init__(self, socket: Socket, muxed: Any, peer: bytes, host: str, addr: str) -> None:
        self.peer = peer
        self.host = host  # the IP address at the other end
        self.addr = addr  # the multiaddr we dialled, empty if the peer dialled us
        self.stale = False  # it has not answered: no more streams are opened on it
        self._socket = socket
        self._muxed = muxed
        self._nursery: trio.Nursery | None = None
        self._ours: set[Libp2pChannel] = set()  # the streams that we opened
        self.used_at = trio.current_time()  # when we last opened a stream

    @property
    def streams(self) -> int:
        """Return how many streams are open."""
        return len(self._muxed.streams)

    @property
    def wanted(self) -> bool:
        """Tell whether a stream that we opened is open."""
        return bool(self._ours)

    def kill(self) -> None:
        """Close the socket at once; everything on it ends by itself."""
        self._socket.stream.socket.close()

    async def run(
        self,
        accept: Callable[["Connection", Any], Awaitable[None]],
        task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve the connection until it ends, `accept` taking each inbound stream."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._muxed.start)
                nursery.start_soon(self._watch)
                await self._muxed.event_started.wait()
                task_status.started()
                while self.streams <= MAX_STREAMS:
                    try:
                        stream = await self._muxed.accept_stream()
                    except MuxedConnUnavailable:
                        break
                    nursery.start_soon(accept, self, stream)
                nursery.cancel_scope.cancel()
        finally:
            self._muxed.forget()
            self.kill()

    async def _watch(self) -> None:
        """End a connection whose peer has fallen silent: Yamux pings, so the living speak."""
        while (late := self._socket.heard + SILENCE_DEADLINE) > trio.current_time():  # noqa: ASYNC110 - silence sets no event
            await trio.sleep_until(late)
        self.kill()

    def channel(
        self, stream: Any, limit: int, agreed: Agreed | None = None, *, varints: bool = False
    ) -> Libp2pChannel:
        """Return a framed channel on a negotiated stream. Raises Unreachable.

        With `agreed` the negotiation's answer is still to come, before the first frame.
        """
        channel = Libp2pChannel(stream, self.peer, limit, self.host, self.addr, varints=varints)
        if self._nursery is None or self._nursery.cancel_scope.cancel_called:
            raise Unreachable("the connection to the peer has ended")
        self._nursery.start_soon(self._pump, channel, agreed)
        return channel

    async def _pump(self, channel: Libp2pChannel, agreed: Agreed | None) -> None:
        self._muxed.channels.add(channel)
        try:
            await channel.pump(agreed)
        finally:
            self._muxed.channels.discard(channel)
            self._ours.discard(channel)

    async def open(
        self, protocol: str, limit: int, *, early: bool = False, varints: bool = False
    ) -> Libp2pChannel:
        """Open a stream. Raises PeerFault if refused, Unreachable if the peer is silent.

        With `early` no round trip is spent on the answer: who is refused, or hears nothing,
        learns it when he receives.
        """
        stream = None
        channel = None
        try:
            with trio.fail_after(NEGOTIATE_DEADLINE):
                stream = await self._muxed.open_stream()
                talk = Lines(stream)
                await talk.write(MULTISELECT_PROTOCOL_ID)
                await talk.write(protocol)
                if not early and not await _accepts(talk, protocol):
                    raise PeerFault(f"the peer does not serve {protocol}")
            later = partial(self._agreed, talk, protocol) if early else None
            channel = self.channel(stream, limit, later, varints=varints)
            self._ours.add(channel)
            self.used_at = trio.current_time()
        except (*LIBRARY_FAULTS, trio.TooSlowError, UnicodeDecodeError):
            raise Unreachable("the peer does not answer on its connection") from None
        finally:
            if stream is not None and channel is None:
                await Libp2pChannel(stream, self.peer, limit).reset()
        return channel

    async def _agreed(self, talk: Lines, protocol: str) -> bool:
        """Tell whether the peer agrees in time; one who stays silent gets no more streams."""
        try:
            with trio.fail_after(NEGOTIATE_DEADLINE):
                return await _accepts(talk, protocol)
        except (*LIBRARY_FAULTS, trio.TooSlowError, UnicodeDecodeError):
            self.stale = True
            return False


async def _accepts(talk: Lines, protocol: str) -> bool:
    """Read the answer to a proposed protocol."""
    return await talk.read() == MULTISELECT_PROTOCOL_ID and await talk.read() == protocol


class Handshake:
    """Turns TCP streams into connections under one identity."""

    def __init__(
        self,
        identity: Identity,
        network: Network,
        subnets: Subnets | None = None,
        tally: Tally | None = None,
    ) -> None:
        self._bounds = Bounds(subnets or Subnets(), tally or Tally())
        keys = create_new_key_pair(identity.secret_seed())
        noise = NoiseTransport(keys, noise_privkey=create_new_x25519_key_pair().private_key)
        self._network = network
        self._upgrader = TransportUpgrader({NOISE: noise}, {})
        self._muxers = GenericMultistreamSelector()
        self._muxers.add_handler(TProtocol(yamux.PROTOCOL_ID), None)

    async def secure(
        self, tcp: trio.SocketStream, peer: bytes | None, addr: str = ""
    ) -> Connection:
        """Run the handshake; `peer` is whom we dialled at `addr`, None if he dialled us.

        Raises PeerFault for an unfit key, and whatever the library raises on garbage.
        """
        socket, host = Socket(tcp), str(tcp.socket.getpeername()[0])
        raw = RawConnection(socket, peer is not None)
        expected = None if peer is None else ID(peer_id_bytes(peer))
        secured = await self._upgrader.upgrade_security(raw, peer is not None, expected)
        remote = secured.get_remote_peer().to_bytes()
        node_id = remote[-32:]
        if remote != peer_id_bytes(node_id):
            raise PeerFault("the peer's key is not Ed25519")
        if not works(self._network, node_id):
            raise PeerFault("the peer's key lacks the proof of work of its network")
        await self._muxers.select(secured, peer is not None)
        socket.allowance = float("inf")
        muxed = _BoundedYamux(secured, socket, self._bounds, peer is not None)
        return Connection(socket, muxed, node_id, host, addr)
