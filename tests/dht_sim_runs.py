"""Scenarios on simulated nodes (`dht_sim`): towns that have grown, died, lied or been besieged."""

from dataclasses import dataclass
from heapq import nsmallest
from random import Random
from typing import ClassVar

from dht_sim import FIND, PING, VALUE, Node, note
from dht_sim_town import Town

from dht.endpoint import Peer
from p2pnode.base.identity import dht_id

JOIN_EVERY = 0.05  # seconds between two newcomers
SEEDS = 5
SETTLE = 30.0  # seconds for the background to come to rest
POOL = 1 << 15  # ids that an adversary has ground


def grow(seed, count, *, kinds=(), every=JOIN_EVERY, **options):
    """Return a town of `count` nodes that joined one by one through three of the seeds.

    Whoever is in town is a seed if all are honest. `kinds` are the classes of those who are
    not; then the first five nodes are the seeds, as in a list that comes with the program.
    """
    town = Town(seed, **options)
    order = [None] * (count - len(kinds)) + list(kinds)
    first = SEEDS if kinds else 1
    rest = order[first:]
    town.random.shuffle(rest)
    for index, kind in enumerate(order[:first] + rest):
        known = town.nodes[:SEEDS] if kinds else town.nodes
        seeds = [n.peer for n in town.random.sample(known, min(3, len(known)))]
        town.at(index * every, town.add(kind or Node).join, seeds)
    town.run()
    return town


def kill(town, share):
    """End a share of the nodes without a word; return how many."""
    victims = town.random.sample(town.nodes, int(share * len(town.nodes)))
    for node in victims:
        node.alive = False
    return len(victims)


@dataclass(slots=True)
class Tally:
    """What a row of puts, gets and lookups came to."""

    puts: list
    gets: list
    finds: list
    places: int = 0  # k closest live nodes, over all records
    missing: int = 0  # of them, without the record
    extra: int = 0  # others that hold a record

    @property
    def found(self):
        return sum(bool(get.found) for get in self.gets)

    @property
    def never_ended(self):
        return sum(not job.over for job in (*self.puts, *self.gets, *self.finds))


def trade(town, rounds, *, finds=0, apart=0.2, paths=None, but=()):
    """Put `rounds` records by random nodes, get each at another; look up `finds` random ids."""
    rng, begin = town.random, town.now
    able = [n for n in town.living() if n.honest and n not in but]
    tally, records = Tally([], [], []), []

    def put(number):
        one, other = rng.sample(able, 2)
        record = note(town, rng.randbytes(32), one, text=b"%d" % number)
        records.append((record, other))
        tally.puts.append(one.put(record))

    def get(number):
        record, other = records[number]
        tally.gets.append(other.get(record.key, paths=paths))

    for number in range(rounds):
        town.at(begin + number * apart, put, number)
    town.run()
    for record, _ in records:
        holders = {n.number for n in town.living() if record.key in n.store}
        right = {n.number for n in town.nearest(record.key, town.k)}
        tally.places += len(right)
        tally.missing += len(right - holders)
        tally.extra += len(holders - right)
    begin = town.now
    for number in range(rounds):
        town.at(begin + number * apart, get, number)
    for number in range(finds):
        who = rng.choice(able)
        key = rng.randbytes(32)
        town.at(begin + number * apart, lambda w=who, k=key: tally.finds.append(w.find(k)))
    town.run()
    return tally


def at_percent(values, percent):
    """Return a percentile (nearest rank) of values."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * percent / 100))]


def upkeep(town):
    """Have every node look up itself and an id in each bucket, as it does every hour."""
    for node in town.living():
        wait = town.random.random() * SETTLE
        town.at(town.now + wait, lambda n=node: n.find(dht_id(n.peer.node_id)) and n.refresh())
    town.run()


# ------------------------------------------------------------------ adversaries


class Pool:
    """Ids that an adversary has ground: for any key some are nearer than every honest node."""

    def __init__(self, seed, count=POOL):
        rng = Random(seed)
        self._by_byte = [[] for _ in range(256)]
        for _ in range(count):
            node_id = rng.randbytes(32)
            place = dht_id(node_id)
            self._by_byte[place[0]].append((int.from_bytes(place, "big"), node_id))

    def near(self, key, count):
        number = int.from_bytes(key, "big")
        ranked = nsmallest(count, self._by_byte[key[0]], key=lambda x: x[0] ^ number)
        return [node_id for _, node_id in ranked]


class Liar(Node):
    """A hostile node: it joins, asks and answers pings as others do, and lies otherwise."""

    honest = False
    pool = None  # set by `hostile`
    told = 0  # over all liars
    lies: ClassVar = {}  # (kind, key, size of the town) -> what is named

    def serve(self, caller, method, args):
        if method == PING or not caller.honest:
            return super().serve(caller, method, args)
        Liar.told += 1
        now = (type(self), args[0], len(self.town.nodes))
        if now not in Liar.lies:
            Liar.lies[now] = self.lie(args[0])
        named = Liar.lies[now]
        if named is None or method == FIND:
            return named
        return (named, ()) if method == VALUE else (named, True)

    def lie(self, key):
        """Return the peers to name; None: silence."""
        raise NotImplementedError


class Mute(Liar):
    """Drops every query."""

    def lie(self, key):
        return None


class Inventor(Liar):
    """Names peers that do not exist, all nearer to the key than any honest node."""

    def lie(self, key):
        addr = f"/ip4/172.16.{key[0]}.%d/tcp/4001"
        return [Peer(n, (addr % i,)) for i, n in enumerate(self.pool.near(key, self.town.k))]


class Colluder(Liar):
    """Names other liars alone, and holds nothing."""

    def lie(self, key):
        number = int.from_bytes(key, "big")
        gang = [n for n in self.town.nodes if not n.honest]
        return [n.peer for n in nsmallest(self.town.k, gang, key=lambda n: n.place ^ number)]


class Poisoner(Liar):
    """Names the honest nodes nearest to the key, at addresses where nobody is."""

    def lie(self, key):
        return [
            Peer(n.peer.node_id, (f"/ip4/172.31.{n.number >> 8}.{n.number & 255}/tcp/4001",))
            for n in self.town.nearest(key, self.town.k)
        ]


LIARS = (Mute, Inventor, Colluder, Poisoner)


def hostile(seed, count, share, kinds=LIARS, **options):
    """Return a town in which a share of the nodes lie, in equal parts of each kind."""
    Liar.pool, Liar.told, Liar.lies = Pool(seed), 0, {}
    bad = [kinds[i % len(kinds)] for i in range(int(share * count))]
    return grow(seed, count, kinds=bad, **options)


def besiege(town, key, count, subnets):
    """Have `count` colluders join whose ids are ground around a key, all in a few /24s."""
    for index, node_id in enumerate(Liar.pool.near(key, count)):
        addr = f"/ip4/192.0.{index % subnets}.{index // subnets + 1}"
        node = town.add(Colluder, node_id=node_id, addr=addr)
        seeds = [n.peer for n in town.random.sample(town.nodes[:SEEDS], 3)]
        town.at(town.now + index * JOIN_EVERY, node.join, seeds)
    town.run()
