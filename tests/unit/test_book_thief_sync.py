"""Hostile sources of a market: what they cost the node that compares itself with them."""

import hashlib
import time

import pytest
import trio
import trio.testing
from book_kit import who
from hypothesis import given, settings
from hypothesis import strategies as st
from orderbook_kit import NET, Counted, FakeClock

from orderbook import shell_repair
from orderbook.omission import GRACE_S, MAX_LACKS, WITNESSES, Omissions
from orderbook.shell_market import Market
from orderbook.shell_rooms import Rooms, host_of
from orderbook.shell_serve import MAX_STREAMS, Service
from orderbook.shell_source import Fetched, Source
from orderbook.shell_sync import Events
from orderbook.store_book import BookStore
from p2pnode.base import ranges
from p2pnode.base.ranges import Item, Part
from p2pnode.base.store import Database

SMALL_S = 0.5  # of a core, for what one round may cost


def items(count: int) -> list[Item]:
    """Return a book's list: places in order, and hashes."""
    names = (hashlib.sha512(str(n).encode()).digest() for n in range(count))
    return sorted((name[:33], name[31:63]) for name in names)


def test_sources_that_show_nothing_cost_next_to_nothing() -> None:
    """Twenty of them, beside two honest ones, and a book of 20,000 offers."""
    hashes = [hashed for _, hashed in items(20_000)]
    found = Omissions()
    found.have(hashes, 0.0)
    for n in range(20):
        found.compared(bytes([n]) * 32, frozenset(hashes), GRACE_S + n)
    for n in (100, 101):
        found.compared(bytes([n]) * 32, frozenset(), GRACE_S + 50)
    began = time.process_time()
    told, news = found.omitted(GRACE_S + 60), found.news(GRACE_S + 60)
    assert time.process_time() - began < SMALL_S
    assert told == {bytes([n]) * 32: MAX_LACKS for n in range(20)}
    assert news == 20 * MAX_LACKS
    assert found.news(GRACE_S + 61) == 0


def test_who_lacks_too_much_to_tell_vouches_for_nothing() -> None:
    """Two that lack all of 2,000 offers are no witnesses that one of them is held."""
    hashes = sorted(hashed for _, hashed in items(2_000))
    found = Omissions()
    found.have(hashes, 0.0)
    for n in range(2):
        found.compared(bytes([n]) * 32, frozenset(hashes), GRACE_S)
    found.compared(b"h" * 32, frozenset(hashes[-1:]), GRACE_S)  # honest, one is on its way
    assert found.omitted(GRACE_S + 1) == {}


SETS = st.frozensets(st.sampled_from(range(5)))


@settings(max_examples=150, deadline=None)
@given(
    had=st.lists(st.integers(0, 300), min_size=5, max_size=5),
    told=st.lists(st.tuples(st.integers(0, 400), SETS), max_size=6),
)
def test_an_offer_is_withheld_as_its_definition_says(
    had: list[int], told: list[tuple[int, frozenset[int]]]
) -> None:
    """Compared two minutes after we had it, and two others held it when compared since."""
    found, since = Omissions(), dict(enumerate(had))
    for at in sorted(set(had)):
        found.have([bytes([n]) for n, when in since.items() if when <= at], float(at))
    for source, (at, lacks) in enumerate(told):
        found.compared(bytes([source]), frozenset(bytes([n]) for n in lacks), float(at))
    expected = {}
    for source, (at, lacks) in enumerate(told):
        others = [one for n, one in enumerate(told) if n != source]
        held = {n: sum(since[n] <= a and n not in low for a, low in others) for n in lacks}
        count = sum(at >= since[n] + GRACE_S and held[n] >= WITNESSES for n in lacks)
        if count:
            expected[bytes([source])] = count
    assert found.omitted(401.0) == expected


class Hostile:
    """A source in whose every answer all is another set than ours, and much of it."""

    def __init__(self, ours: list[Item]) -> None:
        self.asked, self._ours = 0, ours

    async def digest(self, low: bytes = b"", high: bytes = b"") -> list[Part]:
        self.asked += 1
        if self.asked > 100:
            raise EnoughAsked
        told = ranges.parts(self._ours, low, high)
        return [Part(part.until, 1000, bytes(16)) if n % 2 else part for n, part in enumerate(told)]

    async def fetch(self, low: bytes = b"", high: bytes = b"") -> Fetched:
        return Fetched(0, frozenset())


