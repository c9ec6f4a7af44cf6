"""A message as named lines of a JSON file: its header's twelve, signature, payload.

    {version, kind, trade_id, sender, recipient, seq, prev, seen, tip_height, tip_hash,
     draw_no, payload_hash, signature[, payload]}            bytes in lower-case hex

What the files of `draw verify` and `proof verify` share. Exactly these lines, no more and no
fewer. Pure; the one declared error is InvalidRecord, naming the line that fails: where a
signature fails, the lines that it covers.
"""

from collections.abc import Mapping
from typing import Any, Final

from escrow.messages import MAX_PAYLOAD, Message
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.identity import check_node_id, verify
from p2pnode.base.networks import NETWORKS, Network

HEADER: Final = (
    *("version", "kind", "trade_id", "sender", "recipient", "seq", "prev", "seen"),
    *("tip_height", "tip_hash", "draw_no", "payload_hash"),
)
NO_PAYLOAD: Final = b"\x90"  # stands where a header's payload is not at hand

_NUMBERS: Final = frozenset({"version", "kind", "seq", "tip_height", "draw_no"})

Parts = tuple[tuple[Any, ...], bytes, bytes]  # body, signature, payload (empty: a header alone)


def message_to_json(message: Message, *, payload: bool = True) -> dict[str, Any]:
    """Return a message, or its header alone, as an object for JSON."""
    plain = {
        k: v.hex() if isinstance(v, bytes) else v
        for k, v in zip(HEADER, message.body(), strict=True)
    }
    plain |= {"signature": message.signature.hex()}
    return plain | ({"payload": message.payload.hex()} if payload else {})


def message_from_json(
    name: str,
    value: object,
    net: Network,
    expected: Mapping[str, object],
    *,
    payload: bool = True,
) -> Message:
    """Parse and verify one message; what is `expected` of its lines is compared first.

    Raises InvalidRecord naming the line below `name`.
    """
    body, signature, words = read_parts(name, value, payload=payload)
    for key, line in zip(HEADER, body, strict=True):
        if key in expected and line != expected[key]:
            raise InvalidRecord(f"{name}.{key}", "is not what it must be in this message")
    check_node_id(f"{name}.sender", body[HEADER.index("sender")], net)
    if not is_signed(net, body, signature):
        lines = ", ".join(HEADER)
        why = f"is not the sender's over the lines {lines}: it or one of them was altered"
        raise InvalidRecord(f"{name}.signature", why)
    try:
        if not payload:
            return Message.from_header(body, signature, NO_PAYLOAD, net)
        return Message.from_wire(wire.pack((body, signature, words)), net)
    except InvalidRecord as error:
        field, why = error.field, str(error).partition(": ")[2]
    if field == "payload_hash":
        field, why = "payload", "does not hash to the header's payload_hash"
    raise InvalidRecord(f"{name}.{field}", why)


def read_parts(name: str, value: object, *, payload: bool = True) -> Parts:
    """Read the lines of a message, each of its type and size. Raises InvalidRecord."""
    more = ("payload",) if payload else ()
    lines = read_object(name, value, (*HEADER, "signature", *more))
    body: list[int | bytes] = []
    for key in HEADER:
        line, where = lines[key], f"{name}.{key}"
        if key in _NUMBERS:
            body.append(wire.within(where, line, 0, 2**62))
        else:
            body.append(wire.exact(where, read_hex(where, line), 32))
    words = b""
    if payload:
        where = f"{name}.payload"
        words = wire.blob(where, read_hex(where, lines["payload"]), MAX_PAYLOAD, low=1)
    return tuple(body), read_hex(f"{name}.signature", lines["signature"]), words


def is_signed(net: Network, body: tuple[Any, ...], signature: bytes) -> bool:
    """Tell whether the sender signed this header on this network."""
    try:
        message_id = wire.digest(wire.tag(net.name, "message"), body)
        verify("signature", body[HEADER.index("sender")], message_id, signature)
    except InvalidRecord:
        return False
    return True


def read_network(value: object) -> Network:
    """Return the network that a file names. Raises InvalidRecord."""
    net = NETWORKS.get(value) if isinstance(value, str) else None
    if net is None:
        raise InvalidRecord("network", f"is none of {', '.join(NETWORKS)}")
    return net


def check_network(parts: Parts, net: Network, what: str) -> None:
    """Name the line `network` if this message was signed on another network."""
    body, signature, _ = parts
    for other in NETWORKS.values():
        if other != net and is_signed(other, body, signature):
            raise InvalidRecord("network", f"is not {other.name}, for which {what} was signed")


def read_object(
    name: str, value: object, lines: tuple[str, ...], *, what: str = "transcript"
) -> dict[str, Any]:
    """Return an object of exactly these lines. Raises InvalidRecord naming the odd one."""
    if type(value) is not dict:
        raise InvalidRecord(name or what, "is not an object")
    prefix = f"{name}." if name else ""
    for line in lines:
        if line not in value:
            raise InvalidRecord(f"{prefix}{line}", "is missing")
    for line in value:
        if line not in lines:
            raise InvalidRecord(f"{prefix}{str(line)[:40]!r}", f"is no line of a {what}")
    return value


def read_hex(name: str, value: object) -> bytes:
    """Return the bytes of lower-case hex. Raises InvalidRecord."""
    if type(value) is not str:
        raise InvalidRecord(name, "is not hex")
    try:
        found = bytes.fromhex(value)
    except ValueError:
        raise InvalidRecord(name, "is not hex") from None
    if found.hex() != value:
        raise InvalidRecord(name, "is not lower-case hex without spaces")
    return found
