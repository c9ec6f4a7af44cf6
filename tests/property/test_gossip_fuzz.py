"""Whatever bytes come on a gossip stream: read within bounds, refused by one error, or passed over."""

import contextlib

import pytest
from gossip_sim import TOPIC, Draws
from hypothesis import given
from hypothesis import strategies as st
from libp2p.pubsub.pb.rpc_pb2 import RPC

from dht import gossip_wire, varint
from dht.gossip import Router
from dht.gossip_wire import Rpc
from dht.subnets import Subnets
from dht.tally import Tally
from dht.transport_pubsub import decode, encode
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.ports import Verdict

TOPICS = st.sampled_from([TOPIC, "/other", "t" * 128])
IDS = st.binary(min_size=32, max_size=32)
RPCS = st.builds(
    Rpc,
    subscriptions=st.lists(st.tuples(TOPICS, st.booleans()), max_size=5).map(tuple),
    messages=st.lists(st.tuples(TOPICS, st.binary(min_size=1, max_size=50)), max_size=5).map(tuple),
    ihave=st.lists(st.tuples(TOPICS, st.lists(IDS, max_size=4).map(tuple)), max_size=3).map(tuple),
    iwant=st.lists(IDS, max_size=5).map(tuple),
    graft=st.lists(TOPICS, max_size=3).map(tuple),
    prune=st.lists(st.tuples(TOPICS, st.integers(0, 2**32)), max_size=3).map(tuple),
)


def within_bounds(rpc):
    assert len(rpc.subscriptions) <= gossip_wire.MAX_SUBSCRIPTIONS
    assert len(rpc.messages) + rpc.unfit <= gossip_wire.MAX_MESSAGES
    assert sum(len(ids) for _, ids in rpc.ihave) <= gossip_wire.MAX_IHAVE_IDS
    assert len(rpc.iwant) <= gossip_wire.MAX_IWANT_IDS
    assert max(len(rpc.ihave), len(rpc.graft), len(rpc.prune)) <= gossip_wire.MAX_CONTROL
    assert all(0 < len(data) <= gossip_wire.MAX_DATA for _, data in rpc.messages)


@given(RPCS)
def test_what_is_encoded_is_read_back(rpc):
    assert decode(encode(rpc)) == rpc


@given(RPCS, RPCS)
def test_two_behind_each_other_are_both(one, two):
    both = decode(encode(one) + encode(two))
    assert both.messages == one.messages + two.messages
    assert both.graft == one.graft + two.graft
    assert both.iwant == one.iwant + two.iwant


@given(st.binary(max_size=500))
def test_any_bytes_are_an_rpc_within_bounds_or_refused(raw):
    with contextlib.suppress(InvalidRecord):
        within_bounds(decode(raw))


@given(RPCS, st.data())
def test_a_damaged_rpc_is_read_within_bounds_or_refused(rpc, data):
    raw = bytearray(encode(rpc) or b"\0")
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidRecord):
        within_bounds(decode(bytes(raw)))


def test_lists_without_end_are_cut():
    made = RPC()
    for _ in range(10_000):
        made.subscriptions.add(subscribe=True, topicid=TOPIC)
        made.publish.add(data=b"x", topicIDs=[TOPIC])
        made.control.graft.add(topicID=TOPIC)
        made.control.prune.add(topicID=TOPIC)
        made.control.ihave.add(topicID=TOPIC, messageIDs=[bytes(32)] * 3)
        made.control.iwant.add(messageIDs=[bytes(32)] * 100)
    rpc = decode(made.SerializeToString())
    within_bounds(rpc)
    assert len(rpc.messages) == gossip_wire.MAX_MESSAGES


@pytest.mark.parametrize("field", [b"\x0a\x00", b"\x1a\x02\x1a\x00", b"\x1a\x02\x22\x00"])
def test_what_names_no_topic_is_counted(field):
    """Subscriptions, GRAFTs and PRUNEs of nothing: cheap to send by the 100,000."""
    assert decode(field) == Rpc(unfit=1)


def test_an_rpc_costs_its_bytes_however_little_is_kept_of_it():
    """131,000 empty submessages in a frame keep a node busy for 20 ms."""
    router = Router(Draws(0), Subnets(), Tally())
    raw = b"\x1a\x00" * (gossip_wire.FRAME_LIMIT // 2)
    rpc = decode(raw)
    assert rpc == Rpc()
    waits = [router.pace(bytes(32), rpc, 0.0, len(raw)) for _ in range(9)]
    assert waits[6] == 0 < waits[8]
    assert waits[8] > 1, "256 KB earn a second's silence or more"


@pytest.mark.parametrize(
    "fields",
    [
        {"from_id": b"x"},
        {"from_id": b""},
        {"seqno": bytes(8)},
        {"signature": bytes(64)},
        {"key": bytes(32)},
        {"topicIDs": [TOPIC, "/other"]},
        {"topicIDs": []},
        {"data": bytes(gossip_wire.MAX_DATA + 1)},
        {"data": b""},
    ],
)
def test_a_message_that_no_honest_node_sends_is_counted_and_left_out(fields):
    made = RPC()
    made.publish.add(**({"data": b"x", "topicIDs": [TOPIC]} | fields))
    made.publish.add(data=b"good", topicIDs=[TOPIC])
    rpc = decode(made.SerializeToString())
    assert rpc == Rpc(messages=((TOPIC, b"good"),), unfit=1)


@given(st.lists(RPCS, max_size=30), st.lists(st.sampled_from(list(Verdict)), min_size=1))
def test_no_sequence_of_rpcs_breaks_the_router(rpcs, verdicts):
    router = Router(Draws(0), Subnets(), Tally())
    router.join(TOPIC, 0.0)
    for number, rpc in enumerate(rpcs):
        now, peer = number / 3, bytes([number % 3]) * 32
        if peer not in router.peers():
            router.connected(peer, "127.0.0.1", named=number % 2 == 0, now=now)
        router.pace(peer, rpc, now)
        for topic, data in rpc.messages:
            id = router.offered(peer, topic, data, now)
            if id is not None:
                router.judged(peer, topic, data, id, verdicts[number % len(verdicts)], now)
        router.control(peer, rpc, now)
        router.heartbeat(now)
        router.out.clear()
        assert set(router.mesh(TOPIC)) <= set(router.peers(TOPIC))
        assert router.holds()["judging"] == 0


@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(1, 50))
def test_frames_come_out_as_they_went_in_however_they_are_cut(payloads, step):
    stream = b"".join(varint.frame(payload, 300) for payload in payloads)
    decoder, found = varint.Decoder(300), []
    for start in range(0, len(stream), step):
        found += decoder.feed(stream[start : start + step])
    assert found == payloads
    assert decoder.pending == 0


@given(st.binary(max_size=200))
def test_any_bytes_are_frames_or_refused(raw):
    decoder = varint.Decoder(100)
    with contextlib.suppress(InvalidRecord):
        for payload in decoder.feed(raw):
            assert len(payload) <= 100
        assert decoder.pending < 103


@pytest.mark.parametrize("head", [b"\x80\x80\x80", b"\xff\xff\xff\xff", b"\x80\x00", b"\x65"])
def test_a_length_too_large_or_not_the_shortest_is_refused(head):
    with pytest.raises(InvalidRecord):
        varint.Decoder(100).feed(head)
    with pytest.raises(InvalidRecord):
        varint.frame(bytes(101), 100)
