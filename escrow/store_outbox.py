"""The delivery half of the trades' journal: what of ours waits for whom, and until when.

A message of ours waits until its recipient has said that he has applied it: by a reply on a
stream, or by a signed message of his whose `seen` covers it. `settled` is told inside the same
transaction, so that what lies in a mailbox ends with what waits here.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from escrow.messages import MAX_MESSAGE, Kind, Message
from p2pnode.base import wire
from p2pnode.base.errors import StorageFault
from p2pnode.base.store import Database

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message of ours that its recipient has not applied yet, as far as we know."""

    id: bytes
    trade_id: bytes
    seq: int
    kind: Kind
    raw: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Abandoned:
    """What waited for one peer in a trade that ended long ago, and is delivered no more."""

    trade_id: bytes
    peer: bytes
    count: int


Settled = Callable[[bytes, bytes, int], None]  # peer, trade id, up to which seq


class Outbox(ABC):
    """Reads and marks the rows of `message` that wait; the journal makes the table."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.settled: Settled = lambda _peer, _trade_id, _seq: None

    @abstractmethod
    def travels(self, message_id: bytes, kind: int, raw: bytes) -> bytes:
        """Return a row's bytes as they go to a peer. Raises StorageFault for damage."""

    def waits_for(self, peer: bytes) -> list[Waiting]:
        """Return what that peer has not applied yet, oldest first."""
        rows = self.database.all(
            "SELECT id, trade_id, seq, kind, raw FROM message"
            " WHERE recipient = ? AND undelivered = 1 ORDER BY number",
            peer,
        )
        found, broken = [], set()
        for r in rows:
            if r["trade_id"] in broken:
                continue
            try:
                raw = self.travels(r["id"], r["kind"], r["raw"])
            except StorageFault as error:  # nothing behind it can be applied
                log.warning("trade %s sends no more: %s", r["trade_id"].hex()[:16], error)
                broken.add(r["trade_id"])
                continue
            found.append(Waiting(r["id"], r["trade_id"], r["seq"], Kind(r["kind"]), raw))
        return found

    def outbox(self, peer: bytes) -> list[tuple[bytes, bytes, bytes]]:
        """Return (id, trade id, raw) of what that peer has not applied yet, oldest first."""
        return [(one.id, one.trade_id, one.raw) for one in self.waits_for(peer)]

    def recipients(self) -> list[bytes]:
        """Return every peer for whom something waits."""
        rows = self.database.all("SELECT DISTINCT recipient FROM message WHERE undelivered = 1")
        return [r["recipient"] for r in rows]

    def waiting(self, trade_id: bytes) -> frozenset[bytes]:
        """Return the ids of a trade's messages that their recipients have not applied yet."""
        rows = self.database.all(
            "SELECT id FROM message WHERE trade_id = ? AND undelivered = 1", trade_id
        )
        return frozenset(r["id"] for r in rows)

    def contracted(self, trade_id: bytes, peer: bytes) -> bool:
        """Tell whether we have signed this trade's contract towards the peer."""
        row = self.database.one(
            "SELECT 1 FROM message WHERE trade_id = ? AND recipient = ? AND kind = ?",
            *(trade_id, peer, int(Kind.CONTRACT)),
        )
        return row is not None

    def seen_by(self, message_id: bytes) -> bytes:
        """Return the peer's message that a message of ours says we have seen, or nothing."""
        row = self.database.one("SELECT id, kind, raw FROM message WHERE id = ?", message_id)
        if row is None:
            return b""
        ours = self.travels(row["id"], row["kind"], row["raw"])
        seen = wire.unpack("message", ours, limit=MAX_MESSAGE)[0][7]  # we made it: well-formed
        found = self.database.one("SELECT id, kind, raw FROM message WHERE id = ?", seen)
        return self.travels(found["id"], found["kind"], found["raw"]) if found else b""

    # -- inside the caller's transaction

    def delivered(self, message_id: bytes) -> None:
        """Take out a message that the peer says he has applied, and so all before it."""
        row = self.database.one(
            "SELECT trade_id, recipient, seq FROM message WHERE id = ?", message_id
        )
        if row is not None:
            self._end(row["trade_id"], row["recipient"], row["seq"])

    def covered(self, message: Message) -> None:
        """Take out what a peer's checked message says by its `seen` that he has applied."""
        row = self.database.one(
            "SELECT seq FROM message WHERE id = ? AND trade_id = ? AND sender = ?"
            " AND recipient = ?",
            *(message.seen, message.trade, message.recipient, message.sender),
        )
        if row is not None:
            self._end(message.trade, message.sender, row["seq"])

    def drop_outbox(self, trade_id: bytes, peer: bytes) -> int:
        """Stop delivering this trade's messages to a peer; returns how many waited."""
        row = self.database.one(
            "SELECT max(seq) AS seq FROM message WHERE trade_id = ? AND recipient = ?"
            " AND undelivered = 1",
            *(trade_id, peer),
        )
        if row is None or row["seq"] is None:
            return 0
        return self._end(trade_id, peer, row["seq"])

    def abandon(self, ended: Iterable[str], before: int) -> list[Abandoned]:
        """Stop delivering in trades that came to one of these states before a moment (seconds)."""
        names = list(ended)
        marks = ", ".join("?" * len(names))
        rows = self.database.all(
            "SELECT DISTINCT trade_id, recipient FROM message JOIN trade USING (trade_id)"  # noqa: S608
            f" WHERE undelivered = 1 AND state IN ({marks}) AND changed < ?",
            *(*names, before),
        )
        return [
            Abandoned(trade_id, peer, self.drop_outbox(trade_id, peer)) for trade_id, peer in rows
        ]

    def _end(self, trade_id: bytes, peer: bytes, seq: int) -> int:
        changed = self.database.run(
            "UPDATE message SET undelivered = 0 WHERE trade_id = ? AND recipient = ?"
            " AND seq <= ? AND undelivered = 1",
            *(trade_id, peer, seq),
        )
        if changed:
            self.settled(peer, trade_id, seq)
        return changed
