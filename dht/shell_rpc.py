"""Questions and answers on persistent streams, one we opened to each peer we ask.

The caller of a stream asks, the other side answers in order, so a flood is slowed by its own
stream; on top each peer has a quota. A peer that breaks the protocol loses the stream.
"""

import itertools
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, Final

import trio

from dht import rpc
from dht.endpoint import Peer
from dht.rpc import Answer, Ask
from p2pnode.base.errors import (
    InvalidRecord,
    LocalFault,
    NodeError,
    PeerFault,
    StorageFault,
    Unreachable,
)
from p2pnode.base.ports import Channel, Streams

log = logging.getLogger(__name__)

CALL_DEADLINE: Final = 2.0  # seconds for an answer
DIAL_DEADLINE: Final = 4.0  # seconds for a new stream: a cold dial takes 9 round trips
MAX_OUTSTANDING: Final = 64  # questions under way on one stream
MAX_LINKS: Final = 256  # streams we hold open
MAX_INBOUND_PER_PEER: Final = 4  # streams one peer may hold open to us
RATE: Final = 200.0  # questions a second answered to one peer, lasting
BURST: Final = 400.0
MAX_QUOTAS: Final = 4096  # peers remembered; those without a stream are forgotten first

Serve = Callable[[bytes, Ask], Any]


class _Link:
    """A stream that we opened; `run` reads its answers."""

    def __init__(self, channel: Channel, hello: tuple[str, ...]) -> None:
        self.addrs: tuple[str, ...] = ()  # where the peer says it listens
        self.dead = False
        self._channel = channel
        self._hello = hello
        self._numbers = itertools.count(1)  # 0 is the hello
        self._last = 0
        self._slots = trio.Semaphore(MAX_OUTSTANDING)
        self._waiting: dict[int, tuple[trio.Event, list[Answer]]] = {}

    @property
    def idle(self) -> bool:
        """Tell whether nobody waits for an answer."""
        return not self._waiting

    async def run(self) -> None:
        """Say hello and read answers until the stream ends."""
        try:
            while True:
                self._take(rpc.decode(await self._channel.receive()))
        except NodeError as error:
            log.debug("stream to %s ended: %s", self._channel.peer.hex()[:16], error)
        finally:
            self.dead = True
            for event, _ in self._waiting.values():
                event.set()
            await self._channel.close()

    def _take(self, message: Ask | Answer) -> None:
        if isinstance(message, Ask) or message.id > self._last:
            raise InvalidRecord("frame", "answers nothing that was asked")
        if message.id == 0:
            self.addrs = rpc.hello_args((message.result,))
        elif message.id in self._waiting:
            event, answers = self._waiting[message.id]
            answers.append(message)
            event.set()

    async def greet(self) -> None:
        """Say where we listen; the answer comes before any other."""
        await self._channel.send(rpc.encode(Ask(0, rpc.HELLO, (self._hello,))))

    async def ask(self, method: str, args: tuple[Any, ...]) -> Any:
        """Return the result. Raises Unreachable, or PeerFault with the peer's refusal."""
        async with self._slots:
            if self.dead:
                raise Unreachable("the stream to the peer has ended")
            number = self._last = next(self._numbers)
            event, answers = self._waiting[number] = (trio.Event(), [])
            try:
                await self._channel.send(rpc.encode(Ask(number, method, args)))
                await event.wait()
            finally:
                del self._waiting[number]
        if not answers:
            raise Unreachable("the stream to the peer has ended")
        if answers[0].error:
            raise PeerFault(answers[0].error)
        return answers[0].result

    async def close(self) -> None:
        """End the stream."""
        self.dead = True
        await self._channel.close()


