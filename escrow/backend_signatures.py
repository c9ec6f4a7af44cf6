"""Where a trade's payouts are signed: rebuild, sign, ask others, then let go.

Every transaction here is rebuilt from the contract. Before a signature leaves:

    every role        the escrow's address by bitcoinlib, and by bdk, equals ours
    first signer      his signature is good for OUR sighash, by libsecp256k1
    completer         the same, then the peer's signature, then Bitcoin Core's script rules
    funding           own inputs alone signed, ALL or DEFAULT, by our sighash and by Core's
                      (backend_funding.py)

Signatures come in pairs, at the two rates of `payout_rates`, and both are checked. A
disagreement is SecondOpinionDiffers: nothing leaves. A peer's bad signature is PeerFault.
These calls block (bdk releases the GIL): run them in a worker thread.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Final

import bdkpython as bdk

from escrow import backend_consensus, backend_second
from escrow import sighash as own_sighash
from escrow.backend_keys import TradeKey
from escrow.contract import Contract
from escrow.keys import verify_ecdsa
from escrow.payout import Payout, Split, build_payout, payout_rates
from escrow.psbt import PsbtInput, Signed, build, read
from escrow.script import (
    REMEMBERED,
    Branch,
    descriptor,
    escrow_address,
    escrow_keys,
    escrow_script,
    witness_script,
    witness_stack,
)
from escrow.witness import SighashOf
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, LocalFault, PeerFault, SecondOpinionDiffers
from p2pnode.base.transaction import Outpoint, Transaction, TxOut

WalletSign = Callable[[str], str]  # a PSBT in base64, to the same with our signatures
Pair = tuple[bytes, bytes]  # at the contract's rate, at the raised one

# BIP 341's point whose secret nobody knows.
NOBODY: Final = "0250929b74c1a04954b78b4b6035e97a5e078a5a0f28ec96d547bfee9ace803ac0"
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


def ask_address(contract: Contract, opinions: Opinions) -> None:
    """Compare the escrow's address with two other implementations'. SecondOpinionDiffers."""
    address, script = _told(contract, opinions.address)
    if address != escrow_address(contract):
        raise SecondOpinionDiffers(
            "address: another implementation derives another escrow address; nothing was signed",
            field="address",
        )
    if script != escrow_script(contract):
        raise SecondOpinionDiffers(
            "address: the signing library derives another escrow script; nothing was signed",
            field="address",
        )


@lru_cache(maxsize=REMEMBERED)
def _told(contract: Contract, address: Callable[[Contract], str]) -> tuple[str, bytes]:
    """Return what `address` says, and the output script that bdk makes of our descriptor."""
    network = _NETWORKS[contract.network.bitcoin]
    derived = bdk.Descriptor(descriptor(contract), _kind(contract)).derive_address(0, network)
    return address(contract), bytes(derived.script_pubkey().to_bytes())


def _kind(contract: Contract) -> bdk.NetworkKind:
    return bdk.NetworkKind.MAIN if contract.network.bitcoin == "main" else bdk.NetworkKind.TEST


def ask_consensus(
    tx: Transaction, prevouts: Sequence[TxOut], indexes: Iterable[int], opinions: Opinions
) -> None:
    """Run inputs that our checks accept by Bitcoin Core's rules. SecondOpinionDiffers."""
    try:
        opinions.consensus(tx, prevouts, indexes)
    except InvalidRecord as error:
        raise SecondOpinionDiffers(
            f"consensus: Bitcoin Core's rules refuse what our checks accept ({error}); "
            "nothing was sent",
            field="consensus",
        ) from None


def differs(error: InvalidRecord) -> SecondOpinionDiffers:
    """Return what to raise where a signature of ours fails a check of ours."""
    return SecondOpinionDiffers(
        f"sighash: our own signature does not pass our own check ({error}); nothing was sent",
        field="sighash",
    )


# ------------------------------------------------------------------ payouts


@cache
def _hand() -> bdk.Wallet:
    """Return the wallet through which bdk signs: it holds no secret and owns nothing.

    One for each trade would take longer to make than all of its signatures.
    """
    nobody = bdk.Descriptor(f"wsh(pk({NOBODY}))", bdk.NetworkKind.TEST)
    memory = bdk.Persister.new_in_memory()
    return bdk.Wallet.create_single(nobody, bdk.Network.REGTEST, memory)


