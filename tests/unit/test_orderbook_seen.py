"""A stranger's text: what cannot be seen or passes for another letter is written out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderbook.seen import seen


@pytest.mark.parametrize(
    "text",
    [
        "",
        "weekdays 9-17, no calls",
        "Straße, naïve, Škoda, Ångström",
        "Привет, как дела",
        "日本語テスト 銀行",
        "καλημέρα",
        "مرحبا",
        "10 € per “unit” — fine…",
        "👍 ok",
    ],
)
def test_honest_texts_stay_as_they_are(text: str) -> None:
    assert seen(text) == (text, ())


@pytest.mark.parametrize(
    ("text", "shown", "word"),
    [
        ("a\u200bb", r"a\u200bb", "zero width space"),
        ("a\u00adb", r"a\xadb", "soft hyphen"),
        ("a\u2060b", r"a\u2060b", "word joiner"),
        ("a\U000e0041b", r"a\U000e0041b", "tag latin capital letter a"),
        ("p\u0430ypal", r"p\u0430ypal", "cyrillic small letter a"),
        ("\u0391BC", r"\u0391BC", "greek capital letter alpha"),
        ("\U0001d400bc", r"\U0001d400bc", "mathematical bold capital a"),
    ],
)
def test_what_deceives_is_escaped_and_named(text: str, shown: str, word: str) -> None:
    found, remarks = seen(text)
    assert found == shown
    (remark,) = remarks
    assert word in remark


def test_a_space_of_another_width_is_a_space() -> None:
    assert seen("10\u00a0000\u3000€") == ("10 000 €", ())


def test_a_remark_names_a_few_letters_only() -> None:
    _, (remark,) = seen("".join(chr(c) for c in range(0xE0041, 0xE0051)))
    assert remark.endswith("and 12 more")


@given(st.text(max_size=60))
def test_whatever_comes_can_be_printed(text: str) -> None:
    shown, remarks = seen(text)
    assert shown.isprintable()
    assert all(remark.isprintable() for remark in remarks)
    assert bool(remarks) == (len(shown) > len(text))
