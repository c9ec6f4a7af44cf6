"""From a broadcast funding to exactly one payout: the second half of a trader's machine.

    Broadcast ◀─reorg─┐
        └──deep──▶ Funded ──PAID──▶ Paid ──SayReceived / RECEIVED──▶ Releasing ──6 deep──▶ Closed
                     └──DISPUTE, NOTICE──┴──▶ Disputed ──VERDICT──▶ Ruled ──6 deep──▶ Closed
                                                 └──SayReceived, RECEIVED, FORWARD──▶ Releasing

Pure. The chain beats messages: `on_chain` is level-triggered, so a crash or a reorg needs no
event of its own. The rules R1, R2, R4 and R7 of docs/trade.md, section 5, are enforced here
and below the code that signs; R4's half for the buyer is `_pay`.
"""

from dataclasses import replace
from typing import Final

from escrow.contract import ACCOUNT_S, ACK_S, Contract
from escrow.facts import Facts
from escrow.messages import Kind
from escrow.model import (
    Aborted,
    AcceptVerdict,
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
    Received,
    ReleaseSigned,
    Releasing,
    Ruled,
    SayNotPaid,
    SayPaid,
    SayReceived,
    Send,
    State,
    VerdictCompleted,
    Void,
)
from escrow.payloads import Account, Ack, Verdict
from escrow.payloads import NotPaid as NotPaidWords
from escrow.payloads import Paid as PaidWords
from escrow.payout import Split, build_payout, payout_rates, release
from p2pnode.base.errors import LocalFault, PeerFault
from p2pnode.base.transaction import parse_transaction

FINAL_DEPTH: Final = 6
FUND_MARGIN: Final = 6  # blocks before fund_by at which the buyer still sends an ACK

USER_EVENTS: Final = (AcceptVerdict, SayPaid, SayNotPaid, SayReceived, OpenDispute, MakeStatement)

_FUNDED: Final = (Broadcast, Funded, Paid, Disputed, Releasing, Ruled, Closed)
_LATE: Final = frozenset({Kind.WITNESS, Kind.ACCOUNT, Kind.ACK, Kind.NOT_PAID})

Step = tuple[State, tuple[Send, ...]]


class NotYet(PeerFault):
    """Our chain view or the message before it lags: the peer sends it again later."""


def step(state: State, event: Event, facts: Facts) -> Step:
    """Return the state after `event` and what to send; a raise leaves the state as it is.

    Raises:
        NotYet: right, but our chain has not caught up.
        PeerFault: the message has no place here.
        LocalFault: our user asked for what this state refuses.

    """
    match state, event:
        case _, ChainView():
            return on_chain(state, event, facts)
        case _, Received():
            return _received(state, event, facts)
        case _, SayPaid(note):
            return _pay(state, note, facts)
        case _, SayNotPaid(note):
            return _decline(state, note, facts)
        case ((Funded() | Paid() | Disputed()), SayReceived()):
            _only(facts.seller, facts, "the seller says that the money is in")
            _deep(facts)
            return Releasing(), ()
        case ((Releasing() | Closed()), SayReceived()):
            raise LocalFault("you have released this trade already")
        case Releasing(b""), ReleaseSigned(payload) if facts.me == facts.seller:
            said = facts.one(facts.me, Kind.RECEIVED)
            return state, () if said else (Send(facts.peer, payload),)
        case ((Funded() | Paid()), OpenDispute(payload)):
            return Disputed(), (Send(facts.contract.arbiter, payload),)
        case Releasing(b""), OpenDispute(payload) if _deserted(facts):
            return state, (Send(facts.contract.arbiter, payload),)
        case ((Disputed() | Releasing()), OpenDispute()) if _called(state, facts):
            raise LocalFault("a dispute is open already: add your words with `dispute answer`")
        case ((Disputed() | Releasing()), MakeStatement(payload)):
            if not facts.one(facts.contract.arbiter, Kind.NOTICE):
                raise LocalFault("the arbiter has not acknowledged a dispute yet")
            return state, (Send(facts.contract.arbiter, payload),)
        case Ruled(raw=b"", accepted=0), AcceptVerdict():
            return replace(state, accepted=1), ()
        case Ruled(raw=b""), VerdictCompleted(raw):
            return replace(state, raw=raw), ()
        case Ruled(), AcceptVerdict():
            raise LocalFault("this verdict is accepted: your node completes it")
        case _, AcceptVerdict():
            raise LocalFault("there is no verdict to accept in this trade")
        case _, (SayReceived() | OpenDispute() | MakeStatement() | Cancel()):
            raise LocalFault(f"a trade that is {type(state).__name__} does not allow this")
        case _:
            return state, ()


