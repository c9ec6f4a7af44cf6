"""What binds an arbiter: rules R4, R5 and R6, from the papers and his own chain.

    claim       what counts, of the traders' own words                   who must act
    agreement   an ASK and an OK that a message of the asker covers       its first signer; once he
                                                                         has signed, the completer
    release     the seller's signature on RELEASE                        the buyer
    refund      the buyer's own signature on REFUND                      the seller

Each is forwarded to whoever must act; only if the escrow is unspent 144 blocks later does the
arbiter rule, and then by that split alone, his fee off the one who failed to act. Without any of
them he rules on evidence, never below RELEASE for the buyer before R4's time. Pure.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from escrow import accord
from escrow.case import Case
from escrow.messages import ZERO, Kind, Message
from escrow.model import ChainView, Send
from escrow.payloads import Forward, Settle, Verdict
from escrow.payout import Branch, Split, off_fee, refund, release, verdict_split
from escrow.transcript import signed_twice
from p2pnode.base.errors import LocalFault
from p2pnode.base.units import moment

UNUSED_BLOCKS: Final = 144  # a forwarded claim that nobody acts on may then be ruled by
LATEST: Final = 432  # blocks before the timelock's end at which the arbiter rules no more (R5)


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that the traders have signed and that an arbiter may not rule against."""

    name: Literal["agreement", "release", "refund"]
    split: Split
    to: bytes  # who must act
    loser: Literal["B", "S"]  # who pays the arbiter's fee if he does not
    messages: tuple[Message, ...]


def claims(case: Case) -> tuple[Claim, ...]:
    """Return what counts, the agreement first."""
    contract, papers = case.contract, case.papers
    found: list[Claim] = []
    voided = signed_twice(papers)
    if agreed := accord.counts(papers, contract.buyer, contract.seller, voided):
        found.append(_agreement(case, agreed))
    if released := case.paper(contract.seller, Kind.RECEIVED):
        found.append(Claim("release", release(contract), contract.buyer, "B", (released,)))
    if conceded := _settle(papers, contract.buyer, ZERO):
        found.append(Claim("refund", refund(contract), contract.seller, "S", (conceded,)))
    return tuple(found)


def _agreement(case: Case, agreed: accord.Asked) -> Claim:
    contract = case.contract
    assert agreed.ok is not None and agreed.cover is not None  # noqa: S101, PT018 - it counts
    by_buyer = accord.first_signer_is_buyer(agreed.buyer_sat, agreed.seller_sat)
    first = contract.buyer if by_buyer else contract.seller
    split = Split(agreed.buyer_sat, agreed.seller_sat, 0)
    if signed := _settle(case.papers, first, agreed.ok.id):
        to = contract.seller if by_buyer else contract.buyer
        messages = (agreed.ask, agreed.ok, signed)
    else:
        to, messages = first, (agreed.ask, agreed.ok, agreed.cover)
    return Claim("agreement", split, to, "B" if to == contract.buyer else "S", messages)


def _settle(papers: Iterable[Message], sender: bytes, ok_id: bytes) -> Message | None:
    found = (m for m in papers if m.kind is Kind.SETTLE and m.sender == sender)
    return next((m for m in found if Settle.from_wire(m.payload).ok_id == ok_id), None)


def forward(case: Case) -> tuple[Send, ...]:
    """Hand each claim to whoever must act, once."""
    return tuple(
        Send(claim.to, Forward(messages=tuple(m.wire() for m in claim.messages)))
        for claim in claims(case)
        if _forwarded(case, claim) is None
    )


def _forwarded(case: Case, claim: Claim) -> Message | None:
    wanted = tuple(m.wire() for m in claim.messages)
    for m in case.all(case.me, Kind.FORWARD):
        if m.recipient == claim.to and Forward.from_wire(m.payload).messages == wanted:
            return m
    return None


