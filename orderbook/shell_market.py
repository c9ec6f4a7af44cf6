"""One market followed: the DHT's holders and the market's servers, united and kept so.

    start ──▶ hear the holders ─────────────────────────── push ──▶ intake
          └─▶ servers ──▶ first sync ──▶ every few minutes compare with two of them

The first sync of an empty book asks each server for its share of the market, then compares
with each of them, so that what only one has is fetched and one that omits costs nothing. A book
that holds offers already is compared with one server first, then with the others at once.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import trio

from orderbook import market_server
from orderbook.omission import Omissions
from orderbook.shell_intake import Taken
from orderbook.shell_repair import repair
from orderbook.shell_rooms import Rooms
from orderbook.shell_share import Job, Told, share_out
from orderbook.shell_source import Session, Source, TakeRaws, session
from p2pnode.base import ranges
from p2pnode.base.errors import InvalidRecord, NodeError, PeerFault, StorageFault, Unreachable
from p2pnode.base.ranges import Item

log: Final = logging.getLogger(__name__)

MAX_SOURCES: Final = 8  # servers asked in one sync
LOCATED: Final = 16  # of which they are drawn
FIRST_SOURCES: Final = 5  # of them in the first
COMPARE_EVERY: Final = 180.0  # seconds, and up to half as much longer
COMPARE_WITH: Final = 2
STALE_S: Final = 1800.0  # after which a server that was not asked again does not count
SOON: Final = 10.0  # seconds until servers are looked for again while too few, doubled each time
ENOUGH: Final = 3  # subnets of servers levelled with
HEAR_AGAIN: Final = 0.5  # seconds, doubled up to
HEAR_MOST: Final = 30.0
DROP_S: Final = 3600.0  # for which a source that sent what is not valid is not asked
SLOW_S: Final = 60.0  # the same for one that could not be reached or was too slow
LOCATE_S: Final = 5.0
COMPARE_S: Final = 40.0  # for the comparisons of one round


class Market:
    """One followed market; `run` keeps it whole until cancelled."""

    def __init__(
        self, currency: str, rooms: Rooms, met: Callable[[Sequence[Source]], None]
    ) -> None:
        self.currency = currency
        self._rooms, self._met = rooms, met
        self._heard = trio.Event()  # what the holders had is here
        self._levelled = trio.Event()  # what the servers had, too
        self._again = trio.Event()  # compare at once
        self._levelled_at: dict[bytes, tuple[float, object]] = {}  # server -> when, its subnet
        self.omissions = Omissions()

    async def whole(self) -> None:
        """Return when what holders and servers had at first is here."""
        await self._heard.wait()
        await self._levelled.wait()

    @property
    def is_whole(self) -> bool:
        """Tell whether that is so by now."""
        return self._heard.is_set() and self._levelled.is_set()

    async def run(self) -> None:
        """Hear, sync, compare, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hear)
            nursery.start_soon(self._level)

    # ------------------------------------------------------------------ pushed

    async def _hear(self) -> None:
        pause = HEAR_AGAIN
        while True:
            began = trio.current_time()
            try:
                await self._rooms.crowd.hear(self.currency, self._take, self._heard.set)
                self._rooms.tally.add("news_interrupted")
            except NodeError as error:
                log.info("%s: the market's holders tell nothing: %s", self.currency, error)
            self._heard.set()  # nobody waits for what does not come now
            pause = HEAR_AGAIN if trio.current_time() > began + HEAR_MOST else 2 * pause
            await trio.sleep(min(pause, HEAR_MOST))
            self._again.set()

    async def _take(self, raws: Sequence[bytes]) -> Taken:
        return await self._rooms.intake.take(raws, self.currency)

    # ------------------------------------------------------------------ servers

    @property
    def servers(self) -> list[bytes]:
        """Return the servers that we have lately levelled with."""
        since = trio.current_time() - STALE_S
        return [node_id for node_id, (at, _) in self._levelled_at.items() if at > since]

    @property
    def apart(self) -> int:
        """Tell of how many subnets these are."""
        return len({self._levelled_at[node_id][1] for node_id in self.servers})

    @property
    def united(self) -> int:
        """Tell of how many sources the book is made: servers' subnets, and holders beside them."""
        return self.apart + len(self._rooms.crowd.holders(self.currency) - {*self.servers})

    async def _level(self) -> None:
        soon = SOON
        while True:
            found = await self._servers()
            async with self._rooms.turns:
                try:
                    await self._round(found)
                except StorageFault as error:
                    log.warning("%s: the book cannot be read: %s", self.currency, error)
            self._levelled.set()
            few = self.apart < ENOUGH
            wait, soon = (soon if few else COMPARE_EVERY), (2 * soon if few else SOON)
            wait = min(wait, COMPARE_EVERY)
            share = int.from_bytes(self._rooms.random.bytes(4), "big") / 2**32
            with trio.move_on_after(wait * (1 + share / 2)):
                await self._again.wait()
            self._again = trio.Event()

    async def serve(self, sign: Callable[[str], bytes]) -> None:
        """Say that this node serves the market, once it has it, until cancelled."""
        await self.whole()
        while True:
            pause = market_server.RENEW_S
            try:
                if self._rooms.streams.addrs():
                    await self._rooms.crowd.serve(sign(self.currency))
            except NodeError as error:
                log.info("%s: we are not found as a server: %s", self.currency, error)
                pause = market_server.RETRY_S
            await trio.sleep(pause)

    async def _servers(self) -> list[Source]:
        """Return the servers of the market that may be asked, located."""
        rooms, now = self._rooms, self._rooms.clock.now()
        try:
            raws = await rooms.crowd.servers(self.currency)
        except NodeError as error:
            log.info("%s: servers cannot be looked for: %s", self.currency, error)
            return []
        named = set()
        for raw in raws[: market_server.MAX_SERVERS]:
            try:
                server = market_server.parse(raw, rooms.network, now)
            except InvalidRecord:
                continue
            out = rooms.kept_out.get(server.node_id, 0.0) > trio.current_time()
            if server.currency == self.currency and not out:
                named.add(server.node_id)
        named.discard(rooms.streams.node_id)
        since = trio.current_time() - STALE_S
        self._levelled_at = {n: seen for n, seen in self._levelled_at.items() if seen[0] > since}
        found: list[Source] = []

        async def locate(node_id: bytes) -> None:
            with trio.move_on_after(LOCATE_S):
                try:
                    addrs = await rooms.crowd.locate(node_id)
                except NodeError:
                    return
                if addrs:
                    found.append(Source(node_id, addrs))

        drawn = rooms.some([Source(node_id, ()) for node_id in sorted(named)], LOCATED)
        async with trio.open_nursery() as nursery:
            for source in drawn:
                nursery.start_soon(locate, source.node_id)
        chosen = rooms.apart(found, MAX_SOURCES)
        self._met(chosen)
        return chosen

    async def _round(self, found: list[Source]) -> None:
        """Level with servers: at first with several, later with one or two drawn by lot."""
        first, ours = not self._levelled.is_set() or self.apart < ENOUGH, self._items()
        chosen = found[: FIRST_SOURCES if first else COMPARE_WITH]
        with trio.move_on_after(COMPARE_S):
            if not first or ours:
                compare = partial(self._compare, ours)
                while chosen and not await self._asked(chosen.pop(0), compare, self._take):
                    pass
                ours = self._items() if chosen else []
            elif chosen:
                told = await self._share_out(chosen)
                ours = self._items()
                chosen = [source for source in chosen if not self._equal(source, told, ours)]
            compare = partial(self._compare, ours)
            async with trio.open_nursery() as nursery:
                for source in chosen:
                    nursery.start_soon(self._asked, source, compare, self._take)
        now = trio.current_time()
        if withheld := self.omissions.news(now):
            self._rooms.tally.add("omitted", withheld)
            for node_id, number in self.omissions.omitted(now).items():
                log.warning(
                    "%s: %s withholds %d offers that others hold",
                    *(self.currency, node_id.hex()[:16], number),
                )

    async def _share_out(self, sources: list[Source]) -> dict[bytes, Told]:
        """Fetch the whole market, each source sending its share; return what they say they hold."""

        async def ask(source: Source, job: Job) -> bool:
            return await self._asked(source, job, self._collect)

        told = await share_out(sources, ask)
        try:
            self._rooms.intake.flush()
        except StorageFault as error:
            log.warning("%s: the book cannot be kept: %s", self.currency, error)
        return told

    def _equal(self, source: Source, told: dict[bytes, Told], ours: list[Item]) -> bool:
        """Tell whether a source has said on the way that it holds what we hold now."""
        host, parts = told.get(source.node_id, ("", []))
        if not parts or any(ranges.differing(ours, b"", parts)):
            return False
        now = trio.current_time()
        self._rooms.tally.add("comparisons")
        self.omissions.have((hashed for _, hashed in ours), now)
        self.omissions.compared(source.node_id, frozenset(), now)
        crowd = self._rooms.crowd_of(source.node_id, host)
        self._levelled_at[source.node_id] = (now, crowd)
        return True

    async def _compare(self, ours: list[Item], opened: Session) -> None:
        rooms = self._rooms
        self.omissions.have((hashed for _, hashed in ours), trio.current_time())
        rooms.tally.add("comparisons")
        compared = await repair(opened, ours)
        rooms.tally.add("repaired", compared.news)
        self.omissions.compared(opened.peer, compared.lacks, trio.current_time())

    async def _asked(self, source: Source, job: Job, take: TakeRaws) -> bool:
        """Do a job with a source; tell whether it went well."""
        rooms = self._rooms
        if rooms.kept_out.get(source.node_id, 0.0) > trio.current_time():
            return False
        try:
            args = (rooms.streams, source, rooms.network, self.currency, take)
            async with session(*args) as opened:
                await job(opened)
        except (Unreachable, PeerFault) as error:
            log.debug("%s: %s: %s", self.currency, source.node_id.hex()[:16], error)
            rooms.tally.add("sources_lost")
            rooms.keep_out(source, SLOW_S)
        except InvalidRecord as error:
            log.warning("%s: %s: %s", self.currency, source.node_id.hex()[:16], error)
            rooms.tally.add("sources_dropped")
            rooms.keep_out(source, DROP_S)
            with trio.move_on_after(LOCATE_S) as telling:
                telling.shield = True  # others may have sent all there is by now
                await rooms.crowd.lied(source.node_id)
        except StorageFault as error:
            log.warning("%s: the book cannot be kept: %s", self.currency, error)
            return False
        else:
            crowd = rooms.crowd_of(source.node_id, opened.host)
            self._levelled_at[source.node_id] = (trio.current_time(), crowd)
            return True
        self._levelled_at.pop(source.node_id, None)
        return False

    async def _collect(self, raws: Sequence[bytes]) -> Taken:
        return await self._rooms.intake.collect(raws, self.currency)

    def _items(self) -> list[Item]:
        return self._rooms.store.items(self.currency, self._rooms.clock.now())
