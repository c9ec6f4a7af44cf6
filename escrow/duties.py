"""What must be done now because the state says so: pure, asked after each commit and on start.

A duty is never stored: a crash forgets none, and each is idempotent because the event that
discharges it is journalled in the same transaction as the state that no longer asks for it.
"""

from typing import Final

from escrow.accord import first_signer_is_buyer
from escrow.completion import BUMP_BLOCKS, RAISE_BLOCKS, may_complete
from escrow.facts import Facts
from escrow.messages import ZERO, Kind, Message
from escrow.model import (
    Agreed,
    ArbiterLost,
    Broadcast,
    Bump,
    CallArbiter,
    ChooseCoins,
    Closed,
    CompleteVerdict,
    Contracting,
    Disputed,
    Duty,
    Funded,
    Funding,
    Paid,
    Payable,
    Publish,
    Releasing,
    Respend,
    Ruled,
    ShowPapers,
    SignContract,
    SignFunding,
    SignRelease,
    SignSettle,
    State,
    Toxic,
)
from escrow.opening import FUNDING_S
from escrow.payloads import Cover, Settle
from escrow.payout import Split, refund
from escrow.words import MAX_TOLD, runner_up_from, told
from p2pnode.base.transaction import parse_transaction

BUMP_S: Final = 24 * 3600  # an unconfirmed funding is paid for by a child, by the chain's clock
RESPEND_S: Final = 72 * 3600  # and given up

_LOCKED: Final = (Funded, Paid, Disputed, ArbiterLost, Releasing, Agreed, Ruled)


def duties(state: State, facts: Facts, now: int) -> tuple[Duty, ...]:
    """Return what a trader's state asks for, in the order to do it."""
    match state:
        case Contracting():
            return _contract(facts)
        case Funding():
            return _funding(state, facts, now)
        case Broadcast():
            return _broadcast(state, facts)
        case Closed(raw=raw):
            lost = raw and facts.view and not facts.view.spend
            before = (Publish(facts.final_funding),) if _gone(facts) else ()
            return (*before, Publish(raw)) if lost else ()
        case Toxic() if _gone(facts):
            return (Publish(facts.final_funding),)  # signs nothing; else the peer alone holds it
        case Toxic():
            return (*_payable(state, facts), *_toxic(state, facts), *_calls(state, facts))
        case _ if isinstance(state, _LOCKED):
            if _gone(facts):
                return (Publish(facts.final_funding),)  # a reorg took it; nothing can follow before
            return (
                *_signatures(state, facts),
                *(_payable(state, facts) if isinstance(state, Payable) else ()),
                *_calls(state, facts),
                *_papers(facts),
            )
        case _:
            return ()


# ------------------------------------------------------------------ the opening


def _contract(facts: Facts) -> tuple[Duty, ...]:
    if facts.one(facts.me, Kind.CONTRACT):
        return ()
    if facts.me == facts.maker:  # the taker signs first
        return (SignContract(),) if facts.one(facts.peer, Kind.CONTRACT) else ()
    ready = facts.one(facts.me, Kind.REVEAL) and not facts.owed()
    return (SignContract(),) if ready else ()


def _funding(state: Funding, facts: Facts, now: int) -> tuple[Duty, ...]:
    if state.respend:
        return _respent(state.respend, facts)
    if state.signed_at:
        late = now >= state.signed_at + FUNDING_S and _has_coins(facts)
        return (Respend(),) if late else ()
    if not facts.one(facts.me, Kind.INPUTS):
        return (ChooseCoins(),)
    if not facts.one(facts.peer, Kind.INPUTS):
        return ()
    ready = facts.me == facts.buyer or facts.one(facts.peer, Kind.WITNESS)
    return (SignFunding(),) if ready else ()


def _has_coins(facts: Facts) -> bool:
    """Tell whether coins of ours are in the funding: a buyer may bring none."""
    return facts.funding is not None and bool(
        facts.funding.own("B" if facts.me == facts.buyer else "S")
    )


def _respent(raw: bytes, facts: Facts) -> tuple[Duty, ...]:
    seen = facts.view and (facts.view.conflict or facts.view.funding_height)
    return () if seen else (Publish(raw),)


def _broadcast(state: Broadcast, facts: Facts) -> tuple[Duty, ...]:
    """Publish; a day unconfirmed, pay for it by a child; three days, take the coins back."""
    view = facts.view
    if state.respend:
        return _respent(state.respend, facts)
    if view is None or view.funding_height is None:
        publish = (Publish(state.raw),) if state.raw else ()
    else:
        publish = ()
    if view is None or view.funding_height or not state.mtp:
        return publish
    if view.mtp >= state.mtp + RESPEND_S and _has_coins(facts):
        return (Respend(),)  # first: what the network refuses would end the round before it
    if state.raw and view.mtp >= state.mtp + BUMP_S:
        return (*publish, Bump(state.raw))
    return publish


# ------------------------------------------------------------------ signatures and payouts


def _gone(facts: Facts) -> bool:
    """Tell whether our chain has lost the funding, and we can give it back."""
    lost = facts.view is not None and facts.view.funding_height is None and not facts.view.conflict
    return lost and bool(facts.final_funding)


def _signatures(state: State, facts: Facts) -> tuple[Duty, ...]:
    match state:
        case Releasing(raw=b"") if facts.me == facts.seller:
            return () if facts.one(facts.me, Kind.RECEIVED) else (SignRelease(),)
        case Agreed(raw=b"", buyer_sat=b, seller_sat=s):
            agreed, buyer = facts.agreed, facts.me == facts.buyer
            if agreed is None or agreed.ok is None or first_signer_is_buyer(b, s) != buyer:
                return ()
            ok_id = agreed.ok.id
            said = (Settle.from_wire(m.payload).ok_id for m in facts.all(facts.me, Kind.SETTLE))
            return () if ok_id in said else (SignSettle(b, s, ok_id),)
        case Ruled(raw=b"", buyer_sat=b, seller_sat=s, arbiter_sat=a, accepted=accepted):
            return (CompleteVerdict(),) if accepted or may_complete(Split(b, s, a), facts) else ()
        case _:
            return _concede(state, facts)


