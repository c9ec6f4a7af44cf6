"""Who withholds offers: a source that lacks for over two minutes what two others hold.

A source has shown that it holds an offer by a comparison after we had it, in which it did not
lack it. That says nothing of intent: a full disk and a wrong clock look the same. So it is
counted and named, and the book stays whole because several sources are asked.
"""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import nsmallest
from typing import Final

GRACE_S: Final = 120.0
STALE_S: Final = 1800.0  # a comparison this old says nothing any more
WITNESSES: Final = 2
MAX_SOURCES: Final = 64
MAX_LACKS: Final = 1000  # of one source that are remembered; one that lacks more is no witness


@dataclass(frozen=True, slots=True)
class _Seen:
    at: float
    lacks: frozenset[bytes]
    whole: bool  # these are all that it lacks


class Omissions:
    """What the sources of one market have lacked when last compared with us."""

    def __init__(self) -> None:
        self._since: dict[bytes, float] = {}  # hash of an offer -> when we had it
        self._seen: OrderedDict[bytes, _Seen] = OrderedDict()
        self._counted: set[tuple[bytes, bytes]] = set()

    def have(self, hashes: Iterable[bytes], now: float) -> None:
        """Note what we hold now; what is not among it any more is forgotten."""
        self._since = {hashed: self._since.get(hashed, now) for hashed in hashes}
        self._counted = {pair for pair in self._counted if pair[1] in self._since}

    def compared(self, source: bytes, lacks: frozenset[bytes], now: float) -> None:
        """Note what a source lacked in a comparison just now."""
        kept = frozenset(nsmallest(MAX_LACKS, lacks))
        self._seen[source] = _Seen(now, kept, len(kept) == len(lacks))
        self._seen.move_to_end(source)
        if len(self._seen) > MAX_SOURCES:
            self._seen.popitem(last=False)

    def omitted(self, now: float) -> dict[bytes, int]:
        """Return for each source that withholds offers how many they are."""
        found = self._withheld(now)
        return {source: len(hashes) for source, hashes in found.items()}

    def news(self, now: float) -> int:
        """Return how many offers are withheld that were not counted before."""
        pairs = {
            (source, hashed) for source, hashes in self._withheld(now).items() for hashed in hashes
        }
        fresh = pairs - self._counted
        self._counted |= fresh
        return len(fresh)

    def _withheld(self, now: float) -> dict[bytes, list[bytes]]:
        """Return what each source withholds, in one pass over what they lack.

        How many hold an offer is how many were compared since we had it, less those of them
        that lacked it; a source that lacks it is none of the others.
        """
        witnesses = [seen for seen in self._seen.values() if seen.whole]
        lacking: dict[bytes, list[float]] = {}  # hash -> when each witness lacked it
        for seen in self._seen.values():
            for hashed in seen.lacks:
                lacking.setdefault(hashed, []).extend([seen.at] if seen.whole else [])
        times = sorted(seen.at for seen in witnesses)
        missed = set[bytes]()
        for hashed, lacked in lacking.items():
            since = self._since.get(hashed)
            if since is None:
                continue
            compared = len(times) - bisect_left(times, since)
            if compared - sum(at >= since for at in lacked) >= WITNESSES:
                missed.add(hashed)
        found = {}
        for source, seen in self._seen.items():
            if seen.at + STALE_S <= now:
                continue
            late = [h for h in missed & seen.lacks if seen.at >= self._since[h] + GRACE_S]
            if late:
                found[source] = late
        return found
