"""The mempool's rules: Bitcoin Core's reject reasons, replacement, and who was checked."""

from collections.abc import Iterator

import pytest
from sandbox_kit import SOMEONE, TRUE, M, coins, make

from p2pnode.app.sandbox.mempool import Sandbox
from p2pnode.app.sandbox.miner import FAUCET_SCRIPT
from p2pnode.app.sandbox.policy import Rejected
from p2pnode.base.transaction import Outpoint, Transaction, TxIn, TxOut, parse_block
from p2pnode.base.units import MAX_SAT

DAY = 86_400


@pytest.fixture
def box() -> Iterator[Sandbox]:
    box = Sandbox(None)
    yield box
    box.close()


def offer(box: Sandbox, tx: Transaction) -> str:
    """Broadcast; return "accepted" or the reason, and hold that a refusal changes nothing."""
    before = dict(box.pool.entries)
    try:
        box.broadcast(tx.serialize())
    except Rejected as error:
        assert box.pool.entries == before
        return str(error)
    assert tx.txid in box.pool.entries
    return "accepted"


def immature(box: Sandbox) -> Outpoint:
    return Outpoint(box.chain.index.blocks[-1][0], 0)


REFUSED = {
    "below the relay fee": (lambda c: make([c], [M - 5]), "min relay fee not met, 5 < "),
    "zero fee": (lambda c: make([c], [M]), "min relay fee not met"),
    "inflation": (lambda c: make([c], [M + 1]), "bad-txns-in-belowout"),
    "negative output": (lambda c: make([c], [M, -5]), "bad-txns-vout-negative"),
    "over 21 million": (lambda c: make([c], [MAX_SAT + 1]), "bad-txns-vout-toolarge"),
    "sum over 21 million": (lambda c: make([c], [MAX_SAT, MAX_SAT]), "bad-txns-txouttotal"),
    "no outputs": (lambda c: make([c], []), "bad-txns-vout-empty"),
    "the same input twice": (lambda c: make([c, c], [M]), "bad-txns-inputs-duplicate"),
    "unknown input": (lambda c: make([Outpoint(b"\7" * 32, 0)], [M]), "bad-txns-inputs-missing"),
    "vout too high": (lambda c: make([Outpoint(c.txid, 50)], [M]), "bad-txns-inputs-missing"),
    "a coinbase": (lambda c: make([Outpoint(bytes(32), 0xFFFFFFFF)], [M]), "coinbase"),
    "a null input": (lambda c: make([c, Outpoint(bytes(32), 0xFFFFFFFF)], [M]), "bad-txns-prevout"),
    "version 9": (lambda c: make([c], [M - 1000], version=9), "version"),
    "dust": (lambda c: make([c], [M - 3000, 200]), "dust"),
    "odd script": (lambda c: make([c], [M - 999], script=b"\x51\x52\x53\x54"), "scriptpubkey"),
    "too small": (
        lambda c: Transaction(2, (TxIn(c, witness=TRUE),), (TxOut(0, b"\x6a"),), 0),
        "tx-size-small",
    ),
    "wrong witness": (lambda c: make([c], [M - 1000], witness=(b"\x52",)), "mempool-script-verify"),
    "false left": (lambda c: make([c], [M - 999], witness=(b"", b"\x51")), "mempool-script-verify"),
    "no witness": (lambda c: make([c], [M - 1000], witness=()), "mempool-script-verify"),
    "BIP 68, 3 blocks": (lambda c: make([c], [M - 1000], sequence=3), "non-BIP68-final"),
    "BIP 68, time": (lambda c: make([c], [M - 999], sequence=0x400009), "non-BIP68-final"),
}


@pytest.mark.parametrize("title", REFUSED)
def test_a_bad_transaction_is_refused_with_cores_reason(box: Sandbox, title: str) -> None:
    build, reason = REFUSED[title]
    (coin,) = coins(box, 1)
    assert offer(box, build(coin)).startswith(reason)
    assert box.pool.checked_count == box.pool.admitted_count


def test_an_immature_coinbase_and_a_confirmed_repeat_are_refused(box: Sandbox) -> None:
    assert offer(box, make([immature(box)], [M])) == "bad-txns-premature-spend-of-coinbase"
    tx = box.fund(SOMEONE, M)
    box.mine(1)
    assert offer(box, tx) == "Transaction outputs already in utxo set"


def test_bytes_that_are_no_transaction_are_refused(box: Sandbox) -> None:
    for raw in (b"", b"\0" * 10, make([Outpoint(b"\1" * 32, 0)], [M]).serialize() + b"\0"):
        with pytest.raises(Rejected, match="TX decode failed"):
            box.broadcast(raw)


