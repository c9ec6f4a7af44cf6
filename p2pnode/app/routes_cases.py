"""The local API's verbs for arbiters: their record, their earnings, their cases."""

from typing import Any

from escrow.arbiters import ArbiterRecord
from escrow.bond import is_proven
from escrow.case import Case
from escrow.contract import MAX_RATE
from escrow.deadlines import of_case
from escrow.docket import lacking, shown_by
from escrow.messages import Kind
from escrow.model import Decide, RuledCase
from escrow.payloads import Account, Paid
from escrow.rulings import earliest_below_release
from escrow.store_journal import ARBITER, Row
from escrow.transcript import signed_twice
from orderbook.currencies import exponent
from p2pnode.app import desk
from p2pnode.app.advice_case import advise_arbiter
from p2pnode.app.exchange import Exchange
from p2pnode.app.routes import Call, Route
from p2pnode.app.routes_trades import pick_trade, proofs_json
from p2pnode.base.errors import InvalidRecord, UsageFault
from p2pnode.base.ports import Chain
from p2pnode.base.transaction import Outpoint, display


def routes(exchange: Exchange) -> list[Route]:
    """Return the routes of judging."""
    a, case = _Judging(exchange), "/v1/cases/{trade_id}"
    return [
        Route("POST", "/v1/arbiter", a.register, once=True, summary="Volunteer as an arbiter"),
        Route("GET", "/v1/arbiter", a.status, summary="One's own record, and what was earned"),
        Route("POST", "/v1/arbiter/withdraw", a.withdraw, once=True, summary="Sweep one's fees"),
        Route("GET", "/v1/arbiters", a.known, summary="The arbiters known here"),
        Route("GET", "/v1/cases", a.list, summary="The arbiter's queue, oldest first"),
        Route("GET", case, a.show, summary="One case with its papers"),
        Route("POST", f"{case}/decide", a.decide, once=True, summary="Rule on a case"),
    ]


class _Judging:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange, self._world = exchange, exchange.world

    async def register(self, call: Call) -> dict[str, Any]:
        await self._exchange.arbiter.register(
            call.integer("fee_base_sat", 1000), call.integer("fee_ppm", 1000)
        )
        return await self.status(call)

    async def status(self, call: Call) -> dict[str, Any]:
        seen, arbiter = await self._exchange.earnings.seen(), self._exchange.arbiter
        earned = {
            "earned_sat": sum(e.value for e in seen if e.height),
            "earned_pending_sat": sum(e.value for e in seen if not e.height),
        }
        if not arbiter.registered():
            return {"registered": False} | earned
        told: dict[str, Any] = {"holders": arbiter.holders(), "paused": arbiter.paused()}
        told["fee_base_sat"], told["fee_ppm"] = arbiter.fees()
        record = arbiter.record()
        if record is not None:
            told |= _record_json(record, self._world.chain)
        told["waiting"] = await self._exchange.bonds.waiting()
        return {"registered": True} | told | earned

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
        chain = self._world.chain
        return [_record_json(r, chain) for r in self._exchange.trades.records.values()]

    async def list(self, call: Call) -> list[dict[str, Any]]:
        self._exchange.look()
        rows = self._world.journal.rows(ARBITER)
        return [case_json(self._exchange, row) for row in reversed(rows)]

    async def show(self, call: Call) -> dict[str, Any]:
        self._exchange.look()
        row = pick_trade(self._exchange, ARBITER, call.text("trade_id"))
        await self._exchange.tender.refresh(row.trade_id)
        row = self._exchange.trades.row(row.trade_id)
        case = self._exchange.trades.case(row)
        papers = [
            {"kind": m.kind.name, "sender": m.sender.hex(), "seq": m.seq, "id": m.id.hex()}
            for m in case.papers
        ]
        return case_json(self._exchange, row) | self._told(case) | {"papers": papers}

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
                    told[name] = desk.details(raw, account_hash, case.network)
                except InvalidRecord:
                    told[name] = "(not the account that the contract names)"
        if message := case.paper(contract.buyer, Kind.PAID):
            told["paid_note"] = Paid.from_wire(message.payload).note
        return told

    async def decide(self, call: Call) -> dict[str, Any]:
        row = pick_trade(self._exchange, ARBITER, call.text("trade_id"))
        await self._exchange.act(
            row.trade_id, Decide(call.integer("buyer_sat"), call.text("reason"))
        )
        return case_json(self._exchange, self._exchange.trades.row(row.trade_id))


def case_json(exchange: Exchange, row: Row) -> dict[str, Any]:
    """Return a case as its arbiter sees it."""
    case: Case = exchange.trades.case(row)
    contract = case.contract
    sides = (("buyer", contract.buyer), ("seller", contract.seller))
    named = {contract.arbiter: "arbiter", contract.runner_up: "runner-up"}
    named |= {who: side for side, who in sides}
    plain: dict[str, Any] = {
        "trade_id": row.trade_id.hex(),
        "state": type(row.state).__name__,
        "opened": row.began,
        "opener": "buyer" if case.opener == contract.buyer else "seller",
        "runner_up": bool(case.branch),
        "buyer": contract.buyer.hex(),
        "seller": contract.seller.hex(),
        "amount_sat": contract.amount_sat,
        "escrow_sat": contract.escrow_sat,
        "deposit_buyer_sat": contract.dep_b,
        "deposit_seller_sat": contract.dep_s,
        "fee_sat": case.fee,
        "fiat_minor": contract.fiat_minor,
        "currency": contract.currency,
        "exponent": exponent(contract.currency),
        "statement_buyer": case.words(contract.buyer),
        "statement_seller": case.words(contract.seller),
        "files_buyer": len(shown_by(case, contract.buyer)),
        "files_seller": len(shown_by(case, contract.seller)),
        "signed_twice": [side for side, who in sides if who in signed_twice(case.papers)],
        "proofs": proofs_json(exchange, row, named),
        "note": row.note,
        "lacking": list(lacking(row.state, case)),
        "due": [{"what": d.name, "by_mtp": d.at_mtp} for d in of_case(row.state, case)],
        "next": advise_arbiter(row.state, case),
    }
    if case.view and case.view.funding_height:
        plain |= {"mtp": case.view.mtp, "below_release_from_mtp": earliest_below_release(case)}
    if isinstance(row.state, RuledCase):
        plain["buyer_sat"] = row.state.buyer_sat
        plain["seller_sat"] = row.state.seller_sat
    return plain


def _record_json(record: ArbiterRecord, chain: Chain) -> dict[str, Any]:
    """Return a record; its weight is 0 where our chain does not show the bond."""
    bond, weight = record.bond, 1
    if bond is not None:
        weight = bond.weight(chain.tip().mtp) if is_proven(bond, chain) else 0
    return {
        "node_id": record.node_id.hex(),
        "record_id": record.id.hex(),
        "fee_base_sat": record.fee_base,
        "fee_ppm": record.fee_ppm,
        "at_height": record.at_height,
        "weight": weight,
        "bond": str(Outpoint.from_wire("bond", bond.outpoint)) if bond else "",
        "bond_sat": bond.value if bond else 0,
        "lock_time": bond.lock_time if bond else 0,
    }
