"""What a trader's own user says and does, from the funding on; and what the rules answer him.

Every refusal is a sentence for people: what is not allowed now, and what is. R3 and R4's half
for the buyer are `_pay`; R1's order (the split row before the signature) is the shell's.
Pure; docs/trade.md, section 5.
"""

from dataclasses import replace
from typing import Final, TypeVar

from escrow.accord import Asked, Standing
from escrow.completion import in_time
from escrow.confirm import Step
from escrow.facts import Facts
from escrow.messages import Kind
from escrow.model import (
    AcceptVerdict,
    Agreed,
    AnswerAsk,
    ArbiterLost,
    AskSplit,
    Broadcast,
    Cancel,
    ChainView,
    Closed,
    Disputed,
    Event,
    Funded,
    Funding,
    MakeStatement,
    OpenDispute,
    Paid,
    Payable,
    Releasing,
    Ruled,
    SayChat,
    SayNotPaid,
    SayPaid,
    SayReceived,
    Send,
    ShowEvidence,
    State,
    WithdrawAsk,
)
from escrow.payloads import Ask, Chat, Ok, Payload, Refuse, Statement, Withdraw
from escrow.payloads import NotPaid as NotPaidWords
from escrow.payloads import Paid as PaidWords
from escrow.payout import Split, build_payout, payout_rates, refund, release
from p2pnode.base.errors import InvalidRecord, LocalFault

DOUBT: Final = (
    "the other side speaks of a message of yours that this node does not have: if it was restored "
    "from an old copy, do not pay and agree to nothing; the arbiter decides (`dispute open`)"
)
MAX_CHATS: Final = 30  # of one sender to one recipient in a trade
MAX_ASKS: Final = 10
MAX_TOLD: Final = 30  # disputes and statements of one trader that a case hears
PAPERS_LEFT: Final = 12  # of them for the papers that the node shows by itself

# No end is bound or published. In Broadcast the funding's own ways out come first.
_OPEN: Final = (Funded, Paid, Disputed, ArbiterLost)
_TALKING: Final = (*_OPEN, Broadcast, Funding, Releasing, Agreed, Ruled)
_Payable = TypeVar("_Payable", bound=Payable)


def hear(state: State, event: Event, facts: Facts) -> Step:
    """Return the state after our user's word, and what to send. Raises LocalFault."""
    match state, event:
        case _, SayPaid(note):
            return _pay(state, note, facts)
        case _, SayNotPaid(note):
            return _decline_to_pay(state, note, facts)
        case _, SayReceived():
            return _release(state, facts)
        case _, AskSplit(buyer_sat, note):
            return _ask(state, buyer_sat, note, facts)
        case _, WithdrawAsk():
            return _withdraw(state, facts)
        case _, AnswerAsk():
            return _answer(state, event, facts)
        case _, SayChat(to, text) if isinstance(state, _TALKING):
            return state, (chat(facts, to, text),)
        case _, OpenDispute():
            return _call(state, event, facts)
        case _, MakeStatement(payload, to) if isinstance(state, _TALKING):
            return state, (Send(_listening(facts, to), check_told(facts, to, payload)),)
        case _, ShowEvidence(payloads) if isinstance(state, _TALKING):
            to = _listening(facts, hearing_arbiter(facts))
            return state, tuple(Send(to, p) for p in payloads)
        case Ruled(raw=b"", accepted=0), AcceptVerdict(buyer_sat):
            split = Split(state.buyer_sat, state.seller_sat, state.arbiter_sat)
            check_accepted(split, buyer_sat, facts)
            return replace(state, accepted=1), ()
        case Ruled(), AcceptVerdict():
            raise LocalFault("this verdict is accepted: your node completes it")
        case _, AcceptVerdict():
            raise LocalFault("there is no verdict to accept in this trade")
        case _, Cancel():
            raise LocalFault("this trade's funding is signed: it can no longer be cancelled")
        case _, (SayChat() | MakeStatement() | ShowEvidence()):
            raise _not_now(state)
        case _:
            return state, ()


