"""A power cut under SQLite: what was not synced is gone, or torn, when a node dies.

Besides the points of points_node.py a cut can come inside a commit, when its pages are written
and the write-ahead log is about to be synced.

A VFS (apsw) over the real files notes each write until its file is synced. A death leaves the
synced bytes and of the rest whichever 512-byte sectors the seed keeps, none among them. apsw
brings a SQLite of its own; it opens the same files, by the same statements, as `sqlite3` does.
A VFS written in Python has no shared memory, so the connection is exclusive: the write-ahead
log, its checksums and its syncs are the same.
"""

import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import apsw
from points_node import FILE, PointNode, Points

NAME = "power"
SECTOR = 512


@dataclass
class Platter:
    """One file: what would survive, and what the operating system still holds."""

    synced: bytearray = field(default_factory=bytearray)
    waiting: list[tuple[int, bytes | None]] = field(default_factory=list)  # None: cut there

    def sync(self) -> None:
        for offset, data in self.waiting:
            _put(self.synced, offset, data)
        self.waiting.clear()

    def after_a_cut(self, chance: random.Random, keeps: float) -> bytes:
        """Return the file's bytes when the power comes back."""
        left = bytearray(self.synced)
        for offset, data in self.waiting:
            if data is None:
                if chance.random() < keeps:
                    _put(left, offset, None)
                continue
            for at in range(0, len(data), SECTOR):
                if chance.random() < keeps:
                    _put(left, offset + at, data[at : at + SECTOR])
        return bytes(left)


def _put(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        return
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


class Disk:
    """Every file that the VFS has open or has written, by path."""

    def __init__(self) -> None:
        self.files: dict[str, Platter] = {}
        self.lost = 0  # writes that a cut found unsynced
        self.committing: PointNode | None = None  # dies when it syncs next

    def of(self, path: str) -> Platter:
        if path not in self.files:
            there = Path(path)
            self.files[path] = Platter(bytearray(there.read_bytes() if there.exists() else b""))
        return self.files[path]


class _File(apsw.VFSFile):  # type: ignore[misc]
    def __init__(self, disk: Disk, name: Any, flags: Any) -> None:
        super().__init__("", name, flags)
        self._disk = disk
        self._path = name if isinstance(name, str) else name.filename()
        self._platter = disk.of(self._path)

    def xWrite(self, data: bytes, offset: int) -> None:
        super().xWrite(data, offset)
        self._platter.waiting.append((offset, bytes(data)))

    def xTruncate(self, size: int) -> None:
        super().xTruncate(size)
        self._platter.waiting.append((size, None))

    def xSync(self, flags: int) -> None:
        node = self._disk.committing
        if node is not None and Path(self._path).parent == node.folder:
            self._disk.committing = None
            node.die()  # SQLite goes on, over files that nobody opens again
        super().xSync(flags)
        self._platter.sync()


class _VFS(apsw.VFS):  # type: ignore[misc]
    def __init__(self, disk: Disk) -> None:
        super().__init__(NAME, "")
        self._disk = disk

    def xOpen(self, name: Any, flags: Any) -> _File:
        return _File(self._disk, name, flags)

    def xDelete(self, name: str, sync: bool) -> None:
        super().xDelete(name, sync)
        self._disk.files.pop(name, None)


class Row(tuple[Any, ...]):
    """A row that is asked by name too, as sqlite3.Row is."""

    names: tuple[str, ...]

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self.names.index(key) if isinstance(key, str) else key)

    def keys(self) -> tuple[str, ...]:
        return self.names


class _Answer:
    def __init__(self, rows: list[Row], count: int) -> None:
        self._rows, self.rowcount = rows, count

    def fetchall(self) -> list[Row]:
        return self._rows


class _Connection:
    """As much of sqlite3.Connection as base.store uses."""

    row_factory: Any = None

    def __init__(self, path: str) -> None:
        self._db = apsw.Connection(path, vfs=NAME)
        self.execute("PRAGMA locking_mode=EXCLUSIVE")

    def execute(self, sql: str, args: Sequence[Any] = ()) -> _Answer:
        try:
            cursor = self._db.cursor()
            cursor.execute(sql, tuple(args))
            names = tuple(c[0] for c in cursor.get_description()) if cursor.description else ()
            found = [Row(values) for values in cursor]
        except apsw.ConstraintError as error:
            raise sqlite3.IntegrityError(str(error)) from None
        except apsw.ExecutionCompleteError:
            names, found = (), []
        except apsw.Error as error:
            raise sqlite3.OperationalError(str(error)) from None
        for row in found:
            row.names = names
        return _Answer(found, self._db.changes())

    def rollback(self) -> None:
        if self._db.in_transaction:
            self.execute("ROLLBACK")

    def close(self) -> None:
        self._db.close()


class InCommit(Points):
    """The armed point, one before a commit, is the death inside that commit."""

    def __init__(self, armed: int, disk: Disk) -> None:
        super().__init__(armed)
        self._disk = disk

    def dies(self, node: PointNode) -> bool:
        if super().dies(node):
            self.deaths.append((node.name, f"inside {self.trace[-1][1].partition(' ')[2]}"))
            self._disk.committing = node
        return False


@contextmanager
def power_cuts(seed: int, *, synchronous: str = "FULL") -> Iterator[Disk]:
    """Let each death in the block be a power cut; `synchronous` spoils the pragma, as a control."""
    disk, chance = Disk(), random.Random(seed)
    vfs = _VFS(disk)
    execute = _Connection.execute

    def spoiled(self: _Connection, sql: str, args: Sequence[Any] = ()) -> _Answer:
        return execute(self, sql.replace("synchronous=FULL", f"synchronous={synchronous}"), args)

    def copy_disk(self: PointNode, to: Path) -> None:
        keeps = chance.choice((0.0, 0.0, 0.5, 0.9))  # half of the cuts lose all that waited
        to.mkdir()
        for path in self.folder.glob(f"{FILE}*"):
            if not path.name.endswith("-shm"):
                platter = disk.of(str(path))
                disk.lost += len(platter.waiting)
                (to / path.name).write_bytes(platter.after_a_cut(chance, keeps))

    with (
        patch.object(sqlite3, "connect", lambda path, **_: _Connection(path)),
        patch.object(_Connection, "execute", spoiled),
        patch.object(PointNode, "copy_disk", copy_disk),
    ):
        yield disk
    vfs.unregister()
