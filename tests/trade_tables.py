"""Every state x event pair of the trade's machines, asked of the machines themselves.

A *position* is a state with the messages that lead to it. The answers make the reviewed tables
tests/vectors/machine_*.txt and the diagrams in docs/trade.md.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

from trade_facts import (
    AMOUNT,
    MTP,
    NOW,
    TIP,
    WORDS,
    Play,
    identity,
    record,
)

from escrow import hearing, model, rulings
from escrow.case import Case
from escrow.contract import ACK_S
from escrow.duties import duties
from escrow.examine import examine
from escrow.facts import Facts
from escrow.messages import ZERO, Kind
from escrow.model import ChainView, Event, Spend, State
from escrow.payloads import (
    Counter,
    Cover,
    Enquiry,
    Evidence,
    Ok,
    Payload,
    Propose,
    Refuse,
    Withdraw,
)
from escrow.payout import Split, build_payout, refund, release
from escrow.script import p2wpkh
from escrow.shell_trades import trader_step
from p2pnode.base.errors import NodeError
from p2pnode.base.identity import Identity
from p2pnode.base.transaction import Outpoint, Transaction, TxIn, TxOut

RAW = b"raw"
LOW, RAISED = (
    Transaction(
        2, (TxIn(Outpoint(bytes(32), 0)),), (TxOut(value, p2wpkh(b"\x02" + bytes(32))),), 0
    ).serialize()
    for value in (2000, 1000)
)
DEEP = ChainView(TIP + 4, MTP + 3600, TIP + 2, MTP, RAW)
PERIOD_END = MTP + ACK_S + 3600
LATE = replace(DEEP, mtp=PERIOD_END + 96 * 3600)  # when less than RELEASE may be ruled
SPLIT = (AMOUNT // 2, 1_697_000, 3_000)  # what the arbiter rules here
ARBITERS_KINDS = {Kind.NOTICE, Kind.FORWARD, Kind.VERDICT, Kind.RECUSE}
RULED = {"buyer_sat": SPLIT[0], "seller_sat": SPLIT[1], "arbiter_sat": SPLIT[2]}
HALF = 1_350_000  # of the escrow of 2,700,000 sat
ASKED = {"buyer_sat": HALF, "seller_sat": HALF}


@dataclass(frozen=True)
class Outcome:
    """What a step gave: the state's class and text, and the whole answer as text."""

    before: str
    event: str
    after: str  # class of the state after it; empty if refused
    text: str


