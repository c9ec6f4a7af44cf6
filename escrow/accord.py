"""What two traders have asked and agreed, from their messages alone: rule R3.

    asker   ASK ───────────▶ OPEN ──WITHDRAW──▶ WITHDRAWN ──covered, no OK──▶ FREE
    other        └──OK, before he saw the WITHDRAW──▶ AGREED, for good

Words carry no signature of a payout. An ASK binds its sender until a signed message of the
other, whose `seen` covers the WITHDRAW, comes with no OK before it; an OK whose `seen` covers
the WITHDRAW is void. For an arbiter an OK counts only if a signed message of the asker covers
it, and never from one who signed two messages of one number. Pure; docs/trade.md, section 5.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum

from escrow.messages import Kind, Message
from escrow.payloads import Ask, Ok, Withdraw


class Standing(Enum):
    """Where an ASK stands."""

    OPEN = "open"
    WITHDRAWN = "withdrawn"
    FREE = "free"
    AGREED = "agreed"


@dataclass(frozen=True, slots=True)
class Asked:
    """One ASK and what became of it. Shares in satoshi."""

    ask: Message
    buyer_sat: int
    seller_sat: int
    withdraw: Message | None
    ok: Message | None  # one that binds
    cover: Message | None  # the asker's first message whose `seen` covers that OK
    standing: Standing

    @property
    def binds(self) -> bool:
        """Tell whether it keeps its sender from other words: open, or withdrawn in flight."""
        return self.standing in {Standing.OPEN, Standing.WITHDRAWN}


def asks(messages: Iterable[Message], asker: bytes, other: bytes) -> tuple[Asked, ...]:
    """Return every ASK of `asker` to `other`, oldest first."""
    found = tuple(messages)
    mine = sorted(
        (m for m in found if m.sender == asker and m.recipient == other), key=lambda m: m.seq
    )
    theirs = sorted(
        (m for m in found if m.sender == other and m.recipient == asker), key=lambda m: m.seq
    )
    return tuple(_stand(m, mine, theirs) for m in mine if m.kind is Kind.ASK)


def _stand(ask: Message, mine: list[Message], theirs: list[Message]) -> Asked:
    own, others = {m.id: m for m in mine}, {m.id: m for m in theirs}
    withdraw = next((m for m in mine if _names(m, Kind.WITHDRAW, ask.id)), None)
    freeing = [m for m in theirs if withdraw and _reaches(m.seen, withdraw.id, own)]
    freed = min((m.seq for m in freeing), default=1 << 62)

    def binds(m: Message) -> bool:
        return (
            _names(m, Kind.OK, ask.id)
            and m.seq < freed
            and _reaches(m.seen, ask.id, own)
            and not (withdraw and _reaches(m.seen, withdraw.id, own))
        )

    ok = next((m for m in theirs if binds(m)), None)
    cover = None
    if ok is not None:
        cover = next((m for m in mine if _reaches(m.seen, ok.id, others)), None)
        standing = Standing.AGREED
    elif withdraw is None:
        standing = Standing.OPEN
    else:
        standing = Standing.FREE if freeing else Standing.WITHDRAWN
    terms = Ask.from_wire(ask.payload)
    return Asked(ask, terms.buyer_sat, terms.seller_sat, withdraw, ok, cover, standing)


def _names(message: Message, kind: Kind, ask_id: bytes) -> bool:
    if message.kind is not kind:
        return False
    payload = Withdraw if kind is Kind.WITHDRAW else Ok
    return payload.from_wire(message.payload).ask_id == ask_id


def _reaches(seen: bytes, wanted: bytes, chain: dict[bytes, Message]) -> bool:
    """Tell whether `seen` is that message or comes after it in its sender's own chain.

    Along `prev` alone: numbers are the sender's to choose, and who begins afresh leaves a gap
    into which he could put a word that nobody was sent.
    """
    at = chain.get(seen)
    while at is not None:
        if at.id == wanted:
            return True
        at = chain.get(at.prev)
    return False


def agreement(messages: Iterable[Message], one: bytes, two: bytes) -> Asked | None:
    """Return the first agreement that binds these traders, as one of them knows it."""
    found = tuple(messages)
    both = (*asks(found, one, two), *asks(found, two, one))
    return next((a for a in both if a.standing is Standing.AGREED), None)


def counts(
    papers: Iterable[Message], one: bytes, two: bytes, voided: Collection[bytes]
) -> Asked | None:
    """Return the agreement by which an arbiter is bound, or None.

    `voided` are those who signed two messages of one number: no OK of theirs counts.
    """
    found = tuple(papers)
    both = (*asks(found, one, two), *asks(found, two, one))
    return next(
        (a for a in both if a.ok is not None and a.cover is not None and a.ok.sender not in voided),
        None,
    )


def first_signer_is_buyer(buyer_sat: int, seller_sat: int) -> bool:
    """Tell who first-signs an agreed split: the smaller share, the buyer in a tie."""
    return buyer_sat <= seller_sat
