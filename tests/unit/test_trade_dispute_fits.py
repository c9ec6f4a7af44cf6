"""Nobody can make a dispute too large to send: the worst case, by real payloads, to the byte."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from trade_facts import EYES, NET, Play, h, identity

from escrow import opening
from escrow.arbiters import ArbiterRecord
from escrow.contract import MAX_BYTES as MAX_CONTRACT
from escrow.examine import _AGAIN
from escrow.messages import MAX_DRAWS, MAX_MESSAGE, MAX_PAYLOAD, MAX_SEQ, ZERO, Kind, Message
from escrow.model import Contracting
from escrow.model import Received as Heard
from escrow.payloads import (
    MAX_CHAT,
    MAX_INPUTS,
    MAX_LISTED,
    MAX_NOTE,
    MAX_PROOFS,
    MAX_RECORD,
    MAX_RULINGS,
    MAX_TRANSCRIPT,
    MAX_WORDS,
    PAGE_RECORDS,
    Abort,
    Account,
    Ack,
    Ask,
    Chat,
    ContractSigned,
    Cover,
    Declared,
    Dispute,
    Draw,
    Get,
    Inputs,
    NotPaid,
    Ok,
    Page,
    Paid,
    Part,
    Payload,
    Received,
    Refuse,
    Reveal,
    Settle,
    Statement,
    Take,
    Verdict,
    Withdraw,
    Witness,
)
from escrow.transcript import check_dispute
from p2pnode.base.errors import InvalidRecord, LocalFault, PeerFault
from p2pnode.base.units import MAX_FIAT_MINOR, MAX_SAT

WORST = 1_019_730  # bytes; raise a bound and this is another: see that it still fits
TOP = 499_999_999  # the greatest height
MAKER, TAKER, ARBITER = identity("maker"), identity("taker"), identity("arbiter 0")


RECORD = b"x" * MAX_RECORD  # a DISPUTE's records are opened after its bounds


def listed(name: str) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(
        sorted((h(f"{name}{n}") + b"\xff" * 4, h(f"{n}{name}")) for n in range(MAX_LISTED))
    )


def said(kind: Kind, payload: Payload, by_maker: bool) -> Message:
    """Sign a message whose header is as long as a header can be."""
    sender, to = (MAKER, TAKER) if by_maker else (TAKER, MAKER)
    return Message(
        network=NET,
        kind=kind,
        trade_id=ZERO if kind is Kind.TAKE else h("trade"),
        sender=sender.node_id,
        recipient=to.node_id,
        seq=MAX_SEQ - 1,  # a multiple of 1,000 begins a chain
        prev=h("prev"),
        seen=h("seen"),
        tip_height=TOP,
        tip_hash=h("tip"),
        draw_no=MAX_DRAWS if kind in {Kind.TAKE, Kind.DRAW} else 0,
        payload=payload.wire(),
    ).signed(sender)


def paging(ids: Sequence[bytes], raw: bytes, by_maker: bool) -> Iterator[Message]:
    """Ask for each of the peer's records in full pages, and be answered."""
    for start in range(0, len(ids), PAGE_RECORDS):
        wanted = tuple(ids[start : start + PAGE_RECORDS])
        get = said(Kind.GET, Get(ids=wanted), by_maker)
        yield get
        page = Page(get_id=get.id, records=(raw,) * len(wanted))
        yield said(Kind.PAGE, page, not by_maker)


