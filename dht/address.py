"""The kind "address": where a node says it listens, signed, under a key of its own.

    record = [body: bin, signature: bin 64]
    body   = [1, network, node_id: bin 32, addrs: at most 4 texts, seq, expires_at]

The signature is Ed25519 over tag("address") + body (docs/wire/dht.md, "Addresses").
"""

from dataclasses import dataclass
from typing import Final

from dht import endpoint
from dht.keys import record_key
from dht.records import MAX_RECORD_BYTES, Record, Validator
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.identity import Identity, check_node_id, verify
from p2pnode.base.networks import Network

KIND: Final = "address"
VERSION: Final = 1
LIFETIME: Final = 24 * 3600  # seconds
MAX_LIFETIME: Final = 2 * LIFETIME


@dataclass(frozen=True, slots=True)
class Address:
    """A node's own word on where it listens."""

    node_id: bytes
    addrs: tuple[str, ...]
    seq: int
    expires_at: int


def address_key(network: Network, node_id: bytes) -> bytes:
    """Return the DHT key under which the node's address lives."""
    return record_key(network, KIND, node_id.hex())


def sign(
    identity: Identity, network: Network, addrs: tuple[str, ...], *, seq: int, expires_at: int
) -> bytes:
    """Return the signed record. Raises InvalidRecord for an address that cannot be dialled."""
    endpoint.dialable("addrs", addrs)
    body = wire.pack([VERSION, network.name, identity.node_id, addrs, seq, expires_at])
    return wire.pack([body, identity.sign(wire.tag(network.name, KIND) + body)])


def parse(raw: bytes, network: Network, now: int) -> Address:
    """Parse, verify and date-check. Raises InvalidRecord and nothing else."""
    outer = wire.unpack("address", raw, limit=MAX_RECORD_BYTES)
    body, signature = wire.fields("address", outer, 2)
    inner = wire.unpack("body", body, limit=MAX_RECORD_BYTES)
    if inner[:1] != (VERSION,):
        raise InvalidRecord("version", f"is not {VERSION}")
    _, name, node_id, addrs, seq, expires_at = wire.fields("body", inner, 6)
    if name != network.name:
        raise InvalidRecord("network", f"is not {network.name}")
    check_node_id("node_id", node_id, network)
    endpoint.dialable("addrs", addrs)
    wire.within("seq", seq, 0, 2**53 - 1)
    if not now < wire.within("expires_at", expires_at, 0, 2**40) <= now + MAX_LIFETIME:
        raise InvalidRecord("expires_at", f"is not within {MAX_LIFETIME} s from now")
    verify("signature", node_id, wire.tag(network.name, KIND) + body, signature)
    return Address(node_id, addrs, seq, expires_at)


def validator(network: Network) -> Validator:
    """Return the kind's validator for `Kinds`."""

    def validate(raw: bytes, now: int) -> Record:
        found = parse(raw, network, now)
        return Record(
            kind=KIND,
            key=address_key(network, found.node_id),
            owner=found.node_id,
            id=b"",
            seq=found.seq,
            expires_at=found.expires_at,
            raw=raw,
        )

    return validate
