"""The registry of payment methods: complete, bounded, strictly read, and told as it is."""

import os
import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from method_page import page

from orderbook.account_details import check_details, check_values
from orderbook.currencies import EXPONENTS, ISO, check_currency, exponent
from orderbook.limits import CAPS_SAT, cap_sat, check_caps, most_sat
from orderbook.methods import MAX_DISCLOSURE, METHODS, RISKS, load
from orderbook.registry import COINS, DATA, Broken, coins, parse
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.history import DAY_S, NONE, History

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/payment-methods.md"
NOW = 1_800_000_000

# What the design asks for, written down apart from the registry.
PERIODS_DAYS = {
    6: "SEPA",
    1: "SEPA_INSTANT FASTER_PAYMENTS REVOLUT INTERAC PIX UPI IMPS NEFT RTGS JAPAN_BANK PAYID SWISH BIZUM "
    "NEQUI SATISPAY MONESE TIKKIE PROMPT_PAY SBP MERCADO_PAGO ALI_PAY WECHAT_PAY STRIKE MONEY_BEAM POPMONEY "
    "UPHOLD PAYSERA PAXUM PAYTM HAL_CASH CELPAY CAPITUAL PERFECT_MONEY ADVANCED_CASH AMAZON_GIFT_CARD MONERO "
    "LIQUID",
    2: "SAME_BANK",
    3: "DOMESTIC_WIRE",
    4: "NATIONAL_BANK SPECIFIC_BANKS ZELLE WISE WISE_USD CASH_DEPOSIT MONEYGRAM WESTERN_UNION FACE_TO_FACE "
    "CUSTOM",
    5: "ACH",
    7: "SWIFT",
    8: "CASH_BY_MAIL US_POSTAL_MONEY_ORDER",
}


# -- what is in it


def test_every_method_of_the_design_is_there_with_its_time_to_pay() -> None:
    wanted = {name: days * DAY_S for days, names in PERIODS_DAYS.items() for name in names.split()}
    wanted["LIGHTNING"] = 3600
    assert {name: METHODS[name].period_s for name in METHODS} == wanted
    assert len(METHODS) == 55


def test_every_method_says_all_that_people_need() -> None:
    for method in METHODS.values():
        assert method.help.endswith(".")
        assert method.risk in RISKS
        assert set(method.currencies) <= set(EXPONENTS)
        assert set(method.currencies) <= set(ISO) or method.group == "coin"
        for one in method.fields:
            assert one.help.endswith(".")
            assert one.name not in {"name", "method", "details"} or method.id == "CUSTOM"


@pytest.mark.parametrize("name", METHODS)
def test_the_examples_are_good_and_the_longest_disclosure_fits(name: str) -> None:
    method = METHODS[name]
    values = check_details(name, {f.name: f.example for f in method.fields})
    assert check_values(name, values) == values
    longest = tuple("x" * f.high for f in method.fields)
    assert len(wire.pack((name, longest, bytes(32), bytes(32)))) <= MAX_DISCLOSURE


def test_a_method_takes_its_currencies_and_reaches_its_countries() -> None:
    assert METHODS["SEPA"].takes("EUR")
    assert not METHODS["SEPA"].takes("USD")
    assert METHODS["SEPA"].reaches("DE")
    assert not METHODS["SEPA"].reaches("US")
    assert METHODS["CUSTOM"].takes("KWD")
    assert not METHODS["CUSTOM"].takes("XMR")
    assert METHODS["CUSTOM"].reaches("AQ")
    assert METHODS["MONERO"].takes("XMR")


def test_coins_stand_beside_the_currencies() -> None:
    assert {code: exponent(code) for code in ("XMR", "LBT", "LNB")} == dict.fromkeys(COINS, 8)
    assert not set(COINS) & set(ISO)
    with pytest.raises(InvalidRecord, match="currency: 'XAU' is neither an ISO 4217 currency"):
        check_currency("currency", "XAU")


def test_the_page_is_written_from_the_registry() -> None:
    made = page()
    if os.environ.get("P2PNODE_RENEW"):
        PAGE.write_text(made)
    assert PAGE.read_text() == made


def test_importing_the_registry_loads_no_validator() -> None:
    heavy = (
        "stdnum",
        "phonenumbers",
        "email_validator",
        "confusable_homoglyphs",
        "iso639",
        "Crypto",
    )
    script = f"import sys, orderbook.methods; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


# -- the loader


