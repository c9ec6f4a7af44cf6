"""The table of the book: what it holds of an offer, and which of two versions stays."""

import hashlib
from typing import Any, Final

from orderbook.offer import MAX_LIFE_S, Offer, Side

WITHDRAWN, FIXED, FLOATING = 0, 1, 2  # the column `priced`
LIVE: Final = "+expires_at > ? AND +expires_at <= ?"  # the sign: never by the index of expiry
OVER: Final = "(expires_at <= ? OR expires_at > ?)"  # by that index, the same arguments
SCRIPTS: Final = (
    """
    CREATE TABLE book_offer (
        currency TEXT NOT NULL, place BLOB NOT NULL, hash BLOB NOT NULL, seq INTEGER NOT NULL,
        expires_at INTEGER NOT NULL, first_seen INTEGER NOT NULL, side INTEGER NOT NULL,
        priced INTEGER NOT NULL, best INTEGER NOT NULL, min_sat INTEGER NOT NULL,
        max_sat INTEGER NOT NULL, methods TEXT NOT NULL, countries TEXT NOT NULL,
        languages TEXT NOT NULL, alike BLOB NOT NULL, offer_id BLOB NOT NULL,
        offer_hash BLOB NOT NULL, raw BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX book_place ON book_offer (currency, place);
    CREATE INDEX book_maker ON book_offer (place, expires_at);
    CREATE INDEX book_best ON book_offer (currency, side, priced, best, first_seen, place);
    CREATE INDEX book_hash ON book_offer (hash);
    CREATE INDEX book_expiry ON book_offer (expires_at);
    CREATE INDEX book_id ON book_offer (offer_id);
    CREATE INDEX book_name ON book_offer (offer_hash);
    CREATE TABLE book_market (
        currency TEXT PRIMARY KEY, asked_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE book_block (
        node_id BLOB PRIMARY KEY, note TEXT NOT NULL, at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
)
COLUMNS: Final = (
    *("hash", "seq", "expires_at", "first_seen", "side", "priced", "best", "min_sat"),
    *("max_sat", "methods", "countries", "languages", "alike", "offer_id", "offer_hash", "raw"),
    *("currency", "place"),
)
INSERT: Final = (
    f"INSERT OR IGNORE INTO book_offer ({', '.join(COLUMNS)}) "  # noqa: S608 - constants
    f"VALUES ({', '.join('?' * len(COLUMNS))})"
)
UPDATE: Final = (
    f"UPDATE book_offer SET {', '.join(f'{name} = ?' for name in COLUMNS[:3])}, "  # noqa: S608
    f"first_seen = CASE WHEN {OVER} THEN ? ELSE first_seen END, "
    f"{', '.join(f'{name} = ?' for name in COLUMNS[4:-2])} "
    f"WHERE currency = ? AND place = ? "
    f"AND ({OVER} OR seq < ? OR (seq = ? AND hash > ?))"
)


def live(now: int) -> tuple[int, int]:
    """Return the arguments of LIVE: what expires later than an offer may is not shown either."""
    return now, now + MAX_LIFE_S


def values(offer: Offer, raw: bytes, now: int) -> tuple[Any, ...]:
    """Return an offer's columns, in the order of COLUMNS."""
    priced = FLOATING if offer.floating else FIXED
    best = offer.margin_bp if offer.floating else offer.price
    return (
        hashlib.sha256(raw).digest(),
        *(offer.seq, offer.expires_at, now),
        *(int(offer.side), WITHDRAWN if offer.withdrawn else priced),
        best if offer.side is Side.SELL else -best,
        *(offer.min_sat, offer.max_sat),
        *(_words(offer.methods), _words(offer.countries), _words(offer.languages)),
        offer.alike,
        *(offer.offer_id, offer.hash, raw, offer.currency, offer.place),
    )


def _words(names: tuple[str, ...]) -> str:
    return f",{','.join(names)}," if names else ""
