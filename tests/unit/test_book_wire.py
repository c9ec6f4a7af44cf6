"""The book protocol's frames, the server's record, the shares of a market, who withholds."""

from itertools import pairwise

import pytest
from book_kit import EUR, many, signed, who
from hypothesis import given
from hypothesis import strategies as st
from orderbook_kit import NET, NOW

from orderbook import book_wire, market_server
from orderbook.book_wire import DIGEST, FETCH, Ask, Digest, Page, Refusal
from orderbook.omission import GRACE_S, STALE_S, Omissions
from orderbook.shares import AGAIN_AFTER, PARTS, Shares
from p2pnode.base import ranges, wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.ranges import Part

PLACES = st.binary(max_size=64)
RAWS = st.lists(st.binary(min_size=1, max_size=2048), max_size=20)


def bounds(low, high):
    return (low, high) if not high or low < high else (b"", b"")


ASKS = st.builds(
    lambda number, what, currency, low, high: Ask(number, what, currency, *bounds(low, high)),
    st.integers(0, book_wire.MAX_ID),
    st.sampled_from([DIGEST, FETCH]),
    st.sampled_from(["EUR", "USD", "JPY"]),
    PLACES,
    PLACES,
)
ANSWERS = st.one_of(
    st.builds(Digest, st.integers(0, 9), st.just(((b"", 0, bytes(16)),))),
    st.builds(Page, st.integers(0, 9), PLACES, st.booleans(), RAWS.map(tuple)),
    st.builds(Refusal, st.integers(0, 9), st.text("abc é", min_size=1, max_size=50)),
)


@given(ASKS)
def test_a_question_comes_back_as_it_was(ask):
    assert book_wire.ask_in(book_wire.encode(ask)) == ask


@given(ANSWERS)
def test_an_answer_comes_back_as_it_was(answer):
    assert book_wire.answer_in(book_wire.encode(answer)) == answer


@given(st.one_of(st.binary(max_size=300), ASKS.map(book_wire.encode), ANSWERS.map(book_wire.encode)),
       st.integers(0, 300), st.integers(0, 255))  # fmt: skip
def test_whatever_bytes_come_there_is_one_error(raw, at, byte):
    changed = raw[:at] + bytes([byte]) + raw[at + 1 :]
    for decode in (book_wire.ask_in, book_wire.answer_in):
        try:
            message = decode(changed)
        except InvalidRecord:
            continue
        assert book_wire.encode(message) == changed  # it has one spelling


@pytest.mark.parametrize(
    ("frame", "field"),
    [
        ([0, 1, "EUR", b""], "frame"),
        ([5, 1, "EUR", b"", b""], "frame.type"),
        ([0, -1, "EUR", b"", b""], "frame.id"),
        ([0, 2**32, "EUR", b"", b""], "frame.id"),
        ([0, 1, "XXX", b"", b""], "currency"),
        ([0, 1, "EUR", b"\0" * 65, b""], "low"),
        ([1, 1, "EUR", b"b", b"a"], "high"),
        ([1, 1, "EUR", b"b", b"b"], "high"),
    ],
)
def test_a_bad_question_is_named(frame, field):
    with pytest.raises(InvalidRecord) as caught:
        book_wire.ask_in(wire.pack(frame))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("frame", "field"),
    [
        ([2, 1], "frame"),
        ([1, 1, b""], "frame.type"),
        ([3, 1, b"", 2, []], "page.done"),
        ([3, 1, b"", 0, [b""]], "page.offer"),
        ([3, 1, b"", 0, [b"x" * 2049]], "page.offer"),
        ([3, 1, b"", 0, [b"x"] * 193], "page.offers"),
        ([3, 1, b"x" * 65, 0, []], "page.until"),
        ([4, 1, ""], "error"),
        ([4, 1, "e" * 201], "error"),
    ],
)
def test_a_bad_answer_is_named(frame, field):
    with pytest.raises(InvalidRecord) as caught:
        book_wire.answer_in(wire.pack(frame))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("until", "done", "raws", "low", "high", "good"),
    [
        (b"c", True, [b"o"], b"a", b"c", True),
        (b"b", False, [b"o"], b"a", b"c", True),
        (b"b", False, [b"o"], b"a", b"", True),
        (b"", True, [], b"a", b"", True),
        (b"b", True, [], b"a", b"c", True),  # all that one answer may hold
        (b"a", True, [b"o"], b"a", b"c", False),  # stands still
        (b"0", False, [b"o"], b"a", b"", False),  # goes backwards
        (b"d", True, [b"o"], b"a", b"c", False),  # beyond the end
        (b"c", False, [b"o"], b"a", b"c", False),  # the end, and more
        (b"b", False, [], b"a", b"c", False),  # goes on with nothing
    ],
)
def test_pages_go_on_from_each_other(until, done, raws, low, high, good):
    page = Page(1, until, done, tuple(raws))
    if good:
        book_wire.check_page(page, low, high)
    else:
        with pytest.raises(InvalidRecord):
            book_wire.check_page(page, low, high)


