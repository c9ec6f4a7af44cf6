"""The price sources that can be named; what they are asked and how they answer. Pure."""

from typing import Final

ADAPTERS: Final[dict[str, object]] = {}
