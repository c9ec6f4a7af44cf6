"""Who only looks at an offer shows its maker nothing of his past."""

from types import SimpleNamespace

from test_history_libp2p import OFFER, town

from escrow.shell_history import PER_SUBNET


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


async def test_many_names_of_one_subnet_leave_room_for_who_asks_from_elsewhere() -> None:
    """Six exchanges a name, a thousand in all: 167 names would use up what is for everybody."""
    async with town(theirs=1) as (asker, asked):
        service = asked.service
        service.group = lambda host: host

        def refused(name: str, host: str) -> str:
            channel = SimpleNamespace(peer=name.encode(), host=host)
            return service._refusal(channel, OFFER, shows=False)

        answers = [refused(f"thief {n % 400}", "192.0.2.9") for n in range(2000)]
        assert answers.count("") == PER_SUBNET
        assert not refused("honest", "198.51.100.1")
        service.group = lambda host: None  # an exempt network: by name alone
        assert not refused("friend", "127.0.0.1")
        assert (await asker.service.ask(asked.id, OFFER)).count == 1
