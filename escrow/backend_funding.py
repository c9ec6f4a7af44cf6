"""Where the funding and one's own coins are signed: own inputs alone, by index.

A wallet signs what it finds to be its own, a coin of ours that the peer declared included:
so what comes back must be the same transaction, with signatures on our inputs alone, ALL
or DEFAULT, good for our sighash and by Bitcoin Core's rules (docs/wire/transactions.md).
Raises as backend_signatures.py does; these calls block.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from escrow import sighash as own_sighash
from escrow.backend_signatures import (
    REAL,
    Opinions,
    WalletSign,
    ask_address,
    ask_consensus,
    differs,
)
from escrow.contract import Contract
from escrow.funding import Funding, FundingInput, Owner
from escrow.keys import Mismatch
from escrow.psbt import PsbtInput, Signed, build, read
from escrow.script import escrow_script
from escrow.witness import Stack, check_side, check_stack, with_witnesses
from p2pnode.base.errors import InvalidRecord, PeerFault, SecondOpinionDiffers
from p2pnode.base.transaction import Outpoint, Transaction, TxOut


def _stack_of(signed: Signed, script: bytes) -> Stack:
    """Return the witness that a wallet made, finalised or not; its check comes after."""
    if signed.final:
        return signed.final
    if own_sighash.is_p2tr(script):
        return (signed.tap_key_sig,)
    if len(signed.partial) != 1:
        raise InvalidRecord("psbt", "does not hold one signature for each input of ours")
    ((public, signature),) = signed.partial.items()
    return signature, public


def sign_funding(
    contract: Contract,
    funding: Funding,
    wallet_sign: WalletSign,
    side: Owner,
    *,
    previous: Mapping[Outpoint, bytes] | None = None,
    opinions: Opinions = REAL,
) -> list[Stack]:
    """Return the witnesses of our own inputs, in the order of the transaction's inputs.

    `previous` gives whole previous transactions to wallets that want them. Raises
    PeerFault if our wallet would sign an input that the peer declared as his,
    SecondOpinionDiffers if a check of our own signatures fails.
    """
    ask_address(contract, opinions)
    paid = TxOut(contract.escrow_sat, escrow_script(contract))
    at = funding.escrow_outpoint
    if at.txid != funding.tx.txid or funding.tx.outputs[at.vout] != paid:
        raise InvalidRecord("funding", "does not pay this contract's escrow")
    own = funding.own(side)
    if not own:
        return []  # a buyer without a deposit: no wallet is asked
    known = previous or {}
    points = (i.outpoint for i in funding.tx.inputs)
    parts = [
        PsbtInput(spent, known.get(point, b""))
        for point, spent in zip(points, funding.prevouts, strict=True)
    ]
    try:
        signed = read(wallet_sign(build(funding.tx, parts)), funding.tx)
        foreign = [i for i, found in enumerate(signed) if found and i not in own]
        if foreign:
            coin = funding.tx.inputs[foreign[0]].outpoint
            raise PeerFault(f"inputs: the peer declared our coin {coin} as his", field="inputs")
        stacks = [_stack_of(signed[i], funding.prevouts[i].script) for i in own]
        checked = check_side(funding, side, stacks, opinions.sighash)
    except InvalidRecord as error:
        raise differs(error) from None
    mine = {"buyer": checked} if side == "B" else {"seller": checked}
    ask_consensus(with_witnesses(funding, **mine), funding.prevouts, own, opinions)
    return list(checked)


def _strict(funding: Funding, side: Owner, stacks: object, opinions: Opinions) -> tuple[Stack, ...]:
    try:
        return check_side(funding, side, stacks, opinions.sighash)
    except Mismatch as error:
        _blame(funding, side, stacks, opinions)
        raise PeerFault(str(error), field=error.field) from None
    except InvalidRecord as error:
        raise PeerFault(str(error), field=error.field) from None


def _blame(funding: Funding, side: Owner, stacks: object, opinions: Opinions) -> None:
    """Return if Core's rules refuse these witnesses too; else it is our sighash that is wrong."""
    given = tuple(stacks) if isinstance(stacks, (list, tuple)) else ()
    signed = with_witnesses(funding, **{"buyer" if side == "B" else "seller": given})
    try:
        opinions.consensus(signed, funding.prevouts, funding.own(side))
    except InvalidRecord:
        return
    raise SecondOpinionDiffers(
        "sighash: Bitcoin Core's rules accept what our own check refuses; nothing was signed",
        field="sighash",
    )


def check_witnesses(
    funding: Funding, side: Owner, stacks: object, opinions: Opinions = REAL
) -> tuple[Stack, ...]:
    """Return the peer's witnesses if every one is strict and good.

    Raises PeerFault naming the one that is not; SecondOpinionDiffers if Core's rules
    refuse what our own check accepts.
    """
    checked = _strict(funding, side, stacks, opinions)
    given = {"buyer": checked} if side == "B" else {"seller": checked}
    own = funding.own(side)
    ask_consensus(with_witnesses(funding, **given), funding.prevouts, own, opinions)
    return checked


def assemble_funding(
    funding: Funding,
    witnesses_b: object,
    witnesses_s: object,
    opinions: Opinions = REAL,
) -> Transaction:
    """Return the final funding, every input past our check and Bitcoin Core's rules."""
    buyer = _strict(funding, "B", witnesses_b, opinions)
    seller = _strict(funding, "S", witnesses_s, opinions)
    final = with_witnesses(funding, buyer, seller)
    ask_consensus(final, funding.prevouts, range(len(funding.owners)), opinions)
    return final


def sign_respend(
    tx: Transaction,
    coins: Sequence[FundingInput],
    wallet_sign: WalletSign,
    opinions: Opinions = REAL,
) -> Transaction:
    """Return a side's way out (`funding.respend`), signed and past both checks."""
    spent = [TxOut(c.value, c.script) for c in coins]
    try:
        signed = read(wallet_sign(build(tx, [PsbtInput(s) for s in spent])), tx)
        stacks = (_stack_of(own, s.script) for own, s in zip(signed, spent, strict=True))
        checked = [
            check_stack(tx, n, spent, stack, f"witness[{n}]", opinions.sighash)
            for n, stack in enumerate(stacks)
        ]
    except InvalidRecord as error:
        raise differs(error) from None
    pairs = zip(tx.inputs, checked, strict=True)
    final = replace(tx, inputs=tuple(replace(i, witness=w) for i, w in pairs))
    ask_consensus(final, spent, range(len(spent)), opinions)
    return final


def sign_child(
    tx: Transaction, coin: FundingInput, wallet_sign: WalletSign, opinions: Opinions = REAL
) -> Transaction:
    """Return a child that pays for its parent (`bump.child`), signed and past both checks."""
    if [i.outpoint for i in tx.inputs] != [coin.outpoint]:
        raise InvalidRecord("coin", "is not the one output that this child spends")
    return sign_respend(tx, [coin], wallet_sign, opinions)
