"""What finding offers costs: the check of one, the file of 10,000, sync and gossip.

Run: python -m benchmarks book. Rows and method: docs/benchmarks.md, "The order book".
"""

import importlib
import sys

from benchmarks.report import Report

# Each with its rows; run(report) prints them. Sync goes first: it is measured in this process,
# which is then what a node is that has just started, without the heap of 10,000 offers made.
PARTS = ("book_sync", "book_gossip", "book_store")
MUST = (
    *("verify", "list_best50", "list_best50_shown", "warm_start", "warm_start_node"),
    *("memory_10000", "sync_10000", "spread_50"),
)


def main(only: tuple[str, ...] = ()) -> int:
    """Measure, print every row, return the exit status; a part that is missing has no rows."""
    report = Report("book", MUST if not only else ())
    for part in PARTS:
        if only and part.removeprefix("book_") not in only:
            continue
        try:
            found = importlib.import_module(f"benchmarks.{part}")
        except ModuleNotFoundError as error:
            print(f"{part}: {error}", file=sys.stderr)
            continue
        found.run(report)
    return report.status()
