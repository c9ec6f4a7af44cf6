"""The peers a node gossips with: how many, from where, how fast, and what it thinks of them.

Whoever was named to us or dialled by us cannot be crowded out by those who came by
themselves; a subnet holds few places.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from dht import gossip_score
from dht.gossip_mesh import Candidate
from dht.gossip_score import Marks
from dht.gossip_wire import Rpc
from dht.subnets import Subnets
from p2pnode.base.quota import Buckets

MAX_PEERS: Final = 128
MAX_PER_SUBNET: Final = 16
MAX_PEER_TOPICS: Final = 64  # of one peer that are remembered
RATE: Final = 200.0  # messages and RPCs a second that are read of one peer, lasting
BURST: Final = 2000.0
SUBNET_RATE: Final = 400.0
SUBNET_BURST: Final = 4000.0
IDS_A_COST: Final = 32  # ids that count as one message
BYTES_A_COST: Final = 1024  # and bytes, if that is more: what is left out was read too
IGNORED_COST: Final = 9  # more for a message that was judged in vain


@dataclass(slots=True, eq=False)
class Gossip:
    """One peer; the counters run from one heartbeat to the next."""

    id: bytes
    group: str | None
    named: bool
    shared_at: float  # when it last shared a topic with us
    topics: set[str] = field(default_factory=set)
    ihaves: int = 0
    ids: int = 0
    wanted: int = 0

    def subscribe(self, topic: str) -> bool:
        """Remember a topic of this peer's; False if it was known, or is one too many."""
        if topic in self.topics or len(self.topics) >= MAX_PEER_TOPICS:
            return False
        self.topics.add(topic)
        return True


class Peers:
    """Everybody whose streams are open."""

    def __init__(self, subnets: Subnets) -> None:
        self.marks = Marks()
        self._subnets = subnets
        self._held: dict[bytes, Gossip] = {}
        self._paces = Buckets(RATE, BURST)
        self._subnet_paces = Buckets(SUBNET_RATE, SUBNET_BURST)

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, peer: bytes) -> bool:
        return peer in self._held

    def get(self, peer: bytes) -> Gossip | None:
        """Return a peer."""
        return self._held.get(peer)

    def all(self) -> tuple[Gossip, ...]:
        """Return every peer."""
        return tuple(self._held.values())

    def ids(self) -> tuple[bytes, ...]:
        """Return every peer's id."""
        return tuple(self._held)

    def remove(self, peer: bytes) -> bool:
        """Forget a peer, but not its score; tell whether it was there."""
        return self._held.pop(peer, None) is not None

    def admit(
        self, peer: bytes, host: str, named: bool, settled: Collection[bytes], now: float
    ) -> tuple[bool, bytes | None]:
        """Take a peer in; returns whether it has a place, and who has to go for it.

        `settled` are those who do not go for a newcomer.
        """
        group = self._subnets.group(host)
        crowd = sum(p.group == group for p in self._held.values()) if group else 0
        if self.score(peer, now) < gossip_score.CLOSED or crowd >= MAX_PER_SUBNET:
            return False, None
        leaver = None
        if len(self._held) >= MAX_PEERS:
            idle = [p for p in self._held.values() if p.id not in settled]
            idle = idle if named else [p for p in idle if not p.named]
            if not idle:
                return False, None
            leaver = min(idle, key=lambda p: (p.named, self.score(p.id, now), -p.shared_at)).id
            self.remove(leaver)
        self._held[peer] = Gossip(peer, group, named, now)
        return True, leaver

    def score(self, peer: bytes, now: float) -> float:
        """Return a peer's score, 0 for one never met."""
        return self.marks.score(peer, now)

    def of(self, topic: str) -> tuple[Gossip, ...]:
        """Return who takes part in a topic."""
        return tuple(p for p in self._held.values() if topic in p.topics)

    def around(self, topic: str, now: float) -> list[Candidate]:
        """Return who takes part in a topic, as its mesh sees them."""
        found = self.of(topic)
        return [Candidate(p.id, self.score(p.id, now), p.group, p.named) for p in found]

    def pace(self, peer: bytes, rpc: Rpc, now: float, size: int = 0) -> float:
        """Return how many seconds to wait before more is read of a peer.

        `size` is the RPC's in bytes.
        """
        ids = len(rpc.iwant) + sum(len(ids) for _, ids in rpc.ihave)
        control = len(rpc.graft) + len(rpc.prune) + len(rpc.subscriptions)
        cost = 1 + len(rpc.messages) + rpc.unfit + control + ids // IDS_A_COST
        return self.spend(peer, max(cost, size // BYTES_A_COST), now)

    def spend(self, peer: bytes, cost: int, now: float) -> float:
        """Count what a peer costs; returns how many seconds to wait until that is earned."""
        wait = self._paces.spend(peer, now, cost)
        held = self._held.get(peer)
        if held is not None and held.group is not None:
            wait = max(wait, self._subnet_paces.spend(held.group, now, cost))
        return wait
