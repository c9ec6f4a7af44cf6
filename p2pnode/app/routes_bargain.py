"""The local API's verbs for prices: what a trade would cost, and proposals of another sum.

A quote changes nothing. A proposal's `fiat_minor` is the sum that was named last, `price`
what it makes of a BTC, rounded; `offer_price` is the offer's own.
"""

from dataclasses import replace
from typing import Any, Final

from escrow import bargain
from escrow.bargain import Countered, Declined, Proposed, SayAgree, SayCounter, SayRefuse, Taken
from escrow.contract import KINDS_ALLOWED
from escrow.messages import Kind, Message
from escrow.payloads import Counter, Propose
from escrow.quote import SIGNING_S, STEP_S, Quote
from escrow.shell_quote import Quotes
from escrow.store_bargain import Row
from escrow.terms import Terms
from orderbook.accounts import Account
from orderbook.currencies import exponent
from orderbook.offer import Offer
from orderbook.shell_book import Book
from orderbook.store_accounts import AccountStore
from p2pnode.app import desk
from p2pnode.app.deal import Deals
from p2pnode.app.exchange import Exchange
from p2pnode.app.routes import Call, Route
from p2pnode.app.routes_trades import seen_maker, trade_json
from p2pnode.base.errors import InvalidRecord, LocalFault, NotFound
from p2pnode.base.units import COIN, PRICE_SCALE, decimal, moment

_FIELDS: Final = {"fiat_minor": "the sum", "offer_hash": "the offer", "amount_sat": "the amount"}


def routes(exchange: Exchange, book: Book, accounts: AccountStore) -> list[Route]:
    """Return the routes of prices and proposals."""
    b = _Bargaining(exchange, book, accounts)
    one = "/v1/proposals/{proposal_id}"
    return [
        Route("POST", "/v1/quotes", b.quote, summary="What a trade would cost, all in"),
        Route("POST", "/v1/proposals", b.propose, once=True, summary="Propose another price"),
        Route("GET", "/v1/proposals", b.list, summary="List proposals, newest first"),
        Route("GET", one, b.show, summary="Show one proposal, and what to do next"),
        Route("POST", f"{one}/accept", b.accept, once=True, summary="Maker: agree; taker: take"),
        Route("POST", f"{one}/counter", b.counter, once=True, summary="Name another sum"),
        Route("POST", f"{one}/refuse", b.refuse, once=True, summary="Say no"),
    ]


