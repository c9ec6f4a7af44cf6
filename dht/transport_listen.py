"""Listening sockets of the transport, and the addresses that others are told."""

import socket
from collections.abc import Sequence
from typing import Any

import trio

from dht import endpoint
from p2pnode.base.errors import InvalidRecord, Misconfigured


async def bind(addrs: Sequence[str]) -> list[trio.SocketListener]:
    """Return listening sockets. Raises Misconfigured."""
    listeners: list[trio.SocketListener] = []
    for addr in addrs:
        try:
            host, port, _ = endpoint.parse("listen", addr)
            listeners += await trio.open_tcp_listeners(port, host=host)
        except (InvalidRecord, OSError) as error:
            for listener in listeners:
                listener.socket.close()
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise Misconfigured(f"listen: {addr[:128]}: {why}", field="listen") from None
    return listeners


def text_of(listening: Any) -> str:
    """Return a bound socket's address as others may dial it."""
    host, port = listening.getsockname()[:2]
    kind = "ip6" if listening.family == socket.AF_INET6 else "ip4"
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = _outward(listening.family, host)
    return f"/{kind}/{host}/tcp/{port}"


def _outward(family: int, anywhere: str) -> str:
    """Return our address on the way out (no packet is sent), or loopback without a way."""
    probe = "2001:db8::1" if family == socket.AF_INET6 else "192.0.2.1"
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect((probe, 9))
        except OSError:
            return "::1" if anywhere == "::" else "127.0.0.1"
        return str(asking.getsockname()[0])
