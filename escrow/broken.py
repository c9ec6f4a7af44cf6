"""A draw that came to nothing, as it is published: the headers of its TAKE and DRAW alone.

    entry = [1, network, TAKE's body, its signature, DRAW's body, its signature]
    filed = [side, entry]   side 0: under the taker and TAKE's draw_no, 1: the maker and DRAW's

A header is verifiable without its payload, so an entry shows who drew with whom, when and
under which of each one's numbers, and neither offer nor amount nor arbiter. It blames nobody:
it says that both signed, not who fell silent. Pure. docs/draw.md, "Broken draws".
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

from escrow.messages import Kind, Message
from escrow.opening import SILENCE
from escrow.payloads import Abort
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.networks import Network

VERSION: Final = 1
MAX_BYTES: Final = 1024
TAKER: Final = 0
MAKER: Final = 1
SIDES: Final = (TAKER, MAKER)
WALK: Final = 32  # numbers below the one stated that a reader looks up

_NO_PAYLOAD: Final = b"\x90"  # stands where a header's payload is not at hand


@dataclass(frozen=True)
class BrokenDraw:
    """Two verified headers of one draw. Made by `of` or `from_wire` alone."""

    take: Message
    draw: Message

    @classmethod
    def of(cls, take: Message, draw: Message) -> Self:
        """Return the entry of two messages. Raises InvalidRecord if they are no draw."""
        network = take.network
        return cls._joined(_bare(take, network), _bare(draw, network))

    @classmethod
    def from_array(cls, value: object, network: Network) -> Self:
        """Parse and verify an entry. Raises InvalidRecord."""
        parts = wire.fields("entry", value, 6)
        wire.within("version", parts[0], VERSION, VERSION)
        if parts[1] != network.name:
            raise InvalidRecord("network", f"is not {network.name}")
        take = Message.from_header(parts[2], parts[3], _NO_PAYLOAD, network)
        draw = Message.from_header(parts[4], parts[5], _NO_PAYLOAD, network)
        return cls._joined(take, draw)

    @classmethod
    def _joined(cls, take: Message, draw: Message) -> Self:
        for name, message, kind in (("take", take, Kind.TAKE), ("draw", draw, Kind.DRAW)):
            if message.kind is not kind:
                raise InvalidRecord(f"{name}.kind", f"is not {kind.name}")
            if message.draw_no < 1:
                raise InvalidRecord(f"{name}.draw_no", "is not 1 or more")
        if draw.trade_id != take.id:
            raise InvalidRecord("draw.trade_id", "is not the id of this TAKE")
        if (draw.sender, draw.recipient) != (take.recipient, take.sender):
            raise InvalidRecord("draw.sender", "does not answer the sender of this TAKE")
        return cls(take, draw)

    def array(self) -> tuple[Any, ...]:
        """Return the canonical array."""
        one, two = self.take, self.draw
        name = one.network.name
        return (VERSION, name, one.body(), one.signature, two.body(), two.signature)

    @cached_property
    def trade_id(self) -> bytes:
        """The trade that was begun: the id of its TAKE."""
        return self.take.id


@dataclass(frozen=True)
class Filed:
    """An entry as it lies under the number of one of its two signers."""

    side: int
    entry: BrokenDraw

    @classmethod
    def from_wire(cls, raw: object, network: Network) -> Self:
        """Parse and verify. Raises InvalidRecord and nothing else."""
        side, entry = wire.fields("filed", wire.unpack("filed", raw, limit=MAX_BYTES), 2)
        return cls(wire.within("side", side, TAKER, MAKER), BrokenDraw.from_array(entry, network))

    def wire(self) -> bytes:
        """Return the bytes that the DHT holds."""
        return wire.pack((self.side, self.entry.array()))

    @property
    def trade_id(self) -> bytes:
        """The trade that was begun."""
        return self.entry.trade_id

    @property
    def node_id(self) -> bytes:
        """Under whose number it lies."""
        return self._header.sender

    @property
    def counterparty(self) -> bytes:
        """The other signer."""
        return self._header.recipient

    @property
    def draw_no(self) -> int:
        """That signer's count of draws, as he stated it."""
        return self._header.draw_no

    @property
    def tip_height(self) -> int:
        """That signer's best block when he signed, as he stated it: how old the draw is."""
        return self._header.tip_height

    @property
    def _header(self) -> Message:
        return self.entry.take if self.side == TAKER else self.entry.draw


