"""The price history: a sample of a market's reference every ten minutes, for 90 days.

The room "prices" of node.sqlite. Only markets that were followed, only references that
stood; a gap is where there was none.
"""

from dataclasses import dataclass
from typing import Final

from p2pnode.base.store import Database

EVERY_S: Final = 600
KEPT_S: Final = 90 * 86_400
_SCRIPTS: Final = (
    """
    CREATE TABLE price_sample (
        currency TEXT NOT NULL,
        at INTEGER NOT NULL,
        price INTEGER NOT NULL,
        spread_bp INTEGER NOT NULL,
        PRIMARY KEY (currency, at)
    ) STRICT, WITHOUT ROWID
    """,
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One reference: `price` in minor units per BTC x 10^4, `at` in unix seconds."""

    at: int
    price: int
    spread_bp: int


class PriceStore:
    """The samples."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.migrate("prices", _SCRIPTS)
        self._last: dict[str, int] = {}  # currency -> the span of its last sample

    def due(self, currency: str, now: int) -> bool:
        """Tell whether no sample was kept since the last multiple of EVERY_S."""
        if currency not in self._last:
            row = self._database.one(
                "SELECT max(at) AS at FROM price_sample WHERE currency = ?", currency
            )
            self._last[currency] = (row["at"] if row and row["at"] else 0) // EVERY_S
        return now // EVERY_S > self._last[currency]

    def keep(self, currency: str, now: int, price: int, spread_bp: int) -> None:
        """Keep a sample and drop what is too old. Raises StorageFault."""
        with self._database.transaction():
            self._database.run(
                "INSERT OR REPLACE INTO price_sample VALUES (?, ?, ?, ?)",
                *(currency, now, price, spread_bp),
            )
            self._database.run(
                "DELETE FROM price_sample WHERE currency = ? AND at < ?", currency, now - KEPT_S
            )
        self._last[currency] = now // EVERY_S

    def since(self, currency: str, since: int) -> tuple[Sample, ...]:
        """Return a market's samples from `since` on, oldest first."""
        rows = self._database.all(
            "SELECT at, price, spread_bp FROM price_sample WHERE currency = ? AND at >= ? "
            "ORDER BY at",
            *(currency, since),
        )
        return tuple(Sample(*row) for row in rows)
