"""Payloads from PROPOSE to WITNESS: what two traders say until the funding is signed.

Layouts: docs/wire.md. The one declared error is InvalidRecord, naming the field.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from escrow.contract import MAX_BYTES as MAX_CONTRACT
from escrow.contract import check_key, check_script
from escrow.fields import Fields, ascending, b32, binary, checked, integer, listing, words
from escrow.messages import Kind
from escrow.payload import MAX_NOTE, Payload
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.units import MAX_FIAT_MINOR, MAX_SAT

MAX_LISTED: Final = 200  # arbiters in a trader's list: a DISPUTE must hold two lists' records
MAX_RECORD: Final = 1400  # bytes of an arbiter's record, its bond's proof included
PAGE_RECORDS: Final = 200
MAX_INPUTS: Final = 8
MAX_PROOFS: Final = 100_000  # bytes of all previous transactions of a side, for the transcript


def arbiter_list(name: str, value: object) -> tuple[tuple[bytes, bytes], ...]:
    """Check a list of (outpoint 36, record id 32), strictly ascending by outpoint."""
    pairs: list[tuple[bytes, bytes]] = []
    for n, item in enumerate(wire.items(name, value, MAX_LISTED)):
        point, record = wire.fields(f"{name}[{n}]", item, 2)
        point = wire.exact(f"{name}[{n}]", point, 36)
        if pairs and pairs[-1][0] >= point:
            raise InvalidRecord(f"{name}[{n}]", "is not strictly ascending")
        pairs.append((point, wire.exact(f"{name}[{n}]", record, 32)))
    return tuple(pairs)


def _part(name: str, value: object) -> "Part":
    return value if isinstance(value, Part) else Part.from_array(name, value)


def _optional_key(name: str, value: object) -> bytes:
    return b"" if value == b"" else check_key(name, value)


def _change_script(name: str, value: object) -> bytes:
    return b"" if value == b"" else check_script(name, value)


def _stack(name: str, value: object) -> tuple[bytes, ...]:
    found: tuple[bytes, ...] = listing(2, binary(80, 33), low=1)(name, value)
    return found


@dataclass(frozen=True, kw_only=True)
class Part(Fields):
    """What a trader brings to the contract: key, payout script, account hash."""

    escrow_key: bytes = checked(check_key)
    backup_key: bytes = checked(_optional_key)  # empty in the kind without a backup branch
    script: bytes = checked(check_script)
    account_hash: bytes = checked(b32)


@dataclass(frozen=True, kw_only=True)
class Propose(Payload):
    """T -> M: would you trade this much of that offer for so much? Binds nobody."""

    kind: ClassVar = Kind.PROPOSE
    offer_hash: bytes = checked(b32)
    amount_sat: int = checked(integer(1, MAX_SAT))
    fiat_minor: int = checked(integer(1, MAX_FIAT_MINOR))
    method: str = checked(words(32, 1))


@dataclass(frozen=True, kw_only=True)
class Counter(Payload):
    """M -> T: for so much I do, until then (unix seconds); the proposed sum is a yes."""

    kind: ClassVar = Kind.COUNTER
    propose_id: bytes = checked(b32)
    fiat_minor: int = checked(integer(1, MAX_FIAT_MINOR))
    expires_at: int = checked(integer(1, 2**40))


@dataclass(frozen=True, kw_only=True)
class Take(Payload):
    """T -> M: I take this much of that offer, and commit to my list and my nonce."""

    kind: ClassVar = Kind.TAKE
    offer_hash: bytes = checked(b32)
    maker: bytes = checked(b32)
    counter: bytes = checked(b32)
    amount_sat: int = checked(integer(1, MAX_SAT))
    fiat_minor: int = checked(integer(1, MAX_FIAT_MINOR))
    method: str = checked(words(32, 1))
    escrow_kind: str = checked(words(32, 1))
    anchor_h: int = checked(integer(1, 499_999_999))
    anchor_hash: bytes = checked(b32)
    work: int = checked(integer(0, 2**62))
    root: bytes = checked(b32)
    commitment: bytes = checked(b32)


@dataclass(frozen=True, kw_only=True)
class Draw(Payload):
    """M -> T: my nonce, my list of arbiters, my part, the fee rate in sat/vB."""

    kind: ClassVar = Kind.DRAW
    take_id: bytes = checked(b32)
    nonce: bytes = checked(b32)
    arbiters: tuple[tuple[bytes, bytes], ...] = checked(arbiter_list)
    part: Part = checked(_part)  # noqa: RUF009 - a field() by another name
    rate: int = checked(integer(1, 500))


@dataclass(frozen=True, kw_only=True)
class Reveal(Payload):
    """T -> M: my nonce and list, as committed, and my part."""

    kind: ClassVar = Kind.REVEAL
    draw_id: bytes = checked(b32)
    nonce: bytes = checked(b32)
    arbiters: tuple[tuple[bytes, bytes], ...] = checked(arbiter_list)
    part: Part = checked(_part)  # noqa: RUF009 - a field() by another name


@dataclass(frozen=True, kw_only=True)
class Get(Payload):
    """Ask for the arbiter records of these ids."""

    kind: ClassVar = Kind.GET
    ids: tuple[bytes, ...] = checked(ascending(b32, PAGE_RECORDS, 1))


@dataclass(frozen=True, kw_only=True)
class Page(Payload):
    """The records asked for by the GET of that id."""

    kind: ClassVar = Kind.PAGE
    get_id: bytes = checked(b32)
    records: tuple[bytes, ...] = checked(listing(PAGE_RECORDS, binary(MAX_RECORD, 1), low=1))


@dataclass(frozen=True, kw_only=True)
class Refuse(Payload):
    """Not with me: the field at fault and my own value. No blame."""

    kind: ClassVar = Kind.REFUSE
    refused_id: bytes = checked(b32)
    field: str = checked(words(64, 1))
    value: str = checked(words(MAX_NOTE))


@dataclass(frozen=True, kw_only=True)
class Abort(Payload):
    """I stop, before any funding signature of mine has left. No blame."""

    kind: ClassVar = Kind.ABORT
    reason: str = checked(words(MAX_NOTE, 1))


@dataclass(frozen=True, kw_only=True)
class ContractSigned(Payload):
    """The contract's array and a BIP 340 signature of its hash by the sender's escrow key."""

    kind: ClassVar = Kind.CONTRACT
    contract: bytes = checked(binary(MAX_CONTRACT, 1))
    signature: bytes = checked(binary(64, 64))


@dataclass(frozen=True, kw_only=True)
class Declared(Fields):
    """A coin with the proof that it exists: outpoint, stripped transaction, merkle branch."""

    outpoint: bytes = checked(binary(36, 36))
    prev_tx: bytes = checked(binary(100_000, 60))
    height: int = checked(integer(1, 499_999_999))
    position: int = checked(integer(0, 2**20))
    branch: tuple[bytes, ...] = checked(listing(20, b32))


def _declared(name: str, value: object) -> Declared:
    return value if isinstance(value, Declared) else Declared.from_array(name, value)


@dataclass(frozen=True, kw_only=True)
class Inputs(Payload):
    """My coins for the funding, and where my change goes; none from a buyer without a deposit."""

    kind: ClassVar = Kind.INPUTS
    inputs: tuple[Declared, ...] = checked(listing(MAX_INPUTS, _declared))
    change_script: bytes = checked(_change_script)  # empty where there are no inputs

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.inputs) != bool(self.change_script):
            raise InvalidRecord("change_script", "goes with inputs, and only with them")
        if sum(len(i.prev_tx) for i in self.inputs) > MAX_PROOFS:
            raise InvalidRecord("inputs", f"prev_tx of all exceed {MAX_PROOFS} bytes")

    def array(self) -> tuple[Any, ...]:
        """Return the canonical array."""
        return (tuple(i.array() for i in self.inputs), self.change_script)


@dataclass(frozen=True, kw_only=True)
class Witness(Payload):
    """The witness stacks of my inputs, in the order of the funding transaction."""

    kind: ClassVar = Kind.WITNESS
    stacks: tuple[tuple[bytes, ...], ...] = checked(listing(MAX_INPUTS, _stack))
