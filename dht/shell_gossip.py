"""The `Gossip` port over encrypted streams: gossipsub's sockets, clock and tasks.

    peer's stream to us ── read, judge, pass on (one task a peer) ──▶ Router
    Router ── outbox of each peer, bounded ── write (one task a peer) ──▶ our stream to it

A peer's messages are judged in the task that reads its stream: a peer waits for its own
messages alone, what it has sent meanwhile waits in the transport, and what goes wrong with
one ends one stream. A slow reader loses what its outbox cannot hold, and then its place.
"""

import logging
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from dht.endpoint import MAX_ADDRS, Peer, is_public
from dht.gossip import HEARTBEAT_S, Close, Router
from dht.gossip_leads import Leads
from dht.gossip_mesh import D
from dht.gossip_wire import FRAME_LIMIT, PROTOCOL
from dht.subnets import Subnets
from dht.tally import Tally
from dht.transport_pubsub import decode, encode
from p2pnode.base.errors import InvalidRecord, NodeError
from p2pnode.base.ports import Channel, Judge, Randomness, Reachable, Streams, Verdict

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = logging.getLogger(__name__)

MAX_OUTBOX: Final = 256 * 1024  # bytes that wait for one peer
WRITE_BYTES: Final = 64 * 1024  # of them written as one RPC
MAX_DIALS: Final = 8  # under way at a time
JUDGE_S: Final = 5.0  # seconds for a verdict
GRACE_S: Final = 10.0  # a dialled peer that stays for less counts as not reached


class _Link:
    """A peer: our stream to it, its stream to us, and what waits to be sent."""

    def __init__(self, peer: bytes, now: float) -> None:
        self.peer, self.since = peer, now
        self.writing = trio.CancelScope()
        self.reading: trio.CancelScope | None = None
        self._outbox: deque[bytes] = deque()
        self._size = 0
        self._filled = trio.Event()

    def put(self, raw: bytes) -> bool:
        """Queue an RPC; False if there is no room."""
        if self._size + len(raw) > MAX_OUTBOX:
            return False
        self._outbox.append(raw)
        self._size += len(raw)
        self._filled.set()
        return True

    async def take(self) -> bytes:
        """Return what waits, as one RPC."""
        while not self._outbox:
            self._filled = trio.Event()
            await self._filled.wait()
        parts = [self._outbox.popleft()]
        size = len(parts[0])
        while self._outbox and size + len(self._outbox[0]) <= WRITE_BYTES:
            parts.append(self._outbox.popleft())
            size += len(parts[-1])
        self._size -= size
        return b"".join(parts)


