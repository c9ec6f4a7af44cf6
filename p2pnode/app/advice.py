"""What to do next, in one sentence for each state: pure words over a trade's facts."""

from escrow.facts import Facts
from escrow.hearing import Case
from escrow.messages import Kind
from escrow.model import (
    Aborted,
    Broadcast,
    Closed,
    ClosedCase,
    Contracting,
    Disputed,
    Drawing,
    Funded,
    Funding,
    Hearing,
    Noticed,
    Paid,
    Releasing,
    Ruled,
    RuledCase,
    State,
    Taking,
    Void,
)
from escrow.payout import Split
from escrow.settlement import may_complete
from orderbook.currencies import exponent
from p2pnode.base.units import decimal, moment


def advise(state: State, facts: Facts | None) -> str:
    """Return the trader's next step."""
    match state:
        case Aborted(reason):
            return f"nothing: it ended before any coin was locked ({reason})"
        case Void():
            return "nothing: the funding was replaced, your coins are free again"
        case Closed(outcome=outcome):
            return f"nothing: the escrow is paid out ({outcome})"
        case Taking() | Drawing() | Contracting():
            return "wait: the other side answers, the arbiter is drawn"
        case Funding(respend=raw) if raw:
            return "wait: the peer vanished, one of your coins is being spent back to you"
        case Funding():
            return "wait: both sides sign the funding"
    if facts is None:
        return "wait"
    short = facts.take.id.hex()[:8]
    match state:
        case Broadcast():
            depth, wanted = facts.view.funding_depth if facts.view else 0, facts.contract.depth
            warning = "do not pay yet, " if facts.me == facts.buyer else ""
            return f"wait: {warning}the escrow has {depth} of {wanted} confirmations"
        case Funded():
            return _funded(facts, short)
        case Paid() if facts.me == facts.seller:
            return f"when the money is in your account: p2pnode trade received {short}"
        case Paid():
            return f"wait for the seller; if he is silent: {_open(short)}"
        case Releasing():
            return "wait: the payout confirms"
        case Disputed():
            return _disputed(facts, short)
        case Ruled(b, s, a, b"", 0) if not may_complete(Split(b, s, a), facts):
            return (
                "wait for the other side to complete the verdict: it is more than your own node "
                f"knows to be yours, or early; if it is right: p2pnode dispute accept {short}"
            )
        case Ruled():
            return "wait: the payout confirms"
        case _:
            return "wait"


def _funded(facts: Facts, short: str) -> str:
    contract, view = facts.contract, facts.view
    if facts.me == facts.seller:
        return f"wait for the buyer's payment; when it is in: p2pnode trade received {short}"
    if facts.one(facts.me, Kind.NOT_PAID):
        return f"you declared that you will not pay: {_open(short)}"
    if view and view.mtp >= contract.period_end(view.funding_mtp):
        return f"the time to pay is over: do not pay; {_open(short)}"
    if not facts.one(facts.me, Kind.ACK):
        return "wait: do not pay before the seller's payment details are here"
    amount = f"{decimal(contract.fiat_minor, exponent(contract.currency))} {contract.currency}"
    until = f" by {moment(contract.period_end(view.funding_mtp))}" if view else ""
    return f"pay {amount} to that account{until}, then: p2pnode trade pay-sent {short}"


def _open(short: str) -> str:
    return f"p2pnode dispute open {short} --statement …"


def _disputed(facts: Facts, short: str) -> str:
    notice = facts.one(facts.contract.arbiter, Kind.NOTICE)
    if notice is None:
        return "wait: the arbiter has not acknowledged the dispute yet; do not pay"
    opened = any(m.kind is Kind.DISPUTE and m.sender == facts.me for m in facts.messages)
    if opened or facts.one(facts.me, Kind.STATEMENT):
        return "wait for the arbiter's verdict; do not pay"
    return f"do not pay; tell the arbiter your side: p2pnode dispute answer {short} --statement …"


def advise_arbiter(state: State, case: Case) -> str:
    """Return the arbiter's next step."""
    short = case.contract.trade_id.hex()[:8]
    match state:
        case Noticed(mtp):
            return (
                f"wait for the other statement, at most until {moment(mtp + case.contract.reply_s)}"
            )
        case Hearing():
            return f"read, then rule: p2pnode arbiter decide {short} --buyer BTC --reason …"
        case RuledCase():
            return "wait: a trader completes the payout"
        case ClosedCase():
            return "nothing: the escrow is paid out"
        case _:
            return "wait"
