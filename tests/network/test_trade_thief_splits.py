"""Thefts by splits between two traders: another proposal behind a yes, an OK out of its time.

What a user has read is what he answers, and R3 holds whatever numbers and `seen` the thief names.
"""

from collections.abc import Sequence

import pytest
from thief_kit import K, funded, logged, paid, says, settle
from trade_kit import Frame, Rig

from escrow.messages import FRESH_STEP, ZERO
from escrow.model import (
    Agreed,
    AskSplit,
    Paid,
    Releasing,
    SayPaid,
    SayReceived,
    WithdrawAsk,
)
from escrow.payloads import Ask, Chat, Cover, Ok, Withdraw
from escrow.payout import Split, refund, release
from escrow.shell_inbox import APPLIED, REFUSED
from p2pnode.app import routes_talk, routes_trades
from p2pnode.app.routes import Call
from p2pnode.base.errors import LocalFault

# ------------------------------------------------------------------ another ask behind a yes


async def test_a_yes_is_to_the_proposal_that_was_read() -> None:
    """The buyer proposes a small rebate; while the seller thinks, another proposal takes its place."""
    async with paid() as (r, trade_id):
        contract = r["maker"].facts(trade_id).contract
        fair = release(contract).buyer_sat - 10_000
        await r.stop("taker")
        ask = Ask(buyer_sat=fair, seller_sat=contract.escrow_sat - fair, note="less 10,000")
        assert (await says(r, "taker", "maker", trade_id, ask))[0] == APPLIED
        (shown,) = routes_trades.asks_json(r["maker"].facts(trade_id))
        assert shown["buyer_sat"] == fair
        greedy = Ask(buyer_sat=contract.escrow_sat, seller_sat=0, note="less 10,000")
        status, _ = await says(r, "taker", "maker", trade_id, greedy)
        agree = next(x for x in routes_talk.routes(r["maker"].exchange) if x.path.endswith("agree"))
        call = Call(path={"trade_id": trade_id.hex()}, body={"ask_id": shown["ask_id"]})
        try:
            await agree.handler(call)
        except LocalFault:
            assert status == APPLIED
        agreed = r["maker"].facts(trade_id).agreed
        assert agreed is None or agreed.buyer_sat == fair
        split = r["maker"].journal.split(trade_id)
        assert split is None or split.buyer_sat == fair


# ------------------------------------------------------------------ R3 between two traders


async def test_an_ok_that_crosses_a_withdraw_or_comes_from_a_fresh_chain_binds_by_the_rule() -> (
    None
):
    """After the WITHDRAW was covered no OK binds, whatever `seen` it names and wherever it begins."""
    async with funded() as (r, trade_id):
        contract = r["taker"].facts(trade_id).contract
        await r.stop("maker")
        await r.act("taker", trade_id, AskSplit(refund(contract).buyer_sat, "call it off?"))
        ask = r["taker"].said(trade_id, K.ASK)
        assert ask
        await r.act("taker", trade_id, WithdrawAsk())
        withdraw = r["taker"].said(trade_id, K.WITHDRAW)
        assert withdraw
        with pytest.raises(LocalFault, match="binds you still"):
            await r.act("taker", trade_id, SayPaid("sent"))
        cover = Cover(covered_id=withdraw.id)
        assert (await says(r, "maker", "taker", trade_id, cover))[0] == APPLIED
        await r.act("taker", trade_id, SayPaid("sent"))
        ok = Ok(ask_id=ask.id)
        before = r["taker"].snapshot()
        assert (await says(r, "maker", "taker", trade_id, ok, seen=ask.id))[0] == REFUSED
        assert r["taker"].snapshot() == before
        logged(r, "seen: falls behind")
        fresh = Chat(text="again from here")
        await says(r, "maker", "taker", trade_id, fresh, seq=FRESH_STEP, seen=ask.id)
        await says(r, "maker", "taker", trade_id, ok, seen=ask.id)
        await says(r, "maker", "taker", trade_id, ok)
        assert r["taker"].facts(trade_id).agreed is None
        assert isinstance(r["taker"].state(trade_id), Paid)
        await says(
            r,
            "maker",
            "taker",
            trade_id,
            settle(r, "maker", trade_id, refund(contract), ok_id(r, trade_id)),
        )
        assert isinstance(r["taker"].state(trade_id), Paid)
        assert not r.mempool()


