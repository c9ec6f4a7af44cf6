"""A chain for the trade's models: blocks, a pool in which everything waits, reorgs, fee floors."""

from dataclasses import dataclass, field
from typing import Any

from trade_facts import MTP, TIP

from escrow.model import ChainView, Spend
from p2pnode.base.transaction import Outpoint, Transaction, parse_transaction

BLOCK_S = 600
FINAL = 6


@dataclass
class Ledger:
    """A chain of blocks and everything that was ever broadcast and is not in it."""

    height: int = TIP
    mined: dict[bytes, int] = field(default_factory=dict)  # txid: height
    known: dict[bytes, Transaction] = field(default_factory=dict)
    pool: list[bytes] = field(default_factory=list)
    dear: bool = False  # nobody relays a payout at the lower rate

    @property
    def mtp(self) -> int:
        return self.mtp_at(self.height)

    def mtp_at(self, height: int) -> int:
        return MTP + BLOCK_S * (height - TIP)

    def broadcast(self, raw: bytes) -> None:
        tx = parse_transaction("transaction", raw)
        if tx.txid not in self.known:
            self.known[tx.txid] = tx
        if tx.txid not in self.mined and tx.txid not in self.pool:
            self.pool.append(tx.txid)

    def publish(self, raw: bytes, raised: bytes) -> None:
        """As the tender does: where the lower rate is refused, the raised one at once."""
        self.broadcast(raised if self.dear and raised else raw)

    def spent(self) -> dict[Outpoint, bytes]:
        return {i.outpoint: txid for txid in self.mined for i in self.known[txid].inputs}

    def mine(self, count: int, *, backwards: bool = False, empty: bool = False) -> None:
        """Mine blocks; the first takes what fits of the pool, in the miner's own order."""
        self.height += 1
        for txid in () if empty else self.pool[:: -1 if backwards else 1]:
            self._confirm(txid)
        self.height += count - 1

    def _confirm(self, txid: bytes) -> None:
        points = [i.outpoint for i in self.known[txid].inputs]
        spent = self.spent()
        ours = {t for t in self.known if t not in self.mined}
        if any(p in spent or p.txid in ours for p in points):
            return  # a conflict is mined, or what it spends is not
        locked = self.known[txid].inputs[0].sequence
        if locked < 1 << 16:  # a relative lock, in blocks (BIP 68)
            parent = self.mined.get(points[0].txid, self.height)
            if self.height - parent < locked:
                return
        self.mined[txid] = self.height
        self.pool.remove(txid)

    def reorg(self, depth: int, *, lose: bool) -> None:
        """Replace the last blocks by one more, all empty; `lose`: mempools forget them too."""
        gone = [t for t, at in self.mined.items() if at > self.height - depth]
        for txid in gone:
            del self.mined[txid]
            if not lose:
                self.pool.append(txid)
        self.height += 1

    def depth(self, txid: bytes) -> int:
        return self.height - self.mined[txid] + 1 if txid in self.mined else 0

    def spender(self, points: set[Outpoint], besides: bytes) -> Spend | None:
        """The confirmed spend, else one that waits."""
        for txid in (*self.mined, *self.pool):
            tx = self.known[txid]
            if txid != besides and points & {i.outpoint for i in tx.inputs}:
                return Spend(txid, self.mined.get(txid, 0), tx.serialize())
        return None

    def view(self, funding: Any) -> ChainView:
        """Everything of one trade, as `shell_tender.look` says it."""
        point: Outpoint = funding.escrow_outpoint
        at = self.mined.get(point.txid, 0 if point.txid in self.pool else None)
        inputs = {i.outpoint for i in funding.tx.inputs}
        return ChainView(
            tip=self.height,
            mtp=self.mtp,
            funding_height=at,
            funding_mtp=self.mtp_at(at) if at else 0,
            funding_raw=self.known[point.txid].serialize() if at is not None else b"",
            spend=self.spender({point}, b""),
            conflict=None if at else self.spender(inputs, point.txid),
        )
