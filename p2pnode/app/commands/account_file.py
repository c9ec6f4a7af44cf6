"""A filled-in file of `p2pnode account form`: read, and what is wrong told by its lines.

TOML as the form writes it, or a JSON object of the same shape: name, method, details.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, Final, TextIO

from p2pnode.app.commands.frame import hanging
from p2pnode.base.errors import InvalidRecord

MAX_FILE: Final = 100_000  # characters
_KEYS: Final = frozenset({"name", "method", "details"})


def read_file(file: TextIO) -> tuple[dict[str, Any], str]:
    """Return what the file holds, and its text. Raises InvalidRecord."""
    try:
        text = file.read(MAX_FILE + 1)
    except UnicodeDecodeError:
        raise InvalidRecord("file", "is not text in UTF-8") from None
    if len(text) > MAX_FILE:
        raise InvalidRecord("file", f"is over {MAX_FILE} characters")
    value = _json(text) if text.lstrip().startswith("{") else _toml(text)
    if not isinstance(value, dict) or not value or not value.keys() <= _KEYS:
        raise InvalidRecord("file", "does not hold name, method and details, and nothing else")
    return value, text


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise InvalidRecord("file", f"begins as JSON but is not{where}") from None


def _toml(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        where = re.search(r"at line (\d+)", str(error))
        line = f" (line {where[1]})" if where else ""
        raise InvalidRecord(
            "file",
            f"is not TOML as `p2pnode account form` writes it{line}: text stands on one line, "
            "between double quotes",
        ) from None


def refusal(problems: Iterable[Mapping[str, str]], text: str) -> InvalidRecord:
    """Return the error that names every bad field, with its line where the file has it."""
    told = [_located(problem, text) for problem in problems]
    first = next(iter(told))
    if len(told) == 1:
        return _refused(first[0], first[1])
    lines = [why for _, why in told]
    head = f"file: {len(lines)} fields are wrong\n"
    return _refused(first[0], head + "\n".join(hanging("  ", line) for line in lines))


def _refused(field: str, message: str) -> InvalidRecord:
    error = InvalidRecord(field, "")
    error.args = (message,)
    return error


def _located(problem: Mapping[str, str], text: str) -> tuple[str, str]:
    field, why = problem["field"], problem["why"]
    known = re.search(rf"^\s*[\"']?{re.escape(field)}[\"']?\s*[=:]", text, re.MULTILINE)
    line = text.count("\n", 0, known.end()) + 1 if known else 0
    return field, f"line {line}, {why}" if line else why
