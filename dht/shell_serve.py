"""The answering side of the DHT protocol: inbound streams, quotas, pushed news.

Each stream is answered in order by one task. What a peer listens to is pushed by a second
one from a bounded queue; a reader too slow for it loses the subscription, not the node's
memory.
"""

import logging
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any, Final

import trio

from dht import rpc
from dht.rpc import Answer, Ask, News
from dht.shell_rpc import Note
from dht.standing import Event
from dht.subnets import Subnets
from dht.tally import Tally
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, NodeError, StorageFault
from p2pnode.base.ports import Channel
from p2pnode.base.quota import Buckets

log = logging.getLogger(__name__)

MAX_INBOUND_PER_PEER: Final = 4  # streams one peer may hold open to us
RATE: Final = 200.0  # questions a second answered to one peer, lasting
BURST: Final = 400.0
SUBNET_RATE: Final = 400.0  # the same for all peers of one subnet
SUBNET_BURST: Final = 800.0
MAX_UNSENT: Final = 64  # news waiting for one slow reader
COSTS: Final = {rpc.STORE: 8, rpc.DIGEST: 4}  # in questions; any other is one
PLAIN_BYTES: Final = 512  # a question's bytes beside its blobs; as many again cost one more
BLOB_BYTES: Final = 4096  # the same for blobs, which are cheap to read


class Caller:
    """One inbound stream: who asks on it, and the way to push news to it."""

    def __init__(self, channel: Channel, scope: trio.CancelScope) -> None:
        self.peer, self.host = channel.peer, channel.host
        self._channel = channel
        self._scope = scope
        self._queue, self._unsent = trio.open_memory_channel[News](MAX_UNSENT)

    def push(self, number: int, raws: tuple[bytes, ...]) -> bool:
        """Queue news for the asker of `listen` number `number`; False if it reads too slowly."""
        try:
            self._queue.send_nowait(News(number, raws))
        except (trio.WouldBlock, trio.ClosedResourceError, trio.BrokenResourceError):
            return False
        return True

    async def carry(self) -> None:
        """Send what is pushed until the stream ends."""
        with suppress(NodeError):
            async for news in self._unsent:
                await self._channel.send(rpc.encode(news))

    def end(self) -> None:
        """End the stream: whoever listens on it then knows that news may be missing."""
        self._scope.cancel()

    def close(self) -> None:
        """Take no more news."""
        self._queue.close()
        self._unsent.close()


Serve = Callable[[Caller, Ask], Any]


class Service:
    """Answers every inbound stream with `serve`, within quotas."""

    def __init__(
        self,
        serve: Serve,
        ended: Callable[[Caller], None],
        barred: Callable[[bytes, str], str],
        note: Note,
        subnets: Subnets,
        tally: Tally,
    ) -> None:
        self._serve, self._ended, self._barred, self._note = serve, ended, barred, note
        self._subnets = subnets
        self._tally = tally
        self._inbound: Counter[bytes] = Counter()
        self._turn = trio.Lock()  # one costly question at a time: the others get a word in
        self._peers = Buckets(RATE, BURST)
        self._groups = Buckets(SUBNET_RATE, SUBNET_BURST)

    async def answer(self, channel: Channel) -> None:
        """Answer one inbound stream until it ends; garbage ends it."""
        peer = channel.peer
        if self._inbound[peer] >= MAX_INBOUND_PER_PEER or self._barred(peer, channel.host):
            self._tally.add("streams_refused")
            return
        self._inbound[peer] += 1
        scope = trio.CancelScope()
        caller = Caller(channel, scope)
        try:
            with scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(caller.carry)
                    await self._converse(caller, channel)
                    nursery.cancel_scope.cancel()
        except* InvalidRecord:
            self._tally.add("garbage")
            self._note(peer, channel.host, Event.GARBAGE)
        finally:
            caller.close()
            self._ended(caller)
            self._inbound[peer] -= 1
            if not self._inbound[peer]:
                del self._inbound[peer]

    async def _converse(self, caller: Caller, channel: Channel) -> None:
        try:
            while not self._barred(caller.peer, caller.host):
                raw = await channel.receive()
                ask = rpc.decode(raw)
                if not isinstance(ask, Ask):
                    raise InvalidRecord("frame", "is an answer on a stream for questions")
                await self._pace(caller, _cost(ask, len(raw)))
                async with self._turn if ask.method in COSTS else nullcontext():
                    answer = self._answer(caller, ask)
                await channel.send(rpc.encode(answer))
        finally:
            caller.close()

    def _answer(self, caller: Caller, ask: Ask) -> Answer:
        known = ask.method in rpc.METHODS
        self._tally.add(f"answered_{ask.method}" if known else "refused_method")
        try:
            return Answer(ask.id, self._serve(caller, ask))
        except InvalidRecord as error:
            self._tally.add("refused")
            return Answer(ask.id, (), wire.clipped(str(error), rpc.MAX_ERROR_BYTES) or "is invalid")
        except StorageFault as error:
            log.warning("the DHT cannot store: %s", error)
            return Answer(ask.id, (), "the disk of this node refuses")

    async def _pace(self, caller: Caller, cost: int) -> None:
        """Spend questions of the peer's and its subnet's quota, waiting for them if need be."""
        now = trio.current_time()
        wait = self._peers.spend(caller.peer, now, cost)
        if group := self._subnets.group(caller.host):
            wait = max(wait, self._groups.spend(group, now, cost))
        if wait:
            self._tally.add("quota_waits")
            await trio.sleep(wait)


def _cost(ask: Ask, size: int) -> int:
    """Return what a question of `size` bytes costs: ten thousand integers take milliseconds."""
    blobs = sum(len(arg) for arg in ask.args if isinstance(arg, bytes))
    return COSTS.get(ask.method, 1) + (size - blobs) // PLAIN_BYTES + blobs // BLOB_BYTES
