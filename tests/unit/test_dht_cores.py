"""The DHT's decoders: endpoints, addresses, frames, the record store."""

from dataclasses import replace

import pytest
from dht_kit import NETWORK, NOTE, NOW, identity, note, note_key, validate_note
from hypothesis import given
from hypothesis import strategies as st

from dht import address, endpoint, rpc
from dht.endpoint import Peer
from dht.keys import record_key, shard_of
from dht.records import MAX_ANY_BYTES, Bounds, Kinds, Record
from dht.store_records import Kept, RecordStore
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.identity import Identity, dht_id, peer_id, works
from p2pnode.base.networks import network
from p2pnode.base.store import Database

ALICE, BOB = identity("alice"), identity("bob")
ALICE_ID = peer_id(ALICE.node_id)


# ------------------------------------------------------------------ endpoints


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("/ip4/192.0.2.7/tcp/4001", "192.0.2.7", 4001),
        ("/ip6/2001:db8::7/tcp/1", "2001:db8::7", 1),
        ("/dns4/seed.example.org/tcp/65535", "seed.example.org", 65535),
    ],
)
def test_an_address_is_read(text, host, port):
    assert endpoint.parse("addr", text) == (host, port, None)
    assert endpoint.parse("addr", f"{text}/p2p/{ALICE_ID}") == (host, port, ALICE.node_id)
    assert endpoint.parse_peer("addr", f"{text}/p2p/{ALICE_ID}") == Peer(ALICE.node_id, (text,))


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "/ip4/1.2.3.4", "/ip4/1.2.3.4/udp/1", "/ip4/1.2.3.4/tcp/65536", "/ip4/::1/tcp/1",
        "/ip4/1.2.3/tcp/1", "/ip6/fe80::1%eth0/tcp/1", "/ip4/1.2.3.4/tcp/-1", "/ip4/1.2.3.4/tcp/١",
        "/dns4//tcp/1", "/dns4/a..b/tcp/1", "/dns4/a b/tcp/1", "/dns4/a@b/tcp/1", "/unix/x/tcp/1",
        "/ip4/1.2.3.4/tcp/1/p2p", "/ip4/1.2.3.4/tcp/1/p2p/QmNope", "/ip4/1.2.3.4/tcp/1/ws/x",
        "x/ip4/1.2.3.4/tcp/1", "/dns4/" + "a" * 120 + "/tcp/1", 7, None, b"/ip4/1.2.3.4/tcp/1",
    ],
)  # fmt: skip
def test_an_address_of_another_form_is_refused(text):
    with pytest.raises(InvalidRecord):
        endpoint.parse("addr", text)


@given(st.text(max_size=60) | st.from_regex(r"/ip4/[^/]*/tcp/[^/]*(/p2p/.*)?"))
def test_any_text_is_an_address_or_one_error(text):
    try:
        host, port, _ = endpoint.parse("addr", text)
    except InvalidRecord:
        return
    assert host
    assert 0 <= port < 65536


def test_a_bootstrap_peer_needs_a_name_and_a_port():
    for text in ("/ip4/1.2.3.4/tcp/1", f"/ip4/1.2.3.4/tcp/0/p2p/{ALICE_ID}"):
        with pytest.raises(InvalidRecord):
            endpoint.parse_peer("bootstrap", text)


# ------------------------------------------------------------------ keys


def test_nothing_crosses_networks_kinds_markets_or_shards():
    main = network("main")
    keys = {
        record_key(net, kind, market, shard)
        for net in (main, NETWORK)
        for kind in ("offer", "arbiter")
        for market in ("EUR", "USD")
        for shard in (0, 1)
    }
    assert len(keys) == 16
    assert shard_of(bytes([17]) + bytes(31), main) == 1
    assert shard_of(bytes([17]) + bytes(31), NETWORK) == 0


# ------------------------------------------------------------------ addresses


ADDRS = ("/ip4/192.0.2.7/tcp/4001", "/dns4/example.org/tcp/2")


def signed(who=ALICE, net=NETWORK, **changes):
    fields = {"addrs": ADDRS, "seq": 3, "expires_at": NOW + 100} | changes
    return address.sign(
        who, net, fields["addrs"], seq=fields["seq"], expires_at=fields["expires_at"]
    )


