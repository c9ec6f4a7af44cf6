"""The last judge before a transaction leaves: Bitcoin Core's own script validation.

A second opinion, never the only one. Blocks for microseconds; no chain is needed, the
outputs spent come from one's own chain. Loaded when first asked.
"""

from collections.abc import Iterable, Sequence

from p2pnode.base.errors import InvalidRecord
from p2pnode.base.kernel import quiet
from p2pnode.base.transaction import Transaction, TxOut, checked_value


def verify_inputs(tx: Transaction, prevouts: Sequence[TxOut], indexes: Iterable[int]) -> None:
    """Run the named inputs under every consensus flag. Raises InvalidRecord naming one.

    `prevouts` are the outputs spent, in input order; the other inputs need no witness.
    """
    if len(prevouts) != len(tx.inputs):
        raise InvalidRecord("prevouts", "do not match the inputs")
    kernel = quiet()
    from pbk.script import PrecomputedTransactionData

    parsed = kernel.Transaction(tx.serialize())
    outputs = [
        kernel.TransactionOutput(
            kernel.ScriptPubkey(spent.script), checked_value("prevouts", spent.value)
        )
        for spent in prevouts
    ]
    data = PrecomputedTransactionData(parsed, outputs)
    flags = kernel.ScriptVerificationFlags.ALL
    for index in indexes:
        if not 0 <= index < len(outputs):
            raise InvalidRecord("inputs", f"has no number {index}")
        script = outputs[index].script_pubkey
        if not script.verify(prevouts[index].value, parsed, data, index, flags):
            raise InvalidRecord(f"inputs[{index}]", "fails Bitcoin's script rules")


def verify_transaction(tx: Transaction, prevouts: Sequence[TxOut]) -> None:
    """Run every input under every consensus flag. Raises InvalidRecord naming one."""
    verify_inputs(tx, prevouts, range(len(tx.inputs)))
