"""What a chain client remembers between two answers: one script's view, proven parts.

A pure memory with bounds. A script's sightings hold as long as its status stands and no
reorg has reached them; a merkle proof holds for the root it leads to, for good.
"""

from collections import OrderedDict
from typing import Final

from p2pnode.base.ports import Sighting

MAX_RAW_BYTES: Final = 32 * 1024 * 1024
MAX_PROOFS: Final = 20_000
Proof = tuple[tuple[bytes, ...], int]


class Watch:
    """One watched script: its last status, and what was found under that status."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.status: str | None = None
        self.notices = 0
        self.on: object = None  # the connection that knows of our interest
        self._found: tuple[str | None, tuple[Sighting, ...]] | None = None

    def recall(self) -> tuple[Sighting, ...] | None:
        """Return what was found if it still holds; nothing at all without a status."""
        if self.on is not None and self.status is None:
            return ()
        if self._found is not None and self._found[0] == self.status:
            return self._found[1]
        return None

    def remember(self, status: str | None, found: tuple[Sighting, ...]) -> None:
        """Keep what was found while the status was `status`."""
        self._found = (status, found)

    def forget_from(self, height: int) -> None:
        """Forget what a reorg from `height` on has put in doubt."""
        if self._found and any(s.height >= height for s in self._found[1]):
            self._found = None


class Memory:
    """Raw transactions and proofs, the oldest dropped first."""

    def __init__(self) -> None:
        self._raw: OrderedDict[bytes, bytes] = OrderedDict()
        self._raw_bytes = 0
        self._proofs: OrderedDict[tuple[bytes, bytes], Proof] = OrderedDict()

    def raw(self, txid: bytes) -> bytes | None:
        """Return a transaction kept before."""
        return self._raw.get(txid)

    def keep_raw(self, txid: bytes, raw: bytes) -> None:
        """Keep a transaction that hashes to `txid`."""
        if txid not in self._raw:
            self._raw[txid] = raw
            self._raw_bytes += len(raw)
        while self._raw_bytes > MAX_RAW_BYTES:
            self._raw_bytes -= len(self._raw.popitem(last=False)[1])

    def proof(self, txid: bytes, root: bytes) -> Proof | None:
        """Return the branch that led `txid` to `root` before."""
        return self._proofs.get((txid, root))

    def keep_proof(self, txid: bytes, root: bytes, proof: Proof) -> None:
        """Keep a branch that was checked."""
        self._proofs[txid, root] = proof
        if len(self._proofs) > MAX_PROOFS:
            self._proofs.popitem(last=False)
