"""The maker's background task: refreshes, ends, triggers, work by the day, and crashes between."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from maker_kit import EUR, Shop
from orderbook_kit import NET, NOW, TERMS

from orderbook import work
from orderbook.offer import LIFE_S, REFRESH_S, Offer
from orderbook.own import OfferState, OwnOffer, Triggers
from orderbook.shell_maker import Maker
from orderbook.shell_upkeep import AHEAD_S, TICK_S
from orderbook.store_offers import GRACE_S
from p2pnode.base.errors import InvalidRecord, NotFound
from p2pnode.base.store import Database

TRADE = b"t" * 32
DAY_S = 86_400


@pytest.fixture
def shop() -> Shop:
    return Shop()


async def ticks(count: int = 1) -> None:
    """Let `run` look `count` times at what is due (needs autojump_clock)."""
    for _ in range(count):
        await trio.sleep(TICK_S)
        await trio.testing.wait_all_tasks_blocked()


# -- refreshes


async def test_offers_are_refreshed_every_ten_minutes_and_others_are_not(
    shop: Shop, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    own, gone, held = [await shop.create() for _ in range(3)]
    await shop.maker.withdraw(gone.offer_id)
    await shop.maker.disable(held.offer_id)
    nursery.start_soon(shop.maker.run)
    await ticks()
    assert len(shop.market.records) == 5
    seq = own.offer.seq
    for turn in (1, 2, 3):
        shop.clock.time += REFRESH_S - 1
        await ticks()
        assert len(shop.market.records) == 4 + turn
        shop.clock.time += 1
        await ticks()
        out = shop.published()[-1]
        assert (out.offer_id, out.seq > seq) == (own.offer_id, True)
        seq = out.seq
    assert set(shop.shown()) == {own.offer_id}


async def test_a_take_may_name_any_version_that_has_not_expired(
    shop: Shop, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    own = await shop.create()
    nursery.start_soon(shop.maker.run)
    shop.clock.time += REFRESH_S
    await ticks()
    now = shop.maker.own(own.offer_id)
    assert now.offer.hash != own.offer.hash
    for version in (own.offer, now.offer):
        assert shop.maker.own_version(version.hash) == (version, now)
    with pytest.raises(NotFound, match="offer_hash"):
        shop.maker.own_version(now.offer.withdrawal().hash)
    shop.clock.time += LIFE_S - REFRESH_S
    with pytest.raises(NotFound, match="offer_hash"):
        shop.maker.own_version(own.offer.hash)
    assert shop.maker.own_version(now.offer.hash)


async def test_what_no_node_took_is_tried_again(
    shop: Shop, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    shop.market.down = True
    own = await shop.create()
    assert own.acked == 0
    nursery.start_soon(shop.maker.run)
    await ticks(2)
    shop.market.down, shop.market.holders = False, 0
    await ticks(2)
    assert shop.market.records == []
    shop.market.holders = 3
    await ticks(2)
    assert len(shop.market.records) == 1  # and not a fourth time
    assert shop.maker.own(own.offer_id).acked == 3


async def test_a_withdrawal_is_not_tried_where_another_offer_stands_now(
    shop: Shop, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    first = await shop.create()
    shop.market.down = True
    await shop.maker.withdraw(first.offer_id)
    shop.market.down = False
    second = await shop.create()
    nursery.start_soon(shop.maker.run)
    await ticks(3)
    assert [o.withdrawn for o in shop.published()] == [False, False]
    assert set(shop.shown()) == {second.offer_id}


async def test_a_version_that_is_on_its_way_is_not_sent_twice(
    shop: Shop, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    nursery.start_soon(shop.maker.run)
    await ticks()
    put, told = shop.market.put, []
    shop.maker.on_version = lambda offer, _raw: told.append(offer.seq)

    async def slow(raw: bytes) -> int:
        await trio.sleep(3 * TICK_S)
        return await put(raw)

    shop.market.put = slow  # type: ignore[method-assign]
    own = await shop.create()
    await ticks(5)
    assert (len(shop.market.records), told) == (1, [own.offer.seq])


async def test_old_versions_are_pruned(
    shop: Shop, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    own = await shop.create()
    nursery.start_soon(shop.maker.run)
    for _ in range(12):
        shop.clock.time += REFRESH_S
        await ticks()
    (count,) = shop.database.one("SELECT count(*) FROM offers_version") or (0,)
    assert count <= (LIFE_S + GRACE_S) // REFRESH_S + 2
    now = shop.maker.own(own.offer_id).offer
    assert replace(now, seq=0, expires_at=0, work=0) == replace(
        own.offer, seq=0, expires_at=0, work=0
    )


async def test_an_acknowledgement_of_an_older_version_says_nothing_of_the_newer(
    shop: Shop, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """A put still under way when its offer is withdrawn must not count for the withdrawal."""
    gate, put = trio.Event(), shop.market.put

    async def slow(raw: bytes) -> int:
        await gate.wait()
        return await put(raw)

    shop.market.put = slow  # type: ignore[method-assign]
    nursery.start_soon(shop.create)
    await trio.testing.wait_all_tasks_blocked()
    (own,) = shop.maker.mine()
    shop.maker.reserve(own.offer_id, TRADE)
    gate.set()
    await trio.testing.wait_all_tasks_blocked()
    late = shop.maker.own(own.offer_id)
    assert (late.unpublished, late.acked) == (True, 0)
    nursery.start_soon(shop.maker.run)
    await ticks()
    assert shop.published()[-1].withdrawn
    assert not shop.maker.own(own.offer_id).unpublished


# -- triggers and ends


async def test_a_reference_that_crosses_disables_the_offer_and_says_why(
    shop: Shop, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    own = await shop.create(triggers=Triggers(below=EUR - 1000))
    other = await shop.create()
    nursery.start_soon(shop.maker.run)
    shop.references.prices["EUR"] = EUR - 1000
    await ticks()
    assert set(shop.shown()) == {own.offer_id, other.offer_id}
    shop.references.prices["EUR"] = EUR - 1001
    await ticks()
    now = shop.maker.own(own.offer_id)
    assert (now.state, "is below 61,239.999" in now.why) == (OfferState.DISABLED, True)
    assert set(shop.shown()) == {other.offer_id}
    shop.references.prices["EUR"] = EUR
    await ticks(2)
    assert shop.maker.own(own.offer_id).state is OfferState.DISABLED  # its maker enables it
    assert (await shop.maker.enable(own.offer_id)).enabled


async def test_an_offer_ends_on_its_second_and_is_never_shown_beyond(
    shop: Shop, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    ends_at = NOW + REFRESH_S + 700
    own = await shop.create(ends_in_s=ends_at - NOW)
    kept = await shop.create(ends_in_s=ends_at - NOW)
    await shop.maker.disable(kept.offer_id)
    nursery.start_soon(shop.maker.run)
    shop.clock.time += REFRESH_S
    await ticks()
    assert {o.expires_at for o in shop.published() if not o.withdrawn} == {ends_at}
    shop.clock.time = ends_at - 1
    await ticks()
    assert set(shop.shown()) == {own.offer_id}
    shop.clock.time = ends_at
    await ticks()
    assert shop.shown() == {}
    for one in (own, kept):
        over = shop.maker.own(one.offer_id)
        assert (over.state, over.why) == (OfferState.WITHDRAWN, "it has ended")


# -- work


MIDNIGHT = NOW - NOW % DAY_S + DAY_S


def day(offer: Offer) -> int:
    return work.day_of(offer.expires_at)


async def test_the_next_days_work_is_there_before_it_is_needed(
    shop: Shop, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    shop.clock.time = MIDNIGHT - LIFE_S - AHEAD_S - 2 * TICK_S
    own = await shop.create()
    nursery.start_soon(shop.maker.run)
    await ticks()
    place, today = (own.offer.currency, own.offer.slot), day(own.offer)
    assert shop.maker.miner.known(*place, today + 1) is None
    shop.clock.time = MIDNIGHT - LIFE_S - AHEAD_S
    await ticks(2)
    assert shop.maker.miner.known(*place, today + 1) is not None
    assert day(shop.published()[-1]) == today
    for _ in range(12):
        shop.clock.time += REFRESH_S
        await ticks()
        out = shop.shown()[own.offer_id]
        assert Offer.from_wire(shop.market.records[-1], network=NET, now=shop.clock.time) == out
        assert out.expires_at == shop.clock.time + LIFE_S
    assert day(out) == today + 1


async def test_without_the_next_days_work_a_version_ends_with_its_day(shop: Shop) -> None:
    """What a trade does cannot wait for work: everything already out ends by then too."""
    shop.clock.time = MIDNIGHT - LIFE_S - 1
    own = await shop.create()
    shop.clock.time = MIDNIGHT - 100
    shop.maker.reserve(own.offer_id, TRADE)
    held = shop.maker.own(own.offer_id)
    assert held.offer.expires_at == MIDNIGHT - 1 == own.offer.expires_at
    assert Offer.from_wire(
        held.current.to_wire(shop.identity), network=NET, now=shop.clock.time
    ).withdrawn
    shop.clock.time = MIDNIGHT + 5
    shop.maker.release(TRADE)
    back = shop.maker.own(own.offer_id)
    assert (back.enabled, back.offer.expires_at) == (True, MIDNIGHT + 5)  # not to be published yet


async def test_a_version_cut_short_is_renewed_when_the_work_is_there(
    shop: Shop, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    shop.clock.time = MIDNIGHT - LIFE_S - 1
    own = await shop.create()
    shop.maker.reserve(own.offer_id, TRADE)
    shop.clock.time = MIDNIGHT + 5
    shop.maker.release(TRADE)
    assert shop.shown() == {}
    nursery.start_soon(shop.maker.run)
    await ticks(2)
    assert shop.shown()[own.offer_id].expires_at == shop.clock.time + LIFE_S


async def test_the_loop_goes_on_while_work_is_found_and_the_search_can_be_given_up() -> None:
    shop = Shop(replace(NET, offer_bits=48))  # a day's work and more: it is not found here
    turns = 0
    with trio.move_on_after(1) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shop.create)
            while True:
                await trio.sleep(0.001)
                turns += 1
    assert scope.cancelled_caught
    assert turns > 20, f"the loop turned {turns} times in a second of search"
    assert shop.maker.mine() == ()
    assert shop.market.records == []
    assert shop.maker.miner.tries == {}


async def test_work_beyond_a_thread_is_found_and_kept_for_its_day() -> None:
    shop = Shop(replace(NET, offer_bits=16))
    own = await shop.create()
    assert own.offer.work_bits >= 16
    place = (own.offer.currency, own.offer.slot, day(own.offer))
    assert shop.restart().miner.known(*place) == own.offer.work
    with trio.fail_after(0.5):
        changed = await shop.maker.edit(own.offer_id, {"terms": "the same day costs nothing"})
    assert changed.offer.work == own.offer.work


# -- one seq, one version


async def test_tasks_that_meet_never_sign_two_versions_with_one_seq(
    autojump_clock: trio.testing.MockClock,
) -> None:
    shop = Shop(replace(NET, offer_bits=13))  # most searches need a thread
    signed: dict[int, set[bytes]] = {}
    put = shop.market.put

    async def noted(raw: bytes) -> int:
        offer = shop.read(raw)
        signed.setdefault(offer.seq, set()).add(raw)
        await trio.sleep(0.01 * (offer.seq % 7))
        return await put(raw)

    shop.market.put = noted  # type: ignore[method-assign]
    made = [await shop.create() for _ in range(4)]

    async def edits(own: OwnOffer, terms: str) -> None:
        await shop.maker.edit(own.offer_id, {"terms": terms})

    async def to_and_fro(own: OwnOffer) -> None:
        await shop.maker.disable(own.offer_id)
        await shop.create(terms="takes the slot")
        await shop.maker.enable(own.offer_id)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(shop.maker.run)
        async with trio.open_nursery() as busy:
            for n, own in enumerate(made[:3]):
                for m in range(4):
                    busy.start_soon(edits, own, f"{n} {m}")
            busy.start_soon(to_and_fro, made[3])
            for _ in range(4):
                busy.start_soon(shop.create)
            shop.clock.time += REFRESH_S
        await ticks(3)
        nursery.cancel_scope.cancel()
    assert len(signed) > 20
    assert {len(raws) for raws in signed.values()} == {1}
    own = {o.offer_id: o.offer for o in shop.maker.enabled()}
    assert shop.shown() == own
    places = [offer.place for offer in own.values()]
    assert len(set(places)) == len(places)


# -- crashes


class Crash(BaseException):
    """The process ends here."""


Act = Callable[[Maker, bytes], Awaitable[Any]]


async def _reserve(maker: Maker, offer_id: bytes) -> None:
    maker.reserve(offer_id, TRADE)


ACTS: dict[str, tuple[Act, bool]] = {  # what is done, and whether the offer stands afterwards
    "edit": (lambda m, i: m.edit(i, {"price": EUR - 1}), True),
    "disable": (lambda m, i: m.disable(i), False),
    "withdraw": (lambda m, i: m.withdraw(i), False),
    "reserve": (_reserve, False),
}


@pytest.mark.parametrize("point", ["before the journal", "before the put", "after the put"])
@pytest.mark.parametrize("act", [*ACTS, "create", "enable"])
async def test_nothing_is_lost_when_the_process_ends_between_journal_and_publish(
    tmp_path: Path,
    act: str,
    point: str,
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
) -> None:
    shop = Shop(database=Database(tmp_path / "node.sqlite"))
    own = await shop.create()
    if act == "enable":
        await shop.maker.disable(own.offer_id)
    before = shop.shown()
    crashed = _crash(shop, point)
    do: Callable[[], Awaitable[Any]]
    if act in ACTS:
        change, stands = ACTS[act]
        do = lambda: change(shop.maker, own.offer_id)  # noqa: E731
    else:
        do, stands = (
            (shop.create, True)
            if act == "create"
            else (
                lambda: shop.maker.enable(own.offer_id),
                True,
            )
        )
    if act == "reserve" and point != "before the journal":
        await do()  # it publishes nothing by itself: the process ends in the task that does
        with pytest.raises(BaseExceptionGroup):
            await shop.maker.run()
    else:
        with pytest.raises(Crash):
            await do()
    assert crashed() == 1, "the process did not end where this test wants it to"
    shop.database = Database(tmp_path / "node.sqlite")
    shop.clock.time += 60
    again = shop.restart()
    mine = {o.offer_id: o for o in again.mine()}
    nursery.start_soon(again.run)
    await ticks()
    assert shop.shown() == {o.offer_id: o.offer for o in again.enabled()}
    if point == "before the journal":
        assert {i: replace(o, seq=0, expires_at=0) for i, o in shop.shown().items()} == {
            i: replace(o, seq=0, expires_at=0) for i, o in before.items()
        }
    else:
        assert len(mine) == (2 if act == "create" else 1)
        assert (own.offer_id in shop.shown()) == stands
        if act == "edit":
            assert shop.shown()[own.offer_id].price == EUR - 1


def _crash(shop: Shop, point: str) -> Callable[[], int]:
    """End the process at a point, once; returns how often it did."""
    count, put, run = 0, shop.market.put, shop.database.run

    async def at_put(raw: bytes) -> int:
        nonlocal count
        if not count and point == "before the put":
            count += 1
            raise Crash
        acked = await put(raw)
        if not count and point == "after the put":
            count += 1
            raise Crash
        return acked

    def at_journal(sql: str, *args: Any) -> int:
        nonlocal count
        if not count and point == "before the journal" and "INSERT INTO offers_own" in sql:
            count += 1
            raise Crash
        return run(sql, *args)

    shop.market.put = at_put  # type: ignore[method-assign]
    shop.database.run = at_journal  # type: ignore[method-assign]
    return lambda: count


async def test_after_a_restart_offers_are_signed_anew_and_undone_withdrawals_sent(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    shop = Shop(database=Database(tmp_path / "node.sqlite"))
    kept, gone, held = [await shop.create() for _ in range(3)]
    shop.market.down = True
    await shop.maker.withdraw(gone.offer_id)  # the record does not get out
    shop.maker.reserve(held.offer_id, TRADE)
    shop.market.down = False
    shop.clock.time += 60
    shop.database = Database(tmp_path / "node.sqlite")
    again = shop.restart()
    assert [o.state.value for o in again.mine()] == ["enabled", "withdrawn", "reserved"]
    assert again.own(held.offer_id).trade_id == TRADE
    nursery.start_soon(again.run)
    await ticks()
    (found,) = shop.shown().values()
    assert (found.offer_id, found.seq > kept.offer.seq) == (kept.offer_id, True)
    assert found.expires_at == shop.clock.time + LIFE_S


async def test_what_the_node_would_not_read_is_never_published(shop: Shop) -> None:
    """A history that no offer can say must stop the version, not travel."""
    own = await shop.create()
    shop.clock.time -= 10_000  # a clock that goes back cannot sign a version nobody would read
    await shop.maker.edit(own.offer_id, {"terms": "x"})
    for raw in shop.market.records[1:]:
        Offer.from_wire(raw, network=NET, now=shop.clock.time)
    shop.maker.miner.known = lambda *_: 1  # type: ignore[method-assign]  # no good work
    out = len(shop.market.records)
    with pytest.raises(InvalidRecord, match="work: has"):
        await shop.create()
    with pytest.raises(InvalidRecord, match="work: has"):
        await shop.maker.edit(own.offer_id, {"terms": "y"})
    assert len(shop.market.records) == out
    assert len(shop.maker.mine()) == 1
    assert TERMS["price"] == EUR
