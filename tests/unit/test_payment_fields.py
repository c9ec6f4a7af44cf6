"""Every field of every payment method against its corpus (tests/method_kit.py).

The golden page tests/vectors/payment_fields.txt holds what each field says to each value.
Renew with `P2PNODE_RENEW=1 python -m pytest tests/unit/test_payment_fields.py`, then read
the difference.
"""

import json
import os
import unicodedata
from pathlib import Path

import pytest
from embit import ec, script
from embit.liquid.addresses import address
from embit.liquid.networks import NETWORKS as LIQUID
from hypothesis import given
from hypothesis import strategies as st
from method_kit import BAD, GOOD, common, corpus

from orderbook.account_details import as_text, check_values, marks
from orderbook.field_kinds import KINDS
from orderbook.method_fields import MethodField
from orderbook.methods import METHODS
from p2pnode.base.errors import InvalidRecord

GOLDEN = Path(__file__).parents[1] / "vectors" / "payment_fields.txt"
FIELDS = {f"{m.id}.{f.name}": f for m in METHODS.values() for f in m.fields}


def answer(field: MethodField, value: object, country: str = "BR") -> str:
    try:
        return "= " + field.enter(value, country)
    except InvalidRecord as error:
        return str(error) if error.field == field.name else f"names {error.field}: {error}"


def shown(value: object) -> str:
    text = json.dumps(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:40]}\u2026 ({len(text)})"


def page() -> str:
    """Write every answer, once for the methods that share a field."""
    users: dict[MethodField, list[str]] = {}
    for name, field in FIELDS.items():
        users.setdefault(field, []).append(name)
    blocks = [
        "\n".join(
            [
                " ".join(names),
                *(f"  {shown(value)}  {answer(field, value)}" for value in corpus(field)),
            ]
        )
        for field, names in users.items()
    ]
    return "\n\n".join(blocks) + "\n"


def test_what_each_field_says_to_each_value_is_the_golden_page() -> None:
    made = page()
    if os.environ.get("P2PNODE_RENEW"):
        GOLDEN.write_text(made)
    assert GOLDEN.read_text() == made
    assert {name for name in FIELDS if name in made.split()} == set(FIELDS)


def test_every_kind_is_used_and_has_a_corpus() -> None:
    assert {kind for field in FIELDS.values() for kind in field.kinds} == set(KINDS)
    assert set(GOOD) == set(BAD) == set(KINDS)


@pytest.mark.parametrize("name", FIELDS)
def test_a_refusal_is_one_sentence_that_names_field_and_bound(name: str) -> None:
    field = FIELDS[name]
    for value in common(field):
        told = answer(field, value)
        if field.optional and isinstance(value, str) and not value.strip(" "):
            assert told == "= "
            continue
        assert told.startswith(f"{field.name}: ")
        assert "\n" not in told
        assert told.isprintable()
        assert len(told) <= 600
        if value == "A" * (field.high + 1):
            assert field.what in told
        if isinstance(value, str) and not value.strip(" "):
            assert told == f"{field.name}: is empty: it takes {field.what}"


@pytest.mark.parametrize("name", FIELDS)
def test_what_is_kept_is_bounded_and_has_one_spelling(name: str) -> None:
    field, kept = FIELDS[name], set()
    for value in corpus(field):
        told = answer(field, value)
        if told.startswith("= ") and told != "= ":
            kept.add(told[2:])
    assert kept
    for text in kept:
        assert answer(field, text) == "= " + text
        assert field.low <= len(text.encode()) <= field.high
        assert field.read(text) == text
        assert field.mark(text, "BR") == ""
        assert unicodedata.normalize("NFC", text) == text


@pytest.mark.parametrize("name", FIELDS)
def test_a_value_from_a_peer_is_bounded_in_the_same_shape(name: str) -> None:
    field = FIELDS[name]
    for value in common(field):
        if isinstance(value, str) and value == "" and field.optional:
            assert field.read(value) == ""
            continue
        if isinstance(value, str) and answer(field, value).startswith("= "):
            continue  # it is good, in that spelling or another
        with pytest.raises(InvalidRecord) as caught:
            field.read(value)
        assert caught.value.field == field.name


@given(st.sampled_from(sorted(FIELDS)), st.text(max_size=80))
def test_any_text_is_kept_in_bounds_or_refused_by_name(name: str, text: str) -> None:
    field = FIELDS[name]
    told = answer(field, text)
    if told.startswith("= ") and told != "= ":
        assert field.read(told[2:]) == told[2:]
    else:
        assert told == "= " if field.optional and not told.startswith(field.name) else ":" in told


# -- what a counterparty discloses


def test_a_mistyped_or_disguised_value_of_a_peer_is_marked_for_who_pays() -> None:
    values = ("M\u0430ria Schmidt", "DE89370400440532013001", "", "DE FR")
    assert check_values("SEPA", values) == values
    doubts = marks("SEPA", values)
    assert set(doubts) == {"holder", "iban"}
    assert "Cyrillic and Latin" in doubts["holder"]
    text = as_text("SEPA", values)
    assert "iban: DE89370400440532013001 [!] is mistyped: its check digits do not match" in text
    good = ("Maria Schmidt", "DE89370400440532013000", "", "DE FR")
    assert marks("SEPA", good) == {}
    assert as_text("SEPA", good) == (
        "holder: Maria Schmidt; iban: DE89370400440532013000; accepted_countries: DE FR"
    )


def test_the_country_decides_which_tax_numbers_are_good() -> None:
    tax = FIELDS["NATIONAL_BANK.tax_id"]
    assert answer(tax, "390.533.447-05", "BR") == "= 39053344705"
    assert answer(tax, "20-05536168-2", "AR") == "= 20055361682"
    assert answer(tax, "390.533.447-06", "BR") == (
        "tax_id: is no CPF or CNPJ of Brazil: count its digits"
    )
    assert answer(tax, "390.533.447-06", "DE") == "= 390.533.447-06"
    assert answer(tax, "39053344706", "nowhere") == "= 39053344706"


@pytest.mark.parametrize("seed", range(20))
def test_another_implementation_s_liquid_addresses_are_good_and_one_letter_makes_them_bad(
    seed: int,
) -> None:
    field, network = FIELDS["LIQUID.address"], LIQUID["liquidv1"]
    key = ec.PrivateKey(bytes([seed + 1]) * 32).get_public_key()
    for output in (script.p2wpkh(key), script.p2wsh(script.p2pkh(key)), script.p2tr(key)):
        for blinding in (key, None) if output.script_type() != "p2tr" else (key,):
            made = address(output, blinding, network)
            assert answer(field, made) == "= " + made
            where = 5 + seed
            other = "q" if made[where] != "q" else "p"
            assert "= " not in answer(field, made[:where] + other + made[where + 1 :])[:2]


def test_one_changed_letter_of_a_monero_address_is_found() -> None:
    field = FIELDS["MONERO.address"]
    for good in GOOD["monero"]:
        for where in range(1, len(good)):
            other = "2" if good[where] != "2" else "3"
            assert answer(field, good[:where] + other + good[where + 1 :]).startswith("address: ")
