"""Own offers through any verbs, trades, prices, times and deaths: what others see is what holds."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from maker_kit import EUR, Shop
from orderbook_kit import KEY, NET

from orderbook.offer import Offer
from orderbook.own import OfferState, OwnOffer, Triggers
from orderbook.shell_upkeep import TICK_S
from p2pnode.base.errors import LocalFault
from p2pnode.base.store import Database

VERBS = (
    "create",
    "edit",
    "disable",
    "enable",
    "withdraw",
    "clone",
    "reserve",
    "release",
    "trigger",
)
WORLD = ("refresh", "hour", "midnight", "crash", "down", "up", "fall", "rise")
steps = st.lists(
    st.tuples(st.sampled_from(VERBS + WORLD), st.integers(0, 7)), min_size=1, max_size=25
)


class Story:
    """One run: a shop, what was done to it, and every version that left with its seq."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "node.sqlite"
        self.shop = Shop(replace(NET, offer_bits=4), Database(self.path, durable=False))
        self.trades: list[bytes] = []
        self.seen = 0
        self.by_seq: dict[int, bytes] = {}

    def pick(self, n: int) -> OwnOffer | None:
        mine = self.shop.maker.mine()
        return mine[n % len(mine)] if mine else None

    async def do(self, what: str, n: int) -> None:
        shop, maker = self.shop, self.shop.maker
        match what:
            case "create":
                await shop.create(currency="EUR" if n % 3 else "USD", ends_in_s=3600 * (n % 2))
            case "refresh":
                shop.clock.time += 600
            case "hour":
                shop.clock.time += 3600
            case "midnight":
                shop.clock.time += 86_400 - shop.clock.time % 86_400 - 30 * n
            case "down" | "up":
                shop.market.down = what == "down"
            case "fall" | "rise":
                shop.references.prices["EUR"] = EUR * (90 if what == "fall" else 110) // 100
            case "release" if self.trades:
                maker.release(self.trades.pop(n % len(self.trades)))
            case _ if own := self.pick(n):
                await self._to(own, what, n)

    async def _to(self, own: OwnOffer, what: str, n: int) -> None:
        maker, offer_id = self.shop.maker, own.offer_id
        acts: dict[str, Callable[[], Any]] = {
            "edit": lambda: maker.edit(offer_id, {"terms": f"edit {n}", "price": EUR + n}),
            "trigger": lambda: maker.edit(offer_id, {}, triggers=Triggers(below=EUR - 1)),
            "disable": lambda: maker.disable(offer_id),
            "enable": lambda: maker.enable(offer_id),
            "withdraw": lambda: maker.withdraw(offer_id),
            "clone": lambda: self.shop.create(terms=own.offer.terms),
        }
        if what == "reserve":
            trade_id = len(self.by_seq).to_bytes(16, "big") + bytes([n]) * 16
            maker.reserve(offer_id, trade_id)
            self.trades.append(trade_id)
        elif what in acts:
            await acts[what]()

    async def live(self, left: list[tuple[str, int]]) -> bool:
        """Do what is left until the process dies; returns whether nothing is left to do."""
        while left:
            what, n = left.pop(0)
            if what == "crash":
                return False
            with suppress(LocalFault):  # refused in this state: nothing is to have changed
                await self.do(what, n)
            if n % 2:
                await trio.sleep(TICK_S)
            self.check_versions()
        self.shop.market.down = False
        await trio.sleep(3 * TICK_S)
        await trio.testing.wait_all_tasks_blocked()
        self.check_versions()
        self.check_settled()
        return True

    def check_versions(self) -> None:
        """No seq has two versions, and each was one that everybody could read when it left."""
        for raw in self.shop.market.records[self.seen :]:
            offer = Offer.from_wire(raw, network=self.shop.network, now=self.shop.clock.time)
            assert self.by_seq.setdefault(offer.seq, raw) == raw
            assert offer.maker == KEY.node_id
        self.seen = len(self.shop.market.records)

    def check_settled(self) -> None:
        """Once the network is there, it shows exactly what is enabled, each in a place of its own."""
        maker, now = self.shop.maker, self.shop.clock.time
        enabled = {own.offer_id: own for own in maker.enabled()}
        assert self.shop.shown() == {i: own.offer for i, own in enabled.items()}
        places = [(own.offer.currency, own.offer.slot) for own in enabled.values()]
        assert len(set(places)) == len(places)
        for own in maker.mine():
            assert not (own.enabled and (maker.crossed(own) or 0 < own.ends_at <= now))
            assert (own.state is OfferState.RESERVED) == (own.trade_id is not None)


async def play(folder: Path, told: list[tuple[str, int]]) -> None:
    story = Story(folder)
    left, over = list(told), False
    while not over:
        async with trio.open_nursery() as process:
            process.start_soon(story.shop.maker.run)
            over = await story.live(left)
            process.cancel_scope.cancel()
        story.shop.database = Database(story.path, durable=False)
        story.shop.restart()


@settings(max_examples=60, deadline=None)
@given(told=steps)
def test_whatever_happens_the_network_shows_what_its_maker_has_enabled(
    told: list[tuple[str, int]],
) -> None:
    with TemporaryDirectory() as folder:
        clock = trio.testing.MockClock(autojump_threshold=0)
        trio.run(play, Path(folder), told, clock=clock)
