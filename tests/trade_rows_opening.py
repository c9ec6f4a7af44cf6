"""Attacks on TAKE, DRAW, REVEAL, GET, PAGE, REFUSE and ABORT: a row each."""

from collections.abc import Iterator
from typing import Any

from trade_campaign import (
    Forge,
    Row,
    Scene,
    flip,
)
from trade_kit import NET

from escrow.contract import Contract
from escrow.messages import Kind
from p2pnode.base import wire

K = Kind
HUGE = 2**64 - 1
OVER = 2**63
SEVENS = b"\7" * 32
CONTROL = "left\u202eright"


def worked(*path: int, to: Any) -> Forge:
    """A TAKE with one field changed and its proof of work done again."""

    def forge(s: Scene) -> bytes:
        payload = s.payload
        payload[path[0]] = to(s) if callable(to) else to
        work = 0
        while not _works(payload, s.message.sender, work):
            work += 1
        payload[9] = work
        return s.saying(payload)

    return forge


def _works(payload: list[Any], taker: bytes, work: int) -> bool:
    value = [payload[0], payload[8], taker, payload[11], work]
    hashed = wire.digest(wire.tag(NET.name, "take-work"), value)
    return wire.leading_zero_bits(hashed) >= NET.take_bits


def without_work(s: Scene) -> bytes:
    payload = s.payload
    work = 0
    while _works(payload, s.message.sender, work):
        work += 1
    return s.set(9, to=work)


def old_anchor(s: Scene) -> bytes:
    height = s.payload[7] - 4
    payload = s.payload
    payload[7:9] = height, s.victim.chain.block_hash(height)
    while not _works(payload, s.message.sender, payload[9]):
        payload[9] += 1
    return s.saying(payload)


def take_rows() -> Iterator[Row]:
    def row(name: str, forge: Forge, words: str, **options: Any) -> Row:
        return Row(K.TAKE, name, forge, words, **options)

    yield row("offer unknown", worked(0, to=SEVENS), "offer_hash")
    yield row("another's offer", worked(1, to=SEVENS), "maker")
    yield row("a counter that never was", worked(2, to=SEVENS), "counter")
    for number in (0, -1, 21 * 10**14 + 1, OVER):
        yield row(f"amount {number}", worked(3, to=number), "amount_sat")
    for number in (199_999, 2_000_001):
        yield row(f"amount {number}, off by one", worked(3, to=number), "amount_sat", refuse=True)
    for number in (0, -1, 2**53, OVER):
        yield row(f"fiat {number}", worked(4, to=number), "fiat_minor")
    for step in (1, -1):
        change = worked(4, to=lambda s, step=step: s.payload[4] + step)
        yield row(f"fiat off by {step}", change, "fiat_minor", refuse=True)
    yield row("method empty", worked(5, to=""), "method")
    yield row("method of another offer", worked(5, to="SEPA"), "method", refuse=True)
    yield row("escrow kind unknown", worked(6, to="tr-2of3"), "escrow_kind", refuse=True)
    for number in (0, -1, 500_000_000, OVER):
        yield row(f"anchor {number}", worked(7, to=number), "anchor_h")
    for step in (1, -1):
        change = worked(7, to=lambda s, step=step: s.payload[7] + step)
        yield row(f"anchor off by {step}", change, "anchor_hash")
    yield row("anchor too old", old_anchor, "anchor_h")
    yield row("anchor on another chain", worked(8, to=SEVENS), "anchor_hash")
    yield row("work not done", without_work, "work")
    for number in (-1, 2**62 + 1, HUGE):
        yield row(f"work {number}", lambda s, n=number: s.set(9, to=n), "work")
    yield row("root short", worked(10, to=SEVENS[1:]), "root")
    yield row("commitment short", worked(11, to=SEVENS[1:]), "commitment")


def one_key_twice(sign: int) -> Forge:
    def forge(s: Scene) -> bytes:
        key = s.payload[3][0]
        return s.set(3, 1, to=bytes([key[0] ^ sign]) + key[1:])

    return forge


