"""Is what a peer says true here? Every message of a trade, before its machine hears it.

Payloads are bounded already (escrow.payloads); here each is compared with the contract, with
our own list of facts and with our own chain. What needs a key or Bitcoin Core's library goes
through the `Bench` port, which answers with a finished transaction or raises. Nothing here
changes anything: a raise means that trade and funds stay as they were.
"""

from typing import Final

from escrow.arbiters import ArbiterRecord
from escrow.contract import KIND_BACKUP, max_rate
from escrow.draw import commit, root
from escrow.errors import DataLost, NotYet
from escrow.examine_settling import Examined, World, settling
from escrow.facts import Facts, funding_of
from escrow.funding import Owner, check_inputs
from escrow.keys import check_point
from escrow.messages import FRESH_STEP, ZERO, Kind, Message
from escrow.payloads import (
    ContractSigned,
    Draw,
    Get,
    Inputs,
    Page,
    Part,
    Payload,
    Refuse,
    Reveal,
    Witness,
)
from escrow.transcript import check_signed
from escrow.words import MAX_ASKS, MAX_CHATS, runner_up_from
from p2pnode.base.errors import InvalidRecord, PeerFault

RATE_FACTOR: Final = 3  # how far a fee rate may stray from our own estimate

_BOTH: Final = frozenset({"maker", "taker"})
_WHO: Final[dict[Kind, frozenset[str]]] = {
    Kind.TAKE: frozenset({"taker"}),
    Kind.DRAW: frozenset({"maker"}),
    Kind.REVEAL: frozenset({"taker"}),
    **dict.fromkeys((Kind.GET, Kind.PAGE, Kind.ABORT, Kind.CONTRACT, Kind.INPUTS), _BOTH),
    **dict.fromkeys((Kind.WITNESS, Kind.ACCOUNT, Kind.REFUSE, Kind.SETTLE), _BOTH),
    **dict.fromkeys((Kind.ASK, Kind.WITHDRAW, Kind.OK, Kind.COVER), _BOTH),
    **dict.fromkeys((Kind.ACK, Kind.PAID, Kind.NOT_PAID), frozenset({"buyer"})),
    Kind.RECEIVED: frozenset({"seller"}),
    **dict.fromkeys((Kind.NOTICE, Kind.FORWARD, Kind.VERDICT, Kind.RECUSE), frozenset({"arbiter"})),
    Kind.CHAT: _BOTH | {"arbiter"},
}
# How often one sender says a kind in a trade; once where it is not here. GET and PAGE are bounded
# by what they ask for. RECEIVED and SETTLE may come again from one who has lost his data.
_AGAIN: Final = {
    **dict.fromkeys((Kind.GET, Kind.PAGE), 1 << 30),
    **dict.fromkeys((Kind.ASK, Kind.WITHDRAW, Kind.OK, Kind.REFUSE), MAX_ASKS),
    Kind.COVER: 2 * MAX_ASKS,
    Kind.CHAT: MAX_CHATS,
    **dict.fromkeys((Kind.RECEIVED, Kind.SETTLE), 3),
    Kind.FORWARD: 8,
}


def check_sender(message: Message, facts: Facts) -> None:
    """Check that this party may say this. Raises PeerFault."""
    roles = {facts.maker: {"maker"}, facts.taker: {"taker"}}
    roles[facts.buyer].add("buyer")
    roles[facts.seller].add("seller")
    if facts.settled_contract:
        roles |= {arbiter: {"arbiter"} for arbiter in facts.arbiters}
    held = roles.get(message.sender, set())
    if not held & _WHO.get(message.kind, frozenset()):
        raise PeerFault(f"{message.kind.name} is not for {message.sender.hex()[:16]}… to say")


def check_once(message: Message, facts: Facts) -> None:
    """Check that the sender says this for the first time; `facts` hold it as the last."""
    often = _AGAIN.get(message.kind, 1)
    if len(facts.all(message.sender, message.kind)) > often:
        raise PeerFault(f"{message.kind.name} was said before" + (f" {often} times" * (often > 1)))


def check_seen(message: Message, facts_messages: tuple[Message, ...], me: bytes) -> None:
    """Check that `seen` names one of our messages to the sender and never falls."""
    told = (m.id for m in facts_messages if m.sender == me and m.recipient == message.sender)
    ours = [ZERO, *told]
    fresh = message.seq - message.seq % FRESH_STEP
    theirs = (m for m in facts_messages if m.sender == message.sender and m.seq >= fresh)
    before = [m.seen for m in theirs if m.recipient == me]
    if message.seen not in ours:
        raise DataLost("seen: names no message that we sent")
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
    after_notice = {Kind.VERDICT, Kind.FORWARD, Kind.RECUSE, Kind.CHAT}
    noticed = facts.one(message.sender, Kind.NOTICE) or world.lost
    judge = message.sender not in (facts.maker, facts.taker)
    if judge and message.sender == facts.contract.runner_up:
        view = facts.view  # before the timelock's end he could freeze a trade, or take it from A
        if view is None or view.tip < runner_up_from(facts, view):
            raise NotYet(f"{message.kind.name} of the runner-up before the timelock's end")
    if judge and message.kind in after_notice and not noticed:
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
        case Refuse() if facts.settled_contract is None:
            if message.sender != facts.maker or payload.refused_id != facts.take.id:
                raise InvalidRecord("refused_id", "is not our TAKE")
        case _:
            return settling(message, payload, facts, world)
    return Examined()


def check_part(name: str, part: Part, kind: str) -> None:
    """Check a trader's part beyond its bounds: keys on the curve, as many as the kind has.

    Raises InvalidRecord.
    """
    check_point(f"{name}.escrow_key", part.escrow_key)
    if bool(part.backup_key) != (kind == KIND_BACKUP):
        raise InvalidRecord(f"{name}.backup_key", f"does not fit {kind}")
    if part.backup_key:
        check_point(f"{name}.backup_key", part.backup_key)
        if part.backup_key[1:] == part.escrow_key[1:]:
            raise InvalidRecord(f"{name}.backup_key", "is the escrow key again")


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
    check_part("part", payload.part, facts.terms_taken.escrow_kind)
    _distinct(payload.part, facts.own.part)


def _distinct(theirs: Part, ours: Part) -> None:
    own = {key[1:] for key in (ours.escrow_key, ours.backup_key) if key}
    for name in ("escrow_key", "backup_key"):
        if getattr(theirs, name)[1:] in own:
            raise InvalidRecord(f"part.{name}", "is our own key")
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
    check_part("part", payload.part, take.escrow_kind)
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
    if payload.inputs or facts.peer == facts.seller or facts.contract.dep_b:
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
