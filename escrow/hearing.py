"""The arbiter's machine: one case from a dispute to a spent escrow.

    DISPUTE ──▶ Noticed ──both statements, reply_s──▶ Hearing ──Decide──▶ RuledCase ──▶ ClosedCase

Pure. The contract, the draw and the message chains were checked before the case exists
(escrow.transcript), so a human sees only true papers. R4: nothing below RELEASE for the buyer
before the period's end and reply_s, by the chain's clock, unless he signed NOT_PAID; a
release that the seller has signed is forwarded, and ruled by only if it stays unused for 144
blocks. R1, R5: one split, committed before its signature. docs/trade.md, section 5.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Self

from escrow.contract import Contract
from escrow.facts import funding_of
from escrow.funding import Funding
from escrow.messages import Kind, Message
from escrow.model import (
    ChainView,
    ClosedCase,
    Decide,
    Duty,
    Event,
    Hearing,
    Noticed,
    RuledCase,
    Send,
    SignVerdict,
    State,
    VerdictSigned,
)
from escrow.model import Received as ReceivedEvent
from escrow.payloads import Dispute, Forward, Notice, Statement
from escrow.payout import Split, release, verdict_split
from escrow.settlement import FINAL_DEPTH
from p2pnode.base.errors import InvalidRecord, LocalFault, PeerFault
from p2pnode.base.networks import Network
from p2pnode.base.transaction import Outpoint
from p2pnode.base.units import moment

UNUSED_BLOCKS: Final = 144  # a forwarded release that nobody completes may then be ruled by
MAX_HEARD: Final = 30  # messages of one trader that a case keeps

Step = tuple[State, tuple[Send, ...]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What the arbiter knows: the contract, the traders' papers, his own messages, the chain."""

    network: Network
    me: bytes
    contract: Contract
    messages: tuple[Message, ...]  # of our own chains with both traders
    papers: tuple[Message, ...]  # what the traders wrote to each other, as they showed it
    view: ChainView | None = None

    def having(self, *messages: Message) -> Self:
        """Return the case with messages of our own chains added."""
        return replace(self, messages=(*self.messages, *messages))

    def one(self, sender: bytes, kind: Kind) -> Message | None:
        """Return the first message of our own chains by that sender and kind."""
        return next((m for m in self.messages if m.sender == sender and m.kind is kind), None)

    def paper(self, sender: bytes, kind: Kind) -> Message | None:
        """Return the first paper of that trader and kind."""
        return next((m for m in self.papers if m.sender == sender and m.kind is kind), None)

    @property
    def opener(self) -> bytes:
        """Who called us."""
        return next(m.sender for m in self.messages if m.kind is Kind.DISPUTE)

    @cached_property
    def funding(self) -> Funding:
        """The funding, rebuilt from contract and inputs. Raises InvalidRecord."""
        funding = funding_of(self.contract, self.papers)
        if funding is None:
            raise InvalidRecord("messages", "lack the INPUTS of a trader")
        return funding

    @property
    def outpoint(self) -> Outpoint:
        """The escrow output. Raises InvalidRecord."""
        return self.funding.escrow_outpoint

    def words(self, trader: bytes) -> str:
        """Return a trader's statements, or nothing while he has made none."""
        said = []
        for m in self.messages:
            if m.sender == trader and m.kind is Kind.DISPUTE:
                said.append(Dispute.from_wire(m.payload).statement)
            if m.sender == trader and m.kind is Kind.STATEMENT:
                said.append(Statement.from_wire(m.payload).statement)
        return "\n".join(said)

    def said(self, trader: bytes) -> int:
        """Return how many messages a trader has sent us."""
        return sum(m.sender == trader for m in self.messages)

    @property
    def both_heard(self) -> bool:
        """Tell whether both traders have made a statement."""
        return bool(self.words(self.contract.buyer) and self.words(self.contract.seller))

    def earliest_below_release(self) -> int:
        """Return from when (median time past) a split may give the buyer less than RELEASE."""
        if self.view is None or not self.view.funding_height:
            return 1 << 62
        return self.contract.period_end(self.view.funding_mtp) + self.contract.reply_s


def open_case(case: Case, dispute: Message, mtp: int) -> Step:
    """Return the first state of a case, the NOTICE to both traders, and what R4 forwards."""
    words = Dispute.from_wire(dispute.payload).statement
    notice = Notice(dispute_id=dispute.id, opener=dispute.sender, statement=words)
    traders = (case.contract.buyer, case.contract.seller)
    return Noticed(mtp), (*(Send(t, notice) for t in traders), *_forward(case))


