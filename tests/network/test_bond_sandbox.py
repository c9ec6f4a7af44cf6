"""Bonds on a real chain: made from a wallet, shown in records, drawn, expired, redeemed, renewed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from bond_kit import bonded
from bond_node import RATE, SAT, Arbiter, funded, in_mempool
from chain_kit import NET, eventually, rig
from earnings_kit import KEYS
from trade_kit import rig as whole_nodes

from escrow.anchor import Anchor
from escrow.arbiters import ArbiterRecord
from escrow.backend_keys import TradeKey
from escrow.backend_redeem import sign_redeem
from escrow.backend_signatures import REAL
from escrow.bond import bond_output
from escrow.drawfile import draw_from_json, draw_to_json
from escrow.messages import Kind
from escrow.redeem import BondCoin, build_redeem
from escrow.shell_arbiter import REPUT_S
from escrow.shell_bond import Held
from p2pnode.base.errors import (
    InvalidRecord,
    LocalFault,
    NotFound,
    SecondOpinionDiffers,
    Unreachable,
)
from p2pnode.base.store import Database
from p2pnode.base.transaction import parse_transaction
from p2pnode.base.units import parse_decimal

DAY = 86_400


# ------------------------------------------------------------------ made and seen


async def test_a_bond_is_paid_grows_old_and_counts_at_the_anchor_to_the_block() -> None:
    async with rig() as r:
        a = await funded(r)
        lock_time = a.bonds.lock_until(1, None)
        assert lock_time % 3600 == 0
        assert 0 <= lock_time - r.chain.tip().mtp - DAY < 3600
        held = await a.bonds.create(SAT, lock_time, RATE)
        assert (await a.stands(0, "pending")) == "its payment waits for a block"
        (raw,) = in_mempool(r)
        tx = parse_transaction("tx", raw)
        assert [o.value for o in tx.outputs if o.script == held.script] == [SAT]
        assert held.script == bond_output(lock_time, KEYS["A"].bond_key(0).public)
        with pytest.raises(LocalFault, match="not confirmed yet"):
            await a.bonds.proof(held)
        r.mine()
        height = r.box.height
        assert await a.stands(0, "young") == f"drawable from block {height + 8} on"
        assert await a.bonds.best() is None
        r.mine(7)
        await a.stands(0, "young")
        r.mine()
        await a.stands(0, "drawable")
        found = await a.bonds.best()
        assert found is not None
        bond = found[1]
        assert (bond.height, bond.value, bond.lock_time) == (height, SAT, lock_time)
        await a.service.register(1000, 1000)
        anchor = r.box.height - 6
        record = a.record()
        assert record.bond == bond
        for at, counts in ((anchor, True), (anchor - 1, False)):
            judged = Anchor(NET, at, SAT, frozenset(), r.chain)
            fresh = replace(record, at_height=at - 6, at_hash=r.chain.block_hash(at - 6) or b"")
            assert judged.counts(fresh) is counts
        assert not Anchor(NET, anchor, SAT + 1, frozenset(), r.chain).counts(record)


async def test_what_could_never_be_drawn_is_refused_before_anything_is_locked() -> None:
    async with rig() as r:
        a = await funded(r, network=replace(NET, bond_weight=1_000_000))
        mtp = r.chain.tip().mtp
        for until in (mtp - DAY, mtp + 1200):
            with pytest.raises(LocalFault, match=r"could never be drawn.*lock it beyond"):
                a.bonds.lock_until(None, until)
        with pytest.raises(LocalFault, match="only one year counts"):
            a.bonds.lock_until(6 * 365, None)
        days = a.bonds.lock_until(72, None)  # a fifth of a year, less what passes until it counts
        with pytest.raises(
            LocalFault, match=r"weigh too little.*lock 0\.050.* BTC or more"
        ) as told:
            await a.bonds.create(SAT, days, RATE)
        words = str(told.value).partition(" lock ")[2].split()
        least = parse_decimal("amount", words[0], 8)
        a.bonds.check_weight(least, days)
        with pytest.raises(LocalFault, match="weigh too little"):
            a.bonds.check_weight(least - 1, days)
        with pytest.raises(InvalidRecord, match="amount_sat"):
            await a.bonds.create(0, days, RATE)
        with pytest.raises(LocalFault, match="not enough funds"):
            await a.bonds.create(9_000_000, days, RATE)
        with pytest.raises(InvalidRecord, match="rate"):
            await a.bonds.create(8_000_000, days, 501)
        assert not in_mempool(r)
        assert await a.bonds.all() == ()
        with pytest.raises(NotFound, match="there is no bond 0"):
            await a.bonds.one(0)


async def test_a_payment_that_no_record_could_show_is_not_made() -> None:
    async with rig() as r:
        r.mine(12)  # so that the faucet has as many coins
        a = await funded(r, *[60_000] * 12)
        with pytest.raises(LocalFault, match="would gather 9 small coins"):
            await a.bonds.create(500_000, a.bonds.lock_until(1, None), RATE)
        assert not in_mempool(r)
        assert await a.bonds.all() == ()
        held = await a.bonded(460_000)  # eight coins: its record is within the bounds
        assert len(parse_transaction("tx", held.raw).inputs) == 8
        await a.service.register(1000, 1000)
        assert a.record().bond is not None


async def test_a_reorg_takes_the_bond_out_of_the_record_and_gives_it_back() -> None:
    async with rig() as r:
        a = await funded(r)
        held = await a.bonded()
        r.reorg(12, drop=[parse_transaction("tx", held.raw).txid])
        r.mine(3)
        await a.stands(0, "pending")
        assert await a.bonds.best() is None


async def test_a_bond_is_found_again_by_words_and_proof() -> None:
    async with rig() as r:
        a = await funded(r, 4_000_000, 4_000_000)
        for days in (1, 2):
            held = await a.bonds.create(2_000_000, a.bonds.lock_until(days, None), RATE)
            r.mine()
            await a.purse.wallet.sync()
        again = Arbiter(r)  # the same words, and nothing else
        assert await again.bonds.all() == ()
        for number, lock_time in ((1, held.lock_time + 3600), (2, held.lock_time)):
            with pytest.raises(LocalFault, match="nothing was ever paid to bond"):
                await again.bonds.recover(number, lock_time)
        assert await again.bonds.all() == ()
        await a.stands(1, "young")
        found = await again.bonds.recover(1, held.lock_time)
        assert (found.number, found.value, found.script) == (1, 2_000_000, held.script)
        assert await again.bonds.recover(1, held.lock_time) == found
        with pytest.raises(LocalFault, match="known here with another lock time"):
            await again.bonds.recover(1, held.lock_time + 3600)
        with pytest.raises(InvalidRecord, match="lock_time"):
            await again.bonds.recover(0, 800_000)
        for _ in range(2):
            await a.expire()
        done = await again.redemption.redeem(RATE)
        assert done.value == 2_000_000 - done.fee_sat
        r.mine()
        await a.stands(1, "redeemed")


# ------------------------------------------------------------------ expired


async def test_the_chain_itself_holds_a_bond_until_its_time_and_to_its_key() -> None:
    """Bitcoin Core's rules judge the spends: early, by another key, and in time."""
    async with rig() as r:
        a = await funded(r)
        held = await a.bonded()
        assert held.coin is not None
        with pytest.raises(LocalFault, match="no bond of yours has expired"):
            await a.redemption.redeem(RATE)
        later = held.lock_time + 1
        spend = build_redeem([held.coin], b"\0\x14" + bytes(20), RATE, later)
        good = sign_redeem(spend, [KEYS["A"].bond_key(0)], REAL)
        with pytest.raises(LocalFault, match="non-final"):
            await r.chain.broadcast(good.serialize())
        unlocked = replace(spend, tx=replace(spend.tx, locktime=held.lock_time - 1))
        with pytest.raises(SecondOpinionDiffers, match="refuses our own spend"):
            sign_redeem(unlocked, [KEYS["A"].bond_key(0)], REAL)
        with pytest.raises(LocalFault, match="holds no key"):
            sign_redeem(spend, [KEYS["A"].bond_key(1)], REAL)
        thief: TradeKey = KEYS["A"].bond_key(1)
        stolen = replace(
            good.inputs[0], witness=(thief.sign_ecdsa(bytes(32)), held.coin.witness_script)
        )
        with pytest.raises(LocalFault):
            await r.chain.broadcast(replace(good, inputs=(stolen,)).serialize())
        await a.expire()
        await r.chain.broadcast(good.serialize())
        r.mine()
        await a.stands(0, "redeemed")


