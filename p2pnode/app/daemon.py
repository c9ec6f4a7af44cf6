"""The node as a process: the lock, the log, the signals, the exit code.

The lock is an flock on `lock`, held for the life of the process, so a killed daemon
leaves none; the file is removed by a daemon that ends by itself, as its last act.
"""

import fcntl
import logging
import logging.handlers
import os
import resource
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import trio

from p2pnode.app.config import Settings
from p2pnode.base.errors import Locked, NodeError, StorageFault
from p2pnode.base.groups import fault_of
from p2pnode.base.keystore import Keystore

LOCK: Final = "lock"
LOG: Final = "node.log"
LOG_BYTES: Final = 4 * 1024 * 1024
LOG_FILES: Final = 3
INTERRUPTED: Final = 130
MAX_FILES: Final = 65_536  # descriptors: a seed holds thousands of connections
_log = logging.getLogger(__name__)


def run(settings: Settings, open_keys: Callable[[], Keystore], ready: Callable[..., None]) -> int:
    """Run the node until it is told to stop; return the exit code.

    The lock is taken before anything is opened. Raises Locked for a second daemon.
    """
    os.umask(0o077)
    with lock(settings.data_dir):
        keystore = open_keys()
        configure_logging(settings.data_dir)
        raise_file_limit()
        try:
            return trio.run(partial(_main, settings, keystore, ready))
        except NodeError as alone:
            _log.error("the node ends: %s", alone)
            raise
        except BaseExceptionGroup as group:
            fault = fault_of(group)
            if fault is None:
                _log.critical("the node ends: a bug", exc_info=group)
                raise
            _log.error("the node ends: %s", fault)
            raise fault from None


async def _main(settings: Settings, keystore: Keystore, ready: Callable[..., None]) -> int:
    from p2pnode.app.node import run_node

    stop, code = trio.Event(), 0

    async def watch(signals: AsyncIterator[int]) -> None:
        nonlocal code
        async for number in signals:
            if stop.is_set():  # asked twice: do not finish what is under way
                nursery.cancel_scope.cancel()
            if number == signal.SIGINT:
                code = INTERRUPTED
            stop.set()

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, signals)
            await run_node(settings, keystore, ready, stop)
            nursery.cancel_scope.cancel()
    return code


@contextmanager
def lock(data_dir: Path) -> Iterator[None]:
    """Hold the data directory. Raises Locked naming the daemon that has it, StorageFault."""
    path = data_dir / LOCK
    try:
        _acquire(path)
    except BlockingIOError:
        raise Locked(f"a daemon{_holder(path)} already runs on {data_dir}") from None
    except OSError as error:
        raise StorageFault(f"{LOCK}: {error.strerror}") from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # the descriptor stays: who waits on it waits for our end


def _acquire(path: Path) -> None:
    """Lock the file that bears the name now, not one that its holder has just removed.

    The descriptor is never closed, so the lock ends with the process and not before.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(path.stat(), os.fstat(descriptor)):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()}\n".encode())
                return
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _holder(path: Path) -> str:
    try:
        with path.open() as file:
            pid = file.read(20).strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return f" (pid {pid})" if pid.isdecimal() else ""


def raise_file_limit() -> int:
    """Allow this process as many descriptors as its hard limit does, within reason."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as error:  # some systems allow less than they say
        _log.warning("at most %d descriptors can be open: %s", soft, error)
        return soft
    return wanted


class _Formatter(logging.Formatter):
    """UTC times; a peer's text cannot forge a line or redraw a terminal."""

    converter = staticmethod(time.gmtime)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Write the line with control characters escaped."""
        return "".join(
            c if c.isprintable() else c.encode("unicode_escape").decode()
            for c in super().formatMessage(record)
        )


def configure_logging(data_dir: Path) -> None:
    """Send every log record of this process to `node.log`, bounded by rotation."""
    path = data_dir / LOG
    try:
        handler = logging.handlers.RotatingFileHandler(
            path, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8"
        )
        path.chmod(0o600)
    except OSError as error:
        raise StorageFault(f"{LOG}: {error.strerror}") from None
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.raiseExceptions = False  # a full disk must not fill stderr
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for room in ("p2pnode", "dht", "orderbook", "escrow"):
        logging.getLogger(room).setLevel(logging.INFO)