@cache
def reference(maker_is_seller: int) -> Play:
    """A trade in which everything is said."""
    play = Play(maker_is_seller=maker_is_seller).acknowledge()
    play.say(play.buyer, WORDS[Kind.PAID])
    play.say(play.seller, play.received())
    play.call_arbiter(play.seller)
    play.say(play.buyer, play.statement(), play.arbiter.node_id)
    play.say(play.arbiter, play.forward(), play.buyer.node_id)
    play.say(play.arbiter, play.verdict(AMOUNT // 2), play.buyer.node_id)
    play.say(play.arbiter, play.verdict(AMOUNT // 2), play.seller.node_id)
    return play


_NAMING: dict[Kind, Callable[[bytes], Payload]] = {
    Kind.WITHDRAW: lambda named: Withdraw(ask_id=named),
    Kind.OK: lambda named: Ok(ask_id=named),
    Kind.COVER: lambda named: Cover(covered_id=named),
}


def fitting(kind: Kind, sender: Identity, play: Play) -> Payload:
    """A payload that is true at this point of `play`, as far as its kind can be."""
    peer = play.taker if sender is play.maker else play.maker
    last = {m.kind: m for m in play.messages if m.sender == sender.node_id}
    theirs = {m.kind: m for m in play.messages if m.sender == peer.node_id}
    if kind is Kind.WITHDRAW and Kind.ASK in last:
        return Withdraw(ask_id=last[Kind.ASK].id)
    if kind is Kind.OK and Kind.ASK in theirs:
        return Ok(ask_id=theirs[Kind.ASK].id)
    if kind is Kind.REFUSE and Kind.ASK in theirs:
        return Refuse(refused_id=theirs[Kind.ASK].id, field="ask", value="no")
    if kind is Kind.COVER and (named := theirs.get(Kind.OK) or theirs.get(Kind.WITHDRAW)):
        return Cover(covered_id=named.id)
    if kind is Kind.SETTLE and sender in (play.maker, play.taker):
        ok = last.get(Kind.OK) or theirs.get(Kind.OK)
        if len(play.messages) < 12:  # no funding yet
            return words(kind, sender, play.maker_is_seller)
        split = Split(HALF, HALF, 0) if ok else refund(play.contract)
        if ok or sender is play.buyer:
            return play.settle(sender, split, ok.id if ok else ZERO)
    return words(kind, sender, play.maker_is_seller)


def words(kind: Kind, sender: Identity, maker_is_seller: int) -> Payload:
    """A well-formed payload of that kind, the sender's own where there is one."""
    play = reference(maker_is_seller)
    both: dict[Kind, Callable[[Identity], Payload]] = {
        Kind.CONTRACT: play.signed_contract,
        Kind.INPUTS: play.inputs,
        Kind.WITNESS: play.witness,
        Kind.ACCOUNT: play.account,
        Kind.GET: play.get,
        Kind.PAGE: play.page,
    }
    fixed: dict[Kind, Callable[[], Payload]] = {
        Kind.TAKE: play.take,
        Kind.DRAW: play.draw,
        Kind.REVEAL: play.reveal,
        Kind.ACK: play.ack,
        Kind.RECEIVED: play.received,
        Kind.DISPUTE: play.dispute,
        Kind.NOTICE: lambda: play.notice(play.seller),
        Kind.STATEMENT: play.statement,
        Kind.FORWARD: play.forward,
        Kind.VERDICT: lambda: play.verdict(AMOUNT // 2),
        Kind.ASK: lambda: play.ask(HALF),
        Kind.SETTLE: lambda: play.settle(sender, refund(play.contract)),
        Kind.ENQUIRY: lambda: Enquiry(dispute_id=bytes(32)),
        Kind.EVIDENCE: lambda: Evidence(
            file_hash=bytes(32), name="slip.png", size=1, part=0, data=b"x"
        ),
        Kind.PROPOSE: lambda: Propose(
            offer_hash=bytes(32), amount_sat=AMOUNT, fiat_minor=1, method="CUSTOM"
        ),
        Kind.COUNTER: lambda: Counter(propose_id=bytes(32), fiat_minor=1, expires_at=NOW),
    }
    if kind is Kind.REFUSE:
        return Refuse(refused_id=play.messages[0].id, field="rate", value="2")
    if kind in _NAMING:
        return _NAMING[kind](bytes(32))
    if kind in WORDS:
        return WORDS[kind]
    if kind in both:
        return both[kind](sender if sender in (play.maker, play.taker) else play.maker)
    return fixed[kind]()


# ------------------------------------------------------------------ a trader's positions


@dataclass(frozen=True)
class Position:
    """A state, told to; `who` restricts it to buyer, seller, maker or taker."""

    name: str
    state: State
    tell: Callable[[Play, Identity], object]
    who: str = ""
    lacks: tuple[int, ...] = ()
    view: ChainView | None = None


def _say(*names: str) -> Callable[[Play, Identity], object]:
    def tell(play: Play, me: Identity) -> None:
        peer = play.taker if me is play.maker else play.maker
        people = {
            "maker": play.maker,
            "taker": play.taker,
            "buyer": play.buyer,
            "seller": play.seller,
            "me": me,
            "peer": peer,
        }
        for name in names:
            if name in STAGES:
                STAGES[name](play)
                continue
            who, kind = name.split()
            if kind == "DISPUTE":
                play.say(people[who], play.dispute(), play.arbiter.node_id)
            elif kind == "STATEMENT":
                play.say(people[who], play.statement(), play.arbiter.node_id)
            elif kind == "NOTICE":
                play.say(play.arbiter, play.notice(people[who]), me.node_id)
            elif kind == "VERDICT":
                play.say(play.arbiter, play.verdict(AMOUNT // 2), me.node_id)
            else:
                play.say(people[who], fitting(Kind[kind], people[who], play))

    return tell


STAGES: dict[str, Callable[[Play], object]] = {
    "open": Play.open,
    "agree": Play.agree,
    "declare": Play.declare,
    "fund": Play.fund,
    "accounts": Play.tell_accounts,
    "acknowledge": Play.acknowledge,
}
_REVEALED = ("taker TAKE", "maker DRAW", "taker GET", "maker PAGE", "taker REVEAL")
POSITIONS = (
    Position("Taking", model.Taking(NOW), _say("taker TAKE"), "taker", (3,)),
    Position("Taking, every record known", model.Taking(NOW), _say("taker TAKE"), "taker"),
    Position("Drawing", model.Drawing(NOW), _say(*_REVEALED[:2]), "maker", (4,)),
    Position("Drawing, GET sent", model.Drawing(NOW), _say(*_REVEALED[:3]), "taker", (3,)),
    Position(
        "Drawing, REVEAL in, GET sent",
        model.Drawing(NOW),
        _say(*_REVEALED, "maker GET"),
        "maker",
        (4,),
    ),
    Position("Contracting, REVEAL sent", model.Contracting(NOW), _say(*_REVEALED), "taker"),
    Position("Contracting, records served", model.Contracting(NOW), _say("open")),
    Position(
        "Contracting, taker's CONTRACT", model.Contracting(NOW), _say("open", "taker CONTRACT")
    ),
    Position("Funding", model.Funding(NOW), _say("agree")),
    Position("Funding, both INPUTS", model.Funding(NOW), _say("declare")),
    Position(
        "Funding, buyer's WITNESS in",
        model.Funding(NOW),
        _say("declare", "buyer WITNESS"),
        "seller",
    ),
    Position(
        "Funding, WITNESS sent",
        model.Funding(NOW, NOW),
        _say("declare", "buyer WITNESS"),
        "buyer",
    ),
    Position(
        "Funding, respending",
        model.Funding(NOW, NOW, RAW),
        _say("declare", "buyer WITNESS"),
        "buyer",
    ),
    Position("Broadcast", model.Broadcast(RAW, MTP), _say("fund")),
    Position("Broadcast again", model.Broadcast(RAW, MTP), _say("acknowledge")),
    Position("Funded, ACCOUNTs told", model.Funded(), _say("accounts"), view=DEEP),
    Position("Funded, ACK told", model.Funded(), _say("acknowledge"), view=DEEP),
    Position(
        "Funded, NOT_PAID told", model.Funded(), _say("acknowledge", "buyer NOT_PAID"), view=DEEP
    ),
    Position("Paid", model.Paid(), _say("acknowledge", "buyer PAID"), view=DEEP),
    Position(
        "Releasing, unsigned",
        model.Releasing(),
        _say("acknowledge", "buyer PAID"),
        "seller",
        view=DEEP,
    ),
    Position(
        "Releasing, unsigned, NOTICE in",
        model.Releasing(),
        _say("acknowledge", "buyer PAID", "me DISPUTE", "me NOTICE"),
        "seller",
        view=DEEP,
    ),
    Position(
        "Releasing, RECEIVED sent",
        model.Releasing(),
        _say("acknowledge", "buyer PAID", "seller RECEIVED"),
        "seller",
        view=DEEP,
    ),
    Position(
        "Releasing, RECEIVED and DISPUTE sent",
        model.Releasing(),
        _say("acknowledge", "buyer PAID", "seller RECEIVED", "seller DISPUTE"),
        "seller",
        view=DEEP,
    ),
    Position(
        "Releasing, completed",
        model.Releasing(LOW, RAISED, 1),
        _say("acknowledge", "buyer PAID", "seller RECEIVED"),
        "buyer",
        view=DEEP,
    ),
    Position(
        "Disputed, NOTICE awaited",
        model.Disputed(MTP),
        _say("acknowledge", "me DISPUTE"),
        view=DEEP,
    ),
    Position(
        "Disputed, NOTICE in",
        model.Disputed(MTP),
        _say("acknowledge", "me DISPUTE", "me NOTICE"),
        view=DEEP,
    ),
    Position(
        "Disputed after PAID, NOTICE in",
        model.Disputed(MTP),
        _say("acknowledge", "buyer PAID", "me DISPUTE", "me NOTICE"),
        view=DEEP,
    ),
    Position(
        "Ruled, completed",
        model.Ruled(LOW, RAISED, 1, **RULED),
        _say("acknowledge", "me DISPUTE", "me NOTICE"),
        view=DEEP,
    ),
    Position(
        "Ruled, not ours to complete",
        model.Ruled(**RULED),
        _say("acknowledge", "me DISPUTE", "me NOTICE"),
        view=DEEP,
    ),
    Position(
        "Ruled when R4 allows it, unpaid",
        model.Ruled(**RULED),
        _say("acknowledge", "me DISPUTE", "me NOTICE"),
        view=LATE,
    ),
    Position(
        "Ruled when R4 allows it, paid",
        model.Ruled(**RULED),
        _say("acknowledge", "buyer PAID", "me DISPUTE", "me NOTICE"),
        view=LATE,
    ),
    Position(
        "Ruled when R4 allows it, released",
        model.Ruled(**RULED),
        _say("acknowledge", "buyer PAID", "seller RECEIVED", "me DISPUTE", "me NOTICE"),
        view=LATE,
    ),
    Position(
        "Ruled, accepted by its user",
        model.Ruled(**RULED, accepted=1),
        _say("acknowledge", "me DISPUTE", "me NOTICE"),
        view=DEEP,
    ),
    *(
        Position(f"Funded, {name}", model.Funded(), _say("acknowledge", *said), view=DEEP)
        for name, said in (
            ("own ASK open", ("me ASK",)),
            ("own ASK withdrawn", ("me ASK", "me WITHDRAW")),
            ("own ASK freed", ("me ASK", "me WITHDRAW", "peer COVER")),
            ("peer's ASK open", ("peer ASK",)),
            ("peer's ASK withdrawn", ("peer ASK", "peer WITHDRAW", "me COVER")),
            ("both ASKs open", ("me ASK", "peer ASK")),
        )
    ),
    Position(
        "Paid, peer's ASK open",
        model.Paid(),
        _say("acknowledge", "buyer PAID", "peer ASK"),
        view=DEEP,
    ),
    Position(
        "Broadcast, NOT_PAID told",
        model.Broadcast(RAW, MTP),
        _say("acknowledge", "buyer NOT_PAID"),
        "buyer",
    ),
    Position(
        "Agreed, as its asker",
        model.Agreed(**ASKED),
        _say("acknowledge", "me ASK", "peer OK", "me COVER"),
        view=DEEP,
    ),
    Position(
        "Agreed, as the one asked",
        model.Agreed(**ASKED),
        _say("acknowledge", "peer ASK", "me OK"),
        view=DEEP,
    ),
    Position(
        "Agreed, first signature sent",
        model.Agreed(**ASKED),
        _say("acknowledge", "me ASK", "peer OK", "me COVER", "me SETTLE"),
        "buyer",
        view=DEEP,
    ),
    Position(
        "Agreed, completed",
        model.Agreed(LOW, RAISED, 1, **ASKED),
        _say("acknowledge", "me ASK", "peer OK", "me COVER", "peer SETTLE"),
        "seller",
        view=DEEP,
    ),
    Position(
        "ArbiterLost",
        model.ArbiterLost(MTP),
        _say("acknowledge", "me DISPUTE", "me NOTICE"),
        view=DEEP,
    ),
    Position(
        "Ruled by the runner-up, not ours to complete",
        model.Ruled(**RULED, backup=1),
        _say("acknowledge", "me DISPUTE", "me NOTICE"),
        view=DEEP,
    ),
    Position("Toxic", model.Toxic(why="lost", base=1000), _say("acknowledge"), view=DEEP),
    Position(
        "Toxic, conceding",
        model.Toxic(why="lost", base=1000, conceding=1),
        _say("acknowledge"),
        view=DEEP,
    ),
    Position(
        "Toxic, verdict in",
        model.Toxic(why="lost", base=1000),
        _say("acknowledge", "me DISPUTE", "me NOTICE", "me VERDICT"),
        view=DEEP,
    ),
    Position(
        "Toxic, verdict accepted",
        model.Toxic(why="lost", base=1000, accepted=1),
        _say("acknowledge", "me DISPUTE", "me NOTICE", "me VERDICT"),
        view=DEEP,
    ),
    Position(
        "Toxic, completed",
        model.Toxic(LOW, RAISED, 1, why="lost", base=1000),
        _say("acknowledge"),
        view=DEEP,
    ),
    Position("Closed", model.Closed(bytes(32), "released", RAW), _say("acknowledge"), view=DEEP),
    Position("Aborted", model.Aborted("why"), _say("open")),
    Position("Void", model.Void(bytes(32)), _say("fund")),
)


def trader_roles() -> Iterator[tuple[str, int, str]]:
    for maker_is_seller in (1, 0):
        for name in ("maker", "taker"):
            seller = (name == "maker") == bool(maker_is_seller)
            yield f"{name}-{'seller' if seller else 'buyer'}", maker_is_seller, name


@cache
def told(position: Position, maker_is_seller: int, name: str) -> Play:
    play = Play(maker_is_seller=maker_is_seller)
    position.tell(play, identity(name))
    return play


# ------------------------------------------------------------------ a trader's events


def chain_events(play: Play) -> dict[str, ChainView]:
    """Everything that the chain can show of a trade."""
    own = build_payout(play.contract, play.outpoint, release(play.contract)).tx
    other = replace(own, locktime=1)
    ruled = build_payout(play.contract, play.outpoint, Split(*SPLIT)).tx
    undone = build_payout(play.contract, play.outpoint, refund(play.contract)).tx
    six, five = TIP + 5, TIP + 6  # heights, seen from TIP + 10
    n = play.contract.n
    overdue = PERIOD_END + play.contract.reply_s + play.contract.verdict_s
    far = replace(DEEP, tip=TIP + 10)
    return {
        "chain: nothing": ChainView(TIP, MTP),
        "chain: funding unconfirmed": ChainView(TIP, MTP, 0, 0, RAW),
        "chain: depth 2 of 3": replace(DEEP, tip=DEEP.tip - 1),
        "chain: depth 3": DEEP,
        "chain: depth 3, funded at fund_by - 6": replace(DEEP, tip=390, funding_height=388),
        "chain: depth 3, funded at fund_by - 5": replace(DEEP, tip=391, funding_height=389),
        "chain: depth 3, 1 s before 48 h": replace(DEEP, mtp=MTP + ACK_S - 1),
        "chain: depth 3, after 48 h": replace(DEEP, mtp=MTP + ACK_S),
        "chain: RELEASE 5 deep": replace(far, spend=Spend(own.txid, five, own.serialize())),
        "chain: RELEASE 6 deep": replace(far, spend=Spend(own.txid, six, own.serialize())),
        "chain: other spend 6 deep": replace(far, spend=Spend(other.txid, six, other.serialize())),
        "chain: REFUND 6 deep": replace(far, spend=Spend(undone.txid, six, undone.serialize())),
        "chain: half of the timelock": replace(DEEP, tip=TIP + 2 + n // 2),
        "chain: 1 block before the timelock's end": replace(DEEP, tip=TIP + 1 + n),
        "chain: the timelock's end": replace(DEEP, tip=TIP + 2 + n),
        "chain: 1 s before a verdict is overdue": replace(DEEP, mtp=overdue - 1),
        "chain: a verdict is overdue": replace(DEEP, mtp=overdue),
        "chain: VERDICT 6 deep": replace(far, spend=Spend(ruled.txid, six, ruled.serialize())),
        "chain: conflict 5 deep": ChainView(TIP + 10, MTP, conflict=Spend(bytes(32), five, RAW)),
        "chain: conflict 6 deep": ChainView(TIP + 10, MTP, conflict=Spend(bytes(32), six, RAW)),
    }


def user_events(maker_is_seller: int) -> dict[str, tuple[Event, dict[str, Any]]]:
    """What our user says, by what the chain shows meanwhile."""
    play = reference(maker_is_seller)
    shallow = {"view": replace(DEEP, tip=DEEP.tip - 1)}
    arbiter, second = play.contract.arbiter, play.contract.runner_up
    return {
        "SayPaid": (model.SayPaid("sent"), {}),
        "SayPaid at depth 2 of 3": (model.SayPaid("sent"), shallow),
        "SayPaid 1 s before the end": (
            model.SayPaid("sent"),
            {"view": replace(DEEP, mtp=PERIOD_END - 1)},
        ),
        "SayPaid at the end": (model.SayPaid("sent"), {"view": replace(DEEP, mtp=PERIOD_END)}),
        "SayNotPaid": (model.SayNotPaid("no"), {}),
        "SayReceived": (model.SayReceived(), {}),
        "SayReceived at depth 2 of 3": (model.SayReceived(), shallow),
        "OpenDispute": (model.OpenDispute(play.dispute(), arbiter), {}),
        "OpenDispute to the runner-up": (model.OpenDispute(play.dispute(), second), {}),
        "OpenDispute to the runner-up after the timelock": (
            model.OpenDispute(play.dispute(), second),
            {"view": replace(DEEP, tip=TIP + 2 + play.contract.n)},
        ),
        "MakeStatement": (model.MakeStatement(play.statement(), arbiter), {}),
        "ShowEvidence": (model.ShowEvidence((words(Kind.EVIDENCE, play.maker, 1),)), {}),
        "SayChat to the peer": (model.SayChat(b"", "hello"), {}),
        "SayChat to the arbiter": (model.SayChat(arbiter, "hello"), {}),
        "AskSplit half": (model.AskSplit(HALF, ""), {}),
        "AskSplit REFUND": (model.AskSplit(refund(play.contract).buyer_sat, ""), {}),
        "AskSplit RELEASE": (model.AskSplit(release(play.contract).buyer_sat, ""), {}),
        "AskSplit 1 sat too much": (model.AskSplit(2 * HALF + 1, ""), {}),
        "WithdrawAsk": (model.WithdrawAsk(), {}),
        "AnswerAsk yes": (model.AnswerAsk(agree=True), {}),
        "AnswerAsk no": (model.AnswerAsk(agree=False), {}),
        "LoseTrust": (model.LoseTrust("the peer has seen more"), {}),
        "AcceptVerdict": (model.AcceptVerdict(), {}),
        "Cancel": (model.Cancel("no more"), {}),
    }


def own_events(play: Play, me: Identity) -> dict[str, tuple[Event, dict[str, Any]]]:
    """What discharges a duty."""
    witness = play.witness(me)
    return {
        "ContractReady": (model.ContractReady(play.signed_contract(me)), {}),
        "CoinsChosen": (model.CoinsChosen(play.inputs(me)), {}),
        "CoinsMissing": (model.CoinsMissing("not enough funds"), {}),
        "FundingSigned, first": (model.FundingSigned(witness), {}),
        "FundingSigned, final": (model.FundingSigned(witness, RAW), {}),
        "RespendReady": (model.RespendReady(RAW), {}),
        "ReleaseSigned": (model.ReleaseSigned(play.received()), {}),
        "SettleSigned": (model.SettleSigned(play.settle(me, refund(play.contract))), {}),
        "VerdictCompleted": (model.VerdictCompleted(RAW, RAW), {}),
    }


_TICKS = (59, 60, 599, 600)


@cache
def trader_outcomes(position: Position, maker_is_seller: int, name: str) -> list[Outcome]:
    """Ask one position about every event, as one of the four kinds of trader."""
    play, me = told(position, maker_is_seller, name), identity(name)
    ref = reference(maker_is_seller)
    facts = play.facts(me, position.view, lacks=position.lacks)
    peer = play.taker if me is play.maker else play.maker
    found = []

    def ask(label: str, event: Event, told_facts: Facts, now: int = NOW) -> None:
        def step() -> tuple[State, Any]:
            heard = event
            if isinstance(heard, model.Received):
                done = examine(heard.message, heard.payload, told_facts, play.world(me))
                said = done.payload or heard.payload
                heard = model.Received(heard.message, said, done.final, done.raised)
            if isinstance(heard, model.SayChat) and not heard.to:
                heard = model.SayChat(peer.node_id, heard.text)
            return trader_step(position.state, heard, told_facts, now)

        found.append(_outcome(position.state, label, step))

    for kind in Kind:
        sender = ref.arbiter if kind in ARBITERS_KINDS else peer
        payload = fitting(kind, sender, play)
        message = play.next(sender, payload, me.node_id)
        told_facts = facts.having(message)
        if kind is Kind.PAGE:
            told_facts = replace(told_facts, records=play.records)
        ask(kind.name, model.Received(message, payload), told_facts)
    for label, view in chain_events(ref).items():
        ask(label, view, replace(facts, view=view))
    for label, (event, more) in (user_events(maker_is_seller) | own_events(ref, me)).items():
        ask(label, event, replace(facts, **more))
    for late in _TICKS:
        ask(f"Tick after {late} s", model.Tick(), facts, NOW + late)
    return found


def trader_duties(position: Position, maker_is_seller: int, name: str) -> str:
    """Return what the position asks its shell to do, at once and after ten minutes."""
    play, me = told(position, maker_is_seller, name), identity(name)
    facts = play.facts(me, position.view, lacks=position.lacks)
    found: dict[str, str] = {}
    for label, now, view in _later(play, position):
        todo = duties(position.state, replace(facts, view=view), now)
        text = ", ".join(type(d).__name__ for d in todo)
        if text and text not in found:
            found[text] = label
    return "; ".join(text + label for text, label in found.items())


def _later(play: Play, position: Position) -> Iterator[tuple[str, int, ChainView | None]]:
    """Clock and chain, at once and as time goes by without a payout."""
    yield "", NOW, position.view
    yield " after 600 s", NOW + 600, position.view
    unconfirmed = ChainView(TIP, MTP + 24 * 3600, 0, 0, RAW)
    yield " a day unconfirmed", NOW, unconfirmed
    yield " three days unconfirmed", NOW, replace(unconfirmed, mtp=MTP + 72 * 3600)
    if position.view is None or not play.contract.n:
        return
    low = build_payout(play.contract, play.outpoint, release(play.contract)).tx
    waiting = replace(DEEP, spend=Spend(low.txid, 0, low.serialize()))
    yield " while a spend waits 3 blocks", NOW, replace(waiting, tip=4)
    yield " at half of the timelock", NOW, replace(DEEP, tip=TIP + 2 + play.contract.n // 2)
    yield " at the timelock's end", NOW, replace(DEEP, tip=TIP + 2 + play.contract.n)


# ------------------------------------------------------------------ the arbiter


@dataclass(frozen=True)
class CasePosition:
    """A state of the arbiter's, told to."""

    name: str
    state: State
    tell: Callable[[Play], object]
    second: int = 0  # the runner-up's

    def judge(self, play: Play) -> Identity:
        return play.runner_up if self.second else play.arbiter


def _case(*extra: str) -> Callable[[Play], object]:
    def tell(play: Play) -> None:
        play.acknowledge()
        if "not paid" in extra:
            play.say(play.buyer, WORDS[Kind.NOT_PAID])
        elif "silent" not in extra:
            play.say(play.buyer, WORDS[Kind.PAID])
        if "released" in extra:
            play.say(play.seller, play.received())
        if "refunded" in extra:
            play.say(play.buyer, play.settle(play.buyer, refund(play.contract)))
        if "agreed" in extra or "uncovered" in extra:
            play.bind(play.buyer, HALF, "OK" if "uncovered" in extra else "COVER")
        judge = play.runner_up if "second" in extra else play.arbiter
        if "overruled" in extra:
            play.call_arbiter(play.seller)
            for trader in (play.buyer, play.seller):
                play.say(play.arbiter, play.verdict(AMOUNT // 2), trader.node_id)
        play.call_arbiter(play.seller, judge)
        for send in rulings.forward(play.case(DEEP, judge)):
            play.say(judge, send.payload, send.to)
        if "heard" in extra:
            play.say(play.buyer, play.statement(), judge.node_id)
        if "ruled" in extra:
            for trader in (play.buyer, play.seller):
                play.say(play.arbiter, play.verdict(AMOUNT // 2), trader.node_id)

    return tell


CASES = (
    CasePosition("Noticed", model.Noticed(MTP), _case()),
    CasePosition("Hearing, paid", model.Hearing(MTP), _case("heard")),
    CasePosition("Hearing, NOT_PAID shown", model.Hearing(MTP), _case("not paid", "heard")),
    CasePosition("Hearing, release forwarded", model.Hearing(MTP), _case("released", "heard")),
    CasePosition("Hearing, refund forwarded", model.Hearing(MTP), _case("not paid", "refunded")),
    CasePosition("Hearing, agreement forwarded", model.Hearing(MTP), _case("agreed", "heard")),
    CasePosition("Hearing, OK that nothing covers", model.Hearing(MTP), _case("uncovered")),
    CasePosition("Noticed, runner-up", model.Noticed(MTP), _case("second"), 1),
    CasePosition("Hearing, runner-up", model.Hearing(MTP), _case("second", "heard"), 1),
    CasePosition(
        "Hearing, runner-up shown a verdict", model.Hearing(MTP), _case("overruled", "second"), 1
    ),
    CasePosition("RecusedCase", model.RecusedCase("I know one of them"), _case("heard")),
    CasePosition("ToxicCase", model.ToxicCase(MTP), _case("heard")),
    CasePosition("RuledCase", model.RuledCase(*SPLIT, "the papers show it"), _case("heard")),
    CasePosition(
        "RuledCase, VERDICT sent",
        model.RuledCase(*SPLIT, "the papers show it"),
        _case("heard", "ruled"),
    ),
    CasePosition("ClosedCase", model.ClosedCase(bytes(32)), _case("heard", "ruled")),
)


@cache
def case_outcomes(position: CasePosition) -> list[Outcome]:
    """Ask one position of the arbiter about every event."""
    play = Play()
    position.tell(play)
    judge = position.judge(play)
    contract, ref = play.contract, reference(1)
    full = release(contract).buyer_sat
    fee = contract.fee_a2 if position.second else contract.fee_a
    below_from = contract.period_end(MTP) + contract.reply_s
    found = []

    def ask(label: str, event: Event, case: Case) -> None:
        found.append(
            _outcome(position.state, label, lambda: hearing.step(position.state, event, case))
        )

    for kind in Kind:
        sender = play.buyer
        payload = fitting(kind, sender, play)
        message = play.next(sender, payload, judge.node_id)
        case = play.case(DEEP, judge).having(message)
        ask(kind.name, model.Received(message, payload), case)
    views = chain_events(ref) | {
        "chain: 1 s before replies are due": replace(DEEP, mtp=MTP + contract.reply_s - 1),
        "chain: replies are due": replace(DEEP, mtp=MTP + contract.reply_s),
    }
    for label, view in views.items():
        ask(label, view, play.case(view, judge))
    for label, sat, view in _rulings(play, full, fee, below_from):
        ask(label, model.Decide(sat, "why"), play.case(view, judge))
    case = play.case(DEEP, judge)
    ask("VerdictSigned", model.VerdictSigned(ref.verdict(AMOUNT // 2)), case)
    ask("Recuse", model.Recuse("I know one of them"), case)
    ask("SayChat to a trader", model.SayChat(play.buyer.node_id, "hello"), case)
    ask("SayChat to a stranger", model.SayChat(bytes(32), "hello"), case)
    ask("LoseTrust", model.LoseTrust("a trader shows a message of ours"), case)
    ask("Tick", model.Tick(), case)
    return found


def _rulings(
    play: Play, full: int, fee: int, below_from: int
) -> Iterator[tuple[str, int, ChainView]]:
    """What may be tried to rule, and when."""
    contract = play.contract
    spent = replace(DEEP, spend=Spend(bytes(32), 0, RAW))
    unlocked = DEEP.funding_height + contract.n
    after = replace(DEEP, tip=unlocked, mtp=below_from)
    forwarded = TIP + rulings.UNUSED_BLOCKS
    yield "Decide RELEASE", full, DEEP
    yield "Decide RELEASE at the latest block", full, replace(DEEP, tip=unlocked - rulings.LATEST)
    yield "Decide RELEASE too late", full, replace(DEEP, tip=unlocked - rulings.LATEST + 1)
    yield "Decide RELEASE after the timelock", full, after
    yield "Decide 1 sat less", full - 1, DEEP
    yield "Decide 1 sat less, 1 s too early", full - 1, replace(DEEP, mtp=below_from - 1)
    yield "Decide 1 sat less, in time", full - 1, replace(DEEP, mtp=below_from)
    yield "Decide 1 sat less, after the timelock", full - 1, after
    yield "Decide nothing, in time", 0, replace(DEEP, mtp=below_from)
    yield "Decide -1", -1, DEEP
    yield "Decide 1 sat too much", contract.escrow_sat - fee + 1, DEEP
    for name, sat in (
        ("RELEASE less fee", full - fee),
        ("REFUND, fee off the seller", refund(contract).buyer_sat),
        ("half, fee off the buyer", HALF - fee),
        ("half, fee off the seller", HALF),
        ("the arbiter's verdict", AMOUNT // 2),
    ):
        yield f"Decide {name}", sat, DEEP
        yield f"Decide {name}, 143 blocks later", sat, replace(DEEP, tip=forwarded - 1)
        yield f"Decide {name}, 144 blocks later", sat, replace(DEEP, tip=forwarded)
        yield f"Decide {name}, after the timelock", sat, after
    yield "Decide RELEASE at depth 2 of 3", full, replace(DEEP, tip=DEEP.tip - 1)
    yield "Decide RELEASE, escrow spent", full, spent


# ------------------------------------------------------------------ as text


def _outcome(before: State, label: str, step: Callable[[], tuple[State, Any]]) -> Outcome:
    name = type(before).__name__
    try:
        state, sends = step()
    except NodeError as error:
        text = str(error).replace(label, "<it>")
        for name, who in _known().items():
            text = text.replace(f"{who.node_id.hex()[:16]}…", name.strip())
        text = re.sub("[0-9a-f]{16}…", "…", text)
        return Outcome(name, label, "", f"{type(error).__name__}: {text}")
    said = [s.payload.kind.name for s in sends]
    text = "stays" if state == before else shown(state)
    if said:
        text += f", sends {', '.join(said)}"
    return Outcome(name, label, type(state).__name__, text)


@cache
def _known() -> dict[str, Identity]:
    found = {"the maker": identity("maker"), "the taker": identity("taker")}
    found |= {f"the arbiter{' ' * m}": reference(m).arbiter for m in (0, 1)}
    return found


def shown(state: State) -> str:
    """Write a state; times as now, transactions as raw."""
    parts = []
    for field in fields(state):
        value = getattr(state, field.name)
        if isinstance(value, bytes):
            value = "raw" if value else "none"
        elif isinstance(value, int) and value >= NOW:
            value = "now" if value == NOW else f"now+{value - NOW}"
        parts.append(f"{field.name}={value}")
    return f"{type(state).__name__}({', '.join(parts)})"


def grouped(answers: dict[tuple[str, str], list[str]], everyone: list[str]) -> list[str]:
    """One line for each answer, with the events that get it and, where it matters, from whom."""
    found: dict[str, list[str]] = {}
    for (text, event), roles in answers.items():
        whose = "" if roles == everyone else f" [{_whose(roles, everyone)}]"
        found.setdefault(text, []).append(event + whose)
    return [f"    {text}\n        <- {'; '.join(events)}" for text, events in found.items()]


def _whose(roles: list[str], everyone: list[str]) -> str:
    for one in ("buyer", "seller", "maker", "taker"):
        if roles == [r for r in everyone if one in r]:
            return one
    return ", ".join(roles)


def trader_table() -> str:
    """Return the trader's whole table."""
    blocks = []
    for position in POSITIONS:
        answers: dict[tuple[str, str], list[str]] = {}
        todo: dict[str, list[str]] = {}
        everyone = []
        for role, maker_is_seller, name in trader_roles():
            if position.who and position.who not in role:
                continue
            everyone.append(role)
            for outcome in trader_outcomes(position, maker_is_seller, name):
                answers.setdefault((outcome.text, outcome.event), []).append(role)
            duty = trader_duties(position, maker_is_seller, name)
            todo.setdefault(duty or "none", []).append(role)
        asked = [
            duty + ("" if roles == everyone else f" [{_whose(roles, everyone)}]")
            for duty, roles in todo.items()
        ]
        whose = f" ({position.who})" if position.who else ""
        head = f"== {position.name}{whose} | {shown(position.state)}"
        blocks.append(
            "\n".join((head, f"    duties: {'; '.join(asked)}", *grouped(answers, everyone)))
        )
    return "\n\n".join(blocks) + "\n"


def arbiter_table() -> str:
    """Return the arbiter's whole table."""
    blocks = []
    for position in CASES:
        play = Play()
        position.tell(play)
        case = play.case(DEEP, position.judge(play))
        todo = ", ".join(type(d).__name__ for d in hearing.duties(position.state, case))
        answers = {(o.text, o.event): ["arbiter"] for o in case_outcomes(position)}
        lines = grouped(answers, ["arbiter"])
        blocks.append(
            "\n".join(
                (
                    f"== {position.name} | {shown(position.state)}",
                    f"    duties: {todo or 'none'}",
                    *lines,
                )
            )
        )
    return "\n\n".join(blocks) + "\n"


@cache
def edges() -> list[tuple[str, str, str]]:
    """Return (state, event, state) for every change of state in either machine, once each."""
    found = set()
    for position in POSITIONS:
        for role, maker_is_seller, name in trader_roles():
            if not position.who or position.who in role:
                found |= _changes(trader_outcomes(position, maker_is_seller, name))
    for case in CASES:
        found |= _changes(case_outcomes(case))
    return sorted(found)


def _changes(outcomes: list[Outcome]) -> set[tuple[str, str, str]]:
    short = {o.event: o.event.split(":")[0].split(",")[0].split(" ")[0] for o in outcomes}
    return {
        (o.before, short[o.event], o.after) for o in outcomes if o.after and o.after != o.before
    }


assert record(0).id  # the fixed keys of the kit work
