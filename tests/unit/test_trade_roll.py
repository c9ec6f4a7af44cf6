"""The roll of arbiters: bounded, and what a living trade lists stays."""

from collections.abc import Iterator
from typing import Any

import pytest
from bond_kit import LOCKED, SAT, bonded, eyes_of
from trade_facts import FRESH, MTP, NET, NOW, TIP, block_hash, h, record

from escrow import store_roll
from escrow.arbiters import ArbiterRecord
from escrow.bond import YEAR_S
from escrow.store_journal import Journal
from escrow.store_roll import Roll
from p2pnode.base.errors import LocalFault
from p2pnode.base.ports import Tip
from p2pnode.base.store import Database

RECORDS = [record(n) for n in range(6)]
IDS = [r.id for r in RECORDS]


@pytest.fixture
def roll() -> Iterator[Roll]:
    database = Database(None)
    yield Journal(database, NET).roll
    database.close()


def test_the_latest_seen_stay_and_who_goes_is_told(
    roll: Roll, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_roll, "MAX_RECORDS", 2)
    assert roll.put(RECORDS[:2], NOW) == ()
    assert roll.put(RECORDS[:1], NOW + 2) == ()
    assert roll.put(RECORDS[2:3], NOW + 1) == (IDS[1],)
    assert roll.all() == {IDS[0]: RECORDS[0], IDS[2]: RECORDS[2]}


def test_what_a_living_trade_lists_is_never_pushed_out(
    roll: Roll, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_roll, "MAX_RECORDS", 1)
    roll.hold(h("trade"), IDS[:2])  # one of them is learned later
    roll.put(RECORDS[:1], NOW)
    roll.put(RECORDS[1:2], NOW + 1)
    roll.put(RECORDS[2:], NOW + 2)
    assert {*IDS[:2]} < roll.all().keys()
    assert len(roll.all()) == 3
    roll.hold(h("other"), IDS[:1])
    roll.let_go(h("trade"))
    roll.put(RECORDS[2:], NOW + 3)
    assert IDS[0] in roll.all()
    assert IDS[1] not in roll.all()
    roll.let_go(h("other"))
    roll.put(RECORDS[2:], NOW + 4)
    assert len(roll.all()) == 1


def test_only_so_many_trades_hold_records(roll: Roll, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_roll, "MAX_HOLDERS", 2)
    roll.hold(h("one"), IDS[:1])
    assert not roll.full()
    roll.hold(h("two"), IDS[:1])
    assert roll.full()
    roll.hold(h("two"), IDS)  # a trade that lives goes on
    with pytest.raises(LocalFault, match="2 trades live here"):
        roll.hold(h("three"), IDS)
    roll.let_go(h("one"))
    roll.hold(h("three"), IDS)


def test_the_weight_seen_counts_a_bond_once_and_for_thirty_days(roll: Roll) -> None:
    found = [RECORDS[0], record(0, FRESH - 1), RECORDS[1]]
    roll.put(found, NOW)
    known = {r.id: r for r in found}
    assert roll.seen_weight(NOW + store_roll.SEEN_S - 1, known, chain()) == 2
    assert roll.seen_weight(NOW + store_roll.SEEN_S, known, chain()) == 0


def chain(*records: ArbiterRecord, mtp: int = MTP) -> Any:
    """A chain with these records' bonds, its clock at `mtp`."""
    eyes: Any = eyes_of(*records)
    eyes.tip = lambda: Tip(TIP, block_hash(TIP) or b"", mtp)
    return eyes


def test_a_bond_weighs_what_it_could_be_drawn_with(roll: Roll) -> None:
    found = [bonded(0), bonded(0, FRESH - 1), bonded(1, sat=7_000_000), RECORDS[2]]
    roll.put(found, NOW)
    known = {r.id: r for r in found}
    assert roll.all() == known
    assert roll.seen_weight(NOW, known, chain(*found)) == 5_000_000 + 7_000_000 + 1
    half = LOCKED - YEAR_S // 2
    assert roll.seen_weight(NOW, known, chain(*found, mtp=half)) == 2_500_000 + 3_500_000 + 1


def test_a_bond_whose_time_is_over_is_not_missed(roll: Roll) -> None:
    found = [bonded(0), bonded(1, lock_time=LOCKED + 1)]
    roll.put(found, NOW)
    known = {r.id: r for r in found}
    end = LOCKED - NET.bond_lock_s
    weight = SAT * NET.bond_lock_s // YEAR_S
    assert roll.seen_weight(NOW, known, chain(*found, mtp=end)) == 2 * weight
    assert roll.seen_weight(NOW, known, chain(*found, mtp=end + 1)) == weight


def test_bonds_that_are_in_no_block_cannot_make_every_set_look_small(roll: Roll) -> None:
    """An attacker may sign any number of them; none counts as seen."""
    invented = [bonded(n, sat=10**14) for n in range(4)]
    true = bonded(4)
    roll.put([*invented, true], NOW)
    known = {r.id: r for r in (*invented, true)}
    assert roll.seen_weight(NOW, known, chain(true)) == SAT
    assert roll.seen_weight(NOW, known, chain(*invented, true)) == SAT + 4 * 10**14
