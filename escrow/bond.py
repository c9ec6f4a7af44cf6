"""A fidelity bond: bitcoin that an arbiter has locked, so that arbiters cannot be made for nothing.

    script = <t> CHECKLOCKTIMEVERIFY DROP <bond key> CHECKSIG       output = P2WSH(script)
    weight = sat * min(t - MTP, one year) // one year               satoshi times years

Proven by the stripped transaction and the merkle branch to our own header's root. Locked past a
draw's anchor it cannot be spent there, so no set of unspent outputs is needed and two honest
nodes never differ. `t` is a unix time; wallets of BIP 46 take the first second of a month,
which is their convention and no rule here. Pure. BIP 46, 65, 113, 141; docs/draw.md.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol, Self

from escrow.keys import check_point
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.networks import Network
from p2pnode.base.transaction import Outpoint, TxOut, parse_transaction, root_from_branch
from p2pnode.base.units import MAX_SAT

MAX_TRANSACTION: Final = 500  # bytes without witnesses: some nine inputs, or fewer and change
MAX_BRANCH: Final = 16  # a block of 65,536 transactions
YEAR_S: Final = 31_536_000
FIRST_TIME: Final = 500_000_000  # below it CHECKLOCKTIMEVERIFY means a height (BIP 65)
LAST_TIME: Final = 0xFFFFFFFF
_CLTV_DROP: Final = b"\xb1\x75"
_PUSH_KEY: Final = b"\x21"
_CHECKSIG: Final = b"\xac"


class Eyes(Protocol):
    """What the draw reads of one's own chain; hashes in internal byte order."""

    def block_hash(self, height: int) -> bytes | None:
        """Return the hash of our chain's block at `height`, or None above the tip."""
        ...

    def merkle_root(self, height: int) -> bytes | None:
        """Return the merkle root in our header at `height`, or None above the tip."""
        ...

    def mtp(self, height: int) -> int:
        """Return the median time past at `height`, unix seconds; a NodeError above the tip."""
        ...


def bond_script(lock_time: int, key: bytes) -> bytes:
    """Return the witness script: whoever holds `key` may spend once the time is past."""
    wire.within("lock_time", lock_time, FIRST_TIME, LAST_TIME)
    check_point("key", key)
    # A script's number is little-endian with a sign bit: 2^31 and above take a fifth byte.
    number = lock_time.to_bytes(lock_time.bit_length() // 8 + 1, "little")
    return bytes([len(number)]) + number + _CLTV_DROP + _PUSH_KEY + key + _CHECKSIG


def bond_output(lock_time: int, key: bytes) -> bytes:
    """Return the output script, 34 bytes: P2WSH of `bond_script`."""
    return b"\x00\x20" + hashlib.sha256(bond_script(lock_time, key)).digest()


def weight_at(sat: int, lock_time: int, mtp: int) -> int:
    """Return the weight of `sat` locked until `lock_time`, at a median time past; a year counts."""
    return sat * min(max(lock_time - mtp, 0), YEAR_S) // YEAR_S


@dataclass(frozen=True, kw_only=True)
class Bond:
    """A bond as a record shows it. Construction checks all that needs no chain.

    `outpoint` is the wire's 36 bytes, `transaction` is stripped of its witnesses, `position`
    and `branch` lead from its txid to the merkle root of the block at `height`.
    """

    outpoint: bytes
    transaction: bytes
    height: int
    position: int
    branch: tuple[bytes, ...]
    key: bytes
    lock_time: int

    def __post_init__(self) -> None:
        wire.within("bond.height", self.height, 1, 499_999_999)
        wire.within("bond.lock_time", self.lock_time, FIRST_TIME, LAST_TIME)
        check_point("bond.key", self.key)
        for item in wire.items("bond.branch", self.branch, MAX_BRANCH):
            wire.exact("bond.branch", item, 32)
        wire.within("bond.position", self.position, 0, (1 << len(self.branch)) - 1)
        if self.output.script != bond_output(self.lock_time, self.key):
            raise InvalidRecord("bond.outpoint", "does not pay to this key after this lock time")
        if not 0 < self.output.value <= MAX_SAT:
            raise InvalidRecord("bond.transaction", f"pays it not 1 to {MAX_SAT} sat")
        _ = self.root

    @cached_property
    def output(self) -> TxOut:
        """The output that is locked. Raises InvalidRecord where there is none."""
        point = Outpoint.from_wire("bond.outpoint", self.outpoint)
        field = "bond.transaction"
        raw = wire.blob(field, self.transaction, MAX_TRANSACTION, low=1)
        # CVE-2017-12842, both ways: two hashes of the tree cannot pass for this transaction,
        # for with a P2WSH output it has over 64 bytes; and `root_from_branch` refuses a branch
        # that hangs it below a real transaction of 64 bytes.
        tx = parse_transaction(field, raw)
        if any(i.witness for i in tx.inputs):
            raise InvalidRecord(field, "is not stripped of its witnesses")
        if tx.txid != point.txid:
            raise InvalidRecord(field, "is not the transaction of the outpoint")
        if point.vout >= len(tx.outputs):
            raise InvalidRecord("bond.outpoint", "names an output that does not exist")
        return tx.outputs[point.vout]

    @cached_property
    def root(self) -> bytes:
        """The merkle root that the branch leads to. Raises InvalidRecord."""
        try:
            return root_from_branch(self.outpoint[:32], self.branch, self.position)
        except InvalidRecord as error:
            raise InvalidRecord("bond.branch", str(error).partition(": ")[2]) from None

    @property
    def value(self) -> int:
        """Satoshi locked."""
        return self.output.value

    def weight(self, mtp: int) -> int:
        """Return the weight at a median time past."""
        return weight_at(self.value, self.lock_time, mtp)

    def array(self) -> tuple[Any, ...]:
        """Return the record's seven fields of the bond, in order."""
        place = (self.outpoint, self.transaction, self.height, self.position, self.branch)
        return (*place, self.key, self.lock_time)

    @classmethod
    def from_array(cls, values: tuple[Any, ...]) -> Self:
        """Read the seven fields. Raises InvalidRecord naming `bond.` and the field."""
        names = ("outpoint", "transaction", "height", "position", "branch", "key", "lock_time")
        return cls(**dict(zip(names, values, strict=True)))


def is_proven(bond: Bond, eyes: Eyes) -> bool:
    """Tell whether the bond's transaction is in our chain."""
    return eyes.merkle_root(bond.height) == bond.root


def check_bond(
    bond: Bond, *, network: Network, anchor_h: int, mtp: int, amount_sat: int, eyes: Eyes
) -> int:
    """Return the bond's weight at an anchor of median time past `mtp`.

    Raises InvalidRecord naming the field that keeps it out: too young, too short, too light,
    below the amount of the trade, or in no block of our chain.
    """
    if bond.height > anchor_h - network.bond_age:
        raise InvalidRecord("bond.height", f"is not {network.bond_age} blocks below the anchor")
    if bond.lock_time < mtp + network.bond_lock_s:
        raise InvalidRecord(
            "bond.lock_time", f"is not {network.bond_lock_s} s after the anchor's {mtp}"
        )
    if bond.value < amount_sat:
        raise InvalidRecord("bond.transaction", f"locks less than the {amount_sat} sat traded")
    weight = bond.weight(mtp)
    if weight < network.bond_weight:
        raise InvalidRecord("bond.lock_time", f"gives weight {weight}, not {network.bond_weight}")
    if not is_proven(bond, eyes):
        raise InvalidRecord("bond.branch", "does not lead to our header's merkle root")
    return weight