async def test_an_expired_bond_comes_home_to_the_satoshi() -> None:
    async with rig() as r:
        a = await funded(r)
        await a.bonded()
        await a.purse.wallet.sync()
        rest = a.purse.wallet.balance().confirmed
        await a.expire()
        assert await a.stands(0, "expired") == "p2pnode arbiter bond redeem, or renew"
        done = await a.redemption.redeem(RATE)
        (raw,) = in_mempool(r)
        tx = parse_transaction("tx", raw)
        assert (tx.txid, tx.locktime) == (done.tx.txid, done.coins[0].lock_time)
        assert done.value == SAT - done.fee_sat
        assert 2 * done.fee_sat - 8 <= tx.weight <= 2 * done.fee_sat
        await a.stands(0, "leaving")
        with pytest.raises(LocalFault, match="no bond of yours has expired"):
            await a.redemption.redeem(RATE)
        r.mine()
        await a.stands(0, "redeemed")
        await a.purse.holds(rest + done.value)
        with pytest.raises(LocalFault, match="no bond of yours has expired"):
            await a.redemption.redeem(RATE)


async def test_several_expired_bonds_leave_in_one_transaction() -> None:
    async with rig() as r:
        a = await funded(r, 3_000_000, 3_000_000, 3_000_000)
        for days in (1, 1, 30):
            await a.bonds.create(2_000_000, a.bonds.lock_until(days, None), RATE)
            r.mine()
            await a.purse.wallet.sync()
        await a.expire()
        done = await a.redemption.redeem(RATE)
        assert len(done.coins) == 2
        assert done.value == 4_000_000 - done.fee_sat
        r.mine()
        await a.stands(1, "redeemed")
        assert (await a.bonds.one(2)).spent is None


