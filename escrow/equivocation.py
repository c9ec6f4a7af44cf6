"""A proof that somebody signed two things of which he may sign one: anybody can check it.

    proof = [1, network, what, one, two]        the one of the smaller id first
    what 0  two messages of one number: two headers of one (trade, sender, recipient, seq)
            one = [body, signature]             no payload: what was said stays between them
    what 1  two verdicts: of one sender in one trade, to whomever, dividing differently
            one = [body, signature, payload]    the split lies in the payload

Before a trade (trade_id zero) numbers are counted otherwise: those prove nothing. A proof says
that one key signed both, and not why: a node that was restored from an older copy of its data
does it too. Pure; the one declared error is InvalidRecord, naming the line. docs/wire.md,
"Proofs of equivocation".
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Self

from escrow.messagefile import (
    NO_PAYLOAD,
    check_network,
    message_from_json,
    message_to_json,
    read_network,
    read_object,
    read_parts,
)
from escrow.messages import VERSION as MESSAGE_VERSION
from escrow.messages import ZERO, Kind, Message
from escrow.payloads import Forward, Verdict
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.networks import Network

VERSION: Final = 1
MAX_BYTES: Final = 10_240  # two verdicts with the longest reasons take 9,000
MAX_FILE: Final = 65_536  # bytes of a proof as JSON
MAX_KEPT: Final = 4  # proofs of one sender, trade and what: one is enough

_LINES: Final = ("version", "network", "what", "first", "second")


class What(IntEnum):
    """What was signed twice. The numbers are the wire's and never reused."""

    NUMBER = 0
    VERDICTS = 1

    @property
    def words(self) -> str:
        """The name that the file and people use."""
        return ("two messages of one number", "two verdicts")[self]


@dataclass(frozen=True)
class Equivocation:
    """Two verified messages that exclude each other. Made by `of`, `from_*` alone."""

    what: What
    first: Message
    second: Message

    @classmethod
    def of(cls, what: What, one: Message, two: Message) -> Self:
        """Return the proof that two messages make. Raises InvalidRecord if they make none."""
        first, second = sorted((one, two), key=lambda m: m.id)
        network = one.network
        if what is What.NUMBER:
            first, second = (
                Message.from_header(m.body(), m.signature, NO_PAYLOAD, network)
                for m in (first, second)
            )
        return cls._joined(what, first, second)

    @classmethod
    def from_wire(cls, raw: object, network: Network) -> Self:
        """Parse and verify a proof's bytes. Raises InvalidRecord."""
        parts = wire.fields("proof", wire.unpack("proof", raw, limit=MAX_BYTES), 5)
        wire.within("version", parts[0], VERSION, VERSION)
        if parts[1] != network.name:
            raise InvalidRecord("network", f"is not {network.name}")
        what = What(wire.within("what", parts[2], min(What), max(What)))
        first, second = (
            _from_array(name, part, what, network)
            for name, part in zip(("first", "second"), parts[3:], strict=True)
        )
        return cls._joined(what, first, second)

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Parse and verify a proof's file. Raises InvalidRecord naming the line."""
        lines = read_object("", value, _LINES, what="proof")
        wire.within("version", lines["version"], VERSION, VERSION)
        net = read_network(lines["network"])
        named = [w for w in What if w.words == lines["what"]]
        if not named:
            raise InvalidRecord("what", f"is none of {', '.join(w.words for w in What)}")
        what, payload = named[0], named[0] is What.VERDICTS
        check_network(read_parts("first", lines["first"], payload=payload), net, "this")
        wanted: dict[str, object] = {"version": MESSAGE_VERSION}
        first = message_from_json("first", lines["first"], net, wanted, payload=payload)
        wanted |= {"trade_id": first.trade_id, "sender": first.sender}
        if what is What.NUMBER:
            wanted |= {"recipient": first.recipient, "seq": first.seq}
        second = message_from_json("second", lines["second"], net, wanted, payload=payload)
        return cls._joined(what, first, second)

    @classmethod
    def _joined(cls, what: What, first: Message, second: Message) -> Self:
        if first.trade_id == ZERO:
            raise InvalidRecord("first.trade_id", "is zero: numbers before a trade prove nothing")
        same = ("trade_id", "sender", "recipient", "seq")
        for line in same if what is What.NUMBER else same[:2]:
            if getattr(first, line) != getattr(second, line):
                raise InvalidRecord(f"second.{line}", "is not the first one's")
        if first.id == second.id:
            raise InvalidRecord("second", "is the first again")
        if first.id > second.id:
            raise InvalidRecord("second", "has the smaller id: it belongs first")
        if what is What.VERDICTS:
            one, two = (_split(f"{name}.", m) for name, m in (("first", first), ("second", second)))
            if one == two:
                raise InvalidRecord("second.payload", "divides as the first one does")
        return cls(what, first, second)

    def wire(self) -> bytes:
        """Return the canonical bytes."""
        return wire.pack((VERSION, self.first.network.name, int(self.what), *map(self._part, self)))

    def _part(self, message: Message) -> Sequence[Any]:
        header = (message.body(), message.signature)
        return (*header, message.payload) if self.what is What.VERDICTS else header

    def __iter__(self) -> Any:
        """Yield the two messages."""
        return iter((self.first, self.second))

    def to_json(self) -> dict[str, Any]:
        """Return the proof as an object for JSON: every line named, bytes in hex."""
        payload = self.what is What.VERDICTS
        return {
            "version": VERSION,
            "network": self.first.network.name,
            "what": self.what.words,
            "first": message_to_json(self.first, payload=payload),
            "second": message_to_json(self.second, payload=payload),
        }

    @property
    def trade_id(self) -> bytes:
        """The trade in which it happened."""
        return self.first.trade_id

    @property
    def sender(self) -> bytes:
        """Who signed both."""
        return self.first.sender


