"""Reference prices kept fresh: every source polled, each at its own pace.

    asked for ── followed for FOLLOW_S ── poll ── quotes ── refer() ── reference
                                            └ failed: named, tried again later and later

A currency is followed from the moment somebody asks for its price, and while its market is
followed; nobody is called for another. A source that fails ends nothing: its last price ages
until it is stale. Which quotes count is decided by `orderbook.prices`.
"""

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, Protocol

import trio

from orderbook.currencies import check_currency
from orderbook.prices import FIRM_S, STALE_S, Quote, Reference, Said, refer
from orderbook.store_prices import PriceStore, Sample
from p2pnode.base.errors import NodeError, StorageFault
from p2pnode.base.ports import Clock, Randomness

log: Final = logging.getLogger(__name__)

POLL_S: Final = 60
MOST_S: Final = 960  # between two tries at a source that goes on failing
LEAST_S: Final = 2  # between two requests to one source, whoever asks for what
JITTER: Final = 0.1  # of a pause, either way
FOLLOW_S: Final = 3600  # after the last question
MAX_FOLLOWED: Final = 32  # currencies; the one asked for longest ago gives way
SETTLE_S: Final = 10  # that a first question waits for its answers


class Source(Protocol):
    """Somebody who says what bitcoin costs."""

    @property
    def name(self) -> str:
        """Return what the settings call it."""
        ...

    @property
    def live(self) -> bool:
        """Tell whether it has been seen to work against the server itself."""
        ...

    @property
    def docs(self) -> str:
        """Return where its interface is documented, or nothing."""
        ...

    @property
    def every_s(self) -> int:
        """Return the seconds between two polls while all goes well."""
        ...

    async def ask(self, currencies: Collection[str]) -> Said:
        """Return what it says of those currencies. Raises NodeError, and nothing else."""
        ...