# ------------------------------------------------------------------ the chain


def on_chain(state: State, view: ChainView, facts: Facts) -> Step:
    """Follow the chain: depth, reorgs, the spend that ends the trade."""
    if isinstance(state, (Aborted, Closed, Void)) or facts.settled_contract is None:
        return state, ()
    contract = facts.contract
    if view.spend and view.depth_of(view.spend) >= FINAL_DEPTH:
        return Closed(view.spend.txid, outcome(view.spend.raw, state, contract)), ()
    conflict = None if view.funding_height else view.conflict
    if conflict and view.depth_of(conflict) >= FINAL_DEPTH:
        return Void(conflict.txid), ()
    deep = view.funding_depth >= contract.depth
    match state:
        case Funding(signed_at=signed) if signed and view.funding_height is not None:
            return on_chain(Broadcast(view.funding_raw), view, facts)
        case Broadcast() if deep:
            account = Account(disclosure=facts.own.disclosure)
            first = not facts.one(facts.me, Kind.ACCOUNT)
            state, sends = on_chain(Funded(), view, facts)
            return state, ((Send(facts.peer, account),) if first else ()) + sends
        case Funded() if not deep:
            return Broadcast(facts.final_funding or view.funding_raw), ()
        case Funded() if _may_ack(view, facts):
            account_message = facts.one(facts.peer, Kind.ACCOUNT)
            assert account_message is not None  # noqa: S101 - _may_ack asked
            return state, (Send(facts.peer, Ack(account_id=account_message.id)),)
        case _:
            return state, ()


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


def outcome(raw: bytes, state: State, contract: Contract) -> str:
    """Name the split that a confirmed spend paid: released, ruled or other."""
    spend = parse_transaction("spend", raw)
    if len(spend.inputs) != 1:
        return "other"
    point = spend.inputs[0].outpoint
    splits = {"released": release(contract)}
    if isinstance(state, Ruled):
        splits["ruled"] = Split(state.buyer_sat, state.seller_sat, state.arbiter_sat)
    for name, split in splits.items():
        for rate in payout_rates(contract):
            if build_payout(contract, point, split, rate).tx.txid == spend.txid:
                return name
    return "other"


# ------------------------------------------------------------------ messages


def _received(state: State, event: Received, facts: Facts) -> Step:
    kind = event.message.kind
    match state, kind:
        case Funded(), Kind.PAID:
            return Paid(), ()
        case ((Disputed() | Releasing() | Ruled() | Closed()), Kind.PAID):
            return state, ()  # it crossed what ended the wait for it
        case Paid(), Kind.NOT_PAID:
            raise PeerFault("NOT_PAID after PAID")
        case _ if isinstance(state, _FUNDED) and kind in _LATE:
            return state, ()  # the chain may be faster than the peer's messages
        case ((Funded() | Paid() | Disputed()), Kind.RECEIVED | Kind.FORWARD) if event.final:
            return Releasing(event.final), ()  # the buyer's alone to complete
        case Ruled(raw=b""), Kind.RECEIVED | Kind.FORWARD if event.final:
            return Releasing(event.final), ()  # the verdict is not ours to complete, this is
        case ((Releasing() | Closed() | Ruled()), Kind.RECEIVED | Kind.FORWARD):
            return state, ()
        case ((Funded() | Paid() | Disputed()), Kind.NOTICE):
            return Disputed(), ()
        case ((Releasing() | Ruled() | Closed()), Kind.NOTICE):
            return state, ()
        case ((Disputed() | Releasing()), Kind.VERDICT):
            return _ruled(state, event, facts)
        case ((Ruled() | Closed()), Kind.VERDICT):
            return state, ()
        case ((Aborted() | Void()), Kind.ABORT):
            return state, ()
        case Broadcast(), _ if kind >= Kind.ACCOUNT:
            raise NotYet(f"{kind.name} before our chain shows the escrow deep enough")
        case _:
            raise PeerFault(f"{kind.name} has no place in {type(state).__name__}")


