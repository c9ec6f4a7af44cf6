"""How many records a store holds: in all, of each kind and under each key, kept in memory.

A store counts once at its start and after that adds what each transaction changed, so that
neither a put nor upkeep nor a scrape of the metrics walks the table.
"""

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)
Where = tuple[str, bytes]  # kind, key


class Holdings:
    """Counts that follow the table; `add` what a transaction changed once it is committed."""

    def __init__(self, counts: Mapping[Where, int] | None = None) -> None:
        self._keys: Counter[Where] = Counter()
        self._kinds: Counter[str] = Counter()
        self._all = 0
        self.add(counts or {})

    def __len__(self) -> int:
        return self._all

    def add(self, changes: Mapping[Where, int]) -> None:
        """Take in by how much the number of records under each key has grown or fallen."""
        for where, number in changes.items():
            _add(self._keys, where, number)
            _add(self._kinds, where[0], number)
            self._all += number

    def under(self, where: Where) -> int:
        """Return how many records a key holds."""
        return self._keys[where]

    def of(self, kind: str) -> int:
        """Return how many records there are of a kind."""
        return self._kinds[kind]

    def keys(self) -> list[Where]:
        """Return every (kind, key) under which something is held."""
        return list(self._keys)

    def kinds(self) -> dict[str, int]:
        """Return how many records are held of each kind."""
        return dict(self._kinds)


def _add(counter: Counter[Name], name: Name, number: int) -> None:
    counter[name] += number
    if not counter[name]:
        del counter[name]
