"""The local API's verbs for what traders tell each other and the arbiter beside the trade's steps.

Chat, evidence and another split of the escrow; and the private remark, which goes nowhere.
"""

import base64
from collections.abc import Iterable
from typing import Any

from escrow import evidence
from escrow.evidence import Shown
from escrow.facts import Facts
from escrow.messages import Kind, Message
from escrow.model import AnswerAsk, AskSplit, SayChat, ShowEvidence, WithdrawAsk
from escrow.payloads import MAX_EVIDENCE, MAX_NOTE, Chat
from escrow.store_journal import TRADER, Row
from escrow.words import hearing_arbiter
from p2pnode.app.exchange import Exchange
from p2pnode.app.routes import Call, Route
from p2pnode.app.routes_trades import pick_trade, trade_json
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, LocalFault, UsageFault
from p2pnode.base.units import MAX_SAT


def routes(exchange: Exchange) -> list[Route]:
    """Return the routes of talking."""
    t, trade = _Talking(exchange), "/v1/trades/{trade_id}"
    return [
        Route("GET", f"{trade}/chat", t.chat, summary="What was said in a trade"),
        Route("POST", f"{trade}/chat", t.say, once=True, summary="Say something"),
        Route("GET", f"{trade}/evidence", t.shown, summary="The files shown to the arbiter"),
        Route("POST", f"{trade}/evidence", t.show, once=True, summary="Show the arbiter a file"),
        Route("POST", f"{trade}/note", t.note, summary="A private remark, sent to nobody"),
        Route("POST", f"{trade}/ask", t.ask, once=True, summary="Propose another split"),
        Route("POST", f"{trade}/ask/withdraw", t.withdraw, once=True, summary="Take it back"),
        Route("POST", f"{trade}/agree", t.agree, once=True, summary="Agree to it, for good"),
        Route("POST", f"{trade}/decline", t.decline, once=True, summary="Decline it"),
    ]


def hex_id(field: str, text: str) -> bytes:
    """Return the 32 bytes that `text` names in hex. Raises InvalidRecord."""
    digits = text.strip().lower()
    if len(digits) != 64 or any(c not in "0123456789abcdef" for c in digits):
        raise InvalidRecord(field, "is not 64 hex digits: `trade show` tells it")
    return bytes.fromhex(digits)


