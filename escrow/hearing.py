"""The arbiter's machine: one case from a dispute to a spent escrow.

    DISPUTE ─▶ Noticed ─both statements, reply_s─▶ Hearing ─Decide─▶ RuledCase ─▶ ClosedCase
                  └──────────────Recuse──────────────┴──▶ RecusedCase ─▶ ClosedCase

Pure. The contract, the draw and the message chains were checked before the case exists
(escrow.transcript), so a human sees only true papers. What binds an arbiter stands in
`rulings`: R4, R5, R6. R1: one split, committed before its signature. The runner-up runs the
same machine on the backup branch. docs/trade.md, section 5.
"""

from typing import Final

from escrow.case import Case
from escrow.confirm import FINAL_DEPTH
from escrow.evidence import MAX_SHOWN
from escrow.messages import Kind, Message
from escrow.model import (
    ChainView,
    ClosedCase,
    Decide,
    Duty,
    Event,
    Hearing,
    LoseTrust,
    Noticed,
    Recuse,
    RecusedCase,
    RuledCase,
    SayChat,
    Send,
    SignVerdict,
    State,
    ToxicCase,
    VerdictSigned,
)
from escrow.model import Received as ReceivedEvent
from escrow.payloads import MAX_WORDS, Chat, Dispute, Enquiry, Forward, Notice
from escrow.payloads import Recuse as RecuseWords
from escrow.rulings import allowed, forward
from escrow.words import MAX_CHATS, MAX_TOLD
from p2pnode.base import wire
from p2pnode.base.errors import LocalFault, PeerFault
from p2pnode.base.units import moment

MAX_HEARD: Final = MAX_TOLD  # disputes and statements of one trader that a case keeps

Step = tuple[State, tuple[Send, ...]]


def open_case(case: Case, dispute: Message, mtp: int, *, lost: bool = False) -> Step:
    """Return the first state of a case, the NOTICE to both traders, and what R4 forwards.

    `lost` tells that this node has lost data from after the funding: it signs nothing here.
    """
    words = Dispute.from_wire(dispute.payload).statement
    notice = Notice(dispute_id=dispute.id, opener=dispute.sender, statement=words)
    sends = tuple(Send(t, notice) for t in case.traders)
    if case.branch:
        sends += (Send(case.contract.arbiter, Enquiry(dispute_id=dispute.id)),)
    if lost:
        return ToxicCase(mtp), (*sends, *_repeat(case))
    return Noticed(mtp), (*sends, *forward(case))


def step(state: State, event: Event, case: Case) -> Step:
    """Return the state after `event` and what to send; a raise leaves the state as it is.

    Raises:
        PeerFault: the message has no place here.
        LocalFault: the arbiter's user asked for what this state or a rule refuses.

    """
    match state, event:
        case ClosedCase(), ChainView():
            return state, ()
        case _, ChainView():
            return _on_chain(state, event, case)
        case ((Noticed(mtp) | Hearing(mtp)), LoseTrust()):
            return ToxicCase(mtp), ()
        case _, ReceivedEvent(message):
            return _received(state, message, case)
        case ClosedCase(), SayChat():
            raise LocalFault("this case is closed")
        case _, SayChat(to, text):
            return state, (_chat(case, to, text),)
        case Hearing(), Decide(buyer_sat, reason):
            check_reason(reason)
            split = allowed(case, buyer_sat)
            return RuledCase(split.buyer_sat, split.seller_sat, split.arbiter_sat, reason), ()
        case Noticed(mtp), Decide() if case.branch:
            until = moment(mtp + case.contract.reply_s)
            raise LocalFault(f"the runner-up waits for all replies, until {until} (R6)")
        case Noticed(mtp), Decide():
            until = moment(mtp + case.contract.reply_s)
            raise LocalFault(
                f"the other trader may still reply, until {until}: his statement is not in"
            )
        case ToxicCase(), Decide():
            raise LocalFault("this node has lost data of this case: it may not rule")
        case RecusedCase(), Decide():
            raise LocalFault("you have recused yourself from this case")
        case _, Decide():
            raise LocalFault("this case is ruled already")
        case ((Noticed() | Hearing()), Recuse(reason)):
            words = RecuseWords(reason=check_reason(reason))
            return RecusedCase(reason), tuple(Send(t, words) for t in case.traders)
        case _, Recuse():
            raise LocalFault("a case that is ruled or closed needs no recusal")
        case RuledCase(), VerdictSigned(payload) if not case.one(case.me, Kind.VERDICT):
            return state, tuple(Send(t, payload) for t in case.traders)
        case _:
            return state, ()


