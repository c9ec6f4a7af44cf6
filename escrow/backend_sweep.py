"""The signatures of an arbiter's withdrawal: made by bdk, judged by ours and by Bitcoin Core's.

Each earned output has a key of its own. For each key a throwaway wallet signs over
rust-bitcoin's sighash; our sighash and the script rules then check what it made, so that a
mistake in either implementation stops the withdrawal. Blocks; run it in a worker thread.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import bdkpython as bdk

from escrow.backend_bdk import NETWORKS
from escrow.backend_keys import TradeKey
from escrow.backend_signatures import Opinions
from escrow.earnings import Sweep
from escrow.psbt import PsbtInput, build, read
from escrow.script import p2wpkh
from escrow.witness import check_stack
from p2pnode.base.errors import InvalidRecord, LocalFault, SecondOpinionDiffers
from p2pnode.base.networks import Network
from p2pnode.base.transaction import Transaction

_SIGN: Final = bdk.SignOptions(
    trust_witness_utxo=True,  # the outputs come from our own chain
    assume_height=None,
    allow_all_sighashes=False,
    try_finalize=False,
    sign_with_tap_internal_key=False,
    allow_grinding=True,
)


def sign_sweep(
    sweep: Sweep, keys: Sequence[TradeKey], network: Network, opinions: Opinions
) -> Transaction:
    """Return the sweep with its witnesses; `keys` in input order.

    Every signature is checked against our own sighash, the whole by Bitcoin Core's script
    rules. Raises LocalFault for an output that is not P2WPKH of its key, SecondOpinionDiffers.
    """
    for n, (spent, key) in enumerate(zip(sweep.prevouts, keys, strict=True)):
        if spent.script != p2wpkh(key.public):
            raise LocalFault(f"this wallet holds no key of inputs[{n}]: nothing was signed")
    inputs = list(sweep.tx.inputs)
    try:
        for key in {key.public: key for key in keys}.values():
            signed = read(_signed(sweep, key, network), sweep.tx)
            for n in (n for n, owner in enumerate(keys) if owner.public == key.public):
                made = (signed[n].partial.get(key.public, b""), key.public)
                field = f"witness[{n}]"
                stack = check_stack(sweep.tx, n, sweep.prevouts, made, field, opinions.sighash)
                inputs[n] = replace(inputs[n], witness=stack)
        final = replace(sweep.tx, inputs=tuple(inputs))
        opinions.consensus(final, sweep.prevouts, range(len(inputs)))
    except InvalidRecord as error:
        raise SecondOpinionDiffers(
            f"{error.field}: a second opinion refuses our own withdrawal ({error}); "
            "nothing was sent",
            field=error.field,
        ) from None
    return final


def _signed(sweep: Sweep, key: TradeKey, network: Network) -> str:
    """Return the sweep's PSBT as a wallet of this one key signs it, its own inputs alone."""
    own = p2wpkh(key.public)
    kind = bdk.NetworkKind.MAIN if network.bitcoin == "main" else bdk.NetworkKind.TEST
    wallet = bdk.Wallet.create_single(
        bdk.Descriptor(f"wpkh({key.wif()})", kind),
        NETWORKS[network.bitcoin],
        bdk.Persister.new_in_memory(),
    )
    told = [PsbtInput(spent, final=spent.script != own) for spent in sweep.prevouts]
    psbt = bdk.Psbt(build(sweep.tx, told))
    try:
        wallet.sign(psbt, _SIGN)  # a wallet of one bare key signs whatever is not marked as done
    except bdk.SignerError:
        raise InvalidRecord("psbt", "cannot be signed") from None
    return str(psbt.serialize())
