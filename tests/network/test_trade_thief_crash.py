"""Thefts that need a node to stop: one message that ends a task, or floods that fill a disk."""

import hashlib

from thief_kit import GARBAGE, K, case_of, forged, funded, heard_of, logged, paid, says
from trade_kit import NET, Rig, resigned, rig

from escrow.messages import FRESH_STEP, ZERO, Kind, Message
from escrow.model import Disputed, Funded, Hearing, Noticed, Releasing, SayReceived
from escrow.payloads import (
    Ask,
    Chat,
    Counter,
    Dispute,
    Enquiry,
    Evidence,
    Forward,
    Notice,
    Recuse,
    Statement,
    Withdraw,
)
from escrow.shell_inbox import APPLIED, LATER, REFUSED
from escrow.words import MAX_ASKS, MAX_CHATS


def part(name: str = "receipt.txt", data: bytes = b"paid 312.00 EUR") -> Evidence:
    return Evidence(
        file_hash=hashlib.sha256(data).digest(), name=name, size=len(data), part=0, data=data
    )


async def called(r: Rig, trade_id: bytes) -> str:
    """A case that both know, the taker stopped: he is the thief."""
    await r.dispute("maker", trade_id, "no money came")
    arbiter = r.arbiter(trade_id)
    await r.until(arbiter, trade_id, Noticed, Hearing)
    await r.until("taker", trade_id, Disputed)
    await r.quiet("taker", trade_id)

    async def shown() -> None:
        r.poke()
        assert not r["taker"].journal.outbox(r[arbiter].id)

    await r.eventually(shown)
    await r.stop("taker")
    return arbiter


# ------------------------------------------------------------------ one message


async def test_a_second_message_of_an_evidences_number_ends_no_arbiter() -> None:
    """What lies sealed on disk is not at hand to be shown back."""
    async with paid() as (r, trade_id):
        arbiter = await called(r, trade_id)
        assert (await says(r, "taker", arbiter, trade_id, part()))[0] == APPLIED
        last = heard_of(r, arbiter, "taker", trade_id)[-1]
        assert last.kind is K.EVIDENCE
        other = resigned(last, r["taker"].identity, kind=K.CHAT, payload=Chat(text="x").wire(),
                         cut_hash=b"")  # fmt: skip
        status, *_ = await r.inject("taker", arbiter, other)
        assert status not in {APPLIED, LATER}
        assert (await says(r, "taker", arbiter, trade_id, Chat(text="still there?")))[0] == APPLIED


async def test_every_kind_with_every_number_ends_no_node() -> None:
    """Old numbers, the last one again, the next, a gap, fresh chains; garbage and good payloads."""
    async with paid(strangers=("stranger",)) as (r, trade_id):
        arbiter = await called(r, trade_id)
        thieves = ("taker", "stranger", r.runner_up(trade_id))
        for victim in ("maker", arbiter):
            for thief in thieves:
                for kind in Kind:
                    last = heard_of(r, victim, thief, trade_id)
                    at = last[-1].seq if last else 0
                    for seq in {0, at, at + 1, at + 5, FRESH_STEP, 10_000}:
                        message = forged(r, thief, victim, trade_id, kind, GARBAGE, seq=seq)
                        await r.inject(thief, victim, message.wire())
        await r.act("maker", trade_id, SayReceived())
        await r.until("maker", trade_id, Releasing)
        case_of(r, arbiter, trade_id)


async def test_what_a_node_said_in_talks_long_forgotten_proves_no_loss() -> None:
    """Negotiations are pruned: whoever kept an old COUNTER must not have a node give up its trades."""
    async with rig(strangers=("stranger",)) as r:
        trade_id = await r.take()
        await r.funded(trade_id)
        tip = r["maker"].chain.tip()
        old = Message(
            network=NET, kind=K.COUNTER, trade_id=ZERO, sender=r["maker"].id,
            recipient=r["stranger"].id, seq=1, prev=b"\x55" * 32, seen=ZERO,
            tip_height=tip.height, tip_hash=tip.hash, draw_no=0,
            payload=Counter(propose_id=b"\x55" * 32, fiat_minor=1, expires_at=1).wire(),
        ).signed(r["maker"].identity)  # fmt: skip
        await r.inject("stranger", "maker", old.wire())
        assert isinstance(r["maker"].state(trade_id), Funded)
        await r.act("maker", trade_id, SayReceived())


