"""A trade of three honest nodes in memory: the real machines, a model chain, a hostile order.

The shell here is the law of docs/architecture.md and no more: one step is all or nothing, what is
sent waits in an outbox until it is acknowledged, duties follow from the state. A crash loses
what was not committed, and nothing else.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from trade_facts import (
    MTP,
    NET,
    NOW,
    TIP,
    Play,
    arbiter_secret,
    block_hash,
    first_signature,
    record,
    schnorr,
)

from escrow import hearing, model
from escrow.duties import duties
from escrow.examine import check_seen, examine
from escrow.facts import Facts, funding_of
from escrow.funding import read_declared, respend
from escrow.hearing import Case, open_case
from escrow.messages import ZERO, Kind, Message
from escrow.model import ChainView, Event, Spend, State
from escrow.payloads import Dispute, Inputs, Received, Statement, Verdict, decode
from escrow.payout import Split, build_payout, release
from escrow.script import p2wpkh
from escrow.settlement import NotYet
from escrow.shell_trades import ENDED, trader_step
from escrow.transcript import case_papers, check_dispute
from p2pnode.base.errors import NodeError, PeerFault
from p2pnode.base.identity import Identity
from p2pnode.base.transaction import Outpoint, Transaction, parse_transaction

BLOCK_S = 600
FINAL = 6


@dataclass
class Ledger:
    """A chain of blocks and everything that was ever broadcast and is not in it."""

    height: int = TIP
    mined: dict[bytes, int] = field(default_factory=dict)  # txid: height
    known: dict[bytes, Transaction] = field(default_factory=dict)
    pool: list[bytes] = field(default_factory=list)

    @property
    def mtp(self) -> int:
        return self.mtp_at(self.height)

    def mtp_at(self, height: int) -> int:
        return MTP + BLOCK_S * (height - TIP)

    def broadcast(self, raw: bytes) -> None:
        tx = parse_transaction("transaction", raw)
        if tx.txid not in self.known:
            self.known[tx.txid] = tx
        if tx.txid not in self.mined and tx.txid not in self.pool:
            self.pool.append(tx.txid)

    def spent(self) -> dict[Outpoint, bytes]:
        return {i.outpoint: txid for txid in self.mined for i in self.known[txid].inputs}

    def mine(self, count: int, *, backwards: bool = False, empty: bool = False) -> None:
        """Mine blocks; the first takes what fits of the pool, in the miner's own order."""
        self.height += 1
        for txid in () if empty else self.pool[:: -1 if backwards else 1]:
            self._confirm(txid)
        self.height += count - 1

    def _confirm(self, txid: bytes) -> None:
        points = [i.outpoint for i in self.known[txid].inputs]
        spent = self.spent()
        ours = {t for t in self.known if t not in self.mined}
        if any(p in spent or p.txid in ours for p in points):
            return  # a conflict is mined, or what it spends is not
        self.mined[txid] = self.height
        self.pool.remove(txid)

    def reorg(self, depth: int, *, lose: bool) -> None:
        """Replace the last blocks by one more, all empty; `lose`: mempools forget them too."""
        gone = [t for t, at in self.mined.items() if at > self.height - depth]
        for txid in gone:
            del self.mined[txid]
            if not lose:
                self.pool.append(txid)
        self.height += 1

    def depth(self, txid: bytes) -> int:
        return self.height - self.mined[txid] + 1 if txid in self.mined else 0

    def spender(self, points: set[Outpoint], besides: bytes) -> Spend | None:
        """The confirmed spend, else one that waits."""
        for txid in (*self.mined, *self.pool):
            tx = self.known[txid]
            if txid != besides and points & {i.outpoint for i in tx.inputs}:
                return Spend(txid, self.mined.get(txid, 0), tx.serialize())
        return None

    def view(self, funding: Any) -> ChainView:
        """Everything of one trade, as `shell_tender.look` says it."""
        point: Outpoint = funding.escrow_outpoint
        at = self.mined.get(point.txid, 0 if point.txid in self.pool else None)
        inputs = {i.outpoint for i in funding.tx.inputs}
        return ChainView(
            tip=self.height,
            mtp=self.mtp,
            funding_height=at,
            funding_mtp=self.mtp_at(at) if at else 0,
            funding_raw=self.known[point.txid].serialize() if at is not None else b"",
            spend=self.spender({point}, b""),
            conflict=None if at else self.spender(inputs, point.txid),
        )


