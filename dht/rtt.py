"""How long a peer may take, from how long it took: RFC 6298, section 2, for each peer.

Two deadlines: after the soft one a peer no longer holds up a lookup, after the hard one the
question is lost. A peer not measured yet is judged by all others together.
"""

from collections import OrderedDict
from typing import Final

ALPHA: Final = 1 / 8  # weight of a new sample in the mean
BETA: Final = 1 / 4  # and in the mean deviation
SOFT_MAX: Final = 0.35  # seconds, all four
SOFT_MIN: Final = 0.03
HARD_MAX: Final = 1.0
HARD_MIN: Final = 0.5  # a busy process pauses longer than its network: RFC 6298 says 1 s
MAX_PEERS: Final = 4096


class Rtts:
    """Smoothed round-trip times, in seconds."""

    def __init__(self) -> None:
        self._peers: OrderedDict[bytes, tuple[float, float, int]] = OrderedDict()
        self._all: tuple[float, float] | None = None

    def observe(self, node_id: bytes, seconds: float) -> None:
        """Take the time between a question and its answer."""
        held = self._peers.get(node_id)
        mean, spread = _blend(held[:2] if held else None, seconds)
        self._peers[node_id] = (mean, spread, 0)
        self._peers.move_to_end(node_id)
        if len(self._peers) > MAX_PEERS:
            self._peers.popitem(last=False)
        self._all = _blend(self._all, seconds)

    def late(self, node_id: bytes) -> None:
        """Note that a question was lost: the next may take twice as long (section 5.5)."""
        if held := self._peers.get(node_id):
            self._peers[node_id] = (held[0], held[1], held[2] + 1)

    def mean(self, node_id: bytes) -> float | None:
        """Return the smoothed time, or None for a peer never measured."""
        held = self._peers.get(node_id)
        return held[0] if held else None

    def soft(self, node_id: bytes) -> float:
        """Return after how long a lookup goes on without the peer."""
        mean, spread, _ = self._of(node_id)
        return min(SOFT_MAX, max(SOFT_MIN, 1.25 * mean + 2 * spread))

    def hard(self, node_id: bytes) -> float:
        """Return after how long a question is lost."""
        mean, spread, lost = self._of(node_id)
        return min(HARD_MAX, max(HARD_MIN, mean + 4 * spread) * 2.0 ** min(lost, 4))

    def _of(self, node_id: bytes) -> tuple[float, float, int]:
        held = self._peers.get(node_id)
        if held is not None:
            return held
        mean, spread = self._all or (SOFT_MAX, SOFT_MAX)
        return mean, spread, 0


def _blend(held: tuple[float, float] | None, sample: float) -> tuple[float, float]:
    if held is None:
        return sample, sample / 2
    mean, spread = held
    return (1 - ALPHA) * mean + ALPHA * sample, (1 - BETA) * spread + BETA * abs(mean - sample)
