"""What two holders of a key have in common, found without sending it.

Range-based set reconciliation (Meyer 2023, "Range-Based Set Reconciliation"): records are
ordered by place (owner || id); a range's fingerprint is the hash of the sum of its records'
hashes, so it can be compared at once, and a range that differs is asked for again in parts.

    digest(low, high) -> [[until, count, fingerprint], …]      parts of [low, high)

An empty `high` means no upper bound; the parts follow each other and end at `high`.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord

PARTS: Final = 16  # of one answer
FEW: Final = 8  # records of a range that is not worth parting
FINGERPRINT_BYTES: Final = 16
MAX_PLACE_BYTES: Final = 64  # an owner of 32 bytes, an id of 32 at most
MAX_COUNT: Final = 1 << 20

Item = tuple[bytes, bytes]  # place (owner || id), SHA-256 of the record


@dataclass(frozen=True, slots=True)
class Part:
    """The records from the end of the part before up to `until`, which it leaves out."""

    until: bytes
    count: int
    fingerprint: bytes


def fingerprint(hashes: Iterable[bytes]) -> bytes:
    """Return 16 bytes that two equal sets of record hashes share, in whatever order."""
    total = count = 0
    for hashed in hashes:
        total += int.from_bytes(hashed, "big")
        count += 1
    summed = (total % (1 << 256)).to_bytes(32, "big") + count.to_bytes(4, "big")
    return hashlib.sha256(summed).digest()[:FINGERPRINT_BYTES]


def parts(items: Sequence[Item], low: bytes, high: bytes) -> list[Part]:
    """Part what we hold of [low, high), `items` being in order of place."""
    held = inside(items, low, high)
    size = len(held) if len(held) <= FEW else -(-len(held) // PARTS)
    found = []
    for start in range(0, len(held), max(1, size)):
        chunk, after = held[start : start + size], held[start + size : start + size + 1]
        until = after[0][0] if after else high
        found.append(Part(until, len(chunk), fingerprint(hashed for _, hashed in chunk)))
    return found or [Part(high, 0, fingerprint(()))]


def differing(
    items: Sequence[Item], low: bytes, told: Sequence[Part]
) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield (low, high, their count) of each part in which ours is another set."""
    for part in told:
        ours = inside(items, low, part.until)
        if part.fingerprint != fingerprint(hashed for _, hashed in ours):
            yield low, part.until, part.count
        low = part.until


def between(place: bytes, low: bytes, high: bytes) -> bool:
    """Tell whether a place lies in [low, high)."""
    return low <= place and (not high or place < high)


def parts_out(found: Sequence[Part]) -> tuple[tuple[bytes, int, bytes], ...]:
    """Return parts as they travel."""
    return tuple((part.until, part.count, part.fingerprint) for part in found)


def parts_in(value: object, low: bytes, high: bytes) -> list[Part]:
    """Parse the answer to digest(low, high). Raises InvalidRecord."""
    told = []
    for entry in wire.items("parts", value, PARTS):
        until, count, hashed = wire.fields("part", entry, 3)
        wire.blob("part.until", until, MAX_PLACE_BYTES)
        wire.within("part.count", count, 0, MAX_COUNT)
        wire.exact("part.fingerprint", hashed, FINGERPRINT_BYTES)
        told.append(Part(until, count, hashed))
    ends = [low, *(part.until for part in told)]
    rising = all(a < b for a, b in pairwise(ends if high else ends[:-1]))
    if not told or not rising or told[-1].until != high:
        raise InvalidRecord("parts", "do not follow each other from the low to the high end")
    return told


def inside(items: Sequence[Item], low: bytes, high: bytes) -> Sequence[Item]:
    """Return those of `items`, which are in order of place, that lie in [low, high)."""
    start = bisect_left(items, (low, b""))
    return items[start : bisect_left(items, (high, b"")) if high else len(items)]
