"""Thefts before the arbiter: papers made to bind, to silence the other side, or to stop a node.

What a trader shows is his to choose: chains cut short, numbers left out, words that nobody was
sent, signatures that sign nothing. An honest trader's own papers must still be heard, and what
he never agreed to must bind nobody.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from thief_kit import GARBAGE, K, case_of, chained, funded, heard_of, logged, paid, says, settle
from trade_kit import NET, Frame, Rig

from escrow import rulings
from escrow.messages import FRESH_STEP, Kind, Message
from escrow.model import (
    Agreed,
    AnswerAsk,
    AskSplit,
    Decide,
    Disputed,
    Hearing,
    Noticed,
    Paid,
    Ruled,
    RuledCase,
    SayPaid,
    WithdrawAsk,
)
from escrow.payloads import MAX_TRANSCRIPT, Chat, Ok, Statement
from escrow.payout import Split, refund, release
from escrow.shell_inbox import APPLIED, REFUSED
from p2pnode.app import desk, routes_cases
from p2pnode.app.routes import Call
from p2pnode.base import identity


async def opens(r: Rig, thief: str, trade_id: bytes, papers: Sequence[bytes]) -> tuple[int, str]:
    """The thief calls the arbiter with papers of his own choice."""
    honest = r["taker" if thief == "maker" else "maker"]
    true = honest.facts(trade_id).dispute("he owes me", honest.facts(trade_id).contract.arbiter)
    dispute = replace(true, messages=tuple(papers), rulings=())
    return await says(r, thief, r.arbiter(trade_id), trade_id, dispute)


async def answered(r: Rig, trade_id: bytes, name: str, words: str) -> str:
    """The honest side answers; returns the arbiter once he has heard both."""
    await r.delivered(name, trade_id, K.NOTICE)
    await r.answer(name, trade_id, words)
    arbiter = r.arbiter(trade_id)

    async def heard() -> None:
        r.poke()
        told = [line for line in r.log if "refused" in line]
        assert isinstance(r[arbiter].state(trade_id), Hearing), told
        assert words in case_of(r, arbiter, trade_id).words(r[name].id)
        assert not r[name].journal.outbox(r[arbiter].id)

    await r.eventually(heard)
    return arbiter


# ------------------------------------------------------------------ what nobody agreed to


async def test_an_ok_put_into_a_gap_of_ones_own_chain_binds_nobody() -> None:
    """The buyer withdrew and paid. The seller shows an OK under a number that he left out.

    A fresh chain (the next number 1000) freed the buyer; the number before it was never sent.
    """
    async with funded() as (r, trade_id):
        contract = r["taker"].facts(trade_id).contract
        before = heard_of(r, "taker", "maker", trade_id)[-1]
        await r.stop("maker")
        await r.act("taker", trade_id, AskSplit(refund(contract).buyer_sat, "call it off?"))
        ask = r["taker"].said(trade_id, K.ASK)
        assert ask
        await r.act("taker", trade_id, WithdrawAsk())
        chat = Chat(text="all right, pay then")
        assert (await says(r, "maker", "taker", trade_id, chat, seq=FRESH_STEP))[0] == APPLIED
        await r.act("taker", trade_id, SayPaid("sent"))
        assert isinstance(r["taker"].state(trade_id), Paid)

        papers = list(r["taker"].facts(trade_id).papers())
        ok = chained(r["maker"], [before], kind=K.OK, payload=Ok(ask_id=ask.id).wire(), seen=ask.id)
        place = next(n for n, p in enumerate(papers) if _at(p, r["maker"].id, FRESH_STEP))
        papers.insert(place, ok.wire())
        status, _ = await opens(r, "maker", trade_id, papers)
        if status == APPLIED:
            arbiter = await answered(r, trade_id, "taker", "I have paid")
            case = case_of(r, arbiter, trade_id)
            assert [c.name for c in rulings.claims(case)] == []
            await r.act(arbiter, trade_id, Decide(release(contract).buyer_sat, "he paid"))
            await r.until(arbiter, trade_id, RuledCase)
            await r.until("taker", trade_id, Ruled)
        else:
            assert status == REFUSED
            logged(r, "refused from")


def _at(raw: bytes, sender: bytes, seq: int) -> bool:
    message = Message.from_wire(raw, NET)
    return message.sender == sender and message.seq == seq


# ------------------------------------------------------------------ silencing


@pytest.mark.parametrize("kind", [K.WITHDRAW, K.OK, K.ASK, K.SETTLE, K.RECEIVED, K.COVER])
async def test_words_that_say_nothing_silence_nobody(kind: Kind) -> None:
    """The thief shows words of his with a payload that is none; the other shows the true ones."""
    async with funded() as (r, trade_id):
        thief, honest = "taker", "maker"
        contract = r[honest].facts(trade_id).contract
        before = r[thief].facts(trade_id).papers()
        half = contract.escrow_sat // 2
        await r.act(thief, trade_id, AskSplit(half, "half?"))
        await r.delivered(honest, trade_id, K.ASK)
        await r.quiet(thief, trade_id)
        await r.stop(thief)
        own = [Message.from_wire(p, NET) for p in before]
        own = [m for m in own if m.sender == r[thief].id]
        junk = chained(r[thief], own, kind=kind, payload=GARBAGE)
        status, _ = await opens(r, thief, trade_id, [*before, junk.wire()])
        if status != APPLIED:  # refused: he comes with the true papers then
            assert status == REFUSED
            logged(r, "refused from")
            assert (await opens(r, thief, trade_id, before))[0] == APPLIED
        await answered(r, trade_id, honest, "I have kept my word")


async def test_a_settle_that_signs_nothing_silences_nobody() -> None:
    """Shown beside a chain cut before the OK, it binds nothing yet, so it was not looked at."""
    async with funded() as (r, trade_id):
        contract = r["taker"].facts(trade_id).contract
        much = contract.escrow_sat - contract.dep_s // 2  # to the buyer: the seller signs first
        await r.act("taker", trade_id, AskSplit(much, "for my trouble"))
        await r.delivered("maker", trade_id, K.ASK)

        async def hook(frame: Frame) -> Sequence[bytes]:
            return [] if frame.kind is K.SETTLE else [frame.raw]

        r.post.hook = hook  # the thief does not sign
        await r.act("maker", trade_id, AnswerAsk(agree=True))
        await r.until("taker", trade_id, Agreed)
        await r.delivered("maker", trade_id, K.COVER)
        ok = r["maker"].said(trade_id, K.OK)
        assert ok
        await r.stop("maker")
        papers = [Message.from_wire(p, NET) for p in r["taker"].facts(trade_id).papers()]
        mine = [m for m in papers if m.sender == r["maker"].id]
        bad = settle(r, "maker", trade_id, refund(contract), ok.id)
        false = chained(r["maker"], mine, kind=K.SETTLE, payload=bad.wire())
        ask = r["taker"].said(trade_id, K.ASK)
        assert ask
        cut = [m for m in papers if m.sender == r["maker"].id or m.seq < ask.seq]
        status, _ = await opens(r, "maker", trade_id, [*(m.wire() for m in cut), false.wire()])
        assert status in {APPLIED, REFUSED}
        if status == REFUSED:
            logged(r, "refused from")
            await r.dispute("taker", trade_id, "he does not sign")
            await r.until(r.arbiter(trade_id), trade_id, Noticed, Hearing)
            return
        arbiter = await answered(r, trade_id, "taker", "he does not sign what he agreed to")
        case = case_of(r, arbiter, trade_id)
        (claim,) = rulings.claims(case)
        assert claim.split == Split(much, contract.escrow_sat - much, 0)


async def test_a_false_account_or_note_hides_no_case_from_its_arbiter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(desk, "details", lambda raw, account_hash, network: "the rig's account")
    async with funded() as (r, trade_id):
        await r.stop("taker")
        papers = list(r["maker"].facts(trade_id).papers())
        own = [m for m in map(_message, papers) if m.sender == r["taker"].id]
        junk = chained(r["taker"], own, kind=K.PAID, payload=GARBAGE)
        status, _ = await opens(r, "taker", trade_id, [*papers, junk.wire()])
        if status != APPLIED:
            assert status == REFUSED
            assert (await opens(r, "taker", trade_id, papers))[0] == APPLIED
        arbiter = r.arbiter(trade_id)
        await r.until(arbiter, trade_id, Noticed, Hearing)
        routes = routes_cases.routes(r[arbiter].exchange)
        show = next(x for x in routes if x.method == "GET" and x.path.endswith("{trade_id}"))
        shown = await show.handler(Call(path={"trade_id": trade_id.hex()}))
        assert shown["trade_id"] == trade_id.hex()


def _message(raw: bytes) -> Message:
    return Message.from_wire(raw, NET)


# ------------------------------------------------------------------ stopping the arbiter


async def test_papers_by_the_thousand_keep_no_arbiter_from_his_other_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Forks of the thief's own chain, and the same papers again: what a look reads is bounded."""
    async with paid() as (r, trade_id):
        await r.dispute("maker", trade_id, "no money came")
        arbiter = r.arbiter(trade_id)
        await r.until(arbiter, trade_id, Noticed, Hearing)
        await r.until("taker", trade_id, Disputed)
        await r.quiet("taker", trade_id)
        await r.stop("taker")
        papers = list(r["maker"].facts(trade_id).papers())
        own = [m for m in map(_message, papers) if m.sender == r["taker"].id]
        statuses = []
        for n in range(4):
            fork = list(own)
            while len(fork) + len(papers) < MAX_TRANSCRIPT:
                words = Chat(text=f"{n} {len(fork)}").wire()
                fork.append(chained(r["taker"], fork, kind=K.CHAT, payload=words))
            shown = [*papers, *(m.wire() for m in fork[len(own) :])]
            statement = Statement(statement=f"{n}", messages=tuple(shown), rulings=())
            statuses += [(await says(r, "taker", arbiter, trade_id, statement))[0]]
        assert statuses[-1] == REFUSED
        logged(r, "refused from")
        for n in range(6):  # and the same again
            statement = Statement(statement=f"{n}", messages=tuple(papers), rulings=())
            assert (await says(r, "taker", arbiter, trade_id, statement))[0] == APPLIED
        await r.answer("maker", trade_id, "he floods you")
        await r.quiet("maker", trade_id)
        case = case_of(r, arbiter, trade_id)
        assert len(case.papers) <= 2 * MAX_TRANSCRIPT
        read = []
        verify = identity.verify

        def counted(*args: Any) -> None:
            read.append(args)
            verify(*args)

        monkeypatch.setattr(identity, "verify", counted)
        rulings.claims(case_of(r, arbiter, trade_id))
        assert len(read) <= 30, f"{len(read)} signatures are verified at every look"