def our_key(place: int, name: str) -> Forge:
    return lambda s: s.set(3, place, to=getattr(s.victim.facts(s.trade_id).own.part, name))


def plain_rows() -> Iterator[Row]:
    """In the kind without a backup branch."""
    extra: Forge = lambda s: s.set(3, 1, to=b"\2" + SEVENS)  # noqa: E731
    for kind in (K.DRAW, K.REVEAL):
        yield Row(kind, "a backup key, of no kind", extra, "backup_key: does not fit")
    yield Row(K.CONTRACT, "a backup key in it", _lines(key_b2=b"\2" + SEVENS), "key_b2")
    yield Row(K.CONTRACT, "a timelock in it", _lines(n=4320), r"\bn\b")


def _lines(**change: Any) -> Forge:
    def forge(s: Scene) -> bytes:
        array = list(wire.unpack("contract", s.payload[0], limit=4096))
        for line, value in change.items():
            array[Contract.line_names().index(line)] = value
        hashed = wire.digest(wire.tag(NET.name, "contract"), array)
        return s.saying([wire.pack(array), s.thief.trade_key(s.trade_id).sign_schnorr(hashed)])

    return forge


def parts(kind: Kind) -> Iterator[Row]:
    """Of DRAW and REVEAL: [id, nonce, arbiters, part, …]."""

    def row(name: str, forge: Forge, words: str) -> Row:
        return Row(kind, name, forge, words)

    both = [b"\1" * 36, SEVENS]
    yield row("answers another", lambda s: s.set(0, to=SEVENS), "take_id|draw_id")
    yield row("nonce short", lambda s: s.set(1, to=SEVENS[1:]), "nonce")
    yield row("arbiters descend", lambda s: s.set(2, to=lambda a: a[::-1]), "arbiters")
    yield row("an arbiter twice", lambda s: s.set(2, to=lambda a: [a[0], *a]), "arbiters")
    yield row(
        "201 arbiters",
        lambda s: s.set(2, to=[both] * 201),
        "arbiters: is not a list of at most 200",
    )
    yield row("outpoint short", lambda s: s.set(2, 0, 0, to=SEVENS), "arbiters")
    yield row("key off the curve", lambda s: s.set(3, 0, to=b"\2" + b"\xff" * 32), "escrow_key")
    yield row("key uncompressed", lambda s: s.set(3, 0, to=b"\4" + SEVENS), "escrow_key")
    yield row("no backup key", lambda s: s.set(3, 1, to=b""), "backup_key: does not fit")
    yield row(
        "backup key off the curve", lambda s: s.set(3, 1, to=b"\2" + b"\xff" * 32), "backup_key"
    )
    yield row("backup key x-only", lambda s: s.set(3, 1, to=SEVENS), "backup_key")
    yield row("backup key uncompressed", lambda s: s.set(3, 1, to=b"\4" + SEVENS), "backup_key")
    yield row("backup key is the escrow key", one_key_twice(0), "backup_key: is the escrow key")
    yield row("backup key is its negative", one_key_twice(1), "backup_key: is the escrow key")
    yield row("backup key is our escrow key", our_key(1, "escrow_key"), "our own key")
    yield row("backup key is our backup key", our_key(1, "backup_key"), "our own key")
    yield row("escrow key is our backup key", our_key(0, "backup_key"), "our own key")
    for name, script in (
        ("P2SH", b"\xa9\x14" + b"\1" * 20 + b"\x87"),
        ("P2PKH", b"\x76\xa9\x14" + b"\1" * 20 + b"\x88\xac"),
        ("witness version 2", b"\x52\x20" + SEVENS),
        ("no script", b""),
    ):
        yield row(f"paid to {name}", lambda s, x=script: s.set(3, 2, to=x), "script")
    yield row("account hash short", lambda s: s.set(3, 3, to=SEVENS[1:]), "account_hash")


