"""What a withdrawal weighs, costs and refuses; whose outputs it signs."""

from dataclasses import replace

import pytest
from escrow_tx_kit import KEYS, h, wpkh
from independent_decoder import decode_transaction

from escrow import backend_consensus
from escrow import sighash as own_sighash
from escrow.backend_signatures import REAL
from escrow.backend_sweep import sign_sweep
from escrow.earnings import (
    MAX_SWEPT,
    Claim,
    Earning,
    Sweep,
    build_sweep,
    unspent,
    worth_sweeping,
)
from escrow.keys import check_ecdsa_form
from escrow.script import p2wpkh
from p2pnode.base.errors import InvalidRecord, LocalFault, SecondOpinionDiffers
from p2pnode.base.networks import NETWORKS
from p2pnode.base.ports import Sighting
from p2pnode.base.transaction import (
    Outpoint,
    Transaction,
    TxIn,
    TxOut,
    display,
    parse_transaction,
)

NET = NETWORKS["regtest"]
KEY = KEYS["A"]
SCRIPT = p2wpkh(KEY.public)
HOME = wpkh("home")
ESCROW = Outpoint(h("escrow"), 0)


def claim(trade: bytes = h("trade"), script: bytes = SCRIPT) -> Claim:
    return Claim(trade, ESCROW, script, h("seed"), h("bond") + bytes(4))


def earning(n: int, value: int, height: int = 7) -> Earning:
    return Earning(h("trade"), Outpoint(h(f"payout {n}"), 2), value, height)


def sweep(*values: int, rate: int = 2, to: bytes = HOME) -> Sweep:
    coins = [earning(n, value) for n, value in enumerate(values)]
    return build_sweep(coins, {h("trade"): claim()}, to, rate, 321)


def sighting(outputs: list[TxOut], spends: Outpoint = ESCROW, height: int = 9) -> Sighting:
    tx = Transaction(2, (TxIn(spends, witness=(b"x",)),), tuple(outputs), 0)
    return Sighting(tx.txid, height, tx.serialize())


# ------------------------------------------------------------------ weights and fees


@pytest.mark.parametrize(
    ("count", "rate", "to", "weight", "fee"),
    [
        (1, 1, HOME, 438, 110),  # 42 + 272 + 124, and ceil(438 / 4)
        (1, 2, HOME, 438, 219),
        (1, 2, b"\x51\x20" + h("taproot"), 486, 243),
        (2, 3, HOME, 710, 533),
        (10, 7, HOME, 2886, 5051),
    ],
)
def test_golden_weights(count: int, rate: int, to: bytes, weight: int, fee: int) -> None:
    made = sweep(*[50_000] * count, rate=rate, to=to)
    assert (made.fee_sat, made.value) == (fee, 50_000 * count - fee)
    longest = sign_sweep(made, [KEY] * count, NET, REAL)
    assert weight - 2 * count <= longest.weight <= weight  # a signature of 70 to 72 bytes


def test_the_largest_sweep_is_weighed_right() -> None:
    made = sweep(*[50_000] * (MAX_SWEPT + 5))
    assert len(made.tx.inputs) == MAX_SWEPT
    final = sign_sweep(made, [KEY] * MAX_SWEPT, NET, REAL)
    assert final.weight <= 2 * made.fee_sat < final.weight + 2 * MAX_SWEPT
    assert final.weight < 400_000  # else no node relays it


def test_golden_transaction() -> None:
    final = sign_sweep(sweep(4_000, 9_000), [KEY] * 2, NET, REAL)
    again = sign_sweep(sweep(4_000, 9_000), [KEY] * 2, NET, REAL)
    assert final.serialize() == again.serialize()  # so a broadcast can be repeated
    raw = final.serialize()
    assert parse_transaction("tx", raw) == final
    assert (final.version, final.locktime) == (2, 321)
    assert {i.sequence for i in final.inputs} == {0xFFFFFFFD}
    points = [i.outpoint for i in final.inputs]
    assert points == sorted(points)
    backend_consensus.verify_transaction(final, [TxOut(v, SCRIPT) for v in _values(final)])
    assert decode_transaction(raw).txid == display(final.txid)


def _values(tx: Transaction) -> list[int]:
    known = {earning(0, 4_000).outpoint: 4_000, earning(1, 9_000).outpoint: 9_000}
    return [known[i.outpoint] for i in tx.inputs]


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("values", "rate", "arrives"),
    [
        ((1_219,), 2, 1_000),
        ((1_218,), 2, None),  # one satoshi less
        ((4_000,), 27, 1_043),
        ((4_000,), 28, None),
        ((300, 300, 300), 1, None),  # 232 of them each, less 42
    ],
)
def test_below_the_least_output_nothing_is_built(
    values: tuple[int, ...], rate: int, arrives: int | None
) -> None:
    if arrives is None:
        with pytest.raises(LocalFault, match=rf"at {rate} sat/vB less than 1000 of the "):
            sweep(*values, rate=rate)
    else:
        assert sweep(*values, rate=rate).value == arrives