class _Bargaining:
    def __init__(self, exchange: Exchange, book: Book, accounts: AccountStore) -> None:
        self._exchange, self._book, self._accounts = exchange, book, accounts
        self._deals = Deals(book, accounts, exchange)

    async def quote(self, call: Call) -> dict[str, Any]:
        quotes = Quotes(self._exchange.trades, self._exchange.opening)
        if prefix := call.text("proposal_id", ""):
            row = self._pick(prefix)
            fiat_minor = call.integer("fiat_minor", 0) or _sum(row, self._said(row))
            found = await quotes.of(
                row.terms,
                row.amount_sat,
                fiat_minor,
                as_maker=row.is_maker,
                escrow_kind=row.escrow_kind,
            )
            return quote_json(found, row.terms)
        offer = await self._book.fetch(call.text("offer_id"), seen_maker(call))
        mine = self._book.is_mine(offer)
        method, account = self._method(call, offer, mine=mine)
        amount_sat = call.integer("amount_sat")
        terms = await self._deals.terms(offer, method, amount_sat)
        found = await quotes.of(
            terms,
            amount_sat,
            call.integer("fiat_minor", 0),
            as_maker=mine,
            escrow_kind=call.text("escrow_kind", ""),
        )
        reference = self._deals.reference(offer.currency) if offer.floating else 0
        margin_bp = offer.margin_bp if offer.floating else None
        more = {"reference": reference, "margin_bp": margin_bp, "terms": offer.alike.hex()}
        return quote_json(found, terms) | more | {"account": account}

    def _method(self, call: Call, offer: Offer, *, mine: bool) -> tuple[str, str]:
        """Return what a quote is for: a method, and the taker's account, empty if none is meant."""
        method = call.text("method", "")
        if mine or ("account" not in call.body and (method or len(offer.methods) == 1)):
            return method or offer.methods[0], ""
        account = self._deals.account(offer, call.text("account", ""), method)
        return account.method, account.name

    async def propose(self, call: Call) -> dict[str, Any]:
        offer = await self._book.fetch(call.text("offer_id"), seen_maker(call))
        self._deals.unchanged(offer, call.text("terms", ""))
        account = self._deals.account(offer, call.text("account", ""), call.text("method", ""))
        terms = await self._deals.terms(offer, account.method, call.integer("amount_sat"))
        await self._deals.introduce(offer, account.method)
        made = self._exchange.bargains.propose(
            terms,
            offer.offer_id,
            call.integer("amount_sat"),
            call.integer("fiat_minor"),
            account_id=account.account_id(self._exchange.world.network),
            escrow_kind=terms.kind(call.text("escrow_kind", "")),
        )
        return self._json(self._exchange.bargains.row(made))

    async def list(self, call: Call) -> list[dict[str, Any]]:
        return [self._json(row) for row in self._exchange.bargains.rows()]

    async def show(self, call: Call) -> dict[str, Any]:
        return self._json(self._pick(call.text("proposal_id")))

    async def accept(self, call: Call) -> dict[str, Any]:
        row = self._pick(call.text("proposal_id"))
        if row.is_maker:
            return self._json(self._exchange.bargains.act(row.id, SayAgree()))
        if not isinstance(row.state, Countered):
            raise LocalFault(f"there is no sum to accept: {advise(row)}")
        offer = await self._book.fetch(row.offer_id.hex(), row.peer)
        if offer.maker != row.peer:
            raise NotFound("the offer is no longer published", field="offer_id")
        terms = desk.terms_of(offer, row.terms.method, row.terms.price)
        if _promise(terms) != _promise(row.terms):
            raise LocalFault("the maker has changed the offer since you proposed: propose again")
        trade_id = await self._exchange.opening.take(
            terms,
            row.amount_sat,
            desk.disclosure(
                self._account(row),
                self._exchange.world.network,
                self._exchange.world.randomness.bytes(32),
            ),
            escrow_kind=row.escrow_kind,
            counter=row.state.counter_id,
            fiat_minor=row.state.fiat_minor,
            shows=self._deals.judged(offer, row.terms.method),
        )
        trade = trade_json(self._exchange, self._exchange.trades.row(trade_id))
        return self._json(self._exchange.bargains.row(row.id)) | {"trade": trade}

    async def counter(self, call: Call) -> dict[str, Any]:
        row, fiat_minor = self._pick(call.text("proposal_id")), call.integer("fiat_minor")
        event = SayCounter(fiat_minor) if row.is_maker else bargain.SayPropose(fiat_minor)
        return self._json(self._exchange.bargains.act(row.id, event))

    async def refuse(self, call: Call) -> dict[str, Any]:
        row = self._pick(call.text("proposal_id"))
        event = SayRefuse(call.text("reason", "no, thank you"))
        return self._json(self._exchange.bargains.act(row.id, event))

    def _account(self, row: Row) -> Account:
        return self._accounts.get(row.account_id)

    def _pick(self, prefix: str) -> Row:
        """Return the one proposal whose id begins so. Raises NotFound, InvalidRecord."""
        digits = prefix.strip().lower()
        if not 4 <= len(digits) <= 64 or any(c not in "0123456789abcdef" for c in digits):
            raise InvalidRecord("proposal_id", "is not 4 to 64 hex digits")
        rows = self._exchange.bargains.rows()
        found = [r for r in rows if r.id.hex().startswith(digits)]
        if len(found) != 1:
            what = "fits several proposals: give more digits" if found else "is no proposal here"
            raise NotFound(f"proposal_id: {digits[:16]} {what}", field="proposal_id")
        return found[0]

    def _said(self, row: Row) -> tuple[Message, ...]:
        return self._exchange.world.journal.messages(row.id)

    def _json(self, row: Row) -> dict[str, Any]:
        messages = self._said(row)
        fiat_minor = _sum(row, messages)
        said = [
            {
                "kind": m.kind.name,
                "mine": m.sender == self._exchange.world.me,
                "fiat_minor": payload.fiat_minor,
            }
            for m in messages
            if (payload := _named(m)) is not None
        ]
        return {
            "proposal_id": row.id.hex(),
            "state": type(row.state).__name__,
            "role": "maker" if row.is_maker else "taker",
            "seller": bool(row.terms.maker_is_seller) == row.is_maker,
            "peer": row.peer.hex(),
            "offer_id": row.offer_id.hex(),
            "amount_sat": row.amount_sat,
            "fiat_minor": fiat_minor,
            "currency": row.terms.currency,
            "exponent": exponent(row.terms.currency),
            "price": price_of(row.amount_sat, fiat_minor),
            "offer_price": row.terms.price,
            "method": row.terms.method,
            "escrow_kind": row.escrow_kind or None,
            "round": sum(1 for m in messages if m.kind is Kind.PROPOSE),
            "said": said,
            "began": row.began,
            "until": row.began + bargain.LIFE_S,
            "trade_id": row.state.trade_id.hex() if isinstance(row.state, Taken) else None,
            "next": advise(row),
        }


