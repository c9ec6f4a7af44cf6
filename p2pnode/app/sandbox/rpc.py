"""JSON-RPC by lines as the Electrum protocol has it: one strict reader of requests.

A request is an object with a method, parameters by position or by name, and an id. What
is malformed gets an error with the codes of JSON-RPC 2.0; nothing a client sends raises
anything but RPCError here. Spec: electrum-protocol documentation, "Protocol Basics".
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

MAX_LINE: Final = 1_000_000  # the largest relayed transaction is 800,000 hex digits
MAX_BATCH: Final = 50
MAX_NAME: Final = 60
_PARSE: Final = -32700
_REQUEST: Final = -32600
METHOD: Final = -32601
_PARAMS: Final = -32602
FAILED: Final = 1


class RPCError(Exception):
    """What the client is told instead of a result."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    """One call: the id to answer with, the method, its parameters as they came."""

    id: int | str | None
    method: str
    params: list[Any] | dict[str, Any]


def encode(message: Any) -> bytes:
    """Return one line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def result(request: Request, value: Any) -> dict[str, Any]:
    """Return the answer object of a call that went well."""
    return {"jsonrpc": "2.0", "id": request.id, "result": value}


def failure(id_: int | str | None, error: RPCError) -> dict[str, Any]:
    """Return the answer object of one that did not."""
    return {"jsonrpc": "2.0", "id": id_, "error": {"code": error.code, "message": str(error)}}


def parse_line(line: bytes) -> tuple[bool, list[Any]]:
    """Return whether the line is a batch, and its items. Raises RPCError."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        raise RPCError(_PARSE, "parse error") from None
    if type(message) is not list:
        return False, [message]
    if not 0 < len(message) <= MAX_BATCH:
        raise RPCError(_REQUEST, f"a batch holds 1 to {MAX_BATCH} requests")
    return True, message


def parse_request(item: Any) -> Request:
    """Return one request of a line. Raises RPCError."""
    if type(item) is not dict:
        raise RPCError(_REQUEST, "a request is an object")
    method, params = item.get("method"), item.get("params")
    if type(method) is not str or len(method) > MAX_NAME:
        raise RPCError(_REQUEST, "a request names its method")
    if params is None:
        params = []
    if type(params) not in (list, dict):
        raise RPCError(_REQUEST, "parameters come by position or by name")
    return Request(request_id(item), method, params)


def request_id(item: Any) -> int | str | None:
    """Return the id if it is one that can be answered with, else None."""
    value = item.get("id") if type(item) is dict else None
    if type(value) is int and abs(value) < 1 << 63:
        return value
    return value if type(value) is str and len(value) <= MAX_NAME else None


class Args:
    """The parameters of one call by name; each reader checks type and bounds."""

    def __init__(self, names: Sequence[str], params: list[Any] | dict[str, Any]) -> None:
        if type(params) is list:
            if len(params) > len(names):
                raise RPCError(_PARAMS, f"invalid parameters: at most {len(names)}")
            params = dict(zip(names, params, strict=False))
        elif foreign := set(params) - set(names):
            raise RPCError(_PARAMS, f"invalid parameters: no {min(foreign)[:MAX_NAME]!r} here")
        self._values: dict[str, Any] = dict(params)

    def _take(self, name: str, kind: type, default: Any, what: str) -> Any:
        value = self._values.get(name)
        if value is None:
            value = default
        if type(value) is not kind:
            raise RPCError(_PARAMS, f"invalid parameters: {name} is not {what}")
        return value

    def any(self, name: str) -> Any:
        """Return whatever came, None if nothing did."""
        return self._values.get(name)

    def integer(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """Return an integer in low..high."""
        value: int = self._take(name, int, default, "an integer")
        if not low <= value <= high:
            raise RPCError(_PARAMS, f"invalid parameters: {name} is not in {low}..{high}")
        return value

    def flag(self, name: str) -> bool:
        """Return true or false; absent means false."""
        return bool(self._take(name, bool, False, "true or false"))

    def binary(self, name: str, limit: int) -> bytes:
        """Return what a text of hex digits stands for, at most `limit` bytes."""
        return self._hex(name, self._take(name, str, None, "hex"), limit)

    def hash(self, name: str) -> bytes:
        """Return 32 bytes from 64 lower-case hex digits as displayed, in internal order."""
        text = self._take(name, str, None, "a hash")
        raw = self._hex(name, text, 32)
        if len(raw) != 32 or raw.hex() != text:
            raise RPCError(FAILED, f"{name} should be a hash of 64 lower-case hex digits")
        return raw[::-1]

    def binaries(self, name: str, count: int, limit: int) -> list[bytes]:
        """Return a list of at most `count` hex texts; absent means none."""
        texts = self._take(name, list, [], "a list")
        if len(texts) > count or any(type(t) is not str for t in texts):
            raise RPCError(_PARAMS, f"invalid parameters: {name} is not up to {count} hex texts")
        return [self._hex(name, t, limit) for t in texts]

    def _hex(self, name: str, text: str, limit: int) -> bytes:
        try:
            if len(text) <= 2 * limit and text.isalnum():
                return bytes.fromhex(text)
        except ValueError:
            pass
        raise RPCError(_PARAMS, f"invalid parameters: {name} is not hex of up to {limit} bytes")
