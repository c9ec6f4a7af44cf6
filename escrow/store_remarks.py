"""What a node keeps beside its trades for its own user: remarks, reminders given, words read.

Neither is ever sent, and no machine reads it.
"""

from collections.abc import Iterable
from typing import Final

from p2pnode.base import wire
from p2pnode.base.store import Database

MAX_REMARK: Final = 2000  # bytes
_SCRIPTS: Final = (
    """
    CREATE TABLE trade_remark (
        trade_id BLOB PRIMARY KEY, remark TEXT NOT NULL
    ) STRICT;
    CREATE TABLE trade_reminder (
        trade_id BLOB NOT NULL, name TEXT NOT NULL, hours INTEGER NOT NULL,
        PRIMARY KEY (trade_id, name, hours)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE chat_read (
        trade_id BLOB NOT NULL, id BLOB NOT NULL, PRIMARY KEY (trade_id, id)
    ) STRICT, WITHOUT ROWID
    """,
)


class Remarks:
    """The tables; every write belongs inside the caller's `Database.transaction`."""

    def __init__(self, database: Database) -> None:
        self.database = database
        database.migrate("remarks", _SCRIPTS)

    def remark(self, trade_id: bytes) -> str:
        """Return the user's remark on a trade or case, or nothing."""
        row = self.database.one("SELECT remark FROM trade_remark WHERE trade_id = ?", trade_id)
        return str(row["remark"]) if row else ""

    def set_remark(self, trade_id: bytes, text: str) -> None:
        """Write the remark in place of the one before; empty text removes it.

        Raises InvalidRecord naming `text` for control characters or too much of it.
        """
        wire.text("text", text, MAX_REMARK)
        self.database.run("DELETE FROM trade_remark WHERE trade_id = ?", trade_id)
        if text:
            self.database.run("INSERT INTO trade_remark VALUES (?, ?)", trade_id, text)

    def given(self, trade_id: bytes) -> frozenset[tuple[str, int]]:
        """Return the reminders that were given: what was due, and hours before it."""
        rows = self.database.all(
            "SELECT name, hours FROM trade_reminder WHERE trade_id = ?", trade_id
        )
        return frozenset((r["name"], r["hours"]) for r in rows)

    def give(self, trade_id: bytes, name: str, hours: int) -> None:
        """Keep that a reminder was given."""
        self.database.run(
            "INSERT OR IGNORE INTO trade_reminder VALUES (?, ?, ?)", trade_id, name, hours
        )

    def read(self, trade_id: bytes) -> frozenset[bytes]:
        """Return the ids of others' chat messages that our user has been shown."""
        rows = self.database.all("SELECT id FROM chat_read WHERE trade_id = ?", trade_id)
        return frozenset(r["id"] for r in rows)

    def mark_read(self, trade_id: bytes, ids: Iterable[bytes]) -> None:
        """Keep that these were shown."""
        for one in ids:
            self.database.run("INSERT OR IGNORE INTO chat_read VALUES (?, ?)", trade_id, one)
