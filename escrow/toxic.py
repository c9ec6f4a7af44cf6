"""What a node does in a trade of which it has lost data: nothing that its lost words could bar.

It never pays and never first-signs, with one exception that gives up all that is at stake, so
that two honest traders are never deadlocked: an unpaid buyer may sign REFUND, a paid seller
RELEASE. It speaks to arbiters, and completes RELEASE (as buyer), REFUND (as seller), and a
verdict by its user's word alone. Toxic is for good: leaving it on the peer's word was shown to
lose money (docs/trade.md, section 5). Pure.
"""

from dataclasses import replace
from typing import Final

from escrow import words
from escrow.confirm import Step
from escrow.facts import Facts
from escrow.messages import FRESH_STEP, MAX_SEQ, ZERO, Kind
from escrow.model import (
    Aborted,
    AcceptVerdict,
    AnswerAsk,
    AskSplit,
    Cancel,
    Drawing,
    Event,
    LoseTrust,
    MakeStatement,
    OpenDispute,
    Payable,
    Received,
    ReleaseSigned,
    RespendReady,
    SayChat,
    SayNotPaid,
    SayPaid,
    SayReceived,
    Send,
    SettleSigned,
    ShowEvidence,
    State,
    Taking,
    Toxic,
    VerdictCompleted,
    WithdrawAsk,
)
from escrow.payloads import Payload, Settle
from escrow.payloads import Received as Release
from escrow.payout import Split, refund
from p2pnode.base.errors import LocalFault

REFUSED: Final = (
    "this node has lost data of this trade: do not pay and agree to nothing; the arbiter decides "
    "(`dispute open`)"
)


def poisoned(state: State, why: str, facts: Facts) -> State:
    """Return the state of a trade of which data is lost; its chains of messages begin afresh.

    A payout that is completed stays: nothing that was lost could take it back.
    """
    if isinstance(state, (Taking, Drawing)):
        return Aborted(why)  # no contract of ours, as far as we know: it ends by itself
    last = max((m.seq for m in facts.messages if m.sender == facts.me), default=0)
    base = (last // FRESH_STEP + 1) * FRESH_STEP
    held = (state.raw, state.raised, state.at) if isinstance(state, Payable) else (b"", b"", 0)
    return Toxic(*held, why=why, base=base)


def step(state: Toxic, event: Event, facts: Facts) -> Step:
    """Return the state after `event` and what to send. Raises LocalFault."""
    match event:
        case LoseTrust() if state.base + 2 * FRESH_STEP > MAX_SEQ:
            return state, ()  # restored nine times: its chains are at their end
        case LoseTrust():  # even the fresh number was used before
            return replace(state, base=state.base + FRESH_STEP), ()
        case Received(_, payload, final, raised) if final and not state.raw:
            whole = isinstance(payload, Release) or _undoes(payload, facts)
            return (words.paid_out(state, final, raised, facts) if whole else state), ()
        case Received():
            return state, ()  # kept for the arbiter; it moves nothing here
        case SayReceived() if facts.me == facts.seller and facts.funding is not None:
            return replace(state, conceding=1), ()
        case SayNotPaid() if facts.me == facts.buyer and facts.one(facts.me, Kind.PAID):
            raise LocalFault("you have said that you paid")
        case SayNotPaid() if facts.me == facts.buyer and facts.funding is not None:
            return replace(state, conceding=1), ()
        case ReleaseSigned(payload) | SettleSigned(payload):
            kind = payload.kind
            said = any(m.seq >= state.base for m in facts.all(facts.me, kind))
            return state, () if said else (Send(facts.peer, payload),)
        case OpenDispute(payload, to) if to in facts.arbiters:
            if any(
                m.recipient == to and m.seq >= state.base for m in facts.all(facts.me, Kind.DISPUTE)
            ):
                raise LocalFault("a dispute is open already: add your words with `dispute answer`")
            return state, (Send(to, payload),)
        case MakeStatement(payload, to) if to in facts.arbiters:
            return state, (Send(to, words.check_told(facts, to, payload)),)
        case ShowEvidence(payloads):
            to = words.hearing_arbiter(facts)
            return state, tuple(Send(to, p) for p in payloads)
        case SayChat(to, text):
            return state, (words.chat(facts, to, text),)
        case AcceptVerdict(buyer_sat) if any(facts.one(a, Kind.VERDICT) for a in facts.arbiters):
            _, verdict = facts.ruling(of_runner_up=None)
            split = Split(verdict.buyer_sat, verdict.seller_sat, verdict.arbiter_sat)
            words.check_accepted(split, buyer_sat, facts)
            return replace(state, accepted=1), ()
        case RespendReady(raw) if not state.respend:
            return replace(state, respend=raw), ()
        case AcceptVerdict():
            raise LocalFault("there is no verdict to accept in this trade")
        case VerdictCompleted(raw, raised) if not state.raw:
            return words.paid_out(state, raw, raised, facts), ()
        case Cancel(reason) if facts.funding is None:  # nothing of it can be known or undone
            return Aborted(reason), ()
        case (
            SayPaid() | SayNotPaid() | SayReceived() | AskSplit() | WithdrawAsk() | AnswerAsk()
        ) | (OpenDispute() | MakeStatement() | Cancel()):
            raise LocalFault(REFUSED)
        case _:
            return state, ()


def _undoes(payload: Payload, facts: Facts) -> bool:
    """Tell whether these first signatures are on REFUND, the only split a toxic node completes."""
    if not isinstance(payload, Settle):
        return False
    agreed = facts.agreed
    undone = refund(facts.contract)
    of_refund = agreed is not None and agreed.buyer_sat == undone.buyer_sat
    return payload.ok_id == ZERO or of_refund
