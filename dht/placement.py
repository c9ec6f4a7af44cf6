"""A put as a pure core: the lookup and the stores at once, ended by a quorum.

A peer nearer to the key than our own neighbourhood's density lets expect of the k closest is
given the record with the first question; so are, once the lookup has converged, all of the k
nearest known. The answer to a store names nearer peers as a find_node does, so the lookup
goes on meanwhile and the record reaches exactly the k closest that live, at most a few
others beside them.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from dht.endpoint import Peer
from dht.keys import distance
from dht.lookup import Lookup, Question
from p2pnode.base.identity import dht_id

EVERYWHERE: Final = 1 << 256


def reach(own: bytes, contacts: Sequence[Peer], k: int) -> int:
    """Return within which distance of a key a peer is surely among its k closest.

    `contacts` are the nearest to `own` (a node id) that we know, nearest first. Ids are
    spread evenly, so as many lie within the same distance of any key; half of it errs for
    one peer in hundreds, at the price of one copy too many.
    """
    if len(contacts) < k:
        return EVERYWHERE
    return distance(dht_id(contacts[k - 1].node_id), dht_id(own)) // 2


class Placement:
    """One put, driven like a lookup; `held` says whether this node itself holds the record."""

    def __init__(self, lookup: Lookup, near: int, own: int | None, *, held: bool) -> None:
        self._lookup = lookup
        self._near = near
        self._own = own  # our distance from the key, None if we serve nobody
        self._own_held = held
        self._stored: dict[bytes, bool | None] = {}  # None: asked

    @property
    def done(self) -> bool:
        """Tell whether each of the k closest that live has the record or has refused it."""
        if not self._lookup.done:
            return False
        return all(self._stored.get(node_id) is not None for node_id in self._targets())

    @property
    def settled(self) -> bool:
        """Tell whether a majority of the k closest known holds the record now."""
        closest = self._targets()
        held = sum(self._stored.get(node_id) is True for node_id in closest)
        if not self._lookup.converged:
            return False
        return held + self._own_holds > (len(closest) + self._own_counts) // 2

    @property
    def closest(self) -> int:
        """Return how many nodes are the k closest: fewer than k in a small network."""
        return len(self._targets()) + self._own_counts

    def holders(self) -> list[bytes]:
        """Return who of the others holds the record now."""
        return [node_id for node_id, held in self._stored.items() if held]

    @property
    def _own_counts(self) -> bool:
        if self._own is None:
            return False
        others = [self._lookup.distance_of(p.node_id) for p in self._lookup.shortlist()]
        return len(others) < self._lookup.k or self._own < others[-1]

    @property
    def _own_holds(self) -> bool:
        return self._own_held and self._own_counts

    @property
    def keeps(self) -> bool:
        """Tell whether this node is one of the k closest, and so holds the record itself."""
        return self._own_counts

    def ask(self, now: float, wait: Callable[[bytes], float]) -> list[Question]:
        """Return whom to ask now, and whether with the record."""
        asked = []
        for question in self._lookup.ask(now, wait):
            node_id = question.peer.node_id
            if self._lookup.distance_of(node_id) <= self._near or (
                self._lookup.converged and node_id in self._targets()
            ):
                self._stored[node_id] = None
                question = replace(question, store=True)
            asked.append(question)
        if self._lookup.converged:
            asked += self._left()
        return asked

    def _left(self) -> list[Question]:
        """Give the record to the closest that were only asked the way."""
        left = []
        answered = {peer.node_id for peer in self._lookup.closest()}
        for peer in self._lookup.shortlist()[: self._lookup.k - self._own_counts]:
            if peer.node_id in answered and peer.node_id not in self._stored:
                self._stored[peer.node_id] = None
                left.append(Question(peer, 0, store=True))
        return left

    def _targets(self) -> list[bytes]:
        nearest = self._lookup.shortlist()[: self._lookup.k - self._own_counts]
        return [peer.node_id for peer in nearest]

    def wake_at(self) -> float:
        """Return when `ask` may have more without an answer."""
        return self._lookup.wake_at()

    def answer(self, node_id: bytes, named: Sequence[Peer]) -> None:
        """Take an answer to a question without the record."""
        self._lookup.answer(node_id, named)

    def stored(self, node_id: bytes, named: Sequence[Peer], *, held: bool) -> None:
        """Take an answer to a question with the record."""
        self._stored[node_id] = held
        self._lookup.answer(node_id, named)

    def fail(self, node_id: bytes) -> None:
        """Take note that a peer did not answer; the next nearest takes its place."""
        if self._stored.get(node_id) is None:
            self._stored.pop(node_id, None)
        self._lookup.fail(node_id)
