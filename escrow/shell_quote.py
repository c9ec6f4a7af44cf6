"""Quotes as of now: our own fee estimate, and the arbiters who could be drawn at our tip."""

from contextlib import suppress

from escrow.anchor import Anchor
from escrow.bargain import check_amount
from escrow.contract import max_rate
from escrow.draw import ANCHOR_DEPTH
from escrow.quote import Quote, quote
from escrow.rates import chosen_rate
from escrow.shell_opening import Opening
from escrow.shell_trades import Trades
from escrow.terms import Terms, deposit
from p2pnode.base import wire
from p2pnode.base.errors import Unreachable
from p2pnode.base.units import MAX_FIAT_MINOR, fiat_for


class Quotes:
    """Tells what a trade would cost; reads, and changes nothing."""

    def __init__(self, trades: Trades, opening: Opening) -> None:
        self._trades, self._opening = trades, opening
        self._world = trades.world

    async def of(
        self,
        terms: Terms,
        amount_sat: int,
        fiat_minor: int = 0,
        *,
        as_maker: bool = False,
        escrow_kind: str = "",
    ) -> Quote:
        """Return the costs of one side; without `fiat_minor` at the offer's price.

        Raises InvalidRecord for an amount or a kind that is not the offer's, Unreachable
        without a chain, LocalFault where no fee rate is known.
        """
        world, kind = self._world, terms.kind(escrow_kind)
        check_amount(amount_sat, terms)
        wire.within("amount_sat", amount_sat, world.network.min_amount_sat, terms.max_sat)
        fiat = fiat_minor or fiat_for(amount_sat, terms.price)
        wire.within("fiat_minor", fiat, 1, MAX_FIAT_MINOR)
        escrow = amount_sat + sum(
            deposit(bp, amount_sat) for bp in (terms.dep_b_bp, terms.dep_s_bp)
        )
        estimate = await self._opening.own_rate()
        return quote(
            terms,
            amount_sat,
            fiat,
            is_seller=bool(terms.maker_is_seller) == as_maker,
            escrow_kind=kind,
            rate=chosen_rate(world.network, estimate, max_rate(escrow)),
            fees=await self._fees(terms, amount_sat),
        )

    async def _fees(self, terms: Terms, amount_sat: int) -> tuple[int, ...]:
        with suppress(Unreachable):  # a quote stands without arbiters
            if not self._known(terms, amount_sat):
                await self._opening.refresh(force=True)
        return self._known(terms, amount_sat)

    def _known(self, terms: Terms, amount_sat: int) -> tuple[int, ...]:
        world = self._world
        height = world.chain.tip().height - ANCHOR_DEPTH
        if world.chain.block_hash(height) is None:
            return ()
        traders = frozenset({terms.maker, world.me})
        anchor = Anchor(world.network, height, amount_sat, traders, world.chain)
        found = anchor.candidates(self._trades.records.values())
        return tuple(c.record.fee(amount_sat) for c in found)
