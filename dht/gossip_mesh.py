"""Whom a node passes a topic's messages on to at once (gossipsub v1.0 and v1.1, "Mesh").

    fewer than D_LOW      graft until there are D
    more than D_HIGH      prune until there are D: the best few stay, dialled ones among them
    below score 0         prune
    under D_OUT dialled   graft dialled ones
    every half minute     who brought nothing while others did gives his place to a better one
    full, a better GRAFT  the same

Pruned and pruning peers leave each other alone for the backoff. A subnet holds few places.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from dht.gossip_score import MESH

D: Final = 6
D_LOW: Final = 4
D_HIGH: Final = 12
D_SCORE: Final = 4  # kept by score when pruning
D_OUT: Final = 3  # named to us or dialled by us
PER_SUBNET: Final = 2
BACKOFF_S: Final = 60
LEAVE_BACKOFF_S: Final = 10
MAX_BACKOFF_S: Final = 600
SLACK_S: Final = 2  # until the other side has cleared its backoff too
CROSSING_S: Final = 2  # a GRAFT so soon after our PRUNE may have left before it came
MAX_BACKOFFS: Final = 1024
ROTATE_S: Final = 30.0
ROTATE: Final = 2  # places at a time
HEARD: Final = 10  # messages in that time, below which silence says nothing
SETTLED_S: Final = 10.0  # for which a member need not be good
BETTER: Final = 1.0  # by so much at least is he better who takes a member's place

Shuffle = Callable[[Sequence["Candidate"]], list["Candidate"]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A peer that takes part in the topic; `named` if it was named to us or dialled by us."""

    id: bytes
    score: float
    group: str | None
    named: bool


