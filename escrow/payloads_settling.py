"""Payloads from ACCOUNT to VERDICT: what traders and arbiters say once coins are locked.

Layouts: docs/wire.md. The one declared error is InvalidRecord, naming the field.
Signatures come in pairs, DER and sighash byte: at the contract's rate, and at the raised one.
"""

from dataclasses import dataclass
from typing import ClassVar, Final

from escrow.contract import MAX_BYTES as MAX_CONTRACT
from escrow.fields import b32, binary, checked, integer, listing, words
from escrow.messages import MAX_MESSAGE, Kind
from escrow.payload import MAX_NOTE, Payload
from escrow.payloads_opening import MAX_LISTED, MAX_RECORD
from p2pnode.base import wire
from p2pnode.base.units import MAX_SAT

MAX_WORDS: Final = 4000  # bytes of a statement or a reason
MAX_CHAT: Final = 1000  # bytes of one CHAT
MAX_TRANSCRIPT: Final = 240  # messages between the traders
MAX_RULINGS: Final = 8  # messages of one arbiter that a trader shows the other
MAX_EVIDENCE: Final = 1 << 20  # bytes of one file
PART_BYTES: Final = 1 << 16
MAX_PARTS: Final = MAX_EVIDENCE // PART_BYTES


def both_rates(name: str, value: object) -> tuple[bytes, bytes]:
    """Check the pair of signatures: at the contract's rate and at the raised one."""
    low, raised = wire.fields(name, value, 2)
    return wire.blob(f"{name}[0]", low, 73, low=9), wire.blob(f"{name}[1]", raised, 73, low=9)


def _raw(name: str, value: object) -> bytes:
    return wire.blob(name, value, MAX_MESSAGE, low=1)


@dataclass(frozen=True, kw_only=True)
class Account(Payload):
    """Payment details behind the contract's account hash; the order book's array."""

    kind: ClassVar = Kind.ACCOUNT
    disclosure: bytes = checked(binary(4096, 1))


@dataclass(frozen=True, kw_only=True)
class Ack(Payload):
    """B -> S: I have your payment details, by this message."""

    kind: ClassVar = Kind.ACK
    account_id: bytes = checked(b32)


@dataclass(frozen=True, kw_only=True)
class Paid(Payload):
    """B -> S: I have sent the money. Words only."""

    kind: ClassVar = Kind.PAID
    note: str = checked(words(MAX_NOTE))


@dataclass(frozen=True, kw_only=True)
class NotPaid(Payload):
    """B -> S: I have not paid and will not."""

    kind: ClassVar = Kind.NOT_PAID
    note: str = checked(words(MAX_NOTE))


@dataclass(frozen=True, kw_only=True)
class Received(Payload):
    """S -> B: I have the money; my signatures on RELEASE, at both rates."""

    kind: ClassVar = Kind.RECEIVED
    signatures: tuple[bytes, bytes] = checked(both_rates)


@dataclass(frozen=True, kw_only=True)
class Dispute(Payload):
    """Trader -> A: the contract, every message so far, my words, and the rest of the records.

    Each listed record travels once: in a PAGE among the messages, or else in `records`.
    `rulings` are the other arbiter's messages to me, for the runner-up.
    """

    kind: ClassVar = Kind.DISPUTE
    contract: bytes = checked(binary(MAX_CONTRACT, 1))
    messages: tuple[bytes, ...] = checked(listing(MAX_TRANSCRIPT, _raw, low=5))
    records: tuple[bytes, ...] = checked(listing(2 * MAX_LISTED, binary(MAX_RECORD, 1)))
    rulings: tuple[bytes, ...] = checked(listing(MAX_RULINGS, _raw))
    statement: str = checked(words(MAX_WORDS))  # empty: called by the node itself


@dataclass(frozen=True, kw_only=True)
class Notice(Payload):
    """A -> both: a dispute is open; who opened it and with what words."""

    kind: ClassVar = Kind.NOTICE
    dispute_id: bytes = checked(b32)
    opener: bytes = checked(b32)
    statement: str = checked(words(MAX_WORDS))


