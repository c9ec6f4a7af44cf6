"""The outbox of mailboxes, and what was read from them, in the node's SQLite file.

No secret lies here: what is kept of a letter is sealed to its recipient, and the keys of its
boxes are computed anew from the node's own. An entry keeps its place and its bytes from the
moment it is posted, so whatever is repeated after a crash is the same.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from dht import letters
from dht.mailbox import DAY
from p2pnode.base.store import Database

ROOM: Final = "mailbox"
WORD: Final = -1  # the number of a line's first word
KEPT_S: Final = 60 * DAY  # what was applied is remembered: longer than any entry of it lives
_SCRIPTS: Final = (
    """
    CREATE TABLE mailbox_out (
        id INTEGER PRIMARY KEY, peer BLOB NOT NULL, trade_id BLOB NOT NULL,
        number INTEGER NOT NULL, part INTEGER NOT NULL, whole BLOB NOT NULL,
        day INTEGER NOT NULL, slot INTEGER NOT NULL, sealed BLOB NOT NULL,
        nonce BLOB NOT NULL, seq INTEGER NOT NULL, acked INTEGER NOT NULL, tries INTEGER NOT NULL,
        due INTEGER NOT NULL, ended INTEGER NOT NULL,
        UNIQUE (peer, trade_id, number, part), UNIQUE (peer, trade_id, day, slot)
    ) STRICT;
    CREATE INDEX mailbox_out_due ON mailbox_out (due) WHERE ended = 0;
    CREATE TABLE mailbox_gone (
        owner BLOB NOT NULL, number INTEGER NOT NULL, raw BLOB NOT NULL, tries INTEGER NOT NULL,
        due INTEGER NOT NULL, until INTEGER NOT NULL, PRIMARY KEY (owner, number)
    ) STRICT;
    CREATE TABLE mailbox_applied (
        peer BLOB NOT NULL, trade_id BLOB NOT NULL, number INTEGER NOT NULL, whole BLOB NOT NULL,
        until INTEGER NOT NULL, PRIMARY KEY (peer, trade_id, number, whole)
    ) STRICT, WITHOUT ROWID
    """,
)


@dataclass(frozen=True, slots=True)
class Item:
    """An entry of ours that is to lie in a mailbox until it is seen. `due` in unix seconds."""

    id: int
    peer: bytes
    trade_id: bytes
    number: int
    part: int
    whole: bytes
    day: int
    slot: int  # 0…127 in the boxes of its line and day; -1 for a first word
    sealed: bytes
    nonce: bytes  # empty until the work is done
    seq: int
    acked: int  # how many held it when it was put last
    tries: int  # puts in a row that nobody acknowledged
    due: int
    ended: int  # 1: it is put no more


@dataclass(frozen=True, slots=True)
class Gone:
    """A deletion that is to be put."""

    owner: bytes
    number: int
    raw: bytes
    tries: int
    due: int
    until: int


class Outbox:
    """The tables. Every method is one statement or one transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database
        database.migrate(ROOM, _SCRIPTS)

    # -- what is posted

    def whole(self, peer: bytes, trade_id: bytes, number: int) -> bytes | None:
        """Return the hash of the letter posted under that number, or None."""
        row = self._db.one(
            "SELECT whole FROM mailbox_out WHERE peer = ? AND trade_id = ? AND number = ?",
            *(peer, trade_id, number),
        )
        return bytes(row["whole"]) if row else None

    def next_slot(self, peer: bytes, trade_id: bytes, day: int) -> int:
        """Return the first slot of a line and a day that was never used."""
        row = self._db.one(
            "SELECT coalesce(max(slot), -1) + 1 AS n FROM mailbox_out"
            " WHERE peer = ? AND trade_id = ? AND day = ?",
            *(peer, trade_id, day),
        )
        return int(row["n"]) if row else 0

    def add(
        self,
        line: tuple[bytes, bytes],
        part: tuple[int, int, bytes],
        place: tuple[int, int],
        sealed: bytes,
        now: int,
    ) -> None:
        """Keep an entry of `line` (peer, trade id), due at once.

        `part` is (number, part, whole), `place` (day, slot).
        """
        self._db.run(
            "INSERT INTO mailbox_out (peer, trade_id, number, part, whole, day, slot, sealed,"
            " nonce, seq, acked, tries, due, ended)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, x'', 0, 0, 0, ?, 0)",
            *(*line, *part, *place, sealed, now),
        )

    def due(self, now: int, late: int) -> list[int]:
        """Return the ids of what is to be put, in the order of posting, first words last.

        What is due after `late` is due too: the clock was set back.
        """
        rows = self._db.all(
            "SELECT id FROM mailbox_out WHERE ended = 0 AND (due <= ? OR due > ?)"
            " ORDER BY number = ?, id",
            *(now, late, WORD),
        )
        return [row["id"] for row in rows]

    def item(self, id_: int) -> Item | None:
        """Return an entry that is still to be put, or None."""
        row = self._db.one("SELECT * FROM mailbox_out WHERE id = ? AND ended = 0", id_)
        return Item(*row) if row else None

    def items(self, peer: bytes, trade_id: bytes, up_to: int) -> list[Item]:
        """Return the entries of a line still to be put, up to that number, and its first word."""
        rows = self._db.all(
            "SELECT * FROM mailbox_out WHERE peer = ? AND trade_id = ? AND number <= ?"
            " AND ended = 0 ORDER BY id",
            *(peer, trade_id, up_to),
        )
        return [Item(*row) for row in rows]

    def unheld(self, peer: bytes, trade_id: bytes) -> bool:
        """Tell whether a letter of the line is held by nobody yet."""
        found = self._db.one(
            "SELECT 1 FROM mailbox_out WHERE peer = ? AND trade_id = ? AND number <> ?"
            " AND ended = 0 AND acked = 0",
            *(peer, trade_id, WORD),
        )
        return found is not None

    def worked(self, item: Item, nonce: bytes, seq: int) -> bool:
        """Keep an entry's work; False if it has ended meanwhile."""
        return bool(
            self._db.run(
                "UPDATE mailbox_out SET nonce = ?, seq = ? WHERE id = ? AND ended = 0",
                *(nonce, seq, item.id),
            )
        )

    def tried(self, item: Item, acked: int, due: int) -> None:
        """Keep how a put went and when the next is due."""
        self._db.run(
            "UPDATE mailbox_out SET acked = ?, tries = ?, due = ? WHERE id = ?",
            *(acked, 0 if acked else item.tries + 1, due, item.id),
        )

    def end(self, items: Iterable[Item]) -> None:
        """Put these no more; their places stay used."""
        with self._db.transaction():
            for item in items:
                self._db.run("UPDATE mailbox_out SET ended = 1, sealed = x'' WHERE id = ?", item.id)

    # -- deletions

    def delete(self, owner: bytes, number: int, raw: bytes, now: int, until: int) -> None:
        """Keep a deletion, due at once; once for each place."""
        self._db.run(
            "INSERT OR IGNORE INTO mailbox_gone VALUES (?, ?, ?, 0, ?, ?)",
            *(owner, number, raw, now, until),
        )

    def gone_due(self, now: int, late: int) -> list[Gone]:
        """Return the deletions that are to be put."""
        rows = self._db.all(
            "SELECT * FROM mailbox_gone WHERE due <= ? OR due > ? ORDER BY rowid", now, late
        )
        return [Gone(*row) for row in rows]

    def gone_tried(self, gone: Gone, acked: int, due: int) -> None:
        """Forget a deletion that somebody holds; try another one again."""
        where = "WHERE owner = ? AND number = ?"
        if acked:
            self._db.run(f"DELETE FROM mailbox_gone {where}", gone.owner, gone.number)  # noqa: S608
        else:
            self._db.run(
                f"UPDATE mailbox_gone SET tries = tries + 1, due = ? {where}",  # noqa: S608
                *(due, gone.owner, gone.number),
            )

    # -- what was read

    def apply(self, peer: bytes, trade_id: bytes, number: int, whole: bytes, now: int) -> None:
        """Remember that a letter was applied."""
        self._db.run(
            "INSERT OR IGNORE INTO mailbox_applied VALUES (?, ?, ?, ?, ?)",
            *(peer, trade_id, number, whole, now + KEPT_S),
        )

    def applied(self, peer: bytes, trade_id: bytes) -> set[tuple[int, bytes]]:
        """Return (number, whole) of the letters of a line that were applied."""
        rows = self._db.all(
            "SELECT number, whole FROM mailbox_applied WHERE peer = ? AND trade_id = ?",
            *(peer, trade_id),
        )
        return {(row["number"], row["whole"]) for row in rows}

    # -- upkeep

    def purge(self, now: int) -> int:
        """Forget what no holder can keep; return how many entries of it were never seen.

        That is what is too old, and what a clock far ahead has dated: whoever still waits
        for it to be seen posts it again.
        """
        days = (letters.oldest_day(now), letters.newest_day(now))
        with self._db.transaction():
            unseen = self._db.one(
                "SELECT count(*) AS n FROM mailbox_out WHERE ended = 0 AND NOT day BETWEEN ? AND ?",
                *days,
            )
            self._db.run("DELETE FROM mailbox_out WHERE NOT day BETWEEN ? AND ?", *days)
            self._db.run("DELETE FROM mailbox_gone WHERE until <= ?", now)
            self._db.run("DELETE FROM mailbox_applied WHERE until <= ?", now)
        return int(unseen["n"]) if unseen else 0

    def next_due(self) -> int | None:
        """Return when something is due next, unix seconds, or None."""
        row = self._db.one(
            "SELECT min(due) AS due FROM (SELECT due FROM mailbox_out WHERE ended = 0"
            " UNION ALL SELECT due FROM mailbox_gone)"
        )
        return row["due"] if row else None

    def counts(self) -> dict[str, int]:
        """Return how many entries wait to be seen and how many deletions to be put."""
        waiting = self._db.one("SELECT count(*) AS n FROM mailbox_out WHERE ended = 0")
        gone = self._db.one("SELECT count(*) AS n FROM mailbox_gone")
        return {
            "waiting": int(waiting["n"]) if waiting else 0,
            "deletions": int(gone["n"]) if gone else 0,
        }
