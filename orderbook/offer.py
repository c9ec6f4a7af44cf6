"""Signed offers: the only record a maker publishes (docs/wire/offers.md).

    offer = [body, signature: bin 64]
    body  = [1, network, offer_id: bin 16, maker: bin 32, slot, seq, side, currency, min_sat,
             max_sat, price, margin_bp, methods, countries, dep_b_bp, dep_s_bp, peer_trades,
             peer_days, escrow_kinds, languages, terms, said_trades, said_partners,
             said_since, expires_at, work]

Ed25519 over offer_hash = SHA-256(tag "offer" || body). Storage is hostile: what a node
returns goes through `Offer.from_wire` or is not used.
"""

import hashlib
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property
from operator import attrgetter
from typing import Any, Final, Self

import msgpack

from orderbook import work
from orderbook.offer_bounds import (
    DEFAULT_DEPOSIT_BP,
    ESCROW_KINDS,
    FIELDS,
    LIFE_S,
    MAX_BYTES,
    MAX_COUNTRIES,
    MAX_FREE_SAT,
    MAX_LANGUAGES,
    MAX_LIFE_S,
    MAX_LIST,
    MAX_OFFER_SAT,
    REFRESH_S,
    VERSION,
    check,
    made_by_its_maker,
    plain,
)
from p2pnode.base import wire
from p2pnode.base.errors import Elsewhere, InvalidRecord
from p2pnode.base.identity import Identity, verify
from p2pnode.base.networks import Network
from p2pnode.base.units import MAX_PRICE

__all__ = [
    "DEFAULT_DEPOSIT_BP",
    "ESCROW_KINDS",
    "LIFE_S",
    "MAX_BYTES",
    "MAX_COUNTRIES",
    "MAX_FREE_SAT",
    "MAX_LANGUAGES",
    "MAX_LIFE_S",
    "MAX_LIST",
    "MAX_OFFER_SAT",
    "REFRESH_S",
    "Offer",
    "OfferRecord",
    "Side",
    "offer_record",
]

_unpackb, _packb = msgpack.unpackb, msgpack.packb


