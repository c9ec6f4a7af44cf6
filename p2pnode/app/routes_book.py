"""The local API's verbs for everybody's offers, and for makers one does not want to see."""

from typing import Any

from orderbook.currencies import check_currency, exponent
from orderbook.obstacles import Obstacle
from orderbook.query import MAX_ROWS, Query, Sort, hex_prefix
from orderbook.seen import seen
from orderbook.shell_book import Book, Listed
from orderbook.store_accounts import AccountStore
from orderbook.store_book import Blocked
from p2pnode.app.routes import Call, Route
from p2pnode.app.routes_offers import name_of, offer_json, own_json, side_of
from p2pnode.app.taker import Takers
from p2pnode.base.errors import NotFound, UsageFault
from p2pnode.base.history import History


def routes(book: Book, accounts: AccountStore, takers: Takers) -> list[Route]:
    """Return the routes of this room."""
    found = _Found(book, accounts, takers)
    return [
        Route("GET", "/v1/offers", found.find, summary="List a market, best price first"),
        Route("GET", "/v1/offers/{offer_id}", found.show, summary="Show one offer"),
        Route("GET", "/v1/blocks", found.blocked, summary="Makers whose offers are hidden"),
        Route("POST", "/v1/blocks", found.block, summary="Hide a maker's offers"),
        Route("POST", "/v1/blocks/remove", found.unblock, summary="Show a maker's offers again"),
        Route("GET", "/v1/markets/{currency}", found.market, summary="How far a market is read"),
        Route("GET", "/v1/currencies/{currency}", _currency, summary="A currency's exponent"),
    ]


class _Found:
    def __init__(self, book: Book, accounts: AccountStore, takers: Takers) -> None:
        self._book, self._accounts, self._takers = book, accounts, takers

    async def find(self, call: Call) -> list[dict[str, Any]]:
        query = _query(call)
        found = await self._book.find(query, self._takers.taker())
        reference = self._book.maker.references.reference(query.currency)
        now = self._book.maker.clock.now()
        return [_listed_json(one, reference, now) for one in found]

    async def market(self, call: Call) -> dict[str, Any]:
        currency = check_currency("currency", call.text("currency"))
        follower = self._book.follower
        whole, sources = follower.reading(currency) if follower else (True, None)
        return {"currency": currency, "whole": whole, "sources": sources}

    async def show(self, call: Call) -> dict[str, Any]:
        offer = self._book.get(call.text("offer_id"))
        maker = self._book.maker
        reference = maker.references.reference(offer.currency)
        if self._book.is_mine(offer):
            own = maker.own(offer.offer_id)
            return own_json(own, lambda i: name_of(self._accounts, i), reference)
        return (
            offer_json(offer, mine=False, reference=reference)
            | _proven_json(maker.histories.history(offer.maker), maker.clock.now())
            | _obstacles_json(self._book.judged(offer, self._takers.taker()))
            | _terms_json(offer.terms)
        )

    async def blocked(self, call: Call) -> list[dict[str, Any]]:
        return [_blocked_json(one) for one in self._book.store.blocked()]

    async def block(self, call: Call) -> dict[str, Any]:
        node_id = self._book.maker_named(call.text("node_id"))
        self._book.block(node_id, call.text("note", ""))
        return next(
            _blocked_json(one) for one in self._book.store.blocked() if one.node_id == node_id
        )

    async def unblock(self, call: Call) -> dict[str, Any]:
        digits = hex_prefix(call.text("node_id"), "node_id")
        fits = [b for b in self._book.store.blocked() if b.node_id.hex().startswith(digits)]
        if len(fits) != 1:
            what = f"{len(fits)} blocked makers" if fits else "no blocked maker"
            raise NotFound(f"node_id: {digits!r} fits {what}", field="node_id")
        self._book.store.unblock(fits[0].node_id)
        return _blocked_json(fits[0])


async def _currency(call: Call) -> dict[str, Any]:
    currency = call.text("currency")
    return {"currency": currency, "exponent": exponent(currency)}


def _query(call: Call) -> Query:
    """Read what is asked for. Raises UsageFault, InvalidRecord."""
    side, sort = call.text("side", ""), call.text("sort", "price")
    if sort not in list(Sort):
        raise UsageFault(f"sort: is none of {', '.join(Sort)}", field="sort")
    return Query(
        currency=call.text("currency"),
        side=side_of(side) if side else None,
        method=call.text("method", ""),
        country=call.text("country", ""),
        language=call.text("language", ""),
        sort=Sort(sort),
        limit=call.integer("limit", MAX_ROWS),
        amount_sat=call.integer("amount_sat", 0),
        fiat_minor=call.integer("fiat_minor", 0),
        least_price=call.integer("least_price", 0),
        most_price=call.integer("most_price", 0),
        least_trades=call.integer("least_trades", 0),
        offset=call.integer("offset", 0),
        takeable=bool(call.integer("takeable", 0)),
        hidden=bool(call.integer("hidden", 0)),
    )


def _listed_json(one: Listed, reference: int, now: int) -> dict[str, Any]:
    return (
        offer_json(one.offer, mine=one.mine, reference=reference)
        | {"first_seen": one.first_seen, "repeats": one.again}
        | _proven_json(one.proven, now)
        | _obstacles_json(one.obstacles)
    )


def _proven_json(proven: History, now: int) -> dict[str, Any]:
    return {
        "proven_trades": proven.trades,
        "proven_partners": proven.partners,
        "proven_since": proven.first_at,
        "proven_days": proven.days(now),
    }


def _obstacles_json(found: tuple[Obstacle, ...]) -> dict[str, Any]:
    return {"obstacles": [{"code": one.code, "text": one.text} for one in found]}


def _terms_json(terms: str) -> dict[str, Any]:
    shown, remarks = seen(terms)
    return {"terms_shown": shown, "terms_remarks": list(remarks)}


def _blocked_json(one: Blocked) -> dict[str, Any]:
    return {"node_id": one.node_id.hex(), "note": one.note, "at": one.at}
