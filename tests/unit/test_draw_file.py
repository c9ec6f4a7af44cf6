"""`draw verify`'s file: each line altered in turn fails, and the error names the line."""

import copy
import json
import os
from pathlib import Path
from typing import Any

import draw_reference as ref
import pytest
from bond_kit import bonded, eyes_of
from trade_facts import FRESH, FakeEyes, Play, block_hash, h, record

from escrow.arbiters import ArbiterRecord
from escrow.drawfile import draw_from_json, draw_to_json
from escrow.messages import Kind
from p2pnode.base.errors import InvalidRecord

VECTOR = Path(__file__).parents[1] / "vectors" / "trade_draw.json"
HEADER = (
    *("version", "kind", "trade_id", "sender", "recipient", "seq", "prev", "seen"),
    *("tip_height", "tip_hash", "draw_no", "payload_hash"),
)
MESSAGES = ("take", "draw", "reveal")
LINES = [(m, line) for m in MESSAGES for line in (*HEADER, "signature", "payload")]
TOP = ("version", "network", *MESSAGES, "records", "seed", "arbiter", "runner_up")
SIZES = {"version": 0, "kind": 0, "seq": 0, "tip_height": 0, "draw_no": 0}


# Three bonds, one arbiter without, and one whose bond is below the amount: four can be drawn.
NUMBERED: dict[int, ArbiterRecord] = {
    **{n: bonded(n) for n in range(3)},
    3: record(3),
    4: bonded(4, sat=1_999_999),
}
EYES = eyes_of(*NUMBERED.values())


def transcript() -> dict[str, Any]:
    play = Play(numbered=dict(NUMBERED), chain=EYES).open()
    three = (
        play.one(play.taker, Kind.TAKE),
        play.one(play.maker, Kind.DRAW),
        play.one(play.taker, Kind.REVEAL),
    )
    records = [play.records[i] for i in sorted(play.records)]
    return draw_to_json(*three, records, play.drawn)


def check(value: Any) -> None:
    draw_from_json(value).verify(EYES)


def refusal(value: Any) -> InvalidRecord:
    with pytest.raises(InvalidRecord) as caught:
        check(value)
    return caught.value


def test_the_vector_is_what_the_node_writes_and_verifies() -> None:
    made = json.dumps(transcript(), indent=1) + "\n"
    if os.environ.get("P2PNODE_RENEW"):
        VECTOR.write_text(made)
    assert VECTOR.read_text() == made
    drawn = draw_from_json(json.loads(made)).verify(EYES)
    assert drawn.arbiter.node_id.hex() == json.loads(made)["arbiter"]
    assert drawn.eligible == 4


def test_the_second_implementation_draws_the_same_from_the_vector() -> None:
    file = json.loads(VECTOR.read_text())
    chain = ref.Chain(block_hash, EYES.merkle_root, EYES.mtp)
    seed, drawn, counted = ref.transcript(file, chain)
    assert seed.hex() == file["seed"]
    assert [e.node.hex() for e in drawn] == [file["arbiter"], file["runner_up"]]
    assert counted == 4


# ------------------------------------------------------------------ bonds


def place_of(file: dict[str, Any], number: int) -> int:
    return int(file["records"].index(NUMBERED[number].wire().hex()))


def test_an_arbiter_whose_bond_is_below_the_amount_is_named_by_that_line() -> None:
    good = transcript()
    error = refusal(good | {"arbiter": NUMBERED[4].node_id.hex()})
    assert error.field == f"records[{place_of(good, 4)}].bond.transaction"
    assert "locks less than the 2000000 sat traded" in str(error)


