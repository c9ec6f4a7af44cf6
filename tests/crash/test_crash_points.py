"""Death at every point: either side of each commit, message, reply and broadcast of four roles.

Real shells and journals in one process (points_node.py, points_acts.py). Each scenario is run
once to count its points; then once for each of them, with a death there; then again with a
second death while that node recovers, at points drawn by seed. However often anybody dies: the
trade ends as it must, the escrow is paid once, each key first-signs one split, and no
acknowledged message is lost. The real processes' half is test_crash_matrix.py.
"""

import itertools
import multiprocessing
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import points_acts
import points_world
import pytest
from points_node import Points
from points_power import InCommit, power_cuts
from points_world import TRADERS, Base, Scenario, play

PAIRS = 160
SEED = 20261125
WORKERS = 2
SERVES_S = 5.0


@dataclass(frozen=True)
class Act:
    """A stretch of a trade: where it begins, who runs, what happens."""

    base: Base
    names: tuple[str, ...]
    scenario: Scenario


@dataclass(frozen=True)
class Outcome:
    """What came of one run: who died where, and what was wrong, if anything."""

    job: tuple[str, int | None, int | None]
    trace: tuple[tuple[str, str], ...]
    deaths: tuple[tuple[str, str], ...]
    own: int  # points that the dead node reached afterwards
    served_s: tuple[float, ...]
    wrong: str


ACTS: dict[str, Act] = {}


def stage(folder: Path) -> dict[str, Act]:
    """Play one trade of each kind as far as each act begins."""
    number = itertools.count()

    def then(base: Base, *scenarios: Scenario, names: tuple[str, ...] = TRADERS) -> Base:
        for scenario in scenarios:
            place = folder / f"stage{next(number)}"
            place.mkdir()
            kept = play(base, names, scenario, Points(), place, place / "kept")
            assert kept is not None
            base = kept
        return base

    begun = points_acts.begin(folder / "begin")
    buys = partial(points_acts.opening, maker_sells=False)
    signed = then(begun, points_acts.opening)
    half = then(begun, points_acts.half_signed)
    funded = then(signed, points_acts.funded)
    paid = then(funded, points_acts.paid)
    locked = then(paid, points_acts.timelocked)
    return {
        "opening": Act(begun, TRADERS, points_acts.opening),
        "opening, maker buys": Act(begun, TRADERS, buys),
        "way out": Act(half, ("taker",), points_acts.respent),
        "release": Act(signed, TRADERS, points_acts.settled),
        "release, maker buys": Act(then(begun, buys), TRADERS, points_acts.settled),
        "agreed refund": Act(funded, TRADERS, points_acts.agreed),
        "verdict": Act(paid, (*TRADERS, paid["arbiter"]), points_acts.ruled),
        "backup verdict": Act(
            locked, (*TRADERS, locked["runner_up"]), points_acts.ruled_by_the_second
        ),
    }


def run(job: tuple[str, int | None, int | None], points: Points | None = None) -> Outcome:
    """Play an act with these deaths. Whatever is wrong is told, not raised."""
    name, armed, second = job
    act, points = ACTS[name], points or Points(armed, second)
    folder = Path(tempfile.mkdtemp(prefix="points-", dir=act.base.folder.parent))
    wrong = ""
    try:
        play(act.base, act.names, act.scenario, points, folder)
    except Exception as error:  # noqa: BLE001 - told with the line that plays it again
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        wrong = f"{type(error).__name__}: {error}"
    finally:
        shutil.rmtree(folder)
    if armed is None and not wrong and points.deaths:
        wrong = "somebody died though no point was armed"
    own = points.since[points.deaths[-1][0]] if points.deaths else 0
    deaths, served = tuple(points.deaths), tuple(points.served_s)
    return Outcome(job, tuple(points.trace), deaths, own, served, wrong)


def told(outcome: Outcome) -> str:
    """Return what is wrong and the line that plays it again."""
    again = f"import test_crash_points as t; t.replay{outcome.job}"
    return f"{outcome.wrong}\n  deaths {outcome.deaths}\n  cd tests/crash; python -c '{again}'"


