"""The lookup's window, the put's ends, the deadlines of RFC 6298 and the quotas."""

import hashlib

import pytest

from dht import rtt
from dht.endpoint import Peer
from dht.keys import distance
from dht.lookup import ALPHA, MAX_ASKED, Lookup
from dht.paths import MAX_TRIES
from dht.placement import NOWHERE, Placement, reach
from dht.rtt import Rtts
from p2pnode.base import quota
from p2pnode.base.identity import dht_id
from p2pnode.base.quota import Buckets

KEY = hashlib.sha256(b"key").digest()
OWN = hashlib.sha256(b"own").digest()
SOFT = 0.1


def away(peer):
    return distance(dht_id(peer.node_id), KEY)


def named(number, *addrs):
    return Peer(hashlib.sha256(b"%d" % number).digest(), addrs or (f"/ip4/10.0.{number}.1/tcp/1",))


PEERS = sorted(map(named, range(60)), key=away)  # nearest first


def subnet(peer):
    return peer.addrs[0].rsplit(".", 1)[0]


def lookup(start, **options):
    return Lookup(KEY, start, own=OWN, **{"k": 20} | options)


def ask(core, now=0.0):
    return [question.peer for question in core.ask(now, lambda _: SOFT)]


# ------------------------------------------------------------------ the window


def test_five_are_in_flight_and_an_answer_makes_room_for_the_next():
    search = lookup(PEERS[40:])
    assert ask(search) == PEERS[40 : 40 + ALPHA]
    assert ask(search) == []
    search.answer(PEERS[41].node_id, PEERS[:3])
    assert ask(search) == PEERS[:1]
    assert search.wake_at() == SOFT


def test_when_the_nearest_have_answered_all_of_the_k_are_asked_at_once():
    search = lookup(PEERS[:30])
    for peer in ask(search):
        search.answer(peer.node_id, ())
    assert search.converged
    assert ask(search) == PEERS[ALPHA:20]
    assert not search.done


def test_a_slow_peer_frees_its_place_but_counts_when_it_answers():
    search = lookup(PEERS[:6], k=3)
    slow, *rest = ask(search)
    for peer in rest:
        search.answer(peer.node_id, ())
    assert not search.done  # one of the three nearest may still answer
    assert ask(search, SOFT / 2) == []
    assert search.wake_at() == SOFT
    assert ask(search, SOFT) == PEERS[3:4]  # the next in line takes its seat
    search.answer(PEERS[3].node_id, ())
    assert search.converged
    assert search.wake_at() == float("inf")
    assert not search.done
    search.answer(slow.node_id, ())
    assert search.done
    assert search.closest()[0] == slow


def test_an_answer_after_the_deadline_is_still_an_answer():
    search = lookup(PEERS[:1])
    (peer,) = ask(search)
    search.fail(peer.node_id)
    assert search.done
    search.answer(peer.node_id, PEERS[1:2])
    assert not search.done
    assert search.closest() == [peer]
    assert ask(search) == PEERS[1:2]


def test_late_ones_are_replaced_through_the_window_not_all_at_once():
    search = lookup(PEERS, k=4)
    first = ask(search)
    assert len(first) == 4
    assert ask(search, SOFT) == PEERS[4:8]  # nobody answered: the next in line
    assert len(ask(search, 2 * SOFT)) == 4


def test_silent_neighbours_of_the_key_are_replaced_a_window_at_a_time():
    search = lookup(PEERS)
    for peer in ask(search):
        search.answer(peer.node_id, ())
    assert ask(search) == PEERS[ALPHA:20]
    assert ask(search, SOFT) == PEERS[20 : 20 + ALPHA]


def test_whoever_was_asked_with_the_last_question_is_waited_for(monkeypatch):
    monkeypatch.setattr("dht.lookup.MAX_ASKED", 3)
    search = lookup(PEERS[:5])
    one, two, three = ask(search)
    search.answer(one.node_id, ())
    search.answer(two.node_id, ())
    assert not search.done
    search.answer(three.node_id, ())
    assert search.done


def test_a_failed_peer_is_replaced_by_the_next_nearest():
    search = lookup(PEERS[:25])
    while not search.done:
        for peer in ask(search):
            if peer in PEERS[:5]:
                search.fail(peer.node_id)
            else:
                search.answer(peer.node_id, ())
    assert search.closest() == PEERS[5:25]


