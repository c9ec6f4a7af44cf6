"""Lengths of libp2p's own protocols: a message behind its size as an unsigned varint.

Seven bits a byte, lowest first, the top bit meaning that more follow (multiformats
unsigned-varint); three bytes are the most here, so 2 MiB - 1 is the largest length.
"""

from typing import Final

from p2pnode.base.errors import InvalidRecord
from p2pnode.base.wire import FrameDecoder

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


class Decoder(FrameDecoder):
    """Cuts a byte stream into messages; a length beyond `limit` raises before it is read.

    So does one that is not the shortest spelling.
    """

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
