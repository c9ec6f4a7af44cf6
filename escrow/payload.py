"""The root of every payload: one canonical array of bounded fields."""

from dataclasses import dataclass
from typing import ClassVar, Final, Self

from escrow.fields import Fields
from escrow.messages import MAX_MESSAGE, Kind
from p2pnode.base import wire

MAX_NOTE: Final = 256  # bytes of a short remark


@dataclass(frozen=True, kw_only=True)
class Payload(Fields):
    """The payload of one kind of message."""

    kind: ClassVar[Kind]

    def wire(self) -> bytes:
        """Return the canonical bytes."""
        return wire.pack(self.array())

    @classmethod
    def from_wire(cls, raw: object) -> Self:
        """Parse and bound. Raises InvalidRecord."""
        return cls.from_array(cls.kind.name, wire.unpack(cls.kind.name, raw, limit=MAX_MESSAGE))
