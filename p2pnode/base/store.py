"""The node's one SQLite file: WAL, full sync, STRICT tables, forward-only migrations.

Each room brings its own numbered list of SQL scripts; `migrate` applies what is new,
after copying the file aside, and refuses a file that a newer program has written.
`Database.transaction` is the only way to write: one transaction a step (the shell law).
"""

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from p2pnode.base.errors import StorageFault


class Database:
    """One connection, used from one thread; nested transactions join the outer one.

    Without `durable` the last commits may be lost with the power, never with the process,
    and no commit waits for the disk: for what strangers have us keep.
    """

    def __init__(self, path: Path | None, *, durable: bool = True) -> None:
        self._path = path
        self._depth = 0
        try:
            self._db = sqlite3.connect(
                str(path) if path else ":memory:", isolation_level=None, check_same_thread=False
            )
            if path:
                path.chmod(0o600)
            self._db.row_factory = sqlite3.Row
            sync = "FULL" if durable else "NORMAL"
            for pragma in ("journal_mode=WAL", f"synchronous={sync}", "foreign_keys=ON"):
                self._db.execute(f"PRAGMA {pragma}")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS migration ("
                "room TEXT PRIMARY KEY, number INTEGER NOT NULL) STRICT"
            )
        except (sqlite3.Error, OSError) as error:
            raise _storage(path, error) from None

    def migrate(self, room: str, scripts: Sequence[str]) -> None:
        """Bring `room` up to `scripts`. Raises StorageFault for a newer file."""
        row = self.one("SELECT number FROM migration WHERE room = ?", room)
        done = row["number"] if row else 0
        if done > len(scripts):
            raise StorageFault(
                f"{self._path}: {room} was written by a newer version ({done} > {len(scripts)}); "
                "upgrade p2pnode to open it"
            )
        if done == len(scripts):
            return
        if self._path and done:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            shutil.copy2(self._path, self._path.with_suffix(f".before-{room}-{len(scripts)}"))
        with self.transaction():
            for script in scripts[done:]:
                for statement in script.split(";"):
                    if statement.strip():
                        self.run(statement)
            self.run(
                "INSERT INTO migration VALUES (?, ?) "
                "ON CONFLICT (room) DO UPDATE SET number = excluded.number",
                room,
                len(scripts),
            )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything inside at once, or nothing if it raises."""
        if self._depth:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
            return
        self.run("BEGIN IMMEDIATE")
        self._depth = 1
        try:
            yield
        except BaseException:
            self._depth = 0
            self._db.rollback()
            raise
        self._depth = 0
        try:
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._db.rollback()
            raise _storage(self._path, error) from None

    def run(self, sql: str, *args: Any) -> int:
        """Execute one statement; returns the number of rows changed. Raises StorageFault."""
        try:
            return self._db.execute(sql, args).rowcount
        except sqlite3.IntegrityError:
            raise  # a broken invariant of ours: a bug, never the disk
        except (sqlite3.Error, OSError) as error:
            raise _storage(self._path, error) from None

    def all(self, sql: str, *args: Any) -> list[sqlite3.Row]:
        """Return every row of a query. Raises StorageFault."""
        try:
            return self._db.execute(sql, args).fetchall()
        except (sqlite3.Error, OSError) as error:
            raise _storage(self._path, error) from None

    def one(self, sql: str, *args: Any) -> sqlite3.Row | None:
        """Return the first row of a query or None. Raises StorageFault."""
        rows = self.all(sql, *args)
        return rows[0] if rows else None

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _storage(path: Path | None, error: Exception) -> StorageFault:
    where = path.name if path else "the database"
    return StorageFault(f"{where}: {error}; free space or mend the disk, nothing was changed")