def test_an_arbiter_whose_bond_is_not_on_this_chain_is_named_by_that_line() -> None:
    """The claimed outcome holds where the bond was; here it is in no block."""
    good = transcript()
    number = next(n for n, r in NUMBERED.items() if r.node_id.hex() == good["arbiter"])
    bond = NUMBERED[number].bond
    assert bond is not None
    roots = {r.bond.height: r.bond.root for r in NUMBERED.values() if r.bond}
    absent = {height: root for height, root in roots.items() if height != bond.height}
    for eyes in (FakeEyes(absent), FakeEyes(roots | {bond.height: h("another block")})):
        with pytest.raises(InvalidRecord) as caught:
            draw_from_json(good).verify(eyes)
        assert caught.value.field == f"records[{place_of(good, number)}].bond.branch"


def test_each_field_of_a_bond_altered_is_named_by_its_line() -> None:
    from escrow.arbiters import MAX_BYTES
    from p2pnode.base import wire

    good = transcript()
    n = place_of(good, 0)
    fields, *signatures = wire.unpack("r", bytes.fromhex(good["records"][n]), limit=MAX_BYTES)
    other = NUMBERED[1].bond
    assert other is not None
    for place, value, line in (
        (2, other.outpoint, "bond.transaction"),
        (3, other.transaction, "bond.transaction"),
        (4, 0, "bond.height"),
        (4, fields[4] + 1, "node_sig"),  # well-formed, and not what was signed
        (5, 9, "bond.position"),
        (6, (b"",), "bond.branch"),
        (7, other.key, "bond.outpoint"),
        (8, fields[8] + 1, "bond.outpoint"),
    ):
        changed = wire.pack([[*fields[:place], value, *fields[place + 1 :]], *signatures])
        records = [*good["records"][:n], changed.hex(), *good["records"][n + 1 :]]
        assert refusal(good | {"records": records}).field == f"records[{n}].{line}"
    for place in range(3):
        wrong = [bytes(64) if i == place else s for i, s in enumerate(signatures)]
        records = [*good["records"][:n], wire.pack([fields, *wrong]).hex()]
        records += good["records"][n + 1 :]
        named_line = ("node_sig", "key_sig", "bond_sig")[place]
        assert refusal(good | {"records": records}).field == f"records[{n}].{named_line}"


def named(error: InvalidRecord, where: str) -> bool:
    """The line itself, or the signature over it together with the line's name."""
    message, _, line = where.partition(".")
    over = error.field == f"{message}.signature" and f" {line}" in str(error)
    return error.field == where or over


