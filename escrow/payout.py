"""Payouts: from a split of the escrow to the one transaction that pays it.

A split is who gets what of the escrow, before the fee; the transaction is a pure
function of contract, funding outpoint, split, rate and the escrow's branch, so both
signers build it themselves and no signature ever follows bytes from a peer. Each first
signature is a pair, at two rates. Rules: docs/wire/transactions.md. Values in satoshi,
rates in sat/vB.
"""

from dataclasses import dataclass
from typing import Final, Literal, Self

from escrow.contract import Contract
from escrow.funding import BASE_WEIGHT, MIN_OUTPUT, fee_for, output_weight
from escrow.keys import verify_ecdsa
from escrow.script import (
    Branch,
    arbiter_terms,
    escrow_keys,
    escrow_script,
    input_weight,
    p2wpkh,
    sequence,
    witness_script,
)
from escrow.sighash import sighash
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.transaction import Outpoint, Transaction, TxIn, TxOut
from p2pnode.base.units import MAX_SAT

__all__ = [
    "BASE_WEIGHT",
    "Branch",
    "Payout",
    "Split",
    "build_payout",
    "check_first_signature",
    "check_first_signatures",
    "check_split",
    "off_fee",
    "payout_rates",
    "refund",
    "release",
    "verdict_split",
]

# Bitcoin Core relays no P2WPKH output below this (dust at 3 sat/vB): such an arbiter's
# fee would make a verdict that nobody can broadcast.
DUST_P2WPKH: Final = 294


@dataclass(frozen=True, slots=True)
class Split:
    """Who gets what of the escrow before the fee, in satoshi; the sum is the escrow."""

    buyer_sat: int
    seller_sat: int
    arbiter_sat: int

    def array(self) -> tuple[int, int, int]:
        """Return the canonical array."""
        return self.buyer_sat, self.seller_sat, self.arbiter_sat

    @classmethod
    def from_array(cls, field: str, value: object) -> Self:
        """Read the array, each number bounded by itself. Raises InvalidRecord."""
        parts = wire.fields(field, value, 3)
        return cls(*(wire.within(field, part, 0, MAX_SAT) for part in parts))


@dataclass(frozen=True, slots=True)
class Payout:
    """The transaction without witnesses, and what leaves it for whom."""

    tx: Transaction
    fee_sat: int
    buyer_sat_paid: int
    seller_sat_paid: int
    arbiter_sat_paid: int
    prevout: TxOut


def release(contract: Contract) -> Split:
    """Return the trade's good end: the buyer gets the amount, each his deposit."""
    return Split(contract.amount_sat + contract.dep_b, contract.dep_s, 0)


def refund(contract: Contract) -> Split:
    """Return the trade undone: each gets what he locked."""
    return Split(contract.dep_b, contract.amount_sat + contract.dep_s, 0)


def verdict_split(contract: Contract, buyer_sat: int, branch: Branch = Branch.MAIN) -> Split:
    """Return a verdict giving the buyer this much, the arbiter his fee, the seller the rest."""
    _, fee = arbiter_terms(contract, branch)
    rest = contract.escrow_sat - fee
    wire.within("buyer_sat", buyer_sat, 0, rest)
    return Split(buyer_sat, rest - buyer_sat, fee)


def off_fee(
    contract: Contract, split: Split, loser: Literal["B", "S"], branch: Branch = Branch.MAIN
) -> Split:
    """Return the verdict that repeats `split`: the arbiter's fee comes off the loser's share.

    As far as that share reaches; the rest comes off the other's. `split` is the traders'
    own, so it gives the arbiter nothing. Raises InvalidRecord.
    """
    check_split(contract, split, branch)
    if split.arbiter_sat:
        raise InvalidRecord("arbiter_sat", "is not 0 in a split of the traders")
    _, fee = arbiter_terms(contract, branch)
    share, other = split.buyer_sat, split.seller_sat
    if loser == "S":
        share, other = other, share
    taken = min(fee, share)
    share, other = share - taken, other - (fee - taken)
    return Split(share, other, fee) if loser == "B" else Split(other, share, fee)


