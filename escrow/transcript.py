"""Papers of a trade, checked by someone who was not there: the arbiter.

A message's own signature was checked when it was parsed; here the messages must fit together:
one chain for each sender, the draw recomputed, the contract rebuilt from it, both escrow keys
under the contract's hash. Pure; the one declared error is InvalidRecord, naming the line.
"""

from collections.abc import Callable, Iterable, Mapping

from escrow.arbiters import ArbiterRecord
from escrow.contract import Contract
from escrow.draw import Drawn, conclude
from escrow.keys import verify_schnorr
from escrow.messages import ZERO, Kind, Message
from escrow.payloads import ContractSigned, Dispute, Statement
from escrow.terms import Conditions, build_contract
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.networks import Network

BlockHash = Callable[[int], bytes | None]


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
