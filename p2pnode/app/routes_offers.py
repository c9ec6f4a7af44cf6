"""The local API's verbs for offers and payment accounts.

Amounts in satoshi, `price` in minor units per BTC x 10^4, `exponent` the currency's
decimals. POST /v1/accounts honours no idempotency key on purpose: its body holds account
details, which must not come to rest in a table of answers; a name is unique instead.
"""

from collections.abc import Callable
from typing import Any

from orderbook.accounts import Account
from orderbook.currencies import exponent
from orderbook.methods import METHODS, account_form, as_mapping
from orderbook.offer import DEFAULT_DEPOSIT_BP, Offer, Side
from orderbook.shell_book import Book
from orderbook.store_accounts import AccountStore
from orderbook.store_offers import Answers, OwnOffer
from p2pnode.app.routes import Call, Route
from p2pnode.base.errors import NotFound, UsageFault
from p2pnode.base.networks import Network
from p2pnode.base.ports import Clock


def offer_json(offer: Offer, *, mine: bool) -> dict[str, Any]:
    """Return an offer as the API writes it."""
    return {
        "offer_id": offer.offer_id.hex(),
        "offer_hash": offer.hash.hex(),
        "maker": offer.maker.hex(),
        "side": offer.side.name.lower(),
        "currency": offer.currency,
        "exponent": exponent(offer.currency),
        "min_sat": offer.min_sat,
        "max_sat": offer.max_sat,
        "price": offer.price,
        "methods": list(offer.methods),
        "deposit_buyer_bp": offer.dep_b_bp,
        "deposit_seller_bp": offer.dep_s_bp,
        "escrow_kinds": list(offer.escrow_kinds),
        "terms": offer.terms,
        "expires_at": offer.expires_at,
        "mine": mine,
    }


def own_json(own: OwnOffer, account: Callable[[bytes], str]) -> dict[str, Any]:
    """Return an own offer: its terms, and what only its maker knows."""
    return offer_json(own.offer, mine=True) | {
        "offer_hash": own.current.hash.hex(),
        "state": own.state.value,
        "account": account(own.account_id),
        "holders": own.acked,
        "trade_id": own.trade_id.hex() if own.trade_id else None,
        "created_at": own.created_at,
        "accept_bp": own.answers.accept_bp,
        "counter_bp": own.answers.counter_bp,
        "otherwise": own.answers.otherwise,
    }


def account_json(account: Account, network: Network) -> dict[str, Any]:
    """Return an account without its details."""
    account_id = account.account_id(network).hex()
    return {"name": account.name, "method": account.method, "account_id": account_id}


def routes(book: Book, accounts: AccountStore, *, network: Network, clock: Clock) -> list[Route]:
    """Return the routes of this room."""
    offers, own = _Offers(book, accounts), _Accounts(accounts, network, clock)
    return [
        Route("POST", "/v1/offers", offers.create, once=True, summary="Publish an offer"),
        Route("GET", "/v1/offers", offers.find, summary="List a market, best price first"),
        Route("GET", "/v1/offers/mine", offers.mine, summary="List own offers"),
        Route("GET", "/v1/offers/{offer_id}", offers.show, summary="Show one offer"),
        Route(
            "POST",
            "/v1/offers/{offer_id}/cancel",
            offers.cancel,
            once=True,
            summary="Take an own offer back",
        ),
        Route(
            "POST",
            "/v1/offers/{offer_id}/answers",
            offers.answer,
            once=True,
            summary="Set how proposals of another price are answered",
        ),
        Route("GET", "/v1/currencies/{currency}", _currency, summary="A currency's exponent"),
        Route("POST", "/v1/accounts", own.add, summary="Add a payment account"),
        Route("GET", "/v1/accounts", own.all, summary="List payment accounts"),
        Route("GET", "/v1/accounts/methods", own.methods, summary="List payment methods"),
    ]


class _Offers:
    def __init__(self, book: Book, accounts: AccountStore) -> None:
        self._book, self._accounts = book, accounts

    async def create(self, call: Call) -> dict[str, Any]:
        account = self._accounts.named(call.text("account"))
        side = _side(call.text("side"))
        own = await self._book.create(
            side=side,
            currency=call.text("currency"),
            min_sat=call.integer("min_sat"),
            max_sat=call.integer("max_sat"),
            price=call.integer("price"),
            method=account.method,
            account_id=account.account_id(self._book.network),
            dep_b_bp=call.integer("deposit_buyer_bp", DEFAULT_DEPOSIT_BP),
            dep_s_bp=call.integer("deposit_seller_bp", DEFAULT_DEPOSIT_BP),
            terms=call.text("terms", ""),
            answers=_answers(call),
        )
        return own_json(own, self._name)

    async def answer(self, call: Call) -> dict[str, Any]:
        offer = self._book.get_mine(call.text("offer_id"))
        return own_json(self._book.answer(offer.offer_id, _answers(call)), self._name)

    async def find(self, call: Call) -> list[dict[str, Any]]:
        side = call.text("side", "")
        found = await self._book.find(call.text("currency"), _side(side) if side else None)
        return [offer_json(offer, mine=self._book.is_mine(offer)) for offer in found]

    async def mine(self, call: Call) -> list[dict[str, Any]]:
        return [own_json(own, self._name) for own in self._book.mine()]

    async def show(self, call: Call) -> dict[str, Any]:
        offer = self._book.get(call.text("offer_id"))
        if self._book.is_mine(offer):
            return own_json(self._book.own(offer.offer_id), self._name)
        return offer_json(offer, mine=False)

    async def cancel(self, call: Call) -> dict[str, Any]:
        offer = self._book.get_mine(call.text("offer_id"))
        return own_json(await self._book.withdraw(offer.offer_id), self._name)

    def _name(self, account_id: bytes) -> str:
        try:
            return self._accounts.get(account_id).name
        except NotFound:
            return ""


class _Accounts:
    def __init__(self, accounts: AccountStore, network: Network, clock: Clock) -> None:
        self._accounts, self._network, self._clock = accounts, network, clock

    async def add(self, call: Call) -> dict[str, Any]:
        details = call.body.get("details")
        if not isinstance(details, dict):
            raise UsageFault("details: is not an object of the method's fields", field="details")
        account = self._accounts.add(
            call.text("name"), call.text("method"), details, now=self._clock.now()
        )
        return account_json(account, self._network)

    async def all(self, call: Call) -> list[dict[str, Any]]:
        return [
            account_json(a, self._network) | {"details": as_mapping(a.method, a.details)}
            for a in self._accounts.all()
        ]

    async def methods(self, call: Call) -> list[dict[str, Any]]:
        return [account_form(method) for method in METHODS]


async def _currency(call: Call) -> dict[str, Any]:
    currency = call.text("currency")
    return {"currency": currency, "exponent": exponent(currency)}


def _answers(call: Call) -> Answers:
    """Read how proposals are answered; without a word its user is asked below the price."""
    accept_bp = call.integer("accept_bp", 0)
    return Answers(
        accept_bp=accept_bp,
        counter_bp=call.integer("counter_bp", accept_bp),
        otherwise=call.text("otherwise", "ask"),
    )


def _side(text: str) -> Side:
    try:
        return Side[text.upper()]
    except KeyError:
        raise UsageFault("side: is neither buy nor sell", field="side") from None