def _promise(terms: Terms) -> Terms:
    """Return terms without what a refresh changes, and what the amount is held against anyway."""
    return replace(terms, offer_hash=bytes(32), min_sat=1, max_sat=1)


def _named(message: Message) -> Propose | Counter | None:
    """Return the payload of a message that names a sum."""
    if message.kind is Kind.PROPOSE:
        return Propose.from_wire(message.payload)
    return Counter.from_wire(message.payload) if message.kind is Kind.COUNTER else None


def _sum(row: Row, messages: tuple[Message, ...]) -> int:
    """Return the sum that was named last."""
    if isinstance(row.state, Proposed | Countered | Taken):
        return row.state.fiat_minor
    return [p.fiat_minor for m in messages if (p := _named(m)) is not None][-1]


def price_of(amount_sat: int, fiat_minor: int) -> int:
    """Return the price that a sum makes, rounded half up."""
    return (2 * fiat_minor * COIN * PRICE_SCALE + amount_sat) // (2 * amount_sat)


def advise(row: Row) -> str:
    """Return what to do next, in one sentence."""
    state, short, until = row.state, row.id.hex()[:8], moment(row.began + bargain.LIFE_S)
    places = exponent(row.terms.currency)
    match state:
        case Proposed() if row.is_maker:
            return (
                f"by {until}: p2pnode proposal accept {short}\n"
                f"or: p2pnode proposal counter {short} --price …\n"
                f"or: p2pnode proposal refuse {short}"
            )
        case Proposed():
            return f"wait: the maker answers by {until}, or it lapses"
        case Countered(fiat_minor=sum_) if row.is_maker:
            what = f"{decimal(sum_, places)} {row.terms.currency}"
            return f"wait: you stand by {what} until {until}; the taker may take it"
        case Countered(round=number):
            more = number < bargain.MAX_ROUNDS
            again = f"or: p2pnode proposal counter {short} --price …\n" if more else ""
            return (
                f"by {until}: p2pnode proposal accept {short}\n"
                f"{again}or: p2pnode proposal refuse {short}"
            )
        case Taken(trade_id=trade_id):
            return f"it became a trade: p2pnode trade show {trade_id.hex()[:8]}"
        case Declined(mine, reason):
            return f"nothing: {'you' if mine else 'the other side'} refused ({_spoken(reason)})"
    return "nothing: the ten minutes are over"


def _spoken(reason: str) -> str:
    """Return a refusal's reason with its field in words, or without it where a person spoke."""
    field, _, words = reason.partition(": ")
    if field not in _FIELDS or not words:
        return reason
    return f"{_FIELDS[field]} {words}" if words.startswith("is ") else words


def quote_json(found: Quote, terms: Terms) -> dict[str, Any]:
    """Return a quote as the API writes it."""
    return {
        "role": "seller" if found.is_seller else "buyer",
        "amount_sat": found.amount_sat,
        "fiat_minor": found.fiat_minor,
        "currency": terms.currency,
        "exponent": exponent(terms.currency),
        "price": price_of(found.amount_sat, found.fiat_minor),
        "offer_price": terms.price,
        "method": terms.method,
        "escrow_kind": found.escrow_kind,
        "escrow_kinds": [k for k in reversed(KINDS_ALLOWED) if k in terms.escrow_kinds],
        "deposit_buyer_sat": found.dep_b,
        "deposit_seller_sat": found.dep_s,
        "locked_sat": found.locked_sat,
        "rate": found.rate,
        "funding_fee_sat": found.funding_fee_sat,
        "payout_fee_sat": found.payout_fee_sat,
        "returned_sat": found.returned_sat,
        "arbiters": found.arbiters,
        "arbiter_fee_low_sat": found.arbiter_low_sat,
        "arbiter_fee_high_sat": found.arbiter_high_sat,
        "depth": found.depth,
        "step_s": STEP_S,
        "signing_s": SIGNING_S,
        "ack_s": found.ack_s,
        "period_s": found.period_s,
        "reply_s": found.reply_s,
        "verdict_s": found.verdict_s,
        "backup_blocks": found.backup_blocks,
    }
