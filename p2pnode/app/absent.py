"""The chain of a node that names no chain server: every question gets the same sentence.

So a seed needs no chain, and everything that does need one says what is missing.
"""

from typing import NoReturn

import trio

from p2pnode.base.errors import Misconfigured
from p2pnode.base.ports import Sighting, Tip


def _absent() -> NoReturn:
    raise Misconfigured(
        "electrum: this node has no chain server: start it with `p2pnode run --electrum HOST:PORT`",
        field="electrum",
    )


class AbsentChain:
    """Implements `ports.Chain` by refusing."""

    def tip(self) -> Tip:
        """Raise Misconfigured."""
        _absent()

    async def changed(self) -> None:
        """Never return: nothing changes."""
        await trio.sleep_forever()

    async def watch(self, script: bytes) -> None:
        """Raise Misconfigured."""
        _absent()

    async def sightings(self, script: bytes) -> tuple[Sighting, ...]:
        """Raise Misconfigured."""
        _absent()

    def block_hash(self, height: int) -> bytes | None:
        """Raise Misconfigured."""
        _absent()

    def merkle_root(self, height: int) -> bytes | None:
        """Raise Misconfigured."""
        _absent()

    def mtp(self, height: int) -> int:
        """Raise Misconfigured."""
        _absent()

    async def transaction(self, txid: bytes) -> bytes:
        """Raise Misconfigured."""
        _absent()

    async def proof(self, txid: bytes, height: int) -> tuple[tuple[bytes, ...], int]:
        """Raise Misconfigured."""
        _absent()

    async def broadcast(self, raw: bytes) -> bytes:
        """Raise Misconfigured."""
        _absent()

    async def fee_rate(self, target: int) -> int | None:
        """Raise Misconfigured."""
        _absent()
