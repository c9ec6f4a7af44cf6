"""The sandbox: a chain, a mempool, a miner and a faucet behind one object.

Time moves by mining alone. Nothing here talks to a network; `server.ElectrumServer` does.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from p2pnode.app.sandbox import miner
from p2pnode.app.sandbox.chain import STEP, Chain
from p2pnode.app.sandbox.policy import MATURITY, Rejected
from p2pnode.app.sandbox.pool import MIN_RATE, Mempool
from p2pnode.base.clock import SystemClock, SystemRandomness
from p2pnode.base.errors import InvalidRecord, LocalFault
from p2pnode.base.ports import Clock, Randomness
from p2pnode.base.transaction import (
    Header,
    Outpoint,
    Transaction,
    TxOut,
    display,
    parse_transaction,
    scripthash,
)
from p2pnode.base.units import MAX_SAT

WARM_UP: Final = 110  # blocks on a new chain, so that eleven faucet coins are mature
MAX_MINE: Final = 1_000  # blocks a call
ESTIMATE: Final = 2_000  # satoshi per 1,000 vB, for every target
_FAUCET: Final = scripthash(miner.FAUCET_SCRIPT)


class Sandbox:
    """A private regtest chain; on disk under `directory`, else gone with `close`."""

    def __init__(
        self,
        directory: Path | None,
        *,
        clock: Clock | None = None,
        randomness: Randomness | None = None,
        min_rate: int = MIN_RATE,
        warm_up: int = WARM_UP,
    ) -> None:
        self._randomness = randomness or SystemRandomness()
        self.chain = Chain(directory, clock or SystemClock())
        self.pool = Mempool(self.chain.index, min_rate)
        self.estimate = ESTIMATE  # what estimatefee answers
        self.congestion = 0  # cheaper transactions wait, satoshi per 1,000 vB
        try:
            while self.height < warm_up:
                self.mine(min(MAX_MINE, warm_up - self.height))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the kernel, the files and the lock."""
        self.chain.close()

    @property
    def height(self) -> int:
        """Height of the tip."""
        return self.chain.height

    def take_touched(self) -> set[str]:
        """Return the scripthashes that changed since the last call."""
        touched = self.chain.index.touched | self.pool.touched
        self.chain.index.touched, self.pool.touched = set(), set()
        return touched

    def stats(self) -> dict[str, Any]:
        """Return counts that must agree: admitted == checked, submitted == compared."""
        return {
            "height": self.height,
            "tip": display(self.chain.tip),
            "time": self.chain.time,
            "mempool": len(self.pool.entries),
            "entries_admitted": self.pool.admitted_count,
            "entries_script_checked": self.pool.checked_count,
            "blocks_submitted": self.chain.submitted,
            "tips_compared": self.chain.compared,
        }

    # -- transactions

    def broadcast(self, raw: bytes) -> Transaction:
        """Admit a transaction as a node's RPC would: a repeat is success. Raises Rejected."""
        try:
            tx = parse_transaction("transaction", raw)
        except InvalidRecord:
            raise Rejected("TX decode failed. Make sure the tx has at least one input.") from None
        points = (Outpoint(tx.txid, n) for n in range(len(tx.outputs)))
        if any(p in self.chain.index.coins for p in points):
            raise Rejected("Transaction outputs already in utxo set")
        if known := self.pool.entries.get(tx.txid):
            return known.tx
        return self.pool.accept(raw)

    def fund(self, script: bytes, sat: int) -> Transaction:
        """Pay `sat` to `script` from the faucet; unconfirmed until mined.

        Raises InvalidRecord for an impossible amount, Rejected without mature coins.
        """
        if not 0 < sat <= MAX_SAT:
            raise InvalidRecord("amount_sat", f"is not 1 to {MAX_SAT}")
        tx = miner.pay_from_faucet(self._faucet_coins(), TxOut(sat, script))
        if tx is None:
            raise Rejected("the faucet has not enough mature coins: mine more blocks")
        return self.pool.accept(tx.serialize())

    def _faucet_coins(self) -> list[tuple[Outpoint, int]]:
        index = self.chain.index
        coins = []
        for point in index.unspent.get(_FAUCET, {}):
            coin = index.coins[point]
            young = coin.coinbase and self.height + 1 - coin.height < MATURITY
            if not young and point not in self.pool.spender:
                coins.append((point, coin.value))
        return coins

    # -- blocks

    def mine(self, count: int, step: int = STEP) -> list[bytes]:
        """Mine `count` blocks `step` seconds apart; returns their hashes, internal order.

        Raises LocalFault if that is too many, or would carry the chain over the limit that
        consensus sets ahead of the machine's clock; then nothing is mined.
        """
        if not 0 <= count <= MAX_MINE:
            raise LocalFault(f"blocks: is not 0 to {MAX_MINE}", field="blocks")
        self.chain.check_storage()
        hashes = []
        for time in self.chain.times(count, step):
            chosen = self.pool.select(self.congestion, miner.MAX_BLOCK_WEIGHT)
            raw = self._build(
                self.chain.tip,
                self.height + 1,
                time,
                [e.tx for e in chosen],
                sum(e.fee for e in chosen),
            )
            try:
                hashes.append(self.chain.extend(raw))
            finally:
                if self.pool.entries:
                    self.pool.rebuild(())
        self.chain.sync()
        return hashes

    def _build(
        self, prev: bytes, height: int, time: int, txs: list[Transaction], fees: int
    ) -> bytes:
        nonce = self._randomness.bytes(8)
        return miner.build_block(
            prev=prev, height=height, time=time, txs=txs, fees=fees, nonce=nonce
        )

    def reorg(
        self,
        depth: int,
        *,
        txs: Iterable[bytes] = (),
        drop: Iterable[bytes] = (),
        step: int = STEP,
    ) -> list[bytes]:
        """Replace the last `depth` blocks by `depth` + 1 others; returns the new hashes.

        The first new block carries the raw `txs` (a double spend, say). What the old blocks
        held returns to the mempool unless it conflicts or its txid is in `drop`. Chain time
        does not fall: the new blocks take the old ones' times. Raises Rejected with the
        kernel's verdict if the fork is invalid; the old chain then stands.
        """
        self.chain.check_storage()
        base = self.height - depth
        if not 0 < depth <= min(self.height, MAX_MINE):
            raise LocalFault("depth: is not between 1 and the chain's height", field="depth")
        headers = self.chain.index.headers[base + 1 :]
        times = [h.time for h in headers] + self.chain.times(1, step)
        carried = [parse_transaction("txs", raw) for raw in txs]
        prev, made = self.chain.index.headers[base].hash, []
        dropped: set[bytes] = set()
        try:
            for n, time in enumerate(times):
                raw = self._build(prev, base + 1 + n, time, carried if n == 0 else [], 0)
                self.chain.submit(raw)
                made.append(raw)
                prev = Header(raw[:80]).hash
            if self.chain.tip != prev:
                raise Rejected("block refused: the fork did not win")
            dropped = set(drop)
        finally:
            self._return(dropped)
        self.chain.record(made)
        self.chain.sync()
        return [h.hash for h in self.chain.index.headers[base + 1 :]]

    def _return(self, dropped: set[bytes]) -> None:
        returned, self.chain.index.returned = self.chain.index.returned, []
        for txid in dropped & self.pool.entries.keys():
            for child in self.pool.relatives(txid, "children"):
                self.pool.drop(child)
            self.pool.drop(txid)
        self.pool.rebuild(t for t in returned if t.txid not in dropped)