def _ruled(state: State, event: Received, facts: Facts) -> Step:
    verdict = event.payload
    assert isinstance(verdict, Verdict)  # noqa: S101 - the kind said so
    if isinstance(state, Releasing):
        if state.raw:
            return state, ()  # we are broadcasting the release, which gives us no less
        # R2: he has said that he has the money, though RECEIVED is not signed yet
        if verdict.seller_sat > facts.contract.dep_s and not facts.one(facts.me, Kind.RECEIVED):
            return state, ()
    return Ruled(verdict.buyer_sat, verdict.seller_sat, verdict.arbiter_sat), ()


def may_complete(split: Split, facts: Facts) -> bool:
    """R2: complete a verdict by oneself only if it gives no more than one's own facts.

    And nothing before R4's time: an arbiter who rules against the buyer earlier than he may
    finds no node to help him.
    """
    contract, view = facts.contract, facts.view
    if facts.me == facts.seller and facts.one(facts.me, Kind.RECEIVED):
        return split.seller_sat <= contract.dep_s
    if split.buyer_sat < release(contract).buyer_sat and not facts.one(facts.buyer, Kind.NOT_PAID):
        if view is None or not view.funding_height:
            return False
        if view.mtp < contract.period_end(view.funding_mtp) + contract.reply_s:
            return False
    if facts.me == facts.seller:
        return True
    if facts.one(facts.me, Kind.PAID) is None:
        return split.buyer_sat <= contract.dep_b
    return split.buyer_sat <= release(contract).buyer_sat


# ------------------------------------------------------------------ our user


def _pay(state: State, note: str, facts: Facts) -> Step:
    _only(facts.buyer, facts, "the buyer pays")
    if isinstance(state, (Disputed, Ruled)):
        how = "open" if isinstance(state, Disputed) else "ruled"
        raise LocalFault(
            f"a dispute is {how}: do not pay; if you have paid, tell the arbiter: `dispute answer`"
        )
    if isinstance(state, (Paid, Releasing, Closed)):
        raise LocalFault("you have said so already")
    if not isinstance(state, Funded):
        raise LocalFault("do not pay: the escrow is not deep enough in the chain")
    view = _deep(facts)
    if facts.one(facts.me, Kind.NOT_PAID):
        raise LocalFault("you have declared that you will not pay")
    if facts.one(facts.me, Kind.ACK) is None:
        raise LocalFault(
            "do not pay: the seller's payment details are not here, or came too late; "
            "open a dispute if they do not come"
        )
    if view.mtp >= facts.contract.period_end(view.funding_mtp):
        raise LocalFault("the time to pay is over: do not pay; open a dispute")
    return Paid(), (Send(facts.peer, PaidWords(note=note)),)


def _decline(state: State, note: str, facts: Facts) -> Step:
    _only(facts.buyer, facts, "the buyer declares that he will not pay")
    if facts.one(facts.me, Kind.PAID):
        raise LocalFault("you have said that you paid")
    if facts.one(facts.me, Kind.NOT_PAID):
        raise LocalFault("you have said so already")
    if not isinstance(state, (Broadcast, Funded, Disputed)):
        raise LocalFault(f"a trade that is {type(state).__name__} does not allow this")
    return state, (Send(facts.peer, NotPaidWords(note=note)),)


def _called(state: State, facts: Facts) -> bool:
    """Tell whether the arbiter has been called, by us or by the peer."""
    arbiter = facts.contract.arbiter
    return (
        isinstance(state, Disputed)
        or facts.one(facts.me, Kind.DISPUTE) is not None
        or facts.one(arbiter, Kind.NOTICE) is not None
    )


def _deserted(facts: Facts) -> bool:
    """Seller: RECEIVED is signed and nobody completes it; the arbiter forwards it (R4)."""
    return facts.one(facts.me, Kind.RECEIVED) is not None and not _called(Releasing(), facts)


def _only(who: bytes, facts: Facts, what: str) -> None:
    if facts.me != who:
        raise LocalFault(f"in this trade {what}, and that is the other side")


def _deep(facts: Facts) -> ChainView:
    view = facts.view
    if view is None or view.funding_depth < facts.contract.depth:
        raise LocalFault("the escrow is not deep enough in the chain now: wait for more blocks")
    return view


def account_due(funding_mtp: int) -> int:
    """Return by when, in median time past, the seller's payment details are due."""
    return funding_mtp + ACCOUNT_S
