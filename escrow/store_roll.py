"""The roll of arbiters in node.sqlite: the records that this node has seen, verified, bounded.

A record that a living trade lists is kept until that trade ends, whatever else is seen: without
it the draw cannot be shown to the arbiter. Of all others the latest seen stay. The tables are
the journal's (`store_journal`); every write belongs inside the caller's transaction.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from escrow.arbiters import ArbiterRecord
from escrow.bond import is_proven
from p2pnode.base.errors import LocalFault
from p2pnode.base.networks import Network
from p2pnode.base.ports import Chain
from p2pnode.base.store import Database

SEEN_S: Final = 30 * 86_400
MAX_RECORDS: Final = 20_000  # besides those that living trades list
MAX_HOLDERS: Final = 100  # living trades, each of two lists


class Roll:
    """Arbiters' records, and which of them a living trade needs."""

    def __init__(self, database: Database, network: Network) -> None:
        self._database = database
        self._network = network

    def put(self, records: Iterable[ArbiterRecord], now: int) -> tuple[bytes, ...]:
        """Keep verified records; returns the ids of those that had to go, the longest unseen."""
        for record in records:
            self._database.run(
                "INSERT INTO arbiter_record VALUES (?, ?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at",
                record.id,
                record.wire(),
                record.outpoint,
                now,
            )
        rows = self._database.all(
            "SELECT id FROM arbiter_record WHERE id NOT IN (SELECT id FROM trade_record)"
            " ORDER BY seen_at DESC LIMIT -1 OFFSET ?",
            MAX_RECORDS,
        )
        for row in rows:
            self._database.run("DELETE FROM arbiter_record WHERE id = ?", row["id"])
        return tuple(r["id"] for r in rows)

    def all(self) -> dict[bytes, ArbiterRecord]:
        """Return every record known here, by id."""
        rows = self._database.all("SELECT id, raw FROM arbiter_record")
        return {r["id"]: ArbiterRecord.from_wire(r["raw"], self._network) for r in rows}

    def seen_weight(self, now: int, known: Mapping[bytes, ArbiterRecord], chain: Chain) -> int:
        """Return the weight, by the tip's clock, of what was seen in 30 days and could be drawn.

        `known` are the records by id. A bond that our chain does not show weighs nothing: else
        anyone could invent so many that no set would ever be large enough. Nor does one that
        is no longer locked long enough: it was seen, and its time is simply over.
        """
        rows = self._database.all("SELECT id FROM arbiter_record WHERE seen_at > ?", now - SEEN_S)
        found = [known[r["id"]] for r in rows if r["id"] in known]
        mtp = chain.tip().mtp
        weights = {r.outpoint: self._weight(r, mtp, chain) for r in found}
        return sum(weights.values())

    def _weight(self, record: ArbiterRecord, mtp: int, chain: Chain) -> int:
        bond, network = record.bond, self._network
        if bond is None:
            return 1
        if bond.lock_time < mtp + network.bond_lock_s or not is_proven(bond, chain):
            return 0
        weight = bond.weight(mtp)
        return weight if weight >= network.bond_weight else 0

    # -- what living trades list

    def hold(self, trade_id: bytes, ids: Iterable[bytes]) -> None:
        """Keep these records, seen already or not, until the trade ends.

        Raises LocalFault for one trade more than there is room for.
        """
        if self.full() and not self._holds(trade_id):
            raise LocalFault(f"{MAX_HOLDERS} trades live here: no more until one has ended")
        for record_id in ids:
            self._database.run(
                "INSERT OR IGNORE INTO trade_record VALUES (?, ?)", trade_id, record_id
            )

    def let_go(self, trade_id: bytes) -> None:
        """Forget what a trade that has ended listed."""
        self._database.run("DELETE FROM trade_record WHERE trade_id = ?", trade_id)

    def full(self) -> bool:
        """Tell whether as many trades live as records are kept for."""
        row = self._database.one("SELECT count(DISTINCT trade_id) AS n FROM trade_record")
        return row is not None and row["n"] >= MAX_HOLDERS

    def _holds(self, trade_id: bytes) -> bool:
        sql = "SELECT 1 FROM trade_record WHERE trade_id = ? LIMIT 1"
        return self._database.one(sql, trade_id) is not None
