"""The iterative lookup as a pure core: a sliding window over one or more disjoint paths.

Kademlia (Maymounkov, Mazières 2002, section 2.3) with its lock-step rounds replaced: `ALPHA`
questions are always in flight, a peer that outlives its soft deadline frees its place but
still counts when it answers, and as soon as the nearest `ALPHA` known have answered, all of
the k nearest are asked at once. The lookup ends when the k nearest known have answered or
failed, or earlier with `quorum` good answers.

Disjoint paths are S/Kademlia's (Baumgart, Mies 2007, section 4.4): the first contacts are
dealt out, what a path learns stays on it, and nobody is asked twice, so an adversary on one
path cannot steer the others. Of peers in one subnet three count at most.

    ask(now) ──▶ Question ──▶ answer(node, peers) | fail(node) ──▶ ask(now) … done
"""

from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from dht.endpoint import Peer
from dht.keys import distance
from p2pnode.base.identity import dht_id

ALPHA: Final = 5
MAX_ASKED: Final = 128  # peers that one lookup may contact, invented ones included
MAX_PER_SUBNET: Final = 3  # among the nearest that a path considers

GroupOf = Callable[[Peer], str | None]  # the subnet a peer counts for; None: no cap


@dataclass(frozen=True, slots=True)
class Question:
    """Ask this peer, `depth` hops away (1: our own contact), now."""

    peer: Peer
    depth: int
    store: bool = False  # a placement: give it the record as well


@dataclass(slots=True)
class _Known:
    peer: Peer
    distance: int
    depth: int
    group: str | None
    path: int = -1  # who asked it; -1: nobody yet
    soft_at: float = 0.0  # it holds a place in the window until then
    answered: bool = False
    failed: bool = False

    @property
    def waiting(self) -> bool:
        return self.path >= 0 and not self.answered and not self.failed


@dataclass(slots=True)
class _Path:
    number: int
    width: int
    names: list[tuple[int, bytes]] = field(default_factory=list)
    members: set[bytes] = field(default_factory=set)