def earlier_verdict(case: Case) -> Verdict | None:
    """Return the verdict of the first arbiter that a trader has shown to the runner-up.

    Two different ones prove that he signed twice: then none binds.
    """
    if case.branch is not Branch.BACKUP:
        return None
    found = {
        m.payload: Verdict.from_wire(m.payload)
        for m in case.shown
        if m.sender == case.contract.arbiter and m.kind is Kind.VERDICT
    }
    alike = {(v.buyer_sat, v.seller_sat) for v in found.values()}
    return next(iter(found.values())) if len(alike) == 1 else None


def repeated(case: Case, verdict: Verdict) -> Split:
    """Return the runner-up's split that repeats a verdict: the fees' difference off the larger."""
    contract = case.contract
    more = case.fee - verdict.arbiter_sat
    buyer, seller = verdict.buyer_sat, verdict.seller_sat
    if buyer >= seller:
        return Split(max(buyer - more, 0), seller - max(more - buyer, 0), contract.fee_a2)
    return Split(buyer - max(more - seller, 0), max(seller - more, 0), contract.fee_a2)


def bound_to(case: Case) -> tuple[tuple[Split, int, str], ...]:
    """Return the only splits that may be ruled, from which height, and why; none: on evidence."""
    contract, found = case.contract, claims(case)
    agreed = tuple(c for c in found if c.name == "agreement")
    options = []
    for claim in agreed or found:
        forwarded = _forwarded(case, claim)
        height = forwarded.tip_height + UNUSED_BLOCKS if forwarded else 1 << 40
        split = off_fee(contract, claim.split, claim.loser, case.branch)
        options.append((split, height, f"the traders have signed the {claim.name}"))
    if not agreed and (verdict := earlier_verdict(case)):
        options.append((repeated(case, verdict), 0, "the arbiter has ruled so"))
    return tuple(options)


def earliest_below_release(case: Case) -> int:
    """Return from when (median time past) a split may give the buyer less than RELEASE."""
    if case.view is None or not case.view.funding_height:
        return 1 << 62
    return case.contract.period_end(case.view.funding_mtp) + case.contract.reply_s


def allowed(case: Case, buyer_sat: int) -> Split:
    """Return the ruling that gives the buyer this much. Raises LocalFault for a rule against it."""
    contract = case.contract
    split = verdict_split(contract, buyer_sat, case.branch)
    view = _judged(case)
    if options := bound_to(case):
        chosen = [o for o in options if o[0].buyer_sat == buyer_sat]
        if not chosen:
            text = ", or ".join(f"{s.buyer_sat} sat to the buyer ({why})" for s, _, why in options)
            raise LocalFault(f"rule {text}", field="buyer_sat")
        _, height, why = chosen[0]
        if view.tip < height:
            raise LocalFault(f"{why} and may still act on it: wait until block {height}")
        return split
    below = split.buyer_sat < release(contract).buyer_sat
    declared = case.paper(contract.buyer, Kind.NOT_PAID)
    earliest = earliest_below_release(case)
    if below and not declared and view.mtp < earliest:
        raise LocalFault(
            "less than a release for the buyer is not allowed before "
            f"{moment(earliest)} by the chain's clock, now {moment(view.mtp)}"
        )
    return split


def _judged(case: Case) -> ChainView:
    """Return our view if a ruling makes sense at this height: depth, spend, R5 and R6."""
    view, contract = case.view, case.contract
    if view is None or view.funding_depth < contract.depth or not view.funding_height:
        raise LocalFault("the escrow is not deep enough in the chain to be ruled on")
    if view.spend is not None:
        raise LocalFault("the escrow is spent already")
    unlocked = view.funding_height + contract.n
    if case.branch is Branch.BACKUP and view.tip < unlocked:
        raise LocalFault(f"the runner-up rules from block {unlocked} on")
    if contract.n and case.branch is Branch.MAIN and view.tip > unlocked - LATEST:
        raise LocalFault(
            f"the arbiter rules until block {unlocked - LATEST}; now it is the runner-up's"
        )
    return view
