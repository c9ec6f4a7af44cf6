"""The long simulations of `make soak` and the measurement behind docs/lookup-cost.svg."""

import gc
import math
import time

from dht_sim import STORE, Node, note
from dht_sim_runs import JOIN_EVERY, Tally, at_percent, grow, kill, trade
from dht_sim_town import Town

from p2pnode.base.identity import dht_id

SIZES = (100, 300, 1000, 3000, 10_000)
HOUR = 3600.0
UPKEEP_EVERY = 900.0  # a node looks itself up
REPUBLISH_EVERY = 1200.0  # a holder puts again what nobody has put meanwhile
RECORDS = 300
GETS = 1000


def hush():
    """Stop the garbage collector, which would walk millions of live objects; return the times."""
    gc.collect()
    gc.disable()
    return time.perf_counter(), time.process_time()


def figures_of(run, town, tally, began):
    """Return the figures of a run as one JSON object. Times in seconds."""
    gc.enable()
    took = [get.first for get in tally.gets if get.found]
    figures = {
        "run": run,
        "seed": town.seed,
        "nodes": len(town.living()),
        "wall_s": round(time.perf_counter() - began[0], 1),
        "cpu_s": round(time.process_time() - began[1], 1),
        "virtual_s": round(town.now, 1),
        "events": town.events,
        "messages": town.messages,
        "found": tally.found,
        "gets": len(tally.gets),
        "get_p50_s": round(at_percent(took, 50), 3),
        "get_p99_s": round(at_percent([get.took for get in tally.gets], 99), 3),
    }
    if tally.puts:
        settled = [put.first or put.took for put in tally.puts]
        figures["put_p50_s"] = round(at_percent(settled, 50), 3)
        figures["put_p99_s"] = round(at_percent(settled, 99), 3)
    if tally.finds:
        figures["hops"] = round(mean(find.hops for find in tally.finds), 3)
        figures["messages_a_lookup"] = round(mean(find.messages for find in tally.finds), 2)
    return figures


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def missed_bars(figures, bars):
    """Return a sentence for each figure beyond its bar; bars are (name, at most, limit)."""
    wrong = []
    for name, upper, limit in bars:
        value = figures[name]
        if value > limit if upper else value < limit:
            wrong.append(f"{name} is {value}, the bar is {limit}")
    return wrong


def thousand(seed):
    """1,000 nodes, 5 % of the messages lost, 30 % of the nodes dead."""
    began = hush()
    town = grow(seed, 1000, loss=0.05)
    kill(town, 0.3)
    tally = trade(town, 300, finds=100)
    figures = figures_of("1000 nodes, 5 % loss, 30 % dead", town, tally, began)
    bars = [("wall_s", True, 60), ("found", False, 300), ("get_p99_s", True, 1.0)]
    return figures, missed_bars(figures, bars)


# ------------------------------------------------------------------ churn


class Settler(Node):
    """A node that keeps house: neighbours looked up, records put again and handed over."""

    def __init__(self, town, number, peer):
        super().__init__(town, number, peer)
        self.put_at = {}  # key -> when it was last put here
        self.on_contact = self.hand_over
        wait = town.random.random()
        town.at(town.now + wait * UPKEEP_EVERY, self.upkeep)
        town.at(town.now + (1 + wait) * REPUBLISH_EVERY, self.republish)

    def keep(self, record):
        self.put_at[record.key] = self.town.now
        return super().keep(record)

    def upkeep(self):
        if self.alive and self.town.now < self.town.ends:
            self.find(dht_id(self.peer.node_id))
            self.refresh(HOUR)
            self.town.at(self.town.now + UPKEEP_EVERY, self.upkeep)

    def republish(self):
        """Put again what nobody has put here of late."""
        if not self.alive or self.town.now >= self.town.ends:
            return
        for key, held in list(self.store.items()):
            if self.put_at[key] <= self.town.now - REPUBLISH_EVERY:
                for record in held.values():
                    self.put(record)
        self.town.at(self.town.now + REPUBLISH_EVERY / 2, self.republish)

    def hand_over(self, newcomer):
        """Give a newcomer what it is to hold, if nobody is nearer to the key than we are."""
        for key, held in self.store.items():
            number = int.from_bytes(key, "big")
            near = [peer.node_id for peer in self.table.closest(key)]
            others = (int.from_bytes(dht_id(n), "big") for n in near if n != newcomer.node_id)
            if newcomer.node_id in near and all(
                self.place ^ number < other ^ number for other in others
            ):
                for record in held.values():
                    self.call(newcomer, STORE, (key, record), lambda _: None)


def churn(seed, count=1000):
    """An hour in which half of the nodes leave without a word and as many join."""
    began = hush()
    town = Town(seed)
    start = count * JOIN_EVERY + 60.0
    town.ends = start + HOUR
    rng, tally, records, left = town.random, Tally([], [], []), [], []

    def join():
        seeds = [n.peer for n in rng.sample(town.living(), min(3, len(town.living())))]
        town.add(Settler).join(seeds)

    def leave():
        left.append(rng.choice(town.living()))
        left[-1].alive = False

    def put():
        owner = rng.choice(town.living())
        records.append(note(town, rng.randbytes(32), owner))
        tally.puts.append(owner.put(records[-1]))

    def get():
        tally.gets.append(rng.choice(town.living()).get(rng.choice(records).key))

    for number in range(count):
        town.at(number * JOIN_EVERY, join)
    for number in range(RECORDS):
        town.at(start - 30.0 + 0.1 * number, put)
    for act, times in ((leave, count // 2), (join, count // 2), (get, GETS)):
        for _ in range(times):
            town.at(start + rng.random() * HOUR, act)
    town.run()
    tally.gets = [g for g in tally.gets if g.over]  # the others' reader left meanwhile
    figures = figures_of(f"an hour, half of {count} nodes leave", town, tally, began)
    figures |= {"left": len(left), "joined": len(town.nodes) - count}
    share = tally.found / len(tally.gets)
    figures["found_share"] = round(share, 4)
    bars = [("wall_s", True, 300), ("found_share", False, 0.99), ("left", False, count // 2)]
    return figures, missed_bars(figures, bars)


# ------------------------------------------------------------------ growth


def measure(seed, count):
    """Return figures of lookups among `count` nodes without faults."""
    began = hush()
    town = grow(seed, count)
    tally = trade(town, 200, finds=400)
    return figures_of(f"{count} nodes without faults", town, tally, began)


def too_fast(rows):
    """Return what grows faster than log2 n, of rows in ascending order of nodes."""
    wrong = []
    first = rows[0]
    for row in rows[1:]:
        bar = math.log2(row["nodes"]) / math.log2(first["nodes"])
        for name in ("hops", "messages_a_lookup"):
            grew = row[name] / first[name]
            if grew > bar:
                wrong.append(
                    f"{name} grew by {grew:.2f} from {first['nodes']} to {row['nodes']} nodes, "
                    f"log2 n by {bar:.2f}"
                )
    return wrong
