"""The core of gossip against whatever peers say: what it keeps, whom it closes, what it answers."""

import pytest
from gossip_sim import TOPIC, Draws

from dht import gossip_cache, gossip_lazy, gossip_mesh, gossip_peers, gossip_score
from dht.gossip import LONELY_S, MAX_TOPICS, Close, Router, Send
from dht.gossip_wire import MAX_DATA, Rpc, message_id
from dht.subnets import Subnets
from dht.tally import Tally
from p2pnode.base.errors import InvalidRecord, LocalFault
from p2pnode.base.ports import Verdict


def peer(number):
    return number.to_bytes(32, "big")


class Table:
    """One router and the hand that plays all others."""

    def __init__(self, subnets=None):
        self.tally = Tally()
        self.router = Router(Draws(1), subnets or Subnets(), self.tally)
        self.now = 1000.0

    def meet(self, *numbers, topic=TOPIC, named=False, host="127.0.0.1"):
        for number in numbers:
            assert self.router.connected(peer(number), host, named=named, now=self.now)
            self.say(number, Rpc(subscriptions=((topic, True),)))

    def say(self, number, rpc, verdict=Verdict.ACCEPT):
        """Bring an RPC as the shell does; return what was judged."""
        judged = []
        for topic, data in rpc.messages:
            id = self.router.offered(peer(number), topic, data, self.now)
            if id is not None:
                judged.append(data)
                self.router.judged(peer(number), topic, data, id, verdict, self.now)
        self.router.control(peer(number), rpc, self.now)
        return judged

    def beat(self, times=1):
        for _ in range(times):
            self.now += 1
            self.router.heartbeat(self.now)

    def out(self):
        effects = list(self.router.out)
        self.router.out.clear()
        return effects

    def sent(self, number):
        """Return what a peer was told since the last look."""
        told = [e.rpc for e in self.out() if isinstance(e, Send) and peer(number) in e.peers]
        return told

    def closed(self):
        return {int.from_bytes(e.peer, "big") for e in self.out() if isinstance(e, Close)}

    def score(self, number):
        return self.router.score(peer(number), self.now)


@pytest.fixture
def table():
    made = Table()
    made.router.join(TOPIC, made.now)
    return made


def said(*datas):
    return Rpc(messages=tuple((TOPIC, data) for data in datas))


# ------------------------------------------------------------------ messages


def test_a_message_is_judged_once_and_passed_on_to_the_mesh_but_not_back(table):
    table.meet(1, 2, 3)
    table.out()
    assert table.say(1, said(b"news")) == [b"news"]
    sends = [e for e in table.out() if e.rpc.messages]
    assert [(set(e.peers), e.rpc) for e in sends] == [({peer(2), peer(3)}, said(b"news"))]
    assert table.say(2, said(b"news")) == table.say(1, said(b"news")) == []
    assert table.tally.counts["gossip_duplicates"] == 2
    assert table.score(1) == 1


def test_a_message_of_no_topic_of_ours_is_not_even_hashed(table):
    table.meet(1)
    assert table.say(1, Rpc(messages=(("/other", b"x"),))) == []
    assert table.router.holds()["seen"] == 0


def test_who_brings_it_while_it_is_judged_shares_the_verdict(table):
    table.meet(1, 2, 3)
    id = table.router.offered(peer(1), TOPIC, b"bad", table.now)
    assert table.router.offered(peer(2), TOPIC, b"bad", table.now) is None
    table.router.judged(peer(1), TOPIC, b"bad", id, Verdict.REJECT, table.now)
    assert table.score(1) == table.score(2) == -10
    assert table.say(3, said(b"bad")) == []
    assert table.score(3) == -10  # it is known to be invalid


def test_a_verdict_that_was_given_up_lets_the_message_come_again(table):
    table.meet(1, 2)
    id = table.router.offered(peer(1), TOPIC, b"x", table.now)
    table.router.judged(peer(1), TOPIC, b"x", id, None, table.now)
    assert table.say(2, said(b"x")) == [b"x"]


