"""The local API's verbs for one's own offers.

Amounts in satoshi, prices in minor units per BTC x 10^4, `exponent` the currency's
decimals, margins and deposits in basis points, times in unix seconds.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from orderbook import work
from orderbook.currencies import check_currency, exponent
from orderbook.obstacles import distance, is_absurd
from orderbook.offer import Offer, Side
from orderbook.offer_bounds import MAX_MARGIN_BP
from orderbook.own import Answers, OwnOffer, Triggers
from orderbook.shell_maker import Maker
from orderbook.store_accounts import AccountStore
from p2pnode.app.routes import Call, Route
from p2pnode.base.errors import LocalFault, NotFound, UsageFault
from p2pnode.base.units import MAX_PRICE

_INTEGERS = (  # the offer's own name of a field, the API's
    ("min_sat", "min_sat"),
    ("max_sat", "max_sat"),
    ("dep_b_bp", "deposit_buyer_bp"),
    ("dep_s_bp", "deposit_seller_bp"),
    ("peer_trades", "peer_trades"),
    ("peer_days", "peer_days"),
)
_LISTS = ("countries", "languages", "escrow_kinds")


async def _settled(_currency: str) -> None:
    """Wait for nothing: references are as known as they will be."""


def offer_json(offer: Offer, *, mine: bool, reference: int = 0) -> dict[str, Any]:
    """Return an offer as the API writes it; `price_now` is 0 where nobody knows it."""
    return {
        "offer_id": offer.offer_id.hex(),
        "offer_hash": offer.hash.hex(),
        "maker": offer.maker.hex(),
        "slot": offer.slot,
        "seq": offer.seq,
        "side": offer.side.name.lower(),
        "currency": offer.currency,
        "exponent": exponent(offer.currency),
        "min_sat": offer.min_sat,
        "max_sat": offer.max_sat,
        "price": offer.price,
        "margin_bp": offer.margin_bp if offer.floating else None,
        "reference": reference,
        "price_now": offer.price_at(reference),
        "methods": list(offer.methods),
        "countries": list(offer.countries),
        "languages": list(offer.languages),
        "deposit_buyer_bp": offer.dep_b_bp,
        "deposit_seller_bp": offer.dep_s_bp,
        "peer_trades": offer.peer_trades,
        "peer_days": offer.peer_days,
        "escrow_kinds": list(offer.escrow_kinds),
        "terms": offer.terms,
        "said_trades": offer.said_trades,
        "said_partners": offer.said_partners,
        "said_since": offer.said_since,
        "expires_at": offer.expires_at,
        "mine": mine,
    }


def name_of(accounts: AccountStore, account_id: bytes) -> str:
    """Return an account's name, empty for one that is gone."""
    try:
        return accounts.get(account_id).name
    except NotFound:
        return ""


def own_json(own: OwnOffer, account: Callable[[bytes], str], reference: int = 0) -> dict[str, Any]:
    """Return an own offer: its terms, and what only its maker knows."""
    return offer_json(own.offer, mine=True, reference=reference) | {
        "offer_hash": own.current.hash.hex(),
        "state": own.state.value,
        "why": own.why,
        "accounts": {method: account(a) for method, a in own.accounts.items()},
        "holders": own.acked,
        "trade_id": own.trade_id.hex() if own.trade_id else None,
        "created_at": own.created_at,
        "ends_at": own.ends_at or None,
        "disable_below": own.triggers.below or None,
        "disable_above": own.triggers.above or None,
        "accept_bp": own.answers.accept_bp,
        "counter_bp": own.answers.counter_bp,
        "otherwise": own.answers.otherwise,
    }


