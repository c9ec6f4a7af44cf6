"""The joint funding transaction: a pure function of the contract and the declared coins.

Both traders build it, compare by construction, and sign their own inputs alone. A side
pays for its own inputs, its own change and half of the common part, so nobody pays for
another's fifty coins. A buyer without a deposit brings nothing; the seller then pays the
whole common part. Rules and weights: docs/wire/transactions.md; BIP 141 weights, BIP 125
for a side's way out. Values in satoshi, rates in sat/vB, weights in units.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from escrow.contract import KIND_BACKUP, Contract, check_script, max_rate
from escrow.declared import (
    DeclaredInput,
    FundingInput,
    check_declared,
    check_inputs,
    declare,
    read_declared,
)
from escrow.payloads import MAX_INPUTS
from escrow.script import escrow_script, p2wpkh
from escrow.sighash import is_p2tr, is_p2wpkh
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, LocalFault
from p2pnode.base.transaction import SEQUENCE_RBF, Outpoint, Transaction, TxIn, TxOut
from p2pnode.base.units import MAX_SAT

__all__ = [
    "DeclaredInput",
    "Funding",
    "FundingInput",
    "FundingSide",
    "Owner",
    "build_funding",
    "check_declared",
    "check_inputs",
    "contribution",
    "declare",
    "read_declared",
    "respend",
    "select_coins",
    "side_fee",
]

Owner = Literal["B", "S"]

COMMON_WEIGHT: Final = 214  # version, counts, locktime, segwit marker, the escrow output
COMMON_SHARE: Final = COMMON_WEIGHT // 2
P2WPKH_INPUT: Final = 272
P2TR_INPUT: Final = 230
MIN_OUTPUT: Final = 1000  # a change or payout below it is not made
BASE_WEIGHT: Final = 42  # version, counts, locktime, segwit marker
_INCREMENTAL: Final = 1  # sat/vB that a replacement pays for its own relay (BIP 125, rule 4)


def output_weight(script: bytes) -> int:
    """Return an output's weight: 124 for 22 bytes of script, 172 for 34."""
    return 4 * (9 + len(script))


def input_weight(script: bytes) -> int:
    """Return the weight of a signed input that spends this output script."""
    return P2WPKH_INPUT if is_p2wpkh(script) else P2TR_INPUT


