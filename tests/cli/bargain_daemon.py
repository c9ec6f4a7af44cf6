"""A maker's and a taker's daemon over whole trading halves, and command lines to both."""

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import trio
from click.testing import CliRunner, Result
from maker_kit import Histories, References
from orderbook_kit import Market
from trade_kit import NET, Rig, rig

from orderbook.shell_book import Book
from orderbook.shell_maker import Maker
from orderbook.store_accounts import AccountStore
from p2pnode.app import (
    client,
    routes_accounts,
    routes_bargain,
    routes_book,
    routes_offers,
    routes_trades,
)
from p2pnode.app.api import Api
from p2pnode.app.desk import OfferDesk
from p2pnode.app.events import Events
from p2pnode.app.taker import Takers
from p2pnode.base.clock import SystemRandomness


class Desk:
    """One node's command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, command: click.Group, *argv: str, stdin: str = "") -> Result:
        words = [*argv, "--data-dir", str(self.folder)]
        return CliRunner().invoke(command, words, input=stdin, catch_exceptions=False)

    def client(self) -> Any:
        return client.Client(self.folder)


class Town:
    """Both nodes, in a thread of their own; `pass_time` moves the clock of both."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.references = {name: References() for name in ("maker", "taker")}
        self.histories = Histories()  # what either has seen proven
        self.maker, self.taker = (self._desk(name) for name in ("maker", "taker"))
        self._ready = threading.Event()
        self._stop: trio.Event | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._rig: Rig | None = None

    def _desk(self, name: str) -> Desk:
        (self._folder / name).mkdir()
        return Desk(self._folder / name)

    async def run(self) -> None:
        self._token, self._stop = trio.lowlevel.current_trio_token(), trio.Event()
        market = Market()
        async with rig() as r, trio.open_nursery() as nursery:
            self._rig = r
            for name in ("maker", "taker"):
                node = r[name]
                maker = Maker(
                    *(node.identity, NET, r.clock, SystemRandomness(), node.database, market),
                    references=self.references[name],
                    histories=self.histories,
                )
                book = Book(maker, r.clock, market)
                accounts = AccountStore(node.database, NET, b"k" * 32, SystemRandomness())
                node.exchange.world.desk = OfferDesk(maker, accounts, NET)
                served = [
                    *routes_accounts.routes(accounts, NET, r.clock, lambda _: ()),
                    *routes_offers.routes(maker, accounts),
                    *routes_book.routes(book, accounts, Takers(book, accounts, r.clock)),
                    *routes_trades.routes(node.exchange, book, accounts),
                    *routes_bargain.routes(node.exchange, book, accounts),
                ]
                api = Api(served, Events(node.database), node.database)
                await nursery.start(api.serve, self._folder / name, self._stop)
            self._ready.set()
            await self._stop.wait()
            nursery.cancel_scope.cancel()

    def pass_time(self, seconds: int) -> None:
        assert self._rig is not None
        self._rig.clock.time += seconds

    def now(self) -> int:
        """Return the time of both."""
        assert self._rig is not None
        return self._rig.clock.time

    def node_id(self, name: str) -> bytes:
        """Return who a node is."""
        assert self._rig is not None
        return self._rig[name].identity.node_id

    def introduce(self, name: str, shown: Callable[[bytes, bytes], Awaitable[None]]) -> None:
        """Say what a node learns when it asks a maker for receipts."""
        assert self._rig is not None
        opening = self._rig[name].exchange.opening
        opening.introduce = opening.look = shown

    def state(self, desk: Desk, trade_id: str, state: str) -> dict[str, Any]:
        """Wait until a node's trade is in that state."""
        return self._wait(desk, f"/v1/trades/{trade_id}", state)

    def until(self, desk: Desk, proposal_id: str, state: str) -> dict[str, Any]:
        """Wait until a node's proposal is in that state."""
        return self._wait(desk, f"/v1/proposals/{proposal_id}", state)

    def _wait(self, desk: Desk, path: str, state: str) -> dict[str, Any]:
        found: dict[str, Any] = {}

        async def there() -> None:
            assert self._rig is not None
            api = desk.client()

            async def look() -> None:
                answer = await trio.to_thread.run_sync(api.get, path)
                found.update(answer)
                assert answer["state"] == state, answer

            await self._rig.eventually(look)

        trio.from_thread.run(there, trio_token=self._token)
        return found

    def close(self) -> None:
        assert self._token is not None
        assert self._stop is not None
        self._token.run_sync_soon(self._stop.set)


@contextmanager
def town(folder: Path) -> Iterator[Town]:
    """A running town with an account of each."""
    made = Town(folder)
    thread = threading.Thread(target=trio.run, args=(made.run,), daemon=True)
    thread.start()
    assert made._ready.wait(60)
    try:
        yield made
    finally:
        made.close()
        thread.join(30)
        assert not thread.is_alive()
