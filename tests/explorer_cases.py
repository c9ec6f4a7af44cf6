"""The arbiter and the runner-up as the explorer moves them: the real machine over real papers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from explorer_nodes import Answer, Funding, Local, Mind, check_place
from explorer_words import IDS, NET, ROLE_OF, WORDS, without_papers

from escrow import hearing, model, rulings
from escrow.case import Case
from escrow.errors import NotYet
from escrow.messages import Kind, Message
from escrow.payloads import Dispute, Statement, Verdict, decode
from escrow.payout import Split
from escrow.transcript import merge
from p2pnode.base.errors import PeerFault

TRADERS: Final = frozenset({IDS["B"], IDS["S"]})


class Arbiter(Mind):
    """A or A2; what he decides is the explorer's choice."""

    def begin(self, view: int) -> int:
        return self.locals.of(Local(None, (), None, view))

    def case(self, local: Local, heard: Sequence[int] = ()) -> Case:
        """Return what an arbiter knows: `papers` hold what was said after the beginning."""
        numbers = [(w, n) for w, n in local.papers if WORDS.words[n].sender in TRADERS]
        begun = [("BS"[WORDS.words[n].sender == IDS["B"]], n) for n in self.begun.numbers]
        shown = [(IDS[who], WORDS.words[n]) for who, n in (*begun, *numbers)]
        case = Case(
            network=NET,
            me=self.me,
            contract=self.contract,
            messages=self.words(local, heard),
            papers=merge(shown),
            shown=tuple(
                WORDS.words[n] for _, n in local.papers if WORDS.words[n].sender not in TRADERS
            ),
            view=self.views.things[local.view],
        )
        case.__dict__["funding"] = Funding()
        return case

    def ask(self, local: Local, event: tuple[Any, ...]) -> Answer | None:
        match event:
            case ("look", view):
                seen = replace(local, view=view)
                if local.state is None:
                    return Answer(self.locals.of(seen))
                made = self.views.things[view]
                return self.keep(seen, hearing.step(local.state, made, self.case(seen)))
            case ("hear", number):
                return self._hear(local, number)
            case ("duty", model.SignVerdict()):
                ruled: Any = local.state
                split = Split(ruled.buyer_sat, ruled.seller_sat, ruled.arbiter_sat)
                signed = model.VerdictSigned(self.verdict(split, ruled.reason))
                step = hearing.step(ruled, signed, self.case(local))
                return self.keep(local, step, row=self.commit_row(local, split))
            case ("user", "decide", buyer_sat):
                decided = model.Decide(buyer_sat, "the papers show it")
                assert local.state is not None
                return self.keep(local, hearing.step(local.state, decided, self.case(local)))
        raise AssertionError(event)

    def owed(self, local: Local) -> tuple[Any, ...]:
        return hearing.duties(local.state, self.case(local)) if local.state else ()

    def verdict(self, split: Split, reason: str = "so") -> Verdict:
        """Return a VERDICT signed by this arbiter's key of his branch."""
        branch = int(self.role == "A2")
        key = self.contract.key_a2 if branch else self.contract.key_a
        return Verdict(
            buyer_sat=split.buyer_sat,
            seller_sat=split.seller_sat,
            arbiter_sat=split.arbiter_sat,
            signatures=self.bench.sign(key, split, branch),
            reason=reason,
        )

    def _hear(self, local: Local, number: int) -> Answer | None:
        """Do as `shell_cases` does; the papers are set apart from the words."""
        message = WORDS.words[number]
        payload = decode(message.kind, message.payload)
        if isinstance(payload, (Dispute, Statement)):
            number = without_papers(number)
            local = self._shown(local, ROLE_OF[message.sender], payload)
            message = WORDS.words[number]
        view = self.views.things[local.view]
        if local.state is None:
            if not isinstance(payload, Dispute):
                raise PeerFault("trade_id: is no trade here")
            if self.role == "A2" and not self.contract.n:
                raise PeerFault("arbiter: is not this node")
            if self.role == "A2" and view.tip < view.funding_height + self.contract.n:
                raise NotYet("the runner-up hears a case from the timelock's end on")
            lost = local.lost or self._own_shown(local)
            case = self.case(local, (number,))
            step = hearing.open_case(case, message, view.mtp, lost=lost)
            return self.keep(local, step, (number,))
        check_place(message, self.words(local))
        case = self.case(local, (number,))
        self._admit(message, case)
        if self._own_shown(local):
            state, _ = hearing.step(local.state, model.LoseTrust("a message of ours"), case)
            local = replace(local, state=state)
            step = hearing.step(state, model.Received(message, payload), case)
        else:
            step = hearing.step(local.state, model.Received(message, payload), case)
        return self.keep(local, step, (number,))

    def _shown(self, local: Local, who: str, payload: Dispute | Statement) -> Local:
        """Keep what a trader shows: papers, and what an arbiter has told him."""
        raw = (*payload.messages, *payload.rulings)
        numbers = {WORDS.number(WORDS.parse(r).id) for r in raw} - set(self.begun.numbers)
        return replace(local, papers=tuple(sorted({*local.papers, *((who, n) for n in numbers)})))

    def _own_shown(self, local: Local) -> bool:
        """Tell whether a trader has shown a message of ours that we do not have."""
        ours = {n for _, n in local.papers if WORDS.words[n].sender == self.me}
        return not ours <= set(local.journal)

    def _admit(self, message: Message, case: Case) -> None:
        other = case.contract.runner_up if self.role == "A" else case.contract.arbiter
        between = message.kind in {Kind.ENQUIRY, Kind.FORWARD} and message.sender == other
        if message.sender not in case.traders and not between:
            raise PeerFault("sender: is no party of this case")

    def bound(self, local: Local) -> tuple[tuple[Split, int], ...]:
        """Return the splits that the traders' own words bind this arbiter to."""
        return tuple((split, height) for split, height, *_ in rulings.bound_to(self.case(local)))
