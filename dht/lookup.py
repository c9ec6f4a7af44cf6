"""The iterative lookup as a pure core: a sliding window over one or more disjoint paths.

Kademlia (Maymounkov, Mazières 2002, section 2.3) with its lock-step rounds replaced: `ALPHA`
questions are always in flight, a peer that outlives its soft deadline frees its place and
its seat among the k nearest but still counts when it answers, and as soon as the nearest
`ALPHA` known have answered, all of the k nearest are asked at once. The lookup ends when the
k nearest known have answered or failed, or earlier with `quorum` good answers.

Disjoint paths are S/Kademlia's (Baumgart, Mies 2007, section 4.4): the first contacts are
dealt out, what a path learns stays on it, each has its share of `MAX_ASKED`, and nobody is
asked twice, so an adversary on one path cannot steer the others. An id cannot lie but the
addresses named with it can: who failed at one address is asked at another that a second
teller named, `MAX_TRIES` times a path. Of peers in one subnet three count at most.

    ask(now) ──▶ Question ──▶ answer(node, peers) | fail(node) ──▶ ask(now) … done
"""

from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain, islice
from typing import Final

from dht.endpoint import MAX_ADDRS, Peer
from dht.keys import distance
from p2pnode.base.identity import dht_id

ALPHA: Final = 5
MAX_ASKED: Final = 128  # questions of one lookup, to invented peers included
MAX_PER_SUBNET: Final = 3  # among the nearest that a path considers
MAX_TRIES: Final = 3  # of one peer on one path, each at addresses not tried yet
MAX_WORDS: Final = 2 * MAX_ADDRS  # addresses that a path keeps of one peer

GroupOf = Callable[[Peer], str | None]  # the subnet a peer counts for; None: no cap
Wait = Callable[[bytes], float]  # a peer's soft deadline in seconds


@dataclass(frozen=True, slots=True)
class Question:
    """Ask this peer, `depth` hops away (1: our own contact), now."""

    peer: Peer
    depth: int
    store: bool = False  # a placement: give it the record as well


class _State(Enum):
    NEW = "not asked"
    ASKED = "within the soft deadline"
    LATE = "past it"
    ANSWERED = "answered"
    FAILED = "lost, at the addresses tried"


_WAITING: Final = (_State.ASKED, _State.LATE)


@dataclass(slots=True, eq=False)
class _Known:
    peer: Peer
    distance: int
    depth: int
    group: str | None
    state: _State = _State.NEW
    path: int = -1  # who asked it last
    soft_at: float = 0.0
    wide: bool = False  # asked with all of the k nearest: holds no place in the window
    good: bool = False
    tried: frozenset[str] = frozenset()


_Names = list[tuple[int, _Known]]  # nearest first


