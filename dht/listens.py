"""Who listens to which key here: a bounded table of promises that end by themselves."""

from collections import Counter
from typing import Final, Generic, TypeVar

MAX_PER_CALLER: Final = 64  # keys that one stream may listen to
Caller = TypeVar("Caller")  # a stream
Key = tuple[str, bytes]  # kind, key


class Listens(Generic[Caller]):
    """For each key the streams to tell of its changes, by the number of their question."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._keys: dict[Key, dict[Caller, tuple[int, float]]] = {}
        self._count: Counter[Caller] = Counter()

    def __len__(self) -> int:
        return self._count.total()

    def grant(self, caller: Caller, number: int, where: Key, seconds: int, now: float) -> int:
        """Promise news of a key for at most `seconds`; return for how many, 0 if there is no room.

        A caller has one promise a key: the latest. 0 seconds end it.
        """
        held = self._keys.get(where, {})
        if not seconds:
            self._drop(where, caller)
            return 0
        if caller not in held:
            if len(self) >= self._limit:
                self._purge(now)
            if self._count[caller] >= MAX_PER_CALLER or len(self) >= self._limit:
                return 0
            self._count[caller] += 1
        self._keys.setdefault(where, {})[caller] = (number, now + seconds)
        return seconds

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
        if caller in self._count:
            for where in [w for w, held in self._keys.items() if caller in held]:
                self._drop(where, caller)

    def _purge(self, now: float) -> None:
        for where in list(self._keys):
            self.of(where, now)

    def _drop(self, where: Key, caller: Caller) -> None:
        held = self._keys.get(where, {})
        if held.pop(caller, None) is None:
            return
        self._count[caller] -= 1
        if not self._count[caller]:
            del self._count[caller]
        if not held:
            del self._keys[where]
