"""What the wallet must keep: addresses handed out, and payments signed but not confirmed.

Coins and history are read from the chain again at each start; only a script given away
and not yet paid, and a payment that no block holds yet, are known nowhere else. Keychain
0 receives, 1 takes change (BIP 44).
"""

from collections.abc import Iterable
from typing import Final

from p2pnode.base.store import Database

KEYCHAINS: Final = (0, 1)
_SCRIPTS: Final = (
    "CREATE TABLE wallet_index (keychain INTEGER PRIMARY KEY, next INTEGER NOT NULL) STRICT",
    "CREATE TABLE wallet_payment (txid BLOB PRIMARY KEY, raw BLOB NOT NULL) STRICT",
)


class AddressIndex:
    """The next unused index of each keychain; it only grows."""

    def __init__(self, database: Database) -> None:
        self._db = database
        database.migrate("wallet", _SCRIPTS)
        rows = database.all("SELECT keychain, next FROM wallet_index")
        self.fresh = not rows  # nothing known: look further ahead for coins of an earlier life

    def next(self, keychain: int) -> int:
        """Return the lowest index never handed out."""
        row = self._db.one("SELECT next FROM wallet_index WHERE keychain = ?", keychain)
        return int(row["next"]) if row else 0

    def raise_to(self, keychain: int, index: int) -> None:
        """Record that everything below `index` has been handed out or used."""
        with self._db.transaction():
            self._db.run(
                "INSERT INTO wallet_index VALUES (?, ?) "
                "ON CONFLICT (keychain) DO UPDATE SET next = max(next, excluded.next)",
                keychain,
                index,
            )

    def take(self, keychain: int) -> int:
        """Hand out the next index."""
        index = self.next(keychain)
        self.raise_to(keychain, index + 1)
        return index


class Payments:
    """Own payments whose fate is open: their coins are spent, and they are offered again.

    The methods join the caller's `Database.transaction`.
    """

    def __init__(self, database: Database) -> None:
        self._db = database
        database.migrate("wallet", _SCRIPTS)

    def all(self) -> dict[bytes, bytes]:
        """Return the signed transactions by txid, the oldest first."""
        rows = self._db.all("SELECT txid, raw FROM wallet_payment ORDER BY rowid")
        return {row["txid"]: row["raw"] for row in rows}

    def add(self, txid: bytes, raw: bytes) -> None:
        """Keep a payment; call it before the broadcast."""
        with self._db.transaction():
            self._db.run("INSERT INTO wallet_payment VALUES (?, ?)", txid, raw)

    def forget(self, txids: Iterable[bytes]) -> None:
        """Drop payments that are confirmed, contradicted or refused."""
        with self._db.transaction():
            for txid in txids:
                self._db.run("DELETE FROM wallet_payment WHERE txid = ?", txid)
