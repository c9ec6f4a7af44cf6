"""The local API's verbs for one's own offers.

Amounts in satoshi, `price` in minor units per BTC x 10^4, `exponent` the currency's
decimals.
"""

from collections.abc import Callable
from typing import Any

from orderbook.currencies import exponent
from orderbook.offer import DEFAULT_DEPOSIT_BP, Offer, Side
from orderbook.shell_maker import Maker
from orderbook.store_accounts import AccountStore
from orderbook.store_offers import Answers, OwnOffer
from p2pnode.app.routes import Call, Route
from p2pnode.base.errors import NotFound, UsageFault


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


def name_of(accounts: AccountStore, account_id: bytes) -> str:
    """Return an account's name, empty for one that is gone."""
    try:
        return accounts.get(account_id).name
    except NotFound:
        return ""


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


def routes(maker: Maker, accounts: AccountStore) -> list[Route]:
    """Return the routes of this room."""
    offers = _Offers(maker, accounts)
    return [
        Route("POST", "/v1/offers", offers.create, once=True, summary="Publish an offer"),
        Route("GET", "/v1/offers/mine", offers.mine, summary="List own offers"),
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
    ]


class _Offers:
    def __init__(self, maker: Maker, accounts: AccountStore) -> None:
        self._maker, self._accounts = maker, accounts

    async def create(self, call: Call) -> dict[str, Any]:
        account = self._accounts.named(call.text("account"))
        side = side_of(call.text("side"))
        own = await self._maker.create(
            side=side,
            currency=call.text("currency"),
            min_sat=call.integer("min_sat"),
            max_sat=call.integer("max_sat"),
            price=call.integer("price"),
            method=account.method,
            account_id=account.account_id(self._maker.network),
            dep_b_bp=call.integer("deposit_buyer_bp", DEFAULT_DEPOSIT_BP),
            dep_s_bp=call.integer("deposit_seller_bp", DEFAULT_DEPOSIT_BP),
            terms=call.text("terms", ""),
            answers=_answers(call),
        )
        return own_json(own, self._name)

    async def answer(self, call: Call) -> dict[str, Any]:
        offer = self._maker.get_mine(call.text("offer_id"))
        return own_json(self._maker.answer(offer.offer_id, _answers(call)), self._name)

    async def mine(self, call: Call) -> list[dict[str, Any]]:
        return [own_json(own, self._name) for own in self._maker.mine()]

    async def cancel(self, call: Call) -> dict[str, Any]:
        offer = self._maker.get_mine(call.text("offer_id"))
        return own_json(await self._maker.withdraw(offer.offer_id), self._name)

    def _name(self, account_id: bytes) -> str:
        return name_of(self._accounts, account_id)


def _answers(call: Call) -> Answers:
    """Read how proposals are answered; without a word its user is asked below the price."""
    accept_bp = call.integer("accept_bp", 0)
    return Answers(
        accept_bp=accept_bp,
        counter_bp=call.integer("counter_bp", accept_bp),
        otherwise=call.text("otherwise", "ask"),
    )


def side_of(text: str) -> Side:
    """Read buy or sell. Raises UsageFault."""
    try:
        return Side[text.upper()]
    except KeyError:
        raise UsageFault("side: is neither buy nor sell", field="side") from None
