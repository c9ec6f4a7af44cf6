"""Thefts that pass a node off as one that has lost data, or rob one that has: `seen`, gaps, 3, 4.

Nobody's word makes a trade toxic: only a message with one's own signature. And whoever has lost
data must not be silenced before his arbiter, nor his node blinded or filled by his peer.
"""

from typing import Any

import pytest
from thief_kit import DAY, K, case_of, funded, heard_of, logged, paid, says
from trade_kit import Rig, resigned, rig

from escrow.messages import FRESH_STEP, MAX_SEQ
from escrow.model import (
    Broadcast,
    Funded,
    Hearing,
    LoseTrust,
    Noticed,
    Paid,
    SayChat,
    SayReceived,
    Toxic,
)
from escrow.payloads import Account, Chat, Statement
from escrow.shell_inbox import APPLIED, REFUSED, SHOW, USED, reply
from p2pnode.app import desk, routes_trades
from p2pnode.base.errors import InvalidRecord, Unreachable

LIE = b"\x11" * 32


async def poison(r: Rig, trade_id: bytes) -> None:
    """The taker has really lost data; his node knows it."""
    r["taker"].exchange.trades.advance(trade_id, LoseTrust("restored from an old copy"))
    await r.until("taker", trade_id, Toxic)


async def test_a_lie_about_seen_makes_no_trade_toxic_and_keeps_nobody_from_his_arbiter() -> None:
    """The seller denies the money and says that the buyer has told him what is not here."""
    async with paid() as (r, trade_id):
        await r.stop("maker")
        before = r["taker"].state(trade_id)
        for seq in (None, FRESH_STEP):
            at = {} if seq is None else {"seq": seq}
            words = Chat(text="as you said")
            status, _ = await says(r, "maker", "taker", trade_id, words, seen=LIE, **at)
            assert status == SHOW
            assert r["taker"].state(trade_id) == before
            assert not [m for m in heard_of(r, "taker", "maker", trade_id) if m.kind is K.CHAT]
        logged(r, "seen: names no message that we sent")
        await r.dispute("taker", trade_id, "I have paid")
        await r.until(r.arbiter(trade_id), trade_id, Noticed, Hearing)


@pytest.mark.parametrize("thief", ["peer", "stranger", "arbiter"])
async def test_what_one_shows_of_another_proves_no_loss(thief: str) -> None:
    """Own words known here, words of others, forged ones, words to others: none is a proof."""
    async with paid(strangers=("stranger",)) as (r, trade_id):
        name = {"peer": "maker", "arbiter": r.arbiter(trade_id)}.get(thief, thief)
        await r.stop("maker")
        said = r["taker"].said(trade_id, K.PAID)
        assert said
        theirs = heard_of(r, "taker", "maker", trade_id)[-1]
        for raw in (
            said.wire(),  # known, and to the peer alone
            theirs.wire(),
            resigned(said, r["maker"].identity, payload=Chat(text="x").wire(), kind=K.CHAT),
            resigned(said, r["maker"].identity, recipient=r[name].id),
        ):
            before = r["taker"].snapshot()
            await r.inject(name, "taker", raw)
            assert r["taker"].snapshot() == before
        assert isinstance(r["taker"].state(trade_id), Paid)


@pytest.mark.parametrize("who", ["stranger", "runner-up", "arbiter"])
async def test_nobody_but_the_peer_tells_a_trader_that_he_has_lost_data(who: str) -> None:
    """A trade's id is no secret: an entry of its draw names it."""
    async with funded(strangers=("stranger",)) as (r, trade_id):
        thief = {"runner-up": r.runner_up(trade_id), "arbiter": r.arbiter(trade_id)}.get(who, who)
        for name in ("maker", "taker"):
            before = r[name].snapshot()
            status, _ = await says(r, thief, name, trade_id, Chat(text="psst"), seen=LIE)
            assert (status != APPLIED, r[name].snapshot()) == (True, before)
            assert isinstance(r[name].state(trade_id), Funded)
            assert not r[name].journal.doubted(trade_id)
        logged(r, "to say" if who == "stranger" else "seen: names")


async def test_whoever_has_lost_data_is_heard_by_his_arbiter() -> None:
    """The seller denies the money, and leaves a gap in his own chain to one who must accept it."""
    async with paid() as (r, trade_id):
        await r.stop("maker")
        await poison(r, trade_id)
        last = heard_of(r, "taker", "maker", trade_id)[-1].seq
        words = Chat(text="well?")
        gap = {"seq": last + 7, "prev": LIE}
        assert (await says(r, "maker", "taker", trade_id, words, **gap))[0] == APPLIED
        await r.dispute("taker", trade_id, "I have paid: here are the papers")
        arbiter = r.arbiter(trade_id)
        await r.until(arbiter, trade_id, Noticed, Hearing)
        case = case_of(r, arbiter, trade_id)
        assert "I have paid" in case.words(r["taker"].id)
        assert case.paper(r["taker"].id, K.PAID)


async def test_a_toxic_trade_keeps_no_more_of_a_peer_than_any_other() -> None:
    """Else a flood fills the disk, and the dispute that is left has no room for the papers."""
    async with paid() as (r, trade_id):
        await r.stop("maker")
        await poison(r, trade_id)
        statuses = []
        for n in range(260):
            status, _ = await says(r, "maker", "taker", trade_id, Chat(text=f"{n}"))
            statuses.append(status)
        assert REFUSED in statuses
        assert len(heard_of(r, "taker", "maker", trade_id)) < 100
        await r.dispute("taker", trade_id, "I have paid")
        await r.until(r.arbiter(trade_id), trade_id, Noticed, Hearing)


