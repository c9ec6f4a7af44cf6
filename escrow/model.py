"""The words that the trade's machines speak: states, events, effects, duties. No behaviour.

States hold what is true and not derivable from the journal's messages. Events arrive from
peers (already examined), from our user, from the chain or from the clock. The only effect is
a message to send, journalled with the state; everything else that must be done (choose coins,
sign, broadcast) is a duty that follows from the state, performed after each commit and again
on start until an event discharges it. Amounts in satoshi, times in unix seconds (`since`) or
median time past (`mtp`), heights in blocks (0: unconfirmed).
"""

from dataclasses import dataclass
from typing import ClassVar

from escrow.messages import Message
from escrow.payloads import Payload


@dataclass(frozen=True, slots=True)
class State:
    """Root of every state; saved by class name, `version` and fields."""

    version: ClassVar[int] = 1


# ------------------------------------------------------------------ a trader's states


@dataclass(frozen=True, slots=True)
class Taking(State):
    """Taker: TAKE is sent, DRAW awaited."""

    since: int


@dataclass(frozen=True, slots=True)
class Drawing(State):
    """Maker: DRAW is sent, REVEAL and records awaited. Taker: records awaited."""

    since: int


@dataclass(frozen=True, slots=True)
class Contracting(State):
    """The draw is known; the peer's CONTRACT is awaited."""

    since: int


@dataclass(frozen=True, slots=True)
class Funding(State):
    """Both signed the contract. `signed_at` is when our own funding signature left, or 0."""

    since: int
    signed_at: int = 0
    respend: bytes = b""  # the buyer's way out, raw, once he took it


@dataclass(frozen=True, slots=True)
class Broadcast(State):
    """The funding is signed by both; `raw` goes out until it is `Contract.depth` deep.

    `mtp` is when our chain was first asked; long unconfirmed, our coins go back by `respend`.
    """

    raw: bytes
    mtp: int = 0
    respend: bytes = b""


@dataclass(frozen=True, slots=True)
class Funded(State):
    """The escrow is deep enough; payment details, ACK and the payment are under way."""


@dataclass(frozen=True, slots=True)
class Paid(State):
    """The buyer has said that he paid."""


@dataclass(frozen=True, slots=True)
class Payable(State):
    """Root of states that may hold a completed payout, at both rates.

    `at` is the height of our tip when it was completed: the raised one follows three blocks on.
    """

    raw: bytes = b""
    raised: bytes = b""
    at: int = 0


@dataclass(frozen=True, slots=True)
class Releasing(Payable):
    """The seller has the money. The payout is there where we complete it."""


@dataclass(frozen=True, slots=True)
class Agreed(Payable):
    """Another split is bound: by ASK and OK, or by the buyer's own signature on REFUND."""

    buyer_sat: int = 0
    seller_sat: int = 0


@dataclass(frozen=True, slots=True)
class Disputed(State):
    """The arbiter has been called, at `mtp` by our chain; nobody pays any more."""

    mtp: int = 0


@dataclass(frozen=True, slots=True)
class ArbiterLost(State):
    """The arbiter has recused himself or is overdue: agree, or wait for the runner-up."""

    mtp: int = 0


@dataclass(frozen=True, slots=True)
class Ruled(Payable):
    """An arbiter has ruled; `backup` tells the runner-up's verdict.

    A verdict that gives our user more than our own facts waits for his word: `accepted` (R2).
    """

    buyer_sat: int = 0
    seller_sat: int = 0
    arbiter_sat: int = 0
    accepted: int = 0
    backup: int = 0


@dataclass(frozen=True, slots=True)
class Toxic(Payable):
    """This node has lost data of this trade, for good: it pays and first-signs no more.

    `base` is where its fresh chains of messages begin; `conceding` tells that its user gives up
    all that is at stake; `accepted`, that he takes the verdict that is there.
    """

    why: str = ""
    base: int = 0
    conceding: int = 0
    accepted: int = 0
    respend: bytes = b""  # our way out of a funding that we cannot complete


@dataclass(frozen=True, slots=True)
class Closed(State):
    """A spend of the escrow is 6 deep. `outcome`: released, refunded, agreed, ruled or other.

    `raw` is that spend: should a deeper reorg take it away, it goes out again.
    """

    txid: bytes
    outcome: str
    raw: bytes = b""


@dataclass(frozen=True, slots=True)
class Aborted(State):
    """Ended before any funding signature of ours left."""

    reason: str


