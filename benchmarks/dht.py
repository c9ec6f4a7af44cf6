"""Our DHT beside six others in one run (docs/benchmarks.md): `python -m benchmarks dht`.

One system after the other has the machine to itself. Each is a program that prints what it
has measured so far as JSON lines; it is killed by its process id when its time is up, and
what it had not measured by then is named in `missing`.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks import install
from benchmarks.peers.measure import NODES, ONE_WAY_S, State
from benchmarks.report import OURS, Report, percentile

MUST = (
    "put_p50_rtt50",
    "get_p50_rtt50",
    "notify_p50_rtt50",
    "get_p50_dead30",
    "get_p99_dead30",
    "found_dead30",
    "idle_memory",
    "cpu_per_1000_rpcs",
)
PEER_LIMIT_S = 150.0
FLEET_LIMIT_S = 300.0
LAST_WORDS = 200  # characters of what a failed program said


@dataclass
class Entry:
    """One system: how it is started, and what it found."""

    name: str
    argv: list[str]
    needs: tuple[Callable[[], str | None], ...] = ()
    udp: bool = False
    limit_s: float = PEER_LIMIT_S
    cwd: str = str(install.ROOT)
    found: dict[str, Any] = field(default_factory=dict)
    reason: str = "measured nothing"  # why a figure is missing


def _python(name: str, program: str, module: str, **more: Any) -> Entry:
    return Entry(name, [program, "-m", module], **more)


def entries() -> list[Entry]:
    """Return the systems in the order they run; ours and its variant come first."""
    ours, theirs = sys.executable, str(install.PYTHON)
    shim, pip, npm = install.shim, install.python_peers, install.node_peers
    node, there = shutil.which("node") or "node", str(install.NPM)
    closed = _python("ours_closed", ours, "benchmarks.fleet", limit_s=FLEET_LIMIT_S)
    closed.argv.append("closed")
    return [
        _python(OURS, ours, "benchmarks.fleet", limit_s=FLEET_LIMIT_S),
        closed,
        _python("kademlia", ours, "benchmarks.peers.kademlia", needs=(shim,), udp=True),
        _python("kad_dht", ours, "benchmarks.peers.kad_dht"),
        _python("libtorrent", theirs, "benchmarks.peers.libtorrent", needs=(shim, pip), udp=True),
        _python("opendht", theirs, "benchmarks.peers.opendht", needs=(shim, pip), udp=True),
        Entry("hyperdht", [node, "hyperdht.mjs"], (shim, npm), udp=True, cwd=there),
        Entry("bittorrent-dht", [node, "bittorrent_dht.mjs"], (shim, npm), udp=True, cwd=there),
    ]


def measured(entry: Entry) -> None:
    """Run one system to its end or its limit and keep the last line it printed."""
    for need in entry.needs:
        if failed := need():
            entry.reason = failed
            return
    environment = {**os.environ, "BENCH_ONE_WAY_MS": str(1000 * ONE_WAY_S)}
    argv = list(entry.argv)
    if entry.udp:
        State.create(install.STATE)
        environment |= {
            "LD_PRELOAD": str(install.SHIM),
            "UDP_DELAY_MS": environment["BENCH_ONE_WAY_MS"],
            "UDP_DELAY_STATE": str(install.STATE),
        }
        argv.append(str(install.STATE))
    said, complaint, late = _run(argv, environment, entry.cwd, entry.limit_s)
    for line in said.splitlines():
        entry.found = json.loads(line) if line.startswith("{") else entry.found
    if late:
        entry.reason = f"was killed after {entry.limit_s:.0f} s"
    elif complaint:
        entry.reason = complaint


def _run(
    argv: Sequence[str], environment: dict[str, str], cwd: str, limit_s: float
) -> tuple[str, str, bool]:
    """Return what a program printed, the end of its complaint if it failed, and if it was late."""
    process = subprocess.Popen(  # noqa: S603
        argv, env=environment, cwd=cwd, start_new_session=True, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    late = False
    try:
        said, error = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        late = True
        os.killpg(process.pid, signal.SIGKILL)  # its own session: it and its workers
        said, error = process.communicate()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    words = " ".join(error.split())[-LAST_WORDS:]
    return said, words or f"ended with {process.returncode}" if process.returncode else "", late


def _ms(name: str, percent: int) -> Callable[[dict[str, Any]], float | None]:
    def figure(found: dict[str, Any]) -> float | None:
        if "dead30" in name and not found.get("silenced"):
            return None  # the deaths never were
        value = percentile(found.get(f"{name}_s", ()), percent)
        return None if value is None else 1000 * value

    return figure


def _share(name: str) -> Callable[[dict[str, Any]], float | None]:
    def figure(found: dict[str, Any]) -> float | None:
        asked = len(found.get(f"{name}_s", ()))
        return 100 * found[f"{name}_found"] / asked if asked and found.get("silenced") else None

    return figure


def _memory(found: dict[str, Any]) -> float | None:
    held = found.get("idle_bytes")
    return None if held is None else held / 2**20


def _cpu(found: dict[str, Any]) -> float | None:
    return 1000 * found["cpu_s"] / found["rpcs"] if found.get("rpcs") else None


def rows(ran: Sequence[Entry], report: Report) -> None:
    """Print every row of what the systems have found."""
    ours = next(entry for entry in ran if entry.name == OURS)
    closed = next(entry for entry in ran if entry.name == "ours_closed")
    peers = [entry for entry in ran if entry not in (ours, closed)]

    def row(
        name: str,
        unit: str,
        part: str,
        figure: Callable[[dict[str, Any]], float | None],
        own: Entry = ours,
        others: Sequence[Entry] = peers,
        **bars: Any,
    ) -> None:
        values = {entry.name: figure(entry.found) for entry in others}
        told = [entry for entry in [own, *others] if figure(entry.found) is None]
        report.row(
            name,
            unit,
            figure(own.found),
            {who: value for who, value in values.items() if value is not None},
            missing={e.name: e.found.get("missing", {}).get(part, e.reason) for e in told},
            **bars,
        )

    row("put_p50_rtt50", "ms", "put", _ms("put", 50), limit=150, bar=1)
    row("put_p99_rtt50", "ms", "put", _ms("put", 99))
    row("get_p50_rtt50", "ms", "get", _ms("get", 50), bar=1.1)
    row("get_p99_rtt50", "ms", "get", _ms("get", 99))
    row("notify_p50_rtt50", "ms", "notify", _ms("notify", 50), limit=100, bar=1, against="limit")
    for part in ("dead30", "dead30_second"):
        first = part == "dead30"
        bars = [{"limit": at, "bar": 1, "against": "limit"} if first else {} for at in (110, 1000)]
        row(f"get_p50_{part}", "ms", "dead30", _ms(part, 50), **bars[0])
        row(f"get_p99_{part}", "ms", "dead30", _ms(part, 99), **bars[1])
        whole = {"limit": 100, "bar": 1, "against": "limit"} if first else {}
        row(f"found_{part}", "%", "dead30", _share(part), better="higher", **whole)
    for percent in (50, 99):
        row(f"get_p{percent}_dead30_closed", "ms", "dead30", _ms("dead30", percent), closed, ())
    row("idle_memory", "MB a node", "idle", _memory)
    row("cpu_per_1000_rpcs", "s", "cpu", _cpu)


def prepare() -> int:
    """Install every peer; return 1 if one could not be had."""
    failures = [
        why for why in (install.shim(), install.python_peers(), install.node_peers()) if why
    ]
    for why in failures:
        print(f"benchmarks: {why}", file=sys.stderr)
    return 1 if failures else 0


def main(only: Sequence[str] = ()) -> int:
    """Run all, or `only` some of the peers beside ours; return the exit status."""
    ran = entries()
    if unknown := set(only) - {entry.name for entry in ran}:
        print(f"no such peer: {' '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    for entry in ran:
        if only and entry.name not in (OURS, *only):
            entry.reason = "was not asked for"
            continue
        start = time.monotonic()
        print(f"benchmarks: {entry.name}, {NODES} nodes ...", file=sys.stderr, flush=True)
        measured(entry)
        counts = {k: len(v) for k, v in entry.found.items() if isinstance(v, list)}
        print(f"  {time.monotonic() - start:.0f} s {counts}", file=sys.stderr, flush=True)
    report = Report("dht", MUST)
    rows(ran, report)
    return report.status()
