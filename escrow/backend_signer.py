"""What leaves the wallet: payments built by bdk and read back, PSBTs signed by input number.

bdk signs every input it can, so what it may touch is checked before and what it did is
checked after (docs/trade.md, section 1, rule 5). A payment is read back whole: inputs,
outputs, fee, each signature over our own sighash, and Bitcoin Core's script rules. Formats:
BIP 174; signatures are ECDSA with SIGHASH_ALL over BIP 143 digests.
"""

from collections.abc import Collection, Sequence
from typing import Any, Final

import bdkpython as bdk

from escrow import psbt
from escrow.backend_bdk import Coin, Snapshot, outpoint_of
from escrow.backend_signatures import REAL, Opinions
from escrow.witness import check_stack
from p2pnode.base.errors import InvalidRecord, LocalFault, SecondOpinionDiffers
from p2pnode.base.transaction import SEQUENCE_RBF, Transaction, TxOut, parse_transaction

SIGHASH_ALL: Final = 1
MAX_PSBT: Final = 6_000_000  # characters: 16 inputs with a previous transaction of 100 KB each
FEE_SHARE: Final = 4  # a payment's fee is at most a quarter of it …
TINY_FEE: Final = 10_000  # … or this many satoshi: a small payment may cost relatively more
CHANGE_VSIZE: Final = 31  # an output to P2WPKH
DUST: Final = 294  # below this nobody relays such an output (Bitcoin Core, dust at 3 sat/vB)
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
    snapshot: Snapshot,
    spendable: Collection[Coin],
    to: TxOut,
    change: bytes,
    rate: int,
    opinions: Opinions = REAL,
) -> bytes:
    """Return a signed payment from `spendable` coins alone.

    The result is read back and compared with what was asked before it is returned. Raises
    LocalFault, also for a fee above FEE_SHARE of the payment and TINY_FEE; SecondOpinionDiffers.
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
    points = [i.outpoint for i in tx.inputs]
    if to not in tx.outputs or not set(points) <= free or len(set(points)) < len(points):
        raise LocalFault("the payment built is not the one asked for; nothing was sent")
    rest = list(tx.outputs)
    rest.remove(to)
    if len(rest) > 1 or any(output.script != change for output in rest):
        raise LocalFault("the payment built pays a stranger; nothing was sent")
    known = {coin.outpoint: TxOut(coin.value, coin.script) for coin in spendable}
    prevouts = [known[point] for point in points]
    _check_fee(tx, prevouts, to.value, rate)
    _ask_others(tx, prevouts, opinions)
    return raw


def _check_fee(tx: Transaction, prevouts: Sequence[TxOut], payment: int, rate: int) -> None:
    """Refuse a fee above the rate's, or out of proportion to the payment. Raises LocalFault."""
    fee = sum(o.value for o in prevouts) - sum(o.value for o in tx.outputs)
    most = rate * tx.vsize + (rate + 1) * len(prevouts)  # signatures may come out shorter
    if len(tx.outputs) == 1:  # what was left is not worth an output of change
        most += rate * CHANGE_VSIZE + DUST
    if not 0 < fee <= most:
        raise LocalFault(
            f"the payment built pays a fee of {fee} sat where {most} is the most; nothing was sent"
        )
    if fee > max(payment // FEE_SHARE, TINY_FEE):
        raise LocalFault(
            f"the fee would be {fee} sat, more than a quarter of the payment; "
            "name a lower rate, nothing was sent",
            field="rate",
        )


def _ask_others(tx: Transaction, prevouts: Sequence[TxOut], opinions: Opinions) -> None:
    """Check each signature over our sighash and the whole by Core. SecondOpinionDiffers."""
    try:
        for n, txin in enumerate(tx.inputs):
            check_stack(tx, n, prevouts, txin.witness, f"witness[{n}]", opinions.sighash)
        opinions.consensus(tx, prevouts, range(len(prevouts)))
    except InvalidRecord as error:
        raise SecondOpinionDiffers(
            f"{error.field}: a second opinion refuses our own payment ({error}); nothing was sent",
            field=error.field,
        ) from None


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
