"""Cheats that take more than one message: two takes, two splits, two chains, second thoughts."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from trade_kit import AMOUNT, NET, Frame, Rig, resigned, rig

from escrow.backend_signatures import REAL, first_sign
from escrow.messages import MAX_PAYLOAD, ZERO, Kind, Message
from escrow.model import (
    Aborted,
    AcceptVerdict,
    Broadcast,
    Contracting,
    Decide,
    Disputed,
    Funded,
    Funding,
    Hearing,
    MakeStatement,
    Releasing,
    Ruled,
    RuledCase,
    SayNotPaid,
    SayPaid,
    SayReceived,
)
from escrow.opening import OPENING_S
from escrow.payloads import Abort, Declared, Dispute, NotPaid, Paid, Statement, Verdict
from escrow.payout import Split, refund, release, verdict_split
from escrow.shell_inbox import APPLIED, LATER, REFUSED
from p2pnode.app import routes_cases
from p2pnode.app.routes import Call, Route
from p2pnode.base.errors import LocalFault
from p2pnode.base.transaction import Outpoint

K = Kind
DAY = 86_400


# ------------------------------------------------------------------ two takes


async def test_two_takes_of_one_offer_become_one_trade() -> None:
    async with rig(strangers=("stranger",)) as r:
        offer = r.offer()
        held: list[Frame] = []
        slow = True

        async def hook(frame: Frame) -> Sequence[bytes]:
            if slow and frame.kind is K.REVEAL and frame.sender == "taker":
                held.append(frame)
                return []
            return [frame.raw]

        r.post.hook = hook
        first = await r.take(offer)

        async def stopped() -> None:
            assert held

        await r.eventually(stopped)
        second = await r.take(offer, taker="stranger")
        await r.until("maker", second, Broadcast)
        slow = False
        await r.until("maker", first, Contracting)
        await r.noted("maker", first, "the offer is in another trade")
        assert r["maker"].said(first, K.CONTRACT) is None
        r.pass_time(OPENING_S)
        await r.until("maker", first, Aborted)
        await r.until("taker", first, Aborted)
        assert r["maker"].desk.reserved == {offer.offer_hash: second}
        assert not r["taker"].locked()
        assert len(r.mempool()) == 1
        with pytest.raises(LocalFault):
            await r.take(offer, taker="maker")


async def test_the_same_take_twice_gets_the_same_draw() -> None:
    """Grinding: a second DRAW for one TAKE would give the maker a choice of arbiters."""
    async with rig() as r:

        async def hook(frame: Frame) -> Sequence[bytes]:
            return [frame.raw, frame.raw]  # every message arrives twice

        r.post.hook = hook
        trade_id = await r.take()
        await r.paid(trade_id)
        draws = [m for m in r["taker"].journal.messages(trade_id) if m.kind is K.DRAW]
        assert len(draws) == 1
        await r.act("maker", trade_id, SayReceived())
        await r.closed(trade_id, "released")


# ------------------------------------------------------------------ second thoughts


async def test_abort_does_not_take_back_a_funding_signature() -> None:
    async with rig() as r:
        # the seller cannot sign for the moment, so the buyer's WITNESS lies there unused
        r["maker"].exchange.world.opinions = replace(REAL, address=lambda contract: "bcrt1qother")
        trade_id = await r.take()
        await r.delivered("maker", trade_id, K.WITNESS)
        await r.quiet("taker", trade_id)
        before = r["maker"].snapshot()
        words = Abort(reason="changed my mind").wire()
        message = r["taker"].next_message(trade_id, r["maker"].id, K.ABORT, words)
        status, text = await r.inject("taker", "maker", message.wire())
        assert (status, "ABORT after the sender's own funding signature" in text) == (REFUSED, True)
        assert r["maker"].snapshot() == before
        r["maker"].exchange.world.opinions = REAL
        r.pass_time(0)
        await r.published(trade_id)


async def test_an_abort_that_crosses_our_own_signature_changes_nothing() -> None:
    async with rig() as r:

        async def hook(frame: Frame) -> Sequence[bytes]:
            return [] if frame.kind is K.WITNESS else [frame.raw]

        r.post.hook = hook
        trade_id = await r.take()
        await r.until("taker", trade_id, Funding)

        async def signed() -> None:
            assert r["taker"].said(trade_id, K.WITNESS)

        await r.eventually(signed)
        await r.quiet("taker", trade_id)
        words = Abort(reason="too late").wire()
        message = r["maker"].next_message(trade_id, r["taker"].id, K.ABORT, words)
        assert (await r.inject("maker", "taker", message.wire()))[0] == APPLIED
        assert isinstance(r["taker"].state(trade_id), Funding)
        assert r["taker"].locked()  # his signature is out: only the chain frees the coin


@pytest.mark.parametrize(("first", "then"), [("not paid", "paid"), ("paid", "not paid")])
async def test_paid_and_not_paid_exclude_each_other(first: str, then: str) -> None:
    said = {"paid": SayPaid("x"), "not paid": SayNotPaid("x")}
    words = {"paid": (K.PAID, Paid(note="x")), "not paid": (K.NOT_PAID, NotPaid(note="x"))}
    async with rig() as r:
        trade_id = await r.take()
        await r.funded(trade_id)
        await r.act("taker", trade_id, said[first])
        await r.delivered("maker", trade_id, words[first][0])
        if first == "not paid":
            await r.delivered("maker", trade_id, K.SETTLE)  # which follows by itself
        with pytest.raises(LocalFault):
            await r.act("taker", trade_id, said[then])
        kind, payload = words[then]
        message = r["taker"].next_message(trade_id, r["maker"].id, kind, payload.wire())
        before = r["maker"].snapshot()
        status, text = await r.inject("taker", "maker", message.wire())
        assert status == REFUSED
        assert f"{kind.name} after" in text
        assert r["maker"].snapshot() == before


# ------------------------------------------------------------------ a dishonest arbiter


async def hearing(r: Rig, trade_id: bytes, opener: str = "taker") -> str:
    """Open a dispute and hear both; returns the arbiter's name."""
    other = "maker" if opener == "taker" else "taker"
    await r.dispute(opener, trade_id)
    await r.both(trade_id, Disputed)
    await r.answer(other, trade_id, "not so")
    arbiter = r.arbiter(trade_id)
    await r.until(arbiter, trade_id, Hearing)
    return arbiter


