"""Attacks on ACCOUNT, ACK, PAID and RECEIVED: a row each."""

from collections.abc import Iterator
from typing import Any

from trade_campaign import (
    Forge,
    Row,
    Scene,
    ecdsa,
    flip,
    high_s,
)
from trade_rows_header import text_rows

from escrow.backend_signatures import first_sign
from escrow.messages import Kind
from escrow.payout import Split, refund, release
from p2pnode.base.transaction import Outpoint

K = Kind
HUGE = 2**64 - 1
OVER = 2**63
SEVENS = b"\7" * 32
CONTROL = "left\u202eright"


def signed_over(split: Any, *, place: int = 0, vout: int = 0) -> Forge:
    """The sender's real key over another payout, in that place of the payload."""

    def forge(s: Scene) -> bytes:
        facts = s.victim.facts(s.trade_id)
        contract, point = facts.contract, facts.outpoint
        at = Outpoint(point.txid, (point.vout + 1) % 3) if vout else point
        pair = first_sign(contract, at, split(contract), s.thief.trade_key(s.trade_id))
        return s.set(place, to=list(pair))

    return forge


def pair_rows(at: Kind, place: int) -> Iterator[Row]:
    """Each of the two signatures, at the contract's rate and at the raised one, bent."""

    def row(name: str, change: Any, words: str, *path: int) -> Row:
        return Row(at, name, lambda s: s.set(place, *path, to=change), words)

    for n, rate in enumerate(("low", "raised")):
        field = rf"signatures\[{n}\]"
        yield row(f"{rate} signature of high S", high_s, f"{field}.*high S", n)
        for number, name in ((2, "NONE"), (3, "SINGLE"), (0x81, "ANYONECANPAY"), (0, "0")):
            change = lambda x, b=number: x[:-1] + bytes([b])  # noqa: E731
            yield row(f"{rate} sighash {name}", change, f"{field}.*sighash", n)
        yield row(f"{rate} signature altered", lambda x: x[:40] + flip(x[40:41]) + x[41:], field, n)
        yield row(f"{rate} signature of another's key", ecdsa(SEVENS, SEVENS), field, n)
        yield row(f"{rate} signature of 8 bytes", b"x" * 8, field, n)
        yield row(f"{rate} signature of 74 bytes", b"x" * 74, field, n)
        yield row(f"{rate} signature is a number", 7, field, n)
    yield row("signatures swapped", lambda p: p[::-1], "signatures")
    yield row("low signature twice", lambda p: [p[0], p[0]], r"signatures\[1\]")
    yield row("raised signature twice", lambda p: [p[1], p[1]], r"signatures\[0\]")
    yield row("one signature", lambda p: p[:1], "signatures")
    yield row("three signatures", lambda p: [*p, p[0]], "signatures")
    yield row("no signatures", [], "signatures")
    yield row("signatures as one", lambda p: p[0], "signatures")


def payment_rows() -> Iterator[Row]:
    yield Row(K.ACCOUNT, "another account", lambda s: s.set(0, to=flip), "disclosure")
    yield Row(K.ACCOUNT, "no account", lambda s: s.set(0, to=b""), "disclosure")
    yield Row(K.ACCOUNT, "4,097 bytes", lambda s: s.set(0, to=b"x" * 4097), "disclosure")
    yield Row(
        K.ACCOUNT,
        "ABORT after the sender's own signature",
        lambda s: s.saying(["changed my mind"], K.ABORT),
        "ABORT",
    )
    yield Row(K.ACK, "of another ACCOUNT", lambda s: s.set(0, to=flip), "account_id")
    yield Row(K.ACK, "id short", lambda s: s.set(0, to=SEVENS[1:]), "account_id")
    yield Row(K.ACK, "PAID before it", lambda s: s.saying(["early"], K.PAID), "PAID before any ACK")
    yield from text_rows(K.PAID, 0, "note", 256, 0)
    yield from pair_rows(K.RECEIVED, 0)
    received = lambda name, forge: Row(K.RECEIVED, name, forge, "signatures")  # noqa: E731
    yield received("signatures over REFUND", signed_over(refund))
    yield received(
        "signatures over RELEASE and a satoshi",
        signed_over(lambda c: Split(release(c).buyer_sat - 1, release(c).seller_sat + 1, 0)),
    )
    yield received("signatures over another output", signed_over(release, vout=1))
