"""Negotiations in node.sqlite: one row each, their messages among the journal's.

A negotiation's id is the id of its first PROPOSE; in the table `message` it stands where a
trade's id would, so the courier delivers these messages like any others and `known` tells a
message that comes twice. What has ended is kept for its user to read, KEPT of them.
"""

from dataclasses import dataclass
from typing import Final

from escrow import bargain
from escrow.messages import Message
from escrow.model import State
from escrow.store_journal import Journal, dump_state, load_state
from escrow.terms import Terms
from p2pnode.base import wire

KEPT: Final = 200
_SCRIPTS: Final = (
    """
    CREATE TABLE bargain (
        id BLOB PRIMARY KEY, is_maker INTEGER NOT NULL, peer BLOB NOT NULL,
        offer_id BLOB NOT NULL, terms BLOB NOT NULL, amount_sat INTEGER NOT NULL,
        account_id BLOB NOT NULL, escrow_kind TEXT NOT NULL,
        state TEXT NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL,
        living INTEGER NOT NULL, began INTEGER NOT NULL, changed INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX bargain_living ON bargain (began) WHERE living = 1
    """,
)
_STATES: Final = {kind.__name__: kind for kind in bargain.STATES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One negotiation as it is saved. `account_id`, `escrow_kind`: the taker's choice."""

    id: bytes
    is_maker: bool
    peer: bytes
    offer_id: bytes
    terms: Terms
    amount_sat: int
    account_id: bytes = b""
    escrow_kind: str = ""
    state: State
    began: int
    changed: int

    @property
    def ended(self) -> bool:
        """Tell whether nothing more is said."""
        return isinstance(self.state, bargain.ENDED)


class BargainStore:
    """The table `bargain`; every write belongs inside the caller's `Database.transaction`."""

    def __init__(self, journal: Journal) -> None:
        self.journal, self.database = journal, journal.database
        self.database.migrate("bargains", _SCRIPTS)

    def save(self, row: Row) -> None:
        """Write a negotiation, new or changed."""
        name, version, body = dump_state(row.state)
        self.database.run(
            "INSERT INTO bargain VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET state = excluded.state, version = excluded.version,"
            " body = excluded.body, living = excluded.living, changed = excluded.changed",
            row.id,
            int(row.is_maker),
            row.peer,
            row.offer_id,
            wire.pack(row.terms.array()),
            row.amount_sat,
            row.account_id,
            row.escrow_kind,
            name,
            version,
            body,
            int(not row.ended),
            row.began,
            row.changed,
        )

    def add(self, bargain_id: bytes, message: Message, *, mine: bool) -> None:
        """Keep a message under its negotiation; ours goes to the outbox."""
        self.database.run(
            "INSERT INTO message (id, trade_id, sender, recipient, seq, kind, raw, number,"
            " undelivered) VALUES (?, ?, ?, ?, ?, ?, ?,"
            " (SELECT coalesce(max(number), 0) + 1 FROM message), ?)",
            message.id,
            bargain_id,
            message.sender,
            message.recipient,
            message.seq,
            int(message.kind),
            message.wire(),
            int(mine),
        )

    def row(self, bargain_id: bytes) -> Row | None:
        """Return one negotiation or None."""
        found = self._rows("WHERE id = ?", bargain_id)
        return found[0] if found else None

    def rows(self) -> list[Row]:
        """Return every negotiation kept, the newest first."""
        return self._rows("ORDER BY began DESC, rowid DESC")

    def living(self) -> list[Row]:
        """Return those that go on, the oldest first."""
        return self._rows("WHERE living = 1 ORDER BY began, rowid")

    def holding(self, message_id: bytes) -> Row | None:
        """Return the negotiation that a message belongs to, or None."""
        found = self._rows("WHERE id = (SELECT trade_id FROM message WHERE id = ?)", message_id)
        return found[0] if found else None

    def begun_since(self, peer: bytes, since: int) -> int:
        """Return how many negotiations with one peer began after `since`."""
        return self._count("peer = ? AND began > ?", peer, since)

    def living_of_others(self) -> int:
        """Return how many living negotiations others began here."""
        return self._count("living = 1 AND is_maker = 1")

    def give_up(self, before: int) -> None:
        """Deliver nothing more of negotiations that began so long ago."""
        where = "undelivered = 1 AND trade_id IN (SELECT id FROM bargain WHERE began <= ?)"
        if self.database.one(f"SELECT 1 FROM message WHERE {where}", before):  # noqa: S608
            with self.database.transaction():
                self.database.run(
                    f"UPDATE message SET undelivered = 0 WHERE {where}",  # noqa: S608
                    before,
                )

    def prune(self) -> None:
        """Forget what ended, but for the newest KEPT, with its messages."""
        old = self.database.all(
            "SELECT id FROM bargain WHERE living = 0"
            " ORDER BY began DESC, rowid DESC LIMIT -1 OFFSET ?",
            KEPT,
        )
        for found in old:
            self.database.run("DELETE FROM message WHERE trade_id = ?", found["id"])
            self.database.run("DELETE FROM bargain WHERE id = ?", found["id"])

    def _count(self, where: str, *args: object) -> int:
        row = self.database.one(f"SELECT count(*) AS n FROM bargain WHERE {where}", *args)  # noqa: S608
        return int(row["n"]) if row else 0

    def _rows(self, where: str, *args: object) -> list[Row]:
        return [
            Row(
                id=r["id"],
                is_maker=bool(r["is_maker"]),
                peer=r["peer"],
                offer_id=r["offer_id"],
                terms=Terms.from_array("terms", wire.unpack("terms", r["terms"], limit=1024)),
                amount_sat=r["amount_sat"],
                account_id=r["account_id"],
                escrow_kind=r["escrow_kind"],
                state=load_state(r["state"], r["version"], r["body"], _STATES),
                began=r["began"],
                changed=r["changed"],
            )
            for r in self.database.all(f"SELECT * FROM bargain {where}", *args)  # noqa: S608
        ]
