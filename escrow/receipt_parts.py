"""The parts of a receipt, each a bounded array: layout and meaning in `escrow.receipt`."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeVar

from escrow.fields import Fields, b32, binary, checked, integer, listing
from escrow.messages import MAX_DRAWS, MAX_SEQ
from escrow.payout import Split
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.transaction import MAX_BRANCH
from p2pnode.base.units import MAX_SAT

MAX_FUNDING: Final = 1024  # bytes: 16 inputs and three outputs take 796
MAX_HEIGHT: Final = 499_999_999

_Part = TypeVar("_Part", bound=Fields)


class By(IntEnum):
    """Which header ended the trade. The numbers are the wire's and never reused."""

    RECEIVED = 0
    VERDICT = 1  # of the arbiter
    BACKUP = 2  # of the runner-up


@dataclass(frozen=True, kw_only=True)
class Root(Fields):
    """Below which one trader's escrow key lies, at a path of the trade's id."""

    point: bytes = checked(binary(33, 33))
    chain_code: bytes = checked(b32)


@dataclass(frozen=True, kw_only=True)
class Taken(Fields):
    """What TAKE's header has beside what the contract fixes."""

    tip_height: int = checked(integer(0, MAX_HEIGHT))
    tip_hash: bytes = checked(b32)
    draw_no: int = checked(integer(0, MAX_DRAWS))
    payload_hash: bytes = checked(b32)


@dataclass(frozen=True, kw_only=True)
class Said(Fields):
    """What a trader's CONTRACT header has beside what the contract fixes, and his signatures."""

    seq: int = checked(integer(0, MAX_SEQ))
    prev: bytes = checked(b32)
    seen: bytes = checked(b32)
    tip_height: int = checked(integer(0, MAX_HEIGHT))
    tip_hash: bytes = checked(b32)
    signature: bytes = checked(binary(64, 64))
    escrow_signature: bytes = checked(binary(64, 64))  # BIP 340, over the contract's hash


@dataclass(frozen=True, kw_only=True)
class Ended(Fields):
    """The header of RECEIVED or VERDICT; `to` is 0 for the buyer, 1 for the seller."""

    by: int = checked(integer(min(By), max(By)))
    to: int = checked(integer(0, 1))
    seq: int = checked(integer(0, MAX_SEQ))
    prev: bytes = checked(b32)
    seen: bytes = checked(b32)
    tip_height: int = checked(integer(0, MAX_HEIGHT))
    tip_hash: bytes = checked(b32)
    payload_hash: bytes = checked(b32)
    signature: bytes = checked(binary(64, 64))


@dataclass(frozen=True, kw_only=True)
class Funding(Fields):
    """The funding transaction, stripped of its witnesses, and its place in the chain."""

    transaction: bytes = checked(binary(MAX_FUNDING, 60))
    height: int = checked(integer(1, MAX_HEIGHT))
    position: int = checked(integer(0, (1 << MAX_BRANCH) - 1))
    branch: tuple[bytes, ...] = checked(listing(MAX_BRANCH, b32))


@dataclass(frozen=True, kw_only=True)
class Payout(Fields):
    """The split that was paid, at the contract's rate or the raised one, and its place."""

    buyer_sat: int = checked(integer(0, MAX_SAT))
    seller_sat: int = checked(integer(0, MAX_SAT))
    arbiter_sat: int = checked(integer(0, MAX_SAT))
    raised: int = checked(integer(0, 1))
    height: int = checked(integer(1, MAX_HEIGHT))
    position: int = checked(integer(0, (1 << MAX_BRANCH) - 1))
    branch: tuple[bytes, ...] = checked(listing(MAX_BRANCH, b32))

    @property
    def split(self) -> Split:
        """The split of the escrow."""
        return Split(self.buyer_sat, self.seller_sat, self.arbiter_sat)


def part_of(kind: type[_Part], name: str, value: object) -> _Part:
    """Read one part under its name. Raises InvalidRecord."""
    try:
        return kind.from_array(name, value)
    except InvalidRecord as error:
        raise error if error.field == name else below(name, error) from None


def below(name: str, error: InvalidRecord) -> InvalidRecord:
    """Return the error under the name of the part in which it is."""
    return InvalidRecord(f"{name}.{error.field}", str(error).partition(": ")[2])