def _received(state: State, message: Message, case: Case) -> Step:
    kind, sender = message.kind, message.sender
    bounds = {Kind.CHAT: MAX_CHATS, Kind.EVIDENCE: MAX_SHOWN}
    said = len(case.all(sender, kind))
    if kind in {Kind.STATEMENT, Kind.DISPUTE}:
        said = len(case.all(sender, Kind.STATEMENT)) + len(case.all(sender, Kind.DISPUTE))
    if said > bounds.get(kind, MAX_HEARD):
        raise PeerFault(f"a case hears {bounds.get(kind, MAX_HEARD)} {kind.name} of one side")
    if kind is Kind.ENQUIRY:
        return state, _answer_enquiry(case)
    if kind in {Kind.CHAT, Kind.EVIDENCE, Kind.FORWARD}:
        return state, ()  # for people to read; a FORWARD is the other arbiter's verdict
    match state:
        case ToxicCase():
            return state, _repeat(case)
        case Noticed(mtp) | Hearing(mtp):
            heard = case.both_heard and not case.branch  # R6: the runner-up waits for all replies
            return (Hearing(mtp) if heard else state), forward(case)
        case _:
            return state, ()  # kept, and too late to matter


def duties(state: State, case: Case) -> tuple[Duty, ...]:
    """Return what the state asks for."""
    if isinstance(state, RuledCase) and not case.one(case.me, Kind.VERDICT):
        return (SignVerdict(),)
    return ()


def check_reason(reason: str) -> str:
    """Return a reason that a VERDICT can carry. Raises InvalidRecord: before anything is bound."""
    return wire.text("reason", reason, MAX_WORDS, low=1)


def _chat(case: Case, to: bytes, text: str) -> Send:
    if to not in case.traders:
        raise LocalFault("to: is no trader of this case", field="to")
    if sum(m.recipient == to for m in case.all(case.me, Kind.CHAT)) >= MAX_CHATS:
        raise LocalFault(f"a case carries {MAX_CHATS} chat messages to one side and no more")
    return Send(to, Chat(text=text))


def _on_chain(state: State, view: ChainView, case: Case) -> Step:
    if view.spend and view.depth_of(view.spend) >= FINAL_DEPTH:
        return ClosedCase(view.spend.txid), ()
    conflict = None if view.funding_height else view.conflict
    if conflict and view.depth_of(conflict) >= FINAL_DEPTH:
        return ClosedCase(conflict.txid), ()  # void: there is nothing to rule on
    if isinstance(state, Noticed) and view.mtp >= state.mtp + case.contract.reply_s:
        return Hearing(state.mtp), ()
    return state, ()


def _answer_enquiry(case: Case) -> tuple[Send, ...]:
    """Show the runner-up our verdict, once: he repeats it."""
    ruled, to = case.one(case.me, Kind.VERDICT), case.contract.runner_up
    if ruled is None or any(m.recipient == to for m in case.all(case.me, Kind.FORWARD)):
        return ()
    return (Send(to, Forward(messages=(ruled.wire(),))),)


def _repeat(case: Case) -> tuple[Send, ...]:
    """Toxic: hand a verdict of ours, which a trader shows, to the other too; sign nothing."""
    ours = next((m for m in case.shown if m.sender == case.me and m.kind is Kind.VERDICT), None)
    if ours is None or case.one(case.me, Kind.FORWARD):
        return ()
    return tuple(Send(t, Forward(messages=(ours.wire(),))) for t in case.traders)
