"""The nodes of a trade in memory: the real machines of two traders, the arbiter, the runner-up.

The shell here is the law of docs/architecture.md and no more: one step is all or nothing, what is
sent waits in an outbox until it is acknowledged, duties follow from the state. A crash loses
what was not committed, and nothing else. After each commit it is checked what rules R1 to R4
forbid, by other means than the machines' own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from trade_facts import EYES, NET, Bench

from escrow import hearing, model
from escrow.case import Case
from escrow.confirm import on_chain
from escrow.duties import duties
from escrow.errors import DataLost, NotYet, NumberUsed
from escrow.examine import check_once, check_seen, check_sender, examine
from escrow.examine_settling import Examined
from escrow.facts import Facts
from escrow.funding import read_declared, respend
from escrow.hearing import open_case
from escrow.messages import FRESH_STEP, ZERO, Kind, Message
from escrow.model import ChainView, Event, State
from escrow.opening import EARLY_STATES
from escrow.payloads import Inputs, Ok, Withdraw, decode
from escrow.payout import Branch, Split, build_payout, payout_rates, release
from escrow.script import p2wpkh
from escrow.shell_cases import check_signatures
from escrow.shell_inbox import _SIGNED, check_place
from escrow.shell_tender import _of_runner_up
from escrow.shell_trades import ENDED, _first_signs, trader_step
from escrow.transcript import case_papers, check_dispute, shown_rulings
from p2pnode.base.errors import InvalidRecord, NodeError, PeerFault
from p2pnode.base.identity import Identity

__all__ = ["ENDED", "Arbiter", "Node", "Refused", "Trader", "on_chain"]

K = Kind
_FROM_TRADERS = {K.STATEMENT, K.DISPUTE, K.CHAT, K.EVIDENCE}


class Refused(Exception):
    """A node refused another's message for good."""

    def __init__(self, text: str, *, used: bool = False, show: bool = False) -> None:
        super().__init__(text)
        self.used = used  # "another message of this number": the sender has lost data
        self.show = show  # "show me the message of mine that you have seen": the recipient has


