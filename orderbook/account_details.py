"""An account's details against its method: every field entered, read, marked and written.

What a user types goes through `check_details`, what a peer or the disk brings through
`check_values` (orderbook/method_fields.py says why they differ).
"""

from collections.abc import Mapping

from orderbook.methods import METHODS, Method, check_method
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord


def problems(method: str, details: Mapping[str, object]) -> tuple[dict[str, str], ...]:
    """Return (field, why) of everything that keeps these details from being an account."""
    found = _examine(method, details)[1]
    return tuple({"field": name, "why": str(error)} for name, error in found)


def check_details(method: str, details: Mapping[str, object]) -> tuple[str, ...]:
    """Return the canonical array of an account's fields. Raises InvalidRecord naming one."""
    values, errors = _examine(method, details)
    if errors:
        raise errors[0][1]
    return values


def _examine(
    method: str, details: Mapping[str, object]
) -> tuple[tuple[str, ...], tuple[tuple[str, InvalidRecord], ...]]:
    known = check_method("method", method)
    names = [f.name for f in known.fields]
    values: list[str] = []
    errors = [(str(name)[:40], _foreign(name, known)) for name in details if name not in names]
    for one in known.fields:
        country = details.get(one.country_from, "") if one.country_from else ""
        code = country.strip().upper() if isinstance(country, str) else ""
        if one.name not in details and not one.optional:
            why = f"is missing: it takes {one.what}"
            errors.append((one.name, InvalidRecord(one.name, why)))
            continue
        try:
            values.append(one.enter(details.get(one.name, ""), code))
        except InvalidRecord as error:
            errors.append((one.name, error))
    return tuple(values), tuple(errors)


def _foreign(name: object, method: Method) -> InvalidRecord:
    names = ", ".join(f.name for f in method.fields)
    return InvalidRecord("details", f"{str(name)[:40]!r} is no field of {method.id} ({names})")


def check_values(method: str, values: object) -> tuple[str, ...]:
    """Return a canonical array that came from elsewhere. Raises InvalidRecord."""
    known = check_method("method", method)
    array = wire.fields("details", values, len(known.fields))
    return tuple(f.read(value) for f, value in zip(known.fields, array, strict=True))


def as_mapping(method: str, values: tuple[str, ...]) -> dict[str, str]:
    """Return the fields by name."""
    names = (f.name for f in check_method("method", method).fields)
    return dict(zip(names, values, strict=True))


def marks(method: str, values: tuple[str, ...]) -> dict[str, str]:
    """Return what the libraries hold against values that came from elsewhere, by field."""
    named = as_mapping(method, values)
    found = {
        f.name: f.mark(named[f.name], named.get(f.country_from, ""))
        for f in METHODS[method].fields
        if named[f.name]
    }
    return {name: why for name, why in found.items() if why}


def as_text(method: str, values: tuple[str, ...]) -> str:
    """Write an account's details for people, with marks; a single field stands alone."""
    doubts = marks(method, values)
    lines = {
        name: value + (f" [!] {doubts[name]}" if name in doubts else "")
        for name, value in as_mapping(method, values).items()
        if value
    }
    if len(values) == 1:
        return next(iter(lines.values()), "")
    return "; ".join(f"{name}: {value}" for name, value in lines.items())
