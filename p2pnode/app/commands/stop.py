"""`p2pnode stop`: end the running node, and wait until it has let go of its data."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO

import click

from p2pnode.app.commands.frame import Session, common
from p2pnode.base.errors import Locked

LOCK: Final = "lock"
POLL_S: Final = 0.05


@click.command()
@common
@click.option(
    "--timeout", default=30.0, show_default=True, help="Seconds to wait until it has gone."
)
def stop(session: Session, timeout: float) -> None:
    r"""Stop the running node and wait until it has gone.

    \b
    p2pnode stop
    p2pnode stop --data-dir ./maker --timeout 60
    """
    with _opened(session.data_dir / LOCK) as lock:
        answer = session.client.post("/v1/stop")
        deadline = time.monotonic() + timeout
        while lock is not None and _held(lock):
            if time.monotonic() > deadline:
                raise Locked(
                    f"the daemon (pid {answer['pid']}) is still running after {timeout:g} s"
                )
            time.sleep(POLL_S)
    session.emit({"stopped": True, "pid": answer["pid"]}, "stopped")


@contextmanager
def _opened(path: Path) -> Iterator[TextIO | None]:
    """Open the lock before the daemon removes its name; it lets go of it when it ends."""
    try:
        file = path.open()
    except FileNotFoundError:
        yield None
        return
    with file:
        yield file


def _held(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
