"""Everybody's offers on disk, in the room "book" of book.sqlite: verified ones alone.

They come from hostile storage in any order and any number. Of one (currency, maker, slot)
the highest seq wins, of one seq the lower SHA-256; a withdrawal is held like any version
until it expires, so that nobody brings back the version before it. One maker fills no more
than his share; when all is full, the fullest markets give way, in them high slots first, then the
newest: whoever comes in numbers, and signs for longest, drives nobody out who was there. The
file can be made again from the network: whoever changes it changes what is listed, but a
damaged row is left out, and what a trade is made of (`matching`) is verified again.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from statistics import median_low
from typing import Any, Final

from orderbook import listing
from orderbook.book_table import FIXED, INSERT, LIVE, OVER, SCRIPTS, UPDATE, live, values
from orderbook.offer import Offer
from orderbook.query import Query, Row, reach
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.networks import Network
from p2pnode.base.ranges import Item
from p2pnode.base.store import Database

ROOM: Final = "book"
CAPACITY: Final = 40_000
PER_MAKER: Final = 64
FOLLOW_S: Final = 7 * 86_400  # a market asked for this long ago is kept up to date
MAX_NOTE: Final = 200  # bytes
MATCHES: Final = 100  # of one prefix that are verified again
MAKERS: Final = 5  # at least, before what they ask says what is usual
CHECKPOINT_PAGES: Final = 8000  # 32 MB of WAL, as for the records held for others


def level(counts: Iterable[int], room: int) -> int:
    """Return the most of each count that fits into `room` in all, the same for every one."""
    ordered = sorted(counts)
    for position, count in enumerate(ordered):
        equal = room // (len(ordered) - position)
        if count > equal:
            return equal
        room -= count
    return ordered[-1] if ordered else room


@dataclass(frozen=True, slots=True)
class Blocked:
    """A maker whose offers the user does not want to see."""

    node_id: bytes
    note: str
    at: int


class BookStore:
    """The offers of every market asked for, those of this node among them."""

    def __init__(
        self,
        database: Database,
        network: Network,
        *,
        capacity: int = CAPACITY,
        per_maker: int = PER_MAKER,
    ) -> None:
        self._db, self._network = database, network
        self._capacity, self._per_maker = capacity, per_maker
        database.migrate(ROOM, SCRIPTS)
        database.one(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        self._count = self._counted()
        self._blocks = bool(self.blocked())

    def __len__(self) -> int:
        return self._count

    # ------------------------------------------------------------------ taking in

    def admit(self, offer: Offer, raw: bytes, now: int) -> bool:
        """Take in a verified offer; tell whether that changed the set.

        Raises InvalidRecord if it has expired or a better version is known.
        """
        offer.check_date(now)
        with self._step():
            changed = self._put(offer, raw, now)
            self._bound((offer.maker,), now)
        if not changed and not self.knows(raw):
            raise InvalidRecord("seq", f"is {offer.seq}, but a better version is known")
        return changed

    def admit_all(self, found: Sequence[tuple[Offer, bytes]], now: int) -> tuple[bytes, ...]:
        """Take in verified offers in one transaction; return those that changed the set."""
        news, makers = [], set()
        with self._step():
            for offer, raw in found:
                with suppress(InvalidRecord):
                    offer.check_date(now)
                    if self._put(offer, raw, now):
                        news.append(raw)
                        makers.add(offer.maker)
            self._bound(makers, now)
        return tuple(news)

    @contextmanager
    def _step(self) -> Iterator[None]:
        """Commit everything inside at once, or nothing: the count as well."""
        before = self._count
        try:
            with self._db.transaction():
                yield
        except BaseException:
            self._count = before
            raise

    def _put(self, offer: Offer, raw: bytes, now: int) -> bool:
        row = values(offer, raw, now)
        if self._db.run(INSERT, *row):
            self._count += 1
            return True
        alive = live(now)
        return bool(
            self._db.run(
                UPDATE,
                *(*row[:3], *alive, *row[3:], *alive, offer.seq, offer.seq, row[0]),
            )
        )

    def _bound(self, makers: Iterable[bytes], now: int) -> None:
        """Keep makers to their share and all to the capacity: high slots, then the newest, go."""
        for maker in makers:
            ends = maker, maker + b"\xff"
            (held,) = self._db.all(
                "SELECT count(*) FROM book_offer WHERE place >= ? AND place < ?", *ends
            )[0]
            if held > self._per_maker:
                self._cut("WHERE place >= ? AND place < ?", *ends, held - self._per_maker)
        if self._count > self._capacity:
            self._drop_over(now)
            if self._count > self._capacity:
                self._level(self._capacity - self._capacity // 10)

    def _level(self, room: int) -> None:
        """Cut the fullest markets down to `room` in all: a flood of one takes no other's place.

        To less than the capacity at once, so that a flood does not sort for each record.
        """
        counts = self._db.all("SELECT currency, count(*) AS n FROM book_offer GROUP BY currency")
        held = {row["currency"]: row["n"] for row in counts}
        most = level(held.values(), room)
        for currency, number in held.items():
            if number > most:
                self._cut("WHERE currency = ?", currency, number - most)

    def _cut(self, where: str, *args: Any) -> None:
        self._count -= self._db.run(
            "DELETE FROM book_offer WHERE rowid IN (SELECT rowid FROM book_offer "  # noqa: S608
            f"{where} ORDER BY substr(place, 33) DESC, first_seen DESC, hash DESC LIMIT ?)",
            *args,
        )

    def _drop_over(self, now: int) -> None:
        self._count -= self._db.run(
            f"DELETE FROM book_offer WHERE {OVER}",  # noqa: S608 - constants
            *live(now),
        )

    def _counted(self) -> int:
        return int(self._db.all("SELECT count(*) FROM book_offer")[0][0])

    def forget(self, now: int) -> None:
        """Drop what has expired, and what expires later than an offer may."""
        with self._step():
            self._drop_over(now)

    # ------------------------------------------------------------------ for other nodes

    def knows(self, raw: bytes) -> bool:
        """Tell whether these very bytes are held, and so were verified."""
        hashed = hashlib.sha256(raw).digest()
        return bool(self._db.all("SELECT 1 FROM book_offer WHERE hash = ?", hashed))

    def items(self, currency: str, now: int) -> list[Item]:
        """Return (place, SHA-256) of a market's live versions, withdrawals too, ascending."""
        rows = self._db.all(
            f"SELECT place, hash FROM book_offer WHERE currency = ? AND {LIVE} "  # noqa: S608
            "ORDER BY place",
            *(currency, *live(now)),
        )
        return [(place, hashed) for place, hashed in rows]

    def raws(self, currency: str, low: bytes, high: bytes, now: int, limit: int) -> list[bytes]:
        """Return a market's live versions with places in [low, high), ascending.

        An empty `high` means no bound. A damaged row is left out.
        """
        until, ends = ("AND place < ?", (high,)) if high else ("", ())
        rows = self._db.all(
            f"SELECT hash, raw FROM book_offer WHERE currency = ? AND place >= ? {until} "  # noqa: S608
            f"AND {LIVE} ORDER BY place LIMIT ?",
            *(currency, low, *ends, *live(now), limit),
        )
        return [raw for hashed, raw in rows if hashlib.sha256(raw).digest() == hashed]

    # ------------------------------------------------------------------ for people

    def listing(self, query: Query, reference: int, now: int) -> list[Row]:
        """Return what a query asks for, prices at `reference` (0: floating ones unpriced).

        `least_trades`, `takeable` and the order by history are not the store's to know.
        """
        sql, args = listing.listing(query, reference, now, self._blocks)
        net = self._network
        return [
            Row(price, seen, bool(again), hashed, raw, net)
            for price, seen, again, hashed, raw in self._db.all(sql, *args)
        ]

    def typical(self, currency: str, now: int) -> int:
        """Return the median of what makers ask as a fixed price; 0 if fewer than five do.

        A maker counts once, with the median of his own.
        """
        asked: dict[bytes, list[int]] = {}
        for place, best in self._db.all(
            "SELECT place, best FROM book_offer WHERE currency = ? AND side IN (0, 1) "  # noqa: S608
            f"AND priced = ? AND {LIVE}",
            *(currency, FIXED, *live(now)),
        ):
            asked.setdefault(place[:32], []).append(abs(best))
        return int(median_low(map(median_low, asked.values()))) if len(asked) >= MAKERS else 0

    def matching(self, prefix: str, now: int, maker: bytes = b"") -> tuple[Offer, ...]:
        """Return the offers that can be taken whose id or hash begins with hex `prefix`.

        With `maker` only his, however many others have copied the id.

        Their signatures are checked again; a damaged row is left out.
        """
        low, high = reach(prefix)
        rows = self._db.all(
            "SELECT raw FROM book_offer WHERE (offer_id BETWEEN ? AND ? "  # noqa: S608
            "OR offer_hash BETWEEN ? AND ?) AND +place BETWEEN ? AND ? AND priced > 0 "
            f"AND {LIVE} LIMIT {MATCHES}",
            *(low[:16], high, low, high, maker, (maker or b"\xff" * 32) + b"\xff", *live(now)),
        )
        found = []
        for (raw,) in rows:
            with suppress(InvalidRecord):
                found.append(Offer.from_wire(raw, network=self._network, now=now))
        return tuple(found)

    # ------------------------------------------------------------------ markets and makers

    def makers(self, prefix: str, limit: int = 2) -> tuple[bytes, ...]:
        """Return makers in the book whose id begins with hex `prefix`, at most `limit`."""
        low, high = reach(prefix)
        rows = self._db.all(
            "SELECT DISTINCT substr(place, 1, 32) FROM book_offer "
            "WHERE place >= ? AND place <= ? LIMIT ?",
            *(low, high + b"\xff", limit),
        )
        return tuple(maker for (maker,) in rows)

    def follow(self, currency: str, now: int) -> None:
        """Note that a market was asked for."""
        with self._db.transaction():
            self._db.run("INSERT OR REPLACE INTO book_market VALUES (?, ?)", currency, now)

    def followed(self, now: int) -> tuple[str, ...]:
        """Return the markets asked for in the last seven days."""
        rows = self._db.all(
            "SELECT currency FROM book_market WHERE asked_at > ? ORDER BY currency", now - FOLLOW_S
        )
        return tuple(currency for (currency,) in rows)

    def block(self, node_id: bytes, note: str, now: int) -> None:
        """Hide a maker's offers. Raises InvalidRecord for a note that is too long."""
        wire.exact("node_id", node_id, 32)
        wire.text("note", note, MAX_NOTE)
        with self._db.transaction():
            self._db.run("INSERT OR REPLACE INTO book_block VALUES (?, ?, ?)", node_id, note, now)
        self._blocks = True

    def unblock(self, node_id: bytes) -> None:
        """Show a maker's offers again."""
        with self._db.transaction():
            self._db.run("DELETE FROM book_block WHERE node_id = ?", node_id)
        self._blocks = bool(self.blocked())

    def blocked(self) -> tuple[Blocked, ...]:
        """Return the makers whose offers are hidden, the latest first."""
        rows = self._db.all("SELECT node_id, note, at FROM book_block ORDER BY at DESC, node_id")
        return tuple(Blocked(*row) for row in rows)
