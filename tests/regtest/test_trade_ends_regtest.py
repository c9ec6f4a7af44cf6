"""Every end of a trade on a real bitcoind: paid, ruled, agreed, undone; the sums recounted."""

from typing import Any

import pytest
from core_rig import (
    AMOUNT,
    ARBITER_FEE,
    DEP_B,
    DEP_S,
    ESCROW,
    KINDS,
    OPENING,
    CoreRig,
    core_rig,
)

from escrow.contract import KIND_BACKUP
from escrow.messages import Kind
from escrow.model import (
    Aborted,
    AcceptVerdict,
    Agreed,
    AnswerAsk,
    AskSplit,
    Decide,
    Disputed,
    Funding,
    Hearing,
    Ruled,
    SayNotPaid,
    SayPaid,
    SayReceived,
)
from escrow.payout import Split
from p2pnode.base.errors import LocalFault

RELEASE = Split(AMOUNT + DEP_B, DEP_S, 0)
REFUND = Split(DEP_B, AMOUNT + DEP_S, 0)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_good_trade(core: Any, kind: str) -> None:
    async with core_rig(*core) as r:
        trade_id = await r.begin(kind)
        await r.paid(trade_id)
        r.check_funding(trade_id)
        await r.act("maker", trade_id, SayReceived())
        await r.closed(trade_id, "released")
        await r.settled(trade_id, RELEASE)


async def heard(r: CoreRig, trade_id: bytes) -> str:
    """Open a dispute, let both speak; returns the arbiter, who may decide now."""
    await r.dispute("taker", trade_id, "I paid on Monday.")
    await r.both(trade_id, Disputed)
    await r.answer("maker", trade_id, "Nothing came.")
    arbiter = r.arbiter(trade_id)
    await r.until(arbiter, trade_id, Hearing)
    return arbiter


@pytest.mark.parametrize("kind", KINDS)
async def test_a_dispute_that_the_buyer_wins(core: Any, kind: str) -> None:
    async with core_rig(*core) as r:
        trade_id = await r.begin(kind)
        await r.paid(trade_id)
        arbiter = await heard(r, trade_id)
        await r.act(arbiter, trade_id, Decide(AMOUNT + DEP_B, "The bank shows it."))
        await r.both(trade_id, Ruled)
        await r.closed(trade_id, "ruled")
        ruled = Split(AMOUNT + DEP_B, DEP_S - ARBITER_FEE, ARBITER_FEE)
        tx = await r.settled(trade_id, ruled)
        assert len(tx["vout"]) == 3


@pytest.mark.parametrize("kind", KINDS)
async def test_a_dispute_that_the_seller_wins(core: Any, kind: str) -> None:
    async with core_rig(*core) as r:
        trade_id = await r.begin(kind)
        await r.paid(trade_id)
        arbiter = await heard(r, trade_id)
        decide = Decide(DEP_B, "No bank shows it.")
        with pytest.raises(LocalFault, match="less than a release for the buyer is not allowed"):
            await r.act(arbiter, trade_id, decide)
        contract = r["maker"].facts(trade_id).contract
        view = r["maker"].facts(trade_id).view
        assert view is not None
        from_time = contract.period_end(view.funding_mtp) + contract.reply_s
        r.wait_until(from_time)
        await r.synced()
        await r.quiet(arbiter, trade_id)
        await r.act(arbiter, trade_id, decide)
        await r.both(trade_id, Ruled)
        for name in ("maker", "taker"):  # R2: PAID was said, so no node takes it by itself
            await r.quiet(name, trade_id)
        assert not r.mempool()
        await r.act("maker", trade_id, AcceptVerdict(DEP_B))
        await r.closed(trade_id, "ruled")
        await r.settled(trade_id, Split(DEP_B, ESCROW - DEP_B - ARBITER_FEE, ARBITER_FEE))