class Mesh:
    """One topic's mesh."""

    def __init__(self, now: float) -> None:
        self.members: dict[bytes, float] = {}  # since when
        self._backoff: dict[bytes, tuple[float, float]] = {}  # until when, since when
        self._came: Counter[bytes] = Counter()  # messages that a peer brought in time
        self._heard = 0  # messages accepted since the last rotation
        self._rotated_at = now

    def __len__(self) -> int:
        return len(self.members)

    def add(self, peer: bytes, now: float) -> None:
        """Take a peer in."""
        self.members.setdefault(peer, now)

    def remove(self, peer: bytes) -> None:
        """Let a peer go without a backoff: it has left by itself."""
        self.members.pop(peer, None)

    def prune(self, peer: bytes, now: float, backoff: float) -> None:
        """Let a peer go; nobody grafts until the backoff is over."""
        self.members.pop(peer, None)
        since = self._backoff.pop(peer, (0.0, now))[1]  # a GRAFT in between prolongs it
        self._backoff[peer] = (now + min(max(backoff, 1), MAX_BACKOFF_S), since)
        if len(self._backoff) > MAX_BACKOFFS:
            del self._backoff[next(iter(self._backoff))]

    def waits(self, peer: bytes, now: float) -> bool:
        """Tell whether a backoff is on."""
        return peer in self._backoff and self._backoff[peer][0] > now

    def early(self, peer: bytes, now: float) -> bool:
        """Tell whether a GRAFT breaks a backoff, other than by crossing its PRUNE."""
        return self.waits(peer, now) and self._backoff[peer][1] + CROSSING_S <= now

    def heard(self, *peers: bytes) -> None:
        """Count a message that was accepted, for those who brought it before we sent it on."""
        self._heard += 1
        self._came.update(peer for peer in peers if peer in self.members)

    def takes(self, who: Candidate, around: Sequence[Candidate], now: float) -> bool:
        """Tell whether a peer that grafts us may have a place."""
        fit = who.score >= MESH and not self.waits(who.id, now)
        return fit and self._room(who, self._groups(around))

    def full(self, who: Candidate) -> bool:
        """Tell whether there is no place left for a peer that grafts us."""
        return len(self.members) >= D_HIGH and not who.named

    def weakest(self, who: Candidate, around: Sequence[Candidate], now: float) -> bytes | None:
        """Return whose place a peer may have who was first with messages, if anybody's."""
        old = [c for c in around if self.members.get(c.id, now) <= now - SETTLED_S]
        least = min(old, key=lambda c: c.score, default=None)
        return least.id if least is not None and least.score + BETTER <= who.score else None

    def fill(
        self, order: Sequence[Candidate], around: Sequence[Candidate], now: float
    ) -> list[bytes]:
        """Take peers in until there are D; returns whom to GRAFT."""
        return self._take(order, around, D - len(self.members), now)

    def tend(
        self, around: Sequence[Candidate], now: float, shuffle: Shuffle
    ) -> tuple[list[bytes], list[bytes]]:
        """Do what a heartbeat does; returns whom to GRAFT and whom to PRUNE."""
        for peer in [p for p, (until, _) in self._backoff.items() if until + SLACK_S <= now]:
            del self._backoff[peer]
        present = {c.id for c in around}
        for peer in [p for p in self.members if p not in present]:
            self.remove(peer)
        pruned = [c.id for c in around if c.id in self.members and c.score < MESH]
        self._drop(pruned, now)
        grafted = self.fill(shuffle(around), around, now) if len(self.members) < D_LOW else []
        if len(self.members) > D_HIGH:
            surplus = self._surplus(around, shuffle)
            self._drop(surplus, now)
            pruned += surplus
        named = [c for c in around if c.named]
        lacking = D_OUT - sum(c.id in self.members for c in named)
        grafted += self._take(shuffle(named), around, lacking, now)
        if self._rotated_at + ROTATE_S <= now:
            silent, better = self._rotate(around, now, shuffle)
            pruned += silent
            grafted += better
        return grafted, pruned

    def _groups(self, around: Sequence[Candidate]) -> Counter[str]:
        return Counter(c.group for c in around if c.group and c.id in self.members)

    def _room(self, who: Candidate, groups: Counter[str]) -> bool:
        return who.group is None or groups[who.group] < PER_SUBNET

    def _take(
        self, order: Sequence[Candidate], around: Sequence[Candidate], count: int, now: float
    ) -> list[bytes]:
        groups = self._groups(around)
        taken: list[bytes] = []
        for who in order:
            if len(taken) >= count:
                break
            fit = who.score >= MESH and who.id not in self.members
            if fit and not self.waits(who.id, now) and self._room(who, groups):
                self.add(who.id, now)
                taken.append(who.id)
                if who.group:
                    groups[who.group] += 1
        return taken

    def _drop(self, peers: Sequence[bytes], now: float) -> None:
        for peer in peers:
            self.prune(peer, now, BACKOFF_S)

    def _surplus(self, around: Sequence[Candidate], shuffle: Shuffle) -> list[bytes]:
        """Return whom to let go of a mesh that is too large."""
        held = shuffle([c for c in around if c.id in self.members])
        held.sort(key=lambda c: -c.score)
        kept = held[:D_SCORE] + shuffle(held[D_SCORE:])[: D - D_SCORE]
        lacking = D_OUT - sum(c.named for c in kept)
        spare = [c for c in held if c.named and c not in kept][: max(0, lacking)]
        for who in spare:
            kept.remove(next(c for c in reversed(kept) if not c.named))
            kept.append(who)
        return [c.id for c in held if c not in kept]

    def _rotate(
        self, around: Sequence[Candidate], now: float, shuffle: Shuffle
    ) -> tuple[list[bytes], list[bytes]]:
        """Give places of those who bring nothing to others, the best first."""
        came, heard = self._came, self._heard
        self._came, self._heard, self._rotated_at = Counter(), 0, now
        if heard < HEARD:
            return [], []
        old = [c for c in around if self.members.get(c.id, now) <= now - SETTLED_S]
        silent = [c.id for c in shuffle(old) if not came[c.id]]
        others = sorted(shuffle(around), key=lambda c: -c.score)
        better = self._take(others, around, min(ROTATE, len(silent)), now)
        spare = max(0, len(self.members) - len(better) - D)  # places that others may want
        leaving = silent[: max(len(better), min(spare, ROTATE))]
        self._drop(leaving, now)
        return leaving, better