@pytest.mark.parametrize("verdict", [Verdict.IGNORE, Verdict.REJECT])
def test_only_what_is_accepted_is_passed_on_or_offered(table, verdict):
    table.meet(*range(1, 9))
    table.out()
    table.say(1, said(b"x"), verdict)
    table.beat(3)
    table.say(2, Rpc(iwant=(message_id(b"x"),)))
    assert not [e for e in table.out() if isinstance(e, Send) and (e.rpc.messages or e.rpc.ihave)]


def test_an_ignored_message_blames_nobody_and_three_rejected_ones_close(table):
    table.meet(1, 2)
    for number in range(100):
        table.say(1, said(b"old %d" % number), Verdict.IGNORE)
    assert table.score(1) == 0
    for number in range(3):
        assert table.closed() == set()
        table.say(2, said(b"bad %d" % number), Verdict.REJECT)
    assert table.closed() == {2}
    assert not table.router.connected(peer(2), "127.0.0.1", named=False, now=table.now)
    table.now += 3600
    assert table.router.connected(peer(2), "127.0.0.1", named=False, now=table.now)


def test_signed_and_oversized_messages_count_as_invalid(table):
    table.meet(1)
    table.say(1, Rpc(unfit=3))
    assert table.closed() == {1}


def test_our_own_go_to_all_of_a_topic_once(table):
    table.meet(*range(1, 30))
    table.out()
    assert table.router.publish(TOPIC, b"ours", table.now) == 29
    assert table.router.publish(TOPIC, b"ours", table.now) == 0
    assert table.say(3, said(b"ours")) == []  # it comes back
    for size in (0, MAX_DATA + 1):
        with pytest.raises(InvalidRecord):
            table.router.publish(TOPIC, bytes(size), table.now)


def test_a_replay_storm_is_not_judged_again_nor_passed_on(table):
    table.meet(1, 2)
    table.say(1, said(b"x"))
    table.out()
    for _ in range(10_000):
        assert table.say(1, said(b"x")) == []
    assert table.out() == []
    assert table.router.holds()["seen"] == 1


# ------------------------------------------------------------------ floods


def test_what_is_kept_of_a_flood_of_messages_is_bounded(table):
    table.meet(*range(1, 20))
    for number in range(gossip_cache.MAX_SEEN + 1000):
        table.say(1 + number % 10, said(number.to_bytes(4, "big") * 500))
        table.router.out.clear()
    held = table.router.holds()
    assert held["seen"] == gossip_cache.MAX_SEEN
    assert held["held_bytes"] <= gossip_cache.MAX_HELD_BYTES
    table.beat(6)
    assert table.router.holds()["held_bytes"] == table.router.holds()["held"] == 0
    table.now += gossip_cache.SEEN_S
    table.beat()
    assert table.router.holds()["seen"] == 0


def test_an_ihave_of_a_million_ids_is_looked_at_within_bounds_and_found_to_be_a_lie(table):
    table.meet(1)
    table.out()
    ids = tuple(number.to_bytes(32, "big") for number in range(1_000_000))
    for _ in range(20):
        table.say(1, Rpc(ihave=((TOPIC, ids),)))
    asked = [rpc.iwant for rpc in table.sent(1)]
    assert sum(map(len, asked)) == gossip_lazy.MAX_IDS
    assert max(map(len, asked)) == gossip_lazy.ASK
    assert table.router.holds()["promises"] <= gossip_lazy.MAX_PROMISES
    table.beat(4)
    assert table.tally.counts["gossip_promises_broken"] == len(asked)
    assert table.closed() == {1}


def test_one_broken_promise_is_forgiven(table):
    table.meet(1, 2)
    table.say(1, Rpc(ihave=((TOPIC, (bytes(32),)),)))
    table.say(2, Rpc(ihave=((TOPIC, (message_id(b"kept by 1"),)),)))
    table.say(1, said(b"kept by 1"))  # by whomever
    table.beat(4)
    assert table.tally.counts["gossip_promises_broken"] == 1
    assert table.score(1) >= 0
    assert table.closed() == set()


