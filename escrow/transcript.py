"""Papers of a trade, checked by someone who was not there: the arbiter.

A message's own signature was checked when it was parsed; here the messages must fit together:
one chain for each sender, the draw recomputed, the contract rebuilt from it, both escrow keys
under the contract's hash. Pure; the one declared error is InvalidRecord, naming the line.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import chain
from typing import Any, Final

from escrow.arbiters import ArbiterRecord
from escrow.bond import Eyes
from escrow.contract import MAX_BYTES, Contract
from escrow.draw import Drawn, conclude
from escrow.keys import verify_schnorr
from escrow.messages import FRESH_STEP, ZERO, Kind, Message
from escrow.payloads import ContractSigned, Dispute, Page, Statement, decode
from escrow.terms import Conditions, build_contract
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.networks import Network

SMALL: Final = 8192  # bytes of a paper that is parsed once and remembered
# What one who has lost data still says (docs/trade.md, Toxic).
FRESH_KINDS: Final = frozenset(
    {
        *(Kind.DISPUTE, Kind.STATEMENT, Kind.EVIDENCE, Kind.CHAT, Kind.RECEIVED, Kind.SETTLE),
        *(Kind.NOTICE, Kind.FORWARD, Kind.RECUSE),
    }
)


def check_signed(contract: Contract, message: Message, name: str) -> None:
    """Check one trader's CONTRACT against the contract. Raises InvalidRecord."""
    payload = ContractSigned.from_wire(message.payload)
    if payload.contract != contract.wire():
        theirs = wire.unpack(f"{name}.contract", payload.contract, limit=MAX_BYTES)
        compare(contract, theirs, f"{name}.")
    key = contract.key_b if message.sender == contract.buyer else contract.key_s
    verify_schnorr(key, contract.hash, payload.signature, f"{name}.signature")


def compare(ours: Contract, theirs: tuple[Any, ...], prefix: str) -> None:
    """Raise InvalidRecord naming the first line in which `theirs` differs from our own rebuild."""
    names = ours.line_names()
    other_lines = wire.fields(f"{prefix}contract", theirs, len(names))
    for line, mine, other in zip(names, ours.array(), other_lines, strict=True):
        if mine != other:
            raise InvalidRecord(f"{prefix}{line}", "is not what the messages make")


def check_chain(messages: Iterable[Message], *, gaps: bool = False) -> None:
    """Check that one sender's messages to one recipient form a chain from its beginning.

    `gaps`: who shows them has lost data, and may lack some of them.
    """
    prev, seq = ZERO, 0
    for message in messages:
        if begins_afresh(message) and message.seq > seq:
            seq, prev = message.seq, ZERO
        if gaps and message.seq > seq:
            seq, prev = message.seq, message.prev
        if message.seq != seq:
            raise InvalidRecord("messages", f"lack number {seq} of a sender's chain")
        if message.prev != prev:
            raise InvalidRecord("messages", f"number {seq} does not follow the one before")
        prev, seq = message.id, seq + 1


def begins_afresh(message: Message) -> bool:
    """Tell whether a message may begin a fresh chain: its sender has lost his place for good."""
    return (
        message.seq >= FRESH_STEP
        and message.seq % FRESH_STEP == 0
        and message.prev == ZERO
        and message.kind in FRESH_KINDS
    )


@lru_cache(maxsize=8192)
def _small(raw: bytes, network: Network) -> Message:
    message = Message.from_wire(raw, network)
    decode(message.kind, message.payload)
    return message


def _paper(raw: bytes, network: Network) -> Message:
    """Parse a paper with its payload: small ones once, for a case reads them at each look."""
    return _small(raw, network) if len(raw) <= SMALL else _small.__wrapped__(raw, network)


def parse_papers(
    network: Network,
    raw: Iterable[bytes],
    traders: tuple[bytes, bytes],
    trade_id: bytes,
    *,
    received: bytes = b"",
) -> tuple[Message, ...]:
    """Parse messages between the traders and check both chains. Raises InvalidRecord.

    `received` is a trader whose chain may have gaps: who shows it has lost what he got of it.
    """
    papers = tuple(_paper(r, network) for r in raw)
    for message in papers:
        if {message.sender, message.recipient} != set(traders):
            raise InvalidRecord("messages", "hold one that is not between the two traders")
        if message.trade != trade_id:
            raise InvalidRecord("messages", "hold one of another trade")
    for sender in traders:
        check_chain((m for m in papers if m.sender == sender), gaps=sender == received)
    return papers


def merge(shown: Iterable[tuple[bytes, Message]]) -> tuple[Message, ...]:
    """Unite (who showed it, message) pairs, each message once.

    First what each trader has from the other: nobody can show that who has not been sent it. A
    trader who signed another message of the same number speaks against himself alone; both stay,
    so he can neither make the other's papers refused nor have his own second version believed.
    """
    pairs = list(shown)
    first = [m for shower, m in pairs if m.sender != shower]
    return tuple({m.id: m for m in (*first, *(m for _, m in pairs))}.values())


