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
from escrow.payout import Split, payout_rates, refund, release
from p2pnode.base.transaction import Outpoint

K = Kind
HUGE = 2**64 - 1
OVER = 2**63
SEVENS = b"\7" * 32
CONTROL = "left\u202eright"


def by_seller(split: Any, *, rate: bool = False, vout: int = 0) -> Forge:
    """The seller's real key over another payout than RELEASE."""

    def forge(s: Scene) -> bytes:
        facts = s.victim.facts(s.trade_id)
        contract, point = facts.contract, facts.outpoint
        key = s.thief.trade_key(s.trade_id)
        raised = payout_rates(contract)[1] if rate else None
        at = Outpoint(point.txid, (point.vout + 1) % 3) if vout else point
        return s.set(0, to=first_sign(contract, at, split(contract), raised, key))

    return forge


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
    received = lambda name, forge, words="signature": Row(K.RECEIVED, name, forge, words)  # noqa: E731
    yield received("signature over REFUND", by_seller(refund))
    yield received(
        "signature over RELEASE and a satoshi",
        by_seller(lambda c: Split(release(c).buyer_sat - 1, release(c).seller_sat + 1, 0)),
    )
    yield received("signature at the raised rate", by_seller(release, rate=True))
    yield received("signature over another output", by_seller(release, vout=1))
    yield received("signature of high S", lambda s: s.set(0, to=high_s), "signature.*high S")
    for number, name in ((2, "NONE"), (3, "SINGLE"), (0x81, "ANYONECANPAY")):
        yield received(
            f"sighash {name}",
            lambda s, n=number: s.set(0, to=lambda x: x[:-1] + bytes([n])),
            "sighash",
        )
    yield received(
        "signature altered", lambda s: s.set(0, to=lambda x: x[:40] + flip(x[40:41]) + x[41:])
    )
    yield received("signature of another's key", lambda s: s.set(0, to=ecdsa(SEVENS, SEVENS)))
    yield received("signature of 8 bytes", lambda s: s.set(0, to=b"x" * 8))
    yield received("signature of 74 bytes", lambda s: s.set(0, to=b"x" * 74))