@dataclass
class Node:
    """What all four share: messages, an outbox, and steps that are all or nothing."""

    world: Any  # trade_world.World
    key: Identity
    state: State | None = None
    messages: list[Message] = field(default_factory=list)
    outbox: list[Message] = field(default_factory=list)
    view: ChainView | None = None
    row: Split | None = None  # R1: what this key first-signs
    first_signed: set[tuple[Split, Branch]] = field(default_factory=set)
    history: list[State] = field(default_factory=list)
    backups: list[dict[str, Any]] = field(default_factory=list)
    crash: bool = False  # the next step ends before its commit
    liar: bool = False  # says what he likes: nothing is asked of him
    lost: bool = False  # an old copy of his journal was put back

    @property
    def me(self) -> bytes:
        return self.key.node_id

    @property
    def honest(self) -> bool:
        return not self.liar

    def compose(self, to: bytes, payload: Any, since: Sequence[Message], base: int = 0) -> Message:
        """Sign the next message of our chain to `to`, as `Trades.sign` does."""
        mine = [m for m in since if (m.sender, m.recipient) == (self.me, to) and m.seq >= base]
        theirs = [m for m in since if m.sender == to]
        return Message(
            network=NET,
            kind=payload.kind,
            trade_id=self.world.trade_id,
            sender=self.me,
            recipient=to,
            seq=mine[-1].seq + 1 if mine else base,
            prev=mine[-1].id if mine else ZERO,
            seen=theirs[-1].id if theirs else ZERO,
            tip_height=self.world.ledger.height,
            tip_hash=bytes(32),
            draw_no=1 if payload.kind is K.DRAW else 0,
            payload=payload.wire(),
        ).signed(self.key)

    def commit(
        self,
        state: State,
        received: Sequence[Message],
        sends: Sequence[Any],
        signs: Split | None = None,
    ) -> None:
        """One transaction: inbox, state, split, outbox; or, in a crash, nothing of it."""
        if self.crash:
            self.crash = False
            return
        base = state.base if isinstance(state, model.Toxic) else 0
        ours: list[Message] = []
        for send in sends:
            since = [*self.messages, *received, *ours]
            ours.append(self.compose(send.to, send.payload, since, base))
        if ours or received or state != self.state:
            self._back_up()
        if signs:
            self.book(signs, conceding=isinstance(state, model.Toxic))
        self.messages += [*received, *ours]
        self.outbox += ours
        if state != self.state:
            self.history.append(state)
        self.state = state

    # -- copies of the journal

    _KEPT = ("state", "messages", "outbox", "row")

    def _back_up(self) -> None:
        kept = {name: getattr(self, name) for name in self._KEPT}
        self.backups.append({n: list(v) if type(v) is list else v for n, v in kept.items()})

    def restore(self, back: int) -> bool:
        """Put an old copy of the journal back; what has been signed and sent stays in the world."""
        if not self.backups or isinstance(self.state, (*ENDED, model.Toxic)):
            return False
        kept = self.backups[-1 - back % len(self.backups)]
        if kept["state"] is None:
            return False
        for name, value in kept.items():
            setattr(self, name, list(value) if type(value) is list else value)
        self.backups, self.history, self.lost = [], [], True
        return True

    # -- the inbox

    def deliver(self, message: Message) -> bool:
        """Apply a message as an inbox does; True acknowledges. Raises Refused."""
        message = self.world.parsed(message)
        if any(m.id == message.id for m in self.messages):
            return True
        before = len(self.messages)
        try:
            self.hear(message)
        except NotYet:
            return False
        except NumberUsed as error:
            raise Refused(str(error), used=True) from error
        except DataLost as error:
            raise Refused(str(error), show=True) from error
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

    def book(self, split: Split, *, conceding: bool = False) -> None:
        if self.honest and not conceding:
            assert self.row in (None, split), "R1: another split of this key is committed"
        self.row = split


