"""My own offers, kept published while the node is up (states: orderbook/own.py).

Every step is committed before a record leaves (the shell law); `run` publishes what is
undone, so each step may be repeated or cut short by a crash. Enabled offers are signed
anew every REFRESH_S and on every start; the others leave a withdrawal behind.

A step is synchronous from reading the row to the commit, its seq drawn inside. What must be
waited for is the proof of work; a step that wants a new slot looks again once it is there.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from orderbook import work
from orderbook.needs import Histories, Records, References, Unpriced, Unproven
from orderbook.offer import LIFE_S, Offer
from orderbook.own import Answers, OfferState, OwnOffer, Triggers, default_kinds, end_of
from orderbook.query import has_prefix, hex_prefix, single
from orderbook.shell_upkeep import Upkeep
from orderbook.shell_versions import MAX_MARKET, Versions
from orderbook.shell_work import Miner
from orderbook.store_offers import OfferStore
from p2pnode.base.errors import LocalFault, NotFound
from p2pnode.base.identity import Identity
from p2pnode.base.networks import Network
from p2pnode.base.ports import Clock, Randomness
from p2pnode.base.store import Database

MAX_OWN: Final = 64  # own offers enabled or disabled


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
        *,
        references: References | None = None,
        histories: Histories | None = None,
        caps: Mapping[str, int] | None = None,
    ) -> None:
        self.network = network
        self._identity, self.clock = identity, clock
        self._randomness = randomness
        self.references = references or Unpriced()
        self.histories = histories or Unproven()
        self.caps = caps or {}  # an operator's lower ones
        self._store = OfferStore(database, network)
        self.miner = Miner(network, identity.node_id, randomness, self._store)
        self._versions = Versions(
            *(identity, network, clock, self._store, self.miner),
            *(self.references, self.histories, self.caps),
        )
        self.on_version: Callable[[Offer, bytes], None] = lambda _offer, _raw: None
        self._upkeep = Upkeep(
            *(self._store, self._versions, self.miner, records, clock),
            lambda offer, raw: self.on_version(offer, raw),
        )

    @property
    def node_id(self) -> bytes:
        """Return the maker id of own offers."""
        return self._identity.node_id

    # -- what the user does

    async def create(
        self,
        *,
        accounts: Mapping[str, bytes],
        answers: Answers | None = None,
        triggers: Triggers | None = None,
        ends_in_s: int = 0,
        escrow_kinds: tuple[str, ...] = (),
        **terms: Any,
    ) -> OwnOffer:
        """Journal and publish an own offer; with no holder yet, `run` goes on trying.

        `terms` are fields of the offer, `accounts` an account for each method; it ends after
        `ends_in_s` seconds, never for 0. Raises
        InvalidRecord for a bad field, LocalFault beyond MAX_OWN, MAX_MARKET or a trigger.
        """
        now = self.clock.now()
        offer = Offer(
            network=self.network,
            offer_id=self._randomness.bytes(16),
            maker=self.node_id,
            methods=tuple(sorted(accounts)),
            escrow_kinds=default_kinds(escrow_kinds),
            expires_at=now + LIFE_S,
            **terms,
        )
        own = OwnOffer(
            offer=offer,
            state=OfferState.ENABLED,
            accounts=dict(accounts),
            created_at=now,
            signed_at=now,
            answers=answers or Answers(),
            triggers=triggers or Triggers(),
            ends_at=end_of(ends_in_s, now),
        )

        def make() -> OwnOffer:
            if len(self._store.living()) >= MAX_OWN:
                raise LocalFault(f"there are {MAX_OWN} own offers already; cancel one first")
            return own

        return await self._bring(make)

    async def edit(
        self,
        offer_id: bytes,
        terms: Mapping[str, Any],
        *,
        accounts: Mapping[str, bytes] | None = None,
        answers: Answers | None = None,
        triggers: Triggers | None = None,
        ends_in_s: int | None = None,
    ) -> OwnOffer:
        """Change an own offer; who names an earlier version is refused from now on.

        Raises NotFound, InvalidRecord for a bad field, LocalFault for an offer that a trade
        has or that was taken back.
        """
        ends_at = None if ends_in_s is None else end_of(ends_in_s, self.clock.now())

        def make() -> OwnOffer:
            own = self._living(offer_id)
            own = own.changed(terms, accounts)
            return replace(
                own,
                answers=answers or own.answers,
                triggers=own.triggers if triggers is None else triggers,
                ends_at=own.ends_at if ends_at is None else ends_at,
            )

        own = self._versions.check(make())
        if own.enabled:
            public = own.offer != self.own(offer_id).offer or ends_at is not None
            return await self._bring(make, edited=True) if public else self._keep(own)
        with self._store.database.transaction():
            self._store.forget_versions(offer_id)
            return self._keep(own)

    async def enable(self, offer_id: bytes) -> OwnOffer:
        """Publish a disabled offer again. Raises NotFound, LocalFault, InvalidRecord."""

        def make() -> OwnOffer:
            own = self._living(offer_id)
            if own.enabled:
                raise LocalFault(f"offer {_short(own)} is enabled already", field="offer_id")
            return replace(own, state=OfferState.ENABLED, why="")

        return await self._bring(make)

    async def disable(self, offer_id: bytes, why: str = "by its maker") -> OwnOffer:
        """Take an own offer out of the book, its terms kept. Raises NotFound, LocalFault."""
        own = self._living(offer_id)
        if not own.enabled:
            raise LocalFault(f"offer {_short(own)} is disabled already", field="offer_id")
        return await self._upkeep.publish(self._upkeep.turn(own, OfferState.DISABLED, why=why))

    async def withdraw(self, offer_id: bytes) -> OwnOffer:
        """Take an own offer back for good. Raises NotFound, LocalFault while a trade holds it."""
        own = self._living(offer_id)
        turned = self._upkeep.turn(own, OfferState.WITHDRAWN, why="by its maker")
        return await self._upkeep.publish(turned) if own.enabled else turned

    def answer(self, offer_id: bytes, answers: Answers) -> OwnOffer:
        """Set how proposals for an own offer are answered; what is published stays as it is.

        Raises NotFound, LocalFault for an offer that was taken back.
        """
        own = self.own(offer_id)
        if own.state is OfferState.WITHDRAWN:
            raise LocalFault(f"offer {_short(own)} is withdrawn", field="offer_id")
        return self._keep(replace(own, answers=answers))

    # -- what trades do, inside the caller's transaction

    def reserve(self, offer_id: bytes, trade_id: bytes) -> None:
        """Take an own offer out of the book for a trade.

        Repeating it changes nothing. Raises NotFound, LocalFault if it is not to be had.
        """
        own = self.own(offer_id)
        if own.state is OfferState.RESERVED and own.trade_id == trade_id:
            return
        if not own.enabled:
            raise LocalFault(f"offer {_short(own)} is {own.state}", field="offer_id")
        self._upkeep.turn(own, OfferState.RESERVED, trade_id=trade_id)

    def release(self, trade_id: bytes) -> None:
        """Put back what a trade had reserved, after it came to nothing."""
        for own in self._store.of_trade(trade_id):
            if own.state is not OfferState.RESERVED:
                continue
            if self._versions.slot_for(own) is None:
                why = f"{MAX_MARKET} offers stood in its market when its trade ended"
                self._upkeep.turn(own, OfferState.DISABLED, why=why)
            else:
                self._upkeep.turn(own, OfferState.ENABLED)

    # -- reading

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

        A refresh changes the hash, so the last versions stay good until they expire or are
        edited. Raises NotFound.
        """
        offer = self._store.version(offer_hash)
        if offer is None or offer.expires_at <= self.clock.now():
            raise NotFound("offer_hash: is no current offer of this node", field="offer_hash")
        return offer, self.own(offer.offer_id)

    def get_mine(self, prefix: str) -> OwnOffer:
        """Return the own offer whose id or hash begins so. Raises NotFound."""
        digits = hex_prefix(prefix)
        found = [own for own in self._store.all() if has_prefix(own.offer, digits)]
        chosen = single((own.offer for own in found), digits)
        return next(own for own in found if own.offer is chosen)

    def enabled(self) -> tuple[OwnOffer, ...]:
        """Return the own offers that can be taken."""
        return tuple(own for own in self._store.living() if own.enabled)

    def crossed(self, own: OwnOffer) -> str:
        """Return why an offer's triggers would disable it now; empty if they do not."""
        return self._versions.crossed(own)

    def slot_ahead(self, currency: str) -> int | None:
        """Return which slot of a market a new offer would get; None if it is full."""
        used = {own.offer.slot for own in self._versions.standing(currency)}
        return min(set(range(MAX_MARKET)) - used, default=None)

    # -- the background task

    async def run(self) -> None:
        """Keep own offers published until cancelled."""
        await self._upkeep.run()

    # -- one step

    async def _bring(self, make: Callable[[], OwnOffer], *, edited: bool = False) -> OwnOffer:
        """Enable what `make` returns, as soon as there is work for its slot, and publish it."""
        while True:
            own = self._versions.check(make())
            slot = self._versions.slot_for(own)
            if slot is None:
                raise LocalFault(
                    f"{MAX_MARKET} of your offers stand in {own.offer.currency} already; "
                    "disable or cancel one first"
                )
            day = work.day_of(own.until(self.clock.now()))
            if self.miner.known(own.offer.currency, slot, day) is None:
                await self.miner.find(own.offer.currency, slot, day)
                continue
            with self._store.database.transaction():
                if edited:
                    self._store.forget_versions(own.offer_id)
                turned = self._upkeep.turn(own, OfferState.ENABLED)
            return await self._upkeep.publish(turned)

    def _keep(self, own: OwnOffer) -> OwnOffer:
        self._store.save(own)
        self._upkeep.wake()
        return own

    def _living(self, offer_id: bytes) -> OwnOffer:
        own = self.own(offer_id)
        if own.state in (OfferState.ENABLED, OfferState.DISABLED):
            return own
        held = f" by trade {own.trade_id.hex()[:6]}" if own.trade_id else ""
        raise LocalFault(f"offer {_short(own)} is {own.state}{held}", field="offer_id")


def _short(own: OwnOffer) -> str:
    return own.offer_id.hex()[:6]
