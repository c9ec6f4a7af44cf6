"""The book's file and the check of one offer, each beside the bare thing below it."""

import gc
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nacl.bindings import crypto_sign_open

from benchmarks.book_sync import EUR, NET, book
from benchmarks.report import Report
from orderbook import listing
from orderbook.obstacles import Market, Taker, obstacles
from orderbook.offer import Offer, Side
from orderbook.query import Query
from orderbook.store_book import BookStore
from p2pnode.app.routes_offers import offer_json
from p2pnode.base import identity, wire
from p2pnode.base.clock import SystemClock
from p2pnode.base.store import Database

OFFERS = 10_000
CHECKED = 2_000  # offers of one round of `verify`
ROUNDS = 7
LISTS = 101
BEST = Query(currency=EUR, side=Side.SELL, limit=50)
REFERENCE = 61_240_000_000
VERIFY_BAR = 0.7
LIST_BAR = 1.5
LIST_LIMIT_MS = 5.0
WARM_LIMIT_MS = 2_000.0
READY_S = 30


def spent(work: Callable[[], object]) -> float:
    """Return the seconds that some work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


# ------------------------------------------------------------------ verify


def verify_row(report: Report, raws: list[bytes], now: int) -> None:
    """An offer parsed, bounded, weighed and verified, beside its signature's check alone."""
    raws = raws[:CHECKED]
    read = [Offer.unverified(raw, network=NET, now=now) for raw in raws]
    signed = [(signature + offer.hash, offer.maker) for offer, signature in read]

    def ours() -> None:
        for raw in raws:
            Offer.from_wire(raw, network=NET, now=now)

    def bare() -> None:
        for message, key in signed:
            crypto_sign_open(message, key)

    rounds: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        identity.works.cache_clear()  # every maker is met for the first time
        rounds.append((spent(ours), spent(bare)))
    mine, theirs = (len(raws) / statistics.median(column) for column in zip(*rounds, strict=True))
    report.row("verify", "offers/s", mine, {"libsodium": theirs}, better="higher", bar=VERIFY_BAR)


# ------------------------------------------------------------------ list_best50


def mixed(raws: list[bytes], now: int) -> list[tuple[Offer, bytes]]:
    """Return offers to be filed, half of them with a fixed price.

    The prices are set in what is filed alone: a listing does not look at signatures.
    """
    found = []
    for number, raw in enumerate(raws):
        offer, signature = Offer.unverified(raw, network=NET, now=now)
        if number % 4 < 2:  # both sides
            price = REFERENCE + number * 7_919 % 20_001 * 10**5  # up to 3.3 % above, as margins
            offer.__dict__.update(price=price, margin_bp=0)
            offer.__dict__.pop("hash")
            raw = wire.pack((offer.body(), signature))
        found.append((offer, raw))
    return found


def list_rows(report: Report, path: Path, now: int) -> None:
    """The best 50 of 10,000, beside the same SELECT; and the whole of what a user is shown."""
    store = BookStore(Database(path, durable=False), NET)
    bare = sqlite3.connect(path)
    sql, args = listing.listing(BEST, REFERENCE, now, blocks=False)
    taker, market = Taker(node_id=bytes(32), now=now), Market(reference=REFERENCE)

    def ours() -> list[Any]:
        return store.listing(BEST, REFERENCE, now)

    def theirs() -> list[Any]:
        return bare.execute(sql, args).fetchall()

    def shown() -> str:
        return json.dumps(
            [
                offer_json(row.offer, mine=False, reference=REFERENCE)
                | {"obstacles": [o.text for o in obstacles(row.offer, taker, market)]}
                for row in ours()
            ]
        )

    assert [row.hashed for row in ours()] == [row[3] for row in theirs()]
    assert {row.offer.floating for row in ours()} == {True, False}, "not mixed"
    shown()
    times = [(spent(ours), spent(theirs), spent(shown)) for _ in range(LISTS)]
    mine, floor, whole = (1000 * statistics.median(column) for column in zip(*times, strict=True))
    report.row("list_best50", "ms", mine, {"sqlite3": floor}, bar=LIST_BAR)
    report.row("list_best50_shown", "ms", whole, {}, limit=LIST_LIMIT_MS, bar=1.0)
    bare.close()


