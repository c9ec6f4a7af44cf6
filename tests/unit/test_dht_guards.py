"""Who may ask a node how much: quotas, the door, standing, listens."""

import pytest
from dht_kit import NOTE, NOW, identity

from dht import admission, standing
from dht.admission import Door, Guest, Limits
from dht.listens import MAX_PER_CALLER, Listens
from dht.rpc import DIGEST, PING, STORE, Ask
from dht.shell_serve import _cost
from dht.standing import Ban, Event, Standing, is_lie
from dht.subnets import Subnets
from p2pnode.base import quota
from p2pnode.base.errors import InvalidRecord, UnknownName
from p2pnode.base.quota import Buckets

ALICE, BOB = identity("alice").node_id, identity("bob").node_id


# ------------------------------------------------------------------ quotas


def test_a_bucket_gives_its_burst_then_its_rate():
    bucket = Buckets(2.0, 3.0)
    assert [bucket.take("a", 0.0) for _ in range(4)] == [True] * 3 + [False]
    assert bucket.take("b", 0.0)  # another's is his own
    assert bucket.take("a", 0.5)
    assert not bucket.take("a", 0.5)
    assert [bucket.take("a", 100.0) for _ in range(4)] == [True] * 3 + [False]  # never more


def test_what_is_spent_beyond_the_burst_is_waited_for():
    bucket = Buckets(10.0, 5.0)
    assert bucket.spend("a", 0.0, 5) == 0
    assert bucket.spend("a", 0.0, 5) == pytest.approx(0.5)
    assert bucket.spend("a", 0.0, 5) == pytest.approx(1.0)
    assert bucket.spend("a", 1.0, 0) == 0


def test_buckets_remember_no_more_than_they_may(monkeypatch):
    monkeypatch.setattr(quota, "MAX_NAMES", 3)
    bucket = Buckets(1.0, 1.0)
    for name in "abcd":
        assert bucket.take(name, 0.0)
    assert len(bucket._held) == 3
    assert not bucket.take("d", 0.0)  # the stalest was forgotten, not the last


def test_a_question_costs_what_reading_it_takes():
    def cost(method, *args, size):
        return _cost(Ask(1, method, args), size)

    assert cost(PING, size=10) == 1
    assert cost(STORE, NOTE, bytes(32), bytes(2000), size=2060) == 8
    assert cost(DIGEST, NOTE, bytes(32), b"", b"", size=60) == 4
    assert cost(STORE, NOTE, bytes(32), bytes(12_000), size=12_060) == 10  # a blob is cheap
    assert cost(PING, (1,) * 16_000, size=16_010) == 32  # a list is not


# ------------------------------------------------------------------ the door


def guest(host, known=True):
    return Guest(host, lambda: None, known)


def door(**limits):
    return Door(Limits(**limits), Subnets(()))


def test_an_address_and_a_subnet_hold_their_share_and_no_more():
    it = door(per_address=2, per_subnet=3)
    inside = [guest("192.0.2.1"), guest("192.0.2.1"), guest("192.0.2.2")]
    assert [it.admit(g, 0.0) for g in inside] == [None] * 3
    for refused in (guest("192.0.2.1"), guest("192.0.2.3")):
        assert it.admit(refused, 0.0) is refused
    assert it.admit(guest("192.0.3.1"), 0.0) is None
    it.leave(inside[0])
    it.leave(inside[0])  # twice is once
    assert it.admit(guest("192.0.2.3"), 0.0) is None
    assert len(it) == 4


def test_handshakes_have_a_pace_by_subnet_and_in_all(monkeypatch):
    it = door(per_subnet=10**6, per_address=10**6, inbound=10**6)
    came = [it.admit(guest("192.0.2.1"), 0.0) for _ in range(60)]
    assert sum(g is None for g in came) == 50
    assert it.admit(guest("192.0.2.1"), 0.2) is None
    monkeypatch.setattr(admission, "HANDSHAKE_BURST_ALL", 20.0)
    wide = door(inbound=10**6)
    crowd = [guest(f"2001:db8:{n:x}::1") for n in range(30)]
    assert sum(wide.admit(g, 0.0) is None for g in crowd) == 20
    assert wide.admit(guest("198.51.100.1"), 1.0) is None  # and goes on
    exempt = Door(Limits(), Subnets())
    assert all(exempt.admit(guest("127.0.0.1"), 0.0) is None for _ in range(100))


