"""Which strangers' connections are let in, before a handshake has cost anything.

Ids are cheap and addresses less so: one address and one subnet (`dht.subnets`) may hold a
share of the places, and may begin handshakes at a rate; all subnets together have a rate too,
since they are not scarce for everybody. Whoever has not proved a key within the crowd of
those who have not makes room for the next; when every place is taken by known peers, the most
crowded subnet gives one back. Loopback is exempt by configuration.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dht.subnets import Subnets
from p2pnode.base.errors import Unreachable
from p2pnode.base.quota import Buckets

HANDSHAKE_RATE: Final = 5.0  # a second from one subnet, lasting: each costs some 8 ms of a core
HANDSHAKE_BURST: Final = 50.0
HANDSHAKE_RATE_ALL: Final = 50.0  # and from all: less than half a core
HANDSHAKE_BURST_ALL: Final = 500.0


class Full(Unreachable):
    """This node has no room for another connection or stream: no fault of the peer's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many connections a node takes part in."""

    inbound: int = 512  # connections others have made to us
    strangers: int = 128  # of them those whose handshake has not ended
    per_address: int = 32
    per_subnet: int = 64
    outbound: int = 512
    per_peer: int = 8


SEED_LIMITS: Final = Limits(inbound=4096, strangers=512, outbound=1024)


@dataclass(slots=True, eq=False)
class Guest:
    """An inbound connection; `close` ends it at once."""

    host: str
    close: Callable[[], None]
    known: bool = False  # its key is proved


class Door:
    """The inbound connections of one node."""

    def __init__(self, limits: Limits, subnets: Subnets) -> None:
        self._limits, self._subnets = limits, subnets
        self._guests: dict[Guest, None] = {}  # oldest first
        self._hosts: Counter[str] = Counter()
        self._groups: Counter[str] = Counter()
        self._paces = Buckets(HANDSHAKE_RATE, HANDSHAKE_BURST)
        self._pace_all = Buckets(HANDSHAKE_RATE_ALL, HANDSHAKE_BURST_ALL)

    def __len__(self) -> int:
        return len(self._guests)

    def admit(self, guest: Guest, now: float) -> Guest | None:
        """Return whom to close: the guest himself if he may not enter, or who gives him place."""
        group = self._subnets.group(guest.host)
        if group is not None and (
            self._hosts[guest.host] >= self._limits.per_address
            or self._groups[group] >= self._limits.per_subnet
            or not self._paces.take(group, now)
            or not self._pace_all.take("all", now)
        ):
            return guest
        leaver = self._leaver()
        if leaver is None and len(self._guests) >= self._limits.inbound:
            return guest
        if leaver is not None:
            self.leave(leaver)
        self._guests[guest] = None
        self._hosts[guest.host] += 1
        if group is not None:
            self._groups[group] += 1
        return leaver

    def leave(self, guest: Guest) -> None:
        """Take note that a connection has ended."""
        if guest not in self._guests:
            return
        del self._guests[guest]
        _less(self._hosts, guest.host)
        if group := self._subnets.group(guest.host):
            _less(self._groups, group)

    def _leaver(self) -> Guest | None:
        strangers = [guest for guest in self._guests if not guest.known]
        full = len(self._guests) >= self._limits.inbound
        if strangers and (full or len(strangers) >= self._limits.strangers):
            return strangers[0]
        if not full or not self._groups:
            return None
        group, crowd = self._groups.most_common(1)[0]
        if crowd < 2:
            return None  # nobody holds more than his share
        return next(g for g in reversed(self._guests) if self._subnets.group(g.host) == group)


def _less(counts: Counter[str], name: str) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]
