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

K = Kind
HUGE = 2**64 - 1
OVER = 2**63
SEVENS = b"\7" * 32
CONTROL = "left\u202eright"


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
    yield row("kind of another payload", field(1, (kind + 4) % 20 + 1), ".")
    yield row("trade id short", field(2, SEVENS[1:]), "trade_id")
    yield row("trade id of another trade", field(2, SEVENS), "trade_id")
    if kind is not K.TAKE:
        yield row("trade id zero", field(2, ZERO), "trade_id")
    yield row("sender is another, who signs", claimed_by_stranger, "sender")
    yield row("signed by another", signed_by_stranger, "signature")
    yield row("on another's connection", from_stranger, "sender")
    yield row("recipient is another", field(4, STRANGER.node_id), "sender|recipient")
    yield row("recipient is the sender", lambda s: s.body(4, s.message.sender), "recipient")
    for number in (-1, MAX_SEQ + 1, HUGE):
        yield row(f"seq {number}", field(5, number), "seq")
    yield row("seq with a gap", gap, "seq", later=kind is not K.TAKE)
    if kind not in OPENING:
        yield row("seq repeated over another body", second_of_a_number, "seq")
        yield row("prev zero", field(6, ZERO), "prev")
    yield row("prev of another chain", field(6, SEVENS), "prev")
    yield row("seen is nothing that was sent", field(7, SEVENS), "seen")
    if kind not in OPENING | {K.REVEAL, K.GET, K.FORWARD, K.VERDICT}:
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
