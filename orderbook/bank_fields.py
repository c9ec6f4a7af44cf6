"""Numbers of banks and of their customers, judged by python-stdnum, loaded when needed.

IBAN ISO 13616, BIC ISO 9362, ABA routing numbers, tax and identity numbers; sort codes and
IFSC have no check digits, so their shape is all there is to check.
"""

import re
from collections.abc import Callable
from importlib import import_module
from typing import Final

from orderbook.method_fields import MISTYPED, Kind, Rules, Unfit, bare_digits, dense, only
from orderbook.places import COUNTRIES

# Modules of python-stdnum, of countries where they cover every number that a person or firm
# may have; elsewhere an honest number could be refused.
_TAX_NUMBERS: Final = {
    "AR": ("ar.cuit", "ar.dni"),
    "BR": ("br.cpf", "br.cnpj"),
    "CL": ("cl.rut",),
    "CR": ("cr.cpf", "cr.cpj", "cr.cr"),
    "DO": ("do.cedula", "do.rnc"),
    "EC": ("ec.ci", "ec.ruc"),
    "MX": ("mx.rfc", "mx.curp"),
    "PE": ("pe.cui", "pe.ruc"),
}


def without_signs(text: str) -> str:
    """Return text without what people put between groups, in capitals."""
    return re.sub(r"[ .\-/]", "", text).upper()


def _iban(text: str, rules: Rules) -> str:
    from stdnum import exceptions, iban

    if rules.regions and text[:2] not in rules.regions:
        raise Unfit(f"is an IBAN of {text[:2]}, not of {rules.places}")
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


DIGITS: Final = only(r"[0-9]+")
CODE: Final = only(r"[A-Z0-9][A-Z0-9./-]*")
BANK_KINDS: Final = {
    "iban": Kind(
        "an IBAN of 15 to 34 capitals and digits",
        *(15, 34),
        only(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}"),
        without_signs,
        _iban,
    ),
    "bic": Kind(
        "a BIC of 8 or 11 capitals and digits",
        *(8, 11),
        only(r"[A-Z]{6}[A-Z0-9]{2}(?:[A-Z0-9]{3})?"),
        dense,
        _bic,
    ),
    "us_routing": Kind(
        "a routing number of 9 digits", 9, 9, DIGITS, bare_digits, _number("us.rtn")
    ),
    "sort_code": Kind("a sort code of 6 digits", 6, 6, DIGITS, bare_digits),
    "ifsc": Kind(
        "an IFSC of 11: 4 letters, 0, 6 letters and digits",
        *(11, 11),
        only(r"[A-Z]{4}0[A-Z0-9]{6}"),
        dense,
    ),
    "cpf": Kind("a CPF of 11 digits", 11, 11, DIGITS, without_signs, _number("br.cpf")),
    "cnpj": Kind(
        "a CNPJ of 14", 14, 14, only(r"[A-Z0-9]{12}[0-9]{2}"), without_signs, _number("br.cnpj")
    ),
    "abn": Kind("an ABN of 11 digits", 11, 11, DIGITS, bare_digits, _number("au.abn")),
    "thai_id": Kind("a national id of 13 digits", 13, 13, DIGITS, bare_digits, _number("th.pin")),
    "cbu": Kind("a CVU or CBU of 22 digits", 22, 22, DIGITS, bare_digits, _number("ar.cbu")),
    "tax_id": Kind(
        "a tax or identity number of 4 to 20 letters, digits, dots, hyphens and slashes",
        *(4, 20),
        CODE,
        dense,
        _tax_id,
    ),
}
