"""What of ours still needs a payment account: own offers, negotiations, trades under way."""

from collections.abc import Callable
from typing import Final

from escrow.shell_trades import ENDED
from escrow.store_journal import TRADER, own_of
from orderbook.accounts import disclosed_id
from orderbook.own import OfferState
from orderbook.shell_maker import Maker
from p2pnode.app.exchange import Exchange
from p2pnode.base import wire
from p2pnode.base.networks import Network

# A reserved offer is its trade's, which is counted in its own right while it lives.
SHOWN: Final = (OfferState.ENABLED, OfferState.DISABLED)
Uses = Callable[[bytes], tuple[str, ...]]


def account_uses(maker: Maker, exchange: Exchange, network: Network) -> Uses:
    """Return what tells, of an account's id, who uses it: words such as "offer c05e12"."""

    def uses(account_id: bytes) -> tuple[str, ...]:
        offers = (
            f"offer {own.offer_id.hex()[:8]}"
            for own in maker.mine()
            if own.state in SHOWN and account_id in own.accounts.values()
        )
        proposals = (
            f"proposal {row.id.hex()[:8]}"
            for row in exchange.bargains.rows()
            if not row.ended and row.account_id == account_id
        )
        trades = (
            f"trade {row.trade_id.hex()[:8]}"
            for row in exchange.world.journal.rows(TRADER)
            if not isinstance(row.state, ENDED)
            and row.own  # else it was refused before it began
            and _of(own_of(row).disclosure, network) == account_id
        )
        return (*offers, *proposals, *trades)

    return uses


def _of(disclosure: bytes, network: Network) -> bytes:
    return disclosed_id(wire.unpack("disclosure", disclosure, limit=4096), network)
