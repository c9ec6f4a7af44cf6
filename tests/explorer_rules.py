"""Each rule of docs/trade.md, section 5, left out from outside: the explorer must then find a loss.

The machines have no switches. A rule is left out by putting something weaker in its place in
the modules that ask it, in a process that does nothing else.
"""

from collections.abc import Callable
from typing import Any

import explorer_nodes

from escrow import accord, completion, duties, rulings, toxic, words
from escrow.contract import Contract
from escrow.model import SayNotPaid, SayReceived
from p2pnode.base.errors import LocalFault


def r1_one_split() -> None:
    """A key first-signs whatever is asked of it."""
    explorer_nodes.Mind.commit_row = lambda self, local, split, conceding=False: split
    explorer_nodes.Mind.committed = lambda self, local, split: split
    words.bound_elsewhere = lambda facts: False


def r2_own_facts() -> None:
    """A node completes every verdict."""
    duties.may_complete = lambda split, facts: True


def r3_cover() -> None:
    """A WITHDRAW frees its sender at once."""
    accord.Asked.binds = property(lambda self: self.standing is accord.Standing.OPEN)


def r3_bars_payment() -> None:
    """An ASK of one's own does not keep a buyer from paying."""
    accord.Asked.binds = property(lambda self: False)


def r4_counts_covered() -> None:
    """For an arbiter an OK counts whether the asker has covered it or not, and from anybody."""
    rulings.accord = _Loose()


class _Loose:
    """`escrow.accord` with an arbiter who takes any OK that names an ASK."""

    def __getattr__(self, name: str) -> Any:
        return getattr(accord, name)

    def counts(self, papers: Any, one: bytes, two: bytes, voided: Any, *rest: Any) -> Any:
        found = tuple(papers)
        both = (*accord.asks(found, one, two), *accord.asks(found, two, one))
        for asked in both:
            if asked.ok is not None:
                return accord.Asked(
                    asked.ask,
                    asked.buyer_sat,
                    asked.seller_sat,
                    asked.withdraw,
                    asked.ok,
                    asked.cover or asked.ask,
                    accord.Standing.AGREED,
                )
        return None


def r4_time() -> None:
    """An arbiter rules, and a node completes, before the buyer's time to pay is over."""
    rulings.earliest_below_release = lambda case: 0
    completion.in_time = words.in_time = lambda split, facts: True


def r4_pays_in_time() -> None:
    """A buyer may pay after the period's end."""
    real = Contract.period_end
    words_pay = words._pay

    def pay(state: Any, note: str, facts: Any) -> Any:
        Contract.period_end = lambda self, mtp: 1 << 62
        try:
            return words_pay(state, note, facts)
        finally:
            Contract.period_end = real

    words._pay = pay


def toxic_for_good() -> None:
    """A node that has lost data goes on from its old journal as if nothing were."""
    toxic.poisoned = lambda state, why, facts: state


def toxic_may_give_up() -> None:
    """A node that has lost data first-signs nothing at all."""
    real = toxic.step

    def step(state: Any, event: Any, facts: Any) -> Any:
        if isinstance(event, (SayReceived, SayNotPaid)):
            raise LocalFault(toxic.REFUSED)
        return real(state, event, facts)

    toxic.step = step


LEFT_OUT: dict[str, Callable[[], None]] = {
    "R1: one split a key": r1_one_split,
    "R2: own facts": r2_own_facts,
    "R3: a WITHDRAW binds until covered": r3_cover,
    "R3: an ASK bars payment": r3_bars_payment,
    "R4: an OK counts only when covered": r4_counts_covered,
    "R4: nothing below RELEASE before its time": r4_time,
    "R4: the buyer pays in time": r4_pays_in_time,
    "toxic for good": toxic_for_good,
    "a toxic node may give up all": toxic_may_give_up,
}
