"""Countries (ISO 3166-1 alpha-2) and languages (ISO 639-1) as offers name them."""

from functools import cache
from typing import Final

from iso3166 import countries_by_alpha2

from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, UnknownName

_NO_COUNTRY: Final = "is no country of ISO 3166-1 alpha-2, such as DE"
_NO_LANGUAGE: Final = "is no language of ISO 639-1, such as en"
COUNTRIES: Final = {code: country.name for code, country in countries_by_alpha2.items()}


@cache
def languages() -> dict[str, str]:
    """Return the English name of each language by its code (loading the table takes 0.2 s)."""
    from iso639 import ALL_LANGUAGES

    return {found.part1: found.name for found in ALL_LANGUAGES if found.part1}


def check_country(field: str, value: object) -> str:
    """Return `value` if it is such a code, in capitals. Raises InvalidRecord."""
    code = _two_letters(field, value, _NO_COUNTRY)
    if code not in COUNTRIES:
        raise UnknownName(field, f"{code!a} {_NO_COUNTRY}")
    return code


def check_language(field: str, value: object) -> str:
    """Return `value` if it is such a code, in small letters. Raises InvalidRecord."""
    code = _two_letters(field, value, _NO_LANGUAGE)
    if code not in languages():
        raise UnknownName(field, f"{code!a} {_NO_LANGUAGE}")
    return code


def _two_letters(field: str, value: object, why: str) -> str:
    code = wire.text(field, value, 64)
    if len(code.encode()) != 2:
        raise InvalidRecord(field, f"{code!a} {why}")
    return code
