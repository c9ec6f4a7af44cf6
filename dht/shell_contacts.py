"""The peers this node knows by experience: the routing table, fed by answers alone.

A peer enters the table after it answered a question of ours, with the addresses it stated
itself; one that fails us leaves it. A caller who says where he listens is asked back.
"""

from typing import Any, Final

import trio

from dht import rpc
from dht.endpoint import Peer, merge_peers
from dht.routing import Table
from dht.shell_rpc import Calls
from p2pnode.base.errors import PeerFault, Unreachable

MAX_MEETING: Final = 32  # newcomers asked back at a time
CHECK_AFTER: Final = 60.0  # seconds without news before a full bucket's oldest is asked


class Contacts:
    """The routing table and the calls that keep it true."""

    def __init__(self, calls: Calls, own: bytes, k: int) -> None:
        self.table = Table(own, k, trio.current_time)
        self._calls = calls
        self._nursery: trio.Nursery | None = None
        self._heard: dict[bytes, float] = {}
        self._meeting: set[bytes] = set()

    def start(self, nursery: trio.Nursery) -> None:
        """Begin to ask newcomers back, in `nursery`."""
        self._nursery = nursery

    async def call(self, peer: Peer, method: str, args: tuple[Any, ...]) -> Any:
        """Ask a peer; who answers becomes a contact, who does not stops being one.

        Raises Unreachable, or PeerFault with the peer's refusal.
        """
        known = self.table.addrs_of(peer.node_id)
        if known and known != peer.addrs:
            peer = merge_peers([Peer(peer.node_id, known), peer])[0]
        try:
            result = await self._calls.call(peer, method, args)
        except Unreachable:
            await self.fail(peer.node_id)
            raise
        stated = self._calls.addrs_of(peer.node_id)
        if stated:  # its own word, over what others say of it
            self._welcome(Peer(peer.node_id, stated))
        return result

    async def ping(self, peer: Peer) -> bool:
        """Tell whether the peer answers."""
        try:
            await self.call(peer, rpc.PING, ())
        except (Unreachable, PeerFault):
            return False
        return True

    async def fail(self, node_id: bytes) -> None:
        """Forget a peer that did not answer, or not by the protocol."""
        self.table.drop(node_id)
        await self._calls.drop(node_id)

    def greeted(self, peer: Peer) -> None:
        """Take note of a caller's hello: ask it back if it may become a contact."""
        known = self.table.addrs_of(peer.node_id)
        if peer.addrs and known != peer.addrs and (known or self.table.wants(peer.node_id)):
            self._meet(peer)

    def _welcome(self, peer: Peer) -> None:
        oldest = self.table.welcome(peer)
        self._heard[peer.node_id] = now = trio.current_time()
        if len(self._heard) > 4 * len(self.table) + 64:
            self._heard = {n: t for n, t in self._heard.items() if n in self.table}
        if oldest and self._heard.get(oldest.node_id, -CHECK_AFTER) + CHECK_AFTER <= now:
            self._meet(oldest)

    def _meet(self, peer: Peer) -> None:
        """Ask a peer, in the background, whether it is there."""
        if self._nursery is None or len(self._meeting) >= MAX_MEETING:
            return
        if peer.node_id not in self._meeting:
            self._meeting.add(peer.node_id)
            self._nursery.start_soon(self._meet_one, peer)

    async def _meet_one(self, peer: Peer) -> None:
        try:
            await self.ping(peer)
        finally:
            self._meeting.discard(peer.node_id)