def split_of(message: Message) -> tuple[int, int, int]:
    """Return (buyer_sat, seller_sat, arbiter_sat) of a VERDICT. Raises InvalidRecord."""
    return _split("", message)


def _split(prefix: str, message: Message) -> tuple[int, int, int]:
    if message.kind is not Kind.VERDICT:
        raise InvalidRecord(f"{prefix}kind", "is not VERDICT")
    try:
        verdict = Verdict.from_wire(message.payload)
    except InvalidRecord as error:
        why = str(error).partition(": ")[2]
        raise InvalidRecord(f"{prefix}payload", f"holds a {error.field} that {why}") from None
    return verdict.buyer_sat, verdict.seller_sat, verdict.arbiter_sat


def _from_array(name: str, value: object, what: What, network: Network) -> Message:
    parts = wire.fields(name, value, 3 if what is What.VERDICTS else 2)
    try:
        if what is What.NUMBER:
            return Message.from_header(parts[0], parts[1], NO_PAYLOAD, network)
        return Message.from_wire(wire.pack(parts), network)
    except InvalidRecord as error:
        field, why = error.field, str(error).partition(": ")[2]
    raise InvalidRecord(f"{name}.{field}", why)


def carried(message: Message) -> tuple[Message, ...]:
    """Return the messages that a FORWARD hands on, as far as they are some. Pure."""
    if message.kind is not Kind.FORWARD:
        return ()
    try:
        raw = Forward.from_wire(message.payload).messages
        return tuple(Message.from_wire(r, message.network) for r in raw)
    except InvalidRecord:
        return ()


def found(messages: Iterable[Message]) -> tuple[Equivocation, ...]:
    """Return what these messages prove: at most four of one sender, trade and what.

    The same messages in the same order give the same proofs.
    """
    places: dict[tuple[bytes, bytes, bytes, int], Message] = {}
    ruled: dict[tuple[bytes, bytes], Message] = {}
    often: Counter[tuple[bytes, bytes, What]] = Counter()
    proofs = []
    for message in messages:
        trade_id, sender = message.trade_id, message.sender
        if trade_id == ZERO:
            continue
        against = []
        place = (trade_id, sender, message.recipient, message.seq)
        if places.setdefault(place, message).id != message.id:
            against.append((What.NUMBER, places[place]))
        if _divides(message):
            other = ruled.setdefault((trade_id, sender), message)
            if split_of(other) != split_of(message):
                against.append((What.VERDICTS, other))
        for what, other in against:
            if often[trade_id, sender, what] < MAX_KEPT:
                often[trade_id, sender, what] += 1
                proofs.append(Equivocation.of(what, other, message))
    return tuple(proofs)


def _divides(message: Message) -> bool:
    """Tell whether it is a verdict that can be read: one that cannot divides nothing."""
    if message.kind is not Kind.VERDICT:
        return False
    try:
        split_of(message)
    except InvalidRecord:
        return False
    return True
