"""The families of trades that are explored, each small enough to be explored whole.

.venv/bin/python tests/explorer_runs.py            every family of `make test`
.venv/bin/python tests/explorer_runs.py NAME …     some, with every find and its trace
.venv/bin/python tests/explorer_runs.py --long     those of `make soak` too
"""

import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from explorer_acts import Explored
from explorer_rules import LEFT_OUT
from explorer_search import Found, search
from explorer_words import WORDS
from explorer_world import Family

from escrow.contract import KIND_2OF3
from escrow.messages import Message

# Heights above the funding's: pays; replies are over; R4's time; replies to the last dispute; +144.
PLAIN = (5, 600, 1880, 2460, 2610)
FEW = (5, 1880, 2460, 2610)
# The same; the runner-up's; his replies; +144; the rest of what waits.
BACKUP = (5, 1880, 5328, 5910, 6060, 6700)

_plain: dict[str, Any] = {"kind": KIND_2OF3, "ticks": PLAIN, "until": 1880, "lies": 0}
_talk: dict[str, Any] = {
    "kind": KIND_2OF3,
    "ticks": FEW,
    "until": 1880,
    "slow": ("B-S", "S-B"),
    "refuses": False,
    "releases": False,
}
_backup: dict[str, Any] = {"ticks": BACKUP, "until": 5328, "lies": 0}
_lost: dict[str, Any] = {
    **_plain,
    "ticks": FEW,
    "faults": 1,
    "kinds": ("lost",),
    "refuses": False,
    "slow": ("B-S", "S-B"),
}
_talk_lost: dict[str, Any] = {**_talk, "faults": 1, "kinds": ("lost",)}
_few: dict[str, Any] = {"ticks": (5, 1880), "lies": 0}
_alone: dict[str, Any] = {**_lost, "faults": 2, "refuses": True, "without": "A", "until": 2610}
_late_a2: dict[str, Any] = {
    **_backup,
    "ticks": (5, 5328, 5910, 6060),
    "slow": ("B-S", "S-B"),
    "refuses": False,
}
_gone: dict[str, Any] = {
    **_backup,
    "faults": 1,
    "kinds": ("gone", "lost arbiter"),
    "slow": ("B-S", "S-B"),
}


def _no_stuck(name: str) -> bool:
    return False


def _arbiter_lies(name: str) -> bool:
    """Without a runner-up the traders must settle by themselves; here they have not asked."""
    return "A malicious" in name or "A2 malicious" in name


def _cut_short(name: str) -> bool:
    """Its ticks end before the waits do: it is there for what may be lost."""
    return True


def _wrong_verdict(name: str) -> bool:
    """Nobody honest completes a wrong verdict; without a runner-up it ends there."""
    return "RuledCase" in name


def _lost_notice(name: str) -> bool:
    """A trader who has lost the NOTICE with his data hears no VERDICT; there is no runner-up."""
    return "Toxic" in name and "malicious" in name


def _too_late(name: str) -> bool:
    """The arbiter's time is over and the runner-up is gone: the traders must settle."""
    return "A2 gone" in name or "A2 idle lost" in name or "A2 ToxicCase" in name


@dataclass(frozen=True)
class Run:
    """One search, and which stuck states are the page's own."""

    name: str
    family: Family
    may_stick: Callable[[str], bool] = _no_stuck
    bound: int = 600_000


def _run(name: str, foes: str, may_stick: Callable[[str], bool] = _no_stuck, **given: Any) -> Run:
    liars = frozenset(foes.split("+")) if foes else frozenset()
    return Run(name, Family(name, liars, **given), may_stick)