def paid_out(state: _Payable, raw: bytes, raised: bytes, facts: Facts) -> _Payable:
    """Return the state with its payout completed at both rates."""
    return replace(state, raw=raw, raised=raised, at=facts.view.tip if facts.view else 0)


def _not_now(state: State) -> LocalFault:
    now = type(state).__name__
    return LocalFault(f"a trade that is {now} does not allow this: `trade show` says what is next")


def _only(who: bytes, facts: Facts, what: str) -> None:
    if facts.me != who:
        raise LocalFault(f"in this trade {what}, and that is the other side")


def _deep(facts: Facts) -> ChainView:
    view = facts.view
    if view is None or view.funding_depth < facts.contract.depth:
        raise LocalFault("the escrow is not deep enough in the chain now: wait for more blocks")
    return view


# ------------------------------------------------------------------ paying


def _pay(state: State, note: str, facts: Facts) -> Step:
    _only(facts.buyer, facts, "the buyer pays")
    match state:
        case Disputed() | ArbiterLost() | Ruled():
            raise LocalFault(
                "a dispute is open or ruled: do not pay; if you have paid, tell the arbiter: "
                "`dispute answer`"
            )
        case Agreed():
            raise LocalFault("another split is agreed: do not pay")
        case Paid() | Releasing() | Closed():
            raise LocalFault("you have said so already")
        case Funded():
            pass
        case _:
            raise LocalFault("do not pay: the escrow is not deep enough in the chain")
    view = _deep(facts)
    if facts.doubted:
        raise LocalFault(DOUBT)
    if facts.one(facts.me, Kind.NOT_PAID):
        raise LocalFault("you have declared that you will not pay")
    if facts.agreed:
        raise LocalFault("another split is agreed: do not pay")
    if facts.asked(facts.me):  # R3
        raise LocalFault(
            "your own proposal of another split binds you still: do not pay; withdraw it "
            "(`trade ask TRADE --withdraw`) and wait until the seller's node has seen that"
        )
    if facts.one(facts.me, Kind.ACK) is None:
        raise LocalFault(
            "do not pay: the seller's payment details are not here, or came too late; "
            "open a dispute if they do not come"
        )
    if view.mtp >= facts.contract.period_end(view.funding_mtp):
        raise LocalFault("the time to pay is over: do not pay; open a dispute")
    return Paid(), (Send(facts.peer, PaidWords(note=note)),)


def _decline_to_pay(state: State, note: str, facts: Facts) -> Step:
    _only(facts.buyer, facts, "the buyer declares that he will not pay")
    if facts.one(facts.me, Kind.PAID):
        raise LocalFault("you have said that you paid")
    if facts.one(facts.me, Kind.NOT_PAID):
        raise LocalFault("you have said so already")
    if not isinstance(state, (Broadcast, Funded, Disputed, ArbiterLost)):
        raise _not_now(state)
    return state, (Send(facts.peer, NotPaidWords(note=note)),)


def _release(state: State, facts: Facts) -> Step:
    _only(facts.seller, facts, "the seller says that the money is in")
    match state:
        case Funded() | Paid() | Disputed() | ArbiterLost():
            _deep(facts)
            return Releasing(), ()
        case Releasing() | Closed():
            raise LocalFault("you have released this trade already")
        case Agreed():
            raise LocalFault("another split is agreed: it cannot be released any more")
        case _:
            raise _not_now(state)


# ------------------------------------------------------------------ another split


