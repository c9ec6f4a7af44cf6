"""The PSBTs that we hand to our own signers, and what we read back from them (BIP 174, 371).

No PSBT crosses the wire: peers exchange signatures alone. What comes back from a signer
must be the same transaction with no field beyond those that a signer adds; anything else
is refused. The one declared error is InvalidRecord. Text form: base64.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from p2pnode.base.errors import InvalidRecord
from p2pnode.base.transaction import Transaction, TxOut, compact_size

MAX_PSBT: Final = 4 << 20  # 16 inputs, each with a previous transaction of 100 KB
_MAGIC: Final = b"psbt\xff"
_UNSIGNED_TX: Final = 0x00

_NON_WITNESS_UTXO, _WITNESS_UTXO, _PARTIAL_SIG, _SIGHASH_TYPE = 0x00, 0x01, 0x02, 0x03
_WITNESS_SCRIPT, _BIP32, _FINAL_WITNESS = 0x05, 0x06, 0x08
_TAP_KEY_SIG, _TAP_BIP32, _TAP_INTERNAL_KEY, _TAP_ROOT = 0x13, 0x16, 0x17, 0x18
# What a wallet may add to an input besides signatures: whose keys its own inputs have.
_HARMLESS: Final = {
    *(_NON_WITNESS_UTXO, _WITNESS_UTXO, _SIGHASH_TYPE, _WITNESS_SCRIPT, _BIP32),
    *(_TAP_BIP32, _TAP_INTERNAL_KEY, _TAP_ROOT),
}
_OUTPUT_FIELDS: Final = {0x01, 0x02, 0x05, 0x07}  # witness script and whose keys


@dataclass(frozen=True, slots=True)
class PsbtInput:
    """What a signer is told of an input."""

    spent: TxOut
    previous: bytes = b""  # the whole previous transaction, where it is at hand
    witness_script: bytes = b""
    final: bool = False  # marked as done, so that a signer leaves it alone
    partial: Mapping[bytes, bytes] = field(default_factory=dict)  # ECDSA, by public key


@dataclass(slots=True)
class Signed:
    """What a signer has put into an input."""

    partial: dict[bytes, bytes] = field(default_factory=dict)  # ECDSA, by public key
    tap_key_sig: bytes = b""
    final: tuple[bytes, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.partial or self.tap_key_sig or self.final)


def _pair(key: bytes, value: bytes) -> bytes:
    return compact_size(len(key)) + key + compact_size(len(value)) + value


def build(tx: Transaction, inputs: Sequence[PsbtInput]) -> str:
    """Return the PSBT of an unsigned transaction."""
    out = _MAGIC + _pair(bytes([_UNSIGNED_TX]), tx.serialize(witness=False)) + b"\0"
    for i in inputs:
        if i.previous:
            out += _pair(bytes([_NON_WITNESS_UTXO]), i.previous)
        out += _pair(bytes([_WITNESS_UTXO]), i.spent.serialize())
        for public, signature in sorted(i.partial.items()):
            out += _pair(bytes([_PARTIAL_SIG]) + public, signature)
        if i.witness_script:
            out += _pair(bytes([_SIGHASH_TYPE]), b"\x01\0\0\0")
            out += _pair(bytes([_WITNESS_SCRIPT]), i.witness_script)
        if i.final:
            out += _pair(bytes([_FINAL_WITNESS]), b"\1\0")  # one empty item
        out += b"\0"
    return base64.b64encode(out + b"\0" * len(tx.outputs)).decode()


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise InvalidRecord("psbt", "is cut short")
        self.at += count
        return self.data[self.at - count : self.at]

    def sized(self) -> bytes:
        first = self.take(1)[0]
        if first >= 0xFD:
            width = {0xFD: 2, 0xFE: 4, 0xFF: 8}[first]
            first = int.from_bytes(self.take(width), "little")
        return self.take(first)

    def pairs(self) -> Iterator[tuple[bytes, bytes]]:
        seen = set()
        while key := self.sized():
            if key in seen:
                raise InvalidRecord("psbt", "repeats a key")
            seen.add(key)
            yield key, self.sized()


def _stack(raw: bytes) -> tuple[bytes, ...]:
    cursor = _Cursor(raw)
    count = cursor.take(1)[0]
    stack = tuple(cursor.sized() for _ in range(count))
    if cursor.at != len(raw):
        raise InvalidRecord("psbt", "has bytes after a final witness")
    return stack


def _read_input(cursor: _Cursor) -> Signed:
    signed = Signed()
    for key, value in cursor.pairs():
        if key[0] == _PARTIAL_SIG:
            signed.partial[key[1:]] = value
        elif key == bytes([_TAP_KEY_SIG]):
            signed.tap_key_sig = value
        elif key == bytes([_FINAL_WITNESS]):
            signed.final = _stack(value)
        elif key[0] not in _HARMLESS:
            raise InvalidRecord("psbt", f"has an unknown input field {key[0]:#04x}")
    return signed


def read(text: str, tx: Transaction) -> tuple[Signed, ...]:
    """Return what was signed, by input. Raises InvalidRecord if it is not of this `tx`."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRecord("psbt", "is not base64") from None
    cursor = _Cursor(raw)
    if len(raw) > MAX_PSBT or cursor.take(len(_MAGIC)) != _MAGIC:
        raise InvalidRecord("psbt", f"is not a PSBT of at most {MAX_PSBT} bytes")
    if dict(cursor.pairs()) != {bytes([_UNSIGNED_TX]): tx.serialize(witness=False)}:
        raise InvalidRecord("psbt", "is not of the transaction that was to be signed")
    signed = tuple(_read_input(cursor) for _ in tx.inputs)
    for _ in tx.outputs:
        if any(key[0] not in _OUTPUT_FIELDS for key, _ in cursor.pairs()):
            raise InvalidRecord("psbt", "has an unknown output field")
    if cursor.at != len(raw):
        raise InvalidRecord("psbt", "has bytes after its end")
    return signed
