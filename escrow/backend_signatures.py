"""The only place where a trade's signatures are made: rebuild, sign, ask others, then let go.

Every transaction here is rebuilt from the contract. Before a signature leaves:

    every role        the escrow's address by bitcoinlib equals ours
    first signer      his signature is good for OUR sighash, by libsecp256k1
    completer         the same, then the peer's signature, then Bitcoin Core's script rules
    funding           own inputs alone signed, ALL or DEFAULT, by our sighash and by Core's

A disagreement is SecondOpinionDiffers: nothing leaves. A peer's bad signature is
PeerFault. These calls block (bdk releases the GIL): run them in a worker thread.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import bdkpython as bdk

from escrow import backend_consensus, backend_second
from escrow import sighash as own_sighash
from escrow.backend_keys import TradeKey
from escrow.contract import Contract
from escrow.funding import Funding, FundingInput, Owner
from escrow.keys import Mismatch, verify_ecdsa
from escrow.payout import Payout, Split, build_payout
from escrow.psbt import PsbtInput, Signed, build, read
from escrow.script import (
    descriptor,
    escrow_address,
    escrow_keys,
    escrow_script,
    witness_script,
    witness_stack,
)
from escrow.witness import SighashOf, Stack, check_side, check_stack, with_witnesses
from p2pnode.base.errors import InvalidRecord, LocalFault, PeerFault, SecondOpinionDiffers
from p2pnode.base.transaction import Outpoint, Transaction, TxOut

WalletSign = Callable[[str], str]  # a PSBT in base64, to the same with our signatures

_NETWORKS: Final = {
    "main": bdk.Network.BITCOIN,
    "testnet4": bdk.Network.TESTNET4,
    "signet": bdk.Network.SIGNET,
    "regtest": bdk.Network.REGTEST,
}


@dataclass(frozen=True)
class Opinions:
    """The three second opinions; a test puts a differing one in."""

    address: Callable[[Contract], str] = backend_second.escrow_address
    sighash: SighashOf = own_sighash.sighash
    consensus: Callable[[Transaction, Sequence[TxOut], Iterable[int]], None] = (
        backend_consensus.verify_inputs
    )


REAL: Final = Opinions()


# ------------------------------------------------------------------ what is asked


def _ask_address(contract: Contract, opinions: Opinions) -> None:
    if opinions.address(contract) != escrow_address(contract):
        raise SecondOpinionDiffers(
            "address: another implementation derives another escrow address; nothing was signed",
            field="address",
        )


def _ask_consensus(
    tx: Transaction, prevouts: Sequence[TxOut], indexes: Iterable[int], opinions: Opinions
) -> None:
    try:
        opinions.consensus(tx, prevouts, indexes)
    except InvalidRecord as error:
        raise SecondOpinionDiffers(
            f"consensus: Bitcoin Core's rules refuse what our checks accept ({error}); "
            "nothing was sent",
            field="consensus",
        ) from None


def _differs(error: InvalidRecord) -> SecondOpinionDiffers:
    return SecondOpinionDiffers(
        f"sighash: our own signature does not pass our own check ({error}); nothing was sent",
        field="sighash",
    )


# ------------------------------------------------------------------ payouts


def _wallet(contract: Contract, key: TradeKey) -> bdk.Wallet:
    """Return a throwaway wallet that holds one secret among the contract's public keys."""
    network = contract.network.bitcoin
    kind = bdk.NetworkKind.MAIN if network == "main" else bdk.NetworkKind.TEST
    text = descriptor(contract, {key.public: key.wif()})
    wallet = bdk.Wallet.create_single(
        bdk.Descriptor(text, kind), _NETWORKS[network], bdk.Persister.new_in_memory()
    )
    first = wallet.peek_address(bdk.KeychainKind.EXTERNAL, 0).address
    if bytes(first.script_pubkey().to_bytes()) != escrow_script(contract):
        raise SecondOpinionDiffers(
            "address: the signing library derives another escrow script; nothing was signed",
            field="address",
        )
    return wallet


def _sign_payout(contract: Contract, payout: Payout, key: TradeKey, opinions: Opinions) -> bytes:
    """Return our signature on the payout, already past the address and the sighash."""
    if key.public not in escrow_keys(contract):
        raise LocalFault("this wallet holds no key of that escrow", field="key")
    _ask_address(contract, opinions)
    script = witness_script(contract)
    psbt = bdk.Psbt(build(payout.tx, [PsbtInput(payout.prevout, witness_script=script)]))
    _wallet(contract, key).sign(
        psbt,
        bdk.SignOptions(
            trust_witness_utxo=True,
            assume_height=None,
            allow_all_sighashes=False,
            try_finalize=False,
            sign_with_tap_internal_key=False,
            allow_grinding=True,
        ),
    )
    try:
        (signed,) = read(psbt.serialize(), payout.tx)
        digest = opinions.sighash(payout.tx, 0, [payout.prevout], script)
        return verify_ecdsa(key.public, digest, _only(signed, key.public), "signature")
    except InvalidRecord as error:
        raise _differs(error) from None


