"""What to do next and by when, in one sentence for each state: pure words over a trade's facts.

Dates are median time past, the clock that every rule goes by. A command that is named is one
that this state allows.
"""

from escrow.completion import in_time, may_complete
from escrow.confirm import FINAL_DEPTH, verdict_due
from escrow.contract import ACK_S
from escrow.deadlines import has_replied, of_trade
from escrow.duties import RESPEND_S
from escrow.facts import Facts
from escrow.messages import Kind
from escrow.model import (
    Aborted,
    Agreed,
    ArbiterLost,
    Broadcast,
    Closed,
    Contracting,
    Disputed,
    Drawing,
    Funded,
    Funding,
    Paid,
    Releasing,
    Ruled,
    State,
    Taking,
    Toxic,
    Void,
)
from escrow.opening import FUNDING_S, OPENING_S
from escrow.payout import Split
from escrow.words import DOUBT, open_ask, runner_up_from
from orderbook.currencies import exponent
from p2pnode.base.units import decimal, moment

_OUTCOMES = {
    "released": "the seller released it",
    "refunded": "each side has its own back",
    "agreed": "as both sides agreed",
    "ruled": "as the arbiter ruled",
}


def advise(state: State, facts: Facts | None) -> str:
    """Return the trader's next step."""
    match state:
        case Aborted(reason):
            return f"nothing: it ended before any coin was locked ({reason})"
        case Void():
            return "nothing: the funding was replaced, your coins are free again"
        case Closed(outcome=outcome):
            how = _OUTCOMES.get(outcome, "in a way that this node does not know")
            return f"nothing: the escrow is paid out, {how}"
        case Taking() | Drawing() | Contracting():
            return (
                "wait: the other side answers, the arbiter is drawn; an answer that takes over "
                f"{OPENING_S} s ends it, and nothing is locked"
            )
        case Funding(respend=raw) if raw:
            return "wait: the peer vanished, one of your coins is being spent back to you"
        case Funding(since, signed_at):
            until = moment((signed_at or since) + FUNDING_S)
            return f"wait: both sides sign the funding, by {until}; else {_unsigned(signed_at)}"
    if facts is None:
        return "wait"
    return (
        _spent(state, facts)
        or _declared(state, facts)
        or _asked(state, facts)
        or _settling(state, facts)
    )


def _unsigned(signed_at: int) -> str:
    return "your coins are spent back to you" if signed_at else "it ends, and nothing is locked"


def _spent(state: State, facts: Facts) -> str:
    """Return what is left to wait for once the chain shows a payout, whoever made it."""
    view = facts.view
    if view is None or view.spend is None or isinstance(state, Toxic):
        return ""
    stop = "" if isinstance(state, (Paid, Releasing, Ruled)) else "; do not pay"
    depth = f"it has {view.depth_of(view.spend)} of {FINAL_DEPTH} confirmations"
    return f"wait: the escrow is being paid out, {depth}{stop}"


def _declared(state: State, facts: Facts) -> str:
    """Return what follows by itself once the buyer has said that he will not pay."""
    if not isinstance(state, (Funded, Disputed, ArbiterLost)):
        return ""
    if not facts.one(facts.buyer, Kind.NOT_PAID):
        return ""
    stuck = f"; if it does not: {_open(_short(facts))}" if isinstance(state, Funded) else ""
    if facts.me == facts.buyer:
        return f"wait: the seller's node takes his coins back, and yours come with them{stuck}"
    signs = "his node signs your coins back to you, and yours pays them out"
    return f"wait: the buyer will not pay; {signs}{stuck}"


