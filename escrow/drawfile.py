"""The file of `draw verify`: a draw's transcript as JSON, every line of it named.

    {version, network, take, draw, reveal, records, seed, arbiter, runner_up}
    a message: its header's twelve lines, signature, payload; bytes in lower-case hex

Exactly these lines, no more and no fewer. Pure; the one declared error is InvalidRecord, naming
the line that fails: where a signature fails, the lines that it covers. docs/draw.md.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from escrow.arbiters import ArbiterRecord
from escrow.bond import Eyes
from escrow.draw import Drawn, anchor_of, conclude
from escrow.messages import MAX_PAYLOAD, VERSION, ZERO, Kind, Message
from escrow.payloads import MAX_LISTED, Draw, Reveal
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.identity import check_node_id, verify
from p2pnode.base.networks import NETWORKS, Network

FILE_VERSION: Final = 1
MAX_FILE: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class DrawFile:
    """A draw's transcript as a file: three messages, the records, the claimed outcome."""

    network: Network
    take: Message
    draw: Message
    reveal: Message
    records: Mapping[bytes, ArbiterRecord]
    arbiter: bytes
    runner_up: bytes
    seed: bytes

    def verify(self, eyes: Eyes) -> Drawn:
        """Recompute the draw with a chain alone. Raises InvalidRecord naming the failing line."""
        drawn = conclude(self.take, self.draw, self.reveal, self.records, eyes)
        for name, claimed, found in (
            ("seed", self.seed, drawn.seed),
            ("arbiter", self.arbiter, drawn.arbiter.node_id),
            ("runner_up", self.runner_up, drawn.runner_up.node_id),
        ):
            if claimed != found:
                self._blame_record(claimed, eyes)
                raise InvalidRecord(name, f"is not what the draw gives, {found.hex()}")
        return drawn

    def _blame_record(self, node_id: bytes, eyes: Eyes) -> None:
        """Raise the line of that node's record that keeps it out of the draw, if one does."""
        anchor = anchor_of(self.take, eyes)
        for n, record in enumerate(self.records.values()):
            if record.node_id == node_id:
                try:
                    anchor.weigh(record)
                except InvalidRecord as error:
                    raise _of_record(n, error) from None


_HEADER: Final = (
    *("version", "kind", "trade_id", "sender", "recipient", "seq", "prev", "seen"),
    *("tip_height", "tip_hash", "draw_no", "payload_hash"),
)
_NUMBERS: Final = frozenset({"version", "kind", "seq", "tip_height", "draw_no"})
_LINES: Final = (
    *("version", "network", "take", "draw", "reveal", "records", "seed", "arbiter", "runner_up"),
)


def draw_to_json(
    take: Message, draw: Message, reveal: Message, records: Iterable[ArbiterRecord], drawn: Drawn
) -> dict[str, Any]:
    """Return the transcript as an object for JSON: every line named, bytes in hex."""
    return {
        "version": FILE_VERSION,
        "network": take.network.name,
        "take": _message_to_json(take),
        "draw": _message_to_json(draw),
        "reveal": _message_to_json(reveal),
        "records": [r.wire().hex() for r in records],
        "seed": drawn.seed.hex(),
        "arbiter": drawn.arbiter.node_id.hex(),
        "runner_up": drawn.runner_up.node_id.hex(),
    }


def draw_from_json(value: object) -> DrawFile:
    """Parse a transcript. Raises InvalidRecord naming the line."""
    lines = _object("", value, _LINES)
    wire.within("version", lines["version"], FILE_VERSION, FILE_VERSION)
    name = lines["network"]
    net = NETWORKS.get(name) if isinstance(name, str) else None
    if net is None:
        raise InvalidRecord("network", f"is none of {', '.join(NETWORKS)}")
    _check_network(lines["take"], net)
    take = _message_from_json("take", lines["take"], net, None)
    draw = _message_from_json("draw", lines["draw"], net, take)
    reveal = _message_from_json("reveal", lines["reveal"], net, take)
    raw = lines["records"]
    if type(raw) is not list or len(raw) > 2 * MAX_LISTED:
        raise InvalidRecord("records", f"are not a list of at most {2 * MAX_LISTED}")
    listed = {i for _, i in Draw.from_wire(draw.payload).arbiters}
    listed |= {i for _, i in Reveal.from_wire(reveal.payload).arbiters}
    found: dict[bytes, ArbiterRecord] = {}
    for n, line in enumerate(raw):
        try:
            record = ArbiterRecord.from_wire(_hex(f"records[{n}]", line), net)
        except InvalidRecord as error:
            raise _of_record(n, error) from None
        if record.id in found or record.id not in listed:
            raise InvalidRecord(f"records[{n}]", "is there twice, or in neither list")
        found[record.id] = record
    return DrawFile(
        network=net,
        take=take,
        draw=draw,
        reveal=reveal,
        records=found,
        arbiter=_hex("arbiter", lines["arbiter"]),
        runner_up=_hex("runner_up", lines["runner_up"]),
        seed=_hex("seed", lines["seed"]),
    )


