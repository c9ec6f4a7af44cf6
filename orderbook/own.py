"""One's own offers as their maker knows them: what is published, and what stays here.

    create -> enabled <-- enable, disable --> disabled
                 |  ^--- release(trade) --- reserved <- reserve(trade)
              cancel, end -> withdrawn

Only an enabled offer is published with its terms; every other state leaves a withdrawal
behind. What decides is pure; docs/offers.md tells it to people.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from orderbook.currencies import exponent
from orderbook.offer import ESCROW_KINDS, LIFE_S, Offer
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.units import MAX_PRICE, price_text

MAX_ANSWER_BP: Final = 5000
OTHERWISE: Final = ("ask", "refuse")
MIN_END_S: Final = 60  # an offer that is to end must last so long at least
MAX_END_DAYS: Final = 366
TERMS: Final = frozenset(  # what an edit may change of what is published
    {
        "min_sat",
        "max_sat",
        "price",
        "margin_bp",
        "countries",
        "dep_b_bp",
        "dep_s_bp",
        "peer_trades",
        "peer_days",
        "escrow_kinds",
        "languages",
        "terms",
    }
)


class OfferState(StrEnum):
    """What its maker does with an own offer: shows it, keeps it back, trades on it, is done."""

    ENABLED = "enabled"
    DISABLED = "disabled"
    RESERVED = "reserved"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """How its maker answers who proposes another price; kept here and never published.

    Basis points to the maker's cost: sums within `accept_bp` of the price are agreed to,
    those within `counter_bp` answered with the sum at `accept_bp`; for the rest he is asked,
    or they are refused. Construction raises InvalidRecord.
    """

    accept_bp: int = 0
    counter_bp: int = 0
    otherwise: str = "ask"

    def __post_init__(self) -> None:
        for name in ("accept_bp", "counter_bp"):
            wire.within(name, getattr(self, name), 0, MAX_ANSWER_BP)
        if self.otherwise not in OTHERWISE:
            raise InvalidRecord("otherwise", f"is none of {', '.join(OTHERWISE)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Triggers:
    """References that disable an offer: below the one, above the other; 0 for none.

    Minor units per BTC x 10^4; kept here and never published. Raises InvalidRecord.
    """

    below: int = 0
    above: int = 0

    def __post_init__(self) -> None:
        wire.within("disable_below", self.below, 0, MAX_PRICE)
        wire.within("disable_above", self.above, 0, MAX_PRICE)
        if self.above and self.below >= self.above:
            raise InvalidRecord("disable_below", "is not below disable_above")

    def crossed(self, reference: int, currency: str) -> str:
        """Return why a reference disables the offer, in words; empty if it does not."""
        now, below, above = (
            f"{price_text(value, exponent(currency))} {currency}"
            for value in (reference, self.below, self.above)
        )
        if self.below and 0 < reference < self.below:
            return f"the reference price {now} is below {below}"
        if self.above and reference > self.above:
            return f"the reference price {now} is above {above}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnOffer:
    """An own offer. `offer` holds its terms at its current seq, amounts included.

    `accounts` names the account for each of its methods; `why` says why it is disabled or
    withdrawn; `trade_id` is the trade that reserved it; `acked` is how many holders took the
    current version. `ends_at` is when its node withdraws it, 0 for never. Times in unix
    seconds.
    """

    offer: Offer
    state: OfferState
    accounts: Mapping[str, bytes]
    why: str = ""
    trade_id: bytes | None = None
    created_at: int
    signed_at: int
    acked_seq: int = -1
    acked: int = 0
    answers: Answers = Answers()
    triggers: Triggers = field(default_factory=Triggers)
    ends_at: int = 0

    @property
    def offer_id(self) -> bytes:
        """Return the offer's id."""
        return self.offer.offer_id

    @property
    def enabled(self) -> bool:
        """Tell whether it is published with its terms."""
        return self.state is OfferState.ENABLED

    @property
    def current(self) -> Offer:
        """Return the version to publish: a withdrawal unless the offer is enabled."""
        return self.offer if self.enabled else self.offer.withdrawal()

    @property
    def unpublished(self) -> bool:
        """Tell whether no holder has taken the current version yet."""
        return self.acked_seq < self.offer.seq

    def until(self, now: int) -> int:
        """Return when a version signed now expires."""
        wanted = now + LIFE_S
        return min(wanted, self.ends_at) if self.ends_at and self.enabled else wanted

    def changed(
        self, terms: Mapping[str, Any], accounts: Mapping[str, bytes] | None = None
    ) -> "OwnOffer":
        """Return it with other terms, by the names of the offer's fields. Raises InvalidRecord."""
        wrong = terms.keys() - TERMS
        if wrong:
            raise InvalidRecord(min(wrong), "stays for an offer's life: clone it instead")
        values = dict(terms)
        if accounts is not None:
            values["methods"] = tuple(sorted(accounts))
        kept = self.accounts if accounts is None else dict(accounts)
        return replace(self, offer=replace(self.offer, **values), accounts=kept)


def end_of(ends_in_s: int, now: int) -> int:
    """Return when an offer ends, 0 for never. Raises InvalidRecord for too soon or too late."""
    if not ends_in_s:
        return 0
    if not MIN_END_S <= ends_in_s <= MAX_END_DAYS * 86_400:
        raise InvalidRecord("expires", f"is not {MIN_END_S} s to {MAX_END_DAYS} days from now")
    return now + ends_in_s


def default_kinds(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Return the escrow kinds an offer names: those its maker chose, or every one."""
    return tuple(sorted(set(kinds))) or ESCROW_KINDS
