"""Payment methods: a registry that is data, read by the one strict loader below.

A method names its typed fields in order; an account's details on the wire and in hashes
are the array of their values in that order (docs/wire/offers.md, "Accounts"). The data lie
in `payment_methods.toml`, the kinds of value in `field_kinds.py`; docs/payment-methods.md
is written from both.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from orderbook.currencies import EXPONENTS, ISO
from orderbook.field_kinds import KINDS
from orderbook.method_fields import MethodField
from orderbook.places import COUNTRIES
from orderbook.registry import DATA, Broken, only, typed
from p2pnode.base import wire
from p2pnode.base.errors import UnknownName

DAY_S: Final = 86_400
MAX_PERIOD_S: Final = 60 * DAY_S  # the contract's own bounds (docs/wire.md)
MIN_PERIOD_S: Final = 3_600
RISKS: Final = ("very_low", "low", "mid", "high")
GROUPS: Final = ("bank", "service", "cash", "coin", "custom")
MAX_DISCLOSURE: Final = 4_096  # bytes of the ACCOUNT message's array (docs/wire.md)
_FRAME: Final = 2 + 33 + 3 + 2 * 34  # its heads, the method's id, two salts of 32 bytes
_METHOD_KEYS: Final = frozenset(
    {"name", "group", "fields", "currencies", "countries", "period_s", "risk", "chargeback"}
    | {"cap_sat", "help"}
)
_FIELD_KEYS: Final = frozenset(
    {"use", "name", "kind", "optional", "low", "high", "help", "example", "options", "regions"}
    | {"country_from"}
)
_ID: Final = re.compile(r"[A-Z][A-Z0-9_]{1,31}", re.ASCII)
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{1,31}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Method:
    """A way to pay.

    `period_s`: seconds the buyer has to pay. `currencies`: empty for every one of ISO 4217.
    `countries`: empty for every one. `cap_sat`: a most of its own, 0 for its risk class's.
    """

    id: str
    name: str
    group: str
    fields: tuple[MethodField, ...]
    currencies: tuple[str, ...]
    countries: tuple[str, ...]
    period_s: int
    risk: str
    chargeback: bool
    cap_sat: int
    help: str

    def takes(self, currency: str) -> bool:
        """Tell whether this currency can be paid so."""
        return currency in (self.currencies or ISO)

    def reaches(self, country: str) -> bool:
        """Tell whether one can pay so in this country."""
        return not self.countries or country in self.countries


# ------------------------------------------------------------------ the loader


def load(data: Mapping[str, Any]) -> dict[str, Method]:
    """Return the methods of a parsed registry file. Raises Broken naming method and key."""
    areas = {
        name: _codes(f"area.{name}.countries", table, "countries", COUNTRIES)
        for name, table in typed("file", data, "area", dict, {}).items()
        if only(f"area.{name}", table, frozenset({"countries"}))
    }
    shared = typed("file", data, "field", dict, {})
    found = {}
    for name, entry in typed("file", data, "method", dict).items():
        where = f"method.{name}"
        if not _ID.fullmatch(name):
            raise Broken(where, "is not 2 to 32 capitals, digits and underscores")
        found[name] = _method(where, name, only(where, entry, _METHOD_KEYS), shared, areas)
    return found


def _method(
    where: str,
    name: str,
    table: Mapping[str, Any],
    shared: Mapping[str, Any],
    areas: Mapping[str, tuple[str, ...]],
) -> Method:
    fields = tuple(
        _field(f"{where}.fields", entry, shared, areas)
        for entry in typed(where, table, "fields", list)
    )
    names = [f.name for f in fields]
    for one in fields:
        if names.count(one.name) > 1:
            raise Broken(f"{where}.fields.{one.name}", "stands there twice")
        if one.country_from and one.country_from not in names:
            raise Broken(f"{where}.fields.{one.name}.country_from", "names no field of it")
    size = _FRAME + sum(3 + one.high for one in fields)
    if not fields or size > MAX_DISCLOSURE:
        raise Broken(f"{where}.fields", f"take {size} bytes, not 1 to {MAX_DISCLOSURE}")
    period_s = typed(where, table, "period_s", int)
    if not MIN_PERIOD_S <= period_s <= MAX_PERIOD_S:
        raise Broken(f"{where}.period_s", f"is not {MIN_PERIOD_S} to {MAX_PERIOD_S}")
    cap_sat = typed(where, table, "cap_sat", int, 0)
    if cap_sat < 0:
        raise Broken(f"{where}.cap_sat", "is negative")
    return Method(
        id=name,
        name=_bounded(where, table, "name", 40),
        group=_one_of(where, table, "group", GROUPS),
        fields=fields,
        currencies=_codes(f"{where}.currencies", table, "currencies", EXPONENTS),
        countries=_area(f"{where}.countries", table, "countries", areas),
        period_s=period_s,
        risk=_one_of(where, table, "risk", RISKS),
        chargeback=typed(where, table, "chargeback", bool),
        cap_sat=cap_sat,
        help=_bounded(where, table, "help", 120),
    )


def _field(
    where: str, entry: object, shared: Mapping[str, Any], areas: Mapping[str, tuple[str, ...]]
) -> MethodField:
    given = {"use": entry} if isinstance(entry, str) else dict(only(where, entry, _FIELD_KEYS))
    base = given.pop("use", None)
    if base is not None and (not isinstance(base, str) or base not in shared):
        raise Broken(where, f"uses {base!r}, which is no [field.…]")
    name = given.pop("name", base)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Broken(where, f"has a field without a name of 2 to 32 small letters: {name!r}")
    where = f"{where}.{name}"
    inherited = only(f"field.{base}", shared[base], _FIELD_KEYS) if base else {}
    table = only(where, {**inherited, **given}, _FIELD_KEYS - {"use", "name"})
    kinds = _kinds(where, table)
    parts = tuple((KINDS[kind], *_bounds(where, kind, table)) for kind in kinds)
    options = tuple(typed(where, table, "options", list, []))
    if ("choice" in kinds) != bool(options) or not all(isinstance(o, str) for o in options):
        raise Broken(f"{where}.options", "belong to a choice, and to nothing else")
    made = MethodField(
        name=name,
        kinds=kinds,
        low=min(low for _, low, _ in parts),
        high=max(high for _, _, high in parts),
        help=_bounded(where, table, "help", 120),
        example=typed(where, table, "example", str),
        optional=typed(where, table, "optional", bool, False),
        options=options,
        regions=_area(f"{where}.regions", table, "regions", areas, []),
        country_from=typed(where, table, "country_from", str, ""),
        parts=parts,
    )
    return made


def _kinds(where: str, table: Mapping[str, Any]) -> tuple[str, ...]:
    value = table.get("kind")
    kinds = (value,) if isinstance(value, str) else tuple(typed(where, table, "kind", list))
    if not kinds:
        raise Broken(f"{where}.kind", "is empty")
    for kind in kinds:
        if not isinstance(kind, str) or kind not in KINDS:
            raise Broken(f"{where}.kind", f"{kind!r} is none of {', '.join(KINDS)}")
    for key in ("low", "high"):
        if key in table and not any(KINDS[kind].bounded for kind in kinds):
            raise Broken(f"{where}.{key}", "cannot be set: the kind has bounds of its own")
    return kinds


def _bounds(where: str, kind: str, table: Mapping[str, Any]) -> tuple[int, int]:
    """Return the bounds of a kind in this field: the field's own where the kind allows them."""
    known = KINDS[kind]
    if not known.bounded:
        return known.low, known.high
    low = typed(where, table, "low", int, known.low)
    high = typed(where, table, "high", int, known.high)
    if not 1 <= low <= high <= known.high:
        raise Broken(f"{where}.high", f"{low} to {high} is not within 1 to {known.high}")
    return low, high


