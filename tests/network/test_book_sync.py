"""A newcomer has the whole market, whatever its sources, the net and the holders do."""

from functools import partial

import pytest
import trio
import trio.testing
from book_kit import BOOK, EUR, forge, many, parsed, signed, until, who, withdrawal, world
from orderbook_kit import NOW

from orderbook import book_wire, shell_intake, shell_market, shell_serve, shell_source, shell_sync
from orderbook.book_wire import Ask, Digest, Page
from p2pnode.base import ranges
from p2pnode.base.errors import InvalidRecord, NodeError, StorageFault
from p2pnode.base.store import Database


async def test_a_newcomer_has_the_whole_market_from_its_servers():
    raws = many(60)
    async with world() as town:
        servers = [await town.node(f"s{n}", raws, serves=True) for n in range(3)]
        new = await town.node("new")
        await new.sync.follow(EUR)
        assert len(new.hashes()) == 60
        assert new.counts["offers_new"] == 60
        assert new.counts["offers_invalid"] == 0
        assert new.counts["comparisons"] == 3
        assert all(server.counts["offers_served"] >= 10 for server in servers)  # each its share
        assert new.sync.view()[EUR]["sources"] == 6  # three of them holders


async def test_what_one_source_alone_has_is_fetched_and_one_that_omits_costs_nothing():
    raws = many(60)
    async with world() as town:
        await town.node("all", raws, serves=True)
        await town.node("none", (), serves=True)
        await town.node("some", raws[:20], serves=True)
        new = await town.node("new")
        await new.sync.follow(EUR)
        assert len(new.hashes()) == 60


async def test_more_than_the_holders_keep_arrive_through_the_servers():
    raws = many(1200, makers=60)
    async with world(per_key=1024) as town:
        for raw in raws:
            town.holders.put(raw)
        assert len(town.holders.records) == 1024
        await town.node("s", raws, serves=True)
        new = await town.node("new")
        await new.sync.follow(EUR)
        assert len(new.hashes()) == 1200


async def test_a_newcomer_syncs_while_offers_change_and_hears_of_what_comes_later():
    makers = [who(f"m{n}") for n in range(40)]
    raws = [signed(maker) for maker in makers]
    async with world() as town:
        servers = [await town.node(f"s{n}", raws, serves=True) for n in range(3)]
        new, changed = await town.node("new"), []

        async def change():
            for maker, raw in zip(makers, raws, strict=True):
                newer = withdrawal(maker, raw, 2) if len(changed) % 3 else signed(maker, seq=2)
                changed.append(newer)
                for server in servers:
                    server.store.admit(parsed(newer), newer, NOW)
                town.holders.put(newer)
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(new.sync.follow, EUR)
            nursery.start_soon(change)
        await until(lambda: set(new.store.raws(EUR, b"", b"", NOW, 99)) == set(changed))
        later = signed(who("late"))
        heard = []
        new.sync.on_news(lambda offer, raw: heard.append((offer.maker, raw)))
        town.holders.put(later)
        await until(lambda: heard == [(who("late").node_id, later)])
        town.holders.put(later)
        town.holders.put(signed(who("late"), seq=0))
        town.holders.put(signed(who("last")))
        await until(lambda: len(heard) > 1)
        assert [maker for maker, _ in heard] == [who("late").node_id, who("last").node_id]


async def test_a_restarted_node_has_its_markets_at_once_and_repairs_what_it_missed():
    raws = many(40)
    async with world() as town:
        file = Database(None)
        first = await town.node("n", database=file)
        for n in range(2):
            await town.node(f"s{n}", raws, serves=True)
        await first.sync.follow(EUR)
        await first.kill(town.net)
        more = many(5, prefix="later")
        for n in range(2):
            await town.node(f"t{n}", [*raws[3:], *more], serves=True)
        again = await town.node("n", database=file)
        assert len(again.hashes()) == 40
        await until(lambda: len(again.hashes()) == 45)
        assert again.counts["offers_new"] == again.counts["repaired"] == 5


async def test_markets_are_few_and_the_one_asked_for_longest_ago_makes_room(monkeypatch):
    monkeypatch.setattr(shell_sync, "MAX_MARKETS", 2)
    async with world() as town:
        node = await town.node("n")
        for currency in ("EUR", "USD", "EUR", "CHF"):
            await node.sync.follow(currency)
        assert sorted(node.sync.view()) == ["CHF", "EUR"]
        with pytest.raises(InvalidRecord):
            await node.sync.follow("XXX")


