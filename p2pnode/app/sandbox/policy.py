"""What the mempool admits: Bitcoin Core's relay rules and reject reasons, as pure functions.

Rates are integers, satoshi per 1,000 virtual bytes. Scripts are the kernel's business
(judge.py). Left out on purpose: bare keys and bare multisig, packages, TRUC's limits.
Source of rules and words: Bitcoin Core 28 and later, validation.cpp and policy/*.cpp.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from p2pnode.base.errors import LocalFault
from p2pnode.base.transaction import Transaction, TxIn, TxOut, compact_size
from p2pnode.base.units import MAX_SAT

MATURITY: Final = 100  # confirmations before a coinbase output can be spent
MAX_WEIGHT: Final = 400_000
MIN_SIZE: Final = 65  # bytes without witness (CVE-2017-12842)
MAX_SCRIPT_SIG: Final = 1_650
MAX_ANCESTORS: Final = 25  # the transaction itself included
MAX_EVICTED: Final = 100
LOCKTIME_THRESHOLD: Final = 500_000_000  # below: a height; above: unix seconds
SEQUENCE_FINAL: Final = 0xFFFFFFFF
DUST_RATE: Final = 3_000
_NULL: Final = (bytes(32), 0xFFFFFFFF)


class Rejected(LocalFault):
    """A transaction or block that is refused; the text is Bitcoin Core's reject reason."""

    code = "rejected"


@dataclass(frozen=True, slots=True)
class Coin:
    """An unspent output: satoshi, script, and the height of (or for) its block."""

    value: int
    script: bytes
    height: int
    coinbase: bool

    @property
    def out(self) -> TxOut:
        """Return the output alone."""
        return TxOut(self.value, self.script)


def check_alone(tx: Transaction) -> None:
    """Check what needs no chain: consensus first, then standardness. Raises Rejected."""
    if not tx.outputs:
        raise Rejected("bad-txns-vout-empty")
    if any(o.value < 0 for o in tx.outputs):
        raise Rejected("bad-txns-vout-negative")
    if any(o.value > MAX_SAT for o in tx.outputs):
        raise Rejected("bad-txns-vout-toolarge")
    if sum(o.value for o in tx.outputs) > MAX_SAT:
        raise Rejected("bad-txns-txouttotal-toolarge")
    points = [i.outpoint for i in tx.inputs]
    if len(set(points)) < len(points):
        raise Rejected("bad-txns-inputs-duplicate")
    if any((p.txid, p.vout) == _NULL for p in points):
        raise Rejected("coinbase" if len(points) == 1 else "bad-txns-prevout-null")
    if not 1 <= tx.version <= 3:
        raise Rejected("version")
    if tx.weight > MAX_WEIGHT:
        raise Rejected("tx-size")
    if any(len(i.script_sig) > MAX_SCRIPT_SIG for i in tx.inputs):
        raise Rejected("scriptsig-size")
    if not all(is_standard(o.script) for o in tx.outputs):
        raise Rejected("scriptpubkey")
    if any(o.value < dust_limit(o) for o in tx.outputs):
        raise Rejected("dust")
    if len(tx.serialize(witness=False)) < MIN_SIZE:
        raise Rejected("tx-size-small")


def check_final(tx: Transaction, next_height: int, mtp: int) -> None:
    """Check nLockTime for the next block (BIP 113: times against the median). Raises Rejected."""
    if tx.locktime and any(i.sequence != SEQUENCE_FINAL for i in tx.inputs):
        reached = next_height if tx.locktime < LOCKTIME_THRESHOLD else mtp
        if tx.locktime >= reached:
            raise Rejected("non-final")


def check_relative(
    tx: Transaction, coins: Sequence[Coin], next_height: int, mtp_at: Callable[[int], int]
) -> None:
    """Check relative locks for the next block (BIP 68). Raises Rejected."""
    if tx.version < 2:
        return
    for spend, coin in zip(tx.inputs, coins, strict=True):
        if spend.sequence >> 31:
            continue
        wait = spend.sequence & 0xFFFF
        if spend.sequence >> 22 & 1:
            late = mtp_at(max(0, coin.height - 1)) + (wait << 9) > mtp_at(next_height - 1)
        else:
            late = coin.height + wait > next_height
        if late:
            raise Rejected("non-BIP68-final")


def fee_of(tx: Transaction, coins: Sequence[Coin], next_height: int) -> int:
    """Return the fee in satoshi. Raises Rejected for immature coins and for inflation."""
    if any(c.coinbase and next_height - c.height < MATURITY for c in coins):
        raise Rejected("bad-txns-premature-spend-of-coinbase")
    fee = sum(c.value for c in coins) - sum(o.value for o in tx.outputs)
    if fee < 0:
        raise Rejected("bad-txns-in-belowout")
    return fee


def fee_for(vsize: int, rate: int) -> int:
    """Return the fee of `vsize` virtual bytes at `rate`, rounded up."""
    return -(-vsize * rate // 1000)


def outbids(fee: int, vsize: int, old_fee: int, old_vsize: int) -> bool:
    """Tell whether one fee rate is strictly above another, without fractions."""
    return fee * old_vsize > old_fee * vsize


def is_witness(script: bytes) -> bool:
    """Tell a witness program (BIP 141)."""
    return (
        4 <= len(script) <= 42
        and (script[0] == 0 or 0x51 <= script[0] <= 0x60)
        and script[1] == len(script) - 2
    )


def is_standard(script: bytes) -> bool:
    """Tell whether an output script is relayed: witness programs, OP_RETURN, P2PKH, P2SH."""
    return (
        is_witness(script)
        or script[:1] == b"\x6a"
        or (len(script) == 25 and script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac")
        or (len(script) == 23 and script[:2] == b"\xa9\x14" and script[22:] == b"\x87")
    )


def dust_limit(out: TxOut) -> int:
    """Return the smallest value relayed for this script, satoshi."""
    if out.script[:1] == b"\x6a":
        return 0
    spend = 67 if is_witness(out.script) else 148  # bytes to spend it, as Core reckons
    size = 8 + len(compact_size(len(out.script))) + len(out.script) + spend
    return size * DUST_RATE // 1000


def spends(tx: Transaction) -> tuple[TxIn, ...]:
    """Return the inputs that name real coins: all but a coinbase's."""
    return tuple(i for i in tx.inputs if (i.outpoint.txid, i.outpoint.vout) != _NULL)
