"""Two nodes negotiate over real journals: by hand, by policy, through crashes, replays and lies."""

from dataclasses import replace
from typing import Any

import pytest
from bargain_kit import Post, Side, booth
from bargain_tables import AMOUNT, FAIR, LOW, MIDDLE, h, message, propose, take, terms, who

from escrow import bargain, shell_bargain, store_bargain
from escrow.bargain import (
    Countered,
    Declined,
    Lapsed,
    Policy,
    Proposed,
    SayAgree,
    SayCounter,
    SayPropose,
    SayRefuse,
    Taken,
)
from escrow.messages import Kind, Message
from escrow.payloads import Counter, Refuse, Take
from escrow.shell_inbox import APPLIED, LATER, REFUSED
from p2pnode.base.errors import InvalidRecord, LocalFault, NotFound, PeerFault, StorageFault

LIMITS = Policy(accept_bp=100, counter_bp=200, otherwise=bargain.REFUSE)


async def countered(maker: Side, taker: Side, post: Post, offer: Any, fiat: int = MIDDLE) -> bytes:
    """Bring a negotiation to a COUNTER of `fiat`, by hand."""
    made = taker.propose(offer, LOW)
    await post.all()
    maker.bargains.act(made, SayCounter(fiat))
    await post.all()
    for side in (maker, taker):
        assert side.state(made).fiat_minor == fiat
    return made


async def test_by_hand_and_taken_once() -> None:
    maker, taker, post, offer, _ = booth()
    made = await countered(maker, taker, post, offer)
    what = taker.offered(made)
    taker.bargains.used(what, h("trade"))
    maker.takes(what, taker.id, h("trade"))
    for side in (maker, taker):
        assert side.state(made) == Taken(MIDDLE, h("trade"))
    assert maker.events() == ["Proposed", "Countered", "Taken"]
    with pytest.raises(PeerFault, match="over"):
        maker.takes(what, taker.id, h("another trade"))
    with pytest.raises(LocalFault, match="over"):
        taker.bargains.used(what, h("another trade"))
    assert not maker.desk.reserved


async def test_the_proposed_sum_itself_is_a_yes() -> None:
    maker, taker, post, offer, _ = booth()
    made = taker.propose(offer, LOW)
    await post.all()
    maker.bargains.act(made, SayAgree())
    await post.all()
    assert taker.state(made).fiat_minor == LOW
    assert isinstance(taker.state(made), Countered)


@pytest.mark.parametrize(
    ("proposed", "answered"),
    [(60_628, 60_628), (FAIR, FAIR), (62_000, 62_000), (60_627, 60_628), (60_016, 60_628)],
)
async def test_a_policy_answers_by_itself(proposed: int, answered: int) -> None:
    maker, taker, post, offer, _ = booth(policy=LIMITS)
    made = taker.propose(offer, proposed)
    await post.all()
    for side in (maker, taker):
        assert isinstance(side.state(made), Countered)
        assert side.state(made).fiat_minor == answered


async def test_what_a_policy_refuses_at_once_is_kept_nowhere() -> None:
    maker, taker, post, offer, _ = booth(policy=LIMITS)
    made = taker.propose(offer, 60_015)
    await post.all()
    assert taker.state(made) == Declined(0, "fiat_minor: is too far from the offer's price")
    assert maker.rows_kept() == (0, 0)
    assert maker.events() == []
    assert taker.journal.recipients() == []


async def test_a_later_round_that_is_refused_gets_a_signed_word() -> None:
    maker, taker, post, offer, _ = booth(policy=LIMITS)
    made = taker.propose(offer, 60_100)
    await post.all()
    taker.bargains.act(made, SayPropose(60_000))
    await post.all()
    assert taker.state(made) == Declined(0, "fiat_minor: is too far from the offer's price")
    assert maker.last(made).kind is Kind.REFUSE
    with pytest.raises(PeerFault):
        maker.takes(taker_counter(maker, made), taker.id, h("trade"))


def taker_counter(maker: Side, made: bytes) -> Take:
    counter = next(m for m in maker.journal.messages(made) if m.kind is Kind.COUNTER)
    return take(counter.id, 60_628)


async def test_three_rounds_and_no_more() -> None:
    maker, taker, post, offer, _ = booth()
    made = taker.propose(offer, LOW)
    for n in range(3):
        await post.all()
        maker.bargains.act(made, SayCounter(FAIR - n))
        await post.all()
        if n < 2:
            taker.bargains.act(made, SayPropose(LOW + n))
    assert maker.state(made).round == taker.state(made).round == 3
    with pytest.raises(LocalFault, match="3 proposals"):
        taker.bargains.act(made, SayPropose(LOW + 5))
    before = maker.database.all("SELECT * FROM bargain")
    said = message("taker", propose(LOW + 5), maker.journal.messages(made))
    status, text = await post.give(taker, maker, said.wire())
    assert (status, text) == (REFUSED, "PROPOSE: is the 4th of 3")
    assert [tuple(r) for r in before] == [
        tuple(r) for r in maker.database.all("SELECT * FROM bargain")
    ]


