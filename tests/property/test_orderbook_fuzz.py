"""Whatever bytes come, an offer is honest, or InvalidRecord is raised and nothing else."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from orderbook_kit import KEY, NET, NOW, OTHER, offer, signed_body

from orderbook.account_details import check_details
from orderbook.accounts import Account, check_disclosure
from orderbook.currencies import EXPONENTS
from orderbook.methods import METHODS
from orderbook.offer import ESCROW_KINDS, MAX_FREE_SAT, MAX_LIFE_S, MAX_OFFER_SAT, Offer, Side
from orderbook.offer_bounds import MAX_SAID
from orderbook.places import COUNTRIES, languages
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.identity import works
from p2pnode.base.units import MAX_FIAT_MINOR, MAX_PRICE, fiat_for

MIN = NET.min_amount_sat
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=120)


def several(names: Iterable[str], most: int, least: int = 0) -> st.SearchStrategy[tuple[str, ...]]:
    chosen = st.lists(st.sampled_from(sorted(names)), min_size=least, max_size=most, unique=True)
    return chosen.map(lambda found: tuple(sorted(found)))


@st.composite
def offers(draw: st.DrawFn) -> Offer:
    dep_b_bp = draw(st.one_of(st.just(0), st.integers(1000, 5000)))
    low = draw(st.integers(MIN, MAX_OFFER_SAT if dep_b_bp else MAX_FREE_SAT))
    high = draw(st.integers(low, MAX_OFFER_SAT if dep_b_bp else MAX_FREE_SAT))
    dearest = min(MAX_PRICE, MAX_FIAT_MINOR * 10**12 // high)
    price = draw(st.one_of(st.just(0), st.integers(10**7, max(10**7, dearest))))
    said = draw(st.integers(0, MAX_SAID))
    made = offer(
        offer_id=draw(st.binary(min_size=16, max_size=16)),
        slot=draw(st.integers(0, 7)),
        seq=draw(st.integers(0, 2**32 - 1)),
        side=draw(st.sampled_from(Side)),
        currency=draw(st.sampled_from(sorted(EXPONENTS))),
        min_sat=low,
        max_sat=high,
        price=price,
        margin_bp=0 if price else draw(st.integers(-5000, 5000)),
        methods=draw(several(METHODS, 16, 1)),
        countries=draw(several(COUNTRIES, 64)),
        dep_b_bp=dep_b_bp,
        dep_s_bp=draw(st.integers(1000, 5000)),
        peer_trades=draw(st.integers(0, 64)),
        peer_days=draw(st.integers(0, 3650)),
        escrow_kinds=draw(several(ESCROW_KINDS, 2, 1)),
        languages=draw(several(languages(), 8)),
        terms=draw(TEXT),
        said_trades=said,
        said_partners=draw(st.integers(0, said)),
        said_since=draw(st.integers(0, 2**40)),
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
    if not made.withdrawn and not made.floating:
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


# -- the quick look at what arrives by the thousand


def both(raw: bytes) -> None:
    """Assert that what the quick look lets pass is read alike by the slow one."""
    quick = Offer._quick(raw, NET)
    if quick is None:
        return
    slow = Offer._read(raw, NET)
    assert quick == slow
    assert quick[0].hash == slow[0].hash == Offer.from_body(slow[0].body(), NET).hash
    assert [type(v) for v in quick[0].body()] == [type(v) for v in slow[0].body()]


@given(offers(), st.binary(min_size=64, max_size=64))
def test_the_quick_look_takes_every_good_offer_of_printable_ascii(
    made: Offer, signature: bytes
) -> None:
    raw = wire.pack((made.body(), signature))
    both(raw)
    assert (Offer._quick(raw, NET) is not None) == (made.terms.isascii())


KEYS = [n.to_bytes(31, "big") for n in range(4096)]
SHORT = next(key for key in KEYS if works(NET, key))  # has the work, but is no key
IDLE = next(key + b"\0" for key in KEYS if not works(NET, key + b"\0"))
EDGES: tuple[Any, ...] = (
    *(0, 1, 2, 7, 63, 64, -1, 999, 1000, 1001, 3650, 3651, 4999, 5000, 5001, -5000, -5001),
    *(MIN - 1, MIN, MAX_FREE_SAT, MAX_FREE_SAT + 1, MAX_OFFER_SAT, MAX_OFFER_SAT + 1),
    *(MAX_PRICE, MAX_PRICE + 1, 2**40, 2**40 + 1, 2**31, 2**31 + 1, 2**62, 2**62 + 1),
    *(2**64 - 1, True, None, 1.0, b"", "", (), ("CUSTOM",), ("SEPA", "CUSTOM"), ("NONE",)),
    *(("CUSTOM", "CUSTOM"), (1,), (b"CUSTOM",), (("CUSTOM",),), ({},), ("DE",), ("de",)),
    *(("en",), ("AT", "DE"), "EUR", "eur", "XAU", bytes(16), KEY.node_id, OTHER.node_id),
    *(IDLE, SHORT, "é" * 300),
    *("\x7f", "\x1b[2J", "\u202e", "é", "x" * 500, "x" * 501),
    *(ESCROW_KINDS, ESCROW_KINDS[::-1]),
)


def test_the_quick_look_lets_no_edge_pass_that_the_slow_one_refuses() -> None:
    bases = [
        offer(),
        offer(price=0, margin_bp=100, dep_b_bp=0, countries=("AT", "DE"), languages=("en",)),
        offer(slot=7, said_trades=9, said_partners=9, methods=("CUSTOM", "SEPA")).withdrawal(),
    ]
    for base in bases:
        for at in range(len(base.body())):
            for value in EDGES:
                body = list(base.body())
                body[at] = value
                both(msgpack.packb([body, bytes(64)], use_bin_type=True))


@given(
    offers(),
    st.lists(
        st.tuples(st.integers(0, 25), st.one_of(st.sampled_from(EDGES), VALUES)),
        min_size=1,
        max_size=3,
    ),
)
@settings(max_examples=500)
def test_the_quick_look_lets_nothing_pass_that_the_slow_one_refuses(
    made: Offer, changes: list[tuple[int, Any]]
) -> None:
    body = list(made.body())
    for at, value in changes:
        body[at] = value
    try:
        raw = msgpack.packb([body, bytes(64)], use_bin_type=True)
    except (OverflowError, ValueError):
        return
    both(raw)


@given(offers(), st.integers(0, 25), st.data())
def test_the_quick_look_knows_one_spelling_alone(made: Offer, at: int, data: st.DataObject) -> None:
    raw = bytearray(wire.pack((made.body(), bytes(64))))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    both(bytes(raw))
    parts = [msgpack.packb(value, use_bin_type=True) for value in made.body()]
    value = made.body()[at]
    if type(value) is int and 0 <= value < 2**32:  # as 64 bits, which it does not need
        parts[at] = b"\xcf" + value.to_bytes(8, "big")
        spelled = b"\x92\xdc\x00\x1a" + b"".join(parts) + b"\xc4\x40" + bytes(64)
        assert Offer._quick(spelled, NET) is None
        with pytest.raises(InvalidRecord, match="canonically"):
            Offer._read(spelled, NET)


def test_the_edges_of_a_price_are_the_same_to_both() -> None:
    for low in (MIN, MIN + 1, 1_000_000):
        least = -(-(10**12 // 2) // low)
        for price in (least - 1, least, least + 1):
            body = list(offer(min_sat=low, max_sat=low).body())
            body[10] = price
            raw = wire.pack((body, bytes(64)))
            good = not isinstance(outcome(partial(Offer._read, raw, NET)), InvalidRecord)
            assert good == (price >= least)
            assert (Offer._quick(raw, NET) is not None) == good
        most = ((2 * MAX_FIAT_MINOR + 1) * 10**12 // 2 - 1) // low
        for price in (most - 1, most, most + 1):
            if price <= MAX_PRICE:
                body = list(offer(min_sat=low, max_sat=low).body())
                body[10] = price
                raw = wire.pack((body, bytes(64)))
                good = not isinstance(outcome(partial(Offer._read, raw, NET)), InvalidRecord)
                assert good == (price <= most)
                assert (Offer._quick(raw, NET) is not None) == good
