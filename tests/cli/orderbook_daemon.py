"""A daemon with the order book's routes alone, on a real socket, and a command line to it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import trio
from click.testing import CliRunner, Result
from orderbook_kit import KEY, NET, Counted, FakeClock, Market, References, make_book

from orderbook.store_accounts import AccountStore
from p2pnode.app import client, routes_accounts, routes_book, routes_offers
from p2pnode.app.api import Api
from p2pnode.app.events import Events
from p2pnode.app.taker import Takers
from p2pnode.base.identity import Identity
from p2pnode.base.store import Database


class Daemon:
    """One node's offers and accounts; `market` and `clock` are the test's to turn."""

    def __init__(
        self, folder: Path, market: Market, clock: FakeClock, identity: Identity, seed: str
    ) -> None:
        self.folder, self.market, self.clock = folder, market, clock
        self._identity, self._seed = identity, seed
        self.references = References()
        self.users: tuple[str, ...] = ()  # who uses every account
        self._ready = threading.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._stop: trio.Event | None = None

    def _uses(self, account_id: bytes) -> tuple[str, ...]:
        return self.users

    async def serve(self) -> None:
        database = Database(self.folder / "node.sqlite")
        book = make_book(
            *(self.market, self.clock, self._identity, database, self._seed, self.references)
        )
        self.book = book
        accounts = AccountStore(database, NET, b"k" * 32, Counted(self._seed))
        served = [
            *routes_accounts.routes(accounts, NET, self.clock, self._uses),
            *routes_offers.routes(book.maker, accounts),
            *routes_book.routes(book, accounts, Takers(book, accounts, self.clock)),
        ]
        self._token, self._stop = trio.lowlevel.current_trio_token(), trio.Event()
        async with trio.open_nursery() as nursery:
            api = Api(served, Events(database), database)
            await nursery.start(api.serve, self.folder, self._stop)
            self._ready.set()
        database.close()

    def __call__(self, command: click.Group, *argv: str, stdin: str = "") -> Result:
        words = [*argv, "--data-dir", str(self.folder)]
        return CliRunner().invoke(command, words, input=stdin, catch_exceptions=False)

    def client(self) -> Any:
        return client.Client(self.folder)


@contextmanager
def daemon(
    folder: Path,
    market: Market | None = None,
    clock: FakeClock | None = None,
    identity: Identity = KEY,
    seed: str = "seed",
) -> Iterator[Daemon]:
    one = Daemon(folder, market or Market(), clock or FakeClock(), identity, seed)
    thread = threading.Thread(target=trio.run, args=(one.serve,), daemon=True)
    thread.start()
    assert one._ready.wait(20)
    try:
        yield one
    finally:
        one._token.run_sync_soon(one._stop.set)  # type: ignore[union-attr]
        thread.join(20)
        assert not thread.is_alive()