RUNS = (
    _run("plain", "", **_plain),
    _run("plain S*", "S", **_plain),
    _run("plain B*", "B", **_plain),
    _run("backup S*", "S", **_backup),
    _run("lost data", "", **_lost),
    _run("alone", "", **_alone),
    _run("early A*", "A", _arbiter_lies, **{**_talk, "ticks": (5, 1880, 2460), "lies": 0}),
    _run("late A2*", "A2", _arbiter_lies, **_late_a2),
    _run("reorg S*", "S", **{**_plain, "ticks": FEW, "faults": 1, "kinds": ("reorg",)}),
    _run("arbiter gone or lost", "", _too_late, **_gone),
    _run("mistaken A", "", _wrong_verdict, **{**_plain, "ticks": FEW}, mistaken=True),
    _run("half B-asks", "", **_talk, asks=("half",), askers="B"),
    _run("half B-asks S*", "S", **_talk, asks=("half",), askers="B"),
    _run("called S*", "S", **{**_plain, "lies": 1}),
    _run("half or none", "", **{**_talk, "refuses": True}, asks=("half",), askers="B"),
    _run("refund B-asks S*", "S", **_talk, asks=("refund",), askers="B"),
)
LONG = (
    _run("plain A*", "A", _arbiter_lies, **{**_plain, "refuses": False}),
    _run("lost data S*", "S", _lost_notice, **_lost),
    _run("lost data B*", "B", _lost_notice, **_lost),
    _run("mistaken A, half", "", _wrong_verdict, **_talk, asks=("half",), mistaken=True),
    _run("refund asked, lost S*", "S", **_talk_lost, asks=("refund",), askers="B"),
    _run("lost S*, few", "S", _cut_short, **{**_talk_lost, **_few}, asks=("refund",), askers="B"),
    _run("reorg", "", **{**_plain, "ticks": FEW, "faults": 1, "kinds": ("reorg",)}),
    _run("arbiter gone or lost S*", "S", _too_late, **_gone),
    _run("half B-asks A*", "A", _arbiter_lies, **_talk, asks=("half",), askers="B"),
)
# Where each rule is missed, if it is left out.
HOME = {
    "R1: one split a key": "half or none",
    "R2: own facts": "half B-asks A*",
    "R3: a WITHDRAW binds until covered": "refund B-asks S*",
    "R3: an ASK bars payment": "refund B-asks S*",
    "R4: an OK counts only when covered": "half B-asks S*",
    "R4: nothing below RELEASE before its time": "called S*",
    "R4: the buyer pays in time": "called S*",
    "toxic for good": "lost S*, few",
    "a toxic node may give up all": "alone",
}
CONTROLS = tuple(
    _run(f"two keys {foes}", foes, **(_backup if "2" in foes else _plain))
    for foes in ("S+A", "B+A", "S+A2", "B+A2")
)


def explore(run: Run, without: str = "", *, first_bad: bool = False) -> tuple[str, Found, float]:
    """Explore one family in a process of its own, a rule left out or none."""
    Message.from_wire = staticmethod(WORDS.parse)  # type: ignore[method-assign, assignment]
    if without:
        LEFT_OUT[without]()
    began = time.process_time()
    found = search(Explored(run.family), run.bound, first_bad=first_bad)
    return run.name, found, time.process_time() - began


def figures(name: str, found: Found, seconds: float) -> str:
    """Return one line: states, steps, finds, processor time."""
    bad, stuck = sum(found.bad.values()), sum(found.stuck.values())
    whole = "" if found.whole else "  NOT WHOLE"
    return (
        f"{name:34s} {found.states:8,d} states {found.steps:9,d} steps {bad:6d} bad"
        f" {stuck:6d} stuck {seconds:5.1f} s{whole}"
    )


def pool() -> ProcessPoolExecutor:
    """Return two fresh processes: what a search patches and keeps ends with its process."""
    return ProcessPoolExecutor(2, mp_context=get_context("spawn"), max_tasks_per_child=1)


def main(names: Iterable[str]) -> int:
    """Explore the named families, or all; print figures and finds."""
    wanted = set(names)
    runs = [r for r in (*RUNS, *LONG) if r.name in wanted or not wanted]
    with pool() as processes:
        for name, found, seconds in processes.map(explore, runs):
            print(figures(name, found, seconds), flush=True)
            print(*found.lines(), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
