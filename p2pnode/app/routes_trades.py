"""The local API's verbs for trades, disputes, arbiters and draws.

What a trade looks like to its user: amounts in satoshi, times in unix seconds, ids in hex,
and always what to do next and by when.
"""

from typing import Any

from escrow.arbiters import ArbiterRecord
from escrow.contract import ACK_S, MAX_RATE, Contract
from escrow.drawfile import draw_to_json
from escrow.facts import Facts
from escrow.hearing import Case
from escrow.messages import Kind
from escrow.model import (
    Cancel,
    Decide,
    MakeStatement,
    OpenDispute,
    RuledCase,
    SayNotPaid,
    SayPaid,
    SayReceived,
)
from escrow.payloads import Account, Dispute, Paid, Statement, Verdict
from escrow.script import escrow_address
from escrow.store_journal import ARBITER, TRADER, Row
from orderbook.currencies import exponent
from orderbook.shell_book import Book
from orderbook.store_accounts import AccountStore
from p2pnode.app import fit
from p2pnode.app.advice import advise, advise_arbiter
from p2pnode.app.exchange import Exchange
from p2pnode.app.routes import Call, Route
from p2pnode.base.errors import InvalidRecord, LocalFault, NotFound, UsageFault
from p2pnode.base.transaction import display


def routes(exchange: Exchange, book: Book, accounts: AccountStore) -> list[Route]:
    """Return the routes of trading and judging."""
    t, a = _Trading(exchange, book, accounts), _Judging(exchange)
    trade, case = "/v1/trades/{trade_id}", "/v1/cases/{trade_id}"
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
        Route("POST", f"{trade}/statement", t.statement, once=True, summary="Answer in a dispute"),
        Route("POST", "/v1/arbiter", a.register, once=True, summary="Volunteer as an arbiter"),
        Route("GET", "/v1/arbiter", a.status, summary="One's own record, and what was earned"),
        Route("POST", "/v1/arbiter/withdraw", a.withdraw, once=True, summary="Sweep one's fees"),
        Route("GET", "/v1/arbiters", a.known, summary="The arbiters known here"),
        Route("GET", "/v1/cases", a.list, summary="The arbiter's queue, oldest first"),
        Route("GET", case, a.show, summary="One case with its papers"),
        Route("POST", f"{case}/decide", a.decide, once=True, summary="Rule on a case"),
    ]


def _pick(exchange: Exchange, role: str, prefix: str) -> Row:
    digits = prefix.strip().lower()
    if not 4 <= len(digits) <= 64 or any(c not in "0123456789abcdef" for c in digits):
        raise InvalidRecord("trade_id", "is not 4 to 64 hex digits")
    found = [r for r in exchange.world.journal.rows(role) if r.trade_id.hex().startswith(digits)]
    if len(found) != 1:
        what = "fits several trades: give more digits" if found else "is no trade of this node"
        raise NotFound(f"trade_id: {digits[:16]} {what}", field="trade_id")
    return found[0]