def test_good_answers_end_it_early():
    search = lookup(PEERS[:25], quorum=2)
    first, second, third = ask(search)[:3]
    search.answer(first.node_id, (), good=True)
    search.answer(first.node_id, (), good=True)
    search.answer(second.node_id, ())
    assert not search.done
    search.answer(third.node_id, (), good=True)
    assert search.done
    assert ask(search) == []
    search.fail(third.node_id)  # it broke the protocol on a later page
    assert not search.done


def test_depth_counts_the_hops_to_whom_answered():
    search = lookup(PEERS[50:51])
    for number, depth in ((50, 1), (30, 2), (10, 3)):
        (peer,) = ask(search)
        assert peer == PEERS[number]
        search.answer(peer.node_id, [PEERS[number - 20]] if number > 10 else ())
        assert search.depth == depth
    assert search.done


@pytest.mark.parametrize("paths", [1, 2, 4])
def test_invented_peers_cannot_keep_it_going(paths):
    search = lookup(PEERS[:4], paths=paths)
    number, now = 1000, 0.0
    while not search.done:
        now += SOFT
        for peer in ask(search, now):
            number += 20
            search.answer(peer.node_id, [named(number + n) for n in range(20)])
        assert search.asked <= MAX_ASKED
    assert ask(search) == []
    # Whoever is named but was not asked any more is no one's target.
    assert set(search.shortlist()) <= set(search.closest())


def test_nobody_to_ask_is_an_end():
    for start in ([], [Peer(OWN, ())]):
        search = lookup(start)
        assert ask(search) == []
        assert search.done
        assert search.shortlist() == search.closest() == []


# ------------------------------------------------------------------ paths and addresses


def test_paths_share_the_window_and_ask_nobody_twice():
    search = lookup(PEERS[:20], paths=2)
    first = ask(search)
    assert len(first) == len(set(first)) == 6  # three each
    for peer in first:
        search.answer(peer.node_id, PEERS)
    asked = first + ask(search)
    assert len(asked) == len(set(asked))


def test_contacts_beyond_the_k_nearest_begin_the_last_path():
    search = lookup(PEERS[:40], paths=2)
    assert set(ask(search)) == {*PEERS[:3], *PEERS[20:23]}


def test_a_false_address_costs_a_peer_neither_its_seat_nor_the_other_path():
    true = PEERS[0]
    false = Peer(true.node_id, ("/ip4/172.16.0.1/tcp/1",))
    search = lookup(PEERS[58:], paths=2)
    liar, honest = ask(search)
    search.answer(liar.node_id, [false])
    assert ask(search) == [false]
    search.fail(true.node_id)
    assert not search.done
    search.answer(honest.node_id, [true])
    assert ask(search) == [true]
    search.answer(true.node_id, ())
    assert search.closest()[0] == true
    assert search.done


def test_two_tellers_words_are_both_tried_and_there_is_an_end_to_it():
    true = PEERS[0]
    search = lookup(PEERS[58:])
    one, other = ask(search)
    search.answer(one.node_id, [Peer(true.node_id, ("/ip4/172.16.0.1/tcp/1",))])
    search.answer(other.node_id, [true])
    (asked,) = ask(search)
    assert asked.addrs == ("/ip4/172.16.0.1/tcp/1", *true.addrs)
    search.fail(true.node_id)
    assert search.done  # both were tried


def test_however_many_addresses_are_invented_a_peer_is_tried_three_times_a_path():
    search = lookup(PEERS[40:60])
    tries = now = 0
    while not search.done:
        now += 1
        for peer in ask(search, now):
            if peer.node_id == PEERS[0].node_id:
                tries += 1
                search.fail(peer.node_id)
            else:
                lie = Peer(PEERS[0].node_id, (f"/ip4/172.16.{now}.{len(peer.addrs)}/tcp/1",))
                search.answer(peer.node_id, [lie, PEERS[now]])
    assert search.asked > 10
    assert tries == MAX_TRIES


def test_three_of_a_subnet_hold_a_seat_and_the_next_subnet_comes_up():
    crowd = [Peer(p.node_id, (f"/ip4/192.0.2.{n}/tcp/1",)) for n, p in enumerate(PEERS[:10])]
    search = lookup([*crowd, *PEERS[10:14]], k=5, group_of=subnet)
    assert ask(search) == [*crowd[:3], *PEERS[10:12]]
    search.fail(crowd[0].node_id)
    assert ask(search) == [crowd[3]]