def verdict(r: Rig, trade_id: bytes, split: Split) -> bytes:
    """A VERDICT by the arbiter's real keys, past his node's own rules."""
    contract = r["maker"].facts(trade_id).contract
    node = r[r.arbiter(trade_id)]
    key = node.exchange.world.keys.arbiter_key(contract.seed, contract.bond_a)
    point = r["maker"].facts(trade_id).outpoint
    return Verdict(
        buyer_sat=split.buyer_sat,
        seller_sat=split.seller_sat,
        arbiter_sat=split.arbiter_sat,
        signatures=first_sign(contract, point, split, key),
        reason="because",
    ).wire()


async def send(
    r: Rig, sender: str, to: str, trade_id: bytes, kind: Kind, payload: bytes
) -> tuple[int, str]:
    message = r[sender].next_message(trade_id, r[to].id, kind, payload)
    return await r.inject(sender, to, message.wire())


async def payout(r: Rig) -> None:
    """Wait until some node has published a payout."""

    async def out() -> None:
        assert r.mempool()

    await r.eventually(out)


async def test_a_node_completes_no_verdict_that_gives_it_more_than_its_own_facts() -> None:
    """R2: an arbiter alone must not make an honest node take the other's money."""
    async with rig() as r:
        trade_id = await r.take()
        await r.funded(trade_id)  # nothing is paid
        arbiter = await hearing(r, trade_id, "maker")
        contract = r["maker"].facts(trade_id).contract
        full = release(contract).buyer_sat
        raw = verdict(r, trade_id, verdict_split(contract, full))
        assert (await send(r, arbiter, "taker", trade_id, K.VERDICT, raw))[0] == APPLIED
        state = await r.until("taker", trade_id, Ruled)
        assert isinstance(state, Ruled)
        assert (state.buyer_sat, state.raw) == (full, b"")
        await r.quiet("taker", trade_id)
        assert not r.mempool()
        assert "payout" not in r["taker"].signed
        await r.stop("maker")  # and his silence must not freeze what is rightly the buyer's
        await r.act("taker", trade_id, AcceptVerdict())
        await payout(r)
        with pytest.raises(LocalFault, match="is accepted"):
            await r.act("taker", trade_id, AcceptVerdict())