def routes(
    maker: Maker, accounts: AccountStore, settle: Callable[[str], Awaitable[object]] = _settled
) -> list[Route]:
    """Return the routes of this room; `settle` waits until a reference price can be known."""
    o = _Offers(maker, accounts, settle)
    one = "/v1/offers/{offer_id}"
    return [
        Route("POST", "/v1/offers", o.create, once=True, summary="Publish an offer"),
        Route("GET", "/v1/offers/mine", o.mine, summary="List own offers"),
        Route("GET", "/v1/offers/work", o.work, summary="What the next offer's work will cost"),
        Route("POST", f"{one}/edit", o.edit, once=True, summary="Change an own offer"),
        Route("POST", f"{one}/clone", o.clone, once=True, summary="Publish another like it"),
        Route("POST", f"{one}/enable", o.enable, once=True, summary="Publish it again"),
        Route("POST", f"{one}/disable", o.disable, once=True, summary="Keep it back for a while"),
        Route("POST", f"{one}/cancel", o.cancel, once=True, summary="Take an own offer back"),
        Route(
            "POST",
            f"{one}/answers",
            o.answer,
            once=True,
            summary="Set how proposals of another price are answered",
        ),
    ]


class _Offers:
    def __init__(
        self, maker: Maker, accounts: AccountStore, settle: Callable[[str], Awaitable[object]]
    ) -> None:
        self._maker, self._accounts, self._settle = maker, accounts, settle

    async def create(self, call: Call) -> dict[str, Any]:
        named = self._named(call)
        if named is None:
            raise UsageFault("accounts: is missing", field="accounts")
        if "price" not in call.body and "margin_bp" not in call.body:
            raise UsageFault("price: say it, or margin_bp", field="price")
        for name in ("min_sat", "max_sat"):
            call.integer(name)  # there must be both
        side, currency = side_of(call.text("side")), call.text("currency")
        await self._sane(call, side, currency)
        own = await self._maker.create(
            side=side,
            currency=currency,
            accounts=named,
            answers=_answers(call, Answers()),
            triggers=_triggers(call, Triggers()),
            ends_in_s=call.integer("ends_in_s", 0),
            **_terms(call),
        )
        return self._json(own)

    async def _sane(self, call: Call, side: Side, currency: str) -> None:
        """Refuse a price that hardly anybody means, unless it is meant. Raises LocalFault."""
        fixed, margin_bp = call.integer("price", 0), call.integer("margin_bp", 0)
        good = 0 <= fixed <= MAX_PRICE and abs(margin_bp) <= MAX_MARGIN_BP
        if (
            call.flag("any_price") or not good or (fixed and margin_bp)
        ):  # the rest is refused anyhow
            return
        price, against = 10_000 + margin_bp, 10_000
        if fixed:
            await self._settle(check_currency("currency", currency))
            price, against = fixed, self._maker.references.reference(currency)
        if is_absurd(price, against):
            verb = "sell" if side is Side.SELL else "buy"
            raise LocalFault(
                f"price: you would {verb} at {distance(price, against)} the reference price, which "
                "is rarely meant; if it is, say --yes",
                field="price",
            )

    async def clone(self, call: Call) -> dict[str, Any]:
        own = self._maker.get_mine(call.text("offer_id"))
        offer, named = own.offer, self._named(call)
        names = (*(name for name, _ in _INTEGERS), *_LISTS, "price", "margin_bp", "terms")
        now = {name: getattr(offer, name) for name in names}
        side, currency = (
            side_of(call.text("side", offer.side.name)),
            call.text("currency", offer.currency),
        )
        await self._sane(call, side, currency)
        made = await self._maker.create(
            side=side,
            currency=currency,
            accounts=self._there(own.accounts) if named is None else named,
            answers=_answers(call, own.answers),
            triggers=_triggers(call, own.triggers),
            ends_in_s=call.integer("ends_in_s", 0),
            **(now | _terms(call)),
        )
        return self._json(made)

    async def edit(self, call: Call) -> dict[str, Any]:
        own = self._maker.get_mine(call.text("offer_id"))
        await self._sane(call, own.offer.side, own.offer.currency)
        changed = await self._maker.edit(
            own.offer_id,
            _terms(call),
            accounts=self._named(call),
            answers=_answers(call, own.answers),
            triggers=_triggers(call, own.triggers),
            ends_in_s=call.integer("ends_in_s") if "ends_in_s" in call.body else None,
        )
        return self._json(changed)

    async def answer(self, call: Call) -> dict[str, Any]:
        own = self._maker.get_mine(call.text("offer_id"))
        return self._json(self._maker.answer(own.offer_id, _answers(call, Answers())))

    async def enable(self, call: Call) -> dict[str, Any]:
        own = self._maker.get_mine(call.text("offer_id"))
        self._there(own.accounts)
        return self._json(await self._maker.enable(own.offer_id))

    async def disable(self, call: Call) -> dict[str, Any]:
        own = self._maker.get_mine(call.text("offer_id"))
        return self._json(await self._maker.disable(own.offer_id))

    async def cancel(self, call: Call) -> dict[str, Any]:
        own = self._maker.get_mine(call.text("offer_id"))
        return self._json(await self._maker.withdraw(own.offer_id))

    async def mine(self, call: Call) -> list[dict[str, Any]]:
        return [self._json(own) for own in self._maker.mine()]

    async def work(self, call: Call) -> dict[str, Any]:
        currency = check_currency("currency", call.text("currency"))
        slot, miner = self._maker.slot_ahead(currency), self._maker.miner
        if slot is None:
            raise LocalFault(f"no more of your offers can stand in {currency}", field="currency")
        return {
            "currency": currency,
            "slot": slot,
            "bits": work.needed_bits(self._maker.network, slot),
            "expected": miner.expected(slot),
            "tries": miner.tries.get(currency, 0),
        }

    def _named(self, call: Call) -> dict[str, bytes] | None:
        """Return the accounts that a call names, by method. Raises UsageFault, NotFound."""
        if "accounts" not in call.body and "account" not in call.body:
            return None
        names = texts(call, "accounts") if "accounts" in call.body else (call.text("account"),)
        found: dict[str, bytes] = {}
        for name in names:
            account = self._accounts.named(name)
            if account.method in found:
                raise UsageFault(
                    f"account: {name[:40]!r} is a second one of {account.method}", field="account"
                )
            found[account.method] = account.account_id(self._maker.network)
        return found

    def _there(self, accounts: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return the accounts of an own offer if none was removed. Raises NotFound."""
        for method, account_id in accounts.items():
            try:
                self._accounts.get(account_id)
            except NotFound:
                raise NotFound(
                    f"account: that of {method} was removed; name others with --account",
                    field="account",
                ) from None
        return dict(accounts)

    def _json(self, own: OwnOffer) -> dict[str, Any]:
        reference = self._maker.references.reference(own.offer.currency)
        return own_json(own, lambda a: name_of(self._accounts, a), reference)


def _terms(call: Call) -> dict[str, Any]:
    """Read what a call says of an offer's terms, by the names of its fields."""
    found: dict[str, Any] = {
        field: call.integer(name) for field, name in _INTEGERS if name in call.body
    }
    if "price" in call.body or "margin_bp" in call.body:
        found |= {"price": call.integer("price", 0), "margin_bp": call.integer("margin_bp", 0)}
    found |= {name: texts(call, name) for name in _LISTS if name in call.body}
    if "terms" in call.body:
        found["terms"] = call.text("terms")
    return found


def texts(call: Call, name: str) -> tuple[str, ...]:
    """Return a list of texts, ascending and each once. Raises UsageFault."""
    value = call.body.get(name)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise UsageFault(f"{name}: is not a list of texts", field=name)
    return tuple(sorted(set(value)))


def _answers(call: Call, now: Answers) -> Answers:
    """Read how proposals are answered; what a call leaves out stays."""
    accept_bp = call.integer("accept_bp", now.accept_bp)
    return Answers(
        accept_bp=accept_bp,
        counter_bp=call.integer("counter_bp", max(accept_bp, now.counter_bp)),
        otherwise=call.text("otherwise", now.otherwise),
    )


def _triggers(call: Call, now: Triggers) -> Triggers:
    """Read the references that disable an offer; 0 takes one away."""
    return Triggers(
        below=call.integer("disable_below", now.below),
        above=call.integer("disable_above", now.above),
    )


def side_of(text: str) -> Side:
    """Read buy or sell. Raises UsageFault."""
    try:
        return Side[text.upper()]
    except KeyError:
        raise UsageFault("side: is neither buy nor sell", field="side") from None
