"""What the order book asks of the rest of the node, as ports."""

from typing import Protocol

from p2pnode.base.history import History


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
