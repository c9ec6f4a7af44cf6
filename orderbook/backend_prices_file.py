"""A price source on this machine: a JSON object of currency -> decimal text.

    {"EUR": "61240.00", "USD": "66010"}

Whoever keeps the file vouches for it: a price counts as fresh while the file is there and
can be read, however old it is. A file that is bad in any place gives no price at all.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from orderbook.currencies import check_currency
from orderbook.prices import Said, read_json, read_price
from p2pnode.base.errors import InvalidRecord

MAX_FILE: Final = 64 * 1024
PREFIX: Final = "file:"


class FilePrices:
    """One file, named `file:PATH` in the settings, relative to the data directory."""

    live, docs = True, ""
    every_s = 5

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._path = folder / name.removeprefix(PREFIX)
        self._seen: tuple[int, int, int] | None = None
        self._prices: Mapping[str, int] = {}
        self._fault = ""

    async def ask(self, currencies: Collection[str]) -> Said:
        """Return what the file says, or what is wrong with it; it is read when it changes."""
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if seen != self._seen:
                self._prices, self._fault = {}, ""
                with self._path.open("rb") as file:
                    self._prices = read_prices(file.read(MAX_FILE + 1))
                self._seen = seen
        except OSError as error:
            self._seen, self._prices, self._fault = None, {}, f"the file: {error.strerror}"
        except InvalidRecord as error:
            self._seen, self._fault = seen, f"the file is bad: {error}"
        if self._fault:
            return Said({}, dict.fromkeys(currencies, self._fault))
        return Said({c: (self._prices[c], 0) for c in currencies if c in self._prices})


def read_prices(raw: bytes) -> Mapping[str, int]:
    """Read the file's content. Raises InvalidRecord naming the currency or the place."""
    if len(raw) > MAX_FILE:
        raise InvalidRecord("JSON", f"is over {MAX_FILE} bytes")
    found = read_json(raw)
    if not isinstance(found, dict):
        raise InvalidRecord("JSON", "is not an object of currency and price")
    return {
        check_currency("currency", code): read_price(code, value, code)
        for code, value in found.items()
    }
