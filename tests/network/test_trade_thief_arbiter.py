"""Thefts by one arbiter alone, or by his runner-up: verdicts, notices, what they hand on.

He holds one key of three. He may not have a node sign away what its owner's own facts say is
his, show one verdict and have another accepted, or judge before his time.
"""

from collections.abc import Sequence

import pytest
from thief_kit import K, forged, funded, logged, paid, says, settle, verdict
from trade_kit import Frame, Rig

from escrow import contract as contracts
from escrow.messages import FRESH_STEP, ZERO
from escrow.model import (
    AcceptVerdict,
    ArbiterLost,
    Disputed,
    Paid,
    Ruled,
    SayNotPaid,
    SayReceived,
)
from escrow.payloads import Ask, Chat, Cover, Forward, Notice, Payload, Recuse
from escrow.payout import Branch, refund, release, verdict_split
from escrow.shell_inbox import APPLIED, LATER, REFUSED


async def noticed(r: Rig, trade_id: bytes, *victims: str) -> str:
    """The arbiter alone says that somebody has called him: he may, at any time."""
    arbiter = r.arbiter(trade_id)
    for victim in victims:
        notice = Notice(
            dispute_id=bytes(32), opener=r[victim].facts(trade_id).peer, statement="they called me"
        )
        assert (await says(r, arbiter, victim, trade_id, notice))[0] == APPLIED
    return arbiter


# ------------------------------------------------------------------ an arbiter alone


async def test_what_is_accepted_is_the_verdict_that_is_shown() -> None:
    """A rich verdict waits for a word; a second one, forwarded, is what the word would sign."""
    async with funded() as (r, trade_id):
        arbiter = await noticed(r, trade_id, "taker")
        contract = r["taker"].facts(trade_id).contract
        rich = verdict(r, trade_id, verdict_split(contract, release(contract).buyer_sat))
        assert (await says(r, arbiter, "taker", trade_id, rich))[0] == APPLIED
        await r.quiet("taker", trade_id)
        shown = r["taker"].state(trade_id)
        assert isinstance(shown, Ruled)
        assert shown.buyer_sat == release(contract).buyer_sat
        poor = verdict(r, trade_id, verdict_split(contract, 0))
        inner = forged(r, arbiter, "taker", trade_id, K.VERDICT, poor.wire())
        status, _ = await says(r, arbiter, "taker", trade_id, Forward(messages=(inner.wire(),)))
        state = r["taker"].state(trade_id)
        assert status == REFUSED or state == shown
        await r.act("taker", trade_id, AcceptVerdict())
        await r.quiet("taker", trade_id)
        state = r["taker"].state(trade_id)
        assert isinstance(state, Ruled)
        assert state.buyer_sat == release(contract).buyer_sat
        logged(r, "VERDICT")


async def test_an_arbiter_alone_takes_no_deposit_of_a_seller_who_has_released() -> None:
    """Nobody called him. The buyer is away; the seller has given up the amount, not his deposit."""
    async with paid() as (r, trade_id):

        async def hook(frame: Frame) -> Sequence[bytes]:
            return [] if frame.kind is K.RECEIVED else [frame.raw]

        r.post.hook = hook
        await r.act("maker", trade_id, SayReceived())
        await r.quiet("maker", trade_id)
        assert r["maker"].said(trade_id, K.RECEIVED)
        await r.stop("taker")
        arbiter = await noticed(r, trade_id, "maker")
        contract = r["maker"].facts(trade_id).contract
        robbed = verdict(r, trade_id, verdict_split(contract, contract.escrow_sat - contract.fee_a))
        await says(r, arbiter, "maker", trade_id, robbed)
        await r.quiet("maker", trade_id)
        assert not r.mempool()


