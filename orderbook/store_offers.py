"""My own offers on disk: their terms, state and every version still good for a TAKE.

`seq` never falls, over restarts too, so a version once published cannot come back. A row
whose `acked_seq` lags behind `seq` is still to be published: what a crash left undone.
"""

import sqlite3
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from orderbook.offer import MAX_BYTES, Offer
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.networks import Network
from p2pnode.base.store import Database

MAX_ANSWER_BP: Final = 5000
OTHERWISE: Final = ("ask", "refuse")
GRACE_S: Final = 3600  # a version is kept this long after it has expired
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
)


class OfferState(StrEnum):
    """What its maker does with an own offer: shows it, took it back, or trades on it."""

    ENABLED = "enabled"
    WITHDRAWN = "withdrawn"
    RESERVED = "reserved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """How its maker answers who proposes another price; kept here and never published.

    Basis points to the maker's cost: sums within `accept_bp` of the price are agreed to,
    those within `counter_bp` answered with the sum at `accept_bp`; for the rest he is asked,
    or they are refused. Construction raises InvalidRecord.
    """

    accept_bp: int = 0
    counter_bp: int = 0
    otherwise: str = "ask"

    def __post_init__(self) -> None:
        for name in ("accept_bp", "counter_bp"):
            wire.within(name, getattr(self, name), 0, MAX_ANSWER_BP)
        if self.otherwise not in OTHERWISE:
            raise InvalidRecord("otherwise", f"is none of {', '.join(OTHERWISE)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnOffer:
    """An own offer. `offer` holds its terms at its current seq, amounts included.

    `acked` is how many holders took the current version; `account_id` the account that
    its maker trades with; `trade_id` the trade that reserved it. Times in unix seconds.
    """

    offer: Offer
    state: OfferState
    account_id: bytes
    trade_id: bytes | None = None
    created_at: int
    signed_at: int
    acked_seq: int = -1
    acked: int = 0
    answers: Answers = Answers()

    @property
    def current(self) -> Offer:
        """Return the version to publish: a withdrawal unless the offer is enabled."""
        return self.offer if self.state is OfferState.ENABLED else self.offer.withdrawal()

    @property
    def unpublished(self) -> bool:
        """Tell whether no holder has taken the current version yet."""
        return self.acked_seq < self.offer.seq

    def renewed(self, now: int, life_s: int) -> "OwnOffer":
        """Return the next version: seq one higher, a new expiry, no holder yet."""
        seq = max(now, self.offer.seq + 1)
        offer = replace(self.offer, seq=seq, expires_at=now + life_s)
        return replace(self, offer=offer, signed_at=now, acked=0)


class OfferStore:
    """The room "offers" of node.sqlite."""

    def __init__(self, database: Database, network: Network) -> None:
        self.database, self._network = database, network
        database.migrate("offers", _SCRIPTS)

    def save(self, own: OwnOffer) -> None:
        """Write an own offer and, if others may take it, the version they will name."""
        values = (
            wire.pack(own.offer.body()),
            own.state.value,
            own.account_id,
            own.trade_id,
            own.signed_at,
            own.acked_seq,
            own.acked,
            own.answers.accept_bp,
            own.answers.counter_bp,
            own.answers.otherwise,
        )
        with self.database.transaction():
            self.database.run(
                "INSERT INTO offers_own (body, state, account_id, trade_id, signed_at, acked_seq, "
                "acked, accept_bp, counter_bp, otherwise, offer_id, created_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (offer_id) DO UPDATE SET body = excluded.body, "
                "state = excluded.state, account_id = excluded.account_id, "
                "trade_id = excluded.trade_id, signed_at = excluded.signed_at, "
                "acked_seq = excluded.acked_seq, acked = excluded.acked, "
                "accept_bp = excluded.accept_bp, counter_bp = excluded.counter_bp, "
                "otherwise = excluded.otherwise",
                *values,
                own.offer.offer_id,
                own.created_at,
            )
            if own.state is OfferState.ENABLED:
                self.database.run(
                    "INSERT OR IGNORE INTO offers_version VALUES (?, ?, ?, ?)",
                    own.offer.hash,
                    own.offer.offer_id,
                    values[0],
                    own.offer.expires_at,
                )

    def next_seq(self, now: int) -> int:
        """Return a sequence above all that this node has signed, never below `now`."""
        return max([now, *(own.offer.seq + 1 for own in self.all())])

    def acknowledge(self, offer_id: bytes, seq: int, acked: int) -> None:
        """Note that `acked` holders took version `seq`, unless a newer one came meanwhile."""
        with self.database.transaction():
            own = self.get(offer_id)
            if own and own.offer.seq == seq:
                self.save(replace(own, acked_seq=seq, acked=acked))

    def all(self) -> tuple[OwnOffer, ...]:
        """Return every own offer, oldest first."""
        rows = self.database.all("SELECT * FROM offers_own ORDER BY created_at, rowid")
        return tuple(self._own(row) for row in rows)

    def get(self, offer_id: bytes) -> OwnOffer | None:
        """Return one own offer or None."""
        row = self.database.one("SELECT * FROM offers_own WHERE offer_id = ?", offer_id)
        return self._own(row) if row else None

    def version(self, offer_hash: bytes) -> Offer | None:
        """Return the version once published under this hash, or None."""
        row = self.database.one("SELECT body FROM offers_version WHERE offer_hash = ?", offer_hash)
        return self._offer(row["body"]) if row else None

    def prune(self, now: int) -> None:
        """Forget the versions that nobody can take any more."""
        with self.database.transaction():
            self.database.run("DELETE FROM offers_version WHERE expires_at < ?", now - GRACE_S)

    def _own(self, row: sqlite3.Row) -> OwnOffer:
        return OwnOffer(
            offer=self._offer(row["body"]),
            state=OfferState(row["state"]),
            account_id=row["account_id"],
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
        )

    def _offer(self, body: bytes) -> Offer:
        return Offer.from_body(wire.unpack("offer", body, limit=MAX_BYTES), self._network)
