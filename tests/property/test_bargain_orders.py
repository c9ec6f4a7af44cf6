"""Negotiations under any order of users, deliveries, replays, crashes and time."""

from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import Any

import trio
from bargain_kit import Side, booth
from bargain_tables import FAIR, LOW, h
from hypothesis import given, note, settings
from hypothesis import strategies as st

from escrow import bargain
from escrow.bargain import (
    Countered,
    Policy,
    SayAgree,
    SayCounter,
    SayPropose,
    SayRefuse,
    Taken,
)
from escrow.messages import Kind
from escrow.shell_inbox import APPLIED
from p2pnode.base.errors import NodeError

SUMS = st.integers(LOW - 500, FAIR + 500)
STEPS = st.one_of(
    st.tuples(st.just("propose"), SUMS),
    st.tuples(st.just("again"), SUMS),
    st.tuples(st.just("counter"), SUMS),
    st.tuples(st.sampled_from(["agree", "maker no", "taker no", "take", "late take"]), st.just(0)),
    st.tuples(st.sampled_from(["maker sends", "taker sends", "all"]), st.just(0)),
    st.tuples(st.just("replay"), st.integers(0, 30)),
    st.tuples(st.just("crash"), st.integers(0, 1)),
    st.tuples(st.just("time"), st.sampled_from([1, 100, 299, 599, 600])),
    st.tuples(st.just("gone"), st.integers(0, 1)),
)
POLICIES = st.builds(
    Policy,
    accept_bp=st.sampled_from([0, 50, 100]),
    counter_bp=st.sampled_from([0, 100, 200]),
    otherwise=st.sampled_from([bargain.ASK, bargain.REFUSE]),
)


class Play:
    """Does one step after another, and looks at what must hold after each."""

    def __init__(self, policy: Policy) -> None:
        self.maker, self.taker, self.post, self.offer, _ = booth(policy=policy)
        self.made: list[bytes] = []
        self.wanted: dict[bytes, Any] = {}  # TAKEs signed and not yet answered, by trade
        self.trades: dict[bytes, bytes] = {}  # counter: trade that the maker began
        self.did = 0

    async def step(self, name: str, number: int) -> None:
        maker, taker, offer = self.maker, self.taker, self.offer
        last = self.made[-1] if self.made else h("none")
        match name:
            case "propose":
                self.made.append(taker.propose(offer, number))
            case "again":
                taker.bargains.act(last, SayPropose(number))
            case "counter":
                maker.bargains.act(last, SayCounter(number))
            case "agree":
                maker.bargains.act(last, SayAgree())
            case "maker no":
                maker.bargains.act(last, SayRefuse("no"))
            case "taker no":
                taker.bargains.act(last, SayRefuse("no"))
            case "take":
                self.sign(last)
                await self.answer_all()
            case "late take":
                self.sign(last)
            case "maker sends":
                await self.post.one(maker)
            case "taker sends":
                await self.post.one(taker)
            case "all":
                await self.post.all()
                await self.answer_all()
            case "replay" if number < len(self.post.seen):
                sender, to, raw = self.post.seen[number]
                await self.post.give(self.post.sides[sender], self.post.sides[to], raw)
            case "crash":
                (maker, taker)[number].start()
            case "time":
                maker.clock.time += number
                for side in (maker, taker):
                    side.bargains.tick()
            case "gone":
                maker.desk.reserved.pop(offer.offer_hash, None)
                if number:
                    maker.desk.reserved[offer.offer_hash] = h("other trade")
        self.did += 1

    def sign(self, last: bytes) -> None:
        """The taker's half of a TAKE."""
        if isinstance(self.taker.state(last), Countered):
            what = self.taker.offered(last)
            trade_id = h(f"trade {len(self.wanted)}")
            self.taker.bargains.used(what, trade_id)
            self.wanted[trade_id] = what

    async def answer_all(self) -> None:
        """The maker's half, for every TAKE that is under way."""
        for trade_id, what in self.wanted.items():
            if self.maker.desk.terms(what.offer_hash, what.method, b"") is None:
                continue  # refused before its COUNTER is looked at
            try:
                self.maker.takes(what, self.taker.id, trade_id)
            except NodeError:
                continue
            assert what.counter not in self.trades, "a COUNTER was used twice"
            self.trades[what.counter] = trade_id

    def hold(self) -> None:
        for side in (self.maker, self.taker):
            for row in side.bargains.rows():
                said = side.journal.messages(row.id)
                kinds = [m.kind for m in said]
                assert kinds.count(Kind.PROPOSE) <= bargain.MAX_ROUNDS
                assert [m.seq for m in said] == list(range(len(said)))
                assert all(b.prev == a.id for a, b in pairwise(said))
                assert all(a.sender != b.sender for a, b in pairwise(said))
        for counter, trade_id in self.trades.items():
            row = self.maker.bargains._store.holding(counter)
            assert row is not None
            assert row.state == Taken(self.wanted[trade_id].fiat_minor, trade_id)
            assert row.changed < row.began + bargain.LIFE_S
            theirs = self.taker.row(row.id)
            assert theirs.state == row.state


