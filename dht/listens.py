"""Who listens to which key here: a bounded table of promises that end by themselves.

Whoever asks when the table is full is given the place of the party (a subnet, or a peer of an
exempt network) that holds the most, unless it is his own: so nobody takes all places, however
many keys he owns. Whose promise is broken is told by the end of his stream.
"""

from collections import Counter
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

MAX_PER_CALLER: Final = 64  # keys that one stream may listen to
Caller = TypeVar("Caller")  # a stream
Key = tuple[str, bytes]  # kind, key


class Listens(Generic[Caller]):
    """For each key the streams to tell of its changes, by the number of their question."""

    def __init__(
        self, limit: int, party: Callable[[Caller], Hashable] = lambda caller: caller
    ) -> None:
        self._limit, self._party = limit, party
        self._keys: dict[Key, dict[Caller, tuple[int, float]]] = {}
        self._held: dict[Caller, set[Key]] = {}  # oldest caller first
        self._parties: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return self._parties.total()

    def grant(
        self, caller: Caller, number: int, where: Key, seconds: int, now: float
    ) -> tuple[int, Caller | None]:
        """Promise news of a key for at most `seconds`; return for how many, 0 if there is no room.

        The second is who has lost all its promises for that: end its stream. A caller has one
        promise a key: the latest. 0 seconds end it.
        """
        if not seconds:
            self._drop(where, caller)
            return 0, None
        ousted = None
        if caller not in self._keys.get(where, {}):
            if len(self._held.get(caller, ())) >= MAX_PER_CALLER:
                return 0, None
            if len(self) >= self._limit:
                self._purge(now)
            if len(self) >= self._limit:
                ousted = self._leaver(caller)
                if ousted is None:
                    return 0, None
                self.forget(ousted)
            self._held.setdefault(caller, set()).add(where)
            self._parties[self._party(caller)] += 1
        self._keys.setdefault(where, {})[caller] = (number, now + seconds)
        return seconds, ousted

    def of(self, where: Key, now: float) -> list[tuple[Caller, int]]:
        """Return who is to be told of a change under a key, and under which number."""
        held = self._keys.get(where)
        if not held:
            return []
        for caller in [c for c, (_, until) in held.items() if until <= now]:
            self._drop(where, caller)
        return [(caller, number) for caller, (number, _) in held.items()]

    def forget(self, caller: Caller) -> None:
        """Drop every promise to a stream that has ended."""
        for where in list(self._held.get(caller, ())):
            self._drop(where, caller)

    def _leaver(self, caller: Caller) -> Caller | None:
        """Return the oldest stream of the party with the most promises, if it has too many."""
        most, count = self._parties.most_common(1)[0]
        if count <= self._parties[self._party(caller)] + 1:
            return None
        return next(c for c in self._held if self._party(c) == most)

    def _purge(self, now: float) -> None:
        for where in list(self._keys):
            self.of(where, now)

    def _drop(self, where: Key, caller: Caller) -> None:
        held = self._keys.get(where, {})
        if held.pop(caller, None) is None:
            return
        if not held:
            del self._keys[where]
        self._held[caller].discard(where)
        if not self._held[caller]:
            del self._held[caller]
        party = self._party(caller)
        self._parties[party] -= 1
        if not self._parties[party]:
            del self._parties[party]
