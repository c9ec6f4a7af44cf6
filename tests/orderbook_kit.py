"""What the order book's tests share: identities, an offer, ports in memory."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from orderbook import work
from orderbook.offer import Offer, Side
from orderbook.shell_book import Book
from orderbook.shell_maker import Maker
from p2pnode.base import wire
from p2pnode.base.errors import Unreachable
from p2pnode.base.identity import Identity
from p2pnode.base.networks import NETWORKS
from p2pnode.base.store import Database

NET = NETWORKS["sandbox"]
NOW = 1_800_000_000
KEY = Identity.grind(NET, b"maker".ljust(32))
OTHER = Identity.grind(NET, b"other".ljust(32))


def offer(**change: Any) -> Offer:
    values: dict[str, Any] = {
        "network": NET,
        "offer_id": bytes(16),
        "maker": KEY.node_id,
        "side": Side.SELL,
        "currency": "EUR",
        "min_sat": 200_000,
        "max_sat": 1_000_000,
        "price": 61_240_000_000,
        "methods": ("CUSTOM",),
        "terms": "no calls",
        "expires_at": NOW + 1500,
    }
    return worked(Offer(**(values | change)))


def worked(made: Offer) -> Offer:
    """Give an offer the work that its slot and day ask for, unless it has it."""
    day = work.day_of(made.expires_at)
    if made.work_bits >= work.needed_bits(made.network, made.slot):
        return made
    place = (made.network, made.maker, made.currency, made.slot, day)
    return replace(made, work=work.find(*place, start=0, tries=1 << 24))


def signed_body(body: Any, identity: Identity = KEY) -> bytes:
    """Sign what is no offer, as a malicious maker can."""
    signable = body if isinstance(body, (list, tuple)) else [body]
    hashed = wire.digest(wire.tag("sandbox", "offer"), signable)
    return wire.pack((body, identity.sign(hashed)))


class FakeClock:
    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> int:
        return self.time


class Counted:
    """Bytes that differ from call to call and repeat from run to run."""

    def __init__(self, seed: str = "seed") -> None:
        self._seed, self._count = seed, 0

    def bytes(self, count: int) -> bytes:
        self._count += 1
        return hashlib.shake_256(f"{self._seed}/{self._count}".encode()).digest(count)


class Market:
    """All nodes' record store in memory; keeps every record, oldest first, as a liar could."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.down = False
        self.holders = 4

    async def put(self, raw: bytes) -> int:
        if self.down:
            raise Unreachable("no peer answered in time")
        if self.holders:
            self.records.append(raw)
        return self.holders

    async def find(self, market: str) -> tuple[bytes, ...]:
        if self.down:
            raise Unreachable("no peer answered in time")
        return tuple(self.records)

    def last(self, now: int) -> Offer:
        return Offer.from_wire(self.records[-1], network=NET, now=now)


class References:
    """Reference prices that a test sets; none at first."""

    def __init__(self, **prices: int) -> None:
        self.prices = prices

    def reference(self, currency: str) -> int:
        return self.prices.get(currency, 0)


def make_book(
    market: Market,
    clock: FakeClock,
    identity: Identity = KEY,
    database: Database | None = None,
    seed: str = "seed",
    references: References | None = None,
) -> Book:
    kept = database or Database(None)
    maker = Maker(identity, NET, clock, Counted(seed), kept, market, references=references)
    return Book(maker, clock, market)


TERMS: dict[str, Any] = {
    "side": Side.SELL,
    "currency": "EUR",
    "min_sat": 200_000,
    "max_sat": 1_000_000,
    "price": 61_240_000_000,
    "accounts": {"CUSTOM": b"\x07" * 32},
}


def values(offers: Sequence[Offer]) -> list[int]:
    return [o.price for o in offers]
