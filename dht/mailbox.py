"""The kind "mailbox": sealed entries for peers who are away, under one-time keys.

    record = [body: bin, signature: bin 64]
    body   = [1, network, door, name: bin 32, owner: bin 32, number, seq, expires_at,
              digest: bin 32, nonce: bin 8, sealed: bin]

The signature is Ed25519 by `owner` over tag("mailbox") + body. An entry's `digest` is the
SHA-256 of `sealed`. A deletion is the same entry with the highest seq, nothing sealed, and
the digest and nonce it had: so it carries the entry's own proof of work, and to delete costs
nothing while a flood of deletions costs as much as a flood of entries.

Behind a closed door the name is the hash of the owner, so nobody else can write there. An
open door takes entries of any owner: 64, those with the most work (docs/wire/mailbox.md).
What is sealed, and how boxes are named: `dht.letters`.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Final

from dht.keys import record_key
from dht.records import MAX_ANY_BYTES, Bounds, Record, Validator
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.identity import Identity, verify
from p2pnode.base.networks import Network

KIND: Final = "mailbox"
VERSION: Final = 1
CLOSED: Final = 0  # the owner's own box
OPEN: Final = 1  # anybody's first word to one node
DAY: Final = 86_400  # seconds
MAX_LIFETIME: Final = 30 * DAY
SLOTS: Final = 16  # entries of one owner behind a closed door; 1 behind an open one
PER_KEY: Final = 64
BOUNDS: Final = Bounds(record_bytes=MAX_ANY_BYTES, per_key=PER_KEY, share=0.25)
DELETED: Final = 2**53 - 1  # the seq of a deletion and of nothing else: it is final
MAX_RANK_BITS: Final = 64
NONCE_BYTES: Final = 8
STEPS: Final = (512, 1536, 4096, 11_776)  # bytes of a padded plaintext
SEAL_BYTES: Final = 48  # a NaCl sealed box is longer than its plaintext by this


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry or deletion. Times in unix seconds."""

    door: int
    name: bytes
    owner: bytes
    number: int
    seq: int
    expires_at: int
    digest: bytes
    nonce: bytes
    sealed: bytes

    @property
    def deleted(self) -> bool:
        """Whether this says that the entry is gone."""
        return self.seq == DELETED

    def gone(self) -> "Entry":
        """Return the deletion of this entry; the same whoever of the two sides makes it."""
        return replace(self, seq=DELETED, sealed=b"")


def closed_name(network: Network, owner: bytes) -> bytes:
    """Return the name of the box in which `owner` alone can write."""
    return wire.digest(wire.tag(network.name, "mailbox-name"), [owner])


def entry_key(network: Network, door: int, name: bytes) -> bytes:
    """Return the DHT key of a box's entries."""
    return record_key(network, KIND, f"{'open' if door else 'closed'} {name.hex()}")


def id_of(number: int) -> bytes:
    """Return an entry's record id."""
    return bytes([number])


# ------------------------------------------------------------------ work


class Work:
    """The proof of work of one entry: everything but seq and nonce is fixed by it."""

    def __init__(self, network: Network, entry: Entry) -> None:
        head = wire.digest(
            wire.tag(network.name, "mailbox-head"),
            [entry.door, entry.name, entry.owner, entry.number, entry.expires_at, entry.digest],
        )
        spelled = wire.pack([head, bytes(NONCE_BYTES)])[:-NONCE_BYTES]
        self._state = hashlib.sha256(wire.tag(network.name, "mailbox-work") + spelled)

    def bits(self, nonce: bytes) -> int:
        """Return the leading zero bits of H("mailbox-work", [head, nonce])."""
        state = self._state.copy()
        state.update(nonce)
        return wire.leading_zero_bits(state.digest())

    def search(self, bits: int, start: int, count: int) -> bytes | None:
        """Return the first nonce of `start` … `start + count - 1` with the work, or None."""
        bound = 1 << (256 - bits)
        copy, convert = self._state.copy, int.from_bytes
        for number in range(start, start + count):
            state = copy()
            nonce = number.to_bytes(NONCE_BYTES, "big")
            state.update(nonce)
            if convert(state.digest(), "big") < bound:
                return nonce
        return None


