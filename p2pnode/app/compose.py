"""How a node's rooms are fitted to each other, from the ground up: no decisions here.

ground:  identity, files, transport, DHT, chain, wallet
market:  prices, receipts, own offers, everybody's, gossip, sync
trade:   mailbox, exchange
above:   the local API's routes
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dht.room import SEED_ROOM, Room
from dht.shell_gossip import Gossiper
from dht.shell_mailbox import Mailbox
from dht.shell_node import Dht
from dht.subnets import Subnets
from dht.transport_libp2p import Libp2pStreams
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
from p2pnode.app import (
    desk,
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
from p2pnode.app.config import Settings, endpoint
from p2pnode.app.crowd import DhtCrowd
from p2pnode.app.events import Events
from p2pnode.app.exchange import Exchange
from p2pnode.app.routes import Route
from p2pnode.app.routes_net import LastMinute
from p2pnode.app.taker import Takers
from p2pnode.base import wire
from p2pnode.base.clock import SystemClock, SystemRandomness
from p2pnode.base.keystore import Keystore
from p2pnode.base.networks import Network
from p2pnode.base.store import Database


@dataclass(frozen=True, slots=True)
class Files:
    """The node's files: what is ours, what others have us keep, everybody's offers."""

    own: Database
    records: Database
    book: Database


class Ground:
    """What everything else stands on."""

    def __init__(
        self, settings: Settings, keystore: Keystore, files: Files, streams: Libp2pStreams
    ) -> None:
        self.settings, self.keystore, self.files, self.streams = settings, keystore, files, streams
        self.network: Network = settings.network
        self.clock, self.randomness = SystemClock(), SystemRandomness()
        self.identity, self.words = keystore.identity, keystore.mnemonic.reveal()
        self.subnets = Subnets(settings.exempt())
        self.dht = Dht(
            *(streams, self.network, self.clock, self.randomness, files.records),
            fit.kinds(self.network),
            identity=self.identity,
            room=SEED_ROOM if settings.seed else Room(),
            subnets=self.subnets,
        )
        self.minute = LastMinute(self.dht.tally.counts)
        self.chain: ElectrumChain | AbsentChain = AbsentChain()
        if settings.electrum:
            host, port = endpoint("electrum", settings.electrum)
            self.chain = ElectrumChain(host, port, self.network, self.clock)
        self.locks = CoinLocks(files.own)
        self.wallet = BdkWallet(self.words, self.network, files.own, self.chain, self.locks)

    def secret(self, kind: str) -> bytes:
        """Return a key of the keystore's for one purpose."""
        domain = wire.tag(self.network.name, kind)
        return wire.digest(domain, [self.keystore.seed.reveal()])


class Market:
    """Prices, own offers and everybody's."""

    def __init__(self, ground: Ground) -> None:
        settings, network, clock = ground.settings, ground.network, ground.clock
        own, me = ground.files.own, ground.identity
        offers = fit.DhtRecords(ground.dht, network, fit.OFFER)
        store = BookStore(ground.files.book, network)
        sources = open_sources(settings.price_sources, settings.data_dir, settings.proxy)
        prices = PriceStore(own)
        self.prices = Prices(sources, clock, ground.randomness, prices, self._markets)
        self.standing = Standing(ReceiptStore(own), ground.chain, me.node_id)
        self.maker = Maker(
            *(me, network, clock, ground.randomness, own, offers),
            references=self.prices,
            histories=self.standing,
            caps=settings.caps,
        )
        self.gossip = Gossiper(
            *(ground.streams, ground.randomness),
            subnets=ground.subnets,
            tally=ground.streams.tally,
            anywhere=network.bondless,
        )
        spread = MarketGossip(self.gossip, network, store)
        self.sync = Sync(
            *(store, ground.streams, DhtCrowd(ground.dht, network, fit.OFFER), spread),
            *(me, network, clock, ground.randomness),
            group=ground.subnets.group,
        )
        spread.feed(self.sync.take)
        self.sync.on_news(spread.heard)
        follower = PricedFollower(self.sync, self.prices)
        self.book = Book(self.maker, clock, offers, store, follower)
        self.book.on_own.append(self.sync.own)
        key = ground.secret("account-key")
        self.accounts = AccountStore(own, network, key, ground.randomness)
        self.clock = clock

    def _markets(self) -> list[str]:
        """Return the markets whose prices are polled: followed ones, and of own floating offers."""
        own = {mine.offer.currency for mine in self.maker.enabled() if mine.offer.floating}
        return sorted(own.union(self.book.store.followed(self.clock.now())))