def _bounded(where: str, table: Mapping[str, Any], key: str, high: int) -> str:
    text = typed(where, table, key, str)
    if len(text.encode()) > high:
        raise Broken(f"{where}.{key}", f"is over {high} bytes")
    return str(text)


def _one_of(where: str, table: Mapping[str, Any], key: str, known: tuple[str, ...]) -> str:
    text = typed(where, table, key, str)
    if text not in known:
        raise Broken(f"{where}.{key}", f"{text!r} is none of {', '.join(known)}")
    return str(text)


def _codes(
    where: str, table: Mapping[str, Any], key: str, known: Mapping[str, Any]
) -> tuple[str, ...]:
    codes = typed(where.rpartition(".")[0], table, key, list)
    for code in codes:
        if not isinstance(code, str) or code not in known:
            raise Broken(where, f"{code!r} is not known")
    if sorted(set(codes)) != codes:
        raise Broken(where, "is not strictly ascending")
    return tuple(codes)


def _area(
    where: str,
    table: Mapping[str, Any],
    key: str,
    areas: Mapping[str, tuple[str, ...]],
    default: list[str] | None = None,
) -> tuple[str, ...]:
    value = table.get(key, default)
    if isinstance(value, str):
        if value not in areas:
            raise Broken(where, f"{value!r} is no [area.…]")
        return areas[value]
    return _codes(where, {key: value}, key, COUNTRIES)


METHODS: Final = load(DATA)


def check_method(field: str, value: object) -> Method:
    """Return the method named `value`. Raises InvalidRecord naming `field`."""
    name = wire.text(field, value, 32, low=1)
    if name not in METHODS:
        raise UnknownName(field, f"{name!r} is not one of `p2pnode account methods`")
    return METHODS[name]
