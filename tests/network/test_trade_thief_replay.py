"""Thefts by what was said before: replays across trades, people and kinds, and the stranger's DHT.

Everything that a node has ever said or heard comes again: to the same, to others, in other
trades, backwards, by mail. Nothing moves, nobody ends, and the trades end well.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from thief_kit import K, forged, logged, paid, says, verdict
from trade_campaign import difference
from trade_kit import NET, Frame, Rig, resigned, rig
from trade_mail import Away, mail, mail_rig

from dht.mailbox import KIND
from escrow import shell_opening
from escrow.arbiters import ArbiterRecord
from escrow.equivocation import found
from escrow.model import (
    Aborted,
    Decide,
    Disputed,
    Hearing,
    Releasing,
    Ruled,
    RuledCase,
    SayPaid,
    SayReceived,
)
from escrow.payloads import Enquiry, Notice
from escrow.payout import release, verdict_split
from escrow.shell_inbox import APPLIED, REFUSED
from escrow.store_journal import TRADER
from p2pnode.base.errors import InvalidRecord


async def test_a_whole_trade_played_again_into_another_moves_nothing() -> None:
    """Backwards, under its own name, under the other trade's, and to another recipient."""
    async with rig(sats=(3_000_000, 3_000_000), strangers=("stranger",)) as r:
        old = await r.take()
        await r.paid(old)
        await r.dispute("taker", old)
        await r.both(old, Disputed)
        arbiter = r.arbiter(old)
        await r.answer("maker", old, "not so")
        await r.until(arbiter, old, Hearing)
        full = release(r["maker"].facts(old).contract).buyer_sat
        await r.act(arbiter, old, Decide(full, "paid"))
        await r.both(old, Ruled)
        await r.closed(old, "ruled")
        frames = list(r.post.seen)
        new = await r.take()
        await r.paid(new)
        await r.quiet("maker", new)
        before = {name: r[name].snapshot() for name in r.nodes}
        for frame in reversed(frames):
            status, *_ = await r.inject(frame.sender, frame.recipient, frame.raw)
            assert status == APPLIED  # known
            for to in {"maker", "taker", "stranger", arbiter} - {frame.sender}:
                if to != frame.recipient:
                    status, *_ = await r.inject(frame.sender, to, frame.raw)
                    assert status == REFUSED
            for thief in ("stranger", frame.recipient):
                if thief not in {frame.sender, frame.recipient}:
                    status, *_ = await r.inject(thief, frame.recipient, frame.raw)
                    assert status == REFUSED
            if frame.kind is not K.TAKE and {frame.sender, frame.recipient} == {"maker", "taker"}:
                moved = resigned(frame.message, r[frame.sender].identity, trade_id=new)
                status, *_ = await r.inject(frame.sender, frame.recipient, moved)
                assert status != APPLIED, frame.kind
        for name in r.nodes:
            assert r[name].snapshot() == before[name], name
        logged(r, "is not whom the connection authenticates")
        await r.act("maker", new, SayReceived())
        await r.until("taker", new, Releasing)
        await r.closed(new, "released")


async def test_signatures_of_one_trade_sign_nothing_of_another() -> None:
    """RECEIVED, VERDICT: good there, nothing here."""
    async with rig(sats=(3_000_000, 3_000_000)) as r:
        one, two = await r.take(), await r.take()
        await r.funded(one)
        await r.funded(two)
        await r.act("taker", two, SayPaid("sent"))
        await r.act("maker", two, SayReceived())
        received = await r.delivered("taker", two, K.RECEIVED)
        await r.quiet("taker", two)
        before = r["taker"].snapshot()
        copied = forged(r, "maker", "taker", one, K.RECEIVED, received.payload)
        status, *_ = await r.inject("maker", "taker", copied.wire())
        assert not difference(before, r["taker"].snapshot())
        assert status == REFUSED
        arbiter = r.arbiter(one)
        contract = r["taker"].facts(two).contract
        notice = Notice(dispute_id=bytes(32), opener=r["maker"].id, statement="called")
        assert (await says(r, arbiter, "taker", one, notice))[0] == APPLIED
        foreign = verdict(r, two, verdict_split(contract, 0))
        await r.quiet("taker", one)  # he shows the arbiter his papers
        before = r["taker"].snapshot()
        status, _ = await says(r, arbiter, "taker", one, foreign)
        assert not difference(before, r["taker"].snapshot())
        assert status == REFUSED
        logged(r, "signatures[0]")
        assert isinstance(r["taker"].state(one), Disputed)


async def test_verdicts_after_settlement_and_by_others_are_heard_by_nobody() -> None:
    async with paid() as (r, trade_id):
        arbiter, second = r.arbiter(trade_id), r.runner_up(trade_id)
        contract = r["maker"].facts(trade_id).contract
        await r.act("maker", trade_id, SayReceived())
        await r.until("taker", trade_id, Releasing)
        await r.quiet("taker", trade_id)
        raw = r["taker"].state(trade_id)
        for victim in ("maker", "taker"):
            notice = Notice(
                dispute_id=bytes(32), opener=r[victim].facts(trade_id).peer, statement="late"
            )
            await says(r, arbiter, victim, trade_id, notice)
            ruled = verdict(r, trade_id, verdict_split(contract, 0))
            await says(r, arbiter, victim, trade_id, ruled)
            await says(r, second, victim, trade_id, ruled)
        await r.quiet("taker", trade_id)
        assert r["taker"].state(trade_id) == raw
        await r.closed(trade_id, "released")


