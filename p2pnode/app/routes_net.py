"""`/v1/net`: the peers this node talks to, what it knows, whom it keeps out, its seed's entry."""

import ipaddress
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any, Final

import trio

from dht import bootstrap, endpoint
from dht.shell_node import Dht
from dht.standing import FOR_EVER, Ban, subject_of
from dht.transport_libp2p import Libp2pStreams
from p2pnode.app.routes import Call, Route
from p2pnode.base.errors import InvalidRecord, LocalFault, NotFound, UsageFault
from p2pnode.base.identity import Identity, peer_id
from p2pnode.base.networks import Network
from p2pnode.base.ports import Clock

SAMPLE_S: Final = 5.0
SAMPLES: Final = 13  # a minute of them
WIDEST_IPV4, WIDEST_IPV6 = 8, 16  # bits that a banned network names at least
MAX_BAN_S: Final = 366 * 86400
MIN_PREFIX: Final = 4  # hex digits
_LOOK: Final = ": `p2pnode net ban list` shows who is"


class LastMinute:
    """How often each counted thing has happened in the last minute."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self._seen: deque[tuple[float, Counter[str]]] = deque(maxlen=SAMPLES)
        self.sample(trio.current_time())

    async def run(self) -> None:
        """Look at the counters every few seconds, until cancelled."""
        while True:
            await trio.sleep(SAMPLE_S)
            self.sample(trio.current_time())

    def sample(self, now: float) -> None:
        """Remember what the counters say at `now`, in seconds."""
        self._seen.append((now, self._counts.copy()))

    def of(self, prefix: str, now: float) -> int:
        """Return how often names that begin so were counted, a minute, as of `now`."""
        began, then = self._seen[0]
        grown = sum(n - then[name] for name, n in self._counts.items() if name.startswith(prefix))
        return round(grown * 60 / max(now - began, SAMPLE_S))


def routes(
    dht: Dht,
    streams: Libp2pStreams,
    identity: Identity,
    network: Network,
    clock: Clock,
    minute: LastMinute,
) -> list[Route]:
    """Return the routes over a running DHT and its transport."""
    verbs = _Verbs(dht, streams, identity, network, clock, minute)
    return [
        Route("GET", "/v1/net/peers", verbs.peers, summary="The contacts in the routing table"),
        Route("GET", "/v1/net/dht", verbs.counts, summary="Where we listen, what the DHT does"),
        Route("GET", "/v1/net/bans", verbs.bans, summary="Who is kept out, why and how long"),
        Route("POST", "/v1/net/bans", verbs.ban, summary="Keep a node or a network out"),
        Route("POST", "/v1/net/bans/remove", verbs.lift, summary="Let somebody in again"),
        Route("POST", "/v1/net/seeds/sign", verbs.sign, summary="This node's entry as a seed"),
    ]


class _Verbs:
    def __init__(
        self,
        dht: Dht,
        streams: Libp2pStreams,
        identity: Identity,
        network: Network,
        clock: Clock,
        minute: LastMinute,
    ) -> None:
        self._dht, self._streams, self._minute = dht, streams, minute
        self._identity, self._network, self._clock = identity, network, clock

    # ------------------------------------------------------------------ what is there

    async def peers(self, _: Call) -> list[dict[str, Any]]:
        return [
            row | {"peer_id": peer_id(bytes.fromhex(row["node_id"]))}
            for row in self._dht.peer_rows()
        ]

    async def counts(self, _: Call) -> dict[str, Any]:
        now, came = trio.current_time(), self._streams.tally.counts["connections_in"]
        return {
            "node_id": self._streams.node_id.hex(),
            "peer_id": peer_id(self._streams.node_id),
            "addrs": list(self._streams.addrs()),
            **self._dht.view(),
            "inbound": self._streams.inbound(),
            "connected": len(self._streams.connected()),
            "reached": came,
            "lookups_minute": self._minute.of("lookups", now),
            "asked_minute": self._minute.of("asked_", now) - self._minute.of("asked_again", now),
            "answered_minute": self._minute.of("answered_", now),
            "counts": dict(self._dht.tally.counts),
            "transport_counts": dict(self._streams.tally.counts),
        }

    # ------------------------------------------------------------------ bans

    async def bans(self, _: Call) -> list[dict[str, Any]]:
        return [_plain(ban) for ban in self._dht.bans()]

    async def ban(self, call: Call) -> dict[str, Any]:
        seconds = call.integer("seconds", 0)
        if not 0 <= seconds <= MAX_BAN_S:
            raise UsageFault(f"seconds: is not 0 (for ever) to {MAX_BAN_S}", field="seconds")
        known = {peer.node_id.hex() for peer in self._dht.peers()}
        known |= {node_id.hex() for node_id in self._streams.connected()}
        subject = _subject(call.text("subject"), known, "peer: `p2pnode net peers` lists them")
        if subject == self._streams.node_id.hex():
            raise LocalFault("subject: is this node itself", field="subject")
        if len(subject) != 64:
            banned = ipaddress.ip_network(subject)
            widest = WIDEST_IPV4 if banned.version == 4 else WIDEST_IPV6
            if banned.prefixlen < widest:
                raise LocalFault(
                    f"subject: {banned} is wider than /{widest}: ban less at once",
                    field="subject",
                )
        return _plain(self._dht.ban(subject, call.text("reason", "banned by hand"), seconds))

    async def lift(self, call: Call) -> dict[str, Any]:
        known = {ban.subject for ban in self._dht.bans()}
        subject = _subject(
            call.text("subject"), known, "banned node: `p2pnode net ban list` shows them"
        )
        lifted = self._dht.lift(subject)
        if lifted is None:
            raise NotFound(
                f"subject: {subject} is not banned{_covering(subject, known)}", field="subject"
            )
        return _plain(lifted)

    # ------------------------------------------------------------------ our own entry

    async def sign(self, call: Call) -> dict[str, Any]:
        days = call.integer("days", 90)
        longest = bootstrap.MAX_LIFETIME // 86400
        if not 1 <= days <= longest:
            raise UsageFault(f"days: is not 1 to {longest}", field="days")
        told = call.body.get("addrs") or self._streams.addrs()
        if not isinstance(told, (list, tuple)) or not told:
            raise UsageFault("addrs: name at least one address with --addr", field="addrs")
        addrs = [self._own("addrs", addr) for addr in told]
        entry = bootstrap.sign(
            self._identity, self._network, addrs, self._clock.now() + days * 86400
        )
        return {"network": self._network.name, "entry": entry}

    def _own(self, field: str, value: object) -> str:
        """Return an address of ours without its /p2p part. Raises InvalidRecord."""
        _, _, node_id = endpoint.parse(field, value)
        if node_id not in (None, self._streams.node_id):
            raise InvalidRecord(field, "names another node than this one")
        return str(value).partition("/p2p/")[0]


def _plain(ban: Ban) -> dict[str, Any]:
    return {
        "subject": ban.subject,
        "reason": ban.reason,
        "since": ban.since,
        "until": None if ban.until >= FOR_EVER else ban.until,
        "by_hand": ban.by_hand,
    }


def _subject(text: str, known: Iterable[str], what: str) -> str:
    """Return whom `text` means; a node id may be cut short to what only one of `known` has."""
    prefix = text.strip().lower().removesuffix("…")
    if MIN_PREFIX <= len(prefix) < 64 and all(c in "0123456789abcdef" for c in prefix):
        found = [name for name in known if len(name) == 64 and name.startswith(prefix)]
        if len(found) == 1:
            return found[0]
        why = "fits several nodes: give more digits" if found else f"begins the id of no {what}"
        raise NotFound(f"subject: {prefix} {why}", field="subject")
    return subject_of("subject", text)


def _covering(subject: str, banned: Sequence[str] | set[str]) -> str:
    """Say what to do instead: remove the banned network that an address lies in, or look."""
    if len(subject) == 64:
        return _LOOK
    inner = ipaddress.ip_network(subject)
    for name in banned:
        outer = ipaddress.ip_network(name) if len(name) != 64 else None
        if outer and outer.version == inner.version and inner.subnet_of(outer):  # type: ignore[arg-type]
            return f" by itself: remove the ban of {name}"
    return _LOOK
