"""A decentralised peer-to-peer Bitcoin exchange node."""

from typing import Final

__version__: Final = "0.1.0"
