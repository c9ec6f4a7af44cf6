"""Every payout is the one transaction of its split: golden vectors and the edges."""

import json
from pathlib import Path
from typing import Any

import pytest
from escrow_tx_kit import NETWORKS, contract, h

from escrow.contract import KIND_BACKUP, Contract
from escrow.payout import (
    Branch,
    Split,
    build_payout,
    check_split,
    off_fee,
    payout_rates,
    refund,
    release,
    verdict_split,
)
from escrow.script import p2wpkh, witness_script
from escrow.sighash import sighash
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.transaction import Outpoint, display

VECTORS = json.loads(Path(__file__).parents[1].joinpath("vectors/payout.json").read_text())
MADE = contract()
POINT = Outpoint(h("funding"), 1)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["name"])
def test_golden(vector: dict[str, Any]) -> None:
    made = Contract.from_wire(bytes.fromhex(vector["contract"]), NETWORKS[vector["network"]])
    point = Outpoint.from_wire("outpoint", bytes.fromhex(vector["outpoint"]))
    branch = Branch(vector["branch"])
    payout = build_payout(made, point, Split(*vector["split"]), vector["rate"], branch)
    expect = vector["expect"]
    assert payout.tx.serialize().hex() == expect["tx"]
    assert display(payout.tx.txid) == expect["txid"]
    assert payout.fee_sat == expect["fee_sat"]
    paid = [payout.buyer_sat_paid, payout.seller_sat_paid, payout.arbiter_sat_paid]
    assert paid == expect["paid"]
    digest = sighash(payout.tx, 0, [payout.prevout], witness_script(made))
    assert digest.hex() == expect["sighash"]


def test_the_splits_of_a_contract() -> None:
    assert release(MADE) == Split(550_000, 75_000, 0)
    assert refund(MADE) == Split(50_000, 575_000, 0)
    assert verdict_split(MADE, 1) == Split(1, 620_999, 4_000)
    for split in (release(MADE), refund(MADE), verdict_split(MADE, 0)):
        assert check_split(MADE, split) == split
        assert Split.from_array("split", split.array()) == split


def test_each_branch_has_its_own_arbiter() -> None:
    made = contract(escrow_kind=KIND_BACKUP)
    fees = {Branch.MAIN: made.fee_a, Branch.BACKUP: made.fee_a2}
    keys = {Branch.MAIN: made.key_a, Branch.BACKUP: made.key_a2}
    for branch, other in ((Branch.MAIN, Branch.BACKUP), (Branch.BACKUP, Branch.MAIN)):
        split = verdict_split(made, 1, branch)
        assert split == Split(1, 625_000 - fees[branch] - 1, fees[branch])
        assert check_split(made, split, branch) == split
        assert build_payout(made, POINT, split, None, branch).tx.outputs[-1].script == p2wpkh(
            keys[branch]
        )
        with pytest.raises(InvalidRecord, match="arbiter_sat"):
            check_split(made, split, other)
        with pytest.raises(InvalidRecord, match="buyer_sat"):
            verdict_split(made, 625_000 - fees[branch] + 1, branch)
    for ask in (verdict_split, off_fee, check_split):
        arguments: Any = {verdict_split: (1,), off_fee: (release(MADE), "B")}
        with pytest.raises(InvalidRecord, match="branch"):
            ask(MADE, *arguments.get(ask, (release(MADE),)), branch=Branch.BACKUP)


def test_the_fee_of_a_repeated_split_comes_off_the_loser_first() -> None:
    made = contract(escrow_kind=KIND_BACKUP)  # fees 4,000 and 5,000 of 625,000
    for split, loser, branch, expect in (
        (release(made), "B", Branch.MAIN, (546_000, 75_000, 4_000)),
        (release(made), "S", Branch.MAIN, (550_000, 71_000, 4_000)),
        (refund(made), "B", Branch.BACKUP, (45_000, 575_000, 5_000)),
        (Split(3_999, 621_001, 0), "B", Branch.MAIN, (0, 621_000, 4_000)),
        (Split(4_000, 621_000, 0), "B", Branch.MAIN, (0, 621_000, 4_000)),
        (Split(625_000, 0, 0), "S", Branch.BACKUP, (620_000, 0, 5_000)),
        (Split(0, 625_000, 0), "B", Branch.BACKUP, (0, 620_000, 5_000)),
    ):
        found = off_fee(made, split, loser, branch)  # type: ignore[arg-type]
        assert found == Split(*expect)
        assert check_split(made, found, branch) == found
    for bad in (verdict_split(made, 1), Split(1, 1, 0), Split(-1, 625_001, 0)):
        with pytest.raises(InvalidRecord):
            off_fee(made, bad, "B")


@pytest.mark.parametrize("buyer", [-1, 621_001, 2**64, True, 1.0, None])
def test_a_verdict_divides_what_is_there(buyer: Any) -> None:
    with pytest.raises(InvalidRecord, match="buyer_sat"):
        verdict_split(MADE, buyer)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ((1, 2), "split"),
        ((1, 2, 3, 4), "split"),
        ([1, 2, 3], "split"),
        ((-1, 2, 3), "split"),
        ((1, 2, 21 * 10**14 + 1), "split"),
        ((1, 2, True), "split"),
        ((1, 2, b"3"), "split"),
        (None, "split"),
    ],
)
def test_a_split_on_the_wire_is_bounded(value: Any, field: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        Split.from_array("split", value)
    assert caught.value.field == field


def test_rates() -> None:
    assert payout_rates(MADE) == (2, 8)
    assert payout_rates(contract(rate=100)) == (100, 156)  # escrow // 4,000
    assert payout_rates(contract(rate=156)) == (156, 156)
    for rate in (1, 3, 7, 9):
        with pytest.raises(InvalidRecord, match="rate"):
            build_payout(MADE, POINT, release(MADE), rate)
    for odd in (True, 1.0):
        with pytest.raises(InvalidRecord, match="rate"):
            build_payout(contract(rate=1), POINT, release(MADE), odd)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "point",
    [Outpoint(b"", 0), Outpoint(bytes(31), 0), Outpoint(bytes(32), -1), Outpoint(bytes(32), 3)],
)
def test_an_outpoint_that_funding_cannot_have(point: Outpoint) -> None:
    with pytest.raises(InvalidRecord, match="outpoint"):
        build_payout(MADE, point, release(MADE))


def test_the_smallest_escrow_at_the_highest_rate_still_pays_everyone() -> None:
    made = contract(amount_sat=200_000, dep_b=20_000, dep_s=20_000, fee_a=60_000, rate=60)
    for buyer in (0, 999, 1000, 90_000, 179_000, 179_001, 180_000):
        payout = build_payout(made, POINT, verdict_split(made, buyer))
        assert all(output.value >= 1000 for output in payout.tx.outputs)
        assert payout.arbiter_sat_paid == 60_000
