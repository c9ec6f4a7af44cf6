"""The price sources that the settings name."""

from collections.abc import Sequence
from pathlib import Path

from orderbook.backend_prices_file import PREFIX, FilePrices
from orderbook.shell_prices import Source


def open_sources(names: Sequence[str], folder: Path) -> tuple[Source, ...]:
    """Return the sources of these names; relative paths of files start at `folder`."""
    return tuple(FilePrices(name, folder) for name in names if name.startswith(PREFIX))
