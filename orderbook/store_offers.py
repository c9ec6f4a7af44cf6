"""My own offers on disk: their terms, state and every version still good for a TAKE.

`seq` never falls, over restarts too, so a version once published cannot come back. A row
whose `acked_seq` lags behind `seq` is still to be published: what a crash left undone.
Work that was found is kept for its day, so that neither an edit nor a restart repeats it.
"""

import logging
import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from orderbook.offer import MAX_BYTES, Offer
from orderbook.own import Answers, OfferState, OwnOffer, Triggers
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.networks import Network
from p2pnode.base.store import Database

log: Final = logging.getLogger(__name__)

GRACE_S: Final = 3600  # a version is kept this long after it has expired
KEPT_OVER: Final = 200  # withdrawn offers, and those whose trade has them, beyond the newest
_SCRIPTS: Final = (
    """
    CREATE TABLE offers_own (
        offer_id BLOB PRIMARY KEY,
        body BLOB NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('enabled', 'withdrawn', 'reserved')),
        account_id BLOB NOT NULL,
        trade_id BLOB,
        created_at INTEGER NOT NULL,
        signed_at INTEGER NOT NULL,
        acked_seq INTEGER NOT NULL,
        acked INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE offers_version (
        offer_hash BLOB PRIMARY KEY,
        offer_id BLOB NOT NULL REFERENCES offers_own (offer_id),
        body BLOB NOT NULL,
        expires_at INTEGER NOT NULL
    ) STRICT
    """,
    """
    ALTER TABLE offers_own ADD COLUMN accept_bp INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE offers_own ADD COLUMN counter_bp INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE offers_own ADD COLUMN otherwise TEXT NOT NULL DEFAULT 'ask'
    """,
    # Bodies written before this one have no slot: no node reads them any more.
    """
    DROP TABLE offers_version;
    DROP TABLE offers_own;
    CREATE TABLE offers_own (
        offer_id BLOB PRIMARY KEY,
        body BLOB NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('enabled', 'disabled', 'reserved', 'withdrawn')),
        why TEXT NOT NULL,
        trade_id BLOB,
        created_at INTEGER NOT NULL,
        signed_at INTEGER NOT NULL,
        ends_at INTEGER NOT NULL,
        acked_seq INTEGER NOT NULL,
        acked INTEGER NOT NULL,
        accept_bp INTEGER NOT NULL,
        counter_bp INTEGER NOT NULL,
        otherwise TEXT NOT NULL,
        below INTEGER NOT NULL,
        above INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE offers_account (
        offer_id BLOB NOT NULL REFERENCES offers_own (offer_id) ON DELETE CASCADE,
        method TEXT NOT NULL,
        account_id BLOB NOT NULL,
        PRIMARY KEY (offer_id, method)
    ) STRICT;
    CREATE TABLE offers_version (
        offer_hash BLOB PRIMARY KEY,
        offer_id BLOB NOT NULL REFERENCES offers_own (offer_id) ON DELETE CASCADE,
        body BLOB NOT NULL,
        expires_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE offers_work (
        currency TEXT NOT NULL,
        slot INTEGER NOT NULL,
        day INTEGER NOT NULL,
        work INTEGER NOT NULL,
        PRIMARY KEY (currency, slot, day)
    ) STRICT;
    CREATE TABLE offers_seq (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL) STRICT
    """,
)
_SAVE: Final = """
    INSERT INTO offers_own (offer_id, body, state, why, trade_id, created_at, signed_at, ends_at,
        acked_seq, acked, accept_bp, counter_bp, otherwise, below, above)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (offer_id) DO UPDATE SET body = excluded.body, state = excluded.state,
        why = excluded.why, trade_id = excluded.trade_id, signed_at = excluded.signed_at,
        ends_at = excluded.ends_at, acked_seq = excluded.acked_seq, acked = excluded.acked,
        accept_bp = excluded.accept_bp, counter_bp = excluded.counter_bp,
        otherwise = excluded.otherwise, below = excluded.below, above = excluded.above
    """