# ------------------------------------------------------------------ warm_start, memory_10000


def warm_row(report: Report, path: Path, now: int) -> None:
    """Open a file of 10,000 offers until the first listing answers."""

    def opened() -> None:
        database = Database(path, durable=False)
        rows = BookStore(database, NET).listing(BEST, REFERENCE, now)
        assert len([row.offer for row in rows]) == BEST.limit
        database.close()

    times = [1000 * spent(opened) for _ in range(ROUNDS)]
    report.row("warm_start", "ms", statistics.median(times), {}, limit=WARM_LIMIT_MS, bar=1.0)


def ready_row(report: Report, path: Path) -> None:
    """The same file in a real node's directory: from its start until it says that it is ready."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        secret = folder / "passphrase"
        secret.write_text("benchmark")
        secret.chmod(0o600)
        common = ["--data-dir", str(folder / "node"), "--passphrase-file", str(secret), "--json"]
        call = [sys.executable, "cli.py"]
        subprocess.run([*call, "init", *common], check=True, capture_output=True)  # noqa: S603
        (folder / "node" / "book.sqlite").write_bytes(path.read_bytes())
        times = []
        for _ in range(3):
            start = time.perf_counter()
            node = subprocess.Popen([*call, "run", *common], stdout=subprocess.PIPE)  # noqa: S603
            try:
                assert node.stdout is not None
                said = json.loads(node.stdout.readline())
                times.append(1000 * (time.perf_counter() - start))
                assert said["event"] == "ready", said
            finally:
                node.terminate()
                node.wait(READY_S)
    report.row("warm_start_node", "ms", statistics.median(times), {}, limit=WARM_LIMIT_MS, bar=1.0)


def memory_row(report: Report, path: Path) -> None:
    """What a process holds more after it took in 10,000 offers and listed them; printed."""
    run = [sys.executable, "-m", "benchmarks.book_store", str(path)]
    said = subprocess.run(run, check=True, capture_output=True, text=True)  # noqa: S603
    report.row("memory_10000", "MB", float(said.stdout), {})


def measure_memory(source: Path) -> float:
    """Take another book's offers into a fresh one; return the growth in MB."""
    other = BookStore(Database(source, durable=False), NET)
    now = SystemClock().now()
    raws = other.raws(EUR, b"", b"", now, OFFERS)
    assert len(raws) == OFFERS
    with tempfile.TemporaryDirectory() as name:
        database = Database(Path(name) / "book.sqlite", durable=False)
        store = BookStore(database, NET)
        gc.collect()
        before = resident_mb()
        for start in range(0, OFFERS, 500):
            part = raws[start : start + 500]
            found = [(Offer.unverified(raw, network=NET, now=now)[0], raw) for raw in part]
            store.admit_all(found, now)
            del found
        rows = store.listing(BEST, REFERENCE, now)
        assert len([row.offer for row in rows]) == BEST.limit
        assert len(store.items(EUR, now)) == OFFERS
        gc.collect()
        grown = resident_mb() - before
        database.close()
    return grown


def resident_mb() -> float:
    """Return this process's resident memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def run(report: Report) -> None:
    """Print verify, list_best50, list_best50_shown, warm_start, warm_start_node, memory_10000."""
    now = SystemClock().now()
    raws = book(OFFERS, now)
    verify_row(report, raws, now)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "book.sqlite"
        database = Database(path, durable=False)
        store = BookStore(database, NET)
        found = mixed(raws, now)
        took = spent(lambda: store.admit_all(found, now))
        assert len(store) == OFFERS
        print(f"10,000 offers are written in {1000 * took:.0f} ms", file=sys.stderr)
        database.close()
        list_rows(report, path, now)
        warm_row(report, path, now)
        ready_row(report, path)
        memory_row(report, path)


if __name__ == "__main__":
    print(measure_memory(Path(sys.argv[1])))
