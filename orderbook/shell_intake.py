"""The one way into the book: offers as they came, from whomever, verified before they count.

What is held is known by its bytes and not looked at again. The rest is parsed and verified in
worker threads (libsodium lets the interpreter go meanwhile, so two threads that do both are
faster than the checks of the signatures alone in one), and admitted in one transaction.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from orderbook.needs import Tally
from orderbook.offer import MAX_BYTES, Offer
from orderbook.store_book import BookStore
from p2pnode.base.errors import Elsewhere, InvalidRecord
from p2pnode.base.networks import Network
from p2pnode.base.ports import Clock

THREADS: Final = 2  # that verify, whoever asks
BATCH: Final = 128  # offers a thread verifies at a time
BULK: Final = 1500  # offers of one transaction, while many come
INLINE: Final = 4  # so few are verified at once: a thread's start costs more
OTHERS_CLOCK: Final = ("version", "expires_at")  # what an honest node may have otherwise

OnNews = Callable[[Offer, bytes], object]


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of offers: those that changed the book, and how many no honest node sends."""

    news: tuple[tuple[Offer, bytes], ...]
    lies: int
    found: int  # valid ones, known or new


class Intake:
    """Verifies and admits; the listeners of `on_news` are told of each change once."""

    def __init__(self, store: BookStore, network: Network, clock: Clock, tally: Tally) -> None:
        self._store, self._network, self._clock, self._tally = store, network, clock, tally
        self._threads = trio.CapacityLimiter(THREADS)
        self._pending: list[tuple[Offer, bytes]] = []
        self._collected: set[bytes] = set()  # what two sources may send
        self.on_news: list[OnNews] = []

    async def take(self, raws: Sequence[bytes], currency: str) -> Taken:
        """Take in what is valid of a market; anything else is counted. Raises StorageFault."""
        known = [raw for raw in raws if self._store.knows(raw)]
        held = set(known)
        fresh = list(dict.fromkeys(raw for raw in raws if raw not in held))
        news: list[tuple[Offer, bytes]] = []
        lies = found = 0
        for start in range(0, len(fresh), BATCH):
            good, bad = await self._verified(fresh[start : start + BATCH], currency)
            lies, found = lies + bad, found + len(good)
            news += self._admit(good)
        return Taken(tuple(news), lies, found + len(known))

    async def collect(self, raws: Sequence[bytes], currency: str) -> Taken:
        """Verify what will be in the book at the next `flush`: for many that are all new.

        A transaction of a thousand offers costs half of what ten of a hundred do: the pages of
        the indexes are written once. Raises StorageFault.
        """
        fresh = [raw for raw in raws if raw not in self._collected]
        self._collected.update(fresh)
        good, lies = await self._verified(fresh, currency)
        self._pending += good
        if len(self._pending) >= BULK:
            self._put()
        return Taken((), lies, len(good))

    def flush(self) -> None:
        """Admit what was collected. Raises StorageFault."""
        self._collected.clear()
        self._put()

    def _put(self) -> None:
        good, self._pending = self._pending, []
        self._admit(good)

    def _admit(self, good: Sequence[tuple[Offer, bytes]]) -> list[tuple[Offer, bytes]]:
        changed = set(self._store.admit_all(good, self._clock.now()))
        news = [pair for pair in good if pair[1] in changed]
        self._tally.add("offers_new", len(news))
        for pair in news:
            for listener in self.on_news:
                listener(*pair)
        return news

    async def _verified(
        self, raws: Sequence[bytes], currency: str
    ) -> tuple[list[tuple[Offer, bytes]], int]:
        now = self._clock.now()
        if len(raws) <= INLINE:
            await trio.lowlevel.checkpoint()
            found = verified(raws, currency, self._network, now)
        else:
            found = await trio.to_thread.run_sync(
                verified, raws, currency, self._network, now, limiter=self._threads
            )
        self._tally.add("offers_invalid", found[1])
        return found


def verified(
    raws: Iterable[bytes], currency: str, network: Network, now: int
) -> tuple[list[tuple[Offer, bytes]], int]:
    """Return the offers of a market that are valid, and how many no honest node sends."""
    good, lies = [], 0
    for raw in raws:
        try:
            offer = Offer.from_wire(raw, network=network, now=now)
        except InvalidRecord as error:
            lies += error.field not in OTHERS_CLOCK and not isinstance(error, Elsewhere)
            continue
        if offer.currency == currency and len(raw) <= MAX_BYTES:
            good.append((offer, raw))
        else:
            lies += 1
    return good, lies