def changed(*path: str | int, **change: Any) -> dict[str, Any]:
    """Return the registry with keys of one of its tables changed; None takes one away."""
    text = files("orderbook").joinpath("payment_methods.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    table: Any = data
    for step in path:
        table = table[step]
    for key, value in change.items():
        if value is None:
            del table[key]
        else:
            table[key] = value
    return data


SEPA = ("method", "SEPA")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (changed(*SEPA, period_s=None), "method.SEPA.period_s: is missing"),
        (changed(*SEPA, period_s=3599), "method.SEPA.period_s: is not 3600 to 5184000"),
        (changed(*SEPA, period_s=5_184_001), "method.SEPA.period_s: is not 3600 to 5184000"),
        (changed(*SEPA, period_s="1"), "method.SEPA.period_s: is not an integer"),
        (changed(*SEPA, period_s=True), "method.SEPA.period_s: is not an integer"),
        (changed(*SEPA, risk="none"), "method.SEPA.risk: 'none' is none of very_low, low, mid, high"),
        (changed(*SEPA, risk=None), "method.SEPA.risk: is missing"),
        (changed(*SEPA, group="banks"), "method.SEPA.group: 'banks' is none of"),
        (changed(*SEPA, chargeback=1), "method.SEPA.chargeback: is not true or false"),
        (changed(*SEPA, chargeback=None), "method.SEPA.chargeback: is missing"),
        (changed(*SEPA, cap_sat=-1), "method.SEPA.cap_sat: is negative"),
        (changed(*SEPA, name=""), "method.SEPA.name: is not text"),
        (changed(*SEPA, name="x" * 41), "method.SEPA.name: is over 40 bytes"),
        (changed(*SEPA, help="x" * 121), "method.SEPA.help: is over 120 bytes"),
        (changed(*SEPA, help=None), "method.SEPA.help: is missing"),
        (changed(*SEPA, colour="red"), "method.SEPA.colour: is none of"),
        (changed(*SEPA, currencies=["EUX"]), "method.SEPA.currencies: 'EUX' is not known"),
        (changed(*SEPA, currencies=["USD", "EUR"]), "method.SEPA.currencies: is not strictly"),
        (changed(*SEPA, currencies="EUR"), "method.SEPA.currencies: is not a list"),
        (changed(*SEPA, currencies=None), "method.SEPA.currencies: is missing"),
        (changed(*SEPA, countries=["DE", "DE"]), "method.SEPA.countries: is not strictly"),
        (changed(*SEPA, countries="EU"), "method.SEPA.countries: 'EU' is no [area."),
        (changed(*SEPA, countries=None), "method.SEPA.countries: is missing"),
        (changed(*SEPA, fields=[]), "method.SEPA.fields: take"),
        (changed(*SEPA, fields=None), "method.SEPA.fields: is missing"),
        (changed(*SEPA, fields=["holder", "holder"]), "method.SEPA.fields.holder: stands there twice"),
        (changed(*SEPA, fields=["owner"]), "method.SEPA.fields: uses 'owner', which is no [field."),
        (changed(*SEPA, fields=[5]), "method.SEPA.fields: is not a table"),
        (changed(*SEPA, fields=[{"kind": "text"}]), "method.SEPA.fields: has a field without a name"),
        (changed(*SEPA, fields=[{"use": "iban", "name": "IBAN"}]), "method.SEPA.fields: has a field without"),
        (changed(*SEPA, fields=[{"use": "iban", "kind": "ibans"}]), "method.SEPA.fields.iban.kind: 'ibans' is none of"),
        (changed(*SEPA, fields=[{"use": "iban", "kind": []}]), "method.SEPA.fields.iban.kind: is empty"),
        (changed(*SEPA, fields=[{"use": "iban", "kind": [5]}]), "method.SEPA.fields.iban.kind: 5 is none of"),
        (changed(*SEPA, fields=[{"use": "iban", "kind": [["iban"]]}]), "method.SEPA.fields.iban.kind: ['iban'] is none of"),
        (changed(*SEPA, fields=[{"use": ["iban"]}]), "method.SEPA.fields: uses ['iban'], which is no"),
        (changed(*SEPA, currencies=[["EUR"]]), "method.SEPA.currencies: ['EUR'] is not known"),
        (changed("field", holder=5), "field.holder: is not a table"),
        (changed(*SEPA, fields=[{"use": "iban", "regions": ["QQ"]}]), "method.SEPA.fields.iban.regions: 'QQ' is not known"),
        (changed(*SEPA, fields=[{"use": "iban", "size": 1}]), "method.SEPA.fields.size: is none of"),
        (changed(*SEPA, fields=[{"use": "iban", "example": ""}]), "method.SEPA.fields.iban.example: is not text"),
        (changed(*SEPA, fields=[{"use": "iban", "optional": "yes"}]), "method.SEPA.fields.iban.optional: is not true"),
        (changed(*SEPA, fields=[{"use": "address", "high": 501}]), "method.SEPA.fields.address.high: 5 to 501 is not"),
        (changed(*SEPA, fields=[{"use": "address", "low": 0}]), "method.SEPA.fields.address.high: 0 to 250 is not"),
        (changed(*SEPA, fields=[{"use": "iban", "high": 20}]), "method.SEPA.fields.iban.high: cannot be set"),
        (changed(*SEPA, fields=[{"use": "holder", "options": ["a"]}]), "method.SEPA.fields.holder.options: belong to a choice"),
        (changed(*SEPA, fields=[{"use": "account_type", "options": []}]), "method.SEPA.fields.account_type.options: belong"),
        (changed(*SEPA, fields=["tax_id"]), "method.SEPA.fields.tax_id.country_from: names no field of it"),
        (changed(*SEPA, fields=[{"use": "extra_info", "name": f"e{i}"} for i in range(9)]), "method.SEPA.fields: take"),
        (changed("method", sepa=DATA["method"]["SEPA"]), "method.sepa: is not 2 to 32 capitals"),
        (changed("method", X=5), "method.X: is not 2 to 32 capitals"),
        (changed("method", XY=5), "method.XY: is not a table"),
        (changed("area", "SEPA", countries=["XX"]), "area.SEPA.countries: 'XX' is not known"),
        (changed("area", "SEPA", name="SEPA"), "area.SEPA.name: is none of countries"),
        (changed(area=5), "file.area: is not a table"),
        (changed(method=None), "file.method: is missing"),
    ],
)  # fmt: skip
def test_a_broken_registry_is_an_error_that_names_method_and_key(
    data: dict[str, Any], words: str
) -> None:
    with pytest.raises(Broken) as caught:
        load(data)
    assert str(caught.value).startswith(f"payment_methods.toml: {words}")


