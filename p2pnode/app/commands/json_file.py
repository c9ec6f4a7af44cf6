"""Files of JSON that others made: read within a bound, every line of an object once."""

import json
from pathlib import Path
from typing import Any

from p2pnode.base.errors import InvalidRecord, StorageFault


def read_json(file: Path, limit: int) -> Any:
    """Return what a file of at most `limit` bytes holds. Raises InvalidRecord, StorageFault."""
    try:
        with file.open("rb") as handle:
            raw = handle.read(limit + 1)
    except OSError as error:
        raise StorageFault(f"{file}: {error.strerror}", field="file") from None
    if len(raw) > limit:
        raise InvalidRecord("file", f"is over {limit} bytes")
    try:
        return json.loads(raw, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise InvalidRecord("file", "is not JSON") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object whose every line stands there once."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise InvalidRecord(repr(name[:40]), "stands there twice")
        found[name] = value
    return found