def fee_for(rate: int, weight: int) -> int:
    """Return ceil(rate x weight / 4)."""
    return -(-rate * weight // 4)


@dataclass(frozen=True, slots=True)
class FundingSide:
    """What one trader brings: his coins, in any order, and where his change goes.

    A buyer without a deposit brings no coin and has no change: both are empty.
    """

    inputs: tuple[FundingInput, ...] = ()
    change_script: bytes = b""


@dataclass(frozen=True, slots=True)
class Funding:
    """The transaction without witnesses, and what each side pays and gets back."""

    tx: Transaction
    escrow_outpoint: Outpoint
    fee_sat: int
    fee_b: int
    fee_s: int
    change_b: int
    change_s: int
    prevouts: tuple[TxOut, ...]  # in input order
    owners: tuple[Owner, ...]  # in input order

    def own(self, side: Owner) -> tuple[int, ...]:
        """Return the indexes of a side's inputs, ascending."""
        return tuple(i for i, owner in enumerate(self.owners) if owner == side)

    def coins(self, side: Owner) -> tuple[FundingInput, ...]:
        """Return a side's coins in input order: what its way out spends (`respend`)."""
        return tuple(
            FundingInput(
                self.tx.inputs[i].outpoint, self.prevouts[i].value, self.prevouts[i].script
            )
            for i in self.own(side)
        )


def contribution(contract: Contract, side: Owner) -> int:
    """Return what a side must lock: B its deposit, S the amount and its deposit."""
    return contract.dep_b if side == "B" else contract.amount_sat + contract.dep_s


def common_weight(contract: Contract, side: Owner) -> int:
    """Return a side's part of the common weight: half, or the seller all where B brings none."""
    if contract.dep_b:
        return COMMON_SHARE
    return 0 if side == "B" else COMMON_WEIGHT


def side_fee(
    contract: Contract,
    side: Owner,
    inputs: Sequence[FundingInput],
    change_script: bytes | None,
) -> int:
    """Return a side's share of the fee; `change_script` None means no change output."""
    weight = common_weight(contract, side) + sum(input_weight(i.script) for i in inputs)
    if change_script is not None:
        weight += output_weight(change_script)
    return fee_for(contract.rate, weight)


def _settle(contract: Contract, owner: Owner, side: FundingSide) -> tuple[int, int]:
    """Return (fee, change) of one side. Raises InvalidRecord if its coins do not suffice."""
    if not side.inputs:
        return 0, 0
    brought = sum(i.value for i in side.inputs)
    rest = brought - contribution(contract, owner)
    change = rest - side_fee(contract, owner, side.inputs, side.change_script)
    if change >= MIN_OUTPUT:
        return rest - change, change
    missing = side_fee(contract, owner, side.inputs, None) - rest
    if missing > 0:
        name = f"inputs_{owner.lower()}"
        raise InvalidRecord(name, f"lack {missing} sat for contribution and fee")
    return rest, 0


def _check_side(contract: Contract, owner: Owner, side: FundingSide) -> None:
    name = f"inputs_{owner.lower()}"
    if not contribution(contract, owner):
        if side != FundingSide():
            raise InvalidRecord(name, "are of a buyer without a deposit, who brings none")
        return
    if type(side.inputs) is not tuple or not 1 <= len(side.inputs) <= MAX_INPUTS:
        raise InvalidRecord(name, f"is not a list of 1 to {MAX_INPUTS} coins")
    for n, coin in enumerate(side.inputs):
        coin.check(f"{name}[{n}]")
    wire.within(name, sum(i.value for i in side.inputs), 1, MAX_SAT)
    check_script(f"change_{owner.lower()}", side.change_script)


def _check_distinct(contract: Contract, buyer: FundingSide, seller: FundingSide) -> None:
    points = [i.outpoint for i in (*buyer.inputs, *seller.inputs)]
    if len(set(points)) != len(points):
        both = {i.outpoint for i in buyer.inputs} & {i.outpoint for i in seller.inputs}
        where = "both sides" if both else "one side twice"
        raise InvalidRecord("inputs", f"an outpoint is declared by {where}")
    if {i.script for i in buyer.inputs} & {i.script for i in seller.inputs}:
        raise InvalidRecord("inputs", "a coin of one side lies at an address of the other")
    scripts = {
        "script_b": contract.script_b,
        "script_s": contract.script_s,
        "key_a": p2wpkh(contract.key_a),
        "escrow": escrow_script(contract),
    }
    if contract.escrow_kind == KIND_BACKUP:
        scripts["key_a2"] = p2wpkh(contract.key_a2)
    if buyer.inputs:
        scripts["change_b"] = buyer.change_script
    scripts["change_s"] = seller.change_script
    seen: dict[bytes, str] = {}
    for name, script in scripts.items():
        if script in seen:
            raise InvalidRecord(name, f"is the same script as {seen[script]}")
        seen[script] = name


def build_funding(contract: Contract, buyer: FundingSide, seller: FundingSide) -> Funding:
    """Return the one funding transaction of these parts. Raises InvalidRecord.

    Version 2, locktime at the anchor, every sequence 0xfffffffd; inputs ascending by
    SHA-256(contract hash || outpoint), outputs by SHA-256(contract hash || script).
    """
    _check_side(contract, "B", buyer)
    _check_side(contract, "S", seller)
    _check_distinct(contract, buyer, seller)
    fee_b, change_b = _settle(contract, "B", buyer)
    fee_s, change_s = _settle(contract, "S", seller)

    def key(part: bytes) -> bytes:
        return hashlib.sha256(contract.hash + part).digest()

    owned: list[tuple[Owner, FundingInput]] = [("B", i) for i in buyer.inputs]
    owned += [("S", i) for i in seller.inputs]
    owned.sort(key=lambda pair: key(pair[1].outpoint.wire()))
    escrow = TxOut(contract.escrow_sat, escrow_script(contract))
    outputs = [escrow]
    if change_b:
        outputs.append(TxOut(change_b, buyer.change_script))
    if change_s:
        outputs.append(TxOut(change_s, seller.change_script))
    outputs.sort(key=lambda output: key(output.script))
    inputs = tuple(TxIn(coin.outpoint, SEQUENCE_RBF) for _, coin in owned)
    tx = Transaction(2, inputs, tuple(outputs), contract.anchor_h)
    return Funding(
        tx=tx,
        escrow_outpoint=Outpoint(tx.txid, outputs.index(escrow)),
        fee_sat=fee_b + fee_s,
        fee_b=fee_b,
        fee_s=fee_s,
        change_b=change_b,
        change_s=change_s,
        prevouts=tuple(TxOut(coin.value, coin.script) for _, coin in owned),
        owners=tuple(owner for owner, _ in owned),
    )


def select_coins(
    contract: Contract, side: Owner, coins: Sequence[FundingInput], change_script: bytes
) -> FundingSide:
    """Return the fewest of one's own coins, largest first, that pay a side's part.

    A buyer without a deposit needs none and gets an empty side. Raises LocalFault "not
    enough funds", naming what is missing.
    """
    if not contribution(contract, side):
        return FundingSide()
    native = [c for c in coins if is_p2wpkh(c.script) or is_p2tr(c.script)]
    ordered = sorted(native, key=lambda c: (-c.value, c.outpoint))[:MAX_INPUTS]
    missing = contribution(contract, side) + side_fee(contract, side, (), None)
    for count in range(1, len(ordered) + 1):
        chosen = tuple(ordered[:count])
        need = contribution(contract, side) + side_fee(contract, side, chosen, None)
        missing = need - sum(c.value for c in chosen)
        if missing <= 0:
            return FundingSide(chosen, change_script)
    of = f"the {MAX_INPUTS} largest of them" if len(native) > MAX_INPUTS else "what is confirmed"
    raise LocalFault(
        f"not enough funds: {missing} sat are missing in {of} to lock "
        f"{contribution(contract, side)} sat and pay the fee at {contract.rate} sat/vB",
        field="amount_sat",
    )


def respend(
    coins: Sequence[FundingInput], to_script: bytes, *, funding_fee: int, rate: int
) -> Transaction:
    """Return a side's way out, unsigned: its inputs back to itself, in place of the funding.

    B's when no final transaction comes (10 minutes), either's while it stays unconfirmed
    (72 hours); `coins` are one side's alone (`Funding.coins`), `rate` the funding's. It
    pays twice that rate, and more absolute fee than the funding by its own relay fee
    (BIP 125, rules 3 and 4), so that it replaces a funding that the peer holds back. The
    peer's coins make that fee: where ours cannot pay it, it is twice the rate alone, and at
    the least the relay fee, which still spends our coins while the funding is in no mempool.
    Raises LocalFault if they cannot pay even that.
    """
    wire.within("coins", len(coins), 1, MAX_INPUTS)
    for n, coin in enumerate(coins):
        coin.check(f"coins[{n}]")
    check_script("to_script", to_script)
    wire.within("rate", rate, 1, max_rate(MAX_SAT))
    wire.within("funding_fee", funding_fee, 0, MAX_SAT)
    weight = BASE_WEIGHT + sum(input_weight(c.script) for c in coins) + output_weight(to_script)
    relay, twice = fee_for(_INCREMENTAL, weight), fee_for(2 * rate, weight)
    spare = sum(c.value for c in coins) - MIN_OUTPUT
    fees = (max(twice, funding_fee + relay), twice, relay)
    fee = next((f for f in fees if f <= spare), None)
    if fee is None:
        raise LocalFault(
            f"coins of {spare + MIN_OUTPUT} sat are too small to be spent for {relay} sat",
            field="coins",
        )
    inputs = tuple(TxIn(c.outpoint, SEQUENCE_RBF) for c in coins)
    return Transaction(2, inputs, (TxOut(spare + MIN_OUTPUT - fee, to_script),), 0)
