"""Blocks and the faucet's payments as bytes: pure assembly, no chain.

A block is what BIP 34, 141 and 144 ask of regtest: height in the coinbase, a witness
commitment, 2 to the 15th of a hash's work at most. The faucet's coins pay to the witness
script OP_TRUE, so it needs no key.
"""

import hashlib
import struct
from collections.abc import Sequence
from typing import Final

from p2pnode.base.errors import InvalidRecord
from p2pnode.base.transaction import (
    Header,
    Outpoint,
    Transaction,
    TxIn,
    TxOut,
    compact_size,
    double_sha256,
    merkle_root,
)
from p2pnode.base.units import COIN

MAX_BLOCK_WEIGHT: Final = 3_900_000
FAUCET_FEE_RATE: Final = 2  # sat/vB
HALVING: Final = 150  # blocks, on regtest
_TRUE: Final = b"\x51"
FAUCET_SCRIPT: Final = b"\x00\x20" + hashlib.sha256(_TRUE).digest()
_BITS: Final = 0x207FFFFF
_VERSION: Final = 0x20000000
_SEQUENCE: Final = 0xFFFFFFFF
_NOTHING: Final = bytes(32)  # the coinbase's outpoint and its witness (BIP 141)


def subsidy(height: int) -> int:
    """Return what a regtest block creates, satoshi."""
    return 50 * COIN >> min(63, height // HALVING)


def _height_push(height: int) -> bytes:
    if height <= 16:
        return bytes([0x50 + height])
    number = height.to_bytes((height.bit_length() + 8) // 8, "little")
    return bytes([len(number)]) + number


def coinbase(height: int, reward: TxOut, wtxids: Sequence[bytes], nonce: bytes) -> Transaction:
    """Return a coinbase with its BIP 34 height and BIP 141 commitment to `wtxids`."""
    root = merkle_root([_NOTHING, *wtxids])
    commitment = TxOut(0, b"\x6a\x24\xaa\x21\xa9\xed" + double_sha256(root + _NOTHING))
    script_sig = _height_push(height) + bytes([len(nonce)]) + nonce
    spend = TxIn(Outpoint(_NOTHING, 0xFFFFFFFF), _SEQUENCE, script_sig, (_NOTHING,))
    return Transaction(2, (spend,), (reward, commitment), 0)


def build_block(
    *,
    prev: bytes,
    height: int,
    time: int,
    txs: Sequence[Transaction],
    fees: int,
    nonce: bytes,
    script: bytes = FAUCET_SCRIPT,
) -> bytes:
    """Return a whole block with its work done; `nonce` tells like coinbases apart."""
    reward = TxOut(subsidy(height) + fees, script)
    whole = [coinbase(height, reward, [t.wtxid for t in txs], nonce), *txs]
    root = merkle_root([t.txid for t in whole])
    stem = struct.pack("<I", _VERSION) + prev + root + struct.pack("<II", time, _BITS)
    for n in range(1 << 32):
        header = Header(stem + struct.pack("<I", n))
        if header.has_work:
            return header.raw + compact_size(len(whole)) + b"".join(t.serialize() for t in whole)
    raise AssertionError("unreachable: 2^32 hashes without one bit of work")


def pay_from_faucet(coins: Sequence[tuple[Outpoint, int]], pay: TxOut) -> Transaction | None:
    """Return a payment from as few of the OP_TRUE coins as it takes, or None if they are too few.

    Change goes back to the faucet. `coins` are outpoints with their satoshi.
    """
    if pay.value <= 0:
        raise InvalidRecord("amount_sat", "is not above zero")
    chosen: list[Outpoint] = []
    total = 0
    for point, value in coins:
        chosen.append(point)
        total += value
        fee = (11 + 43 * len(chosen) + (9 + len(pay.script)) + 43) * FAUCET_FEE_RATE
        if total >= pay.value + fee + 1_000:
            change = TxOut(total - pay.value - fee, FAUCET_SCRIPT)
            ins = tuple(TxIn(p, witness=(_TRUE,)) for p in chosen)
            return Transaction(2, ins, (pay, change), 0)
    return None