class Lookup:
    """One search for `target`, begun with `start`, never asking `own`."""

    def __init__(
        self,
        target: bytes,
        start: Iterable[Peer],
        *,
        own: bytes,
        k: int,
        alpha: int = ALPHA,
        paths: int = 1,
        quorum: int = 0,
        group_of: GroupOf = lambda _peer: None,
    ) -> None:
        self.target, self.k = target, k
        self._own, self._alpha, self._quorum = own, alpha, quorum
        self._group_of = group_of
        self._known: dict[bytes, _Known] = {}
        self._names: list[tuple[int, bytes]] = []  # everybody, nearest first
        self._window: set[bytes] = set()  # asked, within the soft deadline
        self._asked = 0
        self._good = 0
        begun = sorted(start, key=lambda p: distance(dht_id(p.node_id), target))
        count = max(1, min(paths, len(begun)))
        self._paths = [_Path(n, -(-alpha // count)) for n in range(count)]
        for index, peer in enumerate(begun):
            self._learn(peer, 1, self._paths[index % count])

    # ------------------------------------------------------------------ what is known

    @property
    def done(self) -> bool:
        """Tell whether nothing more is worth asking or waiting for."""
        if self._quorum and self._good >= self._quorum:
            return True
        return all(self._path_done(path) for path in self._paths)

    @property
    def converged(self) -> bool:
        """Tell whether the nearest known of every path have answered."""
        return all(self._near(path) for path in self._paths)

    @property
    def depth(self) -> int:
        """Return how many hops the farthest peer that answered is away."""
        return max((x.depth for x in self._known.values() if x.answered), default=0)

    @property
    def asked(self) -> int:
        """Return how many peers were asked."""
        return self._asked

    def distance_of(self, node_id: bytes) -> int:
        """Return a known peer's distance from the target."""
        return self._known[node_id].distance

    def closest(self) -> list[Peer]:
        """Return the peers that answered, nearest first."""
        everyone = (self._known[node_id] for _, node_id in self._names)
        return [known.peer for known in everyone if known.answered]

    def shortlist(self) -> list[Peer]:
        """Return the k nearest known that have not failed, asked or not, nearest first."""
        return [self._known[node_id].peer for node_id in self._capped(self._names)]

    # ------------------------------------------------------------------ the window

    def ask(self, now: float, wait: Callable[[bytes], float]) -> list[Question]:
        """Return whom to ask now; `wait` gives a peer's soft deadline in seconds."""
        for node_id in [n for n in self._window if self._soft_at(n) <= now]:
            self._window.discard(node_id)
        if self._quorum and self._good >= self._quorum:
            return []
        return [q for path in self._paths for q in self._fill(path, now, wait)]

    def wake_at(self) -> float:
        """Return when the next soft deadline passes: `ask` may then have more."""
        return min(map(self._soft_at, self._window), default=float("inf"))

    def answer(self, node_id: bytes, named: Iterable[Peer], *, good: bool = False) -> None:
        """Take an answer and the peers it names; `good` counts towards the quorum."""
        known = self._known[node_id]
        if known.failed or known.answered:
            return
        known.answered = True
        self._window.discard(node_id)
        self._good += good
        for peer in named:
            self._learn(peer, known.depth + 1, self._paths[known.path])

    def fail(self, node_id: bytes) -> None:
        """Take note that a peer did not answer, or not by the protocol."""
        known = self._known[node_id]
        known.failed, known.answered = True, False
        self._window.discard(node_id)

    def _fill(self, path: _Path, now: float, wait: Callable[[bytes], float]) -> Iterator[Question]:
        width = self.k if self._near(path) else path.width
        busy = sum(self._known[n].path == path.number for n in self._window)
        for node_id in list(self._capped(path.names)):
            known = self._known[node_id]
            if busy >= width or self._asked >= MAX_ASKED:
                return
            if known.path < 0:
                known.path, known.soft_at = path.number, now + wait(node_id)
                self._window.add(node_id)
                self._asked += 1
                busy += 1
                yield Question(known.peer, known.depth)

    # ------------------------------------------------------------------ bookkeeping

    def _learn(self, peer: Peer, depth: int, path: _Path) -> None:
        node_id = peer.node_id
        if node_id == self._own or node_id in path.members:
            return
        known = self._known.get(node_id)
        if known is None:
            away = distance(dht_id(node_id), self.target)
            known = self._known[node_id] = _Known(peer, away, depth, self._group_of(peer))
            insort(self._names, (away, node_id))
        known.depth = min(depth, known.depth) if known.path < 0 else known.depth
        path.members.add(node_id)
        insort(path.names, (known.distance, node_id))

    def _soft_at(self, node_id: bytes) -> float:
        return self._known[node_id].soft_at

    def _capped(self, names: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
        """Yield the first k that have not failed, three of a subnet at most."""
        crowd: Counter[str] = Counter()
        count = 0
        for _, node_id in names:
            known = self._known[node_id]
            if known.failed:
                continue
            if known.group is not None:
                crowd[known.group] += 1
                if crowd[known.group] > MAX_PER_SUBNET:
                    continue
            yield node_id
            count += 1
            if count == self.k:
                return

    def _near(self, path: _Path) -> bool:
        """Tell whether the nearest that the path knows have answered, none but late ones open."""
        for count, node_id in enumerate(self._capped(path.names)):
            known = self._known[node_id]
            if count >= self._alpha:
                break
            if known.path < 0 or node_id in self._window:
                return False
        return True

    def _path_done(self, path: _Path) -> bool:
        out = self._asked >= MAX_ASKED
        for node_id in self._capped(path.names):
            known = self._known[node_id]
            if known.waiting or (known.path < 0 and not out):
                return False
        return True
