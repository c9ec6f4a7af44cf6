"""The local API's verbs for everybody's offers."""

from typing import Any

from orderbook.currencies import exponent
from orderbook.shell_book import Book
from orderbook.store_accounts import AccountStore
from p2pnode.app.routes import Call, Route
from p2pnode.app.routes_offers import name_of, offer_json, own_json, side_of


def routes(book: Book, accounts: AccountStore) -> list[Route]:
    """Return the routes of this room."""
    found = _Found(book, accounts)
    return [
        Route("GET", "/v1/offers", found.find, summary="List a market, best price first"),
        Route("GET", "/v1/offers/{offer_id}", found.show, summary="Show one offer"),
        Route("GET", "/v1/currencies/{currency}", _currency, summary="A currency's exponent"),
    ]


class _Found:
    def __init__(self, book: Book, accounts: AccountStore) -> None:
        self._book, self._accounts = book, accounts

    async def find(self, call: Call) -> list[dict[str, Any]]:
        side = call.text("side", "")
        found = await self._book.find(call.text("currency"), side_of(side) if side else None)
        return [offer_json(offer, mine=self._book.is_mine(offer)) for offer in found]

    async def show(self, call: Call) -> dict[str, Any]:
        offer = self._book.get(call.text("offer_id"))
        if self._book.is_mine(offer):
            return own_json(
                self._book.maker.own(offer.offer_id), lambda i: name_of(self._accounts, i)
            )
        return offer_json(offer, mine=False)


async def _currency(call: Call) -> dict[str, Any]:
    currency = call.text("currency")
    return {"currency": currency, "exponent": exponent(currency)}
