"""What a node's receipts prove of its past (docs/offers.md, "History")."""

from dataclasses import dataclass, field

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class History:
    """Trades proven on the chain. Times by the chain's clock, unix seconds.

    `partners` are the distinct counterparties that weigh; `first_at` is when the first
    trade that weighs was funded, 0 without one. `as_of` is when that was found, 0 if nobody
    has said so.
    """

    trades: int = 0
    partners: int = 0
    first_at: int = 0
    as_of: int = field(default=0, compare=False)

    def days(self, now: int) -> int:
        """Return how many whole days ago the first trade was, 0 without one.

        By the chain's clock, where it is known: a chain that lags makes nobody older.
        """
        until = min(now, self.as_of) if self.as_of else now
        return max(0, until - self.first_at) // DAY_S if self.first_at else 0


NONE = History()
