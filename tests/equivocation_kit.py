"""Pairs of signed messages that exclude each other, and pairs that do not."""

from collections.abc import Mapping
from typing import Any

from broken_kit import h, said, who

from escrow.equivocation import Equivocation, What
from escrow.messages import Kind, Message
from escrow.payloads import Paid, Verdict

TRADE = h("trade")
PAIR = (b"\x30" * 71, b"\x30" * 71)  # a proof does not speak of what the signatures open


def words(kind: Kind = Kind.PAID, note: str = "one", **change: Any) -> Message:
    """A message of the maker's to the taker, number 7 of their chain."""
    values = {"trade_id": TRADE, "seq": 7, "prev": h("before"), "payload": Paid(note=note).wire()}
    return said(kind, who("maker"), who("taker"), **(values | change))


def verdict(buyer_sat: int = 1000, *, to: str = "taker", **change: Any) -> Message:
    """A verdict of the arbiter's that leaves the seller the rest of 5,000 sat."""
    named = change.pop("reason", "because")
    payload = Verdict(
        buyer_sat=buyer_sat,
        seller_sat=5000 - buyer_sat,
        arbiter_sat=500,
        signatures=PAIR,
        reason=named,
    )
    values = {"trade_id": TRADE, "seq": 2, "prev": h("notice"), "payload": payload.wire()}
    return said(Kind.VERDICT, who("arbiter"), who(to), **(values | change))


def numbered() -> Equivocation:
    return Equivocation.of(What.NUMBER, words(), words(Kind.NOT_PAID))


def ruled() -> Equivocation:
    return Equivocation.of(What.VERDICTS, verdict(1000), verdict(2000, to="maker", seq=3))


PROOFS: Mapping[str, Equivocation] = {"number": numbered(), "verdicts": ruled()}
