"""Papers of a trade, checked by someone who was not there: the arbiter, or `draw verify`.

A message's own signature was checked when it was parsed; here the messages must fit together:
one chain for each sender, the draw recomputed, the contract rebuilt from it, both escrow keys
under the contract's hash. Pure; the one declared error is InvalidRecord, naming the line.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from escrow.arbiters import ArbiterRecord
from escrow.contract import Contract
from escrow.draw import Drawn, conclude
from escrow.keys import verify_schnorr
from escrow.messages import ZERO, Kind, Message
from escrow.payloads import ContractSigned, Dispute, Statement
from escrow.terms import Conditions, build_contract
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.networks import Network, network

BlockHash = Callable[[int], bytes | None]
FILE_VERSION: Final = 1
MAX_FILE: Final = 8 * 1024 * 1024


def check_signed(contract: Contract, message: Message, name: str) -> None:
    """Check one trader's CONTRACT against the contract. Raises InvalidRecord."""
    payload = ContractSigned.from_wire(message.payload)
    if payload.contract != contract.wire():
        raise InvalidRecord(f"{name}.contract", "is another contract")
    key = contract.key_b if message.sender == contract.buyer else contract.key_s
    verify_schnorr(key, contract.hash, payload.signature, f"{name}.signature")


def check_chain(messages: Iterable[Message]) -> None:
    """Check that one sender's messages to one recipient form a chain from its beginning."""
    prev = ZERO
    for seq, message in enumerate(messages):
        if message.seq != seq:
            raise InvalidRecord("messages", f"lack number {seq} of a sender's chain")
        if message.prev != prev:
            raise InvalidRecord("messages", f"number {seq} does not follow the one before")
        prev = message.id


def parse_papers(
    network: Network, raw: Iterable[bytes], traders: tuple[bytes, bytes], trade_id: bytes
) -> tuple[Message, ...]:
    """Parse messages between the traders and check both chains. Raises InvalidRecord."""
    papers = tuple(Message.from_wire(r, network) for r in raw)
    for message in papers:
        if {message.sender, message.recipient} != set(traders):
            raise InvalidRecord("messages", "hold one that is not between the two traders")
        if message.trade != trade_id:
            raise InvalidRecord("messages", "hold one of another trade")
    for sender in traders:
        check_chain(m for m in papers if m.sender == sender)
    return papers


def merge(known: Iterable[Message], new: Iterable[Message]) -> tuple[Message, ...]:
    """Unite two traders' papers. Two bodies of one number are equivocation: InvalidRecord."""
    found: dict[tuple[bytes, int], Message] = {}
    for message in (*known, *new):
        other = found.setdefault((message.sender, message.seq), message)
        if other.id != message.id:
            raise InvalidRecord(
                "messages", f"{message.sender.hex()[:16]}… signed two of number {message.seq}"
            )
    return tuple(found.values())


def case_papers(messages: Iterable[Message]) -> tuple[Contract, tuple[Message, ...]]:
    """Return a case's contract and the traders' papers, united from all that carried some.

    Raises InvalidRecord for papers that do not fit together, or where no DISPUTE is.
    """
    contract: Contract | None = None
    papers: tuple[Message, ...] = ()
    for message in messages:
        if message.kind is Kind.DISPUTE:
            dispute = Dispute.from_wire(message.payload)
            contract = contract or Contract.from_wire(dispute.contract, message.network)
            raw = dispute.messages
        elif message.kind is Kind.STATEMENT:
            raw = Statement.from_wire(message.payload).messages
        else:
            continue
        if contract is None:
            raise InvalidRecord("messages", "lack the DISPUTE that opens a case")
        traders = (contract.maker, contract.taker)
        new = parse_papers(message.network, raw, traders, contract.trade_id)
        papers = merge(papers, new)
    if contract is None:
        raise InvalidRecord("messages", "lack the DISPUTE that opens a case")
    return contract, papers


def check_dispute(
    dispute: Message, me: bytes, block_hash: BlockHash
) -> tuple[Contract, tuple[Message, ...]]:
    """Check everything that an arbiter must know before a human looks. Raises InvalidRecord."""
    net = dispute.network
    payload = Dispute.from_wire(dispute.payload)
    contract = Contract.from_wire(payload.contract, net)
    traders = (contract.maker, contract.taker)
    if dispute.sender not in traders:
        raise InvalidRecord("sender", "is no party of this contract")
    if dispute.trade_id != contract.trade_id:
        raise InvalidRecord("trade_id", "is not the contract's")
    if contract.arbiter != me:
        raise InvalidRecord("bond_a", "is not this arbiter's")
    papers = parse_papers(net, payload.messages, traders, contract.trade_id)
    records = {r.id: r for r in (ArbiterRecord.from_wire(raw, net) for raw in payload.records)}
    check_contract(contract, papers, records, block_hash)
    return contract, papers


