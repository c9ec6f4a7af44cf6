"""The one transaction that takes expired bonds out: home, or into a new bond.

A pure function of the coins, the script paid to, the rate and the chain's clock: version 2,
locktime the latest lock of all, every sequence 0xfffffffd, inputs ascending by outpoint, one
output. A transaction whose locktime is a time is final once the median time past is above it
(BIP 113). Values in satoshi, rates in sat/vB, weights in weight units.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from escrow.bond import bond_output, bond_script
from escrow.contract import MAX_RATE, check_script
from escrow.funding import MIN_OUTPUT, fee_for, output_weight
from escrow.payout import BASE_WEIGHT
from p2pnode.base import wire
from p2pnode.base.errors import LocalFault
from p2pnode.base.transaction import SEQUENCE_RBF, Outpoint, Transaction, TxIn, TxOut

INPUT_WEIGHT: Final = 282  # 41 bytes, and a witness of signature (72) and script (43)
MAX_REDEEMED: Final = 250  # inputs; their number fits one byte, as BASE_WEIGHT assumes


@dataclass(frozen=True, slots=True)
class BondCoin:
    """An unspent output of a bond's script: `number` names the key, `value` in satoshi."""

    number: int
    outpoint: Outpoint
    value: int
    lock_time: int
    key: bytes

    @property
    def script(self) -> bytes:
        """The output script."""
        return bond_output(self.lock_time, self.key)

    @property
    def witness_script(self) -> bytes:
        """What the spend shows beside its signature."""
        return bond_script(self.lock_time, self.key)


@dataclass(frozen=True, slots=True)
class Redeem:
    """A spend of bonds without witnesses; `coins` are in input order."""

    tx: Transaction
    coins: tuple[BondCoin, ...]
    fee_sat: int

    @property
    def value(self) -> int:
        """Satoshi that arrive."""
        return self.tx.outputs[0].value

    @property
    def prevouts(self) -> tuple[TxOut, ...]:
        """The outputs spent, in input order."""
        return tuple(TxOut(c.value, c.script) for c in self.coins)


def is_open(lock_time: int, mtp: int) -> bool:
    """Tell whether a bond can be spent in the next block, at the tip's median time past."""
    return lock_time < mtp


def build_redeem(coins: Iterable[BondCoin], to_script: bytes, rate: int, mtp: int) -> Redeem:
    """Return the spend of all `coins` that are open at `mtp` to `to_script`, unsigned.

    Raises LocalFault if none is open or too little would arrive, InvalidRecord for the rate.
    """
    wire.within("rate", rate, 1, MAX_RATE)
    check_script("to_script", to_script)
    chosen = sorted((c for c in coins if is_open(c.lock_time, mtp)), key=lambda c: c.outpoint)
    chosen = chosen[:MAX_REDEEMED]
    if not chosen:
        raise LocalFault("no bond of yours has expired by the chain's clock")
    weight = BASE_WEIGHT + len(chosen) * INPUT_WEIGHT + output_weight(to_script)
    fee, whole = fee_for(rate, weight), sum(c.value for c in chosen)
    if whole - fee < MIN_OUTPUT:
        raise LocalFault(
            f"too little to redeem: at {rate} sat/vB less than {MIN_OUTPUT} of {whole} sat would "
            "arrive; name a lower --rate",
            field="rate",
        )
    inputs = tuple(TxIn(c.outpoint, SEQUENCE_RBF) for c in chosen)
    locktime = max(c.lock_time for c in chosen)
    tx = Transaction(2, inputs, (TxOut(whole - fee, to_script),), locktime)
    return Redeem(tx, tuple(chosen), fee)
