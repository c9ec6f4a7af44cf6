"""Makers who edit without end: what is free for them costs the network next to nothing."""

import trio.testing
from book_kit import parsed, signed, who
from test_orderbook_gossip import Scene

from orderbook.shell_gossip import VERSION_S, VERSIONS
from p2pnode.base.ports import Verdict


async def test_edits_without_end_are_passed_on_so_many_a_minute(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The work binds no text: a thousand versions of one offer cost their maker one work."""
    scene, maker = Scene(), who("editor")
    raws = [signed(maker, seq=seq) for seq in range(1, 201)]
    verdicts = [await scene.judge(raw) for raw in raws]
    assert verdicts.count(Verdict.ACCEPT) == VERSIONS
    assert Verdict.REJECT not in verdicts  # whoever passed one on has done nothing wrong
    assert scene.store.knows(raws[-1])  # our own book has the last
    assert await scene.judge(raws[-1]) is Verdict.IGNORE  # known by another path now, and no more
    assert await scene.judge(signed(maker, slot=1)) is Verdict.ACCEPT  # another offer of his
    assert await scene.judge(signed(who("other"))) is Verdict.ACCEPT
    await trio.sleep(VERSION_S + 1)
    assert await scene.judge(signed(maker, seq=201)) is Verdict.ACCEPT
    assert await scene.judge(signed(maker, seq=202)) is Verdict.IGNORE


async def test_forged_edits_spend_nothing_of_the_makers_share(
    autojump_clock: trio.testing.MockClock,
) -> None:
    scene, maker, thief = Scene(), who("maker of one"), who("thief of shares")
    for seq in range(2 * VERSIONS):
        real, forged = signed(maker, seq=1), signed(thief, seq=seq + 2)
        body = parsed(real)
        assert await scene.judge(real[:-64] + forged[-64:]) is Verdict.REJECT
        assert body.maker == maker.node_id
    assert await scene.judge(signed(maker, seq=1)) is Verdict.ACCEPT
