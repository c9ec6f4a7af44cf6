"""The sandbox's chain: validated by the kernel, time by mining alone, kept through a kill."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sandbox_kit import SOMEONE, FakeClock, M, coins, make

from p2pnode.app.sandbox import miner
from p2pnode.app.sandbox.chain import MAX_AHEAD, START_AGE
from p2pnode.app.sandbox.journal import MAGIC, Journal
from p2pnode.app.sandbox.mempool import WARM_UP, Sandbox
from p2pnode.app.sandbox.policy import Rejected
from p2pnode.base.clock import SystemClock
from p2pnode.base.errors import InvalidRecord, LocalFault, Locked, StorageFault
from p2pnode.base.networks import NETWORKS
from p2pnode.base.transaction import Outpoint, TxOut, display, parse_block, scripthash

MINUTE = 60


@pytest.fixture
def box() -> Iterator[Sandbox]:
    box = Sandbox(None)
    yield box
    box.close()


def agree(box: Sandbox) -> None:
    stats = box.stats()
    assert stats["entries_admitted"] == stats["entries_script_checked"]
    assert stats["blocks_submitted"] == stats["tips_compared"] > 0


def test_it_opens_ninety_days_old_on_the_networks_genesis_with_mature_faucet_coins() -> None:
    clock = FakeClock()
    box = Sandbox(None, clock=clock)
    try:
        headers = box.chain.index.headers
        assert display(headers[0].hash) == NETWORKS["sandbox"].genesis
        assert headers[1].time == clock.time - START_AGE
        assert box.height == WARM_UP
        assert box.fund(SOMEONE, 10 * M).outputs[0] == TxOut(10 * M, SOMEONE)
        agree(box)
    finally:
        box.close()


def test_time_moves_by_mining_alone_and_always_rises() -> None:
    clock = FakeClock()
    box = Sandbox(None, clock=clock)
    try:
        before = box.chain.time
        clock.time += 86_400
        box.fund(SOMEONE, M)
        assert box.chain.time == before
        box.mine(2)
        box.mine(1, step=5 * 86_400)
        assert box.chain.time == before + 2 * 10 * MINUTE + 5 * 86_400
        times = [h.time for h in box.chain.index.headers]
        assert times == sorted(set(times))
    finally:
        box.close()


def test_a_step_over_the_future_limit_is_refused_before_anything_is_mined() -> None:
    clock = FakeClock()
    box = Sandbox(None, clock=clock)
    try:
        room = clock.time + MAX_AHEAD - box.chain.time
        with pytest.raises(LocalFault, match="clock") as caught:
            box.mine(3, step=room // 3 + 1)
        assert caught.value.field == "step"
        assert box.height == WARM_UP
        box.mine(3, step=room // 3)
        assert box.height == WARM_UP + 3
    finally:
        box.close()


def test_the_kernel_itself_takes_a_block_at_our_limit() -> None:
    box = Sandbox(None)  # the machine's clock, as the kernel reads it
    try:
        box.mine(1, step=SystemClock().now() + MAX_AHEAD - box.chain.time)
        assert box.height == WARM_UP + 1
        agree(box)
    finally:
        box.close()


@pytest.mark.parametrize("step", [0, -600])
def test_times_that_would_not_rise_are_refused(box: Sandbox, step: int) -> None:
    with pytest.raises(LocalFault, match="rise"):
        box.mine(1, step=step)


@pytest.mark.parametrize("count", [-1, 1_001])
def test_the_number_of_blocks_is_bounded(box: Sandbox, count: int) -> None:
    with pytest.raises(LocalFault):
        box.mine(count)


def test_a_block_that_breaks_consensus_is_refused_with_the_kernels_verdict(box: Sandbox) -> None:
    tip, height = box.chain.tip, box.height

    def attempt(**changes: object) -> None:
        honest = {
            "prev": tip,
            "height": height + 1,
            "time": box.chain.time + 600,
            "txs": [],
            "fees": 0,
            "nonce": b"12345678",
        }
        with pytest.raises(Rejected, match="block refused"):
            box.chain.extend(miner.build_block(**{**honest, **changes}))  # type: ignore[arg-type]
        assert (box.chain.tip, box.height) == (tip, height)

    attempt(fees=1)  # more than the subsidy
    attempt(height=height + 2)  # BIP 34
    attempt(time=box.chain.index.mtp(height))  # not above the median
    attempt(prev=bytes(32))
    attempt(time=4_000_000_000)
    with pytest.raises(Rejected, match="cannot be read"):
        box.chain.submit(b"no block")
    agree(box)
    box.mine(1)
    assert box.height == height + 1


def test_a_mined_payment_is_in_the_block_that_the_kernel_kept(box: Sandbox) -> None:
    tx = box.fund(SOMEONE, M)
    (made,) = box.mine(1)
    head, txs = parse_block(box.chain.raw_block(box.height))
    assert [t.txid for t in txs][1:] == [tx.txid]
    assert made == box.chain.tip
    assert head == box.chain.index.headers[-1].raw
    fee = sum(
        box.chain.index.txs[i.outpoint.txid][0].outputs[i.outpoint.vout].value for i in tx.inputs
    ) - sum(o.value for o in tx.outputs)
    assert txs[0].outputs[0].value == miner.subsidy(box.height) + fee


@pytest.mark.parametrize("sat", [0, -1, 21 * 10**14 + 1])
def test_the_faucet_refuses_an_impossible_amount(box: Sandbox, sat: int) -> None:
    with pytest.raises(InvalidRecord):
        box.fund(SOMEONE, sat)


def test_the_faucet_says_when_it_is_empty_and_mining_fills_it(box: Sandbox) -> None:
    for _ in range(11):
        box.fund(SOMEONE, 40 * M)
    with pytest.raises(Rejected, match="mine more"):
        box.fund(SOMEONE, 40 * M)
    box.mine(1)
    box.fund(SOMEONE, 40 * M)
    agree(box)


# ------------------------------------------------------------------ reorganisations


def test_a_reorg_returns_payments_to_the_mempool_and_they_confirm_again(box: Sandbox) -> None:
    box.mine(1)
    tx = box.fund(SOMEONE, M)
    old = box.mine(3)
    time, height = box.chain.time, box.height
    new = box.reorg(3)
    assert len(new) == 4
    assert not set(new) & set(old)
    assert box.height == height + 1
    assert box.chain.time > time
    assert list(box.pool.entries) == [tx.txid]
    box.mine(1)
    assert box.chain.index.txs[tx.txid][1] == height + 2
    agree(box)


def test_a_reorg_can_drop_a_payment_and_what_hangs_on_it(box: Sandbox) -> None:
    tx = box.fund(SOMEONE, M)
    spend = make([Outpoint(tx.txid, 1)], [M])
    box.broadcast(spend.serialize())
    box.mine(2)
    box.reorg(2, drop=[tx.txid])
    assert not box.pool.entries
    assert scripthash(SOMEONE) in box.take_touched()
    assert box.chain.index.history[scripthash(SOMEONE)] == []


def test_a_reorg_can_carry_a_double_spend(box: Sandbox) -> None:
    (coin,) = coins(box, 1)
    first, second = make([coin], [M - 1_000], script=SOMEONE), make([coin], [M - 2_000])
    box.broadcast(first.serialize())
    box.mine(1)
    box.reorg(1, txs=[second.serialize()])
    assert second.txid in box.chain.index.txs
    assert first.txid not in box.chain.index.txs
    assert not box.pool.entries
    agree(box)


def test_an_invalid_fork_leaves_the_old_chain_standing(box: Sandbox) -> None:
    (coin,) = coins(box, 1)
    waiting = box.fund(SOMEONE, M)
    box.mine(2)
    tip = box.chain.tip
    inflation = make([coin], [2 * M])
    with pytest.raises(Rejected, match="block refused"):
        box.reorg(2, txs=[inflation.serialize()], drop=[waiting.txid])
    assert box.chain.tip == tip
    assert waiting.txid in box.chain.index.txs
    agree(box)
    box.mine(1)


@pytest.mark.parametrize("depth", [0, -1, 111])
def test_a_reorg_of_no_depth_or_past_the_genesis_is_refused(box: Sandbox, depth: int) -> None:
    with pytest.raises(LocalFault, match="depth"):
        box.reorg(depth)


# ------------------------------------------------------------------ on disk


def abandon(box: Sandbox) -> None:
    """Leave the directory as a kill would: nothing flushed, but the lock gone."""
    journal = box.chain._journal
    assert journal
    box.chain._opened.pop_all()
    box.chain._let_go()
    journal.close()


def test_the_chain_survives_being_dropped_without_a_close(tmp_path: Path) -> None:
    box = Sandbox(tmp_path)
    tx = box.fund(SOMEONE, M)
    box.mine(2)
    box.reorg(1)
    tip, coins_before = box.chain.tip, dict(box.chain.index.coins)
    abandon(box)
    again = Sandbox(tmp_path)
    try:
        assert again.chain.tip == tip
        assert again.chain.index.coins == coins_before
        assert tx.txid in again.chain.index.txs
        agree(again)
        again.mine(1)
    finally:
        again.close()


def test_a_second_sandbox_on_the_same_directory_is_locked_out(tmp_path: Path) -> None:
    box = Sandbox(tmp_path)
    with pytest.raises(Locked) as caught:
        Sandbox(tmp_path)
    assert caught.value.exit_code == 75
    box.mine(1)
    box.close()
    Sandbox(tmp_path).close()


def test_a_torn_last_block_is_cut_off(tmp_path: Path) -> None:
    box = Sandbox(tmp_path)
    tip = box.chain.tip
    box.mine(1)
    box.close()
    journal = tmp_path / "blocks.journal"
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-7])
    again = Sandbox(tmp_path)
    assert again.chain.tip == tip
    again.mine(2)
    tip = again.chain.tip
    again.close()
    third = Sandbox(tmp_path)
    assert third.chain.tip == tip
    third.close()


def test_damage_inside_the_journal_is_an_error_and_nothing_is_changed(tmp_path: Path) -> None:
    Sandbox(tmp_path).close()
    journal = tmp_path / "blocks.journal"
    whole = bytearray(journal.read_bytes())
    whole[len(whole) // 2] ^= 1
    journal.write_bytes(whole)
    for _ in range(2):  # and the failed opening holds no lock
        with pytest.raises(StorageFault, match="damaged"):
            Sandbox(tmp_path)
    assert journal.read_bytes() == whole


def test_a_foreign_file_in_the_journals_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "blocks.journal").write_bytes(b"something else entirely, and long enough")
    with pytest.raises(StorageFault, match="not a journal"):
        Sandbox(tmp_path)


def test_a_directory_that_cannot_be_made_is_a_storage_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFault):
        Sandbox(tmp_path / "file" / "chain")


def test_a_closed_sandbox_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    box = Sandbox(None)
    assert list(tmp_path.iterdir())
    box.close()
    assert not list(tmp_path.iterdir())


def test_what_a_killed_sandbox_left_is_swept_and_what_lives_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    living = Sandbox(None)
    (held,) = tmp_path.iterdir()
    left, fresh = tmp_path / "p2pnode-chain-left", tmp_path / "p2pnode-chain-fresh"
    for folder in (left, fresh):
        folder.mkdir()
    for folder in (left, held):
        os.utime(folder, (1, 1))
    second = Sandbox(None)
    assert held.exists()
    assert fresh.exists()  # just made: perhaps its owner has not locked it yet
    assert not left.exists()
    living.mine(1)
    second.close()
    living.close()


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_is_a_storage_fault_and_what_was_kept_opens_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    box = Sandbox(tmp_path)
    fund = box.fund(SOMEONE, M)
    tip = box.chain.tip

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(StorageFault, match="No space") as caught:
            box.mine(1)
        assert caught.value.exit_code == 74
    with pytest.raises(StorageFault):  # a gap in the journal would be worse
        box.mine(1)
    box.close()
    again = Sandbox(tmp_path)
    kept = again.chain.tip == tip
    assert kept == (call == "write")
    assert (fund.txid in again.chain.index.txs) != kept
    again.mine(1)
    again.close()


def test_a_journal_of_blocks_that_do_not_connect_is_refused(tmp_path: Path) -> None:
    box = Sandbox(tmp_path, warm_up=3)
    second = box.chain.raw_block(2)
    box.close()
    journal = Journal(tmp_path)
    assert len(journal.read()) == 3
    os.truncate(tmp_path / "blocks.journal", len(MAGIC))
    journal.append(second)
    journal.close()
    with pytest.raises(StorageFault, match="does not replay"):
        Sandbox(tmp_path)
