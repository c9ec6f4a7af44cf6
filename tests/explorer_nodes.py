"""Honest nodes as the explorer moves them: the real machines, asked once for each question.

A node is a number: its state, its journal, its split row and its view of the chain, frozen. What
the machines answer is remembered by (node, event), so a graph of a million states asks them some
ten thousand times. The journal is kept in a settled order (`settled`): the machines may depend
on how the chains of different senders were interleaved by `seen` alone, and on what came after a
word of our own to an arbiter.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from explorer_words import (
    FINAL,
    IDS,
    NET,
    POINT,
    ROLE_OF,
    WORDS,
    Beginning,
    Bench,
    own,
    say,
    without_papers,
)

from escrow import duties as duty_rules
from escrow import model, settlement
from escrow.errors import DataLost, NotYet
from escrow.examine import check_seen, examine
from escrow.examine_settling import Examined, World
from escrow.facts import Facts
from escrow.messages import Kind, Message
from escrow.model import State
from escrow.payloads import Received, Settle, decode
from escrow.payout import Split, release
from escrow.shell_inbox import _SIGNED
from escrow.shell_tender import _of_runner_up
from escrow.shell_trades import _first_signs
from escrow.transcript import begins_afresh
from p2pnode.base.errors import InvalidRecord, LocalFault, NodeError, PeerFault

TO_ARBITERS: Final = frozenset({Kind.DISPUTE, Kind.STATEMENT})
USER: Final[dict[str, Any]] = {
    "paid": lambda: model.SayPaid(""),
    "not paid": lambda: model.SayNotPaid(""),
    "received": model.SayReceived,
    "ask": lambda buyer_sat: model.AskSplit(buyer_sat, ""),
    "withdraw": model.WithdrawAsk,
    "agree": lambda: model.AnswerAsk(True),
    "decline": lambda: model.AnswerAsk(False),
    "accept": model.AcceptVerdict,
    "lose": lambda: model.LoseTrust("restored from a backup"),
}


@dataclass(frozen=True)
class Local:
    """All that a node has: nothing else may decide."""

    state: State | None
    journal: tuple[int, ...]
    row: Split | None  # what the key first-signs (R1)
    view: int  # number of the chain view that it last looked at
    lost: bool = False  # an arbiter's node that lost data from after the funding
    papers: tuple[tuple[str, int], ...] = ()  # what an arbiter was shown, by whom


@dataclass(frozen=True)
class Funding:
    """Stands for the funding: only its outpoint matters from here on."""

    escrow_outpoint: Any = POINT


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an event: the node after it, what it said, what it published."""

    after: int
    said: tuple[int, ...] = ()  # message numbers
    published: bytes = b""  # a raw payout
    raised: bytes = b""


REFUSED: Final = Answer(-1)  # for good; None is "not yet"


class Numbered:
    """Frozen things by number, each once."""

    def __init__(self) -> None:
        self.things: list[Any] = []
        self._number: dict[Any, int] = {}

    def of(self, thing: Any) -> int:
        number = self._number.get(thing)
        if number is None:
            number = self._number[thing] = len(self.things)
            self.things.append(thing)
        return number


def settled(journal: Sequence[int], me: bytes) -> tuple[int, ...]:
    """Return a journal in its settled order.

    The first message stays first (it opens a case). Our last word to each arbiter keeps its place
    among the words of the traders: what came later, he may have to be shown. All else is sorted.
    """
    first, rest = journal[0], [WORDS.words[n] for n in journal[1:]]
    last = {m.recipient: n for n, m in enumerate(rest) if m.sender == me and m.kind in TO_ARBITERS}
    traders = {IDS["B"], IDS["S"]}
    later: dict[tuple[int, ...], list[int]] = {}
    for n, message in enumerate(rest):
        if {message.sender, message.recipient} == traders:
            group = tuple(int(n > place) for _, place in sorted(last.items()))
            later.setdefault(group, []).append(journal[n + 1])
    ends = set(last.values())
    done = [
        journal[n + 1]
        for n, m in enumerate(rest)
        if n not in ends and {m.sender, m.recipient} != traders
    ]
    done.sort(key=_place)
    shown: set[bytes] = set()
    for group in sorted(later, key=sum):
        for (arbiter, place), after in zip(sorted(last.items()), group, strict=True):
            if after and arbiter not in shown:
                shown.add(arbiter)
                done.append(journal[place + 1])
        done += sorted(later[group], key=_place)
    done += [journal[n + 1] for arbiter, n in sorted(last.items()) if arbiter not in shown]
    return (first, *done)