async def test_a_toxic_trade_hears_no_stranger_and_no_kind_that_is_not_for_it() -> None:
    async with paid(strangers=("stranger",)) as (r, trade_id):
        await r.stop("maker")
        await poison(r, trade_id)
        papers = Statement(statement="x" * 4000, messages=(bytes(500_000),), rulings=())
        for thief, payload in (("stranger", Chat(text="hello")), ("stranger", papers),
                               ("maker", papers), (r.runner_up(trade_id), papers)):  # fmt: skip
            before = r["taker"].snapshot()
            status, _ = await says(r, thief, "taker", trade_id, payload)
            assert (status, r["taker"].snapshot()) == (REFUSED, before), thief


async def test_a_wrong_account_does_not_blind_a_toxic_nodes_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One message: it lies about `seen`, and what it carries breaks whatever shows the trade."""

    def details(raw: bytes, account_hash: bytes, network: object) -> str:
        if raw == b"not the account of the contract":
            raise InvalidRecord("disclosure", "is not the account of the contract")
        return "the rig's account"

    monkeypatch.setattr(desk, "details", details)
    async with rig() as r:

        async def hook(frame: Any) -> list[bytes]:
            return [] if frame.kind is K.ACCOUNT and frame.sender == "maker" else [frame.raw]

        r.post.hook = hook
        trade_id = await r.take()
        await r.published(trade_id)
        r.mine()
        await r.until("taker", trade_id, Funded)
        await r.stop("maker")
        await poison(r, trade_id)
        wrong = Account(disclosure=b"not the account of the contract")
        await says(r, "maker", "taker", trade_id, wrong)
        exchange = r["taker"].exchange
        shown = routes_trades.trade_json(exchange, exchange.trades.row(trade_id))
        assert shown["trade_id"] == trade_id.hex()


@pytest.mark.parametrize("proof", ["none", "another's", "known"])
async def test_who_answers_that_a_number_was_used_must_show_it(proof: str) -> None:
    """Else he has the other's numbers run out, and his trade given up, by a word."""
    async with paid() as (r, trade_id):
        inbox, answered = r["taker"].exchange._courier._inbox, []
        theirs = r["taker"].said(trade_id, K.PAID)
        known = r["maker"].said(trade_id, K.ACCOUNT)
        assert theirs
        assert known
        shown = {"none": b"", "another's": theirs.wire(), "known": known.wire()}[proof]

        async def deliver(raw: bytes, peer: bytes) -> bytes:
            answered.append(raw)
            return reply(USED, "seq: another message of this number was signed before", shown)

        inbox.deliver = deliver  # type: ignore[method-assign]
        await r.act("maker", trade_id, SayChat(r["taker"].id, "has it come?"))

        async def over() -> None:
            r.poke()
            assert answered
            assert not r["maker"].journal.outbox(r["taker"].id)

        await r.eventually(over)
        assert isinstance(r["maker"].state(trade_id), Paid)
        assert not r["maker"].journal.lost_at()
        logged(r, "lost data: ")
        await r.act("maker", trade_id, SayReceived())
        await r.quiet("maker", trade_id)
        await r.eventually(over)
        await r.dispute("maker", trade_id, "he takes nothing from me")
        await r.until(r.arbiter(trade_id), trade_id, Noticed, Hearing)


async def test_numbers_that_run_out_break_no_journal() -> None:
    """A node that is shown its own lost words again and again stops before its last number."""
    async with paid() as (r, trade_id):
        await r.stop("taker")
        trades = r["maker"].exchange.trades
        for _ in range(15):
            trades.advance(trade_id, LoseTrust("shown again"))
        await r.act("maker", trade_id, SayReceived())
        await r.quiet("maker", trade_id)
        said = r["maker"].journal.messages(trade_id)
        assert max(m.seq for m in said) <= MAX_SEQ
        await r.dispute("maker", trade_id, "he takes nothing from me")
        await r.until(r.arbiter(trade_id), trade_id, Noticed, Hearing)


async def test_lost_data_strands_no_coins_of_an_unconfirmed_funding() -> None:
    """The seller holds the funding back; the buyer's coins must not lie locked for ever."""
    async with rig() as r:
        away = True
        broadcast = r["taker"].chain.broadcast

        async def later(raw: bytes) -> bytes:
            if away:
                raise Unreachable("the server is away for a moment")
            return await broadcast(raw)

        async def withheld(raw: bytes) -> bytes:
            return b""

        r["taker"].chain.broadcast = later  # type: ignore[method-assign]
        r["maker"].chain.broadcast = withheld  # type: ignore[method-assign]
        trade_id = await r.take()
        await r.both(trade_id, Broadcast)
        await r.delivered("taker", trade_id, K.WITNESS)
        await r.stop("maker")
        await poison(r, trade_id)
        assert r["taker"].locked()
        away = False
        r.pass_time(DAY)
        r.mine(8, step=DAY)
        await r.quiet("taker", trade_id)

        async def on_its_way() -> None:
            r.pass_time(1)
            assert r.mempool() or r.confirmed(r["taker"].facts(trade_id).outpoint.txid)

        await r.eventually(on_its_way)
