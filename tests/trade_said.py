"""One message of every kind, signed, of one trade where they fit into one."""

import hashlib
from dataclasses import replace
from functools import cache

from trade_facts import AMOUNT, WORDS, Play

from escrow.messages import ZERO, Kind, Message
from escrow.payloads import (
    Chat,
    Counter,
    Enquiry,
    Evidence,
    Ok,
    Propose,
    Refuse,
    Withdraw,
)
from escrow.payout import refund

FILE = b"a photo of the bank's paper"


@cache
def one_of_each() -> dict[Kind, Message]:
    """Return a message of each kind; what one refers to is there too where it can be."""
    play = Play().acknowledge()
    taken = Play()
    taken.say(taken.taker, taken.take())
    refuse = Refuse(refused_id=taken.messages[0].id, field="rate", value="2")
    aside = [taken.next(taken.maker, refuse), taken.next(taken.taker, WORDS[Kind.ABORT])]
    aside += _before(play)
    aside.append(play.next(play.buyer, WORDS[Kind.NOT_PAID]))
    half = play.contract.escrow_sat // 2
    withdrawn = play.say(play.buyer, play.ask(half - 1))
    play.say(play.buyer, Withdraw(ask_id=withdrawn.id))
    asked = play.say(play.seller, play.ask(half))
    ok = play.next(play.buyer, Ok(ask_id=asked.id))
    aside += [ok, play.next(play.buyer, play.settle(play.buyer, refund(play.contract)))]
    play.say(play.buyer, WORDS[Kind.PAID])
    play.say(play.seller, play.received())
    play.call_arbiter(play.seller)
    arbiter, second = play.arbiter, play.runner_up
    play.say(play.buyer, play.statement(), arbiter.node_id)
    play.say(arbiter, play.forward(), play.buyer.node_id)
    play.say(arbiter, play.verdict(AMOUNT // 2), play.buyer.node_id)
    part = Evidence(
        file_hash=hashlib.sha256(FILE).digest(),
        name="paper.jpg",
        size=len(FILE),
        part=0,
        data=FILE,
    )
    play.say(play.seller, part, arbiter.node_id)
    play.say(play.seller, Chat(text="well?"))
    play.say(second, Enquiry(dispute_id=play.one(play.seller, Kind.DISPUTE).id), arbiter.node_id)
    aside.append(play.next(arbiter, WORDS[Kind.RECUSE], play.seller.node_id))
    bound = Play().acknowledge()
    bound.bind(bound.buyer, half)
    aside.append(bound.one(bound.buyer, Kind.COVER))
    found: dict[Kind, Message] = {}
    for message in (*play.messages, *aside):
        found.setdefault(message.kind, message)
    return {kind: found[kind] for kind in Kind}


def _before(play: Play) -> list[Message]:
    """PROPOSE and COUNTER, which belong to no trade."""
    terms = play.terms
    propose = Propose(
        offer_hash=terms.offer_hash, amount_sat=AMOUNT, fiat_minor=110_000, method=terms.method
    )
    first = _outside(play.next(play.taker, propose, play.maker.node_id), 0, ZERO)
    first = first.signed(play.taker)
    counter = Counter(propose_id=first.id, fiat_minor=115_000, expires_at=1_800_003_600)
    answer = _outside(play.next(play.maker, counter, play.taker.node_id), 1, first.id)
    return [first, answer.signed(play.maker)]


def _outside(message: Message, seq: int, prev: bytes) -> Message:
    return replace(message, trade_id=ZERO, seq=seq, prev=prev, seen=ZERO, signature=b"")
