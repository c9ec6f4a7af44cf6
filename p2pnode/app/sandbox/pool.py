"""The mempool: Bitcoin Core's admission and full replacement (BIP 125 as Core 28 applies it).

An entry is admitted only after the kernel ran its scripts against its real previous
outputs; `checks` and `admitted` log both sides so that a test can compare them.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from p2pnode.app.sandbox import policy
from p2pnode.app.sandbox.index import Index
from p2pnode.app.sandbox.judge import failing_input
from p2pnode.app.sandbox.policy import Coin, Rejected
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.transaction import (
    Outpoint,
    Transaction,
    TxOut,
    display,
    parse_transaction,
    scripthash,
)

MAX_ENTRIES: Final = 5_000
LOG_LENGTH: Final = 10_000
MIN_RATE: Final = 1_000  # satoshi per 1,000 vB, to relay and to replace


@dataclass(frozen=True, slots=True)
class ScriptCheck:
    """One transaction whose scripts the kernel passed, and the outputs that it ran them on."""

    wtxid: bytes
    spent: tuple[TxOut, ...]


@dataclass(slots=True)
class Entry:
    """An unconfirmed transaction, its fee in satoshi, its unconfirmed parents and children."""

    tx: Transaction
    fee: int
    scripts: frozenset[str]  # scripthashes that it pays or spends
    parents: set[bytes]
    children: set[bytes] = field(default_factory=set)


class Mempool:
    """Unconfirmed transactions on top of an index, in an order where parents come first."""

    def __init__(self, index: Index, min_rate: int = MIN_RATE) -> None:
        self._index = index
        self.min_rate = min_rate
        self.entries: dict[bytes, Entry] = {}
        self.spender: dict[Outpoint, bytes] = {}
        self.by_script: dict[str, dict[bytes, None]] = {}
        self.touched: set[str] = set()
        self.checked_count = 0
        self.admitted_count = 0
        self.checks: deque[ScriptCheck] = deque(maxlen=LOG_LENGTH)
        self.admitted: deque[bytes] = deque(maxlen=LOG_LENGTH)  # wtxids

    def coin(self, point: Outpoint) -> Coin | None:
        """Return the output, confirmed or not, that `point` names, spent in the pool or not."""
        if entry := self.entries.get(point.txid):
            if point.vout >= len(entry.tx.outputs):
                return None
            out = entry.tx.outputs[point.vout]
            return Coin(out.value, out.script, self._index.height + 1, coinbase=False)
        return self._index.coins.get(point)

    def relatives(self, txid: bytes, link: str) -> set[bytes]:
        """Return all unconfirmed "parents" or "children" of an entry, however far."""
        found: set[bytes] = set()
        todo = [txid]
        while todo:
            for other in getattr(self.entries[todo.pop()], link) - found:
                found.add(other)
                todo.append(other)
        return found

    def accept(self, raw: bytes) -> Transaction:
        """Admit a transaction. Raises Rejected with Core's reason, nothing changed."""
        try:
            tx = parse_transaction("transaction", raw)
        except InvalidRecord:
            raise Rejected("TX decode failed. Make sure the tx has at least one input.") from None
        policy.check_alone(tx)
        policy.check_final(tx, self._index.height + 1, self._index.mtp(self._index.height))
        if known := self.entries.get(tx.txid):
            same = known.tx.wtxid == tx.wtxid
            raise Rejected(
                "txn-already-in-mempool" if same else "txn-same-nonwitness-data-in-mempool"
            )
        coins = self._coins(tx)
        next_height = self._index.height + 1
        policy.check_relative(tx, coins, next_height, self._index.mtp)
        fee = policy.fee_of(tx, coins, next_height)
        floor = policy.fee_for(tx.vsize, self.min_rate)
        if fee < floor:
            raise Rejected(f"min relay fee not met, {fee} < {floor}")
        parents = {i.outpoint.txid for i in tx.inputs if i.outpoint.txid in self.entries}
        ancestors = parents.union(*(self.relatives(p, "parents") for p in parents))
        if len(ancestors) >= policy.MAX_ANCESTORS:
            raise Rejected("too-long-mempool-chain")
        evicted = self._replacement(tx, fee, parents)
        if len(self.entries) - len(evicted) >= MAX_ENTRIES:
            raise Rejected("mempool full")
        self._check_scripts(tx, raw, coins)
        for txid in evicted:
            self.drop(txid)
        self._add(tx, fee, parents, coins)
        return tx

    def _coins(self, tx: Transaction) -> list[Coin]:
        coins = [c for i in tx.inputs if (c := self.coin(i.outpoint)) is not None]
        if len(coins) < len(tx.inputs):
            raise Rejected("bad-txns-inputs-missingorspent")
        return coins

    def _check_scripts(self, tx: Transaction, raw: bytes, coins: list[Coin]) -> None:
        spent = tuple(c.out for c in coins)
        try:
            failed = failing_input(raw, spent)
        except InvalidRecord:
            raise Rejected("TX decode failed. Make sure the tx has at least one input.") from None
        if failed is not None:
            raise Rejected(
                f"mempool-script-verify-flag-failed (Script failed), input {failed} "
                f"of {display(tx.txid)}"
            )
        self.checked_count += 1
        self.checks.append(ScriptCheck(tx.wtxid, spent))

    def _replacement(self, tx: Transaction, fee: int, parents: set[bytes]) -> set[bytes]:
        """Return what the transaction evicts; signalling is not asked for. Raises Rejected."""
        direct = {self.spender[i.outpoint] for i in tx.inputs if i.outpoint in self.spender}
        if not direct:
            return set()
        evicted = direct.union(*(self.relatives(t, "children") for t in direct))
        name = display(tx.txid)
        if evicted & parents:
            raise Rejected(f"bad-txns-spends-conflicting-tx, {name} spends conflicting transaction")
        say = f"insufficient fee, rejecting replacement {name}"
        for old in (self.entries[t] for t in direct):
            if not policy.outbids(fee, tx.vsize, old.fee, old.tx.vsize):
                raise Rejected(f"{say}; new feerate is not above the old one's")
        if len(evicted) > policy.MAX_EVICTED:
            raise Rejected("too many potential replacements")
        if parents - set().union(*(self.entries[t].parents for t in direct)):
            raise Rejected("replacement-adds-unconfirmed")
        old_fees = sum(self.entries[t].fee for t in evicted)
        if fee < old_fees:
            raise Rejected(f"{say}, less fees than conflicting txs; {fee} < {old_fees}")
        floor = policy.fee_for(tx.vsize, self.min_rate)
        if fee - old_fees < floor:
            raise Rejected(
                f"{say}, not enough additional fees to relay; {fee - old_fees} < {floor}"
            )
        return evicted

    def _add(self, tx: Transaction, fee: int, parents: set[bytes], coins: list[Coin]) -> None:
        scripts = [*(o.script for o in tx.outputs), *(c.script for c in coins)]
        entry = Entry(tx, fee, frozenset(map(scripthash, scripts)), parents)
        self.entries[tx.txid] = entry
        for parent in parents:
            self.entries[parent].children.add(tx.txid)
        for spend in tx.inputs:
            self.spender[spend.outpoint] = tx.txid
        for name in entry.scripts:
            self.by_script.setdefault(name, {})[tx.txid] = None
        self.touched |= entry.scripts
        self.admitted_count += 1
        self.admitted.append(tx.wtxid)

    def drop(self, txid: bytes) -> None:
        """Forget one entry; its children are the caller's business."""
        entry = self.entries.pop(txid)
        for other in entry.parents & self.entries.keys():
            self.entries[other].children.discard(txid)
        for other in entry.children & self.entries.keys():
            self.entries[other].parents.discard(txid)
        for spend in entry.tx.inputs:
            if self.spender.get(spend.outpoint) == txid:
                del self.spender[spend.outpoint]
        for name in entry.scripts:
            del self.by_script[name][txid]
            if not self.by_script[name]:
                del self.by_script[name]
        self.touched |= entry.scripts

    def rebuild(self, returned: Iterable[Transaction]) -> None:
        """After the tip moved: re-admit what disconnected blocks returned, then the rest, in order.

        What is confirmed by now, or conflicts with it, is refused and so forgotten.
        """
        old = [*returned, *(e.tx for e in self.entries.values())]
        for txid in list(self.entries):
            self.drop(txid)
        for tx in old:
            try:
                self.accept(tx.serialize())
            except Rejected:
                continue

    def select(self, min_rate: int, max_weight: int) -> list[Entry]:
        """Return entries for a block; those whose best descendant pays under `min_rate` wait."""
        chosen: list[Entry] = []
        skipped: set[bytes] = set()
        weight = 0
        for txid, entry in self.entries.items():
            family = [entry, *(self.entries[c] for c in self.relatives(txid, "children"))]
            waits = all(e.fee * 1000 < min_rate * e.tx.vsize for e in family)
            if waits or entry.parents & skipped or weight + entry.tx.weight > max_weight:
                skipped.add(txid)
                continue
            chosen.append(entry)
            weight += entry.tx.weight
        return chosen
