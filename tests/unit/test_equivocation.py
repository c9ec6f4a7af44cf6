"""A proof that somebody signed two things: what makes one, every line of it bent, what is kept."""

import copy
import json
from typing import Any

import pytest
from broken_kit import NET, h, said, take_of, who
from equivocation_kit import PROOFS, TRADE, numbered, ruled, verdict, words

from escrow.equivocation import (
    MAX_BYTES,
    MAX_FILE,
    MAX_KEPT,
    Equivocation,
    What,
    carried,
    found,
)
from escrow.messagefile import HEADER
from escrow.messages import MAX_SEQ, ZERO, Kind, Message
from escrow.payloads import Forward, Paid
from escrow.store_equivocation import Proofs
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, StorageFault
from p2pnode.base.networks import NETWORKS
from p2pnode.base.store import Database

NOW = 1_800_000_000
SIDES = ("first", "second")
LINES = [
    (name, side, line)
    for name in PROOFS
    for side in SIDES
    for line in (*HEADER, "signature", *(("payload",) if name == "verdicts" else ()))
]


def refusal(value: Any) -> InvalidRecord:
    with pytest.raises(InvalidRecord) as caught:
        Equivocation.from_json(value)
    return caught.value


def no_proof(what: What, one: Message, two: Message, field: str) -> None:
    """No pair that is made, read from bytes or read from a file."""
    with pytest.raises(InvalidRecord) as caught:
        Equivocation.of(what, one, two)
    assert caught.value.field == field
    pair = sorted((one, two), key=lambda m: m.id)
    made = Equivocation(what, *pair)  # as a liar writes it
    with pytest.raises(InvalidRecord) as caught:
        Equivocation.from_wire(made.wire(), NET)
    assert caught.value.field == field
    error = refusal(made.to_json())
    assert error.field == field or error.field.startswith(field)


# ------------------------------------------------------------------ what makes one


@pytest.mark.parametrize("name", PROOFS)
def test_a_proof_is_read_back_from_bytes_and_from_its_file(name: str) -> None:
    proof = PROOFS[name]
    for again in (
        Equivocation.from_wire(proof.wire(), NET),
        Equivocation.from_json(json.loads(json.dumps(proof.to_json()))),
    ):
        assert again == proof
        assert again.wire() == proof.wire()
    assert (proof.trade_id, len({m.id for m in proof})) == (TRADE, 2)


def test_it_does_not_matter_which_came_first() -> None:
    one, two = words(), words(Kind.NOT_PAID)
    made = Equivocation.of(What.NUMBER, two, one)
    assert made.wire() == Equivocation.of(What.NUMBER, one, two).wire()


def test_a_proof_of_two_numbers_holds_no_payload() -> None:
    secret = "a secret reference"
    proof = Equivocation.of(What.NUMBER, words(note=secret), words(note="another"))
    assert secret.encode() not in proof.wire()
    assert secret.encode().hex() not in json.dumps(proof.to_json())


def test_the_longest_proof_is_under_its_bounds() -> None:
    most = {"seq": MAX_SEQ - 1, "tip_height": 499_999_999, "reason": "x" * 4000}
    one, two = verdict(1000, **most), verdict(2000, to="maker", **most)
    proof = Equivocation.of(What.VERDICTS, one, two)
    assert 8900 < len(proof.wire()) < MAX_BYTES
    assert len(json.dumps(proof.to_json(), indent=1)) < MAX_FILE
    assert Equivocation.from_wire(proof.wire(), NET) == proof


# ------------------------------------------------------------------ what makes none


def test_one_message_is_no_two() -> None:
    no_proof(What.NUMBER, words(), words(), "second")
    no_proof(What.VERDICTS, verdict(), verdict(), "second")


@pytest.mark.parametrize(
    ("line", "change"),
    [
        ("trade_id", {"trade_id": h("another trade")}),
        ("seq", {"seq": 8}),
    ],
)
def test_two_messages_of_two_places_prove_nothing(line: str, change: dict[str, Any]) -> None:
    no_proof(What.NUMBER, words(), words(Kind.NOT_PAID, **change), f"second.{line}")


def test_two_messages_to_two_recipients_or_of_two_senders_prove_nothing() -> None:
    chain = {"trade_id": TRADE, "seq": 7, "prev": h("before"), "payload": Paid(note="x").wire()}
    to_third = said(Kind.PAID, who("maker"), who("third"), **chain)
    by_third = said(Kind.PAID, who("third"), who("taker"), **chain)
    no_proof(What.NUMBER, words(), to_third, "second.recipient")
    no_proof(What.NUMBER, words(), by_third, "second.sender")


def test_before_a_trade_numbers_prove_nothing() -> None:
    no_proof(What.NUMBER, take_of(number=7), take_of(number=8), "first.trade_id")
    assert found((take_of(number=7), take_of(number=8))) == ()