async def test_no_node_completes_a_verdict_against_the_buyer_before_its_time() -> None:
    """R4 in the traders' own nodes: a changed arbiter who rules early finds no help."""
    async with rig() as r:
        trade_id = await r.take()
        await r.paid(trade_id)
        arbiter = await hearing(r, trade_id)
        contract = r["maker"].facts(trade_id).contract
        raw = verdict(r, trade_id, verdict_split(contract, contract.dep_b))
        for name in ("maker", "taker"):
            assert (await send(r, arbiter, name, trade_id, K.VERDICT, raw))[0] == APPLIED
            await r.quiet(name, trade_id)
        assert not r.mempool()
        with pytest.raises(LocalFault, match="before an arbiter may rule so"):
            await r.act("maker", trade_id, AcceptVerdict())  # nor by a word given too early
        r.mine(10 + 6, step=DAY)  # 48 h, the period and the replies; the median lags by six
        await r.quiet("maker", trade_id)
        assert not r.mempool()  # the buyer has said PAID: whether that is so, its owner must say
        await r.act("maker", trade_id, AcceptVerdict(contract.dep_b))
        await payout(r)


async def test_coins_are_locked_before_anything_is_asked_about_them() -> None:
    """Else a payment made meanwhile spends what the funding declares."""
    async with rig() as r:
        world, asked = r["taker"].exchange.world, []
        declared = world.purse.declared

        async def look(outpoint: Outpoint) -> Declared:
            asked.append(outpoint in r["taker"].locked())
            return await declared(outpoint)

        world.purse.declared = look  # type: ignore[method-assign]
        await r.funded(await r.take())
        assert asked
        assert all(asked)


async def test_a_buyer_who_has_not_paid_completes_what_only_returns_his_deposit() -> None:
    async with rig() as r:

        async def hook(frame: Frame) -> Sequence[bytes]:
            return [] if frame.kind in {K.SETTLE, K.FORWARD} else [frame.raw]

        r.post.hook = hook  # else his own concession ends it
        trade_id = await r.take()
        await r.funded(trade_id)
        await r.act("taker", trade_id, SayNotPaid("the bank is closed"))  # else R4's time first
        arbiter = await hearing(r, trade_id)
        contract = r["maker"].facts(trade_id).contract
        raw = verdict(r, trade_id, verdict_split(contract, contract.dep_b))
        await r.stop("maker")
        assert (await send(r, arbiter, "taker", trade_id, K.VERDICT, raw))[0] == APPLIED
        await payout(r)


async def test_a_seller_who_has_the_money_completes_nothing_above_release() -> None:
    async with rig() as r:

        async def hook(frame: Frame) -> Sequence[bytes]:
            return [] if frame.kind in {K.RECEIVED, K.FORWARD} else [frame.raw]

        r.post.hook = hook
        trade_id = await r.take()
        await r.paid(trade_id)
        await r.act("maker", trade_id, SayReceived())
        await r.quiet("maker", trade_id)
        assert r["maker"].said(trade_id, K.RECEIVED)
        await r.dispute("maker", trade_id, "he does not complete")
        await r.delivered("maker", trade_id, K.NOTICE)
        contract = r["maker"].facts(trade_id).contract
        signed = list(r["maker"].signed)
        raw = verdict(r, trade_id, verdict_split(contract, 0))  # everything to the seller
        await send(r, r.arbiter(trade_id), "maker", trade_id, K.VERDICT, raw)
        await r.quiet("maker", trade_id)
        assert not r.mempool()
        assert r["maker"].signed == signed
        assert getattr(r["maker"].state(trade_id), "raw", b"") == b""


