"""The book: other makers' offers found and verified, own ones among them."""

from typing import Final

import trio

from orderbook.currencies import check_currency
from orderbook.needs import Records
from orderbook.offer import Offer, Side
from orderbook.shelf import Shelf, best_first, has_prefix, hex_prefix, single
from orderbook.shell_maker import Maker
from p2pnode.base.errors import InvalidRecord, NotFound
from p2pnode.base.ports import Clock

VERIFY_BATCH: Final = 64  # records checked before other tasks get their turn
MAX_FOUND: Final = 20_000  # records read from one answer


class Book:
    """Everybody's offers as this node knows them."""

    def __init__(self, maker: Maker, clock: Clock, records: Records) -> None:
        self.maker, self._clock, self._records = maker, clock, records
        self._shelf = Shelf(maker.network)

    async def find(self, currency: str, side: Side | None = None) -> tuple[Offer, ...]:
        """Return a market's offers, verified, best price first, own enabled ones included.

        Raises InvalidRecord for an unknown currency, Unreachable without a network.
        """
        check_currency("currency", currency)
        self._shelf.forget(self._clock.now())
        found = await self._records.find(currency)
        for i, raw in enumerate(found[:MAX_FOUND]):
            if i % VERIFY_BATCH == 0:
                await trio.lowlevel.checkpoint()
            self._admit(raw, currency)
        now = self._clock.now()
        others = (item for item in self._shelf.listing(currency, now) if not self.is_mine(item[1]))
        mine = ((own.created_at, own.offer) for own in self.maker.enabled())
        both = (*others, *(item for item in mine if item[1].currency == currency))
        return best_first(item for item in both if side is None or item[1].side is side)

    def is_mine(self, offer: Offer) -> bool:
        """Tell whether this node is the maker."""
        return offer.maker == self.maker.node_id

    def get(self, prefix: str) -> Offer:
        """Return the offer known here whose id or hash begins so. Raises NotFound."""
        digits = hex_prefix(prefix)
        known = self._shelf.matching(digits, self._clock.now())
        others = [offer for offer in known if not self.is_mine(offer)]
        mine = [own.offer for own in self.maker.mine() if has_prefix(own.offer, digits)]
        return single((*others, *mine), digits)

    async def fetch(self, prefix: str) -> Offer:
        """Return the offer as its market shows it now. Raises NotFound, Unreachable."""
        offer = self.get(prefix)
        if self.is_mine(offer):
            return offer
        for current in await self.find(offer.currency, offer.side):
            if (current.maker, current.offer_id) == (offer.maker, offer.offer_id):
                return current
        raise NotFound(f"offer {offer.offer_id.hex()[:6]} has just been withdrawn or has expired")

    def _admit(self, raw: bytes, market: str) -> None:
        try:
            self._shelf.admit(raw, market=market, now=self._clock.now())
        except InvalidRecord:
            return  # hostile or stale storage: what is not shown harms nobody
