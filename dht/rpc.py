"""The DHT's frames and what may stand in them (docs/wire/dht.md, "DHT").

    [0, id, method, args]    a question      [1, id, result]    its answer
    [2, id, error]           its refusal, one sentence
    [3, id, records]         news for who asked `listen` under this id

A method's arguments and result are checked here, both ways; anything else is InvalidRecord,
and a stream that carried it is closed.
"""

from dataclasses import dataclass
from typing import Any, Final

from dht import endpoint
from dht.endpoint import Peer
from dht.keys import KEY_BYTES
from dht.records import MAX_ANY_BYTES, MAX_ID_BYTES, check_kind
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.identity import check_node_id
from p2pnode.base.networks import Network

FRAME_LIMIT: Final = 16 * 1024
MAX_CONTACTS: Final = 20  # peers in one answer
MAX_ERROR_BYTES: Final = 200
MAX_CURSOR_BYTES: Final = 32 + MAX_ID_BYTES
MAX_REQUEST_ID: Final = 2**53 - 1
MAX_ARGS: Final = 4
MAX_METHOD_BYTES: Final = 16
PAGE_BYTES: Final = FRAME_LIMIT - 512  # what a find_value answer fills

HELLO: Final = "hello"
PING: Final = "ping"
FIND_NODE: Final = "find_node"
FIND_VALUE: Final = "find_value"
STORE: Final = "store"
LISTEN: Final = "listen"
DIGEST: Final = "digest"
METHODS: Final = (HELLO, PING, FIND_NODE, FIND_VALUE, STORE, LISTEN, DIGEST)
MAX_LISTEN_S: Final = 600  # one grant of a listen
PEER_BYTES: Final = 100  # what the addresses of one peer in an answer may fill, the first apart


@dataclass(frozen=True, slots=True)
class Ask:
    """A question under its id."""

    id: int
    method: str
    args: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to question `id`; `error` is empty when it was answered."""

    id: int
    result: Any
    error: str = ""


@dataclass(frozen=True, slots=True)
class News:
    """Records (unchecked) that are new under the key that `listen` number `id` asked for."""

    id: int
    raws: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A find_value answer: nearer peers, records (unchecked), and where to go on, or empty."""

    peers: tuple[Peer, ...]
    raws: tuple[bytes, ...]
    cursor: bytes


def encode(message: Ask | Answer | News) -> bytes:
    """Return the frame's payload."""
    if isinstance(message, Ask):
        return wire.pack([0, message.id, message.method, message.args])
    if isinstance(message, News):
        return wire.pack([3, message.id, message.raws])
    if message.error:
        return wire.pack([2, message.id, message.error])
    return wire.pack([1, message.id, message.result])


def decode(payload: bytes) -> Ask | Answer | News:
    """Parse a frame's payload. Raises InvalidRecord."""
    value = wire.unpack("frame", payload, limit=FRAME_LIMIT)
    if len(value) < 3:
        raise InvalidRecord("frame", "has fewer than 3 fields")
    number = wire.within("frame.id", value[1], 0, MAX_REQUEST_ID)
    match wire.within("frame.type", value[0], 0, 3):
        case 0:
            _, _, method, args = wire.fields("frame", value, 4)
            wire.text("method", method, MAX_METHOD_BYTES, low=1)
            return Ask(number, method, wire.items("args", args, MAX_ARGS))
        case 1:
            return Answer(number, wire.fields("frame", value, 3)[2])
        case 3:
            return News(number, records_in(wire.fields("frame", value, 3)[2]))
        case _:
            text = wire.text("error", wire.fields("frame", value, 3)[2], MAX_ERROR_BYTES, low=1)
            return Answer(number, (), text)


# ------------------------------------------------------------------ arguments


def hello_args(args: tuple[Any, ...]) -> tuple[str, ...]:
    """Return the caller's addresses. Raises InvalidRecord."""
    (addrs,) = wire.fields("hello", args, 1)
    return endpoint.dialable("addrs", addrs)


def key_args(args: tuple[Any, ...]) -> bytes:
    """Return find_node's key. Raises InvalidRecord."""
    (key,) = wire.fields("find_node", args, 1)
    return wire.exact("key", key, KEY_BYTES)


def value_args(args: tuple[Any, ...]) -> tuple[str, bytes, bytes]:
    """Return find_value's kind, key and cursor. Raises InvalidRecord."""
    kind, key, cursor = wire.fields("find_value", args, 3)
    wire.blob("cursor", cursor, MAX_CURSOR_BYTES)
    return check_kind(kind), wire.exact("key", key, KEY_BYTES), cursor


