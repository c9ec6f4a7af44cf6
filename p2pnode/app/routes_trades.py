"""The local API's verbs for trades, their disputes and their draws.

What a trade looks like to its user: amounts in satoshi, times in unix seconds, ids in hex,
and always what to do next and by when.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from escrow.accord import asks
from escrow.confirm import FINAL_DEPTH
from escrow.contract import ACK_S, Contract
from escrow.deadlines import of_trade
from escrow.drawfile import draw_to_json
from escrow.facts import Facts
from escrow.messagefile import read_hex
from escrow.messages import Kind
from escrow.model import (
    AcceptVerdict,
    Cancel,
    Closed,
    MakeStatement,
    OpenDispute,
    Ruled,
    SayNotPaid,
    SayPaid,
    SayReceived,
    State,
    Toxic,
)
from escrow.payloads import MAX_NOTE, Account, Ask, Recuse, Refuse, Verdict
from escrow.script import escrow_address
from escrow.store_journal import TRADER, Row
from escrow.words import hearing_arbiter
from orderbook.currencies import exponent
from orderbook.shell_book import Book
from orderbook.store_accounts import AccountStore
from p2pnode.app import desk
from p2pnode.app.advice import advise
from p2pnode.app.deal import Deals
from p2pnode.app.exchange import Exchange
from p2pnode.app.routes import Call, Route
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, LocalFault, NotFound
from p2pnode.base.transaction import display
from p2pnode.base.units import MAX_SAT


def routes(exchange: Exchange, book: Book, accounts: AccountStore) -> list[Route]:
    """Return the routes of trading."""
    t = _Trading(exchange, book, accounts)
    trade = "/v1/trades/{trade_id}"
    return [
        Route("POST", "/v1/trades", t.take, once=True, summary="Take an offer"),
        Route("GET", "/v1/trades", t.list, summary="List one's trades, newest first"),
        Route("GET", trade, t.show, summary="Show one trade, and what to do next"),
        Route("GET", f"{trade}/draw", t.draw, summary="The transcript of its arbiter's draw"),
        Route("POST", f"{trade}/cancel", t.cancel, once=True, summary="Stop before funding"),
        Route("POST", f"{trade}/paid", t.paid, once=True, summary="Buyer: I have paid"),
        Route("POST", f"{trade}/not-paid", t.not_paid, once=True, summary="Buyer: I will not pay"),
        Route("POST", f"{trade}/received", t.received, once=True, summary="Seller: pay the buyer"),
        Route("POST", f"{trade}/dispute", t.dispute, once=True, summary="Call the arbiter"),
        Route("POST", f"{trade}/accept", t.accept, once=True, summary="Take a verdict as it is"),
        Route("POST", f"{trade}/statement", t.statement, once=True, summary="Answer in a dispute"),
    ]


def pick_trade(exchange: Exchange, role: str, prefix: str) -> Row:
    """Return the one trade or case whose id begins so. Raises NotFound, InvalidRecord."""
    return pick(exchange.world.journal.rows(role), prefix, "trade" if role == TRADER else "case")


def pick(rows: Iterable[Row], prefix: str, what: str = "trade") -> Row:
    """Return the one of these whose id begins so. Raises NotFound, InvalidRecord."""
    digits = prefix.strip().lower()
    if not 4 <= len(digits) <= 64 or any(c not in "0123456789abcdef" for c in digits):
        raise InvalidRecord("trade_id", "is not 4 to 64 hex digits")
    found = [r for r in rows if r.trade_id.hex().startswith(digits)]
    if len(found) != 1:
        why = f"fits several {what}s: give more digits" if found else f"is no {what} of this node"
        raise NotFound(f"{digits[:16]} {why}", field="trade_id")
    return found[0]


def seen_maker(call: Call) -> bytes:
    """Return the maker of the offer that was seen, empty if none is named: ids may be copied.

    Raises InvalidRecord.
    """
    said = call.text("maker", "")
    return wire.exact("maker", read_hex("maker", said), 32) if said else b""


class _Trading:
    def __init__(self, exchange: Exchange, book: Book, accounts: AccountStore) -> None:
        self._exchange, self._book, self._deals = exchange, book, Deals(book, accounts, exchange)
        self._world = exchange.world

    async def take(self, call: Call) -> dict[str, Any]:
        offer = await self._book.fetch(call.text("offer_id"), seen_maker(call))
        self._deals.unchanged(offer, call.text("terms", ""))
        amount_sat = call.integer("amount_sat")
        account = self._deals.account(offer, call.text("account", ""), call.text("method", ""))
        terms = await self._deals.terms(offer, account.method, amount_sat)
        salt = self._world.randomness.bytes(32)
        disclosed = desk.disclosure(account, self._world.network, salt)
        trade_id = await self._exchange.opening.take(
            terms,
            amount_sat,
            disclosed,
            escrow_kind=call.text("escrow_kind", ""),
            fiat_minor=self._deals.confirmed(terms, amount_sat, call.integer("fiat_minor", 0)),
            shows=self._deals.judged(offer, account.method),
        )
        return trade_json(self._exchange, self._exchange.trades.row(trade_id))

    async def list(self, call: Call) -> list[dict[str, Any]]:
        self._exchange.look()
        return [trade_json(self._exchange, row) for row in self._world.journal.rows(TRADER)]

    async def show(self, call: Call) -> dict[str, Any]:
        self._exchange.look()
        row = pick_trade(self._exchange, TRADER, call.text("trade_id"))
        await self._exchange.tender.refresh(row.trade_id)
        return trade_json(self._exchange, self._exchange.trades.row(row.trade_id))

    async def draw(self, call: Call) -> dict[str, Any]:
        row = pick_trade(self._exchange, TRADER, call.text("trade_id"))
        facts = self._facts(row)
        draw, reveal = facts.one(facts.maker, Kind.DRAW), facts.one(facts.taker, Kind.REVEAL)
        early = not facts.settled_contract and facts.lacking()
        if draw is None or reveal is None or early:
            raise LocalFault("no arbiter has been drawn in this trade yet")
        records = [facts.record(i) for i in sorted(facts.listed_ids())]
        return draw_to_json(facts.take, draw, reveal, records, facts.drawn)

    async def cancel(self, call: Call) -> dict[str, Any]:
        return await self._act(
            call, Cancel(wire.clipped(call.text("reason", "cancelled by its user"), MAX_NOTE))
        )

    async def paid(self, call: Call) -> dict[str, Any]:
        return await self._act(call, SayPaid(call.text("note", "")))

    async def not_paid(self, call: Call) -> dict[str, Any]:
        return await self._act(call, SayNotPaid(call.text("note", "")))

    async def received(self, call: Call) -> dict[str, Any]:
        return await self._act(call, SayReceived())

    async def dispute(self, call: Call) -> dict[str, Any]:
        row = pick_trade(self._exchange, TRADER, call.text("trade_id"))
        facts = self._facts(row)
        if facts.funding is None:
            raise LocalFault("nothing is in escrow yet: there is nothing to judge")
        judge = facts.contract.arbiter
        if call.flag("runner_up", False):
            if not facts.contract.n:
                raise LocalFault("this kind of escrow has no runner-up", field="runner_up")
            judge = facts.contract.runner_up
        papers = facts.dispute(call.text("statement"), judge)
        return await self._act(call, OpenDispute(papers, judge))

    async def accept(self, call: Call) -> dict[str, Any]:
        shown = wire.within("buyer_sat", call.integer("buyer_sat"), 0, MAX_SAT)
        return await self._act(call, AcceptVerdict(shown))  # the very verdict that was read

    async def statement(self, call: Call) -> dict[str, Any]:
        facts = self._facts(pick_trade(self._exchange, TRADER, call.text("trade_id")))
        if facts.settled_contract is None:
            raise LocalFault("no dispute is open in this trade")
        judge, words = hearing_arbiter(facts), call.text("statement")
        if not words:
            raise InvalidRecord("statement", "is empty")
        return await self._act(call, MakeStatement(facts.statement(words, judge), judge))

    def _facts(self, row: Row) -> Facts:
        return self._exchange.trades.facts(row)

    async def _act(self, call: Call, event: Any) -> dict[str, Any]:
        row = pick_trade(self._exchange, TRADER, call.text("trade_id"))
        await self._exchange.act(row.trade_id, event)
        return trade_json(self._exchange, self._exchange.trades.row(row.trade_id))


def trade_json(exchange: Exchange, row: Row) -> dict[str, Any]:
    """Return a trade as its user sees it."""
    plain: dict[str, Any] = {
        "trade_id": row.trade_id.hex(),
        "state": type(row.state).__name__,
        "began": row.began,
        "changed": row.changed,
        "note": row.note,
        "remark": exchange.remarks.remark(row.trade_id),
    }
    for name in ("reason", "outcome", "why"):
        if hasattr(row.state, name):
            plain[name] = getattr(row.state, name)
    if isinstance(row.state, (Ruled, Toxic)):
        plain["accepted"] = bool(row.state.accepted or row.state.raw)
    if not row.own:
        return plain | {"next": advise(row.state, None)}
    facts = exchange.trades.facts(row)
    take, terms = facts.terms_taken, facts.terms
    plain |= {
        "role": "buyer" if facts.me == facts.buyer else "seller",
        "maker": facts.maker.hex(),
        "taker": facts.taker.hex(),
        "peer": facts.peer.hex(),
        "amount_sat": take.amount_sat,
        "fiat_minor": take.fiat_minor,
        "currency": terms.currency,
        "exponent": exponent(terms.currency),
        "method": take.method,
    }
    named = {facts.buyer: "buyer", facts.seller: "seller"}
    if facts.settled_contract:
        named |= {facts.contract.arbiter: "arbiter", facts.contract.runner_up: "runner-up"}
    plain["proofs"] = proofs_json(exchange, row, named)
    read = exchange.remarks.read(row.trade_id)
    plain["unread"] = sum(
        m.kind is Kind.CHAT and m.recipient == facts.me and m.id not in read for m in facts.messages
    )
    if facts.settled_contract:
        plain |= _contract_json(facts.contract, facts, row.state)
        plain["asks"] = asks_json(facts)
        plain["due"] = [{"what": d.name, "by_mtp": d.at_mtp} for d in of_trade(row.state, facts)]
    if isinstance(row.state, Closed):  # an ended trade is looked up in the chain no more
        plain["payout_txid"] = display(row.state.txid)
        plain.setdefault("payout_confirmations", FINAL_DEPTH)
    return plain | {"next": advise(row.state, facts)}


def proofs_json(exchange: Exchange, row: Row, named: Mapping[bytes, str]) -> list[dict[str, str]]:
    """Return who is proven to have signed what twice in a trade or case."""
    return [
        {"what": what.words, "by": named.get(who, ""), "node_id": who.hex()}
        for who, what in exchange.world.journal.proofs.told(row.trade_id)
    ]


def asks_json(facts: Facts) -> list[dict[str, Any]]:
    """Return every proposal of another split, oldest first on each side, and what became of it."""
    both = (("buyer", facts.buyer, facts.seller), ("seller", facts.seller, facts.buyer))
    return [
        {
            "ask_id": a.ask.id.hex(),
            "asker": side,
            "buyer_sat": a.buyer_sat,
            "seller_sat": a.seller_sat,
            "note": Ask.from_wire(a.ask.payload).note,
            "declined": _declined(facts, other).get(a.ask.id),
            "standing": a.standing.value,
        }
        for side, asker, other in both
        for a in asks(facts.between, asker, other)
    ]


def _declined(facts: Facts, who: bytes) -> dict[bytes, str]:
    """Return what this trader said in declining, by the ASK that he declined."""
    said = (Refuse.from_wire(m.payload) for m in facts.all(who, Kind.REFUSE))
    return {r.refused_id: r.value for r in said}


def _ruling(state: State, facts: Facts) -> tuple[bool, Verdict] | None:
    """Return the verdict that the state takes, whichever way it came, or the last one there is."""
    try:
        return facts.ruling(of_runner_up=bool(state.backup) if isinstance(state, Ruled) else None)
    except InvalidRecord:
        return None


def _contract_json(contract: Contract, facts: Facts, state: State) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "arbiter": contract.arbiter.hex(),
        "runner_up": contract.runner_up.hex(),
        "escrow_kind": contract.escrow_kind,
        "contract_hash": contract.hash.hex(),
        "escrow_address": escrow_address(contract),
        "escrow_sat": contract.escrow_sat,
        "deposit_buyer_sat": contract.dep_b,
        "deposit_seller_sat": contract.dep_s,
        "arbiter_fee_sat": contract.fee_a,
        "rate": contract.rate,
        "depth": contract.depth,
    }
    if funding := facts.funding:
        plain |= {
            "escrow_txid": display(funding.escrow_outpoint.txid),
            "escrow_vout": funding.escrow_outpoint.vout,
            "funding_fee_buyer_sat": funding.fee_b,
            "funding_fee_seller_sat": funding.fee_s,
        }
    if view := facts.view:
        plain |= {
            "confirmations": view.funding_depth,
            "payout_txid": display(view.spend.txid) if view.spend else "",
            "payout_confirmations": view.depth_of(view.spend),
            "mtp": view.mtp,
        }
        if view.funding_height:
            end = contract.period_end(view.funding_mtp)
            plain |= {
                "pay_by_mtp": end,
                "ack_by_mtp": view.funding_mtp + ACK_S,
                "ruling_below_release_from_mtp": end + contract.reply_s,
            }
    if message := facts.one(facts.peer, Kind.ACCOUNT):
        account_hash = (
            contract.account_hash_s if facts.peer == facts.seller else contract.account_hash_b
        )
        raw = Account.from_wire(message.payload).disclosure
        try:
            plain["peer_account"] = desk.details(raw, account_hash, facts.network)
        except InvalidRecord:  # kept by a node that has lost data, whatever it says
            plain["peer_account"] = "(not the account that the contract names)"
    if ruling := _ruling(state, facts):
        second, verdict = ruling
        plain["verdict"] = {
            "by": facts.arbiters[int(second)].hex(),
            "buyer_sat": verdict.buyer_sat,
            "seller_sat": verdict.seller_sat,
            "arbiter_sat": verdict.arbiter_sat,
            "reason": verdict.reason,
        }
    if message := facts.one(contract.arbiter, Kind.RECUSE):
        plain["recused"] = Recuse.from_wire(message.payload).reason
    plain["notice"] = any(facts.noticed(a) for a in facts.arbiters)
    return plain
