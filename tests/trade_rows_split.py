"""Attacks on ASK, WITHDRAW, REFUSE, OK, COVER, SETTLE and CHAT: a row each."""

from collections.abc import Iterator
from typing import Any

from trade_campaign import Forge, Row, Scene
from trade_rows_header import text_rows
from trade_rows_payment import pair_rows, signed_over

from escrow.messages import ZERO, Kind
from escrow.payout import Split, refund, release

K = Kind
OVER = 2**63
SEVENS = b"\7" * 32


def instead(kind: Kind, payload: list[Any]) -> Forge:
    """Another kind than the honest one, by the same sender."""

    def forge(s: Scene) -> bytes:
        return s.saying(payload, kind)

    return forge


def by_arbiter(second: bool) -> Forge:
    """The same words out of the mouth of the arbiter or the runner-up."""

    def forge(s: Scene) -> tuple[str, bytes]:
        name = s.rig.runner_up(s.trade_id) if second else s.rig.arbiter(s.trade_id)
        said = s.rig[name].next_message(s.trade_id, s.victim.id, s.message.kind, s.message.payload)
        return name, said.wire()

    return forge


def own(kind: Kind) -> Any:
    """The id of the sender's first message of a kind."""

    def found(s: Scene) -> bytes:
        said = s.thief.said(s.trade_id, kind)
        return said.id if said else SEVENS

    return found


def theirs(kind: Kind) -> Any:
    """The id of the victim's first message of a kind."""

    def found(s: Scene) -> bytes:
        said = s.victim.said(s.trade_id, kind)
        return said.id if said else SEVENS

    return found


def _first(ref: Any) -> Forge:
    def forge(s: Scene) -> bytes:
        return s.set(0, to=ref(s) if callable(ref) else ref)

    return forge


def naming(at: Kind, field: str, *wrong: tuple[str, Any]) -> Iterator[Row]:
    """A message that names another: each wrong one."""
    some = (("nothing", SEVENS), ("zeros", ZERO), ("the TAKE", lambda s: s.trade_id), *wrong)
    for name, ref in some:
        yield Row(at, f"of {name}", _first(ref), field)
    yield Row(at, "id short", lambda s: s.set(0, to=SEVENS[1:]), field)
    yield Row(at, "id long", lambda s: s.set(0, to=SEVENS + b"\7"), field)
    yield Row(at, "id a number", lambda s: s.set(0, to=1), field)


def mouths(at: Kind) -> Iterator[Row]:
    early = at is K.CHAT  # the one kind here that an arbiter may say, at his time
    for second, name in ((False, "arbiter"), (True, "runner-up")):
        words = f"{at.name} (is not for|before any NOTICE|of the runner-up before)"
        yield Row(at, f"by the {name}", by_arbiter(second), words, later=early and second)


def ask_rows() -> Iterator[Row]:
    def row(name: str, forge: Forge, words: str) -> Row:
        return Row(K.ASK, name, forge, words)

    for index, name in enumerate(("buyer_sat", "seller_sat")):
        for number in (-1, 21 * 10**14 + 1, OVER, 2**64 - 1):
            yield row(f"{name} {number}", lambda s, i=index, n=number: s.set(i, to=n), name)
        for step in (1, -1):
            change = lambda s, i=index, d=step: s.set(i, to=lambda v: v + d)  # noqa: E731
            yield row(f"{name} off by {step}", change, "seller_sat|split")
        yield row(f"{name} zero", lambda s, i=index: s.set(i, to=0), "seller_sat|split")
    yield row("all to nobody", lambda s: s.saying([0, 0, ""]), "seller_sat|split")
    yield row(
        "a sum that wraps", lambda s: s.saying([2**63 - 1, s.payload[0], ""]), "buyer_sat|split"
    )
    yield row("buyer_sat as text", lambda s: s.set(0, to="1"), "buyer_sat")
    yield from text_rows(K.ASK, 2, "note", 256, 0)
    yield from mouths(K.ASK)


def answer_rows() -> Iterator[Row]:
    yield from naming(
        K.WITHDRAW, "ask_id", ("his own ACK", own(K.ACK)), ("our REFUSE", theirs(K.REFUSE))
    )
    yield from naming(
        K.OK, "ask_id", ("his own ASK", own(K.ASK)), ("our ACCOUNT", theirs(K.ACCOUNT))
    )
    yield from naming(
        K.COVER, "covered_id", ("our ASK", theirs(K.ASK)), ("his own REFUSE", own(K.REFUSE))
    )
    yield from naming(
        K.REFUSE, "refused_id", ("his own ACCOUNT", own(K.ACCOUNT)), ("our ACK", theirs(K.ACK))
    )
    yield from text_rows(K.REFUSE, 1, "field", 64, 1)
    yield from text_rows(K.REFUSE, 2, "value", 256, 0)
    for kind in (K.WITHDRAW, K.OK, K.COVER):
        yield from mouths(kind)
    yield Row(K.OK, "SETTLE before it", early_settle, "ok_id")


def early_settle(s: Scene) -> bytes:
    asked = theirs(K.ASK)(s)
    return s.saying([asked, [b"x" * 70, b"x" * 70]], K.SETTLE)


def _half(c: Any, more: int = 0) -> Split:
    return Split(c.escrow_sat // 2 + more, c.escrow_sat - c.escrow_sat // 2 - more, 0)


def settle_rows() -> Iterator[Row]:
    def row(name: str, forge: Forge, words: str) -> Row:
        return Row(K.SETTLE, name, forge, words)

    yield row("of nothing", lambda s: s.set(0, to=SEVENS), "ok_id")
    yield row("of the ASK", lambda s: s.set(0, to=theirs(K.ASK)(s)), "ok_id")
    yield row("of the COVER", lambda s: s.set(0, to=theirs(K.COVER)(s)), "ok_id")
    yield row("of zeros: a REFUND, signed as agreed", lambda s: s.set(0, to=ZERO), "signatures")
    yield row("id short", lambda s: s.set(0, to=SEVENS[1:]), "ok_id")
    yield from pair_rows(K.SETTLE, 1)
    yield row("over RELEASE", signed_over(release, place=1), "signatures")
    yield row("over REFUND", signed_over(refund, place=1), "signatures")
    for more in (1, -1):
        change = lambda c, m=more: _half(c, m)  # noqa: E731
        yield row(f"over {more:+} satoshi", signed_over(change, place=1), "signatures")
    yield row("over another output", signed_over(_half, place=1, vout=1), "signatures")
    yield row("RECEIVED by the buyer", lambda s: s.saying([s.payload[1]], K.RECEIVED), "RECEIVED")
    yield from mouths(K.SETTLE)


def chat_rows() -> Iterator[Row]:
    yield from text_rows(K.CHAT, 0, "text", 1000, 1)
    yield from mouths(K.CHAT)
    aside: tuple[tuple[Kind, list[Any]], ...] = (
        (K.EVIDENCE, [SEVENS, "x", 1, 0, b"x"]),
        (K.ENQUIRY, [SEVENS]),
        (K.RECUSE, ["no"]),
        (K.STATEMENT, ["x", [], []]),
        (K.NOTICE, [SEVENS, SEVENS, "x"]),
        (K.VERDICT, [0, 0, 0, [b"x" * 70] * 2, "x"]),
        (K.FORWARD, [[b"x"]]),
    )
    for kind, payload in aside:
        yield Row(K.CHAT, f"{kind.name} by a trader", instead(kind, payload), f"{kind.name} is not")
