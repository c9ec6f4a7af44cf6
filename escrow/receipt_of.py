"""The receipt of one's own trade, from one's own journal and chain: nobody else is asked.

Pure: the shell brings the facts, the payout that closed the trade and both places in the chain.
"""

from collections.abc import Iterable
from typing import Any

from escrow.equivocation import carried, split_of
from escrow.facts import Facts
from escrow.messages import Kind, Message
from escrow.model import Closed
from escrow.payloads import ContractSigned
from escrow.payout import Branch, Split, build_payout, payout_rates, release
from escrow.receipt import Receipt
from escrow.receipt_parts import By, Ended, Funding, Payout, Root, Said, Taken
from p2pnode.base.errors import InvalidRecord, LocalFault

Place = tuple[int, int, tuple[bytes, ...]]  # height, position, merkle branch


def receipt_of(
    facts: Facts, closed: Closed, funded: Place, paid: Place, *, root: tuple[bytes, bytes]
) -> Receipt:
    """Return the receipt of a closed trade. Raises LocalFault for one that gives none.

    `root` is one's own of this trade (`TradeKeys.escrow_root`).
    """
    contract, funding = facts.settled_contract, facts.funding
    if contract is None or funding is None:
        raise LocalFault("the papers of this trade are lost: it gives no receipt")
    by, message, split, raised = _end(facts, closed)
    take = facts.take
    return Receipt(
        contract=contract,
        root=Root(point=root[0], chain_code=root[1]),
        take=Taken(
            tip_height=take.tip_height,
            tip_hash=take.tip_hash,
            draw_no=take.draw_no,
            payload_hash=take.body()[-1],
        ),
        maker=_said(facts, facts.maker),
        taker=_said(facts, facts.taker),
        ended=_ended(by, message, facts),
        funding=Funding(
            transaction=funding.tx.serialize(witness=False),
            **_place(funded),
        ),
        payout=Payout(
            buyer_sat=split.buyer_sat,
            seller_sat=split.seller_sat,
            arbiter_sat=split.arbiter_sat,
            raised=raised,
            **_place(paid),
        ),
    )


def _end(facts: Facts, closed: Closed) -> tuple[By, Message, Split, int]:
    """Return which header, split and rate the payout is of. Raises LocalFault."""
    for by, message, split in _ends(facts):
        raised = _raised(facts, by, split, closed.txid)
        if raised is not None:
            return by, message, split, raised
    raise LocalFault(f"a trade that ended as {closed.outcome} gives no receipt")


def _ends(facts: Facts) -> Iterable[tuple[By, Message, Split]]:
    """Yield what ends a trade with a receipt: header and split of RECEIVED and of each VERDICT."""
    contract = facts.contract
    if received := facts.one(facts.seller, Kind.RECEIVED):
        yield By.RECEIVED, received, release(contract)
    judges = {contract.arbiter: By.VERDICT} | (
        {contract.runner_up: By.BACKUP} if contract.n else {}
    )
    for message in facts.messages:
        for said in (message, *carried(message)):
            if said.kind is Kind.VERDICT and said.sender in judges:
                yield judges[said.sender], said, Split(*split_of(said))


def _raised(facts: Facts, by: By, split: Split, txid: bytes) -> int | None:
    """Return whether the payout of that split is this one, at which of both rates; or None."""
    branch = Branch.BACKUP if by is By.BACKUP else Branch.MAIN
    for raised, rate in enumerate(payout_rates(facts.contract)):
        try:
            built = build_payout(facts.contract, facts.outpoint, split, rate, branch)
        except InvalidRecord:
            continue
        if built.tx.txid == txid:
            return raised
    return None


def _ended(by: By, message: Message, facts: Facts) -> Ended:
    return Ended(
        by=int(by),
        to=int(message.recipient == facts.seller),
        payload_hash=message.body()[-1],
        **_lines(message),
    )


def _said(facts: Facts, sender: bytes) -> Said:
    message = facts.one(sender, Kind.CONTRACT)
    if message is None:
        raise InvalidRecord("CONTRACT", "has not been sent in this trade")
    signed = ContractSigned.from_wire(message.payload)
    return Said(escrow_signature=signed.signature, **_lines(message))


def _lines(message: Message) -> dict[str, Any]:
    names = ("seq", "prev", "seen", "tip_height", "tip_hash", "signature")
    return {name: getattr(message, name) for name in names}


def _place(place: Place) -> dict[str, Any]:
    height, position, branch = place
    return {"height": height, "position": position, "branch": branch}
