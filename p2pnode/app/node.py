"""The node: every room of the house composed in one nursery, around one database.

    transport ── dht ── order book ─┐
    chain ───── wallet ── locks ────┴─ exchange (trades, cases, delivery) ── local API

Started in that order, so that whatever answers has what it needs below it; ended by
cancelling the nursery, which every room survives (the shell law).
"""

import ipaddress
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import trio

from dht import bootstrap, endpoint
from dht.admission import SEED_LIMITS, Limits
from dht.endpoint import Peer
from dht.room import SEED_ROOM, Room
from dht.shell_gossip import Gossiper
from dht.shell_mailbox import Mailbox
from dht.shell_node import Dht
from dht.subnets import Subnets
from dht.transport_libp2p import Libp2pStreams, open_streams
from escrow import backend_second
from escrow.backend_electrum import ElectrumChain
from escrow.backend_keys import TradeKeys
from escrow.backend_wallet import BdkWallet
from escrow.shell_desktop import Desktop
from escrow.shell_standing import Standing
from escrow.store_evidence import Shelf
from escrow.store_journal import Journal
from escrow.store_locks import CoinLocks
from escrow.store_receipts import ReceiptStore
from orderbook.backend_prices import open_sources
from orderbook.shell_book import Book
from orderbook.shell_follow import PricedFollower
from orderbook.shell_gossip import MarketGossip
from orderbook.shell_maker import Maker
from orderbook.shell_prices import Prices
from orderbook.shell_sync import Sync
from orderbook.store_accounts import AccountStore
from orderbook.store_book import BookStore
from orderbook.store_prices import PriceStore
from p2pnode import __version__
from p2pnode.app import (
    fit,
    routes_accounts,
    routes_bargain,
    routes_bonds,
    routes_book,
    routes_cases,
    routes_draws,
    routes_export,
    routes_hearing,
    routes_market,
    routes_net,
    routes_offers,
    routes_proofs,
    routes_receipts,
    routes_talk,
    routes_trades,
    routes_wallet,
)
from p2pnode.app.absent import AbsentChain
from p2pnode.app.account_uses import account_uses
from p2pnode.app.api import Api
from p2pnode.app.config import Settings, metrics_address
from p2pnode.app.config import endpoint as host_and_port
from p2pnode.app.crowd import DhtCrowd
from p2pnode.app.events import Events
from p2pnode.app.exchange import Exchange
from p2pnode.app.routes import Call, Route
from p2pnode.app.routes_net import LastMinute
from p2pnode.app.taker import Takers
from p2pnode.base import identity, wire
from p2pnode.base.clock import SystemClock, SystemRandomness
from p2pnode.base.errors import NodeError, Unreachable
from p2pnode.base.keystore import Keystore
from p2pnode.base.store import Database

log: Final = logging.getLogger(__name__)

DATABASE: Final = "node.sqlite"
DHT_DATABASE: Final = "records.sqlite"  # what others have us keep: apart from what is ours
BOOK_DATABASE: Final = "book.sqlite"  # everybody's offers, which the network has
BOOTSTRAP_FILE: Final = "bootstrap_nodes.json"
RETRY_S: Final = 5


async def run_node(
    settings: Settings,
    keystore: Keystore,
    ready: Callable[[dict[str, Any]], None],
    stop: trio.Event,
) -> None:
    """Serve until `stop`; `ready` is called once, when everything answers."""
    database = Database(settings.data_dir / DATABASE)
    others = Database(settings.data_dir / DHT_DATABASE, durable=False)
    books = Database(settings.data_dir / BOOK_DATABASE, durable=False)
    try:
        async with open_streams(
            keystore.identity,
            settings.network,
            listen=[settings.listen],
            limits=SEED_LIMITS if settings.seed else Limits(),
            subnets=Subnets(settings.exempt()),
        ) as streams:
            node = Node(settings, keystore, database, others, books, streams)
            async with trio.open_nursery() as nursery:
                await node.start(nursery, stop)
                ready(node.describe())
                await stop.wait()
                nursery.cancel_scope.cancel()
    finally:
        database.close()
        others.close()
        books.close()


@dataclass(frozen=True, slots=True)
class _Rooms:
    dht: Dht
    minute: LastMinute
    chain: ElectrumChain | AbsentChain
    wallet: BdkWallet
    book: Book
    box: Mailbox
    exchange: Exchange
    api: Api
    prices: Prices
    sync: Sync
    gossip: Gossiper


