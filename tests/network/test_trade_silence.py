"""Withheld messages: a vanished peer ends a trade by the clock, and strands no coin of anybody.

A kind that one side never delivers; wall-clock time that the test moves; then both sides must be
out of the trade, with every lock and reservation gone and nothing on its way to the chain.
"""

from collections.abc import Sequence

import pytest
from trade_kit import Frame, Rig, rig

from escrow.messages import Kind
from escrow.model import (
    Aborted,
    Broadcast,
    Cancel,
    Contracting,
    Drawing,
    Funded,
    Funding,
    Taking,
    Void,
)
from escrow.opening import FUNDING_S, OPENING_S
from p2pnode.base.errors import Unreachable
from p2pnode.base.transaction import parse_transaction

K = Kind


class Lost:
    """Loses every message of one kind by one sender."""

    def __init__(self, kind: Kind, sender: str) -> None:
        self.kind, self.sender, self.fired = kind, sender, 0

    async def __call__(self, frame: Frame) -> Sequence[bytes]:
        if (frame.kind, frame.sender) != (self.kind, self.sender):
            return [frame.raw]
        self.fired += 1
        return []


async def fired(r: Rig, lost: Lost) -> None:
    async def there() -> None:
        assert lost.fired

    await r.eventually(there)


SILENCES = [
    # what never arrives, from whom, and where it leaves the taker and the maker
    (K.TAKE, "taker", Taking, None),
    (K.DRAW, "maker", Taking, Drawing),
    (K.REVEAL, "taker", Contracting, Drawing),
    (K.GET, "taker", Drawing, Drawing),
    (K.PAGE, "maker", Drawing, Drawing),
    (K.GET, "maker", Contracting, Drawing),
    (K.PAGE, "taker", Contracting, Drawing),
    (K.CONTRACT, "taker", Contracting, Contracting),
    (K.CONTRACT, "maker", Contracting, Funding),
    (K.INPUTS, "seller", Funding, Funding),
]


@pytest.mark.parametrize("maker_sells", [True, False], ids=["maker sells", "maker buys"])
async def test_silence_before_the_first_signature_ends_in_aborted(maker_sells: bool) -> None:
    async with rig(arbiters=5) as r:
        for kind, sender, taker_at, maker_at in SILENCES:
            if not maker_sells and kind not in {K.CONTRACT, K.INPUTS}:
                continue  # nothing before depends on who sells
            r["maker"].registry.hidden = {r.records[0]} if kind in {K.GET, K.PAGE} else set()
            r["taker"].registry.hidden = {r.records[1]} if kind in {K.GET, K.PAGE} else set()
            for name, hidden in (("maker", 0), ("taker", 1)):  # as if never seen
                if kind in {K.GET, K.PAGE}:
                    forget(r, name, r.records[hidden])
            seller = "maker" if maker_sells else "taker"
            lost = Lost(kind, seller if sender == "seller" else sender)
            r.post.hook = lost
            trade_id = await r.take(r.offer(maker_sells=maker_sells))
            await fired(r, lost)
            await r.until("taker", trade_id, taker_at)
            if maker_at is not None:
                await r.until("maker", trade_id, maker_at)
            await r.quiet("taker", trade_id)
            await r.quiet("maker", trade_id)
            r.pass_time(OPENING_S - 1)
            await r.quiet("taker", trade_id)
            assert not isinstance(r["taker"].state(trade_id), Aborted), kind
            r.pass_time(1)
            r.pass_time(FUNDING_S)
            await r.until("taker", trade_id, Aborted)
            if maker_at is not None:
                await r.until("maker", trade_id, Aborted)
            r.untouched("maker", "taker")
            assert not [f for f in r.post.seen if f.kind is K.WITNESS]
            r.post.hook = None


def forget(r: Rig, name: str, raw: bytes) -> None:
    """Let a node not know an arbiter's record, as one that has just been published."""
    trades = r[name].exchange.trades
    gone = [i for i, record in trades.records.items() if record.wire() == raw]
    for record_id in gone:
        del trades.records[record_id]
        r[name].database.run("DELETE FROM arbiter_record WHERE id = ?", record_id)


