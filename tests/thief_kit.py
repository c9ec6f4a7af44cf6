"""A thief with a modified client: his own signed words, as his victim's journal counts them.

His keys are real and his node is a node of the rig; what he says is made here. A test says what
he tries, and asserts that no coin moves against the contract, that nothing honest ends, and that
the log names what was refused.
"""

import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

from trade_kit import NET, Rig, rig

from escrow.backend_signatures import first_sign
from escrow.case import Case
from escrow.messages import FRESH_STEP, ZERO, Kind, Message
from escrow.model import Paid, SayPaid
from escrow.payloads import Payload, Settle, Verdict
from escrow.payout import Branch, Split

DAY = 86_400
K = Kind
GARBAGE = b"\x01"  # no payload of any kind


def heard_of(r: Rig, victim: str, sender: str, trade_id: bytes) -> list[Message]:
    """What a victim's journal holds of a sender, oldest first."""
    found = r[victim].journal.messages(trade_id)
    return [m for m in found if m.sender == r[sender].id]


def forged(
    r: Rig, thief: str, victim: str, trade_id: bytes, kind: Kind, payload: bytes, **change: Any
) -> Message:
    """The thief's next message to the victim, with any header field changed."""
    last = heard_of(r, victim, thief, trade_id)[-1:]
    told = [
        m
        for m in r[victim].journal.messages(trade_id)
        if m.sender == r[victim].id and m.recipient == r[thief].id
    ]
    seq = change.pop("seq", last[0].seq + 1 if last else 0)
    tip = r[victim].chain.tip()
    values: dict[str, Any] = {
        "network": NET,
        "kind": kind,
        "trade_id": trade_id,
        "sender": r[thief].id,
        "recipient": r[victim].id,
        "seq": seq,
        "prev": last[0].id if last and seq % FRESH_STEP else ZERO,
        "seen": told[-1].id if told else ZERO,
        "tip_height": tip.height,
        "tip_hash": tip.hash,
        "draw_no": 0,
        "payload": payload,
    }
    return Message(**(values | change)).signed(r[thief].identity)


async def says(
    r: Rig, thief: str, victim: str, trade_id: bytes, payload: Payload, **change: Any
) -> tuple[int, str]:
    """Deliver it; returns the victim's reply."""
    message = forged(r, thief, victim, trade_id, payload.kind, payload.wire(), **change)
    status, text, *_ = await r.inject(thief, victim, message.wire())
    return status, text


def chained(thief: Any, messages: Iterable[Message], **change: Any) -> Message:
    """The thief's next message after these of one chain, for papers that nobody was sent."""
    mine = [m for m in messages if m.sender == thief.identity.node_id]
    last = mine[-1]
    seq = change.pop("seq", last.seq + 1)
    values: dict[str, Any] = {name: getattr(last, name) for name in last.__dataclass_fields__} | {
        "seq": seq,
        "prev": last.id if seq % FRESH_STEP else ZERO,
        "signature": b"",
    }
    return Message(**(values | change)).signed(thief.identity)


def verdict(r: Rig, trade_id: bytes, split: Split, *, second: bool = False) -> Verdict:
    """A VERDICT by the real keys of arbiter or runner-up, past his node's own rules."""
    facts = r["maker"].facts(trade_id)
    contract = facts.contract
    name = r.runner_up(trade_id) if second else r.arbiter(trade_id)
    bond, branch = (contract.bond_a2, Branch.BACKUP) if second else (contract.bond_a, Branch.MAIN)
    key = r[name].exchange.world.keys.arbiter_key(contract.seed, bond)
    return Verdict(
        buyer_sat=split.buyer_sat,
        seller_sat=split.seller_sat,
        arbiter_sat=split.arbiter_sat,
        signatures=first_sign(contract, facts.outpoint, split, key, branch),
        reason="because",
    )


def settle(r: Rig, thief: str, trade_id: bytes, split: Split, ok_id: bytes) -> Settle:
    """A SETTLE by a trader's real key, past his node's own rules."""
    facts = r[thief].facts(trade_id)
    key = r[thief].trade_key(trade_id)
    return Settle(ok_id=ok_id, signatures=first_sign(facts.contract, facts.outpoint, split, key))


def case_of(r: Rig, arbiter: str, trade_id: bytes) -> Case:
    """A case as its arbiter's node reads it."""
    trades = r[arbiter].exchange.trades
    return trades.case(trades.row(trade_id))


def logged(r: Rig, words: str) -> None:
    """Assert that the log of some node tells it."""
    assert any(words in line for line in r.log), "\n".join(r.log[-20:])


@contextlib.asynccontextmanager
async def funded(**options: Any) -> AsyncIterator[tuple[Rig, bytes]]:
    """A rig with one trade in Funded: the maker sells, the taker buys."""
    async with rig(**options) as r:
        trade_id = await r.take()
        await r.funded(trade_id)
        yield r, trade_id


@contextlib.asynccontextmanager
async def paid(**options: Any) -> AsyncIterator[tuple[Rig, bytes]]:
    """The same, in Paid: the taker has sent the money."""
    async with funded(**options) as (r, trade_id):
        await r.act("taker", trade_id, SayPaid("sent"))
        await r.both(trade_id, Paid)
        yield r, trade_id
