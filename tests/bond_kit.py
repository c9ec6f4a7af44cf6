"""Bonds and bonded arbiters by fixed keys, each bond one of two transactions of its block."""

from functools import cache
from typing import Any

from trade_facts import FRESH, MTP, NET, FakeEyes, block_hash, h, identity, schnorr, secret

from escrow.arbiters import ArbiterRecord
from escrow.bond import YEAR_S, Bond, Eyes, bond_output
from escrow.script import p2wpkh
from p2pnode.base.networks import Network
from p2pnode.base.transaction import Outpoint, Transaction, TxIn, TxOut

SAT = 5_000_000
LOCKED = MTP + 2 * YEAR_S
HEIGHT = 100


def bond_key(name: str) -> bytes:
    return secret(f"bond of {name}").public_key.format()


@cache
def bond(
    number: int,
    *,
    sat: int = SAT,
    lock_time: int = LOCKED,
    height: int = 0,
    key: str = "",
    script: bytes = b"",
    inputs: int = 1,
) -> Bond:
    """The bond of arbiter `number`; its output is the first or the second by the number."""
    public = bond_key(key or f"arbiter {number}")
    outputs = [
        TxOut(sat, script or bond_output(lock_time, public)),
        TxOut(7_000, p2wpkh(b"\x02" + h(f"change {number}"))),
    ]
    vout = number % 2
    if vout:
        outputs.reverse()
    points = [Outpoint(h(f"coin {number}/{n}"), n) for n in range(inputs)]
    tx = Transaction(2, tuple(TxIn(p) for p in points), tuple(outputs), 90)
    return Bond(
        outpoint=Outpoint(tx.txid, vout).wire(),
        transaction=tx.serialize(),
        height=height or HEIGHT + number,
        position=number % 2,
        branch=(h(f"beside {number}"),),
        key=public,
        lock_time=lock_time,
    )


@cache
def bonded(
    number: int,
    at_height: int = FRESH,
    *,
    node: str = "",
    network: Network = NET,
    at_hash: bytes = b"",
    made: Bond | None = None,
    signer: str = "",
    **change: Any,
) -> ArbiterRecord:
    """The record of arbiter `number` with his bond, or with a changed one."""
    name = node or f"arbiter {number}"
    account = secret(f"arbitration {name}")
    key = secret(f"bond of {signer or change.get('key') or f'arbiter {number}'}")
    record = ArbiterRecord(
        network=network,
        node_id=identity(name, network).node_id,
        point=account.public_key.format(),
        chain_code=h(f"chain code {name}"),
        fee_base=1000,
        fee_ppm=1000,
        at_height=at_height,
        at_hash=at_hash or block_hash(at_height) or bytes(32),
        bond=made or bond(number, **change),
    )
    return record.signed(
        identity(name, network), lambda m: schnorr(account, m), lambda m: schnorr(key, m)
    )


def eyes_of(*records: ArbiterRecord) -> Eyes:
    """A chain in which these records' bonds are."""
    return FakeEyes({r.bond.height: r.bond.root for r in records if r.bond})