class _Trading:
    def __init__(self, exchange: Exchange, book: Book, accounts: AccountStore) -> None:
        self._exchange, self._book, self._accounts = exchange, book, accounts
        self._world = exchange.world

    async def take(self, call: Call) -> dict[str, Any]:
        offer = await self._book.fetch(call.text("offer_id"))
        account = self._accounts.named(call.text("account"))
        terms = fit.terms_of(offer)
        if account.method != terms.method:
            raise LocalFault(f"account: is for {account.method}, the offer wants {terms.method}")
        salt = self._world.randomness.bytes(32)
        disclosed = fit.disclosure(account, self._world.network, salt)
        trade_id = await self._exchange.opening.take(terms, call.integer("amount_sat"), disclosed)
        return self._json(self._exchange.trades.row(trade_id))

    async def list(self, call: Call) -> list[dict[str, Any]]:
        return [self._json(row) for row in self._world.journal.rows(TRADER)]

    async def show(self, call: Call) -> dict[str, Any]:
        row = _pick(self._exchange, TRADER, call.text("trade_id"))
        await self._exchange.tender.refresh(row.trade_id)
        return self._json(self._exchange.trades.row(row.trade_id))

    async def draw(self, call: Call) -> dict[str, Any]:
        row = _pick(self._exchange, TRADER, call.text("trade_id"))
        facts = self._facts(row)
        draw, reveal = facts.one(facts.maker, Kind.DRAW), facts.one(facts.taker, Kind.REVEAL)
        if draw is None or reveal is None or facts.lacking():
            raise LocalFault("no arbiter has been drawn in this trade yet")
        records = [facts.records[i] for i in sorted(facts.listed_ids())]
        return draw_to_json(facts.take, draw, reveal, records, facts.drawn)

    async def cancel(self, call: Call) -> dict[str, Any]:
        return await self._act(call, Cancel(call.text("reason", "cancelled by its user")[:200]))

    async def paid(self, call: Call) -> dict[str, Any]:
        return await self._act(call, SayPaid(call.text("note", "")))

    async def not_paid(self, call: Call) -> dict[str, Any]:
        return await self._act(call, SayNotPaid(call.text("note", "")))

    async def received(self, call: Call) -> dict[str, Any]:
        return await self._act(call, SayReceived())

    async def dispute(self, call: Call) -> dict[str, Any]:
        row = _pick(self._exchange, TRADER, call.text("trade_id"))
        facts = self._facts(row)
        if facts.funding is None:
            raise LocalFault("nothing is in escrow yet: there is nothing to judge")
        payload = Dispute(
            contract=facts.contract.wire(),
            messages=self._papers(facts),
            records=tuple(facts.records[i].wire() for i in sorted(facts.listed_ids())),
            statement=call.text("statement"),
        )
        return await self._act(call, OpenDispute(payload))

    async def statement(self, call: Call) -> dict[str, Any]:
        facts = self._facts(_pick(self._exchange, TRADER, call.text("trade_id")))
        payload = Statement(statement=call.text("statement"), messages=self._papers(facts))
        return await self._act(call, MakeStatement(payload))

    def _papers(self, facts: Facts) -> tuple[bytes, ...]:
        traders = {facts.maker, facts.taker}
        return tuple(m.wire() for m in facts.messages if {m.sender, m.recipient} == traders)

    def _facts(self, row: Row) -> Facts:
        return self._exchange.trades.facts(row)

    async def _act(self, call: Call, event: Any) -> dict[str, Any]:
        row = _pick(self._exchange, TRADER, call.text("trade_id"))
        await self._exchange.act(row.trade_id, event)
        return self._json(self._exchange.trades.row(row.trade_id))

    def _json(self, row: Row) -> dict[str, Any]:
        plain: dict[str, Any] = {
            "trade_id": row.trade_id.hex(),
            "state": type(row.state).__name__,
            "began": row.began,
            "changed": row.changed,
            "note": row.note,
        }
        for name in ("reason", "outcome"):
            if hasattr(row.state, name):
                plain[name] = getattr(row.state, name)
        if not row.own:
            return plain | {"next": advise(row.state, None)}
        facts = self._facts(row)
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
        if facts.settled_contract:
            plain |= _contract_json(facts.contract, facts)
        return plain | {"next": advise(row.state, facts)}


def _contract_json(contract: Contract, facts: Facts) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "arbiter": contract.arbiter.hex(),
        "runner_up": contract.bond_a2[:32].hex(),
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
        plain["peer_account"] = fit.details(raw, account_hash, facts.network)
    if message := facts.one(contract.arbiter, Kind.VERDICT):
        verdict = Verdict.from_wire(message.payload)
        plain["verdict"] = {
            "buyer_sat": verdict.buyer_sat,
            "seller_sat": verdict.seller_sat,
            "arbiter_sat": verdict.arbiter_sat,
            "reason": verdict.reason,
        }
    plain["notice"] = facts.one(contract.arbiter, Kind.NOTICE) is not None
    return plain