def store_args(args: tuple[Any, ...]) -> tuple[str, bytes, bytes]:
    """Return store's kind, key and record, the record unchecked. Raises InvalidRecord."""
    kind, key, raw = wire.fields("store", args, 3)
    wire.blob("record", raw, MAX_ANY_BYTES, low=1)
    return check_kind(kind), wire.exact("key", key, KEY_BYTES), raw


def listen_args(args: tuple[Any, ...]) -> tuple[str, bytes, int]:
    """Return listen's kind, key and seconds, 0 to end it. Raises InvalidRecord."""
    kind, key, seconds = wire.fields("listen", args, 3)
    wire.within("seconds", seconds, 0, MAX_LISTEN_S)
    return check_kind(kind), wire.exact("key", key, KEY_BYTES), seconds


def digest_args(args: tuple[Any, ...]) -> tuple[str, bytes, bytes, bytes]:
    """Return digest's kind, key and the ends of its range. Raises InvalidRecord."""
    kind, key, low, high = wire.fields("digest", args, 4)
    wire.blob("low", low, MAX_CURSOR_BYTES)
    wire.blob("high", high, MAX_CURSOR_BYTES)
    if high and high <= low:
        raise InvalidRecord("high", "is not above low")
    return check_kind(kind), wire.exact("key", key, KEY_BYTES), low, high


# ------------------------------------------------------------------ results


def peers_out(peers: list[Peer]) -> tuple[tuple[bytes, tuple[str, ...]], ...]:
    """Return peers as they travel: 20 at most, each with the addresses that fit its share.

    The first address always does, so they take 3.4 KiB and a record fits beside them.
    """
    return tuple((peer.node_id, _share(peer.addrs)) for peer in peers[:MAX_CONTACTS])


def _share(addrs: tuple[str, ...]) -> tuple[str, ...]:
    room = PEER_BYTES - len(addrs[0]) if addrs else 0
    taken = addrs[:1]
    for addr in addrs[1:]:
        room -= len(addr) + 2
        if room < 0:
            break
        taken += (addr,)
    return taken


def records_in(value: object) -> tuple[bytes, ...]:
    """Return records as they came, still to be admitted. Raises InvalidRecord."""
    raws = wire.items("records", value, FRAME_LIMIT)
    for raw in raws:
        wire.blob("record", raw, MAX_ANY_BYTES, low=1)
    return raws


def stored_in(value: object, network: Network) -> tuple[bool, tuple[Peer, ...]]:
    """Parse a store answer: whether it is held, and nearer peers. Raises InvalidRecord."""
    held, peers = wire.fields("stored", value, 2)
    return bool(wire.within("held", held, 0, 1)), peers_in(peers, network)


def granted_in(value: object) -> int:
    """Parse a listen answer: for how many seconds. Raises InvalidRecord."""
    (granted,) = wire.fields("granted", value, 1)
    return wire.within("granted", granted, 0, MAX_LISTEN_S)


def peers_in(value: object, network: Network) -> tuple[Peer, ...]:
    """Return the peers an answer names, each key with its work. Raises InvalidRecord."""
    found = []
    for entry in wire.items("peers", value, MAX_CONTACTS):
        node_id, addrs = wire.fields("peer", entry, 2)
        check_node_id("peer.node_id", node_id, network)
        found.append(Peer(node_id, endpoint.dialable("peer.addrs", addrs)))
    return tuple(found)


def page_out(
    peers: list[Peer], raws: list[tuple[bytes, bytes]], *, more: bool = False
) -> tuple[Any, ...]:
    """Return a find_value answer that fits a frame; `raws` are (cursor, record) in order.

    `more` says that the holder has others behind the last of them.

    At least one record fits: the peers take 3.4 KiB, a record 12 KiB at the most.
    """
    named = peers_out(peers)
    room = PAGE_BYTES - len(wire.pack([named]))
    taken: list[bytes] = []
    cursor = b""
    for at, raw in raws:
        room -= len(raw) + 4
        if room < 0:
            break
        taken.append(raw)
        cursor = at
    return named, taken, cursor if more or len(taken) < len(raws) else b""


def page_in(value: object, network: Network) -> Page:
    """Parse a find_value answer; its records are still to be admitted. Raises InvalidRecord."""
    peers, raws, cursor = wire.fields("page", value, 3)
    wire.blob("cursor", cursor, MAX_CURSOR_BYTES)
    return Page(peers_in(peers, network), records_in(raws), cursor)