class Calls:
    """Calls to peers and answers to theirs."""

    def __init__(self, streams: Streams, protocol: str) -> None:
        self._streams = streams
        self._protocol = protocol
        self._serve: Serve | None = None
        self._nursery: trio.Nursery | None = None
        self._links: OrderedDict[bytes, _Link] = OrderedDict()
        self._opening: dict[bytes, trio.Lock] = {}
        self._inbound: Counter[bytes] = Counter()
        self._quota: dict[bytes, tuple[float, float]] = {}  # tokens, when counted

    def start(self, nursery: trio.Nursery, serve: Serve) -> None:
        """Begin to answer with `serve`; links live in `nursery`."""
        self._nursery = nursery
        self._serve = serve
        self._streams.serve(self._protocol, self.answer, limit=rpc.FRAME_LIMIT)

    def addrs_of(self, node_id: bytes) -> tuple[str, ...]:
        """Return what a peer with an open stream said of where it listens, or nothing."""
        link = self._links.get(node_id)
        return link.addrs if link and not link.dead else ()

    def links(self) -> tuple[bytes, ...]:
        """Return the peers to whom a stream is open."""
        return tuple(node_id for node_id, link in self._links.items() if not link.dead)

    # ------------------------------------------------------------------ asking

    async def call(self, peer: Peer, method: str, args: tuple[Any, ...]) -> Any:
        """Ask; once more on a fresh stream if the one held fails.

        Raises Unreachable, or PeerFault with the peer's refusal.
        """
        held = self._links.get(peer.node_id)
        if held is not None and not held.dead:
            self._links.move_to_end(peer.node_id)
            try:
                return await self._ask(held, method, args)
            except Unreachable:
                await self.drop(peer.node_id)
        link = await self._link(peer)
        try:
            return await self._ask(link, method, args)
        except Unreachable:
            await self.drop(peer.node_id)
            raise

    async def drop(self, node_id: bytes) -> None:
        """Close our stream to a peer."""
        if link := self._links.pop(node_id, None):
            await link.close()

    async def _ask(self, link: _Link, method: str, args: tuple[Any, ...]) -> Any:
        try:
            with trio.fail_after(CALL_DEADLINE):
                return await link.ask(method, args)
        except trio.TooSlowError:
            raise Unreachable("the peer did not answer in time") from None

    async def _link(self, peer: Peer) -> _Link:
        if self._nursery is None:
            raise LocalFault("the DHT is not running")
        lock = self._opening.setdefault(peer.node_id, trio.Lock())
        try:
            async with lock:
                held = self._links.get(peer.node_id)
                if held is not None and not held.dead:
                    return held
                return await self._open(peer, self._nursery)
        finally:
            if not lock.locked():
                self._opening.pop(peer.node_id, None)

    async def _open(self, peer: Peer, nursery: trio.Nursery) -> _Link:
        while len(self._links) >= MAX_LINKS:
            oldest = next((n for n, x in self._links.items() if x.dead or x.idle), None)
            if oldest is None:
                raise Unreachable("too many peers are being asked at once")
            await self.drop(oldest)
        try:
            with trio.fail_after(DIAL_DEADLINE):
                channel = await self._streams.open(
                    peer.node_id, peer.addrs, self._protocol, limit=rpc.FRAME_LIMIT
                )
        except trio.TooSlowError:
            raise Unreachable("the peer did not answer in time") from None
        link = self._links[peer.node_id] = _Link(channel, self._streams.addrs())
        nursery.start_soon(link.run)
        await link.greet()
        return link

    # ------------------------------------------------------------------ answering

    async def answer(self, channel: Channel) -> None:
        """Answer one inbound stream until it ends. Raises InvalidRecord on garbage."""
        peer = channel.peer
        if self._inbound[peer] >= MAX_INBOUND_PER_PEER:
            return
        self._inbound[peer] += 1
        try:
            while True:
                ask = rpc.decode(await channel.receive())
                if not isinstance(ask, Ask):
                    raise InvalidRecord("frame", "is an answer on a stream for questions")
                await self._pace(peer)
                await channel.send(rpc.encode(self._answer(peer, ask)))
        finally:
            self._inbound[peer] -= 1
            if not self._inbound[peer]:
                del self._inbound[peer]

    def _answer(self, peer: bytes, ask: Ask) -> Answer:
        if self._serve is None:
            return Answer(ask.id, (), "is not running")
        try:
            return Answer(ask.id, self._serve(peer, ask))
        except InvalidRecord as error:
            return Answer(ask.id, (), str(error)[: rpc.MAX_ERROR_BYTES // 4] or "is invalid")
        except StorageFault as error:
            log.warning("the DHT cannot store: %s", error)
            return Answer(ask.id, (), "the disk of this node refuses")

    async def _pace(self, peer: bytes) -> None:
        """Spend one question of the peer's quota, waiting for it if need be."""
        now = trio.current_time()
        tokens, counted = self._quota.get(peer, (BURST, now))
        tokens = min(BURST, tokens + (now - counted) * RATE) - 1
        if len(self._quota) > MAX_QUOTAS:
            self._quota = {p: q for p, q in self._quota.items() if p in self._inbound}
        self._quota[peer] = (tokens, now)
        if tokens < 0:
            await trio.sleep(-tokens / RATE)
