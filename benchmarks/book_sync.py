"""A whole book of 10,000 offers to a new node, 50 ms away from three servers of the market.

    three processes, each a server with the whole book ── 25 ms each way ── the newcomer

Theirs is what nobody can do without: the same bytes over one raw TCP connection with the same
delay, and then the bare check of 10,000 signatures in a loop. Everything of the newcomer's side
is real: transport, protocol, verification, SQLite file. The DHT is not in it: who serves the
market, and where, is known. `sync_10000` begins with connections to the servers, as a node has
them that was on the network for a moment; `sync_10000_cold` dials them as well.
"""

import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import trio
from nacl.bindings import crypto_sign_open

from benchmarks import tcp_delay
from benchmarks.report import OURS
from dht.transport_libp2p import open_streams
from orderbook import book_wire, market_server, work
from orderbook.offer import LIFE_S, Offer, Side
from orderbook.shell_sync import Sync
from orderbook.store_book import BookStore
from p2pnode.base import wire
from p2pnode.base.clock import SystemClock, SystemRandomness
from p2pnode.base.identity import Identity
from p2pnode.base.networks import NETWORKS
from p2pnode.base.store import Database

NET = NETWORKS["sandbox"]
EUR = "EUR"
OFFERS = 10_000
SLOTS = 8  # of one maker
SERVERS = 3
ONE_WAY_S = 0.025
TURNS = 5
PATIENCE_S = 60.0
LISTEN = ("/ip4/127.0.0.1/tcp/0",)
TERMS = "Payment within the hour on workdays. No third parties, no messages in the reference."


def identity(name):
    return Identity.grind(NET, name.encode())


