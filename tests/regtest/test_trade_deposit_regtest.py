"""The deposit on a real bitcoind: late, wrong, twice, reorged away; and the payout reorged."""

from typing import Any

import pytest
from core_rig import AMOUNT, DEP_B, DEP_S, ESCROW, OPENING, CoreRig, core_rig, display
from regtest_kit import COIN

from escrow.contract import KIND_BACKUP
from escrow.export import export
from escrow.messages import Kind
from escrow.model import (
    Agreed,
    AnswerAsk,
    AskSplit,
    Broadcast,
    Closed,
    Funded,
    Paid,
    Releasing,
    SayPaid,
    SayReceived,
    Void,
)
from escrow.payout import Split, payout_rates
from escrow.script import escrow_address
from p2pnode.base.errors import LocalFault

RELEASE = Split(AMOUNT + DEP_B, DEP_S, 0)
REFUND = Split(DEP_B, AMOUNT + DEP_S, 0)


@pytest.mark.parametrize("late", [False, True], ids=["in time", "a block too late"])
async def test_a_deposit_that_waits_until_fund_by(core: Any, late: bool) -> None:
    async with core_rig(*core) as r:
        trade_id = await r.begin(KIND_BACKUP)
        fund_by = r["maker"].facts(trade_id).contract.fund_by
        waits = fund_by - 7 + late - r.box.height
        r.core.mine(waits, step=1, empty=True)
        await r.both(trade_id, Broadcast)
        r.mine()
        block = r.core.decoded(display(r["maker"].facts(trade_id).outpoint.txid))["blockhash"]
        assert r.core.rpc("getblockheader", block)["height"] == fund_by - 6 + late
        await r.both(trade_id, Funded)
        await r.delivered("taker", trade_id, Kind.ACCOUNT)
        if not late:
            await r.delivered("maker", trade_id, Kind.ACK)
            await r.act("taker", trade_id, SayPaid("sent"))
            await r.until("maker", trade_id, Paid)
            await r.act("maker", trade_id, SayReceived())
            await r.closed(trade_id, "released")
            await r.settled(trade_id, RELEASE)
            return
        await r.quiet("taker", trade_id)
        assert r["taker"].said(trade_id, Kind.ACK) is None
        with pytest.raises(LocalFault, match="do not pay: the seller's payment details"):
            await r.act("taker", trade_id, SayPaid("sent"))
        await r.act("maker", trade_id, AskSplit(DEP_B, "The deposit came too late."))
        await r.delivered("taker", trade_id, Kind.ASK)
        await r.act("taker", trade_id, AnswerAsk(agree=True))
        await r.until("maker", trade_id, Agreed)
        await r.closed(trade_id, "refunded")
        await r.settled(trade_id, REFUND)


# -- money that is none of the trade's


@pytest.mark.parametrize("sat", [123_456, ESCROW], ids=["wrong", "double"])
async def test_a_strangers_deposit_changes_nothing_and_can_be_settled(core: Any, sat: int) -> None:
    async with core_rig(*core) as r:
        trade_id = await r.begin(KIND_BACKUP)
        contract = r["maker"].facts(trade_id).contract
        stray = [r.core.fund(escrow_address(contract), sat)]  # in one block with the deposit
        await r.paid(trade_id)
        stray.append(r.core.fund(escrow_address(contract), sat))
        r.mine()
        await r.act("maker", trade_id, SayReceived())
        await r.closed(trade_id, "released")
        await r.settled(trade_id, RELEASE)
        wanted = [f"addr({escrow_address(contract)})"]
        left = r.core.rpc("scantxoutset", "start", wanted)["unspents"]
        assert sorted(u["txid"] for u in left) == sorted(stray)
        assert {round(u["amount"] * COIN) for u in left} == {sat}
        tx = r.core.decoded(settle(r, trade_id, left))
        assert len(tx["vin"]) == 2
        assert not r.core.rpc("scantxoutset", "start", wanted)["unspents"]


def settle(r: CoreRig, trade_id: bytes, coins: list[dict[str, Any]]) -> str:
    """Spend coins at the escrow's script by two bare wallets, with what `trade export` gives."""
    pays = sum(round(c["amount"] * COIN) for c in coins) - 1000
    inputs = [{"txid": c["txid"], "vout": c["vout"]} for c in coins]
    psbt = r.core.rpc("createpsbt", inputs, {r.core.nobody: f"{pays / COIN:.8f}"})
    signed = []
    for name in ("maker", "taker"):
        facts, key = r[name].facts(trade_id), r[name].trade_key(trade_id)
        found = export(
            facts.contract,
            facts.outpoint,
            facts.final_funding,
            secrets={key.public: key.wif()},
        )
        wallet = f"{name}-{trade_id.hex()[:16]}"
        r.core.rpc("createwallet", wallet, False, True, wallet=None)
        request = {"desc": found["descriptor_with_secrets"], "timestamp": r.core.clock - 86_400}
        (done,) = r.core.rpc("importdescriptors", [request], wallet=wallet)
        assert done["success"], done
        known = r.core.rpc("listunspent", wallet=wallet)
        assert {c["txid"] for c in known} == {c["txid"] for c in coins}
        one = r.core.rpc("walletprocesspsbt", psbt, wallet=wallet)
        assert not one["complete"]
        signed.append(one["psbt"])
        r.core.rpc("unloadwallet", wallet, wallet=None)
    final = r.core.rpc("finalizepsbt", r.core.rpc("combinepsbt", signed))
    assert final["complete"]
    txid = str(r.core.rpc("sendrawtransaction", final["hex"]))
    r.mine()
    return txid


