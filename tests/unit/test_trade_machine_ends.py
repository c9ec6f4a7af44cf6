"""Histories that once hung, or could: each ends as it should (real machines, a model chain)."""

from itertools import product
from typing import Any

import pytest
from trade_facts import Play, identity, record
from trade_model import Node, on_chain
from trade_world import World, stage

from escrow import model, settlement
from escrow.messages import Kind
from escrow.payout import release
from p2pnode.base.transaction import Outpoint, Transaction, TxIn, TxOut

ALL = {record(n).id: record(n) for n in range(5)}


def names(world: World) -> list[str]:
    return [type(t.state).__name__ for t in world.traders]


def until(world: World, state: type[model.State], who: Node) -> World:
    for _ in range(100):
        if isinstance(who.state, state):
            return world
        world.nudge()
    raise AssertionError(f"never came to {state.__name__}, but to {names(world)}")


@pytest.mark.parametrize(("maker_is_seller", "maker", "taker"), list(product((0, 1), repeat=3)))
def test_a_trade_goes_well_whatever_records_each_knows(
    maker_is_seller: int, maker: int, taker: int
) -> None:
    """Once T waited for a GET that M, who knew the record already, never sent."""
    world = World(maker_is_seller)
    if maker:
        world.maker.records = dict(ALL)
    if taker:
        world.taker.records = dict(ALL)
    world.finish()
    assert [getattr(t.state, "outcome", "") for t in world.traders] == ["released"] * 2
    assert not world.refusals


def test_the_sellers_witness_may_come_after_the_chain_has_shown_it() -> None:
    """Once it was refused, and with it the payment details that followed."""
    world = World(1)
    until(world, model.Broadcast, world.seller)
    for duty in world.seller.duties():
        world.seller.perform(duty)
    world.ledger.mine(3)
    world.buyer.look()
    assert isinstance(world.buyer.state, model.Funded)
    assert Kind.WITNESS not in {m.kind for m in world.buyer.messages if m.sender == world.seller.me}
    world.finish()
    assert names(world) == ["Closed", "Closed"]
    assert not world.refusals


def test_paid_and_received_may_cross() -> None:
    world = World(1)
    until(world, model.Funded, world.buyer)
    world.settle()
    world.buyer.do(model.SayPaid("sent"))
    world.seller.do(model.SayReceived())
    world.finish()
    assert names(world) == ["Closed", "Closed"]
    assert not world.refusals


def test_a_buyer_whose_peer_vanished_gets_his_coins_back() -> None:
    world = World(1)
    until(world, model.Funding, world.buyer)
    while not getattr(world.buyer.state, "signed_at", 0):
        world.nudge()
    world.now += 600
    (duty,) = world.buyer.duties()
    assert duty == model.Respend()
    world.buyer.perform(duty)
    (publish,) = world.buyer.duties()
    world.buyer.perform(publish)
    world.ledger.mine(6)
    world.buyer.look()
    assert isinstance(world.buyer.state, model.Void)
    world.finish()
    assert set(names(world)) <= {"Void", "Aborted"}


@pytest.mark.parametrize("state", ["Funded", "Paid", "Disputed", "Releasing", "Hearing"])
def test_a_funding_that_is_double_spent_is_void_in_any_state(state: str) -> None:
    """Once only Funding and Broadcast ended so; a payment waited for would hang for ever."""
    world = stage(state, 1).clone()
    point = world.buyer.facts().outpoint
    world.ledger.reorg(5, lose=True)
    while point.txid in world.ledger.mined:
        world.ledger.reorg(5, lose=True)
    other = _elsewhere(world)
    world.ledger.broadcast(other)
    world.ledger.mine(6)
    for node in world.nodes:
        node.look()
    assert names(world) == ["Void", "Void"]
    assert world.arbiter.state is None or isinstance(world.arbiter.state, model.ClosedCase)


def _elsewhere(world: World) -> bytes:
    declared = world.play.inputs(world.seller.key).inputs[0]
    point = Outpoint.from_wire("coin", declared.outpoint)
    output = TxOut(100_000, b"\x00\x14" + bytes(20))
    return Transaction(2, (TxIn(point),), (output,), 0).serialize()


def _silent(world: World, who: Node) -> None:
    """Let everyone but `who` do what there is to do."""
    others = [n for n in world.nodes if n is not who]
    for _ in range(40):
        for sender, message in world.waiting():
            if message in sender.outbox and message.recipient != who.me and sender is not who:
                world.carry(sender, message)
        for node in others:
            node.look()
            for duty in node.duties():
                node.perform(duty)


def test_a_seller_who_has_released_to_a_vanished_buyer_gets_his_deposit() -> None:
    """Once Releasing knew no dispute, and the arbiter forwarded only what came later."""
    world = World(1)
    until(world, model.Funded, world.buyer)
    world.settle()
    world.buyer.do(model.SayPaid("sent"))
    world.settle()
    seller, arbiter = world.seller, world.arbiter
    seller.do(model.SayReceived())
    _silent(world, world.buyer)
    assert Kind.RECEIVED in {m.kind for m in seller.messages}
    assert not world.call(seller)
    _silent(world, world.buyer)
    assert isinstance(arbiter.state, model.Noticed)
    assert Kind.FORWARD in {m.kind for m in arbiter.messages}
    world.ledger.mine(96 * 6)
    _silent(world, world.buyer)
    contract = arbiter.case().contract
    due = release(contract).buyer_sat - contract.fee_a
    assert "rule" in world.ask(arbiter, lambda: model.Decide(contract.dep_b, "a bribe"))
    assert world.ask(arbiter, lambda: model.Decide(due, "the release is signed")) == ""
    _silent(world, world.buyer)
    assert isinstance(seller.state, model.Ruled)
    assert seller.state.raw
    world.ledger.mine(6)
    seller.look()
    assert isinstance(seller.state, model.Closed)
    assert seller.state.outcome == "ruled"


def test_an_outcome_is_named_by_the_transaction_alone() -> None:
    world = stage("Releasing", 1).clone()
    world.finish()
    state: Any = world.buyer.state
    assert state.outcome == "released"
    view = world.ledger.view(world.buyer.facts().funding)
    assert view.spend is not None
    ruled = model.Ruled(buyer_sat=1_000_000, seller_sat=1_697_000, arbiter_sat=3_000)
    after, _ = on_chain(ruled, view, world.buyer.facts())
    assert getattr(after, "outcome", "") == "released"  # not "ruled": it is RELEASE that was paid


def test_the_first_verdict_of_an_arbiter_counts_whichever_way_a_second_comes() -> None:
    play = Play().acknowledge().call_arbiter(identity("maker"))
    first = play.verdict(1_000_000)
    play.say(play.arbiter, first, play.buyer.node_id)
    ruled = model.Ruled(
        buyer_sat=first.buyer_sat, seller_sat=first.seller_sat, arbiter_sat=first.arbiter_sat
    )
    second = play.verdict(0)
    message = play.next(play.arbiter, second, play.buyer.node_id)
    facts = play.facts(play.buyer).having(message)
    assert settlement.step(ruled, model.Received(message, second), facts) == (ruled, ())
    assert facts.ruling(of_runner_up=None)[1] == first
