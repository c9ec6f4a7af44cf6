"""Lengths of libp2p's own protocols: a message behind its size as an unsigned varint.

Seven bits a byte, lowest first, the top bit meaning that more follow (multiformats
unsigned-varint); three bytes are the most here, so 2 MiB - 1 is the largest length.
"""

from typing import Final

from p2pnode.base.errors import InvalidRecord

MAX_LENGTH_BYTES: Final = 3


def frame(payload: bytes, limit: int) -> bytes:
    """Return `payload` behind its length. Raises InvalidRecord over `limit` bytes."""
    if len(payload) > limit:
        raise InvalidRecord("frame", f"is over {limit} bytes")
    size, head = len(payload), bytearray()
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    head.append(size)
    return bytes(head) + payload


class Decoder:
    """Cuts a byte stream into messages; a length beyond `limit` raises before it is read."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Return how many bytes of an unfinished message are held."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes as they come and return the messages they complete, oldest first.

        Raises InvalidRecord for a length that is too large or not the shortest spelling.
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
        """Return where a message begins and its size, None if its length is not all there."""
        size = 0
        for i, byte in enumerate(self._buffer[start : start + MAX_LENGTH_BYTES]):
            size |= (byte & 127) << (7 * i)
            if byte < 128:
                if size > self._limit or (i and not byte):
                    raise InvalidRecord("frame", f"has no length of 0 to {self._limit}")
                return start + i + 1, size
        if len(self._buffer) - start >= MAX_LENGTH_BYTES:
            raise InvalidRecord("frame", f"has no length of 0 to {self._limit}")
        return None
