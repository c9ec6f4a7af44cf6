"""A verdict's fee, from the payout on a real chain to the arbiter's own wallet."""

from dataclasses import replace
from pathlib import Path

import pytest
import trio
from chain_kit import NET, SCRIPT, Purse, Rig, eventually, rig
from earnings_kit import HEARING, KEYS, Court, Ruled
from escrow_tx_kit import WORDS

from escrow.backend_signatures import REAL, Opinions
from escrow.backend_sweep import sign_sweep
from escrow.earnings import Claim, build_sweep
from escrow.script import p2wpkh
from p2pnode.base.errors import InvalidRecord, LocalFault, SecondOpinionDiffers, Unreachable
from p2pnode.base.store import Database
from p2pnode.base.transaction import Transaction, parse_transaction

ONE_INPUT = (42 + 272 + 124) // 2  # satoshi at 2 sat/vB: ceil(2 * weight / 4)
TWO_INPUTS = (42 + 2 * 272 + 124) // 2


def in_mempool(r: Rig) -> list[Transaction]:
    return [e.tx for e in r.box.pool.entries.values()]


async def paid(court: Court, *names: str) -> list[Ruled]:
    ruled = [court.rule(name) for name in names]
    for one in ruled:
        court.pay(one)
    court.rig.mine()
    await court.shows(4_000 * len(names))
    return ruled


async def test_a_fee_counts_once_confirmed_and_reaches_the_wallet_to_the_satoshi() -> None:
    async with rig() as r:
        court = Court(r)
        ruled = court.rule("one")
        await court.shows(0)
        court.pay(ruled)
        await court.shows(0, pending=4_000)
        with pytest.raises(LocalFault, match="nothing to withdraw"):
            await court.earnings.withdraw(2)
        r.mine()
        await court.shows(4_000)
        (earning,) = await court.earnings.earned()
        assert (earning.trade_id, earning.outpoint, earning.value, earning.height) == (
            ruled.contract.trade_id,
            ruled.outpoint,
            4_000,
            r.box.height,
        )

        done = await court.earnings.withdraw(2)
        assert (done.value, done.fee_sat, done.count) == (4_000 - ONE_INPUT, ONE_INPUT, 1)
        (tx,) = in_mempool(r)
        assert tx.txid == done.txid
        assert (tx.version, tx.locktime, [i.sequence for i in tx.inputs]) == (
            2,
            r.box.height,
            [0xFFFFFFFD],
        )
        assert [i.outpoint for i in tx.inputs] == [ruled.outpoint]
        assert [o.value for o in tx.outputs] == [done.value]
        assert done.fee_sat * 2 - 8 <= tx.weight <= done.fee_sat * 2
        await court.purse.holds(0, pending=done.value)
        r.mine()
        await court.purse.holds(done.value)
        await court.shows(0)


async def test_a_second_withdrawal_finds_nothing_before_and_after_the_server_shows_the_first() -> (
    None
):
    async with rig() as r:
        court = Court(r)
        await paid(court, "one", "two")
        done = await court.earnings.withdraw(2)
        assert (done.count, done.value) == (2, 8_000 - TWO_INPUTS)
        for _ in range(2):
            with pytest.raises(LocalFault, match="nothing to withdraw"):
                await court.earnings.withdraw(2)
            r.mine()
            await court.purse.holds(done.value)
        assert not in_mempool(r)


async def test_two_withdrawals_at_once_send_one_transaction() -> None:
    async with rig() as r:
        court = Court(r)
        await paid(court, "one")
        outcomes: list[str] = []

        async def withdraw() -> None:
            try:
                await court.earnings.withdraw()
                outcomes.append("sent")
            except LocalFault as error:
                outcomes.append(str(error)[:19])

        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(withdraw)
        assert sorted(outcomes) == ["nothing to withdraw", "sent"]
        assert len(in_mempool(r)) == 1


async def test_a_reorg_takes_the_fee_away_and_gives_it_back() -> None:
    async with rig() as r:
        court = Court(r)
        (ruled,) = await paid(court, "one")
        r.reorg(1)
        await court.shows(0, pending=4_000)
        with pytest.raises(LocalFault, match="nothing to withdraw"):
            await court.earnings.withdraw(2)
        r.mine()
        await court.shows(4_000)
        r.reorg(2, drop=[ruled.payout.txid])
        await court.shows(0)


async def test_only_the_spend_of_the_escrow_earns_and_only_in_a_ruled_case() -> None:
    async with rig() as r:
        court = Court(r)
        ruled = court.rule("one")
        heard = court.rule("two", state=HEARING)
        for one in (ruled, heard):
            r.fund(p2wpkh(one.contract.key_a), 50_000)  # a stranger's gift, or a trap
            court.pay(one)
        r.mine()
        await court.shows(4_000)
        done = await court.earnings.withdraw(2)
        assert done.value == 4_000 - ONE_INPUT