async def test_an_expired_bond_is_renewed_whole_into_a_new_one() -> None:
    async with rig() as r:
        a = await funded(r)
        await a.bonded()
        await a.expire()
        with pytest.raises(LocalFault, match="renewed whole"):
            await a.redemption.renew(a.bonds.lock_until(1, None), 1_000_000, RATE)
        made = await a.redemption.renew(a.bonds.lock_until(2, None), None, RATE)
        assert (made.number, made.height) == (1, 0)
        r.mine(9)
        await a.stands(0, "redeemed")
        await a.stands(1, "drawable")
        found = await a.bonds.best()
        assert found is not None
        assert found[0].number == 1
        assert SAT - 1000 < found[1].value < SAT
        await a.expire()
        await a.expire()
        await a.stands(1, "expired")
        await a.redemption.redeem(RATE)  # and its key is known
        r.mine()
        await a.stands(1, "redeemed")


async def test_a_renewal_beside_a_redemption_signs_no_coin_twice() -> None:
    async with rig() as r:
        a = await funded(r)
        await a.bonded()
        await a.expire()
        until, told = a.bonds.lock_until(2, None), []

        async def renew() -> None:
            try:
                await a.redemption.renew(until, None, RATE)
            except LocalFault as error:
                told.append(str(error))

        async def queued(tasks: int) -> None:
            async def there() -> None:
                assert a.bonds.busy.statistics().tasks_waiting == tasks

            await eventually(there)

        async with trio.open_nursery() as nursery:
            await a.bonds.busy.acquire()
            nursery.start_soon(a.redemption.redeem, RATE)
            await queued(1)
            nursery.start_soon(renew)  # it has seen the expired bond
            await queued(2)
            a.bonds.busy.release()
        assert told == ["no bond of yours has expired by the chain's clock"]
        (raw,) = in_mempool(r)
        (row,) = a.database.all("SELECT * FROM bond")
        assert row["spend"] == raw
        await a.stands(0, "leaving")


