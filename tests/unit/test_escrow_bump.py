"""A child pays for its parent, within bounds, and only by an output of ours."""

from dataclasses import replace
from typing import Any

import pytest
from escrow_tx_kit import KEYS, WORDS, BdkWallet, contract, h, joint, wpkh

from escrow import bump
from escrow.backend_bench import TradeBench
from escrow.backend_consensus import verify_transaction
from escrow.backend_funding import assemble_funding, sign_funding
from escrow.backend_signatures import Opinions, complete, first_sign
from escrow.payout import build_payout, release
from p2pnode.base.errors import InvalidRecord, LocalFault, SecondOpinionDiffers
from p2pnode.base.transaction import Outpoint, Transaction, TxOut, parse_transaction

BUYER, SELLER = BdkWallet(WORDS["B"]), BdkWallet(WORDS["S"])
TAP = BdkWallet(WORDS["B"], tap=True)
BENCH = TradeBench(KEYS["B"])


def waiting_payout(wallet: BdkWallet) -> tuple[Transaction, int, int]:
    """A released escrow, the number of the wallet's output in it, and its fee."""
    made = contract(script_b=wallet.script(3))
    point = Outpoint(h("funding"), 0)
    pair = first_sign(made, point, release(made), KEYS["S"])
    parent, _ = complete(made, point, release(made), KEYS["B"], KEYS["S"].public, pair)
    return parent, 0, build_payout(made, point, release(made)).fee_sat


def waiting_funding(wallet: BdkWallet) -> tuple[Transaction, int, int]:
    """A joint funding, the number of the wallet's change in it, and its fee."""
    made = contract()
    funding = joint(made, (wallet, [90_000]), (SELLER, [700_000]))
    stacks = (sign_funding(made, funding, w.sign, s) for w, s in ((wallet, "B"), (SELLER, "S")))  # type: ignore[arg-type]
    parent = assemble_funding(funding, *stacks)
    scripts = [o.script for o in parent.outputs]
    return parent, scripts.index(wallet.script(15)), funding.fee_sat


@pytest.mark.parametrize("wallet", [BUYER, TAP])
@pytest.mark.parametrize("waiting", [waiting_payout, waiting_funding])
@pytest.mark.parametrize("rate", [3, 10, 40])
def test_together_they_pay_the_rate(wallet: BdkWallet, waiting: Any, rate: int) -> None:
    parent, vout, fee = waiting(wallet)
    tx = bump.child(parent, vout, fee, wallet.script(9), rate)
    coin = bump.coin(parent, vout)
    final = parse_transaction("child", BENCH.sign_child(tx, coin, wallet.sign))
    assert final.txid == tx.txid
    verify_transaction(final, [parent.outputs[vout]])
    own = coin.value - tx.outputs[0].value
    paid, size = fee + own, parent.vsize + final.vsize
    assert rate * size <= paid < rate * (size + 2)  # a grinded signature is a byte less
    assert own <= coin.value // 2


def test_one_sat_a_vbyte_more_replaces_the_child_before() -> None:
    """BIP 125, rules 3 and 4: more by what its own relay costs."""
    parent, vout, fee = waiting_payout(BUYER)
    fees = [
        parent.outputs[vout].value - bump.child(parent, vout, fee, wpkh("x"), r).outputs[0].value
        for r in (5, 6)
    ]
    assert fees[1] - fees[0] == parent.vsize + 110


def small(parent: Transaction, value: int) -> Transaction:
    first = parent.outputs[0]
    return replace(parent, outputs=(TxOut(value, first.script), *parent.outputs[1:]))


def test_why_there_is_no_child() -> None:
    parent, vout, fee = waiting_payout(BUYER)
    pays = fee // parent.vsize
    cases: dict[str, tuple[Any, ...]] = {
        "no such output": (parent, 2, fee, 5),
        "such output ": (parent, -1, fee, 5),
        "this wallet could": (small_script(parent), 0, fee, 5),
        "1 to 500": (parent, vout, fee, 501),
        "is 1 to": (parent, vout, fee, 0),
        "fee rate": (parent, vout, fee, True),
        "not whole": (unsigned(parent), vout, fee, 5),
        f"pays {pays} sat/vB by itself": (parent, vout, fee, pays),
        "at most half": (small(parent, 3_000), vout, fee, 10),
        "sat must be left": (small(parent, 1_700), vout, fee, 5),
    }
    for text, (tx, number, paid, rate) in cases.items():
        with pytest.raises(LocalFault, match=text.strip()):
            bump.child(tx, number, paid, wpkh("home"), rate)
            pytest.fail(text)
    with pytest.raises(InvalidRecord, match="parent_fee"):
        bump.child(parent, vout, -1, wpkh("home"), 5)
    with pytest.raises(InvalidRecord, match="to_script"):
        bump.child(parent, vout, fee, b"\x6a", 5)


def unsigned(tx: Transaction) -> Transaction:
    return replace(tx, inputs=tuple(replace(i, witness=()) for i in tx.inputs))


def small_script(tx: Transaction) -> Transaction:
    return replace(tx, outputs=(TxOut(50_000, b"\x00\x20" + bytes(32)),))


def test_the_edge_of_what_a_child_may_cost() -> None:
    parent, vout, fee = waiting_payout(BUYER)
    cost = 5 * (parent.vsize + 110) - fee
    tx = bump.child(small(parent, 2 * cost), vout, fee, wpkh("home"), 5)
    assert tx.outputs[0].value == cost
    with pytest.raises(LocalFault, match="at most half"):
        bump.child(small(parent, 2 * cost - 1), vout, fee, wpkh("home"), 5)


def test_a_child_that_a_second_opinion_refuses_does_not_leave() -> None:
    parent, vout, fee = waiting_payout(BUYER)
    tx, coin = bump.child(parent, vout, fee, wpkh("home"), 5), bump.coin(parent, vout)

    def refuse(*_: Any) -> None:
        raise InvalidRecord("inputs[0]", "fails Bitcoin's script rules")

    for name, opinions in (
        ("consensus", Opinions(consensus=refuse)),
        ("sighash", Opinions(sighash=lambda *_: bytes(32))),
    ):
        with pytest.raises(SecondOpinionDiffers, match=name):
            TradeBench(KEYS["B"], opinions).sign_child(tx, coin, BUYER.sign)
    with pytest.raises(InvalidRecord, match="coin"):
        BENCH.sign_child(tx, bump.coin(parent, 1), BUYER.sign)
