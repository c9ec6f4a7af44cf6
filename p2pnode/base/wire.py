"""The wire's one strict codec: canonical msgpack arrays, tagged hashes, frames.

A value is an array of integers, bytes, bounded text and arrays: no maps, floats, nil,
booleans or ext types. It has one spelling: `unpack` re-encodes and compares. A hash is
SHA-256(tag || canonical array), the tag naming network, kind and version, so that no
signature is valid for another thing (docs/wire.md, "Encoding"). The one declared error
of every decoder here is InvalidRecord, naming the field.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import msgpack

from p2pnode.base.errors import InvalidRecord

MAX_DEPTH: Final = 8
LENGTH_BYTES: Final = 4  # big-endian, before each frame

# Controls and direction marks could redraw a terminal or disguise a text.
_FORBIDDEN_RANGES: Final = (
    (0x00, 0x1F),
    (0x7F, 0x9F),
    (0x61C, 0x61C),
    (0x200E, 0x200F),
    (0x2028, 0x202E),
    (0x2066, 0x2069),
    (0xFEFF, 0xFEFF),
)
_FORBIDDEN: Final = frozenset(c for a, b in _FORBIDDEN_RANGES for c in range(a, b + 1))


def pack(value: Sequence[Any]) -> bytes:
    """Return the canonical bytes of an array. Raises InvalidRecord for a foreign type."""
    _check_types("value", value, 0)
    try:
        return bytes(msgpack.packb(value, use_bin_type=True))
    except (OverflowError, UnicodeEncodeError):
        raise InvalidRecord("value", "holds an integer over 64 bits or broken text") from None


def unpack(field: str, raw: object, *, limit: int) -> tuple[Any, ...]:
    """Parse one canonical array of at most `limit` bytes. Raises InvalidRecord."""
    if type(raw) is not bytes or not 0 < len(raw) <= limit:
        raise InvalidRecord(field, f"is not binary of 1 to {limit} bytes")
    try:
        value = msgpack.unpackb(
            raw, use_list=False, raw=False, strict_map_key=True, max_ext_len=0, max_map_len=0
        )
    except (ValueError, msgpack.UnpackException, RecursionError):
        raise InvalidRecord(field, "is not msgpack of arrays, integers, bytes and text") from None
    if type(value) is not tuple:
        raise InvalidRecord(field, "is not an array")
    _check_types(field, value, 0)
    if msgpack.packb(value, use_bin_type=True) != raw:
        raise InvalidRecord(field, "is not canonically encoded")
    return value


def _check_types(field: str, value: object, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidRecord(field, f"is nested deeper than {MAX_DEPTH}")
    if type(value) in (tuple, list):
        for item in value:  # type: ignore[attr-defined]
            _check_types(field, item, depth + 1)
    elif type(value) not in (int, bytes, str):  # bool is an int; not here
        raise InvalidRecord(field, f"holds a {type(value).__name__}")


# ------------------------------------------------------------------ fields


def fields(field: str, value: object, count: int) -> tuple[Any, ...]:
    """Return `value` if it is an array of exactly `count` items."""
    if type(value) is not tuple or len(value) != count:
        raise InvalidRecord(field, f"does not have {count} fields")
    return value


def items(field: str, value: object, high: int) -> tuple[Any, ...]:
    """Return `value` if it is an array of at most `high` items."""
    if type(value) is not tuple or len(value) > high:
        raise InvalidRecord(field, f"is not a list of at most {high}")
    return value


def exact(field: str, value: object, length: int) -> bytes:
    """Return `value` if it is binary of exactly `length` bytes."""
    if type(value) is not bytes or len(value) != length:
        raise InvalidRecord(field, f"is not {length} bytes")
    return value


def blob(field: str, value: object, high: int, *, low: int = 0) -> bytes:
    """Return `value` if it is binary of `low` to `high` bytes."""
    if type(value) is not bytes or not low <= len(value) <= high:
        raise InvalidRecord(field, f"is not binary of {low} to {high} bytes")
    return value


def within(field: str, value: object, low: int, high: int) -> int:
    """Return `value` if it is an integer in low..high, both included."""
    if type(value) is not int or not low <= value <= high:
        raise InvalidRecord(field, f"is not an integer in {low}..{high}")
    return value


def text(field: str, value: object, high: int, *, low: int = 0) -> str:
    """Return `value` if it is text of low..high UTF-8 bytes without control characters."""
    if type(value) is not str:
        raise InvalidRecord(field, "is not text")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidRecord(field, "is not valid Unicode text") from None
    if not low <= size <= high:
        raise InvalidRecord(field, f"is {size} bytes of text, not {low} to {high}")
    if any(ord(c) in _FORBIDDEN for c in value):
        raise InvalidRecord(field, "holds a control or direction character")
    return value


def clipped(value: str, high: int) -> str:
    """Return text cut to at most `high` UTF-8 bytes, without what `text` refuses."""
    plain = "".join(c for c in value if ord(c) not in _FORBIDDEN)
    return plain.encode(errors="ignore")[:high].decode(errors="ignore")


# ------------------------------------------------------------------ hashes


def tag(network: str, kind: str, version: int = 1) -> bytes:
    """Return the domain tag `p2pnode/<network>/<kind>/<version>` and a zero byte."""
    return f"p2pnode/{network}/{kind}/{version}".encode() + b"\0"


def digest(domain: bytes, value: Sequence[Any]) -> bytes:
    """Return SHA-256(domain tag || canonical array)."""
    return hashlib.sha256(domain + pack(value)).digest()


def leading_zero_bits(value: bytes) -> int:
    """Count the zero bits before the first one bit."""
    return 8 * len(value) - int.from_bytes(value, "big").bit_length()


# ------------------------------------------------------------------ frames


def frame(payload: bytes, limit: int) -> bytes:
    """Return `payload` behind its 4-byte big-endian length. Raises InvalidRecord."""
    if not 0 < len(payload) <= limit:
        raise InvalidRecord("frame", f"is not 1 to {limit} bytes")
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload


class FrameDecoder:
    """Cuts a byte stream into frames; a length beyond `limit` raises before it is read."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Return how many bytes of an unfinished frame are held."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes as they come and return the frames they complete, oldest first.

        Raises InvalidRecord for a length that is none.
        """
        self._buffer += data
        done: list[bytes] = []
        start = 0
        while (found := self._length(start)) is not None:
            at, size = found
            if len(self._buffer) < at + size:
                break
            done.append(bytes(self._buffer[at : at + size]))
            start = at + size
        del self._buffer[:start]
        return done

    def _length(self, start: int) -> tuple[int, int] | None:
        """Return where a frame begins and its size, None if its length is not all there."""
        at = start + LENGTH_BYTES
        if len(self._buffer) < at:
            return None
        size = int.from_bytes(self._buffer[start:at], "big")
        if not 0 < size <= self._limit:
            raise InvalidRecord("frame", f"is not 1 to {self._limit} bytes")
        return at, size
