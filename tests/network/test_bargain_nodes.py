"""Whole nodes negotiate and trade at the sum that was agreed: real courier, wallets and chain."""

from collections.abc import Sequence
from typing import Any

import pytest
import trio
from trade_fakes import disclose
from trade_kit import AMOUNT, Frame, Rig, rig

from escrow.bargain import (
    Countered,
    Declined,
    Policy,
    Proposed,
    SayAgree,
    SayCounter,
    SayPropose,
    Taken,
)
from escrow.contract import KIND_2OF3, KIND_BACKUP
from escrow.messages import Kind
from escrow.model import Aborted, Funded, Releasing, SayReceived
from escrow.shell_quote import Quotes
from escrow.terms import Terms
from p2pnode.base.clock import SystemRandomness
from p2pnode.base.units import fiat_for

K = Kind


def propose(r: Rig, offer: Terms, fiat: int, *, kind: str = "", taker: str = "taker") -> bytes:
    return r[taker].exchange.bargains.propose(
        offer,
        offer.offer_hash,
        AMOUNT,
        fiat,
        account_id=bytes(32),
        escrow_kind=offer.kind(kind),
    )


def state(r: Rig, name: str, made: bytes) -> Any:
    return r[name].exchange.bargains.row(made).state


async def until(r: Rig, name: str, made: bytes, kind: type) -> Any:
    async def there() -> Any:
        r.poke()
        found = state(r, name, made)
        assert isinstance(found, kind), found
        return found

    return await r.eventually(there)


async def take(r: Rig, offer: Terms, made: bytes, *, taker: str = "taker") -> bytes:
    row = r[taker].exchange.bargains.row(made)
    assert isinstance(row.state, Countered)
    account = disclose(taker, SystemRandomness().bytes(32))
    return await r[taker].exchange.opening.take(
        offer,
        row.amount_sat,
        account,
        escrow_kind=row.escrow_kind,
        counter=row.state.counter_id,
        fiat_minor=row.state.fiat_minor,
    )


async def test_a_trade_at_a_price_found_in_three_rounds_with_restarts_between() -> None:
    async with rig() as r:
        offer = r.offer()
        fair = fiat_for(AMOUNT, offer.price)
        made = propose(r, offer, fair - 900)
        for n in range(3):
            await until(r, "maker", made, Proposed)
            await r.restart("maker")
            r["maker"].exchange.bargains.act(made, SayCounter(fair - n))
            await until(r, "taker", made, Countered)
            await r.restart("taker")
            if n < 2:
                r["taker"].exchange.bargains.act(made, SayPropose(fair - 800 + n))
        await r.synced()
        trade_id = await take(r, offer, made)
        await r.funded(trade_id)
        for name in ("maker", "taker"):
            assert r[name].facts(trade_id).contract.fiat_minor == fair - 2
            assert state(r, name, made) == Taken(fair - 2, trade_id)
        assert r["maker"].desk.reserved == {offer.offer_hash: trade_id}