async def test_either_refuses() -> None:
    maker, taker, post, offer, _ = booth()
    first = taker.propose(offer, LOW)
    await post.all()
    maker.bargains.act(first, SayRefuse("too low"))
    await post.all()
    assert taker.state(first) == Declined(0, "fiat_minor: too low")
    with pytest.raises(LocalFault, match="a moment ago"):
        taker.propose(offer, LOW)
    second = taker.propose(offer, MIDDLE)
    await post.all()
    maker.bargains.act(second, SayCounter(FAIR))
    await post.all()
    taker.bargains.act(second, SayRefuse("too high"))
    await post.all()
    assert maker.state(second) == Declined(0, "fiat_minor: too high")
    assert maker.state(first) == Declined(1, "too low")


# ------------------------------------------------------------------ time


async def test_ten_minutes_to_the_second() -> None:
    maker, taker, post, offer, _ = booth()
    made = await countered(maker, taker, post, offer)
    what = taker.offered(made)
    assert taker.state(made).expires_at == maker.row(made).began + 600
    maker.clock.time += 599
    maker.bargains.agreed(what, taker.id)
    for side in (maker, taker):
        side.bargains.tick()
        assert isinstance(side.state(made), Countered)
    maker.clock.time += 1
    with pytest.raises(PeerFault, match="ended at"):
        maker.takes(what, taker.id, h("trade"))
    for side in (maker, taker):
        side.bargains.tick()
        assert side.state(made) == Lapsed()


async def test_the_maker_judges_by_his_own_clock() -> None:
    maker, taker, post, offer, _ = booth()
    taker.clock = type(maker.clock)()
    taker.start()
    taker.clock.time = maker.clock.time - 3000  # far behind: his ten minutes are his own
    made = await countered(maker, taker, post, offer)
    maker.clock.time += 600
    taker.bargains.used(taker.offered(made), h("trade"))  # he does not know better
    with pytest.raises(PeerFault, match="ended at"):
        maker.takes(taker_take(made, taker, maker), taker.id, h("trade"))


def taker_take(made: bytes, taker: Side, maker: Side) -> Take:
    return take(maker.state(made).counter_id, taker.state(made).fiat_minor)


async def test_what_is_too_late_to_say_is_not_sent() -> None:
    maker, taker, _, offer, _ = booth()
    made = taker.propose(offer, LOW)
    assert taker.journal.recipients() == [maker.id]
    taker.clock.time += 600
    taker.bargains.tick()
    assert taker.state(made) == Lapsed()
    assert taker.journal.recipients() == []


async def test_a_proposal_waits_for_no_withdrawn_offer() -> None:
    maker, taker, post, offer, _ = booth()
    made = taker.propose(offer, LOW)
    await post.all()
    assert maker.state(made) == Proposed(1, LOW)
    maker.desk.reserved[offer.offer_hash] = h("trade")
    maker.bargains.tick()
    await post.all()
    assert taker.state(made) == Declined(0, "offer_hash: is no current offer any more")


# ------------------------------------------------------------------ crashes


async def test_nothing_is_lost_by_a_crash_after_any_commit() -> None:
    maker, taker, post, offer, _ = booth()
    made = taker.propose(offer, LOW)
    for step in range(3):
        taker.start()
        maker.start()
        await post.all()
        taker.start()
        maker.start()
        maker.bargains.act(made, SayCounter(FAIR - step))
        maker.start()
        await post.all()
        if step < 2:
            taker.bargains.act(made, SayPropose(LOW + step))
    assert maker.state(made) == taker.state(made)
    assert maker.state(made).round == 3


async def test_a_commit_that_fails_leaves_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    maker, taker, post, offer, _ = booth()
    made = await countered(maker, taker, post, offer)
    kept = [tuple(r) for r in maker.database.all("SELECT * FROM bargain")]

    def torn(*_: Any, **__: Any) -> None:
        raise InjectedError

    monkeypatch.setattr(maker.bargains, "_tell", torn)
    with pytest.raises(InjectedError):
        maker.takes(taker.offered(made), taker.id, h("trade"))
    monkeypatch.undo()
    assert [tuple(r) for r in maker.database.all("SELECT * FROM bargain")] == kept
    maker.takes(taker.offered(made), taker.id, h("trade"))
    assert isinstance(maker.state(made), Taken)


class InjectedError(Exception):
    """The fault of the test above."""


# ------------------------------------------------------------------ cheats


