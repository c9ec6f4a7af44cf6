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
from escrow.messagefile import (
    check_network,
    message_from_json,
    message_to_json,
    read_hex,
    read_network,
    read_object,
    read_parts,
)
from escrow.messages import VERSION, ZERO, Kind, Message
from escrow.payloads import MAX_LISTED, Draw, Reveal
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.networks import Network

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
        "take": message_to_json(take),
        "draw": message_to_json(draw),
        "reveal": message_to_json(reveal),
        "records": [r.wire().hex() for r in records],
        "seed": drawn.seed.hex(),
        "arbiter": drawn.arbiter.node_id.hex(),
        "runner_up": drawn.runner_up.node_id.hex(),
    }


def draw_from_json(value: object) -> DrawFile:
    """Parse a transcript. Raises InvalidRecord naming the line."""
    lines = read_object("", value, _LINES)
    wire.within("version", lines["version"], FILE_VERSION, FILE_VERSION)
    net = read_network(lines["network"])
    check_network(read_parts("take", lines["take"]), net, "the TAKE")
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
            record = ArbiterRecord.from_wire(read_hex(f"records[{n}]", line), net)
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
        arbiter=read_hex("arbiter", lines["arbiter"]),
        runner_up=read_hex("runner_up", lines["runner_up"]),
        seed=read_hex("seed", lines["seed"]),
    )


def _of_record(n: int, error: InvalidRecord) -> InvalidRecord:
    """Return the error of a record under the name of its line in the file."""
    field, why = error.field or "record", str(error).partition(": ")[2]
    line = f"records[{n}]"
    return InvalidRecord(line if field.startswith(line) else f"{line}.{field}", why)


def _message_from_json(name: str, value: object, net: Network, take: Message | None) -> Message:
    """Parse one message; what the TAKE says of the other two is compared line by line first."""
    kind = Kind[name.upper()]
    expected: dict[str, object] = {"version": VERSION, "kind": int(kind)}
    if take is None:
        expected |= {"trade_id": ZERO, "seq": 0, "prev": ZERO}
    else:
        ours = kind is Kind.REVEAL  # the taker's, as the TAKE
        expected["trade_id"] = take.id
        expected["sender"] = take.sender if ours else take.recipient
        expected["recipient"] = take.recipient if ours else take.sender
    return message_from_json(name, value, net, expected)