def test_an_address_in_a_foreign_subnet_does_not_lift_the_cap():
    crowd = [
        Peer(p.node_id, (f"/ip4/172.16.{n}.1/tcp/1", f"/ip4/192.0.2.{n}/tcp/1"))
        for n, p in enumerate(PEERS[:8])
    ]
    search = lookup(crowd, k=8, group_of=subnet)
    now = 0.0
    while not search.done:
        now += SOFT
        for peer in ask(search, now):
            assert len({addr.rsplit(".", 1)[0] for addr in peer.addrs}) == 1
            if peer.addrs[0].startswith("/ip4/192"):
                search.answer(peer.node_id, ())
            else:
                search.fail(peer.node_id)  # nobody is there
    assert len(search.shortlist()) == 3


# ------------------------------------------------------------------ a put


def put(start, *, near=0, own=None, held=False, **options):
    return Placement(lookup(start, **options), near, own, held=held)


def test_the_near_get_the_record_with_the_first_question():
    search = put(PEERS[:30], near=away(PEERS[2]))
    questions = search.ask(0.0, lambda _: SOFT)
    assert [q.store for q in questions] == [True, True, True, False, False]


def test_whoever_was_only_asked_the_way_gets_it_once_the_nearest_are_known():
    search = put(PEERS[:5])
    for peer in ask(search):
        search.answer(peer.node_id, ())
    questions = search.ask(0.0, lambda _: SOFT)
    assert [(q.peer, q.store) for q in questions] == [(p, True) for p in PEERS[:5]]
    assert not search.done
    for peer in PEERS[:3]:
        search.stored(peer.node_id, (), held=True)
    assert search.settled
    assert not search.done
    search.stored(PEERS[3].node_id, (), held=False)
    search.fail(PEERS[4].node_id)
    assert search.done
    assert search.closest == 4
    assert set(search.holders()) == {p.node_id for p in PEERS[:3]}


def test_a_holder_that_fails_makes_room_for_the_next_nearest():
    search = put(PEERS[:4], k=3, near=1 << 256)
    for peer in ask(search):
        search.stored(peer.node_id, (), held=True) if peer != PEERS[1] else None
    search.fail(PEERS[1].node_id)
    assert [q.peer for q in search.ask(0.0, lambda _: SOFT)] == PEERS[3:4]
    search.stored(PEERS[3].node_id, (), held=True)
    assert search.done
    assert len(search.holders()) == 3


def test_who_held_the_record_before_it_failed_us_still_counts_as_a_holder():
    search = put(PEERS[:2], near=1 << 256)
    for peer in ask(search):
        search.stored(peer.node_id, (), held=True)
    search.fail(PEERS[0].node_id)
    assert search.done
    assert set(search.holders()) == {p.node_id for p in PEERS[:2]}


def test_everybody_fails_and_the_put_ends_unsettled():
    search = put(PEERS[:30], near=1 << 256)
    while not search.done:
        for peer in ask(search):
            search.fail(peer.node_id)
    assert not search.settled
    assert search.closest == 0
    assert search.holders() == []


def test_names_that_nobody_may_ask_any_more_do_not_hold_up_a_put():
    search, number, now = put(PEERS[:1]), 1000, 0.0
    while not search.done:
        now += SOFT
        for question in search.ask(now, lambda _: SOFT):
            number += 20
            names = [named(number + n) for n in range(20)]
            if question.store:
                search.stored(question.peer.node_id, names, held=True)
            else:
                search.answer(question.peer.node_id, names)
        assert now < 100
    assert len(search.holders()) >= 20


def test_our_own_place_is_one_of_the_k():
    far = put(PEERS[:3], k=3, own=away(PEERS[10]), held=True)
    assert not far.keeps
    assert far.closest == 3
    near = put(PEERS[:3], k=3, own=away(PEERS[1]), held=True)
    assert near.keeps
    assert near.closest == 3
    few = put(PEERS[:2], k=3, own=away(PEERS[10]), held=True)
    assert few.keeps
    assert few.closest == 3
    alone = put([], own=1, held=True)
    assert alone.done
    assert alone.settled
    assert alone.closest == 1


def test_reach_is_half_of_what_our_own_neighbourhood_spans():
    around = sorted(PEERS, key=lambda p: distance(dht_id(p.node_id), dht_id(OWN)))
    assert reach(OWN, around[:19], 20) == NOWHERE
    span = distance(dht_id(around[19].node_id), dht_id(OWN))
    assert reach(OWN, around, 20) == span // 2