def test_strangers_make_room_for_strangers_and_the_crowd_for_others():
    it = door(strangers=2, inbound=4, per_subnet=4, per_address=4)
    first, second, third = (guest(f"192.0.{n}.1", known=False) for n in range(3))
    assert it.admit(first, 0.0) is None
    assert it.admit(second, 0.0) is None
    assert it.admit(third, 0.0) is first  # whoever has not proved a key for longest
    for stranger in (second, third):
        stranger.known = True
    more = guest("192.0.1.2"), guest("192.0.9.1")
    assert [it.admit(g, 0.0) for g in more] == [None, None]
    newcomer = guest("198.51.100.1")
    assert it.admit(newcomer, 0.0) is more[0]  # of the subnet with two
    other = guest("203.0.113.1")
    assert it.admit(other, 0.0) is other  # nobody holds more than one now
    assert len(it) == 4


def test_a_full_house_of_exempt_guests_gives_no_place_back():
    it = Door(Limits(inbound=2), Subnets())
    assert [it.admit(guest("127.0.0.1"), 0.0) for _ in range(2)] == [None, None]
    late = guest("127.0.0.1")
    assert it.admit(late, 0.0) is late


# ------------------------------------------------------------------ standing


def test_points_add_up_decay_and_ban_the_key():
    it = Standing(Subnets())
    for _ in range(3):
        assert it.note(ALICE, "127.0.0.1", Event.GARBAGE, NOW) == []
    assert it.points(ALICE.hex(), NOW) == 75
    assert it.points(ALICE.hex(), NOW + 600) == 37.5
    (ban,) = it.note(ALICE, "127.0.0.1", Event.GARBAGE, NOW)
    assert (ban.subject, ban.until - ban.since) == (ALICE.hex(), 3600)
    assert it.barred(ALICE, "", NOW)
    assert not it.barred(BOB, "127.0.0.1", NOW)  # loopback is exempt
    assert not it.barred(ALICE, "", NOW + 3600)


def test_bans_grow_while_they_follow_each_other():
    it, spans, now = Standing(Subnets()), [], NOW
    for _ in range(7):
        while not (made := it.note(ALICE, "", Event.GARBAGE, now)):
            pass
        spans.append(made[0].until - made[0].since)
        now = made[0].until + 1
    assert spans == [3600 * 2**n for n in range(5)] + [86400] * 2
    now += 2 * 86400
    while not (made := it.note(ALICE, "", Event.GARBAGE, now)):
        pass
    assert made[0].until - made[0].since == 3600  # a day of peace


def test_many_keys_of_one_subnet_ban_the_subnet_and_only_it():
    it, made = Standing(Subnets()), []
    for number in range(16):
        key = identity(f"key{number}").node_id
        made += it.note(key, f"192.0.2.{number}", Event.GARBAGE, NOW)
    assert [ban.subject for ban in made] == ["192.0.2.0/24"]
    assert it.barred(BOB, "192.0.2.200", NOW)
    assert it.barred(BOB, "::ffff:192.0.2.200", NOW)
    assert not it.barred(BOB, "192.0.3.1", NOW)
    assert not it.barred(BOB, "2001:db8::1", NOW)


