"""Whatever bytes come, an offer is honest, or InvalidRecord is raised and nothing else."""

from collections.abc import Callable
from functools import partial
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from orderbook_kit import KEY, NET, NOW, offer, signed_body

from orderbook.account_details import check_details
from orderbook.accounts import Account, check_disclosure
from orderbook.currencies import EXPONENTS
from orderbook.offer import MAX_LIFE_S, MAX_OFFER_SAT, Offer, Side
from orderbook.shelf import Shelf
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.units import MAX_FIAT_MINOR, MAX_PRICE, fiat_for

MIN = NET.min_amount_sat
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=120)


@st.composite
def offers(draw: st.DrawFn) -> Offer:
    low = draw(st.integers(MIN, MAX_OFFER_SAT))
    high = draw(st.integers(low, MAX_OFFER_SAT))
    dearest = min(MAX_PRICE, MAX_FIAT_MINOR * 10**12 // high)
    made = offer(
        offer_id=draw(st.binary(min_size=16, max_size=16)),
        seq=draw(st.integers(0, 2**32 - 1)),
        side=draw(st.sampled_from(Side)),
        currency=draw(st.sampled_from(sorted(EXPONENTS))),
        min_sat=low,
        max_sat=high,
        price=draw(st.integers(10**7, max(10**7, dearest))),
        dep_b_bp=draw(st.one_of(st.just(0), st.integers(1000, 5000))),
        dep_s_bp=draw(st.integers(1000, 5000)),
        terms=draw(TEXT),
        expires_at=draw(st.integers(NOW + 1, NOW + MAX_LIFE_S)),
    )
    return draw(st.sampled_from([made, made.withdrawal()]))


def outcome(call: Callable[[], Any]) -> Any:
    """Return what a call answers, or the one error it may raise."""
    try:
        return call()
    except InvalidRecord as error:
        return error


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.binary(max_size=70)
    | st.text(max_size=6)
    | st.floats(),
    lambda c: st.lists(c, max_size=16) | st.dictionaries(st.text(max_size=2), c, max_size=2),
    max_leaves=20,
)


def read(raw: object) -> Offer:
    return Offer.from_wire(raw, network=NET, now=NOW)


@given(offers())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_round_trip(made: Offer) -> None:
    raw = made.to_wire(KEY)
    assert read(raw) == made
    assert len(raw) <= 2048
    if not made.withdrawn:
        assert 1 <= fiat_for(made.min_sat, made.price) <= fiat_for(made.max_sat, made.price)


@given(offers(), st.data())
def test_one_flipped_bit_is_fatal(made: Offer, data: st.DataObject) -> None:
    raw = bytearray(made.to_wire(KEY))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(InvalidRecord):
        read(bytes(raw))


@given(st.binary(max_size=700))
@example(b"\x92\xc4\x01\xc1\xc4\x00")
@example(b"\x81\x81\x00\x00\x00")
@example(b"\xdd\xff\xff\xff\xff")
@example(b"\x92\x91\x01" + b"\xc4\x40" + bytes(64))
def test_garbage_raises_one_thing(raw: bytes) -> None:
    with pytest.raises(InvalidRecord):
        read(raw)


@given(VALUES)
def test_well_formed_nonsense_raises_one_thing(value: Any) -> None:
    for raw in (msgpack.packb(value), msgpack.packb([value, bytes(64)])):
        with pytest.raises(InvalidRecord):
            read(raw)


FIELDS = st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=70) | st.text(max_size=6)


@given(st.integers(0, 15), st.recursive(FIELDS, lambda c: st.lists(c, max_size=3), max_leaves=4))
def test_a_signed_offer_with_one_strange_field_is_good_or_names_it(at: int, value: Any) -> None:
    body = list(offer().body())
    body[at] = value
    try:
        raw = signed_body(body)
    except InvalidRecord:
        return  # text with a lone surrogate: not even its maker can write it
    good = outcome(lambda: read(raw))
    if isinstance(good, InvalidRecord):
        assert good.field
        assert len(str(good)) < 300
    else:
        assert list(good.body())[at] == (tuple(value) if type(value) is list else value)


@given(VALUES)
def test_any_disclosure_is_good_or_refused(value: Any) -> None:
    with pytest.raises(InvalidRecord):
        check_disclosure(value, bytes(32), NET)


@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=2))
def test_any_details_are_good_or_refused(details: dict[str, Any]) -> None:
    answer = outcome(lambda: check_details("CUSTOM", details))
    if isinstance(answer, InvalidRecord):
        assert answer.field == "details"
    else:
        assert answer == (details["details"],)


@given(st.binary(max_size=200), st.binary(min_size=32, max_size=32))
def test_a_sealed_account_of_garbage_is_refused(sealed: bytes, key: bytes) -> None:
    with pytest.raises(InvalidRecord):
        Account.unseal(key, sealed)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.booleans()), max_size=25),
    st.randoms(use_true_random=False),
)
@settings(max_examples=50)
def test_any_order_and_repetition_of_records_shows_the_same_book(
    versions: list[tuple[int, int, bool]], random: Any
) -> None:
    """The shelf is a join: what is shown depends on the set of records, not on their order."""
    records = []
    for number, seq, gone in versions:
        made = offer(offer_id=bytes([number]) * 16, seq=seq)
        records.append((made.withdrawal() if gone else made).to_wire(KEY))
    shown = []
    for _ in range(3):
        random.shuffle(records)
        shelf = Shelf(NET)
        for raw in records + records[:3]:
            answer = outcome(partial(shelf.admit, raw, market="EUR", now=NOW))
            assert isinstance(answer, Offer) or answer.field == "seq"
        shown.append({o.hash for _, o in shelf.listing("EUR", NOW)})
    assert shown[0] == shown[1] == shown[2]


@given(st.lists(st.integers(0, 255), min_size=1, max_size=60, unique=True))
@settings(max_examples=30)
def test_the_shelf_never_holds_more_than_its_bounds(ids: list[int]) -> None:
    shelf = Shelf(NET, capacity=20, per_maker=12)
    for i, number in enumerate(ids):
        raw = offer(offer_id=bytes([number]) * 16, expires_at=NOW + 1 + i).to_wire(KEY)
        shelf.admit(raw, market="EUR", now=NOW)
        assert len(shelf) <= 12
    shelf.forget(NOW + MAX_LIFE_S)
    assert len(shelf) == 0
