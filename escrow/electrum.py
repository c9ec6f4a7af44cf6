"""What an Electrum server may say: every answer typed and bounded, or InvalidRecord.

Pure reading of the protocol 1.4 to 1.6 (electrum-protocol.readthedocs.io). Numbers with
a point are Decimal, so a fee never passes through a float. Hashes leave here in internal
byte order.
"""

import json
from decimal import Decimal
from typing import Any, Final, NoReturn

from escrow.headers import MAX_HEADERS, SIZE
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.transaction import MAX_BRANCH, MAX_TX_BYTES

MAX_LINE: Final = 4_000_000
MAX_HISTORY: Final = 20_000  # flooding a script with dust must cost more than it harms
MAX_CHUNK: Final = 2_016
PROTOCOLS: Final = ("1.4", "1.6")
_HEX: Final = frozenset("0123456789abcdef")
_MAX_WORDS: Final = 200
# What nodes and servers answer when they have the transaction already, spelled as they spell it.
_KNOWN: Final = (
    "txn-already-in-mempool",
    "txn-already-known",
    "txn-same-nonwitness-data-in-mempool",
    "transaction already in block chain",
    "transaction outputs already in utxo set",
)
_SPENT: Final = ("bad-txns-inputs-missingorspent", "missing inputs")


class Refusal(Exception):
    """The server answered a call with an error."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code, self.words = code, words


def _constant(name: str) -> NoReturn:
    raise ValueError(name)


def parse_line(line: bytes) -> dict[str, Any]:
    """Read one line of the server. Raises InvalidRecord."""
    try:
        value = json.loads(line, parse_float=Decimal, parse_constant=_constant)
    except (ValueError, ArithmeticError, RecursionError):
        raise InvalidRecord("line", "is not JSON") from None
    if type(value) is not dict:
        raise InvalidRecord("line", "is not a JSON object")
    return value


def answer_of(message: dict[str, Any]) -> Any:
    """Return the result of an answer. Raises Refusal for the server's own error."""
    error = message.get("error")
    if error is None:
        if "result" not in message:
            raise InvalidRecord("result", "is missing")
        return message["result"]
    code, words = (error.get("code"), error.get("message")) if type(error) is dict else (0, error)
    raise Refusal(code if type(code) is int else 0, words if type(words) is str else "")


def clean(words: str) -> str:
    """Return a server's words fit for one line of a terminal."""
    return "".join(c if c.isprintable() else " " for c in words[:_MAX_WORDS]).strip()


def integer(field: str, value: object, low: int, high: int) -> int:
    """Return an integer within its bounds. Raises InvalidRecord."""
    if type(value) is not int or not low <= value <= high:
        raise InvalidRecord(field, f"is not an integer in {low}..{high}")
    return value


def binary(field: str, value: object, high: int, *, low: int = 0) -> bytes:
    """Return the bytes of lower-case hex. Raises InvalidRecord."""
    if type(value) is not str or not 2 * low <= len(value) <= 2 * high or len(value) % 2:
        raise InvalidRecord(field, f"is not hex of {low} to {high} bytes")
    if not _HEX.issuperset(value):
        raise InvalidRecord(field, "is not lower-case hex")
    return bytes.fromhex(value)


def hash_of(field: str, value: object) -> bytes:
    """Return a displayed hash in internal byte order. Raises InvalidRecord."""
    return binary(field, value, 32, low=32)[::-1]


def _mapping(field: str, value: object) -> dict[str, Any]:
    if type(value) is not dict:
        raise InvalidRecord(field, "is not an object")
    return value


def _sequence(field: str, value: object, high: int) -> list[Any]:
    if type(value) is not list or len(value) > high:
        raise InvalidRecord(field, f"is not a list of at most {high}")
    return value


