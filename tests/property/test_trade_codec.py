"""Every decoder of a trade: only InvalidRecord may come, and what is read has one spelling."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import hypothesis.strategies as st
import msgpack
import pytest
from hypothesis import given, settings
from trade_facts import EYES, NET, Play, record
from trade_said import one_of_each

from escrow.arbiters import ArbiterRecord
from escrow.contract import Contract
from escrow.drawfile import draw_from_json, draw_to_json
from escrow.messages import Kind, Message
from escrow.payloads import PAYLOADS
from p2pnode.base.errors import InvalidRecord

Decoder = Callable[[bytes], Any]


@cache
def samples() -> dict[str, tuple[Decoder, bytes]]:
    """Each decoder of bytes with one valid input."""
    play = Play().acknowledge()
    found: dict[str, tuple[Decoder, bytes]] = {
        "message": (lambda raw: Message.from_wire(raw, NET), play.messages[1].wire()),
        "record": (lambda raw: ArbiterRecord.from_wire(raw, NET), record(0).wire()),
        "contract": (lambda raw: Contract.from_wire(raw, NET), play.contract.wire()),
    }
    for kind, message in one_of_each().items():
        found[kind.name] = (PAYLOADS[kind].from_wire, message.payload)
    assert len(found) == 3 + len(Kind)
    return found


NAMES = ["message", "record", "contract", *(k.name for k in Kind)]
values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.integers(-(2**63), 2**64 - 1),
        st.binary(max_size=40),
        st.text(max_size=10),
        st.booleans(),
        st.none(),
        st.floats(allow_nan=False),
    ),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=12,
)


def only_invalid(decode: Decoder, raw: bytes) -> None:
    """What is accepted must be written back byte for byte; else InvalidRecord, with a field."""
    refused: InvalidRecord | None = None
    try:
        found = decode(raw)
    except InvalidRecord as error:
        refused = error
    if refused is None:
        assert found.wire() == raw
    else:
        assert refused.field
        assert len(str(refused)) < 400


@pytest.mark.parametrize("name", NAMES)
def test_a_valid_one_is_read_and_written_back(name: str) -> None:
    decode, raw = samples()[name]
    assert decode(raw).wire() == raw


@pytest.mark.parametrize("name", NAMES)
@given(raw=st.binary(max_size=200))
@settings(max_examples=20)
def test_random_bytes(name: str, raw: bytes) -> None:
    only_invalid(samples()[name][0], raw)


@pytest.mark.parametrize("name", NAMES)
@given(value=values)
@settings(max_examples=25)
def test_random_values(name: str, value: Any) -> None:
    only_invalid(samples()[name][0], msgpack.packb(value, use_bin_type=True))


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=40)
def test_mutated_bytes(name: str, data: st.DataObject) -> None:
    decode, raw = samples()[name]
    place = data.draw(st.integers(0, len(raw) - 1))
    what = data.draw(st.sampled_from(["flip", "cut", "insert", "drop", "double"]))
    byte = data.draw(st.binary(min_size=1, max_size=4))
    mutated = {
        "flip": raw[:place] + bytes([raw[place] ^ (byte[0] or 1)]) + raw[place + 1 :],
        "cut": raw[:place],
        "insert": raw[:place] + byte + raw[place:],
        "drop": raw[:place] + raw[place + 1 :],
        "double": raw + raw[place:],
    }[what]
    only_invalid(decode, mutated)


def places(value: Any, path: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    """Every item inside a value."""
    if type(value) is not tuple:
        return [path]
    inner = [p for n, item in enumerate(value[:12]) for p in places(item, (*path, n))]
    return [path, *inner] if path else inner


def put(value: Any, path: tuple[int, ...], new: Any) -> Any:
    if not path:
        return new
    head, *rest = path
    return tuple(put(v, tuple(rest), new) if n == head else v for n, v in enumerate(value))


EDGES = (0, 1, -1, 2**31, 2**32, 2**62, 2**63, 2**64 - 1, -(2**63), b"", bytes(31), bytes(32))
ODD = (bytes(33), bytes(36), bytes(64), "", "x" * 300, "\u202e", "\x00", (), ((),), None, True, 1.5)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=60)
def test_one_field_exchanged(name: str, data: st.DataObject) -> None:
    decode, raw = samples()[name]
    value = msgpack.unpackb(raw, use_list=False, raw=False)
    path = data.draw(st.sampled_from(places(value)))
    new = data.draw(st.sampled_from(EDGES + ODD) | values)
    only_invalid(decode, msgpack.packb(put(value, path, new), use_bin_type=True))


# ------------------------------------------------------------------ one spelling


def longer(raw: bytes) -> list[bytes]:
    """The same value in other spellings: longer heads of array, binary, text and integers."""
    found = []
    first = raw[0]
    if 0x90 <= first <= 0x9F:
        found += [b"\xdc" + (first & 15).to_bytes(2, "big") + raw[1:]]
        found += [b"\xdd" + (first & 15).to_bytes(4, "big") + raw[1:]]
    elif first == 0xDC:
        found += [b"\xdd\0\0" + raw[1:3] + raw[3:]]
    for place, byte in enumerate(raw[:200]):
        if byte == 0xC4:  # bin 8 -> bin 16
            found.append(raw[:place] + b"\xc5\0" + raw[place + 1 :])
        if byte < 0x80:  # positive fixint -> uint 8
            found.append(raw[:place] + b"\xcc" + raw[place:])
        if 0xA0 <= byte <= 0xBF:  # fixstr -> str 8
            found.append(raw[:place] + b"\xd9" + bytes([byte & 31]) + raw[place + 1 :])
    return found


@pytest.mark.parametrize("name", NAMES)
def test_another_spelling_of_the_same_value_is_refused(name: str) -> None:
    decode, raw = samples()[name]
    value = msgpack.unpackb(raw, use_list=False, raw=False)
    same = 0
    for other in longer(raw):
        try:
            again = msgpack.unpackb(other, use_list=False, raw=False)
        except (ValueError, msgpack.UnpackException):
            continue
        if again == value:
            same += 1
            with pytest.raises(InvalidRecord):
                decode(other)
    assert same


@pytest.mark.parametrize("name", NAMES)
def test_maps_lists_too_deep_and_trailing_bytes_are_refused(name: str) -> None:
    decode, raw = samples()[name]
    for bad in (raw + b"\0", b"\x80", b"\xc0", b"\x91" * 50 + b"\0", b"\xdd\xff\xff\xff\xff", b""):
        with pytest.raises(InvalidRecord):
            decode(bad)
    for foreign in (None, "text", 1, bytearray(raw), [raw]):
        with pytest.raises(InvalidRecord):
            decode(foreign)  # type: ignore[arg-type]


# ------------------------------------------------------------------ the transcript's JSON


@cache
def transcript() -> str:
    play = Play().open()
    three = (play.messages[0], play.messages[1], play.messages[4])
    return json.dumps(draw_to_json(*three, play.records.values(), play.drawn))


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)


def check(value: Any) -> bool:
    """Tell whether a transcript verifies; a refusal must name a line."""
    line = ""
    try:
        draw_from_json(value).verify(EYES)
    except InvalidRecord as error:
        line = error.field or "nothing"
    assert line != "nothing"
    return not line


@given(json_values)
@settings(max_examples=100)
def test_any_json_is_refused_as_a_transcript(value: Any) -> None:
    assert not check(value)


def json_places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    else:
        return [path]
    return [p for name, item in items for p in [(*path, name), *json_places(item, (*path, name))]]


@given(st.data())
@settings(max_examples=150)
def test_any_place_of_a_transcript_exchanged_is_refused(data: st.DataObject) -> None:
    good = json.loads(transcript())
    path = data.draw(st.sampled_from(json_places(good)))
    inner = good
    for name in path[:-1]:
        inner = inner[name]
    before, new = inner[path[-1]], data.draw(json_values)
    inner[path[-1]] = new
    if type(new) is not type(before) or new != before:
        assert not check(good)
