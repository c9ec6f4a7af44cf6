"""The iterative lookup as a pure core: a sliding window over one or more disjoint paths.

Kademlia (Maymounkov, Mazières 2002, section 2.3) with its lock-step rounds replaced: `ALPHA`
questions are always in flight, a peer that outlives its soft deadline frees its place and
its seat among the k nearest but still counts when it answers, and as soon as the nearest
`ALPHA` known have answered, all of the k nearest are asked at once. The lookup ends when the
k nearest known have answered or failed, or earlier with `quorum` good answers.

Disjoint paths (`dht.paths`): the first contacts are dealt out, what a path learns stays on it,
each has its share of `MAX_ASKED`, and nobody is asked twice, unless he failed and another
teller names another address. So an adversary on one path cannot steer the others.

    ask(now) ──▶ Question ──▶ answer(node, peers) | fail(node) ──▶ ask(now) … done
"""

from bisect import insort
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final

from dht.endpoint import Peer
from dht.keys import distance
from dht.paths import MAX_PER_SUBNET, NOWHERE, GroupOf, Known, Path, Seat, State
from p2pnode.base.identity import dht_id

ALPHA: Final = 5
MAX_ASKED: Final = 128  # questions of one lookup, to invented peers included

Wait = Callable[[bytes], float]  # a peer's soft deadline in seconds


@dataclass(frozen=True, slots=True)
class Question:
    """Ask this peer, `depth` hops away (1: our own contact), now."""

    peer: Peer
    depth: int
    store: bool = False  # a placement: give it the record as well