async def test_an_arbiter_alone_takes_no_deposit_of_a_buyer_who_gave_it_up_to_nobody() -> None:
    """The buyer has said that he will not pay: his deposit is his, less the fee at most."""
    async with funded() as (r, trade_id):

        async def hook(frame: Frame) -> Sequence[bytes]:
            return [] if frame.kind in {K.SETTLE, K.NOT_PAID} else [frame.raw]

        r.post.hook = hook
        await r.act("taker", trade_id, SayNotPaid("the bank is closed"))
        await r.quiet("taker", trade_id)
        await r.stop("maker")
        arbiter = await noticed(r, trade_id, "taker")
        contract = r["taker"].facts(trade_id).contract
        robbed = verdict(r, trade_id, verdict_split(contract, 0))
        await says(r, arbiter, "taker", trade_id, robbed)
        await r.quiet("taker", trade_id)
        assert not r.mempool()


async def test_a_verdict_before_any_notice_is_no_ruling() -> None:
    """Neither at number 0, nor on a fresh chain, nor inside a FORWARD."""
    async with paid() as (r, trade_id):
        arbiter = r.arbiter(trade_id)
        contract = r["maker"].facts(trade_id).contract
        ruled = verdict(r, trade_id, verdict_split(contract, 0))
        for victim in ("maker", "taker"):
            inner = forged(r, arbiter, victim, trade_id, K.VERDICT, ruled.wire())
            for payload, change in (
                (ruled, {}),
                (ruled, {"seq": FRESH_STEP}),
                (Forward(messages=(inner.wire(),)), {}),
                (Forward(messages=(inner.wire(),)), {"seq": FRESH_STEP}),
                (Recuse(reason="no"), {}),
            ):
                before = r[victim].snapshot()
                status, _ = await says(r, arbiter, victim, trade_id, payload, **change)
                assert (status != APPLIED, r[victim].snapshot()) == (True, before), payload.kind
            assert isinstance(r[victim].state(trade_id), Paid)
        logged(r, "before any NOTICE")


@pytest.mark.parametrize("who", ["maker", "taker"])
async def test_recuse_then_verdict_gives_nobody_more_than_his_facts(who: str) -> None:
    async with paid() as (r, trade_id):
        arbiter = await noticed(r, trade_id, who)
        assert (await says(r, arbiter, who, trade_id, Recuse(reason="not I")))[0] == APPLIED
        await r.until(who, trade_id, ArbiterLost)
        contract = r[who].facts(trade_id).contract
        much = 0 if who == "maker" else contract.escrow_sat - contract.fee_a
        await says(r, arbiter, who, trade_id, verdict(r, trade_id, verdict_split(contract, much)))
        await r.quiet(who, trade_id)
        assert not r.mempool()
        assert "payout" not in r[who].signed


async def test_a_runner_up_says_nothing_before_the_timelock() -> None:
    async with paid() as (r, trade_id):
        second = r.runner_up(trade_id)
        contract = r["maker"].facts(trade_id).contract
        for victim in ("maker", "taker"):
            notice = Notice(
                dispute_id=bytes(32), opener=r[victim].facts(trade_id).peer, statement="mine now"
            )
            ruled = verdict(r, trade_id, verdict_split(contract, 0))
            inner = forged(r, second, victim, trade_id, K.VERDICT, ruled.wire())
            said = (
                notice,
                ruled,
                Recuse(reason="no"),
                Chat(text="hello"),
                Forward(messages=(inner.wire(),)),
            )
            for payload in said:
                for change in ({}, {"seq": FRESH_STEP}):
                    before = r[victim].snapshot()
                    status, text = await says(r, second, victim, trade_id, payload, **change)
                    assert status in {LATER, REFUSED}, (payload.kind, change, text)
                    assert r[victim].snapshot() == before
            assert isinstance(r[victim].state(trade_id), Paid)
        assert not r.mempool()


