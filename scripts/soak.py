"""The long run: ten demos in a row pass, and they do not all draw the same arbiter."""

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("p2pnode")


def main() -> int:
    """Run the demos; print a line each; return the exit status."""
    arbiters: set[str] = set()
    for number in range(1, 11):
        run = subprocess.run(  # noqa: S603
            [PROGRAM, "demo", "--json"], capture_output=True, text=True, check=False
        )
        if run.returncode:
            print(run.stdout, run.stderr, sep="\n", file=sys.stderr)
            print(f"demo {number} of 10 failed with {run.returncode}", file=sys.stderr)
            return 1
        events = [json.loads(line) for line in run.stdout.splitlines()]
        drawn = [e["name"] for e in events if e["event"] == "draw"]  # ids are fresh in each run
        arbiters.update(drawn)
        print(f"demo {number}: {events[-1]['seconds']} s, drawn {', '.join(drawn)}", flush=True)
    if len(arbiters) < 2:
        print("every draw gave the same arbiter", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