@pytest.mark.parametrize(
    ("subject", "inside", "outside"),
    [
        ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
        ("10.0.0.0/8", "10.200.1.1", "11.0.0.1"),
        ("0.0.0.0/0", "203.0.113.1", "2001:db8::1"),
        ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
        ("::/8", "::1", "100::1"),
        ("127.0.0.0/8", "127.0.0.1", "128.0.0.1"),  # by hand an exempt one too
    ],
)
def test_a_network_of_any_size_is_banned_by_hand_and_lifted(subject, inside, outside):
    it = Standing(Subnets(), [Ban("198.51.100.0/24", "older", NOW, NOW + 9)])
    ban = it.ban(subject, "by hand", 0, NOW)
    assert it.barred(b"", inside, NOW) == "by hand"
    assert not it.barred(b"", outside, NOW)
    assert it.lift(ban.subject) == ban
    assert not it.barred(b"", inside, NOW)
    assert it.barred(b"", "198.51.100.1", NOW)
    assert not it.barred(b"", "not an address", NOW)


def test_a_question_costs_the_same_however_many_networks_are_banned():
    it = Standing(Subnets())
    for number in range(1000):
        it.ban(f"2001:db8:{number:x}::/56", "flood", 0, NOW)
    assert len(it._networks) == 1  # one look for each prefix length
    assert it.barred(b"", "2001:db8:3e7::1", NOW)


def test_what_is_remembered_is_bounded_and_bans_by_hand_stay(monkeypatch):
    monkeypatch.setattr(standing, "MAX_BANS", 3)
    monkeypatch.setattr(standing, "MAX_SUBJECTS", 3)
    it = Standing(Subnets())
    it.ban(ALICE.hex(), "by hand", 60, NOW)
    for number in range(9):
        key = identity(f"key{number}").node_id
        for _ in range(4):
            it.note(key, "", Event.GARBAGE, NOW + number)
    assert len(it.bans(NOW)) == 3
    assert it.barred(ALICE, "", NOW) == "by hand"
    assert len(it._points) == 3


def test_another_clock_or_a_newer_version_is_no_lie():
    assert not any(is_lie(InvalidRecord(f, "")) for f in ("expires_at", "kind", "version"))
    assert not is_lie(UnknownName("methods", ""))
    assert all(is_lie(InvalidRecord(f, "")) for f in ("signature", "key", "record", "network"))


# ------------------------------------------------------------------ listens


def where(number):
    return NOTE, number.to_bytes(32, "big")


def test_a_promise_ends_by_itself_by_word_and_with_its_stream():
    it = Listens(10)
    assert it.grant("a", 1, where(0), 60, 0.0) == (60, None)
    assert it.grant("b", 2, where(0), 30, 0.0) == (30, None)
    assert it.of(where(0), 29.0) == [("a", 1), ("b", 2)]
    assert it.of(where(0), 30.0) == [("a", 1)]
    assert it.grant("a", 7, where(0), 60, 50.0) == (60, None)  # the latest counts
    assert it.of(where(0), 100.0) == [("a", 7)]
    assert it.grant("a", 8, where(0), 0, 100.0) == (0, None)
    assert it.of(where(0), 100.0) == []
    it.grant("a", 9, where(1), 60, 100.0)
    it.forget("a")
    it.forget("a")
    assert len(it) == 0
    assert not it._keys
    assert not it._held
    assert not it._parties


def test_a_stream_has_its_share():
    it = Listens(1000)
    granted = [it.grant("a", n, where(n), 60, 0.0)[0] for n in range(MAX_PER_CALLER + 3)]
    assert granted == [60] * MAX_PER_CALLER + [0] * 3


def test_a_full_table_takes_from_whoever_holds_most():
    it = Listens(6, party=lambda caller: caller[0])
    for number, caller in enumerate(("a1", "a1", "a2", "a2", "a2", "b1")):
        it.grant(caller, number, where(number), 60, 0.0)
    assert it.grant("a3", 9, where(9), 60, 0.0) == (0, None)  # his own party is the greedy one
    assert it.grant("c1", 9, where(9), 60, 0.0) == (60, "a1")  # its oldest stream
    assert len(it) == 5
    assert it.grant("c1", 10, where(10), 60, 0.0) == (60, None)
    assert it.grant("c1", 11, where(11), 60, 0.0) == (0, None)  # nobody holds two more than he
    assert it.grant("d1", 11, where(11), 60, 61.0) == (60, None)  # all have ended by themselves
    assert len(it) == 1
