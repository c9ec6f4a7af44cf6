"""Whose past weighs how much, as of our chain's tip: the order book's `Histories` for real.

Worked out anew when a receipt comes or the chain moves, and held in between. A receipt whose
blocks are no longer our chain's counts for nothing until it is shown, or made, again.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from escrow.proven import Proven
from escrow.standing import (
    Statistics,
    Weighed,
    circular,
    history,
    named_since,
    statistics,
    weigh,
)
from escrow.store_receipts import ReceiptStore
from p2pnode.base.errors import Misconfigured, Unreachable
from p2pnode.base.history import NONE, History
from p2pnode.base.ports import Chain, Tip

_NOBODY: Final = b""


class Standing:
    """What receipts prove of this node and of others."""

    def __init__(self, store: ReceiptStore, chain: Chain, me: bytes) -> None:
        self.store, self._chain, self.me = store, chain, me
        self._as_of: tuple[int, bytes] = (-1, b"")
        self._own: tuple[Proven, ...] = ()
        self._with: dict[bytes, list[Proven]] = {}  # one's own trades, by counterparty
        self._known: tuple[Proven, ...] = ()
        self._since: dict[bytes, int] = {}
        self._since_own: dict[bytes, int] = {}
        self._rings: frozenset[bytes] = frozenset()
        self._weighed: dict[bytes, tuple[Weighed, ...]] = {}
        self._histories: dict[bytes, History] = {}

    def history(self, node_id: bytes) -> History:
        """Return what is proven of a node's past, or of our own; nothing without a chain."""
        if not self.store.knows(node_id):
            return NONE  # thousands of makers of whom nothing is held
        try:
            self._look()
        except (Unreachable, Misconfigured):
            return NONE
        if node_id not in self._histories:
            found = history(self.weighed(node_id))
            self._histories[node_id] = replace(found, as_of=self._look().mtp)
        return self._histories[node_id]

    def weighed(self, node_id: bytes) -> tuple[Weighed, ...]:
        """Return every trade proven of a node, weighed, oldest first.

        What we say of ourselves is worked out of our own receipts alone: what a stranger finds
        who is shown them and knows nothing else. Raises Unreachable, Misconfigured.
        """
        now = self._look().mtp
        if node_id not in self._weighed:
            if node_id == self.me:
                found = weigh(node_id, self._own, self._since_own, (), _NOBODY, now)
            else:
                past = {p.contract_hash: p for p in self._shown(node_id)}
                past |= {p.contract_hash: p for p in self._with.get(node_id, ())}
                found = weigh(node_id, past.values(), self._since, self._rings, self.me, now)
            self._weighed[node_id] = found
        return self._weighed[node_id]

    def age(self, node_id: bytes) -> int:
        """Return when the first trade was funded in which a receipt names a node, or 0."""
        self._look()
        return self._since.get(node_id, 0)

    def own(self) -> tuple[Proven, ...]:
        """Return our own trades whose receipts hold. Raises Unreachable, Misconfigured."""
        self._look()
        return self._own

    def statistics(self, currency: str = "", since: int = 0) -> Sequence[Statistics]:
        """Return what the receipts held here say of markets; `since` by the chain's clock.

        Raises Unreachable, Misconfigured.
        """
        self._look()
        return statistics(self._known, currency=currency, since=since)

    def _shown(self, node_id: bytes) -> list[Proven]:
        return [p for p in self.store.shown(node_id) if p.stands(self._chain)]

    def _look(self) -> Tip:
        """Know what holds as of our tip. Raises Unreachable, Misconfigured."""
        tip = self._chain.tip()
        if self._as_of == (self.store.version, tip.hash):
            return tip
        self._own = tuple(p for p in self.store.own() if p.stands(self._chain))
        shown = {node_id: self._shown(node_id) for node_id in self.store.peers()}
        known = {p.contract_hash: p for past in shown.values() for p in past}
        known |= {p.contract_hash: p for p in self._own}
        self._known = tuple(known.values())
        self._with = {}
        for one in self._own:
            self._with.setdefault(one.other(self.me), []).append(one)
        self._since, self._since_own = named_since(self._known), named_since(self._own)
        shown_by = {node_id for node_id, past in shown.items() if past}
        self._rings = circular(self._known, shown_by, self.me)
        self._weighed, self._histories = {}, {}
        self._as_of = (self.store.version, tip.hash)
        return tip
