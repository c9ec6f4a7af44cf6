"""The peers this node knows by experience: the routing table, fed by answers alone.

A peer enters the table after it answered a question of ours on a connection that we made, at
an address that it stated itself; one that fails us twice leaves it. A caller who says where
he listens is asked back there. What peers do to us is held against them (`dht.standing`).
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Final

import trio

from dht import endpoint, rpc
from dht.admission import Full
from dht.endpoint import Peer, merge_peers
from dht.routing import Table
from dht.rtt import SOFT_MAX, Rtts
from dht.shell_link import Link
from dht.shell_rpc import Calls
from dht.standing import Ban, Event, Standing
from dht.subnets import Subnets
from p2pnode.base.errors import InvalidRecord, PeerFault, Unreachable
from p2pnode.base.ports import Clock
from p2pnode.base.quota import Buckets

log = logging.getLogger(__name__)

MAX_MEETING: Final = 32  # newcomers asked back at a time
MAX_ASKED_BACK: Final = 4096  # callers remembered as asked back
CHECK_AFTER: Final = 60.0  # seconds without news before a full bucket's oldest is asked
ELSEWHERE_RATE: Final = 1 / 6  # addresses a second that callers of one subnet have us dial where
ELSEWHERE_BURST: Final = 20.0  # they do not call from; the same of all callers for one subnet there
COLD_LIMIT: Final = 2.0  # seconds a lookup waits for a peer to whom no stream is open


class Contacts:
    """The routing table and the calls that keep it true."""

    def __init__(
        self,
        calls: Calls,
        table: Table,
        rtts: Rtts,
        standing: Standing,
        subnets: Subnets,
        clock: Clock,
        *,
        anywhere: bool,
    ) -> None:
        self.table, self.standing = table, standing
        self.met: Callable[[Peer], None] = lambda _peer: None  # a newcomer is in the table
        self.banned: Callable[[list[Ban]], None] = lambda _bans: None
        self._calls, self._rtts, self._subnets, self._clock = calls, rtts, subnets, clock
        self._anywhere = anywhere  # private addresses may be dialled on a stranger's word
        self._nursery: trio.Nursery | None = None
        self._heard: dict[bytes, float] = {}
        self._meeting: set[bytes] = set()
        self._asked_back: OrderedDict[bytes, float] = OrderedDict()
        self._elsewhere = Buckets(ELSEWHERE_RATE, ELSEWHERE_BURST)
        calls.broke = self.note

    def start(self, nursery: trio.Nursery) -> None:
        """Begin to ask newcomers back, in `nursery`."""
        self._nursery = nursery

    # ------------------------------------------------------------------ asking

    async def call(
        self, peer: Peer, method: str, args: tuple[Any, ...], *, dialled: bool = False
    ) -> Any:
        """Ask a peer; who answers becomes a contact, who fails twice stops being one.

        Raises Unreachable, or PeerFault with the peer's refusal.
        """
        known = self.table.addrs_of(peer.node_id)
        if known and known != peer.addrs:
            peer = merge_peers([Peer(peer.node_id, known), peer])[0]
        if self.kept_out(peer):
            raise Unreachable("the peer is banned")
        try:
            result = await self._calls.call(peer, method, args, dialled=dialled)
        except Full:
            raise  # we have no room: its place in the table is not for that
        except Unreachable:
            await self.fail(peer.node_id)
            raise
        except PeerFault:
            self._answered(peer.node_id)
            raise
        self._answered(peer.node_id)
        return result

    async def ping(self, peer: Peer, *, dialled: bool = False) -> bool:
        """Tell whether the peer answers; with `dialled`, at one of its addresses."""
        try:
            await self.call(peer, rpc.PING, (), dialled=dialled)
        except (Unreachable, PeerFault):
            return False
        return True

    async def fail(self, node_id: bytes) -> None:
        """Forget a peer that did not answer, or not by the protocol."""
        self.table.drop(node_id)
        self._heard.pop(node_id, None)
        await self._calls.drop(node_id)

    async def lied(self, node_id: bytes) -> None:
        """Hold it against a peer that its answer cannot be read, or its records are not valid."""
        link = self._calls.link_of(node_id)
        self.note(node_id, link.host if link else "", Event.LIE)
        await self.fail(node_id)

    def patience(self, node_id: bytes) -> float:
        """Return after how many seconds a lookup goes on without the peer."""
        link = self._calls.link_of(node_id)
        if link is None:
            return SOFT_MAX
        soft = self._rtts.soft(node_id)
        return 0.0 if link.overdue(trio.current_time() - soft) else soft

    def limit(self, node_id: bytes) -> float:
        """Return after how many seconds a lookup gives the peer up."""
        return self._rtts.hard(node_id) if self._calls.link_of(node_id) else COLD_LIMIT

    def heard(self, node_id: bytes) -> float | None:
        """Return when a contact last answered, on the clock of trio."""
        return self._heard.get(node_id)

    # ------------------------------------------------------------------ standing

    def barred(self, node_id: bytes, host: str) -> str:
        """Return why a peer is kept out, or nothing."""
        return self.standing.barred(node_id, host, self._clock.now())

    def kept_out(self, peer: Peer) -> bool:
        """Tell whether a contact's key is banned, or each of its addresses."""
        hosts = [endpoint.parse("addr", addr)[0] for addr in peer.addrs]
        return bool(self.barred(peer.node_id, "")) or (
            bool(hosts) and all(self.barred(peer.node_id, host) for host in hosts)
        )

    def note(self, node_id: bytes, host: str, event: Event) -> None:
        """Hold a misdeed against a peer and its subnet."""
        bans = self.standing.note(node_id, host, event, self._clock.now())
        for ban in bans:
            log.warning("banned %s until %s: %s", ban.subject[:64], ban.until, ban.reason)
        if bans:
            self.banned(bans)

    def party(self, node_id: bytes, host: str) -> object:
        """Return whose share of this node's room a peer takes: its subnet's, else its own."""
        return self._subnets.group(host) or node_id

    def group_of(self, peer: Peer) -> str | None:
        """Return the subnet that a peer's first address counts for, a name being its own."""
        for addr in peer.addrs:
            host = endpoint.parse("addr", addr)[0]
            if group := self._subnets.group(host):
                return group
            if not endpoint.is_ip(host):
                return ".".join(host.lower().split(".")[-2:])
        return None

    def dialable(self, peers: Iterable[Peer]) -> list[Peer]:
        """Return the peers that a stranger named, without addresses he must not make us dial."""
        if self._anywhere:
            return list(peers)
        kept = (Peer(p.node_id, tuple(filter(endpoint.is_public, p.addrs))) for p in peers)
        return [peer for peer in kept if peer.addrs]

    # ------------------------------------------------------------------ meeting

    def greeted(self, peer: Peer, host: str) -> None:
        """Take note of a hello from `host`: ask the caller back if it may become a contact."""
        for named in self.dialable([peer]):
            known = self.table.addrs_of(named.node_id)
            news = set(known) != set(named.addrs)
            wanted = news and (known or self.table.wants(named.node_id))
            if wanted and self._first(named) and self._may_dial(named, host):
                self._meet(named)

    def _may_dial(self, peer: Peer, host: str) -> bool:
        """Tell whether a caller may have us dial: strangers must not aim us at others."""
        now, caller = trio.current_time(), self._subnets.group(host)
        for addr in peer.addrs:
            there = endpoint.parse("addr", addr)[0]
            group = self._subnets.group(there)
            if there == host or (group is None and endpoint.is_ip(there)):
                continue  # where it calls from, or exempt
            for name in (("from", caller), ("to", group or there)):
                if not self._elsewhere.take(name, now):
                    return False
        return True

    def _first(self, peer: Peer) -> bool:
        """Tell whether a caller has not been asked back lately; else two could go on for ever."""
        now = trio.current_time()
        if self._asked_back.get(peer.node_id, -CHECK_AFTER) + CHECK_AFTER > now:
            return False
        self._asked_back[peer.node_id] = now
        self._asked_back.move_to_end(peer.node_id)
        if len(self._asked_back) > MAX_ASKED_BACK:
            self._asked_back.popitem(last=False)
        return True

    def _answered(self, node_id: bytes) -> None:
        """Welcome a peer that answered where it says it listens: its word over others'."""
        link = self._calls.link_of(node_id)
        if link is None or not link.addr or not link.addrs or self.barred(node_id, link.host):
            return
        proved = link.addr if link.addr in link.addrs else self._resolved(link)
        stated = [a for p in self.dialable([Peer(node_id, link.addrs)]) for a in p.addrs]
        if proved:
            addrs = tuple(dict.fromkeys((proved, *stated)))[: endpoint.MAX_ADDRS]
        else:  # nobody has seen it there: told to others it would aim them at whom it likes
            addrs = (link.addr,)
            self.greeted(Peer(node_id, tuple(stated)), link.host)
        peer = Peer(node_id, addrs)
        known = node_id in self.table
        oldest = self.table.welcome(peer, self._subnets.group(link.host))
        self._heard[node_id] = now = trio.current_time()
        if len(self._heard) > 4 * len(self.table) + 64:
            self._heard = {n: t for n, t in self._heard.items() if n in self.table}
        if oldest and self._heard.get(oldest.node_id, -CHECK_AFTER) + CHECK_AFTER <= now:
            self._meet(oldest, dialled=False)
        if not known and node_id in self.table:
            self.met(peer)

    def _resolved(self, link: Link) -> str:
        """Return the address, of those a peer states, that the name we dialled has led to."""
        port = endpoint.parse("addr", link.addr)[1]
        kind = "ip6" if ":" in link.host else "ip4"
        addr = f"/{kind}/{link.host}/tcp/{port}"
        return addr if addr in link.addrs else ""

    def _meet(self, peer: Peer, *, dialled: bool = True) -> None:
        """Ask a peer, in the background, whether it is there, at an address it stated."""
        if self._nursery is None or len(self._meeting) >= MAX_MEETING:
            return
        if peer.node_id not in self._meeting:
            self._meeting.add(peer.node_id)
            self._nursery.start_soon(self._meet_one, peer, dialled)

    async def _meet_one(self, peer: Peer, dialled: bool) -> None:
        try:
            await self.ping(peer, dialled=dialled)
        except InvalidRecord:
            await self.lied(peer.node_id)
        finally:
            self._meeting.discard(peer.node_id)
