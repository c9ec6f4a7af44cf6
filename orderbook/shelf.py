"""Other makers' offers as this node knows them: verified, newest version each, bounded.

Records come from hostile storage in any order and any number. Of one (maker, offer_id)
the highest seq wins and is remembered until it expires, so a holder that serves the
version before a withdrawal changes nothing. One maker fills no more than his own share.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from orderbook.offer import Offer, Side
from p2pnode.base.errors import InvalidRecord, NotFound
from p2pnode.base.networks import Network

MAX_KNOWN: Final = 20_000
MAX_PER_MAKER: Final = 64


@dataclass(frozen=True, slots=True)
class _Entry:
    raw: bytes
    offer: Offer
    first_seen: int


class Shelf:
    """Everything found in the markets asked for, until it expires."""

    def __init__(
        self, network: Network, *, capacity: int = MAX_KNOWN, per_maker: int = MAX_PER_MAKER
    ) -> None:
        self._network, self._capacity, self._per_maker = network, capacity, per_maker
        self._makers: dict[bytes, dict[tuple[str, int], _Entry]] = {}
        self._verified: dict[bytes, Offer] = {}  # the same bytes need one signature check

    def __len__(self) -> int:
        return len(self._verified)

    def admit(self, raw: bytes, *, market: str, now: int) -> Offer:
        """Take in one record of `market`. Raises InvalidRecord for what must not be shown."""
        offer = self._check(raw, now)
        if offer.market != market:
            raise InvalidRecord("currency", f"is filed under {market}")
        known = self._makers.get(offer.maker, {}).get(_key(offer))
        if known and _rank(known.raw, known.offer) > _rank(raw, offer):
            raise InvalidRecord("seq", f"is {offer.seq}, but {known.offer.seq} is known")
        if known:
            self._drop(known)
        entry = _Entry(raw, offer, known.first_seen if known else now)
        self._makers.setdefault(offer.maker, {})[_key(offer)] = entry
        self._verified[entry.raw] = offer
        self._bound(offer.maker, now)
        return offer

    def listing(self, currency: str, now: int) -> tuple[tuple[int, Offer], ...]:
        """Return (first seen, offer) of all that can be taken in a market, in no order."""
        return tuple(
            (entry.first_seen, entry.offer)
            for entry in self._entries()
            if entry.offer.currency == currency and _live(entry.offer, now)
        )

    def matching(self, prefix: str, now: int) -> tuple[Offer, ...]:
        """Return the offers that can be taken whose id or hash begins with hex `prefix`."""
        offers = (entry.offer for entry in self._entries())
        return tuple(o for o in offers if _live(o, now) and has_prefix(o, prefix))

    def forget(self, now: int) -> None:
        """Drop what has expired."""
        for entry in list(self._entries()):
            if entry.offer.expires_at <= now:
                self._drop(entry)

    def _check(self, raw: bytes, now: int) -> Offer:
        known = self._verified.get(raw) if type(raw) is bytes else None
        if known is None:
            return Offer.from_wire(raw, network=self._network, now=now)
        known.check_date(now)
        return known

    def _entries(self) -> Iterable[_Entry]:
        return (entry for shelf in self._makers.values() for entry in shelf.values())

    def _drop(self, entry: _Entry) -> None:
        shelf = self._makers[entry.offer.maker]
        del shelf[_key(entry.offer)], self._verified[entry.raw]
        if not shelf:
            del self._makers[entry.offer.maker]

    def _bound(self, maker: bytes, now: int) -> None:
        """Keep one maker to his share and all to the capacity: soonest expiry goes first."""
        shelf = self._makers[maker]
        if len(shelf) > self._per_maker:
            self._drop(min(shelf.values(), key=_staleness))
        if len(self) > self._capacity:
            self.forget(now)
            surplus = len(self) - self._capacity
            if surplus > 0:  # a tenth at once, so that a flood does not sort for each record
                stalest = sorted(self._entries(), key=_staleness)
                for entry in stalest[: surplus + self._capacity // 10]:
                    self._drop(entry)


def best_first(found: Iterable[tuple[int, Offer]]) -> tuple[Offer, ...]:
    """Order by side (sellers first), best price for the taker, then age, then id."""

    def key(item: tuple[int, Offer]) -> tuple[int, int, int, bytes]:
        seen, offer = item
        price = offer.price if offer.side is Side.SELL else -offer.price
        return (-offer.side, price, seen, offer.offer_id)

    return tuple(offer for _, offer in sorted(found, key=key))


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
        raise NotFound(f"offer: {prefix[:64]!r} fits {len(found)} offers", field="offer_id")
    return next(iter(found.values()))


def hex_prefix(text: str) -> str:
    """Return the hex digits that a user gave of an id. Raises InvalidRecord."""
    digits = text.strip().lower().removesuffix("…")
    if not 1 <= len(digits) <= 64 or any(c not in "0123456789abcdef" for c in digits):
        raise InvalidRecord("offer_id", "is not 1 to 64 hex digits")
    return digits


def _key(offer: Offer) -> tuple[str, int]:
    return offer.currency, offer.slot


def _rank(raw: bytes, offer: Offer) -> tuple[int, int]:
    """Order the versions of one offer: by seq, then the lower SHA-256, as record stores do."""
    return offer.seq, -int.from_bytes(hashlib.sha256(raw).digest(), "big")


def _staleness(entry: _Entry) -> tuple[int, bytes]:
    return entry.offer.expires_at, entry.offer.hash


def _live(offer: Offer, now: int) -> bool:
    return not offer.withdrawn and offer.expires_at > now
