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
    """The funding is signed by both; `raw` goes out until it is `Contract.depth` deep."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class Funded(State):
    """The escrow is deep enough; payment details, ACK and the payment are under way."""


@dataclass(frozen=True, slots=True)
class Paid(State):
    """The buyer has said that he paid."""


@dataclass(frozen=True, slots=True)
class Releasing(State):
    """The seller has the money. `raw` is the completed payout where we hold it."""

    raw: bytes = b""


@dataclass(frozen=True, slots=True)
class Disputed(State):
    """The arbiter has been called; nobody pays any more."""


@dataclass(frozen=True, slots=True)
class Ruled(State):
    """The arbiter has ruled. `raw` is the completed payout where we may complete it.

    A verdict that gives our user more than our own facts waits for his word: `accepted` (R2).
    """

    buyer_sat: int
    seller_sat: int
    arbiter_sat: int
    raw: bytes = b""
    accepted: int = 0


@dataclass(frozen=True, slots=True)
class Closed(State):
    """A spend of the escrow is 6 deep. `outcome`: released, ruled or other."""

    txid: bytes
    outcome: str


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
    final: bytes = b""  # a WITNESS or RECEIVED completed by us: the raw transaction


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
class VerdictSigned(Event):
    """The arbiter's first signature on his split, as VERDICT carries it."""

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
class OpenDispute(Event):
    """Our user calls the arbiter; `payload` is the DISPUTE."""

    payload: Payload


@dataclass(frozen=True, slots=True)
class MakeStatement(Event):
    """Our user's words to the arbiter; `payload` is the STATEMENT."""

    payload: Payload


@dataclass(frozen=True, slots=True)
class AcceptVerdict(Event):
    """Our user takes a verdict that his node does not complete by itself (R2)."""


@dataclass(frozen=True, slots=True)
class VerdictCompleted(Event):
    """The verdict's payout, with our signature too."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class Cancel(Event):
    """Our user stops a trade whose funding he has not signed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Decide(Event):
    """The arbiter's user rules: so much to the buyer, for this reason."""

    buyer_sat: int
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
    """Buyer: respend our inputs; answer RespendReady."""


@dataclass(frozen=True, slots=True)
class SignRelease(Duty):
    """Seller: commit the split row, then first-sign RELEASE; answer ReleaseSigned."""


@dataclass(frozen=True, slots=True)
class CompleteVerdict(Duty):
    """Complete a verdict within our facts, or accepted; answer VerdictCompleted."""


@dataclass(frozen=True, slots=True)
class SignVerdict(Duty):
    """Arbiter: the split row is committed; first-sign the verdict; answer VerdictSigned."""


@dataclass(frozen=True, slots=True)
class Publish(Duty):
    """Keep this transaction on the network until the chain has it."""

    raw: bytes
