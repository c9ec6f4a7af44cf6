"""The records a node holds for others, and the peers it has met, in a SQLite file.

Bounded in all, per key, kind and owner: when a bound is reached, what ranks lowest and
expires first goes - in a full store of the kind of which most is held - from the end of an
index, so that a put into a full store costs what one into an empty store does.
"""

import hashlib
import sys
from collections import Counter
from collections.abc import Sequence
from enum import Enum
from typing import Final

from dht.endpoint import Peer
from dht.holdings import Holdings, Where
from dht.records import (
    MAX_PER_KEY,
    MAX_PER_OWNER,
    MAX_PER_OWNER_AND_KEY,
    MAX_RECORDS,
    Bounds,
    Record,
    better,
)
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.store import Database

ROOM: Final = "dht"
MAX_PEERS: Final = 1000
CHECKPOINT_PAGES: Final = 8000  # 32 MB of WAL: a checkpoint stops the node for 20 ms or more
_SCRIPTS: Final = (
    """
    CREATE TABLE dht_record (
        kind TEXT NOT NULL, key BLOB NOT NULL, owner BLOB NOT NULL, id BLOB NOT NULL,
        seq INTEGER NOT NULL, expires_at INTEGER NOT NULL, raw BLOB NOT NULL,
        PRIMARY KEY (kind, key, owner, id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX dht_record_expiry ON dht_record (expires_at);
    CREATE INDEX dht_record_owner ON dht_record (owner, expires_at);
    CREATE TABLE dht_peer (
        node_id BLOB PRIMARY KEY, addrs BLOB NOT NULL, seen_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE dht_sequence (kind TEXT PRIMARY KEY, seq INTEGER NOT NULL) STRICT
    """,
    """
    DELETE FROM dht_record;
    ALTER TABLE dht_record ADD COLUMN rank INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE dht_record ADD COLUMN hash BLOB NOT NULL DEFAULT x''
    """,
    """
    DROP INDEX dht_record_expiry;
    CREATE INDEX dht_record_first ON dht_record (expires_at, owner DESC, id DESC);
    CREATE INDEX dht_record_kind ON dht_record (kind, expires_at, owner DESC, id DESC)
    """,
    """
    DROP INDEX dht_record_kind;
    CREATE INDEX dht_record_rank ON dht_record (kind, rank, expires_at, owner DESC, id DESC)
    """,
)
_COLUMNS: Final = "kind, key, owner, id, seq, expires_at, raw, rank"
_FIRST_TO_GO: Final = "expires_at, owner DESC, id DESC"  # as in the indexes: nothing is sorted
_OF_OWNER_AND_KEY: Final = (
    "WHERE kind = ? AND key = ? AND owner = ? "  # the sign: found by the key, not by the index
    "ORDER BY +rank DESC, expires_at DESC, id LIMIT -1 OFFSET ?"
)
_OF_KEY: Final = f"WHERE kind = ? AND key = ? ORDER BY +rank, {_FIRST_TO_GO} LIMIT ?"
_OF_OWNER: Final = (
    "INDEXED BY dht_record_owner WHERE owner = ? ORDER BY expires_at DESC, id LIMIT -1 OFFSET ?"
)
_OF_KIND: Final = f"INDEXED BY dht_record_rank WHERE kind = ? ORDER BY rank, {_FIRST_TO_GO} LIMIT ?"
_OF_ALL: Final = f"INDEXED BY dht_record_first ORDER BY {_FIRST_TO_GO} LIMIT ?"


class Kept(Enum):
    """What became of a record that was to be stored."""

    NEW = "it is held now, and was not before"
    KNOWN = "it was held already"
    WORSE = "a better one is held, or there is no room for it"

    @property
    def held(self) -> bool:
        """Tell whether the record is held now."""
        return self is not Kept.WORSE


