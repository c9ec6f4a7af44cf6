"""A market's offers by gossip: what is accepted, ignored and rejected, and that each is verified once."""

from dataclasses import fields, replace

import pytest
import trio
from orderbook_kit import KEY, NET, NOW, FakeClock, offer, signed_body, worked

from orderbook.offer import MAX_BYTES, MAX_LIFE_S, Offer
from orderbook.shell_gossip import FRESH_S, MAX_FRESH, MarketGossip, topic_of
from orderbook.shell_intake import Intake
from orderbook.shell_sync import Events
from orderbook.store_book import BookStore
from p2pnode.base.ports import Verdict
from p2pnode.base.store import Database

PEER = bytes(32)


class Wires:
    """The `Gossip` port as a record of what was asked of it."""

    def __init__(self):
        self.judges, self.met, self.said = {}, [], []

    def join(self, topic, judge):
        self.judges[topic] = judge

    def leave(self, topic):
        del self.judges[topic]

    async def publish(self, topic, data):
        self.said.append((topic, data))
        return 3

    def meet(self, topic, peers):
        self.met.append((topic, peers))


class Scene:
    def __init__(self):
        self.clock, self.gossip = FakeClock(), Wires()
        self.store = BookStore(Database(None), NET)
        self.intake = Intake(self.store, NET, self.clock, Events())
        self.market = MarketGossip(self.gossip, NET, self.store)
        self.taken = 0
        self.news = []
        self.intake.on_news += [self.market.heard, lambda made, raw: self.news.append((made, raw))]
        self.market.feed(self._take)
        self.market.join("EUR")

    async def _take(self, raws, currency):
        self.taken += 1
        return await self.intake.take(raws, currency)

    async def judge(self, raw, currency="EUR"):
        return await self.gossip.judges[topic_of(NET, currency)](raw, PEER)


@pytest.fixture
def scene():
    return Scene()


def raw_of(**change):
    return offer(**change).to_wire(KEY)


async def test_a_new_offer_is_in_the_book_before_it_goes_on(scene):
    raw = raw_of()
    assert await scene.judge(raw) is Verdict.ACCEPT
    assert scene.store.knows(raw)
    assert [made.hash for made, _ in scene.news] == [
        Offer.from_wire(raw, network=NET, now=NOW).hash
    ]


async def test_a_newer_version_and_a_withdrawal_go_on_an_older_one_does_not(scene):
    first, second = raw_of(seq=1), raw_of(seq=2)
    withdrawn = worked(replace(offer(seq=3), min_sat=0, max_sat=0)).to_wire(KEY)
    for raw in (first, second, withdrawn):
        assert await scene.judge(raw) is Verdict.ACCEPT
    for raw in (first, second):
        assert await scene.judge(raw) is Verdict.IGNORE
    assert len(scene.news) == 3


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff" * 100,
        b"x" * (MAX_BYTES + 1),
        raw_of()[:-1] + bytes([raw_of()[-1] ^ 1]),
        raw_of(currency="USD", price=61_240_000_000),
        raw_of()[:-66] + raw_of(seq=9)[-66:],
    ],
    ids=["empty", "garbage", "too-long", "signature", "other-market", "other-signature"],
)
async def test_what_no_honest_node_sends_is_rejected(scene, raw):
    assert await scene.judge(raw) is Verdict.REJECT
    assert scene.news == []


async def test_too_little_work_is_rejected(scene):
    idle = next(
        made
        for made in (replace(offer(), work=n) for n in range(100))
        if made.work_bits < NET.offer_bits
    )
    assert await scene.judge(idle.to_wire(KEY)) is Verdict.REJECT


async def test_what_an_honest_node_with_another_clock_may_send_is_ignored(scene):
    late = raw_of(expires_at=NOW + MAX_LIFE_S + 30)
    over = raw_of(expires_at=NOW - 30)
    assert [await scene.judge(raw) for raw in (late, over)] == [Verdict.IGNORE] * 2
    assert scene.news == []


async def test_what_came_by_another_path_just_now_goes_on_unverified_what_came_long_ago_does_not(
    scene, autojump_clock
):
    raw = raw_of()
    await scene.intake.take([raw], "EUR")
    assert await scene.judge(raw) is Verdict.ACCEPT
    await trio.sleep(FRESH_S + 1)
    assert await scene.judge(raw) is Verdict.IGNORE  # a replay moves nothing
    assert scene.taken == 0


async def test_what_is_remembered_of_other_paths_is_bounded(scene):
    made = offer()
    for number in range(MAX_FRESH + 100):
        scene.market.heard(made, b"%d" % number)
    assert len(scene.market._fresh) == MAX_FRESH


async def test_markets_have_topics_of_their_own(scene):
    scene.market.join("USD")
    assert set(scene.gossip.judges) == {
        "/p2pnode/sandbox/book/EUR/1",
        "/p2pnode/sandbox/book/USD/1",
    }
    raw = raw_of()
    assert await scene.judge(raw, "USD") is Verdict.REJECT
    assert await scene.market.publish("EUR", raw) == 3
    assert scene.gossip.said == [("/p2pnode/sandbox/book/EUR/1", raw)]
    scene.market.meet("USD", [])
    assert scene.gossip.met == [("/p2pnode/sandbox/book/USD/1", [])]
    scene.market.leave("USD")
    assert len(scene.gossip.judges) == 1


async def test_before_it_is_fed_it_passes_nothing_on():
    gossip = Wires()
    market = MarketGossip(gossip, NET, BookStore(Database(None), NET))
    market.join("EUR")
    assert await gossip.judges[topic_of(NET, "EUR")](raw_of(), PEER) is Verdict.IGNORE


@pytest.mark.parametrize(
    ("name", "value"),
    [("peer_trades", 65), ("peer_days", 3651), ("dep_s_bp", 5001), ("terms", "x" * 600)],
)
async def test_bounds_that_another_release_may_have_make_no_liar(scene, name, value):
    """A maker of last week has signed it: who passes it on is not closed for it."""
    body = list(offer().body())
    place = {f.name: 2 + n for n, f in enumerate(f for f in fields(Offer) if f.name != "network")}
    body[place[name]] = value
    raw = signed_body(tuple(body))
    assert await scene.judge(raw) is Verdict.IGNORE
    assert not scene.news
    assert await scene.judge(raw[:-1] + bytes([raw[-1] ^ 1])) is Verdict.REJECT
    body[place["work"]] += 1
    assert await scene.judge(signed_body(tuple(body))) is Verdict.REJECT
    assert await scene.judge(signed_body(tuple(body[:-1]))) is Verdict.REJECT


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("methods", ("CUSTOM", "NEW_WAY_TO_PAY")),
        ("countries", ("ZZ",)),
        ("languages", ("qq",)),
        ("escrow_kinds", ("tr-2of3",)),
        ("currency", "QQQ"),
    ],
)
async def test_names_that_a_newer_node_may_know_are_no_lies(scene, name, value):
    """They are not shown and not passed on, and nobody loses his place for them."""
    body = list(offer().body())
    body[2 + [f.name for f in fields(Offer) if f.name != "network"].index(name)] = value
    assert await scene.judge(signed_body(tuple(body))) is Verdict.IGNORE
    assert not scene.news
    body[1] = "main"
    assert await scene.judge(signed_body(tuple(body))) is Verdict.REJECT
