"""A market's offers by gossip (docs/wire/gossip.md): the second path, and the fastest.

    topic     /p2pnode/<network>/book/<currency>/1          message     the offer's bytes

A message goes into the book before it goes on, through the one way in that verifies. What is
not valid is rejected, and whoever brings it loses standing; what is beaten, expired, or has
long been known is ignored, since an honest node may not know yet, and a replay moves nothing.
An edit costs its maker no work, so of one offer so many versions a minute are passed on; the
others reach every book by its holders and by repair, the last of them alone.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Protocol

import trio

from orderbook.offer import MAX_BYTES, Offer
from p2pnode.base.networks import Network
from p2pnode.base.ports import Gossip, Reachable, Verdict
from p2pnode.base.quota import Buckets

FRESH_S: Final = 30.0  # an offer that came by another path so lately is still passed on
MAX_FRESH: Final = 4096
VERSIONS: Final = 8  # of one maker's slot that are passed on at once
VERSION_S: Final = 30.0  # and one more after so long


class Taken(Protocol):
    """What became of offers that were brought to the book."""

    @property
    def news(self) -> Sequence[object]:
        """Return those that changed it."""
        ...

    @property
    def lies(self) -> int:
        """Return how many no honest node sends."""
        ...


class Held(Protocol):
    """What must be known of the book."""

    def knows(self, raw: bytes) -> bool:
        """Tell whether these very bytes are held, and so were verified."""
        ...


Take = Callable[[Sequence[bytes], str], Awaitable[Taken]]


def topic_of(network: Network, currency: str) -> str:
    """Return the topic of a market."""
    return f"/p2pnode/{network.name}/book/{currency}/1"


class MarketGossip:
    """The `Spread` of a book: one topic a market."""

    def __init__(self, gossip: Gossip, network: Network, held: Held) -> None:
        self._gossip, self._network, self._held = gossip, network, held
        self._take: Take | None = None
        self._fresh: OrderedDict[bytes, tuple[float, bool]] = OrderedDict()  # SHA-256 -> when
        # it came, and whether it may go on
        self._paces = Buckets(1 / VERSION_S, VERSIONS)  # of places

    def feed(self, take: Take) -> None:
        """Bring what is heard to the book by `take(raws, currency)`."""
        self._take = take

    def heard(self, offer: Offer, raw: bytes) -> None:
        """Take note of an offer that has changed the book, by whatever path."""
        now = trio.current_time()
        goes_on = self._paces.take((offer.currency, offer.place), now)
        self._fresh[hashlib.sha256(raw).digest()] = (now, goes_on)
        while self._fresh:
            oldest, _ = next(iter(self._fresh.values()))
            if oldest + FRESH_S > now and len(self._fresh) <= MAX_FRESH:
                break
            self._fresh.popitem(last=False)

    def join(self, currency: str) -> None:
        """Hear of a market's offers, and pass on what is valid. Raises LocalFault."""
        self._gossip.join(topic_of(self._network, currency), partial(self._judge, currency))

    def leave(self, currency: str) -> None:
        """Hear of it no longer."""
        self._gossip.leave(topic_of(self._network, currency))

    def meet(self, currency: str, peers: Sequence[Reachable]) -> None:
        """Name nodes that follow the market."""
        self._gossip.meet(topic_of(self._network, currency), peers)

    async def publish(self, currency: str, raw: bytes) -> int:
        """Tell an offer of our own; returns to how many peers."""
        return await self._gossip.publish(topic_of(self._network, currency), raw)

    async def _judge(self, currency: str, raw: bytes, peer: bytes) -> Verdict:
        """Take a message into the book. Raises StorageFault."""
        if len(raw) > MAX_BYTES:
            return Verdict.REJECT
        hashed = hashlib.sha256(raw).digest()
        if self._held.knows(raw):
            came, goes_on = self._fresh.get(hashed, (float("-inf"), False))
            fresh = came + FRESH_S > trio.current_time()
            return Verdict.ACCEPT if fresh and goes_on else Verdict.IGNORE
        if self._take is None:
            return Verdict.IGNORE
        taken = await self._take([raw], currency)
        if taken.lies:
            return Verdict.REJECT
        _, goes_on = self._fresh.get(hashed, (0.0, True))
        return Verdict.ACCEPT if taken.news and goes_on else Verdict.IGNORE
