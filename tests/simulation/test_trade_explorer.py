"""The state explorer: every order of everything, over the real machines (docs/trade.md, section 5).

A find is printed with the shortest trace that leads to it. Alone, with every find:
`.venv/bin/python tests/explorer_runs.py NAME`.
"""

from collections.abc import Iterator
from concurrent.futures import Future

import pytest
from explorer_runs import CONTROLS, HOME, LONG, RUNS, explore, figures, pool

FAULTS = {
    "lost": "loses data",
    "lost arbiter": "A loses data",
    "gone": "is gone",
    "reorg": "reorg of the payout",
}
Found = dict[str, Future]


@pytest.fixture(scope="module")
def searched() -> Iterator[Found]:
    """Every search of this file, two at a time; the longest begin first."""
    runs = {run.name: run for run in (*RUNS, *LONG)}
    with pool() as processes:
        found = {run.name: processes.submit(explore, run) for run in RUNS}
        for rule, home in HOME.items():
            found[rule] = processes.submit(explore, runs[home], rule, first_bad=True)
        for run in CONTROLS:
            found[run.name] = processes.submit(explore, run, first_bad=True)
        yield found


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_nobody_honest_loses_and_nothing_is_stuck(run, searched):
    name, found, seconds = searched[run.name].result()
    print(figures(name, found, seconds), *found.lines(), sep="\n")
    assert found.whole, "the bound was reached: states were left unexplored"
    assert found.states > 5_000
    for kind in run.family.kinds if run.family.faults else ():
        assert any(FAULTS[kind] in label for label in found.used), f"{kind}: this fault never fired"
    assert not found.bad
    assert not [stuck for stuck in found.stuck if not run.may_stick(stuck)]


@pytest.mark.parametrize("rule", HOME)
def test_a_rule_left_out_is_missed(rule, searched):
    name, found, seconds = searched[rule].result()
    print(figures(f"{name} without {rule}", found, seconds), *found.lines(), sep="\n")
    assert found.bad or found.stuck


@pytest.mark.parametrize("run", CONTROLS, ids=lambda run: run.name)
def test_two_keys_that_collude_steal(run, searched):
    name, found, seconds = searched[run.name].result()
    print(figures(name, found, seconds), *found.lines(), sep="\n")
    assert found.bad
