"""Entries of broken draws over the real transport: put by one node, found by another, forged by none."""

import pytest
from broken_kit import draw_of, entry, take_of, who
from dht_kit import NETWORK, NOW, Clock, hood, town

from dht.shell_node import Dht
from escrow.broken import MAKER, SIDES, TAKER, BrokenDraw, Filed, fitting
from p2pnode.app import fit
from p2pnode.base.errors import InvalidRecord

TAKER_ID, MAKER_ID = who("taker").node_id, who("maker").node_id


def knowing(dht: Dht) -> fit.DhtBroken:
    """Teach a node the kind, and return its board."""
    known = fit.kinds(NETWORK)
    dht._kinds.register(fit.BROKEN, known[fit.BROKEN], known.bounds(fit.BROKEN))
    return fit.DhtBroken(dht, NETWORK)


async def test_an_entry_put_by_one_node_is_found_by_another_under_both_numbers() -> None:
    async with town() as build:
        nodes = await hood(build, 8)
        boards = [knowing(node.dht) for node in nodes]
        made = entry()
        for side in SIDES:
            assert await boards[0].put(Filed(side, made).wire()) > 4
        for node_id, number, side in ((TAKER_ID, 7, TAKER), (MAKER_ID, 9, MAKER)):
            raws = await boards[5].under(node_id, number)
            assert fitting(raws, NETWORK, node_id, number) == (Filed(side, made),)
            assert await boards[5].under(node_id, number + 1) == ()


async def test_a_holder_refuses_a_forged_entry_and_shows_what_it_holds_for_a_week_alone() -> None:
    clock = Clock()
    async with town() as build:
        nodes = [await build.node(f"n{i}", clock=clock) for i in range(4)]
        for node in nodes[1:]:
            await node.dht.join([nodes[0].peer])
        boards = [knowing(node.dht) for node in nodes]
        take = take_of()
        raw = Filed(TAKER, BrokenDraw.of(take, draw_of(take))).wire()
        forged = raw[:-1] + bytes([raw[-1] ^ 1])
        with pytest.raises(InvalidRecord, match="signature"):
            await boards[0].put(forged)
        assert await boards[0].put(raw)
        clock.seconds = NOW + fit.BROKEN_LIFE_S - 1
        assert await boards[3].under(TAKER_ID, 7) == (raw,)
        clock.seconds = NOW + fit.BROKEN_LIFE_S
        assert await boards[3].under(TAKER_ID, 7) == ()


async def test_a_holder_that_shows_the_entry_of_another_number_is_not_believed() -> None:
    async with town() as build:
        nodes = await hood(build, 4)
        boards = [knowing(node.dht) for node in nodes]
        here = fit.broken_key(NETWORK, TAKER_ID, 8)
        made = Filed(TAKER, entry())  # of number 7
        shown = 0

        def lie(kind: str, key: bytes, *rest: object) -> list[object]:
            nonlocal shown
            if key != here:
                return []
            shown += 1
            record = nodes[1].dht._kinds.accept(fit.BROKEN, made.wire(), NOW)
            return [record]

        nodes[1].dht._store.page = lie  # type: ignore[method-assign,assignment]
        assert await boards[3].under(TAKER_ID, 8) == ()
        assert shown
