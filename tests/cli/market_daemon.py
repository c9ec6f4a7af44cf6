"""A daemon with the market's routes alone, on a real socket, with real polling behind it."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import trio
from click.testing import CliRunner, Result
from orderbook_kit import NET, Counted, FakeClock, Market, worked
from price_kit import Still

from escrow.standing import Sale, Statistics
from orderbook.offer import Offer, Side
from orderbook.shell_book import Book
from orderbook.shell_maker import Maker
from orderbook.shell_prices import Prices, Source
from orderbook.store_prices import PriceStore
from p2pnode.app import routes_market
from p2pnode.app.api import Api
from p2pnode.app.events import Events
from p2pnode.base.identity import Identity
from p2pnode.base.store import Database

NOW = int(time.time())  # the command line has no other clock
ME = Identity.grind(NET, b"nobody".ljust(32))
MAKERS = [Identity.grind(NET, f"maker {i}".encode().ljust(32)) for i in range(4)]


def offers(
    rows: Sequence[tuple[Side, int, int]], currency: str = "EUR", **more: Any
) -> list[bytes]:
    """Sign an offer for each (side, price or 0, most); a maker has some of each slot."""
    made = []
    for i, (side, price, most) in enumerate(rows):
        maker = MAKERS[i % len(MAKERS)]
        values: dict[str, Any] = {
            "network": NET,
            "offer_id": i.to_bytes(16, "big"),
            "maker": maker.node_id,
            "slot": i // len(MAKERS),
            "side": side,
            "currency": currency,
            "min_sat": 200_000,
            "max_sat": most,
            "price": price,
            "methods": ("CUSTOM",),
            "expires_at": NOW + 1500,
        }
        made.append(worked(Offer(**(values | more))).to_wire(maker))
    return made


class Daemon:
    """One node's view of markets; sources, records, samples and sales are the test's."""

    def __init__(self, folder: Path, sources: Sequence[Source], records: Sequence[bytes]) -> None:
        self.folder, self.sources = folder, sources
        self.market = Market()
        self.market.records += records
        self.sales: dict[str, tuple[Sale, ...]] = {}
        self.samples: list[tuple[str, int, int, int]] = []
        self._ready = threading.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._stop: trio.Event | None = None

    def statistics(self, currency: str, since: int) -> list[Statistics]:
        found = []
        for name, sales in sorted(self.sales.items()):
            kept = tuple(sale for sale in sales if sale.at >= since)
            if kept and currency in ("", name):
                found.append(Statistics(name, kept))
        return found

    async def serve(self) -> None:
        database = Database(self.folder / "node.sqlite")
        clock = FakeClock()
        clock.time = NOW
        store = PriceStore(database)
        with database.transaction():
            for sample in self.samples:
                store.keep(*sample)
        prices = Prices(self.sources, clock, Still(), store)
        maker = Maker(ME, NET, clock, Counted(), database, self.market, references=prices)
        book = Book(maker, clock, self.market)
        self._token, self._stop = trio.lowlevel.current_trio_token(), trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(prices.run)
            served = routes_market.routes(book, prices, self.statistics, clock)
            await nursery.start(
                Api(served, Events(database), database).serve, self.folder, self._stop
            )
            self._ready.set()
            await self._stop.wait()
            nursery.cancel_scope.cancel()
        database.close()

    def __call__(self, command: click.Group, *argv: str, env: Any = None) -> Result:
        words = [*argv, "--data-dir", str(self.folder)]
        return CliRunner().invoke(command, words, catch_exceptions=False, env=env)


@contextmanager
def daemon(
    folder: Path, sources: Sequence[Source] = (), records: Sequence[bytes] = (), **more: Any
) -> Iterator[Daemon]:
    one = Daemon(folder, sources, records)
    for name, value in more.items():
        setattr(one, name, value)
    thread = threading.Thread(target=trio.run, args=(one.serve,), daemon=True)
    thread.start()
    assert one._ready.wait(20)
    try:
        yield one
    finally:
        one._token.run_sync_soon(one._stop.set)  # type: ignore[union-attr]
        thread.join(20)
        assert not thread.is_alive()
