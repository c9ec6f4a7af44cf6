"""The words of a negotiation: states, events, the maker's policy, what one side knows.

No behaviour but bounds: `escrow.bargain` is the machine. Fiat in minor units, amounts in
satoshi, times in unix seconds by one's own clock.
"""

from dataclasses import dataclass
from typing import Final

from escrow.messages import ZERO, Message
from escrow.model import State
from escrow.payloads import Payload, Take
from escrow.terms import Terms
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.units import MAX_FIAT_MINOR, fiat_for

MAX_ROUNDS: Final = 3  # PROPOSEs
LIFE_S: Final = 600  # from the first PROPOSE
SWING: Final = 2  # a sum lies between the offer's divided and multiplied by it
MAX_POLICY_BP: Final = 5000
ASK: Final = "ask"
REFUSE: Final = "refuse"


# ------------------------------------------------------------------ states


@dataclass(frozen=True, slots=True)
class Fresh(State):
    """Nothing has been said."""


@dataclass(frozen=True, slots=True)
class Proposed(State):
    """The taker has proposed; the maker answers."""

    round: int
    fiat_minor: int


@dataclass(frozen=True, slots=True)
class Countered(State):
    """The maker has named his sum; the taker takes it, proposes again or refuses."""

    round: int
    fiat_minor: int
    counter_id: bytes
    expires_at: int  # by the maker's clock


@dataclass(frozen=True, slots=True)
class Taken(State):
    """The COUNTER was used, by this trade."""

    fiat_minor: int
    trade_id: bytes


@dataclass(frozen=True, slots=True)
class Declined(State):
    """One side said no. `mine`: we did."""

    mine: int
    reason: str


@dataclass(frozen=True, slots=True)
class Lapsed(State):
    """The ten minutes are over."""


ENDED: Final = (Taken, Declined, Lapsed)
STATES: Final = (Fresh, Proposed, Countered, *ENDED)


# ------------------------------------------------------------------ events


@dataclass(frozen=True, slots=True)
class SayPropose:
    """Our user proposes this sum."""

    fiat_minor: int


@dataclass(frozen=True, slots=True)
class SayCounter:
    """Our user, the maker, wants this sum."""

    fiat_minor: int


@dataclass(frozen=True, slots=True)
class SayAgree:
    """Our user, the maker, agrees to what is proposed."""


@dataclass(frozen=True, slots=True)
class SayRefuse:
    """Our user says no."""

    reason: str


@dataclass(frozen=True, slots=True)
class Heard:
    """A message of the peer's: PROPOSE, COUNTER or REFUSE."""

    message: Message
    payload: Payload


@dataclass(frozen=True, slots=True)
class Took:
    """A TAKE names a COUNTER: ours as the taker, or the peer's that we are about to answer."""

    take: Take
    trade_id: bytes


@dataclass(frozen=True, slots=True)
class Undelivered:
    """The peer's node refused a message of ours."""

    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = SayPropose | SayCounter | SayAgree | SayRefuse | Heard | Took | Undelivered | Tick


# ------------------------------------------------------------------ what is known


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a maker's node answers by itself; basis points to the maker's cost.

    Sums within `accept_bp` of the offer's price, or better, are agreed to; those within
    `counter_bp` are answered with the sum at `accept_bp`; for others `otherwise` is ASK (the
    maker) or REFUSE. Kept by the maker and never published. Raises InvalidRecord.
    """

    accept_bp: int = 0
    counter_bp: int = 0
    otherwise: str = ASK

    def __post_init__(self) -> None:
        wire.within("accept_bp", self.accept_bp, 0, MAX_POLICY_BP)
        wire.within("counter_bp", self.counter_bp, 0, MAX_POLICY_BP)
        if self.otherwise not in {ASK, REFUSE}:
            raise InvalidRecord("otherwise", f"is neither {ASK} nor {REFUSE}")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One negotiation as one side knows it. `messages` are both sides', in order."""

    is_maker: bool
    terms: Terms
    amount_sat: int
    began: int
    messages: tuple[Message, ...]
    policy: Policy = Policy()
    is_open: bool = True  # the maker's offer can be taken now

    @property
    def until(self) -> int:
        """When it lapses, by our clock."""
        return self.began + LIFE_S

    @property
    def last_id(self) -> bytes:
        """The message that the next one answers."""
        return self.messages[-1].id if self.messages else ZERO

    def limit(self, basis_points: int) -> int:
        """Return the maker's worst sum within so many basis points of the offer's price."""
        fair = fiat_for(self.amount_sat, self.terms.price)
        if self.terms.maker_is_seller:
            return max(1, -(-fair * (10_000 - basis_points) // 10_000))
        return min(MAX_FIAT_MINOR, fair * (10_000 + basis_points) // 10_000)

    def pleases(self, fiat_minor: int, limit: int) -> bool:
        """Tell whether a sum is as good for the maker as `limit`."""
        return fiat_minor >= limit if self.terms.maker_is_seller else fiat_minor <= limit


def bounds(amount_sat: int, price: int) -> tuple[int, int]:
    """Return the least and the greatest sum that anyone may name for this amount."""
    fair = fiat_for(amount_sat, price)
    return max(1, -(-fair // SWING)), min(MAX_FIAT_MINOR, fair * SWING)


def check_amount(amount_sat: int, terms: Terms) -> None:
    """Bound an amount by the offer. Raises InvalidRecord."""
    wire.within("amount_sat", amount_sat, terms.min_sat, terms.max_sat)


def check_fiat(fiat_minor: int, facts: Facts) -> None:
    """Bound a sum by the offer's price for the amount. Raises InvalidRecord."""
    wire.within("fiat_minor", fiat_minor, *bounds(facts.amount_sat, facts.terms.price))