@dataclass(frozen=True, slots=True)
class Rooms:
    """Every room of one node."""

    ground: Ground
    market: Market
    box: Mailbox
    exchange: Exchange
    api: Api


def compose(ground: Ground, events: Events, house: Sequence[Route]) -> Rooms:
    """Fit all rooms to each other; `house` are the routes of the node itself."""
    market = Market(ground)
    box = Mailbox(ground.dht, ground.identity, ground.network, ground.clock, ground.files.own)
    exchange = _exchange(ground, market, box, events)
    routes = [*house, *_book_routes(ground, market, exchange), *_trade_routes(market, exchange)]
    return Rooms(ground, market, box, exchange, Api(routes, events, ground.files.own))


def _exchange(ground: Ground, market: Market, box: Mailbox, events: Events) -> Exchange:
    own, network, dht = ground.files.own, ground.network, ground.dht
    evidence = Shelf(ground.secret("evidence-key"), network)
    world = Desktop(
        identity=ground.identity,
        network=network,
        journal=Journal(own, network, evidence, ground.clock),
        locks=ground.locks,
        clock=ground.clock,
        randomness=ground.randomness,
        chain=ground.chain,
        purse=fit.WalletPurse(ground.wallet),
        keys=TradeKeys(ground.words, network),
        desk=desk.OfferDesk(market.maker, market.accounts, network),
        announce=events,
    )
    registry = fit.DhtRecords(dht, network, fit.ARBITER)
    exchange = Exchange(
        *(world, ground.streams, registry, dht.locate, own, fit.DhtBroken(dht, network)),
        fit.TradeMailbox(box),
        market.standing,
    )
    exchange.introductions.group = ground.subnets.group
    return exchange


def _book_routes(ground: Ground, market: Market, exchange: Exchange) -> list[Route]:
    network, clock, book, accounts = ground.network, ground.clock, market.book, market.accounts
    takers = Takers(
        *(book, accounts, clock),
        countries=ground.settings.countries,
        languages=ground.settings.languages,
        balance=lambda: ground.wallet.balance().available,
    )
    uses = account_uses(market.maker, exchange, network)
    sales = routes_receipts.sales(market.standing)
    return [
        *routes_net.routes(
            ground.dht, ground.streams, ground.identity, network, clock, ground.minute
        ),
        *routes_accounts.routes(accounts, network, clock, uses),
        *routes_offers.routes(market.maker, accounts, market.prices.settle),
        *routes_book.routes(book, accounts, takers),
        *routes_market.routes(book, market.prices, sales, clock),
        *routes_wallet.routes(ground.wallet, ground.chain, ground.locks),
        *routes_receipts.routes(exchange, book, clock),
    ]


def _trade_routes(market: Market, exchange: Exchange) -> list[Route]:
    return [
        *routes_trades.routes(exchange, market.book, market.accounts),
        *routes_bargain.routes(exchange, market.book, market.accounts),
        *routes_talk.routes(exchange),
        *routes_export.routes(exchange),
        *routes_bonds.routes(exchange),
        *routes_cases.routes(exchange),
        *routes_draws.routes(exchange),
        *routes_proofs.routes(exchange),
        *routes_hearing.routes(exchange),
    ]
