"""Bitcoin Core's library in this process: loaded when needed, silenced once.

The kernel buffers log lines for a logger that never comes, so logging is switched off;
a second call of that switch aborts the process, so everyone who uses the library asks
here first (the sandbox chain, the escrow's last judge).
"""

import threading
from typing import Any

_lock = threading.Lock()
_silenced = False


def quiet() -> Any:
    """Return the library (`pbk`) with its logging off; any number of calls, any thread."""
    global _silenced
    import pbk
    from pbk.capi import bindings

    with _lock:
        if not _silenced:
            bindings.btck_logging_disable()
            _silenced = True
    return pbk
