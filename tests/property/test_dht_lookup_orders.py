"""Lookup and placement under any order of answers, failures, delays and lies."""

import hashlib
import random
from collections import Counter
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from dht.endpoint import Peer
from dht.keys import distance
from dht.lookup import MAX_ASKED, Lookup
from dht.paths import MAX_PER_SUBNET, MAX_TRIES
from dht.placement import Placement
from dht.routing import MAX_PER_TABLE
from p2pnode.base.identity import dht_id

KEY = hashlib.sha256(b"key").digest()
OWN = hashlib.sha256(b"own").digest()
SOFT = 0.1


@cache
def peer(number, addr=None):
    return Peer(
        hashlib.sha256(b"%d" % number).digest(),
        (addr or f"/ip4/10.{number >> 8}.{number & 255}.1/tcp/1",),
    )


@cache
def away(node):
    return distance(dht_id(node.node_id), KEY)


@cache
def nearest_of(first, count, addr=None):
    """Return the 40 of many ids that are nearest to the key: ground for it."""
    ground = (peer(first + n, addr and addr % (n % 250)) for n in range(count))
    return sorted(ground, key=away)[:40]


class World:
    """Peers that answer, fail or lie as `draw` has it, driven in any order."""

    def __init__(self, seed, count, *, dead=0.0, liars=0.0, knows=0.5):
        self.random = random.Random(seed)
        self.peers = sorted(map(peer, range(count)), key=away)
        self.addr = {p.node_id: p.addrs[0] for p in self.peers}
        self.kind = {}
        for each in self.peers:
            roll = self.random.random()
            self.kind[each.node_id] = (
                "dead" if roll < dead else "liar" if roll < dead + liars else "honest"
            )
        self.knows = knows
        self.invented = 1 << 20

    def living(self):
        return [p for p in self.peers if self.kind[p.node_id] == "honest"]

    def names(self, node_id, k):
        """Return what a peer names: honest ones the nearest they know, liars anything."""
        if self.kind[node_id] == "honest":
            return [p for p in self.peers if self.random.random() < self.knows][:k]
        self.invented += k
        false = [peer(self.invented + n) for n in range(k)]
        moved = [Peer(p.node_id, ("/ip4/172.16.0.1/tcp/1",)) for p in self.peers[: k // 2]]
        own = [Peer(OWN, ("/ip4/172.16.0.2/tcp/1",))]
        return self.random.sample(false + moved + own + self.peers[: k // 2], k)

    def reachable(self, question):
        kind = self.kind.get(question.peer.node_id, "dead")
        return kind != "dead" and self.addr[question.peer.node_id] in question.peer.addrs


def drive(core, world, *, k, heard=None, steps=5000):
    """Let everything that is asked be answered, late or lost, in a random order."""
    now, asked, open_ = 0.0, [], []
    told = heard or (lambda q: core.answer(q.peer.node_id, world.names(q.peer.node_id, k)))
    for _ in range(steps):
        questions = core.ask(now, lambda _: SOFT)
        asked += questions
        open_ += questions
        if core.done:
            return asked
        assert open_, "nobody is asked, and it has not ended"
        if world.random.random() < 0.3 and core.wake_at() < float("inf"):
            now = core.wake_at()
            continue
        question = open_.pop(world.random.randrange(len(open_)))
        now += 0.01
        if world.reachable(question):
            told(question)
        else:
            core.fail(question.peer.node_id)
    raise AssertionError("the search has not ended")


SEEDS = st.integers(0, 2**32)
PATHS = st.integers(1, 4)
SHARES = st.sampled_from([0.0, 0.2, 0.5])


def begun(world, k, paths=1, **options):
    start = world.random.sample(world.peers, min(len(world.peers), max(1, k)))
    return Lookup(KEY, start, own=OWN, k=k, paths=paths, **options)


@settings(max_examples=150)
@given(SEEDS, st.integers(1, 60), st.integers(1, 20), PATHS, SHARES, SHARES)
def test_it_always_ends_within_its_budget_and_asks_nobody_twice(seed, count, k, paths, dead, lies):
    world = World(seed, count, dead=dead, liars=lies)
    lookup = begun(world, k, paths)
    asked = drive(lookup, world, k=k)
    places = Counter((q.peer.node_id, addr) for q in asked for addr in q.peer.addrs)
    assert max(places.values(), default=1) == 1  # the same peer at the same address
    assert max(Counter(q.peer.node_id for q in asked).values(), default=1) <= MAX_TRIES * paths
    assert OWN not in {q.peer.node_id for q in asked}
    assert len(asked) == lookup.asked <= MAX_ASKED
    found = lookup.closest()
    assert found == sorted(found, key=away)
    assert all(world.kind[p.node_id] != "dead" for p in found)
    assert lookup.ask(1e9, lambda _: SOFT) == []  # it stays ended


@settings(max_examples=100)
@given(SEEDS, st.integers(1, 90), st.integers(1, 20), PATHS, SHARES)
def test_it_finds_exactly_the_k_closest_that_live_if_all_are_honest(seed, count, k, paths, dead):
    world = World(seed, count, dead=dead, knows=1.0)
    lookup = Lookup(KEY, world.peers, own=OWN, k=k, paths=paths)
    drive(lookup, world, k=20)
    if lookup.asked < MAX_ASKED // max(1, min(paths, count)):
        assert lookup.closest()[:k] == world.living()[:k]
        assert lookup.shortlist() == world.living()[:k]


@settings(max_examples=60)
@given(SEEDS, st.integers(30, 90), st.integers(2, 20))
def test_whom_it_was_never_told_of_at_first_it_finds_by_hops(seed, count, k):
    world = World(seed, count, knows=1.0)
    far = world.peers[-1]
    lookup = Lookup(KEY, [far], own=OWN, k=k)
    drive(lookup, world, k=k)
    assert lookup.closest()[:k] == world.living()[:k]
    assert lookup.depth == 2


@settings(max_examples=100)
@given(SEEDS, st.integers(1, 60), st.integers(1, 20), SHARES, SHARES)
def test_a_put_always_ends_and_each_of_the_closest_that_live_has_it(seed, count, k, dead, lies):
    world = World(seed, count, dead=dead, liars=lies)
    lookup = begun(world, k)
    near = world.random.choice([0, 1 << 256, 1 << 250])
    own = world.random.choice([None, away(Peer(OWN, ()))])
    placement = Placement(lookup, near, own, held=own is not None)
    holders, refused = set(), set()

    def heard(question):
        node_id = question.peer.node_id
        if not question.store:
            placement.answer(node_id, world.names(node_id, k))
            return
        held = world.random.random() < 0.9
        (holders if held else refused).add(node_id)
        placement.stored(node_id, world.names(node_id, k), held=held)

    asked = drive(placement, world, k=k, heard=heard)
    given_to = [q.peer.node_id for q in asked if q.store]
    assert {p.node_id for p in lookup.shortlist()[: k - placement.keeps]} <= holders | refused
    assert set(placement.holders()) == holders <= set(given_to)
    assert placement.closest <= k
    assert placement.keeps or own is None or own > away(lookup.shortlist()[-1])
    assert OWN not in given_to


@settings(max_examples=60)
@given(SEEDS, st.integers(2, 4), st.integers(4, 20))
def test_a_liar_on_one_path_steers_no_other(seed, paths, k):
    """Whatever the first path is told, the others ask whom they would have asked without it."""
    world = World(seed, 60, knows=1.0)
    start = world.peers[-paths:]
    liar = start[0]  # nearest of the first contacts: it begins the first path
    lookup = Lookup(KEY, start, own=OWN, k=k, paths=paths)
    world.kind[liar.node_id] = "liar"
    fakes = [Peer(p.node_id, ("/ip4/172.16.0.9/tcp/1",)) for p in world.living()[:20]]
    lie = world.random.choice([fakes, nearest_of(1 << 22, 2000)[:20]])

    def heard(question):
        node_id = question.peer.node_id
        lookup.answer(node_id, lie if node_id == liar.node_id else world.names(node_id, k))

    drive(lookup, world, k=k, heard=heard)
    honest = [p for p in lookup.closest() if p.node_id != liar.node_id]
    assert honest[:k] == [p for p in world.living() if p != liar][:k]


@settings(max_examples=60)
@given(SEEDS, st.integers(1, 3), st.integers(8, 20))
def test_of_one_subnet_three_hold_a_seat_on_a_path(seed, paths, k):
    world = World(seed, 40, knows=1.0)
    horde = nearest_of(1 << 21, 3000, "/ip4/192.0.2.%d/tcp/1")  # nearer than any other
    world.kind |= {p.node_id: "honest" for p in horde}
    world.addr |= {p.node_id: p.addrs[0] for p in horde}
    lookup = Lookup(
        KEY, world.random.sample(horde + world.peers, 20), own=OWN, k=k, paths=paths,
        group_of=lambda p: p.addrs[0].rsplit(".", 1)[0],
    )  # fmt: skip
    ground = {p.node_id for p in horde}

    def heard(question):  # a table holds ten of a subnet, the horde names itself
        node_id = question.peer.node_id
        few = world.random.sample(horde, MAX_PER_TABLE) + world.peers[:10]
        lookup.answer(node_id, horde[:20] if node_id in ground else few)

    drive(lookup, world, k=20, heard=heard)
    assert sum(p.node_id in ground for p in lookup.shortlist()) <= MAX_PER_SUBNET
    seats = [p for p in lookup.shortlist() if p.node_id not in ground]
    assert len(seats) >= min(10, k - MAX_PER_SUBNET)
    assert seats[:10] == world.peers[: len(seats)][:10]