class Refused(Exception):
    """An honest node refused an honest node's message for good."""


@dataclass
class Node:
    """What all three share: messages, an outbox, and steps that are all or nothing."""

    world: "World"
    key: Identity
    state: State | None = None
    messages: list[Message] = field(default_factory=list)
    outbox: list[Message] = field(default_factory=list)
    view: ChainView | None = None
    row: Split | None = None  # R1: what this key first-signs
    first_signed: set[Split] = field(default_factory=set)
    history: list[State] = field(default_factory=list)
    crash: bool = False  # the next step ends before its commit

    @property
    def me(self) -> bytes:
        return self.key.node_id

    def compose(self, to: bytes, payload: Any, since: Sequence[Message]) -> Message:
        mine = [m for m in since if (m.sender, m.recipient) == (self.me, to)]
        theirs = [m for m in since if m.sender == to]
        return Message(
            network=NET,
            kind=payload.kind,
            trade_id=self.world.trade_id,
            sender=self.me,
            recipient=to,
            seq=len(mine),
            prev=mine[-1].id if mine else ZERO,
            seen=theirs[-1].id if theirs else ZERO,
            tip_height=self.world.ledger.height,
            tip_hash=bytes(32),
            draw_no=1 if payload.kind is Kind.DRAW else 0,
            payload=payload.wire(),
        ).signed(self.key)

    def commit(self, state: State, received: Sequence[Message], sends: Sequence[Any]) -> None:
        """One transaction: the inbox, the state, the outbox; or, in a crash, nothing of it."""
        if self.crash:
            self.crash = False
            return
        ours: list[Message] = []
        for send in sends:
            ours.append(self.compose(send.to, send.payload, [*self.messages, *received, *ours]))
        self.messages += [*received, *ours]
        self.outbox += ours
        if state != self.state:
            self.history.append(state)
        self.state = state
        self.after_commit()

    def after_commit(self) -> None:
        """Check what must hold after each commit."""

    def deliver(self, message: Message) -> bool:
        """Apply a message as an inbox does; True acknowledges. Raises Refused."""
        message = Message.from_wire(message.wire(), NET)
        if any(m.id == message.id for m in self.messages):
            return True
        try:
            theirs = [m for m in self.messages if m.sender == message.sender]
            if message.seq > len(theirs):
                raise NotYet("a gap")
            if message.seq < len(theirs) or message.prev != (theirs[-1].id if theirs else ZERO):
                raise PeerFault("another message of this number")
            check_seen(message, tuple(self.messages), self.me)
            before = len(self.messages)
            self.hear(message)
        except NotYet:
            return False
        except NodeError as error:
            name = type(self.state).__name__
            raise Refused(f"{message.kind.name} in {name}: {error}") from error
        return len(self.messages) > before

    def hear(self, message: Message) -> None:
        raise NotImplementedError

    def do(self, event: Event, received: Sequence[Message] = (), **more: Any) -> None:
        raise NotImplementedError

    def look(self) -> None:
        raise NotImplementedError

    def duties(self) -> tuple[Any, ...]:
        raise NotImplementedError

    def perform(self, duty: Any) -> None:
        raise NotImplementedError


