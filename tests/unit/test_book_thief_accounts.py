"""A counterparty's account: whatever passes for one is marked and written, and redraws nothing."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orderbook.account_details import as_text, check_values, marks
from orderbook.methods import METHODS
from p2pnode.base.errors import InvalidRecord

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def value_of(field: object) -> st.SearchStrategy[str]:
    """Return texts that one of the field's kinds has the shape of, and others."""
    shaped = [st.from_regex(kind.shape, fullmatch=True) for kind, _, _ in field.parts]  # type: ignore[attr-defined]
    cut = [one.map(lambda text, high=high: text.encode()[:high].decode(errors="ignore"))
           for one, (_, _, high) in zip(shaped, field.parts, strict=True)]  # type: ignore[attr-defined]  # fmt: skip
    return st.one_of(*cut, st.just(field.example), st.text(max_size=field.high))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(METHODS))
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
        HealthCheck.data_too_large,
    ],
)
@given(data=st.data())
def test_what_passes_for_an_account_is_marked_and_written(name: str, data: st.DataObject) -> None:
    values = tuple(data.draw(value_of(field)) for field in METHODS[name].fields)
    try:
        read = check_values(name, values)
    except InvalidRecord:
        return
    assert set(marks(name, read)) <= {field.name for field in METHODS[name].fields}
    assert not CONTROL.search(as_text(name, read))
