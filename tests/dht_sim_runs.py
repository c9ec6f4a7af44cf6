"""Scenarios on simulated nodes (`dht_sim`): towns that have grown, died, lied or been besieged."""

from dataclasses import dataclass
from random import Random

from dht_sim import Node, Town, note

from dht.endpoint import Peer
from dht.keys import distance
from p2pnode.base.identity import dht_id

JOIN_EVERY = 0.05  # seconds between two newcomers
SETTLE = 30.0  # seconds for the background to come to rest
POOL = 1 << 15  # ids that an adversary has ground


def grow(seed, count, *, kinds=(), every=JOIN_EVERY, **options):
    """Return a town of `count` nodes that joined one by one through three others.

    `kinds` are the first nodes' classes after the very first; the others are honest.
    """
    town = Town(seed, **options)
    order = [None] * (count - 1 - len(kinds)) + list(kinds)
    town.random.shuffle(order)
    town.add()
    for index, kind in enumerate(order, 1):
        seeds = [n.peer for n in town.random.sample(town.nodes, min(3, index))]
        town.at(index * every, town.add(kind).join, seeds)
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
