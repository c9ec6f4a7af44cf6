"""The local API's verb for proofs of equivocation: who signed what twice, for anybody to check."""

from typing import Any

from escrow.store_journal import ARBITER, TRADER
from p2pnode.app.exchange import Exchange
from p2pnode.app.routes import Call, Route
from p2pnode.app.routes_trades import pick


def routes(exchange: Exchange) -> list[Route]:
    """Return the route of proofs."""

    async def handler(call: Call) -> list[dict[str, Any]]:
        journal = exchange.world.journal
        row = pick([*journal.rows(TRADER), *journal.rows(ARBITER)], call.text("trade_id"))
        return [proof.to_json() for proof in journal.proofs.of(row.trade_id)]

    path = "/v1/proofs/{trade_id}"
    return [Route("GET", path, handler, summary="Who signed what twice in a trade or case")]
