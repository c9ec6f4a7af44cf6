"""Forty nodes, k = 4: every record is where it belongs, and a stranger to its holders finds it."""

import gc
import resource

from dht_kit import NOTE, identity, note, note_key, town

from dht.keys import distance
from p2pnode.base.identity import dht_id

NODES, MARKETS, K = 40, 40, 4


async def test_forty_nodes_hold_and_find_every_record():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    gc.collect()
    gc.freeze()  # what earlier tests have left is not looked through while forty nodes wait
    try:
        async with town() as build:
            await _forty(build)
    finally:
        gc.unfreeze()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def _forty(build):
    nodes = [await build.node(f"n{i}", k=K) for i in range(NODES)]
    seed, *live = nodes
    for node in live:
        assert await node.dht.join([seed.peer]) == 1
    for node in nodes:
        await node.dht.refresh()
    await seed.kill()

    for number in range(MARKETS):
        maker = live[number % len(live)]
        raw = note(maker.identity, f"market {number}")
        put = await maker.dht.put(NOTE, raw, whole=True)
        assert put.acked >= K - 1

    held = {number: _holders(live, number) for number in range(MARKETS)}
    nearest = {number: _nearest(live, number) for number in held}
    # All forty share one process: a stall of it costs a node an answer, and a record a place.
    missed = sum(len(nearest[n] - held[n]) for n in held)
    assert missed <= MARKETS * K // 20
    # Whoever has lost contacts takes a wider circle for the closest: a copy too many, not one missing.
    spare = sum(len(held[n] - nearest[n]) for n in held)
    print(f"{spare} copies beyond the {K} closest of {MARKETS} records")
    assert spare <= MARKETS * K // 8
    for node in live:
        assert sum(node.id in holders for holders in held.values()) <= MARKETS // 2

    # The taker is whoever knows the fewest holders: lookups must cross strangers for it.
    def strange(node):
        known = {p.node_id for p in node.dht.peers()} | {node.id}
        return [number for number, holders in held.items() if not holders & known]

    taker = max(live, key=lambda n: len(strange(n)))
    far = strange(taker)
    assert len(far) >= 3
    known = {p.node_id for p in taker.dht.peers()}
    hops = {}
    for number in sorted(range(MARKETS), key=lambda n: n not in far):
        key = note_key(f"market {number}")
        strangers = not held[number] & {p.node_id for p in taker.dht.peers()}
        found = await taker.dht.get(NOTE, key)
        assert [r.raw for r in found.records] == [note(_maker(live, number), f"market {number}")]
        holders = set(found.holders[(_maker(live, number).node_id, b"")])
        assert holders
        assert holders <= held[number]
        if number in far and strangers:
            hops[number] = found.hops[(_maker(live, number).node_id, b"")]
    print(f"{len(known)} contacts, hops of offers whose holders were unknown: {hops}")
    assert len(hops) >= 3
    assert min(hops.values()) >= 2


def _maker(live, number):
    return live[number % len(live)].identity


def _nearest(live, number):
    key = note_key(f"market {number}")
    return {n.id for n in sorted(live, key=lambda n: distance(dht_id(n.id), key))[:K]}


def _holders(live, number):
    key = note_key(f"market {number}")
    return {n.id for n in live if n.dht.stored(NOTE, key)}


async def test_a_second_version_replaces_the_first_wherever_it_lies():
    async with town() as build:
        nodes = [await build.node(f"m{i}", k=3) for i in range(6)]
        for node in nodes[1:]:
            await node.dht.join([nodes[0].peer])
        owner = identity("owner")
        for seq in (1, 2):
            await nodes[seq].dht.put(NOTE, note(owner, "x", seq=seq), whole=True)
        stale = note(owner, "x", seq=1, text=b"stale")
        late = await nodes[3].dht.put(NOTE, stale, whole=True)
        found = await nodes[4].dht.get(NOTE, note_key("x"))
        assert late.acked == 0
        assert [r.seq for r in found.records] == [2]
