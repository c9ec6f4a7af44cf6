"""What a lookup brings home: records as peers serve them, judged and joined."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dht.records import Kinds, Place, Record, merge, place
from p2pnode.base.errors import InvalidRecord


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a get found: valid records, who holds each, and how many hops away the nearest was.

    A hop count of 0 is our own store, 1 a contact of ours, 2 one that a contact named.
    `answered` are the closest peers that answered, nearest first.
    """

    records: tuple[Record, ...]
    hops: Mapping[Place, int]
    holders: Mapping[Place, tuple[bytes, ...]]
    answered: tuple[bytes, ...]


class Harvest:
    """The records of one lookup as they come in, each distinct one validated once."""

    def __init__(self, kinds: Kinds, kind: str, key: bytes, now: int) -> None:
        self._kinds, self._kind, self._key, self._now = kinds, kind, key, now
        self._judged: dict[bytes, Record | None] = {}
        self._holders: dict[bytes, dict[bytes, int]] = {}  # raw -> node id -> depth

    def take(self, raw: bytes, holder: bytes, depth: int) -> bool:
        """Note that `holder`, `depth` hops away, serves `raw`; tell whether it is valid."""
        if raw not in self._judged:
            try:
                self._judged[raw] = self._kinds.admit(self._kind, self._key, raw, self._now)
            except InvalidRecord:
                self._judged[raw] = None
        if self._judged[raw] is None:
            return False
        self._holders.setdefault(raw, {})[holder] = depth
        return True

    def result(self, answered: Iterable[bytes]) -> Lookup:
        """Return the joined view."""
        records = merge(record for record in self._judged.values() if record)
        found = {place(r): self._holders[r.raw] for r in records}
        return Lookup(
            records,
            {where: min(held.values()) for where, held in found.items()},
            {where: tuple(held) for where, held in found.items()},
            tuple(answered),
        )
