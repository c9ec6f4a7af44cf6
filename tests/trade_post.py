"""Streams in memory between whole nodes, and the thief who sits on them."""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import trio
import trio.testing

from escrow.messages import Kind, Message
from p2pnode.base.errors import Unreachable
from p2pnode.base.networks import NETWORKS
from p2pnode.base.ports import Channel, Handler

NET = NETWORKS["sandbox"]
TRADE = NET.protocol("trade")


@dataclass(frozen=True)
class Frame:
    """One message on its way, before the recipient has it."""

    sender: str
    recipient: str
    raw: bytes
    message: Message

    @property
    def kind(self) -> Kind:
        return self.message.kind


Hook = Callable[[Frame], Awaitable[Sequence[bytes]]]


class Post:
    """Carries frames between nodes. The hook returns what arrives instead: nothing, or many."""

    def __init__(self) -> None:
        self.handlers: dict[bytes, Handler] = {}  # of the trade's protocol
        self.others: dict[tuple[bytes, str], Handler] = {}  # of the rest, which no hook sees
        self.names: dict[bytes, str] = {}
        self.hook: Hook | None = None
        self.seen: list[Frame] = []
        self.nurseries: dict[bytes, trio.Nursery] = {}  # a node's streams die with it

    async def through(self, sender: bytes, recipient: bytes, raw: bytes) -> Sequence[bytes]:
        frame = Frame(self.names[sender], self.names[recipient], raw, Message.from_wire(raw, NET))
        self.seen.append(frame)
        return [raw] if self.hook is None else await self.hook(frame)


class _Pipe:
    """One end of a stream in memory; `peer` is whom the handshake would prove."""

    def __init__(self, peer: bytes, out: Any, into: Any) -> None:
        self.peer, self._out, self._into = peer, out, into
        self.host = self.addr = ""  # it has none

    async def send(self, payload: bytes) -> None:
        try:
            await self._out.send(payload)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Unreachable("the stream has ended") from None

    async def receive(self) -> bytes:
        try:
            found: bytes = await self._into.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError, trio.BrokenResourceError):
            raise Unreachable("the stream has ended") from None
        return found

    async def close(self) -> None:
        self._out.close()
        self._into.close()


class _Asking(_Pipe):
    """The dialler's end: what it sends goes through the post; the last answer is its own."""

    def __init__(self, pipe: _Pipe, post: Post, me: bytes) -> None:
        super().__init__(pipe.peer, pipe._out, pipe._into)
        self._post, self._me = post, me
        self._lost = False
        self._surplus: deque[int] = deque()  # answers to the thief's frames before each of ours

    async def send(self, payload: bytes) -> None:
        arriving = list(await self._post.through(self._me, self.peer, payload))
        if self._lost:
            return
        if not arriving:
            self._lost = True  # the frame, and the stream once what came before is answered
            if self._surplus:
                return
            await self.close()
            raise Unreachable("the frame was lost and the stream with it")
        self._surplus.append(len(arriving) - 1)
        for frame in (*arriving[1:], arriving[0]):
            await super().send(frame)

    async def receive(self) -> bytes:
        reply = await super().receive()
        for _ in range(self._surplus[0]):  # those before were answered to the thief
            reply = await super().receive()
        self._surplus.popleft()
        if self._lost and not self._surplus:
            await self.close()
        return reply


class MemoryStreams:
    """ports.Streams between the nodes of one rig."""

    def __init__(self, post: Post, node_id: bytes) -> None:
        self._post, self.node_id = post, node_id

    def addrs(self) -> tuple[str, ...]:
        return ("/memory",)

    def serve(self, protocol: str, handler: Handler, *, limit: int) -> None:
        if protocol == TRADE:
            self._post.handlers[self.node_id] = handler
        else:
            self._post.others[self.node_id, protocol] = handler

    async def open(
        self, peer: bytes, addrs: Sequence[str], protocol: str, *, limit: int, early: bool = False
    ) -> Channel:
        if protocol != TRADE:
            return connect(self._post, self.node_id, peer, protocol)
        return _Asking(connect(self._post, self.node_id, peer), self._post, self.node_id)


def connect(post: Post, me: bytes, peer: bytes, protocol: str = "") -> _Pipe:
    """Open a stream past the hook, as `me`."""
    handler = post.others.get((peer, protocol)) if protocol else post.handlers.get(peer)
    if handler is None or peer not in post.handlers:
        raise Unreachable("the peer is away")
    there, here = trio.open_memory_channel[bytes](1), trio.open_memory_channel[bytes](1)
    far = _Pipe(me, here[0], there[1])

    async def answer() -> None:
        try:
            await handler(far)
        finally:
            await far.close()

    post.nurseries[peer].start_soon(answer)
    return _Pipe(peer, there[0], here[1])