class Prices:
    """The reference prices of one node."""

    def __init__(
        self,
        sources: Sequence[Source],
        clock: Clock,
        randomness: Randomness,
        store: PriceStore | None = None,
        markets: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self.sources, self._store = tuple(sources), store
        self.counts: Counter[str] = Counter()  # events since the start, for metrics
        self._clock, self._randomness = clock, randomness
        self._markets = markets  # what is followed besides, without anybody asking
        self._followed: OrderedDict[str, int] = OrderedDict()  # currency -> last asked for
        self._quotes: dict[tuple[str, str], Quote] = {}  # by source and currency
        self._failed: dict[tuple[str, str], str] = {}
        self._down: dict[str, str] = {}  # sources that are waited with after a failure, and why
        self._told: dict[str, frozenset[str]] = {}  # what the log has said of a source last
        self._news = trio.Event()  # somebody asked for a currency that was not followed
        self._changed = trio.Event()

    @property
    def changed(self) -> trio.Event:
        """Return an event that is set when a source has next been heard, or has failed."""
        return self._changed

    def reference(self, currency: str) -> int:
        """Return minor units per BTC x 10^4 as of now, 0 if no source can be believed.

        Money hangs on it: what is older than FIRM_S is shown by `view`, but binds nobody,
        so that nobody takes what the market has left behind while the sources are down.
        """
        found = self.view(currency)
        return self._judge(currency, FIRM_S).price if found else 0

    def view(self, currency: str) -> Reference | None:
        """Return the reference with its sources; None where no source is configured.

        Raises InvalidRecord for an unknown currency.
        """
        check_currency("currency", currency)
        if not self.sources:
            return None
        self._follow(currency)
        return self._judge(currency)

    def _judge(self, currency: str, stale_s: int = STALE_S) -> Reference:
        names = [source.name for source in self.sources]
        quotes = [q for name in names if (q := self._quotes.get((name, currency)))]
        failed = {n: why for n in names if (why := self._failed.get((n, currency)))}
        return refer(currency, quotes, failed, self._clock.now(), stale_s)

    async def settle(self, currency: str) -> Reference | None:
        """Return the reference as soon as every source has been heard, or after SETTLE_S."""
        self.view(currency)
        with trio.move_on_after(SETTLE_S):
            while any(self._unheard(source, currency) for source in self.sources):
                await self._changed.wait()
        return self.view(currency)

    async def run(self) -> None:
        """Poll every source until cancelled, and keep samples of what comes out."""
        async with trio.open_nursery() as nursery:
            for source in self.sources:
                nursery.start_soon(self._poll_on, source)
            while True:
                await self._changed.wait()
                self._keep()

    def followed(self) -> tuple[str, ...]:
        """Return the currencies asked for lately, in alphabetical order."""
        return tuple(sorted(self._wanted()))

    def history(self, currency: str, since: int) -> tuple[Sample, ...]:
        """Return the samples kept of a market, oldest first."""
        check_currency("currency", currency)
        return self._store.since(currency, since) if self._store else ()

    def _keep(self) -> None:
        """Keep a sample of every market whose last one is old enough."""
        if self._store is None:
            return
        now = self._clock.now()
        for currency in tuple(self._followed):
            if self._store.due(currency, now):
                found = self._judge(currency)
                try:
                    if found.price:
                        self._store.keep(currency, now, found.price, found.spread_bp)
                        self.counts["samples"] += 1
                except StorageFault as error:
                    self.counts["gaps"] += 1
                    log.warning("the price history has a gap: %s", error)

    # -- one source

    async def _poll_on(self, source: Source) -> None:
        misses = 0
        while True:
            if wanted := self._wanted():
                misses = 0 if await self._poll(source, wanted) else misses + 1
            with trio.move_on_after(self._pause_s(source, misses)):
                if wanted:
                    await trio.sleep(LEAST_S)
                if misses:
                    await trio.sleep_forever()
                while not any(self._unheard(source, c) for c in self._followed):
                    await self._news.wait()

    async def _poll(self, source: Source, wanted: Sequence[str]) -> bool:
        """Ask once; tell whether it answered."""
        try:
            said = await source.ask(wanted)
        except NodeError as error:
            self.counts["failed"] += 1
            self._down[source.name] = str(error)
            self._note(source, dict.fromkeys(wanted, str(error)))
            return False
        self.counts["answered"] += 1
        self._down.pop(source.name, None)
        now = self._clock.now()
        for currency, (price, at) in said.prices.items():
            if currency in wanted:
                at = min(at or now, now)
                quote = Quote(source.name, currency, price, at)
                self._quotes[source.name, currency] = quote
                self._failed.pop((source.name, currency), None)
        missing = set(wanted) - set(said.prices)
        for currency in missing:  # it takes its word back
            self._quotes.pop((source.name, currency), None)
        self.counts["wrong"] += len(said.faults)
        faults = {c: said.faults.get(c, f"has no price in {c}") for c in missing}
        self._note(source, faults)
        return True

    def _note(self, source: Source, faults: Mapping[str, str]) -> None:
        for currency, why in faults.items():
            if currency in self._followed:
                self._failed[source.name, currency] = why
        told = self._told.get(source.name, frozenset())
        self._told[source.name] = frozenset(faults.values())
        for why in sorted(self._told[source.name] - told):  # once, until it changes
            log.info("price source %s: %s", source.name, why)
        self._changed.set()
        self._changed = trio.Event()

    def _pause_s(self, source: Source, misses: int) -> float:
        pause = min(MOST_S, source.every_s * 2 ** (misses - 1)) if misses else source.every_s
        part = int.from_bytes(self._randomness.bytes(2), "big") / 0xFFFF
        return float(max(LEAST_S, pause * (1 + JITTER * (2 * part - 1))))

    # -- what is followed

    def _follow(self, currency: str) -> None:
        news = currency not in self._followed
        self._followed[currency] = self._clock.now()
        self._followed.move_to_end(currency)
        if news:
            if len(self._followed) > MAX_FOLLOWED:
                self._forget(next(iter(self._followed)))
            for name, why in self._down.items():
                self._failed[name, currency] = why
            self._news.set()
            self._news = trio.Event()

    def _wanted(self) -> tuple[str, ...]:
        """Return the currencies followed, without those that nobody asked for lately."""
        now, also = self._clock.now(), self._markets()
        for currency in [c for c, at in self._followed.items() if at + FOLLOW_S < now]:
            if currency not in also:
                self._forget(currency)
        for currency in also:
            if len(self._followed) < MAX_FOLLOWED:
                self._followed.setdefault(currency, now - FOLLOW_S)
        return tuple(self._followed)

    def _forget(self, currency: str) -> None:
        self._followed.pop(currency)
        for source in self.sources:
            self._quotes.pop((source.name, currency), None)
            self._failed.pop((source.name, currency), None)

    def _unheard(self, source: Source, currency: str) -> bool:
        place = (source.name, currency)
        return place not in self._quotes and place not in self._failed