def _concede(state: State, facts: Facts) -> tuple[Duty, ...]:
    """Buyer: he has said that he will not pay, so he signs REFUND by himself."""
    open_end = isinstance(state, (Funded, Disputed, ArbiterLost))
    declared = facts.me == facts.buyer and facts.one(facts.me, Kind.NOT_PAID)
    if not (open_end and declared) or facts.first_signed or facts.agreed:
        return ()
    undone = refund(facts.contract)
    return (SignSettle(undone.buyer_sat, undone.seller_sat, ZERO),)


def _payable(state: Payable, facts: Facts) -> tuple[Duty, ...]:
    """Keep the payout on the network: at the lower rate, at the raised one, then by a child."""
    view = facts.view
    if not state.raw:
        return ()
    if view is None or view.spend is None:
        return (Publish(state.raw, state.raised),)
    if view.spend.height:
        return ()
    waited = view.tip - state.at if state.at else 0
    ours = {parse_transaction("payout", raw).txid: raw for raw in (state.raw, state.raised)}
    if waited >= BUMP_BLOCKS and view.spend.txid in ours:
        return (Bump(ours[view.spend.txid]),)  # the lower one too, where a peer's child pins it
    if waited >= RAISE_BLOCKS and ours.get(view.spend.txid) != state.raised:
        return (Publish(state.raised),)  # it replaces the lower one, or another pair's payout
    return ()


def _way_out(state: Toxic, facts: Facts) -> tuple[Duty, ...]:
    """Take our coins back from a funding that we cannot complete: the peer alone may hold it."""
    view = facts.view
    if view is None or view.funding_height is not None or facts.final_funding:
        return ()
    if state.respend:
        return _respent(state.respend, facts)
    mine = facts.one(facts.me, Kind.INPUTS)
    return (Respend(),) if mine and _has_coins(facts) and not view.conflict else ()


def _toxic(state: Toxic, facts: Facts) -> tuple[Duty, ...]:
    if state.accepted and not state.raw:
        return (CompleteVerdict(),)
    if way_out := _way_out(state, facts):
        return way_out
    if not state.conceding:
        return ()
    kind = Kind.RECEIVED if facts.me == facts.seller else Kind.SETTLE
    if any(m.seq >= state.base for m in facts.all(facts.me, kind)):
        return ()
    if kind is Kind.RECEIVED:
        return (SignRelease(),)
    undone = refund(facts.contract)
    return (SignSettle(undone.buyer_sat, undone.seller_sat, ZERO),)


# ------------------------------------------------------------------ arbiters


def _calls(state: State, facts: Facts) -> tuple[Duty, ...]:
    """Call the arbiter at half of the timelock, the runner-up at its end, whoever sleeps."""
    view = facts.view
    if facts.settled_contract is None or not facts.contract.n:
        return ()
    if view is None or not view.funding_height or view.spend:
        return ()
    contract = facts.contract
    if view.tip >= runner_up_from(facts, view):
        why = "opened by the node: the timelock is over and the escrow is not paid out"
        return (
            () if _we_called(facts, contract.runner_up) else (CallArbiter(contract.runner_up, why),)
        )
    if view.tip < view.funding_height + contract.n // 2 or not _callable(state, facts):
        return ()
    why = "opened by the node: half of the timelock is over and the escrow is not paid out"
    called = facts.noticed(contract.arbiter) or _we_called(facts, contract.arbiter)
    return () if called else (CallArbiter(contract.arbiter, why),)


def _callable(state: State, facts: Facts) -> bool:
    if isinstance(state, Releasing):
        return not state.raw and facts.one(facts.me, Kind.RECEIVED) is not None
    return isinstance(state, (Funded, Paid, Toxic)) or (isinstance(state, Agreed) and not state.raw)


def _we_called(facts: Facts, arbiter: bytes) -> bool:
    return any(m.recipient == arbiter for m in facts.all(facts.me, Kind.DISPUTE))


def _papers(facts: Facts) -> tuple[Duty, ...]:
    """Show each arbiter who hears the trade the messages that count and that he lacks."""
    weighty = [m for m in facts.between if _weighs(m, facts)]
    return tuple(
        ShowPapers(arbiter)
        for arbiter in facts.arbiters
        if facts.noticed(arbiter)
        and told(facts, arbiter) < MAX_TOLD
        and _unseen(facts, arbiter, weighty)
    )


def _weighs(message: Message, facts: Facts) -> bool:
    kinds = {Kind.PAID, Kind.NOT_PAID, Kind.RECEIVED, Kind.SETTLE, Kind.OK}
    kind, agreed = message.kind, facts.agreed
    if kind is Kind.COVER and agreed and agreed.ok:
        return Cover.from_wire(message.payload).covered_id == agreed.ok.id
    return kind in kinds


def _unseen(facts: Facts, arbiter: bytes, weighty: list[Message]) -> bool:
    """Tell whether something that counts came after our last papers for this arbiter."""
    shown = -1
    for n, m in enumerate(facts.messages):
        if m.recipient == arbiter and m.kind in {Kind.DISPUTE, Kind.STATEMENT}:
            shown = n
    if shown < 0:
        return True
    return any(m in weighty for m in facts.messages[shown + 1 :])