def signed_twice(papers: Iterable[Message]) -> frozenset[bytes]:
    """Return who signed two messages of one number (equivocation)."""
    places = Counter((m.sender, m.seq) for m in papers)
    return frozenset(sender for (sender, _), times in places.items() if times > 1)


def _received(message: Message, traders: tuple[bytes, bytes]) -> bytes:
    """Return whose chain may have gaps in what a message shows: the other's, of who lost data."""
    lost = message.seq >= FRESH_STEP
    return next(t for t in traders if t != message.sender) if lost else b""


def papers_of(
    message: Message, traders: tuple[bytes, bytes], trade_id: bytes
) -> tuple[Message, ...]:
    """Return the papers that one DISPUTE or STATEMENT carries. Raises InvalidRecord."""
    carrier = Dispute if message.kind is Kind.DISPUTE else Statement
    raw = carrier.from_wire(message.payload).messages
    received = _received(message, traders)
    return parse_papers(message.network, raw, traders, trade_id, received=received)


def case_papers(messages: Iterable[Message]) -> tuple[Contract, tuple[Message, ...]]:
    """Return a case's contract and the traders' papers, united from all that carried some.

    Raises InvalidRecord for papers that do not fit together, or where no DISPUTE is.
    """
    contract: Contract | None = None
    shown: list[tuple[bytes, Message]] = []
    for message in messages:
        if message.kind is Kind.DISPUTE:
            dispute = Dispute.from_wire(message.payload)
            contract = contract or Contract.from_wire(dispute.contract, message.network)
        elif message.kind is not Kind.STATEMENT:
            continue
        if contract is None:
            raise InvalidRecord("messages", "lack the DISPUTE that opens a case")
        traders = (contract.maker, contract.taker)
        new = papers_of(message, traders, contract.trade_id)
        shown += ((message.sender, paper) for paper in new)
    if contract is None:
        raise InvalidRecord("messages", "lack the DISPUTE that opens a case")
    return contract, merge(shown)


def shown_rulings(messages: Iterable[Message], contract: Contract) -> tuple[Message, ...]:
    """Return what an arbiter wrote to a trader, as that trader has shown it; each once.

    Raises InvalidRecord for one that is not an arbiter's of this trade to who shows it.
    """
    arbiters = {contract.arbiter, contract.runner_up}
    found: dict[bytes, Message] = {}
    for message in messages:
        if message.kind is Kind.DISPUTE:
            raw = Dispute.from_wire(message.payload).rulings
        elif message.kind is Kind.STATEMENT:
            raw = Statement.from_wire(message.payload).rulings
        else:
            continue
        for ruling in (_paper(r, message.network) for r in raw):
            told = ruling.sender in arbiters and ruling.recipient == message.sender
            if not told or ruling.trade_id != contract.trade_id:
                raise InvalidRecord("rulings", "hold one that is no arbiter's to this trader")
            found[ruling.id] = ruling
    return tuple(found.values())


def check_dispute(dispute: Message, me: bytes, eyes: Eyes) -> tuple[Contract, tuple[Message, ...]]:
    """Check everything that an arbiter must know before a human looks. Raises InvalidRecord."""
    net = dispute.network
    payload = Dispute.from_wire(dispute.payload)
    contract = Contract.from_wire(payload.contract, net)
    traders = (contract.maker, contract.taker)
    if dispute.sender not in traders:
        raise InvalidRecord("sender", "is no party of this contract")
    if dispute.trade_id != contract.trade_id:
        raise InvalidRecord("trade_id", "is not the contract's")
    if me not in (contract.arbiter, contract.runner_up if contract.n else contract.arbiter):
        raise InvalidRecord("arbiter", "is not this node")
    received = _received(dispute, traders)
    papers = parse_papers(net, payload.messages, traders, contract.trade_id, received=received)
    records = _records(net, payload.records, papers)
    check_contract(contract, papers, records, eyes)
    return contract, papers


def _records(
    network: Network, raw: Iterable[bytes], papers: Iterable[Message]
) -> dict[bytes, ArbiterRecord]:
    """Unite the records beside the papers with those in the PAGEs among them, by id."""
    paged = (Page.from_wire(m.payload).records for m in papers if m.kind is Kind.PAGE)
    once = dict.fromkeys(chain(raw, *paged))
    return {r.id: r for r in (ArbiterRecord.from_wire(found, network) for found in once)}


def check_contract(
    contract: Contract,
    papers: Iterable[Message],
    records: Mapping[bytes, ArbiterRecord],
    eyes: Eyes,
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
    drawn = conclude(*three, records, eyes)
    rebuilt = build_contract(Conditions.of(contract), *three, drawn)
    compare(rebuilt, contract.array(), "contract.")
    for name, sender in (("maker", contract.maker), ("taker", contract.taker)):
        if (Kind.CONTRACT, sender) not in found:
            raise InvalidRecord("messages", f"lack the {name}'s CONTRACT")
        check_signed(contract, found[Kind.CONTRACT, sender], name)
    return drawn
