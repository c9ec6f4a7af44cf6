"""Witness stacks of the funding's inputs: their one shape, their strict check, their place.

P2WPKH: [DER signature of low S with sighash ALL, compressed key]. P2TR key path:
[64 bytes], which is sighash DEFAULT. Nothing else is taken, from a peer or from one's
own wallet. Pure; Bitcoin Core's judgement comes after (backend_consensus.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from escrow import sighash as own_sighash
from escrow.funding import Funding, Owner
from escrow.keys import verify_ecdsa, verify_schnorr
from escrow.script import p2wpkh
from escrow.sighash import is_p2tr, is_p2wpkh
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.transaction import Transaction, TxOut

Stack = tuple[bytes, ...]
SighashOf = Callable[[Transaction, int, Sequence[TxOut], bytes | None], bytes]


def check_stack(
    tx: Transaction,
    index: int,
    prevouts: Sequence[TxOut],
    stack: object,
    field: str,
    sighash: SighashOf = own_sighash.sighash,
) -> Stack:
    """Return the witness of one input if its form and signature are good. InvalidRecord."""
    script = prevouts[index].script
    if is_p2tr(script):
        (signature,) = wire.fields(field, stack, 1)
        digest = sighash(tx, index, prevouts, None)
        verify_schnorr(script[2:], digest, signature, field)
        return (signature,)
    if not is_p2wpkh(script):
        raise InvalidRecord(field, "is of an input that is neither P2WPKH nor P2TR")
    signature, public = wire.fields(field, stack, 2)
    if p2wpkh(wire.exact(field, public, 33)) != script:
        raise InvalidRecord(field, "has a key that is not this coin's")
    verify_ecdsa(public, sighash(tx, index, prevouts, None), signature, field)
    return signature, public


def check_side(
    funding: Funding,
    side: Owner,
    stacks: object,
    sighash: SighashOf = own_sighash.sighash,
) -> tuple[Stack, ...]:
    """Return one side's witnesses, in the order of its inputs in the transaction."""
    field = f"witness_{side.lower()}"
    own = funding.own(side)
    given = tuple(stacks) if isinstance(stacks, list) else stacks
    return tuple(
        check_stack(funding.tx, index, funding.prevouts, stack, f"{field}[{n}]", sighash)
        for n, (index, stack) in enumerate(
            zip(own, wire.fields(field, given, len(own)), strict=True)
        )
    )


def with_witnesses(
    funding: Funding, buyer: Sequence[Stack] = (), seller: Sequence[Stack] = ()
) -> Transaction:
    """Return the transaction with the witnesses in their places; a side may be left out."""
    left = {"B": iter(buyer), "S": iter(seller)}
    inputs = tuple(
        replace(i, witness=next(left[owner], ()))
        for i, owner in zip(funding.tx.inputs, funding.owners, strict=True)
    )
    return replace(funding.tx, inputs=inputs)