def check_contract(
    contract: Contract,
    papers: Iterable[Message],
    records: Mapping[bytes, ArbiterRecord],
    block_hash: BlockHash,
) -> Drawn:
    """Rebuild the contract from the papers and check both signatures. Raises InvalidRecord."""
    found = {(m.kind, m.sender): m for m in reversed(tuple(papers))}
    opening = {}
    for kind, sender in (
        (Kind.TAKE, contract.taker),
        (Kind.DRAW, contract.maker),
        (Kind.REVEAL, contract.taker),
    ):
        if (kind, sender) not in found:
            raise InvalidRecord("messages", f"lack {kind.name}")
        opening[kind] = found[kind, sender]
    three = (opening[Kind.TAKE], opening[Kind.DRAW], opening[Kind.REVEAL])
    drawn = conclude(*three, records, block_hash)
    rebuilt = build_contract(Conditions.of(contract), *three, drawn)
    for ours, theirs, line in zip(
        rebuilt.array(), contract.array(), contract.line_names(), strict=True
    ):
        if ours != theirs:
            raise InvalidRecord(f"contract.{line}", "is not what the messages make")
    for name, sender in (("maker", contract.maker), ("taker", contract.taker)):
        if (Kind.CONTRACT, sender) not in found:
            raise InvalidRecord("messages", f"lack the {name}'s CONTRACT")
        check_signed(contract, found[Kind.CONTRACT, sender], name)
    return drawn


# ------------------------------------------------------------------ the file of `draw verify`


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

    def verify(self, block_hash: BlockHash) -> Drawn:
        """Recompute the draw with a chain alone. Raises InvalidRecord naming the failing line."""
        drawn = conclude(self.take, self.draw, self.reveal, self.records, block_hash)
        for name, claimed, found in (
            ("seed", self.seed, drawn.seed),
            ("arbiter", self.arbiter, drawn.arbiter.node_id),
            ("runner_up", self.runner_up, drawn.runner_up.node_id),
        ):
            if claimed != found:
                raise InvalidRecord(name, f"is not what the draw gives, {found.hex()}")
        return drawn


_HEADER: Final = (
    *("version", "kind", "trade_id", "sender", "recipient", "seq", "prev", "seen"),
    *("tip_height", "tip_hash", "draw_no", "payload_hash"),
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
    lines = _object("transcript", value, 9)
    if lines.get("version") != FILE_VERSION:
        raise InvalidRecord("version", f"is not {FILE_VERSION}")
    name = lines.get("network")
    if not isinstance(name, str):
        raise InvalidRecord("network", "is missing")
    net = network(name)
    messages = {n: _message_from_json(n, lines.get(n), net) for n in ("take", "draw", "reveal")}
    raw = lines.get("records")
    if not isinstance(raw, list) or len(raw) > 2000:
        raise InvalidRecord("records", "are not a list of at most 2000")
    found = {}
    for n, line in enumerate(raw):
        try:
            record = ArbiterRecord.from_wire(_hex(f"records[{n}]", line), net)
        except InvalidRecord as error:
            raise InvalidRecord(f"records[{n}]", str(error)) from None
        found[record.id] = record
    return DrawFile(
        network=net,
        records=found,
        arbiter=_hex("arbiter", lines.get("arbiter")),
        runner_up=_hex("runner_up", lines.get("runner_up")),
        seed=_hex("seed", lines.get("seed")),
        **messages,
    )


def _message_to_json(message: Message) -> dict[str, Any]:
    plain = {
        k: v.hex() if isinstance(v, bytes) else v
        for k, v in zip(_HEADER, message.body(), strict=True)
    }
    return {**plain, "signature": message.signature.hex(), "payload": message.payload.hex()}


def _message_from_json(name: str, value: object, net: Network) -> Message:
    lines = _object(name, value, len(_HEADER) + 2)
    body = []
    for key in _HEADER:
        line = lines.get(key)
        body.append(line if type(line) is int else _hex(f"{name}.{key}", line))
    signature = _hex(f"{name}.signature", lines.get("signature"))
    payload = _hex(f"{name}.payload", lines.get("payload"))
    try:
        message = Message.from_wire(wire.pack((tuple(body), signature, payload)), net)
    except InvalidRecord as error:
        raise InvalidRecord(f"{name}.{error.field}", str(error).partition(": ")[2]) from None
    if message.kind.name.lower() != name:
        raise InvalidRecord(f"{name}.kind", f"is not {name.upper()}")
    return message


def _object(name: str, value: object, high: int) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > high:
        raise InvalidRecord(name, f"is not an object of at most {high} lines")
    return value


def _hex(name: str, value: object) -> bytes:
    if not isinstance(value, str):
        raise InvalidRecord(name, "is missing or not hex")
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise InvalidRecord(name, "is not hex") from None
