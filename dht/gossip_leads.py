"""Nodes that are said to take part in a topic, and when to dial which of them.

Whoever names them may be wrong or lie: a number is kept of each topic, those who do not
answer are tried ever more seldom and then forgotten.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from dht.endpoint import Peer

MAX_LEADS: Final = 256  # of one topic
FIRST_WAIT_S: Final = 5.0
MAX_WAIT_S: Final = 600.0
MAX_FAILURES: Final = 8  # then a node is forgotten, until it is named again

Shuffle = Callable[[Sequence[Peer]], list[Peer]]


class Leads:
    """Where the peers of each topic may be found."""

    def __init__(self) -> None:
        self._topics: dict[str, dict[bytes, Peer]] = {}
        self._failed: dict[bytes, tuple[int, float]] = {}  # how often, until when to wait

    def note(self, topic: str, peers: Iterable[Peer]) -> None:
        """Remember nodes; the newest are kept."""
        held = self._topics.setdefault(topic, {})
        for peer in peers:
            held.pop(peer.node_id, None)
            held[peer.node_id] = peer
            if len(held) > MAX_LEADS:
                del held[next(iter(held))]
        self._tidy()

    def forget(self, topic: str) -> None:
        """Forget a topic's."""
        self._topics.pop(topic, None)
        self._tidy()

    def known(self, topic: str, peer: bytes) -> bool:
        """Tell whether a node was named."""
        return peer in self._topics.get(topic, {})

    def due(
        self, topic: str, count: int, now: float, shuffle: Shuffle, skip: Collection[bytes]
    ) -> list[Peer]:
        """Return up to `count` nodes to dial now, but none of `skip`."""
        held = self._topics.get(topic, {}).values()
        ready = [p for p in held if p.node_id not in skip and self._wait(p.node_id) <= now]
        return shuffle(ready)[: max(0, count)]

    def failed(self, peer: bytes, now: float) -> None:
        """Take note that a node was not reached, or did not stay."""
        times = self._failed.get(peer, (0, 0.0))[0] + 1
        self._failed[peer] = (times, now + min(MAX_WAIT_S, FIRST_WAIT_S * 2 ** (times - 1)))
        if times >= MAX_FAILURES:
            for held in self._topics.values():
                held.pop(peer, None)
        self._tidy()

    def reached(self, peer: bytes) -> None:
        """Take note that a node takes part indeed."""
        self._failed.pop(peer, None)

    def _wait(self, peer: bytes) -> float:
        return self._failed.get(peer, (0, 0.0))[1]

    def _tidy(self) -> None:
        """Keep failures of those alone who may still be dialled."""
        if len(self._failed) > MAX_LEADS:
            named = {node for held in self._topics.values() for node in held}
            self._failed = {p: f for p, f in self._failed.items() if p in named}
