"""The payload of each kind of message: one canonical array each, every field bounded.

Construction checks, so an instance that exists is well-formed by itself; whether it is
true here (amounts of the offer, keys of the contract) is `escrow.examine`'s question.
The one declared error is InvalidRecord, naming the field. Layouts: docs/wire.md. The kinds
stand in `payloads_opening` and `payloads_settling`; this is the table of them all.
"""

from typing import Final

from escrow.messages import Kind
from escrow.payload import MAX_NOTE, Payload
from escrow.payloads_opening import (
    MAX_INPUTS,
    MAX_LISTED,
    MAX_PROOFS,
    MAX_RECORD,
    PAGE_RECORDS,
    Abort,
    ContractSigned,
    Counter,
    Declared,
    Draw,
    Get,
    Inputs,
    Page,
    Part,
    Propose,
    Refuse,
    Reveal,
    Take,
    Witness,
    arbiter_list,
)
from escrow.payloads_settling import (
    MAX_CHAT,
    MAX_EVIDENCE,
    MAX_PARTS,
    MAX_RULINGS,
    MAX_TRANSCRIPT,
    MAX_WORDS,
    PART_BYTES,
    Account,
    Ack,
    Ask,
    Chat,
    Cover,
    Dispute,
    Enquiry,
    Evidence,
    Forward,
    Notice,
    NotPaid,
    Ok,
    Paid,
    Received,
    Recuse,
    Settle,
    Statement,
    Verdict,
    Withdraw,
    both_rates,
)

__all__ = [
    "MAX_CHAT",
    "MAX_EVIDENCE",
    "MAX_INPUTS",
    "MAX_LISTED",
    "MAX_NOTE",
    "MAX_PARTS",
    "MAX_PROOFS",
    "MAX_RECORD",
    "MAX_RULINGS",
    "MAX_TRANSCRIPT",
    "MAX_WORDS",
    "PAGE_RECORDS",
    "PART_BYTES",
    "PAYLOADS",
    "Abort",
    "Account",
    "Ack",
    "Ask",
    "Chat",
    "ContractSigned",
    "Counter",
    "Cover",
    "Declared",
    "Dispute",
    "Draw",
    "Enquiry",
    "Evidence",
    "Forward",
    "Get",
    "Inputs",
    "NotPaid",
    "Notice",
    "Ok",
    "Page",
    "Paid",
    "Part",
    "Payload",
    "Propose",
    "Received",
    "Recuse",
    "Refuse",
    "Reveal",
    "Settle",
    "Statement",
    "Take",
    "Verdict",
    "Withdraw",
    "Witness",
    "arbiter_list",
    "both_rates",
    "decode",
]

PAYLOADS: Final[dict[Kind, type[Payload]]] = {
    p.kind: p
    for p in (
        *(Propose, Counter, Take, Draw, Reveal, Get, Page, Refuse, Abort, ContractSigned),
        *(Inputs, Witness, Account, Ack, Paid, NotPaid, Received, Dispute, Notice, Statement),
        *(Forward, Verdict, Ask, Withdraw, Ok, Cover, Settle, Chat, Evidence, Recuse, Enquiry),
    )
}
assert set(PAYLOADS) == set(Kind)  # noqa: S101 - the table is whole, or nothing starts


def decode(kind: Kind, raw: bytes) -> Payload:
    """Parse the payload of a message of `kind`. Raises InvalidRecord."""
    return PAYLOADS[kind].from_wire(raw)
