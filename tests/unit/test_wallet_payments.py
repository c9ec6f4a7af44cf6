"""A payment once signed is never forgotten before its fate is known, nor sent unchecked."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import bdkpython as bdk
import pytest
from chain_kit import OTHER, SCRIPT, Purse, Rig, eventually, rig

from escrow import backend_consensus
from escrow.backend_signatures import REAL, Opinions
from escrow.backend_signer import TINY_FEE, build
from p2pnode.app.fit import WalletPurse
from p2pnode.base.errors import InvalidRecord, LocalFault, SecondOpinionDiffers
from p2pnode.base.store import Database
from p2pnode.base.transaction import Transaction, TxOut, parse_transaction

COIN = 100_000_000
PAID = 30_000_000
ZOO = "zoo " * 11 + "wrong"


class Killed(BaseException):
    """The process ends here."""


def in_mempool(r: Rig) -> list[Transaction]:
    return [entry.tx for entry in r.box.pool.entries.values()]


async def killed_before_its_broadcast(r: Rig, path: Path) -> Transaction:
    """Sign and journal a payment, then lose the process; returns what should have left."""
    purse = Purse(r, Database(path))
    await purse.funded(COIN)
    honest, offered = r.chain.broadcast, []

    async def killed(raw: bytes) -> bytes:
        offered.append(parse_transaction("tx", raw))
        raise Killed

    r.chain.broadcast = killed  # type: ignore[method-assign]
    with pytest.raises(Killed):
        await purse.wallet.send(purse.wallet.address_of(SCRIPT), PAID, 2)
    r.chain.broadcast = honest  # type: ignore[method-assign]
    purse.database.close()
    assert not in_mempool(r)
    return offered[0]


def journaled(purse: Purse) -> int:
    return len(purse.database.all("SELECT txid FROM wallet_payment"))


async def test_a_payment_signed_before_a_crash_leaves_after_the_restart(tmp_path: Path) -> None:
    async with rig() as r:
        signed = await killed_before_its_broadcast(r, tmp_path / "node.sqlite")
        again = Purse(r, Database(tmp_path / "node.sqlite"))
        await again.wallet.sync()
        assert [tx.serialize() for tx in in_mempool(r)] == [signed.serialize()]
        assert again.wallet.coins() == ()
        with pytest.raises(LocalFault, match="not enough funds"):
            await again.wallet.send(again.wallet.address_of(OTHER), PAID, 2)
        change = sum(o.value for o in signed.outputs) - PAID
        await again.holds(0, pending=change)
        assert again.wallet.history()[0].txid == signed.txid
        assert journaled(again) == 1
        r.mine()
        await again.holds(change)
        assert journaled(again) == 0
        again.database.close()


async def test_a_payment_that_falls_out_of_the_mempool_is_offered_again() -> None:
    async with rig() as r:
        purse = Purse(r)
        await purse.funded(COIN)
        txid = await purse.wallet.send(purse.wallet.address_of(SCRIPT), PAID, 2)
        await purse.holds(0, pending=COIN - PAID - r.box.pool.entries[txid].fee)
        r.box.pool.drop(txid)
        r.server.flush()

        async def back() -> None:
            await purse.wallet.sync()
            assert [tx.txid for tx in in_mempool(r)] == [txid]
            assert purse.wallet.coins() == ()

        await eventually(back)


async def test_a_payment_gives_way_to_another_spend_by_the_same_words(tmp_path: Path) -> None:
    async with rig() as r:
        signed = await killed_before_its_broadcast(r, tmp_path / "node.sqlite")
        twin = Purse(r)  # the words on another machine
        await twin.wallet.sync()
        await twin.wallet.send(twin.wallet.address_of(OTHER), 2 * PAID, 2)
        (other,) = in_mempool(r)
        again = Purse(r, Database(tmp_path / "node.sqlite"))
        await again.holds(0, pending=sum(o.value for o in other.outputs) - 2 * PAID)
        assert journaled(again) == 0
        assert signed.txid not in {e.txid for e in again.wallet.history()}
        again.database.close()


async def test_a_payment_refused_after_a_restart_frees_its_coins(tmp_path: Path) -> None:
    async with rig() as r:
        await killed_before_its_broadcast(r, tmp_path / "node.sqlite")
        r.box.pool.min_rate = 10_000
        again = Purse(r, Database(tmp_path / "node.sqlite"))
        await again.wallet.sync()
        await again.holds(COIN)
        assert journaled(again) == 0
        assert [c.value for c in again.wallet.coins()] == [COIN]
        again.database.close()


# ------------------------------------------------------------------ read back


def _other_sighash(tx: Any, index: int, prevouts: Any, script: Any) -> bytes:
    digest = REAL.sighash(tx, index, prevouts, script)
    return bytes([digest[0] ^ 1]) + digest[1:]


def _refuse(*_: object) -> None:
    raise InvalidRecord("inputs[0]", "fails Bitcoin's script rules")


@pytest.mark.parametrize(
    "opinions",
    [replace(REAL, sighash=_other_sighash), replace(REAL, consensus=_refuse)],
    ids=["sighash", "consensus"],
)
async def test_a_differing_second_opinion_stops_a_payment(opinions: Opinions) -> None:
    async with rig() as r:
        purse = Purse(r)
        await purse.funded(COIN)
        coins = purse.wallet.coins()
        purse.wallet._opinions = opinions
        with pytest.raises(SecondOpinionDiffers, match="nothing was sent"):
            await purse.wallet.send(purse.wallet.address_of(SCRIPT), PAID, 2)
        assert not in_mempool(r)
        assert purse.wallet.coins() == coins
        assert journaled(purse) == 0


async def test_a_fee_above_the_rate_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig() as r:
        purse = Purse(r)
        await purse.funded(COIN)
        honest = bdk.FeeRate.from_sat_per_vb
        monkeypatch.setattr(bdk.FeeRate, "from_sat_per_vb", lambda rate: honest(rate + 1))
        with pytest.raises(LocalFault, match=r"pays a fee of \d+ sat where \d+ is the most"):
            await purse.wallet.send(purse.wallet.address_of(SCRIPT), PAID, 20)
        assert not in_mempool(r)
        assert [c.value for c in purse.wallet.coins()] == [COIN]


async def test_a_fee_out_of_proportion_is_not_sent() -> None:
    async with rig() as r:
        purse = Purse(r)
        await purse.funded(COIN)
        address = purse.wallet.address_of(SCRIPT)
        with pytest.raises(LocalFault, match="more than a quarter of the payment") as caught:
            await purse.wallet.send(address, 200_000, 500)  # about 70,500
        assert caught.value.field == "rate"
        with pytest.raises(LocalFault, match="more than a quarter of the payment"):
            await purse.wallet.send(address, 1_000, 72)
        assert not in_mempool(r)
        await purse.wallet.send(address, 1_000, 70)  # a tiny payment may cost more than itself
        (tx,) = in_mempool(r)
        assert 9_000 < COIN - sum(o.value for o in tx.outputs) <= TINY_FEE


async def test_every_honest_fee_passes_with_change_and_without() -> None:
    async with rig() as r:
        purse = Purse(r)
        values = [1_000_000 + 777 * n for n in range(12)]
        for value in values:
            r.box.fund(purse.wallet.script_for_payout(), value)
            r.mine()
        await purse.holds(sum(values))
        coins, change = purse.wallet.coins(), purse.wallet.change_script()
        prevouts = {c.outpoint: TxOut(c.value, c.script) for c in coins}
        shapes = set()
        for rate in (1, 2, 13, 120, 500):
            whole = rate * (11 + 31 + 68 * len(coins))
            for spare in (1, 200, 294, 31 * rate, 31 * rate + 293, 31 * rate + 300, 9_000_000):
                to = TxOut(sum(values) - whole - len(coins) - spare, SCRIPT)
                raw = build(purse.wallet._current(), coins, to, change, rate)
                tx = parse_transaction("tx", raw)
                shapes.add(len(tx.outputs))
                spent = [prevouts[i.outpoint] for i in tx.inputs]
                backend_consensus.verify_transaction(tx, spent)
        assert shapes == {1, 2}


async def test_change_of_a_trade_goes_to_the_change_keychain() -> None:
    async with rig() as r:
        purse = Purse(r)
        port = WalletPurse(purse.wallet)
        first, second = await port.change_script(), await port.change_script()
        twin = Purse(r).wallet
        assert [first, second] == [twin.change_script(), twin.change_script()]
        assert first != second
        assert port.owns(first)
        assert first not in [twin.script_for_payout() for _ in range(5)]
