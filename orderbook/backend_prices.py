"""The price sources that the settings name."""

from collections.abc import Sequence
from pathlib import Path

from orderbook.backend_prices_file import PREFIX, FilePrices
from orderbook.backend_prices_http import HttpPrices
from orderbook.price_adapters import ADAPTERS
from orderbook.shell_prices import Source


def open_sources(names: Sequence[str], folder: Path, proxy: str = "") -> tuple[Source, ...]:
    """Return the sources of these names, asked through `proxy` unless it is empty.

    Names are keys of ADAPTERS or file:PATH; relative paths start at `folder`.
    """
    return tuple(
        FilePrices(name, folder) if name.startswith(PREFIX) else HttpPrices(ADAPTERS[name], proxy)
        for name in names
    )