# -- the chain takes it back


@pytest.mark.parametrize("paid", [False, True], ids=["before PAID", "after PAID"])
async def test_a_deposit_reorged_away_goes_out_again(core: Any, paid: bool) -> None:
    async with core_rig(*core) as r:
        trade_id = await r.begin(KIND_BACKUP)
        await (r.paid if paid else r.funded)(trade_id)
        txid = r["maker"].facts(trade_id).outpoint.txid
        r.core.reorg(1)
        assert "confirmations" not in r.core.decoded(display(txid))
        if paid:
            await shallow(r, trade_id)
            await r.both(trade_id, Paid)
            with pytest.raises(LocalFault, match="the escrow is not deep enough"):
                await r.act("maker", trade_id, SayReceived())
        else:
            await r.both(trade_id, Broadcast)
            with pytest.raises(LocalFault, match="do not pay: the escrow is not deep enough"):
                await r.act("taker", trade_id, SayPaid("sent"))
        await lost(r, txid)
        if paid:
            await r.both(trade_id, Paid)
        else:
            with pytest.raises(LocalFault, match="do not pay: the escrow is not deep enough"):
                await r.act("taker", trade_id, SayPaid("sent"))
        r.mine()
        if not paid:
            await r.both(trade_id, Funded)
            await r.act("taker", trade_id, SayPaid("sent"))
            await r.both(trade_id, Paid)
        await r.deposit(trade_id, 1)
        await r.act("maker", trade_id, SayReceived())
        await r.closed(trade_id, "released")
        await r.settled(trade_id, RELEASE)
        said = [m.kind for m in r["maker"].journal.messages(trade_id)]
        assert (said.count(Kind.ACCOUNT), said.count(Kind.ACK), said.count(Kind.PAID)) == (2, 1, 1)


async def shallow(r: CoreRig, trade_id: bytes) -> None:
    """Wait until both traders see the deposit unconfirmed."""
    await r.synced()
    await r.deposit(trade_id, 0)


async def lost(r: CoreRig, *txids: bytes) -> None:
    """Empty bitcoind's mempool; wait until the traders have given these back to it."""
    r.core.clock += 60
    r.core.forget()
    for txid in txids:
        assert (await r.in_pool(txid))["time"] >= r.core.clock, "the mempool was not lost"


async def test_a_deposit_that_is_double_spent_in_a_reorg_is_void(core: Any) -> None:
    async with core_rig(*core) as r:
        trade_id = await r.begin(KIND_BACKUP)
        await r.paid(trade_id)
        txid = r["maker"].facts(trade_id).outpoint.txid
        r.core.reorg(1)
        taken = r.core.double_spend(r["taker"].words, display(txid), 20_000)
        r.mine(5)
        await shallow_gone(r, trade_id)
        await r.both(trade_id, Paid)
        assert r["maker"].locked()
        r.mine()
        await r.both(trade_id, Void)
        assert not r.mempool()
        for name in ("maker", "taker"):
            assert not r[name].locked()
            await r.holds(name, OPENING - (taken if name == "taker" else 0))


async def shallow_gone(r: CoreRig, trade_id: bytes) -> None:
    """Wait until both traders see another spend of the deposit's coins, 5 deep."""

    async def there() -> None:
        for name in ("maker", "taker"):
            view = r[name].facts(trade_id).view
            assert view is not None
            assert view.funding_height is None
            assert view.depth_of(view.conflict) == 5

    await r.synced()
    await r.eventually(there)


async def released(r: CoreRig) -> tuple[bytes, bytes]:
    """Bring a trade to a published RELEASE; returns the trade and the payout's txid."""
    trade_id = await r.begin(KIND_BACKUP)
    await r.paid(trade_id)
    await r.act("maker", trade_id, SayReceived())
    return trade_id, await r.payout(trade_id)


async def test_a_payout_reorged_away_goes_out_again(core: Any) -> None:
    """More than three blocks have passed since it was completed, so it is raised at once."""
    async with core_rig(*core) as r:
        trade_id, low = await released(r)
        r.mine(4)
        await r.deep(trade_id, 4)
        await r.both(trade_id, Releasing)
        r.core.reorg(4)
        raised = await r.payout(trade_id, low)
        await lost(r, raised)
        assert await r.payout(trade_id) == raised
        await r.closed(trade_id, "released")
        rate = payout_rates(r["maker"].facts(trade_id).contract)[1]
        await r.settled(trade_id, RELEASE, rate=rate)


async def test_a_payout_reorged_away_when_all_has_ended_goes_out_again(core: Any) -> None:
    """A closed trade is watched on."""
    async with core_rig(*core) as r:
        trade_id, txid = await released(r)
        r.mine(6)
        await r.both(trade_id, Closed)
        r.core.reorg(6)
        await r.deep(trade_id, 0)
        await lost(r, txid)
        r.mine(6)
        await r.deep(trade_id, 6)
        await r.ended(trade_id, "released")
        await r.settled(trade_id, RELEASE)


async def test_a_reorg_of_deposit_and_payout_loses_neither(core: Any) -> None:
    async with core_rig(*core) as r:
        trade_id, txid = await released(r)
        r.mine(6)
        await r.both(trade_id, Closed)
        r.core.reorg(7)
        await lost(r, r["maker"].facts(trade_id).outpoint.txid, txid)
        r.mine(6)
        await r.deep(trade_id, 6)
        await r.settled(trade_id, RELEASE)