class _Judging:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange, self._world = exchange, exchange.world

    async def register(self, call: Call) -> dict[str, Any]:
        await self._exchange.arbiter.register(
            call.integer("fee_base_sat", 1000), call.integer("fee_ppm", 1000)
        )
        return await self.status(call)

    async def status(self, call: Call) -> dict[str, Any]:
        seen, record = await self._exchange.earnings.seen(), self._exchange.arbiter.record()
        earned = {
            "earned_sat": sum(e.value for e in seen if e.height),
            "earned_pending_sat": sum(e.value for e in seen if not e.height),
        }
        if record is None:
            return {"registered": False} | earned
        holders = self._exchange.arbiter.holders()
        return {"registered": True, "holders": holders} | _record_json(record) | earned

    async def withdraw(self, call: Call) -> dict[str, Any]:
        named = call.integer("rate", 0)
        if not 0 <= named <= MAX_RATE:
            raise UsageFault(f"rate: is not 1 to {MAX_RATE} sat/vB", field="rate")
        done = await self._exchange.earnings.withdraw(named or None)
        return {
            "txid": display(done.txid),
            "amount_sat": done.value,
            "fee_sat": done.fee_sat,
            "outputs": done.count,
        }

    async def known(self, call: Call) -> list[dict[str, Any]]:
        await self._exchange.opening.refresh(force=True)
        return [_record_json(r) for r in self._exchange.trades.records.values()]

    async def list(self, call: Call) -> list[dict[str, Any]]:
        rows = self._world.journal.rows(ARBITER)
        return [self._json(row) for row in reversed(rows)]

    async def show(self, call: Call) -> dict[str, Any]:
        row = _pick(self._exchange, ARBITER, call.text("trade_id"))
        await self._exchange.tender.refresh(row.trade_id)
        row = self._exchange.trades.row(row.trade_id)
        case = self._exchange.trades.case(row)
        papers = [
            {"kind": m.kind.name, "sender": m.sender.hex(), "seq": m.seq, "id": m.id.hex()}
            for m in case.papers
        ]
        return self._json(row) | self._told(case) | {"papers": papers}

    def _told(self, case: Case) -> dict[str, str]:
        """Return what the traders told each other, as far as their papers show it."""
        contract, told = case.contract, {}
        for name, who, account_hash in (
            ("account_buyer", contract.buyer, contract.account_hash_b),
            ("account_seller", contract.seller, contract.account_hash_s),
        ):
            if message := case.paper(who, Kind.ACCOUNT):
                raw = Account.from_wire(message.payload).disclosure
                try:
                    told[name] = fit.details(raw, account_hash, case.network)
                except InvalidRecord:
                    told[name] = "(not the account that the contract names)"
        if message := case.paper(contract.buyer, Kind.PAID):
            told["paid_note"] = Paid.from_wire(message.payload).note
        return told

    async def decide(self, call: Call) -> dict[str, Any]:
        row = _pick(self._exchange, ARBITER, call.text("trade_id"))
        await self._exchange.act(
            row.trade_id, Decide(call.integer("buyer_sat"), call.text("reason"))
        )
        return self._json(self._exchange.trades.row(row.trade_id))

    def _json(self, row: Row) -> dict[str, Any]:
        case: Case = self._exchange.trades.case(row)
        contract = case.contract
        plain: dict[str, Any] = {
            "trade_id": row.trade_id.hex(),
            "state": type(row.state).__name__,
            "opened": row.began,
            "opener": "buyer" if case.opener == contract.buyer else "seller",
            "buyer": contract.buyer.hex(),
            "seller": contract.seller.hex(),
            "amount_sat": contract.amount_sat,
            "escrow_sat": contract.escrow_sat,
            "deposit_buyer_sat": contract.dep_b,
            "deposit_seller_sat": contract.dep_s,
            "fee_sat": contract.fee_a,
            "fiat_minor": contract.fiat_minor,
            "currency": contract.currency,
            "exponent": exponent(contract.currency),
            "statement_buyer": case.words(contract.buyer),
            "statement_seller": case.words(contract.seller),
            "note": row.note,
            "next": advise_arbiter(row.state, case),
        }
        if case.view and case.view.funding_height:
            plain |= {
                "mtp": case.view.mtp,
                "below_release_from_mtp": case.earliest_below_release(),
            }
        if isinstance(row.state, RuledCase):
            plain["buyer_sat"] = row.state.buyer_sat
            plain["seller_sat"] = row.state.seller_sat
        return plain


def _record_json(record: ArbiterRecord) -> dict[str, Any]:
    return {
        "node_id": record.node_id.hex(),
        "record_id": record.id.hex(),
        "fee_base_sat": record.fee_base,
        "fee_ppm": record.fee_ppm,
        "at_height": record.at_height,
        "weight": record.weight,
    }
