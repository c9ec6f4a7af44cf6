"""Every payout is the one transaction of its split: golden vectors and the edges."""

import json
from pathlib import Path
from typing import Any

import pytest
from escrow_tx_kit import NETWORKS, contract, h

from escrow.contract import Contract
from escrow.payout import (
    Split,
    build_payout,
    check_split,
    payout_rates,
    refund,
    release,
    verdict_split,
)
from escrow.script import witness_script
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
    payout = build_payout(made, point, Split(*vector["split"]), vector["rate"])
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