class Gossiper:
    """One node's gossip; `run` keeps it going, the port's methods work while it runs."""

    def __init__(
        self,
        streams: Streams,
        randomness: Randomness,
        *,
        subnets: Subnets | None = None,
        tally: Tally | None = None,
        anywhere: bool = True,
    ) -> None:
        """`anywhere`: addresses that are not public may be dialled on a stranger's word."""
        self.tally = tally or Tally()
        self._anywhere = anywhere
        self.router = Router(randomness, subnets or Subnets(), self.tally)
        self._streams = streams
        self._leads = Leads()
        self._judges: dict[str, Judge] = {}
        self._links: dict[bytes, _Link] = {}
        self._dialling: set[bytes] = set()
        self._nursery: trio.Nursery | None = None

    async def run(self, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._streams.serve(PROTOCOL, self._serve, limit=FRAME_LIMIT, varints=True)
            task_status.started()
            try:
                while True:
                    self.router.heartbeat(trio.current_time())
                    self._flush()
                    self._dial_more()
                    await trio.sleep(HEARTBEAT_S)
            finally:
                self._nursery = None
                for link in list(self._links.values()):
                    self._end(link)

    # ------------------------------------------------------------------ the port

    def join(self, topic: str, judge: Judge) -> None:
        """Take part in a topic. Raises LocalFault over the cap."""
        self.router.join(topic, trio.current_time())
        self._judges[topic] = judge
        self._flush()
        self._dial_more()

    def leave(self, topic: str) -> None:
        """Take part no longer."""
        self.router.leave(topic)
        self._judges.pop(topic, None)
        self._leads.forget(topic)
        self._flush()

    async def publish(self, topic: str, data: bytes) -> int:
        """Send a message of ours; returns to how many. Raises InvalidRecord if too long."""
        sent = self.router.publish(topic, data, trio.current_time())
        self._flush()
        await trio.lowlevel.checkpoint()
        return sent

    def meet(self, topic: str, peers: Sequence[Reachable]) -> None:
        """Name nodes that are said to be in a topic: as many as are wanted are dialled.

        Raises InvalidRecord for what is no address.
        """
        if topic not in self._judges:
            return
        others = [p for p in peers if p.node_id != self._streams.node_id]
        self._leads.note(topic, [Peer(p.node_id, self._dialable(p.addrs)) for p in others])
        for peer in others:
            self.router.name(peer.node_id)
        self._dial_more()

    def _dialable(self, addrs: Sequence[str]) -> tuple[str, ...]:
        kept = (addr for addr in addrs if self._anywhere or is_public(addr))
        return tuple(kept)[:MAX_ADDRS]

    # ------------------------------------------------------------------ streams

    async def _serve(self, channel: Channel) -> None:
        """Read a peer's stream; with it the peer goes."""
        try:
            await self._hear(channel)
        finally:
            await channel.reset()  # he only writes to it: that it is over he learns by this

    async def _hear(self, channel: Channel) -> None:
        link = self._links.get(channel.peer)
        if link is None:
            link = self._welcome(channel.peer, channel.host, named=self._is_lead(channel.peer))
            if link is None or self._nursery is None:
                return
            self._nursery.start_soon(partial(self._write, link, None))
        if link.reading is not None:
            link.reading.cancel()  # one stream a peer: the newest
        with trio.CancelScope() as scope:
            link.reading = scope
            try:
                await self._read(link, channel)
            finally:
                if link.reading is scope:
                    self._end(link)

    def _welcome(self, peer: bytes, host: str, *, named: bool) -> _Link | None:
        now = trio.current_time()
        if not self.router.connected(peer, host, named=named, now=now):
            self.tally.add("gossip_refused")
            self._flush()
            return None
        link = self._links[peer] = _Link(peer, now)
        self._flush()
        return link

    async def _read(self, link: _Link, channel: Channel) -> None:
        peer = link.peer
        while self._links.get(peer) is link:
            try:
                raw = await channel.receive()
                rpc = decode(raw)
            except InvalidRecord as error:
                self.router.broke(peer, trio.current_time())
                log.debug("gossip of %s: %s", peer.hex()[:16], error)
                return
            wait = self.router.pace(peer, rpc, trio.current_time(), len(raw))
            for topic, data in rpc.messages:
                await self._consider(peer, topic, data)
            self.router.control(peer, rpc, trio.current_time())
            self._flush()
            await trio.sleep(wait)

    async def _consider(self, peer: bytes, topic: str, data: bytes) -> None:
        """Have a message judged if it is new, and pass it on if it is accepted."""
        id = self.router.offered(peer, topic, data, trio.current_time())
        verdict: Verdict | None = None
        if id is None:
            self._flush()
            return
        try:
            with trio.move_on_after(JUDGE_S) as late:
                verdict = await self._judges[topic](data, peer)
            if late.cancelled_caught:
                verdict = Verdict.IGNORE
        except NodeError as error:
            log.warning("a message of %s could not be judged: %s", topic, error)
        finally:
            self.router.judged(peer, topic, data, id, verdict, trio.current_time())
            self._flush()

    async def _write(self, link: _Link, channel: Channel | None) -> None:
        """Send a peer what waits for it, until that fails; with it the peer goes."""
        try:
            with link.writing:
                channel = channel or await self._open(Peer(link.peer, ()))
                while True:
                    await channel.send(await link.take())
        except NodeError as error:
            log.debug("gossip to %s: %s", link.peer.hex()[:16], error)
        finally:
            self._end(link)
            if channel is not None:
                await channel.reset()

    async def _open(self, peer: Peer) -> Channel:
        return await self._streams.open(
            peer.node_id, peer.addrs, PROTOCOL, limit=FRAME_LIMIT, varints=True
        )

    def _flush(self) -> None:
        """Do what the core wants done."""
        out = self.router.out
        while out:
            effect = out.popleft()
            if isinstance(effect, Close):
                if (link := self._links.get(effect.peer)) is not None:
                    log.debug("gossip with %s ends: %s", effect.peer.hex()[:16], effect.why)
                    self._end(link)
                continue
            raw = encode(effect.rpc)
            for peer in effect.peers:
                link = self._links.get(peer)
                if link is not None and not link.put(raw):
                    self.tally.add("gossip_dropped")

    def _end(self, link: _Link) -> None:
        """Let a peer go."""
        if self._links.get(link.peer) is not link:
            return
        del self._links[link.peer]
        self.router.gone(link.peer)
        link.writing.cancel()
        if link.reading is not None:
            link.reading.cancel()
        if trio.current_time() < link.since + GRACE_S:
            self._leads.failed(link.peer, trio.current_time())

    # ------------------------------------------------------------------ dialling

    def _is_lead(self, peer: bytes) -> bool:
        return any(self._leads.known(topic, peer) for topic in self._judges)

    def _dial_more(self) -> None:
        """Dial until each topic has D peers that we chose."""
        if self._nursery is None:
            return
        now = trio.current_time()
        for topic in self._judges:
            skip = self._links.keys() | self._dialling
            on_the_way = sum(self._leads.known(topic, peer) for peer in self._dialling)
            lacking = D - self.router.named(topic) - on_the_way
            room = MAX_DIALS - len(self._dialling)
            for peer in self._leads.due(topic, min(lacking, room), now, self.router.shuffled, skip):
                self._dialling.add(peer.node_id)
                self._nursery.start_soon(self._dial, peer)

    async def _dial(self, peer: Peer) -> None:
        channel = None
        try:
            channel = await self._open(peer)
        except NodeError:
            self._leads.failed(peer.node_id, trio.current_time())
            self.tally.add("gossip_dials_failed")
            return
        finally:
            self._dialling.discard(peer.node_id)
        if peer.node_id in self._links:  # it was faster
            await channel.close()
            return
        link = self._welcome(peer.node_id, channel.host, named=True)
        if link is None or self._nursery is None:
            self._leads.failed(peer.node_id, trio.current_time())
            await channel.close()
            return
        self._nursery.start_soon(partial(self._write, link, channel))