def once_each() -> Iterator[Message]:
    """Everything that the two may say once in a trade that can come before an arbiter."""
    part = Part(
        escrow_key=b"\2" + h("k"),
        backup_key=b"\3" + h("b"),
        script=b"\0\x20" + h("s"),
        account_hash=h("a"),
    )
    proof = MAX_PROOFS // MAX_INPUTS
    coin = Declared(
        outpoint=h("o") + bytes(4),
        prev_tx=b"x" * proof,
        height=TOP,
        position=2**20,
        branch=(h("b"),) * 20,
    )
    take = Take(
        offer_hash=h("o"), maker=MAKER.node_id, counter=ZERO, amount_sat=MAX_SAT,
        fiat_minor=MAX_FIAT_MINOR, method="x" * 32, escrow_kind="x" * 32, anchor_h=TOP,
        anchor_hash=h("h"), work=2**62, root=h("r"), commitment=h("c"),
    )  # fmt: skip
    yield said(Kind.TAKE, take, False)
    draw = Draw(take_id=h("t"), nonce=h("n"), arbiters=listed("maker"), part=part, rate=500)
    yield said(Kind.DRAW, draw, True)
    reveal = Reveal(draw_id=h("d"), nonce=h("n"), arbiters=listed("taker"), part=part)
    yield said(Kind.REVEAL, reveal, False)
    both: tuple[Payload, ...] = (
        ContractSigned(contract=b"x" * MAX_CONTRACT, signature=bytes(64)),
        Inputs(inputs=(coin,) * MAX_INPUTS, change_script=b"\0\x20" + h("c")),
        Witness(stacks=((b"x" * 80,) * 2,) * MAX_INPUTS),
        Account(disclosure=b"x" * 4096),
        Abort(reason="x" * MAX_NOTE),
    )
    for payload in both:
        for by_maker in (True, False):
            yield said(payload.kind, payload, by_maker)
    buyer: tuple[Payload, ...] = (
        Ack(account_id=h("a")),
        Paid(note="x" * MAX_NOTE),
        NotPaid(note="x" * MAX_NOTE),
    )
    for payload in buyer:
        yield said(payload.kind, payload, False)


def repeated() -> Iterator[Message]:
    """Everything that the two may say more than once, as often as `examine` allows it."""
    pair = (b"x" * 73, b"x" * 73)
    again: tuple[Payload, ...] = (
        Ask(buyer_sat=MAX_SAT, seller_sat=MAX_SAT, note="x" * MAX_NOTE),
        Withdraw(ask_id=h("a")),
        Ok(ask_id=h("a")),
        Refuse(refused_id=h("a"), field="x" * 64, value="x" * MAX_NOTE),
        Cover(covered_id=h("o")),
        Chat(text="x" * MAX_CHAT),
        Settle(ok_id=h("o"), signatures=pair),
    )
    for payload in again:
        for by_maker in (True, False):
            for _ in range(_AGAIN[payload.kind]):
                yield said(payload.kind, payload, by_maker)
    for _ in range(_AGAIN[Kind.RECEIVED]):
        yield said(Kind.RECEIVED, Received(signatures=pair), True)


def longest_rulings() -> tuple[bytes, ...]:
    """As many of an arbiter's longest words as one may show another."""
    pair = (b"x" * 73, b"x" * 73)
    verdict = Verdict(
        buyer_sat=MAX_SAT,
        seller_sat=MAX_SAT,
        arbiter_sat=MAX_SAT,
        signatures=pair,
        reason="x" * MAX_WORDS,
    )
    return (said(Kind.VERDICT, verdict, True).wire(),) * MAX_RULINGS


@cache
def worst(paged: int) -> tuple[Dispute, Statement]:
    """Both lists distinct and full; so many records of each were asked for, the rest lies beside."""
    messages = [*once_each(), *repeated()]
    for by_maker, name in ((True, "taker"), (False, "maker")):
        ids = sorted(i for _, i in listed(name))[:paged]
        messages += paging(ids, RECORD, by_maker)
    papers, words = tuple(m.wire() for m in messages), "x" * MAX_WORDS
    rest, rulings = (RECORD,) * (2 * (MAX_LISTED - paged)), longest_rulings()
    return (
        Dispute(
            contract=b"x" * MAX_CONTRACT,
            messages=papers,
            records=rest,
            rulings=rulings,
            statement=words,
        ),
        Statement(statement=words, messages=papers, rulings=rulings),
    )