# ------------------------------------------------------------------ floods


async def test_chats_asks_and_withdraws_without_end_are_cut_off() -> None:
    async with funded() as (r, trade_id):
        contract = r["maker"].facts(trade_id).contract
        half = contract.escrow_sat // 2
        await r.stop("taker")
        replies = []
        for n in range(MAX_CHATS + 3):
            replies.append(await says(r, "taker", "maker", trade_id, Chat(text=f"{n}")))
        assert [s for s, _ in replies].count(APPLIED) == MAX_CHATS
        replies = []
        for _ in range(MAX_ASKS + 3):
            ask = Ask(buyer_sat=half, seller_sat=contract.escrow_sat - half, note="")
            replies.append(await says(r, "taker", "maker", trade_id, ask))
            mine = [m for m in heard_of(r, "maker", "taker", trade_id) if m.kind is K.ASK]
            replies.append(await says(r, "taker", "maker", trade_id, Withdraw(ask_id=mine[-1].id)))
        held = heard_of(r, "maker", "taker", trade_id)
        assert sum(m.kind is K.ASK for m in held) <= MAX_ASKS
        assert sum(m.kind is K.WITHDRAW for m in held) <= MAX_ASKS
        said = [m for m in r["maker"].journal.messages(trade_id) if m.sender == r["maker"].id]
        assert sum(m.kind is K.COVER for m in said) <= 2 * MAX_ASKS
        logged(r, "was said before")
        await r.act("maker", trade_id, SayReceived())
        await r.until("maker", trade_id, Releasing)


async def test_an_arbiter_hears_so_many_chats_files_and_papers() -> None:
    async with paid() as (r, trade_id):
        arbiter = await called(r, trade_id)
        chats = [
            (await says(r, "taker", arbiter, trade_id, Chat(text=f"{n}")))[0]
            for n in range(MAX_CHATS + 3)
        ]
        assert chats.count(APPLIED) <= MAX_CHATS
        assert chats[-1] == REFUSED
        files = [
            (await says(r, "taker", arbiter, trade_id, part(f"{n}.txt", b"%d" % n)))[0]
            for n in range(12)
        ]
        assert files.count(APPLIED) <= 8
        for seq in (FRESH_STEP, 2 * FRESH_STEP, 3 * FRESH_STEP):  # a fresh chain is no fresh start
            status, _ = await says(r, "taker", arbiter, trade_id, Chat(text="more"), seq=seq)
            assert status == REFUSED
        logged(r, "a case hears")
        before = r[arbiter].snapshot()
        for thief, payload in (
            (r.runner_up(trade_id), Enquiry(dispute_id=bytes(32))),
            (r.runner_up(trade_id), Forward(messages=(b"\x01",))),
            ("taker", Notice(dispute_id=bytes(32), opener=r["taker"].id, statement="mine")),
            ("taker", Recuse(reason="he recuses himself")),
        ):
            status, _ = await says(r, thief, arbiter, trade_id, payload)
            if not isinstance(payload, Enquiry):
                assert (status, r[arbiter].snapshot()) == (REFUSED, before), payload.kind
            before = r[arbiter].snapshot()


async def test_enquiries_and_first_words_of_strangers_leave_nothing() -> None:
    async with funded(strangers=("stranger",)) as (r, trade_id):
        arbiter = r.arbiter(trade_id)
        good = r["maker"].facts(trade_id).dispute("judge this", r[arbiter].id)
        short = Dispute(
            contract=good.contract,
            messages=good.messages[:5],
            records=(),
            rulings=(),
            statement="x",
        )
        for thief in ("stranger", r.runner_up(trade_id), "taker"):
            for payload in (
                Enquiry(dispute_id=bytes(32)),
                short,
                Statement(statement="x", messages=(), rulings=()),
            ):
                before = r[arbiter].snapshot()
                await says(r, thief, arbiter, trade_id, payload)
                assert r[arbiter].snapshot() == before, (thief, payload.kind)
        assert r[arbiter].state(trade_id) is None
