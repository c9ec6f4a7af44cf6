"""A chain in memory for whole trading halves: blocks, one mempool, and everything ever offered.

Headers are made up; merkle roots, median times and script validity (by Bitcoin Core's library)
are real. A transaction that spends what another in the mempool spends replaces it for more fee
(BIP 125, rules 3 and 4 at 1 sat/vB). `copy` gives a chain that goes its own way.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median

import trio

from escrow.backend_consensus import verify_transaction
from p2pnode.base.errors import InvalidRecord, LocalFault, NotFound
from p2pnode.base.ports import Sighting, Tip
from p2pnode.base.transaction import Outpoint, Transaction, TxIn, TxOut, parse_transaction

BLOCK_S = 600
GENESIS_S = 1_700_000_000


def twice(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def branch_of(txids: list[bytes], position: int) -> tuple[tuple[bytes, ...], bytes]:
    """Return the merkle branch of a transaction, and the root."""
    row, branch = list(txids), []
    while len(row) > 1:
        row += row[-1:] if len(row) % 2 else []
        branch.append(row[position ^ 1])
        row = [twice(row[n] + row[n + 1]) for n in range(0, len(row), 2)]
        position //= 2
    return tuple(branch), row[0]


@dataclass(frozen=True)
class Block:
    hash: bytes
    time: int
    txids: tuple[bytes, ...]


@dataclass
class Ledger:
    """One chain that all nodes share."""

    blocks: list[Block] = field(default_factory=list)
    known: dict[bytes, Transaction] = field(default_factory=dict)  # whatever was accepted once
    heights: dict[bytes, int] = field(default_factory=dict)
    pool: list[bytes] = field(default_factory=list)
    news: trio.Event = field(default_factory=trio.Event)

    def copy(self) -> "Ledger":
        return Ledger(
            list(self.blocks), dict(self.known), dict(self.heights), list(self.pool), trio.Event()
        )

    @property
    def height(self) -> int:
        return len(self.blocks) - 1

    def mtp(self, height: int) -> int:
        return int(median(b.time for b in self.blocks[max(0, height - 10) : height + 1]))

    def mine(self, count: int = 1, step: int = BLOCK_S) -> None:
        """Mine blocks; the first takes the whole mempool."""
        for n in range(count):
            taken = () if n else tuple(self.pool)
            before = self.blocks[-1] if self.blocks else Block(bytes(32), GENESIS_S, ())
            raw = b"".join((before.hash, len(self.blocks).to_bytes(4, "big"), *taken))
            self.blocks.append(Block(twice(raw), before.time + step, taken))
            for txid in taken:
                self.heights[txid] = self.height
        self.pool.clear()
        self.tell()

    def coin(self, script: bytes, sat: int, number: int) -> None:
        """Put an output into a block of its own."""
        spent = TxIn(Outpoint(hashlib.sha256(b"coin %d" % number).digest(), 0))
        tx = Transaction(2, (spent,), (TxOut(sat, script),), 0)
        self.known[tx.txid] = tx
        self.pool.append(tx.txid)
        self.mine()

    def spenders(self, point: Outpoint) -> list[bytes]:
        """Return every transaction that was ever accepted and spends an output."""
        return [t for t, tx in self.known.items() if point in {i.outpoint for i in tx.inputs}]

    def spent(self, outpoint: Outpoint) -> bool:
        """Tell whether a block spends an output."""
        return any(t in self.heights for t in self.spenders(outpoint))

    def output(self, point: Outpoint) -> TxOut | None:
        tx = self.known.get(point.txid)
        known = tx is not None and (point.txid in self.heights or point.txid in self.pool)
        return tx.outputs[point.vout] if tx and known and point.vout < len(tx.outputs) else None

    def accept(self, raw: bytes) -> bytes:
        """Take a transaction into the mempool. Raises LocalFault, as a server that refuses."""
        tx = parse_transaction("transaction", raw)
        if tx.txid in self.heights or tx.txid in self.pool:
            return tx.txid
        prevouts = [self.output(i.outpoint) for i in tx.inputs]
        if None in prevouts or any(self.spent(i.outpoint) for i in tx.inputs):
            raise LocalFault("broadcast refused: bad-txns-inputs-missingorspent")
        outs = [p for p in prevouts if p is not None]
        try:
            verify_transaction(tx, outs)
        except InvalidRecord as error:
            raise LocalFault(f"broadcast refused: {error}") from None
        points = {i.outpoint for i in tx.inputs}
        rivals = [t for t in self.pool if points & {i.outpoint for i in self.known[t].inputs}]
        if rivals and self.fee(tx) < sum(self.fee(self.known[t]) for t in rivals) + tx.vsize:
            raise LocalFault("broadcast refused: insufficient fee, rejecting replacement")
        for txid in rivals:
            self.pool.remove(txid)
        self.known[tx.txid] = tx
        self.pool.append(tx.txid)
        self.tell()
        return tx.txid

    def fee(self, tx: Transaction) -> int:
        outs = [self.known[i.outpoint.txid].outputs[i.outpoint.vout] for i in tx.inputs]
        return sum(o.value for o in outs) - sum(o.value for o in tx.outputs)

    def tell(self) -> None:
        news, self.news = self.news, trio.Event()
        news.set()

    def touching(self, script: bytes) -> Iterable[bytes]:
        for txid in (*self.heights, *self.pool):
            tx = self.known[txid]
            outs = [o.script for o in tx.outputs]
            outs += [
                self.known[i.outpoint.txid].outputs[i.outpoint.vout].script
                for i in tx.inputs
                if i.outpoint.txid in self.known
            ]
            if script in outs:
                yield txid

    def coins(self, scripts: set[bytes]) -> list[tuple[Outpoint, TxOut]]:
        """Return the confirmed unspent outputs of these scripts."""
        found = []
        for txid in self.heights:
            for n, out in enumerate(self.known[txid].outputs):
                if out.script in scripts and not self.spent(Outpoint(txid, n)):
                    found.append((Outpoint(txid, n), out))
        return found


class ChainView:
    """ports.Chain of one node over the shared ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    async def run(self, task_status: "trio.TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.sleep_forever()

    def tip(self) -> Tip:
        height = self.ledger.height
        return Tip(height, self.ledger.blocks[height].hash, self.ledger.mtp(height))

    async def changed(self) -> None:
        await self.ledger.news.wait()

    async def watch(self, script: bytes) -> None:
        await trio.lowlevel.checkpoint()

    async def sightings(self, script: bytes) -> tuple[Sighting, ...]:
        await trio.lowlevel.checkpoint()
        ledger = self.ledger
        return tuple(
            Sighting(t, ledger.heights.get(t, 0), ledger.known[t].serialize())
            for t in ledger.touching(script)
        )

    def block_hash(self, height: int) -> bytes | None:
        return self.ledger.blocks[height].hash if 0 <= height <= self.ledger.height else None

    def merkle_root(self, height: int) -> bytes | None:
        if not 0 <= height <= self.ledger.height:
            return None
        txids = list(self.ledger.blocks[height].txids)
        return branch_of(txids, 0)[1] if txids else bytes(32)

    def mtp(self, height: int) -> int:
        return self.ledger.mtp(height)

    async def transaction(self, txid: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        if txid not in self.ledger.heights and txid not in self.ledger.pool:
            raise NotFound("no such transaction")
        return self.ledger.known[txid].serialize()

    async def proof(self, txid: bytes, height: int) -> tuple[tuple[bytes, ...], int]:
        await trio.lowlevel.checkpoint()
        txids = list(self.ledger.blocks[height].txids)
        return branch_of(txids, txids.index(txid))[0], txids.index(txid)

    async def broadcast(self, raw: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        return self.ledger.accept(raw)

    async def fee_rate(self, target: int) -> int | None:
        await trio.lowlevel.checkpoint()
        return None
