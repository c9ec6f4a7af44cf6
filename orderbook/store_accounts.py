"""The payment accounts on disk: rows of account_id and secretbox, nothing in the clear.

account_id is a salted hash, so a thief of the file without the keystore learns how many
accounts there are and no more.
"""

from collections.abc import Mapping
from typing import Final

from orderbook.account_details import check_details
from orderbook.accounts import NONCE, SALT, Account
from p2pnode.base.errors import InvalidRecord, LocalFault, NotFound, StorageFault
from p2pnode.base.networks import Network
from p2pnode.base.ports import Randomness
from p2pnode.base.store import Database

MAX_ACCOUNTS: Final = 200
_SCRIPTS: Final = (
    """
    CREATE TABLE accounts_account (
        account_id BLOB PRIMARY KEY, sealed BLOB NOT NULL, added_at INTEGER NOT NULL
    ) STRICT
    """,
)


class AccountStore:
    """The accounts of one node, opened with the 32-byte key that the keystore hands in."""

    def __init__(
        self, database: Database, network: Network, key: bytes, randomness: Randomness
    ) -> None:
        self._db, self._network, self._key, self._randomness = database, network, key, randomness
        database.migrate("accounts", _SCRIPTS)

    def __repr__(self) -> str:
        return f"AccountStore({self._network.name})"

    def add(self, name: str, method: str, details: Mapping[str, object], *, now: int) -> Account:
        """Keep a new account. Raises InvalidRecord for a bad field, LocalFault for a taken name."""
        account = Account(
            name=name,
            method=method,
            details=check_details(method, details),
            fixed_salt=self._randomness.bytes(SALT),
        )
        self.check_new(name)
        sealed = account.seal(self._key, self._randomness.bytes(NONCE))
        with self._db.transaction():
            self._db.run(
                "INSERT INTO accounts_account VALUES (?, ?, ?)",
                account.account_id(self._network),
                sealed,
                now,
            )
        return account

    def check_new(self, name: str) -> None:
        """Raise LocalFault if there is an account of that name, or no room for one more."""
        known = self.all()
        if any(a.name == name for a in known):
            raise LocalFault(f"name: there is an account {name!r} already", field="name")
        if len(known) >= MAX_ACCOUNTS:
            raise LocalFault(f"name: there are {MAX_ACCOUNTS} accounts already", field="name")

    def remove(self, account: Account) -> None:
        """Forget an account for good; who still needs it is the caller's to ask."""
        with self._db.transaction():
            self._db.run(
                "DELETE FROM accounts_account WHERE account_id = ?",
                account.account_id(self._network),
            )

    def all(self) -> tuple[Account, ...]:
        """Return every account, oldest first. Raises StorageFault for a tampered row."""
        rows = self._db.all(
            "SELECT account_id, sealed FROM accounts_account ORDER BY added_at, rowid"
        )
        return tuple(self._open(row["account_id"], row["sealed"]) for row in rows)

    def named(self, name: str) -> Account:
        """Return the account of that name. Raises NotFound."""
        for account in self.all():
            if account.name == name:
                return account
        raise NotFound(
            f"account: there is none called {name[:40]!r}; see `p2pnode account list`",
            field="account",
        )

    def get(self, account_id: bytes) -> Account:
        """Return the account with this id. Raises NotFound, StorageFault."""
        row = self._db.one("SELECT sealed FROM accounts_account WHERE account_id = ?", account_id)
        if row is None:
            raise NotFound("account: is not in this node's file", field="account")
        return self._open(account_id, row["sealed"])

    def _open(self, account_id: bytes, sealed: bytes) -> Account:
        try:
            account = Account.unseal(self._key, sealed)
        except InvalidRecord as error:
            raise _altered(str(error), account_id) from None
        if account.account_id(self._network) != account_id:
            raise _altered("account: lies under another account's id", account_id)
        return account


def _altered(what: str, account_id: bytes) -> StorageFault:
    return StorageFault(
        f"{what} ({account_id.hex()[:12]}): the file was altered or belongs to another "
        "keystore; nothing was changed",
        field="account",
    )
