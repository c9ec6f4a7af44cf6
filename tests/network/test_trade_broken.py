"""Draws that come to nothing: published by either side, read by a third, a number used once.

Whole trading halves on a sandbox chain, the DHT's entries on one board that may lie or be away.
"""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import trio
from click.testing import CliRunner
from trade_kit import Frame, Rig, rig
from trade_node import Node

from escrow import shell_broken
from escrow.broken import MAKER, TAKER, BrokenDraw, Filed
from escrow.messages import Kind
from escrow.model import Aborted, Broadcast, Cancel, Contracting, Drawing, Funding
from escrow.opening import FUNDING_S, OPENING_S
from escrow.store_broken import JUMP, KEEP_S, REPUT_S
from p2pnode.app import routes_draws
from p2pnode.app.client import Client
from p2pnode.app.commands.draw import draw as draw_command
from p2pnode.app.routes import Call
from p2pnode.base.errors import InvalidRecord, NotFound, Unreachable, UsageFault
from p2pnode.base.store import Database

K = Kind


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the journal as soon as anything may have changed."""
    monkeypatch.setattr(shell_broken, "LOOK_AGAIN_S", 0.02)


class Lost:
    """Loses every message of one kind; counts them."""

    def __init__(self, *kinds: Kind) -> None:
        self.kinds, self.fired = kinds, 0

    async def __call__(self, frame: Frame) -> Sequence[bytes]:
        if frame.kind not in self.kinds:
            return [frame.raw]
        self.fired += 1
        return []


async def begun(r: Rig, lost: Lost, **options: str) -> bytes:
    """Let a trade come as far as the message that is lost."""
    r.post.hook = lost
    terms = r.offer(maker=options.pop("maker")) if "maker" in options else None
    trade_id = await r.take(terms, **options)

    async def fired() -> None:
        r.poke()
        assert lost.fired

    await r.eventually(fired)
    return trade_id


async def silent(r: Rig, *, alone: bool = False) -> bytes:
    """The taker falls silent after DRAW; `alone`: for good, so that the maker alone enters it."""
    trade_id = await begun(r, Lost(K.REVEAL))
    await r.until("maker", trade_id, Drawing)
    if alone:
        await r.stop("taker")
    r.pass_time(OPENING_S)
    await r.until("maker", trade_id, Aborted)
    return trade_id


async def entered(r: Rig, name: str, number: int) -> Filed:
    async def there() -> Filed:
        (raw,) = r.board.filed[r[name].id, number].values()
        return Filed.from_wire(raw, r[name].exchange.world.network)

    async def found() -> Filed:
        assert (r[name].id, number) in r.board.filed
        return await there()

    filed: Filed = await r.eventually(found)
    return filed


async def looked(node: Node, trade_id: bytes) -> bytes:
    """Wait until a node has looked at an aborted trade; returns the entry that it kept, or b""."""

    async def there() -> bytes:
        row = node.database.one("SELECT entry FROM broken_draw WHERE trade_id = ?", trade_id)
        assert row is not None
        return bytes(row["entry"])

    kept: bytes = await node.rig.eventually(there)
    return kept


async def posted(r: Rig) -> None:
    """Wait until nobody has anything left to deliver."""

    async def there() -> None:
        r.poke()
        assert not any(r[name].journal.recipients() for name in ("maker", "taker"))

    await r.eventually(there)


def reuse(monkeypatch: pytest.MonkeyPatch, node: Node) -> None:
    """A changed node that states the same number again and again."""

    async def never(count: int = 1) -> bool:
        await trio.lowlevel.checkpoint()
        return True

    monkeypatch.setattr(node.journal, "draws_of", lambda me: 0)
    monkeypatch.setattr(node.exchange.draws, "leap", never)


# ------------------------------------------------------------------ publishing


async def test_a_taker_who_falls_silent_after_draw_is_entered_and_a_third_reads_it() -> None:
    async with rig(strangers=["third"]) as r:
        trade_id = await silent(r, alone=True)
        for name, side in (("taker", TAKER), ("maker", MAKER)):
            filed = await entered(r, name, 1)
            assert (filed.side, filed.trade_id) == (side, trade_id)
        record = await r["third"].exchange.draws.record(r["taker"].id, stated=3)
        assert (record.looked, record.broken, record.counterparties) == (3, 1, 1)
        assert record.entries[0].counterparty == r["maker"].id
        with pytest.raises(NotFound, match="no draw with this node"):
            await r["third"].exchange.draws.record(r["taker"].id)
        known = await r["maker"].exchange.draws.record(r["taker"].id)  # he stated 1 to the maker
        assert (known.stated, known.broken, known.unanswered) == (1, 1, 0)
        assert r["maker"].journal.broken.traded(r["taker"].id) == (1, 0)


@pytest.mark.parametrize(
    ("kind", "taker_at", "maker_at"),
    [(K.REVEAL, Contracting, Drawing), (K.CONTRACT, Contracting, Contracting)],
)
async def test_each_side_enters_what_the_other_left(
    kind: Kind, taker_at: type, maker_at: type
) -> None:
    async with rig() as r:
        trade_id = await begun(r, Lost(kind))
        await r.until("taker", trade_id, taker_at)
        await r.until("maker", trade_id, maker_at)
        r.pass_time(FUNDING_S)
        await r.both(trade_id, Aborted)
        kept = {await looked(r[name], trade_id) for name in ("maker", "taker")}
        assert len(kept) == 1  # the same entry, byte for byte
        assert kept != {b""}
        for name in ("maker", "taker"):
            assert (await entered(r, name, 1)).trade_id == trade_id


async def test_an_abort_before_reveal_and_a_refusal_are_entered_nowhere() -> None:
    async with rig(arbiters=5) as r:
        lost = Lost(K.DRAW)
        no_draw = await begun(r, lost)
        r.pass_time(OPENING_S)
        await r.until("taker", no_draw, Aborted)
        assert await looked(r["taker"], no_draw) == b""

        calm = await begun(r, Lost(K.REVEAL))
        await r.quiet("maker", calm)
        await r.act("maker", calm, Cancel("no time today"))
        await r.until("maker", calm, Aborted)
        assert await looked(r["maker"], calm) == b""

        r.post.hook = None
        terms = r.offer()
        r["maker"].desk.offers[terms.offer_hash] = replace(terms, max_sat=300_000)
        refused = await r.take(terms)
        await r.until("taker", refused, Aborted)
        for name in ("maker", "taker"):
            assert await looked(r[name], refused) == b""
        assert await looked(r["taker"], calm)  # he had said REVEAL, and knew the arbiter


async def test_an_entry_is_put_again_every_day_for_thirty() -> None:
    async with rig() as r:
        trade_id = await silent(r, alone=True)
        await entered(r, "maker", 1)
        kept = r["maker"].journal.broken

        def due() -> int:
            return len(kept.due(r.clock.now(), 9))

        async def put() -> None:
            assert not due()

        await r.eventually(put)
        before = r.board.puts
        r.clock.time += REPUT_S - 1
        assert not due()
        r.clock.time += 1
        await r.eventually(put)
        assert r.board.puts == before + 2
        r.clock.time += KEEP_S
        assert not due()
        assert kept.own(r["taker"].id, 1)  # we ourselves do not forget it
        assert trade_id


async def test_what_the_api_and_the_command_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig() as r:
        trade_id = await silent(r, alone=True)
        await entered(r, "taker", 1)
        (route,) = routes_draws.routes(r["maker"].exchange)
        taker, maker = r["taker"].id.hex(), r["maker"].id.hex()
        told = await route.handler(Call(path={"node_id": taker}, query={"stated": "2"}))
        assert told == {
            "node_id": taker, "stated": 2, "looked_up": 2, "unanswered": 0,
            "broken": 1, "counterparties": 1, "used_twice": 0, "drawn_here": 1, "signed_here": 0,
            "entries": [{
                "draw_no": 1, "as": "taker", "with": maker, "trade_id": trade_id.hex(),
                "tip_height": r.box.height,
            }],
        }  # fmt: skip
        for wrong in ("xy", "ab", maker[:-2] + ("00" if maker[-2:] != "00" else "01")):
            with pytest.raises((UsageFault, InvalidRecord)) as refused:
                await route.handler(Call(path={"node_id": wrong}))
            assert refused.value.field == "node_id"
        with pytest.raises(UsageFault, match="stated"):
            await route.handler(Call(path={"node_id": taker}, query={"stated": "-1"}))

        asked: list[str] = []

        def get(self: object, path: str) -> dict[str, object]:
            asked.append(path)
            return told | {"used_twice": 1, "unanswered": 1}

        monkeypatch.setattr(Client, "get", get)
        result = CliRunner().invoke(draw_command, ["record", taker, "--stated", "2"])
        assert result.exit_code == 0, result.output
        assert asked == [f"/v1/draws/{taker}?stated=2"]
        assert "2 stated, the last 2 looked up, 1 not answered" in result.stdout
        assert "1, with 1 counterparties" in result.stdout
        assert "more than one trade" in result.stdout
        assert f"as taker, with {maker[:16]}" in result.stdout


# ------------------------------------------------------------------ over a crash


async def test_what_was_not_published_before_a_crash_is_published_after_it() -> None:
    async with rig() as r:
        r.board.away = True
        trade_id = await silent(r, alone=True)
        assert await looked(r["maker"], trade_id)
        assert not r.board.filed
        await r.stop("maker")
        r.board.away = False
        await r.nursery.start(r["maker"].run)
        await entered(r, "taker", 1)
        await entered(r, "maker", 1)


async def test_a_crash_between_the_two_numbers_and_before_a_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with rig() as r:
        monkeypatch.setattr(shell_broken, "LOOK_AGAIN_S", 3600)
        await r.restart("maker")
        trade_id = await silent(r, alone=True)
        sql = "SELECT 1 FROM broken_draw"
        assert r["maker"].database.one(sql) is None  # it has not looked
        put, crashed = r.board.put, 0

        async def crash(raw: bytes) -> int:
            nonlocal crashed
            held = await put(raw)
            if not crashed:
                crashed += 1
                r["maker"].scope.cancel()
                await trio.lowlevel.checkpoint()
            return held

        monkeypatch.setattr(r.board, "put", crash)
        monkeypatch.setattr(shell_broken, "LOOK_AGAIN_S", 0.02)
        await r.restart("maker")
        await r["maker"].ended.wait()
        assert crashed
        assert len(r.board.filed) == 1
        assert r["maker"].journal.broken.due(r.clock.now(), 9)
        await r.nursery.start(r["maker"].run)
        assert (await entered(r, "taker", 1)).trade_id == trade_id
        assert (await entered(r, "maker", 1)).trade_id == trade_id


# ------------------------------------------------------------------ a number is used once


async def test_a_take_that_states_an_entered_number_is_refused_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with rig(strangers=["third"]) as r:
        await silent(r)
        await entered(r, "taker", 1)
        r.post.hook = None
        reuse(monkeypatch, r["taker"])
        trade_id = await r.take(r.offer(maker="third"))
        state = await r.until("taker", trade_id, Aborted)
        assert isinstance(state, Aborted)
        assert "draw_no" in state.reason
        assert "another trade already" in state.reason
        refused = r["third"].said(trade_id, K.REFUSE)
        assert refused is not None
        assert r["third"].said(trade_id, K.DRAW) is None


async def test_a_draw_that_states_an_entered_number_is_aborted_before_reveal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with rig(strangers=["third"]) as r:
        await silent(r)
        await entered(r, "maker", 1)
        r.post.hook = None
        reuse(monkeypatch, r["maker"])
        trade_id = await r.take(taker="third")
        state = await r.until("third", trade_id, Aborted)
        assert isinstance(state, Aborted)
        assert "draw_no: 1 is entered" in state.reason
        await r.until("maker", trade_id, Aborted)
        assert r["third"].said(trade_id, K.REVEAL) is None
        # He could compute the arbiter by then, whatever reason he gives: the maker enters it.
        assert await looked(r["maker"], trade_id)


async def test_an_entry_of_this_very_trade_ends_it_for_nobody() -> None:
    """A maker who enters the draw while it is under way takes no number from himself."""
    async with rig() as r:
        early: list[bytes] = []

        async def enter(frame: Frame) -> Sequence[bytes]:
            if frame.kind is K.DRAW:
                take = r["maker"].heard(frame.message.trade_id, K.TAKE)
                assert take is not None
                early.append(Filed(MAKER, BrokenDraw.of(take, frame.message)).wire())
                await r.board.put(early[-1])
            return [frame.raw]

        r.post.hook = enter
        trade_id = await r.take()
        await r.published(trade_id)
        assert early
        assert (r["maker"].id, 1) in r.board.asked


@pytest.mark.parametrize("name", ["taker", "maker"])
async def test_a_number_of_zero_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig() as r:
        reuse(monkeypatch, r[name])
        monkeypatch.setattr(r[name].journal, "draws_of", lambda me: -1)
        trade_id = await r.take()
        state = await r.until("taker", trade_id, Aborted)
        assert isinstance(state, Aborted)
        assert "is not 1 or more" in state.reason


async def test_a_node_restored_without_its_journal_jumps_over_what_it_used() -> None:
    async with rig() as r:
        for number in (1, 2):
            await silent(r)
            r.post.hook = None
            await entered(r, "taker", number)
            await posted(r)
        await r.stop("taker")
        r["taker"].database = Database(None)  # the words are left, and nothing else
        await r.nursery.start(r["taker"].run)

        async def jumped() -> None:
            assert r["taker"].journal.draws_of(r["taker"].id) == JUMP

        await r.eventually(jumped)
        trade_id = await r.take()
        drawn = await r.delivered("taker", trade_id, K.DRAW)
        take = r["taker"].said(trade_id, K.TAKE)
        assert take is not None
        assert (take.draw_no, drawn.draw_no) == (JUMP + 1, 3)
        await r.restart("taker")
        assert r["taker"].journal.draws_of(r["taker"].id) == JUMP + 1


async def test_a_number_is_asked_for_once_more_before_it_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The DHT was away when the node started; the count jumps before the next TAKE."""
    async with rig() as r:
        await silent(r)
        r.post.hook = None
        await entered(r, "taker", 1)
        await r.stop("taker")
        monkeypatch.setattr(shell_broken, "PROBE", 0)  # nothing is learned at the start
        r["taker"].database = Database(None)
        await r.nursery.start(r["taker"].run)
        trade_id = await r.take()
        take = r["taker"].said(trade_id, K.TAKE)
        assert take is not None
        assert take.draw_no == JUMP + 1