class Topics:
    """Gossip that knows which markets it hears of."""

    def __init__(self):
        self.joined = set()
        self.join, self.leave = self.joined.add, self.joined.discard

    def meet(self, currency, peers):
        pass

    async def publish(self, currency, raw):
        return 0


async def test_a_market_followed_anew_while_it_makes_room_is_gossiped_of(monkeypatch):
    monkeypatch.setattr(shell_sync, "MAX_MARKETS", 2)
    async with world() as town:
        node = await town.node("n")
        node.sync._spread = topics = Topics()
        for currency in ("EUR", "USD"):
            await node.sync.follow(currency)
        assert topics.joined == {"EUR", "USD"}
        for currency in ("GBP", "EUR"):  # in one moment: EUR makes room and comes again
            node.sync._start(currency)
        await until(lambda: "USD" not in topics.joined)
        await trio.testing.wait_all_tasks_blocked()
        assert topics.joined == {"GBP", "EUR"} == set(node.sync.view())


async def test_markets_of_own_offers_stay_and_do_not_oust_each_other(monkeypatch):
    monkeypatch.setattr(shell_sync, "MAX_MARKETS", 2)
    async with world() as town:
        node = await town.node("n")
        for currency in ("USD", "EUR"):
            await node.sync.follow(currency)
        started = []
        for currency in ("CHF", "GBP", "JPY", "CHF", "GBP", "JPY"):
            raw = signed(node.identity, currency=currency)
            node.sync.own(parsed(raw), raw)
            started.append(sorted(node.sync.view()))
        assert started == [["CHF", "EUR"], *[["CHF", "GBP"]] * 5]
        await node.sync.follow("EUR")
        assert "EUR" in node.sync.view()


async def test_a_maker_follows_his_market_and_serves_his_offer():
    async with world() as town:
        maker = await town.node("maker")
        raw = signed(maker.identity)
        maker.store.admit(parsed(raw), raw, NOW)
        maker.sync.own(parsed(raw), raw)
        await until(lambda: maker.id in town.holders.registered)
        other = await town.node("other")
        await other.sync.follow(EUR)
        assert other.store.knows(raw)


# ------------------------------------------------------------------ hostile servers


async def answered(channel, answer):
    """Serve `answer(ask)`: a list of messages for each question."""
    while True:
        ask = book_wire.ask_in(await channel.receive())
        for message in answer(ask):
            await channel.send(message if isinstance(message, bytes) else book_wire.encode(message))


def honest_digest(ask):
    return Digest(ask.id, ranges.parts_out([ranges.Part(ask.high, 9, bytes(16))]))


def endless(ask):
    """Pages that go on and on with what is valid."""
    if ask.what == book_wire.DIGEST:
        yield honest_digest(ask)
        return
    raw = signed(who("endless"))
    low = book_wire.place_of(raw)
    for n in range(1 << 20):
        yield Page(ask.id, low + n.to_bytes(4, "big"), False, (raw,))


def backwards(ask):
    if ask.what == book_wire.DIGEST:
        parts = ((b"m", 1, bytes(16)), (b"a", 1, bytes(16)), (b"", 1, bytes(16)))
        yield Digest(ask.id, parts)
    else:
        yield Page(ask.id, ask.low, False, (signed(who("b")),))


def huge(ask):
    if ask.what == book_wire.DIGEST:
        yield Digest(ask.id, ((ask.high, 1 << 40, bytes(16)),))
    else:
        yield Page(ask.id, ask.high, True, tuple(b"x" * 2000 for _ in range(30)))


def garbage(ask):
    yield b"\xc1" * 40


def strange(ask):
    yield Page(ask.id + 1, ask.high, True, ())


def other_market(ask):
    if ask.what == book_wire.DIGEST:
        yield honest_digest(ask)
    else:
        yield Page(ask.id, ask.high, True, (signed(who("usd"), currency="USD"),))


