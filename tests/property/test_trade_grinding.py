"""One draw cannot be shifted: nothing that comes late, and nothing that is withheld, changes it."""

from dataclasses import replace
from functools import cache
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from trade_facts import EYES, FRESH, Play, h, listing, record

from escrow.draw import Drawn, conclude
from escrow.messages import Kind, Message
from escrow.payloads import decode
from p2pnode.base.errors import InvalidRecord

numbers = st.sets(st.integers(0, 6), min_size=3)


@cache
def three(maker: frozenset[int], taker: frozenset[int]) -> tuple[Play, tuple[Message, ...]]:
    numbered = {n: record(n) for n in range(7)}
    play = Play(lists={"maker": sorted(maker), "taker": sorted(taker)}, numbered=numbered)
    play.say(play.taker, play.take())
    play.say(play.maker, play.draw())
    play.say(play.taker, play.reveal())
    return play, tuple(play.messages)


@given(numbers, numbers, st.sets(st.integers(0, 6)), st.booleans(), st.permutations(range(7)))
@settings(max_examples=100)
def test_records_known_besides_the_lists_change_nothing(
    maker: set[int], taker: set[int], more: set[int], newer: bool, order: list[int]
) -> None:
    play, messages = three(frozenset(maker), frozenset(taker))
    drawn = _draw(play, messages)
    known = {record(n).id: record(n) for n in order if n in maker | taker | more}
    if newer:  # the whole network has moved on since
        known |= {r.id: r for n in more for r in [record(n, FRESH + 3)]}
    assert conclude(*messages, known, EYES) == drawn


def _draw(play: Play, messages: tuple[Message, ...]) -> Drawn:
    return conclude(*messages, play.records, EYES)


@given(numbers, numbers, numbers)
@settings(max_examples=60)
def test_a_taker_who_has_seen_draw_has_one_list_left(
    maker: set[int], taker: set[int], wish: set[int]
) -> None:
    play, messages = three(frozenset(maker), frozenset(taker))
    late = listing(record(n) for n in wish)
    if wish == taker:
        return
    with pytest.raises(InvalidRecord, match=r"reveal.arbiters: are not what the TAKE"):
        _draw(play, (*messages[:2], _signed(play.taker, messages[2], arbiters=late)))


@given(numbers, numbers, st.integers(0, 50))
@settings(max_examples=60)
def test_a_taker_who_has_seen_draw_has_one_nonce_left(
    maker: set[int], taker: set[int], attempt: int
) -> None:
    play, messages = three(frozenset(maker), frozenset(taker))
    reveal = _signed(play.taker, messages[2], nonce=h(f"attempt {attempt}"))
    with pytest.raises(InvalidRecord, match=r"reveal.nonce: is not what the TAKE"):
        _draw(play, (*messages[:2], reveal))


@given(numbers, numbers, numbers)
@settings(max_examples=60)
def test_a_maker_who_has_seen_reveal_cannot_exchange_his_draw(
    maker: set[int], taker: set[int], wish: set[int]
) -> None:
    play, messages = three(frozenset(maker), frozenset(taker))
    if wish == maker:
        return
    late = _signed(play.maker, messages[1], arbiters=listing(record(n) for n in wish))
    with pytest.raises(InvalidRecord, match=r"reveal.draw_id: is not the id of this DRAW"):
        _draw(play, (messages[0], late, messages[2]))


def test_the_makers_part_and_rate_are_inside_the_seed_the_takers_part_is_not() -> None:
    """He fixes DRAW before the nonce is known; what comes after the seed cannot shift it."""
    play, messages = three(frozenset({0, 1, 2}), frozenset({0, 1, 3}))
    other = replace(play.own(play.taker).part, account_hash=h("another account"))
    again = _draw(play, (*messages[:2], _signed(play.taker, messages[2], part=other)))
    assert again == _draw(play, messages)


def _signed(who: Any, message: Message, **change: Any) -> Message:
    payload = replace(decode(Kind(message.kind), message.payload), **change)
    return replace(message, payload=payload.wire(), signature=b"").signed(who)