@dataclass(frozen=True, kw_only=True)
class Statement(Payload):
    """Trader -> A or A2: my words, and the messages that the arbiter may lack."""

    kind: ClassVar = Kind.STATEMENT
    statement: str = checked(words(MAX_WORDS))  # empty: papers alone, no reply in the dispute
    messages: tuple[bytes, ...] = checked(listing(MAX_TRANSCRIPT, _raw))
    rulings: tuple[bytes, ...] = checked(listing(MAX_RULINGS, _raw))


@dataclass(frozen=True, kw_only=True)
class Forward(Payload):
    """A -> whoever must act: a first signature, or an agreement, that a trader showed me."""

    kind: ClassVar = Kind.FORWARD
    messages: tuple[bytes, ...] = checked(listing(4, _raw, low=1))


@dataclass(frozen=True, kw_only=True)
class Verdict(Payload):
    """A or A2 -> both: the split, my signatures on its payout at both rates, my reason."""

    kind: ClassVar = Kind.VERDICT
    buyer_sat: int = checked(integer(0, MAX_SAT))
    seller_sat: int = checked(integer(0, MAX_SAT))
    arbiter_sat: int = checked(integer(0, MAX_SAT))
    signatures: tuple[bytes, bytes] = checked(both_rates)
    reason: str = checked(words(MAX_WORDS, 1))


@dataclass(frozen=True, kw_only=True)
class Ask(Payload):
    """Either trader: let us settle by this split instead. Words only; binds until freed (R3)."""

    kind: ClassVar = Kind.ASK
    buyer_sat: int = checked(integer(0, MAX_SAT))
    seller_sat: int = checked(integer(0, MAX_SAT))
    note: str = checked(words(MAX_NOTE))


@dataclass(frozen=True, kw_only=True)
class Withdraw(Payload):
    """The asker: I take that ASK back."""

    kind: ClassVar = Kind.WITHDRAW
    ask_id: bytes = checked(b32)


@dataclass(frozen=True, kw_only=True)
class Ok(Payload):
    """The one asked: agreed, for good. Carries no signature of a payout."""

    kind: ClassVar = Kind.OK
    ask_id: bytes = checked(b32)


@dataclass(frozen=True, kw_only=True)
class Cover(Payload):
    """I have applied that WITHDRAW or OK: my `seen` covers it, for arbiters to see (R3)."""

    kind: ClassVar = Kind.COVER
    covered_id: bytes = checked(b32)


@dataclass(frozen=True, kw_only=True)
class Settle(Payload):
    """My first signatures on an agreed split (its OK's id), or B's on REFUND by himself (zero)."""

    kind: ClassVar = Kind.SETTLE
    ok_id: bytes = checked(b32)
    signatures: tuple[bytes, bytes] = checked(both_rates)


@dataclass(frozen=True, kw_only=True)
class Chat(Payload):
    """Words between people; part of the transcript."""

    kind: ClassVar = Kind.CHAT
    text: str = checked(words(MAX_CHAT, 1))


@dataclass(frozen=True, kw_only=True)
class Evidence(Payload):
    """Trader -> A: one part of a file; the file is named by its SHA-256."""

    kind: ClassVar = Kind.EVIDENCE
    file_hash: bytes = checked(b32)
    name: str = checked(words(128, 1))
    size: int = checked(integer(1, MAX_EVIDENCE))
    part: int = checked(integer(0, MAX_PARTS - 1))
    data: bytes = checked(binary(PART_BYTES, 1))

    def __post_init__(self) -> None:
        super().__post_init__()
        parts = -(-self.size // PART_BYTES)
        wire.within("part", self.part, 0, parts - 1)
        whole = PART_BYTES if self.part < parts - 1 else self.size - PART_BYTES * (parts - 1)
        wire.exact("data", self.data, whole)


@dataclass(frozen=True, kw_only=True)
class Recuse(Payload):
    """A -> both: I will not judge this. As good as an arbiter who is lost, at once."""

    kind: ClassVar = Kind.RECUSE
    reason: str = checked(words(MAX_WORDS, 1))


@dataclass(frozen=True, kw_only=True)
class Enquiry(Payload):
    """A2 -> A: this case has come to me: show me your ruling if there is one."""

    kind: ClassVar = Kind.ENQUIRY
    dispute_id: bytes = checked(b32)