async def test_one_key_signs_one_split() -> None:
    """R1: the row is written before the signature, and no second verdict is signed or heard."""
    async with rig() as r:
        trade_id = await r.take()
        await r.paid(trade_id)
        arbiter = await hearing(r, trade_id)
        contract = r["maker"].facts(trade_id).contract
        full = release(contract).buyer_sat
        r["maker"].exchange.world.opinions = replace(REAL, address=lambda c: "bcrt1qother")
        r["taker"].exchange.world.opinions = replace(REAL, address=lambda c: "bcrt1qother")
        await r.act(arbiter, trade_id, Decide(full, "paid"))
        r["taker"].exchange.world.opinions = REAL
        await r.until("taker", trade_id, Ruled)
        with pytest.raises(LocalFault, match="ruled already"):
            await r.act(arbiter, trade_id, Decide(full - 1000, "on second thoughts"))
        with pytest.raises(LocalFault, match="another split"):
            r[arbiter].journal.commit_split(trade_id, verdict_split(contract, full - 1000))
        await r.quiet("taker", trade_id)
        before = r["taker"].snapshot()
        raw = verdict(r, trade_id, verdict_split(contract, full - 1000))
        status, text = await send(r, arbiter, "taker", trade_id, K.VERDICT, raw)
        assert (status, text) == (REFUSED, "VERDICT was said before")
        assert r["taker"].snapshot() == before
        assert isinstance(r[arbiter].state(trade_id), RuledCase)


async def test_an_arbiter_rules_below_release_only_after_the_deadline() -> None:
    """R4 on his own node, by the chain's clock and not by his."""
    async with rig() as r:
        trade_id = await r.take()
        await r.paid(trade_id)
        arbiter = await hearing(r, trade_id)
        contract = r["maker"].facts(trade_id).contract
        r.pass_time(365 * 86_400)
        for sat in (0, contract.dep_b, release(contract).buyer_sat - 1):
            with pytest.raises(LocalFault, match=r"not allowed before .* by the chain's clock"):
                await r.act(arbiter, trade_id, Decide(sat, "for the seller"))
        for sat in (-1, contract.escrow_sat - contract.fee_a + 1, 2**63):
            with pytest.raises(Exception, match="buyer_sat"):
                await r.act(arbiter, trade_id, Decide(sat, "for nobody"))
        assert r[arbiter].journal.split(trade_id) is None
        span = (contract.period_s + contract.reply_s + 48 * 3600) // 6
        r.mine(12, step=span)
        await r.act(arbiter, trade_id, Decide(contract.dep_b, "no paper shows it"))
        await r.both(trade_id, Ruled)
        for name in ("maker", "taker"):
            await r.quiet(name, trade_id)  # PAID was said: whether it came, only the seller knows
        assert not r.mempool()
        with pytest.raises(LocalFault, match="is another by now"):
            await r.act("maker", trade_id, AcceptVerdict(contract.dep_b + 1))
        await r.act("maker", trade_id, AcceptVerdict(contract.dep_b))
        await r.closed(trade_id, "ruled")


async def test_a_verdict_after_the_release_is_heard_by_nobody() -> None:
    async with rig() as r:
        trade_id = await r.take()
        await r.paid(trade_id)
        contract = r["maker"].facts(trade_id).contract
        raw = verdict(
            r, trade_id, refund(contract) if contract.fee_a == 0 else verdict_split(contract, 0)
        )
        arbiter = r.arbiter(trade_id)
        for name in ("maker", "taker"):
            before = r[name].snapshot()
            status, text = await send(r, arbiter, name, trade_id, K.VERDICT, raw)
            assert (status, text) == (REFUSED, "VERDICT before any NOTICE")
            assert r[name].snapshot() == before
        await r.act("maker", trade_id, SayReceived())
        await r.until("taker", trade_id, Releasing)
        await r.closed(trade_id, "released")
        for name in ("maker", "taker"):
            before = r[name].snapshot()
            assert (await send(r, arbiter, name, trade_id, K.VERDICT, raw))[0] == REFUSED
            assert r[name].snapshot() == before


