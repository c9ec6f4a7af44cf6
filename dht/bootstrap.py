"""bootstrap_nodes.json: whom a newcomer asks first (docs/wire/dht.md, "Bootstrap").

    {"version": 1, "networks": {
        "main": {"signed_only": true, "seeds": [
            {"peer_id": "12D3…", "addrs": ["/dns4/…/tcp/…"],
             "expires_at": 1800000000, "signature": "…"}]},
        "sandbox": [{"peer_id": "12D3…", "addrs": ["/ip4/…/tcp/…"]}]}}

A seed signs its entry with its own key, so that a list can be passed on by anybody: no
address can be put into a signed entry, and it goes stale by itself. A bad entry is named
and skipped; a file that is not of this shape at all is an error. Times in unix seconds.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from dht import endpoint
from dht.endpoint import Peer
from p2pnode.base import identity, wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.identity import Identity, check_node_id, node_id_of
from p2pnode.base.networks import NETWORKS, Network
from p2pnode.base.units import moment

VERSION: Final = 1
MAX_FILE_BYTES: Final = 256 * 1024
MAX_SEEDS: Final = 256  # a network
MAX_LIFETIME: Final = 366 * 24 * 3600  # seconds that a signature may reach ahead
SIGNED, UNSIGNED, EXPIRED = "signed", "unsigned", "expired"
BAD_SIGNATURE, INVALID = "bad signature", "invalid"
_ENTRY: Final = frozenset({"peer_id", "addrs", "expires_at", "signature"})
_LIST: Final = frozenset({"signed_only", "seeds"})
_HEX: Final = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one entry is worth: `why` it is skipped, or nothing if it can be used."""

    index: int
    state: str  # one of the five above
    why: str = ""
    peer: Peer | None = None
    expires_at: int | None = None

    @property
    def peer_id(self) -> str | None:
        """Return the peer id's text, if the entry has a good one."""
        return identity.peer_id(self.peer.node_id) if self.peer else None


@dataclass(frozen=True, slots=True)
class Listing:
    """One network's list, checked; `why` it is skipped as a whole, or nothing."""

    network: str
    signed_only: bool = False
    findings: tuple[Finding, ...] = ()
    why: str = ""

    def peers(self) -> tuple[Peer, ...]:
        """Return the usable seeds, entries of the same node joined."""
        good = [f.peer for f in self.findings if f.peer and not f.why]
        return endpoint.merge_peers(good)

    def complaints(self) -> tuple[str, ...]:
        """Return a sentence for each entry that is skipped, naming it."""
        where = f"networks.{self.network}"
        bad = [f"{where}[{f.index}].{f.why}" for f in self.findings if f.why]
        return (*([f"{where}: {self.why}"] if self.why else []), *bad)


def seeds(text: str, network: Network, now: int) -> tuple[tuple[Peer, ...], tuple[str, ...]]:
    """Return the usable seeds of one network, and a sentence for each entry skipped.

    Raises InvalidRecord if the file as a whole cannot be used.
    """
    value = _networks(text).get(network.name)
    if value is None:
        return (), ()
    listing = _listing(network.name, value, now)
    return listing.peers(), listing.complaints()


def verify(text: str, now: int) -> tuple[Listing, ...]:
    """Check a whole file. Raises InvalidRecord if it cannot be used as a whole."""
    return tuple(_listing(name, value, now) for name, value in _networks(text).items())


def sign(seed: Identity, network: Network, addrs: Sequence[str], expires_at: int) -> dict[str, Any]:
    """Return a seed's entry, signed by its own key. Raises InvalidRecord for a bad address."""
    entry = {
        "peer_id": identity.peer_id(seed.node_id),
        "addrs": list(_addrs(list(addrs))),
        "expires_at": wire.within("expires_at", expires_at, 0, 2**53 - 1),
    }
    message = _message(network, seed.node_id, tuple(addrs), expires_at)
    return entry | {"signature": seed.sign(message).hex()}


def _message(network: Network, node_id: bytes, addrs: tuple[str, ...], expires_at: int) -> bytes:
    return wire.tag(network.name, "seed") + wire.pack((node_id, addrs, expires_at))