async def test_a_refund_by_ask_and_ok(core: Any) -> None:
    async with core_rig(*core) as r:
        trade_id = await r.begin(KIND_BACKUP)
        await r.funded(trade_id)
        await r.act("taker", trade_id, AskSplit(DEP_B, "My bank is shut."))
        with pytest.raises(LocalFault, match="your own proposal of another split binds you"):
            await r.act("taker", trade_id, SayPaid("sent"))
        await r.delivered("maker", trade_id, Kind.ASK)
        await r.act("maker", trade_id, AnswerAsk(agree=True))
        await r.until("taker", trade_id, Agreed)
        await r.closed(trade_id, "refunded")
        await r.settled(trade_id, REFUND)
        assert r["taker"].said(trade_id, Kind.SETTLE)  # the smaller share signs first
        assert r["maker"].said(trade_id, Kind.SETTLE) is None


async def test_a_refund_by_the_buyers_own_concession(core: Any) -> None:
    async with core_rig(*core) as r:
        trade_id = await r.begin(KIND_BACKUP)
        await r.funded(trade_id)
        await r.act("taker", trade_id, SayNotPaid("I will not."))
        await r.until("maker", trade_id, Agreed)
        with pytest.raises(LocalFault, match="that you will not pay"):
            await r.act("taker", trade_id, SayPaid("sent"))
        await r.closed(trade_id, "refunded")
        await r.settled(trade_id, REFUND)


async def test_an_agreed_half(core: Any) -> None:
    async with core_rig(*core) as r:
        trade_id = await r.begin(KIND_BACKUP)
        await r.paid(trade_id)
        await r.act("maker", trade_id, AskSplit(ESCROW // 2, "Half came."))
        await r.delivered("taker", trade_id, Kind.ASK)
        await r.act("taker", trade_id, AnswerAsk(agree=True))
        await r.until("maker", trade_id, Agreed)
        await r.closed(trade_id, "agreed")
        await r.settled(trade_id, Split(ESCROW // 2, ESCROW // 2, 0))


# -- a buyer who brings no coin


async def test_a_buyer_without_a_deposit(core: Any) -> None:
    async with core_rig(*core) as r:
        trade_id = await r.begin(KIND_BACKUP, dep_b_bp=0)
        await r.paid(trade_id)
        assert len(r.check_funding(trade_id)["vin"]) == 1
        assert not r["taker"].locked()
        await r.act("maker", trade_id, SayReceived())
        await r.closed(trade_id, "released")
        await r.settled(trade_id, Split(AMOUNT, DEP_S, 0))


async def test_a_buyer_without_a_deposit_waits_no_longer_than_fund_by(core: Any) -> None:
    """The seller is gone before he has signed: nothing of anybody's is in the escrow."""
    async with core_rig(*core) as r:

        async def hook(frame: Any) -> list[bytes]:
            return [] if frame.kind is Kind.WITNESS else [frame.raw]

        r.post.hook = hook
        trade_id = await r.take(r.offer(escrow_kinds=(KIND_BACKUP,), dep_b_bp=0))

        async def signed() -> None:
            state = r["taker"].state(trade_id)
            assert isinstance(state, Funding), state
            assert state.signed_at

        await r.eventually(signed)
        await r.until("maker", trade_id, Funding)
        await r.stop("maker")
        fund_by = r["taker"].facts(trade_id).contract.fund_by
        r.core.leap(fund_by + 5 - r.box.height)
        await r.synced()
        r.pass_time(3600)  # a buyer with coins in it would respend them
        await r.quiet("taker", trade_id)
        assert isinstance(r["taker"].state(trade_id), Funding)
        assert not r.mempool()
        r.mine()
        ended = await r.until("taker", trade_id, Aborted)
        assert ended == Aborted("the seller has not funded it in time")
        await r.nursery.start(r["maker"].run)
        r.pass_time(3600)
        await r.until("maker", trade_id, Aborted)
        for name in ("maker", "taker"):
            assert not r[name].locked()
            await r.holds(name, OPENING)
