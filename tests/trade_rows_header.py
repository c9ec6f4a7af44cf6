"""Attacks on every message's header, and on its words: a row each."""

from collections.abc import Iterator
from typing import Any

from trade_campaign import (
    STRANGER,
    Forge,
    Row,
    Scene,
    flip,
    high_s_ed25519,
    raw_message,
    signed_body,
)

from escrow.messages import MAX_SEQ, ZERO, Kind
from escrow.transcript import FRESH_KINDS

K = Kind
HUGE = 2**64 - 1
OVER = 2**63
SEVENS = b"\7" * 32
CONTROL = "left\u202eright"


OTHER_SHAPE = {K.INPUTS: K.DRAW}  # a payload of one kind under the number of another
LIVING = {  # coins are locked when they come: a `seen` of ours that is not here may be our own loss
    *(K.ACCOUNT, K.ACK, K.PAID, K.RECEIVED, K.NOTICE, K.STATEMENT, K.VERDICT, K.FORWARD, K.ASK),
    *(K.WITHDRAW, K.OK, K.COVER, K.REFUSE, K.SETTLE, K.CHAT, K.EVIDENCE),
}
OPENING = {K.TAKE, K.DRAW, K.DISPUTE, K.NOTICE, K.STATEMENT}  # first in their sender's chain


def field(index: int, value: Any) -> Forge:
    return lambda s: s.body(index, value)


def from_stranger(s: Scene) -> tuple[str, bytes]:
    return "stranger", s.frame.raw


def claimed_by_stranger(s: Scene) -> bytes:
    body = list(s.message.body())
    body[3] = STRANGER.node_id
    return signed_body(body, s.message.payload, STRANGER)


def signed_by_stranger(s: Scene) -> bytes:
    return signed_body(s.message.body(), s.message.payload, STRANGER)


def signed_for(network: str) -> Forge:
    return lambda s: signed_body(s.message.body(), s.message.payload, s.thief.identity, network)


def gap(s: Scene) -> bytes:
    return s.header(seq=s.message.seq + 1, prev=SEVENS)


def second_of_a_number(s: Scene) -> bytes:
    seq = s.message.seq - 1
    return s.header(seq=seq, prev=SEVENS if seq else ZERO)


def longer(s: Scene) -> bytes:
    body = (*s.message.body(), 0)
    return signed_body(body, s.message.payload, s.thief.identity)


