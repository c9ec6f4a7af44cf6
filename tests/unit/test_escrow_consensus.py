"""Bitcoin Core's rules judge what we built; the library is silenced once for a process."""

import subprocess
import sys
from dataclasses import replace

import pytest
from escrow_tx_kit import KEYS, contract, h

from escrow.backend_consensus import verify_inputs, verify_transaction
from escrow.backend_signatures import complete, first_sign
from escrow.payout import build_payout, release
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.transaction import Outpoint, Transaction, TxIn, TxOut

MADE = contract()
POINT = Outpoint(h("funding"), 0)


def final() -> tuple[Transaction, TxOut]:
    split = release(MADE)
    pair = first_sign(MADE, POINT, split, KEYS["S"])
    tx, _ = complete(MADE, POINT, split, KEYS["B"], KEYS["S"].public, pair)
    return tx, build_payout(MADE, POINT, split).prevout


def test_the_final_payout_passes() -> None:
    tx, spent = final()
    verify_transaction(tx, [spent])


def test_whatever_is_changed_fails() -> None:
    tx, spent = final()
    stack = tx.inputs[0].witness
    changed = {
        "value": (tx, replace(spent, value=spent.value + 1)),
        "script": (tx, replace(spent, script=b"\x00\x20" + bytes(32))),
        "output": (replace(tx, outputs=tx.outputs[:1]), spent),
        "locktime": (replace(tx, locktime=1), spent),
        "one signature": (with_stack(tx, (stack[0], stack[1], b"", stack[3])), spent),
        "swapped": (with_stack(tx, (stack[0], stack[2], stack[1], stack[3])), spent),
        "dummy": (with_stack(tx, (b"\x01", *stack[1:])), spent),
        "no witness": (with_stack(tx, ()), spent),
    }
    for name, (bad, prevout) in changed.items():
        with pytest.raises(InvalidRecord, match=r"inputs\[0\]"):
            verify_transaction(bad, [prevout])
            pytest.fail(name)


def with_stack(tx: Transaction, stack: tuple[bytes, ...]) -> Transaction:
    return replace(tx, inputs=(replace(tx.inputs[0], witness=stack),))


def test_an_input_that_is_not_there_is_refused() -> None:
    tx, spent = final()
    for index in (1, -1, 2**32):
        with pytest.raises(InvalidRecord, match="inputs"):
            verify_inputs(tx, [spent], [index])
    with pytest.raises(InvalidRecord, match="prevouts"):
        verify_inputs(tx, [], [0])
    with pytest.raises(InvalidRecord, match="prevouts"):
        verify_inputs(tx, [replace(spent, value=-1)], [0])
    with pytest.raises(InvalidRecord, match="prevouts"):
        verify_inputs(tx, [replace(spent, value=2**63)], [0])


def test_own_inputs_can_be_judged_before_the_peers_are_signed() -> None:
    tx, spent = final()
    joint = replace(tx, inputs=(*tx.inputs, TxIn(Outpoint(h("peer"), 0))))
    prevouts = [spent, TxOut(1000, b"\x51\x20" + h("p"))]
    with pytest.raises(InvalidRecord, match=r"inputs\[0\]"):  # signed for another transaction
        verify_inputs(joint, prevouts, [0])
    verify_inputs(tx, [spent], [])


def test_silencing_twice_does_not_abort() -> None:
    code = (
        "import threading; from p2pnode.base.kernel import quiet\n"
        "ts=[threading.Thread(target=quiet) for _ in range(8)]\n"
        "[t.start() for t in ts]; [t.join() for t in ts]; quiet()"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
