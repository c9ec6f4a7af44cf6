"""Changes are pushed to whoever listens, records move to where they belong, bans hold."""

import hashlib
import math
from functools import partial

import pytest
import trio
import trio.testing
from dht_kit import (
    NETWORK,
    NOTE,
    NOW,
    Clock,
    hood,
    identity,
    note,
    note_key,
    town,
    until,
    validate_note,
)

from dht import address, rpc, shell_listen
from dht.keys import distance
from dht.records import Bounds
from dht.rpc import Answer
from dht.rtt import HARD_MAX
from dht.store_records import Kept
from dht.transport_libp2p import open_streams
from p2pnode.base import wire
from p2pnode.base.errors import LocalFault, StorageFault, Unreachable
from p2pnode.base.identity import Identity, dht_id
from p2pnode.base.ranges import fingerprint
from p2pnode.base.store import Database

KEY = note_key("m")


async def make_due(node):
    """Have a node compare all it holds with other holders now."""
    upkeep = node.dht._upkeep
    await upkeep.pass_on()  # which gives every key its time
    upkeep._due = dict.fromkeys(upkeep._due, 1e-9)
    await upkeep.pass_on()


def nearest_first(nodes):
    return sorted(nodes, key=lambda node: distance(dht_id(node.id), KEY))


async def heard(news, seconds=5):
    with trio.fail_after(seconds):
        return await news.receive()


# ------------------------------------------------------------------ listen


async def test_a_listener_is_told_what_is_there_and_what_changes():
    async with town() as build:
        nodes = await hood(build, 6, k=3)
        *_, far = nearest_first(nodes)
        await nodes[0].dht.put(NOTE, note(identity("early"), "m"), whole=True)
        async with far.dht.listen(NOTE, KEY) as news:
            assert (await heard(news)).owner == identity("early").node_id
            asked = far.dht.tally.counts["asked_find_value"]
            owner = identity("owner")
            for seq in (1, 2, 3):
                await nodes[seq].dht.put(NOTE, note(owner, "m", seq=seq))
                record = await heard(news)
                assert (record.owner, record.seq) == (owner.node_id, seq)
            assert far.dht.tally.counts["asked_find_value"] == asked  # pushed, not polled
            await nodes[1].dht.put(NOTE, note(identity("elsewhere"), "other"), whole=True)
            await nodes[1].dht.put(NOTE, note(owner, "m", seq=2), whole=True)  # no news
            await nodes[1].dht.put(NOTE, note(owner, "m", seq=4), whole=True)
            assert (await heard(news)).seq == 4
        await until(lambda: not any(n.dht.view()["listens"] for n in nodes))


async def test_a_listener_that_holds_the_key_itself_hears_as_well():
    async with town() as build:
        nodes = await hood(build, 4)
        async with nodes[0].dht.listen(NOTE, KEY) as news, nodes[0].dht.listen(NOTE, KEY) as more:
            await nodes[2].dht.put(NOTE, note(identity("owner"), "m"))
            assert (await heard(news)).seq == (await heard(more)).seq == 1
            assert nodes[0].dht.view()["subscriptions"] == 1
            await nodes[0].dht.put(NOTE, note(identity("owner"), "m", seq=2))
            assert (await heard(news)).seq == 2


async def test_a_listener_survives_the_death_of_every_holder(monkeypatch):
    monkeypatch.setattr(shell_listen, "AGAIN_AFTER", 0.05)
    async with town() as build:
        nodes = await hood(build, 8, k=3)
        *holders, _, _, _, _, far = nearest_first(nodes)
        assert len(holders) == 3
        async with far.dht.listen(NOTE, KEY) as news:
            await far.dht.put(NOTE, note(identity("first"), "m"), whole=True)
            await heard(news)
            for holder in holders:
                await holder.kill()
            alive = [n for n in nodes if n not in holders and n is not far]
            await until(lambda: far.dht.tally.counts["listens_lost"] >= 3)
            await until(lambda: sum(n.dht.view()["listens"] for n in alive) >= 3)
            await alive[0].dht.put(NOTE, note(identity("second"), "m"))
            assert (await heard(news)).owner == identity("second").node_id