def test_the_registry_as_it_is_loads_twice_alike() -> None:
    assert load(changed()) == METHODS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = ", "file: is not TOML: Invalid value"),
        ("[[coins]]", "coins: is no table of this file"),
        ('coin = "XMR"', "file.coin: is not a list"),
        ("coin = [5]", "coin 1: is not a table"),
        ('[[coin]]\ncode = "XM"', "coin 1.code: is not three capitals of its own"),
        ('[[coin]]\ncode = "XMR"\nexponent = 9', "coin 1.exponent: is not 0 to 8"),
        ('[[coin]]\ncode = "XMR"\nexponent = 8', "coin 1.name: is missing"),
        ('[[coin]]\ncode = "XMR"\nexponent = 8\nname = "x"\nrate = 1', "coin 1.rate: is none of"),
        ('[[coin]]\ncode = "XMR"\nexponent = 8\nname = "x"\n' * 2, "coin 2.code: is not three"),
    ],
)
def test_broken_tables_and_coins_are_named(text: str, words: str) -> None:
    with pytest.raises(Broken) as caught:
        coins(parse(text))
    assert str(caught.value).startswith(f"payment_methods.toml: {words}")


# -- limits


def test_the_risk_class_caps_a_trade_and_a_method_may_lower_it() -> None:
    assert {risk: CAPS_SAT[risk] for risk in RISKS} == {
        "very_low": 25_000_000,
        "low": 12_500_000,
        "mid": 8_300_000,
        "high": 6_250_000,
    }
    for method in METHODS.values():
        most = CAPS_SAT[method.risk]
        assert cap_sat(method.id) == (min(most, method.cap_sat) if method.cap_sat else most)
    assert cap_sat("HAL_CASH") == 3_000_000
    with pytest.raises(InvalidRecord, match="method: "):
        cap_sat("BARTER")


def met(days: int, seconds: int = 0) -> History:
    return History(trades=1, partners=1, first_at=NOW - days * DAY_S - seconds)


@pytest.mark.parametrize(
    ("history", "sat"),
    [
        (NONE, 200_000),
        (met(0), 200_000),
        (met(29, DAY_S - 1), 200_000),
        (met(30), 3_125_000),
        (met(59, DAY_S - 1), 3_125_000),
        (met(60), 6_250_000),
        (met(4000), 6_250_000),
        (met(-100), 200_000),
    ],
)
def test_a_newcomer_buys_little_where_payments_can_be_taken_back(
    history: History, sat: int
) -> None:
    assert most_sat("SEPA", history, NOW) == sat
    assert most_sat("SWISH", history, NOW) == 12_500_000


def test_an_operator_lowers_caps_and_never_raises_them() -> None:
    caps = {"high": 1_000_000, "ZELLE": 100_000, "SWISH": 0}
    assert check_caps(caps) == caps
    assert cap_sat("SEPA", caps) == 1_000_000
    assert most_sat("SEPA", met(30), NOW, caps) == 500_000
    assert most_sat("SEPA", NONE, NOW, caps) == 200_000
    assert [most_sat("ZELLE", met(d), NOW, caps) for d in (0, 30, 60)] == [100_000] * 3
    assert cap_sat("SWISH", caps) == 0
    assert cap_sat("PROMPT_PAY", caps) == 12_500_000
    assert cap_sat("SEPA", {"SEPA": 10**9}) == 6_250_000
    for bad in ({"high": 6_250_001}, {"SEPA": -1}, {"HAL_CASH": 3_000_001}, {"SEPA": "1"}):
        with pytest.raises(InvalidRecord, match=r"caps: .* caps are only lowered"):
            check_caps(bad)  # type: ignore[arg-type]
    with pytest.raises(InvalidRecord, match="caps: 'BARTER' is neither a method nor"):
        check_caps({"BARTER": 1})
