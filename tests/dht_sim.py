"""The nodes of a seeded simulation of the DHT's pure cores on virtual time (`dht_sim_town`).

Each node has a `Table`, `Rtts` and a store and drives `Lookup` and `Placement` as the shell
does: soft and hard deadlines from measured times, one retry, eviction after both failed, and
whoever answers our own call becomes a contact; a caller is asked back if the table wants it.
"""

from dataclasses import dataclass
from functools import lru_cache

from dht_sim_town import Call

from dht import routing
from dht.endpoint import Peer, merge_peers
from dht.lookup import Lookup
from dht.placement import Placement, reach
from dht.records import Record, better, place
from dht.routing import Table
from dht.rtt import Rtts
from p2pnode.base.identity import dht_id

CHECK_AFTER = 60.0  # seconds without news before a full bucket's oldest is asked
QUORUM = 3  # good answers that end a get
NEVER = float("inf")
routing.node_of = lru_cache(1 << 15)(routing.node_of)  # one contact object for all tables
FIND, VALUE, STORE, PING = "find_node", "find_value", "store", "ping"


@dataclass(slots=True)
class Outcome:
    """How a lookup, get or put went. Times in virtual seconds."""

    began: float
    kind: str
    found: tuple = ()  # the records of a get
    first: float = 0.0  # until the first good answer, or until a majority held the record
    took: float = 0.0  # until the lookup ended
    asked: int = 0
    hops: int = 0
    messages: int = 0
    closest: tuple = ()  # the node ids that answered, nearest first
    over: bool = False


class Node:
    """An honest node."""

    honest = True

    def __init__(self, town, number, peer):
        self.town, self.number, self.peer = town, number, peer
        self.place = int.from_bytes(dht_id(peer.node_id), "big")
        self.table = Table(peer.node_id, town.k, town.clock)
        self.rtts = Rtts()
        self.store = {}  # key -> (owner, id) -> record
        self.alive = True
        self.on_contact = None  # called with each new contact
        self._callers = set()
        self._meeting = set()
        self._heard = {}

    # ------------------------------------------------------------------ answering

    def greeted(self, caller):
        """Ask a new caller back if it may become a contact."""
        node_id = caller.peer.node_id
        if node_id not in self._callers:
            self._callers.add(node_id)
            if node_id not in self.table and self.table.wants(node_id):
                self.meet(caller.peer)

    def serve(self, caller, method, args):
        """Return the answer to a question; None: silence."""
        if method == PING:
            return ()
        named = self.named(args[0], caller)
        if method == FIND:
            return named
        if method == VALUE:
            return named, tuple(self.store.get(args[0], {}).values())
        return named, self.keep(args[1])

    def named(self, key, caller):
        near = self.table.closest(key, self.town.k + 1)
        return [peer for peer in near if peer.node_id != caller.peer.node_id][: self.town.k]

    def keep(self, record):
        held = self.store.setdefault(record.key, {})
        old = held.get(place(record))
        held[place(record)] = record if old is None else better(old, record)
        return held[place(record)] is record

    # ------------------------------------------------------------------ contacts

    def welcome(self, peer):
        new = self.on_contact and peer.node_id not in self.table
        oldest = self.table.welcome(peer, self.town.group_of(peer))
        self._heard[peer.node_id] = self.town.now
        if oldest and self._heard.get(oldest.node_id, -CHECK_AFTER) + CHECK_AFTER <= self.town.now:
            self.meet(oldest)
        if new and peer.node_id in self.table:
            self.on_contact(peer)

    def lose(self, node_id):
        self.table.drop(node_id)
        self._callers.discard(node_id)

    def meet(self, peer):
        """Ask a peer whether it is there."""
        if peer.node_id not in self._meeting:
            self._meeting.add(peer.node_id)
            self.call(peer, PING, (), lambda _: self._meeting.discard(peer.node_id))

    # ------------------------------------------------------------------ asking

    def call(self, peer, method, args, then):
        """Ask a peer where we last reached it, else where it is said to be."""
        callee = self.town.by_id.get(peer.node_id)
        if callee is not None and peer.addrs != callee.peer.addrs:
            known = Peer(peer.node_id, self.table.addrs_of(peer.node_id))
            addrs = merge_peers([known, peer])[0].addrs
            callee = callee if callee.peer.addrs[0] in addrs else None
        self.town.send(Call(self, peer.node_id, callee, method, args, then))

    def lookup(self, target, *, quorum=0, paths=None, sure=-1):
        paths = paths or self.town.paths
        return Lookup(
            target,
            self.table.closest(target, self.town.k * (1 + (paths > 1))),
            own=self.peer.node_id,
            k=self.town.k,
            paths=paths,
            quorum=quorum,
            sure=sure,
            group_of=self.town.group_of,
        )

    def find(self, target, then=None):
        """Look up the nodes nearest to a target."""
        return Job(self, self.lookup(target), FIND, (target,), then).go()

    def get(self, key, *, quorum=QUORUM, paths=None, then=None):
        """Look up the records of a key."""
        job = Job(self, self.lookup(key, quorum=quorum, paths=paths), VALUE, (key,), then)
        job.take(0, self.store.get(key, {}).values())
        return job.go()

    def put(self, record, then=None):
        """Store a record at the k nodes closest to its key."""
        near = reach(self.peer.node_id, self.table.closest(dht_id(self.peer.node_id)), self.town.k)
        own = self.place ^ int.from_bytes(record.key, "big")
        core = Placement(self.lookup(record.key, sure=near), near, own, held=True)
        job = Job(self, core, FIND, (record.key, record), then)
        return job.go()

    def refresh(self, older=0.0, then=None):
        """Look up a random id in each bucket without news, one after the other."""
        ranges = self.table.lonely(older)

        def step(_=None):
            if ranges:
                low, high = ranges.pop()
                self.table.touch(low)
                number = low + self.town.random.getrandbits(256) % (high - low + 1)
                self.find(number.to_bytes(32, "big"), step)
            elif then:
                then()

        step()

    def join(self, contacts, then=None):
        """Enter the network through others."""
        left = [len(contacts)]

        def one(_):
            left[0] -= 1
            if left[0] == 0:
                self.find(dht_id(self.peer.node_id), lambda _: self.refresh(then=then))

        for peer in contacts:
            self.call(peer, PING, (), one)


