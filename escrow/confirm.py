"""What the chain does to a trader's trade: depth, reorgs, and the spends that end it.

Level-triggered: each view says everything that our chain says of the trade as of one tip, so a
crash, a missed block or a reorg needs no event of its own. The chain beats messages. Pure.
"""

from dataclasses import replace
from typing import Final

from escrow.completion import outcome
from escrow.contract import ACK_S, Contract
from escrow.facts import Facts
from escrow.messages import Kind
from escrow.model import (
    Aborted,
    ArbiterLost,
    Broadcast,
    ChainView,
    Closed,
    Disputed,
    Funded,
    Funding,
    Payable,
    Send,
    State,
    Void,
)
from escrow.payloads import Account, Ack

FINAL_DEPTH: Final = 6
FUND_MARGIN: Final = 6  # blocks before fund_by at which the buyer still sends an ACK

Step = tuple[State, tuple[Send, ...]]


def on_chain(state: State, view: ChainView, facts: Facts) -> Step:
    """Follow the chain: depth, reorgs, deadlines, the spend that ends the trade."""
    if isinstance(state, (Aborted, Closed, Void)) or facts.settled_contract is None:
        return state, ()
    contract = facts.contract
    if view.spend and view.depth_of(view.spend) >= FINAL_DEPTH:
        raw = view.spend.raw
        return Closed(view.spend.txid, outcome(raw, state, facts), raw), ()
    conflict = None if view.funding_height else view.conflict
    if conflict and view.depth_of(conflict) >= FINAL_DEPTH:
        return Void(conflict.txid), ()
    deep = view.funding_depth >= contract.depth
    match state:
        case Funding(signed_at=signed) if signed and view.funding_height is not None:
            return on_chain(Broadcast(view.funding_raw), view, facts)
        case Funding(signed_at=signed) if signed and _never_funded(view, facts):
            return Aborted("the seller has not funded it in time"), ()
        case Broadcast(mtp=0) if not deep:
            return replace(state, mtp=view.mtp), ()
        case Broadcast() if deep:
            account = Account(disclosure=facts.own.disclosure)
            first = not facts.one(facts.me, Kind.ACCOUNT)
            state, sends = on_chain(Funded(), view, facts)
            return state, ((Send(facts.peer, account),) if first else ()) + sends
        case Funded() if not deep:
            return Broadcast(facts.final_funding or view.funding_raw, view.mtp), ()
        case Funded() if _may_ack(view, facts):
            account_message = facts.one(facts.peer, Kind.ACCOUNT)
            assert account_message is not None  # noqa: S101 - _may_ack asked
            return state, (Send(facts.peer, Ack(account_id=account_message.id)),)
        case Disputed(mtp=0):
            return Disputed(view.mtp), ()
        case Disputed(mtp) if view.mtp >= verdict_due(contract, mtp, view):
            return ArbiterLost(view.mtp), ()
        case Payable(raw, at=0) if raw:
            return replace(state, at=view.tip), ()
        case _:
            return state, ()


def verdict_due(contract: Contract, called_mtp: int, view: ChainView) -> int:
    """Return until when (median time past) a verdict may come; later the arbiter is lost.

    Replies take reply_s from the call, and R4 may bind the arbiter until reply_s after the
    period's end; his own time begins then.
    """
    end = contract.period_end(view.funding_mtp) if view.funding_height else 0
    return max(called_mtp, end) + contract.reply_s + contract.verdict_s


def _never_funded(view: ChainView, facts: Facts) -> bool:
    """Tell whether a buyer without coins in it waits for a funding that is too late by now."""
    return (
        facts.me == facts.buyer
        and not facts.contract.dep_b
        and view.funding_height is None
        and view.tip >= facts.contract.fund_by + FINAL_DEPTH
    )


def _may_ack(view: ChainView, facts: Facts) -> bool:
    """Buyer: details are here, the funding was in time, and so are we (docs/trade.md, 4 and 5)."""
    contract = facts.contract
    return (
        facts.me == facts.buyer
        and facts.one(facts.peer, Kind.ACCOUNT) is not None
        and facts.one(facts.me, Kind.ACK) is None
        and view.funding_height is not None
        and view.funding_height <= contract.fund_by - FUND_MARGIN
        and view.mtp < view.funding_mtp + ACK_S
    )