@pytest.mark.parametrize("answer", [endless, backwards, huge, garbage, strange, other_market])
async def test_a_hostile_server_is_dropped_for_an_hour_and_costs_nothing(answer, monkeypatch):
    monkeypatch.setattr(shell_source, "MAX_OFFERS", 500)
    raws = many(30)
    async with world() as town:
        for n in range(2):
            await town.node(f"s{n}", raws, serves=True)
        liar = town.hostile("liar", partial(answered, answer=answer))
        new = await town.node("new")
        await new.sync.follow(EUR)
        assert set(raws) <= set(new.store.raws(EUR, b"", b"", NOW, 999))
        await until(lambda: new.counts["sources_dropped"] == 1)
        assert town.holders.lies == [liar.node_id]
        assert new.sync._rooms.kept_out[liar.node_id] > trio.current_time() + 3000
        assert liar.node_id.hex() not in new.sync.view()[EUR]["servers"]


async def test_forged_offers_drop_their_server_and_never_reach_the_book():
    raws, forged = many(30), signed(who("victim"))[:-1] + b"\0"
    async with world() as town:
        for n in range(2):
            await town.node(f"s{n}", raws, serves=True)
        liar = town.hostile("liar", partial(forge, raws=[forged]))
        new = await town.node("new")
        await new.sync.follow(EUR)
        assert len(new.hashes()) == 30
        assert town.holders.lies == [liar.node_id]
        assert new.counts["offers_invalid"] > 0


async def test_silent_and_slow_servers_hold_up_nobody(autojump_clock, monkeypatch):
    monkeypatch.setattr(shell_intake, "INLINE", 1 << 30)  # virtual time waits for no thread
    raws = many(60)

    async def silent(channel):
        await trio.sleep_forever()

    async def dripping(channel):
        while True:
            ask = book_wire.ask_in(await channel.receive())
            await trio.sleep(shell_source.ANSWER_S - 1)
            await channel.send(book_wire.encode(honest_digest(ask)))

    async with world() as town:
        await town.node("s", raws, serves=True)
        for n, handler in enumerate((silent, silent, dripping, dripping)):
            town.hostile(f"slow{n}", handler)
        new = await town.node("new")
        await new.sync.follow(EUR)
        assert trio.current_time() <= shell_sync.FIRST_S
        assert len(new.hashes()) == 60
        assert not town.holders.lies or who("s").node_id not in town.holders.lies


async def test_a_source_that_falls_silent_half_way_is_left_after_its_time(
    autojump_clock, monkeypatch
):
    monkeypatch.setattr(shell_intake, "INLINE", 1 << 30)
    raws = many(60)

    async def stops(channel):
        for _ in range(2):
            question = book_wire.ask_in(await channel.receive())
        page = Page(question.id - 1, question.low or b"\x0a", True, ())
        await channel.send(book_wire.encode(page))
        await trio.sleep_forever()

    async with world() as town:
        town.hostile("stops", stops)
        new = await town.node("new")
        start = trio.current_time()
        await new.sync.follow(EUR)
        assert trio.current_time() - start <= shell_source.ANSWER_S + 1  # not the session's minute
        assert new.counts["sources_lost"] + new.counts["sources_dropped"] == 1
        await town.node("s", raws, serves=True)
        await trio.sleep(shell_market.COMPARE_EVERY)
        assert len(new.hashes()) == 60


async def test_a_server_that_refuses_or_vanishes_is_asked_again_later(autojump_clock, monkeypatch):
    monkeypatch.setattr(shell_intake, "INLINE", 1 << 30)
    raws = many(10)
    async with world() as town:
        server = await town.node("s", raws, serves=True)
        town.net.loss = 1.0
        new = await town.node("new")
        await new.sync.follow(EUR)
        assert not new.hashes()
        assert town.net.fired["lost"] > 0
        town.net.loss = 0.0
        await trio.sleep(3 * shell_market.COMPARE_EVERY)
        assert len(new.hashes()) == 10
        assert server.id.hex() in new.sync.view()[EUR]["servers"]
        assert not town.holders.lies


