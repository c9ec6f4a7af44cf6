"""The chain beats messages: reorgs of funding and payout, double spends before and after.

Each time the trade must follow the chain, block "pay now" while the escrow is not there, give the
transactions back to the network by itself, and free every coin when the escrow can never be.
"""

from dataclasses import replace

import pytest
from trade_campaign import ecdsa
from trade_kit import Frame, Node, Rig, rig

from escrow.contract import ACK_S
from escrow.messages import Kind
from escrow.model import (
    Broadcast,
    Closed,
    Disputed,
    Funded,
    Paid,
    Releasing,
    SayPaid,
    SayReceived,
    Void,
)
from escrow.sighash import sighash
from p2pnode.base.errors import LocalFault
from p2pnode.base.transaction import Transaction, TxIn, TxOut

K = Kind


def double_spend(r: Rig, name: str, trade_id: bytes, fee: int = 20_000) -> Transaction:
    """One of a trader's funding inputs, spent to himself, by his own key."""
    node = r[name]
    facts = node.facts(trade_id)
    funding = facts.funding
    assert funding is not None
    index = funding.own("B" if facts.me == facts.buyer else "S")[0]
    return spend_to(node, funding.tx.inputs[index], funding.prevouts[index], fee)


def spend_to(node: Node, txin: TxIn, spent: TxOut, fee: int) -> Transaction:
    script = node.wallet.script_for_payout()
    tx = Transaction(2, (replace(txin, witness=()),), (TxOut(spent.value - fee, script),), 0)
    key = node.coin_key(spent.script)
    signature = ecdsa(key, sighash(tx, 0, [spent], None))
    from coincurve import PrivateKey

    public = PrivateKey(key).public_key.format()
    return replace(tx, inputs=(replace(txin, witness=(signature, public)),))


async def test_a_reorg_of_the_funding_blocks_pay_now_and_is_mended() -> None:
    async with rig() as r:
        trade_id = await r.take()
        txid = await r.published(trade_id)
        r.mine()
        await r.both(trade_id, Funded)
        await r.delivered("maker", trade_id, K.ACK)
        r.reorg(1, drop=[txid])
        await r.both(trade_id, Broadcast)
        with pytest.raises(LocalFault, match="do not pay: the escrow is not deep enough"):
            await r.act("taker", trade_id, SayPaid("sent"))
        with pytest.raises(LocalFault, match="Broadcast"):
            await r.act("maker", trade_id, SayReceived())
        await r.published(trade_id)  # given back by the traders themselves
        r.mine()
        await r.both(trade_id, Funded)
        await r.act("taker", trade_id, SayPaid("sent"))
        await r.until("maker", trade_id, Paid)
        await r.act("maker", trade_id, SayReceived())
        await r.closed(trade_id, "released")
        acks = [m for m in r["maker"].journal.messages(trade_id) if m.kind is K.ACK]
        accounts = [m for m in r["maker"].journal.messages(trade_id) if m.kind is K.ACCOUNT]
        assert (len(acks), len(accounts)) == (1, 2)  # said once, and not again after the reorg


@pytest.mark.parametrize("disputed", [False, True])
async def test_a_funding_lost_after_the_payment_is_given_back(disputed: bool) -> None:
    async with rig() as r:
        trade_id = await r.take()
        await r.paid(trade_id)
        if disputed:
            await r.dispute("taker", trade_id)
            await r.both(trade_id, Disputed)
        txid = r["maker"].facts(trade_id).outpoint.txid
        r.reorg(1, drop=[txid])
        await r.published(trade_id)
        r.mine()
        await r.both(trade_id, Disputed if disputed else Paid)
        await r.act("maker", trade_id, SayReceived())
        await r.closed(trade_id, "released")


async def test_a_funding_replaced_in_a_reorg_is_void_at_six_deep() -> None:
    async with rig() as r:
        trade_id = await r.take()
        await r.funded(trade_id)
        txid = r["maker"].facts(trade_id).outpoint.txid
        theft = double_spend(r, "taker", trade_id)
        r.reorg(1, txs=[theft.serialize()], drop=[txid])
        await r.both(trade_id, Broadcast)
        with pytest.raises(LocalFault, match="do not pay"):
            await r.act("taker", trade_id, SayPaid("sent"))
        r.mine(3)  # 5 deep
        await r.quiet("maker", trade_id)
        assert isinstance(r["maker"].state(trade_id), Broadcast)
        assert r["maker"].locked()
        r.mine()
        await r.both(trade_id, Void)
        assert r["maker"].state(trade_id) == Void(theft.txid)
        r.untouched("maker", "taker")


