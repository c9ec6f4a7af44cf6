"""The local API's verbs for markets: reference prices, depth, price history, statistics.

Prices in minor units per BTC x 10^4, null where there is none; amounts in satoshi; times
in unix seconds. Statistics come from receipts, so their times are the chain's.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import trio

from escrow.standing import Statistics
from orderbook.currencies import exponent
from orderbook.depth import MAX_COLUMNS, MAX_LEVELS, Curve, Entry, Level, curve, depth
from orderbook.offer import Offer
from orderbook.prices import LeftOut, Quote, Reference
from orderbook.shell_book import Book
from orderbook.shell_prices import Prices
from orderbook.store_prices import KEPT_S
from p2pnode.app.routes import Call, Route
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.ports import Clock

LEVELS: Final = 12
COLUMNS: Final = 60
PAGE: Final = 256  # offers read before other tasks get their turn
NO_SOURCE: Final = "no price source is named"

Sales = Callable[[str, int], Sequence[Statistics]]  # (currency or empty, since)


def routes(book: Book, prices: Prices, sales: Sales, clock: Clock) -> list[Route]:
    """Return the routes of this room."""
    market = _Market(book, prices, sales, clock)
    return [
        Route("GET", "/v1/market/prices", market.every, summary="Reference prices followed"),
        Route("GET", "/v1/market/prices/{currency}", market.price, summary="A reference price"),
        Route("GET", "/v1/market/book", market.book, summary="A market's depth"),
        Route("GET", "/v1/market/history", market.history, summary="Samples of a reference"),
        Route("GET", "/v1/market/stats", market.stats, summary="What receipts say of markets"),
    ]


class _Market:
    def __init__(self, book: Book, prices: Prices, sales: Sales, clock: Clock) -> None:
        self._book, self._prices, self._sales, self._clock = book, prices, sales, clock

    async def every(self, call: Call) -> list[dict[str, Any]]:
        return [self._view(c, self._prices.view(c)) for c in self._prices.followed()]

    async def price(self, call: Call) -> dict[str, Any]:
        currency = call.text("currency")
        return self._view(currency, await self._prices.settle(currency))

    def _view(self, currency: str, found: Reference | None) -> dict[str, Any]:
        now = self._clock.now()
        listed: list[dict[str, Any]] = []
        if found:
            known = {source.name: source for source in self._prices.sources}
            every: tuple[Quote | LeftOut, ...] = (*found.used, *found.left_out)
            for one in every:
                listed.append(
                    {
                        "source": one.source,
                        "used": one in found.used,
                        "price": one.price or None,
                        "at": one.at or None,
                        "age_s": now - one.at if one.at else None,
                        "reason": getattr(one, "reason", ""),
                        "live": known[one.source].live,
                        "docs": known[one.source].docs,
                    }
                )
        priced = bool(found and found.price)
        return {
            "currency": currency,
            "exponent": exponent(currency),
            "price": found.price if found and priced else None,
            "spread_bp": found.spread_bp if found and priced else None,
            "age_s": now - found.at if found and priced else None,
            "why": found.why if found else NO_SOURCE,
            "sources": listed,
        }

    async def book(self, call: Call) -> dict[str, Any]:
        currency = call.text("currency")
        levels = wire.within("levels", call.integer("levels", LEVELS), 3, MAX_LEVELS)
        columns = wire.within("columns", call.integer("columns", COLUMNS), 10, MAX_COLUMNS)
        reference = await self._prices.settle(currency)
        await self._book.follow(currency)
        price = reference.price if reference else 0
        entries, unpriced, again = await self._entries(currency, price)
        table, drawn = depth(entries, levels, price), curve(entries, columns, price)
        return {
            "currency": currency,
            "exponent": exponent(currency),
            "reference": reference.price or None if reference else None,
            "why": reference.why if reference else NO_SOURCE,
            "step": table.step or None,
            "buy": [_level(level) for level in table.buy],
            "sell": [_level(level) for level in table.sell],
            "curve": _curve(drawn) if drawn else None,
            "unpriced": unpriced,
            "repeated": again,
        }

    async def _entries(self, currency: str, reference: int) -> tuple[list[Entry], int, int]:
        """Return the offers of a market, how many float unpriced, how many repeat another."""
        entries: list[Entry] = []
        unpriced = again = 0
        seen: set[tuple[bytes, bytes]] = set()  # (maker, terms)
        async for offer in self._offers(currency):
            if (offer.maker, offer.alike) in seen:
                again += 1
                continue
            seen.add((offer.maker, offer.alike))
            if price := offer.price_at(reference):
                entries.append((offer.side, price, offer.min_sat, offer.max_sat))
            else:
                unpriced += 1
        return entries, unpriced, again

    async def _offers(self, currency: str) -> AsyncIterator[Offer]:
        """Yield what can be taken in a market, by place; other tasks get their turn."""
        book, now, low = self._book, self._clock.now(), b""
        hidden = {one.node_id for one in book.store.blocked()}
        enabled = {own.offer.offer_id for own in book.maker.enabled()}
        while raws := book.store.raws(currency, low, b"", now, PAGE):
            for raw in raws:
                offer = Offer.kept(raw, book.maker.network)
                low = offer.place + b"\x00"
                if offer.withdrawn or offer.maker in hidden:
                    continue
                if not book.is_mine(offer) or offer.offer_id in enabled:
                    yield offer
            await trio.lowlevel.checkpoint()

    async def history(self, call: Call) -> list[dict[str, Any]]:
        currency = call.text("currency")
        since = call.integer("since", self._clock.now() - KEPT_S)
        await self._prices.settle(currency)  # from now on there is one
        return [
            {"at": s.at, "price": s.price, "spread_bp": s.spread_bp, "exponent": exponent(currency)}
            for s in self._prices.history(currency, since)
        ]

    async def stats(self, call: Call) -> list[dict[str, Any]]:
        currency = call.text("currency", "")
        if currency:
            exponent(currency)
        since = call.integer("since", 0)
        if since < 0:
            raise InvalidRecord("since", "is before 1970")
        return [_sales(found) for found in self._sales(currency, since)]


def _level(level: Level) -> dict[str, Any]:
    return {
        "price": level.price,
        "amount_sat": level.amount_sat,
        "total_sat": level.total_sat,
        "offers": level.offers,
        "beyond": level.beyond,
    }


def _curve(drawn: Curve) -> dict[str, Any]:
    return {
        "low": drawn.low,
        "high": drawn.high,
        "buy_sat": list(drawn.buy),
        "sell_sat": list(drawn.sell),
    }


def _sales(found: Statistics) -> dict[str, Any]:
    low, median, high = found.prices
    return {
        "currency": found.currency,
        "exponent": exponent(found.currency),
        "trades": len(found.sales),
        "amount_sat": found.amount_sat,
        "fiat_minor": found.fiat_minor,
        "price_low": low,
        "price_median": median,
        "price_high": high,
        "price_average": found.average,
        "first_at": found.sales[0].at,
        "last_at": found.sales[-1].at,
    }
