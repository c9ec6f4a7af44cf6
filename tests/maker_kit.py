"""What tests of own offers share: a maker with a market, a reference and histories in memory."""

from typing import Any

from orderbook_kit import KEY, NET, TERMS, Counted, FakeClock, Market
from orderbook_kit import References as NoReferences

from orderbook.offer import Offer
from orderbook.own import OwnOffer
from orderbook.shell_maker import Maker
from p2pnode.base import wire
from p2pnode.base.history import NONE, History
from p2pnode.base.networks import Network
from p2pnode.base.store import Database

EUR = 61_240_000_000  # a reference price
FLOATING: dict[str, Any] = {k: v for k, v in TERMS.items() if k != "price"} | {
    "price": 0,
    "margin_bp": 120,
}


class References(NoReferences):
    """One for euros at first."""

    def __init__(self) -> None:
        super().__init__(EUR=EUR)


class Histories:
    def __init__(self) -> None:
        self.known: dict[bytes, History] = {}

    def history(self, node_id: bytes) -> History:
        return self.known.get(node_id, NONE)


class Shop:
    """One maker and all he stands on; `restart` is a new process on the same disk."""

    def __init__(self, network: Network = NET, database: Database | None = None) -> None:
        self.network, self.market, self.clock = network, Market(), FakeClock()
        self.references, self.histories = References(), Histories()
        self.database = database or Database(None)
        self.identity = KEY
        self.caps: dict[str, int] = {}
        self._starts = 0
        self.maker = self.restart()

    def restart(self) -> Maker:
        self._starts += 1
        self.maker = Maker(
            self.identity,
            self.network,
            self.clock,
            Counted(f"start {self._starts}"),
            self.database,
            self.market,
            references=self.references,
            histories=self.histories,
            caps=self.caps,
        )
        return self.maker

    async def create(self, **change: Any) -> OwnOffer:
        return await self.maker.create(**(TERMS | change))

    def published(self) -> list[Offer]:
        """Every version that left, oldest first, whatever it is worth by now."""
        return [self.read(raw) for raw in self.market.records]

    def shown(self) -> dict[bytes, Offer]:
        """What everybody sees now, by offer id: the newest of each place that lives."""
        newest: dict[tuple[str, bytes], Offer] = {}
        for offer in self.published():
            place = (offer.currency, offer.place)
            if place not in newest or newest[place].seq < offer.seq:
                newest[place] = offer
        now = self.clock.now()
        live = (o for o in newest.values() if not o.withdrawn and o.expires_at > now)
        return {offer.offer_id: offer for offer in live}

    def read(self, raw: bytes) -> Offer:
        """Read a version that was published, whatever the time is now."""
        body, _ = wire.unpack("offer", raw, limit=4096)
        return Offer.from_body(body, self.network)
