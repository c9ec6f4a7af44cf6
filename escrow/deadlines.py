"""By when something must be done in a trade or a case, and when its user is reminded of it.

All times are median time past: whose clock is wrong is no matter (docs/trade.md, section 5).
A deadline follows from state and journal, so it is stored nowhere; which reminders were given
is (store_remarks), so each comes once. Pure.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from escrow.case import Case
from escrow.confirm import verdict_due
from escrow.contract import ACCOUNT_S, ACK_S
from escrow.facts import Facts
from escrow.messages import Kind
from escrow.model import ArbiterLost, ChainView, Disputed, Funded, Hearing, Noticed, State

HOURS: Final = (48, 24, 6)  # before a deadline at which its user is reminded, widest first
FAR: Final = 1 << 62  # sorts behind every date


@dataclass(frozen=True, slots=True)
class Deadline:
    """What is due, and by when in median time past."""

    name: str  # details, payment, reply, ruling
    at_mtp: int
    second: bool = False  # it is the runner-up's

    @property
    def key(self) -> str:
        """What it is remembered by: the runner-up's are reminded of anew."""
        return f"{self.name}, runner-up" if self.second else self.name


@dataclass(frozen=True, slots=True)
class Reminder:
    """One word to the user: this much is left. `passed` are wider ones that it stands for."""

    deadline: Deadline
    hours: int
    passed: tuple[int, ...]


def of_trade(state: State, facts: Facts) -> tuple[Deadline, ...]:
    """Return what a trader must do, or the other side, with its date; soonest first."""
    view = facts.view
    if view is None or not view.funding_height or facts.settled_contract is None:
        return ()
    contract, found = facts.contract, []
    match state:
        case Funded() if not facts.one(facts.buyer, Kind.NOT_PAID):
            if not facts.one(facts.peer, Kind.ACCOUNT):
                found.append(Deadline("details", view.funding_mtp + ACCOUNT_S))
            elif not facts.one(facts.buyer, Kind.ACK):
                found.append(Deadline("details", view.funding_mtp + ACK_S))
            found.append(Deadline("payment", contract.period_end(view.funding_mtp)))
        case Disputed(mtp) if mtp:
            if not has_replied(facts):
                found.append(Deadline("reply", mtp + contract.reply_s))
            found.append(Deadline("ruling", verdict_due(contract, mtp, view)))
        case ArbiterLost() if mtp := _second_called(facts, view):
            if not facts.last_words(contract.runner_up):
                found.append(Deadline("reply", mtp + contract.reply_s, second=True))
            found.append(Deadline("ruling", verdict_due(contract, mtp, view), second=True))
        case _:
            pass
    return tuple(sorted(found, key=lambda d: d.at_mtp))


def _second_called(facts: Facts, view: ChainView) -> int:
    """Return when the runner-up took the case, by our chain at the tip that he names; else 0."""
    notice = facts.one(facts.contract.runner_up, Kind.NOTICE) if facts.contract.n else None
    if notice is None or notice.tip_height > view.tip:
        return 0
    return facts.eyes.mtp(max(notice.tip_height, view.funding_height or 0))


def has_replied(facts: Facts) -> bool:
    """Tell whether our user has told an arbiter his side; papers that the node shows are none."""
    return any(facts.last_words(a) for a in facts.arbiters)


def of_case(state: State, case: Case) -> tuple[Deadline, ...]:
    """Return what a case waits for, with its date: the other's reply, and the ruling."""
    if not isinstance(state, (Noticed, Hearing)) or case.view is None:
        return ()
    contract = case.contract
    ruling = Deadline("ruling", verdict_due(contract, state.mtp, case.view))
    if isinstance(state, Noticed):
        return Deadline("reply", state.mtp + contract.reply_s), ruling
    return (ruling,)


def ruling_due(state: State, case: Case) -> int:
    """Return when a case's ruling is due, or FAR where none is awaited."""
    return next((d.at_mtp for d in of_case(state, case) if d.name == "ruling"), FAR)


def reminders(
    found: Iterable[Deadline], mtp: int, given: Collection[tuple[str, int]]
) -> tuple[Reminder, ...]:
    """Return what is to be said now. `given`: names and hours of what was said before.

    Level-triggered: a node that was off says only the nearest that has come, and never a wider
    one after it; nothing is said of what is over.
    """
    said = []
    for deadline in found:
        come = [h for h in HOURS if deadline.at_mtp - h * 3600 <= mtp < deadline.at_mtp]
        if come and (deadline.key, come[-1]) not in given:
            said.append(Reminder(deadline, come[-1], tuple(come[:-1])))
    return tuple(said)
