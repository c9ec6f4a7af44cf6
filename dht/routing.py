"""The routing table: kademlia's buckets over 256-bit ids, with its traps closed.

Upstream (kademlia 2.2.3) flushes to 2**160, misses a bucket's upper bound, walks buckets
left and right instead of by XOR distance, pings through asyncio and reads the machine's
clock. Here a bucket splits only while our own id lies in it (the paper's section 2.4, b = 1),
so the table is at most k contacts for each distance, and whoever is in it has answered us.
Of one subnet two contacts enter a bucket and ten the table (`dht.subnets`): ids can be
ground, addresses in many subnets cost money.

kademlia's `Node` carries (id, ip, port); here `id` is the DHT id, `ip` the node id (the key
itself) and `port` the tuple of addresses.
"""

from collections.abc import Callable, Iterator
from typing import Final

from kademlia.node import Node
from kademlia.routing import KBucket, RoutingTable

from dht.endpoint import Peer
from p2pnode.base.identity import dht_id

ID_BITS: Final = 256
REFRESH_AFTER: Final = 3600.0  # seconds without news of a bucket
MAX_PER_BUCKET: Final = 2  # contacts of one subnet
MAX_PER_TABLE: Final = 10


def node_of(peer: Peer) -> Node:
    """Return the peer as kademlia's contact, which carries it along."""
    node = Node(dht_id(peer.node_id), peer.node_id, peer.addrs)
    node.peer = peer
    return node


def peer_of(node: Node) -> Peer:
    """Return kademlia's contact as a peer."""
    peer: Peer = node.peer
    return peer


class Bucket(KBucket):  # type: ignore[misc]
    """A k-bucket that reads the clock it was given."""

    def __init__(self, low: int, high: int, k: int, monotonic: Callable[[], float]) -> None:
        self.monotonic = monotonic
        super().__init__(low, high, k)

    def touch_last_updated(self) -> None:
        """Note that something of this range was looked up or answered."""
        self.last_updated = self.monotonic()

    def split(self) -> tuple["Bucket", "Bucket"]:
        """Return the two halves, contacts and replacements dealt out."""
        low, high = self.range
        middle = (low + high) // 2
        halves = (
            Bucket(low, middle, self.ksize, self.monotonic),
            Bucket(middle + 1, high, self.ksize, self.monotonic),
        )
        for node in (*self.nodes.values(), *self.replacement_nodes.values()):
            halves[node.long_id > middle].add_node(node)
        return halves


