"""The kinds of value that fields of payment methods take: the table, and those of people.

Judged by libraries made for it, loaded when first needed: phonenumberslite (E.164),
email-validator (RFC 5322, no question to any DNS), confusable-homoglyphs (Unicode TR 39).
Banks' numbers are in bank_fields.py, other chains' addresses in coin_fields.py.
"""

import re
import unicodedata
from typing import Final

from orderbook.bank_fields import BANK_KINDS, CODE, DIGITS
from orderbook.coin_fields import COIN_KINDS
from orderbook.method_fields import Kind, Rules, Unfit, bare_digits, dense, only
from orderbook.places import COUNTRIES

_LOOKALIKES: Final = frozenset({"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "COPTIC", "CHEROKEE"})
_LETTER: Final = re.compile(r"[^\W\d_]")


def _plain(text: str) -> str:
    return text


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
        raise Unfit(f"is a number of {region or 'no country'}, not of {rules.places}")
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


def _country(text: str, rules: Rules) -> str:
    for code in text.split():
        if code not in COUNTRIES:
            raise Unfit(f"names {code}, no country of ISO 3166-1 alpha-2, such as DE")
        if rules.regions and code not in rules.regions:
            raise Unfit(f"names {code}, not one of {rules.places}")
    return text


def _listed(text: str) -> str:
    return " ".join(sorted(set(text.upper().replace(",", " ").split())))


def _choice(text: str, rules: Rules) -> str:
    if text not in rules.options:
        raise Unfit(f"is none of {', '.join(rules.options)}")
    return text


# ------------------------------------------------------------------ the table

_TEXT: Final = re.compile(r"\S(?:.*\S)?")

KINDS: Final = {
    "text": Kind("text of {span} bytes", 1, 500, _TEXT, _plain, _text, bounded=True),
    "name": Kind("a name of {span} bytes", 2, 100, _TEXT, _compatible, _name, bounded=True),
    "email": Kind(
        "an e-mail address of at most 254 characters",
        *(6, 254),
        only(r"[!-?A-~]{1,64}@[!-?A-~]+\.[!-?A-~]+"),
        _plain,
        _email,
    ),
    "phone": Kind(
        "a phone number of 7 to 15 digits behind + and the country's code",
        *(8, 16),
        only(r"\+[1-9][0-9]{6,14}"),
        _phone_signs,
        _phone,
    ),
    "country": Kind("a country's two letters", 2, 2, only(r"[A-Z]{2}"), dense, _country),
    "countries": Kind(
        "a list of 1 to 249 countries, two letters each, with spaces between",
        *(2, 746),
        only(r"[A-Z]{2}(?: [A-Z]{2})*"),
        _listed,
        _country,
    ),
    "choice": Kind(
        "one of {options}", 1, 20, only(r"[a-z][a-z_]*"), lambda text: text.lower(), _choice
    ),
    "handle": Kind(
        "a user name of {span} letters, digits, dots, hyphens and underscores",
        *(1, 40),
        only(r"[A-Za-z0-9][A-Za-z0-9._-]*"),
        lambda text: text.removeprefix("@"),
        bounded=True,
    ),
    "account": Kind(
        "an account number of {span} letters, digits, dots, hyphens and slashes",
        *(3, 40),
        CODE,
        dense,
        bounded=True,
    ),
    "code": Kind(
        "a code of {span} letters, digits, dots, hyphens and slashes",
        *(1, 40),
        CODE,
        dense,
        bounded=True,
    ),
    "digits": Kind("{span} digits", 1, 40, DIGITS, bare_digits, bounded=True),
    "vpa": Kind(
        "a virtual payment address of 5 to 255 characters: name@bank",
        *(5, 255),
        only(r"[a-z0-9][a-z0-9._-]{1,189}@[a-z][a-z0-9]{1,63}"),
        lambda text: text.lower(),
    ),
    "uuid": Kind(
        "a random key of 36 characters",
        *(36, 36),
        only(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
        lambda text: text.lower(),
    ),
    **BANK_KINDS,
    **COIN_KINDS,
}  # fmt: skip