async def test_while_a_bond_is_locked_renew_makes_another_of_the_same_amount() -> None:
    async with rig() as r:
        a = await funded(r, 6_000_000, 6_000_000)
        with pytest.raises(LocalFault, match="there is no bond to renew"):
            await a.redemption.renew(a.bonds.lock_until(2, None), None, RATE)
        await a.bonded()
        await a.purse.wallet.sync()
        made = await a.redemption.renew(a.bonds.lock_until(60, None), None, RATE)
        assert (made.number, made.sat) == (1, SAT)
        found = await a.bonds.best()
        assert found is not None
        assert found[0].number == 0  # until the new one is old enough
        r.mine(9)
        await a.stands(1, "drawable")
        found = await a.bonds.best()
        assert found is not None
        assert found[0].number == 1


@pytest.mark.parametrize("opinion", ["sighash", "consensus"])
async def test_a_differing_second_opinion_stops_a_spend(opinion: str) -> None:
    def other(tx: Any, index: int, prevouts: Any, script: Any) -> bytes:
        digest = REAL.sighash(tx, index, prevouts, script)
        return bytes([digest[0] ^ 1]) + digest[1:]

    def refuse(tx: Any, prevouts: Any, indexes: Any) -> None:
        raise InvalidRecord("inputs[0]", "fails Bitcoin's script rules")

    wrong = replace(REAL, **{opinion: other if opinion == "sighash" else refuse})
    async with rig() as r:
        a = await funded(r)
        await a.bonded()
        await a.expire()
        bad = Arbiter(r, a.database, opinions=wrong)
        for attempt in (
            lambda: bad.redemption.redeem(RATE),
            lambda: bad.redemption.renew(bad.bonds.lock_until(1, None), None, RATE),
        ):
            with pytest.raises(SecondOpinionDiffers, match="nothing was sent"):
                await attempt()
        assert not in_mempool(r)
        assert [h.spent for h in await a.bonds.all()] == [None]  # nothing was journaled either


async def test_a_spend_cut_off_before_its_broadcast_leaves_after_a_restart(tmp_path: Path) -> None:
    async with rig() as r:
        a = await funded(r, database=Database(tmp_path / "node.sqlite"))
        await a.bonded()
        await a.expire()
        r.relay.twist = lambda method, message: (
            None if method == "blockchain.transaction.broadcast" else message
        )
        with pytest.raises(Unreachable, match="do not repeat it"):
            await a.redemption.redeem(RATE)
        assert r.relay.lies
        r.relay.twist = None
        a.database.close()
        (left,) = in_mempool(r)  # the relay swallowed the answer: take the transaction away too
        r.box.pool.drop(parse_transaction("tx", left).txid)
        r.server.flush()

        again = Arbiter(r, Database(tmp_path / "node.sqlite"))
        await again.stands(0, "leaving")
        r.nursery.start_soon(again.redemption.run)

        async def offered() -> None:
            assert in_mempool(r) == [left]

        await eventually(offered)
        r.mine()
        await again.stands(0, "redeemed")
        again.database.close()


async def test_a_spend_that_the_network_refuses_can_be_tried_again() -> None:
    async with rig() as r:
        a = await funded(r)
        await a.bonded()
        await a.expire()
        r.box.pool.min_rate = 10_000
        with pytest.raises(LocalFault, match="refused"):
            await a.redemption.redeem(RATE)
        await a.stands(0, "expired")
        r.box.pool.min_rate = 1_000
        await a.redemption.redeem(RATE)
        assert len(in_mempool(r)) == 1


# ------------------------------------------------------------------ the record


async def test_the_record_takes_the_bond_as_soon_as_it_is_old_enough() -> None:
    async with rig() as r:
        a = await funded(r)
        await a.service.register(1000, 1000)
        assert a.record().version == 0
        await a.bonds.create(SAT, a.bonds.lock_until(1, None), RATE)
        r.mine()
        assert (await a.stands(0, "young")).startswith("drawable from block")
        await a.service._keep()
        assert a.record().version == 0
        assert (await a.bonds.waiting()).startswith("bond 0: drawable from block")
        r.mine(8)
        await a.stands(0, "drawable")
        await a.service._keep()
        assert a.record().version == 1
        assert await a.bonds.waiting() == ""
        parsed = [ArbiterRecord.from_wire(raw, NET) for raw in a.shelf.put]
        heights = [record.at_height for record in parsed]
        assert len(set(heights)) == len({record.id for record in parsed})


