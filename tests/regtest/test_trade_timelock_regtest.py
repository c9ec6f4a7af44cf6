"""An arbiter who is gone, on a real bitcoind: the traders agree, or his runner-up rules.

The last test of the shared chain: it is thousands of blocks longer afterwards.
"""

from typing import Any

import pytest
from core_rig import AMOUNT, ARBITER_FEE, DEP_B, DEP_S, ESCROW, KINDS, CoreRig, core_rig

from escrow.contract import KIND_BACKUP
from escrow.messages import Kind
from escrow.model import (
    Agreed,
    AnswerAsk,
    ArbiterLost,
    AskSplit,
    Decide,
    Disputed,
    Hearing,
    Noticed,
    Recuse,
    Ruled,
)
from escrow.payloads import Dispute
from escrow.payout import Branch, Split
from p2pnode.base.errors import LocalFault

DAY = 86_400
N = 144 * (1 + 30)  # blocks after which the backup branch opens, for a period of a day


async def agree(r: CoreRig, trade_id: bytes, buyer_sat: int) -> None:
    """End a trade without any arbiter: the seller asks, the buyer agrees."""
    await r.act("maker", trade_id, AskSplit(buyer_sat, "Nobody judges: let us end it."))
    await r.delivered("taker", trade_id, Kind.ASK)
    await r.act("taker", trade_id, AnswerAsk(agree=True))
    await r.until("maker", trade_id, Agreed)
    await r.closed(trade_id, "agreed")
    await r.settled(trade_id, Split(buyer_sat, ESCROW - buyer_sat, 0))


@pytest.mark.parametrize("kind", KINDS)
async def test_an_arbiter_recuses_himself_and_the_traders_agree(core: Any, kind: str) -> None:
    async with core_rig(*core) as r:
        trade_id = await r.begin(kind)
        await r.paid(trade_id)
        await r.dispute("taker", trade_id, "I paid on Monday.")
        await r.both(trade_id, Disputed)
        await r.act(r.arbiter(trade_id), trade_id, Recuse("I know one of them."))
        await r.both(trade_id, ArbiterLost)
        await agree(r, trade_id, AMOUNT)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_arbiter_is_silent_and_the_traders_agree(core: Any, kind: str) -> None:
    async with core_rig(*core) as r:
        trade_id = await r.begin(kind)
        await r.paid(trade_id)
        await r.dispute("taker", trade_id, "I paid on Monday.")
        await r.both(trade_id, Disputed)
        await r.stop(r.arbiter(trade_id))
        facts = r["maker"].facts(trade_id)
        assert facts.view is not None
        end = facts.contract.period_end(facts.view.funding_mtp)
        due = end + facts.contract.reply_s + facts.contract.verdict_s
        r.wait_until(due - 2 * DAY)
        await r.synced()
        await r.quiet("maker", trade_id)
        assert isinstance(r["maker"].state(trade_id), Disputed)
        r.wait_until(due)
        await r.both(trade_id, ArbiterLost)
        await agree(r, trade_id, AMOUNT)


async def test_a_runner_up_rules_when_the_timelock_is_over(core: Any) -> None:
    """The nodes call the arbiter at half of it by themselves, the runner-up at its end."""
    async with core_rig(*core) as r:
        trade_id = await r.begin(KIND_BACKUP, period_s=DAY)
        await r.paid(trade_id)
        facts = r["maker"].facts(trade_id)
        first, second = r.arbiter(trade_id), r.runner_up(trade_id)
        assert facts.contract.n == N
        assert facts.view is not None
        opened = facts.view.funding_height
        assert opened

        await to(r, opened + N // 2 - 1)
        await r.quiet("maker", trade_id)
        await r.quiet("taker", trade_id)
        assert not calls(r, trade_id)
        r.mine()
        await r.both(trade_id, Disputed)
        await r.until(first, trade_id, Noticed)
        assert any("opened by the node: half of the timelock is over" in line for line in r.log)
        assert set(calls(r, trade_id)) == {""}  # words are for people: he waits for theirs

        await to(r, opened + N - 431)  # R5: he may rule no more
        await r.both(trade_id, ArbiterLost)
        await r.until(first, trade_id, Hearing)
        decide = Decide(AMOUNT + DEP_B, "Now I have time.")
        with pytest.raises(LocalFault, match="now it is the runner-up's"):
            await r.act(first, trade_id, decide)
        await r.stop(first)

        await to(r, opened + N - 1)
        await r.quiet("maker", trade_id)
        with pytest.raises(LocalFault, match="the runner-up hears a dispute only after"):
            await r.dispute("taker", trade_id, "Is anybody there?", second=True)
        assert r[second].state(trade_id) is None
        r.mine()
        await r.until(second, trade_id, Noticed)
        assert any("opened by the node: the timelock is over" in line for line in r.log)
        assert set(calls(r, trade_id)) == {""}
        await noticed(r, trade_id)
        for name in ("maker", "taker"):
            await r.answer(name, trade_id, "My side.", second=True)
        with pytest.raises(LocalFault, match="the runner-up waits for all replies"):  # R6
            await r.act(second, trade_id, decide)
        r.wait_until(r.mtp() + facts.contract.reply_s)
        await r.until(second, trade_id, Hearing)
        await r.act(second, trade_id, Decide(AMOUNT + DEP_B, "The bank shows it."))
        for name in ("maker", "taker"):
            ruled = await r.until(name, trade_id, Ruled)
            assert isinstance(ruled, Ruled)
            assert ruled.backup
        await r.closed(trade_id, "ruled")
        split = Split(AMOUNT + DEP_B, DEP_S - ARBITER_FEE, ARBITER_FEE)
        await r.settled(trade_id, split, branch=Branch.BACKUP)


async def to(r: CoreRig, height: int) -> None:
    """Let the chain grow to a height, and every node follow it."""
    while left := height - r.box.height:
        r.core.leap(min(left, 720))
        await r.synced()


async def noticed(r: CoreRig, trade_id: bytes) -> None:
    """Wait until both traders have the runner-up's NOTICE."""

    async def there() -> None:
        r.poke()
        for name in ("maker", "taker"):
            facts = r[name].facts(trade_id)
            assert facts.noticed(facts.contract.runner_up), name

    await r.eventually(there)


def calls(r: CoreRig, trade_id: bytes) -> list[str]:
    """What the traders' nodes have written to arbiters by themselves."""
    return [
        Dispute.from_wire(m.payload).statement
        for name in ("maker", "taker")
        for m in r[name].journal.messages(trade_id)
        if m.kind is Kind.DISPUTE and m.sender == r[name].id
    ]
