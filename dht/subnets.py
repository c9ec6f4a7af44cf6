"""Which subnet an address counts for: whoever holds one address there may hold them all.

A /24 of IPv4 and a /56 of IPv6 (what a provider hands to one customer) are one holder's.
"""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

LOOPBACK: Final[tuple[IPNetwork, ...]] = (
    ipaddress.IPv4Network("127.0.0.0/8"),
    ipaddress.IPv6Network("::1/128"),
)
IPV4_BITS: Final = 24
IPV6_BITS: Final = 56


class Subnets:
    """Groups addresses; those in an exempt network are in no group, so no cap holds for them."""

    def __init__(self, exempt: Iterable[IPNetwork] = LOOPBACK) -> None:
        self.exempt = tuple(exempt)
        self.group = lru_cache(4096)(self._group)

    def _group(self, host: str) -> str | None:
        """Return the subnet's text, or None if the host is exempt or not an IP address."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return None
        if isinstance(address, ipaddress.IPv6Address):
            address = address.ipv4_mapped or ipaddress.IPv6Address(int(address))  # no %scope
        if any(address in net for net in self.exempt):
            return None
        if isinstance(address, ipaddress.IPv4Address):
            return str(ipaddress.IPv4Network((address, IPV4_BITS), strict=False))
        return str(ipaddress.IPv6Network((address, IPV6_BITS), strict=False))
