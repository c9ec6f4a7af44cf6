"""How many addresses of each keychain have been handed out: all that the wallet must keep.

Coins and history are read from the chain again at each start; only a script given away
and not yet paid is known nowhere else. Keychain 0 receives, 1 takes change (BIP 44).
"""

from typing import Final

from p2pnode.base.store import Database

KEYCHAINS: Final = (0, 1)
_SCRIPTS: Final = (
    "CREATE TABLE wallet_index (keychain INTEGER PRIMARY KEY, next INTEGER NOT NULL) STRICT",
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
