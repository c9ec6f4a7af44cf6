"""Trade messages: a signed header that can be published, and its payload beside it.

    message = [body, signature, payload]
    body    = [1, kind, trade_id, sender, recipient, seq, prev, seen,
               tip_height, tip_hash, draw_no, SHA-256(payload)]
    id      = SHA-256(tag "message" || body);  signature = Ed25519 over id

One chain for each (trade, sender, recipient): `seq` from 0, `prev` the sender's last
message to that recipient, `seen` the recipient's last one that the sender has applied.
The trade's id is the id of its TAKE, whose own `trade_id` is zero (docs/trade.md). PROPOSE,
COUNTER and a REFUSE to them come before any trade: `trade_id` is zero too, `seq` counts the
negotiation's messages and `prev` names the one answered (`escrow.bargain`).
"""

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any, Final, Self

from p2pnode.base import identity, wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.identity import Identity
from p2pnode.base.networks import Network

VERSION: Final = 1
ZERO: Final = bytes(32)
FRAME_LIMIT: Final = 1 << 20
MAX_MESSAGE: Final = FRAME_LIMIT - 1024
MAX_PAYLOAD: Final = MAX_MESSAGE - 512  # header and signature take 340 bytes at the most
MAX_SEQ: Final = 10_000
FRESH_STEP: Final = 1000  # where a sender who has lost his place begins a fresh chain
MAX_DRAWS: Final = 2**40


class Kind(IntEnum):
    """What a message says. The numbers are the wire's and never reused."""

    TAKE = 1
    DRAW = 2
    REVEAL = 3
    GET = 4
    PAGE = 5
    REFUSE = 6
    ABORT = 7
    CONTRACT = 8
    INPUTS = 9
    WITNESS = 10
    ACCOUNT = 11
    ACK = 12
    PAID = 13
    NOT_PAID = 14
    RECEIVED = 15
    DISPUTE = 16
    NOTICE = 17
    STATEMENT = 18
    FORWARD = 19
    VERDICT = 20
    PROPOSE = 21
    COUNTER = 22
    ASK = 23
    WITHDRAW = 24
    OK = 25
    COVER = 26
    SETTLE = 27
    CHAT = 28
    EVIDENCE = 29
    RECUSE = 30
    ENQUIRY = 31


BEFORE_TRADE: Final = frozenset({Kind.TAKE, Kind.PROPOSE, Kind.COUNTER})


@dataclass(frozen=True, kw_only=True)
class Message:
    """One header, its signature and its payload. An instance that was parsed is verified."""

    network: Network
    kind: Kind
    trade_id: bytes
    sender: bytes
    recipient: bytes
    seq: int
    prev: bytes
    seen: bytes
    tip_height: int
    tip_hash: bytes
    draw_no: int
    payload: bytes
    signature: bytes = b""
    cut_hash: bytes = b""  # of a payload that lies elsewhere; `payload` is then its head

    def body(self) -> tuple[Any, ...]:
        """Return the header's canonical array."""
        return (
            VERSION,
            int(self.kind),
            self.trade_id,
            self.sender,
            self.recipient,
            self.seq,
            self.prev,
            self.seen,
            self.tip_height,
            self.tip_hash,
            self.draw_no,
            self.cut_hash or hashlib.sha256(self.payload).digest(),
        )

    @cached_property
    def id(self) -> bytes:
        """The hash that is signed and by which others refer to this message."""
        return wire.digest(wire.tag(self.network.name, "message"), self.body())

    @property
    def trade(self) -> bytes:
        """The trade it belongs to: a TAKE begins one and is its id."""
        return self.id if self.kind is Kind.TAKE else self.trade_id

    def signed(self, key: Identity) -> Self:
        """Return the message with the sender's own signature. Raises ValueError for another's."""
        if key.node_id != self.sender:
            raise ValueError("signing key does not belong to the sender")
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return type(self)(**(values | {"signature": key.sign(self.id)}))

    def wire(self) -> bytes:
        """Return the bytes that travel and are kept. Raises ValueError for a cut one."""
        if self.cut_hash:
            raise ValueError("the payload of this message lies elsewhere")
        return wire.pack((self.body(), self.signature, self.payload))

    @classmethod
    def from_wire(cls, raw: object, network: Network) -> Self:
        """Parse and verify header, payload hash and signature. Raises InvalidRecord."""
        parts = wire.fields("message", wire.unpack("message", raw, limit=MAX_MESSAGE), 3)
        body = wire.fields("header", parts[0], 12)
        return cls._read(body, parts[1], parts[2], network)

    @classmethod
    def from_header(cls, body: object, signature: object, head: bytes, network: Network) -> Self:
        """Verify a header alone; `head` stands for its payload, which lies elsewhere.

        Raises InvalidRecord.
        """
        lines = wire.fields("header", body, 12)
        cut_hash = wire.exact("payload_hash", lines[11], 32)
        return cls._read(lines, signature, head, network, cut_hash)

    @classmethod
    def _read(
        cls,
        body: tuple[Any, ...],
        signature: object,
        payload: object,
        network: Network,
        cut_hash: bytes = b"",
    ) -> Self:
        found = wire.blob("payload", payload, MAX_PAYLOAD, low=1)
        wire.within("version", body[0], VERSION, VERSION)
        try:
            kind = Kind(wire.within("kind", body[1], 1, max(Kind)))
        except ValueError:
            raise InvalidRecord("kind", "is not a kind of message") from None
        message = cls(
            network=network,
            kind=kind,
            trade_id=wire.exact("trade_id", body[2], 32),
            sender=identity.check_node_id("sender", body[3], network),
            recipient=wire.exact("recipient", body[4], 32),
            seq=wire.within("seq", body[5], 0, MAX_SEQ),
            prev=wire.exact("prev", body[6], 32),
            seen=wire.exact("seen", body[7], 32),
            tip_height=wire.within("tip_height", body[8], 0, 499_999_999),
            tip_hash=wire.exact("tip_hash", body[9], 32),
            draw_no=wire.within("draw_no", body[10], 0, MAX_DRAWS),
            payload=found,
            signature=wire.exact("signature", signature, 64),
            cut_hash=cut_hash,
        )
        if wire.exact("payload_hash", body[11], 32) != message.body()[11]:
            raise InvalidRecord("payload_hash", "does not match the payload")
        if message.sender == message.recipient:
            raise InvalidRecord("recipient", "is the sender himself")
        if kind is not Kind.REFUSE and (kind in BEFORE_TRADE) != (message.trade_id == ZERO):
            raise InvalidRecord("trade_id", "is zero before the trade, and only there")
        first = message.seq % FRESH_STEP == 0  # of a chain, or of one begun afresh
        if first != (message.prev == ZERO):
            raise InvalidRecord("prev", "is zero in a chain's first message and in no other")
        if message.draw_no and kind not in {Kind.TAKE, Kind.DRAW}:
            raise InvalidRecord("draw_no", "is not zero outside TAKE and DRAW")
        identity.verify("signature", message.sender, message.id, message.signature)
        return message
