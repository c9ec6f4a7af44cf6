"""Bonds of any kind: the node judges each as the second implementation does."""

from dataclasses import replace
from typing import Any

import draw_reference as ref
import hypothesis.strategies as st
from bond_kit import bond, bonded
from hypothesis import given, settings
from trade_facts import ANCHOR, EYES, FRESH, MTP, NET, TIP, FakeEyes, block_hash, identity, record

from escrow.anchor import Anchor, Candidate
from escrow.arbiters import ArbiterRecord
from escrow.bond import FIRST_TIME, LAST_TIME, YEAR_S, bond_output, bond_script, weight_at
from escrow.draw import pick
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord

TRADERS = {identity("maker").node_id, identity("taker").node_id}
AT = MTP - 600 * (TIP - ANCHOR)  # the anchor's median time past

times = st.integers(FIRST_TIME, LAST_TIME) | st.sampled_from([2**31 - 1, 2**31, LAST_TIME])
# Each rule's bound lies inside these, with both of its sides.
numbers = st.integers(0, 2)
heights = st.integers(ANCHOR - 4, ANCHOR) | st.integers(1, TIP)
locks = st.integers(AT + 3597, AT + 3603) | st.integers(AT - 10, AT + 3 * YEAR_S)
sats = st.integers(8755, 8765) | st.integers(199_998, 200_002) | st.integers(1, 10**9)
freshness = st.integers(ANCHOR - 8, ANCHOR - 4) | st.integers(0, TIP)


@st.composite
def records(draw: Any) -> ArbiterRecord:
    number, at_height = draw(numbers), draw(freshness)
    if draw(st.integers(0, 3)) == 0:
        return record(number, at_height)
    made = bond(number, sat=draw(sats), lock_time=draw(locks), height=draw(heights))
    return bonded(number, at_height, made=made)


def both(found: list[ArbiterRecord], amount: int, seen: set[int]) -> tuple[Any, Any]:
    """Who counts, by the node and by the second implementation; `seen` are blocks with the bond."""
    eyes = FakeEyes({r.bond.height: r.bond.root for r in found if r.bond and r.bond.height in seen})
    anchor = Anchor(NET, ANCHOR, amount, frozenset(TRADERS), eyes)
    chain = ref.Chain(block_hash, eyes.merkle_root, eyes.mtp)
    told = [
        ref.entry_of(fields, anchor=ANCHOR, amount=amount, traders=TRADERS, chain=chain)
        for fields in ref.standing([r.array() for r in found])
    ]
    mine = {(c.record.outpoint, c.weight) for c in anchor.candidates(found)}
    return mine, {(e.outpoint, e.weight) for e in told if e is not None}


@given(st.lists(records(), max_size=4), st.sampled_from([1, 200_000, 10**6]), st.booleans())
@settings(max_examples=300, deadline=None)
def test_who_counts_and_what_he_weighs_are_the_same_to_both(
    found: list[ArbiterRecord], amount: int, shown: bool
) -> None:
    mine, theirs = both(found, amount, set(range(TIP + 1)) if shown else set())
    assert mine == theirs


@given(times)
@settings(max_examples=300)
def test_any_time_is_pushed_in_its_shortest_form(lock_time: int) -> None:
    key = identity("maker").node_id
    point = bond(0).key
    script = bond_script(lock_time, point)
    assert script == ref.bond_script(lock_time, point)
    assert bond_output(lock_time, point) == ref.bond_output(lock_time, point)
    size = script[0]
    number = int.from_bytes(script[1 : 1 + size], "little")
    assert (number, size) == (lock_time, 4 if lock_time < 2**31 else 5)
    assert key not in script


@given(st.integers(1, 21 * 10**14), st.integers(-YEAR_S, 3 * YEAR_S), st.integers(2, 1000))
def test_weight_is_linear_so_parts_never_outweigh_the_whole(
    sat: int, seconds: int, parts: int
) -> None:
    whole = weight_at(sat, MTP + seconds, MTP)
    each = [sat // parts + (n < sat % parts) for n in range(parts)]
    assert sum(each) == sat
    assert whole - parts < sum(weight_at(s, MTP + seconds, MTP) for s in each) <= whole
    assert 0 <= whole <= sat
    assert weight_at(sat, MTP + seconds - 1, MTP) <= whole


@given(st.lists(st.tuples(st.integers(1, 2**50), numbers), min_size=2, max_size=12), st.binary())
@settings(max_examples=200)
def test_any_pool_is_walked_alike_and_gives_two_owners(
    shape: list[tuple[int, int]], salt: bytes
) -> None:
    """Records of up to three nodes and three bond keys, in any mixture of the two."""
    base = [bonded(n, node=f"arbiter {owner}") for n, (_, owner) in enumerate(shape)]
    pool = [Candidate(r, w) for r, (w, _) in zip(base, shape, strict=True)]
    pool.sort(key=lambda c: c.record.outpoint)
    entries = [
        ref.Entry(c.record.outpoint, c.weight, c.record.node_id, c.record.bond.key)
        for c in pool
        if c.record.bond
    ]
    seed = wire.digest(b"any", [salt])
    try:
        drawn = pick(NET, seed, pool)
    except InvalidRecord:
        assert len({c.record.node_id for c in pool}) == 1
        return
    assert [r.outpoint for r in drawn] == [e.outpoint for e in ref.walk("sandbox", seed, entries)]
    assert drawn[0].node_id != drawn[1].node_id


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_bit_changed_anywhere_makes_no_record(data: st.DataObject) -> None:
    """And none is read back as another: canonical, signed three times."""
    raw = bytearray(bonded(data.draw(numbers)).wire())
    place = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[place // 8] ^= 1 << place % 8
    try:
        again = ArbiterRecord.from_wire(bytes(raw), NET)
    except InvalidRecord:
        return
    raise AssertionError(again)


def test_the_bounds_of_the_strategies_are_those_of_the_rules() -> None:
    assert (NET.bond_age, NET.bond_lock_s, NET.bond_weight) == (2, 3600, 1)
    assert EYES.mtp(ANCHOR) == AT
    assert FRESH < ANCHOR - 6
    assert replace(bond(0)).value == 5_000_000
