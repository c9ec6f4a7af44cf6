"""From TAKE to a signed funding: the first half of a trader's machine.

    taker  Taking ──DRAW──▶ (Drawing ──PAGE──▶) Contracting ──CONTRACT──▶ Funding ──▶ Broadcast
    maker  TAKE ──▶ Drawing ──REVEAL, PAGE──▶ Contracting ──CONTRACT──▶ Funding ──▶ Broadcast
           any ──REFUSE, ABORT, 60 s──▶ Aborted        Funding ──respend 6 deep──▶ Void

Pure. The buyer signs the funding first; ten minutes without a final transaction and he
respends his inputs, so a vanished peer strands no coin. ABORT counts only until our
own funding signature has left. docs/trade.md, sections 2 to 4.
"""

from typing import Final

from escrow.draw import anchor_of
from escrow.errors import NotYet
from escrow.facts import Facts
from escrow.messages import Kind
from escrow.model import (
    Aborted,
    Broadcast,
    Cancel,
    CoinsChosen,
    CoinsMissing,
    Contracting,
    ContractReady,
    Drawing,
    Event,
    Funding,
    FundingSigned,
    Received,
    RespendReady,
    Send,
    State,
    Taking,
    Tick,
)
from escrow.payloads import PAGE_RECORDS, Abort, Get, Page, Refuse, Reveal
from p2pnode.base.errors import LocalFault, PeerFault

OPENING_S: Final = 60  # from one step to the next until the contract is signed
FUNDING_S: Final = 600  # from the contract, or from our signature, to the final funding
SILENCE: Final = f"no answer within {OPENING_S} s"  # such an ABORT enters the draw as broken

_OPENING: Final = frozenset(
    {
        *(Kind.PROPOSE, Kind.COUNTER, Kind.TAKE, Kind.DRAW, Kind.REVEAL, Kind.GET, Kind.PAGE),
        *(Kind.REFUSE, Kind.ABORT, Kind.CONTRACT, Kind.INPUTS, Kind.WITNESS),
    }
)

EARLY_STATES: Final = (Taking, Drawing, Contracting, Funding)

Step = tuple[State, tuple[Send, ...]]


def step(state: State, event: Event, facts: Facts, now: int) -> Step:
    """Return the state after `event` and what to send; a raise leaves the state as it is.

    Raises:
        NotYet: right, but our chain has not caught up.
        PeerFault: the message has no place here.
        LocalFault: our user asked for what this state refuses.

    """
    match state, event:
        case ((Taking() | Drawing() | Contracting() | Funding()), Received(message)):
            return _received(state, event, message.kind, facts, now)
        case ((Taking() | Drawing() | Contracting()), Tick()) if now >= state.since + OPENING_S:
            return _abort(facts, SILENCE)
        case Funding(since, 0), Tick() if now >= since + FUNDING_S:
            return _abort(facts, f"not funded within {FUNDING_S} s")
        case ((Taking() | Drawing() | Contracting()), Cancel(reason)):
            return _abort(facts, reason)
        case Funding(_, 0), Cancel(reason):
            return _abort(facts, reason)
        case Contracting(), ContractReady(payload) if not facts.one(facts.me, Kind.CONTRACT):
            both = facts.one(facts.peer, Kind.CONTRACT)
            return (Funding if both else Contracting)(now), (Send(facts.peer, payload),)
        case Funding(_, 0), CoinsChosen(payload) if not facts.one(facts.me, Kind.INPUTS):
            return state, (Send(facts.peer, payload),)
        case Funding(_, 0), CoinsMissing(reason):  # what we have is not the peer's to know
            return Aborted(reason), (Send(facts.peer, Abort(reason="cannot fund it now")),)
        case Funding(since, 0), FundingSigned(payload, final):
            after = Broadcast(final) if final else Funding(since, now)
            return after, (Send(facts.peer, payload),)
        case Funding(since, signed_at), RespendReady(raw) if signed_at:
            return Funding(since, signed_at, raw), ()
        case _, Cancel():
            raise LocalFault("this trade's funding is signed: it can no longer be cancelled")
        case _:
            return state, ()


