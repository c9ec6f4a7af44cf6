"""The local API's verbs for receipts: one's own, and what another's prove of his past."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from escrow.messagefile import read_hex
from escrow.messages import ZERO
from escrow.receipt import MAX_BYTES, Receipt
from escrow.receiptfile import receipt_to_json
from escrow.shell_history import Told
from escrow.shell_standing import Standing
from escrow.standing import Statistics, Weighed
from escrow.store_journal import TRADER
from orderbook.currencies import EXPONENTS, exponent
from orderbook.offer import Offer
from orderbook.shell_book import Book
from p2pnode.app.exchange import Exchange
from p2pnode.app.routes import Call, Route
from p2pnode.app.routes_trades import pick_trade
from p2pnode.base.errors import InvalidRecord, NodeError, NotFound
from p2pnode.base.history import History
from p2pnode.base.networks import Network
from p2pnode.base.ports import Clock

_OFFERS: Final = 8  # of one maker in one market that are looked at


def routes(exchange: Exchange, book: Book, clock: Clock) -> list[Route]:
    """Return the routes of receipts."""
    r = _Receipts(exchange, book, clock)
    return [
        Route("GET", "/v1/receipts", r.own, summary="What one's own receipts prove"),
        Route("GET", "/v1/receipts/{trade_id}", r.export, summary="One's own receipt, whole"),
        Route("POST", "/v1/receipts/check", r.check, summary="Check anybody's receipt"),
        Route("GET", "/v1/history/{node_id}", r.history, summary="What is proven of a node"),
        Route("POST", "/v1/history/{node_id}", r.ask, summary="Ask a node for its receipts"),
    ]


class _Receipts:
    def __init__(self, exchange: Exchange, book: Book, clock: Clock) -> None:
        self._exchange, self._book, self._clock = exchange, book, clock

    @property
    def _standing(self) -> Standing:
        return self._exchange.standing

    @property
    def _me(self) -> bytes:
        return self._exchange.world.me

    @property
    def _network(self) -> Network:
        return self._exchange.world.network

    # -- one's own

    async def own(self, _: Call) -> list[dict[str, Any]]:
        await self._exchange.receipts.make()
        return self._rows(self._me, self._standing.weighed(self._me))

    async def export(self, call: Call) -> dict[str, Any]:
        row = pick_trade(self._exchange, TRADER, call.text("trade_id"))
        await self._exchange.receipts.make()
        raw = self._exchange.receipts.raw(row.trade_id)
        if not raw:
            why = "has given no receipt: only a trade that closed released, or by a verdict, does"
            raise NotFound(f"trade {row.trade_id.hex()[:8]} {why}", field="trade_id")
        return receipt_to_json(Receipt.decoded(raw, self._network))

    async def check(self, call: Call) -> dict[str, Any]:
        """Check a receipt against our own chain. Raises InvalidRecord naming the line."""
        text = call.text("receipt")
        if len(text) > 2 * MAX_BYTES:
            raise InvalidRecord("receipt", f"is over {MAX_BYTES} bytes")
        receipt = Receipt.decoded(read_hex("receipt", text), self._network)
        proven = receipt.proven(self._exchange.world.chain)
        return {
            "funded_at": proven.funded_at,
            "funding_height": proven.funding_height,
            "payout_height": proven.payout_height,
            "tip_height": self._exchange.world.chain.tip().height,
        }

    # -- others'

    async def history(self, call: Call) -> dict[str, Any]:
        node_id, offer = await self._who(call)
        return self._told(node_id, offer, None, "")

    async def ask(self, call: Call) -> dict[str, Any]:
        node_id, offer = await self._who(call)
        told, why = None, ""
        if node_id != self._me:
            try:
                offer_hash = offer.hash if offer else ZERO
                told = await self._exchange.introductions.ask(node_id, offer_hash, show=False)
            except NodeError as error:
                why = str(error)
        return self._told(node_id, offer, told, why)

    async def _who(self, call: Call) -> tuple[bytes, Offer | None]:
        """Return whom the user means, and an offer of his that is known here."""
        text = call.text("node_id").strip().lower()
        if text.startswith("offer:"):
            offer = await self._book.fetch(text.removeprefix("offer:"))
            return offer.maker, offer
        node_id = self._named(text)
        return node_id, self._offer_of(node_id)

    def _named(self, text: str) -> bytes:
        """Return the counterparty whose id begins so, or else a maker of the book."""
        met = {self._me, *self._standing.store.met()}
        found = [node_id for node_id in met if len(text) >= 4 and node_id.hex().startswith(text)]
        return found[0] if len(found) == 1 else self._book.maker_named(text)

    def _offer_of(self, node_id: bytes) -> Offer | None:
        now, store = self._clock.now(), self._book.store
        for currency in store.followed(now):
            for raw in store.raws(currency, node_id, node_id + b"\xff\xff", now, _OFFERS):
                try:
                    offer = Offer.from_wire(raw, network=self._network, now=now)
                except InvalidRecord:
                    continue
                if not offer.withdrawn:
                    return offer
        return None

    def _told(
        self, node_id: bytes, offer: Offer | None, told: Told | None, why: str
    ) -> dict[str, Any]:
        proven = self._standing.history(node_id)
        return {
            "node_id": node_id.hex(),
            "asked": told is not None,
            "why": why,
            "shown": told.count if told else None,
            "faults": list(told.faults) if told else [],
            "proven": self._numbers(proven),
            "claimed": self._claimed(offer) if offer else None,
            "known_since": self._standing.age(node_id),
            "receipts": self._rows(node_id, self._standing.weighed(node_id)),
        }

    def _numbers(self, history: History) -> dict[str, int]:
        return {
            "trades": history.trades,
            "partners": history.partners,
            "first_at": history.first_at,
            "days": history.days(self._exchange.world.chain.tip().mtp),
        }

    def _claimed(self, offer: Offer) -> dict[str, Any]:
        said = History(offer.said_trades, offer.said_partners, offer.said_since)
        return self._numbers(said) | {"offer_id": offer.offer_id.hex()}

    def _rows(self, node_id: bytes, weighed: Iterable[Weighed]) -> list[dict[str, Any]]:
        return [
            {
                "trade_id": w.proven.trade_id.hex(),
                "role": "seller" if w.proven.seller == node_id else "buyer",
                "partner": w.partner.hex(),
                "partner_since": self._standing.age(w.partner),
                "amount_sat": w.proven.amount_sat,
                "currency": w.proven.currency,
                "exponent": _exponent(w.proven.currency),
                "fiat_minor": w.proven.fiat_minor,
                "method": w.proven.method,
                "outcome": w.proven.outcome,
                "funded_at": w.proven.funded_at,
                "weighs": not w.why,
                "why": w.why,
            }
            for w in weighed
        ]


def _exponent(currency: str) -> int:
    """Return the decimals of a receipt's currency; two strangers may have named any."""
    return exponent(currency) if currency in EXPONENTS else 0


def sales(standing: Standing) -> Callable[[str, int], Sequence[Statistics]]:
    """Return what market statistics are made of: receipts in currencies that there are."""

    def found(currency: str, since: int) -> Sequence[Statistics]:
        return [s for s in standing.statistics(currency, since) if s.currency in EXPONENTS]

    return found
