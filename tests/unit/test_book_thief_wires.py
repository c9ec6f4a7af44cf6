"""Every decoder of the order book under fire: what is no message is InvalidRecord, never a crash."""

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from orderbook_kit import KEY, NET, NOW, offer, signed_body

from dht.gossip_wire import MAX_CONTROL, MAX_DATA, MAX_IHAVE_IDS, MAX_IWANT_IDS, MAX_MESSAGES
from dht.transport_pubsub import decode, encode
from orderbook import book_wire, market_server
from orderbook.book_wire import Ask, Page
from orderbook.offer import Offer, offer_record
from orderbook.offer_bounds import FIELDS
from p2pnode.app.routes import Call
from p2pnode.base.errors import InvalidRecord, UsageFault

QUICK = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SCALARS = (
    st.integers(-(2**63), 2**64 - 1)
    | st.binary(max_size=40)
    | st.text(max_size=12)
    | st.sampled_from(
        ["EUR", "SEPA", "CUSTOM", "XMR", KEY.node_id, b"", 0, 1, NOW + 1500, bytes(64)]
    )
)
VALUES = st.recursive(
    SCALARS | st.none() | st.booleans() | st.floats(),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=20,
)


def packed(value: object) -> bytes:
    return bytes(msgpack.packb(value, use_bin_type=True))


@QUICK
@given(head=st.integers(0, 5), rest=st.lists(VALUES, max_size=6), raw=st.binary(max_size=80))
def test_frames_of_the_book_protocol(head: int, rest: list[object], raw: bytes) -> None:
    for payload in (packed([head, *rest]), packed([head, 7, *rest]), raw):
        for read in (book_wire.ask_in, book_wire.answer_in):
            try:
                found = read(payload)
            except InvalidRecord:
                continue
            if isinstance(found, book_wire.Digest):
                with_ask(found)
            if isinstance(found, Page):
                paged(found)


def with_ask(found: book_wire.Digest) -> None:
    try:
        book_wire.parts_of(found.told, Ask(7, book_wire.DIGEST, "EUR"))
    except InvalidRecord:
        return


def paged(found: Page) -> None:
    try:
        book_wire.check_page(found, b"", b"\xff")
    except InvalidRecord:
        return


@QUICK
@given(value=VALUES, inner=VALUES, raw=st.binary(max_size=60))
def test_records_of_market_servers(value: object, inner: object, raw: bytes) -> None:
    for record in (packed(value), packed([packed(inner), bytes(64)]), packed([raw, raw]), raw):
        with pytest.raises(InvalidRecord):
            market_server.parse(record, NET, NOW)


@QUICK
@given(at=st.integers(0, len(FIELDS) + 1), value=VALUES)
def test_an_offer_with_any_field_of_any_type_is_read_alike_by_both_readers(
    at: int, value: object
) -> None:
    """The quick reader takes nothing that the slow one refuses, and neither raises otherwise."""
    body = list(offer().body())
    body[at] = tuple(value) if isinstance(value, list) else value
    try:
        raw = signed_body(tuple(body))
    except InvalidRecord:  # no wire carries such a value
        raw = packed([body, bytes(64)])
    quick, slow = Offer._quick(raw, NET), None
    try:
        slow = Offer._read(raw, NET)
    except InvalidRecord:
        assert quick is None
    if quick is not None:
        assert slow is not None
        assert quick[0].body() == slow[0].body()
        assert quick[0].hash == slow[0].hash == slow[0].__class__(**_fields(slow[0])).hash
    try:
        offer_record(raw, network=NET, now=NOW)
    except InvalidRecord:
        return


def _fields(made: Offer) -> dict[str, object]:
    return {"network": NET} | {name: getattr(made, name) for name in FIELDS}


@QUICK
@given(raw=st.binary(max_size=200))
def test_bytes_that_are_no_rpc_of_gossip(raw: bytes) -> None:
    try:
        rpc = decode(raw)
    except InvalidRecord:
        return
    assert decode(encode(rpc)) == rpc or rpc.unfit
    bounded(rpc)


def bounded(rpc: object) -> None:
    assert len(rpc.messages) <= MAX_MESSAGES  # type: ignore[attr-defined]
    assert all(len(data) <= MAX_DATA for _, data in rpc.messages)  # type: ignore[attr-defined]
    assert sum(len(ids) for _, ids in rpc.ihave) <= MAX_IHAVE_IDS  # type: ignore[attr-defined]
    assert len(rpc.iwant) <= MAX_IWANT_IDS  # type: ignore[attr-defined]
    assert len(rpc.graft) <= MAX_CONTROL  # type: ignore[attr-defined]
    assert len(rpc.prune) <= MAX_CONTROL  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", ["--5", "-", "", "5-", "0x5", "5_0", "²", "9" * 20])
def test_a_number_of_a_query_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageFault, match="limit: is not an integer"):
        Call(query={"limit": text}).integer("limit")
