"""What a lookup brings home: records as peers serve them, judged and joined."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dht.endpoint import Peer
from dht.records import Kinds, Place, Record, merge, place
from p2pnode.base.errors import InvalidRecord


@dataclass(frozen=True, slots=True)
class Found:
    """What a get found: valid records, who holds each, and how many hops away the nearest was.

    A hop count of 0 is our own store, 1 a contact of ours, 2 one that a contact named.
    `closest` are the closest peers that answered, nearest first.
    """

    records: tuple[Record, ...]
    hops: Mapping[Place, int]
    holders: Mapping[Place, tuple[bytes, ...]]
    closest: tuple[Peer, ...]


class Harvest:
    """The records of one lookup as they come in, each distinct one validated once."""

    def __init__(self, kinds: Kinds, kind: str, key: bytes, now: int) -> None:
        self.kind, self.key = kind, key
        self._kinds, self._now = kinds, now
        self._brought: Counter[bytes] = Counter()  # node id -> records served
        self._judged: dict[bytes, Record | None] = {}
        self._holders: dict[bytes, dict[bytes, int]] = {}  # raw -> node id -> depth

    def take(self, raw: bytes, holder: bytes, depth: int) -> bool:
        """Note that `holder`, `depth` hops away, serves `raw`; tell whether it is valid.

        More than a key may hold is not: no honest holder has it.
        """
        self._brought[holder] += 1
        if self._brought[holder] > self._kinds.bounds(self.kind).per_key:
            return False
        if raw not in self._judged:
            try:
                self._judged[raw] = self._kinds.admit(self.kind, self.key, raw, self._now)
            except InvalidRecord:
                self._judged[raw] = None
        if self._judged[raw] is None:
            return False
        self._holders.setdefault(raw, {})[holder] = depth
        return True

    def result(self, closest: Iterable[Peer]) -> Found:
        """Return the joined view."""
        valid = (record for record in self._judged.values() if record)
        records = merge(valid, per_key=self._kinds.bounds(self.kind).per_key)
        found = {place(r): self._holders[r.raw] for r in records}
        return Found(
            records,
            {where: min(held.values()) for where, held in found.items()},
            {where: tuple(held) for where, held in found.items()},
            tuple(closest),
        )
