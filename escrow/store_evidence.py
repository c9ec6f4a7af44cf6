"""How EVIDENCE lies in the journal: the header in the clear, the payload sealed.

    row = [body, signature, box]     box = XSalsa20-Poly1305 of the payload

The parts of a file stay in the message rows, their one place: they are the transcript, the
inbox that deduplicates and the outbox, and what is kept once cannot differ from itself. A
step of a machine reads a trade's whole journal, so it gets such a message cut: header and
head (file, name, size, part), opened once and remembered. The data is opened, checked against
the signed payload hash and re-hashed as a file only where somebody wants to see it. A row that
does not open is named; its header still holds its place in the chain, so a case goes on.
"""

import hashlib
import logging
from collections import OrderedDict
from typing import Final

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from escrow.evidence import NO_HEAD, head
from escrow.messages import MAX_MESSAGE, Message
from escrow.payloads import Evidence
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, StorageFault
from p2pnode.base.networks import Network

log: Final = logging.getLogger(__name__)

MAX_HEADS: Final = 16_384  # cut messages remembered, about a kilobyte each


class Shelf:
    """Seals and opens EVIDENCE under a key of the keystore. Its repr shows the network alone."""

    def __init__(self, key: bytes, network: Network) -> None:
        self._box = SecretBox(wire.exact("key", key, SecretBox.KEY_SIZE))
        self._network = network
        self._cut: OrderedDict[bytes, Message] = OrderedDict()

    def __repr__(self) -> str:
        return f"Shelf({self._network.name})"

    def row(self, message: Message) -> bytes:
        """Return what the journal keeps of an EVIDENCE message.

        The nonce is the beginning of the message's id, which commits to the payload: a nonce
        never meets two texts, and the same message makes the same row.
        """
        nonce = message.id[: SecretBox.NONCE_SIZE]
        box = bytes(self._box.encrypt(message.payload, nonce).ciphertext)
        return wire.pack((message.body(), message.signature, box))

    def whole(self, message_id: bytes, row: bytes) -> Message:
        """Return the message as it was sent. Raises StorageFault naming the row for damage."""
        body, signature, box = self._parts(message_id, row)
        payload = self._open(message_id, box)
        if hashlib.sha256(payload).digest() != body[11]:
            raise _damaged(message_id, "holds another payload than was signed")
        header = self._header(message_id, body, signature, NO_HEAD)
        values = {name: getattr(header, name) for name in header.__dataclass_fields__}
        return Message(**(values | {"payload": payload, "cut_hash": b""}))

    def cut(self, message_id: bytes, row: bytes) -> Message:
        """Return header and head; a damaged payload leaves NO_HEAD. Raises StorageFault."""
        body, signature, box = self._parts(message_id, row)
        try:
            payload = self._open(message_id, box)
            if hashlib.sha256(payload).digest() != body[11]:
                raise _damaged(message_id, "holds another payload than was signed")
            found = wire.pack(head(Evidence.from_wire(payload)).array())
        except (StorageFault, InvalidRecord) as error:
            log.warning("evidence %s is not shown: %s", message_id.hex()[:16], error)
            found = NO_HEAD
        message = self._header(message_id, body, signature, found)
        self._cut[message_id] = message
        if len(self._cut) > MAX_HEADS:
            self._cut.popitem(last=False)
        return message

    def remembered(self, message_id: bytes) -> Message | None:
        """Return the cut message if it was read before."""
        return self._cut.get(message_id)

    def _parts(self, message_id: bytes, row: bytes) -> tuple[tuple[object, ...], object, bytes]:
        try:
            parts = wire.fields("row", wire.unpack("row", row, limit=MAX_MESSAGE + 64), 3)
            return wire.fields("row", parts[0], 12), parts[1], wire.blob("row", parts[2], 1 << 20)
        except InvalidRecord as error:
            raise _damaged(message_id, str(error)) from None

    def _open(self, message_id: bytes, box: bytes) -> bytes:
        try:
            return bytes(self._box.decrypt(box, message_id[: SecretBox.NONCE_SIZE]))
        except (CryptoError, ValueError):
            raise _damaged(message_id, "does not open under this keystore") from None

    def _header(self, message_id: bytes, body: object, signature: object, head: bytes) -> Message:
        try:
            message = Message.from_header(body, signature, head, self._network)
        except InvalidRecord as error:
            raise _damaged(message_id, str(error)) from None
        if message.id != message_id:
            raise _damaged(message_id, "lies under another message's id")
        return message


def _damaged(message_id: bytes, why: str) -> StorageFault:
    return StorageFault(
        f"evidence: the row {message_id.hex()[:16]} {why}: it is damaged or was altered, "
        "and is not shown",
        field="evidence",
    )
