"""What the order book asks of the rest of the node, as ports."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from p2pnode.base.history import NONE, History
from p2pnode.base.ports import Reachable

Take = Callable[[Sequence[bytes]], Awaitable[object]]  # records as they came


class Records(Protocol):
    """Where offers are stored and found: the DHT, or a simulation of it."""

    async def put(self, raw: bytes) -> int:
        """Store a signed offer; returns how many holders took it. Raises Unreachable."""
        ...

    async def find(self, market: str) -> tuple[bytes, ...]:
        """Return every record filed under a market, unverified. Raises Unreachable."""
        ...


class References(Protocol):
    """What bitcoin costs elsewhere."""

    def reference(self, currency: str) -> int:
        """Return minor units per BTC x 10^4 as of now, 0 if no source can be believed."""
        ...


class Histories(Protocol):
    """What receipts prove."""

    def history(self, node_id: bytes) -> History:
        """Return what this node has seen proven of another's past, or of its own."""
        ...


class Tally(Protocol):
    """Counters for people and metrics; the names are in docs/operations.md."""

    def add(self, name: str, n: int = 1) -> None:
        """Count `n` more of `name`."""
        ...


class Crowd(Protocol):
    """What a market's followers need of the DHT: its holders' news, and each other."""

    async def hear(self, currency: str, take: Take, ready: Callable[[], None]) -> None:
        """Pass on what the market's holders have, then each change, unverified.

        `ready` is called once all that they had has been taken. Returns when news may have
        been missed: hear again. Raises Unreachable.
        """
        ...

    def holders(self, currency: str) -> frozenset[bytes]:
        """Return the nodes that tell us of a market's changes now."""
        ...

    async def servers(self, currency: str) -> tuple[bytes, ...]:
        """Return the records of a market's servers, unverified. Raises Unreachable."""
        ...

    async def serve(self, record: bytes) -> int:
        """Put our own record as a market's server; returns how many hold it. Raises Unreachable."""
        ...

    async def locate(self, node_id: bytes) -> tuple[str, ...]:
        """Return where a node may be reached, nothing if nobody knows. Raises Unreachable."""
        ...

    async def lied(self, node_id: bytes) -> None:
        """Hold what is not valid against the node that sent it."""
        ...


class Unpriced:
    """References of a node that has no source."""

    def reference(self, currency: str) -> int:
        """Return 0: no price is known."""
        return 0


class Unproven:
    """Histories of a node that has seen nothing proven."""

    def history(self, node_id: bytes) -> History:
        """Return the history of a newcomer."""
        return NONE


class Spread(Protocol):
    """Gossip by market: what it hears goes into the book before it goes on."""

    def join(self, currency: str) -> None:
        """Hear of a market's offers, and pass on what is valid."""
        ...

    def leave(self, currency: str) -> None:
        """Hear of it no longer."""
        ...

    def meet(self, currency: str, peers: Sequence[Reachable]) -> None:
        """Name nodes that follow the market."""
        ...

    async def publish(self, currency: str, raw: bytes) -> int:
        """Tell an offer of our own; returns to how many peers."""
        ...