async def test_a_payout_lost_in_a_reorg_is_given_back() -> None:
    async with rig() as r:
        trade_id = await r.take()
        await r.paid(trade_id)
        await r.act("maker", trade_id, SayReceived())
        await r.until("taker", trade_id, Releasing)

        async def out() -> bytes:
            assert r.mempool()
            return r.mempool().pop()

        txid: bytes = await r.eventually(out)
        r.mine(4)
        await r.quiet("taker", trade_id)
        assert isinstance(r["taker"].state(trade_id), Releasing)
        r.reorg(4, drop=[txid])

        async def again() -> None:
            assert txid in r.mempool()

        await r.eventually(again)
        r.mine(5)
        await r.quiet("taker", trade_id)
        assert not isinstance(r["taker"].state(trade_id), Closed)
        r.mine()
        await r.both(trade_id, Closed)
        state = r["taker"].state(trade_id)
        assert isinstance(state, Closed)
        assert (state.txid, state.outcome) == (txid, "released")


async def test_a_coin_spent_behind_the_peers_back_costs_him_only_time() -> None:
    """The buyer signs a funding whose input he has spent: its proof is good, the coin is gone."""
    async with rig() as r:
        spent: list[Transaction] = []

        async def hook(frame: Frame) -> list[bytes]:
            if frame.kind is K.WITNESS and frame.sender == "taker" and not spent:
                spent.append(double_spend(r, "taker", frame.message.trade))
                r.box.broadcast(spent[0].serialize())
                r.mine()
            return [frame.raw]

        r.post.hook = hook
        trade_id = await r.take()
        await r.until("maker", trade_id, Broadcast)
        await r.noted("maker", trade_id, "the network refused the transaction")
        assert r["maker"].locked()
        r.mine(4)
        await r.quiet("maker", trade_id)
        assert isinstance(r["maker"].state(trade_id), Broadcast)
        r.mine()
        await r.until("maker", trade_id, Void)
        await r.until("taker", trade_id, Void)
        r.untouched("maker", "taker")
        assert r["maker"].said(trade_id, K.ACCOUNT) is None


async def test_a_higher_fee_after_broadcast_voids_and_never_reads_as_funded() -> None:
    async with rig() as r:
        trade_id = await r.take()
        await r.published(trade_id)
        await r.both(trade_id, Broadcast)
        theft = double_spend(r, "taker", trade_id, fee=50_000)
        r.box.broadcast(theft.serialize())
        r.mine(6)
        await r.both(trade_id, Void)
        for name in ("maker", "taker"):
            assert r[name].said(trade_id, K.ACCOUNT) is None
        r.untouched("maker", "taker")


async def test_funded_too_late_gets_no_ack_and_no_payment() -> None:
    """fund_by is judged once, at the ACK: the free option of a delayed broadcast is closed."""
    async with rig() as r:

        async def hold(raw: bytes) -> bytes:
            return b""

        for name in ("maker", "taker"):
            setattr(r[name].chain, "kept", r[name].chain.broadcast)  # noqa: B010
            r[name].chain.broadcast = hold  # type: ignore[method-assign]
        trade_id = await r.take()
        held = await r.until("maker", trade_id, Broadcast)
        assert isinstance(held, Broadcast)
        fund_by = r["maker"].facts(trade_id).contract.fund_by
        r.mine(fund_by - 6 - r.box.height, step=1)
        r.box.broadcast(held.raw)
        r.mine()  # one block too late
        await r.both(trade_id, Funded)
        await r.delivered("taker", trade_id, K.ACCOUNT)
        await r.quiet("taker", trade_id)
        assert r["taker"].said(trade_id, K.ACK) is None
        with pytest.raises(LocalFault, match="do not pay: the seller's payment details"):
            await r.act("taker", trade_id, SayPaid("sent"))


async def test_details_that_come_after_48_hours_of_chain_time_get_no_ack() -> None:
    async with rig() as r:
        late = [False]

        async def hook(frame: Frame) -> list[bytes]:
            if frame.kind is K.ACCOUNT and frame.sender == "maker" and not late[0]:
                return []
            return [frame.raw]

        r.post.hook = hook
        trade_id = await r.take()
        await r.published(trade_id)
        r.mine()
        await r.both(trade_id, Funded)
        r.mine(12, step=ACK_S // 6)
        await r.synced()
        late[0] = True
        await r.delivered("taker", trade_id, K.ACCOUNT)
        await r.quiet("taker", trade_id)
        assert r["taker"].said(trade_id, K.ACK) is None
        with pytest.raises(LocalFault, match="do not pay"):
            await r.act("taker", trade_id, SayPaid("sent"))


async def test_nobody_pays_after_the_period_by_the_chains_clock() -> None:
    async with rig() as r:
        trade_id = await r.take()
        await r.funded(trade_id)
        facts = r["taker"].facts(trade_id)
        assert facts.view is not None
        end = facts.contract.period_end(facts.view.funding_mtp)
        r.pass_time(365 * 86_400)  # our own clock is nobody's deadline
        while r.box.chain.index.mtp(r.box.height) < end:
            r.mine(6, step=(end - facts.view.funding_mtp) // 12)
        await r.synced()
        with pytest.raises(LocalFault, match="the time to pay is over"):
            await r.act("taker", trade_id, SayPaid("sent"))
        assert r["taker"].said(trade_id, K.PAID) is None