def _place(number: int) -> tuple[bytes, bytes, int]:
    message = WORDS.words[number]
    return message.sender, message.recipient, message.seq


def check_place(message: Message, messages: Sequence[Message], *, gaps: bool = False) -> None:
    """Check the place in the sender's chain, as `shell_inbox.check_place` does but for `prev`.

    Raises NotYet for a gap, PeerFault for a number that was used before.
    """
    theirs = [m.seq for m in messages if m.sender == message.sender]
    expected = max(theirs, default=-1) + 1
    if begins_afresh(message) and message.seq >= expected:
        return
    if message.seq > expected and not gaps:
        raise NotYet(f"seq: {message.seq} came before {expected}")
    if message.seq < expected:
        raise PeerFault(f"seq: another message of number {message.seq} was signed before")


class Mind:
    """What traders' and arbiters' nodes share: steps are all or nothing, and asked once."""

    def __init__(self, role: str, begun: Beginning, bench: Bench, views: Numbered) -> None:
        self.role, self.me = role, IDS[role]
        self.begun, self.contract, self.bench, self.views = begun, begun.contract, bench, views
        self.locals = Numbered()
        self.answers: dict[Any, Answer | None] = {}
        self.refusals: dict[str, int] = {}
        self._duties: dict[int, tuple[Any, ...]] = {}

    def answer(self, number: int, event: tuple[Any, ...]) -> Answer | None:
        """Return what becomes of node `number` by an event, or None if it has no place there."""
        key = (number, event)
        if key in self.answers:
            return self.answers[key]
        try:
            found = self.ask(self.locals.things[number], event)
        except NotYet:
            found = None
        except NodeError as error:
            text = f"{self.role} {event[0]}: {type(error).__name__} {error}"
            self.refusals[text] = self.refusals.get(text, 0) + 1
            found = REFUSED
        self.answers[key] = found
        return found

    def ask(self, local: Local, event: tuple[Any, ...]) -> Answer | None:
        raise NotImplementedError

    def duties(self, number: int) -> tuple[Any, ...]:
        """Return what the node's state asks for."""
        found = self._duties.get(number)
        if found is None:
            found = self._duties[number] = self.owed(self.locals.things[number])
        return found

    def owed(self, local: Local) -> tuple[Any, ...]:
        raise NotImplementedError

    def words(self, local: Local, heard: Sequence[int] = ()) -> tuple[Message, ...]:
        return tuple(WORDS.words[n] for n in (*local.journal, *heard))

    def keep(
        self,
        local: Local,
        step: tuple[State, tuple[Any, ...]],
        heard: Iterable[int] = (),
        row: Split | None = None,
    ) -> Answer:
        """Commit the inbox, the state, the outbox."""
        state, sends = step
        journal, said = [*local.journal, *heard], []
        height, base = self.views.things[local.view].tip, getattr(state, "base", 0)
        for send in sends:
            to, trade_id = ROLE_OF[send.to], self.begun.trade_id
            said.append(say(trade_id, self.role, to, send.payload, journal, height, base=base))
            kept = send.payload.kind in TO_ARBITERS and self.role in "BS"
            journal.append(without_papers(said[-1]) if kept else said[-1])
        order = settled(journal, self.me) if journal else ()
        after = replace(local, state=state, journal=order, row=row or local.row)
        return Answer(self.locals.of(after), tuple(said))

    def committed(self, local: Local, split: Split) -> Split:
        """Return the split to sign if its row is there, as `shell_tender` does."""
        if local.row != split:
            raise LocalFault("the split is not committed")
        return split

    def commit_row(self, local: Local, split: Split, *, conceding: bool = False) -> Split:
        """Return the row before a first signature (R1), as `store_journal.commit_split` has it."""
        if local.row not in (None, split) and not conceding:
            raise LocalFault("this key has first-signed another split of this trade")
        return split


class _Terms:
    """What is left of an offer's terms once the contract is there."""

    maker_is_seller = 1


