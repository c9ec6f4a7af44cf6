"""Three honest nodes in a hostile order: any message late, twice or not at all, any crash, any reorg.

The nodes are the real machines (tests/trade_model.py), so each commit is checked there: R1 (one
first signature a key), R2 (nobody completes more than his own facts), R4 (PAID only when it may be
said; no ruling below RELEASE before its time). Here the order is made, and what must hold over
whole histories: no state goes back, one payout, and an end once everyone is kind.
"""

from itertools import pairwise

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from trade_model import FINAL, STAGES, Node, Trader, World, stage

from escrow import model
from escrow.messages import Kind
from escrow.payout import build_payout, payout_rates, release
from escrow.shell_trades import ENDED
from p2pnode.base.transaction import Outpoint, Transaction, TxIn, TxOut

ORDER = (
    *("Taking", "Drawing", "Contracting", "Funding", "Broadcast", "Funded", "Paid", "Disputed"),
    *("Releasing", "Ruled", "Closed", "Aborted", "Void"),
    *("Noticed", "Hearing", "RuledCase", "ClosedCase"),
)
BACK = {("Funded", "Broadcast"), ("Ruled", "Releasing")}


class Adversary(RuleBasedStateMachine):
    """Order, repetition, loss, crashes, reorgs and users who say anything at any time."""

    world: World

    @initialize(name=st.sampled_from(STAGES), maker_is_seller=st.integers(0, 1))
    def begin(self, name: str, maker_is_seller: int) -> None:
        self.world = stage(name, maker_is_seller).clone()

    def _node(self, number: int) -> Node:
        return self.world.nodes[number % 3]

    # -- the network

    @rule(pick=st.integers(0, 100), lose_ack=st.booleans(), crash=st.booleans())
    def deliver(self, pick: int, lose_ack: bool, crash: bool) -> None:
        waiting = self.world.waiting()
        if waiting:
            sender, message = waiting[pick % len(waiting)]
            self.world.node(message.recipient).crash = crash
            self.world.carry(sender, message, lose_ack=lose_ack)
            self.world.node(message.recipient).crash = False

    @rule(pick=st.integers(0, 100))
    def repeat(self, pick: int) -> None:
        """Send again what was applied long ago."""
        said = [(n, m) for n in self.world.nodes for m in n.messages if m.sender == n.me]
        sender, message = said[pick % len(said)]
        self.world.carry(sender, message)

    @rule()
    def calm(self) -> None:
        self.world.calm()

    # -- the nodes

    @rule(number=st.integers(0, 2), pick=st.integers(0, 3), crash=st.booleans())
    def duty(self, number: int, pick: int, crash: bool) -> None:
        node = self._node(number)
        found = node.duties()
        if found:
            node.crash = crash  # signed, or broadcast, and then not journalled
            node.perform(found[pick % len(found)])
            node.crash = False

    @rule(number=st.integers(0, 2), crash=st.booleans())
    def look(self, number: int, crash: bool) -> None:
        node = self._node(number)
        node.crash = crash
        node.look()
        node.crash = False

    @rule(number=st.integers(0, 1), wait=st.sampled_from([0, 59, 60, 601]))
    def tick(self, number: int, wait: int) -> None:
        self.world.now += wait
        self._node(number).do(model.Tick())

    # -- the chain

    @rule(count=st.sampled_from([1, 1, 2, 3, 6, 150, 300]), backwards=st.booleans())
    def mine(self, count: int, backwards: bool) -> None:
        self.world.ledger.mine(count, backwards=backwards)

    @rule(depth=st.integers(1, FINAL - 1), lose=st.booleans())
    def reorg(self, depth: int, lose: bool) -> None:
        self.world.ledger.reorg(depth, lose=lose)

    @rule(depth=st.integers(1, FINAL - 1))
    def blink(self, depth: int) -> None:
        """Both look at a block that is gone a moment later, with all that was in it."""
        self.world.ledger.mine(depth)
        for trader in self.world.traders:
            trader.look()
        self.world.ledger.reorg(depth, lose=True)

    @rule(number=st.integers(0, 1))
    def spend_elsewhere(self, number: int) -> None:
        """A trader's words are in another wallet too, and that one spends his coin."""
        declared = self.world.play.inputs(self.world.traders[number].key).inputs[0]
        point = Outpoint.from_wire("coin", declared.outpoint)
        tx = Transaction(2, (TxIn(point),), (TxOut(100_000, b"\x00\x14" + bytes(20)),), number)
        self.world.ledger.broadcast(tx.serialize())

    # -- the users

    @rule(number=st.integers(0, 1), what=st.sampled_from(["paid", "paid", "not paid", "received"]))
    def say(self, number: int, what: str) -> None:
        event = {"paid": model.SayPaid(""), "not paid": model.SayNotPaid("")}.get(what)
        self.world.ask(self._node(number), lambda: event or model.SayReceived())

    @rule(blocks=st.sampled_from([293, 294, 295, 300]))
    def pay_late(self, blocks: int) -> None:
        """About the end of the period: 48 h and 1 h are 294 blocks."""
        self.world.ledger.mine(blocks)
        self.world.buyer.look()
        self.world.ask(self.world.buyer, lambda: model.SayPaid(""))

    @rule(number=st.integers(0, 1))
    def dispute(self, number: int) -> None:
        trader = self.world.traders[number]
        if not isinstance(trader.state, ENDED) and trader.facts().funding:
            self.world.ask(trader, lambda: model.OpenDispute(self.world.dispute(trader)))

    @rule(number=st.integers(0, 1))
    def statement(self, number: int) -> None:
        trader = self.world.traders[number]
        if isinstance(trader.state, (model.Disputed, model.Releasing)):
            self.world.ask(trader, lambda: model.MakeStatement(self.world.statement(trader)))

    @rule(number=st.integers(0, 1))
    def accept(self, number: int) -> None:
        self.world.ask(self._node(number), lambda: model.AcceptVerdict())

    @rule(number=st.integers(0, 1))
    def cancel(self, number: int) -> None:
        self.world.ask(self._node(number), lambda: model.Cancel("no more"))

    @precondition(lambda self: isinstance(self.world.arbiter.state, model.Hearing))
    @rule(tenth=st.integers(0, 10), exact=st.sampled_from(["", "release", "due", "refund"]))
    def decide(self, tenth: int, exact: str) -> None:
        contract = self.world.arbiter.case().contract
        full = release(contract).buyer_sat
        sat = {"release": full, "due": full - contract.fee_a, "refund": contract.dep_b}.get(
            exact, (contract.escrow_sat - contract.fee_a) * tenth // 10
        )
        self.world.ask(self.world.arbiter, lambda: model.Decide(sat, "so"))

    # -- what must hold

    @invariant()
    def each_key_first_signs_at_most_one_split(self) -> None:
        for node in self.world.nodes:
            assert len(node.first_signed) <= 1
        assert not self.world.buyer.first_signed

    @invariant()
    def no_state_goes_back(self) -> None:
        for node in self.world.nodes:
            names = [type(s).__name__ for s in node.history]
            for before, after in pairwise(names):
                assert (before, after) in BACK or ORDER.index(before) <= ORDER.index(after)
            assert not any(name in {"Closed", "Aborted", "Void"} for name in names[:-1])

    @invariant()
    def nobody_refuses_an_honest_peer_but_an_ended_trade(self) -> None:
        for refusal in self.world.refusals:
            assert refusal.partition(":")[0] in {"Aborted", "Void"}, refusal

    @invariant()
    def nobody_aborts_whose_funding_signature_has_left(self) -> None:
        for trader in self.world.traders:
            if isinstance(trader.state, model.Aborted):
                assert Kind.WITNESS not in {
                    m.kind for m in trader.messages if m.sender == trader.me
                }

    @invariant()
    def no_sender_repeats_himself(self) -> None:
        for node in self.world.traders:
            said = [m.kind for m in node.messages if m.sender == node.me]
            for kind in set(said) - {Kind.GET, Kind.PAGE, Kind.STATEMENT}:
                assert said.count(kind) == 1, kind

    @invariant()
    def the_chain_pays_one_allowed_split(self) -> None:
        seller, arbiter = self.world.seller, self.world.arbiter
        facts = seller.facts()
        if not facts.funding:
            return
        point = facts.outpoint
        spends = [
            t for t in self.world.ledger.known.values() if point in {i.outpoint for i in t.inputs}
        ]
        if not spends:
            return
        allowed = {s for n in (seller, arbiter) for s in n.first_signed}
        made = {
            build_payout(facts.contract, point, split, rate).tx.txid
            for split in allowed
            for rate in payout_rates(facts.contract)
        }
        assert {t.txid for t in spends} <= made

    def teardown(self) -> None:
        """Once everyone is kind the trade ends, and for both alike."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.finish()
        for check in (
            self.each_key_first_signs_at_most_one_split,
            self.no_state_goes_back,
            self.nobody_refuses_an_honest_peer_but_an_ended_trade,
            self.the_chain_pays_one_allowed_split,
        ):
            check()
        ends = {type(t.state).__name__ for t in world.traders}
        assert ends in ({"Closed"}, {"Aborted"}, {"Void"}, {"Aborted", "Void"}), ends
        if ends == {"Closed"}:
            closed = [t.state for t in world.traders]
            assert closed[0] == closed[1] or _named_apart(world.traders)


def _named_apart(traders: tuple[Trader, ...]) -> bool:
    """One who never heard of the verdict that was paid calls it "other"; the txid is the same."""
    states = [t.state for t in traders]
    assert all(isinstance(s, model.Closed) for s in states)
    txids = {s.txid for s in states if isinstance(s, model.Closed)}
    names = {s.outcome for s in states if isinstance(s, model.Closed)}
    return len(txids) == 1 and names == {"ruled", "other"}


TestAdversary = Adversary.TestCase
TestAdversary.settings = settings(max_examples=300, stateful_step_count=40)