class Side(IntEnum):
    """What the maker does with bitcoin."""

    BUY = 0
    SELL = 1


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A maker's promise to trade. An instance that exists is well-formed.

    Amounts in satoshi; deposits in basis points of the amount; times in unix seconds. The
    price is fixed (`price` in minor units per BTC x 10^4) or, where that is 0, `margin_bp`
    basis points above a reference price. `slot` numbers a maker's live offers; of two with
    one (maker, currency, slot) the higher `seq` wins; min_sat and max_sat 0 withdraw it.
    `peer_trades` and `peer_days` are the history that a counterparty must prove, `said_*`
    what the maker says of his own. Construction raises InvalidRecord naming the field.
    """

    network: Network
    offer_id: bytes
    maker: bytes
    slot: int = 0
    seq: int = 0
    side: Side
    currency: str
    min_sat: int
    max_sat: int
    price: int
    margin_bp: int = 0
    methods: tuple[str, ...]
    countries: tuple[str, ...] = ()
    dep_b_bp: int = DEFAULT_DEPOSIT_BP
    dep_s_bp: int = DEFAULT_DEPOSIT_BP
    peer_trades: int = 0
    peer_days: int = 0
    escrow_kinds: tuple[str, ...] = ESCROW_KINDS
    languages: tuple[str, ...] = ()
    terms: str = ""
    said_trades: int = 0
    said_partners: int = 0
    said_since: int = 0
    expires_at: int
    work: int = 0

    def __post_init__(self) -> None:
        check(self)

    @property
    def market(self) -> str:
        """Where the offer is filed: its currency."""
        return self.currency

    @property
    def floating(self) -> bool:
        """Tell whether the price is a margin on a reference price."""
        return not self.price

    @property
    def withdrawn(self) -> bool:
        """Tell whether this version takes the offer back."""
        return self.max_sat == 0

    @property
    def place(self) -> bytes:
        """Return what identifies it within its market: maker, then slot as one byte."""
        return self.maker + bytes([self.slot])

    def price_at(self, reference: int) -> int:
        """Return its price where the market's reference is `reference`; 0 for unpriced.

        Both in minor units per BTC x 10^4; a margin is rounded half up.
        """
        if self.price:
            return self.price
        return min(MAX_PRICE, (reference * (10_000 + self.margin_bp) + 5_000) // 10_000)

    @property
    def alike(self) -> bytes:
        """Return what all offers of the same terms share, whatever slot and day: 16 bytes."""
        return hashlib.sha256(msgpack.packb(_terms(self), use_bin_type=True)).digest()[:16]

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
        rest = (getattr(self, name) for name in FIELDS)
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
        _, name, *rest = wire.fields("body", body, len(FIELDS) + 2)
        if name != network.name:
            raise InvalidRecord("network", f"is not {network.name}")
        values = dict(zip(FIELDS, rest, strict=True))
        values["side"] = Side(wire.within("side", values["side"], 0, 1))
        return cls(network=network, **values)

    @classmethod
    def from_wire(cls, raw: object, *, network: Network, now: int) -> Self:
        """Parse, bound, date-check, weigh its work, verify. Raises InvalidRecord alone."""
        offer, signature = cls.unverified(raw, network=network, now=now)
        verify("signature", offer.maker, offer.hash, signature)
        return offer

    @classmethod
    def unverified(cls, raw: object, *, network: Network, now: int) -> tuple[Self, bytes]:
        """Do all of `from_wire` but the signature, which is returned to be verified."""
        offer, signature = cls._quick(raw, network) or cls._read(raw, network)
        offer.check_date(now)
        offer.check_work()
        return offer, signature

    @classmethod
    def _quick(cls, raw: Any, network: Network) -> tuple[Self, bytes] | None:
        """Read an offer that has nothing unusual; None for all others, good or bad.

        What it returns, `_read` would return: the same types, bounds and one spelling.
        """
        if type(raw) is not bytes or len(raw) > MAX_BYTES:
            return None
        try:
            value = _unpackb(raw, use_list=False, raw=False, max_ext_len=0, max_map_len=0)
            body, signature = value
            version, name, *values = body
            good = (
                type(value) is type(body) is tuple
                and type(signature) is bytes
                and len(signature) == 64
                and type(version) is int
                and version == VERSION
                and name == network.name
                and plain(tuple(values), network)
                and _packb(value, use_bin_type=True) == raw
            )
        except (ValueError, TypeError, msgpack.UnpackException):
            return None
        if not good:
            return None
        offer = object.__new__(cls)
        known = offer.__dict__
        known.update(zip(FIELDS, values, strict=True))
        known["network"], known["side"] = network, _SIDES[known["side"]]
        known["hash"] = _signed(raw, network)
        return offer, signature

    @classmethod
    def _read(cls, raw: Any, network: Network) -> tuple[Self, bytes]:
        value = wire.unpack("offer", raw, limit=MAX_BYTES)
        body, signature = wire.fields("offer", value, 2)
        wire.exact("signature", signature, 64)
        hashed = _signed(raw, network)
        try:
            offer = cls.from_body(body, network)
        except InvalidRecord as error:
            if error.field in FIELDS and made_by_its_maker(body, signature, hashed, network):
                why = str(error).removeprefix(f"{error.field}: ")
                raise Elsewhere(error.field, why) from None
            raise
        offer.__dict__["hash"] = hashed
        return offer, signature

    @classmethod
    def kept(cls, raw: bytes, network: Network) -> Self:
        """Read what was verified before: its date, work and signature are not looked at again.

        Raises InvalidRecord.
        """
        return (cls._quick(raw, network) or cls._read(raw, network))[0]

    def check_date(self, now: int) -> None:
        """Raise InvalidRecord if it has expired, or would live too long."""
        if self.expires_at <= now:
            raise InvalidRecord("expires_at", f"is over by {now - self.expires_at} s")
        if self.expires_at > now + MAX_LIFE_S:
            raise InvalidRecord("expires_at", f"is more than {MAX_LIFE_S} s from now")

    @cached_property
    def work_bits(self) -> int:
        """Return how many leading zero bits its work shows."""
        day = work.day_of(self.expires_at)
        return work.bits(self.network, self.maker, self.currency, self.slot, day, self.work)

    def check_work(self) -> None:
        """Raise InvalidRecord if its work is too little for its slot."""
        needed = work.needed_bits(self.network, self.slot)
        if self.work_bits < needed:
            raise InvalidRecord(
                "work", f"has {self.work_bits} zero bits of {needed} for slot {self.slot}"
            )


_SIDES: Final = (Side.BUY, Side.SELL)  # by their number

_NOT_TERMS: Final = frozenset(
    ("offer_id", "slot", "seq", "said_trades", "said_partners", "said_since", "expires_at", "work")
)
_terms: Final = attrgetter(*(name for name in FIELDS if name not in _NOT_TERMS))


@dataclass(frozen=True, slots=True)
class OfferRecord:
    """What a record store must know of an offer: where it is filed and which one wins.

    Under a full key low slots stay before high ones, then more work before less: so whoever
    would drive the others out needs a new identity for each place.
    """

    market: str
    owner: bytes
    id: bytes
    seq: int
    expires_at: int
    raw: bytes
    rank: int
    offer: Offer


def offer_record(raw: bytes, *, network: Network, now: int) -> OfferRecord:
    """Check an offer for storing or showing it. Raises InvalidRecord."""
    offer = Offer.from_wire(raw, network=network, now=now)
    return OfferRecord(
        market=offer.market,
        owner=offer.maker,
        id=bytes([offer.slot]),
        seq=offer.seq,
        expires_at=offer.expires_at,
        raw=raw,
        rank=(work.MAX_SLOTS - 1 - offer.slot) << 8 | min(offer.work_bits, 255),
        offer=offer,
    )


def _signed(raw: bytes, network: Network) -> bytes:
    """Return the hash of a body as it came: an array of two, then 66 bytes of signature."""
    return hashlib.sha256(wire.tag(network.name, "offer") + raw[1:-66]).digest()
