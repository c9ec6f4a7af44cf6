"""The local API's verb that takes a trade to any other wallet (escrow.export)."""

from typing import Any

from escrow.export import Choice, export
from escrow.facts import Facts
from escrow.messages import ZERO, Kind
from escrow.payloads import Received, Settle, Verdict
from escrow.payout import Branch, Split, refund, release
from escrow.store_journal import TRADER
from p2pnode.app.exchange import Exchange
from p2pnode.app.routes import Call, Route
from p2pnode.app.routes_trades import pick_trade
from p2pnode.base.errors import LocalFault


def routes(exchange: Exchange) -> list[Route]:
    """Return the route of exporting."""

    async def handler(call: Call) -> dict[str, Any]:
        row = pick_trade(exchange, TRADER, call.text("trade_id"))
        facts = exchange.trades.facts(row)
        if facts.funding is None:
            raise LocalFault("nothing is in escrow yet: there is nothing to export")
        raw = (facts.view.funding_raw if facts.view else b"") or facts.final_funding
        if not raw:
            raise LocalFault("the funding is not signed by both sides yet")
        whole = exchange.world.journal.whole
        return export(
            facts.contract,
            facts.outpoint,
            raw,
            signed_splits(facts),
            messages=[whole(m).wire() for m in facts.messages],
        )

    path = "/v1/trades/{trade_id}/export"
    return [Route("GET", path, handler, summary="A trade for any other wallet")]


def signed_splits(facts: Facts) -> list[Choice]:
    """Return every split that somebody has first-signed, as far as it has come to us."""
    contract = facts.contract
    keys = {facts.buyer: contract.key_b, facts.seller: contract.key_s}
    found = []
    if said := facts.one(facts.seller, Kind.RECEIVED):
        pair = {contract.key_s: Received.from_wire(said.payload).signatures}
        found.append(Choice(name="release", split=release(contract), signatures=pair))
    for who in (facts.buyer, facts.seller):
        for said in facts.all(who, Kind.SETTLE):
            settle = Settle.from_wire(said.payload)
            pair = {keys[who]: settle.signatures}
            if settle.ok_id == ZERO:
                found.append(Choice(name="refund", split=refund(contract), signatures=pair))
            elif agreed := facts.agreed:
                split = Split(agreed.buyer_sat, agreed.seller_sat, 0)
                found.append(Choice(name="agreed", split=split, signatures=pair))
    judges = [(contract.arbiter, Branch.MAIN, contract.key_a)]
    if contract.n:
        judges.append((contract.runner_up, Branch.BACKUP, contract.key_a2))
    for judge, branch, key in judges:
        if said := facts.one(judge, Kind.VERDICT):
            verdict = Verdict.from_wire(said.payload)
            split = Split(verdict.buyer_sat, verdict.seller_sat, verdict.arbiter_sat)
            pair = {key: verdict.signatures}
            found.append(Choice(name="verdict", split=split, branch=branch, signatures=pair))
    return found