@pytest.mark.parametrize("kind", [K.INPUTS, K.WITNESS])
@pytest.mark.parametrize("maker_sells", [True, False], ids=["taker buys", "maker buys"])
async def test_the_buyer_takes_his_coin_back_when_his_signature_meets_silence(
    maker_sells: bool, kind: Kind
) -> None:
    """He signs as soon as he can build the funding, so INPUTS that get lost cost him the same."""
    buyer, seller = ("taker", "maker") if maker_sells else ("maker", "taker")
    async with rig() as r:
        lost = Lost(kind, buyer)
        r.post.hook = lost
        trade_id = await r.take(r.offer(maker_sells=maker_sells))
        await fired(r, lost)
        await r.until(buyer, trade_id, Funding)
        await r.quiet(buyer, trade_id)
        assert r[buyer].said(trade_id, K.WITNESS)
        before = r[buyer].balance()
        assert len(r[buyer].locked()) == 1
        with pytest.raises(Exception, match="no longer be cancelled"):
            await r.act(buyer, trade_id, Cancel("changed my mind"))
        r.pass_time(FUNDING_S - 1)
        await r.quiet(buyer, trade_id)
        assert not r.mempool()
        r.pass_time(1)
        await r.until(seller, trade_id, Aborted)

        async def respent() -> bytes:
            assert len(r.mempool()) == 1
            return r.mempool().pop()

        txid: bytes = await r.eventually(respent)
        raw = r.box.pool.entries[txid].tx.serialize()
        own = parse_transaction("respend", raw).inputs
        assert {i.outpoint for i in own} == set(r[buyer].locked())
        for depth in range(1, 6):
            r.mine()
            await r.quiet(buyer, trade_id)
            assert isinstance(r[buyer].state(trade_id), Funding), depth
            assert r[buyer].locked()
        r.mine()
        state = await r.until(buyer, trade_id, Void)
        assert state == Void(txid)
        r.untouched(buyer, seller)

        async def back() -> None:
            await r[buyer].wallet.sync()
            assert before - 2_000 < r[buyer].balance() < before

        await r.eventually(back)


async def test_a_seller_who_withholds_his_signature_has_no_free_option() -> None:
    async with rig() as r:
        maker = r["maker"]

        async def silent(raw: bytes) -> bytes:
            raise Unreachable("the thief keeps the transaction for later")

        maker.chain.broadcast = silent  # type: ignore[method-assign]
        lost = Lost(K.WITNESS, "maker")
        r.post.hook = lost
        trade_id = await r.take()
        await fired(r, lost)
        held = await r.until("maker", trade_id, Broadcast)
        assert isinstance(held, Broadcast)
        r.pass_time(FUNDING_S)

        async def respent() -> None:
            assert len(r.mempool()) == 1

        await r.eventually(respent)
        with pytest.raises(Exception, match=r"insufficient fee|rejecting|txn-mempool-conflict"):
            r.box.broadcast(held.raw)
        r.mine(6)
        await r.both(trade_id, Void)
        r.untouched("maker", "taker")


async def test_the_funding_wins_though_the_buyer_wanted_his_coin_back() -> None:
    """Both spends exist; whichever confirms decides, and the trade follows the chain."""
    async with rig() as r:
        r.post.hook = lost = Lost(K.WITNESS, "maker")
        trade_id = await r.take()
        await fired(r, lost)
        await r.until("taker", trade_id, Funding, Broadcast)
        await r.published(trade_id)
        r.pass_time(FUNDING_S)
        r.mine()
        await r.both(trade_id, Funded)
        r.post.hook = None
        await r.delivered("maker", trade_id, K.ACK)


async def test_cancelling_before_one_signs_frees_both_at_once() -> None:
    async with rig() as r:
        for kind in (K.REVEAL, K.INPUTS):
            r.post.hook = lost = Lost(kind, "maker" if kind is K.INPUTS else "taker")
            trade_id = await r.take()
            await fired(r, lost)
            await r.quiet("maker", trade_id)
            await r.act("maker", trade_id, Cancel("no time today"))
            await r.until("maker", trade_id, Aborted)
            r.post.hook = None
            state = await r.until("taker", trade_id, Aborted)
            assert isinstance(state, Aborted)
            assert "no time today" in state.reason
            r.untouched("maker", "taker")
