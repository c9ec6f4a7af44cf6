"""From a broadcast funding to exactly one payout: the second half of a trader's machine.

    Broadcast ◀─reorg─┐
        └──deep──▶ Funded ──PAID──▶ Paid ──SayReceived / RECEIVED──▶ Releasing ──6 deep──▶ Closed
                     ├──OK, the buyer's REFUND──┴──▶ Agreed ──6 deep──▶ Closed
                     └──DISPUTE, NOTICE──┴──▶ Disputed ──VERDICT──▶ Ruled ──6 deep──▶ Closed
                              └──RECUSE, overdue──▶ ArbiterLost ──VERDICT──▶ Ruled

Pure. `confirm` follows the chain, `words` hears our user, `completion` is rule R2, `accord` rule
R3, `toxic` what a node does that has lost data; here is what messages do. docs/trade.md, 5.
"""

from dataclasses import replace
from typing import Final

from escrow import confirm, toxic, words
from escrow.errors import NotYet
from escrow.facts import Facts
from escrow.messages import ZERO, Kind
from escrow.model import (
    Aborted,
    AcceptVerdict,
    Agreed,
    AnswerAsk,
    ArbiterLost,
    AskSplit,
    Broadcast,
    ChainView,
    Closed,
    Disputed,
    Event,
    Funded,
    LoseTrust,
    MakeStatement,
    OpenDispute,
    Paid,
    Received,
    ReleaseSigned,
    Releasing,
    RespendReady,
    Ruled,
    SayChat,
    SayNotPaid,
    SayPaid,
    SayReceived,
    Send,
    SettleSigned,
    ShowEvidence,
    State,
    Toxic,
    VerdictCompleted,
    Void,
    WithdrawAsk,
)
from escrow.payloads import (
    Cover,
    Notice,
    Ok,
    Payload,
    Recuse,
    Refuse,
    Settle,
    Verdict,
    Withdraw,
)
from escrow.payloads import Received as Release
from escrow.payout import refund
from p2pnode.base.errors import PeerFault

__all__ = ["HEARD_HERE", "step"]

HEARD_HERE: Final = (
    *(AcceptVerdict, SayPaid, SayNotPaid, SayReceived, OpenDispute, MakeStatement, AskSplit),
    *(WithdrawAsk, AnswerAsk, SayChat, ShowEvidence, LoseTrust),
)

_LIVING: Final = (Broadcast, Funded, Paid, Disputed, ArbiterLost, Releasing, Agreed, Ruled)
_UNSETTLED: Final = (Funded, Paid, Disputed, ArbiterLost)
# Kept wherever coins are locked; they bind or inform, and move no state by themselves. The chain,
# an arbiter or our user may have moved the trade on before they came.
_WAITS: Final = frozenset({Kind.PAID, Kind.RECEIVED, Kind.NOTICE, Kind.OK, Kind.SETTLE})
_KEPT: Final = frozenset(
    {
        *(Kind.WITNESS, Kind.ACCOUNT, Kind.ACK, Kind.NOT_PAID, Kind.CHAT, Kind.ASK, Kind.COVER),
    }
)

Step = tuple[State, tuple[Send, ...]]


def step(state: State, event: Event, facts: Facts) -> Step:
    """Return the state after `event` and what to send; a raise leaves the state as it is.

    Raises:
        NotYet: right, but our chain has not caught up.
        PeerFault: the message has no place here.
        LocalFault: our user asked for what this state refuses.

    """
    match state, event:
        case _, ChainView():
            return confirm.on_chain(state, event, facts)
        case Toxic(), _:
            return toxic.step(state, event, facts)
        case Aborted(), LoseTrust(why) if facts.settled_contract and facts.funding:
            return toxic.poisoned(state, why, facts), ()  # we may have signed it, and forgotten
        case ((Aborted() | Closed() | Void()), LoseTrust()):
            return state, ()
        case _, LoseTrust(why):
            return toxic.poisoned(state, why, facts), ()
        case _, Received():
            return _received(state, event, facts)
        case Releasing(b""), ReleaseSigned(payload) if facts.me == facts.seller:
            said = facts.one(facts.me, Kind.RECEIVED)
            return state, () if said else (Send(facts.peer, payload),)
        case _, SettleSigned(payload) if isinstance(state, _LIVING):
            return state, () if _settled(facts, payload) else (Send(facts.peer, payload),)
        case Broadcast(respend=b""), RespendReady(raw):
            return replace(state, respend=raw), ()
        case Ruled(raw=b""), VerdictCompleted(raw, raised):
            return words.paid_out(state, raw, raised, facts), ()
        case _:
            return words.hear(state, event, facts)


def _settled(facts: Facts, payload: Payload) -> bool:
    """Tell whether we have sent these first signatures already."""
    assert isinstance(payload, Settle)  # noqa: S101 - the event says so
    said = facts.all(facts.me, Kind.SETTLE)
    return any(Settle.from_wire(m.payload).ok_id == payload.ok_id for m in said)


# ------------------------------------------------------------------ messages


