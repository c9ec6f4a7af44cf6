"""Is what a peer says true here? Every message of a trade, before its machine hears it.

Payloads are bounded already (escrow.payloads); here each is compared with the contract, with
our own list of facts and with our own chain. What needs a key or Bitcoin Core's library goes
through the `Bench` port, which answers with a finished transaction or raises. Nothing here
changes anything: a raise means that trade and funds stay as they were.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from escrow.arbiters import ArbiterRecord
from escrow.contract import Contract, max_rate
from escrow.draw import commit, root
from escrow.facts import Facts, funding_of
from escrow.funding import Funding, Owner, check_inputs
from escrow.keys import check_point
from escrow.messages import ZERO, Kind, Message
from escrow.payloads import (
    Account,
    Ack,
    ContractSigned,
    Draw,
    Forward,
    Get,
    Inputs,
    Notice,
    Page,
    Part,
    Payload,
    Received,
    Refuse,
    Reveal,
    Verdict,
    Witness,
)
from escrow.payout import Split, check_split, release
from escrow.settlement import NotYet
from escrow.transcript import check_signed
from p2pnode.base.errors import InvalidRecord, PeerFault
from p2pnode.base.transaction import Outpoint

RATE_FACTOR: Final = 3  # how far a fee rate may stray from our own estimate

_BOTH: Final = frozenset({"maker", "taker"})
_WHO: Final[dict[Kind, frozenset[str]]] = {
    Kind.TAKE: frozenset({"taker"}),
    Kind.DRAW: frozenset({"maker"}),
    Kind.REVEAL: frozenset({"taker"}),
    Kind.REFUSE: frozenset({"maker"}),
    **dict.fromkeys((Kind.GET, Kind.PAGE, Kind.ABORT, Kind.CONTRACT, Kind.INPUTS), _BOTH),
    **dict.fromkeys((Kind.WITNESS, Kind.ACCOUNT), _BOTH),
    **dict.fromkeys((Kind.ACK, Kind.PAID, Kind.NOT_PAID), frozenset({"buyer"})),
    Kind.RECEIVED: frozenset({"seller"}),
    **dict.fromkeys((Kind.NOTICE, Kind.FORWARD, Kind.VERDICT), frozenset({"arbiter"})),
}


_AGAIN: Final = frozenset({Kind.GET, Kind.PAGE})  # every other kind is said once in a trade


class Bench(Protocol):
    """Keys and second opinions of one trade. Raises PeerFault for a peer's bad signature."""

    def check_witnesses(
        self, funding: Funding, side: Owner, stacks: tuple[tuple[bytes, ...], ...]
    ) -> None:
        """Check the peer's witness stacks by Bitcoin Core's rules, sighash ALL or DEFAULT."""
        ...

    def assemble(
        self,
        funding: Funding,
        stacks_b: tuple[tuple[bytes, ...], ...],
        stacks_s: tuple[tuple[bytes, ...], ...],
    ) -> bytes:
        """Return the final funding, every input checked by Bitcoin Core's rules."""
        ...

    def check_first(
        self, contract: Contract, outpoint: Outpoint, split: Split, signer: bytes, signature: bytes
    ) -> None:
        """Check a first signature on the payout that we rebuild ourselves."""
        ...

    def complete(
        self, contract: Contract, outpoint: Outpoint, split: Split, signer: bytes, signature: bytes
    ) -> bytes:
        """Add our signature and return the final payout, checked by Bitcoin Core's rules."""
        ...


@dataclass(frozen=True, kw_only=True)
class World:
    """Our side of the comparison besides the facts."""

    bench: Bench
    tip_height: int
    merkle_root: Callable[[int], bytes | None]
    own_rate: int | None  # our fee estimate, sat/vB
    is_ours: Callable[[bytes], bool]  # a script of our wallet
    is_busy: Callable[[Outpoint], bool]  # declared in another trade that lives
    check_account: Callable[[bytes, bytes, str], None]  # disclosure, account hash, method


@dataclass(frozen=True, slots=True)
class Examined:
    """What the examination made: a transaction that we completed, records that we learned."""

    final: bytes = b""
    records: tuple[ArbiterRecord, ...] = ()


def check_sender(message: Message, facts: Facts) -> None:
    """Check that this party may say this. Raises PeerFault."""
    roles = {facts.maker: {"maker"}, facts.taker: {"taker"}}
    roles[facts.buyer].add("buyer")
    roles[facts.seller].add("seller")
    if contract := facts.settled_contract:
        roles[contract.arbiter] = {"arbiter"}
    held = roles.get(message.sender, set())
    if not held & _WHO.get(message.kind, frozenset()):
        raise PeerFault(f"{message.kind.name} is not for {message.sender.hex()[:16]}… to say")