def test_a_full_page_fits_a_frame_and_places_are_read_from_offers():
    raws = [signed(who(f"p{n}"), terms="x" * 500) for n in range(60)]
    page = book_wire.filled(raws)
    assert 1 <= len(page) < 60
    assert len(book_wire.encode(Page(2**32 - 1, b"u" * 64, True, page))) <= book_wire.FRAME_LIMIT
    assert book_wire.filled([b"x" * 2048] * 3)
    assert book_wire.place_of(raws[3]) == who("p3").node_id + b"\0"
    assert book_wire.after(b"p") > b"p"


def test_parts_are_checked_against_the_question():
    told = ranges.parts_out([Part(b"m", 3, bytes(16)), Part(b"", 0, bytes(16))])
    ask = Ask(1, DIGEST, EUR)
    assert len(book_wire.parts_of(told, ask)) == 2
    with pytest.raises(InvalidRecord):
        book_wire.parts_of(told, Ask(1, DIGEST, EUR, b"n", b""))


# ------------------------------------------------------------------ servers


def test_a_server_says_so_itself_for_half_an_hour_at_most():
    me = who("server")
    raw = market_server.sign(me, NET, EUR, NOW + market_server.LIFE_S)
    assert len(raw) <= market_server.MAX_BYTES
    found = market_server.parse(raw, NET, NOW)
    assert (found.node_id, found.currency) == (me.node_id, EUR)
    for at in (NOW + market_server.LIFE_S, NOW - 301):
        with pytest.raises(InvalidRecord) as caught:
            market_server.parse(raw, NET, at)
        assert caught.value.field == "expires_at"


@given(st.integers(0, 200), st.integers(1, 255))
def test_no_byte_of_a_servers_record_can_be_changed(at, flip):
    raw = bytearray(market_server.sign(who("server"), NET, EUR, NOW + 100))
    raw[at % len(raw)] ^= flip
    with pytest.raises(InvalidRecord):
        market_server.parse(bytes(raw), NET, NOW)


# ------------------------------------------------------------------ shares


def test_sources_share_a_market_and_the_last_parts_are_asked_of_who_is_idle():
    shares = Shares(3, 0.0)
    taken = {name: [] for name in (b"a", b"b", b"c")}
    for _ in range(PARTS):
        for name, mine in taken.items():
            if (share := shares.take(name, 0.0)) is not None:
                mine.append(share)
    assert {len(mine) for mine in taken.values()} == {PARTS // 3}
    ends = sorted((s.low, s.high) for mine in taken.values() for s in mine)
    assert ends[0][0] == ends[-1][1] == b""
    assert all(one[1] == two[0] for one, two in pairwise(ends))
    for share in (*taken[b"a"], *taken[b"b"]):
        shares.came(share)
    assert not shares.done
    assert shares.take(b"a", AGAIN_AFTER / 2) is None
    again = {shares.take(b"a", AGAIN_AFTER) for _ in range(PARTS)} - {None}
    assert again == set(taken[b"c"])  # the slow one's, asked of an idle one too
    shares.left(b"c")
    for share in again:
        shares.came(share)
    assert shares.done


def test_one_that_answers_at_once_gets_no_more_than_its_share_in_the_first_second():
    shares, count = Shares(3, 0.0), 0
    while (share := shares.take(b"quick", 0.5)) is not None:
        shares.came(share)
        count += 1
    assert count == PARTS // 3
    while (share := shares.take(b"quick", AGAIN_AFTER)) is not None:
        shares.came(share)
    assert shares.done


def test_what_a_lost_source_was_sending_is_asked_for_again():
    shares = Shares(2, 0.0)
    lost = shares.take(b"a", 0.0)
    shares.failed(lost, b"a")
    shares.left(b"a")
    found = []
    while (share := shares.take(b"b", 0.0)) is not None:
        found.append((share.low, share.high))
        shares.came(share)
    assert (lost.low, lost.high) in found
    assert shares.done


# ------------------------------------------------------------------ omissions


def test_a_source_omits_what_two_others_have_held_for_two_minutes():
    seen, here = Omissions(), [bytes([n]) * 32 for n in range(3)]
    seen.have(here, 0.0)
    lacks = frozenset(here[:2])
    for at, counted in ((GRACE_S - 1, 0), (GRACE_S, 2)):
        for source, lacking in ((b"one", lacks), (b"two", frozenset()), (b"six", frozenset())):
            seen.compared(source, lacking, at)
        assert seen.news(at) == counted
    assert seen.omitted(GRACE_S) == {b"one": 2}
    assert seen.news(GRACE_S) == 0  # each is counted once
    seen.compared(b"six", lacks, GRACE_S)  # one witness is not enough
    assert seen.omitted(GRACE_S) == {}
    seen.compared(b"six", frozenset(), GRACE_S)
    seen.have(here[1:], GRACE_S)  # the first has expired
    assert seen.omitted(GRACE_S) == {b"one": 1}
    assert seen.omitted(GRACE_S + STALE_S) == {}


def test_a_newer_version_is_not_held_against_who_has_had_no_time():
    seen = Omissions()
    seen.have([b"old"], 0.0)
    seen.have([b"new"], 500.0)
    for source, lacking in ((b"a", {b"new"}), (b"b", set()), (b"c", set())):
        seen.compared(source, frozenset(lacking), 500.0 + GRACE_S - 1)
    assert seen.omitted(700.0) == {}


def test_offers_of_the_kit_are_of_many_makers():
    assert len({book_wire.place_of(raw) for raw in many(30, makers=10)}) == 30