async def test_a_disk_that_refuses_ends_neither_the_market_nor_a_server(
    autojump_clock, monkeypatch
):
    monkeypatch.setattr(shell_intake, "INLINE", 1 << 30)
    raws, refused = many(20), []

    def refuse(*args):
        refused.append(args)
        raise StorageFault("book.sqlite: the disk is full")

    async with world() as town:
        for n in range(2):
            await town.node(f"s{n}", raws, serves=True)
        new = await town.node("new")
        for name in ("admit_all", "items", "raws", "forget"):
            monkeypatch.setattr(new.store, name, refuse)
        await new.sync.follow(EUR)
        channel = await ask(new, await town.node("x"), Ask(1, book_wire.DIGEST, EUR))
        assert isinstance(book_wire.answer_in(await channel.receive()), book_wire.Refusal)
        await trio.sleep(2 * shell_sync.FORGET_EVERY)
        monkeypatch.undo()
        monkeypatch.setattr(shell_intake, "INLINE", 1 << 30)
        assert len(refused) > 3
        await trio.sleep(3 * shell_market.COMPARE_EVERY)
        assert len(new.hashes()) == 20
        assert not town.holders.lies


# ------------------------------------------------------------------ hostile askers


async def ask(node, peer, *messages):
    """Send frames to a node's service as `peer`; return the stream."""
    channel = await peer.streams.open(node.id, (), BOOK, limit=1 << 20)
    for message in messages:
        await channel.send(message if isinstance(message, bytes) else book_wire.encode(message))
    return channel


async def test_garbage_and_floods_end_a_stream_and_nothing_else():
    async with world() as town:
        node = await town.node("n", many(20))
        stranger = await town.node("x")
        for bad in (b"\xc1", b"\x90", b"x" * 70_000, book_wire.encode(Page(1, b"", True, ()))):
            with pytest.raises(NodeError):
                await (await ask(node, stranger, bad)).receive()
        assert node.counts["garbage"] == 4
        good = await ask(node, stranger, Ask(1, book_wire.DIGEST, EUR))
        assert isinstance(book_wire.answer_in(await good.receive()), Digest)
        held = [await ask(node, stranger) for _ in range(10)]
        await until(lambda: node.counts["streams_refused"] > 0)
        assert len(node.sync._service) <= shell_serve.MAX_PER_PEER
        for channel in (*held, good):
            await channel.close()


async def test_one_asker_is_paced_and_a_slow_one_let_go(autojump_clock, monkeypatch):
    monkeypatch.setattr(shell_serve, "BURST", 4.0)
    monkeypatch.setattr(shell_serve, "MAX_STREAMS", 3)
    monkeypatch.setattr(book_wire, "PAGE_BYTES", 4000)
    async with world() as town:
        node = await town.node("n", many(400, makers=50))
        eager = await town.node("eager")
        channel = await ask(node, eager, *(Ask(n, book_wire.DIGEST, EUR) for n in range(3)))
        for _ in range(3):
            await channel.receive()
        assert node.counts["quota_waits"] > 0
        await ask(node, await town.node("lazy"), Ask(1, book_wire.FETCH, EUR))  # reads nothing
        await trio.sleep(shell_serve.PAGE_S + shell_serve.IDLE_S + 1)
        assert node.counts["streams_slow"] == 1
        assert len(node.sync._service) == 0
        crowd = [await town.node(f"c{n}") for n in range(4)]
        for one in crowd:
            await ask(node, one)
        await until(lambda: node.counts["streams_ousted"] == 1)
        assert len(node.sync._service) == 3


async def test_a_fetch_is_answered_in_bounded_pages_that_follow_each_other(monkeypatch):
    monkeypatch.setattr(shell_serve, "ANSWER_BYTES", 40_000)
    raws = many(400, makers=50)
    async with world() as town:
        node, peer = await town.node("n", raws), await town.node("x")
        got, low, answers = [], b"", 0
        while True:
            channel = await ask(node, peer, Ask(7, book_wire.FETCH, EUR, low, b""))
            done = False
            while not done:
                page = book_wire.answer_in(await channel.receive())
                book_wire.check_page(page, low, b"")
                assert len(book_wire.encode(page)) <= book_wire.FRAME_LIMIT
                got += page.raws
                low, done = page.until, page.done
            answers += 1
            await channel.close()
            if not low:
                break
        assert sorted(got) == sorted(raws)
        assert [book_wire.place_of(raw) for raw in got] == sorted(map(book_wire.place_of, raws))
        assert answers > 1
        assert node.counts["offers_served"] == 400