def test_an_iwant_flood_gets_each_message_three_times(table):
    table.meet(1, 2)
    datas = [b"m%d" % number for number in range(300)]
    table.say(2, said(*datas))
    table.out()
    ids = tuple(message_id(data) for data in datas)
    for _ in range(100):
        table.say(1, Rpc(iwant=ids))
    assert sum(len(rpc.messages) for rpc in table.sent(1)) <= gossip_lazy.MAX_WANTED
    for _ in range(4):
        table.beat()
        for _ in range(100):
            table.say(1, Rpc(iwant=ids))
    assert table.tally.counts["gossip_answered"] == 3 * 300


def test_a_graft_flood_closes_the_flooder_and_answers_little(table):
    table.meet(*range(1, 13))
    table.meet(99)
    table.say(99, Rpc(prune=((TOPIC, 60),)))
    table.out()
    answered = 0
    for _ in range(2000):
        table.now += 0.01
        table.say(99, Rpc(graft=(TOPIC,) * 100))
    effects = table.out()
    answered = sum(isinstance(e, Send) and peer(99) in e.peers for e in effects)
    assert Close(peer(99), "its score is too low") in effects
    assert answered <= 210  # two seconds of grace and a few more, at a hundred a second
    assert peer(99) not in table.router.mesh(TOPIC)


def test_a_graft_that_crossed_our_prune_is_forgiven(table):
    table.meet(1)
    table.router._meshes[TOPIC].prune(peer(1), table.now, 60)
    table.now += 0.3
    table.say(1, Rpc(graft=(TOPIC,)))
    assert table.score(1) == 0
    assert table.router.mesh(TOPIC) == ()
    table.now += 100
    table.say(1, Rpc(graft=(TOPIC,)))
    assert table.router.mesh(TOPIC) == (peer(1),)


def test_a_graft_of_a_topic_that_we_are_not_in_is_not_answered(table):
    table.meet(1)
    table.out()
    table.say(1, Rpc(graft=tuple(f"/other/{n}" for n in range(100)), prune=(("/other", 60),)))
    assert table.out() == []


def test_a_backoff_asked_of_us_is_bounded(table):
    table.meet(1)
    table.say(1, Rpc(prune=((TOPIC, 2**32),)))
    assert table.router.mesh(TOPIC) == ()
    table.now += gossip_mesh.MAX_BACKOFF_S + 10
    table.beat()
    assert table.router.mesh(TOPIC) == (peer(1),)


def test_a_peer_is_read_at_a_pace(table):
    table.meet(1)
    waits = [table.router.pace(peer(1), said(b"x", b"y"), table.now) for _ in range(2000)]
    assert waits[0] == 0
    spent = 2000 * 3
    assert waits[-1] == pytest.approx((spent - gossip_peers.BURST) / gossip_peers.RATE)
    assert table.tally.counts["gossip_paced"] > 0
    assert table.router.pace(peer(2), said(b"x"), table.now) == 0  # others are not held up


def test_what_is_judged_in_vain_costs_ten_times_as_much_of_the_pace(table):
    table.meet(1, 2)
    waits = {}
    for number, verdict in [(1, Verdict.IGNORE), (2, Verdict.ACCEPT)]:
        for n in range(600):
            rpc = said(b"%d from %d" % (n, number))
            waits[number] = table.router.pace(peer(number), rpc, table.now)
            table.say(number, rpc, verdict)
    assert waits[2] == 0
    assert waits[1] == pytest.approx((600 * 11 - 9 - gossip_peers.BURST) / gossip_peers.RATE)
    assert table.score(1) == 0  # it is nobody's fault, and yet no way to keep us busy


def test_subscriptions_of_one_peer_are_bounded(table):
    table.meet(1)
    table.say(1, Rpc(subscriptions=tuple((f"/t/{n}", True) for n in range(1000))))
    assert len(table.router._peers.get(peer(1)).topics) == gossip_peers.MAX_PEER_TOPICS


# ------------------------------------------------------------------ peers


def test_peers_are_bounded_and_whom_we_dialled_stays(table):
    table.meet(*range(1, 13), named=True)
    for number in range(100, 100 + 2 * gossip_peers.MAX_PEERS):
        table.router.connected(peer(number), "127.0.0.1", named=False, now=table.now)
    assert table.router.holds()["peers"] == gossip_peers.MAX_PEERS
    assert {peer(n) for n in range(1, 13)} <= set(table.router.peers())
    assert len(table.closed()) == 12 + gossip_peers.MAX_PEERS