def _signers(contract: Contract, key: TradeKey) -> bdk.SignersContainer:
    """Return what signs with our one key, whatever the script that holds it."""
    alone = bdk.Descriptor(f"wsh(pk({key.wif()}))", _kind(contract))
    return bdk.SignersContainer.from_descriptor(alone)


def _sign_payouts(
    contract: Contract,
    payouts: Sequence[Payout],
    key: TradeKey,
    branch: Branch,
    opinions: Opinions,
) -> list[bytes]:
    """Return our signature on each payout, already past the address and the sighash."""
    if key.public not in escrow_keys(contract, branch):
        raise LocalFault("this wallet holds no key of that escrow", field="key")
    ask_address(contract, opinions)
    signers, script = _signers(contract, key), witness_script(contract)
    options = bdk.SignOptions(
        trust_witness_utxo=True,
        assume_height=None,
        allow_all_sighashes=False,
        try_finalize=False,
        sign_with_tap_internal_key=False,
        allow_grinding=True,
    )
    made = []
    for payout in payouts:
        psbt = bdk.Psbt(build(payout.tx, [PsbtInput(payout.prevout, witness_script=script)]))
        _hand().sign_with_signers(psbt, [signers], options)
        try:
            (signed,) = read(psbt.serialize(), payout.tx)
            digest = opinions.sighash(payout.tx, 0, [payout.prevout], script)
            own = _only(signed, key.public)
            made.append(verify_ecdsa(key.public, digest, own, "signature"))
        except InvalidRecord as error:
            raise differs(error) from None
    return made


def _only(signed: Signed, public: bytes) -> bytes:
    if signed.final or signed.tap_key_sig or signed.partial.keys() != {public}:
        raise InvalidRecord("signature", "is not exactly one, by our own key")
    return signed.partial[public]


def _at_both_rates(
    contract: Contract, outpoint: Outpoint, split: Split, branch: Branch
) -> list[Payout]:
    rates = payout_rates(contract)
    return [build_payout(contract, outpoint, split, rate, branch) for rate in rates]


def first_sign(
    contract: Contract,
    outpoint: Outpoint,
    split: Split,
    key: TradeKey,
    branch: Branch = Branch.MAIN,
    opinions: Opinions = REAL,
) -> Pair:
    """Return our signatures (DER and sighash byte) on the payouts of `split`.

    Raises InvalidRecord for a split that is none, SecondOpinionDiffers, LocalFault.
    """
    payouts = _at_both_rates(contract, outpoint, split, branch)
    low, raised = _sign_payouts(contract, payouts, key, branch, opinions)
    return low, raised


def complete(
    contract: Contract,
    outpoint: Outpoint,
    split: Split,
    key: TradeKey,
    other_public: bytes,
    other_signatures: object,
    branch: Branch = Branch.MAIN,
    opinions: Opinions = REAL,
) -> tuple[Transaction, Transaction]:
    """Return the payouts of `split` with both signatures, past Bitcoin Core's script rules.

    Raises InvalidRecord for a split that is none, PeerFault for the other's signatures,
    SecondOpinionDiffers, LocalFault.
    """
    payouts = _at_both_rates(contract, outpoint, split, branch)
    own = _sign_payouts(contract, payouts, key, branch, opinions)
    if other_public == key.public or other_public not in escrow_keys(contract, branch):
        raise PeerFault("signatures: are by no other key of this contract", field="signatures")
    script = witness_script(contract)
    made = []
    try:
        theirs = wire.fields("signatures", other_signatures, 2)
        for n, payout in enumerate(payouts):
            digest = opinions.sighash(payout.tx, 0, [payout.prevout], script)
            other = verify_ecdsa(other_public, digest, theirs[n], f"signatures[{n}]")
            signatures = {key.public: own[n], other_public: other}
            stack = witness_stack(contract, signatures, branch)
            made.append(replace(payout.tx, inputs=(replace(payout.tx.inputs[0], witness=stack),)))
    except InvalidRecord as error:
        raise PeerFault(str(error), field=error.field) from None
    low, raised = made
    for final, payout in zip(made, payouts, strict=True):
        ask_consensus(final, [payout.prevout], [0], opinions)
    return low, raised
