"""Brings the peers of the DHT benchmark into build/bench: PyPI's, npm's, and the UDP shim.

Nothing of it is needed to run a node. What cannot be had is told, and its peers are then
named in every row's `missing`.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.measure import State

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "bench"
VENV = BUILD / "venv"
NPM = BUILD / "npm"
PYTHON = VENV / "bin" / "python"
SHIM = BUILD / "udp_delay.so"
STATE = BUILD / "udp_state"
PEERS = ROOT / "benchmarks" / "peers"
NEEDS = ROOT / "requirements" / "bench.txt"
INSTALL_LIMIT_S = 300


def run(*argv: str | Path, cwd: Path = ROOT) -> str | None:
    """Run a command quietly; return None, or the last line of its complaint."""
    try:
        done = subprocess.run(  # noqa: S603
            [str(one) for one in argv], cwd=cwd, capture_output=True, text=True, check=False,
            timeout=INSTALL_LIMIT_S,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{argv[0]}: {error.__class__.__name__}"
    said = (done.stderr or done.stdout).strip().splitlines()
    return (
        None if done.returncode == 0 else f"{Path(argv[0]).name}: {said[-1] if said else 'failed'}"
    )


def fresh(made: Path, *sources: Path) -> bool:
    """Tell whether a file is newer than all it is made of."""
    return made.exists() and all(made.stat().st_mtime >= one.stat().st_mtime for one in sources)


def shim() -> str | None:
    """Compile the UDP shim; return why not."""
    BUILD.mkdir(parents=True, exist_ok=True)
    State.create(STATE)
    source = ROOT / "benchmarks" / "udp_delay.c"
    if fresh(SHIM, source):
        return None
    if not shutil.which("cc"):
        return "there is no C compiler (cc) to build the delay"
    return run("cc", "-O2", "-Wall", "-shared", "-fPIC", "-o", SHIM, source, "-ldl", "-lpthread")


def python_peers() -> str | None:
    """Install the peers from PyPI; return why not."""
    stamp = VENV / "done"
    if fresh(stamp, NEEDS):
        return None
    print("benchmarks: installing", NEEDS.name, file=sys.stderr)
    failed = None if PYTHON.exists() else run(sys.executable, "-m", "venv", VENV)
    failed = failed or run(
        PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", NEEDS
    )
    if failed is None:
        stamp.touch()
    return failed


def node_peers() -> str | None:
    """Install the peers from npm and lay their programs beside them; return why not."""
    if not shutil.which("node") or not shutil.which("npm"):
        return "node is not installed"
    NPM.mkdir(parents=True, exist_ok=True)
    for source in [*PEERS.glob("*.mjs"), PEERS / "package.json"]:
        shutil.copy(source, NPM)
    stamp = NPM / "done"
    if fresh(stamp, PEERS / "package.json"):
        return None
    print("benchmarks: installing", "package.json", file=sys.stderr)
    failed = run(
        "npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error",
        cwd=NPM,
    )  # fmt: skip
    if failed is None:
        stamp.touch()
    return failed