def version(value: object) -> tuple[str, tuple[int, ...]]:
    """Read the answer to server.version: the software's name and the protocol."""
    pair = _sequence("version", value, 2)
    if len(pair) != 2 or any(type(item) is not str for item in pair):
        raise InvalidRecord("version", "is not two texts")
    numbers = pair[1].split(".")
    if not 2 <= len(numbers) <= 3 or not all(n.isascii() and n.isdigit() for n in numbers):
        raise InvalidRecord("version", "names no protocol")
    protocol = tuple(int(n[:4]) for n in numbers)
    if not (1, 4) <= protocol[:2] <= (1, 6):
        raise InvalidRecord("version", f"speaks protocol {clean(pair[1])}, not 1.4 to 1.6")
    return clean(pair[0]), protocol


def announced(value: object) -> tuple[int, bytes]:
    """Read a tip: its height and header."""
    tip = _mapping("tip", value)
    height = integer("tip.height", tip.get("height"), 0, MAX_HEADERS - 1)
    return height, binary("tip.hex", tip.get("hex"), SIZE, low=SIZE)


def headers(value: object, most: int) -> bytes:
    """Read a run of 1 to `most` headers: `hex` in protocol 1.4, `headers` in 1.6."""
    found = _mapping("headers", value)
    if "headers" in found:
        listed = _sequence("headers", found["headers"], most)
        run = b"".join(binary("headers", item, SIZE, low=SIZE) for item in listed)
    else:
        run = binary("headers.hex", found.get("hex"), SIZE * most)
    count = integer("headers.count", found.get("count"), 1, most)
    if len(run) != count * SIZE:
        raise InvalidRecord("headers.count", "is not the number of headers sent")
    return run


def status(value: object) -> str | None:
    """Read a script's status: None without history."""
    return None if value is None else binary("status", value, 32, low=32).hex()


def history(value: object) -> list[tuple[bytes, int]]:
    """Read a script's history as (txid, height), height 0 for what is unconfirmed."""
    found: dict[bytes, int] = {}
    for item in _sequence("history", value, MAX_HISTORY):
        row = _mapping("history", item)
        txid = hash_of("history.tx_hash", row.get("tx_hash"))
        height = integer("history.height", row.get("height"), -1, MAX_HEADERS - 1)
        if txid in found:
            raise InvalidRecord("history", "names a transaction twice")
        found[txid] = max(height, 0)
    return list(found.items())


def merkle(value: object, height: int) -> tuple[tuple[bytes, ...], int]:
    """Read a merkle branch and its position."""
    proof = _mapping("merkle", value)
    integer("merkle.block_height", proof.get("block_height"), height, height)
    listed = _sequence("merkle.merkle", proof.get("merkle"), MAX_BRANCH)
    branch = tuple(hash_of("merkle.merkle", item) for item in listed)
    return branch, integer("merkle.pos", proof.get("pos"), 0, (1 << len(branch)) - 1)


def raw_transaction(value: object) -> bytes:
    """Read a raw transaction's bytes, not yet parsed."""
    return binary("transaction", value, MAX_TX_BYTES, low=1)


def fee_rate(value: object) -> int | None:
    """Read an estimate in BTC/kvB as whole sat/vB, rounded up; -1 and null are None."""
    if value is None:
        return None
    if type(value) not in (int, Decimal):
        raise InvalidRecord("estimatefee", "is not a number")
    rate = Decimal(value)  # type: ignore[arg-type]
    if rate <= 0:
        return None
    if rate > 1:
        raise InvalidRecord("estimatefee", "is above 1 BTC/kvB")
    whole, rest = divmod(rate * 100_000, 1)
    return max(1, int(whole) + (rest > 0))


def reject_reason(words: str) -> str:
    """Return the node's own reason inside a server's refusal of a broadcast.

    ElectrumX and the sandbox wrap it: "…network rules.<blank line>REASON<newline>[raw hex]".
    """
    inner = words.partition("\n\n")[2] or words
    return clean(inner.partition("\n[")[0]) or "no reason given"


def is_known(reason: str) -> bool:
    """Tell whether the refusal only says that the node has the transaction already."""
    return reason.lower().startswith(_KNOWN)


def may_be_confirmed(reason: str) -> bool:
    """Tell whether the transaction could be confirmed with all its outputs spent since."""
    return reason.lower().startswith(_SPENT)
