"""The routing table finds exactly the XOR-closest of its contacts, whatever happened to it."""

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st
from kademlia.node import Node

from dht.endpoint import Peer
from dht.keys import distance
from dht.routing import ID_BITS, Table, node_of
from p2pnode.base.identity import dht_id

ADDRS = ("/ip4/127.0.0.1/tcp/1",)


class Monotonic:
    seconds = 0.0

    def __call__(self):
        return self.seconds


def name(number):
    return hashlib.sha256(b"%d" % number).digest()


def table_of(k, numbers, now=None):
    table = Table(name(-1), k, now or Monotonic())
    for number in numbers:
        table.welcome(Peer(name(number), ADDRS))
    return table


NUMBERS = st.lists(st.integers(0, 300), max_size=120)


@settings(max_examples=60)
@given(st.integers(1, 8), NUMBERS, st.binary(min_size=32, max_size=32), st.integers(1, 25))
def test_closest_is_exact(k, numbers, key, count):
    table = table_of(k, numbers)
    contacts = [peer.node_id for peer in table]
    want = sorted(contacts, key=lambda n: distance(dht_id(n), key))[:count]
    assert [peer.node_id for peer in table.closest(key, count)] == want


@settings(max_examples=60)
@given(st.integers(1, 8), NUMBERS, NUMBERS)
def test_the_buckets_tile_the_space_and_hold_what_is_theirs(k, numbers, gone):
    table = table_of(k, numbers)
    for number in gone:
        table.drop(name(number))
    edge = 0
    for bucket in table.buckets:
        low, high = bucket.range
        assert low == edge
        assert len(bucket) <= k
        assert all(low <= node.long_id <= high for node in bucket.nodes.values())
        waiting = bucket.replacement_nodes
        assert all(low <= node.long_id <= high for node in waiting.values())
        assert not waiting.keys() & bucket.nodes.keys()
        assert not waiting or len(bucket) == k
        edge = high + 1
    assert edge == 2**ID_BITS
    assert not {name(n) for n in gone} & {peer.node_id for peer in table} - {
        peer.node_id for peer in table_of(k, [n for n in numbers if n not in gone])
    }
    for number in numbers:
        if name(number) in table:
            assert table.addrs_of(name(number)) == ADDRS


@settings(max_examples=40)
@given(st.integers(1, 6), NUMBERS)
def test_the_nearest_to_ourselves_are_never_turned_away(k, numbers):
    table = table_of(k, numbers)
    own = dht_id(name(-1))
    (home,) = [b for b in table.buckets if b.has_in_range(table.node)]
    theirs = {name(n) for n in numbers if home.has_in_range(node_of(Peer(name(n), ())))}
    assert {node.ip for node in home.nodes.values()} == theirs
    assert own not in {node.id for b in table.buckets for node in b.nodes.values()}


def test_a_full_bucket_names_its_oldest_and_a_drop_lets_the_newcomer_in():
    far = [n for n in range(100) if (dht_id(name(n))[0] ^ dht_id(name(-1))[0]) & 0x80][:4]
    near = [n for n in range(100) if not (dht_id(name(n))[0] ^ dht_id(name(-1))[0]) & 0x80][:3]
    table = table_of(3, [*near, *far[:3]])
    assert table.welcome(Peer(name(far[3]), ADDRS)).node_id == name(far[0])
    assert name(far[3]) not in table
    table.drop(name(far[0]))
    assert name(far[3]) in table
    assert table.welcome(Peer(name(far[1]), ("/ip4/127.0.0.1/tcp/2",))) is None  # news of a contact
    assert table.addrs_of(name(far[1])) == ("/ip4/127.0.0.1/tcp/2",)


def test_a_bucket_without_news_is_lonely_by_the_clock_it_was_given():
    now = Monotonic()
    table = table_of(2, range(20), now)
    now.seconds = 10.0
    table.welcome(Peer(name(500), ADDRS))
    touched = table.buckets[table.get_bucket_for(node_of(Peer(name(500), ())))].range
    assert touched not in table.lonely(5)
    assert len(table.lonely(5)) == len(table.buckets) - 1
    assert table.lonely(11) == []


def test_a_bucket_that_was_looked_up_waits_its_hour_though_nobody_lives_in_it():
    now = Monotonic()
    table = table_of(2, range(20), now)
    for peer in list(table):
        table.drop(peer.node_id)
    now.seconds = 3600.0
    ranges = table.lonely()
    assert len(ranges) == len(table.buckets) > 2
    for number, (low, high) in enumerate(ranges):
        table.touch(low if number % 2 else high)
        assert table.lonely() == ranges[number + 1 :]
    now.seconds = 7199.0
    assert table.lonely() == []
    now.seconds = 7200.0
    assert table.lonely() == ranges


def test_an_id_at_the_very_edge_of_a_bucket_belongs_to_it():
    table = table_of(2, range(20))
    for index, bucket in enumerate(table.buckets):
        for edge in bucket.range:
            assert table.get_bucket_for(Node(edge.to_bytes(32, "big"))) == index
