"""Where a peer can be reached: the subset of multiaddr text that this node dials.

    /ip4/192.0.2.7/tcp/4001   /ip6/2001:db8::7/tcp/4001   /dns4/seed.example/tcp/4001

with an optional `/p2p/<peer id>` behind it (multiformats multiaddr spec). Everything
else is refused by name, so that no stranger chooses what our resolver or dialler does.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.identity import node_id_of

MAX_ADDR_BYTES: Final = 128
MAX_ADDRS: Final = 4
_HOST_KINDS: Final = ("ip4", "ip6", "dns4", "dns6", "dns")
_LABEL: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


@dataclass(frozen=True, slots=True)
class Peer:
    """A node and where it was last said to be; an address may be stale, the id cannot lie."""

    node_id: bytes
    addrs: tuple[str, ...]


def parse(field: str, value: object) -> tuple[str, int, bytes | None]:
    """Return host, port and the node id if one is named. Raises InvalidRecord."""
    text = wire.text(field, value, MAX_ADDR_BYTES, low=1)
    try:
        return _split(text)
    except ValueError as error:
        raise InvalidRecord(field, str(error)) from None


@lru_cache(8192)  # an answer names twenty peers that we know already
def _split(text: str) -> tuple[str, int, bytes | None]:
    parts = text.split("/")
    if len(parts) not in (5, 7) or parts[0] or parts[3] != "tcp":
        raise ValueError("is not /ip4|ip6|dns4|dns6|dns/HOST/tcp/PORT[/p2p/PEER_ID]")
    host = _host(parts[1], parts[2])
    port = parts[4]
    if not (port.isascii() and port.isdecimal() and 0 < len(port) <= 5 and int(port) < 65536):
        raise ValueError("has no port in 0..65535")
    if len(parts) == 5:
        return host, int(port), None
    if parts[5] != "p2p":
        raise ValueError("has something other than /p2p/PEER_ID behind the port")
    return host, int(port), node_id_of(parts[6])


def _host(kind: str, host: str) -> str:
    if kind not in _HOST_KINDS:
        raise ValueError(f"has a host that is none of {', '.join(_HOST_KINDS)}")
    if kind in ("ip4", "ip6"):
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            raise ValueError("has no valid IP address") from None
        if address.version != int(kind[-1]) or "%" in host:
            raise ValueError(f"has no {kind} address")
        return host
    labels = host.split(".")
    if len(host) > 100 or any(not 0 < len(x) < 64 or not _LABEL.issuperset(x) for x in labels):
        raise ValueError("has no valid host name")
    return host


@lru_cache(8192)
def is_ip(host: str) -> bool:
    """Tell whether a host is an address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@lru_cache(8192)
def is_public(addr: str) -> bool:
    """Tell whether an address may be dialled on a stranger's word: a name, or a global IP."""
    host = parse("addr", addr)[0]
    return not is_ip(host) or ipaddress.ip_address(host).is_global


def dialable(field: str, value: object) -> tuple[str, ...]:
    """Return at most 4 plain addresses (no peer id, a real port). Raises InvalidRecord."""
    addrs = wire.items(field, value, MAX_ADDRS)
    for addr in addrs:
        _, port, node_id = parse(field, addr)
        if node_id is not None or port == 0:
            raise InvalidRecord(field, "is not a plain address with a port")
    return addrs


def parse_peer(field: str, value: object) -> Peer:
    """Return the peer that `…/p2p/PEER_ID` names (`--bootstrap`). Raises InvalidRecord."""
    _, port, node_id = parse(field, value)
    if node_id is None or port == 0:
        raise InvalidRecord(field, "does not end in /tcp/PORT/p2p/PEER_ID")
    return Peer(node_id, (str(value).rsplit("/p2p/", 1)[0],))


def merge_peers(peers: Sequence[Peer]) -> tuple[Peer, ...]:
    """Join entries of the same node, first addresses first, at most 4 each."""
    addrs: dict[bytes, dict[str, None]] = {}
    for peer in peers:
        addrs.setdefault(peer.node_id, {}).update(dict.fromkeys(peer.addrs))
    return tuple(Peer(node, tuple(found)[:MAX_ADDRS]) for node, found in addrs.items())
