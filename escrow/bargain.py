"""The negotiation before a TAKE: words about the price that bind the maker alone.

    T: PROPOSE --> Proposed -- M: COUNTER --> Countered -- T: TAKE --> Taken
                      ^------ T: PROPOSE ---------|
    REFUSE of either: Declined; ten minutes after the first PROPOSE: Lapsed

`step` is the whole machine, for either side; every pair of state and event stands in
tests/vectors/machine_bargain.txt. The two speak in turn: `seq` counts the messages of both,
`prev` names the one that is answered, `trade_id` is zero. A COUNTER of the very sum that was
proposed is a yes. Nothing is reserved. Layouts: docs/wire.md; rules: docs/trade.md, section 2.
Fiat in minor units, amounts in satoshi, times in unix seconds by one's own clock.
"""

from escrow.bargain_words import (
    ASK,
    ENDED,
    LIFE_S,
    MAX_ROUNDS,
    REFUSE,
    STATES,
    Countered,
    Declined,
    Event,
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
    bounds,
    check_amount,
    check_fiat,
)
from escrow.messages import ZERO, Message
from escrow.model import State
from escrow.payloads import MAX_NOTE, Counter, Payload, Propose, Refuse, Take
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, LocalFault, NodeError, PeerFault
from p2pnode.base.units import moment

__all__ = [
    "ASK",
    "ENDED",
    "LIFE_S",
    "MAX_ROUNDS",
    "REFUSE",
    "STATES",
    "Countered",
    "Declined",
    "Event",
    "Facts",
    "Fresh",
    "Heard",
    "Lapsed",
    "Policy",
    "Proposed",
    "SayAgree",
    "SayCounter",
    "SayPropose",
    "SayRefuse",
    "Taken",
    "Tick",
    "Took",
    "Undelivered",
    "bounds",
    "check_amount",
    "check_fiat",
    "named",
    "step",
]

Answer = tuple[State, tuple[Payload, ...]]


def step(state: State, event: Event, facts: Facts, now: int) -> Answer:
    """Return the state after an event, and what is said to the peer.

    Raises PeerFault or InvalidRecord for a peer's word that has no place, LocalFault or
    InvalidRecord for our user's; the state stays.
    """
    if isinstance(state, ENDED):
        if isinstance(event, Tick | Undelivered):
            return state, ()
        raise _wrong(event, facts, "this negotiation is over")
    if isinstance(event, Tick):
        return _tick(state, facts, now)
    if isinstance(event, Undelivered):
        return Declined(0, wire.clipped(event.reason, MAX_NOTE)), ()
    if now >= facts.until:
        raise _wrong(event, facts, f"this negotiation ended at {moment(facts.until)}")
    match event:
        case Heard(message, payload):
            return _hear(state, message, payload, facts)
        case Took(take, trade_id):
            return _took(state, take, trade_id, facts, now)
        case SayPropose(fiat_minor) if not facts.is_maker:
            return _propose(state, fiat_minor, facts)
        case SayAgree() if facts.is_maker and isinstance(state, Proposed):
            return _counter(state.round, state.fiat_minor, facts)
        case SayCounter(fiat_minor) if facts.is_maker and isinstance(state, Proposed):
            check_fiat(fiat_minor, facts)
            if not facts.pleases(fiat_minor, state.fiat_minor):
                raise LocalFault(
                    "fiat_minor: is worse for you than what is proposed", field="fiat_minor"
                )
            return _counter(state.round, fiat_minor, facts)
        case SayRefuse(reason) if _is_our_turn(state, facts):
            return _refuse("fiat_minor", reason, facts)
    raise _wrong(event, facts, _turn(state, facts))


def _tick(state: State, facts: Facts, now: int) -> Answer:
    if now >= facts.until:
        return Lapsed(), ()
    if facts.is_maker and isinstance(state, Proposed) and not facts.is_open:
        return _refuse("offer_hash", "is no current offer any more", facts)
    return state, ()


def _propose(state: State, fiat_minor: int, facts: Facts) -> Answer:
    if not isinstance(state, Fresh | Countered):
        raise LocalFault(_turn(state, facts))
    number = 1 if isinstance(state, Fresh) else state.round + 1
    if number > MAX_ROUNDS:
        raise LocalFault(f"{MAX_ROUNDS} proposals were made: take the last sum, or refuse it")
    check_amount(facts.amount_sat, facts.terms)
    check_fiat(fiat_minor, facts)
    said = Propose(
        offer_hash=facts.terms.offer_hash,
        amount_sat=facts.amount_sat,
        fiat_minor=fiat_minor,
        method=facts.terms.method,
    )
    return Proposed(number, fiat_minor), (said,)


