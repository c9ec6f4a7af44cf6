"""Reminders: each once, the nearest that has come, over restarts; remarks stay at home."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from escrow.deadlines import HOURS, Deadline, reminders
from escrow.store_remarks import MAX_REMARK, Remarks
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.store import Database

HOUR = 3600
DUE = 1_787_685_145
RULING = Deadline("ruling", DUE)


def hours(mtp: int, given: set[tuple[str, int]]) -> list[int]:
    """What is said at `mtp`, and is from then on given."""
    said = reminders([RULING], mtp, given)
    for one in said:
        given |= {(one.deadline.name, h) for h in (*one.passed, one.hours)}
    return [one.hours for one in said]


def test_a_node_that_is_always_on_hears_each_once() -> None:
    given: set[tuple[str, int]] = set()
    heard = [h for mtp in range(DUE - 60 * HOUR, DUE + HOUR, 600) for h in hours(mtp, given)]
    assert heard == list(HOURS)


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (48 * HOUR + 1, []),
        (48 * HOUR, [48]),
        (24 * HOUR + 1, [48]),
        (24 * HOUR, [24]),
        (6 * HOUR + 1, [24]),
        (6 * HOUR, [6]),
        (1, [6]),
        (0, []),
        (-HOUR, []),
    ],
)
def test_a_node_that_was_off_hears_the_nearest_alone(left: int, said: list[int]) -> None:
    given: set[tuple[str, int]] = set()
    assert hours(DUE - left, given) == said
    assert hours(DUE - left, given) == []


def test_a_clock_that_steps_back_repeats_nothing() -> None:
    given: set[tuple[str, int]] = set()
    assert hours(DUE - 20 * HOUR, given) == [24]
    assert hours(DUE - 30 * HOUR, given) == []  # a reorg took an hour back
    assert hours(DUE - 5 * HOUR, given) == [6]


def test_two_deadlines_are_reminded_of_apart() -> None:
    both = [RULING, Deadline("reply", DUE - 10 * HOUR)]
    said = reminders(both, DUE - 15 * HOUR, {("ruling", 48), ("ruling", 24)})
    assert [(s.deadline.name, s.hours) for s in said] == [("reply", 6)]


# ------------------------------------------------------------------ what is kept


@pytest.fixture
def remarks(tmp_path: Path) -> Iterator[Remarks]:
    database = Database(tmp_path / "node.sqlite")
    yield Remarks(database)
    database.close()


def test_a_remark_is_kept_replaced_and_removed(remarks: Remarks) -> None:
    one, two = b"\x01" * 32, b"\x02" * 32
    assert remarks.remark(one) == ""
    remarks.set_remark(one, "asked the bank")
    remarks.set_remark(two, "another")
    remarks.set_remark(one, "the bank says Monday")
    assert remarks.remark(one) == "the bank says Monday"
    remarks.set_remark(one, "")
    assert (remarks.remark(one), remarks.remark(two)) == ("", "another")


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "\u202e", "x" * (MAX_REMARK + 1)])
def test_a_remark_that_could_redraw_a_terminal_is_refused(remarks: Remarks, text: str) -> None:
    remarks.set_remark(b"\x01" * 32, "before")
    with pytest.raises(InvalidRecord, match="text:"):
        remarks.set_remark(b"\x01" * 32, text)
    assert remarks.remark(b"\x01" * 32) == "before"


def test_what_was_given_is_known_to_the_next_process(tmp_path: Path) -> None:
    database = Database(tmp_path / "node.sqlite")
    first = Remarks(database)
    with database.transaction():
        first.give(b"\x01" * 32, "ruling", 48)
        first.give(b"\x01" * 32, "ruling", 48)
    database.close()
    again = Database(tmp_path / "node.sqlite")
    assert Remarks(again).given(b"\x01" * 32) == {("ruling", 48)}
    assert Remarks(again).given(b"\x02" * 32) == frozenset()
    again.close()
