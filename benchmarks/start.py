"""What a user waits for before a command even begins: `p2pnode --help` against bare Python.

Run: python -m benchmarks start. Both figures are the median of 15 runs, alternating.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.report import Report

ROOT = Path(__file__).resolve().parents[1]
RUNS = 15
LIMIT_MS = 300
LIMIT_RATIO = 10


def milliseconds(*argv: str) -> float:
    """Run once and return the wall time."""
    start = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)  # noqa: S603
    return 1000 * (time.perf_counter() - start)


def main() -> int:
    """Measure, print both rows, return the exit status."""
    helped, bare = [], []
    for _ in range(RUNS):
        helped.append(milliseconds(sys.executable, "cli.py", "--help"))
        bare.append(milliseconds(sys.executable, "-c", "pass"))
    ours, python = statistics.median(helped), statistics.median(bare)
    report = Report("start", ("help", "help_over_python"))
    report.row("help", "ms", ours, {}, limit=LIMIT_MS, bar=1)
    report.row("help_over_python", "ms", ours, {"python -c pass": python}, bar=LIMIT_RATIO)
    return report.status()