class RecordStore:
    """What this node stores. Every record in it has passed its validator once."""

    def __init__(self, database: Database, *, limit: int = MAX_RECORDS) -> None:
        self._db = database
        self._limit = limit
        database.migrate(ROOM, _SCRIPTS)
        database.one(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        rows = database.all("SELECT kind, key, count(*) AS n FROM dht_record GROUP BY kind, key")
        self._holdings = Holdings({(sys.intern(r["kind"]), r["key"]): r["n"] for r in rows})
        changes: Counter[Where] = Counter()
        with database.transaction():  # a seed no more: now, since it takes seconds
            self._cut(_OF_ALL, (), len(self._holdings) - limit, changes)
        self._holdings.add(changes)

    def put(self, record: Record, bounds: Bounds | None = None) -> Kept:
        """Keep the winner of `record` and what is held; tell what became of it.

        A record that came again lives as long as the later of the two would.
        """
        with self._db.transaction():
            held = self._held(record)
            if held is not None and held.raw == record.raw:
                self._renew(held, record)
                return Kept.KNOWN
            if held is not None and better(held, record) is held:
                return Kept.WORSE
            self._db.run(
                f"INSERT OR REPLACE INTO dht_record ({_COLUMNS}, hash) "  # noqa: S608 - constants
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                *(record.kind, record.key, record.owner, record.id),
                *(record.seq, record.expires_at, record.raw, record.rank),
                hashlib.sha256(record.raw).digest(),
            )
            changes = Counter({(record.kind, record.key): int(held is None)})
            stays = self._evict(record, bounds or Bounds(), changes)
        self._holdings.add(changes)  # committed
        return Kept.NEW if stays else Kept.WORSE

    def _renew(self, held: Record, record: Record) -> None:
        if record.expires_at > held.expires_at:
            self._db.run(
                "UPDATE dht_record SET expires_at = ? "
                "WHERE kind = ? AND key = ? AND owner = ? AND id = ?",
                *(record.expires_at, record.kind, record.key, record.owner, record.id),
            )

    def _held(self, record: Record) -> Record | None:
        row = self._db.one(
            f"SELECT {_COLUMNS} FROM dht_record "  # noqa: S608 - constants
            "WHERE kind = ? AND key = ? AND owner = ? AND id = ?",
            *(record.kind, record.key, record.owner, record.id),
        )
        return Record(*row) if row else None

    def _evict(self, record: Record, bounds: Bounds, changes: Counter[Where]) -> bool:
        """Hold the bounds that this record may have broken; tell whether it stays.

        `changes` is what this transaction has done to the counts so far.
        """
        here, held = (record.kind, record.key), self._holdings
        if not changes[here]:
            return True  # it took the place of an earlier one
        if held.under(here) >= MAX_PER_OWNER_AND_KEY:
            self._cut(_OF_OWNER_AND_KEY, (*here, record.owner), MAX_PER_OWNER_AND_KEY, changes)
        self._cut(_OF_KEY, here, held.under(here) + changes[here] - bounds.per_key, changes)
        self._cut(_OF_OWNER, (record.owner,), MAX_PER_OWNER, changes)
        of_kind = sum(number for where, number in changes.items() if where[0] == record.kind)
        excess = held.of(record.kind) + of_kind - int(self._limit * bounds.share)
        self._cut(_OF_KIND, (record.kind,), excess, changes)
        excess = len(held) + changes.total() - self._limit
        if excess > 0:  # or what lives for a short time would always go first
            self._cut(_OF_KIND, (self._fullest(changes),), excess, changes)
        return self._held(record) is not None

    def _fullest(self, changes: Counter[Where]) -> str:
        """Return the kind of which most is held."""
        counts = Counter(self._holdings.kinds())
        for (kind, _), number in changes.items():
            counts[kind] += number
        return max(counts, key=lambda kind: (counts[kind], kind))

    def _cut(
        self, which: str, args: tuple[object, ...], number: int, changes: Counter[Where]
    ) -> None:
        """Delete the records that `which` selects with `number`, none if that is not positive."""
        if number > 0:
            gone = self._db.all(
                "DELETE FROM dht_record WHERE (kind, key, owner, id) IN ("  # noqa: S608 - constants
                f"SELECT kind, key, owner, id FROM dht_record {which}) RETURNING kind, key",
                *(*args, number),
            )
            changes.subtract((row["kind"], row["key"]) for row in gone)

    def page(self, kind: str, key: bytes, cursor: bytes, now: int, count: int) -> list[Record]:
        """Return live records of a key behind `cursor` (owner || id), in that order."""
        owner, id_ = cursor[:32], cursor[32:]
        rows = self._db.all(
            f"SELECT {_COLUMNS} FROM dht_record WHERE kind = ? AND key = ? "  # noqa: S608
            "AND (owner, id) > (?, ?) AND expires_at > ? ORDER BY owner, id LIMIT ?"
            if cursor
            else f"SELECT {_COLUMNS} FROM dht_record WHERE kind = ? AND key = ? "  # noqa: S608
            "AND expires_at > ? ORDER BY owner, id LIMIT ?",
            *((kind, key, owner, id_, now, count) if cursor else (kind, key, now, count)),
        )
        return [Record(*row) for row in rows]

    def all_of(self, kind: str, key: bytes, now: int) -> list[Record]:
        """Return every live record of a key."""
        return self.page(kind, key, b"", now, MAX_PER_KEY)

    def items(self, kind: str, key: bytes, now: int) -> list[tuple[bytes, bytes]]:
        """Return (owner || id, SHA-256 of the record) of a key's live records, in that order."""
        rows = self._db.all(
            "SELECT owner, id, hash FROM dht_record WHERE kind = ? AND key = ? "
            "AND expires_at > ? ORDER BY owner, id",
            *(kind, key, now),
        )
        return [(row["owner"] + row["id"], row["hash"]) for row in rows]

    def held_keys(self) -> list[Where]:
        """Return every (kind, key) under which something is held."""
        return self._holdings.keys()

    def count(self) -> int:
        """Return how many records are held."""
        return len(self._holdings)

    def kinds(self) -> dict[str, int]:
        """Return how many records are held of each kind."""
        return self._holdings.kinds()

    def purge(self, now: int) -> int:
        """Forget what has expired; return how many."""
        with self._db.transaction():
            gone = self._db.all(
                "DELETE FROM dht_record WHERE expires_at <= ? RETURNING kind, key", now
            )
        changes: Counter[Where] = Counter()
        changes.subtract((row["kind"], row["key"]) for row in gone)
        self._holdings.add(changes)
        return len(gone)

    def next_seq(self, kind: str, now: int) -> int:
        """Return a sequence above all that this node has signed of `kind`, never below `now`."""
        with self._db.transaction():
            row = self._db.one("SELECT seq FROM dht_sequence WHERE kind = ?", kind)
            seq = max(now, row["seq"] + 1 if row else 0)
            self._db.run("INSERT OR REPLACE INTO dht_sequence (kind, seq) VALUES (?, ?)", kind, seq)
        return seq

    # ------------------------------------------------------------------ peers

    def save_peers(self, peers: Sequence[Peer], now: int) -> None:
        """Remember where peers answered, the latest 1,000."""
        with self._db.transaction():
            for peer in peers:
                self._db.run(
                    "INSERT OR REPLACE INTO dht_peer (node_id, addrs, seen_at) VALUES (?, ?, ?)",
                    *(peer.node_id, wire.pack(peer.addrs), now),
                )
            self._db.run(
                "DELETE FROM dht_peer WHERE node_id IN (SELECT node_id FROM dht_peer "
                "ORDER BY seen_at DESC, node_id LIMIT -1 OFFSET ?)",
                MAX_PEERS,
            )

    def peers(self, count: int = MAX_PEERS) -> list[Peer]:
        """Return the peers met, the latest first; of those saved at once, any.

        By their ids a stranger could see to it that a restart begins with his nodes alone.
        """
        rows = self._db.all(
            "SELECT node_id, addrs FROM dht_peer ORDER BY seen_at DESC, random() LIMIT ?", count
        )
        return [peer for row in rows if (peer := _peer(row["node_id"], row["addrs"]))]

    def peer(self, node_id: bytes) -> Peer | None:
        """Return a peer met before, or None."""
        row = self._db.one("SELECT node_id, addrs FROM dht_peer WHERE node_id = ?", node_id)
        return _peer(row["node_id"], row["addrs"]) if row else None


def _peer(node_id: bytes, packed: bytes) -> Peer | None:
    try:
        return Peer(node_id, wire.unpack("addrs", packed, limit=1024))
    except InvalidRecord:
        return None  # a damaged row is worth no more than a peer not met
