"""Range-based set reconciliation levels any two sets, in few rounds, whatever the other says."""

import hashlib
import math

from hypothesis import given
from hypothesis import strategies as st

from p2pnode.base import ranges, wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.ranges import FEW, PARTS, Part, between, differing, parts, parts_in, parts_out

# A place is owner || id. Few owners, so that places share long beginnings.
places = st.builds(
    lambda owner, name: bytes([owner]) * 32 + name,
    st.integers(0, 20),
    st.binary(max_size=3),
)
versions = st.integers(0, 1)
sets = st.dictionaries(places, versions, max_size=120)
large = st.builds(
    lambda first, count, step: {
        hashlib.sha256(bytes([n % 256, n // 256])).digest(): 0
        for n in range(first, first + count * step, step)
    },
    st.integers(0, 3000),
    st.integers(0, 1024),
    st.integers(1, 3),
)


def items(held):
    return sorted((at, hashlib.sha256(bytes([v]) + at).digest()) for at, v in held.items())


def level(ours, theirs):
    """Follow the ranges that differ as a holder does; return the rounds and the ranges asked."""
    rounds, asked, ranges = 0, 0, [(b"", b"")]
    while ranges:
        rounds += 1
        following = []
        for low, high in ranges:
            asked += 1
            told = parts_in(
                wire.unpack(
                    "told", wire.pack(parts_out(parts(items(theirs), low, high))), limit=16384
                ),
                low,
                high,
            )
            mine = items(ours)
            for start, end, count in differing(mine, low, told):
                here = sum(between(at, start, end) for at, _ in mine)
                few = max(count, here) <= FEW or not min(count, here)
                if not few and (start, end) != (low, high):
                    following.append((start, end))
                    continue
                for at in {at for at in {*ours, *theirs} if between(at, start, end)}:
                    ours[at] = theirs[at] = max(ours.get(at, 0), theirs.get(at, 0))
        ranges = following
    return rounds, asked


@given(sets, sets)
def test_two_sets_are_the_same_afterwards(ours, theirs):
    best = {at: max(ours.get(at, 0), theirs.get(at, 0)) for at in {*ours, *theirs}}
    level(ours, theirs)
    assert ours == theirs == best


@given(large, large)
def test_rounds_grow_with_the_logarithm(ours, theirs):
    most = max(len(ours), len(theirs), 2)
    rounds, _ = level(ours, theirs)
    assert ours == theirs
    assert rounds <= 2 + math.ceil(math.log(most, PARTS))


@given(large, st.integers(0, 1023))
def test_one_difference_costs_a_few_questions_whatever_the_size(held, number):
    if not held:
        return
    theirs = dict(held)
    del theirs[sorted(held)[number % len(held)]]
    _, asked = level(dict(held), theirs)
    assert asked <= 2 + math.ceil(math.log(len(held) + 1, PARTS))
    assert level(held, dict(held))[1] == 1


@given(sets, st.binary(max_size=64), st.binary(max_size=64))
def test_parts_cover_their_range_once(held, low, high):
    if high and high <= low:
        low, high = high, b""
    found = parts(items(held), low, high)
    assert 1 <= len(found) <= PARTS
    assert parts_in(parts_out(found), low, high) == found
    assert sum(part.count for part in found) == sum(between(at, low, high) for at in held)
    assert not list(differing(items(held), low, found))


scalars = st.one_of(st.integers(-5, 1 << 40), st.binary(max_size=70), st.text(max_size=4))
hostile_part = st.one_of(
    st.tuples(
        st.binary(max_size=66), st.integers(-1, 1 << 21), st.binary(min_size=15, max_size=17)
    ),
    st.tuples(
        st.sampled_from([b"", b"\x00", b"m", b"\xff"]), st.integers(0, 9), st.just(bytes(16))
    ),
    scalars,
    st.lists(scalars, max_size=4).map(tuple),
)


@given(
    st.one_of(scalars, st.lists(hostile_part, max_size=20).map(tuple)),
    st.binary(max_size=64),
    st.binary(max_size=64),
    sets,
)
def test_hostile_parts_are_refused_or_can_be_followed(value, low, high, held):
    if high and high <= low:
        high = b""
    try:
        told = parts_in(value, low, high)
    except InvalidRecord:
        return
    assert all(isinstance(part, Part) for part in told)
    at = low
    for start, end, count in differing(items(held), low, told):
        assert start >= at  # they go forward, within the range
        assert not end or end > start
        assert not high or (end and end <= high)
        assert 0 <= count <= ranges.MAX_COUNT
        at = end
