"""What the trade's shells need of the rest of the node, as ports.

`p2pnode.app.node` fits the wallet, the order book and the DHT to these; tests fit fakes.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from escrow.bargain import Policy
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

    async def pay(self, script: bytes, sat: int, rate: int | None, most_bytes: int) -> bytes:
        """Pay an output script by a transaction of so many bytes at most; returns its txid.

        Raises what a payment raises; after Unreachable nobody knows whether it left.
        """
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

    def terms(self, offer_hash: bytes, method: str, peer: bytes, *, price: int = 0) -> Terms | None:
        """Return our own offer's terms to a peer while it is current and free, else None.

        Raises InvalidRecord for a method that it does not name, for a peer that it is not
        for, and while its price is not known; `price` stands in for that one.
        """
        ...

    def offer_id(self, offer_hash: bytes) -> bytes:
        """Return which own offer a version is of; empty for none of ours."""
        ...

    def is_open(self, offer_id: bytes) -> bool:
        """Tell whether our own offer can be taken now."""
        ...

    def policy(self, offer_id: bytes) -> Policy:
        """Return how our own offer's maker answers proposals."""
        ...

    def disclosure(self, offer_hash: bytes, method: str, salt: bytes) -> Disclosure:
        """Return the account that our offer has for a method, under a fresh salt."""
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


@dataclass(frozen=True, slots=True)
class Line:
    """One direction of what two nodes say to each other in one trade, as a mailbox names it.

    `since`, unix seconds, is when they may have begun: nothing older is looked for.
    """

    peer: bytes
    trade_id: bytes
    since: int = field(default=0, compare=False)


class Letter(Protocol):
    """What lay in a mailbox: `payload` as the peer of `line` had it put there."""

    @property
    def line(self) -> Line:
        """From whom, of which trade."""
        ...

    @property
    def payload(self) -> bytes:
        """Return one trade message's bytes, unchecked."""
        ...


class Mailbox(Protocol):
    """Letters to peers who are away. All but `collect` may be in the caller's transaction."""

    def post(self, line: Line, number: int, payload: bytes, *, word: bool) -> None:
        """Have a letter lie there until it is seen; again with the same payload is nothing.

        With `word` the peer is told that there is such a line. Raises LocalFault when no
        room is left for today, InvalidRecord for what can be no letter.
        """
        ...

    def seen(self, line: Line, number: int) -> None:
        """Take away our letters up to that number: the peer needs them no more."""
        ...

    def applied(self, letter: Letter) -> None:
        """Take away a letter that was applied or refused."""
        ...

    async def collect(self, lines: Sequence[Line], *, words: bool) -> Sequence[Letter]:
        """Return the letters of these lines, each line's by number; with `words` strangers' too."""
        ...

    def counts(self) -> dict[str, int]:
        """Return how many entries wait to be seen, and how many deletions to be put."""
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
