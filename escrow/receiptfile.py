"""The file of a receipt: what `trade receipts --out` writes and `proof verify` reads.

    {version, network, what: "receipt", receipt: hex of its bytes}

Pure; the one declared error is InvalidRecord, naming the line or the receipt's own field.
"""

from collections.abc import Mapping
from typing import Any, Final

from escrow.messagefile import read_hex, read_network, read_object
from escrow.receipt import MAX_BYTES, VERSION, Receipt
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord

WHAT: Final = "receipt"
_LINES: Final = ("version", "network", "what", "receipt")


def is_receipt(value: object) -> bool:
    """Tell whether a file says that it is a receipt."""
    return isinstance(value, Mapping) and value.get("what") == WHAT


def receipt_to_json(receipt: Receipt) -> dict[str, Any]:
    """Return a receipt as an object for JSON."""
    return {
        "version": VERSION,
        "network": receipt.network.name,
        "what": WHAT,
        "receipt": receipt.wire().hex(),
    }


def receipt_from_json(value: object) -> Receipt:
    """Parse a receipt's file and check all that needs no chain. Raises InvalidRecord."""
    lines = read_object("", value, _LINES, what=WHAT)
    wire.within("version", lines["version"], VERSION, VERSION)
    network = read_network(lines["network"])
    if lines["what"] != WHAT:
        raise InvalidRecord("what", f"is not {WHAT}")
    raw = read_hex("receipt", lines["receipt"])
    return Receipt.from_wire(wire.blob("receipt", raw, MAX_BYTES, low=1), network)