async def test_a_runner_up_rules_nothing_before_the_timelock() -> None:
    """The arbiter hears the case. His runner-up, on a fresh chain, would be there before him."""
    async with paid() as (r, trade_id):
        await r.dispute("maker", trade_id, "no money came")
        await r.both(trade_id, Disputed)
        second = r.runner_up(trade_id)
        contract = r["maker"].facts(trade_id).contract
        freed = release(contract).buyer_sat
        early = verdict(r, trade_id, verdict_split(contract, freed, Branch.BACKUP), second=True)
        for victim in ("maker", "taker"):
            before = r[victim].state(trade_id)
            await says(r, second, victim, trade_id, Recuse(reason="no"), seq=FRESH_STEP)
            status, _ = await says(r, second, victim, trade_id, early)
            assert status in {LATER, REFUSED}, victim
            assert r[victim].state(trade_id) == before
            assert "payout" not in r[victim].signed
        assert not r.mempool()


async def test_a_forward_carries_nothing_that_binds_or_pays_by_itself() -> None:
    """Of another trade, of a stranger, a bare ASK, a CHAT, an OK without an ASK, garbage."""
    async with paid(sats=(3_000_000, 3_000_000)) as (r, trade_id):
        other = await r.take()
        await r.funded(other)
        arbiter = await noticed(r, trade_id, "maker", "taker")
        contract = r["maker"].facts(trade_id).contract
        half = contract.escrow_sat // 2
        undone = refund(contract)
        for victim, peer in (("maker", "taker"), ("taker", "maker")):

            def said(
                payload: Payload, trade: bytes = trade_id, victim: str = victim, peer: str = peer
            ) -> bytes:
                return forged(r, peer, victim, trade, payload.kind, payload.wire()).wire()

            bad = settle(r, peer, trade_id, undone, b"\x22" * 32)
            tries = [
                (said(Ask(buyer_sat=half, seller_sat=contract.escrow_sat - half, note="")),),
                (said(Chat(text="psst")),),
                (said(bad),),
                (said(Chat(text="psst"), trade=other),),
                (said(Cover(covered_id=b"\x33" * 32)), said(bad)),
                (b"\x01",),
            ]
            if victim == "taker":  # a refund is the buyer's alone to give
                tries.append((said(settle(r, peer, trade_id, undone, ZERO)),))
            for n, messages in enumerate(tries):
                before = r[victim].snapshot()
                status, _ = await says(r, arbiter, victim, trade_id, Forward(messages=messages))
                assert (status, r[victim].snapshot()) == (REFUSED, before), (victim, n)
        assert not r.mempool()


@pytest.mark.parametrize("much", ["all to the buyer", "all to the seller", "a refund"])
async def test_a_runner_up_alone_moves_nothing_after_the_timelock(
    much: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """His time has come and nobody else judges: still he holds one key."""
    monkeypatch.setattr(contracts, "DAY_BLOCKS", 1)  # n is 34 blocks here
    async with paid() as (r, trade_id):
        contract = r["maker"].facts(trade_id).contract
        second = r.runner_up(trade_id)
        await r.stop(second)
        r.mine(contract.n + 1)
        await r.synced()
        fee = contract.fee_a2
        sat = {
            "all to the buyer": contract.escrow_sat - fee,
            "all to the seller": 0,
            "a refund": contract.dep_b,
        }[much]
        wrong = verdict(r, trade_id, verdict_split(contract, sat, Branch.BACKUP), second=True)
        other = verdict(
            r, trade_id, verdict_split(contract, contract.dep_b + 1, Branch.BACKUP), second=True
        )
        for victim in ("maker", "taker"):
            notice = Notice(
                dispute_id=bytes(32), opener=r[victim].facts(trade_id).peer, statement="mine now"
            )
            assert (await says(r, second, victim, trade_id, notice))[0] == APPLIED
            await r.until(victim, trade_id, Disputed, ArbiterLost)
            await says(r, second, victim, trade_id, wrong)
            await r.quiet(victim, trade_id)
            inner = forged(r, second, victim, trade_id, K.VERDICT, other.wire())
            forward = Forward(messages=(inner.wire(),))
            assert (await says(r, second, victim, trade_id, forward))[0] == REFUSED
            await r.quiet(victim, trade_id)
            assert "payout" not in r[victim].signed
        assert not r.mempool()
        logged(r, "another verdict")
