"""Inputs that a trader declares for the funding, and what must be true of them.

Nothing in a declaration is believed: value and script come from the previous
transaction, whose hash is the outpoint's txid, and its merkle branch must lead to the
root in OUR header. Pure: the chain comes in as a function (docs/wire.md, "Transactions").
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from escrow.payloads import MAX_INPUTS, Declared
from escrow.sighash import is_p2tr, is_p2wpkh
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.transaction import (
    Outpoint,
    Transaction,
    parse_transaction,
    root_from_branch,
)
from p2pnode.base.units import MAX_SAT

COINBASE_MATURITY: Final = 100
DeclaredInput = Declared  # its layout on the wire is the INPUTS payload's
MerkleRoot = Callable[[int], bytes | None]


@dataclass(frozen=True, slots=True)
class FundingInput:
    """A coin to spend: where it is, satoshi, output script (native P2WPKH or P2TR)."""

    outpoint: Outpoint
    value: int
    script: bytes

    def check(self, field: str) -> None:
        """Raise InvalidRecord unless every field is bounded and the script is native."""
        if type(self.outpoint) is not Outpoint:
            raise InvalidRecord(field, "has no outpoint")
        wire.exact(f"{field}.outpoint", self.outpoint.txid, 32)
        wire.within(f"{field}.outpoint", self.outpoint.vout, 0, 0xFFFFFFFF)
        wire.within(f"{field}.value", self.value, 1, MAX_SAT)
        script = wire.blob(f"{field}.script", self.script, 34, low=22)
        if not (is_p2wpkh(script) or is_p2tr(script)):
            raise InvalidRecord(f"{field}.script", "is neither native P2WPKH nor P2TR")


def declare(
    outpoint: Outpoint, prev_tx: bytes, height: int, position: int, branch: Sequence[bytes]
) -> DeclaredInput:
    """Return a declaration of one's own coin; `prev_tx` may still carry its witnesses."""
    stripped = parse_transaction("prev_tx", prev_tx).serialize(witness=False)
    return DeclaredInput(
        outpoint=outpoint.wire(),
        prev_tx=stripped,
        height=height,
        position=position,
        branch=tuple(branch),
    )


def _previous(declared: DeclaredInput, field: str) -> tuple[Transaction, FundingInput]:
    point = Outpoint.from_wire(f"{field}.outpoint", declared.outpoint)
    where = f"{field}.prev_tx"
    # CVE-2017-12842, both ways: two hashes of the tree cannot pass for this transaction, for
    # with a native output it has 82 bytes at least; and `root_from_branch` refuses a branch
    # that hangs it below a real transaction of 64 bytes.
    previous = parse_transaction(where, declared.prev_tx)
    if any(i.witness for i in previous.inputs):
        raise InvalidRecord(where, "is not stripped of its witnesses")
    if previous.txid != point.txid:
        raise InvalidRecord(where, "is not the transaction of the outpoint")
    if point.vout >= len(previous.outputs):
        raise InvalidRecord(f"{field}.outpoint", "names an output that does not exist")
    output = previous.outputs[point.vout]
    coin = FundingInput(point, output.value, output.script)
    coin.check(field)
    return previous, coin


def read_declared(declared: DeclaredInput, field: str = "inputs") -> FundingInput:
    """Return the coin that a declaration shows, by itself alone. Raises InvalidRecord."""
    return _previous(declared, field)[1]


def check_declared(
    declared: DeclaredInput,
    *,
    merkle_root: MerkleRoot,
    tip_height: int,
    field: str = "inputs",
) -> FundingInput:
    """Return the coin, proven to be in our chain and spendable. Raises InvalidRecord."""
    previous, coin = _previous(declared, field)
    wire.within(f"{field}.height", declared.height, 1, max(tip_height, 1))
    root = merkle_root(declared.height)
    if root is None:
        raise InvalidRecord(f"{field}.height", "is above our tip")
    if root_from_branch(previous.txid, declared.branch, declared.position) != root:
        raise InvalidRecord(f"{field}.branch", "does not lead to our header's merkle root")
    first = previous.inputs[0].outpoint
    coinbase = first == Outpoint(bytes(32), 0xFFFFFFFF)
    if coinbase and tip_height - declared.height + 1 < COINBASE_MATURITY:
        raise InvalidRecord(f"{field}.height", "is of a coinbase that is not mature yet")
    return coin


def check_inputs(
    declared: Sequence[DeclaredInput],
    *,
    merkle_root: MerkleRoot,
    tip_height: int,
    refused: Callable[[FundingInput], bool],
    field: str = "inputs",
) -> tuple[FundingInput, ...]:
    """Return a peer's coins, each proven. Raises InvalidRecord naming the item.

    `refused` says whether a coin is our own or locked in another trade: bdk's `sign`
    would sign for it.
    """
    if not 1 <= len(declared) <= MAX_INPUTS:
        raise InvalidRecord(field, f"is not a list of 1 to {MAX_INPUTS} coins")
    if any(a.outpoint >= b.outpoint for a, b in pairwise(declared)):
        raise InvalidRecord(field, "is not strictly ascending by outpoint")
    coins = []
    for n, item in enumerate(declared):
        where = f"{field}[{n}]"
        coin = check_declared(item, merkle_root=merkle_root, tip_height=tip_height, field=where)
        if refused(coin):
            raise InvalidRecord(f"{where}.outpoint", "is ours, or bound in another trade")
        coins.append(coin)
    return tuple(coins)
