"""Four nodes in a hostile order: any message late, twice or not at all, any crash, any reorg.

The nodes are the real machines (tests/trade_model.py), so each commit is checked there: R1 (one
first signature a key), R2 (nobody completes more than his own facts), R3 (no OK and no PAID while
an ASK binds), R4 to R6 (when PAID, a ruling, the runner-up may come). Here the order is made, one
of the four may be a liar, journals are lost; and what must hold over whole histories: no state
goes back, one payout, no honest trader loses, and an end once everyone is kind.
"""

import os
from collections import Counter
from itertools import pairwise
from typing import ClassVar

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from trade_ledger import FINAL
from trade_model import ENDED, Arbiter, Node, Trader
from trade_world import STAGES, World, stage

from escrow import model
from escrow.messages import Kind
from escrow.payout import build_payout, payout_rates, release
from p2pnode.base.transaction import Outpoint, Transaction, TxIn, TxOut

K = Kind
ORDER = (
    *("Taking", "Drawing", "Contracting", "Funding", "Broadcast", "Funded", "Paid", "Disputed"),
    *("ArbiterLost", "Agreed", "Releasing", "Ruled", "Toxic", "Closed", "Aborted", "Void"),
    *("Noticed", "Hearing", "RuledCase", "RecusedCase", "ToxicCase", "ClosedCase"),
)
BACK = {
    ("Funded", "Broadcast"),
    *(("Ruled", "Releasing"), ("Ruled", "Agreed"), ("Releasing", "Agreed")),
}
AGAIN = {  # kinds that may come more than once to one recipient
    *(K.GET, K.PAGE, K.STATEMENT, K.ASK, K.WITHDRAW, K.OK, K.REFUSE, K.COVER, K.CHAT),
}
LIES = (
    *("paid", "not paid", "received", "concede", "settle", "settle", "ask", "fork", "withdraw"),
    *("ok", "ok", "cover", "refuse", "dispute", "statement", "chat"),
)
FAULTS = ("restore", "lie", "crash", "reorg", "dear", "theft", "lost answer", "repeat")
SILENT = {"PROPOSE", "COUNTER", "EVIDENCE"}  # tests/property/test_bargain_orders.py; test_evidence
LIARS = ("", "", "", "buyer", "seller", "arbiter", "runner_up")