def book(count, now):
    """Return that many signed offers, eight of each maker."""
    raws = []
    for number in range(-(-count // SLOTS)):
        maker = identity(f"maker {number}")
        for slot in range(SLOTS):
            made = Offer(
                network=NET, offer_id=hashlib.sha256(b"%d/%d" % (number, slot)).digest()[:16],
                maker=maker.node_id, slot=slot, seq=7, side=Side(slot % 2), currency=EUR,
                min_sat=200_000, max_sat=1_000_000 + number, price=0, margin_bp=number % 500,
                methods=("CUSTOM",), countries=("DE", "FR"), languages=("de", "en"),
                terms=TERMS, expires_at=now + LIFE_S,
            )  # fmt: skip
            place = (NET, maker.node_id, EUR, slot, work.day_of(made.expires_at))
            raws.append(
                replace(made, work=work.find(*place, start=0, tries=1 << 24)).to_wire(maker)
            )
    return raws[:count]


def into(store, raws, now):
    found = [(Offer.from_wire(raw, network=NET, now=now), raw) for raw in raws]
    store.admit_all(found, now)


class Crowd:
    """Who serves the market, known beforehand; no holders."""

    def __init__(self, records, addrs):
        self._records, self._addrs = records, addrs

    async def hear(self, currency, take, ready):
        ready()
        await trio.sleep_forever()

    def holders(self, currency):
        return frozenset()

    async def servers(self, currency):
        await trio.lowlevel.checkpoint()
        return self._records

    async def serve(self, record):
        await trio.lowlevel.checkpoint()
        return 0

    async def locate(self, node_id):
        await trio.lowlevel.checkpoint()
        return self._addrs.get(node_id, ())

    async def lied(self, node_id):
        raise AssertionError("an honest server was called a liar")


def sync_of(store, streams, who, crowd):
    return Sync(store, streams, crowd, None, who, NET, SystemClock(), SystemRandomness())


# ------------------------------------------------------------------ a server


async def serve(number, path):
    """Serve the market, and its bytes over raw TCP, until standard input closes."""
    raws = read(path)
    who, now = identity(f"server {number}"), SystemClock().now()
    with tempfile.TemporaryDirectory() as folder:
        database = Database(Path(folder) / "book.sqlite", durable=False)
        store = BookStore(database, NET)
        into(store, raws, now)
        async with (
            tcp_delay.one_way(ONE_WAY_S),
            open_streams(who, NET, listen=LISTEN) as streams,
            trio.open_nursery() as nursery,
        ):
            await nursery.start(sync_of(store, streams, who, Crowd((), {})).run)
            plain = await nursery.start(
                partial(trio.serve_tcp, partial(send_plainly, b"".join(raws)), 0, host="127.0.0.1")
            )
            said = {"addrs": streams.addrs(), "port": plain[0].socket.getsockname()[1]}
            print(json.dumps(said), flush=True)
            await trio.to_thread.run_sync(sys.stdin.read)
            nursery.cancel_scope.cancel()
        database.close()


async def send_plainly(data, stream):
    await stream.receive_some(1)
    for start in range(0, len(data), 1 << 16):
        await stream.send_all(data[start : start + (1 << 16)])


def write(raws, path):
    path.write_bytes(b"".join(wire.frame(raw, 1 << 16) for raw in raws))


def read(path):
    return wire.FrameDecoder(1 << 16).feed(path.read_bytes())


# ------------------------------------------------------------------ the newcomer


async def plainly(port, size):
    """Return the seconds that the same bytes take over raw TCP, the dial included."""
    start = time.perf_counter()
    stream, got = await trio.open_tcp_stream("127.0.0.1", port), 0
    await stream.send_all(b"!")
    while got < size:
        got += len(await stream.receive_some(1 << 18))
    spent = time.perf_counter() - start
    await stream.aclose()
    return spent


def checks(raws, now):
    """Return what libsodium needs: signature and message, and key, of each offer."""
    found = []
    for raw in raws:
        offer, signature = Offer.unverified(raw, network=NET, now=now)
        found.append((signature + offer.hash, offer.maker))
    return found


def bare(signed):
    start = time.perf_counter()
    for message, key in signed:
        crypto_sign_open(message, key)
    return time.perf_counter() - start


async def fetch(servers, raws, folder, turn, *, warm):
    """Return the seconds until an empty node has the whole book."""
    who = identity(f"newcomer {turn} {warm}")
    database = Database(folder / f"new{turn}{warm}.sqlite", durable=False)
    store, now = BookStore(database, NET), SystemClock().now()
    records = tuple(market_server.sign(s, NET, EUR, now + market_server.LIFE_S) for s in servers)
    crowd = Crowd(records, {s.node_id: tuple(at["addrs"]) for s, at in servers.items()})
    async with open_streams(who, NET) as streams, trio.open_nursery() as nursery:
        sync = sync_of(store, streams, who, crowd)
        await nursery.start(sync.run)
        if warm:
            for server, at in servers.items():
                channel = await streams.open(
                    server.node_id, at["addrs"], NET.protocol("book"), limit=book_wire.FRAME_LIMIT
                )
                await channel.close()
        start = time.perf_counter()
        with trio.fail_after(PATIENCE_S):
            await sync.follow(EUR)
        spent = time.perf_counter() - start
        assert len(store.items(EUR, now)) == len(raws), "the book is not whole"
        assert sync.counts["sources_lost"] == 0
        nursery.cancel_scope.cancel()
    database.close()
    return spent


async def measured(servers, raws, folder):
    """Return (ours, ours cold, theirs) in milliseconds, medians of a few turns taken in turn."""
    size, signed = sum(map(len, raws)), checks(raws, SystemClock().now())
    port = next(iter(servers.values()))["port"]
    ours, cold, theirs = [], [], []
    async with tcp_delay.one_way(ONE_WAY_S):
        for turn in range(TURNS + 1):
            theirs.append(await plainly(port, size) + bare(signed))
            ours.append(await fetch(servers, raws, folder, turn, warm=True))
            cold.append(await fetch(servers, raws, folder, turn, warm=False))
    return [1000 * statistics.median(times[1:]) for times in (ours, cold, theirs)]


def run(report):
    """Print sync_10000 and sync_10000_cold."""
    processes, servers = [], {}
    ours = cold = theirs = None
    missing = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raws = book(OFFERS, SystemClock().now())
        write(raws, folder / "book")
        try:
            for number in range(SERVERS):
                process = subprocess.Popen(  # noqa: S603 - our own module
                    [sys.executable, "-m", "benchmarks.book_sync", str(number), folder / "book"],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                )  # fmt: skip
                processes.append(process)
                servers[identity(f"server {number}")] = json.loads(process.stdout.readline())
            ours, cold, theirs = trio.run(measured, servers, raws, folder)
        except* (AssertionError, trio.TooSlowError) as group:
            missing = {OURS: next(str(one) or repr(one) for one in leaves(group))}
        finally:
            for process in processes:
                process.kill()
                process.wait()
    size = sum(map(len, raws)) / len(raws)
    print(f"10,000 offers of {size:.0f} bytes on average", file=sys.stderr)
    floor = {} if theirs is None else {"tcp_and_verify": theirs}
    report.row("sync_10000", "ms", ours, floor, bar=2.0, missing=missing)
    report.row("sync_10000_cold", "ms", cold, floor, missing=missing)


def leaves(group):
    """Yield what a group of exceptions holds."""
    for one in group.exceptions:
        yield from leaves(one) if isinstance(one, BaseExceptionGroup) else (one,)


if __name__ == "__main__":
    trio.run(serve, int(sys.argv[1]), Path(sys.argv[2]))