@settings(max_examples=150, deadline=None)
@given(policy=POLICIES, steps=st.lists(STEPS, min_size=4, max_size=40))
def test_any_order(policy: Policy, steps: list[tuple[str, int]]) -> None:
    async def run() -> None:
        play = Play(policy)
        for name, number in steps:
            try:
                await play.step(name, number)
            except NodeError as error:
                note(f"{name} {number}: {error}")
            play.hold()
        play.maker.desk.reserved.clear()
        await play.post.all()
        play.hold()
        for made in play.made:
            agree(play.maker, play.taker, made)

    trio.run(run)


WEIGHTS = {
    **dict.fromkeys(("all", "take"), 8),
    **dict.fromkeys(("propose", "again", "counter", "agree", "late take"), 3),
    **dict.fromkeys(("maker sends", "taker sends", "replay", "crash"), 2),
    **dict.fromkeys(("time", "gone", "maker no", "taker no"), 1),
}


def walk(random: Random) -> Iterator[tuple[str, int]]:
    """Steps that often come to a trade."""
    for name in random.choices(list(WEIGHTS), list(WEIGHTS.values()), k=40):
        if name in {"propose", "again", "counter"}:
            yield name, random.randint(LOW, FAIR)
        elif name == "time":
            yield name, random.choice([1, 100, 299, 600])
        else:
            yield name, random.randint(0, 1) if name in {"crash", "gone"} else random.randint(0, 9)


async def test_many_walks_come_to_trades_and_nothing_breaks() -> None:
    taken = refused = 0
    for seed in range(120):
        random = Random(seed)
        play = Play(Policy(accept_bp=random.choice([0, 100]), counter_bp=100))
        for name, number in walk(random):
            try:
                await play.step(name, number)
            except NodeError:
                refused += 1
            try:
                play.hold()
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, after step {play.did}: {error}") from error
        taken += len(play.trades)
    assert taken > 60, taken
    assert refused > 500, refused


def agree(maker: Side, taker: Side, made: bytes) -> None:
    """Once all is delivered both know the same, but for who let it end."""
    theirs = taker.row(made)
    if made not in {r.id for r in maker.bargains.rows()}:
        assert theirs.ended or taker.journal.recipients() == []
        return
    ours = maker.row(made)
    if not ours.ended and not theirs.ended:
        assert ours.state == theirs.state
        assert maker.journal.messages(made) == taker.journal.messages(made)


async def test_every_frame_again_in_every_place_changes_nothing() -> None:
    maker, taker, post, offer, _ = booth()
    made = taker.propose(offer, LOW)
    tried = 0
    for step in range(6):
        await post.all()
        for sender, to, raw in list(post.seen):
            before = post.sides[to].database.all("SELECT * FROM bargain")
            status, _ = await post.give(post.sides[sender], post.sides[to], raw)
            after = post.sides[to].database.all("SELECT * FROM bargain")
            assert (status, [tuple(r) for r in after]) == (APPLIED, [tuple(r) for r in before])
            tried += 1
        if step % 2 == 0:
            maker.bargains.act(made, SayCounter(FAIR - step))
        elif step < 5:
            taker.bargains.act(made, SayPropose(LOW + step))
    assert tried > 15