class Trader(Mind):
    """Buyer or seller."""

    def begin(self, view: int) -> int:
        state = model.Broadcast(FINAL, self.views.things[view].mtp)
        return self.locals.of(Local(state, tuple(self.begun.numbers), None, view))

    def facts(self, local: Local, heard: Sequence[int] = ()) -> Facts:
        """Return what a trader knows; what never changes is not derived again."""
        given: dict[str, Any] = {
            "network": NET,
            "me": self.me,
            "maker": IDS["S"],
            "taker": IDS["B"],
            "terms": _Terms(),
            "own": own(self.role),
            "messages": self.words(local, heard),
            "records": {},
            "view": self.views.things[local.view],
        }
        unused = {f.name for f in fields(Facts)} - given.keys()  # of the draw
        facts = Facts(**dict.fromkeys(unused), **given)
        facts.__dict__.update(contract=self.contract, funding=Funding(), final_funding=FINAL)
        return facts

    def ask(self, local: Local, event: tuple[Any, ...]) -> Answer | None:
        match event:
            case ("look", view):
                return self.step(replace(local, view=view), self.views.things[view])
            case ("hear", number):
                return self._hear(local, number)
            case ("duty", duty):
                return self._do(local, duty)
            case ("user", name, *given):
                return self.step(local, self._event(local, name, given))
        raise AssertionError(event)

    def step(self, local: Local, event: Any, heard: Sequence[int] = ()) -> Answer:
        """Step and commit, the split row with it."""
        before, facts = local.state, self.facts(local, heard)
        assert before is not None
        state, sends = settlement.step(before, event, facts)
        row = _first_signs(before, state, event, self.facts(local))
        if row is not None:
            self.commit_row(local, row, conceding=isinstance(state, model.Toxic))
        return self.keep(local, (state, sends), heard, row)

    def _event(self, local: Local, name: str, given: Sequence[Any]) -> Any:
        if name not in {"dispute", "statement"}:
            return USER[name](*given)
        facts, to = self.facts(local), IDS[given[0]]
        if name == "dispute":
            return model.OpenDispute(facts.dispute("he does not answer", to), to)
        return model.MakeStatement(facts.statement("it was so", to), to)

    def _hear(self, local: Local, number: int) -> Answer | None:
        """Do as `shell_inbox` does with a message of a trade."""
        message, toxic = WORDS.words[number], isinstance(local.state, model.Toxic)
        if not toxic:
            try:
                check_seen(message, self.words(local), self.me)
            except DataLost as error:
                answer = self.step(local, model.LoseTrust(f"the peer has {error}"))
                local, toxic = self.locals.things[answer.after], True
        check_place(message, self.words(local), gaps=toxic)
        payload = decode(message.kind, message.payload)
        try:
            found = examine(message, payload, self.facts(local, (number,)), self._world(local))
        except (InvalidRecord, PeerFault):
            if not toxic or message.kind in _SIGNED:
                raise
            found = Examined()
        heard = model.Received(message, found.payload or payload, found.final, found.raised)
        first = self.step(local, heard, (number,))
        after = self.locals.things[first.after]  # each commit wakes the tender, which looks again
        again = self.step(after, self.views.things[after.view])
        return Answer(again.after, (*first.said, *again.said))

    def _world(self, local: Local) -> World:
        return World(
            bench=self.bench,  # type: ignore[arg-type]
            tip_height=self.views.things[local.view].tip,
            merkle_root=lambda height: None,
            own_rate=2,
            is_ours=lambda script: False,
            is_busy=lambda point: False,
            check_account=lambda disclosure, account_hash, method: None,
        )

    def owed(self, local: Local) -> tuple[Any, ...]:
        assert local.state is not None
        found = duty_rules.duties(local.state, self.facts(local), 0)
        return tuple(d for d in found if not isinstance(d, model.Bump))

    def _do(self, local: Local, duty: Any) -> Answer | None:
        contract, facts = self.contract, self.facts(local)
        key = contract.key_b if self.role == "B" else contract.key_s
        match duty:
            case model.Publish(raw, raised):
                return Answer(self.locals.of(local), (), raw, raised)
            case model.SignRelease():
                split = self.committed(local, release(contract))
                event: Any = model.ReleaseSigned(Received(signatures=self.bench.sign(key, split)))
            case model.SignSettle(buyer_sat, seller_sat, ok_id):
                split = self.committed(local, Split(buyer_sat, seller_sat, 0))
                signed = self.bench.sign(key, split)
                event = model.SettleSigned(Settle(ok_id=ok_id, signatures=signed))
            case model.CompleteVerdict():
                branch, verdict = facts.ruling(of_runner_up=_of_runner_up(local.state))
                mine = Split(verdict.buyer_sat, verdict.seller_sat, verdict.arbiter_sat)
                theirs = contract.key_a2 if branch else contract.key_a
                pair = verdict.signatures
                made = self.bench.complete(contract, POINT, mine, theirs, pair, branch)
                event = model.VerdictCompleted(*made)
            case model.CallArbiter(to, why):
                event = model.OpenDispute(facts.dispute(why, to), to)
            case model.ShowPapers(to):
                event = model.MakeStatement(facts.statement("", to), to)
            case _:
                raise AssertionError(duty)
        return self.step(local, event)
