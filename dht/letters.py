"""What lies in mailboxes: where two peers look for each other's letters, and how they are sealed.

    line  = H("mailbox-line", [X25519 secret of both, trade id, sender, recipient])
    key   = Ed25519 of the seed H("mailbox-seed", [line, day, shelf])         a closed box
    word  = Ed25519 of the seed H("mailbox-word-seed", [line, day])           in the open box
            H("mailbox-word", [recipient, day])

`day` is unix seconds // 86,400 by the sender's clock. A letter goes in parts, 16 entries a
shelf. A first word tells a stranger, in his open box, from whom and of which trade a letter
lies for him; that the key it is signed by is the word key of that line proves the sender.
Sealed is a padded array that names network, box and entry, so a copy opens nowhere else.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from dht import mailbox
from dht.mailbox import CLOSED, DAY, OPEN, STEPS, Entry
from p2pnode.base import identity, wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.identity import Identity
from p2pnode.base.networks import Network
from p2pnode.base.secret import Secret

LIFE_DAYS: Final = 29  # a box of day d ends with day d + 28: a clock may be a day ahead
SHELVES: Final = 8  # of a line and a day: 128 entries
CHUNK: Final = 11_520  # bytes of a letter in one entry
MAX_PARTS: Final = 96
MAX_PAYLOAD: Final = MAX_PARTS * CHUNK
MAX_NUMBER: Final = 2**31 - 1
_LENGTH: Final = 4


@dataclass(frozen=True, slots=True)
class Box:
    """One day's place for entries of one line. Its repr shows no secret."""

    network: Network
    door: int
    name: bytes
    day: int
    signer: Identity

    @property
    def key(self) -> bytes:
        """The DHT key."""
        return mailbox.entry_key(self.network, self.door, self.name)

    @property
    def expires_at(self) -> int:
        """When its entries end, unix seconds; a whole day, so it tells no more than the day."""
        return (self.day + LIFE_DAYS) * DAY

    def entry(self, number: int, sealed: bytes) -> Entry:
        """Return an entry that still lacks its work."""
        return Entry(
            door=self.door,
            name=self.name,
            owner=self.signer.node_id,
            number=number,
            seq=0,
            expires_at=self.expires_at,
            digest=hashlib.sha256(sealed).digest(),
            nonce=bytes(mailbox.NONCE_BYTES),
            sealed=sealed,
        )

    def sign(self, entry: Entry) -> bytes:
        """Return the record."""
        return mailbox.sign(self.signer, self.network, entry)


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of the letter `number`; `whole` is the SHA-256 of all its pieces."""

    number: int
    part: int
    parts: int
    whole: bytes
    chunk: bytes


@dataclass(frozen=True, slots=True)
class Line:
    """What two peers say to each other in one trade.

    `since`, unix seconds, is when they may have begun: no day before is read.
    """

    peer: bytes
    trade_id: bytes
    since: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Letter:
    """A peer's letter, whole, and the entries that it lies in."""

    line: Line
    number: int
    payload: bytes = field(repr=False)
    whole: bytes
    entries: tuple[tuple[Box, Entry], ...] = field(repr=False)


# ------------------------------------------------------------------ places


def line_secret(
    own: Identity, network: Network, peer: bytes, trade_id: bytes, *, outgoing: bool
) -> Secret[bytes]:
    """Return what the boxes of one direction of a trade are made of.

    Raises InvalidRecord if `peer` is no usable key, or our own.
    """
    if peer == own.node_id:
        raise InvalidRecord("peer", "is this node itself")
    sender, recipient = (own.node_id, peer) if outgoing else (peer, own.node_id)
    shared = own.shared_secret(peer).reveal()
    domain = wire.tag(network.name, "mailbox-line")
    return Secret(wire.digest(domain, [shared, trade_id, sender, recipient]))


def closed_box(network: Network, line: Secret[bytes], day: int, shelf: int) -> Box:
    """Return a line's box of a day; a shelf is begun when the one before it is full."""
    domain = wire.tag(network.name, "mailbox-seed")
    signer = Identity(wire.digest(domain, [line.reveal(), day, shelf]))
    return Box(network, CLOSED, mailbox.closed_name(network, signer.node_id), day, signer)


def word_name(network: Network, recipient: bytes, day: int) -> bytes:
    """Return the name of the open box of a node. Anybody who knows the node can compute it."""
    return wire.digest(wire.tag(network.name, "mailbox-word"), [recipient, day])


def word_box(network: Network, line: Secret[bytes], recipient: bytes, day: int) -> Box:
    """Return a node's open box, as the sender of that line writes in it."""
    signer = Identity(
        wire.digest(wire.tag(network.name, "mailbox-word-seed"), [line.reveal(), day])
    )
    return Box(network, OPEN, word_name(network, recipient, day), day, signer)


def word_key(network: Network, recipient: bytes, day: int) -> bytes:
    """Return the DHT key of a node's open box."""
    return mailbox.entry_key(network, OPEN, word_name(network, recipient, day))


def newest_day(now: int) -> int:
    """Return the last day of which an entry may lie somewhere: a clock may be a day ahead."""
    return now // DAY + 1


