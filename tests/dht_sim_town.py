"""The time of a simulated town of DHT nodes, and the wires between them: an event heap, no trio.

Every ordered pair of nodes has one delay, a share of the messages is lost, a question is asked
twice. A run is a function of its seed: `digest` proves it.
"""

import hashlib
import heapq
import random

from dht.endpoint import Peer

MAX_TRIES = 2  # of one question


def same_group(peer):
    """Return the /24 of a simulated peer's first address; nobody is exempt."""
    return peer.addrs[0].rsplit(".", 1)[0] if peer.addrs else None


def no_group(_peer):
    return None


class Call:
    """One question to one peer, asked twice at the most."""

    __slots__ = (
        "args",
        "callee",
        "caller",
        "deadline",
        "method",
        "node_id",
        "sent",
        "then",
        "tries",
    )

    def __init__(self, caller, node_id, callee, method, args, then):
        self.caller, self.node_id, self.callee = caller, node_id, callee
        self.method, self.args, self.then = method, args, then
        self.tries = 0
        self.deadline = self.sent = 0.0


class Town:
    """The nodes, the wires between them and the time."""

    def __init__(
        self,
        seed,
        *,
        k=20,
        loss=0.0,
        delays=(0.010, 0.050),
        paths=1,
        group_of=same_group,
        log=False,
    ):
        self.seed, self.k, self.loss, self.group_of = seed, k, loss, group_of
        self.paths = paths  # of each lookup, disjoint
        self.random = random.Random(seed)
        self.now = 0.0
        self.nodes = []
        self.by_id = {}
        self.events = self.messages = self.losses = self.timeouts = 0
        self._least, self._spread = delays[0], (delays[1] - delays[0]) / 0xFFFF
        self._heap = []
        self._count = 0
        self._log = hashlib.sha256() if log else None

    def clock(self):
        return self.now

    def digest(self):
        """Return the SHA-256 of everything that has happened, in order."""
        return self._log.hexdigest()

    def add(self, kind, *, node_id=None, addr=None):
        """Add a node; it knows nobody yet."""
        number = len(self.nodes)
        addr = addr or f"/ip4/10.{number >> 8}.{number & 255}.1"
        node_id = node_id or self.random.randbytes(32)
        node = kind(self, number, Peer(node_id, (addr + "/tcp/4001",)))
        self.nodes.append(node)
        self.by_id[node_id] = node
        return node

    def living(self):
        return [node for node in self.nodes if node.alive]

    def nearest(self, key, count, *, but=()):
        """Return the live honest nodes nearest to a key: what a perfect lookup would find."""
        number = int.from_bytes(key, "big")
        alive = [n for n in self.nodes if n.alive and n.honest and n not in but]
        return heapq.nsmallest(count, alive, key=lambda n: n.place ^ number)

    # ------------------------------------------------------------------ time

    def at(self, when, act, *args):
        """Have `act(*args)` done at a time; what is due at once is done in the order told."""
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, act, args))

    def run(self, until=float("inf")):
        """Let time pass until `until`, or until nothing is left to happen."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, number, act, args = heapq.heappop(heap)
            self.events += 1
            if self._log is not None:
                self._log.update(b"%d %.9f %s\n" % (number, self.now, act.__name__.encode()))
            act(*args)
        if until != float("inf"):
            self.now = until

    # ------------------------------------------------------------------ wires

    def delay(self, one, other):
        """Return the one-way delay of an ordered pair in seconds, always the same."""
        mixed = (one.number * 0x9E3779B1 ^ other.number * 0x85EBCA77) * 0xC2B2AE3D
        return self._least + self._spread * (mixed >> 7 & 0xFFFF)

    def _lost(self):
        if self.loss and self.random.random() < self.loss:
            self.losses += 1
            return True
        return False

    def send(self, call):
        """Send a question; its caller hears the answer, or None after the last deadline."""
        caller, callee = call.caller, call.callee
        call.tries += 1
        call.sent = self.now
        call.deadline = self.now + caller.rtts.hard(call.node_id)
        self.messages += 1
        if self._log is not None:
            self._log.update(b"%d %s %s\n" % (caller.number, call.method.encode(), call.node_id))
        if callee is None or self._lost():
            self.at(call.deadline, self._timeout, call)
        else:
            self.at(self.now + self.delay(caller, callee), self._deliver, call)

    def _deliver(self, call):
        callee = call.callee
        if callee.alive:
            callee.greeted(call.caller)
            result = callee.serve(call.caller, call.method, call.args)
            if result is not None:
                self.messages += 1
                back = self.now + self.delay(callee, call.caller)
                if back <= call.deadline and not self._lost():
                    self.at(back, self._arrive, call, result)
                    return
        self.at(call.deadline, self._timeout, call)

    def _arrive(self, call, result):
        caller = call.caller
        if caller.alive:
            caller.rtts.observe(call.node_id, self.now - call.sent)
            caller.welcome(call.callee.peer)
            call.then(result)

    def _timeout(self, call):
        self.timeouts += 1
        caller = call.caller
        if not caller.alive:
            return
        caller.rtts.late(call.node_id)
        if call.tries < MAX_TRIES:
            self.send(call)
        else:
            caller.lose(call.node_id)
            call.then(None)
