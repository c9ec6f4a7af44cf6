"""What has happened at this node, counted by name: for people and for metrics."""

from collections import Counter


class Tally:
    """Counters that only grow; the names are listed in docs/operations.md."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, name: str, n: int = 1) -> None:
        """Count `n` more of `name`."""
        self.counts[name] += n