class OfferStore:
    """The room "offers" of node.sqlite."""

    def __init__(self, database: Database, network: Network) -> None:
        self.database, self._network = database, network
        database.migrate("offers", _SCRIPTS)

    def save(self, own: OwnOffer) -> None:
        """Write an own offer and, if others may take it, the version they will name."""
        body = wire.pack(own.offer.body())
        with self.database.transaction():
            self.database.run(
                _SAVE,
                own.offer_id,
                body,
                own.state.value,
                own.why,
                own.trade_id,
                own.created_at,
                own.signed_at,
                own.ends_at,
                own.acked_seq,
                own.acked,
                own.answers.accept_bp,
                own.answers.counter_bp,
                own.answers.otherwise,
                own.triggers.below,
                own.triggers.above,
            )
            self.database.run("DELETE FROM offers_account WHERE offer_id = ?", own.offer_id)
            for method, account_id in own.accounts.items():
                self.database.run(
                    "INSERT INTO offers_account VALUES (?, ?, ?)", own.offer_id, method, account_id
                )
            if own.enabled:
                self.database.run(
                    "INSERT OR IGNORE INTO offers_version VALUES (?, ?, ?, ?)",
                    own.offer.hash,
                    own.offer_id,
                    body,
                    own.offer.expires_at,
                )

    def next_seq(self, now: int) -> int:
        """Draw a sequence above all that this node has signed, never below `now`.

        Inside the transaction that saves the version: two versions never get one.
        """
        row = self.database.one("SELECT seq FROM offers_seq")
        seq = max(now, row["seq"] + 1 if row else 0)
        self.database.run(
            "INSERT INTO offers_seq VALUES (1, ?) ON CONFLICT (one) DO UPDATE SET seq = ?", seq, seq
        )
        return seq

    def acknowledge(self, offer_id: bytes, seq: int, acked: int) -> None:
        """Note that `acked` holders took version `seq`, unless a newer one came meanwhile."""
        with self.database.transaction():
            own = self.get(offer_id)
            if own and own.offer.seq == seq:
                self.save(replace(own, acked_seq=seq, acked=acked))

    def all(self) -> tuple[OwnOffer, ...]:
        """Return every own offer, oldest first."""
        return self._found("SELECT * FROM offers_own ORDER BY created_at, rowid")

    def active(self, since: int) -> tuple[OwnOffer, ...]:
        """Return those that are enabled or disabled, and those over that were signed since."""
        return self._found(
            "SELECT * FROM offers_own WHERE state IN ('enabled', 'disabled') OR signed_at > ? "
            "ORDER BY created_at, rowid",
            since,
        )

    def living(self) -> tuple[OwnOffer, ...]:
        """Return those that are enabled or disabled, oldest first."""
        return self._found(
            "SELECT * FROM offers_own WHERE state IN ('enabled', 'disabled') "
            "ORDER BY created_at, rowid"
        )

    def get(self, offer_id: bytes) -> OwnOffer | None:
        """Return one own offer or None."""
        found = self._found("SELECT * FROM offers_own WHERE offer_id = ?", offer_id)
        return found[0] if found else None

    def of_trade(self, trade_id: bytes) -> tuple[OwnOffer, ...]:
        """Return the own offers that a trade has reserved."""
        return self._found("SELECT * FROM offers_own WHERE trade_id = ?", trade_id)

    def version(self, offer_hash: bytes) -> Offer | None:
        """Return the version once published under this hash, or None."""
        row = self.database.one("SELECT body FROM offers_version WHERE offer_hash = ?", offer_hash)
        return self._offer(row["body"]) if row else None

    def forget_versions(self, offer_id: bytes) -> None:
        """Let nobody name an earlier version any more: the terms have changed."""
        self.database.run("DELETE FROM offers_version WHERE offer_id = ?", offer_id)

    def work(self, currency: str, slot: int, day: int) -> int | None:
        """Return the work found for a slot of a market on a day, or None."""
        row = self.database.one(
            "SELECT work FROM offers_work WHERE currency = ? AND slot = ? AND day = ?",
            *(currency, slot, day),
        )
        return row["work"] if row else None

    def keep_work(self, currency: str, slot: int, day: int, work: int) -> None:
        """Keep a work that was found."""
        with self.database.transaction():
            self.database.run(
                "INSERT OR REPLACE INTO offers_work VALUES (?, ?, ?, ?)", currency, slot, day, work
            )

    def prune(self, now: int) -> None:
        """Forget versions that nobody can take any more, past work, and offers long over."""
        with self.database.transaction():
            self.database.run("DELETE FROM offers_version WHERE expires_at < ?", now - GRACE_S)
            self.database.run("DELETE FROM offers_work WHERE day < ?", (now - GRACE_S) // 86_400)
            self.database.run(
                "DELETE FROM offers_own WHERE offer_id IN (SELECT offer_id FROM offers_own "
                "WHERE state IN ('withdrawn', 'reserved') AND signed_at < ? "
                "ORDER BY created_at DESC, rowid DESC LIMIT -1 OFFSET ?)",
                *(now - 30 * 86_400, KEPT_OVER),
            )

    def _found(self, sql: str, *args: object) -> tuple[OwnOffer, ...]:
        found = []
        for row in self.database.all(sql, *args):
            try:
                found.append(self._own(row, self._accounts(row["offer_id"])))
            except InvalidRecord as error:  # a currency that is none any more: nobody reads it
                log.warning("own offer %s is left alone: %s", row["offer_id"].hex()[:6], error)
        return tuple(found)

    def _accounts(self, offer_id: bytes) -> Iterable[sqlite3.Row]:
        return self.database.all(
            "SELECT method, account_id FROM offers_account WHERE offer_id = ? ORDER BY method",
            offer_id,
        )

    def _own(self, row: sqlite3.Row, accounts: Iterable[sqlite3.Row]) -> OwnOffer:
        return OwnOffer(
            offer=self._offer(row["body"]),
            state=OfferState(row["state"]),
            accounts={a["method"]: a["account_id"] for a in accounts},
            why=row["why"],
            trade_id=row["trade_id"],
            created_at=row["created_at"],
            signed_at=row["signed_at"],
            acked_seq=row["acked_seq"],
            acked=row["acked"],
            answers=Answers(
                accept_bp=row["accept_bp"],
                counter_bp=row["counter_bp"],
                otherwise=row["otherwise"],
            ),
            triggers=Triggers(below=row["below"], above=row["above"]),
            ends_at=row["ends_at"],
        )

    def _offer(self, body: bytes) -> Offer:
        return Offer.from_body(wire.unpack("offer", body, limit=MAX_BYTES), self._network)
