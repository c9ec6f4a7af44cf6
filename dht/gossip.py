"""gossipsub v1.1 without I/O: what a node tells its peers about messages (docs/wire/gossip.md).

    offered ─▶ judged ─▶ the mesh ─▶ peers          heartbeat ─▶ IHAVE, GRAFT, PRUNE
    publish ──────────▶ all peers                   control ─▶ IWANT ─▶ messages

The shell brings what peers say and the time, takes effects from `out`, and has each message
judged between `offered` and `judged`: nothing is passed on that was not accepted. Whatever
a peer says changes only what is kept of it, and all that is kept is bounded.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from dht import gossip_score
from dht.gossip_cache import History, Seen
from dht.gossip_lazy import Lazy
from dht.gossip_mesh import BACKOFF_S, LEAVE_BACKOFF_S, Mesh
from dht.gossip_peers import IGNORED_COST, Gossip, Peers
from dht.gossip_wire import MAX_DATA, MAX_TOPIC, Rpc, message_id
from dht.subnets import Subnets
from dht.tally import Tally
from p2pnode.base.errors import InvalidRecord, LocalFault
from p2pnode.base.ports import Randomness, Verdict

HEARTBEAT_S: Final = 1.0
MAX_TOPICS: Final = 32  # that we take part in
LONELY_S: Final = 30.0  # a peer that shares no topic for so long is let go
GARBAGE_FAULTS: Final = 3  # what an RPC that is none counts for
COUNTED: Final = {
    Verdict.ACCEPT: "gossip_accepted",
    Verdict.IGNORE: "gossip_ignored",
    Verdict.REJECT: "gossip_rejected",
}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Send:
    """Say something to some peers."""

    peers: tuple[bytes, ...]
    rpc: Rpc


@dataclass(frozen=True, slots=True)
class Close:
    """End a peer's streams."""

    peer: bytes
    why: str