# ------------------------------------------------------------------ what counts is handed on


async def test_what_a_statement_shows_is_handed_on_at_once() -> None:
    """Else who must act is never told, and nobody may rule: the case stands still for ever."""
    async with funded() as (r, trade_id):
        contract = r["taker"].facts(trade_id).contract
        half = contract.escrow_sat // 2

        async def hook(frame: Frame) -> Sequence[bytes]:
            return [] if frame.kind is K.SETTLE else [frame.raw]

        r.post.hook = hook
        papers = list(r["maker"].facts(trade_id).papers())
        await r.act("taker", trade_id, AskSplit(half, "half?"))
        await r.delivered("maker", trade_id, K.ASK)
        await r.act("maker", trade_id, AnswerAsk(agree=True))
        await r.until("taker", trade_id, Agreed)
        await r.delivered("maker", trade_id, K.COVER)
        await r.stop("maker")  # his user sleeps; the buyer hides the agreement
        arbiter = r.arbiter(trade_id)
        await r.stop("taker")
        assert (await opens(r, "taker", trade_id, papers))[0] == APPLIED
        await r.nursery.start(r["maker"].run)
        await r.delivered("maker", trade_id, K.NOTICE)

        async def shown() -> None:
            r.poke()
            case = case_of(r, arbiter, trade_id)
            assert any(m.kind is K.OK for m in case.papers)
            assert case.all(r[arbiter].id, K.FORWARD)

        await r.eventually(shown)
