"""What the trade's shells need of the rest of the node, as ports.

`p2pnode.app.node` fits the wallet, the order book and the DHT to these; tests fit fakes.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from escrow.funding import FundingInput
from escrow.payloads import Declared
from escrow.terms import Terms
from p2pnode.base.transaction import Outpoint


class Purse(Protocol):
    """The trader's wallet, as far as a trade may touch it."""

    async def spendable(self) -> tuple[FundingInput, ...]:
        """Return confirmed coins that no trade has locked."""
        ...

    async def fresh_script(self) -> bytes:
        """Return the output script of an address never given out before."""
        ...

    async def change_script(self) -> bytes:
        """Return a script for change, of the wallet's change keychain, never given out before."""
        ...

    async def declared(self, outpoint: Outpoint) -> Declared:
        """Return the proof that a coin of ours exists."""
        ...

    def sign_psbt(self, psbt: str, only: Collection[int]) -> str:
        """Sign and finalise these inputs of a PSBT (base64); blocks. Raises InvalidRecord."""
        ...

    def owns(self, script: bytes) -> bool:
        """Tell whether a script is of our wallet."""
        ...


class Locks(Protocol):
    """Coin locks, written inside the caller's transaction."""

    def lock(self, outpoints: Collection[Outpoint], trade_id: bytes) -> None:
        """Lock coins for a trade. Raises LocalFault if another trade holds one."""
        ...

    def unlock(self, trade_id: bytes) -> None:
        """Free every coin of a trade."""
        ...


@dataclass(frozen=True, slots=True)
class Disclosure:
    """An account as a contract hashes it and an ACCOUNT message discloses it."""

    wire: bytes
    account_hash: bytes


class Desk(Protocol):
    """The order book's side of a trade."""

    def terms(self, offer_hash: bytes) -> Terms | None:
        """Return our own offer's terms while it is current and free, else None."""
        ...

    def disclosure(self, offer_hash: bytes, salt: bytes) -> Disclosure:
        """Return the account that our offer names, under a fresh salt."""
        ...

    def check(self, disclosure: bytes, account_hash: bytes, method: str) -> None:
        """Check a peer's disclosure against the contract. Raises InvalidRecord."""
        ...

    def reserve(self, offer_hash: bytes, trade_id: bytes) -> None:
        """Take our offer out of the book; inside the caller's transaction."""
        ...

    def release(self, offer_hash: bytes, trade_id: bytes) -> None:
        """Put it back after a trade that came to nothing; inside the caller's transaction."""
        ...


class Registry(Protocol):
    """Arbiters' records in the DHT, unverified."""

    async def find(self) -> Sequence[bytes]:
        """Return the records that the network holds."""
        ...

    async def publish(self, raw: bytes) -> int:
        """Put our own record; returns how many nodes hold it."""
        ...


class Announce(Protocol):
    """Where the user hears what happened; inside the caller's transaction."""

    def publish(self, kind: str, **data: Any) -> int:
        """Keep an event and return its id."""
        ...
