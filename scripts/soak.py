"""The long runs: ten demos, the DHT on thousands of simulated nodes, the larger families of trades.

`--only demos`, `--only sim` or `--only trades` runs one part. Exits 1 if a bar is missed.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("p2pnode")
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


def main() -> int:
    """Run the parts; print what is wrong; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("demos", "sim", "trades"))
    parser.add_argument("--seed", type=int, default=7, help="of the simulations")
    options = parser.parse_args()
    wrong = demos() if options.only in (None, "demos") else []
    if options.only in (None, "sim"):
        wrong += simulations(options.seed)
    if options.only in (None, "trades"):
        wrong += trades()
    for text in wrong:
        print(text, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