def fitting(
    raws: Iterable[bytes], network: Network, node_id: bytes, draw_no: int
) -> tuple[Filed, ...]:
    """Return the valid entries under that very number; whatever else a holder sends is nothing."""
    found: dict[bytes, Filed] = {}
    for raw in raws:
        try:
            filed = Filed.from_wire(raw, network)
        except InvalidRecord:
            continue
        if (filed.node_id, filed.draw_no) == (node_id, draw_no):
            found[filed.trade_id] = filed
    return tuple(found[key] for key in sorted(found))


def owed(messages: Sequence[Message], me: bytes) -> BrokenDraw | None:
    """Return the entry that an aborted trade of ours owes, or None; from its messages alone.

    Owed for silence after DRAW, pages that stopped, any end between REVEAL and the second
    CONTRACT, and the taker's ABORT after DRAW: he can compute the arbiter by then, so whatever
    he says that he judged, it is a try. Not for the maker's before REVEAL, who knows nothing yet.
    What came after the first ABORT changes nothing.
    """
    told: list[Message] = []
    for message in messages:
        told.append(message)
        if message.kind is Kind.ABORT:
            break
    said = {m.kind: m for m in told}
    take, draw = said.get(Kind.TAKE), said.get(Kind.DRAW)
    if take is None or draw is None:
        return None
    if len({m.sender for m in told if m.kind is Kind.CONTRACT}) == 2:
        return None
    last = told[-1]
    tried = last.kind is Kind.ABORT and last.sender == take.sender
    if Kind.REVEAL not in said and not tried and not _silent(last, me):
        return None
    return BrokenDraw.of(take, draw)


def _silent(last: Message, me: bytes) -> bool:
    """Tell whether we gave up because the peer did not answer."""
    ours = last.kind is Kind.ABORT and last.sender == me
    return ours and Abort.from_wire(last.payload).reason == SILENCE


@dataclass(frozen=True, slots=True)
class DrawRecord:
    """What the network shows of one node's broken draws, below the number that he states."""

    node_id: bytes
    stated: int
    looked: int  # numbers that were looked up
    unanswered: int  # of them, those of which nothing was learned in time
    entries: tuple[Filed, ...]

    @property
    def broken(self) -> int:
        """How many of the numbers looked up are entered."""
        return len({e.draw_no for e in self.entries})

    @property
    def counterparties(self) -> int:
        """With how many others: one who quarrels often counts once."""
        return len({e.counterparty for e in self.entries})

    @property
    def used_twice(self) -> int:
        """How many numbers are entered with more than one trade: no honest node's are."""
        return len(self.entries) - self.broken


def record_of(
    node_id: bytes, stated: int, found: Mapping[int, tuple[Filed, ...] | None]
) -> DrawRecord:
    """Sum up what was found under each number; None is a number that nobody answered for."""
    entries = [e for number in sorted(found, reverse=True) for e in found[number] or ()]
    unanswered = sum(answer is None for answer in found.values())
    return DrawRecord(node_id, stated, len(found), unanswered, tuple(entries))


def numbers_below(stated: int) -> range:
    """Return the numbers to look up, downward from the one stated."""
    return range(stated, max(0, stated - WALK), -1)


def _bare(message: Message, network: Network) -> Message:
    return Message.from_header(message.body(), message.signature, _NO_PAYLOAD, network)
