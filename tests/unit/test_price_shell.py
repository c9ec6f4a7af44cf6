"""Polling: whom it asks, how often, what it does about faults, and what it keeps."""

from contextlib import asynccontextmanager

import pytest
import trio
from price_kit import NOW, FakeClock, Scripted, Still
from trio.testing import MockClock, wait_all_tasks_blocked

from orderbook.prices import FIRM_S, STALE_S, Said
from orderbook.shell_follow import PricedFollower
from orderbook.shell_prices import FOLLOW_S, LEAST_S, MAX_FOLLOWED, MOST_S, SETTLE_S, Prices
from orderbook.store_prices import EVERY_S, KEPT_S, PriceStore
from p2pnode.base.errors import InvalidRecord, StorageFault, Unreachable
from p2pnode.base.store import Database

EUR = 61_240_000_000
DOWN = Unreachable("answers with HTTP status 503")


@pytest.fixture
def autojump_clock():
    return MockClock(autojump_threshold=0)


class Ticking(FakeClock):
    """Unix time that follows trio's, so that waiting ages prices."""

    def __init__(self):
        super().__init__()
        self._start = None

    def now(self):
        here = trio.current_time()
        self._start = here if self._start is None else self._start
        return int(NOW + here - self._start)


def make(*sources, clock=None, store=None):
    return Prices(sources, clock or Ticking(), Still(), store)