async def test_what_is_not_valid_is_not_told():
    good, forged = note(identity("honest"), "m"), bytearray(note(identity("honest"), "m", seq=2))
    forged[-1] ^= 1
    pushed = trio.Event()

    async def push(channel):
        while True:
            asked = rpc.decode(await channel.receive())
            results = {rpc.LISTEN: (600,), rpc.FIND_VALUE: ((), (), b""), rpc.STORE: (1, ())}
            await channel.send(rpc.encode(Answer(asked.id, results.get(asked.method, ()))))
            if asked.method == rpc.LISTEN and asked.args[2]:
                for raw in (bytes(forged), note(identity("x"), "another key"), b"\xc1", good):
                    await channel.send(rpc.encode(rpc.News(asked.id, (raw,))))
                pushed.set()

    async with town() as build, build.liar("liar", push) as (_, liar):
        node = await build.node("a")
        node.dht.table.welcome(liar)
        async with node.dht.listen(NOTE, KEY) as news:
            await pushed.wait()
            assert (await heard(news)).raw == good
            assert node.dht.tally.counts["news_invalid"] == 3
            with pytest.raises(trio.WouldBlock):
                news.receive_nowait()


async def test_a_reader_that_falls_behind_is_told_so_and_told_all_when_it_comes_back(monkeypatch):
    monkeypatch.setattr(shell_listen, "MAX_UNREAD", 3)
    async with town() as build:
        nodes = await hood(build, 3)
        async with nodes[0].dht.listen(NOTE, KEY) as news:
            for number in range(5):
                await nodes[1].dht.put(NOTE, note(identity(f"o{number}"), "m"), whole=True)
            await until(lambda: nodes[0].dht.tally.counts["news_unread"])
            assert len([record async for record in news]) == 3
            async with nodes[0].dht.listen(NOTE, KEY) as again:
                assert len({(await heard(again)).owner for _ in range(5)}) == 5


async def test_nobody_listens_to_more_than_his_share():
    async with town() as build, open_streams(identity("mallory"), NETWORK) as mallory:
        node = await build.node("a")
        channel = await mallory.open(
            node.id, node.streams.addrs(), NETWORK.protocol("dht"), limit=rpc.FRAME_LIMIT
        )
        granted = []
        for number in range(70):
            args = (NOTE, number.to_bytes(32, "big"), 600)
            await channel.send(rpc.encode(rpc.Ask(number, rpc.LISTEN, args)))
            granted.append(rpc.decode(await channel.receive()).result[0])
        assert granted == [600] * 64 + [0] * 6
        await channel.close()
        await until(lambda: node.dht.view()["listens"] == 0)


async def test_a_key_that_is_listened_to_again_at_once_is_told_by_all_its_holders():
    async with town() as build:
        nodes = await hood(build, 5)
        reader, *holders = nodes
        for number in range(8):
            async with reader.dht.listen(NOTE, KEY):
                pass
            async with reader.dht.listen(NOTE, KEY) as news:
                assert [n.dht.view()["listens"] for n in holders] == [1] * 4
                await nodes[1].dht.put(NOTE, note(identity("o"), "m", seq=number + 1))
                while (await heard(news)).seq <= number:
                    continue
        assert reader.dht.view()["subscriptions"] == 0


async def test_a_listen_that_is_given_up_leaves_nothing_behind():
    async with town() as build:
        nodes = await hood(build, 4)
        reader, *holders = nodes
        given_up = 0
        for patience in (0.0, 0.001, 0.003, 0.006, 0.01):
            with trio.move_on_after(patience) as waiting:
                async with reader.dht.listen(NOTE, KEY):
                    continue
            given_up += waiting.cancelled_caught
        assert given_up
        await until(lambda: reader.dht.view()["subscriptions"] == 0)
        await until(lambda: not any(n.dht.view()["listens"] for n in holders))
        assert reader.dht._answers.own == {}


async def test_a_reader_sees_the_end_when_the_node_stops_and_nobody_listens_there_again():
    async with town() as build:
        nodes = await hood(build, 3)
        async with nodes[0].dht.listen(NOTE, KEY) as news:
            await nodes[0].kill()
            with trio.fail_after(5):
                assert [record async for record in news] == []
        with trio.fail_after(5), pytest.raises(LocalFault):
            async with nodes[0].dht.listen(NOTE, KEY):
                raise AssertionError("nothing can be heard here")


async def test_a_lost_holder_is_replaced_though_others_are_still_listened_at(monkeypatch):
    monkeypatch.setattr(shell_listen, "AGAIN_AFTER", 0.05)
    async with town() as build:
        nodes = await hood(build, 9, k=3)
        *closest, _, _, _, _, _, far = nearest_first(nodes)
        async with far.dht.listen(NOTE, KEY):
            (subscription,) = far.dht._subscriptions._live.values()
            extra = next(n for n in nodes if n not in closest and n is not far)
            subscription._holders |= {extra.id: math.inf, identity("x").node_id: math.inf}
            lost = next(n for n in closest if n.id in subscription._holders)
            await lost.kill()
            await until(lambda: far.dht.tally.counts["listens_lost"])
            await until(lambda: lost.id not in {p.node_id for p in subscription._nodes})
            told = {p.node_id for p in subscription._nodes}
            await until(lambda: told <= set(subscription._holders))