def check_once(message: Message, facts: Facts) -> None:
    """Check that the sender says this for the first time; `facts` hold it as the last."""
    if message.kind not in _AGAIN and len(facts.all(message.sender, message.kind)) > 1:
        raise PeerFault(f"{message.kind.name} was said before")


def check_seen(message: Message, facts_messages: tuple[Message, ...], me: bytes) -> None:
    """Check that `seen` names one of our messages to the sender and never falls."""
    told = (m.id for m in facts_messages if m.sender == me and m.recipient == message.sender)
    ours = [ZERO, *told]
    before = [m.seen for m in facts_messages if m.sender == message.sender]
    if message.seen not in ours:
        raise PeerFault("seen: names no message that we sent")
    if before and before[-1] in ours and ours.index(message.seen) < ours.index(before[-1]):
        raise PeerFault("seen: falls behind an earlier message")


def examine(message: Message, payload: Payload, facts: Facts, world: World) -> Examined:
    """Compare one message with everything we know; `facts` hold it already, as the last.

    Raises:
        InvalidRecord: a field is not what it must be; the text names it.
        PeerFault: a signature is wrong, or this party may not say this.

    """
    check_sender(message, facts)
    check_once(message, facts)
    if message.kind in {Kind.VERDICT, Kind.FORWARD} and not facts.one(message.sender, Kind.NOTICE):
        raise PeerFault(f"{message.kind.name} before any NOTICE")
    match payload:
        case Draw():
            _draw(payload, facts, world)
        case Reveal():
            _reveal(payload, message, facts)
        case Page():
            return Examined(records=_page(payload, message, facts))
        case ContractSigned():
            if facts.lacking():
                raise PeerFault("CONTRACT came before the records that we asked for")
            check_signed(facts.contract, message, "CONTRACT")
        case Inputs():
            _inputs(payload, facts, world)
        case Witness():
            return Examined(final=_witness(payload, message, facts, world))
        case Account():
            buyer = message.sender == facts.buyer
            contract = facts.contract
            account_hash = contract.account_hash_b if buyer else contract.account_hash_s
            world.check_account(payload.disclosure, account_hash, contract.method)
        case Ack():
            mine = facts.one(facts.me, Kind.ACCOUNT)
            if mine is None or payload.account_id != mine.id:
                raise InvalidRecord("account_id", "is not our ACCOUNT")
        case Notice():
            _notice(payload, facts)
        case Refuse():
            if payload.refused_id != facts.take.id:
                raise InvalidRecord("refused_id", "is not our TAKE")
        case Verdict():
            _verdict(payload, facts, world)
        case Received() | Forward():
            return Examined(final=_released(message, payload, facts, world))
        case _:
            _words(message, facts)
    return Examined()


def check_part(name: str, part: Part) -> None:
    """Check a trader's part beyond its bounds: the key is on the curve. Raises InvalidRecord."""
    check_point(f"{name}.escrow_key", part.escrow_key)


