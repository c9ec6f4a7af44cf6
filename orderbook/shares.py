"""A whole market split among the sources that send it, so that the slowest holds up nobody.

The place of an offer begins with its maker's key, which is as good as random, so equal
parts of the key space are nearly equal parts of the market, whatever a source says of it.
Whoever is idle takes the next part, but for the first second no more than his share, else one
that answers at once with nothing would be asked for all. When none is left, the part that has
been under way for longest is asked of him as well.
"""

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

PARTS: Final = 24
AGAIN_AFTER: Final = 1.0  # seconds under way, before a part is asked of another source too
MAX_TAKERS: Final = 3  # of one part at a time


@dataclass(eq=False, slots=True)
class Share:
    """A part [low, high) of the market; an empty `high` means no upper end."""

    low: bytes
    high: bytes
    since: float = 0.0  # when it was first given out
    takers: list[bytes] = field(default_factory=list)  # sources that are sending it


class Shares:
    """Which parts are still to be asked for, under way, or there."""

    def __init__(self, sources: int, now: float, parts: int = PARTS) -> None:
        ends = [b"", *((256 * n // parts).to_bytes(1, "big") for n in range(1, parts)), b""]
        self._waiting = [Share(low, high) for low, high in pairwise(ends)][::-1]
        self._away: list[Share] = []
        self._parts, self._sources, self._from = parts, sources, now
        self._given: Counter[bytes] = Counter()

    @property
    def done(self) -> bool:
        """Tell whether every part is there."""
        return not self._waiting and not self._away

    def take(self, source: bytes, now: float) -> Share | None:
        """Return a part to ask a source for, or None if there is none for it now."""
        fair = self._given[source] < -(-self._parts // max(1, self._sources))
        if self._waiting and (fair or now >= self._from + AGAIN_AFTER):
            share = self._waiting.pop()
            share.since = now
            share.takers = [source]
            self._given[source] += 1
            self._away.append(share)
            return share
        for share in self._away:  # the oldest first
            late = share.since + AGAIN_AFTER <= now and len(share.takers) < MAX_TAKERS
            if late and source not in share.takers:
                share.takers.append(source)
                return share
        return None

    def came(self, share: Share) -> None:
        """Note that all of a part is there."""
        if share in self._away:
            self._away.remove(share)

    def failed(self, share: Share, source: bytes) -> None:
        """Note that a source will not send a part: unless another does, it is asked for again."""
        if share in self._away:
            share.takers.remove(source)
            if not share.takers:
                self._away.remove(share)
                self._waiting.append(share)

    def left(self, source: bytes) -> None:
        """Note that a source is gone: the others' shares grow."""
        self._sources -= 1
        for share in list(self._away):
            if source in share.takers:
                self.failed(share, source)