class Table(RoutingTable):  # type: ignore[misc]
    """The contacts of one node. `monotonic` returns seconds."""

    def __init__(self, own: bytes, k: int, monotonic: Callable[[], float]) -> None:
        self.monotonic = monotonic
        self._groups: dict[str, set[bytes]] = {}  # subnet -> DHT ids that answered from it
        self._prune_at = k
        super().__init__(None, k, node_of(Peer(own, ())))

    def flush(self) -> None:
        """Forget everything."""
        self._groups.clear()
        self.buckets = [Bucket(0, 2**ID_BITS - 1, self.ksize, self.monotonic)]

    def get_bucket_for(self, node: Node) -> int:
        """Return the index of the bucket whose range, both ends included, holds the node."""
        for index, bucket in enumerate(self.buckets):
            if node.long_id <= bucket.range[1]:
                return index
        raise AssertionError("unreachable: ids have 256 bits")

    def welcome(self, peer: Peer, group: str | None = None) -> Peer | None:
        """Add a peer that has answered us from `group`; it is news even if it was known.

        Returns the peer to ask whether it still lives if the bucket is full: if it does
        not, `drop` it and the newcomer moves up. A peer of a crowded subnet stays out.
        """
        node = node_of(peer)
        if node.id == self.node.id or self._crowded(node, group):
            return None
        if group is not None:
            self._prune()
            self._groups.setdefault(group, set()).add(node.id)
        while True:
            index = self.get_bucket_for(node)
            bucket = self.buckets[index]
            bucket.touch_last_updated()
            if bucket.add_node(node):
                bucket.replacement_nodes.pop(node.id, None)
                return None
            if not bucket.has_in_range(self.node) or bucket.range[0] == bucket.range[1]:
                return peer_of(bucket.head())
            bucket.replacement_nodes.pop(node.id, None)
            self.split_bucket(index)

    def _crowded(self, node: Node, group: str | None) -> bool:
        """Tell whether a newcomer's subnet has its share of the table already."""
        bucket = self.buckets[self.get_bucket_for(node)]
        if group is None or node.id in bucket.nodes:
            return False
        same = {i for i in self._groups.get(group, ()) if i != node.id and self._holds(i)}
        self._groups[group] = same
        low, high = bucket.range
        here = sum(low <= int.from_bytes(i, "big") <= high for i in same)
        return here >= MAX_PER_BUCKET or len(same) >= MAX_PER_TABLE

    def _prune(self) -> None:
        """Forget the subnets of whoever has left, once they may be the most."""
        if len(self._groups) > self._prune_at:
            held = {g: {i for i in ids if self._holds(i)} for g, ids in self._groups.items()}
            self._groups = {group: ids for group, ids in held.items() if ids}
            self._prune_at = 2 * len(self._groups) + self.ksize

    def _holds(self, dht_id: bytes) -> bool:
        bucket = self.buckets[self.get_bucket_for(Node(dht_id))]
        return dht_id in bucket.nodes or dht_id in bucket.replacement_nodes

    def wants(self, node_id: bytes) -> bool:
        """Tell whether a newcomer would be of use: as a contact, or as the next in line."""
        node = node_of(Peer(node_id, ()))
        bucket = self.buckets[self.get_bucket_for(node)]
        full = len(bucket) >= self.ksize and len(bucket.replacement_nodes) >= self.ksize
        return not full or bool(bucket.has_in_range(self.node))

    def drop(self, node_id: bytes) -> None:
        """Remove a peer that failed us."""
        self.remove_contact(node_of(Peer(node_id, ())))

    def closest(self, key: bytes, count: int | None = None) -> list[Peer]:
        """Return the contacts nearest to `key`, exactly by XOR distance, nearest first."""
        return [peer_of(node) for node in self.find_neighbors(Node(key), count)]

    def find_neighbors(
        self, node: Node, k: int | None = None, exclude: Node | None = None
    ) -> list[Node]:
        """Return the k contacts nearest to `node`, which is left out itself if it is one."""
        skip = {node.id, exclude.id} if exclude else {node.id}
        target, count = node.long_id, k or self.ksize
        found: list[Node] = []
        # A bucket's range is aligned, so its ids are all nearer than those of the next one.
        for bucket in sorted(self.buckets, key=lambda b: int(b.range[0]) ^ target):
            here = [n for n in bucket.nodes.values() if n.id not in skip]
            found += sorted(here, key=lambda n: int(n.long_id) ^ target)
            if len(found) >= count:
                break
        return found[:count]

    def __iter__(self) -> Iterator[Peer]:
        for bucket in self.buckets:
            yield from map(peer_of, bucket.nodes.values())

    def __len__(self) -> int:
        return sum(map(len, self.buckets))

    def __contains__(self, node_id: bytes) -> bool:
        node = node_of(Peer(node_id, ()))
        return node.id in self.buckets[self.get_bucket_for(node)].nodes

    def addrs_of(self, node_id: bytes) -> tuple[str, ...]:
        """Return where a contact was last reached, or nothing."""
        node = node_of(Peer(node_id, ()))
        found = self.buckets[self.get_bucket_for(node)].nodes.get(node.id)
        return peer_of(found).addrs if found else ()

    def touch(self, place: int) -> None:
        """Note that a place, such as a range's low end, is looked up: be its bucket empty."""
        next(b for b in self.buckets if place <= b.range[1]).touch_last_updated()

    def lonely(self, older: float = REFRESH_AFTER) -> list[tuple[int, int]]:
        """Return the ranges of buckets without news for `older` seconds."""
        before = self.monotonic() - older
        return [b.range for b in self.buckets if b.last_updated <= before]