def _received(state: State, event: Received, facts: Facts) -> Step:
    kind, payload = event.message.kind, event.payload
    match state, payload:
        case ((Aborted() | Void()), _):
            if kind is not Kind.ABORT:
                raise PeerFault(f"{kind.name} has no place in {type(state).__name__}")
            return state, ()
        case Paid(), _ if kind is Kind.NOT_PAID:
            raise PeerFault("NOT_PAID after PAID")
        case _ if kind in _KEPT or isinstance(payload, Cover):  # forwarded: what binds us, we know
            return state, ()
        case Broadcast(), _ if kind in _WAITS:
            raise NotYet(f"{kind.name} before our chain shows the escrow deep enough")
        case Funded(), _ if kind is Kind.PAID:
            return Paid(), ()
        case _ if kind is Kind.PAID:
            return state, ()  # it crossed what ended the wait for it
        case _, Release() | Settle():
            return _signed(state, event, facts)
        case _, Withdraw() | Ok() | Refuse():
            return _spoken(state, event, facts)
        case _, Notice() | Recuse() | Verdict():
            return _arbitrated(state, event, facts)
        case _:
            raise PeerFault(f"{kind.name} has no place in {type(state).__name__}")


def _signed(state: State, event: Received, facts: Facts) -> Step:
    """A first signature that we have completed: RELEASE for the buyer, another split for either."""
    if not event.final or _settles_already(state):
        return state, ()
    if not isinstance(event.payload, Settle):
        return words.paid_out(Releasing(), event.final, event.raised, facts), ()
    if isinstance(state, Releasing):
        return state, ()  # R2: our user has said that the money is in
    agreed, undone = facts.agreed, refund(facts.contract)
    after = Agreed(buyer_sat=undone.buyer_sat, seller_sat=undone.seller_sat)
    if agreed and event.payload.ok_id != ZERO:
        after = Agreed(buyer_sat=agreed.buyer_sat, seller_sat=agreed.seller_sat)
    return words.paid_out(after, event.final, event.raised, facts), ()


def _settles_already(state: State) -> bool:
    """Tell whether a payout is completed here, which is published and stays."""
    return isinstance(state, Closed) or bool(getattr(state, "raw", b""))


def _spoken(state: State, event: Received, facts: Facts) -> Step:
    """WITHDRAW, OK and REFUSE: rule R3, whose arithmetic is `accord`."""
    message, payload = event.message, event.payload
    match payload:
        case Withdraw():
            agreed = facts.agreed
            bound = agreed is not None and agreed.ask.id == payload.ask_id
            return state, () if bound else (_cover(facts, message.id),)
        case Ok() if facts.agreed and facts.agreed.ok and facts.agreed.ok.id == message.id:
            if not isinstance(state, _UNSETTLED) or words.bound_elsewhere(facts):
                return state, ()  # we have signed, or completed, another end meanwhile
            found = facts.agreed
            after = Agreed(buyer_sat=found.buyer_sat, seller_sat=found.seller_sat)
            return after, (_cover(facts, message.id),)
        case Refuse(refused_id=refused_id):
            ours = facts.asked(facts.me)
            if ours is None or ours.withdraw or ours.ask.id != refused_id:
                return state, ()
            return state, (Send(facts.peer, Withdraw(ask_id=refused_id)),)
        case _:
            return state, ()  # an OK that came too late to bind


def _cover(facts: Facts, covered_id: bytes) -> Send:
    return Send(facts.peer, Cover(covered_id=covered_id))


def _arbitrated(state: State, event: Received, facts: Facts) -> Step:
    """NOTICE, VERDICT and RECUSE, from the arbiter or the runner-up."""
    mtp = facts.view.mtp if facts.view else 0
    first = event.message.sender == facts.contract.arbiter
    match state, event.payload:
        case ((Funded() | Paid()), Notice()):
            return Disputed(mtp), ()
        case Disputed(), Recuse() if first:
            return ArbiterLost(mtp), ()
        case _, Verdict() as verdict:
            return _ruled(state, verdict, facts, backup=not first)
        case _:
            return state, ()


def _ruled(state: State, verdict: Verdict, facts: Facts, *, backup: bool) -> Step:
    if _settles_already(state):
        return state, ()  # what we are publishing gives us no less
    if isinstance(state, Ruled) and state.backup == int(backup):
        return state, ()  # R5: the first verdict of an arbiter counts, whichever way it came
    unsigned = isinstance(state, Releasing) and not facts.one(facts.me, Kind.RECEIVED)
    if unsigned and facts.me == facts.seller and verdict.seller_sat > facts.contract.dep_s:
        return state, ()  # R2: he has said that he has the money, and signs that in a moment
    if isinstance(state, (Broadcast, Funded, Paid)):
        raise PeerFault("VERDICT before any NOTICE")
    return (
        Ruled(
            buyer_sat=verdict.buyer_sat,
            seller_sat=verdict.seller_sat,
            arbiter_sat=verdict.arbiter_sat,
            backup=int(backup),
        ),
        (),
    )
