"""Proofs of equivocation in node.sqlite: a few of each sender, trade and what, kept for good.

They need no message that lies beside them: a proof is whole in itself and can be handed to
anybody (`escrow.equivocation`).
"""

from typing import Final

from escrow.equivocation import MAX_KEPT, Equivocation, What
from p2pnode.base.errors import InvalidRecord, StorageFault
from p2pnode.base.networks import Network
from p2pnode.base.store import Database

_SCRIPTS: Final = (
    """
    CREATE TABLE equivocation (
        trade_id BLOB NOT NULL, sender BLOB NOT NULL, what INTEGER NOT NULL,
        first BLOB NOT NULL, second BLOB NOT NULL, raw BLOB NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (trade_id, sender, what, first, second)
    ) STRICT
    """,
)


class Proofs:
    """The table; every write belongs inside the caller's transaction."""

    def __init__(self, database: Database, network: Network) -> None:
        self._database = database
        self._network = network
        database.migrate("equivocation", _SCRIPTS)

    def keep(self, proof: Equivocation, now: int) -> bool:
        """Keep a proof; tells whether it is new and there was room for it.

        One pair of messages is one proof, by their ids: a signer can make many signatures of one.
        """
        place = (proof.trade_id, proof.sender, int(proof.what))
        changed = self._database.run(
            "INSERT OR IGNORE INTO equivocation SELECT ?, ?, ?, ?, ?, ?, ?"
            " WHERE (SELECT count(*) FROM equivocation"
            " WHERE trade_id = ? AND sender = ? AND what = ?) < ?",
            *(*place, proof.first.id, proof.second.id, proof.wire(), now),
            *(*place, MAX_KEPT),
        )
        return changed == 1

    def told(self, trade_id: bytes) -> list[tuple[bytes, What]]:
        """Return who signed what twice in a trade, each once."""
        rows = self._database.all(
            "SELECT DISTINCT sender, what FROM equivocation WHERE trade_id = ?"
            " ORDER BY what DESC, sender",
            trade_id,
        )
        return [(r["sender"], What(r["what"])) for r in rows]

    def of(self, trade_id: bytes) -> list[Equivocation]:
        """Return a trade's proofs, verdicts first, then as they were found.

        Raises StorageFault for a damaged one.
        """
        rows = self._database.all(
            "SELECT raw FROM equivocation WHERE trade_id = ? ORDER BY what DESC, rowid", trade_id
        )
        try:
            return [Equivocation.from_wire(r["raw"], self._network) for r in rows]
        except InvalidRecord as error:
            raise StorageFault(f"a kept proof of equivocation is damaged: {error}") from None
