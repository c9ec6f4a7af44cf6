"""A process that outlives its parent by a moment, to end what the parent has left behind.

Its standard input is a pipe whose other end the parent alone holds. When the parent is
gone, however it went, the pipe ends; then every process of the guard's own process group
is told to end, and killed if it does not. Children join that group as they are spawned,
so there is no moment at which one of them is unguarded. Run as a script, on Linux.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

GRACE_S: Final = 10.0  # for a node to end by itself and let go of its lock
POLL_S: Final = 0.02


def main() -> None:
    """Wait for the parent's end, then end the group; the guard goes with it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    print("guarding", flush=True)
    sys.stdin.buffer.read()
    deadline = time.monotonic() + GRACE_S
    if others():
        os.killpg(0, signal.SIGTERM)
    while others() and time.monotonic() < deadline:
        time.sleep(POLL_S)
    if others():
        os.killpg(0, signal.SIGKILL)


def others() -> list[int]:
    """Return the living processes of this process's group, without itself (proc(5))."""
    group, me, found = os.getpgrp(), os.getpid(), []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            state, _parent, its_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX" and int(path.parent.name) != me:
                found.append(int(path.parent.name))
    return found


if __name__ == "__main__":
    main()