def check_split(contract: Contract, split: Split, branch: Branch = Branch.MAIN) -> Split:
    """Return `split` if it divides this escrow. Raises InvalidRecord naming the part.

    The branch's arbiter gets his contract's fee or nothing; nobody gets less than nothing.
    """
    escrow, (_, fee) = contract.escrow_sat, arbiter_terms(contract, branch)
    wire.within("buyer_sat", split.buyer_sat, 0, escrow)
    wire.within("seller_sat", split.seller_sat, 0, escrow)
    wire.within("arbiter_sat", split.arbiter_sat, 0, escrow)
    if split.arbiter_sat not in (0, fee):
        raise InvalidRecord("arbiter_sat", f"is neither 0 nor the fee of {fee} sat")
    if split.buyer_sat + split.seller_sat + split.arbiter_sat != escrow:
        raise InvalidRecord("split", f"does not sum to the escrow's {escrow} sat")
    return split


def payout_rates(contract: Contract) -> tuple[int, int]:
    """Return the two rates a payout may have: the contract's, and the raised one."""
    return contract.rate, min(4 * contract.rate, contract.escrow_sat // 4000)


def build_payout(
    contract: Contract,
    outpoint: Outpoint,
    split: Split,
    rate: int | None = None,
    branch: Branch = Branch.MAIN,
) -> Payout:
    """Return the payout of `split`, unsigned. Raises InvalidRecord.

    Version 2, locktime 0, sequence 0xfffffffd (BACKUP: n); outputs in the order buyer,
    seller, arbiter. `rate` is one of `payout_rates`, the contract's by default.
    """
    check_split(contract, split, branch)
    rate = contract.rate if rate is None else rate
    if type(rate) is not int or rate not in payout_rates(contract):
        raise InvalidRecord("rate", f"is none of {payout_rates(contract)}")
    wire.exact("outpoint", outpoint.txid, 32)
    wire.within("outpoint", outpoint.vout, 0, 2)
    buyer, seller, arbiter = split.array()
    buyer_pays = split.buyer_sat >= split.seller_sat  # the fee comes off the larger; tie: B
    if arbiter < DUST_P2WPKH:
        buyer, seller = (buyer + arbiter, seller) if buyer_pays else (buyer, seller + arbiter)
        arbiter = 0
    if buyer < MIN_OUTPUT:
        buyer, seller = 0, seller + buyer
    elif seller < MIN_OUTPUT:
        buyer, seller = buyer + seller, 0
    arbiter_script = p2wpkh(arbiter_terms(contract, branch)[0])
    scripts = ((buyer, contract.script_b), (seller, contract.script_s), (arbiter, arbiter_script))
    weight = BASE_WEIGHT + input_weight(contract, branch)
    weight += sum(output_weight(script) for value, script in scripts if value)
    fee = fee_for(rate, weight)
    if buyer_pays:
        buyer -= fee
    else:
        seller -= fee
    if min(buyer, seller) < 0 or max(buyer, seller) < MIN_OUTPUT:
        raise InvalidRecord("split", f"cannot pay the fee of {fee} sat")
    paid = ((buyer, contract.script_b), (seller, contract.script_s), (arbiter, arbiter_script))
    outputs = tuple(TxOut(value, script) for value, script in paid if value)
    tx = Transaction(2, (TxIn(outpoint, sequence(contract, branch)),), outputs, 0)
    prevout = TxOut(contract.escrow_sat, escrow_script(contract))
    return Payout(tx, fee, buyer, seller, arbiter, prevout)


def check_first_signature(
    contract: Contract,
    outpoint: Outpoint,
    split: Split,
    rate: int | None,
    public: bytes,
    signature: object,
    field: str = "signature",
    branch: Branch = Branch.MAIN,
) -> bytes:
    """Return a peer's signature if it is `public`'s on the payout of `split`.

    Strict DER, low S, sighash ALL, a key of this contract's branch. Raises InvalidRecord.
    """
    payout = build_payout(contract, outpoint, split, rate, branch)
    if public not in escrow_keys(contract, branch):
        raise InvalidRecord(field, "is by no key of this contract")
    digest = sighash(payout.tx, 0, [payout.prevout], witness_script(contract))
    return verify_ecdsa(public, digest, signature, field)


def check_first_signatures(
    contract: Contract,
    outpoint: Outpoint,
    split: Split,
    public: bytes,
    signatures: object,
    branch: Branch = Branch.MAIN,
) -> tuple[bytes, bytes]:
    """Return a peer's pair of signatures, at the contract's rate and at the raised one.

    Raises InvalidRecord naming the one that is wrong.
    """
    low, raised = (
        check_first_signature(
            contract, outpoint, split, rate, public, signature, f"signatures[{n}]", branch
        )
        for n, (rate, signature) in enumerate(
            zip(payout_rates(contract), wire.fields("signatures", signatures, 2), strict=True)
        )
    )
    return low, raised