async def test_a_runner_up_learns_no_verdict_before_the_timelock() -> None:
    """He may ask; while the arbiter has his time, whoever asks him is told nothing."""
    async with paid() as (r, trade_id):
        await r.dispute("taker", trade_id)
        await r.both(trade_id, Disputed)
        arbiter, second = r.arbiter(trade_id), r.runner_up(trade_id)
        await r.answer("maker", trade_id, "not so")
        await r.until(arbiter, trade_id, Hearing)

        async def hook(frame: Frame) -> Sequence[bytes]:
            return [] if frame.kind is K.VERDICT else [frame.raw]

        r.post.hook = hook
        full = release(r["maker"].facts(trade_id).contract).buyer_sat
        await r.act(arbiter, trade_id, Decide(full, "paid"))
        await r.until(arbiter, trade_id, RuledCase)
        await r.quiet(arbiter, trade_id)
        await says(r, second, arbiter, trade_id, Enquiry(dispute_id=bytes(32)))
        said = r[arbiter].journal.messages(trade_id)
        assert not [m for m in said if m.recipient == r[second].id]


# ------------------------------------------------------------------ the mailbox


async def test_letters_put_again_after_they_were_taken_away_change_nothing() -> None:
    """Whoever held an entry puts it again, every one, again and again."""
    async with mail_rig(hook=Away()) as (r, office, _):
        kept: list[Any] = []
        office.on_put = lambda _name, raw: kept.append(raw)
        trade_id = await r.take()
        await r.paid(trade_id)
        assert len(kept) > 5
        before = {name: r[name].snapshot() for name in ("maker", "taker")}
        for raw in list(reversed(kept)):
            with suppress(InvalidRecord):  # a holder refuses what is older than what he has
                await office.net.put(KIND, raw)
        for name in ("maker", "taker"):
            await mail(r, name).collect()
            assert r[name].snapshot() == before[name]
        await r.act("maker", trade_id, SayReceived())
        await r.until("taker", trade_id, Releasing)
        await r.closed(trade_id, "released")


# ------------------------------------------------------------------ the registry


async def test_a_registry_full_of_lies_draws_from_the_honest_ones() -> None:
    """Garbage, other networks', malleated, unsigned, stale and future records, a copied key."""
    async with rig(arbiters=3, strangers=("stranger",)) as r:
        true = ArbiterRecord.from_wire(r.records[0], NET)
        thief, keys = r["stranger"].identity, r["stranger"].exchange.world.keys
        sign = keys.arbitration_key().sign_schnorr
        values = {n: getattr(true, n) for n in true.__dataclass_fields__}
        mine = {"node_id": thief.node_id, "node_sig": b"", "key_sig": b""}
        point, code = keys.arbitration_account()
        own = values | mine | {"point": point, "chain_code": code}
        tip = r["maker"].chain.tip().height
        lies = [
            b"", b"\x01", r.records[1][:-1], r.records[1] + b"\x00",
            *(r.records[0].replace(true.key_sig, bytes(64)) for _ in range(1)),
            r.records[0].replace(true.node_sig, true.node_sig[:-1] + b"\x00"),
            ArbiterRecord(**(values | mine)).signed(thief, sign).wire(),  # a copied key
            ArbiterRecord(**(own | {"at_height": tip + 500})).signed(thief, sign).wire(),
            ArbiterRecord(**(own | {"at_hash": b"\x66" * 32})).signed(thief, sign).wire(),
        ]  # fmt: skip
        r.records[:0] = lies
        trade_id = await r.take()
        await r.funded(trade_id)
        contract = r["maker"].facts(trade_id).contract
        honest = {r[f"arbiter{n}"].id for n in range(3)}
        assert {contract.arbiter, contract.runner_up} <= honest


async def refused_takes(r: Rig, count: int, seconds: int) -> list[bytes]:
    """The thief takes what nobody offers, again and again."""
    greedy = replace(r.offer(), max_sat=2_000_000_000)
    r.box.fund(r["taker"].wallet.script_for_payout(), 1_000_000_000)
    r.mine()
    takes = []
    for _ in range(count):
        takes.append(await r.take(greedy, 400_000_000))
        await r.until("taker", takes[-1], Aborted)
        r.pass_time(seconds)
    return takes


async def test_takes_refused_within_one_second_end_no_maker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whichever of them is forgotten first: nobody may be looking for it still."""
    monkeypatch.setattr(shell_opening, "KEPT_REFUSED", 1)
    async with rig() as r:
        await refused_takes(r, 6, 0)
        r.mine(20)  # until their anchors are too old to be answered again
        await r.synced()
        await refused_takes(r, 1, 0)
        kept = r["maker"].journal.rows(TRADER)
        assert len(kept) <= 2  # the fault fired
        trade_id = await r.take()
        await r.funded(trade_id)


async def test_a_refused_take_sent_again_makes_its_maker_sign_nothing_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was refused is forgotten in time; a second REFUSE of number 0 would be a proof."""
    monkeypatch.setattr(shell_opening, "KEPT_REFUSED", 1)
    async with rig() as r:
        first, *_ = await refused_takes(r, 4, 1)
        refused = r["taker"].heard(first, K.REFUSE)
        take = r["taker"].said(first, K.TAKE)
        assert refused
        assert take
        r.mine(20)
        await r.synced()
        await refused_takes(r, 1, 1)
        assert r["maker"].journal.row(first) is None  # the fault fired
        await r.inject("taker", "maker", take.wire())
        again = [m for m in r["maker"].journal.messages(first) if m.sender == r["maker"].id]
        assert not found((refused, *again))
