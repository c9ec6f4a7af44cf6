"""One path of a lookup: whom it knows, by whose word, and who of them holds a seat.

S/Kademlia's disjoint paths (Baumgart, Mies 2007, section 4.4): what a path learns stays on it.
An id cannot lie but the addresses named with it can. So a path keeps what each teller says,
asks at the addresses of one subnet at a time, and may ask who failed again at addresses not
tried yet. A peer counts for the subnet it is asked in; of one subnet three count at most.
"""

from bisect import insort
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import Final

from dht.endpoint import MAX_ADDRS, Peer

MAX_PER_SUBNET: Final = 3  # among the nearest that a path considers
MAX_TRIES: Final = 3  # of one peer on one path, each at addresses not tried yet
MAX_WORDS: Final = 2 * MAX_ADDRS  # addresses that a path keeps of one peer
NOWHERE: Final = ""  # stands for the address of a peer named without one
_NONE: Final[frozenset[str]] = frozenset()

GroupOf = Callable[[Peer], str | None]  # the subnet a peer counts for; None: no cap


class State(Enum):
    """How far the question to a peer has come."""

    NEW = "not asked"
    ASKED = "within the soft deadline"
    LATE = "past it"
    ANSWERED = "answered"
    FAILED = "lost, at the addresses tried"


@dataclass(slots=True, eq=False)
class Known:
    """A peer that a lookup has heard of, on whatever path."""

    peer: Peer
    distance: int
    depth: int
    group: str | None  # where it was asked last
    state: State = State.NEW
    path: int = -1  # who asked it last
    soft_at: float = 0.0
    wide: bool = False  # asked with all of the k nearest: holds no place in the window
    good: bool = False
    tried: frozenset[str] = frozenset()  # addresses

    @property
    def waiting(self) -> bool:
        """Tell whether its answer is still to come."""
        return self.state is State.ASKED or self.state is State.LATE


@dataclass(slots=True, eq=False)
class Seat:
    """A peer as one path knows it: (subnet, address) as its tellers say."""

    known: Known
    said: tuple[str, ...]  # the first teller's words as they came: most others repeat them
    words: tuple[tuple[str | None, str], ...]
    tries: int = 0

    def group(self, crowd: dict[str, int]) -> tuple[bool, str | None]:
        """Tell whether the peer counts beside the nearer ones in `crowd`, and for which subnet."""
        known = self.known
        words, tried = self.words, known.tried
        if known.state is not State.NEW and known.state is not State.FAILED:
            words, tried = ((known.group, NOWHERE),), _NONE
        elif self.tries >= MAX_TRIES:
            return False, None
        for group, addr in words:
            if addr in tried:
                continue
            if group is None:
                return True, None
            count = crowd.get(group, 0)
            if count < MAX_PER_SUBNET:
                crowd[group] = count + 1
                return True, group
        return False, None

    def addrs(self, group: str | None) -> tuple[str, ...]:
        """Return where to ask next: at the addresses of a subnet that were not tried."""
        tried = self.known.tried
        return tuple(a for g, a in self.words if g == group and a not in tried)[:MAX_ADDRS]


@dataclass(slots=True)
class Path:
    """The seats of one path, nearest first, and its share of the questions."""

    number: int
    k: int
    alpha: int
    width: int
    share: int
    need: int  # of the `alpha` nearest must have answered for the path to be near
    asked: int = 0
    names: list[tuple[int, Seat]] = field(default_factory=list)
    members: dict[bytes, Seat] = field(default_factory=dict)

    @property
    def spent(self) -> bool:
        """Tell whether the path may ask no more."""
        return self.asked >= self.share

    def learn(self, known: Known, addrs: tuple[str, ...], group_of: GroupOf) -> None:
        """Take note that a peer was named on this path, at `addrs`."""
        node_id = known.peer.node_id
        seat = self.members.get(node_id)
        if seat is None:
            seat = Seat(known, addrs, _words(node_id, addrs, group_of))
            self.members[node_id] = seat
            insort(self.names, (known.distance, seat))
        else:
            seat.words = _joined(seat.words, _words(node_id, addrs, group_of))

    def seats(self) -> Iterator[tuple[int, Seat, str | None]]:
        """Yield the k nearest that are neither lost nor late: the rank with the late, the subnet.

        Who is late does not hold up the next of his subnet either.
        """
        crowd: dict[str, int] = {}
        count = late = 0
        for _, seat in self.names:
            if seat.known.state is State.LATE:
                late += 1
                continue
            counts, group = seat.group(crowd)
            if counts:
                yield count + late, seat, group
                count += 1
                if count == self.k:
                    return

    @property
    def near(self) -> bool:
        """Tell whether the nearest that are not late have answered, or enough of them."""
        return self.closed_in(seat for _, seat, _ in islice(self.seats(), self.alpha))

    def closed_in(self, first: Iterable[Seat]) -> bool:
        """Tell whether all of the nearest were asked, and enough of them have answered."""
        states = [seat.known.state for seat in first]
        answered = states.count(State.ANSWERED)
        return State.NEW not in states and answered >= min(self.need, len(states))

    @property
    def done(self) -> bool:
        """Tell whether the k nearest have answered, or nobody may be asked any more."""
        spent, crowd = self.spent, dict[str, int]()
        counted = (seat.known for _, seat in self.names if seat.group(crowd)[0])
        return not any(
            known.waiting or (known.state is not State.ANSWERED and not spent)
            for known in islice(counted, self.k)
        )


def _words(
    node_id: bytes, addrs: tuple[str, ...], group_of: GroupOf
) -> tuple[tuple[str | None, str], ...]:
    if not addrs:
        return ((group_of(Peer(node_id, ())), NOWHERE),)
    return tuple((group_of(Peer(node_id, (addr,))), addr) for addr in addrs[:MAX_ADDRS])


def _joined(
    words: tuple[tuple[str | None, str], ...], others: tuple[tuple[str | None, str], ...]
) -> tuple[tuple[str | None, str], ...]:
    """Join what two tellers say: nobody's word pushes the first of another's far back."""
    joined = dict.fromkeys((*words[:1], *others[:1], *words[1:], *others[1:]))
    return tuple(joined)[:MAX_WORDS]
