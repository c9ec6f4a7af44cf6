"""The reference price: which sources count, what is refused, and what is said about it."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderbook.backend_prices import open_sources
from orderbook.backend_prices_file import FilePrices
from orderbook.price_adapters import ADAPTERS, read_answer
from orderbook.prices import STALE_S, STRAY_BP, Quote, read_json, read_price, refer
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.units import MAX_PRICE

NOW = 1_788_000_000


def quotes(*prices, at=NOW, currency="EUR"):
    return [Quote(f"s{i}", currency, price, at) for i, price in enumerate(prices)]


def names(found):
    return [out.source for out in found]


@pytest.mark.parametrize(
    ("prices", "reference", "spread_bp", "left"),
    [
        ((61_240,), 61_240, 0, []),
        ((100_000, 104_000), 102_000, 393, []),
        ((100_000, 105_000), 102_500, 488, []),  # at the bound: 5 % exactly
        ((100_000, 101_000, 200_000), 100_500, 100, ["s2"]),
        ((50_000, 100_000, 100_000), 100_000, 0, ["s0"]),  # a low liar as well as a high one
        ((1, 100_000, 100_000), 100_000, 0, ["s0"]),
        ((100_000, 100_000, 100_000, 106_000, 94_000), 100_000, 0, ["s3", "s4"]),
        ((100_000, 100_000, 100_000, 10, 10**9), 100_000, 0, ["s3", "s4"]),
    ],
)
def test_the_median_of_those_that_agree(prices, reference, spread_bp, left):
    found = refer("EUR", quotes(*prices), {}, NOW)
    assert (found.price, found.spread_bp, names(found.left_out)) == (reference, spread_bp, left)
    assert all("strays" in out.reason and "%" in out.reason for out in found.left_out)
    assert len(found.used) + len(left) == len(prices)
    assert found.why == ""


@pytest.mark.parametrize(
    ("prices", "why"),
    [
        ((), "no source has said a price"),
        (
            (100_000, 105_001),
            "two sources are 5.01 % apart, more than 5.00 %, and no third decides",
        ),
        ((100_000, 100_000, 200_000, 200_000), "no more than 2 of 4 sources agree"),
        ((100_000, 100_100, 200_000, 200_100), "no more than 2 of 4 sources agree"),
        (
            (100_000, 200_000, 400_000),
            "two sources are 100.00 % apart, more than 5.00 %, and no third decides",
        ),
    ],
)
def test_without_agreement_there_is_no_reference_and_it_says_so(prices, why):
    found = refer("EUR", quotes(*prices), {}, NOW)
    assert (found.price, found.used, found.why) == (0, (), why)
    assert len(found.left_out) == len(prices)


def test_a_stale_source_is_left_out_and_named_with_its_last_fault():
    old = Quote("old", "EUR", 100_000, NOW - STALE_S - 1)
    fresh = Quote("fresh", "EUR", 90_000, NOW - STALE_S)
    found = refer("EUR", [old, fresh], {"old": "answers with HTTP status 503"}, NOW)
    assert (found.price, found.at) == (90_000, NOW - STALE_S)
    (out,) = found.left_out
    assert out.reason == "stale: 10 min old; answers with HTTP status 503"
    assert refer("EUR", [old], {}, NOW).why == "every price is stale"


def test_a_source_that_never_answered_is_named_and_a_foreign_quote_is_none():
    found = refer("EUR", quotes(5, currency="USD"), {"down": "cannot be reached"}, NOW)
    assert found.price == 0
    assert [(o.source, o.reason, o.price) for o in found.left_out] == [
        ("down", "cannot be reached", 0)
    ]


@given(
    st.integers(1_000, 10**12),
    st.lists(st.integers(-200, 200), min_size=1, max_size=6),
    st.lists(st.integers(1, MAX_PRICE), max_size=5),
    st.randoms(),
)
def test_a_minority_of_liars_moves_the_reference_by_no_more_than_the_bound(
    true, honest, lies, random
):
    """Honest ones are within 2 % of the truth and more than the liars."""
    said = [true * (10_000 + off) // 10_000 for off in honest]
    lies = lies[: len(said) - 1]
    all_quotes = quotes(*said, *lies)
    found = refer("EUR", all_quotes, {}, NOW)
    assert found.price, found.why
    low, high = min(said), max(said)
    slack = high * (STRAY_BP + 1) // 10_000 + 1
    assert low - slack <= found.price <= high + slack
    random.shuffle(all_quotes)
    assert refer("EUR", all_quotes, {}, NOW) == found


@pytest.mark.parametrize(
    ("value", "currency", "price"),
    [
        ("61240.00", "EUR", 61_240_000_000),
        ("61240.123456", "EUR", 61_240_123_456),
        ("61240.1234565", "EUR", 61_240_123_457),  # half up
        ("61240.12345649999", "EUR", 61_240_123_456),
        ("15000000", "JPY", 150_000_000_000),
        ("18800.123", "KWD", 188_001_230_000),
        (66010, "USD", 66_010_000_000),
        (Decimal("66010.35"), "USD", 66_010_350_000),
        (Decimal("6.601035e4"), "USD", 66_010_350_000),
        ("0.000001", "EUR", 1),
    ],
)
def test_a_price_is_read_exactly(value, currency, price):
    assert read_price("p", value, currency) == price


@pytest.mark.parametrize(
    "value",
    [
        "0",
        "0.0000000001",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1e5",
        "1,000",
        "1.",
        ".5",
        "",
        "NaN",
        "Infinity",
        "١٢",
        "9" * 21,
        "9" * 19,
        0,
        -66010,
        MAX_PRICE,
        2**70,
        True,
        False,
        None,
        [],
        {},
        66010.35,  # a float has been rounded already
        Decimal("NaN"),
        Decimal("Infinity"),
        Decimal("1e400"),
        Decimal("1e-400"),
        Decimal("-1"),
        Decimal("0"),
        Decimal("1." + "1" * 60),
    ],
)
def test_what_is_no_price_is_refused_by_name(value):
    with pytest.raises(InvalidRecord) as caught:
        read_price("EUR", value, "EUR")
    assert caught.value.field == "EUR"
    assert len(str(caught.value)) < 120


def test_numbers_of_json_stay_exact():
    found = read_json(b'{"a": 66010.123456789012345678, "b": 12, "c": 1e3}')
    assert found == {"a": Decimal("66010.123456789012345678"), "b": 12, "c": Decimal("1e3")}
    assert type(found["b"]) is int


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1, "a": 2}',
        b'{"a": ' + b"9" * 100 + b"}",
        b'{"a": 1e' + b"9" * 100 + b"}",
        b"[" * 100_000,
    ],
    ids=range(9),
)
def test_bad_json_is_refused(raw):
    with pytest.raises(InvalidRecord) as caught:
        read_json(raw)
    assert caught.value.field == "JSON"


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_end_the_reader(raw):
    try:
        read_json(raw)
    except InvalidRecord:
        return


# ------------------------------------------------------------------ a file


async def says(path, *currencies):
    return await FilePrices(f"file:{path.name}", path.parent).ask(currencies)


async def test_a_file_says_its_prices_and_is_read_again_when_it_changes(tmp_path):
    path = tmp_path / "prices.json"
    path.write_text('{"EUR": "61240.00", "JPY": 15000000, "USD": 66010.5}')
    source = FilePrices("file:prices.json", tmp_path)
    assert (await source.ask(("EUR", "JPY", "USD", "KES"))).prices == {
        "EUR": (61_240_000_000, 0),
        "JPY": (150_000_000_000, 0),
        "USD": (66_010_500_000, 0),
    }
    path.write_text('{"EUR": "61250.00"}')
    found = await source.ask(("EUR", "USD"))
    assert found.prices == {"EUR": (61_250_000_000, 0)}
    path.unlink()
    assert (await source.ask(("EUR",))).faults == {"EUR": "the file: No such file or directory"}
    path.write_text('{"EUR": "61260.00"}')
    assert (await source.ask(("EUR",))).prices == {"EUR": (61_260_000_000, 0)}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the file is bad: JSON: cannot be read"),
        ('{"EUR": "61240"', "the file is bad: JSON: cannot be read"),
        ('["EUR"]', "the file is bad: JSON: is not an object"),
        ('{"EUR": "61240", "EUR": "1"}', "the file is bad: JSON: has a name twice"),
        ('{"EUR": "61240", "USD": "-1"}', "the file is bad: USD: '-1' is not a decimal"),
        ('{"EUR": "61240", "ZZZ": "1"}', "the file is bad: currency: 'ZZZ' is n"),
        ('{"EUR": "61240", "usd": "1"}', "the file is bad: currency: 'usd' is n"),
        (" " * 70_000, "the file is bad: JSON: is over 65536 bytes"),
    ],
)
async def test_a_bad_file_is_named_and_gives_no_price_at_all(tmp_path, text, why):
    path = tmp_path / "prices.json"
    path.write_text(text)
    found = await says(path, "EUR")
    assert found.prices == {}
    assert found.faults["EUR"].startswith(why)


async def test_a_directory_is_no_file(tmp_path):
    assert (await says(tmp_path, "EUR")).faults == {"EUR": "the file: Is a directory"}


def test_the_sources_of_the_settings(tmp_path):
    made = open_sources(("kraken", "file:p.json"), tmp_path, "socks5://127.0.0.1:9050")
    assert [(s.name, s.live) for s in made] == [("kraken", False), ("file:p.json", True)]


# ------------------------------------------------------------------ adapters, any answer

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "error",
                    "result",
                    "c",
                    "XXBTZEUR",
                    "data",
                    "currency",
                    "rates",
                    "EUR",
                    "eur",
                    "last",
                    "timestamp",
                    "bitcoin",
                    "last_updated_at",
                    "time",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("name", ADAPTERS)
@given(JSON)
def test_any_answer_is_a_price_or_a_fault_with_a_name(name, found):
    try:
        said = read_answer(ADAPTERS[name], json.dumps(found).encode(), ("EUR",))
    except InvalidRecord:
        return
    assert set(said.prices) | set(said.faults) <= {"EUR"}
    for price, at in said.prices.values():
        assert 0 < price <= MAX_PRICE
        assert at >= 0
