"""What may happen next, when nobody lies: deliveries, duties, people, blocks, time and faults."""

from collections.abc import Iterator
from typing import Any

import explorer_foes
import explorer_judge as judge
from explorer_nodes import REFUSED, Answer, Local
from explorer_search import Step
from explorer_words import FINAL, ROLES, WORDS
from explorer_world import GONE, LATER, Family, Scene, State

from escrow import model
from escrow.messages import Kind

DUTIFUL = frozenset({"statement", "accept", "received"})  # what people may still say at the end


class Explored(Scene):
    """A family of trades as `explorer_search` wants it."""

    def __init__(self, family: Family) -> None:
        super().__init__(family)
        self._own: dict[tuple[int, int, int], tuple[tuple[str, Answer], ...]] = {}
        self._asks = tuple(self.splits[name].buyer_sat for name in family.asks)

    def steps(self, state: State) -> Iterator[Step]:
        if state.mined >= 0:
            yield from self._mined(state)
            return
        yield from self._chain(state)
        yield from self._deliveries(state)
        for role in range(4):
            if state.nodes[role] >= 0:
                for label, answer in self.own(state, role):
                    after = self.settle(state, role, answer)
                    if after != state:
                        yield "h", label, after
        yield from self._people(state)
        if state.faults < self.family.faults:
            yield from self._faults(state)
        yield from explorer_foes.steps(self, state)

    # -- what the search asks

    def bad(self, state: State) -> str:
        if twice := judge.signed_twice(self, state):
            return twice
        return judge.lost(self, state, self.paid(state.mined)[1]) if state.mined >= 0 else ""

    def good(self, state: State) -> bool:
        return state.mined >= 0 and not self.bad(state)

    def over(self, state: State) -> bool:
        return state.mined >= 0

    def stuck(self, state: State) -> str:
        return judge.condition(self, state)

    # -- the chain

    def _chain(self, state: State) -> Iterator[Step]:
        for spend in state.spends:
            if self.minable(state, spend):
                after = state._replace(mined=spend)
                if state.faults < self.family.faults and "reorg" in self.family.kinds:
                    after = self.look(after)  # what they do now matters only if it is undone
                yield "h", f"mined: {self.name(spend)}", after
        ticks = self.family.ticks
        if state.tick + 1 < len(ticks):
            ends = ticks[state.tick + 1] > self.family.until
            if not ends or (self._called(state) and self._idle(state)):
                yield (
                    "h",
                    f"time {ticks[state.tick + 1]}",
                    self.look(state._replace(tick=state.tick + 1)),
                )

    def _mined(self, state: State) -> Iterator[Step]:
        reorg = state.faults < self.family.faults and "reorg" in self.family.kinds
        if reorg and not self.bad(state):
            back = state._replace(mined=-1, faults=state.faults + 1)
            yield "f", "reorg of the payout", self.look(back)

    def name(self, spend: int) -> str:
        branch, split = self.paid(spend)
        word = "BACKUP " if branch else ""
        named = next((n for n, s in self.splits.items() if s == split), "")
        return word + (named or f"{split.buyer_sat}/{split.seller_sat}/{split.arbiter_sat}")

    def _called(self, state: State) -> bool:
        """Tell whether an arbiter was called, which nobody does later in a kind without n."""
        called = state.nodes[2] < 0 or self.local(state, 2).state is not None
        return called or bool(self.contract.n) or self.local(state, 2).lost

    def _idle(self, state: State) -> bool:
        """Tell whether honest nodes have nothing left to do by themselves.

        Once the runner-up may act only his own waits are left, and nobody gains by being late.
        """
        if any(queue for queue in state.post):
            return False
        seller = state.nodes[1]
        if seller >= 0 and state.fiat:
            answer = self.minds[1].answer(seller, ("user", "received"))
            if answer is not None and answer is not REFUSED and answer.after != seller:
                return False
        return not any(
            self.settle(state, role, answer) != state
            for role in range(4)
            if state.nodes[role] >= 0
            for _, answer in self._duties(state, role)
        )

    # -- the post

    def _deliveries(self, state: State) -> Iterator[Step]:
        for place, queue in enumerate(state.post):
            if not queue:
                continue
            sender, to = self.pairs[place]
            message = WORDS.words[queue[0]]
            answer = self.minds[to].answer(state.nodes[to], ("hear", queue[0]))
            if answer is None:
                continue  # not yet
            post = list(state.post)
            post[place] = queue[1:]
            popped = state._replace(post=tuple(post))
            if answer is REFUSED:
                self.note_refusal(state, sender, to, message.kind)
                yield "h", f"{ROLES[to]} refuses {message.kind.name}", popped
                continue
            label = f"{message.kind.name} {ROLES[sender]}->{ROLES[to]}"
            yield "h", label, self.settle(popped, to, answer)

    def late_in(self, state: State) -> bool:
        """Tell whether a wait that begins now would end after the last of the ticks."""
        return self.family.ticks[state.tick] > self.family.until

    # -- what a node does by itself, and what its user says

    def own(self, state: State, role: int) -> tuple[tuple[str, Answer], ...]:
        """Return every step of a node's own that its user, who is honest, may take."""
        number = state.nodes[role]
        key = (role, number, state.fiat)  # the node's view says how late it is
        found = self._own.get(key)
        if found is None:
            said = self._trader_says(number, role, state.fiat) if role < 2 else ()
            if self.late_in(state):
                said = (event for event in said if event[0] in DUTIFUL)
            late = self._duties(state, role) if self.family.late else ()
            found = self._own[key] = (*late, *self._tell(role, number, said))
        return found

    def _duties(self, state: State, role: int) -> Iterator[tuple[str, Answer]]:
        number = state.nodes[role]
        for duty in self.minds[role].duties(number):
            if not isinstance(duty, LATER):
                continue  # done already
            answer = self.minds[role].answer(number, ("duty", duty))
            if answer is not None and answer is not REFUSED:
                yield f"{ROLES[role]} {type(duty).__name__}", answer

    def _tell(self, role: int, number: int, said: Any) -> Iterator[tuple[str, Answer]]:
        for event in said:
            answer = self.minds[role].answer(number, ("user", *event))
            if answer is not None and answer is not REFUSED:
                yield f"{ROLES[role]}: {' '.join(map(str, event))}", answer

    def _trader_says(self, number: int, role: int, fiat: int) -> Iterator[tuple[Any, ...]]:
        """Return what an honest user may say: nothing false, and nothing against himself."""
        local = self.minds[role].locals.things[number]
        mine = [
            WORDS.words[n] for n in local.journal if WORDS.words[n].sender == self.minds[role].me
        ]
        kinds = [m.kind for m in mine]
        if Kind.DISPUTE not in kinds:
            yield "dispute", "A"
        for arbiter in ("A", "A2") if self.family.replies else ():
            if not self._stated(mine, arbiter):
                yield "statement", arbiter
        if self._pleased(local, role, fiat):
            yield ("accept",)
        if role == 0 and not fiat and self.family.refuses and Kind.NOT_PAID not in kinds:
            yield ("not paid",)
        if role == 1 and fiat:
            yield ("received",)
        if ROLES[role] in self.family.askers:
            for sat in self._asks:
                asked = sum(k is Kind.ASK for k in kinds)
                if not asked and (role or not fiat or sat == self.half.buyer_sat):
                    yield "ask", sat
            yield ("withdraw",)
        if self._asks and (role or not fiat or not self._asked_refund(local)):
            yield ("agree",)

    def _stated(self, mine: Any, arbiter: str) -> bool:
        to = self.minds[ROLES.index(arbiter)].me
        said = [m for m in mine if m.recipient == to and m.kind is Kind.STATEMENT]
        return any(explorer_foes.has_words(m) for m in said)

    def _asked_refund(self, local: Local) -> bool:
        theirs = [m for m in (WORDS.words[n] for n in local.journal) if m.kind is Kind.ASK]
        return any(explorer_foes.asked(m) == self.splits["refund"].buyer_sat for m in theirs)

    def _pleased(self, local: Local, role: int, fiat: int) -> bool:
        """Tell whether a verdict that waits for a word gives this user what is true, or less."""
        if not isinstance(local.state, model.Ruled):
            return isinstance(local.state, model.Toxic)
        due, held = self.splits["release" if fiat else "refund"], local.state
        own, mine = (
            (held.buyer_sat, due.buyer_sat) if role == 0 else (held.seller_sat, due.seller_sat)
        )
        return mine - held.arbiter_sat <= own <= mine

    # -- people together

    def _people(self, state: State) -> Iterator[Step]:
        if self.honest[0]:
            yield from self._pays(state)
        if state.nodes[1] >= 0:
            yield from self._gives_back(state)
        for role in (2, 3):
            if state.nodes[role] >= 0:
                yield from self._rules(state, role)

    def _pays(self, state: State) -> Iterator[Step]:
        """An honest buyer sends the money when his node lets him, and says so."""
        if state.fiat or state.nodes[0] < 0:
            return
        answer = self.minds[0].answer(state.nodes[0], ("user", "paid"))
        if answer is None or answer is REFUSED:
            return
        yield "h", "B pays, PAID", self.settle(state._replace(fiat=1), 0, answer)
        if state.faults < self.family.faults and "lost" in self.family.kinds:
            paid = state._replace(fiat=1, faults=state.faults + 1)
            for label, after in self._loss(paid, 0):
                yield "f", f"B pays, {label} before PAID", after

    def _gives_back(self, state: State) -> Iterator[Step]:
        """The money came late, or its sender gave it up: take the verdict.

        He sends the money back, but only once the verdict is paid and final.
        """
        local = self.local(state, 1)
        if not state.fiat or self.honest[0] or not isinstance(local.state, model.Ruled):
            return
        answer = self.minds[1].answer(state.nodes[1], ("user", "accept"))
        if answer is not None and answer is not REFUSED:
            yield "h", "S accepts, to send it back", self.settle(state, 1, answer)

    def _rules(self, state: State, role: int) -> Iterator[Step]:
        """An honest arbiter rules what binds him, else what is true."""
        number, mind = state.nodes[role], self.minds[role]
        for sat in self.verdicts(state, role):
            answer = mind.answer(number, ("user", "decide", sat))
            if answer is not None and answer is not REFUSED:
                yield "h", f"{ROLES[role]} rules {sat}", self.settle(state, role, answer)

    def verdicts(self, state: State, role: int) -> list[int]:
        local, mind = self.local(state, role), self.minds[role]
        if not isinstance(local.state, model.Hearing):
            return []
        if bound := mind.bound(local):  # type: ignore[attr-defined]
            found = [split.buyer_sat for split, _ in bound]
            mean = (found[0] + found[-1]) // 2
            true_ones = [sat for sat in found if (sat > mean) == bool(state.fiat)]
            return true_ones if len(found) > 1 and true_ones else found
        if self.family.mistaken:
            return [split.buyer_sat for split in self.splits.values()]
        return [self.splits["release" if state.fiat else "refund"].buyer_sat]

    # -- faults

    def _faults(self, state: State) -> Iterator[Step]:
        spent = state._replace(faults=state.faults + 1)
        for role in range(4):
            if state.nodes[role] < 0:
                continue
            if ("lost" if role < 2 else "lost arbiter") in self.family.kinds:
                for label, after in self._loss(spent, role):
                    yield "f", label, after
            if "gone" in self.family.kinds and role >= 2:
                nodes = list(state.nodes)
                nodes[role] = GONE
                post = tuple(
                    () if role in pair else queue
                    for pair, queue in zip(self.pairs, state.post, strict=True)
                )
                yield "f", f"{ROLES[role]} is gone", spent._replace(nodes=tuple(nodes), post=post)

    def _loss(self, state: State, role: int) -> Iterator[tuple[str, State]]:
        """A node is restored from a backup taken when the funding was signed, or just now."""
        mind, local, name = self.minds[role], self.local(state, role), ROLES[role]
        if role >= 2:
            if not local.lost:
                unlocked = self.family.ticks[state.tick] >= self.contract.n
                fresh = Local(None, (), None, local.view, role == 2 or unlocked)
                yield f"{name} loses data", self._moved(state, role, mind.locals.of(fresh))
            return
        if isinstance(local.state, model.Toxic):
            return
        state = self._remember(state, role)
        old = model.Broadcast(FINAL, self.views.things[local.view].mtp)
        early = Local(old, tuple(self.begun.numbers), None, local.view)
        for label, from_ in (("loses data", early), ("is restored", local)):
            answer = mind.answer(mind.locals.of(from_), ("user", "lose"))
            assert answer is not None
            yield f"{name} {label}", self._moved(state, role, answer.after)

    def _moved(self, state: State, role: int, number: int) -> State:
        nodes = list(state.nodes)
        nodes[role] = number
        return state._replace(nodes=tuple(nodes))

    def _remember(self, state: State, role: int) -> State:
        """Keep what the lost journal bound its owner to."""
        new = {(role, split) for split in judge.pacts(self, state, role)}
        return state._replace(pact=tuple(sorted({*state.pact, *new}, key=repr)))