@pytest.mark.parametrize("quick", [0, 1])
async def test_who_was_slower_with_the_same_record_is_read_again_the_next_time(quick):
    """Two holders have what was missed; whoever answers later is not thought barren for it."""
    held, read = [[], []], [0, 0]

    async def hold(channel, number):
        while True:
            asked = rpc.decode(await channel.receive())
            raws = tuple(held[number])
            if asked.method == rpc.DIGEST and number != quick:
                await trio.sleep(0.1)  # the fault: the other one has told it all by then
            parts = ((b"", len(raws), fingerprint(hashlib.sha256(r).digest() for r in raws)),)
            results = {rpc.LISTEN: (600,), rpc.FIND_VALUE: ((), raws, b""), rpc.DIGEST: parts}
            read[number] += asked.method == rpc.FIND_VALUE
            await channel.send(rpc.encode(Answer(asked.id, results.get(asked.method, ()))))

    async with (
        town() as build,
        build.liar("one", partial(hold, number=0)) as (_, one),
        build.liar("two", partial(hold, number=1)) as (_, two),
    ):
        node = await build.node("a")
        await node.dht.meet([one, two])
        node.dht.table.welcome(one)
        node.dht.table.welcome(two)
        async with node.dht.listen(NOTE, KEY) as news:
            (subscription,) = node.dht._subscriptions._live.values()
            for owner in ("first", "second"):
                held[1 - quick].append(note(identity(owner), "m"))
                if owner == "first":
                    held[quick].append(note(identity(owner), "m"))
                await subscription._renew()
                assert (await heard(news)).owner == identity(owner).node_id
        assert min(read) >= 2


async def test_news_under_the_old_question_counts_until_the_new_one_is_granted(monkeypatch):
    monkeypatch.setattr(shell_listen, "GRANT", 1)  # renewed after half a second
    raws = [note(identity("o"), "m", seq=seq) for seq in (1, 2)]
    questions = []

    async def push(channel):
        while True:
            asked = rpc.decode(await channel.receive())
            if asked.method == rpc.LISTEN and asked.args[2]:
                questions.append(asked.id)
                if len(questions) == 2:  # what was under way when the new question came
                    await channel.send(rpc.encode(rpc.News(questions[0], (raws[0],))))
            empty = ((b"", 0, fingerprint(())),)
            results = {rpc.LISTEN: (600,), rpc.FIND_VALUE: ((), (), b""), rpc.DIGEST: empty}
            await channel.send(rpc.encode(Answer(asked.id, results.get(asked.method, ()))))
            if len(questions) == 2:
                await channel.send(rpc.encode(rpc.News(questions[1], (raws[1],))))

    async with town() as build, build.liar("liar", push) as (_, liar):
        node = await build.node("a")
        node.dht.table.welcome(liar)
        async with node.dht.listen(NOTE, KEY) as news:
            node.dht._subscriptions._live[NOTE, KEY]._holders[liar.node_id] = 0.0
            assert (await heard(news)).raw == raws[0]
            assert (await heard(news)).raw == raws[1]
        assert len(questions) >= 2


async def test_a_holder_that_grants_late_is_left_and_not_punished():
    pushed = trio.Event()

    async def late(channel):
        while True:
            asked = rpc.decode(await channel.receive())
            listened = asked.method == rpc.LISTEN and asked.args[2]
            if listened:
                await trio.sleep(HARD_MAX + 0.2)  # the fault
            results = {rpc.LISTEN: (600,), rpc.FIND_VALUE: ((), (), b"")}
            await channel.send(rpc.encode(Answer(asked.id, results.get(asked.method, ()))))
            for seq in range(70 if listened else 0):
                pushed.set()
                raw = note(identity("o"), "m", seq=seq)
                await channel.send(rpc.encode(rpc.News(asked.id, (raw,))))

    async with town() as build, build.liar("liar", late) as (_, liar):
        node = await build.node("a")
        node.dht.table.welcome(liar)
        async with node.dht.listen(NOTE, KEY):
            await pushed.wait()
        assert node.dht._standing.points(liar.node_id.hex(), NOW) == 0


