"""Each second opinion forced to differ: the step stops, nothing is sent, the trade says why.

And when the opinion agrees again, the same trade goes on by itself: a differing opinion is our own
trouble and is never held against the peer.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from trade_kit import Rig, rig
from trade_node import Node

from escrow.backend_signatures import REAL, Opinions
from escrow.messages import Kind
from escrow.model import (
    AcceptVerdict,
    Broadcast,
    Decide,
    Disputed,
    Funded,
    Funding,
    Hearing,
    Paid,
    Releasing,
    Ruled,
    RuledCase,
    SayPaid,
    SayReceived,
    State,
)
from escrow.payout import release
from p2pnode.base.errors import InvalidRecord

K = Kind


class Differing:
    """Opinions of which one differs; counts how often it was asked."""

    def __init__(self, name: str) -> None:
        self.fired = 0
        self.opinions: Opinions = replace(REAL, **{name: getattr(self, name)})

    def address(self, contract: Any) -> str:
        self.fired += 1
        return "bcrt1q" + "q" * 58

    def sighash(self, *args: Any) -> bytes:
        self.fired += 1
        return bytes(b ^ 1 for b in REAL.sighash(*args))

    def consensus(self, tx: Any, prevouts: Sequence[Any], indexes: Iterable[int]) -> None:
        self.fired += 1
        raise InvalidRecord("inputs[0]", "fails Bitcoin's script rules")


@dataclass(frozen=True)
class Step:
    """Who is at which step, what he would say next, and where he stays instead."""

    name: str
    who: str  # buyer, seller or arbiter
    opinions: tuple[str, ...]
    says: Kind | None
    stays: type[State]
    reach: Callable[..., Any]


async def _funding(r: Rig, differ: Callable[[], None]) -> bytes:
    differ()
    return await r.take()


async def _release(r: Rig, differ: Callable[[], None]) -> bytes:
    trade_id = await r.take()
    await r.paid(trade_id)
    differ()
    await r.act("maker", trade_id, SayReceived())
    return trade_id


async def _ruling(r: Rig, differ: Callable[[], None], trade_id: bytes) -> None:
    await r.dispute("taker", trade_id)
    await r.both(trade_id, Disputed)
    await r.answer("maker", trade_id, "I have nothing")
    arbiter = r.arbiter(trade_id)
    await r.until(arbiter, trade_id, Hearing)
    differ()
    full = release(r["maker"].facts(trade_id).contract).buyer_sat
    await r.act(arbiter, trade_id, Decide(full, "paid, says the bank"))


async def _verdict(r: Rig, differ: Callable[[], None]) -> bytes:
    trade_id = await r.take()
    await r.paid(trade_id)
    await _ruling(r, differ, trade_id)
    return trade_id


async def _accepted(r: Rig, differ: Callable[[], None]) -> bytes:
    """Where the buyer has said PAID, the seller's node takes no verdict without its user's word."""
    trade_id = await _verdict(r, differ)
    await r.until("maker", trade_id, Ruled)
    await r.act("maker", trade_id, AcceptVerdict())
    return trade_id


STEPS = [
    Step("B signs the funding", "buyer", ("address", "sighash", "consensus"), K.WITNESS, Funding, _funding),
    Step("S signs the funding", "seller", ("address", "sighash", "consensus"), K.WITNESS, Funding, _funding),
    Step("S signs the release", "seller", ("address", "sighash"), K.RECEIVED, Releasing, _release),
    Step("B completes the release", "buyer", ("address", "sighash", "consensus"), None, Paid, _release),
    Step("A signs the verdict", "arbiter", ("address", "sighash"), K.VERDICT, RuledCase, _verdict),
    Step("B completes the verdict", "buyer", ("address", "sighash", "consensus"), None, Ruled, _verdict),
    Step("S completes the verdict", "seller", ("address", "sighash", "consensus"), None, Ruled, _accepted),
]  # fmt: skip
CASES = [pytest.param(s, o, id=f"{s.name}, {o}") for s in STEPS for o in s.opinions]
NODES = {"buyer": "taker", "seller": "maker"}


@pytest.mark.parametrize(("step", "opinion"), CASES)
async def test_a_differing_opinion_stops_the_step_until_it_agrees(step: Step, opinion: str) -> None:
    differing = Differing(opinion)
    async with rig(sats=(3_000_000, 50_000)) as r:
        names = [NODES[step.who]] if step.who in NODES else [f"arbiter{n}" for n in range(3)]

        def set_all(opinions: Opinions) -> None:
            for name in names:
                r[name].exchange.world.opinions = opinions

        trade_id = await step.reach(r, lambda: set_all(differing.opinions))
        name = names[0] if step.who in NODES else r.arbiter(trade_id)
        await r.noted(name, trade_id, f"{opinion}: ")
        await r.quiet_of_others(name, trade_id)
        assert differing.fired
        assert isinstance(r[name].state(trade_id), step.stays)
        if step.says is not None:
            assert r[name].said(trade_id, step.says) is None
        assert not _by(r, name, trade_id)

        set_all(REAL)
        r.pass_time(0)
        await finish(r, step, trade_id)


def _by(r: Rig, name: str, trade_id: bytes) -> list[bytes]:
    """What this node has completed: the raw transactions that its state holds."""
    raw = getattr(r[name].state(trade_id), "raw", b"")
    return [raw] if raw else []


async def finish(r: Rig, step: Step, trade_id: bytes) -> None:
    if step.reach is _funding:
        await r.both(trade_id, Broadcast)
        await r.funded(trade_id)
        await r.act("taker", trade_id, SayPaid("sent"))
        await r.until("maker", trade_id, Paid)
        await r.act("maker", trade_id, SayReceived())
        await r.closed(trade_id, "released")
    elif step.reach is _release:
        await r.until("taker", trade_id, Releasing)
        await r.closed(trade_id, "released")
    else:
        await r.both(trade_id, Ruled)
        await r.closed(trade_id, "ruled")


async def test_a_buyers_respend_waits_for_the_second_opinions_too() -> None:
    for opinion in ("sighash", "consensus"):
        differing = Differing(opinion)
        async with rig() as r:
            taker = r["taker"]

            async def lost(frame: Any) -> Sequence[bytes]:
                return [] if frame.kind is K.WITNESS else [frame.raw]

            r.post.hook = lost
            trade_id = await r.take()

            async def signed(taker: Node = taker, trade_id: bytes = trade_id) -> None:
                state = taker.state(trade_id)
                assert isinstance(state, Funding)
                assert state.signed_at

            await r.eventually(signed)
            await r.quiet("taker", trade_id)
            taker.exchange.world.opinions = differing.opinions
            r.pass_time(600)
            await r.noted("taker", trade_id, f"{opinion}: ")
            assert differing.fired
            assert not r.mempool()
            assert taker.locked()
            taker.exchange.world.opinions = REAL
            r.pass_time(0)

            async def respent() -> None:
                assert r.mempool()

            await r.eventually(respent)
            assert not isinstance(taker.state(trade_id), Funded)
