"""What gossipsub's peers say to each other, and how much of it (docs/wire/gossip.md).

    Rpc = subscriptions, messages, control: IHAVE IWANT GRAFT PRUNE

libp2p pubsub and gossipsub v1.1 specs. Messages bear no author and no signature
(StrictNoSign); a message's id is the SHA-256 of its data. The protobuf is put together and
taken apart in `dht.transport_pubsub`.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

PROTOCOL: Final = "/meshsub/1.1.0"

MAX_DATA: Final = 2048  # bytes of a message
MAX_TOPIC: Final = 128  # bytes of a topic's name
FRAME_LIMIT: Final = 256 * 1024  # bytes of an RPC: 5,000 ids, or 64 asked for in one IWANT
MAX_SUBSCRIPTIONS: Final = 128  # of one RPC; what comes beyond any of these is left out
MAX_MESSAGES: Final = 256
MAX_IHAVE_IDS: Final = 5000
MAX_IWANT_IDS: Final = 5000
MAX_CONTROL: Final = 128  # IHAVE, GRAFT and PRUNE each
ID_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Rpc:
    """One RPC; every list is bounded by the constants above."""

    subscriptions: tuple[tuple[str, bool], ...] = ()
    messages: tuple[tuple[str, bytes], ...] = ()  # topic, data
    ihave: tuple[tuple[str, tuple[bytes, ...]], ...] = ()  # topic, message ids
    iwant: tuple[bytes, ...] = ()
    graft: tuple[str, ...] = ()
    prune: tuple[tuple[str, int], ...] = ()  # topic, backoff in seconds (0: none named)
    unfit: int = 0  # what no honest node sends: messages signed, too long, of no single topic


def message_id(data: bytes) -> bytes:
    """Return a message's id."""
    return hashlib.sha256(data).digest()