class _Talking:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange, self._world = exchange, exchange.world

    # -- chat

    async def chat(self, call: Call) -> list[dict[str, Any]]:
        row, facts = self._found(call)
        to = self._listener(call, facts, default="")
        said = (
            m
            for m in facts.messages
            if m.kind is Kind.CHAT and (not to or to in {m.sender, m.recipient})
        )
        return read_chat(self._exchange, row, said, facts.me, _names(facts))

    async def say(self, call: Call) -> dict[str, Any]:
        row, facts = self._found(call)
        to = self._listener(call, facts, default="peer")
        words = Chat(text=call.text("text"))  # bounded before the chain is asked
        return await self._act(row, SayChat(to, words.text))

    def _listener(self, call: Call, facts: Facts, *, default: str) -> bytes:
        """Return who is meant by `to`: the peer, the arbiter who hears this trade, or anyone."""
        to = call.text("to", default)
        if to == "peer":
            return facts.peer
        if to == "arbiter":
            if facts.settled_contract is None:
                raise LocalFault("no arbiter has been drawn in this trade yet")
            return hearing_arbiter(facts)
        if to:
            raise UsageFault("to: is neither peer nor arbiter", field="to")
        return b""

    # -- evidence

    async def shown(self, call: Call) -> list[dict[str, Any]]:
        row, facts = self._found(call)
        waits = self._world.journal.waiting(row.trade_id)
        mine = [m for m in facts.messages if m.kind is Kind.EVIDENCE and m.sender == facts.me]
        gone = evidence.files(evidence.heads((m for m in mine if m.id not in waits), facts.me))
        delivered = {f.file_hash: len(f.here) for f in gone}
        return [
            file_json(f) | {"parts_delivered": delivered.get(f.file_hash, 0)}
            for f in evidence.files(evidence.heads(mine, facts.me))
        ]

    async def show(self, call: Call) -> dict[str, Any]:
        row, facts = self._found(call)
        data = call.binary("data", MAX_EVIDENCE)
        parts = evidence.split(call.text("name"), data)
        before = evidence.heads(facts.messages, facts.me)
        if any(h.file_hash == parts[0].file_hash for h in before):
            raise LocalFault("file: this very file was shown already", field="file")
        evidence.check_more(parts, before)
        answer = await self._act(row, ShowEvidence(parts))
        (shown,) = evidence.files(map(evidence.head, parts))
        return answer | {"file": file_json(shown)}

    # -- another split

    async def ask(self, call: Call) -> dict[str, Any]:
        row, facts = self._found(call)
        if facts.settled_contract is None:
            raise LocalFault("nothing is in escrow yet: there is nothing to divide")
        buyer_sat = wire.within("buyer_sat", call.integer("buyer_sat"), 0, MAX_SAT)
        note = wire.text("note", call.text("note", ""), MAX_NOTE)
        return await self._act(row, AskSplit(buyer_sat, note))

    async def withdraw(self, call: Call) -> dict[str, Any]:
        return await self._act(self._row(call), WithdrawAsk())

    async def agree(self, call: Call) -> dict[str, Any]:
        named = hex_id("ask_id", call.text("ask_id"))  # what was read is what is agreed to
        return await self._act(self._row(call), AnswerAsk(agree=True, ask_id=named))

    async def decline(self, call: Call) -> dict[str, Any]:
        note = wire.text("note", call.text("note", ""), MAX_NOTE)
        return await self._act(self._row(call), AnswerAsk(agree=False, note=note))

    # -- for the user alone

    async def note(self, call: Call) -> dict[str, Any]:
        row, remarks = self._row(call), self._exchange.remarks
        with remarks.database.transaction():
            remarks.set_remark(row.trade_id, call.text("text"))
        return trade_json(self._exchange, row)

    def _row(self, call: Call) -> Row:
        return pick_trade(self._exchange, TRADER, call.text("trade_id"))

    def _found(self, call: Call) -> tuple[Row, Facts]:
        row = self._row(call)
        return row, self._exchange.trades.facts(row)

    async def _act(self, row: Row, event: Any) -> dict[str, Any]:
        await self._exchange.act(row.trade_id, event)
        return trade_json(self._exchange, self._exchange.trades.row(row.trade_id))


# ------------------------------------------------------------------ shapes


def _names(facts: Facts) -> dict[bytes, str]:
    names = {facts.buyer: "buyer", facts.seller: "seller"}
    if facts.settled_contract:
        contract = facts.contract
        names |= {contract.arbiter: "arbiter", contract.runner_up: "runner-up"}
    return names


def read_chat(
    exchange: Exchange, row: Row, said: Iterable[Message], me: bytes, names: dict[bytes, str]
) -> list[dict[str, Any]]:
    """Return a conversation, oldest first, and count it as read.

    `at` is this node's clock, null where unknown; `delivered`: its listener's node has it.
    """
    journal, remarks = exchange.world.journal, exchange.remarks
    found, times = tuple(said), journal.times(row.trade_id)
    waits, read = journal.waiting(row.trade_id), remarks.read(row.trade_id)
    new = {m.id for m in found if m.sender != me} - read
    if new:
        with remarks.database.transaction():
            remarks.mark_read(row.trade_id, new)
    return [
        {
            "id": m.id.hex(),
            "at": times.get(m.id),
            "speaker": names[m.sender],
            "listener": names[m.recipient],
            "mine": m.sender == me,
            "delivered": m.id not in waits,
            "unread": m.id in new,
            "text": Chat.from_wire(m.payload).text,
        }
        for m in found
    ]


def file_json(shown: Shown) -> dict[str, Any]:
    """Return what is known of a file from the heads of its parts."""
    return {
        "file_hash": shown.file_hash.hex(),
        "name": shown.name,
        "size": shown.size,
        "parts": shown.parts,
        "parts_here": len(shown.here),
        "complete": shown.complete,
    }


def data_json(data: bytes) -> str:
    """Return a file's bytes as JSON carries them."""
    return base64.b64encode(data).decode()
