"""The local API's verbs for hearing a case: the queue, evidence, chat, the preview of a ruling."""

from typing import Any

from escrow import docket, evidence
from escrow.case import Case
from escrow.deadlines import FAR, ruling_due
from escrow.messages import Kind
from escrow.model import Hearing, Noticed, Recuse, SayChat
from escrow.payloads import MAX_WORDS, Chat, Evidence
from escrow.shell_trades import ENDED
from escrow.store_journal import ARBITER, Row
from p2pnode.app.exchange import Exchange
from p2pnode.app.routes import Call, Route
from p2pnode.app.routes_cases import case_json
from p2pnode.app.routes_talk import data_json, file_json, read_chat
from p2pnode.app.routes_trades import pick_trade
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, UsageFault

_SIDES = ("buyer", "seller")


def routes(exchange: Exchange) -> list[Route]:
    """Return the routes of hearing a case."""
    h, case = _Hearing(exchange), "/v1/cases/{trade_id}"
    files = f"{case}/evidence"
    return [
        Route("GET", "/v1/queue", h.queue, summary="What the arbiter must do, soonest first"),
        Route("GET", f"{case}/preview", h.preview, summary="What a ruling would pay"),
        Route("POST", f"{case}/recuse", h.recuse, once=True, summary="Judge it not"),
        Route("GET", f"{case}/chat", h.chat, summary="What was said to the arbiter"),
        Route("POST", f"{case}/chat", h.say, once=True, summary="Say something to a trader"),
        Route("GET", files, h.files, summary="The files that the traders have shown"),
        Route(
            "GET", f"{files}/{{file_hash}}", h.file, summary="One file, checked against its hash"
        ),
    ]


class _Hearing:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange, self._world = exchange, exchange.world

    def _found(self, call: Call) -> tuple[Row, Case]:
        row = pick_trade(self._exchange, ARBITER, call.text("trade_id"))
        return row, self._exchange.trades.case(row)

    async def queue(self, call: Call) -> list[dict[str, Any]]:
        rows = self._world.journal.rows(ARBITER)
        living = [r for r in reversed(rows) if not isinstance(r.state, ENDED)]
        due = {r.trade_id: ruling_due(r.state, self._exchange.trades.case(r)) for r in living}
        living.sort(key=lambda r: due[r.trade_id])  # stable: those without a date stay oldest first
        return [case_json(self._exchange, r) for r in living if due[r.trade_id] < FAR or _waits(r)]

    async def preview(self, call: Call) -> dict[str, Any]:
        row, _ = self._found(call)
        await self._exchange.tender.refresh(row.trade_id)
        row, case = self._found(call)
        found = docket.preview(row.state, case, call.integer("buyer_sat"))
        split = case.contract.escrow_sat - case.fee - call.integer("buyer_sat")
        return {
            "trade_id": row.trade_id.hex(),
            "buyer_sat": call.integer("buyer_sat"),
            "seller_sat": split,
            "arbiter_sat": case.fee,
            "refused": found.refused,
            "payouts": [
                {
                    "rate": rate,
                    "fee_sat": p.fee_sat,
                    "buyer_sat": p.buyer_sat_paid,
                    "seller_sat": p.seller_sat_paid,
                    "arbiter_sat": p.arbiter_sat_paid,
                }
                for rate, p in found.payouts
            ],
        }

    async def recuse(self, call: Call) -> dict[str, Any]:
        row, _ = self._found(call)
        reason = wire.text("reason", call.text("reason"), MAX_WORDS, low=1)
        await self._exchange.act(row.trade_id, Recuse(reason))
        return case_json(self._exchange, self._exchange.trades.row(row.trade_id))

    # -- chat

    async def chat(self, call: Call) -> list[dict[str, Any]]:
        row, case = self._found(call)
        contract = case.contract
        names = {contract.buyer: "buyer", contract.seller: "seller", case.me: "arbiter"}
        side = call.text("to", "")
        only = {self._side(case, side)} if side else set(case.traders)
        said = (m for m in case.messages if m.kind is Kind.CHAT and only & {m.sender, m.recipient})
        return read_chat(self._exchange, row, said, case.me, names)

    async def say(self, call: Call) -> dict[str, Any]:
        row, case = self._found(call)
        words = Chat(text=call.text("text"))
        await self._exchange.act(
            row.trade_id, SayChat(self._side(case, call.text("to")), words.text)
        )
        return case_json(self._exchange, self._exchange.trades.row(row.trade_id))

    def _side(self, case: Case, side: str) -> bytes:
        if side not in _SIDES:
            raise UsageFault("to: is neither buyer nor seller", field="to")
        return case.traders[_SIDES.index(side)]

    # -- evidence

    async def files(self, call: Call) -> list[dict[str, Any]]:
        _, case = self._found(call)
        return [
            file_json(shown) | {"side": side}
            for side, who in zip(_SIDES, case.traders, strict=True)
            for shown in docket.shown_by(case, who)
        ]

    async def file(self, call: Call) -> dict[str, Any]:
        """Answer one file. The peer's name is a label; `export_name` is for a disk."""
        _, case = self._found(call)
        prefix = call.text("file_hash").strip().lower()
        found = [
            (side, who, shown)
            for side, who in zip(_SIDES, case.traders, strict=True)
            for shown in docket.shown_by(case, who)
            if shown.file_hash.hex().startswith(prefix) and len(prefix) >= 4
        ]
        if len({shown.file_hash for _, _, shown in found}) != 1:
            why = "fits several files: give more digits" if found else "is no file of this case"
            raise InvalidRecord("file_hash", why)
        side, who, shown = next((f for f in found if f[2].complete), found[0])
        mine = case.all(who, Kind.EVIDENCE)
        parts = []
        for m in mine:
            head = evidence.head_of(m)
            if head is not None and head.file_hash == shown.file_hash:
                parts.append(Evidence.from_wire(self._world.journal.whole(m).payload))
        data = evidence.join(shown.file_hash, parts)
        kind = evidence.file_type(data)
        return file_json(shown) | {
            "side": side,
            "kind": kind,
            "export_name": evidence.export_name(shown.file_hash, shown.name, kind),
            "data": data_json(data),
        }


def _waits(row: Row) -> bool:
    return isinstance(row.state, (Noticed, Hearing))