class Router:
    """One node's gossip."""

    def __init__(self, randomness: Randomness, subnets: Subnets, tally: Tally) -> None:
        self.out: deque[Send | Close] = deque()
        self._randomness, self._tally = randomness, tally
        self._peers = Peers(subnets)
        self._meshes: dict[str, Mesh] = {}
        self._seen, self._history = Seen(), History()
        self._lazy = Lazy(self._seen, self._history, self.shuffled)
        self._judging: dict[bytes, set[bytes]] = {}  # message id -> who else has brought it

    # ------------------------------------------------------------------ views

    def mesh(self, topic: str) -> tuple[bytes, ...]:
        """Return whom messages of a topic are passed on to at once."""
        mesh = self._meshes.get(topic)
        return () if mesh is None else tuple(mesh.members)

    def peers(self, topic: str | None = None) -> tuple[bytes, ...]:
        """Return the peers, of one topic if it is named."""
        return self._peers.ids() if topic is None else tuple(p.id for p in self._peers.of(topic))

    def named(self, topic: str) -> int:
        """Return how many of a topic's peers were named to us or dialled by us."""
        return sum(p.named for p in self._peers.of(topic))

    def score(self, peer: bytes, now: float) -> float:
        """Return what we think of a peer."""
        return self._peers.score(peer, now)

    def holds(self) -> dict[str, int]:
        """Return how much is kept of others: numbers, and bytes of messages."""
        return {
            "peers": len(self._peers),
            "seen": len(self._seen),
            "held": len(self._history),
            "held_bytes": self._history.size,
            "promises": len(self._lazy),
            "judging": len(self._judging),
            "marks": len(self._peers.marks),
        }

    # ------------------------------------------------------------------ peers and topics

    def connected(self, peer: bytes, host: str, *, named: bool, now: float) -> bool:
        """Take a peer in and tell it our topics; False if its streams must be closed."""
        settled = {member for mesh in self._meshes.values() for member in mesh.members}
        admitted, leaver = self._peers.admit(peer, host, named, settled, now)
        if leaver is not None:
            self.out.append(Close(leaver, "its place is another's"))
        if admitted and self._meshes:
            self._send(peer, Rpc(subscriptions=tuple((t, True) for t in self._meshes)))
        return admitted

    def gone(self, peer: bytes) -> None:
        """Take note that a peer's streams have ended."""
        if self._peers.remove(peer):
            for mesh in self._meshes.values():
                mesh.remove(peer)

    def name(self, peer: bytes) -> None:
        """Take note that a peer was named to us: strangers cannot take its place."""
        who = self._peers.get(peer)
        if who is not None:
            who.named = True

    def join(self, topic: str, now: float) -> None:
        """Take part in a topic. Raises LocalFault over the cap."""
        if topic in self._meshes:
            return
        if len(self._meshes) >= MAX_TOPICS or len(topic.encode()) > MAX_TOPIC:
            raise LocalFault(f"gossip: no more than {MAX_TOPICS} topics can be joined")
        mesh = self._meshes[topic] = Mesh(now)
        self._send(self._peers.ids(), Rpc(subscriptions=((topic, True),)))
        around = self._peers.around(topic, now)
        self._graft(topic, mesh.fill(self.shuffled(around), around, now))

    def leave(self, topic: str) -> None:
        """Take part no longer."""
        mesh = self._meshes.pop(topic, None)
        self._lazy.leave(topic)
        if mesh is not None:
            self._send(tuple(mesh.members), Rpc(prune=((topic, LEAVE_BACKOFF_S),)))
            self._send(self._peers.ids(), Rpc(subscriptions=((topic, False),)))

    def publish(self, topic: str, data: bytes, now: float) -> int:
        """Send our own message to all of a topic; returns to how many.

        Raises InvalidRecord if it is too long.
        """
        if not 0 < len(data) <= MAX_DATA:
            raise InvalidRecord("data", f"is not 1 to {MAX_DATA} bytes")
        id = message_id(data)
        if id in self._seen:
            return 0
        self._seen.note(id, Verdict.ACCEPT, now)
        self._history.put(id, topic, data)
        there = [p for p in self.peers(topic) if self.score(p, now) >= gossip_score.PUBLISH]
        self._send(tuple(there), Rpc(messages=((topic, data),)))
        self._tally.add("gossip_published")
        return len(there)

    # ------------------------------------------------------------------ messages

    def pace(self, peer: bytes, rpc: Rpc, now: float, size: int = 0) -> float:
        """Return how many seconds to wait before more is read of a peer."""
        wait = self._peers.pace(peer, rpc, now, size)
        if wait:
            self._tally.add("gossip_paced")
        return wait

    def offered(self, peer: bytes, topic: str, data: bytes, now: float) -> bytes | None:
        """Return the id of a message that has to be judged; None if it need not be."""
        if topic not in self._meshes or peer not in self._peers:
            return None
        id = message_id(data)
        self._lazy.kept(id)
        if id not in self._seen:
            self._seen.note(id, None, now)
            self._judging[id] = set()
            return id
        if id in self._judging:
            self._judging[id].add(peer)
        elif self._seen.verdict(id) is Verdict.REJECT:
            self._lied(peer, now)
        else:
            self._tally.add("gossip_duplicates")
        return None

    def judged(
        self, peer: bytes, topic: str, data: bytes, id: bytes, verdict: Verdict | None, now: float
    ) -> None:
        """Act on a verdict; None if it was given up, so that the message may come again."""
        others = self._judging.pop(id, set())
        if verdict is None:
            self._seen.forget(id)
            return
        self._seen.note(id, verdict, now)
        self._tally.add(COUNTED[verdict])
        mesh = self._meshes.get(topic)
        if verdict is Verdict.REJECT:
            for liar in (peer, *others):
                self._lied(liar, now)
        elif verdict is Verdict.IGNORE:
            self._peers.spend(peer, IGNORED_COST, now)
        elif mesh is not None:
            self._history.put(id, topic, data)
            self._peers.marks.of(peer, now).delivered(now)
            mesh.heard(peer, *others)
            to = tuple(p for p in mesh.members if p != peer and p not in others)
            self._send(to, Rpc(messages=((topic, data),)))

    # ------------------------------------------------------------------ control

    def control(self, peer: bytes, rpc: Rpc, now: float) -> None:
        """Take in all of an RPC but its messages."""
        who = self._peers.get(peer)
        if who is None:
            return
        if rpc.unfit:
            self._lied(peer, now, rpc.unfit)
        for topic, on in rpc.subscriptions:
            self._subscribed(who, topic, on, now)
        if self.score(peer, now) >= gossip_score.GOSSIP:
            for topic, ids in rpc.ihave:
                if topic in self._meshes:
                    self._ask(who, ids, now)
            for message in self._lazy.answers(who, rpc.iwant):
                self._send(peer, Rpc(messages=(message,)))
                self._tally.add("gossip_answered")
        refused = [t for t in dict.fromkeys(rpc.graft) if not self._grafted(who, t, now)]
        self._send(peer, Rpc(prune=tuple((t, BACKOFF_S) for t in refused)))
        for topic, backoff in rpc.prune:
            if topic in self._meshes:
                self._meshes[topic].prune(peer, now, backoff or BACKOFF_S)
        self._close_if_low(peer, now)

    def broke(self, peer: bytes, now: float) -> None:
        """Take note that a peer sent what is no RPC."""
        self._tally.add("gossip_garbage")
        self._peers.marks.of(peer, now).erred(now, GARBAGE_FAULTS)

    def _subscribed(self, who: Gossip, topic: str, on: bool, now: float) -> None:
        mesh = self._meshes.get(topic)
        if not on:
            who.topics.discard(topic)
            if mesh is not None:
                mesh.remove(who.id)
        elif who.subscribe(topic) and mesh is not None:
            who.shared_at = now
            around = self._peers.around(topic, now)
            self._graft(topic, mesh.fill([c for c in around if c.id == who.id], around, now))

    def _grafted(self, who: Gossip, topic: str, now: float) -> bool:
        """Take a GRAFT; False if it is answered with PRUNE. One of an unknown topic is not."""
        mesh = self._meshes.get(topic)
        if mesh is None or who.id in mesh.members:
            return True
        around = self._peers.around(topic, now)
        newcomer = next((c for c in around if c.id == who.id), None)
        if newcomer is not None and mesh.takes(newcomer, around, now):
            weakest = mesh.weakest(newcomer, around, now) if mesh.full(newcomer) else None
            if weakest is not None:
                mesh.prune(weakest, now, BACKOFF_S)
                self._send(weakest, Rpc(prune=((topic, BACKOFF_S),)))
            if weakest is not None or not mesh.full(newcomer):
                mesh.add(who.id, now)
                return True
        if mesh.early(who.id, now):
            self._tally.add("gossip_early_grafts")
            self._peers.marks.of(who.id, now).erred(now)
        mesh.prune(who.id, now, BACKOFF_S)
        return False

    def _ask(self, who: Gossip, ids: Sequence[bytes], now: float) -> None:
        for part in self._lazy.ask(who, ids, now):
            self._send(who.id, Rpc(iwant=part))
            self._tally.add("gossip_asked", len(part))

    # ------------------------------------------------------------------ the heartbeat

    def heartbeat(self, now: float) -> None:
        """Do what is done once a second."""
        self._seen.expire(now)
        for peer in self._lazy.broken(now):
            self._tally.add("gossip_promises_broken")
            self._peers.marks.of(peer, now).erred(now)
        for who in self._peers.all():
            who.ihaves = who.ids = who.wanted = 0
            if who.topics & self._meshes.keys():
                who.shared_at = now
            elif who.shared_at + LONELY_S <= now:
                self._close(who.id, "it shares no topic")
            self._close_if_low(who.id, now)
        for topic, mesh in self._meshes.items():
            grafted, pruned = mesh.tend(self._peers.around(topic, now), now, self.shuffled)
            self._graft(topic, grafted)
            self._send(tuple(pruned), Rpc(prune=((topic, BACKOFF_S),)))
            self._offer(topic, mesh, now)
        self._history.shift()

    def _offer(self, topic: str, mesh: Mesh, now: float) -> None:
        """Offer what has passed lately to some of those who are not in the mesh."""
        around = [c for c in self._peers.around(topic, now) if c.id not in mesh.members]
        ids, to = self._lazy.offer(topic, [c.id for c in around if c.score >= gossip_score.GOSSIP])
        if ids:
            self._send(tuple(to), Rpc(ihave=((topic, tuple(ids)),)))

    # ------------------------------------------------------------------ parts

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return items in random order."""
        draw = self._randomness.bytes(8 * len(items)) if items else b""
        order = sorted(range(len(items)), key=lambda i: draw[8 * i : 8 * i + 8])
        return [items[i] for i in order]

    def _graft(self, topic: str, peers: Sequence[bytes]) -> None:
        self._send(tuple(peers), Rpc(graft=(topic,)))

    def _lied(self, peer: bytes, now: float, n: int = 1) -> None:
        self._tally.add("gossip_invalid", n)
        self._peers.marks.of(peer, now).lied(now, n)
        self._close_if_low(peer, now)

    def _close_if_low(self, peer: bytes, now: float) -> None:
        if peer in self._peers and self.score(peer, now) < gossip_score.CLOSED:
            self._tally.add("gossip_closed")
            self._close(peer, "its score is too low")

    def _close(self, peer: bytes, why: str) -> None:
        self.gone(peer)
        self.out.append(Close(peer, why))

    def _send(self, to: bytes | tuple[bytes, ...], rpc: Rpc) -> None:
        peers = (to,) if isinstance(to, bytes) else to
        if peers and rpc != Rpc():
            self.out.append(Send(peers, rpc))