def test_an_address_record_survives_the_wire():
    raw = signed()
    assert address.parse(raw, NETWORK, NOW) == address.Address(ALICE.node_id, ADDRS, 3, NOW + 100)
    record = address.validator(NETWORK)(raw, NOW)
    assert record.key == address.address_key(NETWORK, ALICE.node_id)
    assert (record.owner, record.id, record.seq) == (ALICE.node_id, b"", 3)


def body_with(index, value, who=ALICE):
    body, _ = wire.unpack("x", signed(), limit=2048)
    fields = list(wire.unpack("x", body, limit=2048))
    fields[index] = value
    body = wire.pack(fields)
    return wire.pack([body, who.sign(wire.tag("sandbox", "address") + body)])


LAZY = next(i for n in range(99) if not works(NETWORK, (i := Identity(bytes([n]) * 32)).node_id))


@pytest.mark.parametrize(
    ("field", "raw"),
    [
        ("version", body_with(0, 2)),
        ("network", body_with(1, "regtest")),
        ("node_id", body_with(2, LAZY.node_id, LAZY)),
        ("addrs", body_with(3, ADDRS * 3)),
        ("addrs", body_with(3, ["/ip4/1.2.3.4/tcp/0"])),
        ("addrs", body_with(3, [f"/ip4/1.2.3.4/tcp/1/p2p/{ALICE_ID}"])),
        ("seq", body_with(4, -1)),
        ("expires_at", body_with(5, NOW)),
        ("expires_at", body_with(5, NOW + address.MAX_LIFETIME + 1)),
        ("signature", body_with(2, BOB.node_id)),
        ("body", wire.pack([wire.pack([1, 2]), bytes(64)])),
        ("address", b"\xc1"),
    ],
)
def test_an_address_record_wrong_in_a_field_names_it(field, raw):
    with pytest.raises(InvalidRecord) as caught:
        address.parse(raw, NETWORK, NOW)
    assert caught.value.field == field


@given(st.data())
def test_one_flipped_bit_of_an_address_record_is_fatal(data):
    raw = bytearray(signed())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(InvalidRecord):
        address.parse(bytes(raw), NETWORK, NOW)


@given(st.binary(max_size=300))
def test_garbage_is_one_error_everywhere(raw):
    for decode in (lambda r: address.parse(r, NETWORK, NOW), rpc.decode):
        try:
            decode(raw)
        except InvalidRecord:
            continue


# ------------------------------------------------------------------ frames


def test_the_fullest_answer_fits_a_frame_and_carries_a_record():
    addr = f"/dns4/{'a' * 60}.{'b' * 39}/tcp/65535"  # as long as a host may be
    peers = [Peer(identity(str(n)).node_id, (addr,) * 4) for n in range(25)]
    raws = [(bytes([n]) * 64, bytes(MAX_ANY_BYTES)) for n in range(2)]
    payload = rpc.encode(rpc.Answer(2**53 - 1, rpc.page_out(peers, raws)))
    assert len(payload) <= rpc.FRAME_LIMIT
    page = rpc.page_in(rpc.decode(payload).result, NETWORK)
    assert len(page.peers) == rpc.MAX_CONTACTS
    assert len(page.raws) >= 1
    assert page.cursor == raws[len(page.raws) - 1][0]
    small = [(at, b"x") for at, _ in raws]
    last = rpc.page_out([], small)
    assert last[2] == b""
    assert rpc.page_out([], small, more=True)[2] == raws[1][0]


@pytest.mark.parametrize("message", [rpc.Ask(7, "ping", ()), rpc.Answer(7, (1, (b"x",)), "")])
def test_frames_survive_the_wire(message):
    assert rpc.decode(rpc.encode(message)) == message
    assert rpc.decode(rpc.encode(rpc.Answer(7, (), "no"))) == rpc.Answer(7, (), "no")


# ------------------------------------------------------------------ the store


def record(owner, number, *, seq=1, expires_at=100, raw=b"x", key=b"k"):
    return Record(NOTE, key * 32, owner * 32, bytes([number]), seq, expires_at, raw)


