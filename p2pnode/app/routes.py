"""What a route of the local API is. The server (`api.py`) turns HTTP into calls of these.

A handler takes one `Call` and returns what `json` can write: an object, or a list whose
items the server streams. It raises NodeError for everything that a user can mend.
"""

import base64
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from p2pnode.base.errors import UsageFault

MAX_TEXT = 100_000


@dataclass(frozen=True, slots=True)
class Call:
    """One request: the path's parameters, the query and the JSON body, all untrusted."""

    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)

    def text(self, name: str, default: str | None = None) -> str:
        """Return a text field of path, body or query. Raises UsageFault naming it."""
        value = self._find(name, default)
        if not isinstance(value, str) or len(value) > MAX_TEXT:
            raise UsageFault(f"{name}: is not text of at most {MAX_TEXT} characters", field=name)
        return value

    def integer(self, name: str, default: int | None = None) -> int:
        """Return an integer field; digits in a query are read. Raises UsageFault."""
        value = self._find(name, default)
        if isinstance(value, str) and value.removeprefix("-").isdecimal() and len(value) < 20:
            value = int(value)
        if type(value) is not int or abs(value) > 2**62:
            raise UsageFault(f"{name}: is not an integer", field=name)
        return value

    def binary(self, name: str, high: int) -> bytes:
        """Return a field of base64 (RFC 4648, section 4) of at most `high` bytes."""
        value = self._find(name, None)
        if isinstance(value, str) and len(value) <= 4 * (high // 3 + 1):
            with suppress(ValueError):
                raw = base64.b64decode(value, validate=True)
                if len(raw) <= high:
                    return raw
        raise UsageFault(f"{name}: is not base64 of at most {high} bytes", field=name)

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a true/false field. Raises UsageFault."""
        value = self._find(name, default)
        if type(value) is not bool:
            raise UsageFault(f"{name}: is not true or false", field=name)
        return value

    def _find(self, name: str, default: object) -> object:
        for source in (self.path, self.body, self.query):
            if name in source:
                return source[name]
        if default is None:
            raise UsageFault(f"{name}: is missing", field=name)
        return default


Handler = Callable[[Call], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Route:
    """One verb of the API. `once`: an Idempotency-Key is honoured, for what moves money."""

    method: str
    path: str  # "/v1/trades/{trade_id}"
    handler: Handler
    once: bool = False
    summary: str = ""