def ok_id(r: Rig, trade_id: bytes) -> bytes:
    found = [m for m in r["taker"].journal.messages(trade_id) if m.kind is K.OK]
    return found[-1].id if found else b"\x22" * 32


async def test_a_cover_of_what_was_never_said_frees_and_binds_nobody() -> None:
    async with funded() as (r, trade_id):
        contract = r["taker"].facts(trade_id).contract
        await r.stop("maker")
        await r.act("taker", trade_id, AskSplit(refund(contract).buyer_sat, "call it off?"))
        ask = r["taker"].said(trade_id, K.ASK)
        assert ask
        for payload in (
            Cover(covered_id=ask.id),
            Cover(covered_id=b"\x44" * 32),
            Withdraw(ask_id=ask.id),
            Ok(ask_id=b"\x44" * 32),
            settle(r, "maker", trade_id, refund(contract), ZERO),
            settle(r, "maker", trade_id, refund(contract), ask.id),
        ):
            before = r["taker"].snapshot()
            status, _ = await says(r, "maker", "taker", trade_id, payload)
            assert (status, r["taker"].snapshot()) == (REFUSED, before), payload.kind
        with pytest.raises(LocalFault, match="binds you still"):
            await r.act("taker", trade_id, SayPaid("sent"))
        logged(r, "covered_id: is not a WITHDRAW or OK of ours")


async def test_settle_for_another_split_before_any_ok_or_twice_pays_nothing() -> None:
    async with funded() as (r, trade_id):
        contract = r["maker"].facts(trade_id).contract
        half = contract.escrow_sat // 2
        await r.act("maker", trade_id, AskSplit(half - 5000, "half?"))
        ask = await r.delivered("taker", trade_id, K.ASK)
        await r.stop("taker")
        early = settle(
            r, "taker", trade_id, Split(half - 5000, contract.escrow_sat - half + 5000, 0), ask.id
        )
        before = r["maker"].snapshot()
        assert (await says(r, "taker", "maker", trade_id, early))[0] == REFUSED
        assert r["maker"].snapshot() == before
        assert (await says(r, "taker", "maker", trade_id, Ok(ask_id=ask.id)))[0] == APPLIED
        await r.until("maker", trade_id, Agreed)
        ok = r["maker"].heard(trade_id, K.OK)
        assert ok
        for split in (
            Split(half, contract.escrow_sat - half, 0),
            release(contract),
            refund(contract),
        ):
            before = r["maker"].snapshot()
            bad = settle(r, "taker", trade_id, split, ok.id)
            assert (await says(r, "taker", "maker", trade_id, bad))[0] == REFUSED
            assert r["maker"].snapshot() == before
        assert not r.mempool()
        good = settle(
            r, "taker", trade_id, Split(half - 5000, contract.escrow_sat - half + 5000, 0), ok.id
        )
        swapped = type(good)(ok_id=ok.id, signatures=good.signatures[::-1])
        before = r["maker"].snapshot()
        assert (await says(r, "taker", "maker", trade_id, swapped))[0] == REFUSED
        assert r["maker"].snapshot() == before
        assert (await says(r, "taker", "maker", trade_id, good))[0] == APPLIED

        async def paid_out() -> None:
            r.poke()
            assert r.mempool()

        await r.eventually(paid_out)


async def test_a_refund_signed_after_paid_cheats_no_buyer_and_no_seller_who_has_the_money() -> None:
    """S has said `received`; B, paid back by nobody, signs REFUND: S must not take both."""
    async with paid() as (r, trade_id):

        async def hook(frame: Frame) -> Sequence[bytes]:
            return [] if frame.kind is K.RECEIVED else [frame.raw]

        r.post.hook = hook
        await r.act("maker", trade_id, SayReceived())
        await r.quiet("maker", trade_id)
        contract = r["maker"].facts(trade_id).contract
        await r.stop("taker")
        undone = settle(r, "taker", trade_id, refund(contract), ZERO)
        await says(r, "taker", "maker", trade_id, undone)
        await r.quiet("maker", trade_id)
        assert isinstance(r["maker"].state(trade_id), Releasing)
        assert not r.mempool()