class Adversary(RuleBasedStateMachine):
    """Order, repetition, loss, crashes, reorgs, liars, and users who say anything at any time."""

    world: World
    told: ClassVar[Counter[str]] = Counter()

    @initialize(
        name=st.sampled_from((*STAGES, "Asked", "Withdrawn", "Agreed")),
        maker_is_seller=st.integers(0, 1),
        liar=st.sampled_from(LIARS),
    )
    def begin(self, name: str, maker_is_seller: int, liar: str) -> None:
        self.world = stage(name, maker_is_seller).clone()
        if liar:
            getattr(self.world, liar).liar = True

    def _node(self, number: int) -> Node:
        return self.world.nodes[number % 4]

    def _crashed(self, node: Node, *, wanted: bool) -> None:
        if wanted and not node.crash:  # it fired
            self.world.fault("crash")
        node.crash = False

    @property
    def _honest(self) -> list[Trader]:
        return [t for t in self.world.traders if t.honest]

    # -- the network

    @rule(pick=st.integers(0, 100), lose_ack=st.booleans(), crash=st.booleans())
    def deliver(self, pick: int, lose_ack: bool, crash: bool) -> None:
        waiting = self.world.waiting()
        if waiting:
            sender, message = waiting[pick % len(waiting)]
            self.world.node(message.recipient).crash = crash
            self.world.carry(sender, message, lose_ack=lose_ack)
            self._crashed(self.world.node(message.recipient), wanted=crash)
            if lose_ack:
                self.world.fault("lost answer")

    @rule(pick=st.integers(0, 100))
    def repeat(self, pick: int) -> None:
        """Send again what was applied long ago."""
        said = [(n, m) for n in self.world.nodes for m in n.messages if m.sender == n.me]
        sender, message = said[pick % len(said)]
        self.world.carry(sender, message)
        self.world.fault("repeat")

    @rule()
    def calm(self) -> None:
        self.world.calm()

    # -- the nodes

    @rule(number=st.integers(0, 3), pick=st.integers(0, 3), crash=st.booleans())
    def duty(self, number: int, pick: int, crash: bool) -> None:
        node = self._node(number)
        if node.liar:
            return
        found = node.duties()
        if found:
            node.crash = crash  # signed, or broadcast, and then not journalled
            self.world.perform(node, found[pick % len(found)])
            self._crashed(node, wanted=crash)

    @rule(number=st.integers(0, 3), crash=st.booleans())
    def look(self, number: int, crash: bool) -> None:
        node = self._node(number)
        node.crash = crash
        if not node.liar:
            node.look()
        self._crashed(node, wanted=crash)

    @rule(number=st.integers(0, 1), wait=st.sampled_from([0, 59, 60, 601]))
    def tick(self, number: int, wait: int) -> None:
        self.world.now += wait
        if self._node(number).honest:
            self._node(number).do(model.Tick())

    @rule(number=st.integers(0, 1), back=st.integers(0, 12), silent=st.booleans())
    def lose_data(self, number: int, back: int, silent: bool) -> None:
        """An old copy of a trader's journal is put back; he may not even know it."""
        trader = self.world.traders[number]
        if trader.honest and all(t.honest for t in self.world.traders) and trader.restore(back):
            self.world.fault("restore")
            if not silent:
                trader.do(model.LoseTrust("this journal was restored"))

    # -- the chain

    @rule(count=st.sampled_from([1, 1, 2, 3, 6, 150, 300, 2300]), backwards=st.booleans())
    def mine(self, count: int, backwards: bool) -> None:
        self.world.ledger.mine(count, backwards=backwards)

    @rule(depth=st.integers(1, FINAL - 1), lose=st.booleans())
    def reorg(self, depth: int, lose: bool) -> None:
        self.world.ledger.reorg(depth, lose=lose)
        self.world.fault("reorg")

    @rule(depth=st.integers(1, FINAL - 1))
    def blink(self, depth: int) -> None:
        """Both look at a block that is gone a moment later, with all that was in it."""
        self.world.ledger.mine(depth)
        for trader in self._honest:
            trader.look()
        self.world.ledger.reorg(depth, lose=True)

    @rule(dear=st.booleans())
    def fees(self, dear: bool) -> None:
        """The network relays nothing at the lower rate, or does again."""
        self.world.ledger.dear = dear
        self.world.fault("dear" if dear else "cheap")

    @rule(number=st.integers(0, 1))
    def spend_elsewhere(self, number: int) -> None:
        """A trader's words are in another wallet too, and that one spends his coin."""
        declared = self.world.play.inputs(self.world.traders[number].key).inputs[0]
        point = Outpoint.from_wire("coin", declared.outpoint)
        tx = Transaction(2, (TxIn(point),), (TxOut(100_000, b"\x00\x14" + bytes(20)),), number)
        self.world.ledger.broadcast(tx.serialize())
        self.world.fault("theft")

    # -- the users

    @rule(number=st.integers(0, 1), what=st.sampled_from(["paid", "paid", "not paid", "received"]))
    def say(self, number: int, what: str) -> None:
        event = {"paid": model.SayPaid(""), "not paid": model.SayNotPaid("")}.get(what)
        self._say(self._node(number), event or model.SayReceived())

    def _say(self, node: Node, event: model.Event) -> None:
        if node.honest:
            self.world.ask(node, lambda: event)

    @rule(number=st.integers(0, 1), tenth=st.sampled_from([0, 1, 5, 9, 10]))
    def propose(self, number: int, tenth: int) -> None:
        trader = self.world.traders[number]
        if trader.honest and trader.facts().funding:
            contract = trader.facts().contract
            sat = {1: contract.dep_b, 9: release(contract).buyer_sat}.get(
                tenth, contract.escrow_sat * tenth // 10
            )
            self._say(trader, model.AskSplit(sat, ""))

    @rule(number=st.integers(0, 1))
    def withdraw(self, number: int) -> None:
        if self.world.traders[number].facts().settled_contract:
            self._say(self.world.traders[number], model.WithdrawAsk())

    @rule(number=st.integers(0, 1), agree=st.booleans())
    def answer(self, number: int, agree: bool) -> None:
        if self.world.traders[number].facts().settled_contract:
            self._say(self.world.traders[number], model.AnswerAsk(agree=agree))

    @rule(number=st.integers(0, 3), other=st.integers(0, 3))
    def chat(self, number: int, other: int) -> None:
        node, to = self._node(number), self._node(other)
        early = isinstance(node, Trader) and not node.facts().settled_contract
        if node is not to and node.state is not None and not early:
            self._say(node, model.SayChat(to.me, "well?"))

    @rule(blocks=st.sampled_from([293, 294, 295, 300]))
    def pay_late(self, blocks: int) -> None:
        """About the end of the period: 48 h and 1 h are 294 blocks."""
        self.world.ledger.mine(blocks)
        if self.world.buyer.honest:
            self.world.buyer.look()
        self._say(self.world.buyer, model.SayPaid(""))

    @rule(number=st.integers(0, 1), second=st.booleans())
    def dispute(self, number: int, second: bool) -> None:
        trader = self.world.traders[number]
        if trader.honest and not isinstance(trader.state, ENDED) and trader.facts().funding:
            self.world.call(trader, second=second)

    @rule(number=st.integers(0, 1), second=st.booleans())
    def statement(self, number: int, second: bool) -> None:
        trader = self.world.traders[number]
        if trader.honest and trader.facts().settled_contract:
            said = [m for m in trader.messages if m.kind is K.STATEMENT]
            if len(said) < 8:
                self.world.state_to(trader, second=second)

    @rule(number=st.integers(0, 1))
    def accept(self, number: int) -> None:
        self._say(self._node(number), model.AcceptVerdict())

    @rule(number=st.integers(0, 1))
    def cancel(self, number: int) -> None:
        self._say(self._node(number), model.Cancel("no more"))

    @precondition(lambda self: bool(_hearing(self.world)))
    @rule(tenth=st.integers(0, 10), exact=st.sampled_from(["", "release", "due", "refund"]))
    def decide(self, tenth: int, exact: str) -> None:
        """An arbiter rules as he likes where both are honest; where one lies, by the truth."""
        for judge in _hearing(self.world):
            contract = judge.case().contract
            full, fee = release(contract).buyer_sat, judge.case().fee
            sat = {"release": full, "due": full - fee, "refund": contract.dep_b}.get(
                exact, (contract.escrow_sat - fee) * tenth // 10
            )
            if not all(t.honest for t in self.world.traders):
                sat = self.world.truth(judge)
            self._say(judge, model.Decide(sat, "so"))

    @rule(number=st.integers(0, 1))
    def recuse(self, number: int) -> None:
        judge = self.world.judges[number]
        if judge.state is not None:
            self._say(judge, model.Recuse("I know one of them"))

    # -- the liar

    @precondition(lambda self: any(n.liar for n in self.world.nodes))
    @rule(other=st.integers(0, 3), what=st.sampled_from(LIES), pick=st.integers(0, 30))
    def lie(self, other: int, what: str, pick: int) -> None:
        liar = next(n for n in self.world.nodes if n.liar)
        self.world.lie(liar, self._node(other), what, pick)

    # -- what must hold

    @invariant()
    def each_key_first_signs_at_most_one_split(self) -> None:
        for node in self.world.nodes:
            if node.honest and not node.lost:
                assert len(node.first_signed) <= 1

    @invariant()
    def no_state_goes_back(self) -> None:
        for node in self.world.nodes:
            names = [type(s).__name__ for s in node.history]
            for before, after in pairwise(names):
                fine = (before, after) in BACK or ORDER.index(before) <= ORDER.index(after)
                assert fine, f"{before} -> {after}"
            assert not any(name in {"Closed", "Aborted", "Void"} for name in names[:-1])

    @invariant()
    def nobody_refuses_an_honest_peer_but_an_ended_trade(self) -> None:
        for refusal in self.world.refusals:
            assert refusal.partition(":")[0] in {"Aborted", "Void"}, refusal
        assert not self.world.stalls, self.world.stalls

    @invariant()
    def nobody_aborts_whose_funding_signature_has_left(self) -> None:
        for trader in self._honest:
            if isinstance(trader.state, model.Aborted) and not trader.lost:
                assert K.WITNESS not in {m.kind for m in trader.messages if m.sender == trader.me}

    @invariant()
    def no_sender_repeats_himself(self) -> None:
        for node in self._honest:
            said = [(m.kind, m.recipient) for m in node.messages if m.sender == node.me]
            for kind, to in set(said):
                once = kind in AGAIN or node.lost
                assert once or said.count((kind, to)) == 1, kind

    @invariant()
    def the_chain_pays_one_allowed_split(self) -> None:
        """Whatever spends the escrow was first-signed by a key that may, and one spend is mined."""
        world = self.world
        if not (self._honest and self._honest[0].facts().funding):
            return
        facts = self._honest[0].facts()
        point, ledger = facts.outpoint, world.ledger
        spends = {t.txid for t in ledger.known.values() if point in {i.outpoint for i in t.inputs}}
        assert len(spends & set(ledger.mined)) <= 1
        if any(n.liar for n in world.nodes):
            return
        made = {
            build_payout(facts.contract, point, split, rate, branch).tx.txid
            for node in world.nodes
            for split, branch in node.first_signed
            for rate in payout_rates(facts.contract)
        }
        assert spends <= made

    # -- the end

    def teardown(self) -> None:
        """Once everyone is kind the trade ends, and for both alike; nobody honest has lost."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.finish()
        self._count()
        for check in (
            self.each_key_first_signs_at_most_one_split,
            self.no_state_goes_back,
            self.nobody_refuses_an_honest_peer_but_an_ended_trade,
            self.the_chain_pays_one_allowed_split,
        ):
            check()
        # who was set back to the opening sees no chain, or ends it by his clock
        ends = {
            type(t.state).__name__
            for t in self._honest
            if not (t.lost and (isinstance(t.state, model.Aborted) or not t.facts().funding))
        } or {"Aborted"}
        if not _two_of_three(world):
            return
        assert ends in ({"Closed"}, {"Aborted"}, {"Void"}, {"Aborted", "Void"}), ends
        if ends == {type(t.state).__name__ for t in world.traders} == {"Closed"}:
            closed = [t.state for t in world.traders]
            assert closed[0] == closed[1] or _named_apart(world.traders)
        for trader in self._honest:
            if isinstance(trader.state, model.Closed):
                self._lost_nothing(trader)

    def _count(self) -> None:
        """Keep what this run has reached: a fault that never fires tests nothing."""
        for node in self.world.nodes:
            self.told.update({type(s).__name__ for s in node.history})
            self.told.update({m.kind.name for m in node.messages})
        self.told.update(self.world.faults)

    def _lost_nothing(self, trader: Trader) -> None:
        """He has at least what his own words left him, and no arbiter took."""
        world = self.world
        if any(j.liar for j in world.judges) or trader.lost:
            return  # an arbiter with one trader takes the escrow; R2 is checked in the model
        facts = trader.facts()
        state = trader.state
        assert isinstance(state, model.Closed)
        script = facts.contract.script_b if trader.is_buyer else facts.contract.script_s
        paid = sum(o.value for o in world.ledger.known[state.txid].outputs if o.script == script)
        assert paid >= _least(world, trader), f"{trader.is_buyer=} {paid} {state.outcome}"


def _two_of_three(world: World) -> bool:
    """Both traders, or one and an arbiter who can still rule: else an escrow stays where it is."""
    able = [t for t in world.traders if t.honest and not t.lost]
    first, second = (
        j.honest and not isinstance(j.state, (model.RecusedCase, model.ToxicCase))
        for j in world.judges
    )
    point = next((t.facts().outpoint for t in able if t.facts().funding), None)
    at = world.ledger.mined.get(point.txid, 0) if point else 0
    late = bool(at) and world.ledger.height > at + world.contract.n - 432
    return len(able) + (second or (first and not late)) >= 2


def _least(world: World, trader: Trader) -> int:
    """What the contract gives a trader, or his own signed words, less every fee."""
    facts, contract = trader.facts(), trader.facts().contract
    shares = [contract.dep_b, contract.dep_s]
    if trader.is_buyer:
        own = [contract.dep_b + (contract.amount_sat if trader.has_paid else 0)]
    else:
        away = trader.has_money or world.buyer.has_paid
        own = [contract.dep_s + (0 if away else contract.amount_sat)]
    if agreed := facts.agreed:
        own.append(agreed.buyer_sat if trader.is_buyer else agreed.seller_sat)
    if facts.conceded and trader.is_buyer:
        own.append(shares[0])
    own += trader.accepted
    for judge in world.judges:  # an honest arbiter may be mistaken: not so where a trader lies
        if all(t.honest for t in world.traders):
            own += [
                getattr(s, "buyer_sat" if trader.is_buyer else "seller_sat") for s in _rows(judge)
            ]
    raised = payout_rates(contract)[1]
    fees = raised * 260 + max(contract.fee_a, contract.fee_a2) + 1_000
    return min(own) - fees


def _rows(judge: Arbiter) -> list[object]:
    return [split for split, _ in judge.first_signed]


def _hearing(world: World) -> list[Arbiter]:
    return [j for j in world.judges if isinstance(j.state, model.Hearing) and j.honest]


def _named_apart(traders: tuple[Trader, ...]) -> bool:
    """One who never heard of the split that was paid calls it "other"; the txid is the same."""
    states = [t.state for t in traders]
    assert all(isinstance(s, model.Closed) for s in states)
    txids = {s.txid for s in states if isinstance(s, model.Closed)}
    names = {s.outcome for s in states if isinstance(s, model.Closed)}
    return len(txids) == 1 and len(names - {"other"}) <= 1


def test_no_order_of_events_makes_an_honest_trader_lose() -> None:
    """A red run prints the steps, and the line `@reproduce_failure(…)` that repeats them."""
    Adversary.told = Counter()
    run_state_machine_as_test(
        Adversary,
        settings=settings(
            max_examples=int(os.environ.get("ADVERSARY_EXAMPLES", "300")),
            stateful_step_count=40,
            report_multiple_bugs=False,
            print_blob=True,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    told = Adversary.told
    states = set(ORDER) - {"Taking", "ToxicCase"}  # the beginning; arbiters lose no data here
    never = (states | {k.name for k in Kind} - SILENT | set(FAULTS)) - set(told)
    assert not never, f"never reached, said or fired in this run: {sorted(never)}"