async def test_by_policy_with_every_frame_twice() -> None:
    async def twice(frame: Frame) -> Sequence[bytes]:
        return [frame.raw, frame.raw]

    async with rig(hook=twice) as r:
        offer = r.offer()
        fair = fiat_for(AMOUNT, offer.price)
        r["maker"].desk.policies[offer.offer_hash] = Policy(accept_bp=100)
        made = propose(r, offer, fair * 99 // 100 + 1, kind=KIND_2OF3)
        await until(r, "taker", made, Countered)
        trade_id = await take(r, offer, made)
        await r.funded(trade_id)
        contract = r["maker"].facts(trade_id).contract
        assert (contract.fiat_minor, contract.escrow_kind) == (fair * 99 // 100 + 1, KIND_2OF3)


async def test_a_lost_answer_comes_again() -> None:
    lost: list[Kind] = []

    async def first_is_lost(frame: Frame) -> Sequence[bytes]:
        if frame.kind in {K.PROPOSE, K.COUNTER} and frame.kind not in lost:
            lost.append(frame.kind)
            return []
        return [frame.raw]

    async with rig(hook=first_is_lost) as r:
        offer = r.offer()
        made = propose(r, offer, fiat_for(AMOUNT, offer.price))
        await until(r, "taker", made, Countered)
        assert lost == [K.PROPOSE, K.COUNTER]


async def test_a_counter_is_used_once_and_by_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(strangers=("stranger",), sats=(3_000_000, 3_000_000)) as r:
        offer = r.offer()
        fair = fiat_for(AMOUNT, offer.price)
        made = propose(r, offer, fair - 300)
        await until(r, "maker", made, Proposed)
        r["maker"].exchange.bargains.act(made, SayAgree())
        countered = await until(r, "taker", made, Countered)

        async def takes(name: str, amount: int, fiat: int) -> str:
            """Take with that COUNTER, whatever the node's own machine would say."""
            monkeypatch.setattr(r[name].exchange.bargains, "used", lambda *_: None)
            account = disclose(name, SystemRandomness().bytes(32))
            trade_id = await r[name].exchange.opening.take(
                offer, amount, account, counter=countered.counter_id, fiat_minor=fiat
            )
            monkeypatch.undo()
            await r.until(name, trade_id, Aborted, Funded)
            found = r[name].state(trade_id)
            assert isinstance(found, Aborted), found
            return found.reason

        assert "counter: is none of ours to this taker" in await takes(
            "stranger", AMOUNT, fair - 300
        )
        assert "amount_sat: is not the COUNTER's" in await takes("taker", AMOUNT + 1, fair - 300)
        assert "fiat_minor: is not the COUNTER's" in await takes("taker", AMOUNT, fair - 301)
        r["maker"].desk.reserved[offer.offer_hash] = bytes(32)
        assert "offer_hash: is no current offer" in await takes("taker", AMOUNT, fair - 300)
        r["maker"].desk.reserved.clear()
        assert state(r, "maker", made) == countered
        trade_id = await take(r, offer, made)
        await r.funded(trade_id)
        r["maker"].desk.reserved.clear()  # the offer may be taken again, the sum may not
        assert "counter: this negotiation is over" in await takes("taker", AMOUNT, fair - 300)


async def test_a_counter_that_expired_on_the_way_is_no_price() -> None:
    held = trio.Event()

    async def take_is_held(frame: Frame) -> Sequence[bytes]:
        if frame.kind is K.TAKE:
            await held.wait()
        return [frame.raw]

    async with rig(hook=take_is_held) as r:
        offer = r.offer()
        made = propose(r, offer, fiat_for(AMOUNT, offer.price))
        await until(r, "taker", made, Countered)
        r.clock.time += 599
        trade_id = await take(r, offer, made)
        r.clock.time += 1  # short of the 60 s in which a TAKE must be answered
        held.set()
        await r.until("taker", trade_id, Aborted)
        found = r["taker"].state(trade_id)
        assert isinstance(found, Aborted)
        assert "counter: this negotiation" in found.reason
        assert r["maker"].journal.row(trade_id) is None
        r.untouched("maker", "taker")


async def test_a_refusal_by_policy_reaches_the_taker_and_holds_nothing() -> None:
    async with rig() as r:
        offer = r.offer()
        r["maker"].desk.policies[offer.offer_hash] = Policy(otherwise="refuse")
        made = propose(r, offer, fiat_for(AMOUNT, offer.price) - 1)
        found = await until(r, "taker", made, Declined)
        assert found == Declined(0, "fiat_minor: is too far from the offer's price")
        assert r["maker"].exchange.bargains.rows() == []
        assert r["maker"].database.all("SELECT * FROM message") == []
        assert r["taker"].journal.recipients() == []


@pytest.mark.parametrize("maker_sells", [True, False], ids=["taker buys", "maker buys"])
async def test_a_buyer_without_a_deposit_trades_as_he_was_told(maker_sells: bool) -> None:
    async with rig() as r:
        offer = r.offer(maker_sells=maker_sells, dep_b_bp=0)
        buyer = "taker" if maker_sells else "maker"
        quotes = Quotes(r[buyer].exchange.trades, r[buyer].exchange.opening)
        told = await quotes.of(offer, AMOUNT, as_maker=buyer == "maker")
        assert (told.locked_sat, told.funding_fee_sat) == (0, 0)
        before = r[buyer].balance()
        trade_id = await r.take(offer)
        await r.paid(trade_id)
        contract = r["maker"].facts(trade_id).contract
        assert (contract.dep_b, contract.escrow_kind) == (0, KIND_BACKUP)
        assert not r[buyer].locked()
        seller = "maker" if maker_sells else "taker"
        await r.act(seller, trade_id, SayReceived())
        await r.until(buyer, trade_id, Releasing)
        await r.closed(trade_id, "released")

        async def paid_out() -> None:
            await r[buyer].wallet.sync()
            assert r[buyer].balance() == before + told.returned_sat

        await r.eventually(paid_out)


async def test_a_quote_says_what_a_seller_pays() -> None:
    async with rig(sats=(3_000_000,)) as r:
        offer = r.offer(maker_sells=False)
        quotes = Quotes(r["taker"].exchange.trades, r["taker"].exchange.opening)
        told = await quotes.of(offer, AMOUNT)
        assert told.is_seller
        assert (told.arbiter_low_sat, told.arbiter_high_sat) == (1500, 1500)
        trade_id = await r.take(offer)
        await r.funded(trade_id)
        facts = r["taker"].facts(trade_id)
        assert facts.funding is not None
        assert facts.funding.fee_s == told.funding_fee_sat
        assert told.locked_sat == AMOUNT + facts.contract.dep_s
        with trio.fail_after(20):
            await r["taker"].wallet.sync()
        lost = 3_000_000 - told.locked_sat - told.funding_fee_sat
        assert facts.funding.change_s == lost