def _settling(state: State, facts: Facts) -> str:
    short = _short(facts)
    match state:
        case Broadcast(respend=raw) if raw:
            return "wait: the funding did not confirm, your coins are being spent back to you"
        case Broadcast():
            depth, wanted = facts.view.funding_depth if facts.view else 0, facts.contract.depth
            warning = "do not pay yet, " if facts.me == facts.buyer else ""
            back = ""
            if not depth and state.mtp:
                back = f"; in no block by {moment(state.mtp + RESPEND_S)}, it is undone"
            return f"wait: {warning}the escrow has {depth} of {wanted} confirmations{back}"
        case Funded():
            return _funded(facts, short)
        case Paid() if facts.me == facts.seller:
            call = f"`dispute open` asks the arbiter{_self(facts)}"
            return (
                f"look for the money; if it does not come, {call}; when it is in your account: "
                f"p2pnode trade received {short}"
            )
        case Paid():
            return f"wait for the seller{_self(facts)}; if he is silent: {_open(short)}"
        case Releasing(raw=raw) if raw or facts.me == facts.buyer:
            return "wait: the payout confirms"
        case Releasing() if not facts.one(facts.me, Kind.RECEIVED):
            return "wait: your release is being signed"
        case Releasing():
            if any(facts.called(a) for a in facts.arbiters):
                return "wait: the arbiter hands your release to the buyer, whose node pays it out"
            return f"wait: the buyer's node publishes the payout; if it does not: {_open(short)}"
        case Agreed(raw=raw):
            done = "the payout confirms" if raw else "the agreed split is being signed"
            stuck = "" if raw else f"; if the other side does not sign: {_open(short)}"
            return f"wait: {done}; do not pay{stuck}"
        case Disputed(mtp):
            return _disputed(facts, short, mtp)
        case ArbiterLost():
            return _lost(facts, short)
        case Ruled() if not state.raw and not state.accepted and not _ours(state, facts):
            return _verdict_waits(_split(state), facts, short)
        case Ruled():
            return "wait: the payout confirms"
        case Toxic():
            return _toxic(state, facts, short)
        case _:
            return "wait"


def _short(facts: Facts) -> str:
    return facts.take.id.hex()[:8]


def _open(short: str) -> str:
    return f"p2pnode dispute open {short} --statement …"


def _self(facts: Facts) -> str:
    """Say when the node calls the arbiter by itself, if it ever does."""
    view, n = facts.view, facts.contract.n
    if not n or view is None or not view.funding_height:
        return ""
    height = view.funding_height + n // 2
    return f" (your node does by itself at block {height}, now {view.tip})"


def _split(state: Ruled) -> Split:
    return Split(state.buyer_sat, state.seller_sat, state.arbiter_sat)


def _ours(state: Ruled, facts: Facts) -> bool:
    return may_complete(_split(state), facts)


def _verdict_waits(split: Split, facts: Facts, short: str) -> str:
    if not in_time(split, facts):
        view = facts.view
        end = facts.contract.period_end(view.funding_mtp) if view and view.funding_height else 0
        until = f" before {moment(end + facts.contract.reply_s)}" if end else ""
        return f"wait: the verdict came before an arbiter may rule so, and is not taken{until}"
    return (
        "the verdict is another end than your own node knows: wait for the other side, or take it: "
        f"p2pnode dispute accept {short}"
    )


# ------------------------------------------------------------------ another split


def _asked(state: State, facts: Facts) -> str:
    """Return what an open proposal of either side asks for, or nothing."""
    if not isinstance(state, (Funded, Paid, Disputed, ArbiterLost)):
        return ""
    told = _untold(state, facts)
    short, stop = _short(facts), told + ("do not pay: " if facts.me == facts.buyer else "")
    ours = facts.asked(facts.me)
    if ours and ours.withdraw:
        return f"{stop}wait until the other side's node has seen that you withdrew your proposal"
    if ours:
        return (
            f"{stop}wait for the answer to your proposal; to take it back: "
            f"p2pnode trade ask {short} --withdraw"
        )
    if theirs := open_ask(facts):
        shares = f"{_coins(theirs.buyer_sat)} BTC to the buyer, {_coins(theirs.seller_sat)} to the "
        return (
            f"{told}answer: the other side proposes {shares}seller. It is final once you agree; to "
            f"refuse, `decline` in place of `agree`: p2pnode trade agree {short}"
        )
    return ""


def _untold(state: State, facts: Facts) -> str:
    """Return that the arbiter waits for our side meanwhile, or nothing."""
    if not isinstance(state, Disputed) or has_replied(facts):
        return ""
    if not any(facts.noticed(a) for a in facts.arbiters):
        return ""
    until = f" by {moment(state.mtp + facts.contract.reply_s)}" if state.mtp else ""
    return f"tell the arbiter your side{until} (`dispute answer`); "


def _coins(amount_sat: int) -> str:
    text = decimal(amount_sat, 8)
    return text[:-4] + text[-4:].rstrip("0")


