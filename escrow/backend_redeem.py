"""The signatures of a spend of bonds: made over our sighash, judged by Bitcoin Core's rules.

`<t> CLTV DROP <key> CHECKSIG` is no miniscript, so no wallet library signs it: the key signs
our own BIP 143 hash, and Core's script rules then run every input of the whole transaction.
"""

from collections.abc import Sequence
from dataclasses import replace

from escrow.backend_keys import TradeKey
from escrow.backend_signatures import Opinions
from escrow.keys import verify_ecdsa
from escrow.redeem import Redeem
from p2pnode.base.errors import InvalidRecord, LocalFault, SecondOpinionDiffers
from p2pnode.base.transaction import Transaction


def sign_redeem(redeem: Redeem, keys: Sequence[TradeKey], opinions: Opinions) -> Transaction:
    """Return the spend with its witnesses; `keys` in input order.

    Raises LocalFault for a coin of another key, SecondOpinionDiffers where a check fails.
    """
    inputs = list(redeem.tx.inputs)
    try:
        for n, (coin, key) in enumerate(zip(redeem.coins, keys, strict=True)):
            if key.public != coin.key:
                raise LocalFault(f"this wallet holds no key of inputs[{n}]: nothing was signed")
            script = coin.witness_script
            digest = opinions.sighash(redeem.tx, n, redeem.prevouts, script)
            signature = verify_ecdsa(key.public, digest, key.sign_ecdsa(digest), f"witness[{n}]")
            inputs[n] = replace(inputs[n], witness=(signature, script))
        final = replace(redeem.tx, inputs=tuple(inputs))
        opinions.consensus(final, redeem.prevouts, range(len(inputs)))
    except InvalidRecord as error:
        raise SecondOpinionDiffers(
            f"{error.field}: a second opinion refuses our own spend of a bond ({error}); "
            "nothing was sent",
            field=error.field,
        ) from None
    return final
