"""Any bytes, any mutation of an entry: InvalidRecord and nothing else, and one spelling."""

import hypothesis.strategies as st
import msgpack
from broken_kit import NET, abort, draw_of, entry, said, take_of, who
from hypothesis import given, settings

from escrow.broken import MAX_BYTES, SIDES, BrokenDraw, Filed, fitting, owed
from escrow.messages import MAX_DRAWS, Kind, Message
from escrow.opening import SILENCE
from p2pnode.base.errors import InvalidRecord

K = Kind
RAW = {side: Filed(side, entry()).wire() for side in SIDES}
numbers = st.integers(1, MAX_DRAWS)


def only_invalid(raw: bytes) -> None:
    refused: InvalidRecord | None = None
    try:
        found = Filed.from_wire(raw, NET)
    except InvalidRecord as error:
        refused = error
    if refused is None:
        assert found.wire() == raw
    else:
        assert refused.field
        assert len(str(refused)) < 400


@given(raw=st.binary(max_size=MAX_BYTES + 8))
def test_random_bytes(raw: bytes) -> None:
    only_invalid(raw)


@given(side=st.sampled_from(SIDES), data=st.data())
@settings(max_examples=300)
def test_mutated_bytes(side: int, data: st.DataObject) -> None:
    raw = RAW[side]
    place = data.draw(st.integers(0, len(raw) - 1))
    byte = data.draw(st.binary(min_size=1, max_size=4))
    mutated = {
        "flip": raw[:place] + bytes([raw[place] ^ (byte[0] or 1)]) + raw[place + 1 :],
        "cut": raw[:place],
        "insert": raw[:place] + byte + raw[place:],
        "drop": raw[:place] + raw[place + 1 :],
    }[data.draw(st.sampled_from(["flip", "cut", "insert", "drop"]))]
    only_invalid(mutated)
    if mutated not in RAW.values():
        filed = Filed.from_wire(raw, NET)
        believed = fitting([mutated], NET, filed.node_id, filed.draw_no)
        # The headers are signed: a mutation that is believed is the very entry on the other side.
        assert all(f.entry == filed.entry for f in believed)


@given(data=st.data())
@settings(max_examples=200)
def test_any_value_in_any_place(data: st.DataObject) -> None:
    side, array = msgpack.unpackb(RAW[0], use_list=True)
    value = data.draw(
        st.one_of(
            st.integers(-(2**63), 2**64 - 1), st.binary(max_size=70), st.text(max_size=9),
            st.none(), st.booleans(), st.floats(allow_nan=False), st.lists(st.integers(0, 9), max_size=3),
        )
    )  # fmt: skip
    body = data.draw(st.sampled_from([array, array[2], array[4]]))
    body[data.draw(st.integers(0, len(body) - 1))] = value
    only_invalid(msgpack.packb([side, array], use_bin_type=True))


@given(number=numbers, answer=numbers, height=st.integers(0, 499_999_999))
@settings(max_examples=50)
def test_every_draw_is_read_back_within_its_bound(number: int, answer: int, height: int) -> None:
    take = take_of(number=number, tip_height=height)
    made = BrokenDraw.of(take, draw_of(take, number=answer))
    for side in SIDES:
        filed = Filed(side, made)
        assert len(filed.wire()) <= MAX_BYTES
        assert Filed.from_wire(filed.wire(), NET) == filed


WORDS = st.lists(
    st.tuples(
        st.sampled_from(["taker", "maker"]),
        st.sampled_from([K.REFUSE, K.GET, K.PAGE, K.REVEAL, K.CONTRACT, K.ABORT]),
        st.sampled_from([SILENCE, "too few"]),
    ),
    max_size=8,
)


@given(words=WORDS, me=st.sampled_from(["taker", "maker"]), more=WORDS)
@settings(max_examples=200)
def test_nothing_after_the_first_abort_changes_what_is_owed(
    words: list[tuple[str, Kind, str]], me: str, more: list[tuple[str, Kind, str]]
) -> None:
    """A peer can neither take back an entry nor make one by what he says afterwards."""
    take = take_of()
    messages: list[Message] = [take, draw_of(take)]

    def add(spoken: list[tuple[str, Kind, str]]) -> None:
        for name, kind, reason in spoken:
            other = "maker" if name == "taker" else "taker"
            if kind is K.ABORT:
                messages.append(abort(name, other, reason, take.id))
            else:
                messages.append(said(kind, who(name), who(other), trade_id=take.id))

    add(words)
    messages.append(abort(me, "maker" if me == "taker" else "taker", SILENCE, take.id))
    before = owed(messages, who(me).node_id)
    add(more)
    assert owed(messages, who(me).node_id) == before