# ------------------------------------------------------------------ records move


async def test_a_newcomer_is_given_what_is_its_to_hold():
    async with town() as build:
        nodes = await hood(build, 4, k=3)
        for number in range(12):
            await nodes[0].dht.put(NOTE, note(identity(f"o{number}"), f"m{number}"), whole=True)
        newcomer = await build.node("late", k=3)
        await newcomer.dht.join([nodes[0].peer])
        everyone = [*nodes, newcomer]

        def placed():
            for number in range(12):
                key = note_key(f"m{number}")
                closest = sorted(everyone, key=lambda n: distance(dht_id(n.id), key))[:3]
                if newcomer in closest and not newcomer.dht.stored(NOTE, key):
                    return False
            return True

        await until(lambda: newcomer.dht.view()["records"] > 0)
        for node in nodes:  # whoever had no seat for it in the table finds it by comparing
            await make_due(node)
        assert placed()
        assert sum(n.dht.tally.counts["records_handed_over"] for n in nodes) > 0


@pytest.mark.parametrize(
    ("here", "there", "both"), [(0, 40, 0), (40, 0, 0), (5, 7, 300), (0, 1, 0)]
)
async def test_two_holders_level_their_sets_and_send_only_what_differs(here, there, both):
    async with town() as build:
        a, b = await build.node("a"), await build.node("b")
        await a.dht.join([b.peer])
        await until(lambda: a.id in b.dht.table)
        await trio.testing.wait_all_tasks_blocked(0.05)  # nothing is left to hand over

        def give(node, first, count):
            for number in range(first, first + count):
                owner = Identity(number.to_bytes(32, "big"))
                record = node.dht._kinds.accept(NOTE, note(owner, "m"), NOW)
                assert node.dht._store.put(record) is Kept.NEW

        give(a, 0, both)
        give(b, 0, both)
        give(a, 1000, here)
        give(b, 2000, there)
        await a.dht._upkeep.compare(b.peer, (NOTE, KEY))
        sets = [{r.raw for r in n.dht._store.all_of(NOTE, KEY, NOW)} for n in (a, b)]
        assert sets[0] == sets[1]
        assert len(sets[0]) == both + here + there
        counts = a.dht.tally.counts
        assert counts["records_fetched"] == there
        assert counts["records_given"] == here


async def test_holders_compare_in_turn_and_leave_what_lives_from_its_put_alone():
    """Without an owner's help a lost record comes back, and what only he may renew does not."""
    async with town() as build:
        nodes = await hood(build, 3)
        own = "renewed"
        for node in nodes:
            node.dht._kinds.register(
                own, lambda raw, now: _renewed(raw, now, own), Bounds(passed_on=False)
            )
        await nodes[0].dht.put(NOTE, note(identity("o"), "m"), whole=True)
        await nodes[0].dht.put(own, note(identity("o"), "m"), whole=True)
        for kind in (NOTE, own):
            nodes[1].dht._store._db.run("DELETE FROM dht_record WHERE kind = ?", kind)
        await make_due(nodes[0])
        assert set(nodes[0].dht._upkeep._due) == {(NOTE, KEY)}
        assert nodes[1].dht.stored(NOTE, KEY)
        assert not nodes[1].dht.stored(own, KEY)


def _renewed(raw, now, kind):
    found = validate_note(raw, now)
    return type(found)(kind, found.key, found.owner, found.id, found.seq, now + 50, raw)


# ------------------------------------------------------------------ the mute and the lying


async def test_a_third_that_falls_mute_holds_up_no_get_for_long():
    async with town() as build:
        nodes = await hood(build, 12)
        await nodes[0].dht.put(NOTE, note(identity("o"), "m"), whole=True)
        asker, *others = nodes
        mute = {node.id for node in others[:4]}
        for node in others[:4]:
            node.streams._served.clear()  # new streams

            async def silent(_caller, _method):
                await trio.sleep_forever()

            node.dht._service._pace = silent
        began = trio.current_time()
        found = await asker.dht.get(NOTE, KEY, quorum=1)
        assert len(found.records) == 1
        found = await asker.dht.get(NOTE, KEY)
        assert len(found.records) == 1
        assert trio.current_time() - began < 6
        await until(lambda: not mute & {p.node_id for p in asker.dht.peers()}, 20)
        assert asker.dht.tally.counts["timed_out"] >= 4  # the fault fired


# ------------------------------------------------------------------ bans