@dataclass
class Trader(Node):
    """Buyer or seller over the real machines."""

    received_said: bool = False  # the user said that the money is in
    records: dict[bytes, Any] = field(default_factory=dict)
    _key: Any = None
    _facts: Any = None  # the facts as of `_key`, with what they have derived

    def facts(self, received: Sequence[Message] = ()) -> Facts:
        key = (len(self.messages), self.view, len(self.records))
        if key != self._key:
            messages, records = tuple(self.messages), dict(self.records)
            facts = self.world.play.facts(self.key, self.view)
            self._facts = replace(facts, messages=messages, records=records)
            self._key = key
        return self._facts.having(*received) if received else self._facts

    @property
    def is_buyer(self) -> bool:
        return self.key is self.world.play.buyer

    def hear(self, message: Message) -> None:
        payload = decode(message.kind, message.payload)
        examined = examine(message, payload, self.facts([message]), self.world.play.world(self.key))
        learned = {r.id: r for r in examined.records}
        self.do(model.Received(message, payload, examined.final), [message], learned=learned)

    def do(self, event: Event, received: Sequence[Message] = (), **more: Any) -> None:
        if isinstance(event, ChainView):
            self.view = event
        if isinstance(self.state, ENDED) and not received:
            return
        known = {**self.records, **more.get("learned", {})}
        facts = self.facts(received)
        if len(known) > len(self.records):
            facts = replace(facts, records=known)
        assert self.state is not None
        state, sends = trader_step(self.state, event, facts, self.world.now)
        for send in sends:
            if send.payload.kind is Kind.PAID:
                self._may_pay(facts)
        if isinstance(state, model.Releasing) and not self.is_buyer and not self.crash:
            self.book(release(facts.contract))
        asked = isinstance(state, model.Ruled) and state.accepted
        if isinstance(state, model.Ruled) and state != self.state and state.raw and not asked:
            self._may_complete(state, facts)
        if not self.crash:
            self.records = known
            self.received_said |= isinstance(event, model.SayReceived)
        self.commit(state, received, sends)

    def book(self, split: Split) -> None:
        assert self.row in (None, split), "R1: another split of this key is committed"
        self.row = split

    def _may_pay(self, facts: Facts) -> None:
        view, contract = facts.view, facts.contract
        assert self.is_buyer
        assert view is not None
        assert view.funding_height, "PAID while the funding is not in a block"
        assert view.tip - view.funding_height + 1 >= contract.depth, "PAID before depth"
        kinds = {m.kind for m in self.messages}
        assert Kind.ACK in kinds, "PAID before ACK"
        assert not kinds & {Kind.DISPUTE, Kind.NOTICE}, "PAID in a dispute"
        assert Kind.NOT_PAID not in kinds, "PAID after NOT_PAID"
        end = self.world.ledger.mtp_at(view.funding_height) + 48 * 3600 + contract.period_s
        assert view.mtp < end, "PAID after the period's end"

    def _may_complete(self, ruled: model.Ruled, facts: Facts) -> None:
        contract = facts.contract
        if not self.is_buyer:
            most = contract.dep_s if self.received_said else contract.escrow_sat
            assert ruled.seller_sat <= most, "R2: the seller completes more than his facts"
            return
        paid = any(m.kind is Kind.PAID for m in self.messages)
        most = contract.dep_b + (contract.amount_sat if paid else 0)
        assert ruled.buyer_sat <= most, "R2: the buyer completes more than his facts"

    def look(self) -> None:
        if isinstance(self.state, ENDED):
            return
        if funding := self.facts().funding:
            self.do(self.world.ledger.view(funding))

    def duties(self) -> tuple[Any, ...]:
        if self.state is None or isinstance(self.state, ENDED):
            return ()
        return duties(self.state, self.facts(), self.world.now)

    def perform(self, duty: Any) -> None:
        play, facts = self.world.play, self.facts()
        match duty:
            case model.Publish(raw):
                self.world.ledger.broadcast(raw)
            case model.SignContract():
                self.do(model.ContractReady(self.world.signed_contract(self.key, facts.contract)))
            case model.ChooseCoins():
                self.do(model.CoinsChosen(play.inputs(self.key)))
            case model.SignFunding():
                theirs = facts.one(facts.peer, Kind.WITNESS)
                assert facts.funding is not None
                final = facts.funding.tx.serialize() if theirs else b""
                self.do(model.FundingSigned(play.witness(self.key), final))
            case model.Respend():
                mine = facts.one(self.me, Kind.INPUTS)
                assert mine is not None
                assert facts.funding is not None
                coins = [read_declared(d) for d in Inputs.from_wire(mine.payload).inputs]
                tx = respend(
                    coins,
                    p2wpkh(b"\x02" + bytes(32)),
                    funding_fee=facts.funding.fee_sat,
                    rate=facts.contract.rate,
                )
                self.do(model.RespendReady(tx.serialize()))
            case model.CompleteVerdict():
                said = facts.one(facts.contract.arbiter, Kind.VERDICT)
                assert said is not None
                verdict = Verdict.from_wire(said.payload)
                split = Split(verdict.buyer_sat, verdict.seller_sat, verdict.arbiter_sat)
                point = facts.outpoint
                raw = build_payout(facts.contract, point, split).tx.serialize()
                self.do(model.VerdictCompleted(raw))
            case model.SignRelease():
                split = release(facts.contract)
                assert self.row == split, "R1: first-signed before the row is committed"
                self.first_signed.add(split)
                self.do(model.ReleaseSigned(self.world.received()))


