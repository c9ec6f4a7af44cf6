"""Who only looks at an offer shows its maker nothing of his past."""

from test_history_libp2p import OFFER, town


async def test_a_look_at_a_makers_past_shows_him_nothing_of_ours() -> None:
    """A thief's offer that only a maker with a past may make would be asked about by everybody."""
    async with town(own=5, theirs=3) as (asker, asked):
        told = await asker.service.ask(asked.id, OFFER, show=False)
        assert told.count == len(told.proven) == 3
        assert asked.store.shown(asker.id) == ()
        await asker.service.meet(asked.id, OFFER)  # a TAKE does, and at once
        assert len(asked.store.shown(asker.id)) == 5
        before = asked.service.tally["history_answered"]
        await asker.service.meet(asked.id, OFFER, show=False)  # he is known by now
        assert asked.service.tally["history_answered"] == before
