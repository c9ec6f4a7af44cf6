"""Bitcoin Core's own script interpreter (libbitcoinkernel, `import pbk`), asked one question.

Every import of the kernel goes through here or calls `quiet()` first: without a logger the
library keeps its log lines, and telling it so twice in one process aborts that process.
"""

from collections.abc import Sequence
from typing import Any, Final

import pbk
from pbk.capi import bindings
from pbk.script import PrecomputedTransactionData
from pbk.util.exc import KernelException

from p2pnode.base.errors import InvalidRecord
from p2pnode.base.transaction import TxOut

_DONE: Final = "_p2pnode_quiet"  # kept on the library's module: one flag a process


def quiet() -> None:
    """Tell the kernel that nobody reads its log; only the first call does anything."""
    library: Any = pbk
    if not hasattr(library, _DONE):
        setattr(library, _DONE, True)
        bindings.btck_logging_disable()


def failing_input(raw: bytes, spent: Sequence[TxOut]) -> int | None:
    """Run every input's scripts against the output that it spends, all consensus flags set.

    `spent` holds the previous outputs in the order of the inputs. Returns the number of the
    first input that fails, or None when all pass. Raises InvalidRecord if the kernel cannot
    read the transaction or the counts differ.
    """
    quiet()
    try:
        tx = pbk.Transaction(raw)
    except RuntimeError:
        raise InvalidRecord("transaction", "is not one that Bitcoin Core can read") from None
    if len(tx.inputs) != len(spent):
        raise InvalidRecord("transaction", f"does not have {len(spent)} inputs")
    outputs = [pbk.TransactionOutput(pbk.ScriptPubkey(o.script), o.value) for o in spent]
    data = PrecomputedTransactionData(tx, outputs)
    for number, (output, coin) in enumerate(zip(outputs, spent, strict=True)):
        try:
            passed = output.script_pubkey.verify(
                coin.value, tx, data, number, pbk.ScriptVerificationFlags.ALL
            )
        except KernelException:
            passed = False
        if not passed:
            return number
    return None


quiet()