def check_rate(rate: int, own: int | None, escrow_sat: int) -> None:
    """Check a fee rate against bounds and our own estimate (2 where there is none)."""
    own = own or 2
    low, high = -(-own // RATE_FACTOR), min(own * RATE_FACTOR, max_rate(escrow_sat))
    if not low <= rate <= high:
        raise InvalidRecord("rate", f"is {rate} sat/vB; we accept {low} to {high}")


def _draw(payload: Draw, facts: Facts, world: World) -> None:
    if payload.take_id != facts.take.id:
        raise InvalidRecord("take_id", "is not our TAKE")
    conditions = facts.terms.conditions(facts.terms_taken.amount_sat)
    escrow = facts.terms_taken.amount_sat + conditions.dep_b + conditions.dep_s
    check_rate(payload.rate, world.own_rate, escrow)
    check_part("part", payload.part)
    _distinct(payload.part, facts.own.part)


def _distinct(theirs: Part, ours: Part) -> None:
    if theirs.escrow_key[1:] == ours.escrow_key[1:]:
        raise InvalidRecord("part.escrow_key", "is our own key")
    if theirs.script == ours.script:
        raise InvalidRecord("part.script", "is our own script")


def _reveal(payload: Reveal, message: Message, facts: Facts) -> None:
    draw, take = facts.one(facts.me, Kind.DRAW), facts.terms_taken
    if draw is None or payload.draw_id != draw.id:
        raise InvalidRecord("draw_id", "is not our DRAW")
    if commit(message.network, payload.nonce) != take.commitment:
        raise InvalidRecord("nonce", "is not what the TAKE committed to")
    if root(message.network, payload.arbiters) != take.root:
        raise InvalidRecord("arbiters", "are not what the TAKE committed to")
    check_part("part", payload.part)
    _distinct(payload.part, facts.own.part)


def _page(payload: Page, message: Message, facts: Facts) -> tuple[ArbiterRecord, ...]:
    asked = {m.id: Get.from_wire(m.payload).ids for m in facts.all(facts.me, Kind.GET)}
    if payload.get_id not in asked:
        raise InvalidRecord("get_id", "is not our GET")
    before = facts.all(message.sender, Kind.PAGE)[:-1]
    if payload.get_id in {Page.from_wire(m.payload).get_id for m in before}:
        raise InvalidRecord("get_id", "was answered before")
    records = tuple(ArbiterRecord.from_wire(raw, message.network) for raw in payload.records)
    if tuple(r.id for r in records) != asked[payload.get_id]:
        raise InvalidRecord("records", "are not those that we asked for")
    return records


def _inputs(payload: Inputs, facts: Facts, world: World) -> None:
    if above := [i.height for i in payload.inputs if i.height > world.tip_height]:
        raise NotYet(f"inputs: lie in block {max(above)}, which our chain has not reached")
    check_inputs(
        payload.inputs,
        merkle_root=world.merkle_root,
        tip_height=world.tip_height,
        refused=lambda coin: world.is_ours(coin.script) or world.is_busy(coin.outpoint),
    )
    if world.is_ours(payload.change_script):
        raise InvalidRecord("change_script", "is of our own wallet")
    funding_of(facts.contract, facts.messages)  # bounds of the whole, once both are in


def _witness(payload: Witness, message: Message, facts: Facts, world: World) -> bytes:
    funding = facts.funding
    if funding is None:
        raise PeerFault("WITNESS came before both INPUTS")
    side: Owner = "B" if message.sender == facts.buyer else "S"
    world.bench.check_witnesses(funding, side, payload.stacks)
    if side == "B":
        return b""
    ours = facts.one(facts.me, Kind.WITNESS)
    if ours is None:
        raise PeerFault("the seller's WITNESS came before the buyer's")
    return world.bench.assemble(funding, Witness.from_wire(ours.payload).stacks, payload.stacks)


def _verdict(payload: Verdict, facts: Facts, world: World) -> None:
    contract = facts.contract
    split = Split(payload.buyer_sat, payload.seller_sat, payload.arbiter_sat)
    check_split(contract, split)
    if split.arbiter_sat != contract.fee_a:
        raise InvalidRecord("arbiter_sat", f"is not the contract's fee of {contract.fee_a} sat")
    world.bench.check_first(contract, facts.outpoint, split, contract.key_a, payload.signature)


def _released(message: Message, payload: Received | Forward, facts: Facts, world: World) -> bytes:
    if isinstance(payload, Forward):
        message = Message.from_wire(payload.message, facts.network)
        told = (message.kind, message.sender, message.recipient, message.trade_id)
        if told != (Kind.RECEIVED, facts.seller, facts.buyer, facts.take.id):
            raise InvalidRecord("message", "is not the seller's RECEIVED of this trade")
        if facts.me != facts.buyer:
            raise InvalidRecord("message", "is for the buyer to complete")
        payload = Received.from_wire(message.payload)
    contract = facts.contract
    return world.bench.complete(
        contract, facts.outpoint, release(contract), contract.key_s, payload.signature
    )


def _notice(payload: Notice, facts: Facts) -> None:
    if payload.opener not in (facts.maker, facts.taker):
        raise InvalidRecord("opener", "is no party of this trade")
    if payload.opener == facts.me:
        ours = facts.one(facts.me, Kind.DISPUTE)
        if ours is None or payload.dispute_id != ours.id:
            raise InvalidRecord("dispute_id", "is not our DISPUTE")


def _words(message: Message, facts: Facts) -> None:
    if message.kind is Kind.ABORT and facts.one(message.sender, Kind.WITNESS):
        raise PeerFault("ABORT after the sender's own funding signature")
    if message.kind is Kind.PAID:
        if facts.one(message.sender, Kind.NOT_PAID):
            raise PeerFault("PAID after NOT_PAID")
        if not facts.one(message.sender, Kind.ACK):
            raise PeerFault("PAID before any ACK of our payment details")
    if message.kind is Kind.NOT_PAID and facts.one(message.sender, Kind.PAID):
        raise PeerFault("NOT_PAID after PAID")