class Job:
    """Drives one core: asks whom it says, wakes it at soft deadlines, ends when it is done."""

    def __init__(self, node, core, method, args, then):
        self.node, self.town, self.core, self.method, self.args = (
            node,
            node.town,
            core,
            method,
            args,
        )
        self.outcome = Outcome(self.town.now, type(core).__name__ if method == FIND else method)
        self._then = then
        self._records = {}
        self._wakes = NEVER

    def go(self):
        self._pump()
        return self.outcome

    def take(self, depth, records):
        """Join records into what was found; tell whether there were any."""
        for record in records:
            old = self._records.get(place(record))
            self._records[place(record)] = record if old is None else better(old, record)
            if not self.outcome.first and not self.outcome.hops:
                self.outcome.first, self.outcome.hops = self.town.now - self.outcome.began, depth
        return bool(self._records) and bool(records)

    def _pump(self):
        outcome, core, town = self.outcome, self.core, self.town
        if outcome.over or not self.node.alive:
            return
        for question in core.ask(town.now, self.node.rtts.soft):
            self._ask(question)
        if isinstance(core, Placement) and not outcome.first and core.settled:
            outcome.first = town.now - outcome.began
        if core.done:
            self._end()
            return
        wake = core.wake_at()
        if wake < self._wakes:
            self._wakes = wake
            town.at(wake, self._wake)

    def _wake(self):
        self._wakes = NEVER
        self._pump()

    def _ask(self, question):
        node_id = question.peer.node_id
        method = STORE if question.store else self.method

        def heard(result):
            self.outcome.messages += 2  # a lost one of them was sent as well
            if self.outcome.over:
                return
            if result is None:
                self.core.fail(node_id)
            elif method == FIND:
                self.core.answer(node_id, result)
            elif method == VALUE:
                good = self.take(question.depth, result[1])
                self.core.answer(node_id, result[0], good=good)
            else:
                self.core.stored(node_id, result[0], held=result[1])
            self._pump()

        self.node.call(question.peer, method, self.args, heard)

    def _end(self):
        outcome = self.outcome
        lookup = self.core._lookup if isinstance(self.core, Placement) else self.core
        outcome.over, outcome.took = True, self.town.now - outcome.began
        outcome.asked, outcome.closest = lookup.asked, tuple(p.node_id for p in lookup.closest())
        outcome.found = tuple(self._records.values())
        if self.method == FIND:
            outcome.hops = lookup.depth
        if isinstance(self.core, Placement) and self.core.keeps:
            self.node.keep(self.args[1])
        if self._then:
            self._then(outcome)


def note(town, key, owner, *, seq=1, text=b"x"):
    """Return a record of the simulation, taken to be signed."""
    return Record("note", key, owner.peer.node_id, b"", seq, 2**40, text)
