"""A trade of four nodes in memory: their post, their users, a chain, and the stages of a trade.

`World.finish` is a kind world: everyone does what his node advises, and the trade must come to
its end. A liar (`World.lie`) signs with his own keys whatever he likes, at any time.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

from trade_facts import NET, NOW, Play, arbiter_secret, first_signatures, record, schnorr
from trade_ledger import FINAL, Ledger
from trade_model import ENDED, Arbiter, Node, Refused, Trader

from escrow import model
from escrow.messages import ZERO, Kind, Message
from escrow.model import Event
from escrow.payloads import (
    Ask,
    Chat,
    Cover,
    Forward,
    Notice,
    NotPaid,
    Ok,
    Paid,
    Received,
    Recuse,
    Refuse,
    Settle,
    Verdict,
    Withdraw,
)
from escrow.payout import Branch, Split, refund, release, verdict_split
from escrow.rulings import bound_to
from p2pnode.base.errors import InvalidRecord, NodeError
from p2pnode.base.identity import Identity

K = Kind
_PARSED: dict[bytes, Message] = {}


class World:
    """Four nodes and a chain."""

    def __init__(self, maker_is_seller: int) -> None:
        self.play = play = Play(maker_is_seller=maker_is_seller)
        whole = _whole(maker_is_seller)
        self._whole, self.now, self.ledger = whole, NOW, Ledger()
        take, draw = whole.messages[0], whole.messages[1]
        self.trade_id = take.id
        self.maker = Trader(self, play.maker, model.Drawing(NOW), [take, draw], [draw])
        self.taker = Trader(self, play.taker, model.Taking(NOW), [take], [])
        self.maker.records = {record(n).id: record(n) for n in play.lists["maker"]}
        self.taker.records = {record(n).id: record(n) for n in play.lists["taker"]}
        self.arbiter = Arbiter(self, whole.arbiter)
        self.runner_up = Arbiter(self, whole.runner_up, second=True)
        self.nodes: tuple[Node, ...] = (self.maker, self.taker, self.arbiter, self.runner_up)
        self.traders = (self.maker, self.taker)
        self.judges = (self.arbiter, self.runner_up)
        self.buyer, self.seller = sorted(self.traders, key=lambda t: not t.is_buyer)
        self.refusals: list[str] = []
        self.stalls: list[str] = []
        self.faults: dict[str, int] = {}  # what has gone wrong, by name

    @property
    def contract(self) -> Any:
        """The contract as both have signed it, or as it would be."""
        found = (t.facts().settled_contract for t in self.traders)
        return next((c for c in found if c), self._whole.contract)

    def node(self, node_id: bytes) -> Node:
        return next(n for n in self.nodes if n.me == node_id)

    def other(self, trader: Trader) -> Trader:
        return self.taker if trader is self.maker else self.maker

    def parsed(self, message: Message) -> Message:
        """The message as its recipient reads it; each is parsed and verified once."""
        raw = message.wire()
        if raw not in _PARSED:
            _PARSED[raw] = Message.from_wire(raw, NET)
        return _PARSED[raw]

    def fault(self, name: str) -> None:
        self.faults[name] = self.faults.get(name, 0) + 1

    def clone(self) -> "World":
        """A copy that goes its own way."""
        other = World(self.play.maker_is_seller)
        other.now, other.ledger = self.now, copy.deepcopy(self.ledger)
        for mine, theirs in zip(self.nodes, other.nodes, strict=True):
            for name, value in vars(mine).items():
                if name not in {"world", "key"}:
                    kept = type(value)(value) if type(value) in (list, set, dict) else value
                    setattr(theirs, name, kept)
        return other

    # -- signatures, made once: they follow from the fixed keys

    def signed_contract(self, who: Identity, contract: Any) -> Any:
        made = self._whole.signed_contract(who)
        if made.contract == contract.wire():
            return made
        return replace(
            made, contract=contract.wire(), signature=schnorr(self.play.key(who), contract.hash)
        )

    def signatures(self, node: Node, split: Split, branch: Branch = Branch.MAIN) -> Any:
        """A node's real key over the payout of `split`."""
        if isinstance(node, Arbiter):
            contract, point = node.case().contract, node.case().outpoint
            key = arbiter_secret(
                contract.seed, contract.bond_a2 if node.second else contract.bond_a
            )
        else:
            assert isinstance(node, Trader)
            contract, point = node.facts().contract, node.facts().outpoint
            key = self.play.key(node.key)
        return first_signatures(key, contract, point, split, branch)

    def perform(self, node: Node, duty: Any) -> None:
        """Do a duty as the tender does: what is refused stalls the trade until the next round."""
        try:
            node.perform(duty)
        except NodeError as error:
            if node.honest and not node.lost:
                self.stalls.append(f"{type(node.state).__name__}: {error}")

    def received(self) -> Received:
        return Received(signatures=self.signatures(self.seller, release(self.contract)))

    def settled(self, who: Node, split: Split, ok_id: bytes) -> Settle:
        return Settle(ok_id=ok_id, signatures=self.signatures(who, split))

    def verdict(self, judge: Arbiter, split: Split, reason: str) -> Verdict:
        branch = Branch.BACKUP if judge.second else Branch.MAIN
        buyer, seller, arbiter = split.array()
        return Verdict(
            buyer_sat=buyer,
            seller_sat=seller,
            arbiter_sat=arbiter,
            signatures=self.signatures(judge, split, branch),
            reason=reason,
        )

    # -- the post

    def waiting(self) -> list[tuple[Node, Message]]:
        return [(node, message) for node in self.nodes for message in node.outbox]

    def carry(self, sender: Node, message: Message, *, lose_ack: bool = False) -> None:
        """Deliver one message; a refusal drops the chain, as a courier does."""
        recipient = self.node(message.recipient)
        try:
            done = recipient.deliver(message)
        except Refused as error:
            if error.show:
                self._show(sender, recipient, message)
                return
            asked = message.kind is K.ENQUIRY and recipient.state is None  # he was never called
            fair = sender.honest and recipient.honest and not (sender.lost or recipient.lost)
            if fair and not asked:
                self.refusals.append(f"{type(recipient.state).__name__}: {error}")
            sender.outbox = [m for m in sender.outbox if m.recipient != message.recipient]
            if error.used and isinstance(sender, Trader) and sender.honest:
                sender.do(model.LoseTrust("the peer has another message of this number"))
            return
        if done and not lose_ack and message in sender.outbox:
            sender.outbox.remove(message)

    def _show(self, sender: Node, recipient: Node, message: Message) -> None:
        """Show the recipient his own message: what is his and not in his journal proves a loss."""
        shown = next((m for m in sender.messages if m.id == message.seen), None)
        if shown is None:  # a lie; an honest sender has what he has seen
            assert sender.liar or sender.lost
            sender.outbox.remove(message)
        elif isinstance(recipient, Trader) and recipient.honest:
            assert recipient.lost
            recipient.do(model.LoseTrust("the peer has seen more"))

    def inject(self, message: Message) -> None:
        """Deliver what nobody keeps in an outbox, and care for no answer."""
        try:
            self.node(message.recipient).deliver(message)
        except Refused:
            return

    # -- a kind world

    def nudge(self) -> None:
        """Let one thing happen: a delivery, else a duty, else a look at the chain."""
        for sender, message in self.waiting():
            before = self._print()
            self.carry(sender, message)
            if self._print() != before:
                return
        before = self._print()
        for node in self.nodes:
            for duty in node.duties():
                self.perform(node, duty)
                if self._print() != before:
                    return
        for node in self.nodes:
            node.look()
        if self._print() == before:
            self.ledger.mine(1)

    def calm(self) -> bool:
        """Let everything happen once, in order; tells whether anything did. Liars do nothing."""
        before = self._print()
        for sender, message in self.waiting():
            if message in sender.outbox and sender.honest:
                self.carry(sender, message)
        for node in self.nodes:
            node.crash = False
            if node.liar:
                continue
            node.look()
            for duty in node.duties():
                self.perform(node, duty)
            if node.state is not None:
                node.do(model.Tick())
        return self._print() != before

    def _print(self) -> tuple[Any, ...]:
        nodes = tuple((n.state, len(n.messages), len(n.outbox)) for n in self.nodes)
        return (*nodes, tuple(self.ledger.pool), tuple(self.ledger.mined))

    def settle(self) -> None:
        """Let everything happen until nothing more does."""
        for _ in range(60):
            if not self.calm():
                return
        raise AssertionError("the nodes never come to rest")

    def ask(self, node: Node, make: Callable[[], Event]) -> str:
        """Say something as a node's user; returns the refusal, if it was one."""
        try:
            node.do(make())
        except NodeError as error:
            return str(error)
        return ""

    def call(self, trader: Trader, *, second: bool = False) -> str:
        """Open a dispute as a trader's user."""
        to = (self.runner_up if second else self.arbiter).me
        return self.ask(
            trader,
            lambda: model.OpenDispute(trader.facts().dispute("he does not answer", to), to),
        )

    def state_to(self, trader: Trader, *, second: bool = False) -> str:
        """Make a statement as a trader's user."""
        to = (self.runner_up if second else self.arbiter).me
        return self.ask(
            trader, lambda: model.MakeStatement(trader.facts().statement("it was so", to), to)
        )

    # -- the end

    def finish(self) -> None:
        """Everyone is kind and does what his node advises; the trade must come to its end."""
        self.ledger.dear = False
        for n in range(60):
            self.settle()
            if all(isinstance(t.state, ENDED) for t in self.traders if t.honest):
                return
            self._advise(patient=n < 3)
            if n > 12:
                self._give_way()
            self.settle()
            # a day at a time once an arbiter's deadlines are what is waited for
            self.ledger.mine(160 if n > 2 else FINAL)
            self.now += 601

    def _advise(self, *, patient: bool) -> None:
        for trader in self.traders:
            if trader.honest:
                self._end_talks(trader)
                self._go_on(trader, patient=patient)
        for judge in self.judges:
            if isinstance(judge.state, model.Hearing) and judge.honest:
                self._rule(judge)

    def _give_way(self) -> None:
        """No arbiter has helped: each says what is true of himself."""
        for trader in self.traders:
            if trader.honest and not trader.is_buyer and self.buyer.has_paid:
                self.ask(trader, lambda: model.SayReceived())
            if trader.honest and trader.is_buyer and not trader.has_paid:
                self.ask(trader, lambda: model.SayNotPaid(""))

    def _end_talks(self, trader: Trader) -> None:
        """Take one's own proposal back, and agree to what the other offers."""
        if trader.facts().settled_contract is None:
            return
        self.ask(trader, lambda: model.WithdrawAsk())
        if self.ask(trader, lambda: model.AnswerAsk(agree=True)):
            self.ask(trader, lambda: model.AnswerAsk(agree=False))

    def _go_on(self, trader: Trader, *, patient: bool) -> None:
        state, buyer = trader.state, trader.is_buyer
        paid = isinstance(state, model.Funded) and buyer and not self.other(trader).liar
        if paid and self.ask(trader, lambda: model.SayPaid("")):
            self.call(trader)
        elif isinstance(state, (model.Paid, model.Funded)) and not buyer and self.buyer.has_paid:
            self.ask(trader, lambda: model.SayReceived())
        elif isinstance(state, model.Toxic):
            self._rescue(trader, state)
        elif isinstance(state, model.Ruled) and not state.raw:
            self.ask(trader, lambda: model.AcceptVerdict())
        elif (isinstance(state, (model.Funded, model.Paid)) and not patient) or isinstance(
            state, (model.Releasing, model.Agreed)
        ):
            self.call(trader)
        for second in (False, True):
            to = self.judges[second].me
            said = [m for m in trader.messages if m.kind is K.STATEMENT and m.recipient == to]
            if len(said) < 4 and trader.facts().settled_contract and trader.facts().noticed(to):
                self.state_to(trader, second=second)

    def _rescue(self, trader: Trader, state: model.Toxic) -> None:
        """What a node that has lost data advises: give way where all is clear, else a dispute."""
        if trader.facts().settled_contract is None:
            self.ask(trader, lambda: model.Cancel("lost data"))
            return
        if trader.is_buyer and not trader.has_paid:
            self.ask(trader, lambda: model.SayNotPaid(""))
        if not trader.is_buyer and self.buyer.has_paid:
            self.ask(trader, lambda: model.SayReceived())
        self.call(trader)
        self.call(trader, second=True)
        if any(trader.facts().one(j.me, K.VERDICT) for j in self.judges) and not state.accepted:
            self.ask(trader, lambda: model.AcceptVerdict())

    def truth(self, judge: Arbiter) -> int:
        """What an arbiter who knows what happened gives the buyer."""
        contract = judge.case().contract
        fee = contract.fee_a2 if judge.second else contract.fee_a
        if self.buyer.has_paid:
            return release(contract).buyer_sat
        return contract.dep_b - min(fee, contract.dep_b)

    def _rule(self, judge: Arbiter) -> None:
        """Rule by what binds him, else by the truth as soon as R4 lets him."""
        bound = [split.buyer_sat for split, _, _ in bound_to(judge.case())]
        for sat in bound or [self.truth(judge)]:
            self.ask(judge, lambda s=sat: model.Decide(s, "as the papers say"))  # type: ignore[misc]

    # -- what a liar says

    def lie(self, liar: Node, to: Node, what: str, pick: int) -> None:
        """Sign and send a good or bad message of the liar's; what he has said stays said."""
        if liar is to or not liar.messages:
            return
        try:
            payload = self._invent(liar, to, what, pick)
        except (NodeError, InvalidRecord, StopIteration, IndexError):
            return
        message = liar.compose(to.me, payload, liar.messages)
        if what != "fork":
            liar.messages.append(message)
        self.fault("lie")
        self.inject(message)

    def _invent(self, liar: Node, to: Node, what: str, pick: int) -> Any:
        if isinstance(liar, Arbiter):
            return self._ruling(liar, to, what, pick)
        assert isinstance(liar, Trader)
        contract = self.contract
        sat = contract.escrow_sat * (pick % 11) // 10
        theirs = [m for m in liar.messages if m.sender == to.me]
        mine = [m for m in liar.messages if (m.sender, m.recipient) == (liar.me, to.me)]
        some = (theirs + mine)[pick % len(theirs + mine)].id if theirs + mine else ZERO

        def last(found: list[Message], kind: Kind) -> bytes:
            return next((m.id for m in reversed(found) if m.kind is kind), some)

        match what:
            case "paid":
                return Paid(note="")
            case "not paid":
                return NotPaid(note="")
            case "received":
                return self.received() if liar is self.seller else Paid(note="")
            case "concede":
                return self.settled(liar, refund(contract), ZERO)
            case "settle":
                agreed = liar.facts().agreed
                split = Split(sat, contract.escrow_sat - sat, 0)
                if agreed and pick % 3:
                    split = Split(agreed.buyer_sat, agreed.seller_sat, 0)
                return self.settled(liar, split, last(theirs if pick % 2 else mine, K.OK))
            case "ask" | "fork":
                return Ask(buyer_sat=sat, seller_sat=contract.escrow_sat - sat, note="")
            case "withdraw":
                return Withdraw(ask_id=last(mine, K.ASK))
            case "ok":
                return Ok(ask_id=last(theirs, K.ASK))
            case "cover":
                return Cover(covered_id=some)
            case "refuse":
                return Refuse(refused_id=last(theirs, K.ASK), field="ask", value="no")
            case "dispute":
                return liar.facts().dispute("he lies", to.me)
            case "statement":
                papers = liar.facts().statement("he lies", to.me)
                return replace(papers, messages=papers.messages[: pick + 5])
            case _:
                return Chat(text="well?")

    def _ruling(self, liar: Arbiter, to: Node, what: str, pick: int) -> Any:
        contract = self.contract
        branch = Branch.BACKUP if liar.second else Branch.MAIN
        match what:
            case "received" | "paid":
                opener = (self.buyer, self.seller)[pick % 2].me
                found = [m.id for m in to.messages if m.kind is K.DISPUTE]
                return Notice(dispute_id=found[0] if found else ZERO, opener=opener, statement="x")
            case "settle" | "ask" | "concede" | "statement":
                fee = contract.fee_a2 if liar.second else contract.fee_a
                sat = (contract.escrow_sat - fee) * (pick % 11) // 10
                return self.verdict(liar, verdict_split(contract, sat, branch), "so")
            case "refuse" | "withdraw":
                return Recuse(reason="no")
            case "ok" | "cover":
                papers = liar.case().papers
                return Forward(messages=(papers[pick % len(papers)].wire(),))
            case _:
                return Chat(text="well?")


