"""The arbiter's docket: what a case still lacks, and what a ruling would pay.

Pure, and asks the machine itself: a preview is the step that would be taken, thrown away, so
what it refuses is what `Decide` would refuse, in the same words.
"""

from dataclasses import dataclass

from escrow import evidence, hearing
from escrow.case import Case
from escrow.evidence import Shown
from escrow.messages import Kind
from escrow.model import Decide, Hearing, Noticed, State
from escrow.payout import Payout, build_payout, payout_rates, release, verdict_split
from escrow.rulings import bound_to, earliest_below_release
from p2pnode.base.errors import InvalidRecord, LocalFault
from p2pnode.base.units import moment


@dataclass(frozen=True, slots=True)
class Preview:
    """What a ruling pays at each of its two rates, or why it is refused."""

    payouts: tuple[tuple[int, Payout], ...]  # rate and transaction, lower rate first
    refused: str


def preview(state: State, case: Case, buyer_sat: int) -> Preview:
    """Return what ruling so much to the buyer would do now. Raises InvalidRecord out of bounds."""
    contract = case.contract
    split = verdict_split(contract, buyer_sat, case.branch)
    refused, payouts = "", []
    try:
        hearing.step(state, Decide(buyer_sat, "preview"), case)
    except LocalFault as error:
        refused = str(error)
    for rate in payout_rates(contract):
        try:
            payouts.append((rate, build_payout(contract, case.outpoint, split, rate, case.branch)))
        except InvalidRecord as error:
            refused = refused or f"it cannot be paid: {error}"
    return Preview(tuple(payouts), refused)


def shown_by(case: Case, trader: bytes) -> tuple[Shown, ...]:
    """Return the files that a trader has shown, as far as their parts are here."""
    return evidence.files(evidence.heads(case.messages, trader))


def damaged(case: Case, trader: bytes) -> int:
    """Return how many parts of a trader are here in rows that no longer open."""
    return sum(evidence.head_of(m) is None for m in case.all(trader, Kind.EVIDENCE))


def lacking(state: State, case: Case) -> tuple[str, ...]:
    """Return what keeps a case from being ruled, or ruled one way, in words."""
    if not isinstance(state, (Noticed, Hearing)):
        return ()
    contract, view, found = case.contract, case.view, []
    sides = (("buyer", contract.buyer), ("seller", contract.seller))
    found += [f"the {side}'s statement" for side, who in sides if not case.words(who)]
    for side, who in sides:
        for shown in shown_by(case, who):
            if not shown.complete:
                here = f"{len(shown.here)} of {shown.parts} parts"
                found.append(f"the rest of the {side}'s file {shown.name!r}: {here} are here")
        if count := damaged(case, who):
            found.append(f"{count} parts of the {side}'s files: their rows are damaged here")
    if view is None or view.funding_depth < contract.depth:
        found.append("confirmations of the escrow")
        return tuple(found)
    options = bound_to(case)
    for split, height, why in options:
        if view.tip < height:
            until = f"block {height}" if height < 1 << 39 else "it is forwarded"
            found.append(f"time to act: {why}, {split.buyer_sat} sat to the buyer, until {until}")
    earliest = earliest_below_release(case)
    open_to_evidence = not options and case.paper(contract.buyer, Kind.NOT_PAID) is None
    if open_to_evidence and view.mtp < earliest:
        found.append(
            f"time: less than {release(contract).buyer_sat} sat to the buyer not before "
            f"{moment(earliest)}"
        )
    return tuple(found)