async def test_replays_change_nothing() -> None:
    maker, taker, post, offer, _ = booth()
    made = await countered(maker, taker, post, offer)
    before = {s.name: s.database.all("SELECT * FROM message") for s in (maker, taker)}
    for sender, recipient, raw in list(post.seen):
        status, _ = await post.give(post.sides[sender], post.sides[recipient], raw)
        assert status == APPLIED
    for side in (maker, taker):
        assert side.database.all("SELECT * FROM message") == before[side.name]
        assert isinstance(side.state(made), Countered)


async def test_a_message_counts_from_its_sender_alone() -> None:
    maker, taker, post, offer, (stranger,) = booth("stranger")
    made = await countered(maker, taker, post, offer)
    _, _, raw = post.seen[0]
    assert (await post.give(stranger, maker, raw))[0] == REFUSED
    body = Refuse(refused_id=maker.last(made).id, field="f", value="no")
    forged = message("taker", body, maker.journal.messages(made), sender=who("taker").node_id)
    theirs = Message(
        **{n: getattr(forged, n) for n in ("network", "kind", "trade_id", "recipient", "seq")},
        **{n: getattr(forged, n) for n in ("prev", "seen", "tip_height", "tip_hash", "draw_no")},
        payload=forged.payload,
        sender=stranger.id,
    ).signed(who("stranger"))
    status, text = await post.give(stranger, maker, theirs.wire())
    assert (status, text) == (REFUSED, "prev: names no message of a negotiation here")
    assert isinstance(maker.state(made), Countered)


async def test_a_counter_is_for_one_taker_one_offer_one_amount_one_sum() -> None:
    maker, taker, post, offer, (stranger,) = booth("stranger")
    other = terms(offer_hash=h("other offer"))
    maker.desk.offers[other.offer_hash] = other
    made = await countered(maker, taker, post, offer)
    good = taker.offered(made)
    cases: list[tuple[bytes, dict[str, Any], str]] = [
        (stranger.id, {}, "counter: is none of ours to this taker"),
        (taker.id, {"amount_sat": AMOUNT - 1}, "amount_sat: is not the COUNTER's"),
        (taker.id, {"amount_sat": AMOUNT + 1}, "amount_sat: is not the COUNTER's"),
        (taker.id, {"method": "OTHER"}, "method: is not the COUNTER's"),
        (taker.id, {"offer_hash": h("other offer")}, "counter: was made for another offer"),
        (taker.id, {"counter": h("none")}, "counter: is none of ours to this taker"),
        (taker.id, {"counter": maker.journal.messages(made)[0].id}, "counter: is not the last"),
    ]
    for sender, change, words in cases:
        with pytest.raises(PeerFault, match=words):
            maker.takes(taker.offered(made, **change) if "counter" not in change else
                        change_counter(good, change["counter"]), sender, h("trade"))  # fmt: skip
        assert isinstance(maker.state(made), Countered), words
    with pytest.raises(PeerFault, match="fiat_minor: is not the COUNTER's"):
        maker.takes(change_fiat(good, MIDDLE - 1), taker.id, h("trade"))
    with pytest.raises(InvalidRecord, match="the offer's price"):
        maker.takes(change_counter(good, bytes(32)), taker.id, h("trade"))
    maker.takes(good, taker.id, h("trade"))


def change_counter(what: Take, counter: bytes) -> Take:
    return replace(what, counter=counter)


def change_fiat(what: Take, fiat: int) -> Take:
    return replace(what, fiat_minor=fiat)


async def test_a_counter_outlives_the_offers_refresh_but_not_its_withdrawal() -> None:
    maker, taker, post, offer, _ = booth()
    made = await countered(maker, taker, post, offer)
    fresh = terms(offer_hash=h("refreshed"))
    maker.desk.offers[fresh.offer_hash] = fresh
    maker.desk.versions[fresh.offer_hash] = offer.offer_hash
    what = taker.offered(made, offer_hash=fresh.offer_hash)
    assert maker.bargains.agreed(what, taker.id) == MIDDLE
    maker.desk.offers.clear()
    assert (
        maker.desk.terms(what.offer_hash, what.method, b"") is None
    )  # where a TAKE ends, whatever it names
    with pytest.raises(PeerFault, match="another offer"):
        maker.bargains.agreed(what, taker.id)


async def test_a_taker_names_no_counter_of_anybody_else() -> None:
    maker, taker, post, offer, (stranger,) = booth("stranger")
    made = await countered(maker, taker, post, offer)
    what = change_counter(taker.offered(made), h("none"))
    with pytest.raises(LocalFault, match="none of this maker's"):
        taker.bargains.used(what, h("trade"))
    with pytest.raises(LocalFault, match="fiat_minor: is not the COUNTER's"):
        taker.bargains.used(change_fiat(taker.offered(made), MIDDLE + 1), h("trade"))
    with pytest.raises(LocalFault, match="none of this maker's"):
        stranger.bargains.used(taker.offered(made), h("trade"))


