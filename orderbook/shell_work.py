"""Finding the proof of work of own offers (orderbook/work.py) while the node goes on.

A search runs in a worker thread, some thirty milliseconds at a time, so that it is given up
soon after nobody wants it; what it found is kept for its day. Searches for the same slot
share one answer.
"""

from functools import partial
from typing import Final

import trio

from orderbook import work
from orderbook.store_offers import OfferStore
from p2pnode.base.networks import Network
from p2pnode.base.ports import Randomness

AT_ONCE: Final = 1 << 12  # tries so short that no thread is worth it
CHUNK: Final = 1 << 15  # tries between looks whether anybody still wants it


class Miner:
    """The works of one maker's slots."""

    def __init__(
        self, network: Network, maker: bytes, randomness: Randomness, store: OfferStore
    ) -> None:
        self._network, self._maker = network, maker
        self._randomness, self._store = randomness, store
        self._limiter = trio.CapacityLimiter(1)  # one thread, whoever waits
        self.tries: dict[str, int] = {}  # of the searches that go on, by currency

    def known(self, currency: str, slot: int, day: int) -> int | None:
        """Return a work already found, or None."""
        return self._store.work(currency, slot, day)

    def expected(self, slot: int) -> int:
        """Return how many tries a search takes on average."""
        return 1 << work.needed_bits(self._network, slot)

    async def find(self, currency: str, slot: int, day: int) -> int:
        """Return a good work, searching for it unless it is known."""
        place = (self._network, self._maker, currency, slot, day)
        start, size = int.from_bytes(self._randomness.bytes(7), "big"), AT_ONCE
        self.tries[currency] = 0
        try:
            while (good := self.known(currency, slot, day)) is None:
                if size == AT_ONCE:
                    found = work.find(*place, start=start, tries=size)
                else:
                    search = partial(work.find, *place, start=start, tries=size)
                    found = await trio.to_thread.run_sync(search, limiter=self._limiter)
                if found is not None:
                    self._store.keep_work(currency, slot, day, found)
                start, size = start + size, CHUNK
                self.tries[currency] = self.tries.get(currency, 0) + size
        finally:
            self.tries.pop(currency, None)
        return good
