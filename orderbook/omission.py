"""Who withholds offers: a source that lacks for over two minutes what two others hold.

A source has shown that it holds an offer by a comparison after we had it, in which it did not
lack it. That says nothing of intent: a full disk and a wrong clock look the same. So it is
counted and named, and the book stays whole because several sources are asked.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

GRACE_S: Final = 120.0
STALE_S: Final = 1800.0  # a comparison this old says nothing any more
WITNESSES: Final = 2
MAX_SOURCES: Final = 64


@dataclass(frozen=True, slots=True)
class _Seen:
    at: float
    lacks: frozenset[bytes]


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
        self._seen[source] = _Seen(now, lacks)
        self._seen.move_to_end(source)
        if len(self._seen) > MAX_SOURCES:
            self._seen.popitem(last=False)

    def omitted(self, now: float) -> dict[bytes, int]:
        """Return for each source that withholds offers how many they are."""
        return {
            source: number
            for source, seen in self._seen.items()
            if (number := sum(1 for _ in self._withheld(source, seen, now)))
        }

    def news(self, now: float) -> int:
        """Return how many offers are withheld that were not counted before."""
        found = {
            (source, hashed)
            for source, seen in self._seen.items()
            for hashed in self._withheld(source, seen, now)
        }
        fresh = found - self._counted
        self._counted |= fresh
        return len(fresh)

    def _withheld(self, source: bytes, seen: _Seen, now: float) -> Iterable[bytes]:
        if seen.at + STALE_S <= now:
            return
        for hashed in seen.lacks:
            since = self._since.get(hashed)
            if since is None or seen.at < since + GRACE_S:
                continue
            holders = sum(
                1
                for other, theirs in self._seen.items()
                if other != source and since <= theirs.at and hashed not in theirs.lacks
            )
            if holders >= WITNESSES:
                yield hashed
