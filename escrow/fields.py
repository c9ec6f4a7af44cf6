"""Arrays with named, bounded fields: how payloads, terms and parts are declared.

A field is declared with the check that bounds it; construction runs every check, so an
instance that exists is well-formed. The one declared error is InvalidRecord.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any, Self

from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord

Check = Callable[[str, object], Any]


def b32(name: str, value: object) -> bytes:
    """Check 32 bytes: a hash, a node id."""
    return wire.exact(name, value, 32)


def words(high: int, low: int = 0) -> Check:
    """Return a check of text of low..high UTF-8 bytes."""
    return lambda name, value: wire.text(name, value, high, low=low)


def binary(high: int, low: int = 0) -> Check:
    """Return a check of low..high bytes."""
    return lambda name, value: wire.blob(name, value, high, low=low)


def integer(low: int, high: int) -> Check:
    """Return a check of an integer in low..high."""
    return lambda name, value: wire.within(name, value, low, high)


def listing(high: int, each: Check, *, low: int = 0) -> Check:
    """Return a check of a list of low..high items, each checked under its number."""

    def check(name: str, value: object) -> tuple[Any, ...]:
        found = wire.items(name, value, high)
        if len(found) < low:
            raise InvalidRecord(name, f"has fewer than {low} items")
        return tuple(each(f"{name}[{n}]", item) for n, item in enumerate(found))

    return check


def ascending(each: Check, high: int, low: int = 0) -> Check:
    """Return a check of a list that is strictly ascending as well."""
    inner = listing(high, each, low=low)

    def check(name: str, value: object) -> tuple[Any, ...]:
        found: tuple[Any, ...] = inner(name, value)
        if any(a >= b for a, b in pairwise(found)):
            raise InvalidRecord(name, "is not strictly ascending")
        return found

    return check


def checked(check: Check) -> Any:
    """Declare a field with the check that bounds it."""
    return field(metadata={"check": check})


@dataclass(frozen=True, kw_only=True)
class Fields:
    """An array of named fields, each with its check."""

    def __post_init__(self) -> None:
        for f in fields(self):
            object.__setattr__(self, f.name, f.metadata["check"](f.name, getattr(self, f.name)))

    def array(self) -> tuple[Any, ...]:
        """Return the canonical array."""
        values = (getattr(self, f.name) for f in fields(self))
        return tuple(v.array() if isinstance(v, Fields) else v for v in values)

    @classmethod
    def from_array(cls, name: str, value: object) -> Self:
        """Parse an array already unpacked. Raises InvalidRecord."""
        names = [f.name for f in fields(cls)]
        found = wire.fields(name, value, len(names))
        return cls(**dict(zip(names, found, strict=True)))