def _ask(state: State, buyer_sat: int, note: str, facts: Facts) -> Step:
    contract = facts.contract
    if not isinstance(state, _OPEN):
        raise _not_now(state)
    if facts.doubted:
        raise LocalFault(DOUBT)
    if bound_elsewhere(facts):
        raise LocalFault("you have signed another end of this trade already")
    if facts.asked(facts.me):
        raise LocalFault(
            "you have a proposal open already: withdraw it first (`trade ask TRADE --withdraw`)"
        )
    if len(facts.all(facts.me, Kind.ASK)) >= MAX_ASKS:
        raise LocalFault(f"a trade has {MAX_ASKS} proposals of one side and no more")
    split = Split(buyer_sat, contract.escrow_sat - buyer_sat, 0)
    if split == release(contract):
        raise LocalFault("that is the release: the seller gives it with `trade received`")
    try:
        for rate in payout_rates(contract):
            build_payout(contract, facts.outpoint, split, rate)
    except InvalidRecord as error:
        raise LocalFault(f"this split cannot be paid: {error}", field="buyer_sat") from None
    _paid_bars(buyer_sat, facts)
    return state, (
        Send(facts.peer, Ask(buyer_sat=buyer_sat, seller_sat=split.seller_sat, note=note)),
    )


def _paid_bars(buyer_sat: int, facts: Facts) -> None:
    """R3: a buyer who has said PAID binds himself to no refund."""
    said = facts.me == facts.buyer and facts.one(facts.me, Kind.PAID)
    if said and buyer_sat <= refund(facts.contract).buyer_sat:
        raise LocalFault("you have said that you paid: do not agree to a refund")


def _withdraw(state: State, facts: Facts) -> Step:
    ours = facts.asked(facts.me)
    if ours is None or not isinstance(state, _OPEN):
        raise LocalFault("you have no open proposal in this trade")
    if ours.withdraw:
        raise LocalFault("it is withdrawn; it binds you until the other side's node has seen that")
    return state, (Send(facts.peer, Withdraw(ask_id=ours.ask.id)),)


def bound_elsewhere(facts: Facts) -> bool:
    """R1: tell whether our key first-signs an end already: it is signed, or NOT_PAID is said."""
    return bool(facts.first_signed or facts.one(facts.me, Kind.NOT_PAID))


def open_ask(facts: Facts) -> Asked | None:
    """Return the peer's ASK that our user may answer, or None."""
    found = facts.asked(facts.peer)
    return found if found and found.standing is Standing.OPEN else None


def check_accepted(split: Split, shown_buyer_sat: int, facts: Facts) -> None:
    """Check that our user may take this verdict now. Raises LocalFault."""
    if shown_buyer_sat not in (-1, split.buyer_sat):
        raise LocalFault(f"the verdict is another by now: {split.buyer_sat} sat to the buyer")
    if not in_time(split, facts):
        raise LocalFault(
            "this verdict came before an arbiter may rule so: the buyer may still pay, or be "
            "heard; wait, or release what is his (`trade received`)"
        )


def _answer(state: State, event: AnswerAsk, facts: Facts) -> Step:
    agree, note, theirs = event.agree, event.note, open_ask(facts)
    if theirs is None or not isinstance(state, _OPEN):
        raise LocalFault("the other side has no open proposal in this trade")
    if event.ask_id not in (b"", theirs.ask.id):
        raise LocalFault("the other side's proposal is another by now: read it again")
    if not agree:
        said = (Refuse.from_wire(m.payload) for m in facts.all(facts.me, Kind.REFUSE))
        if any(r.refused_id == theirs.ask.id for r in said):
            raise LocalFault("you have declined this proposal already")
        refuse = Refuse(refused_id=theirs.ask.id, field="ask", value=note)
        return state, (Send(facts.peer, refuse),)
    if facts.doubted:
        raise LocalFault(DOUBT)
    if facts.asked(facts.me):
        raise LocalFault(
            "your own proposal is open: withdraw it first, and wait until the other side's node "
            "has seen that (`trade ask TRADE --withdraw`)"
        )
    if bound_elsewhere(facts) or facts.conceded:
        raise LocalFault("another end of this trade is signed already")
    _paid_bars(theirs.buyer_sat, facts)
    split = Split(theirs.buyer_sat, theirs.seller_sat, 0)
    try:
        for rate in payout_rates(facts.contract):
            build_payout(facts.contract, facts.outpoint, split, rate)
    except InvalidRecord as error:
        raise LocalFault(f"this split cannot be paid: {error}", field="buyer_sat") from None
    after = Agreed(buyer_sat=theirs.buyer_sat, seller_sat=theirs.seller_sat)
    return after, (Send(facts.peer, Ok(ask_id=theirs.ask.id)),)


