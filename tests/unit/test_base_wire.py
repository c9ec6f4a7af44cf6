"""The codec has one spelling for each value, and one declared error."""

import hashlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord

ATOMS = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.binary(max_size=40),
    st.text(st.characters(codec="utf-8"), max_size=40),
)
VALUES = st.lists(st.recursive(ATOMS, lambda s: st.lists(s, max_size=4), max_leaves=20), max_size=6)


def frozen(value):
    return tuple(map(frozen, value)) if isinstance(value, list) else value


@given(VALUES)
def test_what_is_packed_comes_back(value):
    raw = wire.pack(value)
    assert wire.unpack("x", raw, limit=1 << 20) == frozen(value)


@given(st.binary(max_size=200))
def test_garbage_raises_the_one_error_or_is_canonical(raw):
    try:
        value = wire.unpack("x", raw, limit=200)
    except InvalidRecord:
        return
    assert wire.pack(value) == raw


@pytest.mark.parametrize(
    "raw",
    [
        b"\x91\xcc\x01",  # 1 in two bytes
        b"\x91\xcd\x00\x01",  # 1 in three bytes
        b"\x91\xd0\x01",  # 1 as a signed byte
        b"\x91\xc5\x00\x01a",  # bin 16 for one byte
        b"\x91\xd9\x01a",  # str 8 for one byte
        b"\xdc\x00\x01\x01",  # array 16 for one item
        b"\x91\xc0",  # nil
        b"\x91\xc2",  # false
        b"\x91\xca\x3f\x80\x00\x00",  # float
        b"\x91\x80",  # map
        b"\x80",
        b"\x91\xd4\x01\x00",  # ext
        b"\x91\xff\x00",  # byte after the end
        b"\x92\x01",  # cut short
        b"\x91\xa1\xff",  # not UTF-8
        b"\x01",  # not an array
        b"\xdd\xff\xff\xff\xff",  # announces 2^32 items
        b"\x91\xc6\xff\xff\xff\xff",  # announces 4 GiB
        b"",
        b"\x91" * 100 + b"\x90",  # nested
    ],
)
def test_another_spelling_is_refused(raw):
    with pytest.raises(InvalidRecord) as caught:
        wire.unpack("offer", raw, limit=1000)
    assert caught.value.field == "offer"


def test_depth_is_bounded_on_both_ways():
    value = ()
    for _ in range(wire.MAX_DEPTH):
        value = (value,)
    assert wire.unpack("x", wire.pack(value), limit=100) == value
    with pytest.raises(InvalidRecord):
        wire.pack((value,))
    with pytest.raises(InvalidRecord):
        wire.unpack("x", b"\x91" + wire.pack(value), limit=100)


@pytest.mark.parametrize(
    "value",
    [[1.0], [None], [True], [{}], [{1}], [bytearray(b"x")], [2**64], [-(2**63) - 1], ["\ud800"]],
)
def test_what_the_wire_cannot_carry_is_not_packed(value):
    with pytest.raises(InvalidRecord):
        wire.pack(value)


def test_the_limit_is_in_bytes():
    raw = wire.pack([b"x" * 96])
    assert wire.unpack("x", raw, limit=len(raw))
    with pytest.raises(InvalidRecord):
        wire.unpack("x", raw, limit=len(raw) - 1)


@pytest.mark.parametrize(
    "bad",
    ["a\0b", "line\nbreak", "\x1b[2J", "\x9b", "\u202eevil", "\u2066x", "\ufeffx", "\ud800"],
)
def test_text_that_could_redraw_a_terminal_is_refused(bad):
    with pytest.raises(InvalidRecord):
        wire.text("terms", bad, 100)


def test_text_is_bounded_in_bytes():
    assert wire.text("x", "é" * 5, 10) == "é" * 5
    with pytest.raises(InvalidRecord):
        wire.text("x", "é" * 6, 10)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, b"\1", -1, 11])
def test_within_takes_integers_of_its_range_alone(value):
    with pytest.raises(InvalidRecord):
        wire.within("x", value, 0, 10)


def test_digest_is_sha256_of_tag_and_array():
    expected = hashlib.sha256(b"p2pnode/sandbox/offer/1\0" + msgpack.packb([1, b"x"])).digest()
    assert wire.digest(wire.tag("sandbox", "offer"), [1, b"x"]) == expected
    assert wire.digest(wire.tag("regtest", "offer"), [1, b"x"]) != expected


def test_leading_zero_bits():
    assert wire.leading_zero_bits(bytes(32)) == 256
    assert wire.leading_zero_bits(b"\0\x1f" + bytes(30)) == 11
    assert wire.leading_zero_bits(b"\x80" + bytes(31)) == 0


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=8), st.data())
def test_frames_survive_any_cut(payloads, data):
    stream = b"".join(wire.frame(p, 30) for p in payloads)
    decoder, out, at = wire.FrameDecoder(30), [], 0
    while at < len(stream):
        size = data.draw(st.integers(1, 20))
        out += decoder.feed(stream[at : at + size])
        at += size
    assert out == payloads


@pytest.mark.parametrize("head", [b"\0\0\0\0", b"\0\0\0\x1f", b"\xff\xff\xff\xff"])
def test_a_frame_beyond_its_limit_is_refused_from_its_length(head):
    with pytest.raises(InvalidRecord):
        wire.FrameDecoder(30).feed(head)
