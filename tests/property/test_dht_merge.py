"""Two who saw the same records agree, in whatever order they saw them."""

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from dht import records
from dht.records import Record, better, merge, place
from p2pnode.base import wire


def made(owner, id_, seq, expires_at, text):
    """Return a record whose bytes decide its fields, as a validator's do."""
    raw = wire.pack([owner, id_, seq, expires_at, text])
    return Record("note", bytes(32), owner, id_, seq, expires_at, raw)


RECORDS = st.builds(
    made,
    st.sampled_from([bytes([n]) * 32 for n in range(3)]),
    st.sampled_from([b"", b"a", b"b"]),
    st.integers(0, 3),
    st.integers(1, 4),
    st.binary(max_size=1),
)
VIEWS = st.lists(RECORDS, max_size=8)


@given(VIEWS, VIEWS)
def test_merge_is_commutative(one, other):
    assert merge(one, other) == merge(other, one)


@given(VIEWS)
def test_merge_is_idempotent(view):
    once = merge(view)
    assert merge(once) == once
    assert merge(once, once) == once


@given(VIEWS, VIEWS, VIEWS)
def test_merge_is_associative(one, other, third):
    assert merge(merge(one, other), third) == merge(one, merge(other, third))


@given(st.lists(RECORDS, min_size=1, max_size=4))
def test_the_highest_sequence_wins_and_nothing_is_invented(view):
    for winner in merge(view):
        rivals = [r for r in view if place(r) == place(winner)]
        assert winner in rivals
        assert winner.seq == max(r.seq for r in rivals)
    assert {place(r) for r in merge(view)} == {place(r) for r in view}


@given(RECORDS, RECORDS)
def test_an_equal_sequence_has_one_winner_whoever_came_first(one, other):
    other = made(one.owner, one.id, one.seq, other.expires_at, other.raw[-1:])
    assert better(one, other).raw == better(other, one).raw


def test_a_key_holds_the_latest_to_expire_within_its_quotas(monkeypatch):
    monkeypatch.setattr(records, "MAX_PER_OWNER_AND_KEY", 2)
    all_of_them = [
        made(bytes([owner]) * 32, bytes([number]), 1, number, b"")
        for owner, number in ((1, 1), (1, 2), (1, 3), (2, 4), (2, 5))
    ]
    for order in permutations(all_of_them):
        assert [r.expires_at for r in merge(order, per_key=3)] == [3, 4, 5]
