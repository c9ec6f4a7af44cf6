"""The long runs: ten demos in a row, then the DHT on thousands of simulated nodes.

`--only demos` or `--only sim` runs one part. Exits 1 if a bar is missed.
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


def main() -> int:
    """Run the parts; print what is wrong; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("demos", "sim"))
    parser.add_argument("--seed", type=int, default=7, help="of the simulations")
    options = parser.parse_args()
    wrong = [] if options.only == "sim" else demos()
    if options.only != "demos":
        wrong += simulations(options.seed)
    for text in wrong:
        print(text, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
