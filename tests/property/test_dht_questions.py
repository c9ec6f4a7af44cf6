"""Whatever a stranger asks or answers, a node says InvalidRecord or goes on."""

import pytest
from dht_kit import NETWORK, NOTE, Clock, identity, note, note_key, validate_note
from hypothesis import given
from hypothesis import strategies as st

from dht import rpc, shell_answers
from dht.endpoint import Peer
from dht.records import Kinds
from dht.rpc import Answer, Ask, News
from dht.shell_answers import Answers
from dht.shell_serve import Caller
from dht.store_records import RecordStore
from dht.tally import Tally
from p2pnode.app import fit
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.store import Database

OWNER = identity("owner")
GOOD = note(OWNER, "m")


class Table:
    ksize = 20

    def closest(self, _key, count):
        return [Peer(identity(f"p{n}").node_id, ("/ip4/192.0.2.1/tcp/1",)) for n in range(3)][
            :count
        ]


class Contacts:
    table = Table()

    def greeted(self, peer, host):
        assert isinstance(peer, Peer)
        assert host == "192.0.2.9"

    def note(self, *_args):
        pass

    def party(self, node_id, _host):
        return node_id


class Streams:
    def addrs(self):
        return ("/ip4/192.0.2.7/tcp/4001",)


class Stranger(Caller):
    """A caller without a stream."""

    def __init__(self):
        self.peer, self.host = identity("stranger").node_id, "192.0.2.9"

    def push(self, number, raws):
        assert rpc.decode(rpc.encode(News(number, raws))) == News(number, raws)
        return True

    def end(self):
        pass


@pytest.fixture(scope="module", params=["notes", "the node's own kinds"])
def answers(request):
    found = fit.kinds(NETWORK) if request.param != "notes" else Kinds({NOTE: validate_note})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shell_answers.trio, "current_time", lambda: 0.0)
        store = RecordStore(Database(None))
        yield Answers(Streams(), Contacts(), found, store, Clock(), Tally(), listens=50)


ends = st.one_of(st.binary(max_size=70), st.sampled_from([b"", OWNER.node_id, b"\xff" * 64]))
keys = st.one_of(st.just(note_key("m")), st.binary(min_size=31, max_size=33))
kinds_named = st.one_of(
    st.sampled_from([NOTE, "offer", "arbiter", "address", "x"]), st.text(max_size=9)
)
raws = st.one_of(
    st.just(GOOD),
    st.binary(max_size=300),
    st.integers(0, len(GOOD) - 1).map(
        lambda at: GOOD[:at] + bytes([GOOD[at] ^ 1]) + GOOD[at + 1 :]
    ),
    st.lists(
        st.one_of(st.integers(0, 2**63), st.binary(max_size=64), st.text(max_size=5)), max_size=9
    )
    .filter(
        lambda items: (
            not any("\ud800" <= c <= "\udfff" for i in items if isinstance(i, str) for c in i)
        )
    )
    .map(wire.pack),
)
scalars = st.one_of(st.integers(-(2**63), 2**64 - 1), ends, kinds_named, raws)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=5).map(tuple), max_leaves=12)
shaped = st.one_of(
    st.tuples(st.just(rpc.STORE), st.tuples(kinds_named, keys, raws)),
    st.tuples(st.just(rpc.FIND_VALUE), st.tuples(kinds_named, keys, ends)),
    st.tuples(st.just(rpc.DIGEST), st.tuples(kinds_named, keys, ends, ends)),
    st.tuples(st.just(rpc.LISTEN), st.tuples(kinds_named, keys, st.integers(-1, 700))),
    st.tuples(st.just(rpc.FIND_NODE), st.tuples(keys)),
    st.tuples(st.just(rpc.HELLO), st.tuples(st.lists(st.text(max_size=40), max_size=5).map(tuple))),
)
questions = st.one_of(
    shaped,
    st.tuples(st.sampled_from([*rpc.METHODS, "dance"]), st.lists(values, max_size=5).map(tuple)),
)


@given(question=questions, number=st.integers(0, 2**53 - 1))
def test_a_question_is_answered_in_a_frame_or_refused(answers, question, number):
    try:
        result = answers.serve(Stranger(), Ask(number, *question))
    except InvalidRecord as error:
        frame = rpc.encode(Answer(number, (), wire.clipped(str(error), rpc.MAX_ERROR_BYTES)))
        assert rpc.decode(frame).error
        return
    frame = rpc.encode(Answer(number, result))
    assert len(frame) <= rpc.FRAME_LIMIT
    assert rpc.decode(frame).id == number
    assert len(answers.listens) <= 50


READERS = (
    lambda value: rpc.peers_in(value, NETWORK),
    lambda value: rpc.page_in(value, NETWORK),
    lambda value: rpc.stored_in(value, NETWORK),
    rpc.granted_in,
    rpc.records_in,
    lambda value: rpc.hello_args((value,)),
)


@given(values, st.sampled_from(READERS))
def test_an_answer_is_read_or_is_invalid(value, read):
    try:
        read(value)
    except InvalidRecord:
        pass


@given(st.one_of(st.binary(max_size=200), values.map(lambda v: v if isinstance(v, bytes) else b"")))
def test_a_frame_is_a_message_or_is_invalid(payload):
    try:
        message = rpc.decode(payload)
    except InvalidRecord:
        return
    assert isinstance(message, Ask | Answer | News)
