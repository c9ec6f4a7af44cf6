"""Weights of any set of receipts: what no order, repetition or invention can bring about."""

import hashlib
from dataclasses import fields, replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from receipt_kit import NET, Blocks, Deal

from escrow.proven import Proven
from escrow.receipt import MAX_BYTES, Receipt
from escrow.standing import (
    AGE_S,
    MAX_SHOWN,
    PER_PARTNER,
    circular,
    history,
    named_since,
    selection,
    statistics,
    weigh,
)
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.history import NONE

NOW = 100 * 86_400
PEOPLE = [bytes([n]) * 32 for n in range(6)]
ME = PEOPLE[0]


@st.composite
def proven(draw: st.DrawFn) -> Proven:
    maker = draw(st.sampled_from(PEOPLE))
    taker = draw(st.sampled_from([p for p in PEOPLE if p != maker]))
    one = draw(st.integers(0, 12))
    made = Proven(
        contract_hash=b"",
        trade_id=bytes([draw(st.integers(0, 9))]) * 32,
        maker=maker,
        taker=taker,
        maker_is_seller=draw(st.integers(0, 1)),
        amount_sat=draw(st.integers(200_000, 10**8)),
        currency=draw(st.sampled_from(["EUR", "USD"])),
        fiat_minor=draw(st.integers(1, 10**7)),
        method="SEPA",
        outcome=draw(st.sampled_from(["released", "released", "ruled"])),
        buyer_credit=draw(st.integers(0, 1)),
        seller_credit=draw(st.integers(0, 1)),
        funding_txid=bytes([draw(st.integers(0, 9))]) * 32,
        payout_txid=bytes([one]) * 32,
        funded_at=draw(st.integers(1, NOW)),
        funding_height=1,
        funding_block=bytes(32),
        payout_height=2,
        payout_block=bytes(32),
    )
    return replace(made, contract_hash=hashlib.sha256(wire.pack(made.array())).digest())


PASTS = st.lists(proven(), max_size=40)


@given(PASTS, st.sampled_from(PEOPLE), st.integers(0, 2**32))
def test_neither_order_nor_repetition_changes_a_past(
    past: list[Proven], node_id: bytes, seed: int
) -> None:
    since = named_since(past)
    once = weigh(node_id, set(past), since, (), ME, NOW)
    shuffled = past * 2
    Random(seed).shuffle(shuffled)
    assert named_since(shuffled) == since
    assert history(weigh(node_id, shuffled, since, (), ME, NOW)) == history(once)
    assert statistics(shuffled) == statistics(past)


@given(PASTS, st.sampled_from(PEOPLE))
def test_a_past_is_never_more_than_its_receipts(past: list[Proven], node_id: bytes) -> None:
    since = named_since(past)
    weighed = weigh(node_id, past, since, (), ME, NOW)
    found = history(weighed)
    good = [w for w in weighed if not w.why]
    his = [p for p in past if node_id in p.parties]
    assert len(weighed) == len(his)
    assert (
        found.trades
        == len(good)
        <= min(len({p.funding_txid for p in his}), len({p.trade_id for p in his}))
    )
    assert found.partners <= found.trades <= PER_PARTNER * found.partners
    for w in good:
        assert node_id in w.proven.parties
        assert w.partner in w.proven.parties
        assert w.partner != node_id
        assert w.proven.credits(node_id)
        assert w.partner == ME or NOW - since[w.partner] >= AGE_S
        assert found.first_at <= w.proven.funded_at
    assert (found == NONE) == (not good)


@given(PASTS, st.sets(st.sampled_from(PEOPLE)))
def test_a_closed_ring_is_closed(past: list[Proven], shown_by: set[bytes]) -> None:
    rings = circular(past, shown_by, ME)
    assert rings <= shown_by - {ME}
    for one in past:
        assert (one.maker in rings) == (one.taker in rings)
    if len(shown_by | {p for one in past for p in one.parties}) == len(shown_by - {ME}):
        assert rings == {p for one in past for p in one.parties}
    for node_id in rings:
        assert history(weigh(node_id, past, named_since(past), rings, ME, NOW)) == NONE


@given(PASTS, st.sampled_from(PEOPLE), st.integers(1, MAX_SHOWN))
def test_what_is_shown_is_his_and_may_weigh(past: list[Proven], node_id: bytes, most: int) -> None:
    own = [p for p in set(past) if node_id in p.parties]
    chosen = selection(node_id, own, most)
    assert len(chosen) == len(set(chosen)) <= most
    assert set(chosen) <= set(own)
    partners = [p.other(node_id) for p in chosen]
    assert all(partners.count(p) <= PER_PARTNER for p in partners)
    assert all(p.credits(node_id) for p in chosen)
    if own and any(p.credits(node_id) for p in own):
        oldest = min(p.funded_at for p in own if p.credits(node_id))
        assert most == 1 or oldest in {p.funded_at for p in chosen}


@given(st.data())
def test_no_bytes_bring_anything_but_a_receipt_or_a_refusal(data: st.DataObject) -> None:
    raw = bytearray(_whole())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)) | st.just(len(raw)))]
    if bytes(raw) == _whole():
        return
    with pytest.raises(InvalidRecord) as caught:  # there is nothing that nothing covers
        Receipt.decoded(bytes(raw), NET).proven(BLOCKS)
    assert caught.value.field


BLOCKS = Blocks()
_KEPT: list[bytes] = []


def _whole() -> bytes:
    if not _KEPT:
        _KEPT.append(Deal(BLOCKS).receipt().wire())
    return _KEPT[0]


@given(st.binary(max_size=MAX_BYTES + 1))
def test_strangers_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRecord) as caught:
        Receipt.decoded(raw, NET)
    assert caught.value.field


def test_every_field_of_what_is_kept_is_of_its_type() -> None:
    one = Receipt.decoded(_whole(), NET).proven(BLOCKS)
    for f in fields(Proven):
        wrong = replace(one, **{f.name: 1.5})
        with pytest.raises(InvalidRecord) as caught:
            Proven.from_array(wrong.array())
        assert caught.value.field == f.name
