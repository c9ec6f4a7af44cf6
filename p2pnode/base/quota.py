"""Token buckets: how much a stranger may ask, by peer and by the subnet it calls from."""

from collections import OrderedDict
from typing import Final

MAX_NAMES: Final = 4096


class Buckets:
    """`rate` tokens a second for each name, `burst` at most; the stalest name is forgotten."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._held: OrderedDict[object, tuple[float, float]] = OrderedDict()

    def take(self, name: object, now: float) -> bool:
        """Spend a token if there is one; tell whether there was."""
        tokens, counted = self._held.get(name, (self._burst, now))
        if tokens + (now - counted) * self._rate < 1:
            return False
        self.spend(name, now)
        return True

    def spend(self, name: object, now: float, cost: int = 1) -> float:
        """Spend `cost` tokens; return how many seconds to wait until they are earned."""
        tokens, counted = self._held.get(name, (self._burst, now))
        tokens = min(self._burst, tokens + (now - counted) * self._rate) - cost
        self._held[name] = (tokens, now)
        self._held.move_to_end(name)
        if len(self._held) > MAX_NAMES:
            self._held.popitem(last=False)
        return max(0.0, -tokens / self._rate)