async def test_a_flood_of_proposals_is_bounded_by_peer() -> None:
    maker, taker, post, offer, _ = booth()
    for n in range(shell_bargain.PER_PEER):
        taker.propose(offer, LOW + n)
    with pytest.raises(LocalFault, match="4 proposals to this maker"):
        taker.propose(offer, MIDDLE)
    await post.all()
    for n in range(20):  # his own node would stop him; another's might not
        said = message("taker", propose(LOW + 100 + n), ())
        status, text = await post.give(taker, maker, said.wire())
        assert (status, text) == (REFUSED, "PROPOSE: 4 in ten minutes are enough")
    assert maker.rows_kept() == (4, 4)
    for row in maker.bargains.rows():
        maker.bargains.act(row.id, SayRefuse("no"))
    assert (await post.give(taker, maker, message("taker", propose(LOW), ()).wire()))[0] != LATER
    maker.clock.time += 601
    said = message("taker", propose(LOW + 500), ())
    assert (await post.give(taker, maker, said.wire()))[0] == APPLIED


async def test_a_flood_by_many_is_bounded_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell_bargain, "MAX_LIVING", 2)
    monkeypatch.setattr(store_bargain, "KEPT", 1)
    maker, taker, post, offer, others = booth("stranger", "third", "fourth")
    for side in others:
        side.propose(offer, LOW)
    await post.all()
    assert maker.rows_kept() == (2, 2)
    assert others[2].journal.recipients() == [maker.id]  # "not yet": it waits with its sender
    for row in maker.bargains.rows():
        maker.bargains.act(row.id, SayRefuse("no"))
    assert maker.rows_kept()[0] == 1
    await post.all()
    assert maker.rows_kept()[0] == 2
    made = taker.propose(offer, LOW)
    await post.all()
    assert maker.state(made) == Proposed(1, LOW)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"amount_sat": 199_999}, "amount_sat: is not an integer in 200000..2000000"),
        ({"amount_sat": 2_000_001}, "amount_sat: is not an integer in 200000..2000000"),
        ({"fiat_minor": 30_619}, "fiat_minor: is not an integer in 30620..122480"),
        ({"fiat_minor": 122_481}, "fiat_minor: is not an integer in 30620..122480"),
        ({"fiat_minor": 2**53 - 1}, "fiat_minor: is not an integer in 30620..122480"),
        ({"method": "OTHER"}, "method: is not this negotiation's"),
        ({"offer_hash": h("none")}, "offer_hash: is no current offer of this node"),
    ],
)
async def test_a_proposal_out_of_bounds_leaves_nothing(change: Any, words: str) -> None:
    maker, taker, post, _, _ = booth()
    values = {"fiat": LOW} | change
    fiat = values.pop("fiat_minor", values.pop("fiat"))
    said = message("taker", propose(fiat, **{k: v for k, v in values.items() if k != "fiat"}), ())
    assert await post.give(taker, maker, said.wire()) == (REFUSED, words)
    assert maker.rows_kept() == (0, 0)


@pytest.mark.parametrize(
    "change", [{"seen": h("x")}, {"draw_no": 1}, {"seq": 1, "prev": h("x")}, {"seq": 1}]
)
async def test_a_header_that_is_no_negotiations_is_refused(change: Any) -> None:
    maker, taker, post, _, _ = booth()
    said = message("taker", propose(LOW), (), **change)
    assert (await post.give(taker, maker, said.wire()))[0] == REFUSED
    assert maker.rows_kept() == (0, 0)


async def test_a_negotiation_begins_with_a_proposal_alone() -> None:
    maker, taker, post, _, _ = booth()
    body = Counter(propose_id=h("x"), fiat_minor=LOW, expires_at=1)
    for payload in (body, Refuse(refused_id=h("x"), field="f", value="no")):
        status, text = await post.give(taker, maker, message("taker", payload, ()).wire())
        assert (status, text) == (REFUSED, f"{payload.kind.name} begins no negotiation")


async def test_our_own_offer_is_not_bargained_for() -> None:
    maker, _, _, offer, _ = booth()
    with pytest.raises(LocalFault, match="your own offer"):
        maker.propose(offer, LOW)


async def test_an_unknown_one_is_not_found() -> None:
    maker, _, _, _, _ = booth()
    with pytest.raises(NotFound):
        maker.bargains.act(h("none"), SayAgree())


def test_a_saved_state_of_another_version_stops_the_node() -> None:
    _, taker, _, offer, _ = booth()
    taker.propose(offer, LOW)
    for change in ("state = 'Nothing'", "version = 9", "body = x'90'", "body = x'c1'"):
        taker.database.run(f"UPDATE bargain SET {change}")  # noqa: S608
        with pytest.raises(StorageFault):
            taker.bargains.rows()
