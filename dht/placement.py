"""A put as a pure core: the lookup and the stores at once, ended by a quorum.

A peer nearer to the key than our own neighbourhood's density lets expect of the k closest is
given the record with the first question; so are, once the lookup has converged, all of the k
nearest known. The answer to a store names nearer peers as a find_node does, so the lookup
goes on meanwhile and the record reaches exactly the k closest that live, at most a few
others beside them.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from dht.endpoint import Peer
from dht.keys import distance
from dht.lookup import Lookup, Question, Wait
from p2pnode.base.identity import dht_id

NOWHERE: Final = -1


def reach(own: bytes, contacts: Sequence[Peer], k: int) -> int:
    """Return within which distance of a key a peer is surely among its k closest.

    `contacts` are the nearest to `own` (a node id) that we know, nearest first. Ids are
    spread evenly, so as many lie within the same distance of any key; half of it errs for
    one peer in hundreds, at the price of one copy too many. Who knows fewer than k peers
    cannot tell, and is in no haste: else a newcomer's record would go to all whom he learns of.
    """
    if len(contacts) < k:
        return NOWHERE
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
        return all(self._stored.get(peer.node_id) is not None for peer in self._board()[0])

    @property
    def settled(self) -> bool:
        """Tell whether a majority of the k closest known holds the record now."""
        if not self._lookup.converged:
            return False
        targets, own = self._board()
        held = sum(self._stored.get(peer.node_id) is True for peer in targets)
        return held + (own and self._own_held) > (len(targets) + own) // 2

    @property
    def closest(self) -> int:
        """Return how many nodes are the k closest: fewer than k in a small network."""
        targets, own = self._board()
        return len(targets) + own

    @property
    def keeps(self) -> bool:
        """Tell whether this node is one of the k closest, and so holds the record itself."""
        return self._board()[1]

    def holders(self) -> list[bytes]:
        """Return who of the others holds the record now."""
        return [node_id for node_id, held in self._stored.items() if held]

    def ask(self, now: float, wait: Wait) -> list[Question]:
        """Return whom to ask now, and whether with the record."""
        asked = self._lookup.ask(now, wait)
        if not self._lookup.converged and not self._lookup.done:
            return [self._give(q) if self._surely(q.peer.node_id) else q for q in asked]
        targets = {peer.node_id: peer for peer in self._board()[0]}
        given = [
            self._give(q) if q.peer.node_id in targets or self._surely(q.peer.node_id) else q
            for q in asked
        ]
        for peer in self._lookup.closest():  # who was only asked the way so far
            if peer.node_id in targets and peer.node_id not in self._stored:
                given.append(self._give(Question(peer, 0)))
        return given

    def _give(self, question: Question) -> Question:
        self._stored[question.peer.node_id] = None
        return replace(question, store=True)

    def _surely(self, node_id: bytes) -> bool:
        """Tell whether a peer is so near that it need not be asked the way first."""
        return self._lookup.distance_of(node_id) <= self._near

    def _board(self) -> tuple[list[Peer], bool]:
        """Return the closest as far as known, and whether we are one of the k ourselves."""
        nearest = self._lookup.shortlist()
        own = self._own is not None and (
            len(nearest) < self._lookup.k
            or self._own < self._lookup.distance_of(nearest[-1].node_id)
        )
        return nearest[: self._lookup.k - own], own

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