@dataclass
class Arbiter(Node):
    """The drawn arbiter; what he decides is the test's choice."""

    _read: Any = None
    _papers: Any = None  # the papers as of so many messages; to read them again is slow

    def case(self, received: Sequence[Message] = ()) -> Case:
        messages = (*self.messages, *received)
        if received or self._read != len(messages):
            self._papers = case_papers(messages)
            self._read = len(messages) if not received else None
        contract, papers = self._papers
        return Case(
            network=NET,
            me=self.me,
            contract=contract,
            messages=messages,
            papers=papers,
            view=self.view,
        )

    def hear(self, message: Message) -> None:
        payload = decode(message.kind, message.payload)
        if self.state is None:
            contract, papers = check_dispute(message, self.me, block_hash)
            funding = funding_of(contract, papers)
            assert funding is not None
            if funding.escrow_outpoint.txid not in self.world.ledger.known:
                raise NotYet("their funding is not on our chain")
            state, sends = open_case(self.case([message]), message, self.world.ledger.mtp)
            self.commit(state, [message], sends)
            return
        self.do(model.Received(message, payload), [message])

    def do(self, event: Event, received: Sequence[Message] = (), **more: Any) -> None:
        if isinstance(event, ChainView):
            self.view = event
        if self.state is None or (isinstance(self.state, ENDED) and not received):
            return
        case = self.case(received)
        state, sends = hearing.step(self.state, event, case)
        if isinstance(state, model.RuledCase) and state != self.state and not self.crash:
            self.book(state, case)
        self.commit(state, received, sends)

    def book(self, state: model.RuledCase, case: Case) -> None:
        split = Split(state.buyer_sat, state.seller_sat, state.arbiter_sat)
        assert self.row in (None, split), "R1: another split of this key is committed"
        self.row = split
        contract, view = case.contract, case.view
        assert view is not None
        assert view.funding_height
        below = split.buyer_sat < release(contract).buyer_sat
        shown = {m.kind for m in case.papers}
        if below and not shown & {Kind.NOT_PAID, Kind.RECEIVED}:
            at = self.world.ledger.mtp_at(view.funding_height)
            assert view.mtp >= at + 48 * 3600 + contract.period_s + contract.reply_s, "R4"

    def look(self) -> None:
        if self.state is not None and not isinstance(self.state, ENDED):
            self.do(self.world.ledger.view(self.case().funding))

    def duties(self) -> tuple[Any, ...]:
        if self.state is None or isinstance(self.state, ENDED):
            return ()
        return hearing.duties(self.state, self.case())

    def perform(self, duty: Any) -> None:
        state = self.state
        assert isinstance(state, model.RuledCase)
        split = Split(state.buyer_sat, state.seller_sat, state.arbiter_sat)
        assert self.row == split, "R1: first-signed before the row is committed"
        self.first_signed.add(split)
        self.do(model.VerdictSigned(self.world.verdict(split, state.reason)))


