"""Questions and answers on persistent streams, one we opened to each peer we ask.

The caller of a stream asks, the other side answers in order, so a flood is slowed by its own
stream; on top each peer and each subnet has a quota. A question waits as long as the peer's
measured times say, then once more on a fresh stream. A peer that breaks the protocol loses
the stream (`dht.shell_link`). Besides answers a stream carries news of the keys that its
opener listens to.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import trio

from dht import rpc
from dht.admission import Full
from dht.endpoint import Peer
from dht.rtt import Rtts
from dht.shell_link import Heard, Link, Listener
from dht.standing import Event
from dht.tally import Tally
from p2pnode.base.errors import LocalFault, PeerFault, Unreachable
from p2pnode.base.ports import Streams

log = logging.getLogger(__name__)

DIAL_DEADLINE: Final = 4.0  # seconds for a new stream: a cold dial takes 9 round trips
DIAL_ROUNDS: Final = 14  # round trips granted to one, within that deadline
DIAL_MIN: Final = 1.5  # seconds granted to one at least
MAX_LINKS: Final = 256  # streams we hold open

Note = Callable[[bytes, str, Event], None]  # node id, host, what it did


class Calls:
    """The asking side of the DHT protocol over one transport."""

    def __init__(
        self, streams: Streams, protocol: str, rtts: Rtts, tally: Tally, *, limit: int = MAX_LINKS
    ) -> None:
        self.own = streams.node_id
        self._streams = streams
        self._protocol = protocol
        self._rtts = rtts
        self._tally = tally
        self._limit = limit
        self.warm: frozenset[bytes] = frozenset()  # peers whose streams are closed last
        self.broke: Note = lambda _peer, _host, _event: None  # a peer broke the protocol
        self._nursery: trio.Nursery | None = None
        self._links: OrderedDict[bytes, Link] = OrderedDict()
        self._opening: dict[bytes, trio.Lock] = {}

    def start(self, nursery: trio.Nursery) -> None:
        """Begin to open streams; they live in `nursery`."""
        self._nursery = nursery

    def link_of(self, node_id: bytes) -> Link | None:
        """Return the open stream to a peer, if there is one."""
        link = self._links.get(node_id)
        return link if link and not link.dead else None

    def links(self) -> tuple[bytes, ...]:
        """Return the peers to whom a stream is open."""
        return tuple(node_id for node_id, link in self._links.items() if not link.dead)

    async def call(
        self, peer: Peer, method: str, args: tuple[Any, ...], *, dialled: bool = False
    ) -> Any:
        """Ask; once more on a fresh stream if the one held fails.

        With `dialled` on a connection that we made at one of the peer's addresses. Raises
        Unreachable, or PeerFault with the peer's refusal.
        """
        self._tally.add(f"asked_{method}")
        held = self._held(peer, dialled=dialled)
        if held is not None:
            self._links.move_to_end(peer.node_id)
            try:
                return await self._ask(peer.node_id, held, method, args)
            except Unreachable:
                self._tally.add("asked_again")
                await self.drop(peer.node_id, held)
        link = await self._link(peer, dialled=dialled)
        try:
            return await self._ask(peer.node_id, link, method, args)
        except Unreachable:
            await self.drop(peer.node_id, link)
            raise

    async def listen(
        self,
        peer: Peer,
        kind: str,
        key: bytes,
        seconds: int,
        take: Heard,
        ended: Callable[[], None],
    ) -> int:
        """Have a peer push what it newly holds under a key to `take`; return the seconds granted.

        `ended` is called once if the stream ends. Raises Unreachable, PeerFault, InvalidRecord.
        """
        self._tally.add("asked_listen")
        link = self.link_of(peer.node_id) or await self._link(peer)
        before = link.heard_by(take)
        args = (kind, key, seconds)
        try:
            answer = await self._ask(
                peer.node_id, link, rpc.LISTEN, args, Listener(take, ended) if seconds else None
            )
        except Unreachable:  # granted late, its news would be of a question long given up
            await self.drop(peer.node_id, link)
            raise
        granted = rpc.granted_in(answer)
        # Only now: until the peer has read the new question, news comes under the old one.
        link.forget(before if granted else link.heard_by(take))
        return granted

    async def unlisten(self, node_id: bytes, kind: str, key: bytes, take: Heard) -> None:
        """Have a peer push no more of a key to `take`. Raises Unreachable, PeerFault."""
        if link := self.link_of(node_id):
            link.forget(link.heard_by(take))
            done = False
            try:
                await self._ask(node_id, link, rpc.LISTEN, (kind, key, 0))
                done = True
            finally:
                if not done:  # else it may go on telling us, which we would hold against it
                    with trio.CancelScope(shield=True):
                        await self.drop(node_id, link)

    async def drop(self, node_id: bytes, link: Link | None = None) -> None:
        """Close our stream to a peer, or this one of them."""
        held = self._links.get(node_id)
        if held is not None and link in (None, held):
            del self._links[node_id]
            await held.close()

    async def _ask(
        self,
        node_id: bytes,
        link: Link,
        method: str,
        args: tuple[Any, ...],
        listener: Listener | None = None,
    ) -> Any:
        asked = trio.current_time()
        try:
            with trio.fail_after(self._rtts.hard(node_id)):
                answer = await link.ask(method, args, listener)
        except trio.TooSlowError:
            self._rtts.late(node_id)
            self._tally.add("timed_out")
            raise Unreachable("the peer did not answer in time") from None
        except PeerFault:
            self._rtts.observe(node_id, trio.current_time() - asked)
            raise
        self._rtts.observe(node_id, trio.current_time() - asked)
        return answer

    def _held(self, peer: Peer, *, dialled: bool) -> Link | None:
        link = self.link_of(peer.node_id)
        return link if link and (not dialled or link.addr in peer.addrs) else None

    async def _link(self, peer: Peer, *, dialled: bool = False) -> Link:
        if self._nursery is None:
            raise LocalFault("the DHT is not running")
        lock = self._opening.setdefault(peer.node_id, trio.Lock())
        try:
            async with lock:
                held = self._held(peer, dialled=dialled)
                return held or await self._open(peer, self._nursery, dialled=dialled)
        finally:
            if not lock.locked():
                self._opening.pop(peer.node_id, None)

    def _leaver(self) -> bytes:
        """Return whose stream makes room: one that nobody waits on, used longest ago."""
        idle = [n for n, link in self._links.items() if link.dead or link.idle]
        if not idle:
            raise Full("too many peers are being asked at once")
        return next((n for n in idle if n not in self.warm), idle[0])

    async def _open(self, peer: Peer, nursery: trio.Nursery, *, dialled: bool) -> Link:
        while len(self._links) >= self._limit:
            await self.drop(self._leaver())
        wait = DIAL_ROUNDS * (self._rtts.mean(peer.node_id) or DIAL_DEADLINE)
        try:
            with trio.fail_after(min(DIAL_DEADLINE, max(DIAL_MIN, wait))):
                channel = await self._streams.open(
                    peer.node_id,
                    peer.addrs,
                    self._protocol,
                    limit=rpc.FRAME_LIMIT,
                    dialled=dialled,
                )
        except trio.TooSlowError:
            raise Unreachable("the peer did not answer in time") from None
        if old := self._links.pop(peer.node_id, None):
            nursery.start_soon(old.retire)  # what was asked on it is still answered
        link = self._links[peer.node_id] = Link(channel, self._streams.addrs())
        nursery.start_soon(self._run, peer.node_id, link)
        await link.greet()
        return link

    async def _run(self, node_id: bytes, link: Link) -> None:
        await link.run()
        if link.broke:
            self._tally.add("garbage")
            self.broke(node_id, link.host, Event.GARBAGE)
