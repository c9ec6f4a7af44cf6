"""What a node thinks of a gossiping peer (gossipsub v1.1, "Peer Scoring", reduced).

    score = first - 10 * invalid^2 - 10 * max(0, faults - 2)^2

`first` counts messages that the peer was first to deliver (P2), `invalid` those that were
rejected (P4), `faults` GRAFTs before their time and broken promises (P7). Each fades by
half in its time. Scores are kept after the peer has gone, so that coming again clears none.
Mesh delivery (P3) is no penalty here, since how many offers a market sees is not known: the
mesh rotates instead (`dht.gossip_mesh`). Neither is colocation (P6): subnets have caps.
"""

from collections import OrderedDict
from typing import Final

MAX_MARKS: Final = 4096
FIRST_CAP: Final = 20.0
FIRST_HALF_S: Final = 300.0
INVALID_HALF_S: Final = 600.0
FAULTS_HALF_S: Final = 300.0
FREE_FAULTS: Final = 2.0
INVALID_WEIGHT: Final = -10.0
FAULTS_WEIGHT: Final = -10.0
FADED: Final = 0.01

MESH: Final = 0.0  # below it a peer leaves the mesh
GOSSIP: Final = -20.0  # below it nothing is offered to a peer nor asked of it
PUBLISH: Final = -40.0  # below it our own messages are not sent to it
CLOSED: Final = -80.0  # below it its streams are closed, and refused while that lasts


class Mark:
    """One peer's counters."""

    __slots__ = ("_at", "_faults", "_first", "_invalid")

    def __init__(self, now: float) -> None:
        self._first = self._invalid = self._faults = 0.0
        self._at = now

    def delivered(self, now: float) -> None:
        """Count a valid message that this peer brought first."""
        self._fade(now)
        self._first = min(FIRST_CAP, self._first + 1)

    def lied(self, now: float, n: float = 1.0) -> None:
        """Count messages that were rejected."""
        self._fade(now)
        self._invalid += n

    def erred(self, now: float, n: float = 1.0) -> None:
        """Count faults of behaviour."""
        self._fade(now)
        self._faults += n

    def score(self, now: float) -> float:
        """Return the score."""
        self._fade(now)
        faults = max(0.0, self._faults - FREE_FAULTS)
        return self._first + INVALID_WEIGHT * self._invalid**2 + FAULTS_WEIGHT * faults**2

    def blank(self, now: float) -> bool:
        """Tell whether nothing is left to remember."""
        self._fade(now)
        return not (self._first or self._invalid or self._faults)

    def _fade(self, now: float) -> None:
        spent = now - self._at
        if spent <= 0:
            return
        self._at = now
        self._first = _faded(self._first, spent, FIRST_HALF_S)
        self._invalid = _faded(self._invalid, spent, INVALID_HALF_S)
        self._faults = _faded(self._faults, spent, FAULTS_HALF_S)


def _faded(value: float, spent: float, half: float) -> float:
    left: float = value * 0.5 ** (spent / half)
    return left if left > FADED else 0.0


class Marks:
    """The counters of everybody met; those longest untouched are forgotten first."""

    def __init__(self) -> None:
        self._held: OrderedDict[bytes, Mark] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def of(self, peer: bytes, now: float) -> Mark:
        """Return a peer's counters."""
        mark = self._held.get(peer)
        if mark is None:
            mark = self._held[peer] = Mark(now)
            if len(self._held) > MAX_MARKS:
                self._held.popitem(last=False)
        else:
            self._held.move_to_end(peer)
        return mark

    def score(self, peer: bytes, now: float) -> float:
        """Return a peer's score, 0 for one never met."""
        mark = self._held.get(peer)
        return 0.0 if mark is None else mark.score(now)
