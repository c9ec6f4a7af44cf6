"""What leaves the wallet: payments built by bdk and read back, PSBTs signed by input number.

bdk signs every input it can, so what it may touch is checked before and what it did is
checked after (docs/trade.md, section 1, rule 5). Formats: BIP 174; signatures are ECDSA
with SIGHASH_ALL over BIP 143 digests.
"""

from collections.abc import Collection
from typing import Any, Final

import bdkpython as bdk

from escrow import psbt
from escrow.backend_bdk import Coin, Snapshot, outpoint_of
from p2pnode.base.errors import InvalidRecord, LocalFault
from p2pnode.base.transaction import SEQUENCE_RBF, Transaction, TxOut, parse_transaction

SIGHASH_ALL: Final = 1
MAX_PSBT: Final = 6_000_000  # characters: 16 inputs with a previous transaction of 100 KB each
_SIGN: Final = bdk.SignOptions(
    trust_witness_utxo=True,  # value and script of each are compared with our chain's first
    assume_height=None,
    allow_all_sighashes=False,
    try_finalize=True,
    sign_with_tap_internal_key=False,
    allow_grinding=True,
)


def _parse(raw: bytes) -> Transaction:
    return parse_transaction("psbt", raw)


def build(
    snapshot: Snapshot, spendable: Collection[Coin], to: TxOut, change: bytes, rate: int
) -> bytes:
    """Return a signed payment from `spendable` coins alone. Raises LocalFault.

    The result is read back and compared with what was asked before it is returned.
    """
    free = {coin.outpoint for coin in spendable}
    barred = [
        o.outpoint for o in snapshot.wallet.list_unspent() if outpoint_of(o.outpoint) not in free
    ]
    builder = (
        bdk.TxBuilder()
        .add_recipient(bdk.Script(to.script), bdk.Amount.from_sat(to.value))
        .fee_rate(bdk.FeeRate.from_sat_per_vb(rate))
        .unspendable(barred)
        .exclude_unconfirmed()
        .set_exact_sequence(SEQUENCE_RBF)
        .drain_to(bdk.Script(change))
    )
    try:
        made = builder.finish(snapshot.wallet)
    except bdk.CreateTxError.CoinSelection:
        raise LocalFault("not enough funds", field="amount_sat") from None
    except bdk.CreateTxError.OutputBelowDustLimit:
        raise LocalFault("amount_sat: is too little to be relayed", field="amount_sat") from None
    except bdk.CreateTxError as error:
        raise LocalFault(f"the payment cannot be built: {type(error).__name__}") from None
    if not snapshot.wallet.sign(made, _SIGN):
        raise LocalFault("the payment could not be signed")
    raw = bytes(made.extract_tx().serialize())
    tx = _parse(raw)
    rest = list(tx.outputs)
    if to not in rest or not {i.outpoint for i in tx.inputs} <= free:
        raise LocalFault("the payment built is not the one asked for; nothing was sent")
    rest.remove(to)
    if any(output.script != change for output in rest):
        raise LocalFault("the payment built pays a stranger; nothing was sent")
    return raw


def sign(snapshot: Snapshot, text: str, only: Collection[int]) -> str:
    """Sign the inputs `only` of a PSBT and no other. Raises InvalidRecord; then nothing leaves.

    Each input to sign must be a coin of ours with the value and script that our chain
    shows; an input of ours outside `only` is refused, for bdk would sign it.
    """
    if len(text) > MAX_PSBT:
        raise InvalidRecord("psbt", f"is longer than {MAX_PSBT} characters")
    try:
        parsed = bdk.Psbt(text)
    except bdk.PsbtParseError:
        raise InvalidRecord("psbt", "is not a PSBT in base64") from None
    tx = _parse(bytes(parsed.extract_tx_unchecked_fee_rate().serialize()))
    before = psbt.read(text, tx)  # before bdk lists inputs: it fails on fields it does not know
    if not only or not set(only) <= set(range(len(before))):
        raise InvalidRecord("psbt", "does not have the inputs to sign")
    for n, (entry, txin) in enumerate(zip(parsed.input(), tx.inputs, strict=True)):
        coin = snapshot.outputs.get(txin.outpoint)
        if n in only:
            _check_own(n, entry, coin)
        elif coin is not None:
            raise InvalidRecord("psbt", f"input {n} is a coin of ours that was not ours to give")
    try:
        snapshot.wallet.sign(parsed, _SIGN)
    except bdk.SignerError:
        raise InvalidRecord("psbt", "cannot be signed") from None
    signed = str(parsed.serialize())
    for n, (old, new) in enumerate(zip(before, psbt.read(signed, tx), strict=True)):
        if n not in only and old != new:
            raise InvalidRecord("psbt", f"input {n} gained a signature that was not asked for")
        if n in only and not (len(new.final) == 2 and new.final[0][-1:] == bytes([SIGHASH_ALL])):
            raise InvalidRecord("psbt", f"input {n} could not be signed with SIGHASH_ALL")
    return signed


def _check_own(n: int, entry: Any, coin: Coin | None) -> None:
    if coin is None:
        raise InvalidRecord("psbt", f"input {n} is no coin of ours")
    utxo = entry.witness_utxo
    if utxo is None:
        raise InvalidRecord("psbt", f"input {n} does not say what it spends")
    said = (utxo.value.to_sat(), bytes(utxo.script_pubkey.to_bytes()))
    if said != (coin.value, coin.script):
        raise InvalidRecord("psbt", f"input {n} differs from the coin on our chain")
    if entry.sighash_type not in (None, "SIGHASH_ALL"):
        raise InvalidRecord("psbt", f"input {n} asks for another sighash than ALL")
