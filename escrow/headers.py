"""The header chain that a chain server must prove: linked, worked for, rooted in our genesis.

A server can hide, but it cannot invent: every header links to the one before, meets the
target it names, rises above the median of the eleven before it, and the first one is the
network's genesis. On regtest and sandbox the target is fixed; elsewhere it stays below
the network's limit (the retarget rule is not recomputed). Headers lie in one byte array,
80 bytes each; a block's hash is the next header's `prev`.

Spec: Bitcoin's block headers, BIP 113 (median time past). Hashes in internal byte order.
"""

from itertools import pairwise
from typing import Final

from p2pnode.base.errors import InvalidRecord
from p2pnode.base.networks import Network
from p2pnode.base.ports import Tip
from p2pnode.base.transaction import Header, median_time

MAX_HEADERS: Final = 2_000_000
SIZE: Final = 80
_REGTEST_BITS: Final = 0x207FFFFF
_LIMITS: Final = {
    "main": 0x1D00FFFF,
    "testnet4": 0x1D00FFFF,
    "signet": 0x1E0377AE,
    "regtest": _REGTEST_BITS,
}
_MTP_SPAN: Final = 11


def _target(bits: int) -> int:
    return Header(bytes(72) + bits.to_bytes(4, "little") + bytes(4)).target


def split(run: bytes) -> list[Header]:
    """Cut a run of whole headers. Raises InvalidRecord."""
    if len(run) % SIZE:
        raise InvalidRecord("headers", "are not a multiple of 80 bytes")
    return [Header(run[i : i + SIZE]) for i in range(0, len(run), SIZE)]


def _work(run: bytes) -> int:
    return sum((1 << 256) // (header.target + 1) for header in split(run))


class HeaderChain:
    """Our one best chain of headers, from genesis on."""

    def __init__(self, network: Network) -> None:
        self._raw = bytearray()
        self._genesis = bytes.fromhex(network.genesis)[::-1]
        self._fixed = _REGTEST_BITS if network.bitcoin == "regtest" else None
        self._limit = _target(_LIMITS[network.bitcoin])

    @property
    def height(self) -> int:
        """Height of the last header; -1 while there is none."""
        return len(self._raw) // SIZE - 1

    def header(self, height: int) -> Header | None:
        """Return the header at `height`, or None outside the chain."""
        if not 0 <= height <= self.height:
            return None
        return Header(bytes(self._raw[height * SIZE : (height + 1) * SIZE]))

    def block_hash(self, height: int) -> bytes | None:
        """Return the block's hash, or None outside the chain."""
        if height < self.height:
            after = self.header(height + 1) if height >= 0 else None
            return after.prev if after else None
        last = self.header(height)
        return last.hash if last else None

    def merkle_root(self, height: int) -> bytes | None:
        """Return the root over the block's txids, or None outside the chain."""
        header = self.header(height)
        return header.merkle_root if header else None

    def mtp(self, height: int) -> int:
        """Return the median time past at `height`. Raises InvalidRecord outside the chain."""
        if not 0 <= height <= self.height:
            raise InvalidRecord("height", f"is not 0..{self.height}")
        return median_time(self._times(height + 1))

    def tip(self) -> Tip:
        """Return the last block. Raises InvalidRecord while there is none."""
        last = self.block_hash(self.height)
        if last is None:
            raise InvalidRecord("headers", "are empty")
        return Tip(self.height, last, self.mtp(self.height))

    def links(self, start: int, run: bytes) -> bool:
        """Tell whether the first header of `run` follows our block at `start` - 1."""
        first = split(run[:SIZE])[0]
        if start == 0:
            return first.hash == self._genesis
        return first.prev == self.block_hash(start - 1)

    def offer(self, start: int, run: bytes) -> int | None:
        """Take a run of headers from height `start`, if it makes no weaker chain than ours.

        Returns the lowest height that changed, or None if nothing did: all known already,
        or less work than ours has from there. Raises InvalidRecord; then nothing changed.
        """
        if not 0 <= start <= self.height + 1:
            raise InvalidRecord("height", f"{start} leaves a gap after {self.height}")
        if start + len(run) // SIZE > MAX_HEADERS:
            raise InvalidRecord("headers", f"are more than {MAX_HEADERS}")
        while run and self._raw[start * SIZE : (start + 1) * SIZE] == run[:SIZE]:
            start, run = start + 1, run[SIZE:]
        if not run:
            return None
        self._check(start, run)
        ours = bytes(self._raw[start * SIZE :])
        if ours and _work(run) < _work(ours):
            return None
        self._raw[start * SIZE :] = run
        return start

    def _times(self, end: int) -> list[int]:
        """Return the times of the up to eleven headers before height `end`."""
        found = [self.header(h) for h in range(max(0, end - _MTP_SPAN), end)]
        return [header.time for header in found if header]

    def _check(self, start: int, run: bytes) -> None:
        headers = split(run)
        if not self.links(start, run):
            raise InvalidRecord("prev", f"the header at height {start} does not link to ours")
        for n, (header, after) in enumerate(pairwise(headers)):
            if after.prev != header.hash:
                raise InvalidRecord("prev", f"the header at height {start + n + 1} does not link")
        times = self._times(start)
        for n, header in enumerate(headers):
            self._check_work(start + n, header)
            if times and header.time <= median_time(times):
                raise InvalidRecord("time", f"of the header at height {start + n} does not rise")
            times = [*times[1 - _MTP_SPAN :], header.time]

    def _check_work(self, height: int, header: Header) -> None:
        bits = int.from_bytes(header.raw[72:76], "little")
        if self._fixed is not None and bits != self._fixed:
            raise InvalidRecord("bits", f"of the header at height {height} are not the network's")
        if bits & 0x800000 or not 0 < header.target <= self._limit:
            raise InvalidRecord("bits", f"of the header at height {height} are out of bounds")
        if not header.has_work:
            raise InvalidRecord("nonce", f"the header at height {height} has no proof of work")
