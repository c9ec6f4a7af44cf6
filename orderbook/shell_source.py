"""One source of a market: a stream to a node that serves it, asked and bounded.

Questions may be under way together; the answers come in their order. Whatever a source does,
a session ends within its time and its bytes, and a source that breaks the protocol, sends what
no honest node sends or is too slow ends it with PeerFault, InvalidRecord or Unreachable.
"""

import hashlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import trio

from orderbook import book_wire
from orderbook.book_wire import Answer, Ask, Digest, Page, Refusal
from orderbook.shell_intake import Taken
from p2pnode.base import ranges
from p2pnode.base.errors import InvalidRecord, PeerFault, Unreachable
from p2pnode.base.networks import Network
from p2pnode.base.ports import Channel, Streams
from p2pnode.base.ranges import Part

ANSWER_S: Final = 8.0  # for the next frame of an answer
SESSION_S: Final = 60.0  # for all that is asked of a source at a time
MAX_OFFERS: Final = 60_000  # from one source in a session
MAX_BYTES: Final = 32 << 20  # the same
MAX_QUESTIONS: Final = 400  # the same

TakeRaws = Callable[[tuple[bytes, ...]], Awaitable[Taken]]


@dataclass(frozen=True, slots=True)
class Source:
    """Who serves a market, and where."""

    node_id: bytes
    addrs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fetched:
    """How many offers of a range were new, and the hashes of all that the source has there."""

    news: int
    hashes: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class Compared:
    """What comparing with a source has shown: hashes of ours it lacks, offers new to us."""

    lacks: frozenset[bytes]
    news: int


class Session:
    """Questions and answers on one stream; who waits for an answer reads it when its turn is."""

    def __init__(self, channel: Channel, currency: str, take: TakeRaws) -> None:
        self.peer, self.host = channel.peer, channel.host
        self._channel, self._currency, self._take = channel, currency, take
        self._asked: deque[int] = deque()
        self._turn = trio.Event()
        self._number = self._offers = self._bytes = 0

    async def digest(self, low: bytes = b"", high: bytes = b"") -> list[Part]:
        """Ask what the source holds. Raises Unreachable, PeerFault, InvalidRecord."""
        number = await self._ask(book_wire.DIGEST, low, high)
        answer = await self._next(number)
        if not isinstance(answer, Digest):
            raise InvalidRecord("frame", "is no digest")
        return ranges.parts_in(answer.told, low, high)

    async def fetch(self, low: bytes = b"", high: bytes = b"") -> Fetched:
        """Take in all that the source has in a range.

        Raises Unreachable, PeerFault, InvalidRecord, StorageFault.
        """
        news, hashes, at_end = 0, set[bytes](), False
        while not at_end:
            number, done = await self._ask(book_wire.FETCH, low, high), False
            while not done:
                page = await self._next(number)
                if not isinstance(page, Page):
                    raise InvalidRecord("frame", "is no page")
                book_wire.check_page(page, low, high)
                self._count(page)
                taken = await self._take(page.raws)
                if taken.lies:
                    raise InvalidRecord("page.offers", "hold what is no valid offer")
                news += len(taken.news)
                hashes.update(hashlib.sha256(raw).digest() for raw in page.raws)
                low, done = page.until, page.done
                at_end = low == high
        return Fetched(news, frozenset(hashes))

    async def _ask(self, what: int, low: bytes, high: bytes) -> int:
        self._number += 1
        if self._number > MAX_QUESTIONS:
            raise Unreachable("too much would have to be asked of a source of the market")
        number = self._number
        self._asked.append(number)
        await self._channel.send(book_wire.encode(Ask(number, what, self._currency, low, high)))
        return number

    async def _next(self, number: int) -> Answer:
        """Read the next frame of the answer to a question, once those before it are read."""
        while self._asked[0] != number:
            await self._turn.wait()
        with trio.move_on_after(ANSWER_S) as reading:
            answer = book_wire.answer_in(await self._channel.receive())
        if reading.cancelled_caught:
            raise Unreachable("a source of the market is too slow")
        if answer.id != number:
            raise InvalidRecord("frame.id", "is not that of the oldest question")
        if isinstance(answer, Refusal):
            raise PeerFault(f"a source of the market refuses: {answer.error}")
        if not isinstance(answer, Page) or answer.done:
            self._asked.popleft()
            self._turn.set()
            self._turn = trio.Event()
        return answer

    def _count(self, page: Page) -> None:
        self._offers += len(page.raws)
        self._bytes += sum(len(raw) for raw in page.raws)
        if self._offers > MAX_OFFERS or self._bytes > MAX_BYTES:
            raise InvalidRecord("page.offers", "are more than a market has")


@asynccontextmanager
async def session(
    streams: Streams, source: Source, network: Network, currency: str, take: TakeRaws
) -> AsyncIterator[Session]:
    """Open a stream to a source, for SESSION_S at most. Raises Unreachable."""
    channel = await streams.open(
        source.node_id,
        source.addrs,
        network.protocol("book"),
        limit=book_wire.FRAME_LIMIT,
        early=True,
    )
    try:
        with trio.fail_after(SESSION_S):
            yield Session(channel, currency, take)
    except trio.TooSlowError:
        raise Unreachable("a source of the market took too long") from None
    finally:
        await channel.close()
