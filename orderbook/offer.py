"""Signed offers: the only record a maker publishes (docs/wire/offers.md).

    offer = [body, signature: bin 64]
    body  = [1, network, offer_id: bin 16, maker: bin 32, seq, side, currency, min_sat,
             max_sat, price, methods, dep_b_bp, dep_s_bp, escrow_kinds, terms, expires_at]

Ed25519 over offer_hash = SHA-256(tag "offer" || body). Storage is hostile: what a node
returns goes through `Offer.from_wire` or is not used.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from functools import cached_property
from itertools import pairwise
from typing import Any, Final, Self

from orderbook.currencies import check_currency
from orderbook.methods import check_method
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.identity import Identity, check_node_id, verify
from p2pnode.base.networks import Network
from p2pnode.base.units import MAX_FIAT_MINOR, MAX_PRICE, MAX_SAT, fiat_for

VERSION: Final = 1
MAX_BYTES: Final = 2048
MAX_LIFE_S: Final = 1800  # an offer that expires later than this from now is refused
LIFE_S: Final = 1500  # what a maker asks for, so that his clock may be 5 min ahead
REFRESH_S: Final = 600
MAX_OFFER_SAT: Final = MAX_SAT // 4  # what a contract can hold
MAX_TERMS: Final = 500  # bytes
MIN_DEPOSIT_BP: Final = 1000
MAX_DEPOSIT_BP: Final = 5000
DEFAULT_DEPOSIT_BP: Final = 1500
MAX_SEQ: Final = 2**32 - 1
MAX_LIST: Final = 16
ESCROW_KINDS: Final = ("wsh-2of3", "wsh-2of3-backup")


class Side(IntEnum):
    """What the maker does with bitcoin."""

    BUY = 0
    SELL = 1


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A maker's promise to trade. An instance that exists is well-formed.

    Amounts in satoshi; `price` in minor units per BTC x 10^4; deposits in basis points of
    the amount; `expires_at` in unix seconds. Of two offers with the same (maker, offer_id)
    the higher `seq` wins; min_sat and max_sat 0 withdraw it. Construction raises
    InvalidRecord naming the offending field.
    """

    network: Network
    offer_id: bytes
    maker: bytes
    seq: int = 0
    side: Side
    currency: str
    min_sat: int
    max_sat: int
    price: int
    methods: tuple[str, ...]
    dep_b_bp: int = DEFAULT_DEPOSIT_BP
    dep_s_bp: int = DEFAULT_DEPOSIT_BP
    escrow_kinds: tuple[str, ...] = ESCROW_KINDS
    terms: str = ""
    expires_at: int

    def __post_init__(self) -> None:
        wire.exact("offer_id", self.offer_id, 16)
        wire.within("seq", self.seq, 0, MAX_SEQ)
        wire.within("side", int(self.side), 0, 1)
        check_currency("currency", self.currency)
        wire.within("price", self.price, 1, MAX_PRICE)
        self._check_amounts()
        _known("methods", self.methods, lambda name: check_method("methods", name))
        if type(self.dep_b_bp) is not int or self.dep_b_bp:  # 0: the buyer brings no coin
            wire.within("dep_b_bp", self.dep_b_bp, MIN_DEPOSIT_BP, MAX_DEPOSIT_BP)
        wire.within("dep_s_bp", self.dep_s_bp, MIN_DEPOSIT_BP, MAX_DEPOSIT_BP)
        _known("escrow_kinds", self.escrow_kinds, _check_escrow_kind)
        wire.text("terms", self.terms, MAX_TERMS)
        wire.within("expires_at", self.expires_at, 0, 2**40)
        check_node_id("maker", self.maker, self.network)

    def _check_amounts(self) -> None:
        low = wire.within("min_sat", self.min_sat, 0, MAX_OFFER_SAT)
        high = wire.within("max_sat", self.max_sat, 0, MAX_OFFER_SAT)
        if low == high == 0:
            return
        wire.within("min_sat", low, self.network.min_amount_sat, MAX_OFFER_SAT)
        wire.within("max_sat", high, low, MAX_OFFER_SAT)
        if fiat_for(low, self.price) < 1:
            raise InvalidRecord("price", "makes min_sat worth less than one minor unit")
        if fiat_for(high, self.price) > MAX_FIAT_MINOR:
            raise InvalidRecord("price", f"makes max_sat worth over {MAX_FIAT_MINOR} minor units")

    @property
    def market(self) -> str:
        """Where the offer is filed: its currency."""
        return self.currency

    @property
    def withdrawn(self) -> bool:
        """Tell whether this version takes the offer back."""
        return self.max_sat == 0

    def withdrawal(self) -> "Offer":
        """Return this version's terms as a withdrawal."""
        return replace(self, min_sat=0, max_sat=0)

    def deposits(self, amount_sat: int) -> tuple[int, int]:
        """Return (buyer's, seller's) deposits for an amount, rounded up, at most its half."""
        half = amount_sat // 2
        dep_b, dep_s = (-(-amount_sat * bp // 10_000) for bp in (self.dep_b_bp, self.dep_s_bp))
        return min(dep_b, half), min(dep_s, half)

    def body(self) -> tuple[Any, ...]:
        """Return the array that is signed."""
        rest = (getattr(self, f.name) for f in fields(self) if f.name != "network")
        plain = (int(v) if isinstance(v, Side) else v for v in rest)
        return (VERSION, self.network.name, *plain)

    @cached_property
    def hash(self) -> bytes:
        """offer_hash: SHA-256(tag "offer" || body); changes with every refresh."""
        return wire.digest(wire.tag(self.network.name, "offer"), self.body())

    def to_wire(self, identity: Identity) -> bytes:
        """Sign with the maker's own identity. Raises ValueError if it is another's."""
        if identity.node_id != self.maker:
            raise ValueError("the signing identity is not the maker")
        return wire.pack((self.body(), identity.sign(self.hash)))

    @classmethod
    def from_body(cls, body: object, network: Network) -> Self:
        """Read and bound a body of this network. Raises InvalidRecord."""
        if type(body) is not tuple or not body:
            raise InvalidRecord("body", "is not an array")
        if type(body[0]) is not int or body[0] != VERSION:
            raise InvalidRecord("version", f"is not {VERSION}")
        names = [f.name for f in fields(cls) if f.name != "network"]
        _, name, *rest = wire.fields("body", body, len(names) + 2)
        if name != network.name:
            raise InvalidRecord("network", f"is not {network.name}")
        values = dict(zip(names, rest, strict=True))
        values["side"] = Side(wire.within("side", values["side"], 0, 1))
        return cls(network=network, **values)

    @classmethod
    def from_wire(cls, raw: object, *, network: Network, now: int) -> Self:
        """Parse, bound, date-check and verify. Raises InvalidRecord and nothing else."""
        value = wire.unpack("offer", raw, limit=MAX_BYTES)
        body, signature = wire.fields("offer", value, 2)
        offer = cls.from_body(body, network)
        offer.check_date(now)
        verify("signature", offer.maker, offer.hash, signature)
        return offer

    def check_date(self, now: int) -> None:
        """Raise InvalidRecord if it has expired, or would live too long."""
        if self.expires_at <= now:
            raise InvalidRecord("expires_at", f"is over by {now - self.expires_at} s")
        if self.expires_at > now + MAX_LIFE_S:
            raise InvalidRecord("expires_at", f"is more than {MAX_LIFE_S} s from now")


@dataclass(frozen=True, slots=True)
class OfferRecord:
    """What a record store must know of an offer: where it is filed and which one wins."""

    market: str
    owner: bytes
    id: bytes
    seq: int
    expires_at: int
    raw: bytes
    offer: Offer


def offer_record(raw: bytes, *, network: Network, now: int) -> OfferRecord:
    """Check an offer for storing or showing it. Raises InvalidRecord."""
    offer = Offer.from_wire(raw, network=network, now=now)
    return OfferRecord(
        offer.market, offer.maker, offer.offer_id, offer.seq, offer.expires_at, raw, offer
    )


def _check_escrow_kind(name: object) -> None:
    if name not in ESCROW_KINDS:
        raise InvalidRecord("escrow_kinds", f"holds one that is none of {', '.join(ESCROW_KINDS)}")


def _known(field: str, value: object, check: Callable[[object], object]) -> None:
    """Check a strictly ascending list of 1..MAX_LIST known names."""
    names = wire.items(field, value, MAX_LIST)
    if not names:
        raise InvalidRecord(field, "is empty")
    for name in names:
        wire.text(field, name, 32, low=1)
        check(name)
    if any(a >= b for a, b in pairwise(names)):
        raise InvalidRecord(field, "is not strictly ascending")