class Node:
    """One composed node."""

    def __init__(
        self,
        settings: Settings,
        keystore: Keystore,
        database: Database,
        others: Database,
        books: Database,
        streams: Libp2pStreams,
    ) -> None:
        self._settings = settings
        self._streams = streams
        self._clock = SystemClock()
        self.events = Events(database)
        self._stop = trio.Event()
        self._metrics = ""  # where they are served
        self._rooms = self._compose(keystore, database, others, books)

    def _compose(
        self, keystore: Keystore, database: Database, others: Database, books: Database
    ) -> _Rooms:
        settings, network, clock = self._settings, self._settings.network, self._clock
        randomness, me = SystemRandomness(), keystore.identity
        words = keystore.mnemonic.reveal()
        kinds = fit.kinds(network)
        dht = Dht(
            self._streams,
            network,
            clock,
            randomness,
            others,
            kinds,
            identity=me,
            room=SEED_ROOM if settings.seed else Room(),
            subnets=Subnets(settings.exempt()),
        )
        minute = LastMinute(dht.tally.counts)
        chain: ElectrumChain | AbsentChain = AbsentChain()
        if settings.electrum:
            host, port = host_and_port("electrum", settings.electrum)
            chain = ElectrumChain(host, port, network, clock)
        locks = CoinLocks(database)
        wallet = BdkWallet(words, network, database, chain, locks)
        offers = fit.DhtRecords(dht, network, fit.OFFER)
        sources = open_sources(settings.price_sources, settings.data_dir, settings.proxy)
        store = BookStore(books, network)

        def markets() -> list[str]:
            own = {mine.offer.currency for mine in maker.enabled() if mine.offer.floating}
            return sorted(own.union(store.followed(clock.now())))

        prices = Prices(sources, clock, randomness, PriceStore(database), markets)
        standing = Standing(ReceiptStore(database), chain, me.node_id)
        maker = Maker(
            *(me, network, clock, randomness, database, offers),
            references=prices,
            histories=standing,
            caps=settings.caps,
        )
        subnets = Subnets(settings.exempt())
        gossip = Gossiper(
            *(self._streams, randomness),
            subnets=subnets,
            tally=self._streams.tally,
            anywhere=network.bondless,
        )
        spread = MarketGossip(gossip, network, store)
        sync = Sync(
            store,
            self._streams,
            DhtCrowd(dht, network, fit.OFFER),
            spread,
            me,
            network,
            clock,
            randomness,
            group=subnets.group,
        )
        spread.feed(sync.take)
        sync.on_news(spread.heard)
        book = Book(maker, clock, offers, store, PricedFollower(sync, prices))
        book.on_own.append(sync.own)
        account_key = wire.digest(wire.tag(network.name, "account-key"), [keystore.seed.reveal()])
        evidence_key = wire.digest(wire.tag(network.name, "evidence-key"), [keystore.seed.reveal()])
        accounts = AccountStore(database, network, account_key, randomness)
        world = Desktop(
            identity=me,
            network=network,
            journal=Journal(database, network, Shelf(evidence_key, network), clock),
            locks=locks,
            clock=clock,
            randomness=randomness,
            chain=chain,
            purse=fit.WalletPurse(wallet),
            keys=TradeKeys(words, network),
            desk=fit.OfferDesk(maker, accounts, network),
            announce=self.events,
        )
        registry = fit.DhtRecords(dht, network, fit.ARBITER)
        board = fit.DhtBroken(dht, network)
        box = Mailbox(dht, me, network, clock, database)
        exchange = Exchange(
            *(world, self._streams, registry, dht.locate, database, board),
            fit.TradeMailbox(box),
            standing,
        )
        exchange.introductions.group = subnets.group
        takers = Takers(
            *(book, accounts, clock),
            countries=settings.countries,
            languages=settings.languages,
            balance=lambda: wallet.balance().available,
        )
        routes = [
            *self._house_routes(),
            *routes_net.routes(dht, self._streams, me, network, clock, minute),
            *routes_accounts.routes(
                accounts, network, clock, account_uses(maker, exchange, network)
            ),
            *routes_offers.routes(maker, accounts, prices.settle),
            *routes_book.routes(book, accounts, takers),
            *routes_market.routes(book, prices, routes_receipts.sales(standing), clock),
            *routes_wallet.routes(wallet, chain, locks),
            *routes_trades.routes(exchange, book, accounts),
            *routes_bargain.routes(exchange, book, accounts),
            *routes_talk.routes(exchange),
            *routes_export.routes(exchange),
            *routes_bonds.routes(exchange),
            *routes_cases.routes(exchange),
            *routes_draws.routes(exchange),
            *routes_proofs.routes(exchange),
            *routes_receipts.routes(exchange, book, clock),
            *routes_hearing.routes(exchange),
        ]
        api = Api(routes, self.events, database)
        return _Rooms(dht, minute, chain, wallet, book, box, exchange, api, prices, sync, gossip)

    async def start(self, nursery: trio.Nursery, stop: trio.Event) -> None:
        """Start every room; returns when all of them answer."""
        self._stop, rooms = stop, self._rooms
        nursery.start_soon(trio.to_thread.run_sync, backend_second.warm)
        await nursery.start(rooms.dht.run)
        nursery.start_soon(rooms.minute.run)
        if self._settings.metrics:
            await self._serve_metrics(nursery)
        if self._settings.looks_around:
            self._look_around(nursery)
        await rooms.dht.join(self._seeds())
        if isinstance(rooms.chain, ElectrumChain):
            await nursery.start(rooms.chain.run)
            await nursery.start(rooms.wallet.run)
        await nursery.start(rooms.gossip.run)
        await nursery.start(rooms.sync.run)
        await nursery.start(rooms.box.run)
        await nursery.start(rooms.exchange.run)
        nursery.start_soon(rooms.prices.run)
        nursery.start_soon(rooms.book.maker.run)
        nursery.start_soon(self._announce)
        await nursery.start(rooms.api.serve, self._settings.data_dir, stop)
        self.events.publish("started")

    def describe(self) -> dict[str, Any]:
        """Return who this node is and how it stands."""
        node_id = self._streams.node_id
        plain: dict[str, Any] = {
            "node_id": node_id.hex(),
            "peer_id": identity.peer_id(node_id),
            "network": self._settings.network.name,
            "addrs": list(self._streams.addrs()),
            "multiaddrs": [f"{a}/p2p/{identity.peer_id(node_id)}" for a in self._streams.addrs()],
            "seed": self._settings.seed,
            "mdns": self._settings.looks_around,
            "metrics": f"http://{self._metrics}/metrics" if self._metrics else "",
            "peers": len(self._rooms.dht.peers()),
            "pid": os.getpid(),
            "version": __version__,
            "last_event": self.events.last(),
            "markets": self._rooms.sync.view(),
        }
        try:
            tip = self._rooms.chain.tip()
            plain |= {"chain": self._settings.electrum, "height": tip.height, "mtp": tip.mtp}
        except NodeError as error:
            plain |= {"chain": self._settings.electrum, "chain_error": str(error)}
        return plain

    def _seeds(self) -> tuple[Peer, ...]:
        """Return whom to join through: the command line's first, then the file's."""
        named = [endpoint.parse_peer("bootstrap", address) for address in self._settings.bootstrap]
        text = files("p2pnode").joinpath(BOOTSTRAP_FILE).read_text(encoding="utf-8")
        listed, complaints = bootstrap.seeds(text, self._settings.network, self._clock.now())
        for complaint in complaints:
            log.warning("%s: %s (skipped)", BOOTSTRAP_FILE, complaint)
        return endpoint.merge_peers([*named, *listed])

    def _look_around(self, nursery: trio.Nursery) -> None:
        """Find peers on the LAN, and be found there (loads zeroconf)."""
        from dht.backend_mdns import Neighbours

        streams, meet = self._streams, self._rooms.dht.meet
        nursery.start_soon(
            Neighbours(
                streams.node_id,
                self._settings.network,
                streams.addrs(),
                meet,
                SystemRandomness(),
            ).run
        )

    async def _serve_metrics(self, nursery: trio.Nursery) -> None:
        """Answer Prometheus (loads prometheus_client). Raises Misconfigured."""
        from p2pnode.app.metrics import MetricsServer, Reading

        def read() -> Reading:
            lies, delivered = self._rooms.exchange.delivery()
            return Reading(
                info={
                    "version": __version__,
                    "network": self._settings.network.name,
                    "seed": "yes" if self._settings.seed else "no",
                },
                view=self._rooms.dht.view(),
                dht=self._rooms.dht.tally.counts,
                transport=self._streams.tally.counts,
                inbound=self._streams.inbound(),
                connected=len(self._streams.connected()),
                mailbox=lies,
                delivery=delivered,
                prices=self._rooms.prices.counts,
                book=self._rooms.sync.counts,
            )

        host, port = metrics_address("metrics", self._settings.metrics)
        self._metrics = await nursery.start(MetricsServer(read).serve, host, port)
        if not ipaddress.ip_address(host).is_loopback:
            log.warning("the metrics are open to whoever reaches %s", self._metrics)

    async def _announce(self) -> None:
        """Make our address findable; the DHT keeps it so. Alone on the network, try again."""
        while True:
            try:
                if (await self._rooms.dht.announce()).acked:
                    return
            except Unreachable as error:
                log.info("our address is announced nowhere: %s", error)
            await trio.sleep(RETRY_S)

    def _house_routes(self) -> list[Route]:
        async def status(call: Call) -> dict[str, Any]:
            return self.describe()

        async def halt(call: Call) -> dict[str, Any]:
            self._stop.set()
            return {"stopping": True, "pid": os.getpid()}

        return [
            Route("GET", "/v1/status", status, summary="who this node is and how it stands"),
            Route("POST", "/v1/stop", halt, summary="end the node"),
        ]