class World:
    """Three nodes and a chain."""

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
        self.nodes: tuple[Node, ...] = (self.maker, self.taker, self.arbiter)
        self.traders = (self.maker, self.taker)
        self.buyer, self.seller = sorted(self.traders, key=lambda t: not t.is_buyer)
        self.refusals: list[str] = []

    def node(self, node_id: bytes) -> Node:
        return next(n for n in self.nodes if n.me == node_id)

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

    def received(self) -> Received:
        facts, key = self.seller.facts(), self.play.key(self.seller.key)
        split = release(facts.contract)
        return Received(signature=first_signature(key, facts.contract, facts.outpoint, split))

    def verdict(self, split: Split, reason: str) -> Verdict:
        case = self.arbiter.case()
        key = arbiter_secret(case.contract.seed, case.contract.bond_a)
        signature = first_signature(key, case.contract, case.outpoint, split)
        buyer, seller, arbiter = split.array()
        return Verdict(
            buyer_sat=buyer,
            seller_sat=seller,
            arbiter_sat=arbiter,
            signature=signature,
            reason=reason,
        )

    def papers(self, trader: Trader) -> tuple[bytes, ...]:
        both = {self.maker.me, self.taker.me}
        return tuple(m.wire() for m in trader.messages if {m.sender, m.recipient} == both)

    def dispute(self, trader: Trader) -> Dispute:
        return Dispute(
            contract=trader.facts().contract.wire(),
            messages=self.papers(trader),
            records=tuple(r.wire() for _, r in sorted(trader.records.items())),
            statement="he does not answer",
        )

    def statement(self, trader: Trader) -> Statement:
        return Statement(statement="it was otherwise", messages=self.papers(trader))

    # -- the post

    def waiting(self) -> list[tuple[Node, Message]]:
        return [(node, message) for node in self.nodes for message in node.outbox]

    def carry(self, sender: Node, message: Message, *, lose_ack: bool = False) -> None:
        """Deliver one message; a refusal drops the chain, as a courier does."""
        recipient = self.node(message.recipient)
        try:
            done = recipient.deliver(message)
        except Refused as error:
            self.refusals.append(f"{type(recipient.state).__name__}: {error}")
            sender.outbox = [m for m in sender.outbox if m.recipient != message.recipient]
            return
        if done and not lose_ack and message in sender.outbox:
            sender.outbox.remove(message)

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
                node.perform(duty)
                if self._print() != before:
                    return
        for node in self.nodes:
            node.look()
        if self._print() == before:
            self.ledger.mine(1)

    def calm(self) -> bool:
        """Let everything happen once, in order; tells whether anything did."""
        before = self._print()
        for sender, message in self.waiting():
            if message in sender.outbox:
                self.carry(sender, message)
        for node in self.nodes:
            node.crash = False
            node.look()
            for duty in node.duties():
                node.perform(duty)
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

    def finish(self) -> None:
        """Everyone is kind and does what his node advises; the trade must come to its end."""
        for _ in range(40):
            self.settle()
            if all(isinstance(t.state, ENDED) for t in self.traders):
                return
            self._advise()
            self.settle()
            # a day at a time once a dispute's deadlines are what is waited for
            waits = any(isinstance(t.state, (model.Disputed, model.Funded)) for t in self.traders)
            self.ledger.mine(160 if waits else FINAL)
            self.now += 601

    def _advise(self) -> None:
        buyer, seller, arbiter = self.buyer, self.seller, self.arbiter
        if isinstance(buyer.state, model.Funded) and self.ask(buyer, lambda: model.SayPaid("")):
            self.ask(buyer, lambda: model.OpenDispute(self.dispute(buyer)))
        if isinstance(seller.state, model.Paid):
            self.ask(seller, lambda: model.SayReceived())
        if isinstance(seller.state, model.Releasing):
            self.ask(seller, lambda: model.OpenDispute(self.dispute(seller)))
        for trader in self.traders:
            if isinstance(trader.state, (model.Disputed, model.Releasing)):
                said = [m for m in trader.messages if m.kind is Kind.STATEMENT]
                if len(said) < 3:
                    self.ask(trader, lambda t=trader: model.MakeStatement(self.statement(t)))  # type: ignore[misc]
        if isinstance(arbiter.state, model.Hearing):
            contract = arbiter.case().contract
            full = release(contract).buyer_sat
            for sat in (full, full - contract.fee_a, contract.dep_b):
                if not self.ask(arbiter, lambda s=sat: model.Decide(s, "as the papers say")):  # type: ignore[misc]
                    break


_WHOLES: dict[int, Play] = {}


def _whole(maker_is_seller: int) -> Play:
    if maker_is_seller not in _WHOLES:
        _WHOLES[maker_is_seller] = Play(maker_is_seller=maker_is_seller).acknowledge()
    return _WHOLES[maker_is_seller]


STAGES = (
    *("Taking", "Contracting", "Funding", "Broadcast", "Funded", "Paid", "Releasing"),
    *("Signed", "Acked", "Disputed", "Hearing", "NotPaid", "Unpaid"),
)
UNTIL = {
    "Signed": "Funding",
    **dict.fromkeys(("Releasing", "Disputed", "Hearing"), "Paid"),
    **dict.fromkeys(("Acked", "NotPaid", "Unpaid"), "Funded"),
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
    if name == "NotPaid":
        world.buyer.do(model.SayNotPaid(""))
    if name == "Releasing":
        world.seller.do(model.SayReceived())
    if name in {"Disputed", "Hearing", "Unpaid"}:
        world.seller.do(model.OpenDispute(world.dispute(world.seller)))
    if name in {"Hearing", "Unpaid"}:
        world.settle()
        world.buyer.do(model.MakeStatement(world.statement(world.buyer)))
        world.settle()
        assert isinstance(world.arbiter.state, model.Hearing)
    return world
