"""A full store costs a put no more than an empty one, and its counts follow the table."""

import hashlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht import store_records
from dht.records import Bounds, Record
from dht.store_records import Kept, RecordStore
from p2pnode.base.errors import StorageFault
from p2pnode.base.store import Database


def numbered(number, *, kind="note", key=b"k", owner=None, expires_at=1000, seq=1, rank=0):
    owner = hashlib.sha256(b"%d" % (number if owner is None else owner)).digest()
    raw = b"%d of %d" % (seq, number)
    return Record(kind, key * 32, owner, bytes([number % 251]), seq, expires_at, raw, rank)


def steps(store, record, bounds=None):
    """Return how many instructions SQLite runs for a put."""
    count = 0

    def one_more():
        nonlocal count
        count += 1

    store._db._db.set_progress_handler(one_more, 1)
    store.put(record, bounds)
    store._db._db.set_progress_handler(None, 1)
    return count


@pytest.mark.parametrize("spread", [1, 700])  # expiries; one for all is what a flood would choose
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_put_into_a_full_store_touches_what_goes_and_no_more(spread, share):
    dearest = {}
    for limit in (200, 2000):
        store, bounds = RecordStore(Database(None), limit=limit), Bounds(share=share)
        for number in range(limit):
            key = bytes([number // 20])
            store.put(numbered(number, key=key, expires_at=1000 + number % spread), bounds)
        assert store.count() == int(limit * share)
        later = range(limit, limit + 50)
        at = 1000 + spread
        costs = [steps(store, numbered(n, key=b"l", expires_at=at), bounds) for n in later]
        assert store.count() == int(limit * share)
        assert len(store.items("note", b"l" * 32, 0)) == 50  # each has pushed one out
        dearest[limit] = max(costs)
    assert dearest[2000] <= dearest[200] * 1.05
    assert dearest[2000] < 2000  # instructions; a walk would be one or more a record


def test_what_expires_first_goes_then_who_is_last_by_owner():
    store = RecordStore(Database(None), limit=6)
    for number in range(6):
        store.put(numbered(number, expires_at=50 if number < 3 else 60))
    gone = sorted(numbered(n).owner for n in range(3))
    for number in range(10, 13):
        store.put(numbered(number, key=b"l", expires_at=70))
        gone.pop()
        left = {r.owner for r in store.all_of("note", b"k" * 32, 0) if r.expires_at == 50}
        assert left == set(gone)
    assert store.put(numbered(20, expires_at=40)) is Kept.WORSE
    assert store.count() == 6


def test_the_lowest_rank_goes_before_what_expires_first():
    """Whoever signs for longest does not push out who has worked for it."""
    store = RecordStore(Database(None), limit=6)
    for number in range(6):
        store.put(numbered(number, key=b"%d" % number, rank=5, expires_at=50))
    for number in range(10, 20):
        record = numbered(number, key=b"l", rank=4, expires_at=900)
        assert store.put(record) is Kept.WORSE
    assert store.put(numbered(30, key=b"l", rank=6, expires_at=40)) is Kept.NEW
    assert store.count() == 6


def test_a_flood_of_one_kind_pushes_out_no_other():
    store = RecordStore(Database(None), limit=20)
    for number in range(5):
        store.put(numbered(number, kind="offer", expires_at=50))
    for number in range(100, 150):
        store.put(numbered(number, kind="arbiter", key=b"l", rank=9, expires_at=900))
    assert store.kinds() == {"offer": 5, "arbiter": 15}
    for number in range(200, 210):
        store.put(numbered(number, kind="offer", key=b"m", expires_at=60))
    assert store.kinds() == {"offer": 10, "arbiter": 10}


def test_a_store_that_was_larger_is_cut_when_it_is_opened():
    database = Database(None)
    store = RecordStore(database, limit=30)
    for number in range(30):
        store.put(numbered(number, expires_at=100 + number))
    store = RecordStore(database, limit=10)
    assert store.count() == 10
    assert {r.expires_at for r in store.all_of("note", b"k" * 32, 0)} == set(range(120, 130))


def told_by_sql(store):
    rows = store._db.all("SELECT kind, key, count(*) AS n FROM dht_record GROUP BY kind, key")
    return {(row["kind"], row["key"]): row["n"] for row in rows}


def remembered(store):
    return {where: store._holdings.under(where) for where in store.held_keys()}


puts = st.builds(
    numbered,
    st.integers(0, 40),
    kind=st.sampled_from(["note", "other", "third"]),
    key=st.sampled_from([b"k", b"l", b"m", b"n"]),
    owner=st.integers(0, 5),
    expires_at=st.integers(1, 30),
    seq=st.integers(1, 3),
    rank=st.integers(0, 2),
)


@given(st.lists(st.one_of(puts, st.integers(1, 30)), max_size=80), st.sampled_from([0.4, 1.0]))
def test_the_counts_in_memory_are_those_of_the_table(steps, share):
    bounds, database = Bounds(per_key=5, share=share), Database(None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_records, "MAX_PER_OWNER_AND_KEY", 2)
        patch.setattr(store_records, "MAX_PER_OWNER", 4)
        store = RecordStore(database, limit=12)
        for step in steps:
            if isinstance(step, int):
                count = store.count()
                assert store.purge(step) == count - store.count()
            else:
                held = store.all_of(step.kind, step.key, 0)
                known = any((r.owner, r.raw) == (step.owner, step.raw) for r in held)
                assert (store.put(step, bounds) is Kept.KNOWN) == known
            table = told_by_sql(store)
            assert remembered(store) == table
            assert store.count() == sum(table.values()) <= 12
            kinds = Counter()
            for (kind, _), number in table.items():
                kinds[kind] += number
            assert store.kinds() == kinds
            assert max(table.values(), default=0) <= 5
    database.close()


def test_a_put_that_fails_changes_no_count(monkeypatch):
    store = RecordStore(Database(None), limit=3)
    for number in range(3):
        store.put(numbered(number))
    real, failed = store._db.all, []

    def full(sql, *args):
        if sql.startswith("DELETE"):
            failed.append(sql)
            raise StorageFault("the disk is full")
        return real(sql, *args)

    monkeypatch.setattr(store._db, "all", full)
    with pytest.raises(StorageFault):
        store.put(numbered(9, key=b"l", expires_at=2000))
    assert failed
    monkeypatch.undo()
    assert remembered(store) == told_by_sql(store) == {("note", b"k" * 32): 3}
