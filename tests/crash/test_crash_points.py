"""Death at every point: either side of each commit, message, reply and broadcast of four roles.

Real shells and journals in one process (points_node.py, points_world.py). Each scenario is run
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

import points_world
import pytest
from points_node import Points
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

    begun = points_world.begin(folder / "begin")
    buys = partial(points_world.opening, maker_sells=False)
    signed = then(begun, points_world.opening)
    funded = then(signed, points_world.funded)
    paid = then(funded, points_world.paid)
    locked = then(paid, points_world.timelocked)
    return {
        "opening": Act(begun, TRADERS, points_world.opening),
        "opening, maker buys": Act(begun, TRADERS, buys),
        "release": Act(signed, TRADERS, points_world.settled),
        "release, maker buys": Act(then(begun, buys), TRADERS, points_world.settled),
        "agreed refund": Act(funded, TRADERS, points_world.agreed),
        "verdict": Act(paid, (*TRADERS, paid["arbiter"]), points_world.ruled),
        "backup verdict": Act(
            locked, (*TRADERS, locked["runner_up"]), points_world.ruled_by_the_second
        ),
    }


def run(job: tuple[str, int | None, int | None]) -> Outcome:
    """Play an act with these deaths. Whatever is wrong is told, not raised."""
    name, armed, second = job
    act, points = ACTS[name], Points(armed, second)
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
