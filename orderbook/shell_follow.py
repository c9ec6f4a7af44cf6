"""A market and its reference price followed together, so that its first listing is priced."""

from orderbook.shell_book import Follower
from orderbook.shell_prices import Prices


class PricedFollower:
    """Follows the market; the price is asked for meanwhile."""

    def __init__(self, market: Follower, prices: Prices) -> None:
        self._market, self._prices = market, prices

    async def follow(self, currency: str) -> None:
        """Return when both have been read once, or have not answered in ten seconds each."""
        self._prices.view(currency)  # its sources are asked from now on
        await self._market.follow(currency)
        await self._prices.settle(currency)

    def reading(self, currency: str) -> tuple[bool, int]:
        """Tell whether a market's first sync is over, and how many sources it has."""
        return self._market.reading(currency)
