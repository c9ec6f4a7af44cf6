"""My own offers, kept published while the node is up.

    create -> enabled -- reserve(trade) --> reserved
                 |  ^------ release(trade) ----|
              withdraw -> withdrawn

Every step is committed before a record leaves (the shell law); `run` publishes what is
undone, so each step may be repeated or cut short by a crash. Enabled offers are signed
anew every REFRESH_S and on every start; the others leave a withdrawal behind.
"""

from dataclasses import replace
from typing import Final

import trio

from orderbook import work
from orderbook.needs import Records
from orderbook.offer import (
    DEFAULT_DEPOSIT_BP,
    LIFE_S,
    REFRESH_S,
    Offer,
    Side,
)
from orderbook.shelf import has_prefix, hex_prefix, single
from orderbook.store_offers import Answers, OfferState, OfferStore, OwnOffer
from p2pnode.base.errors import InvalidRecord, LocalFault, NotFound, Unreachable
from p2pnode.base.identity import Identity
from p2pnode.base.networks import Network
from p2pnode.base.ports import Clock, Randomness
from p2pnode.base.store import Database

MAX_OWN: Final = 64  # own offers not withdrawn; a holder keeps 32 records of one owner a market
TICK_S: Final = 5  # between looks at what is due, and between tries to publish


