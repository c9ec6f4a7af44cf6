"""Records move to where they belong and no further; neither strangers nor the disk stop that."""

import itertools

import trio
import trio.testing
from dht_kit import (
    NETWORK,
    NOTE,
    NOW,
    Clock,
    Randomness,
    hood,
    identity,
    note,
    note_key,
    town,
    until,
)

from dht import rpc, shell_serve, shell_upkeep, standing
from dht.keys import distance
from dht.records import Kinds
from dht.rpc import Answer
from dht.shell_upkeep import Upkeep
from dht.store_records import Kept, RecordStore
from dht.tally import Tally
from p2pnode.base.errors import StorageFault
from p2pnode.base.identity import Identity, dht_id
from p2pnode.base.store import Database

KEY = note_key("m")
WHERE = (NOTE, KEY)


async def pair(build):
    """Start two nodes that know each other, with nothing left to hand over."""
    nodes = await hood(build, 2)
    await until(lambda: all(b.id in a.dht.table for a in nodes for b in nodes if a is not b))
    await trio.testing.wait_all_tasks_blocked(0.05)
    return nodes


def fill(node, first, count, *, market="m", expires_at=NOW + 1000):
    """Have a node hold records without telling anybody."""
    for number in range(first, first + count):
        owner = Identity(number.to_bytes(32, "big"))
        raw = note(owner, market.format(number), expires_at=expires_at)
        assert node.dht._store.put(node.dht._kinds.accept(NOTE, raw, NOW)) is Kept.NEW


def held(node):
    return {record.raw for record in node.dht.stored(NOTE, KEY)}


# ------------------------------------------------------------------ who holds what


async def test_who_is_no_more_among_the_closest_gives_and_fetches_nothing():
    async with town() as build:
        nodes = await hood(build, 6, k=2)
        nearest = sorted(nodes, key=lambda node: distance(dht_id(node.id), KEY))
        first, second, *_, far = nearest
        fill(first, 0, 20)
        fill(far, 100, 3)
        await far.dht._upkeep._compare_with_some(WHERE)
        assert far.dht.tally.counts["comparisons"] == 2
        assert len(held(far)) == 3
        assert "records_fetched" not in far.dht.tally.counts
        assert held(far) <= held(first)
        assert held(far) <= held(second)
        assert far.dht.tally.counts["records_given"] == 6
        await second.dht._upkeep._compare_with_some(WHERE)  # it is among them: both ways
        assert held(second) == held(first)
        assert second.dht.tally.counts["records_fetched"] == 20


async def test_who_only_gives_keeps_his_older_versions_to_himself():
    async with town() as build:
        a, b = await pair(build)
        owner = identity("owner")
        for node, seq in ((a, 1), (b, 2)):
            node.dht._store.put(node.dht._kinds.accept(NOTE, note(owner, "m", seq=seq), NOW))
        await a.dht._upkeep.compare(b.peer, WHERE, give_only=True)
        assert a.dht.tally.counts["asked_find_value"] == 1
        assert "asked_store" not in a.dht.tally.counts
        assert [r.seq for r in a.dht.stored(NOTE, KEY)] == [1]
        assert [r.seq for r in b.dht.stored(NOTE, KEY)] == [2]


async def test_a_reader_of_pages_lets_its_listeners_be_told_meanwhile(monkeypatch):
    monkeypatch.setattr(shell_serve, "MAX_UNSENT", 12)  # fewer than one read brings
    async with town() as build:
        a, b, c = await hood(build, 3)
        got = set()

        async def read(news):
            async for record in news:
                got.add(record.raw)

        async with c.dht.listen(NOTE, KEY) as news, trio.open_nursery() as nursery:
            nursery.start_soon(read, news)
            await until(lambda: a.dht.view()["listens"] == 1)
            fill(b, 0, 400)
            await a.dht._upkeep.compare(b.peer, WHERE)
            assert a.dht.tally.counts["asked_find_value"] == 16  # 25 records new in each
            assert a.dht.tally.counts["records_fetched"] == 400
            await until(lambda: len(got) == 400)
            nursery.cancel_scope.cancel()
        assert "news_dropped" not in a.dht.tally.counts
        assert "listens_lost" not in c.dht.tally.counts


# ------------------------------------------------------------------ a partner without room


async def test_a_partner_without_room_is_asked_three_times_and_counted_as_none():
    async with town() as build:
        a, b = await pair(build)
        fill(b, 500, 2, expires_at=NOW + 9000)
        b.dht._store._limit = 2
        fill(a, 0, 40)
        await a.dht._upkeep.compare(b.peer, WHERE)
        assert a.dht.tally.counts["asked_store"] == 3
        assert b.dht.tally.counts["records_worse"] == 3
        assert "records_given" not in a.dht.tally.counts


