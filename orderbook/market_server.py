"""The DHT kind "server": who follows a market and serves it, signed (docs/wire/book.md).

    record = [body: bin, signature: bin 64]
    body   = [1, network, node_id: bin 32, currency, expires_at]

The signature is Ed25519 over tag("server") + body. Whoever follows a market puts one under the
market's key every RENEW_S; at LIFE_S without that it is over. Where more want a place than there
are, each day's lot decides: whoever comes with many names and signs for longest holds no more
places than his share, unless he grinds names for the day.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from orderbook.currencies import check_currency
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.identity import Identity, check_node_id, verify
from p2pnode.base.networks import Network

KIND: Final = "server"
VERSION: Final = 1
MAX_BYTES: Final = 256
LIFE_S: Final = 1500  # what a node signs, so that clocks may differ by five minutes
MAX_LIFE_S: Final = 1800
RENEW_S: Final = 600
RETRY_S: Final = 30
DAY_S: Final = 86_400
MAX_SERVERS: Final = 256  # under one market's key


@dataclass(frozen=True, slots=True)
class Server:
    """A node's own word that it serves a market."""

    node_id: bytes
    currency: str
    expires_at: int

    @property
    def lot(self) -> int:
        """Return what this node has drawn for the day: under a full key the lowest go first."""
        day = (self.expires_at // DAY_S).to_bytes(8, "big")
        drawn = hashlib.sha256(self.node_id + self.currency.encode() + day).digest()
        return int.from_bytes(drawn[:4], "big") >> 1


def sign(identity: Identity, network: Network, currency: str, expires_at: int) -> bytes:
    """Return the signed record."""
    body = wire.pack([VERSION, network.name, identity.node_id, currency, expires_at])
    return wire.pack([body, identity.sign(wire.tag(network.name, KIND) + body)])


def parse(raw: bytes, network: Network, now: int) -> Server:
    """Parse, verify and date-check. Raises InvalidRecord and nothing else."""
    outer = wire.unpack("server", raw, limit=MAX_BYTES)
    body, signature = wire.fields("server", outer, 2)
    inner = wire.unpack("body", body, limit=MAX_BYTES)
    if inner[:1] != (VERSION,):
        raise InvalidRecord("version", f"is not {VERSION}")
    _, name, node_id, currency, expires_at = wire.fields("body", inner, 5)
    if name != network.name:
        raise InvalidRecord("network", f"is not {network.name}")
    check_node_id("node_id", node_id, network)
    check_currency("currency", currency)
    if not now < wire.within("expires_at", expires_at, 0, 2**40) <= now + MAX_LIFE_S:
        raise InvalidRecord("expires_at", f"is not within {MAX_LIFE_S} s from now")
    verify("signature", node_id, wire.tag(network.name, KIND) + body, signature)
    return Server(node_id, currency, expires_at)
