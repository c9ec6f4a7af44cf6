"""A published draw that came to nothing: what it holds, what is refused, who owes one."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from broken_kit import NET, abort, draw_of, entry, h, said, take_of, who

from dht import address
from dht.records import MAX_PER_OWNER, Kinds
from dht.store_records import RecordStore
from escrow.broken import (
    MAKER,
    MAX_BYTES,
    TAKER,
    WALK,
    BrokenDraw,
    Filed,
    fitting,
    numbers_below,
    owed,
    record_of,
)
from escrow.messages import MAX_DRAWS, MAX_SEQ, Kind, Message
from escrow.opening import SILENCE
from p2pnode.app import fit
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.networks import NETWORKS
from p2pnode.base.store import Database

K = Kind
NOW = 1_800_000_000
TAKE, DRAW = 2, 4  # the places of the two bodies in an entry's array
LINES = (
    *("version", "kind", "trade_id", "sender", "recipient", "seq", "prev", "seen"),
    *("tip_height", "tip_hash", "draw_no", "payload_hash"),
)


# ------------------------------------------------------------------ the codec


def test_an_entry_is_read_back_and_files_under_both_numbers() -> None:
    made = entry()
    for side, name, number, other in ((TAKER, "taker", 7, "maker"), (MAKER, "maker", 9, "taker")):
        filed = Filed.from_wire(Filed(side, made).wire(), NET)
        assert filed == Filed(side, made)
        assert (filed.node_id, filed.draw_no) == (who(name).node_id, number)
        assert filed.counterparty == who(other).node_id
        assert filed.trade_id == take_of().id


def test_the_longest_entry_is_under_its_bound_and_holds_no_payload() -> None:
    words = b"\xc4\x40" + b"a secret offer" * 4
    take = take_of(
        number=MAX_DRAWS, seq=MAX_SEQ - 1, prev=h("p"), tip_height=499_999_999, payload=words
    )
    draw = draw_of(
        take, number=MAX_DRAWS, seq=MAX_SEQ - 1, prev=h("p"), tip_height=499_999_999, payload=words
    )
    raw = Filed(MAKER, BrokenDraw.of(take, draw)).wire()
    assert len(raw) < MAX_BYTES == 1024
    assert b"secret" not in raw
    assert Filed.from_wire(raw, NET).draw_no == MAX_DRAWS


def bent(place: int, value: Any) -> Callable[[list[Any]], None]:
    def bend(array: list[Any]) -> None:
        array[place] = value

    return bend


def line(body: int, place: int, value: Any) -> Callable[[list[Any]], None]:
    def bend(array: list[Any]) -> None:
        array[body] = (*array[body][:place], value, *array[body][place + 1 :])

    return bend


def flipped(signature: int) -> Callable[[list[Any]], None]:
    def bend(array: list[Any]) -> None:
        array[signature] = bytes([array[signature][0] ^ 1]) + array[signature][1:]

    return bend


def of(take: Message, draw: Message) -> Callable[[list[Any]], None]:
    """Both headers rightly signed, and yet no draw."""

    def bend(array: list[Any]) -> None:
        array[2:] = [take.body(), take.signature, draw.body(), draw.signature]

    return bend


OTHERS: dict[str, Any] = {
    "version": 2,
    "kind": 6,
    "trade_id": h("another"),
    "sender": who("third").node_id,
    "recipient": who("third").node_id,
    "seq": 1,
    "prev": h("another"),
    "seen": h("another"),
    "tip_height": 251,
    "tip_hash": h("another"),
    "draw_no": 8,
    "payload_hash": h("another"),
}
MALFORMED: dict[str, Sequence[Any]] = {
    "version": (0, b"", "1"),
    "kind": (0, 99, -1, b""),
    "trade_id": (b"", bytes(31), "a" * 32),
    "sender": (bytes(33), 1, b""),
    "recipient": (bytes(31), ()),
    "seq": (-1, MAX_SEQ + 1, b""),
    "prev": (bytes(31), 0),
    "seen": (bytes(33), 0),
    "tip_height": (-1, 500_000_000, b""),
    "tip_hash": (bytes(31), 0),
    "draw_no": (0, -1, MAX_DRAWS + 1, b""),
    "payload_hash": (bytes(31), 0),
}
foreign = NETWORKS["regtest"]

CORPUS: dict[str, Callable[[list[Any]], None]] = {
    "entry version 0": bent(0, 0),
    "entry version 2": bent(0, 2),
    "network regtest": bent(1, "regtest"),
    "network is binary": bent(1, b"sandbox"),
    "no body": bent(TAKE, ()),
    "body is binary": bent(DRAW, b""),
    "short body": lambda a: a.__setitem__(TAKE, a[TAKE][:-1]),
    "long body": lambda a: a.__setitem__(DRAW, (*a[DRAW], 0)),
    "short array": lambda a: a.pop(),
    "long array": lambda a: a.append(0),
    "take's signature": flipped(3),
    "draw's signature": flipped(5),
    "short signature": bent(3, bytes(63)),
    "signatures change places": lambda a: a.__setitem__(slice(3, 6, 2), [a[5], a[3]]),
    "bodies change places": lambda a: a.__setitem__(slice(2, 6), [*a[4:6], *a[2:4]]),
    "two TAKEs": of(take_of(), take_of()),
    "two DRAWs": of(draw_of(take_of()), draw_of(take_of())),
    "a DRAW in TAKE's place": of(
        other := said(K.DRAW, who("taker"), who("maker"), trade_id=h("x"), draw_no=7),
        said(K.DRAW, who("maker"), who("taker"), trade_id=other.id, draw_no=9),
    ),
    "REVEAL for DRAW": of(
        take_of(), said(K.REVEAL, who("maker"), who("taker"), trade_id=take_of().id)
    ),
    "DRAW of another TAKE": of(take_of(number=6), draw_of(take_of())),
    "DRAW by a third": of(take_of(), draw_of(take_of(), maker="third")),
    "DRAW to a third": of(
        take_of(),
        said(K.DRAW, who("maker"), who("third"), trade_id=take_of().id, draw_no=9),
    ),
    "DRAW by the taker himself": of(
        take_of(), said(K.DRAW, who("taker"), who("maker"), trade_id=take_of().id, draw_no=9)
    ),
    "TAKE's number is 0": of(take_of(number=0), draw_of(take_of(number=0))),
    "DRAW's number is 0": of(take_of(), draw_of(take_of(), number=0)),
    "TAKE of another network": of(take_of(network=foreign), draw_of(take_of(network=foreign))),
    **{f"take.{n} is another": line(TAKE, p, OTHERS[n]) for p, n in enumerate(LINES)},
    **{f"draw.{n} is another": line(DRAW, p, OTHERS[n]) for p, n in enumerate(LINES)},
    **{
        f"{name}.{n} is {value!r}": line(body, p, value)
        for name, body in (("take", TAKE), ("draw", DRAW))
        for p, n in enumerate(LINES)
        for value in MALFORMED[n]
    },
}


@pytest.mark.parametrize("name", CORPUS)
def test_every_bent_field_is_refused(name: str) -> None:
    array = list(entry().array())
    CORPUS[name](array)
    assert array != list(entry().array())
    for side in (TAKER, MAKER):
        with pytest.raises(InvalidRecord) as refused:
            Filed.from_wire(wire.pack((side, tuple(array))), NET)
        assert refused.value.field


@pytest.mark.parametrize("side", [-1, 2, b"", "0", ()])
def test_there_are_two_sides(side: Any) -> None:
    with pytest.raises(InvalidRecord):
        Filed.from_wire(wire.pack((side, entry().array())), NET)


def test_a_signer_without_work_enters_nothing() -> None:
    lazy = next(i for i in map(_unworked, range(99)) if i is not None)
    take = said(K.TAKE, lazy, who("maker"), draw_no=7)
    draw = said(K.DRAW, who("maker"), lazy, trade_id=take.id, draw_no=9)
    array = (1, NET.name, take.body(), take.signature, draw.body(), draw.signature)
    with pytest.raises(InvalidRecord, match="proof of work"):
        Filed.from_wire(wire.pack((0, array)), NET)


def _unworked(number: int) -> Any:
    from p2pnode.base.identity import Identity, works

    made = Identity(h(f"lazy {number}"))
    return None if works(NET, made.node_id) else made


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x92",
        wire.pack((0, entry().array())) + b"\x00",
        bytes([0x92, 0xCC, 0x00]) + wire.pack((0, entry().array()))[2:],  # 0 in two bytes
        wire.pack((0, (*entry().array(), bytes(MAX_BYTES)))),
        "text",
        None,
    ],
    ids=["empty", "cut", "longer", "not canonical", "too large", "text", "nothing"],
)
def test_bytes_that_are_no_entry_are_refused(raw: Any) -> None:
    with pytest.raises(InvalidRecord):
        Filed.from_wire(raw, NET)


def test_only_what_fits_the_number_asked_for_is_believed() -> None:
    right, other = entry(), entry(number=8)
    raws = [
        b"rubbish",
        Filed(TAKER, other).wire(),  # another number of his
        Filed(MAKER, right).wire(),  # the other signer's number
        Filed(TAKER, right).wire()[:-1] + b"\x00",  # forged
        Filed(TAKER, right).wire(),
        Filed(TAKER, right).wire(),
    ]
    assert fitting(raws, NET, who("taker").node_id, 7) == (Filed(TAKER, right),)
    assert fitting(raws, NETWORKS["regtest"], who("taker").node_id, 7) == ()


# ------------------------------------------------------------------ who owes one

T, M = "taker", "maker"
Said = tuple[str, Kind] | tuple[str, Kind, str]
DRAWN: tuple[Said, ...] = ((T, K.TAKE), (M, K.DRAW))
OWED: list[tuple[str, Sequence[Said], str, bool]] = [
    ("no TAKE", (), M, False),
    ("TAKE alone", DRAWN[:1], T, False),
    ("refused", (DRAWN[0], (M, K.REFUSE)), T, False),
    ("no DRAW came", (DRAWN[0], (T, K.ABORT, SILENCE)), T, False),
    ("no REVEAL came", (*DRAWN, (M, K.ABORT, SILENCE)), M, True),
    ("the maker changed his mind", (*DRAWN, (M, K.ABORT, "no time")), M, False),
    ("the set was too small", (*DRAWN, (T, K.ABORT, "too few")), T, True),
    ("the taker said so", (*DRAWN, (T, K.ABORT, "too few")), M, True),
    ("the taker said he heard nothing", (*DRAWN, (T, K.ABORT, SILENCE)), M, True),
    ("the maker's pages stopped", (*DRAWN, (T, K.GET), (T, K.ABORT, SILENCE)), T, True),
    (
        "the taker's word came too late",
        (*DRAWN, (M, K.ABORT, SILENCE), (T, K.ABORT, "too few")),
        M,
        True,
    ),
    ("no CONTRACT", (*DRAWN, (T, K.REVEAL), (M, K.ABORT, SILENCE)), M, True),
    ("the taker's pages stopped", (*DRAWN, (T, K.REVEAL), (M, K.GET), (M, K.ABORT, "")), M, True),
    ("ABORT once the arbiter is known", (*DRAWN, (T, K.REVEAL), (T, K.ABORT, "rate")), M, True),
    (
        "one CONTRACT",
        (*DRAWN, (T, K.REVEAL), (T, K.CONTRACT), (T, K.ABORT, SILENCE)),
        T,
        True,
    ),
    (
        "both CONTRACTs",
        (*DRAWN, (T, K.REVEAL), (T, K.CONTRACT), (M, K.CONTRACT), (M, K.ABORT, "not funded")),
        M,
        False,
    ),
]


@pytest.mark.parametrize(("words", "me", "due"), [c[1:] for c in OWED], ids=[c[0] for c in OWED])
def test_what_an_aborted_trade_owes(words: Sequence[Said], me: str, due: bool) -> None:
    take = take_of()
    messages: list[Message] = []
    for sender, kind, *reason in words:
        other = M if sender == T else T
        if kind is K.TAKE:
            messages.append(take)
        elif kind is K.DRAW:
            messages.append(draw_of(take))
        elif kind is K.ABORT:
            messages.append(abort(sender, other, reason[0] or "late", take.id))
        else:
            messages.append(said(kind, who(sender), who(other), trade_id=take.id))
    found = owed(messages, who(me).node_id)
    assert (found is not None) == due
    if found is not None:
        assert found == entry()


# ------------------------------------------------------------------ what a reader sums up


def test_a_record_counts_numbers_and_distinct_counterparties() -> None:
    peer = who("maker").node_id
    found = {
        12: (),
        11: (Filed(MAKER, entry(answer=11)),),
        10: (Filed(MAKER, entry(number=1, answer=10)), Filed(MAKER, entry(number=2, answer=10))),
        9: (Filed(MAKER, entry(taker="third", answer=9)),),
        8: None,
    }
    record = record_of(peer, 12, found)
    assert (record.stated, record.looked, record.unanswered) == (12, 5, 1)
    assert (record.broken, record.counterparties, record.used_twice) == (3, 2, 1)
    assert [e.draw_no for e in record.entries] == [11, 10, 10, 9]


@pytest.mark.parametrize(
    ("stated", "first", "last", "count"),
    [(1, 1, 1, 1), (3, 3, 1, 3), (WALK, WALK, 1, WALK), (5000, 5000, 5001 - WALK, WALK)],
)
def test_numbers_are_walked_downward(stated: int, first: int, last: int, count: int) -> None:
    numbers = list(numbers_below(stated))
    assert (numbers[0], numbers[-1], len(numbers)) == (first, last, count)


# ------------------------------------------------------------------ in the DHT


def kinds() -> Kinds:
    found = fit.kinds(NET)
    found.register(address.KIND, address.validator(NET))
    return found


def test_a_holder_takes_an_entry_under_its_two_numbers_alone() -> None:
    made, it = entry(), kinds()
    keys = {
        TAKER: fit.broken_key(NET, who("taker").node_id, 7),
        MAKER: fit.broken_key(NET, who("maker").node_id, 9),
    }
    for side, key in keys.items():
        raw = Filed(side, made).wire()
        record = it.admit(fit.BROKEN, key, raw, NOW)
        assert record.owner == made.trade_id
        assert record.expires_at == NOW + fit.BROKEN_LIFE_S
        for other in (keys[1 - side], fit.broken_key(NET, who("taker").node_id, 8)):
            with pytest.raises(InvalidRecord, match="key"):
                it.admit(fit.BROKEN, other, raw, NOW)
    assert not it.bounds(fit.BROKEN).passed_on  # or it would live for ever


def test_a_key_holds_eight_trades_and_each_trade_once() -> None:
    it = kinds()
    bounds, store = it.bounds(fit.BROKEN), RecordStore(Database(None))
    key = fit.broken_key(NET, who("maker").node_id, 9)
    take = take_of()
    for height in range(20):  # many DRAWs of one trade
        again = BrokenDraw.of(take, draw_of(take, tip_height=height))
        store.put(it.admit(fit.BROKEN, key, Filed(MAKER, again).wire(), NOW), bounds)
    assert store.count() == 1
    for number in range(20):
        other = Filed(MAKER, entry(number=100 + number)).wire()
        store.put(it.admit(fit.BROKEN, key, other, NOW + number), bounds)
    assert store.count() == 8 == bounds.per_key


def test_entries_of_a_trader_push_out_none_of_his_other_records() -> None:
    """A counterparty could else put so many of them that his offers have no room."""
    it, store, me = kinds(), RecordStore(Database(None)), who("maker")
    own = address.sign(me, NET, ("/ip4/127.0.0.1/tcp/1",), seq=1, expires_at=NOW + 60)
    store.put(it.accept(address.KIND, own, NOW))
    for number in range(1, MAX_PER_OWNER + 10):
        filed = Filed(MAKER, entry(number=number, answer=number)).wire()
        store.put(it.accept(fit.BROKEN, filed, NOW), it.bounds(fit.BROKEN))
    assert store.kinds() == {address.KIND: 1, fit.BROKEN: MAX_PER_OWNER + 9}


def test_entries_fill_a_tenth_of_a_node() -> None:
    it, store = kinds(), RecordStore(Database(None), limit=200)
    for number in range(1, 40):
        filed = Filed(TAKER, entry(number=number)).wire()
        store.put(it.accept(fit.BROKEN, filed, NOW + number), it.bounds(fit.BROKEN))
    assert store.kinds() == {fit.BROKEN: 20}
