"""What a lookup brings home: records as peers serve them, judged and joined."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from dht.endpoint import Peer
from dht.records import Kinds, Place, Record, merge, place
from dht.standing import is_lie
from p2pnode.base.errors import InvalidRecord

ROOM: Final = 4  # times what a key may hold: more records than that are joined on the way


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
    """The records of one lookup as they come in, each distinct one validated once.

    Liars may bring any number of valid records of their own, so what cannot be in the result
    any more is let go; of its place only the version is remembered.
    """

    def __init__(self, kinds: Kinds, kind: str, key: bytes, now: int) -> None:
        self.kind, self.key = kind, key
        self._kinds, self._now = kinds, now
        self._per_key = kinds.bounds(kind).per_key
        self._brought: Counter[bytes] = Counter()  # node id -> distinct records served
        self._lies: Counter[bytes] = Counter()
        self._judged: dict[bytes, Record | None] = {}  # SHA-256 -> what it is, if valid
        self._lying: set[bytes] = set()  # SHA-256 of what no honest peer serves
        self._valid = 0
        self._holders: dict[bytes, dict[bytes, int]] = {}  # SHA-256 -> node id -> depth
        self._beaten: dict[Place, tuple[int, bytes]] = {}  # let go: seq, SHA-256

    def take(self, raw: bytes, holder: bytes, depth: int) -> bool:
        """Note that `holder`, `depth` hops away, serves `raw`; tell whether it is valid.

        More than a key may hold is not taken: no honest holder has it.
        """
        name = hashlib.sha256(raw).digest()
        if holder in self._holders.get(name, ()):
            return True  # served once more
        self._brought[holder] += 1
        if self._brought[holder] > self._per_key:
            return False
        if name not in self._judged:
            self._judge(name, raw, holder)
        else:
            self._lies[holder] += name in self._lying
        if self._judged[name] is None:
            return False
        self._holders.setdefault(name, {})[holder] = depth
        if self._valid > ROOM * self._per_key:
            self._let_go()
        return True

    def lies(self, holder: bytes) -> int:
        """Return how many records a peer served that no honest peer serves."""
        return self._lies[holder]

    def spent(self, holder: bytes) -> bool:
        """Tell whether a peer has served more than a key may hold."""
        return self._brought[holder] > self._per_key

    def result(self, closest: Iterable[Peer]) -> Found:
        """Return the joined view."""
        records = self._joined()
        found = {place(r): self._holders[hashlib.sha256(r.raw).digest()] for r in records}
        return Found(
            records,
            {where: min(held.values()) for where, held in found.items()},
            {where: tuple(held) for where, held in found.items()},
            tuple(closest),
        )

    def _judge(self, name: bytes, raw: bytes, holder: bytes) -> None:
        try:
            record = self._kinds.admit(self.kind, self.key, raw, self._now)
        except InvalidRecord as error:
            if is_lie(error):
                self._lies[holder] += 1
                self._lying.add(name)
            self._judged[name] = None
            return
        self._judged[name] = record
        self._valid += 1

    def _joined(self) -> tuple[Record, ...]:
        valid = (record for name, record in self._judged.items() if record and self._best(name))
        return merge(valid, per_key=self._per_key)

    def _best(self, name: bytes) -> bool:
        """Tell whether a record was not beaten by one that was let go."""
        record = self._judged[name]
        beaten = self._beaten.get(place(record)) if record else None
        return beaten is None or (-record.seq, name) <= (-beaten[0], beaten[1])  # type: ignore[union-attr]

    def _let_go(self) -> None:
        winners = {hashlib.sha256(r.raw).digest() for r in self._joined()}
        for name, record in list(self._judged.items()):
            if record is None or name in winners:
                continue
            if self._best(name):
                self._beaten[place(record)] = (record.seq, name)
            del self._judged[name], self._holders[name]
        self._valid = len(winners)