async def test_fees_changed_twice_in_one_block_make_no_two_records_of_one_height() -> None:
    """Such a pair would put the bond out of every draw."""
    async with rig() as r:
        a = await funded(r)
        await a.bonded()
        for fee in (1000, 2000, 3000):
            await a.service.register(fee, 1000)
        again = await a.service.register(3000, 1000)
        parsed = [ArbiterRecord.from_wire(raw, NET) for raw in a.shelf.put]
        assert [record.fee_base for record in parsed] == [1000, 2000, 3000, 3000]
        heights = [record.at_height for record in parsed]
        assert heights[1:3] == [heights[0] + 1, heights[0] + 2]
        assert again is not None
        anchor = Anchor(NET, r.box.height - 6, SAT, frozenset(), r.chain)
        assert [c.record for c in anchor.candidates(parsed)] == [parsed[-1]]
        for fee in range(20):
            try:
                await a.service.register(fee, 1000)
            except LocalFault as error:
                assert "wait for a block" in str(error)  # noqa: PT017 - the count matters too
                break
        assert fee == 10  # from 24 below the tip up to 12
        r.mine()
        await a.synced()
        await a.service.register(5, 1000)


async def test_a_renewal_under_way_and_a_change_of_fees_make_no_two_records_of_one_height() -> None:
    async with rig() as r:
        a = await funded(r)
        await a.bonded()
        await a.service.register(1000, 1000)
        r.mine(40)
        await a.synced()
        put, under_way, gate = a.shelf.publish, trio.Event(), trio.Event()

        async def slow(raw: bytes) -> int:
            under_way.set()
            await gate.wait()
            return await put(raw)

        a.shelf.publish = slow  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.service._keep)
            await under_way.wait()
            nursery.start_soon(a.service.register, 2000, 1000)
            await trio.testing.wait_all_tasks_blocked(0.05)
            gate.set()
        parsed = [ArbiterRecord.from_wire(raw, NET) for raw in a.shelf.put]
        assert [record.fee_base for record in parsed] == [1000, 1000, 2000]
        assert len({record.at_height for record in parsed}) == 3
        anchor = Anchor(NET, r.box.height - 6, SAT, frozenset(), r.chain)
        assert [c.record for c in anchor.candidates(parsed)] == [parsed[-1]]


async def test_a_record_cut_off_while_it_was_published_is_known_after_the_restart() -> None:
    """It may have left, so what is signed next names another height."""
    async with rig() as r:
        a = await funded(r)
        await a.bonded()
        put, scope = a.shelf.publish, trio.CancelScope()

        async def cut(raw: bytes) -> int:
            held = await put(raw)
            scope.cancel()
            await trio.lowlevel.checkpoint()
            return held

        a.shelf.publish = cut  # type: ignore[method-assign]
        with scope:
            await a.service.register(1000, 1000)
        assert scope.cancelled_caught
        again = Arbiter(r, a.database)
        assert again.record().wire() == a.shelf.put[0]
        await again.service.register(2000, 1000)
        first, second = (ArbiterRecord.from_wire(s.put[0], NET) for s in (a.shelf, again.shelf))
        assert first.at_height < second.at_height