@dataclass(frozen=True, slots=True)
class Void(State):
    """Another spend of a funding input is 6 deep; the funding can never confirm."""

    txid: bytes


# ------------------------------------------------------------------ the arbiter's states


@dataclass(frozen=True, slots=True)
class Noticed(State):
    """A dispute is acknowledged; the other side's statement is awaited."""

    mtp: int  # when, by our chain: replies are due reply_s later


@dataclass(frozen=True, slots=True)
class Hearing(State):
    """Both statements are in, or the time for replies is over: a human may rule."""

    mtp: int


@dataclass(frozen=True, slots=True)
class RuledCase(State):
    """Our row in the split table is committed; the verdict follows from it."""

    buyer_sat: int
    seller_sat: int
    arbiter_sat: int
    reason: str


@dataclass(frozen=True, slots=True)
class RecusedCase(State):
    """We will not judge this."""

    reason: str


@dataclass(frozen=True, slots=True)
class ToxicCase(State):
    """We have lost data: we repeat a verdict of ours that a trader shows, and sign nothing."""

    mtp: int


@dataclass(frozen=True, slots=True)
class ClosedCase(State):
    """A spend of the escrow is 6 deep, or one that voids its funding."""

    txid: bytes


# ------------------------------------------------------------------ events


@dataclass(frozen=True, slots=True)
class Event:
    """Root of every event."""


@dataclass(frozen=True, slots=True)
class Received(Event):
    """A peer's message: parsed, verified, next in its chain, and examined against our facts."""

    message: Message
    payload: Payload
    final: bytes = b""  # what we completed by it: the funding, or a payout at the lower rate
    raised: bytes = b""  # the same payout at the raised rate


@dataclass(frozen=True, slots=True)
class Tick(Event):
    """Wall-clock time has passed; `now` says how far."""


@dataclass(frozen=True, slots=True)
class Spend(Event):
    """A transaction that spends what we watch."""

    txid: bytes
    height: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class ChainView(Event):
    """Everything that our chain says of one trade, as of one tip. Level-triggered."""

    tip: int
    mtp: int
    funding_height: int | None = None  # None: not seen, 0: unconfirmed
    funding_mtp: int = 0  # median time past of funding's block
    funding_raw: bytes = b""
    spend: Spend | None = None  # of the escrow outpoint
    conflict: Spend | None = None  # of a funding input, by another transaction

    @property
    def funding_depth(self) -> int:
        """Confirmations of the funding."""
        return self.tip - self.funding_height + 1 if self.funding_height else 0

    def depth_of(self, spend: Spend | None) -> int:
        """Confirmations of a spend."""
        return self.tip - spend.height + 1 if spend and spend.height else 0


@dataclass(frozen=True, slots=True)
class ContractReady(Event):
    """Our CONTRACT, signed by our escrow key."""

    payload: Payload


@dataclass(frozen=True, slots=True)
class CoinsChosen(Event):
    """Our coins are locked; `payload` is the INPUTS to send."""

    payload: Payload


@dataclass(frozen=True, slots=True)
class CoinsMissing(Event):
    """Our wallet cannot fund it."""

    reason: str


@dataclass(frozen=True, slots=True)
class FundingSigned(Event):
    """Our witnesses; `final` is the whole transaction where the peer's were there already."""

    payload: Payload
    final: bytes = b""


@dataclass(frozen=True, slots=True)
class RespendReady(Event):
    """The buyer's respend, signed, to be broadcast."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class ReleaseSigned(Event):
    """Our first signature on RELEASE, as RECEIVED carries it."""

    payload: Payload


@dataclass(frozen=True, slots=True)
class SettleSigned(Event):
    """Our first signatures on an agreed split, or on REFUND, as SETTLE carries them."""

    payload: Payload


@dataclass(frozen=True, slots=True)
class VerdictSigned(Event):
    """The arbiter's first signatures on his split, as VERDICT carries them."""

    payload: Payload


@dataclass(frozen=True, slots=True)
class SayPaid(Event):
    """Our user, the buyer: I have paid."""

    note: str


@dataclass(frozen=True, slots=True)
class SayNotPaid(Event):
    """Our user, the buyer: I will not pay."""

    note: str


@dataclass(frozen=True, slots=True)
class SayReceived(Event):
    """Our user, the seller: I have the money."""


@dataclass(frozen=True, slots=True)
class AskSplit(Event):
    """Our user offers another end: so much to the buyer, the rest to the seller."""

    buyer_sat: int
    note: str


