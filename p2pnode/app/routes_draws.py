"""The local API's verb for what is known of a node's draws: docs/draw.md, "Broken draws"."""

from typing import Any

from escrow.broken import MAKER, DrawRecord
from escrow.messages import MAX_DRAWS
from p2pnode.app.exchange import Exchange
from p2pnode.app.routes import Call, Route
from p2pnode.base.errors import UsageFault
from p2pnode.base.identity import check_node_id


def routes(exchange: Exchange) -> list[Route]:
    """Return the route of draws."""
    d = _Drawn(exchange)
    return [
        Route("GET", "/v1/draws/{node_id}", d.show, summary="What is entered of a node's draws")
    ]


class _Drawn:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def show(self, call: Call) -> dict[str, Any]:
        world = self._exchange.world
        try:
            raw = bytes.fromhex(call.text("node_id"))
        except ValueError:
            raise UsageFault("node_id: is not hex", field="node_id") from None
        peer = check_node_id("node_id", raw, world.network)
        stated = call.integer("stated", 0)
        if not 0 <= stated <= MAX_DRAWS:
            raise UsageFault(f"stated: is not 1 to {MAX_DRAWS}", field="stated")
        record = await self._exchange.draws.record(peer, stated)
        drawn, funded = world.journal.broken.traded(peer)
        return _record_json(record) | {"drawn_here": drawn, "signed_here": funded}


def _record_json(record: DrawRecord) -> dict[str, Any]:
    return {
        "node_id": record.node_id.hex(),
        "stated": record.stated,
        "looked_up": record.looked,
        "unanswered": record.unanswered,
        "broken": record.broken,
        "counterparties": record.counterparties,
        "used_twice": record.used_twice,
        "entries": [
            {
                "draw_no": e.draw_no,
                "as": "maker" if e.side == MAKER else "taker",
                "with": e.counterparty.hex(),
                "trade_id": e.trade_id.hex(),
                "tip_height": e.tip_height,
            }
            for e in record.entries
        ],
    }
