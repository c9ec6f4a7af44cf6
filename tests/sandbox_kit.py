"""Coins that anyone can spend and transactions on them, for the sandbox's tests."""

from collections.abc import Sequence

from p2pnode.app.sandbox.mempool import Sandbox
from p2pnode.app.sandbox.miner import FAUCET_SCRIPT
from p2pnode.base.transaction import Outpoint, Transaction, TxIn, TxOut
from p2pnode.base.units import COIN

TRUE = (b"\x51",)
M = COIN
SOMEONE = b"\x00\x14" + b"\x44" * 20


class FakeClock:
    """A clock that the test sets; in the past, so that the kernel never minds."""

    def __init__(self, now: int = 1_700_000_000) -> None:
        self.time = now

    def now(self) -> int:
        return self.time


def make(
    points: Sequence[Outpoint],
    values: Sequence[int],
    *,
    sequence: int = 0xFFFFFFFD,
    locktime: int = 0,
    version: int = 2,
    script: bytes = FAUCET_SCRIPT,
    witness: tuple[bytes, ...] = TRUE,
) -> Transaction:
    """Spend anyone-can-spend coins to outputs of one script."""
    ins = tuple(TxIn(p, sequence, witness=witness) for p in points)
    return Transaction(version, ins, tuple(TxOut(v, script) for v in values), locktime)


def coins(box: Sandbox, count: int, value: int = M) -> list[Outpoint]:
    """Return confirmed anyone-can-spend coins of `value` each."""
    made = []
    for _ in range(count):
        made.append(Outpoint(box.fund(FAUCET_SCRIPT, value).txid, 0))
    box.mine(1)
    return made
