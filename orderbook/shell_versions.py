"""The versions of own offers: each journalled with its own seq before anybody sees it.

Synchronous throughout: from reading the row to the commit nothing else runs, so two tasks
never sign two versions with one seq. A version that this node itself would not read is
refused here, before it is kept.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from orderbook import limits, work
from orderbook.methods import METHODS
from orderbook.needs import Histories, References
from orderbook.offer import Offer
from orderbook.own import OfferState, OwnOffer
from orderbook.shell_work import Miner
from orderbook.store_offers import OfferStore
from p2pnode.base.errors import InvalidRecord, LocalFault
from p2pnode.base.identity import Identity
from p2pnode.base.networks import Network
from p2pnode.base.ports import Clock

MAX_MARKET: Final = 32  # own offers enabled in one market: what a holder keeps of one owner


class Versions:
    """Makes the next version of an own offer."""

    def __init__(
        self,
        identity: Identity,
        network: Network,
        clock: Clock,
        store: OfferStore,
        miner: Miner,
        references: References,
        histories: Histories,
        caps: Mapping[str, int],
    ) -> None:
        self._identity, self._network, self._clock = identity, network, clock
        self._store, self._miner = store, miner
        self._references, self._histories, self._caps = references, histories, caps

    def check(self, own: OwnOffer) -> OwnOffer:
        """Raise InvalidRecord or LocalFault for what may not be published; else return it."""
        if own.offer.withdrawn:
            raise InvalidRecord("min_sat", f"is below {self._network.min_amount_sat}")
        for method in own.offer.methods:
            if not METHODS[method].takes(own.offer.currency):
                raise InvalidRecord("methods", f"{method} is not used for {own.offer.currency}")
        caps = {method: limits.cap_sat(method, self._caps) for method in own.offer.methods}
        lowest = min(caps, key=lambda method: caps[method])
        if own.offer.max_sat > caps[lowest]:
            raise InvalidRecord(
                "max_sat", f"is over {caps[lowest]} sat, the most of one trade by {lowest}"
            )
        if own.enabled and (why := self.crossed(own)):
            raise LocalFault(f"this would be disabled at once: {why}", field="disable")
        return own

    def crossed(self, own: OwnOffer) -> str:
        """Return why an offer's triggers would disable it now; empty if they do not.

        Asking has the market's reference kept up to date, for takers too.
        """
        currency = own.offer.currency
        return own.triggers.crossed(self._references.reference(currency), currency)

    def turn(
        self, own: OwnOffer, state: OfferState, *, why: str = "", trade_id: bytes | None = None
    ) -> OwnOffer:
        """Journal an own offer's next version in a state; it is still to be published.

        Where the work for its whole life is not known yet, the version ends with the last day
        that has some, or at once: every earlier version ends by then, too.
        """
        now = self._clock.now()
        own = replace(own, state=state, why=why, trade_id=trade_id, signed_at=now, acked=0)
        slot = self.slot_for(own) if own.enabled else None
        own = replace(own, offer=replace(own.offer, slot=own.offer.slot if slot is None else slot))
        until = own.until(now)
        if (good := self.known(own, until)) is None:
            until = work.day_of(until) * work.DAY_S - 1
            good = self.known(own, until)
        expires_at, good = (now, 0) if good is None or until <= now else (until, good)
        history = self._histories.history(self._identity.node_id)
        with self._store.database.transaction():
            offer = replace(
                own.offer,
                seq=self._store.next_seq(now),
                expires_at=expires_at,
                work=good,
                said_trades=history.trades,
                said_partners=min(history.partners, history.trades),
                said_since=history.first_at,
            )
            turned = replace(own, offer=offer)
            if expires_at > now:
                self.signed(turned)
            self._store.save(turned)
        return turned

    def signed(self, own: OwnOffer) -> bytes:
        """Sign the version to publish. Raises InvalidRecord for one that we would not read."""
        raw = own.current.to_wire(self._identity)
        Offer.from_wire(raw, network=self._network, now=self._clock.now())
        return raw

    def known(self, own: OwnOffer, at: int) -> int | None:
        """Return the work for an offer's slot on the day of `at`, None if not found yet."""
        return self._miner.known(own.offer.currency, own.offer.slot, work.day_of(at))

    def others(self, own: OwnOffer) -> set[int]:
        """Return the slots of its market that other enabled offers have."""
        return {
            o.offer.slot for o in self.standing(own.offer.currency) if o.offer_id != own.offer_id
        }

    def standing(self, currency: str) -> tuple[OwnOffer, ...]:
        """Return the enabled offers of a market."""
        living = self._store.living()
        return tuple(o for o in living if o.enabled and o.offer.currency == currency)

    def slot_for(self, own: OwnOffer) -> int | None:
        """Return the slot of an offer that is to be enabled: its own, or the lowest free one."""
        used, kept = self.others(own), self._store.get(own.offer_id)
        if kept is not None and kept.offer.slot not in used:
            return kept.offer.slot
        return min(set(range(MAX_MARKET)) - used, default=None)

    def is_replaced(self, own: OwnOffer) -> bool:
        """Tell whether another offer stands where this one's withdrawal would go."""
        return not own.enabled and own.offer.slot in self.others(own)
