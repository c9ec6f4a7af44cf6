"""Where things live in the 256-bit XOR space (Maymounkov, Mazieres 2002, section 2).

A record's key is SHA-256(tag || [kind, market, shard]); a node's place is SHA-256 of its
peer id (`identity.dht_id`). A busy market is spread over the network's shards by the first
byte of the record owner's key.
"""

from typing import Final

from p2pnode.base import wire
from p2pnode.base.networks import Network

KEY_BYTES: Final = 32
MAX_KIND_BYTES: Final = 32


def record_key(network: Network, kind: str, market: str, shard: int = 0) -> bytes:
    """Return the key of a market's records of one kind; one key for each shard."""
    return wire.digest(wire.tag(network.name, "dht-key"), [kind, market, shard])


def shard_of(owner: bytes, network: Network) -> int:
    """Return the shard that a record of this owner belongs to."""
    return owner[0] % network.shards


def distance(one: bytes, other: bytes) -> int:
    """Return the XOR distance of two 32-byte ids."""
    return int.from_bytes(one, "big") ^ int.from_bytes(other, "big")