@dataclass
class Trader(Node):
    """Buyer or seller over the real machines."""

    has_money: bool = False  # the user said that the money is in
    has_paid: bool = False  # his node let the user pay, and he did
    doubted: bool = False  # a peer has named a message of ours that is not here
    accepted: list[int] = field(default_factory=list)  # own shares of verdicts the user took
    records: dict[bytes, Any] = field(default_factory=dict)
    _key: Any = None
    _facts: Any = None  # the facts as of `_key`, with what they have derived

    def facts(self, received: Sequence[Message] = ()) -> Facts:
        last = self.messages[-1].id if self.messages else b""
        key = (len(self.messages), last, self.view, len(self.records), self.doubted)
        if key != self._key:
            messages, records = tuple(self.messages), dict(self.records)
            facts = self.world.play.facts(self.key, self.view)
            known = {"messages": messages, "records": records, "doubted": self.doubted}
            self._facts = replace(facts, **known)
            self._key = key
        found: Facts = self._facts
        return found.having(*received) if received else found

    @property
    def is_buyer(self) -> bool:
        return self.key is self.world.play.buyer

    def hear(self, message: Message) -> None:
        """As `shell_inbox.Inbox._apply`."""
        payload, messages = decode(message.kind, message.payload), tuple(self.messages)
        told, toxic = self.facts([message]), isinstance(self.state, model.Toxic)
        check_sender(message, told)
        if not toxic:
            self._seen(message, messages)
        check_place(message, messages, gaps=toxic)
        try:
            found = examine(message, payload, told, self.world.play.world(self.key))
        except (InvalidRecord, PeerFault):
            if not toxic or message.kind in _SIGNED:
                raise
            check_once(message, told)
            found = Examined()
        event = model.Received(message, found.payload or payload, found.final, found.raised)
        self.do(event, [message], learned={r.id: r for r in found.records})

    def _seen(self, message: Message, messages: tuple[Message, ...]) -> None:
        try:
            check_seen(message, messages, self.me)
        except DataLost as error:
            if isinstance(self.state, EARLY_STATES):
                raise PeerFault(str(error)) from None
            self.doubted |= message.sender in (messages[0].sender, messages[0].recipient)
            raise

    def do(self, event: Event, received: Sequence[Message] = (), **more: Any) -> None:
        if isinstance(event, ChainView):
            self.view = event
        assert self.state is not None
        if isinstance(self.state, ENDED) and not received:
            return
        known = {**self.records, **more.get("learned", {})}
        facts = self.facts(received)
        if len(known) > len(self.records):
            facts = replace(facts, records=known)
        state, sends = trader_step(self.state, event, facts, self.world.now)
        if self.honest and not self.crash:
            self._check(event, state, sends, facts)
        if not self.crash:
            self.records = known
            self.has_money |= isinstance(event, model.SayReceived)
            self.has_paid |= any(s.payload.kind is K.PAID for s in sends)
            if isinstance(event, model.AcceptVerdict):
                self.accepted.append(self._share(facts))
        self.commit(state, received, sends, _first_signs(self.state, state, event, facts))

    def _share(self, facts: Facts) -> int:
        assert self.state is not None
        _, verdict = facts.ruling(of_runner_up=_of_runner_up(self.state))
        return verdict.buyer_sat if self.is_buyer else verdict.seller_sat

    # -- what must hold after each step

    def _check(self, event: Event, state: State, sends: Sequence[Any], facts: Facts) -> None:
        for send in sends:
            if isinstance(state, model.Toxic):
                said = {K.DISPUTE, K.STATEMENT, K.EVIDENCE, K.CHAT, K.RECEIVED, K.SETTLE}
                assert send.payload.kind in said, f"Toxic says {send.payload.kind.name}"
            if send.payload.kind is K.PAID:
                self._may_pay(facts)
            if send.payload.kind is K.OK:
                assert self._free(facts), "R3: OK while an ASK of his own binds him"
        fresh = state != self.state
        if fresh and isinstance(state, model.Ruled) and state.raw and not state.accepted:
            self._may_complete(state, facts)

    def _free(self, facts: Facts) -> bool:
        """R3, told anew: every own ASK is withdrawn, and the peer has said that he saw it."""
        asks = facts.all(self.me, K.ASK)
        taken = {Withdraw.from_wire(m.payload).ask_id: m for m in facts.all(self.me, K.WITHDRAW)}
        place = {m.id: n for n, m in enumerate(facts.messages)}
        seen = [place.get(m.seen, -1) for m in facts.messages if m.sender == facts.peer]
        return all(a.id in taken and max(seen) >= place[taken[a.id].id] for a in asks)

    def _bound(self, facts: Facts) -> bool:
        """Tell whether an OK binds: one of ours, or one to us that came before our WITHDRAW."""
        if facts.all(self.me, K.OK):
            return True
        place = {m.id: n for n, m in enumerate(facts.messages)}
        taken = {Withdraw.from_wire(m.payload).ask_id: m for m in facts.all(self.me, K.WITHDRAW)}
        for ok in facts.all(facts.peer, K.OK):
            withdraw = taken.get(Ok.from_wire(ok.payload).ask_id)
            if withdraw is None or place.get(ok.seen, -1) < place[withdraw.id]:
                return True
        return False

    def _may_pay(self, facts: Facts) -> None:
        view, contract = facts.view, facts.contract
        assert self.is_buyer
        assert view is not None
        assert view.funding_height, "PAID while the funding is not in a block"
        assert view.tip - view.funding_height + 1 >= contract.depth, "PAID before depth"
        assert isinstance(self.state, model.Funded)
        kinds = {m.kind for m in self.messages}
        assert K.ACK in kinds, "PAID before ACK"
        assert not kinds & {K.DISPUTE, K.NOTICE}, "PAID in a dispute"
        assert K.NOT_PAID not in kinds, "PAID after NOT_PAID"
        assert self._free(facts), "R3: PAID while an ASK of his own binds him"
        assert not self._bound(facts), "R3: PAID after an OK"
        end = self.world.ledger.mtp_at(view.funding_height) + 48 * 3600 + contract.period_s
        assert view.mtp < end, "PAID after the period's end"

    def _may_complete(self, ruled: model.Ruled, facts: Facts) -> None:
        """R2: by the node alone exactly its user's own end, less the arbiter's fee."""
        contract, agreed = facts.contract, facts.agreed
        own = ruled.buyer_sat if self.is_buyer else ruled.seller_sat
        if agreed:
            due = agreed.buyer_sat if self.is_buyer else agreed.seller_sat
        elif self.is_buyer:
            due = contract.dep_b + (contract.amount_sat if self.has_paid else 0)
        else:
            due = contract.dep_s + (0 if self.has_money else contract.amount_sat)
        assert own <= due, "R2: a node completes more than its user's facts"
        assert own >= due - ruled.arbiter_sat, "R2: a node completes less than its user's facts"

    # -- the shell

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
            case model.Publish(raw, raised):
                self.world.ledger.publish(raw, raised)
            case model.Bump():
                pass  # a child changes nothing of the trade
            case model.SignContract():
                self.do(model.ContractReady(self.world.signed_contract(self.key, facts.contract)))
            case model.ChooseCoins():
                self.do(model.CoinsChosen(play.inputs(self.key)))
            case model.SignFunding():
                theirs = facts.one(facts.peer, K.WITNESS)
                assert facts.funding is not None
                final = facts.funding.tx.serialize() if theirs else b""
                self.do(model.FundingSigned(play.witness(self.key), final))
            case model.Respend():
                self.do(model.RespendReady(self._respent(facts)))
            case model.CompleteVerdict():
                self._complete(facts)
            case model.SignRelease():
                self._first_sign(release(facts.contract))
                self.do(model.ReleaseSigned(self.world.received()))
            case model.SignSettle(buyer_sat, seller_sat, ok_id):
                split = Split(buyer_sat, seller_sat, 0)
                self._first_sign(split)
                self.do(model.SettleSigned(self.world.settled(self, split, ok_id)))
            case model.CallArbiter(to, why):
                self.do(model.OpenDispute(facts.dispute(why, to), to))
            case model.ShowPapers(to):
                self.do(model.MakeStatement(facts.statement("", to), to))
            case _:
                raise AssertionError(f"a duty that the model does not know: {duty}")

    def _respent(self, facts: Facts) -> bytes:
        mine = facts.one(self.me, K.INPUTS)
        assert mine is not None
        assert facts.funding is not None
        coins = [read_declared(d) for d in Inputs.from_wire(mine.payload).inputs]
        home = p2wpkh(b"\x02" + bytes(32))
        rate, fee = facts.contract.rate, facts.funding.fee_sat
        return respend(coins, home, funding_fee=fee, rate=rate).serialize()

    def _first_sign(self, split: Split) -> None:
        assert self.liar or self.row == split, "R1: first-signed before the row is committed"
        self.first_signed.add((split, Branch.MAIN))

    def _complete(self, facts: Facts) -> None:
        assert self.state is not None
        backup, verdict = facts.ruling(of_runner_up=_of_runner_up(self.state))
        split = Split(verdict.buyer_sat, verdict.seller_sat, verdict.arbiter_sat)
        low, raised = (
            build_payout(facts.contract, facts.outpoint, split, rate, Branch(backup)).tx.serialize()
            for rate in payout_rates(facts.contract)
        )
        self.do(model.VerdictCompleted(low, raised))


