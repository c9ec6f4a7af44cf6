"""What a maker's node does with its own offers by itself: refreshes, ends, triggers, work ahead.

Enabled offers are signed anew every REFRESH_S and on every start. `run` publishes what is
undone, so a step that was journalled may be cut short anywhere.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import trio

from orderbook import work
from orderbook.needs import Records
from orderbook.offer import LIFE_S, REFRESH_S, Offer
from orderbook.own import OfferState, OwnOffer
from orderbook.shell_versions import Versions
from orderbook.shell_work import Miner
from orderbook.store_offers import OfferStore
from p2pnode.base.errors import InvalidRecord, NodeError, Unreachable
from p2pnode.base.ports import Clock

log: Final = logging.getLogger(__name__)

TICK_S: Final = 5  # between looks at what is due, and between tries to publish
AHEAD_S: Final = 3600  # the next day's work is sought so long before it is needed
PUTS: Final = 4  # versions on their way at a time


class Upkeep:
    """Keeps own offers published. `told` is called once for each version that leaves."""

    def __init__(
        self,
        store: OfferStore,
        versions: Versions,
        miner: Miner,
        records: Records,
        clock: Clock,
        told: Callable[[Offer, bytes], None],
    ) -> None:
        self._store, self._versions, self._miner = store, versions, miner
        self._records, self._clock, self._tell = records, clock, told
        self._told: dict[bytes, int] = {}  # the seq of each offer that was told
        self._fresh: set[bytes] = set()  # own offers signed since this start
        self._away: set[tuple[bytes, int]] = set()  # versions on their way, by id and seq
        self._wake = trio.Event()

    def wake(self) -> None:
        """Look at once at what is due."""
        self._wake.set()

    def turn(
        self, own: OwnOffer, state: OfferState, *, why: str = "", trade_id: bytes | None = None
    ) -> OwnOffer:
        """Journal an own offer's next version, to be published by `run`."""
        turned = self._versions.turn(own, state, why=why, trade_id=trade_id)
        self._fresh.add(turned.offer_id)
        self.wake()
        return turned

    async def run(self) -> None:
        """Keep own offers published until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._mine_ahead)
            while True:
                await self._publish_due()
                with trio.move_on_after(TICK_S):
                    await self._wake.wait()
                self._wake = trio.Event()

    async def _publish_due(self) -> None:
        now = self._clock.now()
        self._store.prune(now)
        limiter = trio.CapacityLimiter(PUTS)

        async def publish(own: OwnOffer) -> None:
            async with limiter:
                await self.publish(own)

        async with trio.open_nursery() as nursery:
            for listed in self._store.active(now - LIFE_S):
                await trio.lowlevel.checkpoint()  # others have their turn between commits
                try:
                    own = self._due(self._store.get(listed.offer_id) or listed, now)
                except InvalidRecord as error:
                    log.warning("own offer %s: %s", listed.offer_id.hex()[:6], error)
                    continue
                if self._is_to_go(own, now):
                    nursery.start_soon(publish, own)

    def _is_to_go(self, own: OwnOffer, now: int) -> bool:
        """Tell whether somebody must still be given the current version."""
        away = (own.offer_id, own.offer.seq) in self._away
        lives = own.unpublished and own.offer.expires_at > now
        return lives and not away and not self._versions.is_replaced(own)

    def _due(self, own: OwnOffer, now: int) -> OwnOffer:
        """Do what time and the reference ask of an own offer; return it as it is then."""
        if own.state in (OfferState.ENABLED, OfferState.DISABLED) and 0 < own.ends_at <= now:
            return self.turn(own, OfferState.WITHDRAWN, why="it has ended")
        if not own.enabled:
            return own
        if why := self._versions.crossed(own):
            return self.turn(own, OfferState.DISABLED, why=why)
        due = own.offer_id not in self._fresh or own.signed_at + REFRESH_S <= now
        short = own.offer.expires_at < own.until(own.signed_at)  # for want of work
        if due or (short and self._versions.known(own, own.until(now)) is not None):
            return self.turn(own, OfferState.ENABLED)
        return own

    async def _mine_ahead(self) -> None:
        """Find the work of each enabled offer before the day that needs it begins."""
        while True:
            now = self._clock.now()
            for own in (o for o in self._store.living() if o.enabled):
                for at in (own.until(now), own.until(now + AHEAD_S)):
                    if self._versions.known(own, at) is None:
                        day = work.day_of(at)
                        await self._miner.find(own.offer.currency, own.offer.slot, day)
                        self._wake.set()
            await trio.sleep(TICK_S)

    async def publish(self, own: OwnOffer) -> OwnOffer:
        """Store the current version; without a holder the row stays to be published."""
        if own.offer.expires_at <= self._clock.now():
            return own  # nothing is out there any more
        version, key = own.current, (own.offer_id, own.offer.seq)
        self._away.add(key)
        try:
            raw = self._versions.signed(own)
            if self._told.get(version.offer_id) != version.seq:
                self._told[version.offer_id] = version.seq
                self._tell(version, raw)
            acked = await self._records.put(raw)
        except Unreachable:
            return own
        except NodeError as error:
            log.warning("own offer %s is not published: %s", own.offer_id.hex()[:6], error)
            return own
        finally:
            self._away.discard(key)
        if acked > 0:
            self._store.acknowledge(version.offer_id, version.seq, acked)
            return replace(own, acked_seq=version.seq, acked=acked)
        return own