def headers(kind: Kind) -> Iterator[Row]:
    def row(name: str, forge: Forge, words: str, **options: Any) -> Row:
        return Row(kind, name, forge, words, **options)

    for number in (0, 2, -1, HUGE):
        yield row(f"version {number}", field(0, number), "version")
    for number in (0, -1, max(Kind) + 1, OVER):
        yield row(f"kind {number}", field(1, number), "kind")
    yield row("kind of another payload", field(1, int(OTHER_SHAPE.get(kind, K.INPUTS))), ".")
    yield row("trade id short", field(2, SEVENS[1:]), "trade_id")
    yield row("trade id of another trade", field(2, SEVENS), "trade_id")
    if kind is not K.TAKE:
        yield row("trade id zero", field(2, ZERO), "trade_id|negotiation")
    yield row("sender is another, who signs", claimed_by_stranger, "sender")
    yield row("signed by another", signed_by_stranger, "signature")
    yield row("on another's connection", from_stranger, "sender")
    yield row("recipient is another", field(4, STRANGER.node_id), "sender|recipient")
    yield row("recipient is the sender", lambda s: s.body(4, s.message.sender), "recipient")
    for number in (-1, MAX_SEQ + 1, HUGE):
        yield row(f"seq {number}", field(5, number), "seq")
    yield row("seq with a gap", gap, "seq", later=kind is not K.TAKE)
    if kind not in OPENING:
        yield row("seq repeated over another body", second_of_a_number, "seq", used=True)
        yield row("prev zero", field(6, ZERO), "prev")
    for number in (1000, 2000):  # where only one who has lost data begins afresh, and says little
        if kind not in FRESH_KINDS:
            fresh: Forge = lambda s, n=number: s.header(seq=n, prev=ZERO)  # noqa: E731
            yield row(f"a fresh chain from {number}", fresh, "seq|prev", later=kind is not K.TAKE)
    yield row("a chain from 1,001", lambda s: s.header(seq=1001, prev=ZERO), "prev")
    yield row("number 1,000 within a chain", lambda s: s.header(seq=1000, prev=SEVENS), "prev")
    yield row("prev of another chain", field(6, SEVENS), "prev")
    if kind not in {K.DISPUTE, K.WITNESS}:  # who opens a case may have lost all he was told
        yield row("seen is nothing that was sent", field(7, SEVENS), "seen", show=kind in LIVING)
    if kind not in OPENING | {K.REVEAL, K.GET, K.FORWARD, K.VERDICT, K.EVIDENCE}:
        yield row("seen falls", field(7, ZERO), "seen")
    for number in (-1, 500_000_000, HUGE):
        yield row(f"tip height {number}", field(8, number), "tip_height")
    yield row("tip hash short", field(9, SEVENS[1:]), "tip_hash")
    for number in (-1, 2**40 + 1, HUGE):
        yield row(f"draw number {number}", field(10, number), "draw_no")
    if kind not in {K.TAKE, K.DRAW}:
        yield row("draw number outside a draw", field(10, 1), "draw_no")
    yield row("payload hash of another payload", field(11, SEVENS), "payload_hash")
    yield row("header with a field more", longer, "header")
    yield row("payload empty", lambda s: s.saying(b""), "payload")
    yield row("payload with a byte more", lambda s: s.saying(s.message.payload + b"\0"), kind.name)
    yield row("payload with a field more", lambda s: s.saying([*s.payload, 0]), kind.name)
    yield row("payload with a field less", lambda s: s.saying(s.payload[:-1]), kind.name)
    yield row(
        "signature with a bit changed",
        lambda s: raw_message(s.message, signature=flip(s.message.signature)),
        "signature",
    )
    yield row(
        "signature with S over the order",
        lambda s: raw_message(s.message, signature=high_s_ed25519(s.message.signature)),
        "signature",
    )
    yield row("signed for regtest", signed_for("regtest"), "signature")
    yield row("a byte after the message", lambda s: s.frame.raw + b"\0", "message")
    yield row("cut short", lambda s: s.frame.raw[:-1], "message")
    yield row("no msgpack at all", lambda s: b"\xc1" * 200, "message")


def text_rows(at: Kind, index: int, name: str, most: int, low: int) -> Iterator[Row]:
    texts = [
        ("a direction mark", CONTROL),
        ("a line feed", "a\nb"),
        (f"{most + 1} bytes", "x" * (most + 1)),
    ]
    if low:
        texts.append(("nothing", ""))
    for what, text in texts:
        yield Row(at, f"{name} of {what}", lambda s, t=text: s.set(index, to=t), name)
    yield Row(at, f"{name} a number", lambda s: s.set(index, to=1), name)


AGAIN = {  # a sender's earlier message, once more in place of the one that he should send
    K.CONTRACT: (K.GET, K.PAGE),
    K.INPUTS: (K.CONTRACT,),
    K.WITNESS: (K.INPUTS, K.CONTRACT),
    K.ACCOUNT: (K.WITNESS, K.INPUTS),
    K.ACK: (K.ACCOUNT, K.REVEAL),
    K.PAID: (K.ACK,),
    K.RECEIVED: (K.DRAW, K.ACCOUNT),
    K.VERDICT: (K.NOTICE,),
}


def again_rows() -> Iterator[Row]:
    words = {K.GET: "GET after one", K.PAGE: "get_id: was answered before"}
    for at, kinds in AGAIN.items():
        for kind in kinds:
            forge: Forge = lambda s, k=kind: s.again(k)  # noqa: E731
            yield Row(
                at, f"{kind.name} once more", forge, words.get(kind, f"{kind.name} was said before")
            )
