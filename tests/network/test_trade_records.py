"""Arbiters' records that a trade needs, and what a maker asks again before he answers a TAKE."""

from collections.abc import Sequence

import pytest
import trio
from trade_kit import NET, Frame, Rig, rig

from escrow import shell_opening, store_roll
from escrow.arbiters import ArbiterRecord
from escrow.messages import Kind
from escrow.model import Aborted, Cancel, Disputed, SayReceived, Taking
from p2pnode.base.errors import LocalFault

K = Kind


def forgetful(monkeypatch: pytest.MonkeyPatch, r: Rig, name: str) -> None:
    """As if 20,000 other records had been seen since."""
    monkeypatch.setattr(store_roll, "MAX_RECORDS", 0)
    r[name].exchange.trades.learn([])


def held(r: Rig, name: str, trade_id: bytes) -> set[bytes]:
    sql = "SELECT id FROM trade_record WHERE trade_id = ?"
    return {row["id"] for row in r[name].database.all(sql, trade_id)}


def apart(r: Rig) -> None:
    """Let each trader list an arbiter whom the other has never seen."""
    for n, name in enumerate(("maker", "taker")):
        unseen = ArbiterRecord.from_wire(r.records[n], NET)
        r[name].registry.hidden = {r.records[n]}
        r[name].exchange.trades.records.pop(unseen.id, None)
        r[name].database.run("DELETE FROM arbiter_record WHERE id = ?", unseen.id)


async def draw_is_lost(frame: Frame) -> Sequence[bytes]:
    return [] if frame.kind is K.DRAW else [frame.raw]


async def test_a_dispute_can_be_called_when_its_records_are_long_unseen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with rig(arbiters=5) as r:
        apart(r)
        trade_id = await r.take()
        await r.funded(trade_id)
        for name in ("maker", "taker"):
            listed = r[name].facts(trade_id).listed_ids()
            assert len(listed) == 5
            assert held(r, name, trade_id) == listed
            forgetful(monkeypatch, r, name)
            r[name].registry.hidden = set(r.records)
            await r.restart(name)
            assert r[name].exchange.trades.records.keys() == listed
        await r.dispute("taker", trade_id)
        await r.until("taker", trade_id, Disputed)
        await r.delivered("taker", trade_id, K.NOTICE)


async def test_an_ended_trade_holds_nothing_and_memory_is_trimmed_as_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with rig() as r:
        r.post.hook = draw_is_lost
        trade_id = await r.take()
        await r.until("taker", trade_id, Taking)
        trades = r["taker"].exchange.trades
        own = held(r, "taker", trade_id)
        assert own == set(r["taker"].facts(trade_id).listed_ids())
        assert own
        forgetful(monkeypatch, r, "taker")
        assert trades.records.keys() == own
        await r.act("taker", trade_id, Cancel("no more"))
        await r.until("taker", trade_id, Aborted)
        assert held(r, "taker", trade_id) == set()
        trades.learn([])
        assert trades.records == trades.world.journal.roll.all() == {}


async def test_as_many_trades_live_as_records_are_held_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with rig() as r:
        first = await r.take()
        await r.published(first)
        monkeypatch.setattr(store_roll, "MAX_HOLDERS", 1)
        with pytest.raises(Exception, match="trades live here"):
            await r.take()


@pytest.mark.parametrize("what", ["offer", "room"])
async def test_a_maker_asks_again_before_he_answers(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was so before he asked wallet and chain need not be so afterwards."""
    async with rig() as r:
        maker, terms = r["maker"], r.offer()
        ask, asked = maker.exchange.opening._check_funds, 0

        async def meanwhile(need: int, rate: int) -> None:
            nonlocal asked
            asked += 1
            await ask(need, rate)
            if what == "offer":
                maker.desk.reserved[terms.offer_hash] = bytes(32)
            else:
                monkeypatch.setattr(shell_opening, "MAX_OPENING", 0)

        monkeypatch.setattr(maker.exchange.opening, "_check_funds", meanwhile)
        trade_id = await r.take(terms)

        async def there() -> None:
            r.poke()
            assert asked

        await r.eventually(there)
        if what == "offer":
            await r.until("taker", trade_id, Aborted)
        await r.quiet("taker", trade_id)
        assert maker.journal.row(trade_id) is None
        row = maker.database.one("SELECT count(*) AS n FROM spare_script")
        assert row is not None
        assert row["n"] == 1  # the address is used again


def spare(r: Rig, name: str) -> set[bytes]:
    return {row["script"] for row in r[name].database.all("SELECT script FROM spare_script")}


async def test_a_take_that_comes_to_nothing_gives_its_address_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with rig() as r:
        opening, terms = r["taker"].exchange.opening, r.offer()

        async def lost() -> None:
            raise LocalFault("this node has lost data")

        with monkeypatch.context() as broken:
            broken.setattr(opening.draws, "leap", lost)
            for _ in range(3):
                with pytest.raises(LocalFault, match="has lost data"):
                    await r.take(terms)
        (script,) = spare(r, "taker")
        trade_id = await r.take(terms)
        assert r["taker"].facts(trade_id).own.part.script == script
        assert spare(r, "taker") == set()


async def test_a_trade_that_ends_while_coins_are_chosen_keeps_neither_coins_nor_address() -> None:
    async with rig() as r:
        node, ended = r["taker"], trio.Event()
        purse = node.exchange.world.purse
        asked = purse.change_script

        async def late() -> bytes:
            script = await asked()
            if not ended.is_set():
                row = next(iter(node.journal.rows("trader")))
                node.exchange.trades.advance(row.trade_id, Cancel("no more"))
                assert not node.locked()
                ended.set()
            return script

        node.exchange.world.purse.change_script = late  # type: ignore[method-assign]
        trade_id = await r.take()
        await r.until("taker", trade_id, Aborted)
        with trio.fail_after(10):
            await ended.wait()
        await r.quiet("taker", trade_id)
        assert not [
            m for m in node.journal.messages(trade_id) if m.kind is K.INPUTS and m.sender == node.id
        ]
        assert not node.locked()
        assert len(spare(r, "taker")) == 2  # the payout's and the change's


async def test_a_trade_that_is_over_leaves_nothing_in_memory() -> None:
    async with rig() as r:
        trade_id = await r.take()
        await r.paid(trade_id)
        trades = r["taker"].exchange.trades
        assert trade_id in trades._views
        assert trade_id in trades._wake
        await r.act("maker", trade_id, SayReceived())
        await r.closed(trade_id, "released")
        r.mine(100)

        async def retired() -> None:
            assert trade_id not in trades._views
            assert trade_id not in trades._wake

        await r.eventually(retired)
        trades.wake(trade_id)
        assert trade_id not in trades._wake
