"""The iterative lookup: kademlia's crawl, on trio, as a sliding window.

kademlia 2.2.3 asks in lock-step rounds through asyncio and stops at the first value. Here
its `NodeHeap` (the shortlist) stays; five questions are always in flight, a peer that has
not answered within the soft deadline frees its slot but still counts if it answers, and the
lookup ends when the k closest peers known have all answered or failed. Depth says how far a
peer is: 1 for the asker's own contacts, one more than its teller's for the others.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import trio
from kademlia.crawling import NodeSpiderCrawl
from kademlia.node import Node

from dht.endpoint import Peer
from dht.routing import node_of, peer_of
from p2pnode.base.identity import dht_id

ALPHA: Final = 5
SOFT_DEADLINE: Final = 0.35  # seconds
LOOKUP_DEADLINE: Final = 20.0  # seconds
MAX_ASKED: Final = 128  # peers that one lookup may contact, invented ones included

logging.getLogger("kademlia").setLevel(logging.WARNING)  # it logs every contact at INFO

# Asks one peer at a depth: the peers it names, or None if it failed.
Question = Callable[[Peer, int], Awaitable[Iterable[Peer] | None]]


class Crawl(NodeSpiderCrawl):  # type: ignore[misc]
    """One lookup of `target`, beginning with `contacts`, never asking `own`."""

    def __init__(
        self, target: bytes, contacts: Iterable[Peer], k: int, own: bytes, ask: Question
    ) -> None:
        start = [node_of(peer) for peer in contacts]
        super().__init__(None, Node(target), start, k, ALPHA)
        self.depth = {node.id: 1 for node in start}
        self.answered: dict[bytes, Peer] = {}
        self._ask = ask
        self._closed_to = {dht_id(own)}  # ourselves, and whoever failed
        self._pending: set[bytes] = set()
        self._slots: set[bytes] = set()
        self._news = trio.Event()

    async def find(self) -> list[Peer]:
        """Return the peers that answered, nearest to the target first."""
        with trio.move_on_after(LOOKUP_DEADLINE):
            async with trio.open_nursery() as nursery:
                while self._launch(nursery) or self._pending.intersection(self.nearest.get_ids()):
                    await self._news.wait()
                    self._news = trio.Event()
                nursery.cancel_scope.cancel()
        found = sorted(map(node_of, self.answered.values()), key=self.node.distance_to)
        return [peer_of(node) for node in found]

    def _launch(self, nursery: trio.Nursery) -> bool:
        """Fill the free slots from the shortlist; tell whether it has peers left to ask."""
        waiting = self.nearest.get_uncontacted()
        if len(self.nearest.contacted) >= MAX_ASKED:
            return False
        for node in waiting[: max(0, self.alpha - len(self._slots))]:
            self.nearest.mark_contacted(node)
            self._pending.add(node.id)
            self._slots.add(node.id)
            nursery.start_soon(self._question, node)
            nursery.start_soon(self._soften, node.id)
        return bool(waiting)

    async def _question(self, node: Node) -> None:
        told = await self._ask(peer_of(node), self.depth[node.id])
        self._pending.discard(node.id)
        self._slots.discard(node.id)
        if told is None:
            self._closed_to.add(node.id)
            self.nearest.remove([node.id])
        else:
            self.answered[node.id] = peer_of(node)
            self._learn(told, self.depth[node.id] + 1)
        self._news.set()

    def _learn(self, told: Iterable[Peer], depth: int) -> None:
        for node in map(node_of, told):
            if node.id not in self._closed_to:
                self.depth[node.id] = min(depth, self.depth.get(node.id, depth))
                self.nearest.push([node])

    async def _soften(self, node: bytes) -> None:
        await trio.sleep(SOFT_DEADLINE)
        self._slots.discard(node)
        self._news.set()