@dataclass(frozen=True, slots=True)
class WithdrawAsk(Event):
    """Our user takes his open ASK back."""


@dataclass(frozen=True, slots=True)
class AnswerAsk(Event):
    """Our user agrees to the peer's open ASK, for good, or declines it.

    `ask_id` is the one that he was shown; none: whichever is open.
    """

    agree: bool
    note: str = ""
    ask_id: bytes = b""


@dataclass(frozen=True, slots=True)
class SayChat(Event):
    """Our user's words to the peer, to the arbiter, or the arbiter's to a trader."""

    to: bytes
    text: str


@dataclass(frozen=True, slots=True)
class OpenDispute(Event):
    """The arbiter `to` is called, by our user or by the node; `payload` is the DISPUTE."""

    payload: Payload
    to: bytes


@dataclass(frozen=True, slots=True)
class MakeStatement(Event):
    """Words and papers for the arbiter `to`; `payload` is the STATEMENT."""

    payload: Payload
    to: bytes


@dataclass(frozen=True, slots=True)
class ShowEvidence(Event):
    """The parts of a file for the arbiter."""

    payloads: tuple[Payload, ...]


@dataclass(frozen=True, slots=True)
class LoseTrust(Event):
    """This node's journal is older than what it has said: it has lost data."""

    why: str


@dataclass(frozen=True, slots=True)
class AcceptVerdict(Event):
    """Our user takes a verdict that his node does not complete by itself (R2).

    `buyer_sat` is what it gave the buyer when he was shown it; -1: whatever is there.
    """

    buyer_sat: int = -1


@dataclass(frozen=True, slots=True)
class VerdictCompleted(Event):
    """The verdict's payout with our signature too, at both rates."""

    raw: bytes
    raised: bytes


@dataclass(frozen=True, slots=True)
class Cancel(Event):
    """Our user stops a trade whose funding he has not signed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Decide(Event):
    """The arbiter's user rules: so much to the buyer, for this reason."""

    buyer_sat: int
    reason: str


@dataclass(frozen=True, slots=True)
class Recuse(Event):
    """The arbiter's user will not judge this case."""

    reason: str


# ------------------------------------------------------------------ effects and duties


@dataclass(frozen=True, slots=True)
class Send:
    """A message to journal and deliver, at least once."""

    to: bytes
    payload: Payload


@dataclass(frozen=True, slots=True)
class Duty:
    """Root of what the shell must do now because the state says so."""


@dataclass(frozen=True, slots=True)
class SignContract(Duty):
    """Sign the contract with our escrow key; answer ContractReady."""


@dataclass(frozen=True, slots=True)
class ChooseCoins(Duty):
    """Select and lock coins; answer CoinsChosen or CoinsMissing."""


@dataclass(frozen=True, slots=True)
class SignFunding(Duty):
    """Sign our inputs of the funding; answer FundingSigned."""


@dataclass(frozen=True, slots=True)
class Respend(Duty):
    """Respend our inputs of a funding that does not come; answer RespendReady."""


@dataclass(frozen=True, slots=True)
class SignRelease(Duty):
    """Seller: the split row is committed; first-sign RELEASE; answer ReleaseSigned."""


@dataclass(frozen=True, slots=True)
class SignSettle(Duty):
    """The split row is committed; first-sign it; answer SettleSigned. `ok_id`: see SETTLE."""

    buyer_sat: int
    seller_sat: int
    ok_id: bytes


@dataclass(frozen=True, slots=True)
class CompleteVerdict(Duty):
    """Complete a verdict within our facts, or accepted; answer VerdictCompleted."""


@dataclass(frozen=True, slots=True)
class CallArbiter(Duty):
    """Nobody has settled by half of the timelock, or by its end: call this arbiter."""

    to: bytes
    why: str


@dataclass(frozen=True, slots=True)
class ShowPapers(Duty):
    """An arbiter lacks a message that counts: show him the papers."""

    to: bytes


@dataclass(frozen=True, slots=True)
class SignVerdict(Duty):
    """Arbiter: the split row is committed; first-sign the verdict; answer VerdictSigned."""


@dataclass(frozen=True, slots=True)
class Publish(Duty):
    """Keep this transaction on the network until the chain has it; `raised` if it is refused."""

    raw: bytes
    raised: bytes = b""


@dataclass(frozen=True, slots=True)
class Bump(Duty):
    """Pay for this unconfirmed transaction by a child that spends our output of it (CPFP)."""

    parent: bytes
