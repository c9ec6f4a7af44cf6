"""Every position of a negotiation with every event, as text: what the reviewed table is made of."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cache
from hashlib import sha256
from typing import Any

from escrow import bargain
from escrow.bargain import (
    ASK,
    REFUSE,
    Countered,
    Declined,
    Facts,
    Fresh,
    Heard,
    Lapsed,
    Policy,
    Proposed,
    SayAgree,
    SayCounter,
    SayPropose,
    SayRefuse,
    Taken,
    Tick,
    Took,
    Undelivered,
)
from escrow.messages import ZERO, Message
from escrow.model import State
from escrow.payloads import Counter, Payload, Propose, Refuse, Take
from escrow.terms import Terms
from p2pnode.base.errors import NodeError
from p2pnode.base.identity import Identity
from p2pnode.base.networks import NETWORKS

NET = NETWORKS["sandbox"]
BEGAN = 1_800_000_000
AMOUNT = 1_000_000
FAIR = 61_240  # minor units: the offer's sum for AMOUNT
LOW, MIDDLE = 60_000, 60_600


@cache
def who(name: str) -> Identity:
    return Identity.grind(NET, sha256(name.encode()).digest())


def h(text: str) -> bytes:
    return sha256(text.encode()).digest()


def terms(**change: Any) -> Terms:
    values: dict[str, Any] = {
        "offer_hash": h("offer"),
        "maker": who("maker").node_id,
        "maker_is_seller": 1,
        "currency": "EUR",
        "exponent": 2,
        "min_sat": 200_000,
        "max_sat": 2_000_000,
        "price": 61_240_000_000,
        "slack_bp": 0,
        "method": "CUSTOM",
        "period_s": 345_600,
        "dep_b_bp": 1500,
        "dep_s_bp": 1500,
        "escrow_kinds": ("wsh-2of3", "wsh-2of3-backup"),
    }
    return Terms(**(values | change))


def message(by: str, payload: Payload, before: tuple[Message, ...], **change: Any) -> Message:
    other = "taker" if by == "maker" else "maker"
    values: dict[str, Any] = {
        "network": NET,
        "kind": payload.kind,
        "trade_id": ZERO,
        "sender": who(by).node_id,
        "recipient": who(other).node_id,
        "seq": len(before),
        "prev": before[-1].id if before else ZERO,
        "seen": ZERO,
        "tip_height": 100,
        "tip_hash": h("tip"),
        "draw_no": 0,
        "payload": payload.wire(),
    }
    return Message(**(values | change)).signed(who(by))


def propose(fiat: int, **change: Any) -> Propose:
    values: dict[str, Any] = {
        "offer_hash": h("offer"),
        "amount_sat": AMOUNT,
        "fiat_minor": fiat,
        "method": "CUSTOM",
    }
    return Propose(**(values | change))


def take(counter: bytes, fiat: int, **change: Any) -> Take:
    values: dict[str, Any] = {
        "offer_hash": h("offer"),
        "maker": who("maker").node_id,
        "counter": counter,
        "amount_sat": AMOUNT,
        "fiat_minor": fiat,
        "method": "CUSTOM",
        "escrow_kind": "wsh-2of3-backup",
        "anchor_h": 94,
        "anchor_hash": h("anchor"),
        "work": 0,
        "root": ZERO,
        "commitment": ZERO,
    }
    return Take(**(values | change))


def spoken(rounds: int, *, answered: bool) -> tuple[Message, ...]:
    """So many PROPOSEs of LOW, each answered with FAIR but perhaps the last."""
    said: tuple[Message, ...] = ()
    for n in range(rounds):
        said += (message("taker", propose(LOW), said),)
        if answered or n < rounds - 1:
            last = said[-1].id
            body = Counter(propose_id=last, fiat_minor=FAIR, expires_at=BEGAN + bargain.LIFE_S)
            said += (message("maker", body, said),)
    return said


@dataclass(frozen=True)
class Position:
    """One side in one state, with what was said before."""

    name: str
    is_maker: bool
    state: State
    said: tuple[Message, ...] = ()
    policy: Policy = field(default_factory=Policy)

    @property
    def facts(self) -> Facts:
        return Facts(
            is_maker=self.is_maker,
            terms=terms(),
            amount_sat=AMOUNT,
            began=BEGAN,
            messages=self.said,
            policy=self.policy,
        )


def _countered(rounds: int) -> tuple[Countered, tuple[Message, ...]]:
    said = spoken(rounds, answered=True)
    return Countered(rounds, FAIR, said[-1].id, BEGAN + bargain.LIFE_S), said


def positions() -> Iterator[Position]:
    for is_maker in (False, True):
        side = "maker" if is_maker else "taker"
        yield Position(f"{side}, Fresh", is_maker, Fresh())
        for rounds in (1, 3):
            said = spoken(rounds, answered=False)
            name = f"{side}, Proposed, round {rounds}"
            yield Position(name, is_maker, Proposed(rounds, LOW), said)
        for rounds in (1, 3):
            state, said = _countered(rounds)
            yield Position(f"{side}, Countered, round {rounds}", is_maker, state, said)
        _, said = _countered(1)
        yield Position(f"{side}, Taken", is_maker, Taken(FAIR, h("trade")), said)
        yield Position(f"{side}, Declined", is_maker, Declined(0, "why"), said)
        yield Position(f"{side}, Lapsed", is_maker, Lapsed(), said)
    limits = Policy(accept_bp=100, counter_bp=200, otherwise=REFUSE)
    yield Position("maker with limits and REFUSE, Fresh", True, Fresh(), policy=limits)
    asking = replace(limits, otherwise=ASK)
    yield Position("maker with limits and ASK, Fresh", True, Fresh(), policy=asking)


POSITIONS = tuple(positions())
Make = Callable[[Position], tuple[Any, int, dict[str, Any]]]


def _heard(payload: Callable[[Position], Payload], **change: Any) -> Make:
    def make(p: Position) -> tuple[Any, int, dict[str, Any]]:
        body = payload(p)
        by = "taker" if p.is_maker else "maker"
        values = {k: v(p) if callable(v) else v for k, v in change.items()}
        return Heard(message(by, body, p.said, **values), body), BEGAN + 1, {}

    return make


def _said(event: Any, at: int = BEGAN + 1, **facts: Any) -> Make:
    return lambda _p: (event, at, facts)


def _last(p: Position) -> bytes:
    return p.said[-1].id if p.said else ZERO


def _counter(fiat: int) -> Callable[[Position], Payload]:
    return lambda p: Counter(propose_id=_last(p), fiat_minor=fiat, expires_at=BEGAN + 600)


def _took(fiat: int = FAIR, at: int = BEGAN + 1, **change: Any) -> Make:
    def make(p: Position) -> tuple[Any, int, dict[str, Any]]:
        counters = [m.id for m in p.said if isinstance(_payload(m), Counter)]
        values = {"counter": counters[-1] if counters else h("none")} | change
        return Took(take(values.pop("counter"), fiat, **values), h("trade")), at, {}

    return make


def _payload(m: Message) -> Payload | None:
    return Counter.from_wire(m.payload) if m.kind.name == "COUNTER" else None


OVER = BEGAN + bargain.LIFE_S
EVENTS: dict[str, Make] = {
    f"PROPOSE {LOW}": _heard(lambda p: propose(LOW)),
    "PROPOSE at the price": _heard(lambda p: propose(FAIR)),
    "PROPOSE 1 % less, rounded up": _heard(lambda p: propose(60_628)),
    "PROPOSE 1 minor unit below that": _heard(lambda p: propose(60_627)),
    "PROPOSE 2 % less, rounded up": _heard(lambda p: propose(60_016)),
    "PROPOSE 1 minor unit below this": _heard(lambda p: propose(60_015)),
    "PROPOSE half, rounded up": _heard(lambda p: propose(30_620)),
    "PROPOSE 1 minor unit below half": _heard(lambda p: propose(30_619)),
    "PROPOSE twice": _heard(lambda p: propose(122_480)),
    "PROPOSE 1 minor unit above twice": _heard(lambda p: propose(122_481)),
    "PROPOSE of another amount": _heard(lambda p: propose(LOW, amount_sat=AMOUNT + 1)),
    "PROPOSE of another offer": _heard(lambda p: propose(LOW, offer_hash=h("other"))),
    "PROPOSE of another method": _heard(lambda p: propose(LOW, method="OTHER")),
    "PROPOSE with seq one too high": _heard(lambda p: propose(LOW), seq=lambda p: len(p.said) + 1),
    "PROPOSE that answers another": _heard(lambda p: propose(LOW), prev=h("other")),
    "COUNTER as proposed": _heard(_counter(LOW)),
    "COUNTER higher": _heard(_counter(FAIR)),
    "COUNTER of 1 minor unit": _heard(_counter(1)),
    "COUNTER to another proposal": _heard(
        lambda p: Counter(propose_id=h("other"), fiat_minor=FAIR, expires_at=BEGAN + 600)
    ),
    "REFUSE": _heard(lambda p: Refuse(refused_id=_last(p), field="fiat_minor", value="no")),
    "REFUSE of another": _heard(lambda p: Refuse(refused_id=h("x"), field="f", value="no")),
    "REFUSE 1 s before the end": lambda p: (
        _heard(lambda q: Refuse(refused_id=_last(q), field="f", value="no"))(p)[0],
        OVER - 1,
        {},
    ),
    "REFUSE at the end": lambda p: (
        _heard(lambda q: Refuse(refused_id=_last(q), field="f", value="no"))(p)[0],
        OVER,
        {},
    ),
    "PROPOSE while the offer is gone": lambda p: (
        _heard(lambda q: propose(FAIR))(p)[0],
        BEGAN + 1,
        {"is_open": False},
    ),
    f"SayPropose {MIDDLE}": _said(SayPropose(MIDDLE)),
    "SayPropose 0": _said(SayPropose(0)),
    "SayPropose at the end": _said(SayPropose(MIDDLE), OVER),
    f"SayCounter {MIDDLE}": _said(SayCounter(MIDDLE)),
    "SayCounter 1 minor unit worse than proposed": _said(SayCounter(LOW - 1)),
    "SayCounter 2**53": _said(SayCounter(2**53)),
    "SayAgree": _said(SayAgree()),
    "SayAgree at the end": _said(SayAgree(), OVER),
    "SayRefuse": _said(SayRefuse("too low")),
    "TAKE": _took(),
    "TAKE 1 s before the end": _took(at=OVER - 1),
    "TAKE at the end": _took(at=OVER),
    "TAKE of another sum": _took(FAIR - 1),
    "TAKE of another amount": _took(amount_sat=AMOUNT - 1),
    "TAKE of another method": _took(method="OTHER"),
    "TAKE of another counter": _took(counter=h("other")),
    "Undelivered": _said(Undelivered("offer_hash: is gone")),
    "Tick": _said(Tick()),
    "Tick 1 s before the end": _said(Tick(), OVER - 1),
    "Tick at the end": _said(Tick(), OVER),
    "Tick while the offer is gone": _said(Tick(), is_open=False),
}


@dataclass(frozen=True)
class Outcome:
    event: str
    before: State
    after: State | None
    text: str


def outcomes(position: Position) -> Iterator[Outcome]:
    for name, make in EVENTS.items():
        event, now, change = make(position)
        facts = replace(position.facts, **change)
        try:
            after, sends = bargain.step(position.state, event, facts, now)
        except NodeError as error:
            text = f"{type(error).__name__}: {error}"
            yield Outcome(name, position.state, None, text)
            continue
        text = "stays" if after == position.state else _shown(after)
        for payload in sends:
            sum_ = getattr(payload, "fiat_minor", "")
            text += f"; sends {payload.kind.name} {sum_}".rstrip()
        yield Outcome(name, position.state, after, text)


def _shown(state: State) -> str:
    values = ((f.name, getattr(state, f.name)) for f in fields(state))
    shown = (f"{name}={'id' if isinstance(v, bytes) else v}" for name, v in values)
    return f"{type(state).__name__}({', '.join(shown)})"


def table() -> str:
    lines = []
    for position in POSITIONS:
        found: dict[str, list[str]] = {}
        for outcome in outcomes(position):
            found.setdefault(outcome.text, []).append(outcome.event)
        lines.append(f"== {position.name}")
        for text, events in found.items():
            lines += [f"    {text}", f"        <- {'; '.join(events)}"]
        lines.append("")
    return "\n".join(lines)


def edges() -> set[tuple[str, str, str, str]]:
    """Every change of state: (side, before, event's first word, after)."""
    found = set()
    for position in POSITIONS:
        side = "M" if position.is_maker else "T"
        for o in outcomes(position):
            if o.after is not None and o.after != o.before:
                names = type(o.before).__name__, type(o.after).__name__
                found.add((side, names[0], o.event.split()[0], names[1]))
    return found
