"""What a user waits for before a command even begins: `p2pnode --help` against bare Python.

Run: python benchmarks/start.py. One JSON object a row (docs/testing.md); exit 1 if one is
over its bar. Both are the median of 15 runs, alternating.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUNS = 15
LIMIT_S = 0.3
LIMIT_RATIO = 10


def seconds(*argv: str) -> float:
    """Run once and return the wall time."""
    start = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)  # noqa: S603
    return time.perf_counter() - start


def row(name: str, ours: float, theirs: dict[str, float], ratio: float, bar: float) -> bool:
    """Print one row; return whether it holds."""
    print(
        json.dumps(
            {
                "bench": "start",
                "row": name,
                "unit": "ms",
                "ours": round(1000 * ours, 1),
                "theirs": {k: round(1000 * v, 1) for k, v in theirs.items()},
                "better": "lower",
                "ratio": round(ratio, 2),
                "bar": bar,
                "ok": ratio <= bar,
            }
        )
    )
    return ratio <= bar


def main() -> int:
    """Measure, print both rows, return the exit status."""
    helped, bare = [], []
    for _ in range(RUNS):
        helped.append(seconds(sys.executable, "cli.py", "--help"))
        bare.append(seconds(sys.executable, "-c", "pass"))
    ours, python = statistics.median(helped), statistics.median(bare)
    held = row("help", ours, {"limit": LIMIT_S}, ours / LIMIT_S, 1)
    held &= row("help_over_python", ours, {"python -c pass": python}, ours / python, LIMIT_RATIO)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