@dataclass(slots=True)
class _Path:
    number: int
    width: int
    names: _Names = field(default_factory=list)
    words: dict[bytes, tuple[str, ...]] = field(default_factory=dict)  # addresses named on it
    tries: Counter[bytes] = field(default_factory=Counter)
    asked: int = 0


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
        self._names: _Names = []
        self._window: set[_Known] = set()  # whoever is ASKED
        self._asked = 0
        self._good = 0
        begun = {peer.node_id: peer for peer in start if peer.node_id != own}
        nearest = sorted(begun.values(), key=lambda p: distance(dht_id(p.node_id), target))
        count = max(1, min(paths, len(nearest)))
        self._share = MAX_ASKED // count
        self._paths = [_Path(n, -(-alpha // count)) for n in range(count)]
        for index, peer in enumerate(nearest):
            self._learn(peer, 1, self._paths[index % count])

    # ------------------------------------------------------------------ what is known

    @property
    def done(self) -> bool:
        """Tell whether nothing more is worth asking or waiting for."""
        return self._enough or all(map(self._path_done, self._paths))

    @property
    def converged(self) -> bool:
        """Tell whether the nearest known of every path have answered."""
        return all(map(self._near, self._paths))

    @property
    def depth(self) -> int:
        """Return how many hops the farthest peer that answered is away."""
        return max((x.depth for x in self._known.values() if x.state is _State.ANSWERED), default=0)

    @property
    def asked(self) -> int:
        """Return how many questions were asked."""
        return self._asked

    def distance_of(self, node_id: bytes) -> int:
        """Return a known peer's distance from the target."""
        return self._known[node_id].distance

    def closest(self) -> list[Peer]:
        """Return the peers that answered, nearest first."""
        return [known.peer for _, known in self._names if known.state is _State.ANSWERED]

    def shortlist(self) -> list[Peer]:
        """Return the k nearest known that have not failed, nearest first.

        Once the lookup is done whoever did not answer is left out: nobody will ask it.
        """
        over = self.done
        crowd: dict[str, int] = {}
        found = []
        for _, known in self._names:
            if known.state is not _State.ANSWERED and (over or known.state is _State.FAILED):
                continue
            if known.group is None or not _crowded(known.group, crowd):
                found.append(known.peer)
                if len(found) == self.k:
                    break
        return found

    # ------------------------------------------------------------------ the window

    def ask(self, now: float, wait: Wait) -> list[Question]:
        """Return whom to ask now; `wait` gives a peer's soft deadline in seconds."""
        for known in [x for x in self._window if x.soft_at <= now]:
            known.state = _State.LATE
            self._window.discard(known)
        if self._enough:
            return []
        return [q for path in self._paths for q in self._fill(path, now, wait)]

    def wake_at(self) -> float:
        """Return when the next soft deadline passes: `ask` may then have more."""
        return min((known.soft_at for known in self._window), default=float("inf"))

    def answer(self, node_id: bytes, named: Iterable[Peer], *, good: bool = False) -> None:
        """Take an answer and the peers it names; `good` counts towards the quorum."""
        known = self._known[node_id]
        if known.state not in _WAITING:
            return
        known.state, known.good = _State.ANSWERED, good
        self._window.discard(known)
        self._good += good
        for peer in named:
            self._learn(peer, known.depth + 1, self._paths[known.path])

    def fail(self, node_id: bytes) -> None:
        """Take note that a peer did not answer, or not by the protocol."""
        known = self._known[node_id]
        if known.state is _State.NEW:
            return
        self._window.discard(known)
        self._good -= known.good
        known.state, known.good = _State.FAILED, False

    def _fill(self, path: _Path, now: float, wait: Wait) -> Iterator[Question]:
        """Ask the path's nearest: all k at once if it is near, else as its window has room.

        Late ones are among the k; the next in line, who take their seats, use the window.
        """
        busy = sum(x.path == path.number and not x.wide for x in self._window)
        seats = self._seats(path)
        first = list(islice(seats, self._alpha))
        near = all(known.state is _State.ANSWERED for _, known in first)
        if busy >= path.width and not near:
            return
        for rank, known in chain(first, seats):
            if known.state is _State.ANSWERED or known.state is _State.ASKED:
                continue
            wide = near and rank < self.k
            if path.asked >= self._share or (busy >= path.width and not wide):
                return
            busy += not wide
            yield self._question(path, known, now + wait(known.peer.node_id), wide=wide)

    def _question(self, path: _Path, known: _Known, soft_at: float, *, wide: bool) -> Question:
        node_id = known.peer.node_id
        addrs = tuple(a for a in path.words[node_id] if a not in known.tried)[:MAX_ADDRS]
        known.peer = Peer(node_id, addrs)
        known.tried = known.tried.union(addrs)
        known.state, known.path, known.soft_at, known.wide = (
            _State.ASKED, path.number, soft_at, wide
        )  # fmt: skip
        self._window.add(known)
        self._asked += 1
        path.asked += 1
        path.tries[node_id] += 1
        return Question(known.peer, known.depth)

    # ------------------------------------------------------------------ bookkeeping

    @property
    def _enough(self) -> bool:
        return 0 < self._quorum <= self._good

    def _learn(self, peer: Peer, depth: int, path: _Path) -> None:
        node_id = peer.node_id
        if node_id == self._own:
            return
        known = self._known.get(node_id)
        if known is None:
            away = distance(dht_id(node_id), self.target)
            known = self._known[node_id] = _Known(peer, away, depth, self._group_of(peer))
            insort(self._names, (away, known))
        if known.state is _State.NEW:
            known.depth = min(depth, known.depth)
        words = path.words.get(node_id)
        if words is None:
            insort(path.names, (known.distance, known))
            path.words[node_id] = peer.addrs
        elif words != peer.addrs:
            path.words[node_id] = _joined(words, peer.addrs)

    def _open(self, path: _Path, known: _Known) -> bool:
        """Tell whether the path may ask this one that failed again, at another address."""
        node_id = known.peer.node_id
        if path.tries[node_id] >= MAX_TRIES:
            return False
        return not known.tried.issuperset(path.words[node_id])

    def _live(self, path: _Path) -> Iterator[_Known]:
        """Yield whom a path knows and has not lost, nearest first, three of a subnet at most."""
        crowd: dict[str, int] = {}
        for _, known in path.names:
            if known.state is _State.FAILED and not self._open(path, known):
                continue
            if known.group is None or not _crowded(known.group, crowd):
                yield known

    def _seats(self, path: _Path) -> Iterator[tuple[int, _Known]]:
        """Yield the k nearest that are not late, each with its rank among all."""
        count = 0
        for rank, known in enumerate(self._live(path)):
            if known.state is not _State.LATE:
                yield rank, known
                count += 1
                if count == self.k:
                    return

    def _near(self, path: _Path) -> bool:
        """Tell whether the nearest that are not late have answered."""
        first = islice(self._seats(path), self._alpha)
        return all(known.state is _State.ANSWERED for _, known in first)

    def _path_done(self, path: _Path) -> bool:
        out = path.asked >= self._share
        return not any(
            known.state in _WAITING or (known.state is not _State.ANSWERED and not out)
            for known in islice(self._live(path), self.k)
        )


def _crowded(group: str, crowd: dict[str, int]) -> bool:
    """Count one more of a subnet; tell whether it has its share already."""
    count = crowd[group] = crowd.get(group, 0) + 1
    return count > MAX_PER_SUBNET


def _joined(words: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    """Join what two tellers say: nobody's word pushes the first of another's far back."""
    joined = dict.fromkeys((*words[:1], *others[:1], *words[1:], *others[1:]))
    return tuple(joined)[:MAX_WORDS]