def test_what_costs_more_than_it_brings_stays() -> None:
    made = sweep(680, 681, 90_000, rate=10)  # an input costs 680
    assert sorted(e.value for e in made.earnings) == [681, 90_000]


def test_pending_is_never_money() -> None:
    with pytest.raises(LocalFault, match="nothing to withdraw"):
        worth_sweeping([earning(0, 50_000, height=0)], 2)
    (only,) = worth_sweeping([earning(0, 50_000, height=0), earning(1, 60_000)], 2)
    assert only.value == 60_000


@pytest.mark.parametrize("rate", [0, -1, 501, True, 2.0, None])
def test_a_rate_out_of_bounds_is_refused(rate: int) -> None:
    with pytest.raises(InvalidRecord, match="rate"):
        worth_sweeping([earning(0, 50_000)], rate)


def test_a_foreign_script_to_pay_is_refused() -> None:
    with pytest.raises(InvalidRecord, match="to_script"):
        sweep(50_000, to=b"\x6a\x04" + b"lost")


# ------------------------------------------------------------------ what counts


def test_the_fee_output_of_the_spend_of_the_escrow_counts() -> None:
    payout = sighting([TxOut(90_000, HOME), TxOut(4_000, SCRIPT)])
    (found,) = unspent(claim(), [payout])
    assert found == Earning(h("trade"), Outpoint(payout.txid, 1), 4_000, 9)


def test_others_payments_to_the_key_and_spent_fees_do_not_count() -> None:
    gift = sighting([TxOut(50_000, SCRIPT)], spends=Outpoint(h("stranger"), 0))
    elsewhere = sighting([TxOut(50_000, SCRIPT)], spends=replace(ESCROW, vout=1))
    payout = sighting([TxOut(4_000, SCRIPT)])
    assert unspent(claim(), [gift, elsewhere]) == ()
    spend = sighting([TxOut(3_000, HOME)], spends=Outpoint(payout.txid, 0), height=0)
    assert unspent(claim(), [spend, payout, gift]) == ()
    assert unspent(claim(), [sighting([TxOut(4_000, HOME)])]) == ()


def test_an_impossible_value_is_refused() -> None:
    with pytest.raises(InvalidRecord, match="payout"):
        unspent(claim(), [sighting([TxOut(-1, SCRIPT)])])


# ------------------------------------------------------------------ signatures


def test_each_input_is_signed_by_its_own_key_alone() -> None:
    keys = [KEYS["B"], KEY, KEYS["S"], KEY]
    made = sweep(*[50_000] * 4)
    made = replace(made, prevouts=tuple(TxOut(50_000, p2wpkh(k.public)) for k in keys))
    final = sign_sweep(made, keys, NET, REAL)
    assert [i.witness[1] for i in final.inputs] == [k.public for k in keys]
    backend_consensus.verify_transaction(final, made.prevouts)
    for txin in final.inputs:
        check_ecdsa_form("witness", txin.witness[0])


def test_the_digest_signed_is_not_ours_to_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in our sighash must not sign what it then approves of."""

    def mistaken(*_: object) -> bytes:
        return h("a mistake")

    monkeypatch.setattr(own_sighash, "segwit_v0", mistaken)
    with pytest.raises(SecondOpinionDiffers, match=r"witness\[0\]"):
        sign_sweep(sweep(50_000), [KEY], NET, REAL)


@pytest.mark.parametrize(
    "script", [p2wpkh(KEYS["B"].public), b"\x00\x20" + h("escrow"), b"\x51\x20" + h("tap")]
)
def test_nothing_but_its_own_key_hash_is_signed(script: bytes) -> None:
    made = sweep(50_000)
    with pytest.raises(LocalFault, match="nothing was signed"):
        sign_sweep(replace(made, prevouts=(TxOut(50_000, script),)), [KEY], NET, REAL)


def test_a_wrong_amount_is_caught_by_the_consensus_check() -> None:
    made = sweep(50_000)
    seen: list[int] = []

    def other_amount(tx, prevouts, indexes):  # type: ignore[no-untyped-def]
        seen.append(prevouts[0].value)
        REAL.consensus(tx, [TxOut(50_001, SCRIPT)], indexes)

    with pytest.raises(SecondOpinionDiffers, match="nothing was sent"):
        sign_sweep(made, [KEY], NET, replace(REAL, consensus=other_amount))
    assert seen == [50_000]


def test_a_differing_sighash_is_caught() -> None:
    differs = replace(REAL, sighash=lambda *_: h("another digest"))
    with pytest.raises(SecondOpinionDiffers, match="nothing was sent") as caught:
        sign_sweep(sweep(50_000), [KEY], NET, differs)
    assert caught.value.exit_code == 70
