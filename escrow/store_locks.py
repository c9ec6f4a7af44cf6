"""Which coins a trade holds. In the node's one database, so a lock survives any crash.

A coin is locked for one trade at most; whoever pays from the wallet asks here first. The
methods join the caller's `Database.transaction`, so that a lock and the step that needs
it are committed together (the shell law). An outpoint is stored as the protocol's 36
bytes. Releasing is the trade's decision: a coin whose signature has left stays locked
until a spend of it is 6 deep (docs/trade.md, section 4).
"""

from collections.abc import Collection
from typing import Final

from p2pnode.base.errors import LocalFault
from p2pnode.base.store import Database
from p2pnode.base.transaction import Outpoint

_SCRIPTS: Final = (
    "CREATE TABLE coin_lock (outpoint BLOB PRIMARY KEY, trade_id BLOB NOT NULL) STRICT;"
    "CREATE INDEX coin_lock_trade ON coin_lock (trade_id)",
)


class CoinLocks:
    """The locks of one node."""

    def __init__(self, database: Database) -> None:
        self._db = database
        database.migrate("locks", _SCRIPTS)

    def lock(self, outpoints: Collection[Outpoint], trade_id: bytes) -> None:
        """Lock all of them for `trade_id`, or none. Raises LocalFault if another trade has one."""
        held = self.owners()
        for outpoint in outpoints:
            if held.get(outpoint, trade_id) != trade_id:
                raise LocalFault(
                    f"coin {outpoint} is locked for trade {held[outpoint].hex()[:12]} already",
                    field="outpoint",
                )
        with self._db.transaction():
            for outpoint in outpoints:
                self._db.run(
                    "INSERT INTO coin_lock VALUES (?, ?) ON CONFLICT (outpoint) DO NOTHING",
                    outpoint.wire(),
                    trade_id,
                )

    def unlock(self, trade_id: bytes) -> None:
        """Release every coin of a trade."""
        with self._db.transaction():
            self._db.run("DELETE FROM coin_lock WHERE trade_id = ?", trade_id)

    def locked(self) -> set[Outpoint]:
        """Return every locked coin."""
        return set(self.owners())

    def owners(self) -> dict[Outpoint, bytes]:
        """Return the trade that holds each locked coin."""
        rows = self._db.all("SELECT outpoint, trade_id FROM coin_lock ORDER BY outpoint")
        return {Outpoint.from_wire("outpoint", row["outpoint"]): row["trade_id"] for row in rows}
