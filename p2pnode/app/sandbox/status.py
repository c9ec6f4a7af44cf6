"""What the Electrum protocol's two subscriptions tell: the tip, and a script's status."""

import hashlib
from typing import Any

from p2pnode.app.sandbox.mempool import Sandbox
from p2pnode.base.transaction import display


def tip(box: Sandbox) -> dict[str, Any]:
    """Return the tip as `blockchain.headers.subscribe` writes it."""
    return {"hex": box.chain.index.headers[-1].raw.hex(), "height": box.height}


def script_status(box: Sandbox, name: str) -> str | None:
    """Return the status of a scripthash: a hash of its history, None without one."""
    parts = [f"{display(t)}:{h}:" for h, t in box.chain.index.history.get(name, ())]
    for txid in box.pool.by_script.get(name, ()):
        parts.append(f"{display(txid)}:{-1 if box.pool.entries[txid].parents else 0}:")
    return hashlib.sha256("".join(parts).encode()).hexdigest() if parts else None
