"""What verdicts have paid their arbiter, and the one transaction that brings it home.

A verdict's payout pays fee_A to P2WPKH(key_A), a key of the arbitration account and so outside
the BIP 84 wallet. Earned is such an output of a transaction that spends the case's escrow, as
long as nothing spends it; whatever else lies at that script is not ours to touch. A sweep is
a pure function of the earnings, the script paid to, rate and height (docs/wire/transactions.md
has the weights). Values in satoshi, rates in sat/vB.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from escrow.case import Case
from escrow.contract import MAX_RATE, check_script
from escrow.funding import MIN_OUTPUT, P2WPKH_INPUT, fee_for, output_weight
from escrow.payout import BASE_WEIGHT
from escrow.script import arbiter_terms, p2wpkh
from p2pnode.base import wire
from p2pnode.base.errors import LocalFault
from p2pnode.base.ports import Sighting
from p2pnode.base.transaction import (
    SEQUENCE_RBF,
    Outpoint,
    Transaction,
    TxIn,
    TxOut,
    checked_value,
    parse_transaction,
)

MAX_SWEPT: Final = 250  # inputs of one sweep; their number fits one byte, as BASE_WEIGHT assumes
_OWN_OUTPUT: Final = output_weight(bytes(22))  # P2WPKH, as the wallet's addresses are


@dataclass(frozen=True, slots=True)
class Claim:
    """Where the fee of one case lies, and what its key follows from."""

    trade_id: bytes
    escrow: Outpoint
    script: bytes
    seed: bytes
    bond: bytes


@dataclass(frozen=True, slots=True)
class Earning:
    """An arbiter's fee, paid and unspent; height 0 means pending, which is not money."""

    trade_id: bytes
    outpoint: Outpoint
    value: int
    height: int


@dataclass(frozen=True, slots=True)
class Sweep:
    """A withdrawal without witnesses; `earnings` and `prevouts` are in input order."""

    tx: Transaction
    earnings: tuple[Earning, ...]
    prevouts: tuple[TxOut, ...]
    fee_sat: int

    @property
    def value(self) -> int:
        """Satoshi that arrive."""
        return self.tx.outputs[0].value


def claim_of(case: Case) -> Claim:
    """Return what a case may earn its arbiter. Raises InvalidRecord for torn papers."""
    made = case.contract
    key, _ = arbiter_terms(made, case.branch)
    bond = made.bond_a2 if case.branch else made.bond_a
    return Claim(made.trade_id, case.outpoint, p2wpkh(key), made.seed, bond)


def unspent(claim: Claim, seen: Iterable[Sighting]) -> tuple[Earning, ...]:
    """Return the claim's outputs that no transaction seen at its script spends."""
    found = [(s.height, parse_transaction("sighting", s.raw)) for s in seen]
    spent = {i.outpoint for _, tx in found for i in tx.inputs}
    return tuple(
        Earning(claim.trade_id, point, checked_value("payout", output.value), height)
        for height, tx in found
        if any(i.outpoint == claim.escrow for i in tx.inputs)
        for n, output in enumerate(tx.outputs)
        if output.script == claim.script and (point := Outpoint(tx.txid, n)) not in spent
    )


def worth_sweeping(earnings: Iterable[Earning], rate: int) -> tuple[Earning, ...]:
    """Return the earnings that one sweep at `rate` takes, ascending by outpoint.

    Those that bring no more than their input costs stay where they are. Raises LocalFault
    if nothing is earned, or too little would arrive; InvalidRecord for the rate.
    """
    wire.within("rate", rate, 1, MAX_RATE)
    ordered = sorted((e for e in earnings if e.height > 0), key=lambda e: (-e.value, e.outpoint))
    if not ordered:
        raise LocalFault("nothing to withdraw: no arbiter's fee is confirmed and unspent here")
    cost = fee_for(rate, P2WPKH_INPUT)
    chosen = [e for e in ordered if e.value > cost][:MAX_SWEPT]
    rest = sum(e.value for e in chosen) - _fee(rate, len(chosen), _OWN_OUTPUT)
    if rest < MIN_OUTPUT:
        whole = sum(e.value for e in ordered)
        raise LocalFault(
            f"too little to withdraw: at {rate} sat/vB less than {MIN_OUTPUT} of the {whole} sat "
            "earned would arrive; wait for lower fees or more verdicts",
            field="rate",
        )
    return tuple(sorted(chosen, key=lambda e: e.outpoint))


def _fee(rate: int, inputs: int, output: int) -> int:
    return fee_for(rate, BASE_WEIGHT + inputs * P2WPKH_INPUT + output)


def build_sweep(
    earnings: Iterable[Earning],
    claims: Mapping[bytes, Claim],
    to_script: bytes,
    rate: int,
    height: int,
) -> Sweep:
    """Return the withdrawal of `earnings` to `to_script`, unsigned; `claims` by trade id.

    Version 2, locktime at the tip's height, every sequence 0xfffffffd, one output.
    Raises what `worth_sweeping` raises, InvalidRecord for script and height.
    """
    chosen = worth_sweeping(earnings, rate)
    check_script("to_script", to_script)
    wire.within("height", height, 0, 499_999_999)
    fee = _fee(rate, len(chosen), output_weight(to_script))
    value = sum(e.value for e in chosen) - fee
    if value < MIN_OUTPUT:
        raise LocalFault(f"less than {MIN_OUTPUT} sat would arrive", field="rate")
    inputs = tuple(TxIn(e.outpoint, SEQUENCE_RBF) for e in chosen)
    tx = Transaction(2, inputs, (TxOut(value, to_script),), height)
    prevouts = tuple(TxOut(e.value, claims[e.trade_id].script) for e in chosen)
    return Sweep(tx, chosen, prevouts, fee)
