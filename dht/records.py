"""Signed multi-value records: what may be stored, and how two views of a key are joined.

A room brings a `Validator` for each of its kinds: it parses the bytes, checks signature and
fields, and says key, owner, id, sequence and expiry. A holder runs it before it stores, a
reader before it believes: DHT nodes are hostile storage. Joining is a set union with one
winner for each (owner, id): the highest sequence, and of two different records with the same
sequence the one with the lower SHA-256, so that all who saw both agree.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from dht.keys import KEY_BYTES, MAX_KIND_BYTES
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord

MAX_RECORD_BYTES: Final = 2048  # of a kind that names no other bound
MAX_ANY_BYTES: Final = 12 * 1024  # of any kind: a page with one still fits a frame
MAX_LIFETIME: Final = 30 * 24 * 3600  # seconds; a kind may allow less
MAX_PER_KEY: Final = 1024
MAX_PER_OWNER_AND_KEY: Final = 32
MAX_PER_OWNER: Final = 256
MAX_RECORDS: Final = 20_000
MAX_ID_BYTES: Final = 32
MAX_RANK: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Record:
    """A record that its kind's validator has accepted. Times in unix seconds.

    Under a full key the lowest `rank` goes first (a kind may rank by proof of work), then
    what expires first.
    """

    kind: str
    key: bytes
    owner: bytes
    id: bytes
    seq: int
    expires_at: int
    raw: bytes
    rank: int = 0


Validator = Callable[[bytes, int], Record]
Place = tuple[bytes, bytes]  # (owner, id): of its records one survives


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a kind's records may fill of a node's room, and whether holders pass them on.

    A kind whose records live from their last put on is renewed by its owner alone: passed
    on among holders they would live for ever.
    """

    record_bytes: int = MAX_RECORD_BYTES
    per_key: int = MAX_PER_KEY
    share: float = 1.0  # of all that a node holds
    passed_on: bool = True


class Kinds(dict[str, Validator]):
    """The kinds this node knows, each with its validator and its bounds."""

    def __init__(self, validators: Mapping[str, Validator] | None = None) -> None:
        super().__init__(validators or {})
        self._bounds: dict[str, Bounds] = {}

    def register(self, kind: str, validator: Validator, bounds: Bounds | None = None) -> None:
        """Add a kind. Raises ValueError if it is there already, or its bounds are too wide."""
        bounds = bounds or Bounds()
        if kind in self or not 0 < bounds.record_bytes <= MAX_ANY_BYTES:
            raise ValueError(f"{kind}: is registered, or its records do not fit a frame")
        self[check_kind(kind)] = validator
        self._bounds[kind] = bounds

    def bounds(self, kind: str) -> Bounds:
        """Return a kind's bounds."""
        return self._bounds.get(kind, Bounds())

    def admit(self, kind: object, key: object, raw: object, now: int) -> Record:
        """Return the record if it may live under `kind` and `key`. Raises InvalidRecord."""
        validate = self.get(kind) if isinstance(kind, str) else None
        if not isinstance(kind, str) or validate is None:
            raise InvalidRecord("kind", "is not known here")
        wire.exact("key", key, KEY_BYTES)
        record = validate(wire.blob("record", raw, self.bounds(kind).record_bytes, low=1), now)
        if record.kind != kind or record.key != key:
            raise InvalidRecord("key", "is not the one this record belongs to")
        if record.raw != raw:
            raise InvalidRecord("record", "is not what its validator returned")
        wire.exact("owner", record.owner, 32)
        wire.blob("id", record.id, MAX_ID_BYTES)
        wire.within("seq", record.seq, 0, 2**53 - 1)
        wire.within("rank", record.rank, 0, MAX_RANK)
        if record.expires_at <= now:
            raise InvalidRecord("expires_at", "has passed")
        if record.expires_at > now + MAX_LIFETIME:
            raise InvalidRecord("expires_at", f"is more than {MAX_LIFETIME} s ahead")
        return record

    def accept(self, kind: str, raw: bytes, now: int) -> Record:
        """Return our own record of `kind`, its key as its validator says. Raises InvalidRecord."""
        validate = self.get(kind)
        if validate is None:
            raise InvalidRecord("kind", "is not known here")
        return self.admit(kind, validate(raw, now).key, raw, now)


def check_kind(value: object) -> str:
    """Return `value` if it can name a kind. Raises InvalidRecord."""
    return wire.text("kind", value, MAX_KIND_BYTES, low=1)


def place(record: Record) -> Place:
    """Return what identifies a record across its versions."""
    return record.owner, record.id


def better(one: Record, other: Record) -> Record:
    """Return the winner of two records of the same place."""
    if one.seq != other.seq:
        return max(one, other, key=lambda r: r.seq)
    return min(one, other, key=lambda r: (hashlib.sha256(r.raw).digest(), r.raw))


def merge(*views: Iterable[Record], per_key: int = MAX_PER_KEY) -> tuple[Record, ...]:
    """Join views of one key, in the order of (owner, id), within the quotas of a key."""
    joined: dict[Place, Record] = {}
    for view in views:
        for record in view:
            held = joined.get(place(record))
            joined[place(record)] = record if held is None else better(held, record)
    return tuple(sorted(within_quota(joined.values(), per_key), key=place))


def within_quota(records: Iterable[Record], per_key: int = MAX_PER_KEY) -> list[Record]:
    """Return what a key may hold: the highest ranks, at most 32 an owner and `per_key` in all."""
    kept: list[Record] = []
    owned: Counter[bytes] = Counter()
    for record in sorted(records, key=lambda r: (-r.rank, -r.expires_at, place(r))):
        if owned[record.owner] < MAX_PER_OWNER_AND_KEY and len(kept) < per_key:
            owned[record.owner] += 1
            kept.append(record)
    return kept