def _only(signed: Signed, public: bytes) -> bytes:
    if signed.final or signed.tap_key_sig or signed.partial.keys() != {public}:
        raise InvalidRecord("signature", "is not exactly one, by our own key")
    return signed.partial[public]


def first_sign(
    contract: Contract,
    outpoint: Outpoint,
    split: Split,
    rate: int | None,
    key: TradeKey,
    opinions: Opinions = REAL,
) -> bytes:
    """Return our signature (DER and sighash byte) on the payout of `split`.

    Raises InvalidRecord for a split that is none, SecondOpinionDiffers, LocalFault.
    """
    return _sign_payout(contract, build_payout(contract, outpoint, split, rate), key, opinions)


def complete(
    contract: Contract,
    outpoint: Outpoint,
    split: Split,
    rate: int | None,
    key: TradeKey,
    other_public: bytes,
    other_signature: object,
    opinions: Opinions = REAL,
) -> Transaction:
    """Return the payout of `split` with both signatures, past Bitcoin Core's script rules.

    Raises InvalidRecord for a split that is none, PeerFault for the other's signature,
    SecondOpinionDiffers, LocalFault.
    """
    payout = build_payout(contract, outpoint, split, rate)
    own = _sign_payout(contract, payout, key, opinions)
    if other_public == key.public or other_public not in escrow_keys(contract):
        raise PeerFault("signature: is by no other key of this contract", field="signature")
    script = witness_script(contract)
    try:
        digest = opinions.sighash(payout.tx, 0, [payout.prevout], script)
        theirs = verify_ecdsa(other_public, digest, other_signature, "signature")
    except InvalidRecord as error:
        raise PeerFault(str(error), field="signature") from None
    stack = witness_stack(contract, {key.public: own, other_public: theirs})
    final = replace(payout.tx, inputs=(replace(payout.tx.inputs[0], witness=stack),))
    _ask_consensus(final, [payout.prevout], [0], opinions)
    return final


# ------------------------------------------------------------------ funding


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
    _ask_address(contract, opinions)
    paid = TxOut(contract.escrow_sat, escrow_script(contract))
    at = funding.escrow_outpoint
    if at.txid != funding.tx.txid or funding.tx.outputs[at.vout] != paid:
        raise InvalidRecord("funding", "does not pay this contract's escrow")
    known = previous or {}
    points = (i.outpoint for i in funding.tx.inputs)
    parts = [
        PsbtInput(spent, known.get(point, b""))
        for point, spent in zip(points, funding.prevouts, strict=True)
    ]
    own = funding.own(side)
    try:
        signed = read(wallet_sign(build(funding.tx, parts)), funding.tx)
        foreign = [i for i, found in enumerate(signed) if found and i not in own]
        if foreign:
            coin = funding.tx.inputs[foreign[0]].outpoint
            raise PeerFault(f"inputs: the peer declared our coin {coin} as his", field="inputs")
        stacks = [_stack_of(signed[i], funding.prevouts[i].script) for i in own]
        checked = check_side(funding, side, stacks, opinions.sighash)
    except InvalidRecord as error:
        raise _differs(error) from None
    mine = {"buyer": checked} if side == "B" else {"seller": checked}
    _ask_consensus(with_witnesses(funding, **mine), funding.prevouts, own, opinions)
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
    _ask_consensus(with_witnesses(funding, **given), funding.prevouts, own, opinions)
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
    _ask_consensus(final, funding.prevouts, range(len(funding.owners)), opinions)
    return final


def sign_respend(
    tx: Transaction,
    coins: Sequence[FundingInput],
    wallet_sign: WalletSign,
    opinions: Opinions = REAL,
) -> Transaction:
    """Return the buyer's way out (`funding.respend`), signed and past both checks."""
    spent = [TxOut(c.value, c.script) for c in coins]
    try:
        signed = read(wallet_sign(build(tx, [PsbtInput(s) for s in spent])), tx)
        stacks = (_stack_of(own, s.script) for own, s in zip(signed, spent, strict=True))
        checked = [
            check_stack(tx, n, spent, stack, f"witness[{n}]", opinions.sighash)
            for n, stack in enumerate(stacks)
        ]
    except InvalidRecord as error:
        raise _differs(error) from None
    pairs = zip(tx.inputs, checked, strict=True)
    final = replace(tx, inputs=tuple(replace(i, witness=w) for i, w in pairs))
    _ask_consensus(final, spent, range(len(spent)), opinions)
    return final