def replay(name: str, armed: int, second: int | None = None) -> None:
    """Play one run again, with whatever it logs."""
    import logging

    logging.basicConfig(level=logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        ACTS.update(stage(Path(folder)))
        print(told(run((name, armed, second))))


def many(jobs: list[tuple[str, int | None, int | None]]) -> list[Outcome]:
    """Run jobs in forks of this process."""
    with multiprocessing.get_context("fork").Pool(WORKERS) as pool:
        return pool.map(run, jobs, chunksize=8)


@pytest.fixture(scope="module")
def traces(tmp_path_factory: Any) -> Iterator[dict[str, tuple[tuple[str, str], ...]]]:
    """Every act's points, after a run without a death."""
    shared = Path("/dev/shm")  # noqa: S108 - a death here is no power cut: no disk is needed
    place = tempfile.mkdtemp(dir=shared) if shared.is_dir() else tmp_path_factory.mktemp("points")
    ACTS.update(stage(Path(place)))
    found = many([(name, None, None) for name in ACTS])
    assert not [told(o) for o in found if o.wrong]
    yield {o.job[0]: o.trace for o in found}
    ACTS.clear()
    shutil.rmtree(place)


SINGLES: list[Outcome] = []


def test_a_death_at_every_point(traces, capsys):
    jobs = [(name, k, None) for name, trace in traces.items() for k in range(len(trace))]
    SINGLES[:] = many(jobs)
    assert not [told(o) for o in SINGLES if o.wrong]
    for outcome in SINGLES:  # each fired, and where the counting run had it
        name, armed, _ = outcome.job
        assert outcome.deaths == (traces[name][armed],)
    roles, kinds = Counter[str](), Counter[str]()
    for outcome in SINGLES:
        ((who, what),) = outcome.deaths
        roles[role(outcome.job[0], who)] += 1
        kinds[what.split(" of ")[0] if "commit" in what else what] += 1
    assert set(roles) == {"buyer", "seller", "arbiter", "runner_up"}
    with capsys.disabled():
        served = max(s for o in SINGLES for s in o.served_s)
        print(f"\ncrash points: {len(jobs)} deaths, one at every point: {dict(roles)}")
        print(f"  {len(kinds)} kinds: {', '.join(f'{k} {n}' for k, n in sorted(kinds.items()))}")
        print(f"  served again after at most {served:.2f} s")
    assert served < SERVES_S


def role(act: str, name: str) -> str:
    """Name what a node is in an act's trade."""
    base = ACTS[act].base
    sells = "taker" if "buys" in act else "maker"
    traders = {sells: "seller", ({*TRADERS} - {sells}).pop(): "buyer"}
    return traders.get(name) or next(r for r, n in base.names.items() if n == name)


def test_a_second_death_during_recovery(traces, capsys):
    assert SINGLES, "runs after the deaths at every point"
    chance = random.Random(SEED)
    rich = [o for o in SINGLES if o.own]
    pairs = [(o.job[0], o.job[1], chance.randrange(o.own)) for o in chance.choices(rich, k=PAIRS)]
    found = many(pairs)
    assert not [told(o) for o in found if o.wrong]
    assert all(len(o.deaths) == 2 for o in found), "a second death did not fire"
    assert all(o.deaths[0][0] == o.deaths[1][0] for o in found)
    with capsys.disabled():
        early = sum(second < 8 for _, _, second in pairs)
        print(f"\ncrash points: {len(pairs)} pairs of deaths, {early} of them at once, seed {SEED}")


# ------------------------------------------------------------------ the power too

CUTS = 40  # at points of any kind
COMMIT_CUTS = 80  # inside a commit
SPOILED = 12  # runs of the control


@dataclass(frozen=True)
class Cut:
    """A power cut: where, and how SQLite syncs."""

    name: str
    armed: int
    inside: bool
    synchronous: str = "FULL"


def cut(job: Cut) -> tuple[Outcome, int]:
    """Play an act in which the dead node's machine loses its power; return the writes lost too."""
    with power_cuts(job.armed, synchronous=job.synchronous) as disk:
        points = InCommit(job.armed, disk) if job.inside else Points(job.armed)
        outcome = run((job.name, job.armed, None), points)
        assert disk.committing is None
        return outcome, disk.lost


def cuts(jobs: list[Cut]) -> list[tuple[Outcome, int]]:
    with multiprocessing.get_context("fork").Pool(WORKERS) as pool:
        return pool.map(cut, jobs, chunksize=4)


def drawn(traces, count, chance, wanted):
    """Draw points from all acts whose label is wanted."""
    every = [(n, k) for n, t in traces.items() for k, (_, what) in enumerate(t) if wanted(what)]
    return chance.sample(every, count)


def test_a_power_cut_loses_nothing_that_was_committed(traces, capsys):
    chance = random.Random(SEED + 1)
    jobs = [Cut(n, k, inside=False) for n, k in drawn(traces, CUTS, chance, bool)]
    commits = drawn(traces, COMMIT_CUTS, chance, lambda what: what.startswith("before commit of"))
    jobs += [Cut(n, k, inside=True) for n, k in commits]
    found = cuts(jobs)
    assert not [told(outcome) for outcome, _ in found if outcome.wrong]
    assert all(len(outcome.deaths) == 1 for outcome, _ in found)
    lost = [lost for (_, lost), job in zip(found, jobs, strict=True) if job.inside]
    assert sum(map(bool, lost)) > COMMIT_CUTS // 2  # the log's pages were written, not synced
    with capsys.disabled():
        print(
            f"\npower cuts: {CUTS} at points, {COMMIT_CUTS} inside a commit, "
            f"{sum(lost)} writes dropped or torn"
        )


def test_without_its_syncs_the_journal_would_fail_these_tests(traces, monkeypatch):
    """The control: SQLite told not to wait for the disk at each commit."""
    monkeypatch.setattr(points_world, "PATIENCE_S", 30)
    chance = random.Random(SEED + 2)
    sent = drawn(traces, SPOILED, chance, lambda what: what in ("after reply", "after WITNESS"))
    found = cuts([Cut(n, k, inside=False, synchronous="NORMAL") for n, k in sent])
    assert sum(lost > 0 for _, lost in found) > SPOILED // 2
    assert sum(bool(outcome.wrong) for outcome, _ in found) >= SPOILED // 3