def _of_record(n: int, error: InvalidRecord) -> InvalidRecord:
    """Return the error of a record under the name of its line in the file."""
    field, why = error.field or "record", str(error).partition(": ")[2]
    line = f"records[{n}]"
    return InvalidRecord(line if field.startswith(line) else f"{line}.{field}", why)


def _message_to_json(message: Message) -> dict[str, Any]:
    plain = {
        k: v.hex() if isinstance(v, bytes) else v
        for k, v in zip(_HEADER, message.body(), strict=True)
    }
    return {**plain, "signature": message.signature.hex(), "payload": message.payload.hex()}


def _message_from_json(name: str, value: object, net: Network, take: Message | None) -> Message:
    """Parse one message; what the TAKE says of the other two is compared line by line first."""
    body, signature, payload = _parts(name, value)
    kind = Kind[name.upper()]
    expected: dict[str, object] = {"version": VERSION, "kind": int(kind)}
    if take is None:
        expected |= {"trade_id": ZERO, "seq": 0, "prev": ZERO}
    else:
        ours = kind is Kind.REVEAL  # the taker's, as the TAKE
        expected["trade_id"] = take.id
        expected["sender"] = take.sender if ours else take.recipient
        expected["recipient"] = take.recipient if ours else take.sender
    for key, line in zip(_HEADER, body, strict=True):
        if key in expected and line != expected[key]:
            raise InvalidRecord(f"{name}.{key}", "is not what it must be in this message")
    check_node_id(f"{name}.sender", body[_HEADER.index("sender")], net)
    if not _is_signed(net, body, signature):
        lines = ", ".join(_HEADER)
        why = f"is not the sender's over the lines {lines}: it or one of them was altered"
        raise InvalidRecord(f"{name}.signature", why)
    try:
        return Message.from_wire(wire.pack((body, signature, payload)), net)
    except InvalidRecord as error:
        field, why = error.field, str(error).partition(": ")[2]
    if field == "payload_hash":
        field, why = "payload", "does not hash to the header's payload_hash"
    raise InvalidRecord(f"{name}.{field}", why)


def _parts(name: str, value: object) -> tuple[tuple[Any, ...], bytes, bytes]:
    lines = _object(name, value, (*_HEADER, "signature", "payload"))
    body: list[int | bytes] = []
    for key in _HEADER:
        line, where = lines[key], f"{name}.{key}"
        if key in _NUMBERS:
            body.append(wire.within(where, line, 0, 2**62))
        else:
            body.append(wire.exact(where, _hex(where, line), 32))
    payload = wire.blob(
        f"{name}.payload", _hex(f"{name}.payload", lines["payload"]), MAX_PAYLOAD, low=1
    )
    return tuple(body), _hex(f"{name}.signature", lines["signature"]), payload


def _is_signed(net: Network, body: tuple[Any, ...], signature: bytes) -> bool:
    try:
        message_id = wire.digest(wire.tag(net.name, "message"), body)
        verify("signature", body[_HEADER.index("sender")], message_id, signature)
    except InvalidRecord:
        return False
    return True


def _check_network(take: object, net: Network) -> None:
    """Name the line `network` if the TAKE was signed on another network."""
    body, signature, _ = _parts("take", take)
    for other in NETWORKS.values():
        if other != net and _is_signed(other, body, signature):
            raise InvalidRecord("network", f"is not {other.name}, for which the TAKE was signed")


def _object(name: str, value: object, lines: tuple[str, ...]) -> dict[str, Any]:
    """Return an object of exactly these lines. Raises InvalidRecord naming the odd one."""
    if type(value) is not dict:
        raise InvalidRecord(name or "transcript", "is not an object")
    prefix = f"{name}." if name else ""
    for line in lines:
        if line not in value:
            raise InvalidRecord(f"{prefix}{line}", "is missing")
    for line in value:
        if line not in lines:
            raise InvalidRecord(f"{prefix}{str(line)[:40]!r}", "is no line of a transcript")
    return value


def _hex(name: str, value: object) -> bytes:
    if type(value) is not str:
        raise InvalidRecord(name, "is not hex")
    try:
        found = bytes.fromhex(value)
    except ValueError:
        raise InvalidRecord(name, "is not hex") from None
    if found.hex() != value:
        raise InvalidRecord(name, "is not lower-case hex without spaces")
    return found
