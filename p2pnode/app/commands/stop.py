"""`p2pnode stop`: end the running node, and wait until it has let go of its data."""

import fcntl
import time
from pathlib import Path
from typing import Final

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
    answer = session.client.post("/v1/stop")
    deadline = time.monotonic() + timeout
    while _held(session.data_dir / LOCK):
        if time.monotonic() > deadline:
            raise Locked(f"the daemon (pid {answer['pid']}) is still running after {timeout:g} s")
        time.sleep(POLL_S)
    session.emit({"stopped": True, "pid": answer["pid"]}, "stopped")


def _held(path: Path) -> bool:
    """Tell whether a daemon still holds the data directory's lock."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
