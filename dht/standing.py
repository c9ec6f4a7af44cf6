"""What a peer has done to us: points that decay, and bans that say why and can be lifted.

Each misdeed costs points; they halve every ten minutes. At a hundred the key is banned, at
four hundred its subnet (`dht.subnets`; exempt networks never), for an hour at first and twice
as long each time, a day at the most. Silence costs nothing: a peer that is gone only leaves
the routing table. A node's owner bans and forgives by hand, `p2pnode net ban`.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from dht.subnets import IPNetwork, Subnets
from p2pnode.base import wire
from p2pnode.base.errors import Elsewhere, InvalidRecord

HALF_LIFE: Final = 600.0  # seconds
KEY_LIMIT: Final = 100.0  # points at which a key is banned
SUBNET_LIMIT: Final = 400.0  # and a subnet, for all its keys together
FIRST_BAN: Final = 3600  # seconds
LONGEST_BAN: Final = 24 * 3600
MAX_SUBJECTS: Final = 4096  # whose points are remembered; the stalest is forgotten
MAX_BANS: Final = 4096
MAX_REASON: Final = 200  # bytes
FOR_EVER: Final = 2**40  # unix seconds
HONEST: Final = ("kind", "version", "expires_at")  # a newer version's, or another clock's
_FAMILIES: Final = {4: ipaddress.IPv4Network, 6: ipaddress.IPv6Network}


class Event(Enum):
    """A misdeed: what it is called, and its points. An honest node does none of them often."""

    GARBAGE = ("sent frames that cannot be read", 25.0)
    LIE = ("served records that are not valid", 10.0)
    FORGED = ("had us check records that are not valid", 5.0)

    @property
    def words(self) -> str:
        """Return what a ban says of it."""
        return self.value[0]

    @property
    def points(self) -> float:
        """Return what it costs."""
        return self.value[1]


@dataclass(frozen=True, slots=True)
class Ban:
    """Who is kept out (a key in hex or a network), why, and until when, in unix seconds."""

    subject: str
    reason: str
    since: int
    until: int
    by_hand: bool = False


def subject_of(field: str, text: str) -> str:
    """Return a ban's subject: a node id in hex, an address or a network. Raises InvalidRecord."""
    text = text.strip().lower()
    if len(text) == 64 and all(c in "0123456789abcdef" for c in text):
        return text
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise InvalidRecord(
            field, "is neither a whole node id (64 hex digits) nor an IP address or network"
        ) from None


def is_lie(error: InvalidRecord) -> bool:
    """Tell whether a record is wrong in a way that no honest peer passes on."""
    return error.field not in HONEST and not isinstance(error, Elsewhere)


class Standing:
    """The points and bans of one node's peers. `now` is in unix seconds everywhere."""

    def __init__(self, subnets: Subnets, bans: Iterable[Ban] = ()) -> None:
        self._subnets = subnets
        self._points: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._bans: dict[str, Ban] = {}
        # (version, prefix length) -> networks banned: a question costs no more with 4,096 of them
        self._networks: dict[tuple[int, int], set[IPNetwork]] = {}
        for ban in bans:
            self._set(ban)

    def note(self, node_id: bytes, host: str, event: Event, now: int) -> list[Ban]:
        """Take note of a misdeed; return the bans that it brings."""
        made = []
        for subject, limit in (
            (node_id.hex(), KEY_LIMIT),
            (self._subnets.group(host) or "", SUBNET_LIMIT),
        ):
            if not subject:
                continue
            points = self.points(subject, now) + event.points
            self._points[subject] = (points, now)
            self._points.move_to_end(subject)
            if len(self._points) > MAX_SUBJECTS:
                self._points.popitem(last=False)
            if points >= limit and self._live(subject, now) is None:
                made.append(self._set(self._next(subject, event.words, now)))
        return made

    def points(self, subject: str, now: int) -> float:
        """Return what is held against a subject now."""
        points, at = self._points.get(subject, (0.0, now))
        return float(points * 0.5 ** (max(0, now - at) / HALF_LIFE))

    def barred(self, node_id: bytes, host: str, now: int) -> str:
        """Return why a key or an address is kept out, or nothing. Either may be empty."""
        if not self._bans:
            return ""
        if ban := self._live(node_id.hex(), now):
            return ban.reason
        if host and self._networks:
            try:
                address = ipaddress.ip_address(host)
            except ValueError:
                return ""
            address = getattr(address, "ipv4_mapped", None) or address
            for (version, bits), networks in self._networks.items():
                if version == address.version:
                    network = _FAMILIES[version]((int(address), bits), strict=False)
                    if network in networks and (ban := self._live(str(network), now)):
                        return ban.reason
        return ""

    def ban(self, subject: str, reason: str, seconds: int, now: int) -> Ban:
        """Keep a subject out by hand, for ever with 0 seconds. Raises InvalidRecord."""
        wire.text("reason", reason, MAX_REASON)
        until = now + seconds if seconds else FOR_EVER
        return self._set(Ban(subject_of("subject", subject), reason, now, until, by_hand=True))

    def lift(self, subject: str) -> Ban | None:
        """Let a subject in again and forget its points; return the ban lifted, or None."""
        self._points.pop(subject, None)
        return self._drop(subject)

    def bans(self, now: int) -> list[Ban]:
        """Return the bans in force, the latest first."""
        live = (ban for ban in self._bans.values() if ban.until > now)
        return sorted(live, key=lambda ban: (-ban.since, ban.subject))

    def _live(self, subject: str, now: int) -> Ban | None:
        ban = self._bans.get(subject)
        return ban if ban is not None and ban.until > now else None

    def _next(self, subject: str, why: str, now: int) -> Ban:
        """Return a ban twice as long as the last one, if that ended within a day."""
        last, seconds = self._bans.get(subject), FIRST_BAN
        if last is not None and not last.by_hand and now < last.until + LONGEST_BAN:
            seconds = min(LONGEST_BAN, 2 * (last.until - last.since))
        return Ban(subject, why, now, now + seconds)

    def _set(self, ban: Ban) -> Ban:
        """Put a ban in force; `BanStore.save` forgets the same ones in the file."""
        for old in [b.subject for b in self._bans.values() if b.until <= ban.since - LONGEST_BAN]:
            self._drop(old)
        self._bans[ban.subject] = ban
        if network := _network(ban.subject):
            self._networks.setdefault((network.version, network.prefixlen), set()).add(network)
        if len(self._bans) > MAX_BANS:
            self._drop(min(self._bans.values(), key=lambda b: _worth(b, ban.since)).subject)
        return ban

    def _drop(self, subject: str) -> Ban | None:
        if network := _network(subject):
            size = network.version, network.prefixlen
            self._networks.get(size, set()).discard(network)
            if not self._networks.get(size):
                self._networks.pop(size, None)
        return self._bans.pop(subject, None)


def _worth(ban: Ban, now: int) -> tuple[bool, int, int, str]:
    """Return what to order bans by: the least worth keeping is first."""
    return ban.by_hand and ban.until > now, ban.until, ban.since, ban.subject


def _network(subject: str) -> IPNetwork | None:
    return ipaddress.ip_network(subject) if "." in subject or ":" in subject else None
