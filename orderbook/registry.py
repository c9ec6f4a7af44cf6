"""The registry file of payment methods, parsed once: what every reader of it shares.

`payment_methods.toml` comes with the package, so a fault in it is a fault of this version:
Broken names the table and the key, and nothing starts.
"""

import re
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

from p2pnode.base.errors import Misconfigured

FILE: Final = "payment_methods.toml"
_COIN: Final = re.compile(r"[A-Z]{3}", re.ASCII)


class Broken(Misconfigured):
    """The registry file cannot be used; the text names file, table and key."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{FILE}: {where}: {why}", field=FILE)


def parse(text: str) -> dict[str, Any]:
    """Return the file's tables. Raises Broken for what is not TOML or not a known table."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Broken("file", f"is not TOML: {error}") from None
    for name in data:
        if name not in {"coin", "area", "field", "method"}:
            raise Broken(name, "is no table of this file")
    return data


def typed(where: str, table: Mapping[str, Any], key: str, kind: type, default: Any = None) -> Any:
    """Return a key's value of that type (text not empty). Raises Broken."""
    value = table.get(key, default)
    if value is None:
        raise Broken(f"{where}.{key}", "is missing")
    if type(value) is not kind or (kind is str and key in table and not value):
        raise Broken(f"{where}.{key}", f"is not {_KINDS[kind]}")
    return value


def only(where: str, table: object, known: frozenset[str]) -> Mapping[str, Any]:
    """Return a table that has none but the known keys. Raises Broken."""
    if not isinstance(table, dict):
        raise Broken(where, "is not a table")
    for key in table:
        if key not in known:
            raise Broken(f"{where}.{key}", f"is none of {', '.join(sorted(known))}")
    return table


def coins(data: Mapping[str, Any]) -> dict[str, tuple[int, str]]:
    """Return (exponent, name) of each coin by its code. Raises Broken."""
    found = {}
    for number, entry in enumerate(typed("file", data, "coin", list, [])):
        where = f"coin {number + 1}"
        table = only(where, entry, frozenset({"code", "exponent", "name"}))
        code = typed(where, table, "code", str)
        if not _COIN.fullmatch(code) or code in found:
            raise Broken(f"{where}.code", "is not three capitals of its own")
        exponent = typed(where, table, "exponent", int)
        if not 0 <= exponent <= 8:
            raise Broken(f"{where}.exponent", "is not 0 to 8")
        found[code] = (exponent, typed(where, table, "name", str))
    return found


_KINDS: Final = {
    str: "text",
    int: "an integer",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}
DATA: Final = parse(files(__package__).joinpath(FILE).read_text(encoding="utf-8"))
COINS: Final = coins(DATA)