async def test_a_newcomer_without_room_is_asked_three_times_and_counted_as_none():
    async with town() as build:
        a, b = await pair(build)
        fill(b, 500, 2, expires_at=NOW + 9000)
        b.dht._store._limit = 2
        fill(a, 0, 40, market="m{}")
        await a.dht._upkeep._hand_to(b.peer)
        assert a.dht.tally.counts["asked_store"] == 3
        assert "records_handed_over" not in a.dht.tally.counts


async def test_a_refusal_now_and_then_stops_nothing():
    async with town() as build:
        a, b = await pair(build)
        fill(a, 0, 12, market="m{}")
        keep, asked = b.dht._answers._store.put, []

        def picky(record, bounds=None):
            asked.append(record)
            return Kept.WORSE if len(asked) % 3 else keep(record, bounds)

        b.dht._answers._store.put = picky
        await a.dht._upkeep._hand_to(b.peer)
        assert len(asked) == 12
        assert a.dht.tally.counts["records_handed_over"] == b.dht._store.count() == 4


# ------------------------------------------------------------------ strangers and the disk


async def test_a_disk_that_fails_costs_one_newcomer_his_records_and_not_the_node(monkeypatch):
    async with town() as build:
        a, b = await pair(build)
        fill(a, 0, 5, market="m{}")
        real, failed = a.dht._store.all_of, []

        def broken(*where):
            failed.append(where)
            raise StorageFault("the disk is full")

        monkeypatch.setattr(a.dht._store, "all_of", broken)
        a.dht._upkeep.met(b.peer)
        await until(lambda: failed)
        monkeypatch.setattr(a.dht._store, "all_of", real)
        a.dht._upkeep.met(b.peer)
        await until(lambda: b.dht._store.count() == 5)


async def test_a_newcomer_who_lies_to_a_node_whose_disk_fails_does_not_end_it(monkeypatch):
    monkeypatch.setattr(standing, "KEY_LIMIT", 1.0)

    async def lie(channel):
        while True:
            asked = rpc.decode(await channel.receive())
            result = (5, ()) if asked.method == rpc.STORE else ()
            await channel.send(rpc.encode(Answer(asked.id, result)))

    async with town() as build, build.liar("liar", lie) as (_, liar):
        a, b = await pair(build)
        fill(a, 0, 5, market="m{}")
        failed = []

        def broken(ban):
            failed.append(ban)
            raise StorageFault("the disk is full")

        monkeypatch.setattr(a.dht._ban_store, "save", broken)
        a.dht.table.welcome(liar)
        # The keys of which no other is nearer than we are: the liar must be given some.
        monkeypatch.setattr(a.dht._upkeep, "_theirs", all_keys(a))
        a.dht._upkeep.met(liar)
        await until(lambda: failed)
        assert failed[0].subject == liar.node_id.hex()
        a.dht._upkeep.met(b.peer)
        await until(lambda: b.dht._store.count() == 5)


def all_keys(node):
    async def theirs(_peer):
        return node.dht._store.held_keys()

    return theirs


# ------------------------------------------------------------------ the pace


class Around:
    """What upkeep asks of the rest of a node."""

    def __init__(self):
        self.own, self.touched = identity("own").node_id, {}


def upkeep_of(keys, monkeypatch):
    """Return an upkeep that holds `keys`, and the list of what it compares and when."""
    around, store, compared = Around(), RecordStore(Database(None)), []
    monkeypatch.setattr(store, "held_keys", lambda: keys)
    it = Upkeep(
        NETWORK, around, around, None, around, Kinds(), store, Clock(), Randomness("r"), Tally()
    )

    async def compare(where):
        compared.append((where, trio.current_time()))

    monkeypatch.setattr(it, "_compare_with_some", compare)
    return it, compared


async def test_each_key_has_its_turn_every_hour_however_many_are_held(monkeypatch, autojump_clock):
    monkeypatch.setattr(shell_upkeep, "KEYS_A_ROUND", 2)
    keys = [(NOTE, number.to_bytes(32, "big")) for number in range(600)]
    it, compared = upkeep_of(keys, monkeypatch)
    for number in range(180):
        await it.pass_on()
        await trio.sleep(60 if number % 3 else 150)  # now and then a round takes its time
    turns = {}
    for where, at in compared:
        turns.setdefault(where, []).append(at)
    assert set(turns) == set(keys)
    gaps = [b - a for at in turns.values() for a, b in itertools.pairwise(at)]
    assert min(gaps) >= 3600
    assert max(gaps) <= 3600 + 900


async def test_a_round_is_bounded(monkeypatch, autojump_clock):
    for count, share in ((10, 10), (3000, 64), (6000, 100), (50_000, 256)):
        keys = [(NOTE, number.to_bytes(32, "big")) for number in range(count)]
        it, compared = upkeep_of(keys, monkeypatch)
        it._due = dict.fromkeys(keys, 1e-9)
        await trio.sleep(1)
        await it.pass_on()
        assert len(compared) == share
