"""Host names of peers, resolved within bounds of their own.

Whoever states a name chooses where it leads and how slowly: lookups have threads of their
own, so that they hold up nothing else, and on a public network a name leads to public
addresses alone, as an address on a stranger's word does (`dht.endpoint.is_public`).
"""

import ipaddress
import socket
from functools import partial
from typing import Final

import trio

from dht import endpoint
from p2pnode.base.errors import Unreachable

THREADS: Final = 8  # names looked up at a time
MAX_HOSTS: Final = 4  # addresses of one name that are dialled


class Names:
    """The resolver of one transport; `anywhere` lets names lead to private addresses."""

    def __init__(self, *, anywhere: bool) -> None:
        self._anywhere = anywhere
        self._threads = trio.CapacityLimiter(THREADS)

    async def hosts(self, host: str) -> list[str]:
        """Return the IP addresses to dial. Raises Unreachable, OSError."""
        if endpoint.is_ip(host):
            return [host]
        ask = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
        told = await trio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=self._threads)  # type: ignore[call-arg]  # stubs
        found = list(dict.fromkeys(str(entry[4][0]) for entry in told))
        kept = [h for h in found if self._anywhere or ipaddress.ip_address(h).is_global]
        if not kept:
            raise Unreachable("the name leads to no address that may be dialled")
        return kept[:MAX_HOSTS]
