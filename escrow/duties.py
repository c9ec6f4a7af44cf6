"""What must be done now because the state says so: pure, asked after each commit and on start.

A duty is never stored: a crash forgets none, and each is idempotent because the event that
discharges it is journalled in the same transaction as the state that no longer asks for it.
"""

from escrow.facts import Facts
from escrow.messages import Kind
from escrow.model import (
    Broadcast,
    ChooseCoins,
    CompleteVerdict,
    Contracting,
    Disputed,
    Duty,
    Funding,
    Paid,
    Publish,
    Releasing,
    Respend,
    Ruled,
    SignContract,
    SignFunding,
    SignRelease,
    State,
)
from escrow.opening import FUNDING_S
from escrow.payout import Split
from escrow.settlement import may_complete


def duties(state: State, facts: Facts, now: int) -> tuple[Duty, ...]:
    """Return what a trader's state asks for, in the order to do it."""
    match state:
        case Contracting():
            return _contract(facts)
        case Funding():
            return _funding(state, facts, now)
        case Releasing(b"") if facts.me == facts.seller and not facts.one(facts.me, Kind.RECEIVED):
            return (SignRelease(),)
        case Paid() | Disputed() | Releasing() | Ruled() if _gone(facts):
            return (Publish(facts.final_funding),)  # a reorg took it; nothing can follow before
        case Ruled(b, s, a, b"", accepted) if accepted or may_complete(Split(b, s, a), facts):
            return (CompleteVerdict(),)
        case Broadcast(raw) if raw and (facts.view is None or facts.view.funding_height is None):
            return (Publish(raw),)
        case Releasing(raw) | Ruled(raw=raw) if raw and not (facts.view and facts.view.spend):
            return (Publish(raw),)
        case _:
            return ()


def _gone(facts: Facts) -> bool:
    """Tell whether our chain has lost the funding, and we can give it back."""
    lost = facts.view is not None and facts.view.funding_height is None and not facts.view.conflict
    return lost and bool(facts.final_funding)


def _contract(facts: Facts) -> tuple[Duty, ...]:
    if facts.one(facts.me, Kind.CONTRACT):
        return ()
    if facts.me == facts.maker:  # the taker signs first
        return (SignContract(),) if facts.one(facts.peer, Kind.CONTRACT) else ()
    ready = facts.one(facts.me, Kind.REVEAL) and not facts.owed()
    return (SignContract(),) if ready else ()


def _funding(state: Funding, facts: Facts, now: int) -> tuple[Duty, ...]:
    if state.respend:
        seen = facts.view and (facts.view.conflict or facts.view.funding_height is not None)
        return () if seen else (Publish(state.respend),)
    if state.signed_at:
        return (Respend(),) if now >= state.signed_at + FUNDING_S else ()
    if not facts.one(facts.me, Kind.INPUTS):
        return (ChooseCoins(),)
    if not facts.one(facts.peer, Kind.INPUTS):
        return ()
    ready = facts.me == facts.buyer or facts.one(facts.peer, Kind.WITNESS)
    return (SignFunding(),) if ready else ()