def test_a_subnet_holds_few_places():
    table = Table(Subnets(()))
    table.router.join(TOPIC, table.now)
    let_in = [
        table.router.connected(peer(n), f"192.0.2.{n}", named=False, now=table.now)
        for n in range(1, 100)
    ]
    assert sum(let_in) == gossip_peers.MAX_PER_SUBNET
    for number in range(1, 1 + gossip_peers.MAX_PER_SUBNET):
        table.say(number, Rpc(subscriptions=((TOPIC, True),), graft=(TOPIC,)))
    table.beat(3)
    assert len(table.router.mesh(TOPIC)) == gossip_mesh.PER_SUBNET
    table.meet(200, host="198.51.100.1")
    assert peer(200) in table.router.mesh(TOPIC)


def test_who_shares_no_topic_is_let_go(table):
    table.meet(1)
    table.meet(2, topic="/other")
    table.meet(3)
    table.say(3, Rpc(subscriptions=((TOPIC, False),)))
    table.beat(int(LONELY_S) + 1)
    assert table.closed() == {2, 3}
    assert table.router.peers() == (peer(1),)
    table.router.leave(TOPIC)
    table.beat(int(LONELY_S) + 1)
    assert table.router.peers() == ()


def test_topics_are_bounded(table):
    for number in range(MAX_TOPICS - 1):
        table.router.join(f"/t/{number}", table.now)
    with pytest.raises(LocalFault):
        table.router.join("/t/one more", table.now)
    table.router.leave("/t/0")
    table.router.join("/t/one more", table.now)
    with pytest.raises(LocalFault):
        table.router.join("t" * 200, table.now)


def test_joining_and_leaving_tell_peers_and_mesh(table):
    table.meet(1, topic="/b")
    table.out()
    table.router.join("/b", table.now)
    assert table.sent(1) == [Rpc(subscriptions=(("/b", True),)), Rpc(graft=("/b",))]
    table.router.leave("/b")
    assert table.sent(1) == [
        Rpc(prune=(("/b", gossip_mesh.LEAVE_BACKOFF_S),)),
        Rpc(subscriptions=(("/b", False),)),
    ]
    table.router.leave("/b")
    assert table.out() == []


# ------------------------------------------------------------------ the mesh


def test_a_mesh_too_large_is_cut_to_its_best_and_keeps_those_we_dialled(table):
    table.meet(*range(1, 13))
    table.meet(*range(20, 24), named=True)
    for number in range(1, 24):
        if number < 13 or number > 19:
            table.say(number, Rpc(graft=(TOPIC,)))
    assert len(table.router.mesh(TOPIC)) > gossip_mesh.D_HIGH
    for number in (1, 2, 3, 4):
        table.say(number, said(b"from %d" % number))
    table.out()
    table.beat()
    mesh = set(table.router.mesh(TOPIC))
    assert gossip_mesh.D <= len(mesh) <= gossip_mesh.D + 1
    assert len(mesh & {peer(n) for n in range(20, 24)}) >= gossip_mesh.D_OUT
    assert mesh & {peer(n) for n in (1, 2, 3, 4)}


def test_a_peer_of_low_score_leaves_the_mesh(table):
    table.meet(1, 2, 3, 4, 5)
    table.say(1, said(b"bad"), Verdict.REJECT)
    table.out()
    table.beat()
    assert peer(1) not in table.router.mesh(TOPIC)
    assert table.sent(1)[0].prune == ((TOPIC, gossip_mesh.BACKOFF_S),)


def test_scores_fade_and_are_bounded_in_number():
    marks = gossip_score.Marks()
    for number in range(gossip_score.MAX_MARKS + 10):
        marks.of(peer(number), 0.0).lied(0.0)
    assert len(marks) == gossip_score.MAX_MARKS
    last = peer(gossip_score.MAX_MARKS + 9)
    assert marks.score(last, 0.0) == -10
    assert marks.score(last, gossip_score.INVALID_HALF_S) == -2.5
    assert marks.score(last, 1e6) == 0
    assert marks.score(peer(0), 0.0) == 0  # forgotten