# ------------------------------------------------------------------ paying


def _funded(facts: Facts, short: str) -> str:
    contract, view = facts.contract, facts.view
    if facts.doubted and facts.me == facts.buyer:
        return f"do not pay: {DOUBT}"
    end = contract.period_end(view.funding_mtp) if view and view.funding_height else 0
    over = bool(view and end and view.mtp >= end)
    if facts.me == facts.seller:
        if over:
            return f"the buyer's time to pay is over; if nothing has come: {_open(short)}"
        until = f", due by {moment(end)}" if end else ""
        return f"wait for the buyer's payment{until}; when it is in: p2pnode trade received {short}"
    if over:
        return f"the time to pay is over: do not pay; {_open(short)}"
    if not facts.one(facts.me, Kind.ACK):
        ack = f", due by {moment(view.funding_mtp + ACK_S)}" if view and end else ""
        return (
            f"wait: do not pay before the seller's payment details are here{ack}; if they do not "
            f"come: {_open(short)}"
        )
    amount = f"{decimal(contract.fiat_minor, exponent(contract.currency))} {contract.currency}"
    until = f" by {moment(end)}" if end else ""
    return f"pay {amount} to that account{until}, then: p2pnode trade pay-sent {short}"


# ------------------------------------------------------------------ disputes


def _disputed(facts: Facts, short: str, mtp: int) -> str:
    contract, view = facts.contract, facts.view
    due = f", due by {moment(verdict_due(contract, mtp, view))}" if mtp and view else ""
    if not any(facts.noticed(a) for a in facts.arbiters):
        return "wait: the arbiter has not acknowledged the dispute yet; do not pay"
    if has_replied(facts):
        return (
            f"wait for the arbiter's verdict{due}; do not pay; to show him a file: "
            f"p2pnode dispute evidence {short} FILE"
        )
    until = f" by {moment(mtp + contract.reply_s)}" if mtp else ""
    return (
        f"do not pay; tell the arbiter your side{until}: "
        f"p2pnode dispute answer {short} --statement …"
    )


def _lost(facts: Facts, short: str) -> str:
    contract, view = facts.contract, facts.view
    if contract.n and facts.noticed(contract.runner_up):
        return _second(facts, short)
    said = "has recused himself" if facts.one(contract.arbiter, Kind.RECUSE) else "is overdue"
    agree = f"do not pay; the arbiter {said}: agree with the other side"
    if not contract.n:
        return f"{agree}, nobody else can decide: p2pnode trade ask {short} --buyer BTC"
    height = runner_up_from(facts, view) if view and view.funding_height else 0
    when = f"from block {height} on, now {view.tip}" if view and height else "after the timelock"
    return (
        f"{agree}, or wait for the runner-up, whom your node calls {when}: "
        f"p2pnode trade ask {short} --buyer BTC"
    )


def _second(facts: Facts, short: str) -> str:
    """Return what to do while the runner-up hears the case."""
    dates = {d.name: f" by {moment(d.at_mtp)}" for d in of_trade(ArbiterLost(), facts)}
    if facts.last_words(facts.contract.runner_up):  # to the first arbiter, repeated by the node
        return (
            f"do not pay; wait for the runner-up's verdict{dates.get('ruling', '')}; to show him a "
            f"file: p2pnode dispute evidence {short} FILE"
        )
    return (
        "do not pay; the runner-up judges now and has read nothing of yours; tell him your "
        f"side{dates.get('reply', '')}: p2pnode dispute answer {short} --statement …"
    )


def _toxic(state: Toxic, facts: Facts, short: str) -> str:
    if state.raw:
        return "wait: the payout confirms"
    head = f"this node has lost data of this trade ({state.why}): do not pay and agree to nothing; "
    if any(facts.one(a, Kind.VERDICT) for a in facts.arbiters) and not state.accepted:
        _, verdict = facts.ruling(of_runner_up=None)
        split = Split(verdict.buyer_sat, verdict.seller_sat, verdict.arbiter_sat)
        return f"{head}{_verdict_waits(split, facts, short)}"
    if state.conceding or state.accepted:
        return f"{head}wait: the payout is being signed"
    if any(facts.called(a) for a in facts.arbiters):
        return f"{head}wait for the arbiter's verdict"
    return f"{head}let the arbiter decide: {_open(short)}"
