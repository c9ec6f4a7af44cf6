"""What a signature commits to: BIP 143 (v0, ALL) and BIP 341 (key path, DEFAULT).

Our own computation, the second opinion on what a wallet library signed. No other
sighash exists here: nobody in a trade may sign less than the whole transaction.
"""

import hashlib
import struct
from collections.abc import Sequence
from typing import Final

from p2pnode.base.errors import InvalidRecord
from p2pnode.base.transaction import Transaction, TxOut, compact_size, double_sha256

ALL: Final = 1


def is_p2wpkh(script: bytes) -> bool:
    """Tell whether this is a native P2WPKH output script."""
    return len(script) == 22 and script[:2] == b"\x00\x14"


def is_p2wsh(script: bytes) -> bool:
    """Tell whether this is a native P2WSH output script."""
    return len(script) == 34 and script[:2] == b"\x00\x20"


def is_p2tr(script: bytes) -> bool:
    """Tell whether this is a P2TR output script."""
    return len(script) == 34 and script[:2] == b"\x51\x20"


def _outpoint(tx: Transaction, index: int) -> bytes:
    point = tx.inputs[index].outpoint
    return point.txid + struct.pack("<I", point.vout)


def _sequences(tx: Transaction) -> bytes:
    return b"".join(struct.pack("<I", i.sequence) for i in tx.inputs)


def segwit_v0(tx: Transaction, index: int, script_code: bytes, value: int) -> bytes:
    """Return the BIP 143 hash of input `index` for sighash ALL; value in satoshi."""
    points = b"".join(_outpoint(tx, i) for i in range(len(tx.inputs)))
    outputs = b"".join(o.serialize() for o in tx.outputs)
    return double_sha256(
        struct.pack("<i", tx.version)
        + double_sha256(points)
        + double_sha256(_sequences(tx))
        + _outpoint(tx, index)
        + compact_size(len(script_code))
        + script_code
        + struct.pack("<q", value)
        + struct.pack("<I", tx.inputs[index].sequence)
        + double_sha256(outputs)
        + struct.pack("<II", tx.locktime, ALL)
    )


def taproot_key_path(tx: Transaction, index: int, prevouts: Sequence[TxOut]) -> bytes:
    """Return the BIP 341 hash of input `index` for the key path and sighash DEFAULT."""
    points = b"".join(_outpoint(tx, i) for i in range(len(tx.inputs)))
    amounts = b"".join(struct.pack("<q", p.value) for p in prevouts)
    scripts = b"".join(compact_size(len(p.script)) + p.script for p in prevouts)
    outputs = b"".join(o.serialize() for o in tx.outputs)
    parts = (points, amounts, scripts, _sequences(tx), outputs)
    domain = hashlib.sha256(b"TapSighash").digest()
    return hashlib.sha256(
        domain * 2
        + b"\0\0"  # epoch, then hash type DEFAULT
        + struct.pack("<iI", tx.version, tx.locktime)
        + b"".join(hashlib.sha256(part).digest() for part in parts)
        + b"\0"  # spend type: key path, no annex
        + struct.pack("<I", index)
    ).digest()


def sighash(
    tx: Transaction, index: int, prevouts: Sequence[TxOut], witness_script: bytes | None = None
) -> bytes:
    """Return what input `index` must sign: ALL for v0, DEFAULT for the Taproot key path.

    `prevouts` are the outputs spent, in input order; a P2WSH input needs its script.
    """
    if len(prevouts) != len(tx.inputs) or not 0 <= index < len(prevouts):
        raise InvalidRecord("prevouts", "do not match the inputs")
    spent = prevouts[index]
    if is_p2wpkh(spent.script):
        code = b"\x76\xa9\x14" + spent.script[2:] + b"\x88\xac"
        return segwit_v0(tx, index, code, spent.value)
    if is_p2tr(spent.script):
        return taproot_key_path(tx, index, prevouts)
    if is_p2wsh(spent.script) and witness_script is not None:
        if hashlib.sha256(witness_script).digest() != spent.script[2:]:
            raise InvalidRecord("witness_script", "is not the one of this output")
        return segwit_v0(tx, index, witness_script, spent.value)
    raise InvalidRecord("prevouts", "hold a script that is not signed here")
