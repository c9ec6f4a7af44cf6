"""The bans of a node, in the same file as what it holds for others.

The file holds what `Standing` remembers: at most 4,096 bans, and each for a day after its end,
since a ban that follows within that day lasts twice as long.
"""

from typing import Final

from dht.standing import LONGEST_BAN, MAX_BANS, Ban
from p2pnode.base.store import Database

ROOM: Final = "bans"
_SCRIPTS: Final = (
    """
    CREATE TABLE dht_ban (
        subject TEXT PRIMARY KEY, reason TEXT NOT NULL, since INTEGER NOT NULL,
        until INTEGER NOT NULL, by_hand INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
)


class BanStore:
    """Keeps bans over a restart."""

    def __init__(self, database: Database) -> None:
        self._db = database
        database.migrate(ROOM, _SCRIPTS)

    def all(self, now: int) -> list[Ban]:
        """Return the bans in force or over for less than a day, in order; forget the others."""
        with self._db.transaction():
            self._db.run("DELETE FROM dht_ban WHERE until <= ?", now - LONGEST_BAN)
        rows = self._db.all(
            "SELECT subject, reason, since, until, by_hand FROM dht_ban ORDER BY since, subject"
        )
        return [
            Ban(r["subject"], r["reason"], r["since"], r["until"], by_hand=bool(r["by_hand"]))
            for r in rows
        ]

    def save(self, ban: Ban) -> None:
        """Keep a ban, in place of an earlier one of the same subject, and not too many."""
        with self._db.transaction():
            self._db.run("DELETE FROM dht_ban WHERE until <= ?", ban.since - LONGEST_BAN)
            self._db.run(
                "INSERT OR REPLACE INTO dht_ban VALUES (?, ?, ?, ?, ?)",
                *(ban.subject, ban.reason, ban.since, ban.until, int(ban.by_hand)),
            )
            self._db.run(
                "DELETE FROM dht_ban WHERE subject IN (SELECT subject FROM dht_ban ORDER BY "
                "by_hand AND until > ?, until, since, subject "
                "LIMIT max(0, (SELECT count(*) FROM dht_ban) - ?))",
                *(ban.since, MAX_BANS),
            )

    def remove(self, subject: str) -> None:
        """Forget a ban."""
        with self._db.transaction():
            self._db.run("DELETE FROM dht_ban WHERE subject = ?", subject)
