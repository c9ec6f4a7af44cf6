"""The long runs: ten demos, thousands of simulated nodes, families of trades, a hundred books.

`--only demos`, `--only sim`, `--only trades` or `--only books` runs one part. Exits 1 if a bar
is missed.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("p2pnode")
BOOK_SEEDS = 25  # each is played four times, from other places
ROOT = Path(__file__).resolve().parents[1]


def demos() -> list[str]:
    """Run ten demos, print a line each; return what is wrong."""
    arbiters: set[str] = set()
    for number in range(1, 11):
        run = subprocess.run(  # noqa: S603
            [PROGRAM, "demo", "--json"], capture_output=True, text=True, check=False
        )
        if run.returncode:
            print(run.stdout, run.stderr, sep="\n", file=sys.stderr)
            return [f"demo {number} of 10 failed with {run.returncode}"]
        events = [json.loads(line) for line in run.stdout.splitlines()]
        drawn = [e["name"] for e in events if e["event"] == "draw"]  # ids are fresh in each run
        arbiters.update(drawn)
        print(f"demo {number}: {events[-1]['seconds']} s, drawn {', '.join(drawn)}", flush=True)
    return ["every draw gave the same arbiter"] if len(arbiters) < 2 else []


def simulations(seed: int) -> list[str]:
    """Run the long simulations, print a line each; return what is wrong."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]
    import dht_sim_long as long

    wrong = []
    for run in (long.thousand, long.churn):
        figures, missed = run(seed)
        print(json.dumps(figures), flush=True)
        wrong += [f"{figures['run']}: {text}" for text in missed]
    rows = []
    for count in long.SIZES:
        rows.append(long.measure(seed, count))
        print(json.dumps(rows[-1]), flush=True)
        if rows[-1]["found"] < rows[-1]["gets"]:
            wrong.append(f"{rows[-1]['run']}: a get did not find its record")
    wrong += long.too_fast(rows)
    return [f"{text} (again: make soak ARGS='--only sim --seed {seed}')" for text in wrong]


def trades() -> list[str]:
    """Explore the larger families of trades, print a line each; return what is wrong."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]
    import explorer_runs as runs

    wrong = []
    with runs.pool() as processes:
        for run, (name, found, seconds) in zip(
            runs.LONG, processes.map(runs.explore, runs.LONG), strict=True
        ):
            print(runs.figures(name, found, seconds), flush=True)
            stuck = [s for s in found.stuck if found.whole and not run.may_stick(s)]
            wrong += [f"{name}: {what}" for what in (*found.bad, *stuck)]
    return wrong


def books(seed: int) -> list[str]:
    """Play a hundred more seeds of the book's simulation; return what is wrong."""
    test = ["tests/simulation/test_book_simulation.py", "-q", "-k", "same_book"]
    wrong = []
    for turn in range(seed, seed + BOOK_SEEDS):
        run = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "pytest", *test], cwd=ROOT, capture_output=True, text=True,
            check=False, env={**os.environ, "P2PNODE_SIM_SEED": str(turn)},
        )  # fmt: skip
        if run.returncode:
            print(run.stdout, file=sys.stderr)
            wrong.append(f"books: P2PNODE_SIM_SEED={turn} .venv/bin/python -m pytest {test[0]}")
    print(f"books: {BOOK_SEEDS} seeds, {len(wrong)} red", flush=True)
    return wrong


def main() -> int:
    """Run the parts; print what is wrong; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("demos", "sim", "trades", "books"))
    parser.add_argument("--seed", type=int, default=7, help="of the simulations")
    options = parser.parse_args()
    wrong = demos() if options.only in (None, "demos") else []
    if options.only in (None, "sim"):
        wrong += simulations(options.seed)
    if options.only in (None, "trades"):
        wrong += trades()
    if options.only in (None, "books"):
        wrong += books(options.seed)
    for text in wrong:
        print(text, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