async def test_a_public_network_asks_for_a_bond_and_puts_nothing_before_it_is_ripe() -> None:
    public = replace(NET, bondless=False)
    async with rig() as r:
        a = await funded(r, network=public)
        with pytest.raises(LocalFault, match="asks its arbiters for a bond: p2pnode arbiter bond"):
            await a.service.register(1000, 1000)
        assert not a.service.registered()
        await a.bonds.create(SAT, a.bonds.lock_until(1, None), RATE)
        assert await a.service.register(1000, 1000) is None
        assert a.service.registered()
        assert (a.service.record(), a.shelf.put) == (None, [])
        r.mine(9)
        await a.stands(0, "drawable")
        await a.service._keep()
        assert a.record().version == 1
        await a.expire()
        r.mine(20)  # so that the record is due to be renewed
        await a.synced()
        count = len(a.shelf.put)
        await a.service._keep()
        assert len(a.shelf.put) == count  # an expired bond is shown no more
        await a.redemption.redeem(RATE)
        with pytest.raises(LocalFault, match="asks its arbiters for a bond"):
            await a.service.register(1000, 1000)


async def test_a_paused_record_ages_out_at_the_block_that_was_named() -> None:
    async with rig() as r:
        a = await funded(r)
        with pytest.raises(LocalFault, match="you are not registered"):
            a.service.pause()
        assert a.service.drawable_until() is None
        await a.bonded(days=30)
        record = await a.service.register(1000, 1000)
        assert record is not None
        a.service.pause()
        last = a.service.drawable_until()
        assert last == record.at_height + 294
        count = len(a.shelf.put)
        r.mine(40)
        await a.synced()
        await a.service._keep()
        assert len(a.shelf.put) == count
        r.mine(last - r.box.height, step=60)
        await a.synced()
        for height, counts in ((last, True), (last + 1, False)):
            anchor = Anchor(NET, height - 6, SAT, frozenset(), r.chain)
            assert anchor.counts(record) is counts
            r.mine()
            await a.synced()
        await a.service.resume()
        assert not a.service.paused()
        assert len(a.shelf.put) == count + 1
        assert a.record().at_height > record.at_height
        await a.service._keep()
        assert len(a.shelf.put) == count + 1  # fresh: not again before
        assert REPUT_S == 600


# ------------------------------------------------------------------ three are drawn


async def test_three_arbiters_make_bonds_and_two_of_them_are_drawn() -> None:
    async with whole_nodes() as r:
        names = [f"arbiter{n}" for n in range(3)]
        for name in names:
            node = r[name]
            r.box.fund(node.wallet.script_for_payout(), 6_000_000)
        r.mine(1)
        for name in names:
            await r.eventually(lambda name=name: r._funded(name, 6_000_000))
            bonds = r[name].exchange.bonds
            await bonds.create(SAT, bonds.lock_until(365, None), RATE)
        r.mine(9)

        async def shown() -> None:
            for name in names:
                record = r[name].exchange.arbiter.record()
                assert record is not None
                assert record.version == 1

        await r.eventually(shown)
        invented = bonded(7, node="arbiter 7")  # signed by all its keys, and in no block
        r.records.append(invented.wire())
        trade_id = await r.take()

        async def drawn() -> None:
            for name in ("maker", "taker"):
                assert r[name].facts(trade_id).contract

        await r.eventually(drawn)
        for name in ("maker", "taker"):
            assert invented.id not in r[name].exchange.trades.records
        facts = r["maker"].facts(trade_id)
        result = facts.drawn
        made = {r[name].exchange.arbiter.record() for name in names}
        assert {result.arbiter, result.runner_up} <= made
        assert result.arbiter.outpoint == facts.contract.bond_a
        assert result.runner_up.outpoint == facts.contract.bond_a2
        assert r["taker"].facts(trade_id).contract == facts.contract
        three = [
            facts.one(sender, kind)
            for sender, kind in (
                (facts.taker, Kind.TAKE),
                (facts.maker, Kind.DRAW),
                (facts.taker, Kind.REVEAL),
            )
        ]
        assert None not in three
        records = [facts.records[i] for i in sorted(facts.listed_ids())]
        transcript = draw_to_json(*three, records, result)  # type: ignore[arg-type]
        assert draw_from_json(transcript).verify(r["maker"].chain) == result


def test_a_coin_of_another_lock_time_is_another_script() -> None:
    key = KEYS["A"].bond_key(0).public
    held = Held(0, 1_800_000_000, SAT, key)
    other = replace(held, lock_time=1_800_003_600)
    assert held.script != other.script
    assert isinstance(held.coin, BondCoin | None)
    assert held.value == 0
