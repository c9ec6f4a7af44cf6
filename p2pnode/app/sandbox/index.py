"""What an Electrum server must know of the active chain, kept up block by block. Pure.

`connect` and `disconnect` mirror the kernel's announcements, so a reorganisation is just
disconnects followed by connects. Hashes in internal byte order, values in satoshi.
"""

from p2pnode.app.sandbox.policy import Coin, Rejected, spends
from p2pnode.base.transaction import (
    Header,
    Outpoint,
    Transaction,
    median_time,
    parse_block,
    scripthash,
)


class Index:
    """Headers, transactions, unspent outputs and histories of the active chain."""

    def __init__(self) -> None:
        self.headers: list[Header] = []
        self.blocks: list[tuple[bytes, ...]] = []  # txids by height
        self.txs: dict[bytes, tuple[Transaction, int]] = {}  # with their height
        self.coins: dict[Outpoint, Coin] = {}
        self.unspent: dict[str, dict[Outpoint, None]] = {}  # by scripthash
        self.history: dict[str, list[tuple[int, bytes]]] = {}  # height, txid; chain order
        self.touched: set[str] = set()  # scripthashes, until somebody takes them
        self.returned: list[Transaction] = []  # of disconnected blocks, chain order
        self._undo: list[list[tuple[Outpoint, Coin]]] = []

    @property
    def height(self) -> int:
        """Height of the tip; the genesis block is 0."""
        return len(self.headers) - 1

    def mtp(self, height: int) -> int:
        """Return the median time past of the block at `height`, unix seconds (BIP 113)."""
        return median_time([h.time for h in self.headers[max(0, height - 10) : height + 1]])

    def connect(self, raw: bytes) -> None:
        """Add the block that follows the tip. Raises InvalidRecord for bytes of another kind."""
        head, txs = parse_block(raw)
        height = len(self.headers)
        spent: list[tuple[Outpoint, Coin]] = []
        for tx in txs:
            seen = {self._spend(i.outpoint, spent) for i in spends(tx)}
            # the genesis output can never be spent, and it has no history
            seen |= self._create(tx, height, coinbase=tx is txs[0]) if height else set()
            for name in seen:
                self.history.setdefault(name, []).append((height, tx.txid))
            self.touched |= seen
            self.txs[tx.txid] = tx, height
        self.headers.append(Header(head))
        self.blocks.append(tuple(tx.txid for tx in txs))
        self._undo.append(spent)

    def _spend(self, point: Outpoint, spent: list[tuple[Outpoint, Coin]]) -> str:
        coin = self.coins.pop(point)
        spent.append((point, coin))
        name = scripthash(coin.script)
        del self.unspent[name][point]
        return name

    def _create(self, tx: Transaction, height: int, *, coinbase: bool) -> set[str]:
        seen = set()
        for vout, out in enumerate(tx.outputs):
            if out.script.startswith(b"\x6a"):  # OP_RETURN: never a coin
                continue
            name, point = scripthash(out.script), Outpoint(tx.txid, vout)
            self.coins[point] = Coin(out.value, out.script, height, coinbase)
            self.unspent.setdefault(name, {})[point] = None
            seen.add(name)
        return seen

    def disconnect(self) -> None:
        """Take the tip off again; its transactions but the coinbase go to `returned`."""
        height = self.height
        if height < 1:
            raise Rejected("the genesis block cannot be disconnected")
        self.headers.pop()
        txs = [self.txs.pop(txid)[0] for txid in self.blocks.pop()]
        touched = set()
        for tx in txs:
            for vout, out in enumerate(tx.outputs):
                name, point = scripthash(out.script), Outpoint(tx.txid, vout)
                self.coins.pop(point, None)
                self.unspent.get(name, {}).pop(point, None)
                touched.add(name)
        own = {tx.txid for tx in txs}
        for point, coin in self._undo.pop():
            name = scripthash(coin.script)
            touched.add(name)
            if point.txid not in own:
                self.coins[point] = coin
                self.unspent.setdefault(name, {})[point] = None
        for name in touched:
            self.history[name] = [h for h in self.history.get(name, []) if h[0] < height]
        self.touched |= touched
        self.returned = txs[1:] + self.returned
