"""The fee rate that this node chooses by itself: payments, trades and withdrawals alike.

Rates in whole sat/vB. A rate that a user names is bounded by `contract.MAX_RATE` too.
"""

from typing import Final

from escrow.contract import MAX_RATE
from p2pnode.base.errors import LocalFault
from p2pnode.base.networks import Network

FEE_TARGET: Final = 3  # blocks within which our transactions are to confirm
PRIVATE_RATE: Final = 2  # where a private chain gives no estimate


def chosen_rate(network: Network, estimate: int | None, highest: int = MAX_RATE) -> int:
    """Return the rate for the chain server's `estimate`: 1 to `highest`.

    Raises LocalFault without an estimate on a public network.
    """
    if estimate is None and not network.bondless:
        raise LocalFault(
            "the chain server gives no fee estimate yet; a payment can name its own rate",
            field="rate",
        )
    return max(1, min(estimate or PRIVATE_RATE, highest))
