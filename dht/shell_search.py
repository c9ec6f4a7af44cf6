"""A lookup or a put under way: the pure core asks, this moves the questions and the time.

A question outlives its search: whoever does not answer in time is given up by the search at
once, and asked once more in the background, so that a dead contact leaves the table.
"""

import itertools
import math
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import trio

from dht.lookup import Question
from dht.shell_contacts import Contacts

SEARCH_DEADLINE: Final = 20.0  # seconds


class Core(Protocol):
    """What `dht.lookup.Lookup` and `dht.placement.Placement` have in common."""

    @property
    def done(self) -> bool:
        """Tell whether nothing more is worth asking or waiting for."""
        ...

    def ask(self, now: float, wait: Callable[[bytes], float]) -> list[Question]:
        """Return whom to ask now."""
        ...

    def wake_at(self) -> float:
        """Return when `ask` may have more without an answer."""
        ...

    def fail(self, node_id: bytes) -> None:
        """Take note that a peer did not answer."""
        ...


# Asks one peer and tells the core what it said; False if it failed.
Asking = Callable[[Question], Awaitable[bool]]


class Search:
    """Drives one core with `asking` until it is done; `start` returns at once."""

    def __init__(self, contacts: Contacts, core: Core, asking: Asking) -> None:
        self._contacts, self._core, self._asking = contacts, core, asking
        self._numbers = itertools.count()
        self._open: dict[int, tuple[float, bytes]] = {}  # questions: when given up, who is asked
        self._news = trio.Event()
        self._over = False

    def start(self, nursery: trio.Nursery) -> None:
        """Begin; the questions and the search live in `nursery`."""
        nursery.start_soon(self._drive, nursery)

    async def until(self, reached: Callable[[], bool]) -> None:
        """Return as soon as `reached` holds or the search has ended."""
        while not self._over and not reached():
            await self._news.wait()

    async def _drive(self, nursery: trio.Nursery) -> None:
        with trio.move_on_after(SEARCH_DEADLINE):
            while not self._core.done:
                self._give_up()
                self._launch(nursery)
                wake = min([self._core.wake_at(), *(at for at, _ in self._open.values())])
                if self._core.done or wake == math.inf:
                    break  # nobody is left to ask or to wait for
                with trio.move_on_at(wake):
                    await self._news.wait()
        self._over = True
        self._tell()

    def _launch(self, nursery: trio.Nursery) -> None:
        now = trio.current_time()
        for question in self._core.ask(now, self._contacts.patience):
            number, node_id = next(self._numbers), question.peer.node_id
            self._open[number] = (now + self._contacts.limit(node_id), node_id)
            nursery.start_soon(self._question, number, question)

    def _give_up(self) -> None:
        now = trio.current_time()
        for number in [n for n, (at, _) in self._open.items() if at <= now]:
            self._core.fail(self._open.pop(number)[1])

    async def _question(self, number: int, question: Question) -> None:
        answered = await self._asking(question)
        # One given up may since have been asked again, elsewhere: its end says nothing of that.
        if self._open.pop(number, None) is not None and not answered:
            self._core.fail(question.peer.node_id)
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()


async def find(
    contacts: Contacts,
    nursery: trio.Nursery,
    core: Core,
    asking: Asking,
    reached: Callable[[], bool] = lambda: False,
) -> None:
    """Run a search and wait for its end, or until `reached` holds; it then goes on alone."""
    search = Search(contacts, core, asking)
    search.start(nursery)
    await search.until(reached)
