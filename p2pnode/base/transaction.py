"""The few bytes of Bitcoin that we parse ourselves: transactions, headers, merkle branches.

Strict and bounded; the one declared error is InvalidRecord. Hashes are in internal byte
order; `display` gives the reversed hex that people read. Formats: BIP 141 and 144,
protocol documentation of Bitcoin Core. Weights in weight units, values in satoshi.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from p2pnode.base.errors import InvalidRecord
from p2pnode.base.units import MAX_SAT

MAX_TX_BYTES: Final = 400_000
MAX_BRANCH: Final = 20  # a block holds fewer than 2^20 transactions
SEQUENCE_RBF: Final = 0xFFFFFFFD


def double_sha256(data: bytes) -> bytes:
    """Return SHA-256 of SHA-256."""
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def display(hash_: bytes) -> str:
    """Write an internal-order hash as people read it."""
    return hash_[::-1].hex()


def scripthash(script: bytes) -> str:
    """Return the Electrum protocol's name of an output script."""
    return hashlib.sha256(script).digest()[::-1].hex()


def compact_size(number: int) -> bytes:
    """Encode Bitcoin's variable-length integer."""
    if number < 0xFD:
        return bytes([number])
    if number < 0x10000:
        return b"\xfd" + struct.pack("<H", number)
    return b"\xfe" + struct.pack("<I", number)


@dataclass(frozen=True, slots=True, order=True)
class Outpoint:
    """An output: txid in internal order and its number."""

    txid: bytes
    vout: int

    def wire(self) -> bytes:
        """Return the protocol's 36 bytes: txid, then vout big-endian (docs/wire.md)."""
        return self.txid + self.vout.to_bytes(4, "big")

    @classmethod
    def from_wire(cls, field: str, raw: object) -> "Outpoint":
        """Read the protocol's 36 bytes. Raises InvalidRecord."""
        if type(raw) is not bytes or len(raw) != 36:
            raise InvalidRecord(field, "is not 36 bytes")
        return cls(raw[:32], int.from_bytes(raw[32:], "big"))

    def __str__(self) -> str:
        return f"{display(self.txid)}:{self.vout}"


@dataclass(frozen=True, slots=True)
class TxIn:
    """An input and its witness stack."""

    outpoint: Outpoint
    sequence: int = SEQUENCE_RBF
    script_sig: bytes = b""
    witness: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class TxOut:
    """An output: satoshi and script."""

    value: int
    script: bytes

    def serialize(self) -> bytes:
        """Return the output's bytes in a transaction."""
        return struct.pack("<q", self.value) + compact_size(len(self.script)) + self.script


@dataclass(frozen=True)
class Transaction:
    """A transaction; with no witness at all it serialises stripped."""

    version: int
    inputs: tuple[TxIn, ...]
    outputs: tuple[TxOut, ...]
    locktime: int

    def serialize(self, *, witness: bool = True) -> bytes:
        """Return the bytes, stripped of witnesses unless asked for and present."""
        full = witness and any(i.witness for i in self.inputs)
        out = struct.pack("<i", self.version) + (b"\0\1" if full else b"")
        out += compact_size(len(self.inputs))
        for i in self.inputs:
            out += i.outpoint.txid + struct.pack("<I", i.outpoint.vout)
            out += compact_size(len(i.script_sig)) + i.script_sig + struct.pack("<I", i.sequence)
        out += compact_size(len(self.outputs)) + b"".join(o.serialize() for o in self.outputs)
        if full:
            for i in self.inputs:
                out += compact_size(len(i.witness))
                out += b"".join(compact_size(len(w)) + w for w in i.witness)
        return out + struct.pack("<I", self.locktime)

    @cached_property
    def txid(self) -> bytes:
        """Hash without witnesses."""
        return double_sha256(self.serialize(witness=False))

    @cached_property
    def wtxid(self) -> bytes:
        """Hash with witnesses (BIP 141)."""
        return double_sha256(self.serialize())

    @cached_property
    def weight(self) -> int:
        """Weight units (BIP 141)."""
        return 3 * len(self.serialize(witness=False)) + len(self.serialize())

    @property
    def vsize(self) -> int:
        """Virtual bytes, rounded up."""
        return (self.weight + 3) // 4


class _Reader:
    def __init__(self, field: str, data: bytes, at: int = 0) -> None:
        self.field, self.data, self.at = field, data, at

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self.data):
            raise InvalidRecord(self.field, "is cut short")
        self.at += count
        return self.data[self.at - count : self.at]

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def size(self) -> int:
        first = self.take(1)[0]
        if first < 0xFD:
            return first
        width = {0xFD: 2, 0xFE: 4, 0xFF: 8}[first]
        number = int.from_bytes(self.take(width), "little")
        if number < (0xFD, 0x10000, 1 << 32)[width.bit_length() - 2]:
            raise InvalidRecord(self.field, "has a length that is not minimally encoded")
        return number

    def count(self, each: int) -> int:
        number = self.size()
        if number * each > len(self.data) - self.at:
            raise InvalidRecord(self.field, "announces more than it holds")
        return number


