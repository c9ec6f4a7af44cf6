"""How offers are asked for: by what they say, or by the beginning of an id."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Final

from orderbook.currencies import check_currency
from orderbook.methods import check_method
from orderbook.offer import MAX_OFFER_SAT, Offer, Side
from orderbook.places import check_country, check_language
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, NotFound
from p2pnode.base.networks import Network
from p2pnode.base.units import COIN, MAX_FIAT_MINOR, MAX_PRICE, PRICE_SCALE

MAX_ROWS: Final = 1000  # of one answer
MAX_OFFSET: Final = 1_000_000


class Sort(StrEnum):
    """What comes first: the best price for the taker, the oldest, the largest, the proven."""

    PRICE = "price"
    AGE = "age"
    AMOUNT = "amount"
    HISTORY = "history"


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which offers of a market, in which order. Construction raises InvalidRecord.

    `amount_sat` is what the offer's range must hold, `fiat_minor` what it must hold at the
    offer's price, 0 for any. `least_price` and
    `most_price` bound the price at the reference, in minor units per BTC x 10^4, 0 for no
    bound. An offer that names no countries, or no languages, fits every one. `least_trades`
    counts what its maker has proven. `takeable` leaves out what one cannot take; `hidden`
    adds what blocked makers offer.
    """

    currency: str
    side: Side | None = None
    method: str = ""
    country: str = ""
    language: str = ""
    amount_sat: int = 0
    fiat_minor: int = 0
    least_price: int = 0
    most_price: int = 0
    least_trades: int = 0
    takeable: bool = False
    hidden: bool = False
    sort: Sort = Sort.PRICE
    limit: int = MAX_ROWS
    offset: int = 0

    def __post_init__(self) -> None:
        check_currency("currency", self.currency)
        if self.method:
            check_method("method", self.method)
        if self.country:
            check_country("country", self.country)
        if self.language:
            check_language("language", self.language)
        wire.within("amount_sat", self.amount_sat, 0, MAX_OFFER_SAT)
        wire.within("fiat_minor", self.fiat_minor, 0, MAX_FIAT_MINOR)
        wire.within("least_price", self.least_price, 0, MAX_PRICE)
        wire.within("most_price", self.most_price, 0, MAX_PRICE)
        wire.within("least_trades", self.least_trades, 0, 2**31)
        wire.within("limit", self.limit, 1, MAX_ROWS)
        wire.within("offset", self.offset, 0, MAX_OFFSET)

    def amount_at(self, price: int) -> int:
        """Return the satoshi asked for at a price, 0 for any amount."""
        if self.fiat_minor and price:
            return self.fiat_minor * COIN * PRICE_SCALE // price
        return self.amount_sat


@dataclass(slots=True)
class Row:
    """One line of a listing. `price` is the one at the reference, 0 while unpriced.

    `again`: its maker has the same terms in a lower slot. `offer` reads the stored bytes
    and raises InvalidRecord for a damaged row.
    """

    price: int
    first_seen: int
    again: bool
    hashed: bytes  # SHA-256 of raw
    raw: bytes
    network: Network
    read: Offer | None = None

    @property
    def offer(self) -> Offer:
        """Return the offer, whose signature was checked when it was taken in."""
        if self.read is None:
            if sha256(self.raw).digest() != self.hashed:
                raise InvalidRecord("offer", "is damaged in the book's file")
            self.read = Offer.kept(self.raw, self.network)
        return self.read


def reach(prefix: str) -> tuple[bytes, bytes]:
    """Return the first and the last 32 bytes that begin with these hex digits."""
    return bytes.fromhex(prefix.ljust(64, "0")), bytes.fromhex(prefix.ljust(64, "f"))


def has_prefix(offer: Offer, prefix: str) -> bool:
    """Tell whether the offer's id or hash begins with these hex digits."""
    return offer.offer_id.hex().startswith(prefix) or offer.hash.hex().startswith(prefix)


def single(offers: Iterable[Offer], prefix: str) -> Offer:
    """Return the one offer of `offers`. Raises NotFound for none or several."""
    found = {(o.maker, o.offer_id): o for o in offers}
    if not found:
        raise NotFound(
            f"offer: none is known here as {prefix[:64]!r}; list its market first: "
            "p2pnode offer list --cur …",
            field="offer_id",
        )
    if len(found) > 1:
        first, *others = found.values()
        why = f"offer: {prefix[:64]!r} fits {len(found)} offers"
        if all(other.offer_id == first.offer_id for other in others):  # all but one are copies
            each = [f"{o.hash.hex()[:12]} of maker {o.maker.hex()[:8]}…" for o in found.values()]
            why += f" of one id: name one by its hash, {' or '.join(each[:4])}"
        raise NotFound(why, field="offer_id")
    return next(iter(found.values()))


def hex_prefix(text: str, field: str = "offer_id") -> str:
    """Return the hex digits that a user gave of an id. Raises InvalidRecord."""
    digits = text.strip().lower().removesuffix("…")
    if not 1 <= len(digits) <= 64 or any(c not in "0123456789abcdef" for c in digits):
        raise InvalidRecord(field, "is not 1 to 64 hex digits")
    return digits
