"""The trades' journal in node.sqlite: states, messages, splits, coins.

Everything a step changes is written inside one transaction of the caller's (the shell law).
Messages are kept whole and for good: they are the transcript, the inbox that deduplicates and
the outbox that is delivered until the peer has applied it. A state is saved by name, version
and canonical fields; never pickled.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Final

from escrow import model
from escrow.facts import Own
from escrow.messages import Kind, Message
from escrow.model import State
from escrow.payloads import Take
from escrow.payout import Split
from escrow.store_broken import BrokenDraws
from escrow.store_equivocation import Proofs
from escrow.store_evidence import Shelf
from escrow.store_outbox import Outbox
from escrow.store_roll import Roll
from escrow.terms import Terms
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, LocalFault, StorageFault
from p2pnode.base.networks import Network
from p2pnode.base.ports import Clock
from p2pnode.base.store import Database
from p2pnode.base.transaction import Outpoint

TRADER: Final = "trader"
ARBITER: Final = "arbiter"
SMALL: Final = 8192  # bytes of a message that is parsed once and remembered
MAX_STATE: Final = 1 << 20

_SCRIPTS: Final = (
    """
    CREATE TABLE trade (
        trade_id BLOB PRIMARY KEY, role TEXT NOT NULL, terms BLOB NOT NULL, own BLOB NOT NULL,
        state TEXT NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL,
        note TEXT NOT NULL DEFAULT '', began INTEGER NOT NULL, changed INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE message (
        id BLOB PRIMARY KEY, trade_id BLOB NOT NULL, sender BLOB NOT NULL,
        recipient BLOB NOT NULL, seq INTEGER NOT NULL, kind INTEGER NOT NULL, raw BLOB NOT NULL,
        number INTEGER NOT NULL UNIQUE, undelivered INTEGER NOT NULL,
        UNIQUE (trade_id, sender, recipient, seq)
    ) STRICT;
    CREATE INDEX message_trade ON message (trade_id, number);
    CREATE INDEX message_outbox ON message (recipient, number) WHERE undelivered = 1;
    CREATE TABLE split (
        trade_id BLOB PRIMARY KEY, buyer_sat INTEGER NOT NULL, seller_sat INTEGER NOT NULL,
        arbiter_sat INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE arbiter_record (
        id BLOB PRIMARY KEY, raw BLOB NOT NULL, outpoint BLOB NOT NULL, weight INTEGER NOT NULL,
        seen_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE declared_coin (
        outpoint BLOB PRIMARY KEY, trade_id BLOB NOT NULL
    ) STRICT;
    CREATE TABLE spare_script (
        script BLOB PRIMARY KEY
    ) STRICT
    """,
    """
    CREATE TABLE trade_record (
        trade_id BLOB NOT NULL, id BLOB NOT NULL, PRIMARY KEY (trade_id, id)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE message_time (
        id BLOB PRIMARY KEY, at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    DELETE FROM arbiter_record;
    ALTER TABLE arbiter_record DROP COLUMN weight
    """,
    """
    CREATE TABLE child (
        parent BLOB PRIMARY KEY, raw BLOB NOT NULL, rate INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE lost_data (
        one INTEGER PRIMARY KEY CHECK (one = 1), tip INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE doubt (trade_id BLOB PRIMARY KEY) STRICT
    """,
)

_STATES: Final = {
    kind.__name__: kind
    for kind in vars(model).values()
    if isinstance(kind, type) and issubclass(kind, State) and kind not in (State, model.Payable)
}


@dataclass(frozen=True, slots=True)
class Row:
    """One trade as it is saved."""

    trade_id: bytes
    role: str
    terms: bytes
    own: bytes
    state: State
    note: str
    began: int
    changed: int


def _parsed(raw: bytes, network: Network) -> Message:
    """Parse and verify a kept message: small ones once, for each step reads its whole trade."""
    return _remembered(raw, network) if len(raw) <= SMALL else Message.from_wire(raw, network)


@lru_cache(maxsize=4096)
def _remembered(raw: bytes, network: Network) -> Message:
    return Message.from_wire(raw, network)


def dump_state(state: State) -> tuple[str, int, bytes]:
    """Return a state's name, version and canonical fields."""
    values = tuple(getattr(state, f.name) for f in fields(state))
    return type(state).__name__, state.version, wire.pack(values)


def load_state(
    name: str, version: int, body: bytes, known: Mapping[str, type[State]] = _STATES
) -> State:
    """Return the state that was saved. Raises StorageFault for an unknown or damaged one."""
    kind = known.get(name)
    if kind is None or version != kind.version:
        raise StorageFault(f"the journal holds state {name} version {version}, unknown here")
    types = [f.type for f in fields(kind)]
    try:
        values: tuple[Any, ...] = wire.unpack("state", body, limit=MAX_STATE)
    except InvalidRecord as error:
        raise StorageFault(f"the journal's state {name} is damaged: {error}") from None
    if [type(v) for v in values] != types:
        raise StorageFault(f"the journal's state {name} is damaged: its fields are of other types")
    return kind(*values)


class Journal(Outbox):
    """The tables; every write belongs inside the caller's `Database.transaction`."""

    def __init__(
        self,
        database: Database,
        network: Network,
        shelf: Shelf | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(database)
        self._network = network
        self._shelf = shelf
        self._clock = clock
        database.migrate("trades", _SCRIPTS)
        self.roll = Roll(database, network)
        self.broken = BrokenDraws(database, network)
        self.proofs = Proofs(database, network)

    # -- trades

    def begin(
        self, trade_id: bytes, role: str, state: State, terms: bytes, own: bytes, now: int
    ) -> None:
        """Write a new trade or case. Raises LocalFault if it exists."""
        if self.row(trade_id):
            raise LocalFault("this trade exists already")
        self.database.run(
            "INSERT INTO trade (trade_id, role, terms, own, state, version, body, began, changed)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            trade_id,
            role,
            terms,
            own,
            *dump_state(state),
            now,
            now,
        )

    def forget_refused(self, keep: int, anchored_before: int) -> None:
        """Forget TAKEs that were refused at once, but the newest: anybody can send many.

        Only those whose anchor lies before that height: sent again, they are too old to be
        answered by a signature, so nobody can have us sign two messages of one number.
        """
        rows = self.database.all(
            "SELECT m.trade_id, m.raw FROM message AS m JOIN trade USING (trade_id)"
            " WHERE role = ? AND own = x'' AND m.kind = ? ORDER BY number DESC LIMIT -1 OFFSET ?",
            *(TRADER, int(Kind.TAKE), keep),
        )
        for row in rows:
            take = Take.from_wire(_parsed(row["raw"], self._network).payload)
            if take.anchor_h < anchored_before:
                trade_id = row["trade_id"]
                ids = "SELECT id FROM message WHERE trade_id = ?"
                self.database.run(f"DELETE FROM message_time WHERE id IN ({ids})", trade_id)  # noqa: S608
                self.database.run("DELETE FROM message WHERE trade_id = ?", trade_id)
                self.database.run("DELETE FROM trade WHERE trade_id = ?", trade_id)

    def save(self, trade_id: bytes, state: State, now: int) -> None:
        """Write a trade's new state."""
        name, version, body = dump_state(state)
        self.database.run(
            "UPDATE trade SET state = ?, version = ?, body = ?, changed = ?, note = ''"
            " WHERE trade_id = ?",
            name,
            version,
            body,
            now,
            trade_id,
        )

    def note(self, trade_id: bytes, text: str) -> None:
        """Keep a remark for the user: why the trade does not go on by itself."""
        self.database.run("UPDATE trade SET note = ? WHERE trade_id = ?", text, trade_id)

    def row(self, trade_id: bytes) -> Row | None:
        """Return one trade or None."""
        rows = self._rows("WHERE trade_id = ?", trade_id)
        return rows[0] if rows else None

    def rows(self, role: str) -> list[Row]:
        """Return every trade in that role, newest first."""
        return self._rows("WHERE role = ? ORDER BY began DESC, rowid DESC", role)

    def count(self, *states: type[State]) -> int:
        """Return how many of one's trades are in these states, however many have ended."""
        names = [s.__name__ for s in states]
        marks = ", ".join("?" * len(names))
        row = self.database.one(
            f"SELECT count(*) AS n FROM trade WHERE role = ? AND state IN ({marks})",  # noqa: S608
            TRADER,
            *names,
        )
        return int(row["n"]) if row else 0

    def _rows(self, where: str, *args: object) -> list[Row]:
        return [
            Row(
                r["trade_id"],
                r["role"],
                r["terms"],
                r["own"],
                load_state(r["state"], r["version"], r["body"]),
                r["note"],
                r["began"],
                r["changed"],
            )
            for r in self.database.all(f"SELECT * FROM trade {where}", *args)  # noqa: S608
        ]

    # -- messages

    def add(self, message: Message, *, mine: bool) -> None:
        """Keep a message; ours goes to the outbox. Evidence lies sealed (store_evidence)."""
        raw = self._evidence().row(message) if message.kind is Kind.EVIDENCE else message.wire()
        self.database.run(
            "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?,"
            " (SELECT coalesce(max(number), 0) + 1 FROM message), ?)",
            message.id,
            message.trade,
            message.sender,
            message.recipient,
            message.seq,
            int(message.kind),
            raw,
            int(mine),
        )
        if self._clock is not None:
            now = self._clock.now()
            self.database.run("INSERT INTO message_time VALUES (?, ?)", message.id, now)

    def messages(self, trade_id: bytes) -> tuple[Message, ...]:
        """Return a trade's messages in the order in which we sent and applied them.

        EVIDENCE comes cut: header and head, without the data (`whole`).
        """
        rows = self.database.all(
            "SELECT id, kind, CASE WHEN kind = ? THEN x'' ELSE raw END AS raw"
            " FROM message WHERE trade_id = ? ORDER BY number",
            int(Kind.EVIDENCE),
            trade_id,
        )
        return tuple(
            self._cut(r["id"]) if r["kind"] == Kind.EVIDENCE else _parsed(r["raw"], self._network)
            for r in rows
        )

    def whole(self, message: Message) -> Message:
        """Return a cut message with its payload. Raises StorageFault if that is damaged."""
        if not message.cut_hash:
            return message
        return self._evidence().whole(message.id, self._raw(message.id))

    def times(self, trade_id: bytes) -> dict[bytes, int]:
        """Return when, by this node's clock, each message of a trade was sent or applied."""
        rows = self.database.all(
            "SELECT t.id, t.at FROM message_time t JOIN message m ON m.id = t.id"
            " WHERE m.trade_id = ?",
            trade_id,
        )
        return {r["id"]: r["at"] for r in rows}

    def _cut(self, message_id: bytes) -> Message:
        shelf = self._evidence()
        return shelf.remembered(message_id) or shelf.cut(message_id, self._raw(message_id))

    def _raw(self, message_id: bytes) -> bytes:
        row = self.database.one("SELECT raw FROM message WHERE id = ?", message_id)
        if row is None:
            raise StorageFault(f"the journal has lost message {message_id.hex()[:16]}")
        return bytes(row["raw"])

    def _evidence(self) -> Shelf:
        if self._shelf is None:
            raise LocalFault("this node keeps no evidence: it has no key for it")
        return self._shelf

    def known(self, message_id: bytes) -> bool:
        """Tell whether a message was kept before."""
        return self.database.one("SELECT 1 FROM message WHERE id = ?", message_id) is not None

    def at(self, place: Message) -> Message | None:
        """Return what is kept under the number of a message in its chain, or None."""
        row = self.database.one(
            "SELECT id, kind, raw FROM message"
            " WHERE trade_id = ? AND sender = ? AND recipient = ? AND seq = ?",
            *(place.trade, place.sender, place.recipient, place.seq),
        )
        if row is None:
            return None
        if row["kind"] == Kind.EVIDENCE:
            return self._cut(row["id"])
        return _parsed(row["raw"], self._network)

    def travels(self, message_id: bytes, kind: int, raw: bytes) -> bytes:
        """Return a row's bytes as they go to a peer. Raises StorageFault for damage."""
        if kind != Kind.EVIDENCE:
            return raw
        return self._evidence().whole(message_id, raw).wire()

    def draws_of(self, me: bytes) -> int:
        """Return how many draws we have begun: TAKEs and DRAWs that we signed, and our jump."""
        row = self.database.one(
            "SELECT count(*) AS n FROM message WHERE sender = ? AND kind IN (?, ?)",
            me,
            int(Kind.TAKE),
            int(Kind.DRAW),
        )
        return self.broken.jump() + (int(row["n"]) if row else 0)

    # -- splits and coins

    def split(self, trade_id: bytes) -> Split | None:
        """Return the split that this node's key first-signs, or None."""
        row = self.database.one("SELECT * FROM split WHERE trade_id = ?", trade_id)
        return Split(row["buyer_sat"], row["seller_sat"], row["arbiter_sat"]) if row else None

    def commit_split(self, trade_id: bytes, split: Split, *, conceding: bool = False) -> None:
        """R1: write the row before the first signature. Raises LocalFault for another split.

        `conceding`: a node that has lost data gives up all that is at stake, whatever it signed
        before; no loss follows for the other side (docs/trade.md, Toxic).
        """
        known = self.split(trade_id)
        if conceding and known is not None:
            self.database.run("DELETE FROM split WHERE trade_id = ?", trade_id)
            known = None
        if known is not None and known != split:
            raise LocalFault("this key has first-signed another split of this trade")
        if known is None:
            self.database.run("INSERT INTO split VALUES (?, ?, ?, ?)", trade_id, *split.array())

    def child(self, parent: bytes) -> tuple[bytes, int] | None:
        """Return the transaction that pays for this parent, raw, and its rate; or None."""
        row = self.database.one("SELECT raw, rate FROM child WHERE parent = ?", parent)
        return (row["raw"], int(row["rate"])) if row else None

    def keep_child(self, parent: bytes, raw: bytes, rate: int) -> None:
        """Keep it before it is broadcast; one of a higher rate replaces it."""
        self.database.run("INSERT OR REPLACE INTO child VALUES (?, ?, ?)", parent, raw, rate)

    def doubted(self, trade_id: bytes) -> bool:
        """Tell whether a peer has spoken of a message of ours that is not here."""
        return self.database.one("SELECT 1 FROM doubt WHERE trade_id = ?", trade_id) is not None

    def mark_doubted(self, trade_id: bytes) -> None:
        """Remember that a peer has."""
        self.database.run("INSERT OR IGNORE INTO doubt VALUES (?)", trade_id)

    def clear_doubt(self, trade_id: bytes) -> None:
        """Forget it: the peer went on from what is here."""
        self.database.run("DELETE FROM doubt WHERE trade_id = ?", trade_id)

    def lost_at(self) -> int:
        """Return our tip when this node last found that it has lost data, or 0."""
        row = self.database.one("SELECT tip FROM lost_data")
        return int(row["tip"]) if row else 0

    def mark_lost(self, tip: int) -> None:
        """Remember, for good, that what was said before this height may be lost."""
        self.database.run("INSERT OR REPLACE INTO lost_data VALUES (1, ?)", tip)

    def bind_coins(self, trade_id: bytes, outpoints: Iterable[Outpoint]) -> None:
        """Remember the coins that a peer declared in a living trade."""
        for outpoint in outpoints:
            self.database.run(
                "INSERT OR IGNORE INTO declared_coin VALUES (?, ?)", outpoint.wire(), trade_id
            )

    def free_coins(self, trade_id: bytes) -> None:
        """Forget the peer's coins of a trade that has ended."""
        self.database.run("DELETE FROM declared_coin WHERE trade_id = ?", trade_id)

    def bound_elsewhere(self, trade_id: bytes, outpoint: Outpoint) -> bool:
        """Tell whether a coin is declared in another living trade."""
        row = self.database.one(
            "SELECT trade_id FROM declared_coin WHERE outpoint = ?", outpoint.wire()
        )
        return row is not None and row["trade_id"] != trade_id

    def spare_script(self, script: bytes) -> None:
        """Keep the payout script of a trade that came to nothing, to be used again.

        Else a flood of TAKEs would push our addresses beyond what a restored wallet looks at.
        """
        self.database.run("INSERT OR IGNORE INTO spare_script VALUES (?)", script)

    def take_spare_script(self) -> bytes | None:
        """Return a payout script to use again, once, or None."""
        row = self.database.one("SELECT script FROM spare_script LIMIT 1")
        if row is None:
            return None
        self.database.run("DELETE FROM spare_script WHERE script = ?", row["script"])
        return bytes(row["script"])


def terms_of(row: Row) -> Terms:
    """Return a trader's saved terms."""
    return Terms.from_array("terms", wire.unpack("terms", row.terms, limit=1024))


def own_of(row: Row) -> Own:
    """Return what a trader brought to the trade."""
    return Own.from_array("own", wire.unpack("own", row.own, limit=1 << 20))