# ------------------------------------------------------------------ wire


def sign(signer: Identity, network: Network, entry: Entry) -> bytes:
    """Return the signed record. Raises ValueError for another's entry."""
    if signer.node_id != entry.owner:
        raise ValueError("signing key does not belong to the entry's owner")
    body = wire.pack(
        [
            VERSION,
            network.name,
            entry.door,
            entry.name,
            entry.owner,
            entry.number,
            entry.seq,
            entry.expires_at,
            entry.digest,
            entry.nonce,
            entry.sealed,
        ]
    )
    return wire.pack([body, signer.sign(wire.tag(network.name, KIND) + body)])


def parse(raw: bytes, network: Network, now: int) -> Entry:
    """Parse, verify, date-check and weigh. Raises InvalidRecord and nothing else."""
    outer = wire.unpack("mailbox entry", raw, limit=MAX_ANY_BYTES)
    body, signature = wire.fields("mailbox entry", outer, 2)
    inner = wire.unpack("body", body, limit=MAX_ANY_BYTES)
    if inner[:1] != (VERSION,):
        raise InvalidRecord("version", f"is not {VERSION}")
    _, name_of_network, door, name, owner, number, seq, expires_at, digest, nonce, sealed = (
        wire.fields("body", inner, 11)
    )
    if name_of_network != network.name:
        raise InvalidRecord("network", f"is not {network.name}")
    wire.within("door", door, CLOSED, OPEN)
    entry = Entry(
        door=door,
        name=wire.exact("name", name, 32),
        owner=wire.exact("owner", owner, 32),
        number=wire.within("number", number, 0, 0 if door == OPEN else SLOTS - 1),
        seq=wire.within("seq", seq, 0, DELETED),
        expires_at=wire.within("expires_at", expires_at, 0, 2**40),
        digest=wire.exact("digest", digest, 32),
        nonce=wire.exact("nonce", nonce, NONCE_BYTES),
        sealed=wire.blob("sealed", sealed, STEPS[-1] + SEAL_BYTES),
    )
    if not now < expires_at <= now + MAX_LIFETIME or expires_at % DAY:
        raise InvalidRecord("expires_at", "is not a midnight (UTC) within 30 days from now")
    if door == CLOSED and name != closed_name(network, owner):
        raise InvalidRecord("name", "is not that of the owner's box")
    _check_sealed(entry)
    if Work(network, entry).bits(entry.nonce) < network.mailbox_bits:
        raise InvalidRecord("nonce", f"does not make {network.mailbox_bits} zero bits")
    verify("signature", owner, wire.tag(network.name, KIND) + body, signature)
    return entry


def _check_sealed(entry: Entry) -> None:
    if entry.deleted:
        if entry.sealed:
            raise InvalidRecord("sealed", "is not empty in a deletion")
        return
    steps = STEPS[:1] if entry.door == OPEN else STEPS
    if len(entry.sealed) - SEAL_BYTES not in steps:
        raise InvalidRecord("sealed", "is of none of the sizes that are allowed")
    if hashlib.sha256(entry.sealed).digest() != entry.digest:
        raise InvalidRecord("digest", "is not that of what is sealed")


def validator(network: Network) -> Validator:
    """Return the kind's validator for `Kinds`; its bounds are `BOUNDS`."""

    def validate(raw: bytes, now: int) -> Record:
        entry = parse(raw, network, now)
        return Record(
            kind=KIND,
            key=entry_key(network, entry.door, entry.name),
            owner=entry.owner,
            id=id_of(entry.number),
            seq=entry.seq,
            expires_at=entry.expires_at,
            raw=raw,
            rank=min(Work(network, entry).bits(entry.nonce), MAX_RANK_BITS),
        )

    return validate