def step(state: State, event: Event, case: Case) -> Step:
    """Return the state after `event` and what to send; a raise leaves the state as it is.

    Raises:
        PeerFault: the message has no place here.
        LocalFault: the arbiter's user asked for what this state or a rule refuses.

    """
    match state, event:
        case ((Noticed() | Hearing() | RuledCase()), ChainView()):
            return _on_chain(state, event, case)
        case _, ReceivedEvent(message) if case.said(message.sender) > MAX_HEARD:
            raise PeerFault(f"a case hears {MAX_HEARD} messages of one trader and no more")
        case ((Noticed(mtp) | Hearing(mtp)), ReceivedEvent(message)) if message.kind in {
            Kind.STATEMENT,
            Kind.DISPUTE,
        }:
            after = Hearing(mtp) if case.both_heard else state
            return after, _forward(case)
        case ((RuledCase() | ClosedCase()), ReceivedEvent()):
            return state, ()  # kept, and too late to matter
        case _, ReceivedEvent(message):
            raise PeerFault(f"{message.kind.name} has no place in {type(state).__name__}")
        case Hearing(), Decide(buyer_sat, reason):
            split = verdict_split(case.contract, buyer_sat)
            _allowed(case, split)
            return RuledCase(split.buyer_sat, split.seller_sat, split.arbiter_sat, reason), ()
        case Noticed(), Decide():
            raise LocalFault("the other trader may still reply: his statement is not in")
        case _, Decide():
            raise LocalFault("this case is ruled already")
        case RuledCase(), VerdictSigned(payload) if not case.one(case.me, Kind.VERDICT):
            return state, tuple(
                Send(t, payload) for t in (case.contract.buyer, case.contract.seller)
            )
        case _:
            return state, ()


def duties(state: State, case: Case) -> tuple[Duty, ...]:
    """Return what the state asks for."""
    if isinstance(state, RuledCase) and not case.one(case.me, Kind.VERDICT):
        return (SignVerdict(),)
    return ()


def _on_chain(state: State, view: ChainView, case: Case) -> Step:
    if view.spend and view.depth_of(view.spend) >= FINAL_DEPTH:
        return ClosedCase(view.spend.txid), ()
    conflict = None if view.funding_height else view.conflict
    if conflict and view.depth_of(conflict) >= FINAL_DEPTH:
        return ClosedCase(conflict.txid), ()  # void: there is nothing to rule on
    if isinstance(state, Noticed) and view.mtp >= state.mtp + case.contract.reply_s:
        return Hearing(state.mtp), ()
    return state, ()


def _forward(case: Case) -> tuple[Send, ...]:
    """Hand the seller's signed release to the buyer, once."""
    released = case.paper(case.contract.seller, Kind.RECEIVED)
    if released is None or case.one(case.me, Kind.FORWARD):
        return ()
    return (Send(case.contract.buyer, Forward(message=released.wire())),)


def _allowed(case: Case, split: Split) -> None:
    """Refuse a ruling that a rule forbids. Raises LocalFault saying which and until when."""
    view, contract = case.view, case.contract
    if view is None or view.funding_depth < contract.depth:
        raise LocalFault("the escrow is not deep enough in the chain to be ruled on")
    if view.spend is not None:
        raise LocalFault("the escrow is spent already")
    if forwarded := case.one(case.me, Kind.FORWARD):
        due = release(contract).buyer_sat - contract.fee_a  # the fee comes off who failed to act
        if split.buyer_sat != due:
            raise LocalFault(f"the seller has signed a release: rule {due} sat to the buyer")
        if view.tip < forwarded.tip_height + UNUSED_BLOCKS:
            until = forwarded.tip_height + UNUSED_BLOCKS
            raise LocalFault(f"a signed release is with the buyer: wait until block {until}")
    below = split.buyer_sat < release(contract).buyer_sat
    declared = case.paper(contract.buyer, Kind.NOT_PAID)
    if below and not declared and not forwarded and view.mtp < case.earliest_below_release():
        raise LocalFault(
            "less than a release for the buyer is not allowed before "
            f"{moment(case.earliest_below_release())} by the chain's clock, now {moment(view.mtp)}"
        )
