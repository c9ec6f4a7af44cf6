"""Bitcoin Core's own script interpreter, asked about one transaction at a time."""

from collections.abc import Sequence

from p2pnode.base.errors import InvalidRecord
from p2pnode.base.kernel import quiet
from p2pnode.base.transaction import TxOut


def failing_input(raw: bytes, spent: Sequence[TxOut]) -> int | None:
    """Run every input's scripts against the output that it spends, all consensus flags set.

    `spent` holds the previous outputs in the order of the inputs. Returns the number of the
    first input that fails, or None when all pass. Raises InvalidRecord if the kernel cannot
    read the transaction or the counts differ.
    """
    pbk = quiet()
    try:
        tx = pbk.Transaction(raw)
    except RuntimeError:
        raise InvalidRecord("transaction", "is not one that Bitcoin Core can read") from None
    if len(tx.inputs) != len(spent):
        raise InvalidRecord("transaction", f"does not have {len(spent)} inputs")
    outputs = [pbk.TransactionOutput(pbk.ScriptPubkey(o.script), o.value) for o in spent]
    data = pbk.script.PrecomputedTransactionData(tx, outputs)
    for number, (output, coin) in enumerate(zip(outputs, spent, strict=True)):
        try:
            passed = output.script_pubkey.verify(
                coin.value, tx, data, number, pbk.ScriptVerificationFlags.ALL
            )
        except pbk.ScriptVerifyException:  # flags it cannot combine: no verdict is a refusal
            passed = False
        if not passed:
            return number
    return None