@pytest.mark.parametrize("paged", [MAX_LISTED, MAX_LISTED // 2, 0])
def test_the_largest_dispute_and_statement_fit_into_one_message(paged: int) -> None:
    dispute, statement = worst(paged)
    assert len(dispute.messages) <= MAX_TRANSCRIPT
    asked, told = len(dispute.wire()), len(statement.wire())
    assert told <= asked <= WORST <= MAX_PAYLOAD
    for payload in (dispute, statement):
        sent = replace(said(payload.kind, payload, True), recipient=ARBITER.node_id, signature=b"")
        raw = sent.signed(MAKER).wire()
        assert len(raw) <= MAX_MESSAGE
        read = Message.from_wire(raw, NET)
        assert type(payload).from_wire(read.payload) == payload


def test_the_worst_is_known_to_the_byte_and_on_the_page() -> None:
    """A bound that somebody raises shows here."""
    size = max(len(worst(paged)[0].wire()) for paged in (0, MAX_LISTED))
    assert size == WORST
    page = Path(__file__).parents[2] / "docs" / "wire.md"
    assert f"{WORST:,} bytes" in page.read_text()


def test_every_kind_between_traders_is_in_the_worst() -> None:
    """A new kind must be counted here."""
    aside = {Kind.PROPOSE, Kind.COUNTER, Kind.DISPUTE, Kind.NOTICE, Kind.STATEMENT, Kind.FORWARD}
    aside |= {Kind.VERDICT, Kind.RECUSE, Kind.EVIDENCE, Kind.ENQUIRY}
    papers = worst(MAX_LISTED)[0].messages
    found = {Message.from_wire(raw, NET).kind for raw in papers}
    assert found == set(Kind) - aside


def test_a_dispute_carries_each_listed_record_once() -> None:
    play = Play().acknowledge()
    for who in (play.maker, play.taker):
        facts = play.facts(who)
        dispute = facts.dispute("he does not answer", ARBITER.node_id)
        pages = [Page.from_wire(m.payload) for m in play.messages if m.kind is Kind.PAGE]
        assert pages
        carried = [*dispute.records, *(raw for page in pages for raw in page.records)]
        assert len(carried) == len(set(carried))
        found = {ArbiterRecord.from_wire(raw, NET).id for raw in carried}
        assert found == facts.listed_ids()


def test_the_arbiter_unites_the_records_of_pages_with_those_beside_them() -> None:
    play = Play().acknowledge()
    dispute = play.facts(play.buyer).dispute("he does not answer", play.arbiter.node_id)
    message = play.next(play.buyer, dispute, play.arbiter.node_id)
    assert check_dispute(message, play.arbiter.node_id, EYES)[0] == play.contract
    assert dispute.records
    for n in range(len(dispute.records)):
        short = replace(dispute, records=dispute.records[:n] + dispute.records[n + 1 :])
        message = play.next(play.buyer, short, play.arbiter.node_id)
        with pytest.raises(InvalidRecord, match="records: lack"):
            check_dispute(message, play.arbiter.node_id, EYES)


def test_a_record_that_got_lost_is_a_sentence() -> None:
    play = Play().acknowledge()
    facts = play.facts(play.buyer, lacks=range(5))
    with pytest.raises(LocalFault, match=r"record .* is not here"):
        facts.dispute("he does not answer", ARBITER.node_id)


def test_a_trader_pages_out_his_own_list_alone() -> None:
    """Else one record could be asked for in both directions, and travel twice."""
    play = Play()
    play.say(play.taker, play.take())
    play.say(play.maker, play.draw())
    play.say(play.taker, play.reveal())
    ours, theirs = (dict(play.listed(who)).values() for who in (play.taker, play.maker))
    for wanted in {*ours, *theirs}:
        get = play.next(play.maker, Get(ids=(wanted,)))
        facts, event = play.facts(play.taker).having(get), Heard(get, Get(ids=(wanted,)))
        if wanted in ours:
            _, sends = opening.step(Contracting(0), event, facts, 0)
            assert [s.payload.kind for s in sends] == [Kind.PAGE]
            continue
        with pytest.raises(PeerFault, match="never listed"):
            opening.step(Contracting(0), event, facts, 0)