# ------------------------------------------------------------------ deadlines, RFC 6298


def test_the_first_measurement_sets_mean_and_half_of_it_as_deviation():
    rtts = Rtts()
    rtts.observe(b"a", 0.1)  # (2.2): SRTT = R, RTTVAR = R/2
    assert rtts.mean(b"a") == 0.1
    assert rtts.soft(b"a") == pytest.approx(1.25 * 0.1 + 2 * 0.05)
    assert rtts.hard(b"a") == rtt.HARD_MIN  # 0.1 + 4 * 0.05 is less
    rtts.observe(b"b", 0.2)
    assert rtts.hard(b"b") == pytest.approx(0.2 + 4 * 0.1)


def test_later_ones_are_blended_with_an_eighth_and_a_quarter():
    rtts = Rtts()
    rtts.observe(b"a", 0.2)
    rtts.observe(b"a", 0.4)  # (2.3): RTTVAR from the old SRTT, then SRTT
    spread = 0.75 * 0.1 + 0.25 * abs(0.2 - 0.4)
    mean = 7 / 8 * 0.2 + 1 / 8 * 0.4
    assert rtts.mean(b"a") == pytest.approx(mean)
    assert rtts.hard(b"a") == pytest.approx(mean + 4 * spread)


def test_a_lost_question_doubles_the_hard_deadline_and_an_answer_resets_it():
    rtts = Rtts()
    rtts.observe(b"a", 0.01)
    rtts.late(b"a")
    assert rtts.hard(b"a") == min(rtt.HARD_MAX, 2 * rtt.HARD_MIN)
    for _ in range(100):
        rtts.late(b"a")
    assert rtts.hard(b"a") == rtt.HARD_MAX
    rtts.observe(b"a", 0.01)
    assert rtts.hard(b"a") == rtt.HARD_MIN
    rtts.late(b"b")  # never measured: nothing to double
    assert rtts.hard(b"b") == rtt.HARD_MIN


def test_a_stranger_is_judged_by_all_others_and_nobody_by_the_limits():
    rtts = Rtts()
    assert rtts.mean(b"x") is None
    assert (rtts.soft(b"x"), rtts.hard(b"x")) == (rtt.SOFT_MAX, rtt.HARD_MAX)
    rtts.observe(b"a", 0.04)
    assert rtts.soft(b"x") == rtts.soft(b"a") == pytest.approx(0.09)
    for _ in range(50):
        rtts.observe(b"a", 0.0001)
    assert rtts.soft(b"a") == rtt.SOFT_MIN


def test_the_peers_measured_are_bounded(monkeypatch):
    monkeypatch.setattr(rtt, "MAX_PEERS", 3)
    rtts = Rtts()
    for name in (b"a", b"b", b"c", b"a", b"d"):
        rtts.observe(name, 0.1)
    assert [rtts.mean(n) is None for n in (b"a", b"b", b"c", b"d")] == [False, True, False, False]


# ------------------------------------------------------------------ quotas


def test_a_burst_is_free_and_what_is_beyond_it_waits_for_its_token():
    buckets = Buckets(rate=10.0, burst=3.0)
    assert [buckets.spend("a", 0.0) for _ in range(5)] == pytest.approx([0, 0, 0, 0.1, 0.2])
    assert buckets.spend("b", 0.0) == 0
    assert buckets.spend("a", 0.3) == 0  # 3 tokens earned, 2 owed
    assert buckets.spend("a", 0.3) == pytest.approx(0.1)


def test_a_bucket_holds_no_more_than_its_burst_however_long_it_rests():
    buckets = Buckets(rate=10.0, burst=2.0)
    buckets.spend("a", 0.0)
    assert [buckets.spend("a", 1e6) for _ in range(3)] == pytest.approx([0, 0, 0.1])


def test_whoever_waits_as_told_gets_exactly_the_rate():
    buckets, now = Buckets(rate=5.0, burst=1.0), 0.0
    for _ in range(101):
        now += buckets.spend("a", now)
    assert now == pytest.approx(100 / 5.0)


def test_the_stalest_name_is_forgotten(monkeypatch):
    monkeypatch.setattr(quota, "MAX_NAMES", 2)
    buckets = Buckets(rate=1.0, burst=1.0)
    for name in "abcab":
        buckets.spend(name, 0.0)
    assert buckets.spend("c", 0.0) == 0.0  # forgotten, as new
    assert buckets.spend("b", 0.0) > 0