def _read(r: _Reader) -> Transaction:
    version = int.from_bytes(r.take(4), "little", signed=True)
    segwit = r.data[r.at : r.at + 2] == b"\0\1"
    if segwit:
        r.take(2)
    inputs = []
    for _ in range(r.count(41)):
        point = Outpoint(r.take(32), r.u32())
        script_sig = r.take(r.size())
        inputs.append((point, r.u32(), script_sig))
    outputs = []
    for _ in range(r.count(9)):
        value = int.from_bytes(r.take(8), "little", signed=True)
        outputs.append(TxOut(value, r.take(r.size())))
    stacks: list[tuple[bytes, ...]] = [()] * len(inputs)
    if segwit:
        stacks = [tuple(r.take(r.size()) for _ in range(r.count(1))) for _ in inputs]
        if not any(stacks):
            raise InvalidRecord(r.field, "is marked as having witnesses but has none")
    locktime = r.u32()
    ins = tuple(TxIn(p, s, g, w) for (p, s, g), w in zip(inputs, stacks, strict=True))
    return Transaction(version, ins, tuple(outputs), locktime)


def parse_transaction(field: str, raw: object) -> Transaction:
    """Parse one whole transaction with at least one input. Raises InvalidRecord.

    Output values beyond the money supply and below zero are left to the caller's rules
    (a mempool names them differently); `checked_value` is the strict reading.
    """
    if type(raw) is not bytes or len(raw) > MAX_TX_BYTES:
        raise InvalidRecord(field, f"is not binary of at most {MAX_TX_BYTES} bytes")
    reader = _Reader(field, raw)
    tx = _read(reader)
    if reader.at != len(raw):
        raise InvalidRecord(field, "has bytes after its end")
    if not tx.inputs:
        raise InvalidRecord(field, "has no inputs")
    return tx


def checked_value(field: str, value: int) -> int:
    """Return an output's value if it is money that can exist. Raises InvalidRecord."""
    if not 0 <= value <= MAX_SAT:
        raise InvalidRecord(field, f"is not 0 to {MAX_SAT} sat")
    return value


def parse_block(raw: bytes) -> tuple[bytes, tuple[Transaction, ...]]:
    """Return a block's header and transactions. Raises InvalidRecord."""
    reader = _Reader("block", raw)
    head = reader.take(80)
    txs = tuple(_read(reader) for _ in range(reader.count(60)))
    if reader.at != len(raw):
        raise InvalidRecord("block", "has bytes after its end")
    return head, txs


@dataclass(frozen=True, slots=True)
class Header:
    """An 80-byte block header, parsed."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != 80:
            raise InvalidRecord("header", "is not 80 bytes")

    @property
    def hash(self) -> bytes:
        """Block hash, internal order."""
        return double_sha256(self.raw)

    @property
    def prev(self) -> bytes:
        """Hash of the block before."""
        return self.raw[4:36]

    @property
    def merkle_root(self) -> bytes:
        """Root over the block's txids."""
        return self.raw[36:68]

    @property
    def time(self) -> int:
        """Unix seconds as the miner says."""
        return int.from_bytes(self.raw[68:72], "little")

    @property
    def target(self) -> int:
        """The largest hash that nBits allows."""
        bits = int.from_bytes(self.raw[72:76], "little")
        exponent, mantissa = bits >> 24, bits & 0x7FFFFF
        shift = 8 * (exponent - 3)
        return mantissa << shift if shift >= 0 else mantissa >> -shift

    @property
    def has_work(self) -> bool:
        """Tell whether the hash meets the target that the header itself names."""
        return int.from_bytes(self.hash, "little") <= self.target


def median_time(times: Sequence[int]) -> int:
    """Return the median of up to eleven block times (BIP 113)."""
    ordered = sorted(times)
    return ordered[len(ordered) // 2]


def merkle_root(hashes: Sequence[bytes]) -> bytes:
    """Return the root over a block's txids."""
    level = list(hashes)
    while len(level) > 1:
        level = _pair_up(level)
    return level[0]


def merkle_branch(hashes: Sequence[bytes], position: int) -> tuple[bytes, ...]:
    """Return the siblings from the leaf at `position` up to the root."""
    level, branch = list(hashes), []
    while len(level) > 1:
        if len(level) & 1:
            level.append(level[-1])
        branch.append(level[position ^ 1])
        level = _pair_up(level)
        position >>= 1
    return tuple(branch)


def _pair_up(level: list[bytes]) -> list[bytes]:
    if len(level) & 1:
        level = [*level, level[-1]]
    return [double_sha256(level[i] + level[i + 1]) for i in range(0, len(level), 2)]


def _could_be_transaction(node: bytes) -> bool:
    """Tell whether 64 bytes read as a transaction of a block; by chance one in 2^42 does."""
    if node[4] != 1:  # more inputs than one do not fit
        return False
    try:
        outputs = parse_transaction("merkle_branch", node).outputs
    except InvalidRecord:
        return False
    return bool(outputs) and all(0 <= o.value <= MAX_SAT for o in outputs)


def root_from_branch(leaf: bytes, branch: Sequence[bytes], position: int) -> bytes:
    """Return the root that `leaf` at `position` leads to. Raises InvalidRecord.

    A block's tree does not tell a transaction of 64 bytes from two hashes (CVE-2017-12842).
    One whose last half is a chosen txid would prove a transaction of any length that is in no
    block: so a branch is refused where two hashes together read as a transaction.
    """
    if len(branch) > MAX_BRANCH or not 0 <= position < 1 << len(branch):
        raise InvalidRecord("merkle_branch", "does not fit the position")
    for other in branch:
        if len(other) != 32:
            raise InvalidRecord("merkle_branch", "holds something else than hashes")
        if position & 1 and other == leaf:  # CVE-2012-2459: the copy of an odd last one
            raise InvalidRecord("merkle_branch", "has a second place for one transaction")
        pair = other + leaf if position & 1 else leaf + other
        if _could_be_transaction(pair):
            raise InvalidRecord("merkle_branch", "passes off a transaction as two hashes")
        leaf = double_sha256(pair)
        position >>= 1
    return leaf
