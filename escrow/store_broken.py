"""Broken draws in node.sqlite: which of our aborted trades were looked at, what they owe, our jump.

A row a trade that ended in Aborted, written once; without an entry it owes none. So a crash
forgets nothing: what has no row yet is looked at again. `jump` is what our count of draws lies
above the messages that we hold, after a restore from an older copy (docs/draw.md).
"""

from typing import Final

from escrow.broken import BrokenDraw, Filed
from escrow.messages import Kind, Message
from escrow.model import Aborted
from p2pnode.base.networks import Network
from p2pnode.base.store import Database

KEEP_S: Final = 30 * 86_400  # we put an entry again for so long after its trade began
REPUT_S: Final = 86_400
MAX_REPUT: Final = 256  # the newest of ours; older ones are left to the other side
MAX_LOOKED: Final = 64  # aborted trades looked at in one round
RECENT: Final = 32  # of a peer's draws, those among which the highest number is sought
JUMP: Final = 1_000

_SCRIPTS: Final = (
    """
    CREATE TABLE broken_draw (
        trade_id BLOB PRIMARY KEY, taker BLOB NOT NULL, take_no INTEGER NOT NULL,
        maker BLOB NOT NULL, draw_no INTEGER NOT NULL, entry BLOB NOT NULL,
        began INTEGER NOT NULL, put_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX broken_draw_taker ON broken_draw (taker, take_no);
    CREATE INDEX broken_draw_maker ON broken_draw (maker, draw_no);
    CREATE INDEX broken_draw_began ON broken_draw (began);
    CREATE TABLE draw_jump (
        one INTEGER PRIMARY KEY CHECK (one = 1), jump INTEGER NOT NULL
    ) STRICT
    """,
)


class BrokenDraws:
    """The two tables; every write belongs inside the caller's transaction."""

    def __init__(self, database: Database, network: Network) -> None:
        self._database = database
        self._network = network
        database.migrate("broken", _SCRIPTS)

    def unseen(self, now: int) -> list[tuple[bytes, int]]:
        """Return (trade id, when it began) of aborted trades not looked at yet, oldest first."""
        rows = self._database.all(
            "SELECT trade_id, began FROM trade WHERE state = ? AND began > ?"
            " AND trade_id NOT IN (SELECT trade_id FROM broken_draw) ORDER BY began LIMIT ?",
            *(Aborted.__name__, now - KEEP_S, MAX_LOOKED),
        )
        return [(r["trade_id"], r["began"]) for r in rows]

    def keep(self, trade_id: bytes, began: int, entry: BrokenDraw | None) -> None:
        """Remember what an aborted trade owes, or that it owes nothing."""
        taker, maker = (entry.take.sender, entry.draw.sender) if entry else (b"", b"")
        take_no, draw_no = (entry.take.draw_no, entry.draw.draw_no) if entry else (0, 0)
        self._database.run(
            "INSERT OR IGNORE INTO broken_draw VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
            *(trade_id, taker, take_no, maker, draw_no),
            *(Filed(0, entry).wire() if entry else b"", began),
        )

    def due(self, now: int, count: int) -> list[BrokenDraw]:
        """Return entries of ours to be put now, the newest first."""
        rows = self._database.all(
            "SELECT entry FROM (SELECT entry, began, put_at FROM broken_draw"
            " WHERE began > ? AND entry != x'' ORDER BY began DESC LIMIT ?)"
            " WHERE put_at <= ? ORDER BY began DESC LIMIT ?",
            *(now - KEEP_S, MAX_REPUT, now - REPUT_S, count),
        )
        return [self._filed(r["entry"]).entry for r in rows]

    def put(self, trade_id: bytes, now: int) -> None:
        """Remember that others hold the entry now, under both numbers."""
        self._database.run("UPDATE broken_draw SET put_at = ? WHERE trade_id = ?", now, trade_id)

    def own(self, node_id: bytes, draw_no: int) -> list[bytes]:
        """Return what we ourselves would file under a number, whatever the DHT shows."""
        sides = ("taker = ? AND take_no = ?", "maker = ? AND draw_no = ?")
        found = []
        for side, where in enumerate(sides):
            rows = self._database.all(
                f"SELECT entry FROM broken_draw WHERE {where}",  # noqa: S608 - constants
                *(node_id, draw_no),
            )
            found += [Filed(side, self._filed(r["entry"]).entry).wire() for r in rows]
        return found

    def _filed(self, raw: bytes) -> Filed:
        return Filed.from_wire(raw, self._network)

    # -- numbers

    def jump(self) -> int:
        """Return how far our count of draws lies above the messages that we hold."""
        row = self._database.one("SELECT jump FROM draw_jump")
        return int(row["jump"]) if row else 0

    def leap(self) -> None:
        """Jump once more."""
        self._database.run(
            "INSERT INTO draw_jump VALUES (1, ?)"
            " ON CONFLICT (one) DO UPDATE SET jump = jump + excluded.jump",
            JUMP,
        )

    def stated(self, node_id: bytes) -> int:
        """Return the highest count of draws that a peer has stated to us lately, or 0."""
        rows = self._database.all(
            "SELECT raw FROM message WHERE sender = ? AND kind IN (?, ?)"
            " ORDER BY number DESC LIMIT ?",
            *(node_id, int(Kind.TAKE), int(Kind.DRAW), RECENT),
        )
        numbers = (Message.from_wire(r["raw"], self._network).draw_no for r in rows)
        return max(numbers, default=0)

    def traded(self, node_id: bytes) -> tuple[int, int]:
        """Return how many draws with a peer lie here, and in how many his WITNESS came."""
        count = "SELECT count(DISTINCT trade_id) AS n FROM message WHERE kind = ?"
        drawn = self._database.one(f"{count} AND ? IN (sender, recipient)", int(Kind.DRAW), node_id)
        signed = self._database.one(f"{count} AND sender = ?", int(Kind.WITNESS), node_id)
        return (int(drawn["n"]) if drawn else 0), (int(signed["n"]) if signed else 0)
