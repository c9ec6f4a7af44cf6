"""One stream that we opened to a peer: our questions, its answers, its news.

Answers come in any order and find their question by its number. A peer that answers what
nobody asked, or whose news are too often invalid, breaks the protocol and loses the stream.
"""

import itertools
import logging
from collections.abc import Callable
from typing import Any, Final

import trio

from dht import rpc
from dht.rpc import Answer, Ask, News
from dht.rtt import HARD_MAX
from p2pnode.base.errors import InvalidRecord, NodeError, PeerFault, Unreachable
from p2pnode.base.ports import Channel
from p2pnode.base.quota import Buckets

log = logging.getLogger(__name__)

MAX_OUTSTANDING: Final = 64  # questions under way on one stream
MAX_UNASKED: Final = 64  # frames of a stream that nobody waits for, besides late answers
MAX_LIES: Final = 8  # bad records in the news of one stream
NEWS_RATE: Final = 200.0  # news a second taken from one stream, lasting
NEWS_BURST: Final = 1000.0

Heard = Callable[[tuple[bytes, ...]], int]  # takes news; returns how many of it are lies


class Listener:
    """Who wants the news of one `listen`, and to know when no more can come."""

    def __init__(self, take: Heard, ended: Callable[[], None]) -> None:
        self.take, self.ended = take, ended


class Link:
    """A stream that we opened; `run` reads its answers."""

    def __init__(self, channel: Channel, hello: tuple[str, ...]) -> None:
        self.addrs: tuple[str, ...] = ()  # where the peer says it listens
        self.host, self.addr = channel.host, channel.addr
        self.dead = False
        self.broke = False  # the peer broke the protocol
        self._channel = channel
        self._hello = hello
        self._numbers = itertools.count(1)  # 0 is the hello
        self._last = 0
        self._slots = trio.Semaphore(MAX_OUTSTANDING)
        self._waiting: dict[int, tuple[trio.Event, list[Answer]]] = {}
        self._asked_at: dict[int, float] = {}  # of those waiting, oldest first
        self._listeners: dict[int, Listener] = {}
        self._greeted = False
        self._unasked = MAX_UNASKED  # more of them break the protocol
        self._lies = 0
        self._pace = Buckets(NEWS_RATE, NEWS_BURST)

    @property
    def idle(self) -> bool:
        """Tell whether nobody waits for an answer or for news."""
        return not self._waiting and not self._listeners

    def overdue(self, since: float) -> bool:
        """Tell whether a question asked before `since` still waits for its answer."""
        return next(iter(self._asked_at.values()), since) < since

    async def run(self) -> None:
        """Read answers until the stream ends."""
        try:
            while True:
                message = rpc.decode(await self._channel.receive())
                if isinstance(message, News):
                    await trio.sleep(self._pace.spend("news", trio.current_time()))
                self._take(message)
        except InvalidRecord as error:
            self.broke = True
            log.debug("stream to %s ended: %s", self._channel.peer.hex()[:16], error)
        except NodeError as error:
            log.debug("stream to %s ended: %s", self._channel.peer.hex()[:16], error)
        finally:
            self.dead = True
            for event, _ in self._waiting.values():
                event.set()
            for listener in self._listeners.values():
                listener.ended()
            await self._channel.close()

    def _take(self, message: Ask | Answer | News) -> None:
        if isinstance(message, Ask) or message.id > self._last:
            raise InvalidRecord("frame", "answers nothing that was asked")
        if isinstance(message, News) and message.id in self._listeners:
            self._lies += self._listeners[message.id].take(message.raws)
            if self._lies > MAX_LIES:
                raise InvalidRecord("news", "are too often invalid")
        elif isinstance(message, Answer) and message.id == 0 and not self._greeted:
            self._greeted = True
            self.addrs = rpc.hello_args((message.result,))
        elif isinstance(message, Answer) and message.id in self._waiting:
            event, answers = self._waiting[message.id]
            answers.append(message)
            event.set()
        else:  # late, or of a listen that has ended, or invented
            self._unasked -= 1
            if self._unasked < 0:
                raise InvalidRecord("frame", "is one of too many that nobody asked for")

    async def greet(self) -> None:
        """Say where we listen; the answer comes before any other."""
        await self._channel.send(rpc.encode(Ask(0, rpc.HELLO, (self._hello,))))

    async def ask(
        self, method: str, args: tuple[Any, ...], listener: Listener | None = None
    ) -> Any:
        """Return the result. Raises Unreachable, or PeerFault with the peer's refusal."""
        async with self._slots:
            if self.dead:
                raise Unreachable("the stream to the peer has ended")
            number = self._last = next(self._numbers)
            event, answers = self._waiting[number] = (trio.Event(), [])
            self._asked_at[number] = trio.current_time()
            if listener is not None:  # news may follow the answer at once
                self._listeners[number] = listener
            try:
                await self._channel.send(rpc.encode(Ask(number, method, args)))
                await event.wait()
            finally:
                del self._waiting[number], self._asked_at[number]
                if not answers:  # it may still come, and the news of a listen with it
                    self._unasked += MAX_UNASKED if listener else 1
                if not answers or answers[0].error:
                    self._listeners.pop(number, None)
        if not answers:
            raise Unreachable("the stream to the peer has ended")
        if answers[0].error:
            raise PeerFault(answers[0].error)
        return answers[0].result

    def heard_by(self, take: Heard) -> list[int]:
        """Return the questions whose news `take` is told."""
        return [number for number, one in self._listeners.items() if one.take == take]

    def forget(self, numbers: list[int]) -> None:
        """Deliver no more news of these questions."""
        for number in numbers:
            if self._listeners.pop(number, None) is not None:
                self._unasked += MAX_UNASKED  # news that is under way

    async def retire(self) -> None:
        """End the stream once every question on it has its answer, or its time is up."""
        with trio.move_on_after(HARD_MAX):
            while self._waiting:
                event, _ = next(iter(self._waiting.values()))
                await event.wait()
                await trio.lowlevel.checkpoint()
        await self.close()

    async def close(self) -> None:
        """End the stream."""
        self.dead = True
        await self._channel.close()
