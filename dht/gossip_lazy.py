"""IHAVE and IWANT: what the mesh has missed (gossipsub v1.1, "Spam Protection Measures").

A message is offered for three heartbeats, each time to another third of the peers outside the
mesh, so that all of them are told (the spec draws a quarter each time, and misses some).
A peer's offers are looked at within bounds; what is asked of it is a promise, and one id of
each question is remembered to see whether it is kept. What is asked of us is sent three
times to one peer, and so many ids a heartbeat.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from dht.gossip_cache import GOSSIP_WINDOWS, History, Seen
from dht.gossip_peers import Gossip

D_LAZY: Final = 2  # peers that IHAVE goes to at least
MAX_IHAVES: Final = 10  # of one peer between two heartbeats
MAX_IDS: Final = 1000  # in them that are looked at
ASK: Final = 64  # ids of one IWANT
MAX_WANTED: Final = 512  # ids that one peer is sent between two heartbeats
OFFER: Final = 2000  # ids of one IHAVE
PROMISE_S: Final = 3.0
MAX_PROMISES: Final = 1024

Shuffle = Callable[[Sequence[bytes]], list[bytes]]


class Lazy:
    """What is offered, asked and promised."""

    def __init__(self, seen: Seen, history: History, shuffle: Shuffle) -> None:
        self._seen, self._history, self._shuffle = seen, history, shuffle
        self._promises: dict[bytes, dict[bytes, float]] = {}  # message id -> peer -> until when
        self._told: dict[str, deque[list[bytes]]] = {}  # whom at the last two heartbeats

    def __len__(self) -> int:
        return len(self._promises)

    def ask(self, who: Gossip, ids: Sequence[bytes], now: float) -> list[tuple[bytes, ...]]:
        """Return what to ask for of what a peer offers, each as one IWANT."""
        who.ihaves += 1
        if who.ihaves > MAX_IHAVES:
            return []
        looked = ids[: MAX_IDS - who.ids]
        who.ids += len(looked)
        new = [id for id in dict.fromkeys(looked) if id not in self._seen]
        parts = [tuple(new[i : i + ASK]) for i in range(0, len(new), ASK)]
        for part in parts:
            if len(self._promises) < MAX_PROMISES:
                held = self._promises.setdefault(self._shuffle(part)[0], {})
                held.setdefault(who.id, now + PROMISE_S)
        return parts

    def answers(self, who: Gossip, ids: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
        """Return topic and data of what a peer wants and we hold."""
        looked = ids[: MAX_WANTED - who.wanted]
        who.wanted += len(looked)
        for id in looked:
            found = self._history.wanted(id, who.id)
            if found is not None:
                yield found

    def kept(self, id: bytes) -> None:
        """Take note that a message has come, from whomever."""
        self._promises.pop(id, None)

    def broken(self, now: float) -> list[bytes]:
        """Return who has not kept a promise, as often as it was not kept."""
        late: list[bytes] = []
        for id, held in list(self._promises.items()):
            for peer in [p for p, until in held.items() if until <= now]:
                del held[peer]
                late.append(peer)
            if not held:
                del self._promises[id]
        return late

    def offer(self, topic: str, others: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
        """Return which ids to offer, and to whom of those outside the mesh."""
        ids = self._history.ids(topic)
        told = self._told.setdefault(topic, deque(maxlen=GOSSIP_WINDOWS - 1))
        lately = {peer for some in told for peer in some}
        order = sorted(self._shuffle(others), key=lately.__contains__)
        to = order[: max(D_LAZY, -(-len(others) // GOSSIP_WINDOWS))]
        told.append(to)
        return (ids if len(ids) <= OFFER else self._shuffle(ids)[:OFFER]), to

    def leave(self, topic: str) -> None:
        """Forget whom a topic's messages were offered."""
        self._told.pop(topic, None)