@asynccontextmanager
async def running(prices):
    """Poll the sources for as long as the block lasts."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(prices.run)
        yield
        nursery.cancel_scope.cancel()


async def test_nobody_is_asked_before_somebody_asks(autojump_clock):
    source = Scripted("a", EUR)
    prices = make(source)
    async with running(prices):
        await trio.sleep(1000)
        assert source.asked == []
        assert (await prices.settle("EUR")).price == EUR
        assert source.asked == [("EUR",)]


async def test_a_source_is_asked_every_minute_while_the_market_is_followed(autojump_clock):
    source = Scripted("a", EUR)
    prices = make(source)
    async with running(prices):
        await prices.settle("EUR")
        await trio.sleep(FOLLOW_S + 600)
        count = len(source.asked)
        assert FOLLOW_S // 61 <= count <= FOLLOW_S // 59 + 2
        await trio.sleep(1000)
        assert len(source.asked) == count, "it goes on for a market that nobody asks for"


async def test_jitter_keeps_within_its_bound_and_differs():
    class Rolling:
        def __init__(self):
            self.value = 0

        def bytes(self, count):
            self.value = (self.value + 9_973) % 65_536
            return self.value.to_bytes(count, "big")

    prices = Prices((), FakeClock(), Rolling())
    pauses = {prices._pause_s(Scripted("a", 1), 0) for _ in range(100)}
    assert 54 <= min(pauses) < 57
    assert 63 < max(pauses) <= 66
    assert len(pauses) > 90


async def test_a_second_market_is_asked_for_soon_and_not_at_once(autojump_clock):
    source = Scripted("a", EUR)
    prices = make(source)
    async with running(prices):
        await prices.settle("EUR")
        before = trio.current_time()
        await prices.settle("USD")
        assert trio.current_time() - before <= LEAST_S + 0.1
        assert set(source.asked[-1]) == {"EUR", "USD"}
        gaps = [b - a for a, b in zip(source.times, source.times[1:], strict=False)]
        assert min(gaps) >= LEAST_S


async def test_a_source_that_fails_is_asked_less_and_less_and_comes_back(autojump_clock):
    source, good = Scripted("bad", DOWN), Scripted("good", EUR)
    prices = make(source, good)
    async with running(prices):
        found = await prices.settle("EUR")
        assert (found.price, found.left_out[0].reason) == (EUR, "answers with HTTP status 503")
        for _ in range(6):
            await trio.sleep(600)
            prices.view("EUR")
        gaps = [round(b - a, 3) for a, b in zip(source.times, source.times[1:], strict=False)]
        assert gaps == sorted(gaps)
        assert gaps[:3] == pytest.approx([60, 120, 240], rel=0.01)
        assert gaps[-1] <= MOST_S * 1.1
        assert len(source.asked) < 10 < len(good.asked)
        source.said = EUR
        assert prices.counts["failed"] == len(source.asked)
        assert prices.counts["answered"] == len(good.asked)
        await trio.sleep(MOST_S * 1.2)
        assert len(prices.view("EUR").used) == 2


async def test_a_question_does_not_wait_for_a_source_that_is_down(autojump_clock):
    prices = make(Scripted("bad", DOWN), Scripted("good", EUR))
    async with running(prices):
        await prices.settle("EUR")
        before = trio.current_time()
        found = await prices.settle("JPY")
        assert trio.current_time() - before <= LEAST_S + 0.1
        assert (found.price, found.left_out[0].reason) == (EUR, "answers with HTTP status 503")


async def test_a_price_outlives_a_fault_until_it_is_stale(autojump_clock):
    source = Scripted("a", EUR)
    prices = make(source)
    async with running(prices):
        await prices.settle("EUR")
        source.said = DOWN
        await trio.sleep(STALE_S - 1)
        assert len(source.asked) > 2
        assert prices.view("EUR").price == EUR
        await trio.sleep(61)
        found = prices.view("EUR")
        assert (found.price, found.why) == (0, "every price is stale")
        assert found.left_out[0].reason.startswith("stale: 11 min old; answers with")


async def test_one_missed_answer_binds_still_and_two_bind_nobody(autojump_clock):
    """While the sources are down, floating offers are not taken at what the market has left."""
    source = Scripted("a", EUR)
    prices = make(source)
    async with running(prices):
        await prices.settle("EUR")
        source.said = DOWN
        await trio.sleep(61)
        assert len(source.asked) == 2
        source.said = EUR
        await trio.sleep(FIRM_S - 61)
        assert prices.reference("EUR") == EUR
        assert prices.counts["failed"] == 1
        source.said = DOWN
        await trio.sleep(FIRM_S + 61)
        assert prices.counts["failed"] > 2
        assert prices.reference("EUR") == 0
        assert prices.view("EUR").price == EUR, "it is shown still"


async def test_the_log_names_a_fault_once_until_it_changes(autojump_clock, caplog):
    caplog.set_level("INFO", logger="orderbook.shell_prices")
    source = Scripted("a", Said({}, {"EUR": "the file: No such file or directory"}))
    prices = make(source)
    async with running(prices):
        await prices.settle("EUR")
        await trio.sleep(600)
        source.said = EUR
        await trio.sleep(120)
        source.said = DOWN
        await trio.sleep(STALE_S)
    assert len(source.asked) > 12
    assert caplog.messages == [
        "price source a: the file: No such file or directory",
        "price source a: answers with HTTP status 503",
    ]


async def test_a_source_that_takes_its_word_back_is_believed_at_once(autojump_clock):
    source = Scripted("a", EUR)
    prices = make(source)
    async with running(prices):
        await prices.settle("EUR")
        source.said = Said({}, {"EUR": "EUR: '-1' is not above zero"})
        await prices.changed.wait()
        found = prices.view("EUR")
        assert (found.price, found.left_out[0].reason) == (0, "EUR: '-1' is not above zero")


async def test_a_source_cannot_be_from_the_future_and_its_own_time_can_be_stale(autojump_clock):
    late, ahead = Scripted("late", Said({"EUR": (EUR, NOW - 4000)})), Scripted("ahead", None)
    ahead.said = Said({"EUR": (EUR, NOW + 10**6), "USD": (5, 0)})
    prices = make(late, ahead)
    async with running(prices):
        found = await prices.settle("EUR")
        assert [q.source for q in found.used] == ["ahead"]
        assert found.at <= NOW + SETTLE_S
        assert found.left_out[0].reason == "stale: 66 min old"


async def test_a_first_question_waits_for_the_slow_no_longer_than_it_must(autojump_clock):
    class Never(Scripted):
        async def ask(self, currencies):
            self.asked.append(tuple(currencies))
            await trio.sleep_forever()

    slow = Never("slow", None)
    prices = make(slow, Scripted("fast", EUR))
    async with running(prices):
        before = trio.current_time()
        assert (await prices.settle("EUR")).price == EUR
        assert trio.current_time() - before == pytest.approx(SETTLE_S)
        assert slow.asked


async def test_without_a_source_there_is_no_view_and_an_unknown_currency_is_refused():
    prices = make()
    assert prices.view("EUR") is None
    assert prices.reference("EUR") == 0
    assert await prices.settle("EUR") is None
    with pytest.raises(InvalidRecord):
        prices.view("ZZZ")


async def test_the_price_of_a_market_that_is_followed_is_kept_without_a_question(autojump_clock):
    source, store, markets = Scripted("a", EUR), PriceStore(Database(None)), ["EUR"]
    prices = Prices((source,), Ticking(), Still(), store, markets=lambda: markets)
    async with running(prices):
        await trio.sleep(3 * FOLLOW_S)
        assert set(source.asked) == {("EUR",)}
        assert len(store.since("EUR", 0)) >= 3 * FOLLOW_S // EVERY_S - 1
        markets.clear()
        await trio.sleep(200)
        count = len(source.asked)
        await trio.sleep(FOLLOW_S)
        assert len(source.asked) == count


async def test_a_market_that_is_followed_is_priced_when_it_is_first_listed(autojump_clock):
    class Sync:
        followed = ()

        async def follow(self, currency):
            self.followed += (currency,)
            await trio.sleep(1)

    sync, source = Sync(), Scripted("a", EUR)
    prices = make(source)
    async with running(prices):
        await PricedFollower(sync, prices).follow("EUR")
        assert prices.reference("EUR") == EUR
        assert trio.current_time() == pytest.approx(1)
        assert sync.followed == ("EUR",)


async def test_no_more_markets_are_followed_than_its_bound(autojump_clock):
    from orderbook.currencies import EXPONENTS

    source = Scripted("a", EUR)
    prices = make(source)
    async with running(prices):
        for currency in sorted(EXPONENTS)[: MAX_FOLLOWED + 20]:
            prices.view(currency)
        await wait_all_tasks_blocked()
        await trio.sleep(200)
        assert max(map(len, source.asked)) == MAX_FOLLOWED
        assert len(prices._quotes) <= MAX_FOLLOWED


# ------------------------------------------------------------------ history


async def test_a_sample_is_kept_every_ten_minutes(autojump_clock):
    store = PriceStore(Database(None))
    prices = make(Scripted("a", EUR), store=store)
    async with running(prices):
        await prices.settle("EUR")
        await trio.sleep(3 * EVERY_S)
        kept = prices.history("EUR", 0)
        assert 3 <= len(kept) <= 4
        assert {s.price for s in kept} == {EUR}
        spans = [s.at // EVERY_S for s in kept]
        assert spans == sorted(set(spans))


async def test_a_full_disk_costs_a_gap_and_not_the_prices(autojump_clock):
    class Full(PriceStore):
        tried = 0

        def keep(self, *args):
            self.tried += 1
            raise StorageFault("database or disk is full")

    store = Full(Database(None))
    prices = make(Scripted("a", EUR), store=store)
    async with running(prices):
        await prices.settle("EUR")
        await trio.sleep(500)
        assert prices.counts["gaps"] == store.tried > 0
        assert prices.reference("EUR") == EUR


def test_the_history_is_bounded_and_survives_a_restart(tmp_path):
    path = tmp_path / "node.sqlite"
    database = Database(path)
    store = PriceStore(database)
    for i in range(50):
        store.keep("EUR", NOW + i * 3 * 86_400, EUR + i, 0)
    kept = store.since("EUR", 0)
    assert kept[0].at >= kept[-1].at - KEPT_S
    assert len(kept) == 31
    database.close()
    again = PriceStore(Database(path))
    last = kept[-1].at
    assert not again.due("EUR", last)
    assert again.due("EUR", last + EVERY_S)
    assert again.due("USD", last)
    assert again.since("EUR", last) == (kept[-1],)