def draw_rows() -> Iterator[Row]:
    for number in (0, -1, 7, 501, OVER):  # three times our own estimate of 2 is the most
        yield Row(K.DRAW, f"rate {number}", lambda s, n=number: s.set(4, to=n), "rate")
    ours = lambda s: s.victim.facts(s.trade_id).own.part  # noqa: E731
    yield Row(K.DRAW, "our own key", lambda s: s.set(3, 0, to=ours(s).escrow_key), "escrow_key")
    yield Row(K.DRAW, "our own script", lambda s: s.set(3, 2, to=ours(s).script), "script")
    for text, name in ((CONTROL, "direction mark"), ("", "nothing"), ("x" * 65, "65 bytes")):
        yield Row(
            K.DRAW,
            f"REFUSE of a field that is {name}",
            lambda s, t=text: s.saying([s.trade_id, t, "1"], K.REFUSE),
            "field",
        )
    yield Row(
        K.DRAW,
        "REFUSE of another TAKE",
        lambda s: s.saying([SEVENS, "amount_sat", "1"], K.REFUSE),
        "refused_id",
    )
    for text, name in ((CONTROL, "direction mark"), ("", "nothing"), ("x" * 257, "257 bytes")):
        yield Row(
            K.DRAW,
            f"ABORT for {name}",
            lambda s, t=text: s.saying([t], K.ABORT),
            "reason",
        )


def same_key_other_sign(s: Scene) -> bytes:
    """2-of-{S, S, A} is spent by ONE signature: the peer's point, or its negative."""
    key = s.victim.facts(s.trade_id).own.part.escrow_key
    return s.set(3, 0, to=bytes([key[0] ^ 1]) + key[1:])


def reveal_rows() -> Iterator[Row]:
    def row(name: str, forge: Forge, words: str) -> Row:
        return Row(K.REVEAL, name, forge, words)

    ours = lambda s: s.victim.facts(s.trade_id).own.part  # noqa: E731
    yield row("another nonce than committed", lambda s: s.set(1, to=flip), "nonce")
    yield row("an arbiter left out", lambda s: s.set(2, to=lambda a: a[1:]), "arbiters")
    yield row("another record", lambda s: s.set(2, 0, 1, to=flip), "arbiters")
    yield row("our own key", lambda s: s.set(3, 0, to=ours(s).escrow_key), "escrow_key")
    yield row("our own key, negated", same_key_other_sign, "escrow_key")
    yield row("our own script", lambda s: s.set(3, 2, to=ours(s).script), "script")
    yield row(
        "REFUSE by the taker",
        lambda s: s.saying([s.trade_id, "amount_sat", "1"], K.REFUSE),
        "refused_id",
    )


def some_record(s: Scene) -> bytes:
    """A good record, and not the one asked for."""
    wanted = set(s.payload[1])
    return next(raw for raw in s.rig.records if raw not in wanted)


def page_rows() -> Iterator[Row]:
    for number in (0, 201):
        many = [bytes([n % 256, n // 256]) * 16 for n in range(number)]
        yield Row(K.GET, f"{number} ids", lambda s, m=many: s.set(0, to=m), "ids")
    yield Row(K.GET, "an id twice", lambda s: s.set(0, to=lambda i: [i[0], i[0]]), "ids")
    yield Row(K.GET, "an id never listed", lambda s: s.set(0, 0, to=SEVENS), "GET")
    yield Row(K.GET, "an id short", lambda s: s.set(0, 0, to=SEVENS[1:]), "ids")
    yield Row(K.PAGE, "of no GET", lambda s: s.set(0, to=SEVENS), "get_id")
    yield Row(K.PAGE, "no records", lambda s: s.set(1, to=[]), "records")
    yield Row(K.PAGE, "another record", lambda s: s.set(1, 0, to=some_record(s)), "records")
    yield Row(K.PAGE, "a record twice", lambda s: s.set(1, to=lambda r: [r[0], r[0]]), "records")
    yield Row(K.PAGE, "a record altered", lambda s: s.set(1, 0, to=flip), "record")
    yield Row(K.PAGE, "a record of 1,401 bytes", lambda s: s.set(1, 0, to=b"x" * 1401), "records")
    yield Row(K.PAGE, "201 records", lambda s: s.set(1, to=lambda r: r * 201), "records")
