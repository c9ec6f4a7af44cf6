"""Payment methods: a registry that is data, read by the functions below it.

A method names its typed fields in order; an account's details on the wire and in hashes
are the array of their values in that order (docs/wire/offers.md, "Accounts").
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord

DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class MethodField:
    """One field of a method's accounts: text of low..high UTF-8 bytes."""

    name: str
    low: int
    high: int
    help: str


@dataclass(frozen=True, slots=True)
class Method:
    """A way to pay. `period_s`: seconds the buyer has to pay."""

    id: str
    name: str
    fields: tuple[MethodField, ...]
    period_s: int
    help: str


METHODS: Final = {
    method.id: method
    for method in (
        Method(
            id="CUSTOM",
            name="Custom (free text)",
            fields=(
                MethodField(
                    "details",
                    1,
                    500,
                    "How to pay you: where, to whom and with what; your counterparty reads it.",
                ),
            ),
            period_s=4 * DAY_S,
            help="Free text that no program checks: read it with care before you pay.",
        ),
    )
}


def check_method(field: str, value: object) -> Method:
    """Return the method named `value`. Raises InvalidRecord naming `field`."""
    name = wire.text(field, value, 32, low=1)
    if name not in METHODS:
        raise InvalidRecord(field, f"{name!r} is none of {', '.join(METHODS)}")
    return METHODS[name]


def account_form(method: str) -> dict[str, Any]:
    """Return what an account of this method asks for, as JSON can write it."""
    known = check_method("method", method)
    return {
        "method": known.id,
        "name": known.name,
        "period_s": known.period_s,
        "help": known.help,
        "fields": [
            {"name": f.name, "min_bytes": f.low, "max_bytes": f.high, "help": f.help}
            for f in known.fields
        ],
    }


def check_details(method: str, details: Mapping[str, object]) -> tuple[str, ...]:
    """Return the canonical array of an account's fields. Raises InvalidRecord naming one."""
    known = check_method("method", method)
    names = [f.name for f in known.fields]
    for name in details:
        if name not in names:
            wrong = repr(str(name)[:40])
            raise InvalidRecord(
                "details", f"{wrong} is no field of {known.id} ({', '.join(names)})"
            )
    for name in names:
        if name not in details:
            raise InvalidRecord(name, f"is missing: {known.id} asks for {', '.join(names)}")
    return check_values(method, tuple(details[name] for name in names))


def check_values(method: str, values: object) -> tuple[str, ...]:
    """Return a canonical array that came from elsewhere. Raises InvalidRecord."""
    known = check_method("method", method)
    array = wire.fields("details", values, len(known.fields))
    return tuple(
        wire.text(f.name, value, f.high, low=f.low)
        for f, value in zip(known.fields, array, strict=True)
    )


def as_mapping(method: str, values: tuple[str, ...]) -> dict[str, str]:
    """Return the fields by name."""
    names = (f.name for f in check_method("method", method).fields)
    return dict(zip(names, values, strict=True))


def as_text(method: str, values: tuple[str, ...]) -> str:
    """Write an account's details for people; a single field stands alone."""
    if len(values) == 1:
        return values[0]
    return "; ".join(f"{name}: {value}" for name, value in as_mapping(method, values).items())