def _covered(ok: Message, papers: Sequence[Message]) -> bool:
    """Tell whether any message of the asker has seen that OK, or what its sender said later."""
    seqs = {m.id: m.seq for m in papers if m.sender == ok.sender}
    return any(m.sender != ok.sender and seqs.get(m.seen, -1) >= ok.seq for m in papers)


@dataclass
class Arbiter(Node):
    """The arbiter or the runner-up; what he decides is the test's choice."""

    second: bool = False
    _read: Any = None
    _papers: Any = None  # the papers as of so many messages; to read them again is slow

    def case(self, received: Sequence[Message] = ()) -> Case:
        messages = (*self.messages, *received)
        if received or self._read != len(messages):
            self._papers = (*case_papers(messages), messages)
            self._papers += (shown_rulings(messages, self._papers[0]),)
            self._read = None if received else len(messages)
        contract, papers, _, shown = self._papers
        return Case(
            network=NET,
            me=self.me,
            contract=contract,
            messages=messages,
            papers=papers,
            shown=shown,
            view=self.view,
        )

    def hear(self, message: Message) -> None:
        if self.state is None and message.kind is K.DISPUTE:
            self._open(message)
            return
        if self.state is None:
            raise PeerFault("trade_id: is no trade here")
        check_place(message, tuple(self.messages))
        payload = decode(message.kind, message.payload)
        case = self.case()
        other = self.world.arbiter if self.second else self.world.runner_up
        if message.sender == other.me and message.kind in {K.ENQUIRY, K.FORWARD}:
            check_seen(message, case.messages, self.me)
        else:
            if message.sender not in case.traders or message.kind not in _FROM_TRADERS:
                raise PeerFault(f"{message.kind.name} has no place in a case")
            told = self.case([message])
            shown_rulings((message,), case.contract)
            check_signatures(told, told.papers, Bench())  # type: ignore[arg-type]
            check_seen(message, case.messages, self.me)
        self.do(model.Received(message, payload), [message])

    def _open(self, message: Message) -> None:
        contract, papers = check_dispute(message, self.me, EYES)
        if message.seq % FRESH_STEP or message.prev != ZERO:
            raise NotYet("it came before number 0")
        case = self.case([message])
        check_signatures(case, papers, Bench())  # type: ignore[arg-type]
        if case.outpoint.txid not in self.world.ledger.known:
            raise NotYet("their funding is not on our chain")
        view = self.world.ledger.view(case.funding)
        if self.second and not (
            view.funding_height and view.tip >= view.funding_height + contract.n
        ):
            raise NotYet("the runner-up hears a case from the timelock's end on")
        state, sends = open_case(case, message, self.world.ledger.mtp)
        self.commit(state, [message], sends)

    def do(self, event: Event, received: Sequence[Message] = (), **more: Any) -> None:
        if isinstance(event, ChainView):
            self.view = event
        if self.state is None or (isinstance(self.state, ENDED) and not received):
            return
        case = self.case(received)
        state, sends = hearing.step(self.state, event, case)
        signs = None
        if isinstance(state, model.RuledCase) and state != self.state:
            self._check_ruling(state, case)
            signs = Split(state.buyer_sat, state.seller_sat, state.arbiter_sat)
        self.commit(state, received, sends, signs)

    def _check_ruling(self, state: model.RuledCase, case: Case) -> None:
        """R4 to R6 by the chain: when a ruling may come, and when one below RELEASE."""
        contract, view = case.contract, case.view
        assert view is not None
        assert view.funding_height
        unlocked = view.funding_height + contract.n
        if self.second:
            assert view.tip >= unlocked, "R6: the runner-up rules before the timelock's end"
        else:
            assert view.tip <= unlocked - 432, "R5: the arbiter rules after his time"
        shown = {m.kind for m in case.papers}
        bound = {K.NOT_PAID, K.RECEIVED, K.SETTLE}
        agreed = [ok for ok in case.papers if ok.kind is K.OK and _covered(ok, case.papers)]
        earlier = any(m.kind is K.VERDICT for m in case.shown)
        below = state.buyer_sat < release(contract).buyer_sat
        if below and not shown & bound and not agreed and not earlier:
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
        self.first_signed.add((split, Branch.BACKUP if self.second else Branch.MAIN))
        self.do(model.VerdictSigned(self.world.verdict(self, split, state.reason)))