def _hear(state: State, message: Message, payload: Payload, facts: Facts) -> Answer:
    if message.seq != len(facts.messages):
        raise PeerFault(f"seq: is {message.seq}, the next one is {len(facts.messages)}")
    if message.prev != facts.last_id:
        raise PeerFault("prev: does not name the last message")
    if facts.is_maker and isinstance(payload, Propose) and isinstance(state, Fresh | Countered):
        number = 1 if isinstance(state, Fresh) else state.round + 1
        return _answer(number, message, payload, facts)
    if not facts.is_maker and isinstance(payload, Counter) and isinstance(state, Proposed):
        if payload.propose_id != facts.last_id:
            raise PeerFault("propose_id: is not the proposal's")
        check_fiat(payload.fiat_minor, facts)
        now = Countered(state.round, payload.fiat_minor, message.id, payload.expires_at)
        return now, ()
    turn = isinstance(state, Countered if facts.is_maker else Proposed)
    if isinstance(payload, Refuse) and turn:
        if payload.refused_id != facts.last_id:
            raise PeerFault("refused_id: is not what it answers")
        return Declined(0, wire.clipped(f"{payload.field}: {payload.value}", MAX_NOTE)), ()
    raise PeerFault(f"{message.kind.name} has no place in {type(state).__name__}")


def _answer(number: int, message: Message, payload: Propose, facts: Facts) -> Answer:
    """The maker's node looks at a PROPOSE, and answers by policy where it can."""
    if number > MAX_ROUNDS:
        raise PeerFault(f"PROPOSE: is the {number}th of {MAX_ROUNDS}")
    if not facts.is_open:
        raise PeerFault("offer_hash: is no current offer of this node")
    terms = facts.terms
    for name, value, ours in (
        ("offer_hash", payload.offer_hash, terms.offer_hash),
        ("amount_sat", payload.amount_sat, facts.amount_sat),
        ("method", payload.method, terms.method),
    ):
        if value != ours:
            raise InvalidRecord(name, "is not this negotiation's")
    check_amount(payload.amount_sat, terms)
    check_fiat(payload.fiat_minor, facts)
    policy, fiat_minor = facts.policy, payload.fiat_minor
    limit = facts.limit(policy.accept_bp)
    if facts.pleases(fiat_minor, limit):
        return _counter(number, fiat_minor, facts, message.id)
    if facts.pleases(fiat_minor, facts.limit(policy.counter_bp)):
        return _counter(number, limit, facts, message.id)
    if policy.otherwise == REFUSE:
        return _refuse("fiat_minor", "is too far from the offer's price", facts, message.id)
    return Proposed(number, fiat_minor), ()


def _took(state: State, take: Take, trade_id: bytes, facts: Facts, now: int) -> Answer:
    def wrong(field: str, why: str) -> NodeError:
        text = f"{field}: {why}"
        return PeerFault(text) if facts.is_maker else LocalFault(text, field=field)

    if not isinstance(state, Countered) or take.counter != state.counter_id:
        raise wrong("counter", "is not the last one of its negotiation")
    if facts.is_maker and now >= state.expires_at:
        raise wrong("counter", f"expired at {moment(state.expires_at)}")
    for name, value, ours in (
        ("amount_sat", take.amount_sat, facts.amount_sat),
        ("method", take.method, facts.terms.method),
        ("fiat_minor", take.fiat_minor, state.fiat_minor),
    ):
        if value != ours:
            raise wrong(name, "is not the COUNTER's")
    return Taken(state.fiat_minor, trade_id), ()


def _counter(number: int, fiat_minor: int, facts: Facts, answered: bytes = b"") -> Answer:
    """Say a sum. The state's `counter_id` is filled in by whoever signs (`named`)."""
    propose_id = answered or facts.last_id
    said = Counter(propose_id=propose_id, fiat_minor=fiat_minor, expires_at=facts.until)
    return Countered(number, fiat_minor, ZERO, facts.until), (said,)


def named(state: State, counter_id: bytes) -> State:
    """Return the state once our COUNTER is signed and has its id."""
    if not isinstance(state, Countered) or state.counter_id != ZERO:
        return state
    return Countered(state.round, state.fiat_minor, counter_id, state.expires_at)


def _refuse(field: str, reason: str, facts: Facts, answered: bytes = b"") -> Answer:
    why = wire.clipped(reason, MAX_NOTE)
    said = Refuse(refused_id=answered or facts.last_id, field=field, value=why)
    return Declined(1, why), (said,)


def _is_our_turn(state: State, facts: Facts) -> bool:
    return isinstance(state, Proposed if facts.is_maker else Countered)


def _turn(state: State, facts: Facts) -> str:
    """Say whose word it is."""
    if _is_our_turn(state, facts):
        return "the other side has spoken: agree, name another sum, or refuse"
    if isinstance(state, Fresh):
        return "nothing has been proposed yet"
    return f"it is the other side's turn, until {moment(facts.until)}"


def _wrong(event: Event, facts: Facts, why: str) -> NodeError:
    theirs = isinstance(event, Heard) or (isinstance(event, Took) and facts.is_maker)
    if theirs:
        what = event.message.kind.name if isinstance(event, Heard) else "counter"
        return PeerFault(f"{what}: {why}")
    return LocalFault(why)