# ------------------------------------------------------------------ before the arbiter


def forked(r: Rig, trade_id: bytes, name: str, kind: Kind) -> list[bytes]:
    """The papers with one of the showman's own messages signed anew: another body, same number."""
    node, out, prev = r[name], [], {}
    for raw in r[name].facts(trade_id).papers():
        message = Message.from_wire(raw, NET)
        if message.sender == node.id:
            seen = prev.get("last", ZERO)
            height = message.tip_height + (1 if message.kind is kind else 0)
            raw = resigned(message, node.identity, prev=seen, tip_height=height)
            prev["last"] = Message.from_wire(raw, NET).id
        out.append(raw)
    return out


@pytest.mark.parametrize("liar", ["maker", "taker"])
async def test_a_trader_who_shows_the_arbiter_another_chain_silences_nobody(liar: str) -> None:
    """Else whoever speaks first could have the other's papers, and so his words, refused."""
    honest = "taker" if liar == "maker" else "maker"
    async with rig() as r:
        trade_id = await r.take()
        await r.paid(trade_id)
        true = r.papers(liar, trade_id, "he lies")
        papers = Dispute(
            contract=true.contract,
            messages=tuple(forked(r, trade_id, liar, K.ACCOUNT)),
            records=true.records,
            rulings=(),
            statement=true.statement,
        )
        arbiter = r.arbiter(trade_id)
        assert (await send(r, liar, arbiter, trade_id, K.DISPUTE, papers.wire()))[0] == APPLIED
        await r.until(honest, trade_id, Disputed)
        await r.answer(honest, trade_id, "I have kept my word")
        await r.until(arbiter, trade_id, Hearing)
        case = r[arbiter].exchange.trades.case(r[arbiter].exchange.trades.row(trade_id))
        assert "kept my word" in case.words(r[honest].id)
        assert case.outpoint == r[honest].facts(trade_id).outpoint
        shown = case.paper(r[liar].id, K.ACCOUNT)
        said = r[honest].heard(trade_id, K.ACCOUNT)
        assert shown is not None
        assert said is not None
        assert shown.id == said.id  # what the honest one was sent counts
        assert any(f"{r[liar].id.hex()[:16]} signed two messages" in line for line in r.log)
        (answer,) = await _the(routes_cases.routes(r[arbiter].exchange), "/v1/cases").handler(
            Call()
        )
        side = "buyer" if case.contract.buyer == r[liar].id else "seller"
        assert answer["signed_twice"] == [side]  # the arbiter's user is told


def _the(routes: list[Route], path: str) -> Route:
    return next(route for route in routes if (route.method, route.path) == ("GET", path))


async def test_a_dispute_about_no_escrow_opens_no_case() -> None:
    """Two sybils could else draw an arbiter at no cost, and fill his node with cases."""
    async with rig() as r:

        async def hold(raw: bytes) -> bytes:
            return b""

        for name in ("maker", "taker"):
            r[name].chain.broadcast = hold  # type: ignore[method-assign]
        trade_id = await r.take()
        await r.both(trade_id, Broadcast)
        arbiter = r.arbiter(trade_id)
        papers = r.papers("taker", trade_id, "judge this")
        before = r[arbiter].snapshot()
        status, text = await send(r, "taker", arbiter, trade_id, K.DISPUTE, papers.wire())
        assert (status, "not on our chain" in text) == (LATER, True)
        assert r[arbiter].snapshot() == before


