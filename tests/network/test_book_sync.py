"""Every honest node reaches the same book, whatever sources, net and holders do."""

from book_kit import EUR, many, who, world

from orderbook import book_wire


async def test_a_newcomer_has_the_whole_market_from_its_servers():
    raws = many(60)
    async with world() as town:
        for n in range(3):
            await town.node(f"s{n}", raws, serves=True)
        new = await town.node("new")
        await new.sync.follow(EUR)
        assert len(new.hashes()) == 60
        assert new.counts["offers_new"] == 60
        assert new.counts["offers_invalid"] == 0


async def test_what_one_source_alone_has_is_fetched_and_one_that_omits_costs_nothing():
    raws = many(60)
    async with world() as town:
        await town.node("all", raws, serves=True)
        await town.node("none", (), serves=True)
        await town.node("some", raws[:20], serves=True)
        new = await town.node("new")
        await new.sync.follow(EUR)
        assert len(new.hashes()) == 60


async def test_a_source_that_sends_what_is_not_valid_is_dropped():
    raws = many(30)

    async def lie(channel):
        while True:
            ask = book_wire.ask_in(await channel.receive())
            forged = raws[0][:-1] + bytes([raws[0][-1] ^ 1])
            page = book_wire.Page(ask.id, ask.high, True, (forged,))
            await channel.send(book_wire.encode(page))

    async with world() as town:
        for n in range(2):
            await town.node(f"s{n}", raws, serves=True)
        liar = town.hostile("liar", lie)
        new = await town.node("new")
        await new.sync.follow(EUR)
        assert len(new.hashes()) == 30
        assert town.holders.lies == [liar.node_id] == [who("liar").node_id]
        assert new.counts["sources_dropped"] == 1
