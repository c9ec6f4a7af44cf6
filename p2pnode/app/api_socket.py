"""Where the local API listens: `api.sock` in the data directory, or a short path elsewhere.

The kernel allows 107 bytes for a Unix socket's path. A longer one moves to a fresh 0700
directory, which the file `api.path` names (`p2pnode.app.client` reads it).
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from p2pnode.app.client import SOCKET, SOCKET_POINTER
from p2pnode.base.errors import StorageFault

MAX_PATH: Final = 100  # bytes
_PREFIX: Final = "p2pnode-"


def claim(data_dir: Path) -> Path:
    """Return the path to bind; the caller holds the data directory's lock.

    What a killed daemon left behind is removed. Raises StorageFault.
    """
    try:
        release(data_dir)
        path = data_dir / SOCKET
        if len(os.fsencode(path.absolute())) <= MAX_PATH:
            return path
        runtime = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=os.environ.get("XDG_RUNTIME_DIR")))
        pointer = data_dir / SOCKET_POINTER
        beside = pointer.with_suffix(".new")
        beside.write_text(f"{runtime / SOCKET}\n")
        beside.replace(pointer)
    except OSError as error:
        raise StorageFault(f"{SOCKET}: {error.strerror}") from None
    return runtime / SOCKET


def release(data_dir: Path) -> None:
    """Remove the socket, and the directory and pointer that a long path needed."""
    (data_dir / SOCKET).unlink(missing_ok=True)
    pointer = data_dir / SOCKET_POINTER
    if pointer.exists():
        runtime = Path(pointer.read_text().strip()).parent
        pointer.unlink()
        if runtime.name.startswith(_PREFIX):
            shutil.rmtree(runtime, ignore_errors=True)
