"""How much of others' business a node takes on: an ordinary one, and a seed."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Bounds of one node."""

    records: int = 20_000  # held for others
    links: int = 256  # streams that we hold open to peers
    listens: int = 4_096  # keys that others listen to here, all callers together


SEED_ROOM: Final = Room(records=200_000, links=1024, listens=32_768)
