"""Comparing levels any two books; no answer of a source makes more of an asker than one error."""

from contextlib import suppress

import pytest
import trio
from book_kit import EUR, many, parsed, pipes, signed, who
from hypothesis import given, settings
from hypothesis import strategies as st
from orderbook_kit import NET, NOW, FakeClock

from dht.tally import Tally
from orderbook import book_wire, shell_source
from orderbook.book_wire import Digest, Page, Refusal
from orderbook.shell_intake import Intake
from orderbook.shell_repair import repair
from orderbook.shell_serve import Service
from orderbook.shell_source import Session
from orderbook.store_book import BookStore
from p2pnode.base.errors import NodeError, Unreachable
from p2pnode.base.store import Database

OLD = many(60, makers=20)
NEW = many(60, makers=20, seq=2)
SIDES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=60, max_size=60)


def book(versions):
    """Return a book that holds of offer n the old version (1), the new one (2) or none (0)."""
    store = BookStore(Database(None), NET)
    raws = [(OLD, NEW)[v - 1][n] for n, v in enumerate(versions) if v]
    store.admit_all([(parsed(raw), raw) for raw in raws], NOW)
    return store, set(raws)


def hashes(store):
    return {hashed for _, hashed in store.items(EUR, NOW)}


@settings(max_examples=40)
@given(SIDES)
def test_comparing_makes_one_book_hold_what_both_held_and_names_what_the_other_lacks(sides):
    ours, had = book([one for one, _ in sides])
    theirs, have = book([other for _, other in sides])
    before = hashes(ours)

    async def main():
        tally, clock = Tally(), FakeClock()
        intake = Intake(ours, NET, clock, tally)
        near, far = pipes(b"us", b"them", 1 << 16)

        async def take(raws):
            return await intake.take(raws, EUR)

        async with trio.open_nursery() as nursery:

            async def serve():
                with suppress(Unreachable):
                    await Service(theirs, clock, tally, lambda host: None).answer(far)

            nursery.start_soon(serve)
            found = await repair(Session(near, EUR, take), ours.items(EUR, NOW))
            nursery.cancel_scope.cancel()
        return found

    compared = trio.run(main)
    expected = {(OLD, NEW)[max(pair) - 1][n] for n, pair in enumerate(sides) if max(pair)}
    assert set(ours.raws(EUR, b"", b"", NOW, 999)) == expected
    assert compared.lacks == before - hashes(theirs)
    assert compared.news == len(expected - had)
    assert set(theirs.raws(EUR, b"", b"", NOW, 999)) == have


PLACES = st.binary(max_size=40)
SOME = st.sampled_from([*OLD[:5], *NEW[:5], b"x", signed(who("usd"), currency="USD")])
PARTS = st.lists(st.tuples(PLACES, st.integers(-1, 2**21), st.binary(max_size=17)), max_size=18)
ANSWERS = st.one_of(
    st.builds(Digest, st.integers(1, 4), PARTS.map(tuple)),
    st.builds(Digest, st.integers(1, 4), st.just(((b"", 9, bytes(16)),))),
    st.builds(
        Page, st.integers(1, 4), PLACES, st.booleans(), st.lists(SOME, max_size=3).map(tuple)
    ),
    st.builds(Page, st.integers(1, 4), st.just(b""), st.just(True), st.just(())),
    st.builds(Refusal, st.integers(1, 4), st.just("no")),
)


class Said:
    """A stream on which everything has been said before it is asked."""

    peer, host = b"said", "127.0.0.1"

    def __init__(self, payloads):
        self._payloads = list(payloads)

    async def send(self, payload):
        await trio.lowlevel.checkpoint()

    async def receive(self):
        await trio.lowlevel.checkpoint()
        if not self._payloads:
            raise Unreachable("the stream has ended")
        return self._payloads.pop(0)


@settings(max_examples=200)
@given(st.lists(st.one_of(ANSWERS.map(book_wire.encode), st.binary(max_size=60)), max_size=8))
def test_whatever_a_source_says_there_is_an_end_and_only_good_offers_come_in(payloads):
    ours, _ = book([1] * 10)

    async def main():
        intake = Intake(ours, NET, FakeClock(), Tally())

        async def take(raws):
            return await intake.take(raws, EUR)

        with suppress(NodeError):
            await repair(Session(Said(payloads), EUR, take), ours.items(EUR, NOW))

    trio.run(main)
    assert set(ours.raws(EUR, b"", b"", NOW, 999)) <= {*OLD, *NEW}


async def test_no_source_is_asked_for_ever(monkeypatch):
    monkeypatch.setattr(shell_source, "MAX_QUESTIONS", 50)
    told = [Digest(n, ((b"", 99, bytes(16)),)) for n in range(1, 100)]
    session = Session(Said(map(book_wire.encode, told)), EUR, None)
    with pytest.raises(Unreachable):
        for number in range(60):
            await session.digest()
            assert number < 50
