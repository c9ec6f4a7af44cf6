"""Every answer of a chain server is typed and bounded; garbage raises one thing."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from escrow import electrum
from escrow.electrum import Refusal
from p2pnode.base.errors import InvalidRecord

HASH = "ab" * 32
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from([HASH, "00" * 80, "1.4", "hex", "height"]),
    lambda c: (
        st.lists(c, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["hex", "height", "headers", "count", "tx_hash", "merkle", "pos", "block_height"]
            ),
            c,
            max_size=5,
        )
    ),
    max_leaves=12,
)
READERS = [
    electrum.version,
    electrum.announced,
    lambda v: electrum.headers(v, 10),
    electrum.status,
    electrum.history,
    lambda v: electrum.merkle(v, 5),
    electrum.raw_transaction,
    electrum.fee_rate,
    lambda v: electrum.hash_of("txid", v),
]


@pytest.mark.parametrize("reader", READERS)
@given(value=JSON)
def test_nonsense_raises_one_thing(reader: Any, value: Any) -> None:
    try:
        reader(value)
    except InvalidRecord:
        pass


@given(st.binary(max_size=300))
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example(b'{"result":1e99999999999999999999}')
@example(b'{"result":NaN}')
@example(b'{"result":' + b"9" * 5000 + b"}")
@example(b'"\\ud800"')
@example(b"{}")
def test_a_line_is_an_object_or_refused(line: bytes) -> None:
    try:
        assert type(electrum.parse_line(line)) is dict
    except InvalidRecord:
        pass


def test_the_servers_own_error_is_told_apart_from_an_answer() -> None:
    assert electrum.answer_of({"id": 1, "result": None}) is None
    assert electrum.answer_of({"id": 1, "result": 5, "error": None}) == 5
    with pytest.raises(InvalidRecord, match="result"):
        electrum.answer_of({"id": 1})
    for error, code in (({"code": 2, "message": "no"}, 2), ("no", 0), ({"code": "x"}, 0), ([1], 0)):
        with pytest.raises(Refusal) as caught:
            electrum.answer_of({"error": error})
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("answer", "rate"),
    [
        (None, None),
        (-1, None),
        (0, None),
        (Decimal("-1"), None),
        (Decimal("0.00001"), 1),
        (Decimal("0.00001001"), 2),
        (Decimal("0.0000000001"), 1),
        (Decimal("0.00008"), 8),
        (Decimal("1e-999999999"), 1),
        (1, 100_000),
    ],
)
def test_a_fee_is_whole_satoshi_rounded_up(answer: object, rate: int | None) -> None:
    assert electrum.fee_rate(answer) == rate


@pytest.mark.parametrize("answer", [2, Decimal("1e999999999"), True, "0.1", [1]])
def test_an_absurd_fee_is_refused(answer: object) -> None:
    with pytest.raises(InvalidRecord, match="estimatefee"):
        electrum.fee_rate(answer)


def test_headers_of_both_protocols_read_alike() -> None:
    one = "11" * 80
    assert electrum.headers({"hex": one * 2, "count": 2, "max": 2016}, 5) == electrum.headers(
        {"headers": [one, one], "count": 2, "max": 2016}, 5
    )
    for wrong in (
        {"hex": one, "count": 2},
        {"hex": "", "count": 0},
        {"headers": [one] * 6, "count": 6},
        {"headers": [one[:-2]], "count": 1},
        {"hex": one, "count": True},
    ):
        with pytest.raises(InvalidRecord, match=r"headers"):
            electrum.headers(wrong, 5)


def test_a_history_names_each_transaction_once() -> None:
    row = {"tx_hash": HASH, "height": 7}
    assert electrum.history([row, {"tx_hash": "cd" * 32, "height": -1}]) == [
        (bytes.fromhex(HASH), 7),
        (bytes.fromhex("cd" * 32), 0),
    ]
    for wrong in (
        [row, row],
        [{"tx_hash": HASH.upper(), "height": 1}],
        [{"tx_hash": HASH}],
        {},
        [row] * 20_001,
    ):
        with pytest.raises(InvalidRecord):
            electrum.history(wrong)


@pytest.mark.parametrize(
    "words",
    [
        "the transaction was rejected by network rules.\n\ndust, tx with dust output\n[0200]",
        "dust, tx with dust output",
    ],
)
def test_the_nodes_reason_is_found_in_the_servers_words(words: str) -> None:
    assert electrum.reject_reason(words) == "dust, tx with dust output"


def test_words_for_a_terminal_are_one_clean_line() -> None:
    assert electrum.clean("\x1b[2Jgone\n\u202eover" + "x" * 900).isprintable()
    assert len(electrum.clean("x" * 900)) <= 200
    assert electrum.reject_reason("") == "no reason given"


@pytest.mark.parametrize("protocol", ["1.3", "1.7", "2.0", "1", "", "1.4.x", "１.4"])
def test_other_protocols_are_refused(protocol: str) -> None:
    with pytest.raises(InvalidRecord, match="version"):
        electrum.version(["server", protocol])
    assert electrum.version(["Electrum\x07X", "1.4.2"]) == ("Electrum X", (1, 4, 2))


def test_numbers_keep_their_decimals() -> None:
    assert electrum.parse_line(json.dumps({"result": 0.1}).encode())["result"] == Decimal("0.1")