# ------------------------------------------------------------------ talk and dispute


def chat(facts: Facts, to: bytes, text: str) -> Send:
    """Return words to the peer or to an arbiter who hears this trade. Raises LocalFault."""
    if to != facts.peer:
        _listening(facts, to)
    said = sum(m.recipient == to for m in facts.all(facts.me, Kind.CHAT))
    if said >= MAX_CHATS:
        raise LocalFault(f"a trade carries {MAX_CHATS} chat messages to one side and no more")
    return Send(to, Chat(text=text))


def told(facts: Facts, to: bytes) -> int:
    """Return how many disputes and statements we have sent to an arbiter, who hears MAX_TOLD."""
    kinds = {Kind.DISPUTE, Kind.STATEMENT}
    return sum(
        m.recipient == to and m.kind in kinds and m.sender == facts.me for m in facts.messages
    )


def check_told(facts: Facts, to: bytes, payload: Payload) -> Payload:
    """Return a STATEMENT while the arbiter hears another; words leave room for papers."""
    words = isinstance(payload, Statement) and payload.statement
    room = MAX_TOLD - (PAPERS_LEFT if words else 0)
    if told(facts, to) >= room:
        raise LocalFault(
            f"an arbiter hears {room} statements of one side and no more: write to him by "
            "`trade chat --with arbiter`"
        )
    return payload


def _listening(facts: Facts, to: bytes) -> bytes:
    if to not in facts.arbiters or not facts.noticed(to):
        raise LocalFault("the arbiter has not acknowledged a dispute yet")
    return to


def hearing_arbiter(facts: Facts) -> bytes:
    """Return the arbiter who hears this trade now: the runner-up once he has acknowledged it."""
    return next((a for a in reversed(facts.arbiters) if facts.noticed(a)), facts.arbiters[0])


def _call(state: State, event: OpenDispute, facts: Facts) -> Step:
    """Call an arbiter; the runner-up hears it only from the timelock's end on (R6)."""
    to = event.to
    if to not in facts.arbiters:
        raise LocalFault("this trade has no such arbiter")
    ours = any(m.recipient == to for m in facts.all(facts.me, Kind.DISPUTE))
    if ours or (facts.noticed(to) and to == facts.contract.arbiter):
        raise LocalFault("a dispute is open already: add your words with `dispute answer`")
    if to != facts.contract.arbiter:
        view = facts.view
        unlocked = view and view.funding_height and view.tip >= runner_up_from(facts, view)
        if not unlocked or not isinstance(state, _TALKING):
            raise LocalFault("the runner-up hears a dispute only after the timelock")
        return state, (Send(to, event.payload),)
    send = (Send(to, event.payload),)
    match state:
        case Funded() | Paid():
            return Disputed(facts.view.mtp if facts.view else 0), send
        case Disputed() if not facts.called(to):
            return state, send  # a NOTICE of the runner-up's came first
        case Agreed(raw=b""):
            return state, send  # he who must sign, or complete, does not: R4 forwards it
        case Releasing(raw=b"") if facts.one(facts.me, Kind.RECEIVED):
            return state, send  # RECEIVED is signed and nobody completes it
        case _:
            raise _not_now(state)


def runner_up_from(facts: Facts, view: ChainView) -> int:
    """Return the height from which the runner-up may act: the funding's plus the timelock."""
    return (view.funding_height or 1 << 40) + facts.contract.n