def test_locks_open_at_their_height_and_time_and_not_before(box: Sandbox) -> None:
    a, b, c, d = coins(box, 4)
    at_height = make([a], [M - 1000], locktime=box.height + 1)
    at_time = make([b], [M - 1000], locktime=box.chain.time + DAY)
    relative = make([c], [M - 1000], sequence=0x400000 | DAY // 512)
    two_deep = make([d], [M - 1000], sequence=2)
    assert offer(box, two_deep) == "non-BIP68-final"
    assert {offer(box, t) for t in (at_height, at_time)} == {"non-final"}
    assert offer(box, relative) == "non-BIP68-final"
    box.mine(1)
    assert offer(box, at_height) == "accepted"
    assert offer(box, two_deep) == "accepted"
    box.mine(12, step=DAY)  # the median moves, not the tip alone
    assert offer(box, at_time) == "accepted"
    assert offer(box, relative) == "accepted"
    box.mine(1)
    assert not box.pool.entries


def test_a_repeat_is_a_success_and_another_witness_is_not(box: Sandbox) -> None:
    (coin,) = coins(box, 1)
    tx = make([coin], [M - 1000])
    assert offer(box, tx) == "accepted"
    assert offer(box, tx) == "accepted"
    assert box.pool.admitted_count == box.pool.checked_count == 2  # funding and this one


def test_replacement_asks_for_a_higher_rate_and_for_its_own_relay(box: Sandbox) -> None:
    a, b, c = coins(box, 3)
    parent = make([a], [M - 1000])
    child = make([Outpoint(parent.txid, 0)], [M - 3000])
    assert [offer(box, t) for t in (parent, child)] == ["accepted"] * 2
    assert offer(box, make([a], [M - 1000], locktime=1)).startswith("insufficient fee")
    assert "not enough additional fees" in offer(box, make([a], [M - 3050]))
    assert "less fees than conflicting" in offer(box, make([a], [M - 2000]))
    other = make([b], [M - 1000])
    assert offer(box, other) == "accepted"
    mixed = make([c, Outpoint(other.txid, 0)], [2 * M - 9000])
    assert offer(box, mixed) == "accepted"
    fresh = make([a, Outpoint(mixed.txid, 0)], [3 * M - 50_000])
    assert offer(box, fresh) == "replacement-adds-unconfirmed"
    suicide = make([b, Outpoint(other.txid, 0)], [2 * M - 50_000])
    assert offer(box, suicide).startswith("bad-txns-spends-conflicting-tx")
    winner = make([a], [M - 9000])
    assert offer(box, winner) == "accepted"
    assert set(box.pool.entries) == {other.txid, mixed.txid, winner.txid}
    assert offer(box, make([Outpoint(parent.txid, 0)], [M - 9999])).startswith(
        "bad-txns-inputs-miss"
    )
    box.mine(1)
    assert not box.pool.entries


def test_a_chain_of_twenty_six_is_too_long(box: Sandbox) -> None:
    (point,) = coins(box, 1)
    answers = []
    for n in range(26):
        tx = make([point], [M - 1000 * (n + 1)])
        answers.append(offer(box, tx))
        point = Outpoint(tx.txid, 0)
    assert answers == ["accepted"] * 25 + ["too-long-mempool-chain"]


def test_a_conflict_that_a_block_brings_is_forgotten_with_its_children(box: Sandbox) -> None:
    (coin,) = coins(box, 1)
    box.mine(1)
    first = make([coin], [M - 1000])
    child = make([Outpoint(first.txid, 0)], [M - 3000], script=SOMEONE)
    rival = make([coin], [M - 7000])
    assert [offer(box, t) for t in (first, child)] == ["accepted"] * 2
    box.reorg(1, txs=[rival.serialize()])
    assert not box.pool.entries
    assert not box.pool.by_script
    assert not box.pool.spender


def test_congestion_leaves_cheap_ones_waiting_unless_a_child_pays(box: Sandbox) -> None:
    a, b, c = coins(box, 3)
    cheap, dear = make([a], [M - 200]), make([b], [M - 20_000])
    parent = make([c], [M - 200])
    child = make([Outpoint(parent.txid, 0)], [M - 50_000])
    for tx in (cheap, dear, parent, child):
        assert offer(box, tx) == "accepted"
    box.congestion = 50_000
    box.mine(1)
    assert set(box.pool.entries) == {cheap.txid}
    box.congestion = 0
    box.mine(1)
    assert not box.pool.entries


def test_every_entry_was_checked_against_its_real_previous_outputs(box: Sandbox) -> None:
    """The log of the script checks, recomputed from the blocks."""
    (a,), (b,) = coins(box, 1), coins(box, 1, 2 * M)
    tx = make([a, b], [M], script=SOMEONE)
    offer(box, tx)
    offer(box, make([a], [M - 200], witness=(b"\x52",)))  # refused: must not count
    box.mine(2)
    box.reorg(2)
    box.mine(1)
    outputs, seen = {}, {}
    for height in range(box.height + 1):
        for t in parse_block(box.chain.raw_block(height))[1]:
            outputs |= {Outpoint(t.txid, n): o for n, o in enumerate(t.outputs)}
            seen[t.wtxid] = t
    assert list(box.pool.admitted) == [c.wtxid for c in box.pool.checks]
    assert len(box.pool.checks) == box.pool.admitted_count == box.pool.checked_count == 4
    for check in box.pool.checks:
        real = tuple(outputs[i.outpoint] for i in seen[check.wtxid].inputs)
        assert check.spent == real
    assert FAUCET_SCRIPT in {o.script for c in box.pool.checks for o in c.spent}
