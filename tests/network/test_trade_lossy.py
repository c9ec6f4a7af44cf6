"""Every message lost once, and whoever should have had it killed: the trade goes on regardless.

What a node has committed is all that a restart leaves it. Nothing may be signed twice for two
things, paid twice, or forgotten.
"""

from collections.abc import Sequence

import pytest
import trio
from trade_kit import Frame, Rig, rig

from escrow.messages import Kind
from escrow.model import Decide, Disputed, Hearing, Releasing, Ruled, SayReceived
from escrow.payout import release

K = Kind


class Crashing:
    """Kills sender or recipient of each message once, before it arrives."""

    def __init__(self, r: Rig, who: str) -> None:
        self._rig, self._who = r, who
        self.killed: list[tuple[Kind, str]] = []
        self._restarting = trio.Lock()

    async def __call__(self, frame: Frame) -> Sequence[bytes]:
        name = frame.sender if self._who == "sender" else frame.recipient
        place = (frame.kind, name)
        if place in self.killed:
            return [frame.raw]
        self.killed.append(place)
        self._rig.nursery.start_soon(self._restart, name)  # its own task: it may kill this one
        return []

    async def _restart(self, name: str) -> None:
        async with self._restarting:
            await self._rig.restart(name)


@pytest.mark.parametrize("who", ["sender", "recipient"])
async def test_a_release_survives_a_crash_at_every_message(who: str) -> None:
    async with rig(arbiters=5) as r:
        r["maker"].registry.hidden = {r.records[0]}
        r["taker"].registry.hidden = {r.records[1]}
        r.post.hook = crashing = Crashing(r, who)
        trade_id = await r.take()
        await r.paid(trade_id)
        await settled(r)
        await r.act("maker", trade_id, SayReceived())
        await r.until("taker", trade_id, Releasing)
        await r.closed(trade_id, "released")
        kinds = {kind for kind, _ in crashing.killed}
        assert kinds >= {K.TAKE, K.DRAW, K.REVEAL, K.GET, K.PAGE, K.CONTRACT, K.INPUTS}
        assert kinds >= {K.WITNESS, K.ACCOUNT, K.ACK, K.PAID, K.RECEIVED}
        said_once(r, trade_id)


@pytest.mark.parametrize("who", ["sender", "recipient"])
async def test_a_dispute_survives_a_crash_at_every_message(who: str) -> None:
    async with rig() as r:
        trade_id = await r.take()
        await r.paid(trade_id)
        r.post.hook = crashing = Crashing(r, who)
        await r.dispute("taker", trade_id)
        arbiter = r.arbiter(trade_id)
        await r.both(trade_id, Disputed)
        await r.delivered("maker", trade_id, K.NOTICE)
        await settled(r)
        await r.answer("maker", trade_id, "no")
        await r.until(arbiter, trade_id, Hearing)
        await settled(r)
        full = release(r["maker"].facts(trade_id).contract).buyer_sat
        await r.act(arbiter, trade_id, Decide(full, "paid"))
        await r.both(trade_id, Ruled)
        await r.closed(trade_id, "ruled")
        kinds = {kind for kind, _ in crashing.killed}
        assert kinds >= {K.DISPUTE, K.NOTICE, K.STATEMENT, K.VERDICT}
        said_once(r, trade_id)


async def settled(r: Rig) -> None:
    """Wait until every node is up."""

    async def there() -> None:
        assert len(r.post.handlers) == len(r.nodes)

    await r.eventually(there)


def said_once(r: Rig, trade_id: bytes) -> None:
    """Nobody signed two messages of one number, and nobody two of a kind that is said once."""
    bodies: dict[tuple[bytes, bytes, int], bytes] = {}
    for frame in r.post.seen:
        m = frame.message
        if m.trade == trade_id:
            assert bodies.setdefault((m.sender, m.recipient, m.seq), m.id) == m.id
    for name in ("maker", "taker"):
        own = [m for m in r[name].journal.messages(trade_id) if m.sender == r[name].id]
        again = {K.GET, K.PAGE, K.STATEMENT}  # papers that an arbiter lacks, besides the words
        once = [(m.kind, m.recipient) for m in own if m.kind not in again]
        assert len(once) == len(set(once))
