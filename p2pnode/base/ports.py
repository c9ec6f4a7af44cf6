"""The ports: what the rooms need of the world, and the world's side to implement.

Cores take `now` and randomness as arguments; shells take these. A simulation implements
them in memory; `dht.transport_libp2p`, `escrow.backend_electrum` and `p2pnode.base.clock`
are the real ones.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class Clock(Protocol):
    """Wall-clock time for expiry and for people; safety never depends on it."""

    def now(self) -> int:
        """Return unix seconds."""
        ...


class Randomness(Protocol):
    """Where unpredictable bytes come from."""

    def bytes(self, count: int) -> bytes:
        """Return `count` bytes fit for keys and nonces."""
        ...


class Channel(Protocol):
    """One authenticated, encrypted, framed stream to a peer."""

    @property
    def peer(self) -> bytes:
        """Return the node id that the handshake proved."""
        ...

    @property
    def host(self) -> str:
        """Return the IP address the peer speaks from, empty if it has none."""
        ...

    @property
    def addr(self) -> str:
        """Return the multiaddr we dialled, empty if the peer dialled us."""
        ...

    async def send(self, payload: bytes) -> None:
        """Send one frame. Raises Unreachable if the stream has ended."""
        ...

    async def receive(self) -> bytes:
        """Return the next frame. Raises Unreachable at the end, InvalidRecord on garbage."""
        ...

    async def close(self) -> None:
        """End the stream; never raises."""
        ...

    async def reset(self) -> None:
        """End the stream at once, both ways, dropping what is under way; never raises."""
        ...


Handler = Callable[[Channel], Awaitable[None]]


class Streams(Protocol):
    """The encrypted transport: dial a node id, serve a protocol."""

    @property
    def node_id(self) -> bytes:
        """Return our own node id."""
        ...

    def addrs(self) -> tuple[str, ...]:
        """Return the multiaddrs we listen on, without the /p2p part."""
        ...

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

        With `dialled` only a connection will do that we made at one of `addrs`: it proves
        that the peer can be reached there. With `early` what is sent leaves before the peer has
        agreed to the protocol, a round trip sooner; his refusal shows at `receive`, as
        Unreachable. With `varints` a frame's length is an unsigned varint, as in libp2p's own
        protocols, not four bytes. Raises Unreachable.
        """
        ...

    def refuse(self, barred: Callable[[bytes, str], str]) -> None:
        """Let nobody in for whom `barred(node id or empty, host)` names a reason."""
        ...

    def close_barred(self) -> None:
        """Close the connections of those who have been barred since they came."""
        ...

    def serve(self, protocol: str, handler: Handler, *, limit: int, varints: bool = False) -> None:
        """Answer inbound streams of `protocol` with `handler`, one task each."""
        ...


class Verdict(Enum):
    """What a judge makes of a message that a peer has passed on."""

    ACCEPT = "accept"  # it is passed on
    IGNORE = "ignore"  # it is not, and nobody is to blame
    REJECT = "reject"  # it is not, and whoever passed it on had not verified it


Judge = Callable[[bytes, bytes], Awaitable[Verdict]]  # data, the node id it came from


class Reachable(Protocol):
    """A node and where it was last said to be."""

    @property
    def node_id(self) -> bytes:
        """Return its node id."""
        ...

    @property
    def addrs(self) -> tuple[str, ...]:
        """Return its multiaddrs, without the /p2p part."""
        ...


class Gossip(Protocol):
    """Messages to everybody who has joined a topic (libp2p gossipsub v1.1)."""

    def join(self, topic: str, judge: Judge) -> None:
        """Take part in a topic; `judge` decides on each message before it is passed on.

        Joined already, only the judge is replaced. Raises LocalFault over the cap of topics.
        """
        ...

    def leave(self, topic: str) -> None:
        """Take part no longer; never raises."""
        ...

    async def publish(self, topic: str, data: bytes) -> int:
        """Send a message of ours, which is not judged; returns to how many peers it goes.

        0 if nobody else is there, or if these bytes were published or received within two
        minutes. Raises InvalidRecord for a message that is too long.
        """
        ...

    def meet(self, topic: str, peers: Sequence[Reachable]) -> None:
        """Name nodes that are said to be in a topic: as many as are wanted are dialled."""
        ...


@dataclass(frozen=True, slots=True)
class Tip:
    """The best block: height, hash (internal byte order), median time past."""

    height: int
    hash: bytes
    mtp: int


@dataclass(frozen=True, slots=True)
class Sighting:
    """A transaction that touches a watched script; height 0 means unconfirmed."""

    txid: bytes  # internal byte order
    height: int
    raw: bytes


class Chain(Protocol):
    """One's own view of the Bitcoin chain. Hashes and txids in internal byte order.

    Every method raises Unreachable when the server is gone; a broadcast refused by the
    node raises LocalFault with its reject reason.
    """

    def tip(self) -> Tip:
        """Return the last tip seen. Raises Unreachable before the first."""
        ...

    async def changed(self) -> None:
        """Return when the tip or any watched script has changed since the last call."""
        ...

    async def watch(self, script: bytes) -> None:
        """Ask to be told of transactions paying to or spending from `script`."""
        ...

    async def sightings(self, script: bytes) -> tuple[Sighting, ...]:
        """Return the transactions that touch `script`, confirmed ones proven by merkle branch."""
        ...

    def block_hash(self, height: int) -> bytes | None:
        """Return the hash of our chain's block at `height`, or None above the tip."""
        ...

    def merkle_root(self, height: int) -> bytes | None:
        """Return the merkle root in our header at `height`, or None above the tip."""
        ...

    def mtp(self, height: int) -> int:
        """Return the median time past of blocks height-10 … height, unix seconds."""
        ...

    async def transaction(self, txid: bytes) -> bytes:
        """Return the raw transaction, checked to hash to `txid`."""
        ...

    async def proof(self, txid: bytes, height: int) -> tuple[tuple[bytes, ...], int]:
        """Return the merkle branch and position, checked against our header."""
        ...

    async def broadcast(self, raw: bytes) -> bytes:
        """Hand a transaction to the network; returns its txid. Known already is success."""
        ...

    async def fee_rate(self, target: int) -> int | None:
        """Return whole sat/vB to confirm within `target` blocks, or None without an estimate."""
        ...