async def test_too_little_is_refused_and_uses_up_no_address() -> None:
    async with rig() as r:
        court = Court(r)
        await paid(court, "one")
        for rate in (28, 500):  # at 28 sat/vB 3,066 are gone, and 934 would arrive
            with pytest.raises(LocalFault, match="too little to withdraw"):
                await court.earnings.withdraw(rate)
        with pytest.raises(InvalidRecord, match="rate"):
            await court.earnings.withdraw(501)
        first = Purse(r, words=WORDS["A"]).wallet.script_for_payout()
        assert court.purse.wallet.script_for_payout() == first
        assert not in_mempool(r)
        await court.shows(4_000)


def _other_sighash(tx, index, prevouts, script):  # type: ignore[no-untyped-def]
    digest = REAL.sighash(tx, index, prevouts, script)
    return bytes([digest[0] ^ 1]) + digest[1:]


def _refuse(tx, prevouts, indexes):  # type: ignore[no-untyped-def]
    raise InvalidRecord("inputs[0]", "fails Bitcoin's script rules")


@pytest.mark.parametrize(
    "opinions",
    [replace(REAL, sighash=_other_sighash), replace(REAL, consensus=_refuse)],
    ids=["sighash", "consensus"],
)
async def test_a_differing_second_opinion_stops_it(opinions: Opinions) -> None:
    async with rig() as r:
        court = Court(r, opinions=opinions)
        await paid(court, "one")
        with pytest.raises(SecondOpinionDiffers, match="nothing was sent"):
            await court.earnings.withdraw(2)
        assert not in_mempool(r)
        await court.shows(4_000)  # nothing was journaled either


async def test_a_withdrawal_that_the_network_refuses_is_earned_again() -> None:
    async with rig() as r:
        court = Court(r)
        await paid(court, "one")
        r.box.pool.min_rate = 10_000
        with pytest.raises(LocalFault, match="refused"):
            await court.earnings.withdraw(2)
        await court.shows(4_000)
        r.box.pool.min_rate = 1_000
        await court.earnings.withdraw(2)
        assert len(in_mempool(r)) == 1


async def test_a_withdrawal_cut_off_before_its_broadcast_leaves_after_a_restart(
    tmp_path: Path,
) -> None:
    async with rig() as r:
        database = Database(tmp_path / "node.sqlite")
        court = Court(r, database)
        await paid(court, "one")
        silent = lambda method, message: (  # noqa: E731
            None if method == "blockchain.transaction.broadcast" else message
        )
        r.relay.twist = silent
        with pytest.raises(Unreachable, match="do not repeat it"):
            await court.earnings.withdraw(2)
        r.relay.twist = None
        database.close()
        # the relay swallowed the answer, not the request: take the transaction away again
        (left,) = in_mempool(r)
        r.box.pool.drop(left.txid)
        r.server.flush()

        again = Court(r, Database(tmp_path / "node.sqlite"))
        await again.shows(0)
        r.nursery.start_soon(again.earnings.run)

        async def offered() -> None:
            assert [tx.serialize() for tx in in_mempool(r)] == [left.serialize()]

        await eventually(offered)
        value = left.outputs[0].value
        r.mine()
        await again.purse.holds(value)
        again.database.close()


async def test_a_withdrawal_gives_way_to_another_spend_by_the_same_words() -> None:
    async with rig() as r:
        court = Court(r)
        (ruled,) = await paid(court, "one")
        (earning,) = await court.earnings.earned()
        await court.earnings.withdraw(2)
        claim = Claim(
            earning.trade_id,
            ruled.funding.escrow_outpoint,
            p2wpkh(ruled.contract.key_a),
            ruled.contract.seed,
            ruled.contract.bond_a,
        )
        other = build_sweep([earning], {claim.trade_id: claim}, SCRIPT, 5, r.box.height)
        key = KEYS["A"].arbiter_key(claim.seed, claim.bond)
        r.box.broadcast(sign_sweep(other, [key], NET, REAL).serialize())  # replaces it (BIP 125)
        r.mine()
        r.nursery.start_soon(court.earnings.run)

        async def forgotten() -> None:
            assert court.database.one("SELECT 1 FROM withdrawal") is None

        await eventually(forgotten)
        await court.shows(0)


async def test_a_deep_withdrawal_is_forgotten_and_a_reorged_one_is_offered_again() -> None:
    async with rig() as r:
        court = Court(r)
        (ruled,) = await paid(court, "one")
        done = await court.earnings.withdraw(2)
        r.nursery.start_soon(court.earnings.run)
        r.mine()
        await court.purse.holds(done.value)
        r.reorg(1, drop=[done.txid])

        async def back() -> None:
            assert done.txid in r.box.pool.entries

        await eventually(back)
        r.mine(6)

        async def forgotten() -> None:
            assert court.database.one("SELECT 1 FROM withdrawal") is None

        await eventually(forgotten)
        await court.shows(0)
        spent = [
            i.outpoint for i in parse_transaction("tx", await r.chain.transaction(done.txid)).inputs
        ]
        assert spent == [ruled.outpoint]