def test_verdicts_that_divide_alike_are_one_verdict() -> None:
    """An arbiter says one verdict to two, and may word it anew."""
    other = verdict(1000, to="maker", reason="as I have said")
    no_proof(What.VERDICTS, verdict(1000), other, "second.payload")
    assert found((verdict(1000), other)) == ()


def test_verdicts_of_two_trades_or_two_arbiters_are_two() -> None:
    elsewhere = verdict(2000, trade_id=h("another trade"))
    no_proof(What.VERDICTS, verdict(1000), elsewhere, "second.trade_id")
    chain = {"trade_id": TRADE, "seq": 2, "prev": h("notice"), "payload": verdict(2000).payload}
    by_other = said(Kind.VERDICT, who("third"), who("taker"), **chain)
    no_proof(What.VERDICTS, verdict(1000), by_other, "second.sender")


def test_what_is_no_verdict_is_no_second_one() -> None:
    chain = {"trade_id": TRADE, "seq": 3, "prev": h("verdict"), "payload": verdict(2000).payload}
    one, two = verdict(1000), said(Kind.CHAT, who("arbiter"), who("taker"), **chain)
    side = "first" if two.id < one.id else "second"
    no_proof(What.VERDICTS, one, two, f"{side}.kind")


def test_a_verdict_that_cannot_be_read_divides_nothing() -> None:
    odd = verdict(2000, payload=b"\x91\x01")
    side = "first" if odd.id < verdict(1000).id else "second"
    no_proof(What.VERDICTS, verdict(1000), odd, f"{side}.payload")
    assert found((verdict(1000), odd, verdict(1000, to="maker"))) == found(
        (verdict(1000), odd)
    )  # two messages of one number, no two verdicts
    assert [p.what for p in found((verdict(1000), odd))] == [What.NUMBER]


# ------------------------------------------------------------------ every line bent


