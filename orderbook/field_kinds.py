"""The kinds of value that fields of payment methods take: names, banks, phones, numbers.

Checksums and number plans are judged by libraries made for them, loaded when first needed:
python-stdnum (IBAN ISO 13616, BIC ISO 9362, ABA routing numbers, tax numbers),
phonenumberslite (E.164), email-validator (RFC 5322, no question to any DNS),
confusable-homoglyphs (Unicode TR 39).
"""

import re
import unicodedata
from collections.abc import Callable
from importlib import import_module
from typing import Final

from orderbook.coin_fields import COIN_KINDS
from orderbook.method_fields import Kind, Rules, Unfit
from orderbook.places import COUNTRIES

MISTYPED: Final = "is mistyped: its check digits do not match"
_LOOKALIKES: Final = frozenset({"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "COPTIC", "CHEROKEE"})
_LETTER: Final = re.compile(r"[^\W\d_]")

# The numbers that banks of these countries ask of a sender; modules of python-stdnum.
_TAX_NUMBERS: Final = {
    "AR": ("ar.cuit", "ar.dni"),
    "BR": ("br.cpf", "br.cnpj"),
    "CL": ("cl.rut",),
    "CO": ("co.nit",),
    "CR": ("cr.cpf", "cr.cpj"),
    "DO": ("do.cedula", "do.rnc"),
    "EC": ("ec.ci", "ec.ruc"),
    "GT": ("gt.nit",),
    "MX": ("mx.rfc", "mx.curp"),
    "PE": ("pe.cui", "pe.ruc"),
    "PY": ("py.ruc",),
    "SV": ("sv.nit",),
    "UY": ("uy.rut",),
    "VE": ("ve.rif",),
}


def _only(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)


def _plain(text: str) -> str:
    return text


def _dense(text: str) -> str:
    return text.replace(" ", "").upper()


def _digits(text: str) -> str:
    return text.replace(" ", "").replace("-", "")


def _signs(text: str) -> str:
    return re.sub(r"[ .\-/]", "", text).upper()


# ------------------------------------------------------------------ people


def _text(text: str, rules: Rules) -> str:
    for word in re.split(r"[\s\-/,.;:()]+", text):
        _one_alphabet(word)
    return text


def _compatible(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def _name(text: str, rules: Rules) -> str:
    if not _LETTER.search(text):
        raise Unfit("holds no letter: it takes a name")
    _one_alphabet(text)
    return text


def _one_alphabet(text: str) -> None:
    """Refuse letters of two alphabets that look alike: a Cyrillic letter in a Latin name."""
    if text.isascii():
        return
    from confusable_homoglyphs import categories

    found = sorted(categories.unique_aliases(text) & _LOOKALIKES)
    if len(found) > 1:
        names = " and ".join(name.capitalize() for name in found)
        raise Unfit(f"mixes {names} letters, which look alike: write it in one alphabet")


def _email(text: str, rules: Rules) -> str:
    from email_validator import EmailNotValidError, validate_email

    try:
        found = validate_email(text, check_deliverability=False, allow_smtputf8=False)
    except EmailNotValidError:
        raise Unfit(
            "is no e-mail address of at most 254 characters, such as maria@example.com"
        ) from None
    return found.ascii_email or text


def _phone_signs(text: str) -> str:
    dense = re.sub(r"[ ().\-/]", "", text)
    return "+" + dense[2:] if dense.startswith("00") else dense


def _phone(text: str, rules: Rules) -> str:
    import phonenumbers

    try:
        number = phonenumbers.parse(text)
    except phonenumbers.NumberParseException:
        raise Unfit("begins with no country's code, such as +46") from None
    if not phonenumbers.is_valid_number(number):
        raise Unfit("is no number that its country gives out: count its digits")
    region = phonenumbers.region_code_for_number(number) or ""
    if rules.regions and region not in rules.regions:
        raise Unfit(f"is a number of {region or 'no country'}, not of {', '.join(rules.regions)}")
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


def _country(text: str, rules: Rules) -> str:
    for code in text.split():
        if code not in COUNTRIES:
            raise Unfit(f"names {code}, no country of ISO 3166-1 alpha-2, such as DE")
        if rules.regions and code not in rules.regions:
            raise Unfit(f"names {code}, which is none of {', '.join(rules.regions)}")
    return text


def _listed(text: str) -> str:
    return " ".join(sorted(set(text.upper().replace(",", " ").split())))


def _choice(text: str, rules: Rules) -> str:
    if text not in rules.options:
        raise Unfit(f"is none of {', '.join(rules.options)}")
    return text


# ------------------------------------------------------------------ banks and numbers


def _iban(text: str, rules: Rules) -> str:
    from stdnum import exceptions, iban

    if rules.regions and text[:2] not in rules.regions:
        raise Unfit(f"is an IBAN of {text[:2]}, which is none of {', '.join(rules.regions)}")
    try:
        return str(iban.validate(text))
    except exceptions.InvalidChecksum:
        raise Unfit(MISTYPED) from None
    except exceptions.ValidationError:
        where = COUNTRIES.get(text[:2])
        if where is None:
            raise Unfit(f"begins with {text[:2]}, which is no country's code") from None
        raise Unfit(f"does not have the length or form of an IBAN of {where}") from None


def _bic(text: str, rules: Rules) -> str:
    from stdnum import bic, exceptions

    try:
        found = str(bic.validate(text))
    except exceptions.ValidationError:
        raise Unfit("is no BIC: 4 letters, a country, 2 or 5 letters and digits") from None
    if found[4:6] not in COUNTRIES and found[4:6] != "XK":  # Kosovo's, which ISO 3166 lacks
        raise Unfit(f"has {found[4:6]} as its country, which is no country's code")
    return found


def _number(module: str) -> Callable[[str, Rules], str]:
    """Return a judge of one kind of number of python-stdnum."""

    def judge(text: str, rules: Rules) -> str:
        from stdnum.exceptions import ValidationError

        try:
            return str(import_module(f"stdnum.{module}").validate(text))
        except ValidationError:
            raise Unfit(MISTYPED) from None

    return judge


def _tax_id(text: str, rules: Rules) -> str:
    from stdnum.exceptions import ValidationError

    known = _TAX_NUMBERS.get(rules.country, ())
    for module in known:
        try:
            return str(import_module(f"stdnum.{module}").validate(text))
        except ValidationError:
            continue
    if known:
        names = " or ".join(module.split(".")[1].upper() for module in known)
        raise Unfit(f"is no {names} of {COUNTRIES[rules.country]}: count its digits")
    return text


# ------------------------------------------------------------------ the table

_TEXT: Final = re.compile(r"\S(?:.*\S)?")
_CODE: Final = _only(r"[A-Z0-9][A-Z0-9./-]*")
_DIGITS: Final = _only(r"[0-9]+")

KINDS: Final = {
    "text": Kind("text of {span} bytes", 1, 500, _TEXT, _plain, _text, bounded=True),
    "name": Kind("a name of {span} bytes", 2, 100, _TEXT, _compatible, _name, bounded=True),
    "email": Kind(
        "an e-mail address of at most 254 characters",
        *(6, 254),
        _only(r"[!-?A-~]{1,64}@[!-?A-~]+\.[!-?A-~]+"),
        _plain,
        _email,
    ),
    "phone": Kind(
        "a phone number of 7 to 15 digits behind + and the country's code",
        *(8, 16),
        _only(r"\+[1-9][0-9]{6,14}"),
        _phone_signs,
        _phone,
    ),
    "country": Kind("a country's two letters", 2, 2, _only(r"[A-Z]{2}"), _dense, _country),
    "countries": Kind(
        "countries of two letters each with a space between, at most 249",
        *(2, 746),
        _only(r"[A-Z]{2}(?: [A-Z]{2})*"),
        _listed,
        _country,
    ),
    "choice": Kind(
        "one of {options}", 1, 20, _only(r"[a-z][a-z_]*"), lambda text: text.lower(), _choice
    ),
    "handle": Kind(
        "a user name of {span} letters, digits, dots, hyphens and underscores",
        *(1, 40),
        _only(r"[A-Za-z0-9][A-Za-z0-9._-]*"),
        lambda text: text.removeprefix("@"),
        bounded=True,
    ),
    "iban": Kind(
        "an IBAN of 15 to 34 capitals and digits",
        *(15, 34),
        _only(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}"),
        _signs,
        _iban,
    ),
    "bic": Kind(
        "a BIC of 8 or 11 capitals and digits",
        *(8, 11),
        _only(r"[A-Z]{6}[A-Z0-9]{2}(?:[A-Z0-9]{3})?"),
        _dense,
        _bic,
    ),
    "account": Kind(
        "an account number of {span} letters, digits, dots, hyphens and slashes",
        *(3, 40),
        _CODE,
        _dense,
        bounded=True,
    ),
    "code": Kind(
        "a code of {span} letters, digits, dots, hyphens and slashes",
        *(1, 40),
        _CODE,
        _dense,
        bounded=True,
    ),
    "digits": Kind("{span} digits", 1, 40, _DIGITS, _digits, bounded=True),
    "us_routing": Kind(
        "a routing number of 9 digits", 9, 9, _DIGITS, _digits, _number("us.rtn")
    ),
    "sort_code": Kind("a sort code of 6 digits", 6, 6, _DIGITS, _digits),
    "ifsc": Kind(
        "an IFSC of 11: 4 letters, 0, 6 letters and digits",
        *(11, 11),
        _only(r"[A-Z]{4}0[A-Z0-9]{6}"),
        _dense,
    ),
    "vpa": Kind(
        "a virtual payment address of 5 to 255 characters: name@bank",
        *(5, 255),
        _only(r"[a-z0-9][a-z0-9._-]{1,189}@[a-z][a-z0-9]{1,63}"),
        lambda text: text.lower(),
    ),
    "uuid": Kind(
        "a random key of 36 characters",
        *(36, 36),
        _only(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
        lambda text: text.lower(),
    ),
    "cpf": Kind("a CPF of 11 digits", 11, 11, _DIGITS, _signs, _number("br.cpf")),
    "cnpj": Kind(
        "a CNPJ of 14", 14, 14, _only(r"[A-Z0-9]{12}[0-9]{2}"), _signs, _number("br.cnpj")
    ),
    "abn": Kind("an ABN of 11 digits", 11, 11, _DIGITS, _digits, _number("au.abn")),
    "thai_id": Kind(
        "a national id of 13 digits", 13, 13, _DIGITS, _digits, _number("th.pin")
    ),
    "cbu": Kind("a CVU or CBU of 22 digits", 22, 22, _DIGITS, _digits, _number("ar.cbu")),
    "tax_id": Kind(
        "a tax or identity number of 4 to 20 letters, digits, dots, hyphens and slashes",
        *(4, 20),
        _CODE,
        _dense,
        _tax_id,
    ),
    **COIN_KINDS,
}  # fmt: skip