def test_the_store_keeps_the_winner():
    store = RecordStore(Database(None))
    assert store.put(record(b"a", 1, seq=2, raw=b"new")) is Kept.NEW
    assert store.put(record(b"a", 1, seq=1, raw=b"old")) is Kept.WORSE
    assert store.put(record(b"a", 1, seq=2, raw=b"new")) is Kept.KNOWN
    assert store.put(record(b"a", 1, seq=3, raw=b"newer")) is Kept.NEW
    assert [r.raw for r in store.all_of(NOTE, b"k" * 32, 0)] == [b"newer"]
    outcomes = set()
    for first, second in ((b"p", b"q"), (b"q", b"p")):
        store = RecordStore(Database(None))
        store.put(record(b"a", 1, raw=first))
        store.put(record(b"a", 1, raw=second))
        outcomes.add(store.all_of(NOTE, b"k" * 32, 0)[0].raw)
    assert len(outcomes) == 1


def test_one_owner_cannot_fill_a_key_nor_the_store(monkeypatch):
    monkeypatch.setattr("dht.store_records.MAX_PER_OWNER_AND_KEY", 3)
    monkeypatch.setattr("dht.store_records.MAX_PER_OWNER", 5)
    store = RecordStore(Database(None), limit=7)
    store.put(record(b"b", 1, expires_at=50))
    for number in range(10):
        held = store.put(record(b"a", number, expires_at=100 - number))
        assert held.held is (number < 3)
    assert {r.owner[:1] for r in store.all_of(NOTE, b"k" * 32, 0)} == {b"a", b"b"}
    for number in range(10):
        store.put(record(b"a", number, key=b"l"))
    assert store.count() == 6
    for number in range(10):
        store.put(record(bytes([65 + number]), 1, expires_at=200, key=b"m"))
    assert store.count() == 7
    assert {r.expires_at for r in store.all_of(NOTE, b"m" * 32, 0)} == {200}
    assert store.put(record(b"z", 1, expires_at=1)) is Kept.WORSE


def test_pages_go_on_where_the_last_one_ended():
    store = RecordStore(Database(None))
    for owner in (b"a", b"b", b"c"):
        for number in range(3):
            store.put(record(owner, number))
    cursor, seen = b"", []
    while page := store.page(NOTE, b"k" * 32, cursor, 0, 2):
        seen += page
        cursor = page[-1].owner + page[-1].id
    assert len(seen) == len({(r.owner, r.id) for r in seen}) == 9
    assert store.page(NOTE, b"k" * 32, b"", 100, 9) == []
    assert store.purge(100) == 9
    assert store.count() == 0


def test_a_sequence_never_falls_even_if_the_clock_does():
    store = RecordStore(Database(None))
    assert store.next_seq("address", NOW) == NOW
    assert store.next_seq("address", NOW) == NOW + 1
    assert store.next_seq("address", NOW - 500) == NOW + 2


def test_a_validator_that_lies_about_its_record_is_caught():
    def other_key(raw, now):
        return Record(NOTE, bytes(32), bytes(32), b"", 0, now + 1, raw)

    with pytest.raises(InvalidRecord, match="key"):
        Kinds({NOTE: other_key}).admit(NOTE, note_key("m"), note(ALICE, "m"), NOW)
    admitted = Kinds({NOTE: validate_note}).accept(NOTE, note(ALICE, "m"), NOW)
    assert admitted.key == note_key("m")
    assert len(dht_id(admitted.owner)) == 32


def test_a_kind_fills_no_more_than_its_share_and_the_others_stay():
    store, bounds = RecordStore(Database(None), limit=10), Bounds(share=0.3)
    store.put(record(b"o", 1, expires_at=50))
    for number in range(6):
        other = replace(record(b"m", number, expires_at=200 + number), kind="other")
        assert store.put(other, bounds).held
    assert store.kinds() == {NOTE: 1, "other": 3}
    left = store.all_of("other", b"k" * 32, 0)
    assert [r.expires_at for r in left] == [203, 204, 205]
    assert store.count() == 4