class EnoughAsked(Exception):
    pass


async def test_a_source_that_never_agrees_costs_little_for_each_of_its_answers() -> None:
    ours = items(20_000)
    source = Hostile(ours)
    began = time.process_time()
    with pytest.raises(EnoughAsked):
        await shell_repair.repair(source, ours)  # type: ignore[arg-type]
    assert source.asked == 101
    assert (time.process_time() - began) / source.asked < 0.02


class Waiting:
    """An inbound stream of which nothing comes; `ended` once the service has let it go."""

    def __init__(self, name: str, host: str) -> None:
        self.peer, self.host, self.addr = who(name).node_id, host, ""
        self.ended = False

    async def receive(self) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    async def send(self, payload: bytes) -> None:
        raise AssertionError

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_who_asks_from_one_subnet_without_end_ousts_only_himself() -> None:
    service = Service(BookStore(Database(None), NET), FakeClock(), Events(), lambda host: host)
    async with trio.open_nursery() as nursery:

        async def answer(stream: Waiting) -> None:
            await service.answer(stream)  # type: ignore[arg-type]
            stream.ended = True

        honest = [Waiting(f"honest {n}", f"10.0.{n}.1") for n in range(8)]
        for stream in honest:
            nursery.start_soon(answer, stream)
            await trio.testing.wait_all_tasks_blocked()
        thieves = [Waiting(f"thief {n % 40}", "10.9.9.9") for n in range(4 * MAX_STREAMS)]
        for stream in thieves:
            nursery.start_soon(answer, stream)
            await trio.testing.wait_all_tasks_blocked()
        assert len(service) == MAX_STREAMS
        assert sum(stream.ended for stream in thieves) == len(thieves) - MAX_STREAMS + len(honest)
        assert not any(stream.ended for stream in honest)
        nursery.cancel_scope.cancel()


async def test_a_hundred_servers_of_one_machine_are_one_source() -> None:
    group = {"192.0.2.9": "192.0.2", "198.51.100.1": "198.51.100", "203.0.113.1": None}.get
    rooms = Rooms(*[None] * 5, None, Counted("lots"), None, group)  # type: ignore[arg-type]
    sybils = [Source(bytes([n]) * 32, ("/ip4/192.0.2.9/tcp/1",)) for n in range(100)]
    others = [
        Source(bytes([200]) * 32, ("/ip4/198.51.100.1/tcp/1",)),
        Source(bytes([201]) * 32, ("/ip4/203.0.113.1/tcp/1",)),
        Source(bytes([202]) * 32, ("/ip4/203.0.113.1/tcp/2",)),  # in no group: each by itself
    ]
    for _ in range(20):
        drawn = rooms.apart([*sybils, *others], 5)
        assert len(drawn) == 5
        assert all(other in drawn for other in others)
    market = Market("EUR", rooms, lambda _: None)
    rooms.crowd = Silent()  # type: ignore[assignment]
    for n, source in enumerate([*sybils[:10], *others]):
        host = host_of(source.addrs[0])
        now = (trio.current_time(), rooms.crowd_of(source.node_id, host))
        market._levelled_at[source.node_id] = now
        assert market.apart == (1 if n < 10 else n - 8)
    assert len(market.servers) == 13
    assert market.united == 4


class Silent:
    def holders(self, currency: str) -> frozenset[bytes]:
        return frozenset()


async def test_a_source_is_of_the_subnet_that_it_spoke_from_not_of_one_that_it_claims() -> None:
    """A sybil's record may name any address first: what he said came from one machine."""
    rooms = Rooms(*[None] * 5, FakeClock(), Counted("lots"), Events(), lambda host: host)  # type: ignore[arg-type]
    rooms.crowd = Silent()  # type: ignore[assignment]
    ours = items(100)

    market, parts = Market("EUR", rooms, lambda _: None), ranges.parts(ours, b"", b"")
    for n in range(5):
        source = Source(bytes([n]) * 32, (f"/ip4/198.51.{n}.1/tcp/1",))
        assert not market._equal(source, {}, ours)
        assert not market._equal(source, {source.node_id: ("192.0.2.9", parts)}, ours[1:])
        assert market._equal(source, {source.node_id: ("192.0.2.9", parts)}, ours)
    assert market.apart == 1
    assert len(market.servers) == 5