async def test_the_count_jumps_once_the_loss_is_written_and_not_before() -> None:
    """Afterwards nothing shows the loss any more: a chain that is away must not hide it."""
    async with rig() as r:
        await silent(r)
        r.post.hook = None
        await entered(r, "taker", 1)
        await r.stop("taker")
        taker = r["taker"]
        taker.database = Database(None)
        taker.build()
        told: list[str] = []

        def lost(why: str) -> None:
            told.append(why)
            if len(told) == 1:
                raise Unreachable("no chain yet")

        taker.exchange.draws.on_lost = lost
        with pytest.raises(Unreachable):
            await taker.exchange.draws.leap()
        assert taker.journal.draws_of(taker.id) == 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(taker.exchange.draws.run)

            async def jumped() -> None:
                assert taker.journal.draws_of(taker.id) == JUMP

            await r.eventually(jumped)
            nursery.cancel_scope.cancel()
        assert len(told) == 2


async def test_two_draws_at_once_state_two_numbers() -> None:
    async with rig(sats=(3_000_000, 3_000_000), strangers=["third"]) as r:
        r.post.hook = Lost(K.DRAW)
        taken: list[bytes] = []

        async def take(maker: str) -> None:
            taken.append(await r.take(r.offer(maker=maker)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, "maker")
            nursery.start_soon(take, "third")
        numbers = {r["taker"].journal.messages(i)[0].draw_no for i in taken}
        assert numbers == {1, 2}


# ------------------------------------------------------------------ holders who lie, or are away


async def test_entries_that_do_not_fit_the_number_hold_up_nobody() -> None:
    async with rig(strangers=["third"]) as r:
        await silent(r)
        mine = (await entered(r, "taker", 1)).wire()
        theirs = (await entered(r, "maker", 1)).wire()
        r.post.hook = None
        r.board.lies = [mine, theirs, mine[:-1] + b"\x00", b"rubbish", b""]
        asked = len(r.board.asked)
        trade_id = await r.take(r.offer(maker="third"))
        await r.until("taker", trade_id, Contracting, Funding, Broadcast)
        assert {(r["taker"].id, 2), (r["third"].id, 1)} <= set(r.board.asked[asked:])


async def test_a_dht_that_is_away_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell_broken, "LOOK_S", 0.05)
    async with rig() as r:
        r.board.away = True
        trade_id = await r.take()
        await r.published(trade_id)
        assert r.board.asked
        record = await r["maker"].exchange.draws.record(r["taker"].id)
        assert (record.looked, record.unanswered, record.broken) == (1, 1, 0)


async def test_what_one_saw_oneself_counts_though_the_dht_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shell_broken, "LOOK_S", 0.05)
    async with rig() as r:
        r.board.away = True
        first = await silent(r)
        assert await looked(r["maker"], first)
        r.post.hook = None
        reuse(monkeypatch, r["taker"])
        trade_id = await r.take()
        state = await r.until("taker", trade_id, Aborted)
        assert isinstance(state, Aborted)
        assert "another trade already" in state.reason
        assert isinstance(r["maker"].state(trade_id), Aborted)