_WHOLES: dict[int, Play] = {}


def _whole(maker_is_seller: int) -> Play:
    if maker_is_seller not in _WHOLES:
        _WHOLES[maker_is_seller] = Play(maker_is_seller=maker_is_seller).acknowledge()
    return _WHOLES[maker_is_seller]


STAGES = (
    *("Taking", "Contracting", "Funding", "Broadcast", "Funded", "Paid", "Releasing"),
    *("Signed", "Acked", "Disputed", "Hearing", "NotPaid", "Unpaid"),
    *("Asked", "Withdrawn", "Agreed", "ArbiterLost", "Second"),
)
UNTIL = {
    "Signed": "Funding",
    **dict.fromkeys(("Releasing", "Disputed", "Hearing", "ArbiterLost", "Second"), "Paid"),
    **dict.fromkeys(("Acked", "NotPaid", "Unpaid", "Asked", "Withdrawn", "Agreed"), "Funded"),
}


@cache
def stage(name: str, maker_is_seller: int) -> World:
    """A trade that went well as far as `name`."""
    world = World(maker_is_seller)
    until = UNTIL.get(name, name)
    for _ in range(100):
        if until in {type(t.state).__name__ for t in world.traders}:
            break
        world.nudge()
        if until == "Paid" and isinstance(world.buyer.state, model.Funded):
            world.settle()
            world.buyer.do(model.SayPaid(""))
    assert until in {type(t.state).__name__ for t in world.traders}
    while name == "Signed" and not getattr(world.buyer.state, "signed_at", 0):
        world.nudge()
    if name in UNTIL and name != "Signed":
        world.settle()
    _go_to(name, world)
    return world


def _go_to(name: str, world: World) -> None:
    buyer, seller = world.buyer, world.seller
    half = world.contract.escrow_sat // 2
    if name == "NotPaid":
        buyer.do(model.SayNotPaid(""))
    if name == "Releasing":
        seller.do(model.SayReceived())
    if name in {"Asked", "Withdrawn", "Agreed"}:
        buyer.do(model.AskSplit(half, ""))
    if name == "Withdrawn":
        buyer.do(model.WithdrawAsk())
    if name == "Agreed":
        world.settle()
        seller.do(model.AnswerAsk(agree=True))
    if name in {"Disputed", "Hearing", "Unpaid", "ArbiterLost", "Second"}:
        assert not world.call(seller)
    if name in {"Hearing", "Unpaid"}:
        world.settle()
        assert not world.state_to(buyer)
        world.settle()
        assert isinstance(world.arbiter.state, model.Hearing)
    if name in {"ArbiterLost", "Second"}:
        world.settle()
        world.arbiter.do(model.Recuse("I know one of them"))
        world.settle()
        assert isinstance(buyer.state, model.ArbiterLost)
    if name == "Second":
        world.ledger.mine(world.contract.n)
        world.settle()
        assert world.runner_up.state is not None
