"""What the arbiter of a case does next and by when, in one sentence (as advice.py for traders)."""

from escrow.case import Case
from escrow.confirm import verdict_due
from escrow.model import ClosedCase, Hearing, Noticed, RecusedCase, RuledCase, State, ToxicCase
from p2pnode.base.units import moment


def advise_arbiter(state: State, case: Case) -> str:
    """Return the arbiter's next step."""
    short = case.contract.trade_id.hex()[:8]
    match state:
        case Noticed(mtp) if case.branch:
            until = moment(mtp + case.contract.reply_s)
            return f"wait until {until}, whoever has spoken: the arbiter's own verdict goes first"
        case Noticed(mtp):
            return (
                f"wait for the other statement, at most until {moment(mtp + case.contract.reply_s)}"
            )
        case Hearing(mtp):
            view = case.view
            due = f" by {moment(verdict_due(case.contract, mtp, view))}" if view else ""
            return f"read, then rule{due}: p2pnode arbiter decide {short} --buyer BTC --reason …"
        case RuledCase():
            return "wait: a trader completes the payout"
        case RecusedCase():
            return "nothing: you have recused yourself"
        case ToxicCase():
            return "nothing: this node has lost data of this case and may not rule on it"
        case ClosedCase():
            return "nothing: the escrow is paid out"
        case _:
            return "wait"