def _received(
    state: Taking | Drawing | Contracting | Funding,
    event: Received,
    kind: Kind,
    facts: Facts,
    now: int,
) -> Step:
    match state, kind:
        case Taking(), Kind.REFUSE:
            refusal = Refuse.from_wire(event.message.payload)
            return Aborted(f"refused: {refusal.field}: {refusal.value}"), ()
        case Funding(signed_at=signed), Kind.ABORT if signed:
            return state, ()  # our signature has left: only the chain ends this now
        case _, Kind.ABORT:
            return Aborted(f"the peer aborted: {Abort.from_wire(event.message.payload).reason}"), ()
        case ((Drawing() | Contracting()), Kind.GET):
            return _serve(state, event, facts)
        case Taking(), Kind.DRAW:
            return _judge_and_reveal(facts, now)
        case Drawing(), Kind.PAGE if facts.me == facts.taker:
            return _judge_and_reveal(facts, now)
        case Drawing(), Kind.PAGE | Kind.REVEAL if _revealed(facts):
            return _gather(facts, Contracting(now), now)
        case Contracting(), Kind.CONTRACT if facts.one(facts.me, Kind.CONTRACT):
            return Funding(now), ()
        case Contracting(), Kind.CONTRACT if facts.me == facts.maker:
            return Contracting(now), ()  # signing ours is now a duty
        case Funding(), Kind.INPUTS:
            return state, ()
        case Funding(respend=b""), Kind.WITNESS:
            return (Broadcast(event.final) if event.final else state), ()
        case Funding(), Kind.WITNESS:
            return state, ()  # we are respending: whichever confirms decides
        case Funding(), Kind.CHAT:
            return state, ()
        case Funding(), _ if kind not in _OPENING:
            raise NotYet(f"{kind.name} before our chain shows the funding")
        case _:
            raise PeerFault(f"{kind.name} has no place in {type(state).__name__}")


def _serve(state: State, event: Received, facts: Facts) -> Step:
    ids = Get.from_wire(event.message.payload).ids
    listed = {i for _, i in facts.own.listed}  # so each listed record travels once
    before = facts.all(facts.peer, Kind.GET)[:-1]
    asked = [Get.from_wire(m.payload).ids for m in before]
    if any(len(page) < PAGE_RECORDS for page in asked):
        raise PeerFault("GET after one that asked for less than a page")  # bounds the transcript
    served = {i for page in asked for i in page}
    for i in ids:
        if i not in listed:
            raise PeerFault(f"GET asks for record {i.hex()[:16]}…, which we never listed")
        if i in served:
            raise PeerFault(f"GET asks for record {i.hex()[:16]}… again")
    page = Page(get_id=event.message.id, records=tuple(facts.record(i).wire() for i in ids))
    return state, (Send(facts.peer, page),)


def _gather(facts: Facts, done: State, now: int) -> Step:
    if wanted := facts.to_ask():
        return Drawing(now), (Send(facts.peer, Get(ids=wanted[:PAGE_RECORDS])),)
    return done, ()


def _revealed(facts: Facts) -> bool:
    """Tell whether we are the maker and hold the REVEAL; a PAGE before it answers nothing."""
    return facts.me == facts.maker and facts.one(facts.taker, Kind.REVEAL) is not None


def _judge_and_reveal(facts: Facts, now: int) -> Step:
    """Taker: judge the set's size before the seed exists, then open the commitment."""
    state, sends = _gather(facts, Contracting(now), now)
    if sends:
        return state, sends
    own, listed = facts.own, [facts.record(i) for i in facts.listed_ids()]
    if why := anchor_of(facts.take, facts.eyes).size_fault(listed, facts.seen_weight):
        return _abort(facts, why)
    draw = facts.one(facts.maker, Kind.DRAW)
    if draw is None:
        raise PeerFault("PAGE came before any DRAW")
    reveal = Reveal(draw_id=draw.id, nonce=own.nonce, arbiters=own.listed, part=own.part)
    return state, (Send(facts.peer, reveal),)


def _abort(facts: Facts, reason: str) -> Step:
    return Aborted(reason), (Send(facts.peer, Abort(reason=reason)),)
