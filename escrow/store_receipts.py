"""Receipts in node.sqlite: one's own whole, what peers have shown in short.

One's own are made again from the journal whenever they are lacking. Of a peer's, what was
verified once is kept (`escrow.proven`) and by which bytes, so that the same bytes cost nothing
when he shows them again: MAX_PER_NODE of one peer, MAX_SHOWN in all, and of who has not been
heard of for longest all is forgotten first. Everything is held in memory too: an order book
asks for thousands of makers' pasts at a time.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from escrow.model import Closed
from escrow.proven import Proven
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, StorageFault
from p2pnode.base.store import Database

MAX_PER_NODE: Final = 128
MAX_SHOWN: Final = 10_000
_MAX_PROVEN: Final = 1024  # bytes of one in short; it takes about 420

_SCRIPTS: Final = (
    """
    CREATE TABLE receipt_own (
        trade_id BLOB PRIMARY KEY, raw BLOB NOT NULL, proven BLOB NOT NULL
    ) STRICT;
    CREATE TABLE receipt_shown (
        node_id BLOB NOT NULL, trade_id BLOB NOT NULL, hash BLOB NOT NULL, proven BLOB NOT NULL,
        PRIMARY KEY (node_id, trade_id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE receipt_peer (
        node_id BLOB PRIMARY KEY, used_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
)


@dataclass(slots=True)
class Peer:
    """What one peer has shown: by trade id, in short, with the hash of its bytes."""

    used_at: int
    shown: dict[bytes, tuple[bytes, Proven]] = field(default_factory=dict)


class ReceiptStore:
    """The room "receipts". `version` rises with each change."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.migrate("receipts", _SCRIPTS)
        self.version = 0
        self._own: dict[bytes, Proven] = {}
        self._own_parties: set[bytes] = set()
        self._peers: dict[bytes, Peer] = {}
        for row in database.all("SELECT trade_id, proven FROM receipt_own"):
            self._mine(_proven(row["proven"]))
        for row in database.all("SELECT node_id, used_at FROM receipt_peer"):
            self._peers[row["node_id"]] = Peer(row["used_at"])
        for row in database.all("SELECT * FROM receipt_shown"):
            peer = self._peers.setdefault(row["node_id"], Peer(0))
            peer.shown[row["trade_id"]] = (row["hash"], _proven(row["proven"]))

    # -- one's own

    def own(self) -> tuple[Proven, ...]:
        """Return one's own trades, as their receipts prove them."""
        return tuple(self._own.values())

    def own_raw(self, trade_id: bytes) -> bytes:
        """Return the bytes of one's own receipt, empty without one."""
        row = self._database.one("SELECT raw FROM receipt_own WHERE trade_id = ?", trade_id)
        return bytes(row["raw"]) if row else b""

    def keep_own(self, raw: bytes, proven: Proven) -> None:
        """Keep one's own receipt, in place of an older one of the same trade."""
        with self._database.transaction():
            self._database.run(
                "INSERT OR REPLACE INTO receipt_own VALUES (?, ?, ?)",
                *(proven.trade_id, raw, wire.pack(proven.array())),
            )
        self._mine(proven)
        self.version += 1

    def _mine(self, proven: Proven) -> None:
        self._own[proven.trade_id] = proven
        self._own_parties.update(proven.parties)

    def knows(self, node_id: bytes) -> bool:
        """Tell whether anything is held of this node's past, or of our own: a cheap question."""
        return node_id in self._peers or node_id in self._own_parties

    def closed(self) -> list[bytes]:
        """Return the ids of one's own trades that have ended by a payout."""
        rows = self._database.all(
            "SELECT trade_id FROM trade WHERE role = 'trader' AND state = ? AND own != x''",
            Closed.__name__,
        )
        return [r["trade_id"] for r in rows]

    def met(self) -> frozenset[bytes]:
        """Return whom we know by trades, talks or receipts: arbiters too, and ourselves."""
        rows = self._database.all("SELECT DISTINCT sender FROM message")
        return frozenset((*(bytes(r["sender"]) for r in rows), *self._peers))

    def trades_with(self, peer: bytes, ended: Iterable[str]) -> bool:
        """Tell whether a trade of ours with that peer is in none of these states."""
        names = list(ended)
        marks = ", ".join("?" * len(names))
        row = self._database.one(
            "SELECT 1 FROM trade WHERE role = 'trader' AND own != x''"  # noqa: S608
            f" AND state NOT IN ({marks}) AND trade_id IN"
            " (SELECT trade_id FROM message WHERE sender = ? OR recipient = ?) LIMIT 1",
            *(*names, peer, peer),
        )
        return row is not None

    # -- what peers have shown

    def peers(self) -> tuple[bytes, ...]:
        """Return who has shown receipts."""
        return tuple(node_id for node_id, peer in self._peers.items() if peer.shown)

    def shown(self, node_id: bytes) -> tuple[Proven, ...]:
        """Return what a peer has shown."""
        peer = self._peers.get(node_id)
        return tuple(proven for _, proven in peer.shown.values()) if peer else ()

    def by_hash(self, node_id: bytes, hashed: bytes) -> Proven | None:
        """Return what a peer has shown by these very bytes before."""
        peer = self._peers.get(node_id)
        found = (p for known, p in peer.shown.values() if known == hashed) if peer else iter(())
        return next(found, None)

    def keep(self, node_id: bytes, found: Iterable[tuple[bytes, Proven]], now: int) -> None:
        """Keep what a peer has shown, with the hashes of its bytes; one of a trade, the last."""
        with self._database.transaction():
            peer = self._peers.setdefault(node_id, Peer(now))
            for hashed, proven in found:
                if len(peer.shown) >= MAX_PER_NODE and proven.trade_id not in peer.shown:
                    continue
                if peer.shown.get(proven.trade_id) != (hashed, proven):
                    peer.shown[proven.trade_id] = (hashed, proven)
                    self._database.run(
                        "INSERT OR REPLACE INTO receipt_shown VALUES (?, ?, ?, ?)",
                        *(node_id, proven.trade_id, hashed, wire.pack(proven.array())),
                    )
                    self.version += 1
            self._use(node_id, peer, now)
            self._make_room(node_id)

    def _use(self, node_id: bytes, peer: Peer, now: int) -> None:
        if not peer.shown:
            self._peers.pop(node_id, None)
            return
        peer.used_at = now
        self._database.run("INSERT OR REPLACE INTO receipt_peer VALUES (?, ?)", node_id, now)

    def _make_room(self, besides: bytes) -> None:
        held = sum(len(p.shown) for p in self._peers.values())
        if held <= MAX_SHOWN:
            return
        for node_id, peer in sorted(self._peers.items(), key=lambda p: (p[1].used_at, p[0])):
            if held <= MAX_SHOWN:
                return
            if node_id != besides:
                held -= len(peer.shown)
                self._forget(node_id)

    def _forget(self, node_id: bytes) -> None:
        for table in ("receipt_shown", "receipt_peer"):
            self._database.run(f"DELETE FROM {table} WHERE node_id = ?", node_id)  # noqa: S608
        del self._peers[node_id]
        self.version += 1


def _proven(raw: bytes) -> Proven:
    try:
        return Proven.from_array(wire.unpack("proven", raw, limit=_MAX_PROVEN))
    except InvalidRecord as error:
        raise StorageFault(f"a kept receipt is damaged: {error}") from None