# ------------------------------------------------------------------ reading


def _networks(text: str) -> dict[str, Any]:
    if len(text) > MAX_FILE_BYTES:
        raise InvalidRecord("file", f"is larger than {MAX_FILE_BYTES} characters")
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise InvalidRecord("file", "is not JSON with each name once") from None
    if not isinstance(value, dict):
        raise InvalidRecord("file", "is not a JSON object")
    if type(value.get("version")) is not int or value["version"] != VERSION:
        raise InvalidRecord("version", f"is not {VERSION}")
    networks = value.get("networks")
    if not isinstance(networks, dict) or any(not _is_list(x) for x in networks.values()):
        raise InvalidRecord("networks", "is not an object of lists")
    return networks


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name appears twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _is_list(value: object) -> bool:
    if isinstance(value, dict):
        return (
            set(value) <= _LIST
            and type(value.get("signed_only", False)) is bool
            and isinstance(value.get("seeds"), list)
        )
    return isinstance(value, list)


def _listing(name: str, value: Any, now: int) -> Listing:
    if name not in NETWORKS:
        return Listing(_shown(name), why=f"is none of {', '.join(NETWORKS)}")
    signed_only, entries = False, value
    if isinstance(value, dict):
        signed_only, entries = value.get("signed_only", False), value["seeds"]
    findings = tuple(
        _judge(index, entry, NETWORKS[name], now, signed_only)
        for index, entry in enumerate(entries[:MAX_SEEDS])
    )
    over = f"has more than {MAX_SEEDS} entries; the rest is skipped"
    return Listing(name, signed_only, findings, over if len(entries) > MAX_SEEDS else "")


def _shown(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name[:40])


def _judge(index: int, entry: object, network: Network, now: int, signed_only: bool) -> Finding:
    """Say what an entry is worth; an error in it ends there."""
    try:
        peer, expires_at, signature = _fields(entry, network)
    except InvalidRecord as error:
        return Finding(index, INVALID, str(error))
    if expires_at is None or signature is None:
        why = "signature: is missing, and this list takes signed entries only"
        return Finding(index, UNSIGNED, why if signed_only else "", peer)
    try:
        message = _message(network, peer.node_id, peer.addrs, expires_at)
        identity.verify("signature", peer.node_id, message, signature)
    except InvalidRecord as error:
        return Finding(index, BAD_SIGNATURE, str(error), peer, expires_at)
    if expires_at <= now:
        why = f"expires_at: was {_when(expires_at)}; its operator can sign it anew"
        return Finding(index, EXPIRED, why, peer, expires_at)
    if expires_at > now + MAX_LIFETIME:
        why = f"expires_at: is more than {MAX_LIFETIME // 86400} days ahead"
        return Finding(index, INVALID, why, peer, expires_at)
    return Finding(index, SIGNED, "", peer, expires_at)


def _when(seconds: int) -> str:
    return moment(seconds) if seconds < 2**37 else f"{seconds}"  # what a calendar can hold


def _fields(entry: object, network: Network) -> tuple[Peer, int | None, bytes | None]:
    if not isinstance(entry, dict):
        raise InvalidRecord("entry", "is not an object")
    if foreign := sorted(set(entry) - _ENTRY):
        raise InvalidRecord("entry", f"has a name that is not known: {_shown(foreign[0])}")
    name = entry.get("peer_id")
    if not isinstance(name, str):
        raise InvalidRecord("peer_id", "is not text")
    node_id = check_node_id("peer_id", node_id_of(name), network)
    peer = Peer(node_id, _addrs(entry.get("addrs")))
    if not {"expires_at", "signature"} & set(entry):
        return peer, None, None
    expires_at = wire.within("expires_at", entry.get("expires_at"), 0, 2**53 - 1)
    return peer, expires_at, _signature(entry.get("signature"))


def _addrs(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise InvalidRecord("addrs", "is not a list of addresses")
    return endpoint.dialable("addrs", tuple(value))


def _signature(value: object) -> bytes:
    if not isinstance(value, str) or len(value) != 128 or not _HEX.issuperset(value):
        raise InvalidRecord("signature", "is not 128 lower-case hex digits")
    return bytes.fromhex(value)