class Maker:
    """One node's own offers."""

    def __init__(
        self,
        identity: Identity,
        network: Network,
        clock: Clock,
        randomness: Randomness,
        database: Database,
        records: Records,
    ) -> None:
        self.network = network
        self._identity, self._clock = identity, clock
        self._randomness, self._records = randomness, records
        self._store = OfferStore(database, network)
        self._fresh: set[bytes] = set()  # own offers signed since this start
        self._wake = trio.Event()

    @property
    def node_id(self) -> bytes:
        """Return the maker id of own offers."""
        return self._identity.node_id

    async def create(
        self,
        *,
        side: Side,
        currency: str,
        min_sat: int,
        max_sat: int,
        price: int,
        method: str,
        account_id: bytes,
        dep_b_bp: int = DEFAULT_DEPOSIT_BP,
        dep_s_bp: int = DEFAULT_DEPOSIT_BP,
        terms: str = "",
        answers: Answers | None = None,
    ) -> OwnOffer:
        """Journal and publish an own offer; with no holder yet, `run` goes on trying.

        Raises InvalidRecord for a bad field, LocalFault beyond MAX_OWN.
        """
        now = self._clock.now()
        slot = self._free_slot()
        offer = Offer(
            network=self.network,
            offer_id=self._randomness.bytes(16),
            maker=self.node_id,
            slot=slot,
            side=side,
            currency=currency,
            min_sat=min_sat,
            max_sat=max_sat,
            price=price,
            methods=(method,),
            dep_b_bp=dep_b_bp,
            dep_s_bp=dep_s_bp,
            terms=terms,
            expires_at=now + LIFE_S,
        )
        offer = replace(offer, seq=self._store.next_seq(now), work=self._work(offer))
        if offer.withdrawn:
            raise InvalidRecord("min_sat", f"is below {self.network.min_amount_sat}")
        if sum(own.state is not OfferState.WITHDRAWN for own in self._store.all()) >= MAX_OWN:
            raise LocalFault(f"there are {MAX_OWN} own offers already; cancel one first")
        own = OwnOffer(
            offer=offer,
            state=OfferState.ENABLED,
            account_id=account_id,
            created_at=now,
            signed_at=now,
            answers=answers or Answers(),
        )
        self._store.save(own)
        self._fresh.add(offer.offer_id)
        return await self._publish(own)

    async def withdraw(self, offer_id: bytes) -> OwnOffer:
        """Take an own offer back. Raises NotFound, LocalFault while a trade holds it."""
        own = self.own(offer_id)
        if own.state is not OfferState.ENABLED:
            held = f" by trade {own.trade_id.hex()[:6]}" if own.trade_id else ""
            raise LocalFault(f"offer {offer_id.hex()[:6]} is {own.state}{held}", field="offer_id")
        return await self._publish(self._turn(own, OfferState.WITHDRAWN, None))

    def answer(self, offer_id: bytes, answers: Answers) -> OwnOffer:
        """Set how proposals for an own offer are answered; what is published stays as it is.

        Raises NotFound, LocalFault for an offer that was taken back.
        """
        own = self.own(offer_id)
        if own.state is OfferState.WITHDRAWN:
            raise LocalFault(f"offer {offer_id.hex()[:6]} is withdrawn", field="offer_id")
        changed = replace(own, answers=answers)
        self._store.save(changed)
        return changed

    def reserve(self, offer_id: bytes, trade_id: bytes) -> None:
        """Take an own offer out of the book for a trade, inside the caller's transaction.

        Repeating it changes nothing. Raises NotFound, LocalFault if it is not to be had.
        """
        own = self.own(offer_id)
        if own.state is OfferState.RESERVED and own.trade_id == trade_id:
            return
        if own.state is not OfferState.ENABLED:
            raise LocalFault(f"offer {offer_id.hex()[:6]} is {own.state}", field="offer_id")
        self._turn(own, OfferState.RESERVED, trade_id)

    def release(self, offer_id: bytes, trade_id: bytes) -> None:
        """Put an own offer back after its trade was aborted; anything else is left alone."""
        own = self.own(offer_id)
        if own.state is OfferState.RESERVED and own.trade_id == trade_id:
            self._turn(own, OfferState.ENABLED, None)

    def mine(self) -> tuple[OwnOffer, ...]:
        """Return own offers in every state, oldest first."""
        return self._store.all()

    def own(self, offer_id: bytes) -> OwnOffer:
        """Return an own offer. Raises NotFound."""
        own = self._store.get(offer_id)
        if own is None:
            raise NotFound("offer: is none of this node's own", field="offer_id")
        return own

    def own_version(self, offer_hash: bytes) -> tuple[Offer, OwnOffer]:
        """Return the unexpired version that a taker names, and the offer as it is now.

        A refresh changes the hash, so the last versions stay good until they expire.
        Raises NotFound.
        """
        offer = self._store.version(offer_hash)
        if offer is None or offer.expires_at <= self._clock.now():
            raise NotFound("offer_hash: is no current offer of this node", field="offer_hash")
        return offer, self.own(offer.offer_id)

    def get_mine(self, prefix: str) -> Offer:
        """Return the own offer whose id or hash begins so. Raises NotFound."""
        digits = hex_prefix(prefix)
        offers = (own.offer for own in self._store.all())
        return single((o for o in offers if has_prefix(o, digits)), digits)

    def enabled(self) -> tuple[OwnOffer, ...]:
        """Return the own offers that can be taken."""
        return tuple(own for own in self._store.all() if own.state is OfferState.ENABLED)

    # -- the background task

    async def run(self) -> None:
        """Keep own offers published until cancelled."""
        while True:
            await self._publish_due()
            with trio.move_on_after(TICK_S):
                await self._wake.wait()
            self._wake = trio.Event()

    async def _publish_due(self) -> None:
        now = self._clock.now()
        self._store.prune(now)
        for listed in self._store.all():
            own = self._store.get(listed.offer.offer_id) or listed
            started = own.offer.offer_id not in self._fresh
            if own.state is OfferState.ENABLED and (started or own.signed_at + REFRESH_S <= now):
                own = self._renewed(own)
                self._store.save(own)
                self._fresh.add(own.offer.offer_id)
            if own.unpublished and own.offer.expires_at > now:
                await self._publish(own)

    def _turn(self, own: OwnOffer, state: OfferState, trade_id: bytes | None) -> OwnOffer:
        """Journal an own offer's next state as a new version, to be published by `run`."""
        turned = self._renewed(replace(own, state=state, trade_id=trade_id))
        self._store.save(turned)
        self._wake.set()
        return turned

    def _renewed(self, own: OwnOffer) -> OwnOffer:
        """Return the next version, with the work of the day that it expires on."""
        offer = own.renewed(self._clock.now(), LIFE_S).offer
        return replace(
            own.renewed(self._clock.now(), LIFE_S), offer=replace(offer, work=self._work(offer))
        )

    def _work(self, offer: Offer) -> int:
        """Return a good work: the one it has, or a new one."""
        day = work.day_of(offer.expires_at)
        needed = work.needed_bits(self.network, offer.slot)
        if offer.work_bits >= needed:
            return offer.work
        place = (self.network, offer.maker, offer.currency, offer.slot, day)
        start = int.from_bytes(self._randomness.bytes(7), "big")
        while (found := work.find(*place, start=start, tries=1 << 16)) is None:
            start += 1 << 16
        return found

    def _free_slot(self) -> int:
        used = {o.offer.slot for o in self._store.all() if o.state is not OfferState.WITHDRAWN}
        return min(set(range(work.MAX_SLOTS)) - used)

    async def _publish(self, own: OwnOffer) -> OwnOffer:
        """Store the current version; without a holder the row stays to be published."""
        version = own.current
        try:
            acked = await self._records.put(version.to_wire(self._identity))
        except Unreachable:
            return own
        if acked > 0:
            self._store.acknowledge(version.offer_id, version.seq, acked)
            return replace(own, acked_seq=version.seq, acked=acked)
        return own
