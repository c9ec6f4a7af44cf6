"""Money is exact."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pnode.base import units
from p2pnode.base.errors import InvalidRecord


@given(st.integers(0, units.MAX_SAT), st.integers(0, units.MAX_PRICE))
def test_fiat_is_rounded_half_up(amount, price):
    exact = Fraction(amount * price, units.COIN * units.PRICE_SCALE)
    assert units.fiat_for(amount, price) == (exact + Fraction(1, 2)).__floor__()


def test_half_goes_up():
    assert units.fiat_for(units.COIN, 5_000) == 1
    assert units.fiat_for(units.COIN, 4_999) == 0


@given(st.integers(0, 2**53), st.integers(0, 8))
def test_decimal_reads_back(value, places):
    written = units.decimal(value, places).replace(",", "")
    assert units.parse_decimal("x", written, places) == value


def test_decimal_for_people():
    assert units.decimal(123_456_789, 8) == "1.23456789"
    assert units.decimal(-5, 2) == "-0.05"
    assert units.decimal(1_000_000, 0) == "1,000,000"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "+1",
        "1e3",
        "1_000",
        "1,000",
        ".5",
        "5.",
        "inf",
        "nan",
        "0x10",
        "٣",
        "1.123456789",
        "9" * 17,
    ],
)
def test_other_numbers_are_refused(text):
    with pytest.raises(InvalidRecord) as caught:
        units.parse_decimal("amount", text, 8)
    assert caught.value.field == "amount"


def test_what_is_too_long_is_told_so():
    with pytest.raises(InvalidRecord, match="x: has more than 16 digits before the point"):
        units.parse_decimal("x", "9" * 17, 8)
    with pytest.raises(InvalidRecord, match="x: has more than 8 decimals"):
        units.parse_decimal("x", "0." + "1" * 20, 8)


def test_trailing_zeros_are_no_decimals():
    assert units.parse_decimal("x", "1.5000000000", 2) == 150
