"""The one place that prints a row (docs/benchmarks.md, "A row").

A row is one JSON object on stdout. Its `ratio` is ours over the best of theirs, a stated
`limit` counting as one of them; `better` says which way is good. A row without a bar is only
printed. Whoever could not run is named under `missing` with the reason.
"""

import json
import math
import sys
from collections.abc import Iterable, Mapping

LIMIT = "limit"
OURS = "ours"


def percentile(values: Iterable[float], percent: int) -> float | None:
    """Return the nearest-rank percentile of the values, None of none."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def rounded(value: float | None) -> float | None:
    """Return a figure with as many digits as it can be read for."""
    return None if value is None else round(value, 3 if abs(value) < 10 else 1)


class Report:
    """The rows of one benchmark, and whether it holds."""

    def __init__(self, bench: str, must: Iterable[str] = (), out=None) -> None:
        self.bench = bench
        self.must = tuple(must)
        self.out = out or sys.stdout
        self.printed: dict[str, bool] = {}

    def row(
        self,
        name: str,
        unit: str,
        ours: float | None,
        theirs: Mapping[str, float],
        *,
        better: str = "lower",
        limit: float | None = None,
        bar: float | None = None,
        against: str | None = None,
        missing: Mapping[str, str] | None = None,
    ) -> bool:
        """Print one row and return whether it holds.

        `limit` becomes one of theirs. `bar` is what the ratio may be at most (at least, where
        higher is better). `against` names the one of theirs that the ratio is over, where it
        is not the best of them. A barred row without our figure, or without one to compare it
        with, does not hold.
        """
        if name in self.printed:
            raise ValueError(f"the row {name} was printed already")
        theirs = dict(theirs) if limit is None else {LIMIT: limit, **theirs}
        ratio = None
        if ours is not None and theirs:
            best = (
                theirs[against] if against else (min if better == "lower" else max)(theirs.values())
            )
            ratio = ours / best if best else None
        held = bar is None or (
            ratio is not None and (ratio <= bar if better == "lower" else ratio >= bar)
        )
        line = {
            "bench": self.bench,
            "row": name,
            "unit": unit,
            "ours": rounded(ours),
            "theirs": {who: rounded(value) for who, value in theirs.items()},
            "better": better,
            "ratio": None if ratio is None else round(ratio, 3),
            "bar": bar,
            "ok": held,
            "missing": dict(missing or {}),
        }
        print(json.dumps(line), file=self.out, flush=True)
        self.printed[name] = held
        return held

    def status(self) -> int:
        """Return the exit status: 0 if every row that must appear did and every row holds."""
        absent = [name for name in self.must if name not in self.printed]
        if absent:
            print(f"rows that did not appear: {' '.join(absent)}", file=sys.stderr)
        return 0 if not absent and all(self.printed.values()) else 1
