"""A child that pays for its parent: raising the fee of a payout or a funding that waits.

Neither can be signed again by one side alone; but whoever has an output of it can spend
that output at once, at a fee that makes miners take both (child pays for parent). Pure;
the signing is `backend_funding.sign_child`. Values in satoshi, rates in sat/vB.
"""

from typing import Final

from escrow.contract import MAX_RATE, check_script
from escrow.declared import FundingInput
from escrow.funding import BASE_WEIGHT, MIN_OUTPUT, fee_for, input_weight, output_weight
from escrow.sighash import is_p2tr, is_p2wpkh
from p2pnode.base import wire
from p2pnode.base.errors import LocalFault
from p2pnode.base.transaction import SEQUENCE_RBF, Outpoint, Transaction, TxIn, TxOut
from p2pnode.base.units import MAX_SAT

FEE_SHARE: Final = 2  # a child's fee is at most half of the output that it spends


def coin(parent: Transaction, vout: int) -> FundingInput:
    """Return the output that a child spends, as signers want it. Raises LocalFault."""
    if not 0 <= vout < len(parent.outputs):
        raise LocalFault("the transaction has no such output", field="vout")
    spent = parent.outputs[vout]
    if not (is_p2wpkh(spent.script) or is_p2tr(spent.script)):
        raise LocalFault("the output is not one that this wallet could spend", field="vout")
    return FundingInput(Outpoint(parent.txid, vout), spent.value, spent.script)


def child(
    parent: Transaction, vout: int, parent_fee: int, to_script: bytes, rate: int
) -> Transaction:
    """Return the child, unsigned, with which parent and child together pay `rate`.

    `parent` is the whole transaction, witnesses included, unconfirmed; `parent_fee` what
    it pays itself. A child at a higher rate replaces this one (BIP 125): each whole sat/vB
    more pays for its own relay. Raises LocalFault saying why there can be none.
    """
    spent = coin(parent, vout)
    check_script("to_script", to_script)
    wire.within("parent_fee", parent_fee, 0, MAX_SAT)
    if type(rate) is not int or not 1 <= rate <= MAX_RATE:
        raise LocalFault(f"a fee rate is 1 to {MAX_RATE} sat/vB", field="rate")
    if any(not i.witness for i in parent.inputs):
        raise LocalFault("the transaction to be hurried is not whole", field="parent")
    if parent_fee >= rate * parent.vsize:
        pays = parent_fee // parent.vsize
        raise LocalFault(f"it pays {pays} sat/vB by itself already", field="rate")
    weight = BASE_WEIGHT + input_weight(spent.script) + output_weight(to_script)
    fee = fee_for(rate, 4 * (parent.vsize + -(-weight // 4))) - parent_fee
    if fee > spent.value // FEE_SHARE or spent.value - fee < MIN_OUTPUT:
        raise LocalFault(
            f"{rate} sat/vB would cost {fee} sat of an output of {spent.value} sat: "
            f"at most half of it, and {MIN_OUTPUT} sat must be left",
            field="rate",
        )
    inputs = (TxIn(spent.outpoint, SEQUENCE_RBF),)
    return Transaction(2, inputs, (TxOut(spent.value - fee, to_script),), 0)