async def test_only_the_arbiter_drawn_opens_a_case() -> None:
    async with rig(arbiters=4, strangers=("stranger",)) as r:
        trade_id = await r.take()
        await r.paid(trade_id)
        papers = r.papers("taker", trade_id, "judge this").wire()
        drawn, second = r.arbiter(trade_id), r.runner_up(trade_id)
        for name in (f"arbiter{n}" for n in range(4)):
            if name != drawn:
                status, text = await send(r, "taker", name, trade_id, K.DISPUTE, papers)
                words = "from the timelock's end" if name == second else "arbiter: is not this node"
                assert (status, words in text) == (LATER if name == second else REFUSED, True)
                assert r[name].state(trade_id) is None
        tip = r["stranger"].chain.tip()
        message = Message(
            network=NET, kind=K.DISPUTE, trade_id=trade_id, sender=r["stranger"].id,
            recipient=r[drawn].id, seq=0, prev=ZERO, seen=ZERO, tip_height=tip.height,
            tip_hash=tip.hash, draw_no=0, payload=papers,
        ).signed(r["stranger"].identity)  # fmt: skip
        status, text = await r.inject("stranger", drawn, message.wire())
        assert (status, "sender: is no party" in text) == (REFUSED, True)


async def test_a_case_hears_so_many_statements_and_no_more() -> None:
    async with rig() as r:
        trade_id = await r.take()
        await r.paid(trade_id)
        arbiter = await hearing(r, trade_id)
        flood = Statement(statement="once more", messages=(), rulings=()).wire()
        replies = []
        for _ in range(40):
            replies.append(await send_raw(r, "taker", arbiter, trade_id, flood))
            if replies[-1][0] != APPLIED:
                break
        assert replies[-1][0] == REFUSED
        assert "hears" in replies[-1][1]
        heard = [m for m in r[arbiter].journal.messages(trade_id) if m.sender == r["taker"].id]
        assert len(heard) <= 30


async def send_raw(
    r: Rig, sender: str, to: str, trade_id: bytes, payload: bytes
) -> tuple[int, str]:
    """The sender's next STATEMENT as the recipient's journal counts it."""
    known = [m for m in r[to].journal.messages(trade_id) if m.sender == r[sender].id]
    node = r[sender]
    message = node.next_message(
        trade_id, r[to].id, K.STATEMENT, payload, seq=len(known), prev=known[-1].id
    )
    return await r.inject(sender, to, message.wire())


# ------------------------------------------------------------------ growth


async def test_what_no_peer_could_read_is_never_journalled() -> None:
    """A payload over the limit would make every later read of the trade fail."""
    async with rig() as r:
        trade_id = await r.take()
        await r.paid(trade_id)
        filler = r["taker"].facts(trade_id).papers()[0]
        huge = Statement(statement="all of it", messages=(filler + bytes(400_000),) * 3, rulings=())
        assert len(huge.wire()) > MAX_PAYLOAD
        await r.dispute("taker", trade_id)
        await r.delivered("taker", trade_id, K.NOTICE)
        with pytest.raises(LocalFault, match="STATEMENT is longer than"):
            await r.act("taker", trade_id, MakeStatement(huge, r[r.arbiter(trade_id)].id))
        assert isinstance(r["taker"].state(trade_id), Disputed)
        r["taker"].facts(trade_id)  # still readable


async def test_refused_takes_hold_nothing_and_the_next_good_one_is_answered() -> None:
    async with rig() as r:
        offer = r.offer()
        greedy = replace(offer, max_sat=2_000_000_000)  # the thief's own idea of the offer
        r.box.fund(r["taker"].wallet.script_for_payout(), 1_000_000_000)
        r.mine()
        for _ in range(3):
            trade_id = await r.take(greedy, 400_000_000)
            state = await r.until("taker", trade_id, Aborted)
            assert isinstance(state, Aborted)
            assert "amount_sat" in state.reason
        r.untouched("maker", "taker")
        assert "payout" not in r["maker"].signed
        good = await r.take(offer, AMOUNT)
        await r.both(good, Broadcast)
        assert not isinstance(r["maker"].state(good), Funded)