async def garbage(mallory, node):
    channel = await mallory.open(
        node.id, node.streams.addrs(), NETWORK.protocol("dht"), limit=rpc.FRAME_LIMIT
    )
    await channel.send(wire.pack([9, 9, 9]))
    with trio.fail_after(3), pytest.raises(Unreachable):
        await channel.receive()


async def test_garbage_is_held_against_its_sender_until_he_is_banned_and_forgiven(tmp_path):
    clock = Clock()
    async with town() as build:
        node = await build.node("a", clock=clock, database=Database(tmp_path / "a.sqlite"))
        async with open_streams(identity("mallory"), NETWORK) as mallory:
            for _ in range(4):
                await garbage(mallory, node)
            (ban,) = node.dht.bans()
            assert ban.subject == identity("mallory").node_id.hex()
            assert "cannot be read" in ban.reason
            assert (ban.since, ban.until) == (NOW, NOW + 3600)
            with pytest.raises(Unreachable):
                await garbage(mallory, node)
            assert node.streams.tally.counts["connections_barred"] >= 1
        await node.kill()
        again = await build.node("a", clock=clock, database=Database(tmp_path / "a.sqlite"))
        assert again.dht.bans() == [ban]
        async with open_streams(identity("mallory"), NETWORK) as mallory:
            with pytest.raises(Unreachable):
                await garbage(mallory, again)
            assert again.dht.lift(ban.subject) == ban
            assert again.dht.bans() == []
            await garbage(mallory, again)
            clock.seconds += 3601
            assert again.dht.bans() == []


async def test_a_peer_banned_by_hand_is_cut_off_and_asked_nothing():
    async with town() as build:
        a, b, c = await hood(build, 3)
        a.dht.ban(b.id.hex(), "spam", 0)
        assert b.id not in a.dht.table
        await until(lambda: a.id not in b.streams.connected())
        put = await a.dht.put(NOTE, note(identity("o"), "m"), whole=True)
        assert b.id not in put.holders
        with pytest.raises(Unreachable, match="banned"):
            await a.dht._contacts.call(b.peer, rpc.PING, ())
        assert c.id in put.holders


async def test_a_banned_network_is_neither_asked_nor_answered():
    async with town() as build:
        a, b, _ = await hood(build, 3)
        a.dht.ban("127.0.0.0/8", "a flood", 60)
        assert a.dht.peers() == ()
        with pytest.raises(Unreachable):
            await a.dht._contacts.call(b.peer, rpc.PING, ())
        with pytest.raises(Unreachable):  # nor by the transport, for a trade
            await a.streams.open(b.id, b.streams.addrs(), NETWORK.protocol("dht"), limit=9999)
        assert (await a.dht.put(NOTE, note(identity("o"), "m"))).acked == 0
        a.dht.lift("127.0.0.0/8")
        assert await a.dht.meet([b.peer]) == 1


async def test_a_ban_that_the_disk_refuses_still_holds_and_ends_nothing(monkeypatch):
    async def rubbish(channel):
        while True:
            asked = rpc.decode(await channel.receive())
            if asked.method == rpc.PING:
                await channel.send(wire.pack([1, asked.id, 0, 0, 0]))  # no frame of ours
            else:
                await channel.send(rpc.encode(Answer(asked.id, ())))

    async with town() as build, build.liar("liar", rubbish) as (_, liar):
        node, friend = await build.node("a"), await build.node("b")
        full = StorageFault("the disk is full")
        refused = []

        def refuse(ban):
            refused.append(ban)
            raise full

        monkeypatch.setattr(node.dht._ban_store, "save", refuse)
        for _ in range(5):
            await node.dht._contacts.ping(liar)
        assert refused
        assert [ban.subject for ban in node.dht.bans()] == [liar.node_id.hex()]
        assert await node.dht.meet([friend.peer]) == 1


async def test_what_is_due_is_put_after_the_machine_has_slept_or_nobody_was_there():
    clock = Clock()
    async with town() as build:
        node = await build.node("a", clock=clock)
        alone = await node.dht.announce()
        assert (alone.acked, alone.holders) == (0, (node.id,))  # so that it is tried again
        friend = await build.node("b", clock=clock)
        await node.dht.meet([friend.peer])
        assert (await node.dht.announce()).acked == 2
        key = address.address_key(NETWORK, node.id)
        clock.seconds += 30 * 3600  # the monotonic clock has stood still
        assert friend.dht.stored(address.KIND, key) == ()
        await node.dht._maintain_once()
        await until(lambda: friend.dht.stored(address.KIND, key))
