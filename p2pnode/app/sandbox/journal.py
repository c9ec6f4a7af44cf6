"""The sandbox's blocks on disk: one append-only file, replayed through the kernel on opening.

The kernel's own store does not survive a kill: it writes its block index on closing alone,
and a chain of 150 blocks came back as height 0. A record is a 4-byte big-endian length, the
first 8 bytes of the block's SHA-256, and the block, in the order the kernel took them. A
torn last record is cut off; damage before it is an error, never repaired in silence.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Final

from p2pnode.base.errors import Locked, StorageFault

MAGIC: Final = b"p2pnode sandbox blocks 1\n"
MAX_BLOCK: Final = 4_000_000
_PREFIX: Final = "p2pnode-chain-"
_YOUNG: Final = 60  # seconds
_LENGTH: Final = 4
_CHECK: Final = 8


class KernelStore:
    """A directory for the kernel's files, which are worth nothing once it has closed.

    Without a data directory it is a temporary one; those that a killed sandbox left are
    swept away by the next, told from living ones by the lock on the directory itself.
    """

    def __init__(self, directory: Path | None) -> None:
        try:
            if directory:
                self.path = directory / "kernel"
                shutil.rmtree(self.path, ignore_errors=True)
                self.path.mkdir(mode=0o700)
            else:
                _sweep(Path(tempfile.gettempdir()))
                self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
            self._held = os.open(self.path, os.O_RDONLY)
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StorageFault(f"the kernel's directory: {error.strerror or error}") from None

    def close(self) -> None:
        """Remove it with all it holds."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._held)


def _sweep(folder: Path) -> None:
    for left in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            held = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
            try:
                owned = os.fstat(held)
                young = time.time() - owned.st_mtime < _YOUNG  # made, but not yet locked
                if owned.st_uid == os.getuid() and not young:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(held)


def _check(raw: bytes) -> bytes:
    return hashlib.sha256(raw).digest()[:_CHECK]


class Journal:
    """The blocks of one data directory, which it holds locked until `close`."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "blocks.journal"
        self._whole = True
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(directory / "sandbox.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._lock)
                raise Locked(f"another sandbox runs on {directory}: stop it first") from None
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise self._fault(error) from None

    def read(self) -> list[bytes]:
        """Return every block written so far; cuts off a torn end. Raises StorageFault."""
        try:
            raw = self._path.read_bytes()
            if len(raw) < len(MAGIC) and MAGIC.startswith(raw):
                os.ftruncate(self._file, 0)
                os.write(self._file, MAGIC)
                return []
            if not raw.startswith(MAGIC):
                raise StorageFault(f"{self._path} is not a journal of sandbox blocks")
            blocks, end = self._records(raw)
            os.ftruncate(self._file, end)
        except OSError as error:
            raise self._fault(error) from None
        return blocks

    def _records(self, raw: bytes) -> tuple[list[bytes], int]:
        blocks, at = [], len(MAGIC)
        while at < len(raw):
            start = at + _LENGTH + _CHECK
            size = int.from_bytes(raw[at : at + _LENGTH], "big")
            end = start + size
            if start > len(raw) or end > len(raw):
                break
            block = raw[start:end]
            if size > MAX_BLOCK or _check(block) != raw[at + _LENGTH : start]:
                if end == len(raw):
                    break
                raise StorageFault(f"{self._path} is damaged at byte {at}; remove it to start anew")
            blocks.append(block)
            at = end
        return blocks, at

    def check(self) -> None:
        """Raise StorageFault after a failure: a block after a missing one would be lost."""
        if not self._whole:
            raise StorageFault(f"{self._path} misses a block since an earlier error; restart")

    def append(self, block: bytes) -> None:
        """Add a block that the kernel took. Raises StorageFault, then and ever after."""
        self.check()
        record = len(block).to_bytes(_LENGTH, "big") + _check(block) + block
        try:
            if os.write(self._file, record) != len(record):
                raise OSError("the disk is full")  # noqa: TRY301 (one sentence for both)
        except OSError as error:
            self._whole = False
            raise self._fault(error) from None

    def sync(self) -> None:
        """Bring what was written to the disk itself. Raises StorageFault."""
        try:
            os.fsync(self._file)
        except OSError as error:
            self._whole = False
            raise self._fault(error) from None

    def close(self) -> None:
        """Let go of the file and the lock."""
        os.close(self._file)
        os.close(self._lock)

    def _fault(self, error: OSError) -> StorageFault:
        return StorageFault(f"{self._path}: {error.strerror or error}")