def flips(value: Any) -> list[Any]:
    """Other values of the same type."""
    if isinstance(value, int):
        return [value + 1, value + 1000, 0 if value else 7]
    raw = bytes.fromhex(value)
    places = sorted({0, len(raw) // 3, len(raw) // 2, len(raw) - 1})
    bits = [bytes(b ^ (i == n) for i, b in enumerate(raw)).hex() for n in places]
    return [*bits, value[:-2], value + "00", "", value.upper() + "AB"]


FOREIGN = (None, [], {}, 1.5, True, -1, 2**70, "zz", "0", "AB" * 32, " 00", "00" * 33, [1])


@pytest.mark.parametrize(("name", "side", "line"), LINES)
def test_each_line_altered_is_named(name: str, side: str, line: str) -> None:
    good = PROOFS[name].to_json()
    tried = 0
    for other in (*flips(good[side][line]), *FOREIGN):
        if other == good[side][line] and type(other) is type(good[side][line]):
            continue
        bad = copy.deepcopy(good)
        bad[side][line] = other
        error = refusal(bad)
        over = error.field == f"{side}.signature" and f" {line}" in str(error)
        assert over or error.field == f"{side}.{line}", (other, str(error))
        tried += 1
    assert tried > 10


@pytest.mark.parametrize(("name", "side", "line"), LINES)
def test_each_line_missing_or_double_is_named(name: str, side: str, line: str) -> None:
    bad = copy.deepcopy(PROOFS[name].to_json())
    del bad[side][line]
    assert refusal(bad).field == f"{side}.{line}"
    bad = copy.deepcopy(PROOFS[name].to_json())
    bad[side]["more"] = ""
    assert refusal(bad).field == f"{side}.'more'"


@pytest.mark.parametrize("name", PROOFS)
@pytest.mark.parametrize("line", ["version", "network", "what", *SIDES])
def test_each_line_of_the_file_is_held(name: str, line: str) -> None:
    good = PROOFS[name].to_json()
    for other in (*FOREIGN, "main", "two lies"):
        error = refusal(good | {line: other})
        assert error.field.partition(".")[0] == line, (other, str(error))
    missing = {k: v for k, v in good.items() if k != line}
    assert refusal(missing).field == line


def test_a_proof_of_another_network_and_other_words_of_the_same_two_are_named() -> None:
    good = numbered().to_json()
    for network in NETWORKS:
        if network != NET.name:
            assert refusal(good | {"network": network}).field == "network"
            with pytest.raises(InvalidRecord, match="network"):
                Equivocation.from_wire(numbered().wire(), NETWORKS[network])
    assert refusal(good | {"what": What.VERDICTS.words}).field == "first.payload"
    assert refusal(ruled().to_json() | {"what": What.NUMBER.words}).field == "first.'payload'"
    swapped = good | {"first": good["second"], "second": good["first"]}
    assert refusal(swapped).field == "second"
    assert refusal([good]).field == "proof"
    assert refusal(good | {"more": 1}).field == "'more'"


@pytest.mark.parametrize("name", PROOFS)
def test_bytes_have_one_spelling_and_every_one_is_held(name: str) -> None:
    raw = PROOFS[name].wire()
    for n in range(0, len(raw), 3):
        bad = raw[:n] + bytes([raw[n] ^ 1]) + raw[n + 1 :]
        with pytest.raises(InvalidRecord):
            Equivocation.from_wire(bad, NET)
    for bad in (b"", raw[:-1], raw + b"\x00", bytes(MAX_BYTES + 1)):
        with pytest.raises(InvalidRecord):
            Equivocation.from_wire(bad, NET)
    version, network, what, one, two = wire.unpack("p", raw, limit=MAX_BYTES)
    for bent, field in (
        ((2, network, what, one, two), "version"),
        ((version, "main", what, one, two), "network"),
        ((version, network, 2, one, two), "what"),
        ((version, network, what, two, one), "second"),
        ((version, network, what, one, one), "second"),
        ((version, network, what, one[:-1], two), "first"),
        ((version, network, what, one, (*two, b"")), "second"),
        ((version, network, what, (one[0], bytes(64), *one[2:]), two), "first.signature"),
    ):
        with pytest.raises(InvalidRecord) as caught:
            Equivocation.from_wire(wire.pack(bent), NET)
        assert caught.value.field == field


# ------------------------------------------------------------------ finding and keeping


def test_what_is_said_once_proves_nothing() -> None:
    honest = (words(), words(seq=8), verdict(1000), verdict(1000, to="maker"), take_of())
    assert found(honest) == found((*honest, *honest)) == ()


def test_a_number_and_a_verdict_are_both_found_whoever_shows_them() -> None:
    said_twice = (words(), verdict(1000), words(Kind.NOT_PAID), verdict(2000, to="maker", seq=3))
    assert {p.wire() for p in found(said_twice)} == {numbered().wire(), ruled().wire()}
    both = found((verdict(1000), verdict(2000)))  # by one number to one trader
    assert [p.what for p in both] == [What.NUMBER, What.VERDICTS]


def test_a_wholly_forked_chain_gives_four_proofs_and_always_the_same() -> None:
    fork = [words(note=n, seq=s) for n in ("one", "two") for s in range(7, 37)]
    proofs = found(fork)
    assert len(proofs) == MAX_KEPT
    assert proofs == found(fork)


def test_a_forward_hands_on_what_can_be_read_and_nothing_else() -> None:
    chain = {"trade_id": TRADE, "seq": 3, "prev": h("verdict")}
    inner = (verdict(1000).wire(), words().wire())
    good = said(
        Kind.FORWARD, who("arbiter"), who("taker"), payload=Forward(messages=inner).wire(), **chain
    )
    assert [m.kind for m in carried(good)] == [Kind.VERDICT, Kind.PAID]
    for payload in (Forward(messages=(b"\x91\x01",)).wire(), b"\x91\x01"):
        bad = said(Kind.FORWARD, who("arbiter"), who("taker"), payload=payload, **chain)
        assert carried(bad) == ()
    assert carried(words()) == ()


def test_a_proof_is_kept_once_and_four_of_a_sender_and_kind() -> None:
    database = Database(None)
    kept = Proofs(database, NET)
    assert kept.keep(ruled(), NOW)
    assert not kept.keep(ruled(), NOW)
    made = [
        Equivocation.of(What.NUMBER, words(seq=s), words(Kind.NOT_PAID, seq=s))
        for s in range(7, 14)
    ]
    assert [kept.keep(p, NOW) for p in made] == [True] * 4 + [False] * 3
    assert kept.keep(PROOFS["verdicts"], NOW) is False  # still there, still once
    assert [p.what for p in kept.of(TRADE)] == [What.VERDICTS, *[What.NUMBER] * 4]
    assert kept.of(TRADE)[1:] == made[:4]
    assert kept.told(TRADE) == [
        (who("arbiter").node_id, What.VERDICTS),
        (who("maker").node_id, What.NUMBER),
    ]
    assert kept.of(ZERO) == kept.told(ZERO) == []


def test_one_senders_numbers_leave_room_for_his_two_verdicts() -> None:
    kept = Proofs(Database(None), NET)
    for n in range(10, 15):
        one, two = verdict(1000, seq=n), verdict(1000, seq=n, reason="the same")
        assert kept.keep(Equivocation.of(What.NUMBER, one, two), NOW) == (n < 14)
    assert kept.keep(ruled(), NOW)
    kept = Proofs(Database(None), NET)
    for n in range(10, 15):
        proof = Equivocation.of(What.VERDICTS, verdict(1000, seq=n), verdict(2000, seq=n))
        assert kept.keep(proof, NOW) == (n < 14)
    one, two = verdict(1000), verdict(1000, reason="the same")
    assert kept.keep(Equivocation.of(What.NUMBER, one, two), NOW)


def test_a_damaged_row_is_the_disks_fault() -> None:
    database = Database(None)
    kept = Proofs(database, NET)
    kept.keep(numbered(), NOW)
    database.run("UPDATE equivocation SET raw = ?", numbered().wire()[:-1])
    with pytest.raises(StorageFault, match="is damaged"):
        kept.of(TRADE)