def oldest_day(now: int) -> int:
    """Return the first day of which an entry may lie somewhere."""
    return now // DAY - LIFE_DAYS + 1


# ------------------------------------------------------------------ sealing


def pad(plain: bytes) -> bytes:
    """Return 4-byte length || bytes || zeros, filled to the smallest step."""
    size = _LENGTH + len(plain)
    step = next((s for s in STEPS if size <= s), None)
    if step is None:
        raise InvalidRecord("letter", f"is longer than {STEPS[-1] - _LENGTH} bytes")
    return len(plain).to_bytes(_LENGTH, "big") + plain + bytes(step - size)


def unpad(padded: bytes) -> bytes:
    """Return what was padded. Raises InvalidRecord for another spelling of it."""
    size = int.from_bytes(padded[:_LENGTH], "big")
    plain = padded[_LENGTH : _LENGTH + size]
    if len(plain) != size or len(padded) > STEPS[-1] or pad(plain) != padded:
        raise InvalidRecord("padding", "is not zeros up to the smallest step")
    return plain


def split(payload: bytes) -> tuple[bytes, ...]:
    """Return a letter's parts. Raises InvalidRecord for an empty one or over 96 parts."""
    wire.blob("payload", payload, MAX_PAYLOAD, low=1)
    return tuple(payload[at : at + CHUNK] for at in range(0, len(payload), CHUNK))


def seal_part(box: Box, recipient: bytes, number: int, part: Part) -> bytes:
    """Return what is sealed in the entry `number` of a closed box."""
    plain = wire.pack(
        [*_head(box, number), part.number, part.part, part.parts, part.whole, part.chunk]
    )
    return identity.seal(recipient, pad(plain))


def seal_word(box: Box, recipient: bytes, sender: bytes, trade_id: bytes) -> bytes:
    """Return what is sealed in an open box."""
    return identity.seal(recipient, pad(wire.pack([*_head(box, 0), sender, trade_id])))


def _head(box: Box, number: int) -> tuple[Any, ...]:
    return mailbox.VERSION, box.network.name, box.name, number


def open_part(own: Identity, box: Box, entry: Entry) -> Part:
    """Open an entry of a box of ours. Raises InvalidRecord."""
    if entry.owner != box.signer.node_id or entry.expires_at != box.expires_at:
        raise InvalidRecord("owner", "is not this box's, or of another day")
    fields = _opened(own, box.network, entry, 9)
    part = Part(
        number=wire.within("letter.number", fields[4], 0, MAX_NUMBER),
        part=wire.within("letter.part", fields[5], 0, MAX_PARTS - 1),
        parts=wire.within("letter.parts", fields[6], fields[5] + 1, MAX_PARTS),
        whole=wire.exact("letter.whole", fields[7], 32),
        chunk=wire.blob("letter.chunk", fields[8], CHUNK, low=1),
    )
    if part.part < part.parts - 1 and len(part.chunk) != CHUNK:
        raise InvalidRecord("letter.chunk", f"is not {CHUNK} bytes and not the last")
    return part


def open_word(own: Identity, network: Network, day: int, entry: Entry) -> tuple[bytes, bytes, Box]:
    """Open an entry of our own open box: sender, trade id, and the box as the sender's.

    Raises InvalidRecord, also for a word that its sender did not write.
    """
    fields = _opened(own, network, entry, 6)
    sender = identity.check_node_id("word.sender", fields[4], network)
    trade_id = wire.exact("word.trade_id", fields[5], 32)
    line = line_secret(own, network, sender, trade_id, outgoing=False)
    box = word_box(network, line, own.node_id, day)
    if (entry.door, entry.name, entry.owner) != (OPEN, box.name, box.signer.node_id):
        raise InvalidRecord("word.sender", "did not write this word")
    if entry.expires_at != box.expires_at:
        raise InvalidRecord("expires_at", "is not that of its day")
    return sender, trade_id, box


def _opened(own: Identity, network: Network, entry: Entry, count: int) -> tuple[Any, ...]:
    plain = wire.unpack("letter", unpad(own.unseal(entry.sealed)), limit=STEPS[-1])
    fields = wire.fields("letter", plain, count)
    if fields[:4] != (mailbox.VERSION, network.name, entry.name, entry.number):
        raise InvalidRecord("letter", "was sealed for another network, box or entry")
    return fields


# ------------------------------------------------------------------ whole letters


def joined(line: Line, opened: Iterable[tuple[Box, Entry, Part]]) -> list[Letter]:
    """Return the letters of which every part is there, in the order of their numbers."""
    held: dict[tuple[int, bytes], list[tuple[Box, Entry, Part]]] = {}
    for one in opened:
        held.setdefault((one[2].number, one[2].whole), []).append(one)
    found = []
    for number, whole in sorted(held):
        pieces = held[number, whole]
        chunks = {part.part: part.chunk for *_, part in pieces}
        count = pieces[0][2].parts
        if set(chunks) != set(range(count)):
            continue
        payload = b"".join(chunks[index] for index in range(count))
        if hashlib.sha256(payload).digest() == whole:
            entries = tuple((box, entry) for box, entry, _ in pieces)
            found.append(Letter(line, number, payload, whole, entries))
    return found