def flips(value: Any) -> list[Any]:
    """Other values of the same type."""
    if isinstance(value, int):
        return [value + 1, value + 1000, 0 if value else 7]
    raw = bytes.fromhex(value)
    places = sorted({0, len(raw) // 3, len(raw) // 2, len(raw) - 1})
    bits = [bytes(b ^ (i == n) for i, b in enumerate(raw)).hex() for n in places]
    return [*bits, value[:-2], value + "00", ""]


FOREIGN = (None, [], {}, 1.5, True, -1, 2**70, "zz", "0", "AB" * 32, " 00", "00" * 33, [1])


@pytest.mark.parametrize(("message", "line"), LINES)
def test_each_line_of_each_message_altered_is_named(message: str, line: str) -> None:
    good = transcript()
    for other in (*flips(good[message][line]), *FOREIGN):
        if other == good[message][line] and type(other) is type(good[message][line]):
            continue
        bad = copy.deepcopy(good)
        bad[message][line] = other
        error = refusal(bad)
        assert named(error, f"{message}.{line}"), (other, str(error))


@pytest.mark.parametrize(("message", "line"), LINES)
def test_each_line_of_each_message_missing_is_named(message: str, line: str) -> None:
    bad = transcript()
    del bad[message][line]
    assert refusal(bad).field == f"{message}.{line}"


def test_every_byte_of_the_payloads_is_held() -> None:
    good = transcript()
    for message in MESSAGES:
        raw = bytes.fromhex(good[message]["payload"])
        for n in range(0, len(raw), 23):
            bad = copy.deepcopy(good)
            bad[message]["payload"] = bytes(b ^ (i == n) for i, b in enumerate(raw)).hex()
            assert refusal(bad).field == f"{message}.payload"


@pytest.mark.parametrize("line", TOP)
def test_each_line_of_the_file_missing_is_named(line: str) -> None:
    bad = transcript()
    del bad[line]
    assert refusal(bad).field == line


@pytest.mark.parametrize("line", TOP)
@pytest.mark.parametrize("other", [None, 7, 1.0, True, "", "zz", [], {}, [None]])
def test_a_line_of_the_file_of_another_type_is_named(line: str, other: Any) -> None:
    assert refusal(transcript() | {line: other}).field.partition(".")[0].partition("[")[0] == line


@pytest.mark.parametrize("line", ["seed", "arbiter", "runner_up"])
def test_another_outcome_is_named(line: str) -> None:
    good = transcript()
    others = [o for o in flips(good[line]) if len(o) == len(good[line])]
    for other in (*others, good[line].upper(), good["arbiter" if line != "arbiter" else "seed"]):
        assert refusal(good | {line: other}).field == line


@pytest.mark.parametrize("network", ["regtest", "main", "signet", "testnet4", "Sandbox", "moon"])
def test_another_network_is_named(network: str) -> None:
    assert refusal(transcript() | {"network": network}).field == "network"


def test_an_extra_line_is_named() -> None:
    assert refusal(transcript() | {"note": "x"}).field == "'note'"
    for message in MESSAGES:
        bad = transcript()
        bad[message]["extra"] = "00"
        assert refusal(bad).field == f"{message}.'extra'"


def test_each_record_altered_is_named() -> None:
    good = transcript()
    for n, line in enumerate(good["records"]):
        for place in range(0, len(line) // 2, 11):
            raw = bytearray.fromhex(line)
            raw[place] ^= 1
            bad = copy.deepcopy(good)
            bad["records"][n] = raw.hex()
            assert refusal(bad).field.partition("].")[0].rstrip("]") == f"records[{n}"


def test_records_missing_extra_twice_or_exchanged_are_named() -> None:
    good = transcript()
    for n in range(len(good["records"])):
        bad = copy.deepcopy(good)
        del bad["records"][n]
        assert refusal(bad).field == "records"
    last = len(good["records"])
    for more in (good["records"][0], record(7).wire().hex(), bonded(0, FRESH + 1).wire().hex()):
        assert refusal(good | {"records": [*good["records"], more]}).field == f"records[{last}]"
    exchanged = [bonded(0, FRESH + 1).wire().hex(), *good["records"][1:]]
    assert refusal(good | {"records": exchanged}).field == "records[0]"


def test_the_order_of_records_is_no_line() -> None:
    good = transcript()
    check(good | {"records": good["records"][::-1]})


def test_messages_of_two_trades_do_not_make_a_draw() -> None:
    good = transcript()
    other = Play(lists={"maker": (0, 1, 2), "taker": (0, 1, 2)})
    other.say(other.taker, other.take())
    other.say(other.maker, other.draw())
    other.say(other.taker, other.reveal())
    three = tuple(other.messages)
    foreign = draw_to_json(*three, list(other.records.values())[:3], other.drawn)
    for message in MESSAGES:
        error = refusal(good | {message: foreign[message]})
        assert error.field.partition(".")[0] in {"draw", "reveal"}


def test_another_chain_is_named_at_the_anchor() -> None:
    blind = FakeEyes()
    blind.block_hash = lambda height: None  # type: ignore[assignment,method-assign]
    with pytest.raises(InvalidRecord, match=r"take\.anchor_hash"):
        draw_from_json(transcript()).verify(blind)


def test_a_file_that_is_no_object_is_refused() -> None:
    for value in (None, [], "x", 1, [transcript()]):
        assert refusal(value).field == "transcript"
    for message in MESSAGES:
        assert refusal(transcript() | {message: []}).field == message