class Lookup:
    """One search for `target`, begun with `start`, never asking `own`.

    With a distance `sure` it is in haste: whoever is within is asked at once, being among
    the k closest, and most of the nearest `alpha` need have answered, not all.
    """

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
        sure: int = -1,
        group_of: GroupOf = lambda _peer: None,
    ) -> None:
        self.target, self.k = target, k
        self._own, self._alpha, self._quorum, self._sure = own, alpha, quorum, sure
        self._group_of = group_of
        self._known: dict[bytes, Known] = {}
        self._names: list[tuple[int, Known]] = []  # nearest first
        self._window: set[Known] = set()  # whoever is ASKED
        self._asked = 0
        self._good = 0
        begun = {peer.node_id: peer for peer in start if peer.node_id != own}
        nearest = sorted(begun.values(), key=lambda p: distance(dht_id(p.node_id), target))
        count = max(1, min(paths, len(nearest)))
        width, share = -(-alpha // count), MAX_ASKED // count
        need = alpha if sure < 0 else alpha // 2 + 1
        self._paths = [Path(n, k, alpha, width, share, need) for n in range(count)]
        # Whoever is beyond the k nearest begins the last path: liars may fill a bucket of ours.
        dealt = count if len(nearest) <= k or count == 1 else count - 1
        for index, peer in enumerate(nearest):
            number = index % dealt if index < k or dealt == count else dealt
            self._learn(peer, 1, self._paths[number])

    # ------------------------------------------------------------------ what is known

    @property
    def done(self) -> bool:
        """Tell whether nothing more is worth asking or waiting for."""
        return self._enough or all(path.done for path in self._paths)

    @property
    def converged(self) -> bool:
        """Tell whether the nearest known of every path have answered, in haste most of them."""
        return all(path.near for path in self._paths)

    @property
    def depth(self) -> int:
        """Return how many hops the farthest peer that answered is away."""
        return max((x.depth for x in self._known.values() if x.state is State.ANSWERED), default=0)

    @property
    def asked(self) -> int:
        """Return how many questions were asked."""
        return self._asked

    def distance_of(self, node_id: bytes) -> int:
        """Return a known peer's distance from the target."""
        return self._known[node_id].distance

    def closest(self) -> list[Peer]:
        """Return the peers that answered, nearest first."""
        return [known.peer for _, known in self._names if known.state is State.ANSWERED]

    def shortlist(self) -> list[Peer]:
        """Return the k nearest known that have not failed, nearest first.

        Once the lookup is done whoever did not answer is left out: nobody will ask it.
        """
        over = self.done
        crowd: dict[str, int] = {}
        found = []
        for _, known in self._names:
            if known.state is not State.ANSWERED and (over or known.state is State.FAILED):
                continue
            if known.group is not None:
                crowd[known.group] = crowd.get(known.group, 0) + 1
                if crowd[known.group] > MAX_PER_SUBNET:
                    continue
            found.append(known.peer)
            if len(found) == self.k:
                break
        return found

    # ------------------------------------------------------------------ the window

    def ask(self, now: float, wait: Wait) -> list[Question]:
        """Return whom to ask now; `wait` gives a peer's soft deadline in seconds."""
        for known in [x for x in self._window if x.soft_at <= now]:
            known.state = State.LATE
            self._window.discard(known)
        if self._enough:
            return []
        return [q for path in self._paths for q in self._fill(path, now, wait)]

    def wake_at(self) -> float:
        """Return when the next soft deadline passes: `ask` may then have more."""
        return min((known.soft_at for known in self._window), default=float("inf"))

    def answer(self, node_id: bytes, named: Iterable[Peer], *, good: bool = False) -> None:
        """Take an answer and the peers it names; `good` counts towards the quorum.

        An answer counts however late it is, even after `fail`.
        """
        known = self._known[node_id]
        if known.state is State.NEW or known.state is State.ANSWERED:
            return
        known.state, known.good = State.ANSWERED, good
        self._window.discard(known)
        self._good += good
        for peer in named:
            self._learn(peer, known.depth + 1, self._paths[known.path])

    def fail(self, node_id: bytes) -> None:
        """Take note that a peer did not answer, or not by the protocol."""
        known = self._known[node_id]
        if known.state is State.NEW:
            return
        self._window.discard(known)
        self._good -= known.good
        known.state, known.good = State.FAILED, False

    def _fill(self, path: Path, now: float, wait: Wait) -> Iterator[Question]:
        """Ask the path's nearest: all k at once if it is near, else as its window has room.

        Late ones are among the k; the next in line, who take their seats, use the window.
        """
        busy = sum(x.path == path.number and not x.wide for x in self._window)
        seats = path.seats()
        first = list(islice(seats, self._alpha))
        near = path.closed_in(seat for _, seat, _ in first)
        if busy >= path.width and not near:
            return
        for rank, seat, group in chain(first, seats):
            if seat.known.state is State.ANSWERED or seat.known.state is State.ASKED:
                continue
            wide = (near and rank < self.k) or seat.known.distance <= self._sure
            if path.spent or (busy >= path.width and not wide):
                return
            busy += not wide
            seat.known.soft_at = now + wait(seat.known.peer.node_id)
            seat.known.wide = wide
            yield self._question(path, seat, group)

    def _question(self, path: Path, seat: Seat, group: str | None) -> Question:
        known, addrs = seat.known, seat.addrs(group)
        known.peer = Peer(known.peer.node_id, tuple(a for a in addrs if a != NOWHERE))
        known.tried = known.tried.union(addrs)
        known.state, known.path, known.group = State.ASKED, path.number, group
        self._window.add(known)
        self._asked += 1
        path.asked += 1
        seat.tries += 1
        return Question(known.peer, known.depth)

    @property
    def _enough(self) -> bool:
        return 0 < self._quorum <= self._good

    def _learn(self, peer: Peer, depth: int, path: Path) -> None:
        node_id = peer.node_id
        seat = path.members.get(node_id)
        known = seat.known if seat else self._known.get(node_id)
        if known is None:
            if node_id == self._own:
                return
            away = distance(dht_id(node_id), self.target)
            known = self._known[node_id] = Known(peer, away, depth, self._group_of(peer))
            insort(self._names, (away, known))
        if known.state is State.NEW and depth < known.depth:
            known.depth = depth
        if seat is None or seat.said != peer.addrs:
            path.learn(known, peer.addrs, self._group_of)
