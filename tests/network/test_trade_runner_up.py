"""The runner-up judges where the arbiter is gone, and is paid; no arbiter undoes an agreement."""

from collections.abc import Sequence

import pytest
from trade_kit import Frame, Rig, rig

from escrow.backend_signatures import first_sign
from escrow.deadlines import of_trade
from escrow.messages import Kind
from escrow.model import (
    Agreed,
    AnswerAsk,
    ArbiterLost,
    AskSplit,
    Closed,
    Decide,
    Disputed,
    Hearing,
    Noticed,
    Ruled,
)
from escrow.payloads import Dispute, Verdict
from escrow.payout import release, verdict_split
from escrow.shell_inbox import APPLIED
from p2pnode.base.errors import LocalFault

K = Kind
DAY = 86_400
RATE = 2


async def second_hears(r: Rig, trade_id: bytes) -> str:
    """Both tell the arbiter their side and he vanishes; at the timelock's end the nodes call."""
    await r.dispute("taker", trade_id, "I have paid, see the receipt")
    await r.both(trade_id, Disputed)
    await r.answer("maker", trade_id, "nothing has come")
    await r.until(r.arbiter(trade_id), trade_id, Hearing)
    await r.stop(r.arbiter(trade_id))
    left = r["maker"].facts(trade_id).contract.n
    while left > 0:
        r.mine(min(left, 1000))
        await r.synced()
        left -= 1000
    await r.both(trade_id, ArbiterLost)
    second = r.runner_up(trade_id)
    await r.until(second, trade_id, Noticed)
    for name in ("maker", "taker"):

        async def told(name: str = name) -> None:
            r.poke()
            assert r[name].facts(trade_id).noticed(r[second].id)
            case = r[second].exchange.trades.case(r[second].exchange.trades.row(trade_id))
            assert {m.sender for m in case.messages} >= {r["maker"].id, r["taker"].id}

        await r.eventually(told)
    return second


async def test_the_runner_up_reads_what_the_first_was_told_rules_and_is_paid() -> None:
    async with rig() as r:
        trade_id = await r.take()
        await r.paid(trade_id)
        second = await second_hears(r, trade_id)
        said = {
            name: [m for m in r[second].journal.messages(trade_id) if m.sender == r[name].id]
            for name in ("maker", "taker")
        }
        for name, words in (
            ("taker", "I have paid, see the receipt"),
            ("maker", "nothing has come"),
        ):
            first = Dispute.from_wire(said[name][0].payload)
            assert first.statement == words
            dates = of_trade(r[name].state(trade_id), r[name].facts(trade_id))
            assert [d.name for d in dates] == ["ruling"]
        contract = r["maker"].facts(trade_id).contract
        r.mine(12, step=DAY)  # past the time to reply: the median lags by six
        await r.until(second, trade_id, Hearing)
        await r.act(second, trade_id, Decide(release(contract).buyer_sat, "the receipt is good"))
        await r.until("taker", trade_id, Ruled, Closed)

        async def out() -> None:
            r.poke()
            assert r.mempool()

        await r.eventually(out)
        r.mine(6)
        await r.both(trade_id, Closed)
        node = r[second]
        earnings = node.exchange.earnings

        async def earned() -> None:
            found = await earnings.earned()
            assert [e.value for e in found] == [contract.fee_a2]

        await r.eventually(earned)
        await node.wallet.sync()
        assert node.balance() == 0
        done = await earnings.withdraw(RATE)
        assert (done.count, done.value + done.fee_sat) == (1, contract.fee_a2)
        r.mine(1)

        async def home() -> None:
            await node.wallet.sync()
            assert node.balance() == done.value

        await r.eventually(home)
        with pytest.raises(LocalFault, match="nothing to withdraw"):
            await earnings.withdraw(RATE)


async def test_no_verdict_takes_from_two_traders_what_they_have_agreed() -> None:
    """An arbiter alone signs all to the seller while the agreed signature is on its way."""
    async with rig() as r:
        trade_id = await r.take()
        await r.paid(trade_id)
        arbiter = r.arbiter(trade_id)
        await r.dispute("taker", trade_id)
        await r.both(trade_id, Disputed)
        held: list[Frame] = []

        async def hook(frame: Frame) -> Sequence[bytes]:
            if frame.kind is not K.SETTLE:
                return [frame.raw]
            held.append(frame)
            return []

        r.post.hook = hook
        contract = r["maker"].facts(trade_id).contract
        share = release(contract).buyer_sat - 20_000
        await r.act("taker", trade_id, AskSplit(share, "a little less"))
        await r.delivered("maker", trade_id, K.ASK)
        await r.act("maker", trade_id, AnswerAsk(agree=True))
        await r.both(trade_id, Agreed)
        key = r[arbiter].exchange.world.keys.arbiter_key(contract.seed, contract.bond_a)
        signed = list(r["taker"].signed), list(r["maker"].signed)
        for buyer_sat in (0, contract.escrow_sat - contract.fee_a):
            split = verdict_split(contract, buyer_sat)
            raw = Verdict(
                buyer_sat=split.buyer_sat,
                seller_sat=split.seller_sat,
                arbiter_sat=split.arbiter_sat,
                signatures=first_sign(contract, r["maker"].facts(trade_id).outpoint, split, key),
                reason="because",
            ).wire()
            name = "taker" if not buyer_sat else "maker"
            message = r[arbiter].next_message(trade_id, r[name].id, K.VERDICT, raw)
            assert (await r.inject(arbiter, name, message.wire()))[0] == APPLIED
            await r.until(name, trade_id, Ruled)
            await r.quiet(name, trade_id)
        assert not r.mempool()
        assert held
        assert list(r["maker"].signed)[: len(signed[1])] == signed[1]
        assert "payout" not in r["taker"].signed
        r.post.hook = None
        await r.closed(trade_id, "agreed")
