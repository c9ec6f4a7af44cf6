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
from importlib.resources import files
from typing import Any, Final

import trio

from dht import bootstrap, endpoint
from dht.admission import SEED_LIMITS, Limits
from dht.endpoint import Peer
from dht.subnets import Subnets
from dht.transport_libp2p import Libp2pStreams, open_streams
from escrow import backend_second
from escrow.backend_electrum import ElectrumChain
from p2pnode import __version__
from p2pnode.app.compose import Files, Ground, compose
from p2pnode.app.config import Settings, metrics_address
from p2pnode.app.events import Events
from p2pnode.app.routes import Call, Route
from p2pnode.base import identity
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
    own = Database(settings.data_dir / DATABASE)
    records = Database(settings.data_dir / DHT_DATABASE, durable=False)
    book = Database(settings.data_dir / BOOK_DATABASE, durable=False)
    try:
        async with open_streams(
            keystore.identity,
            settings.network,
            listen=[settings.listen],
            limits=SEED_LIMITS if settings.seed else Limits(),
            subnets=Subnets(settings.exempt()),
        ) as streams:
            node = Node(settings, keystore, Files(own, records, book), streams)
            async with trio.open_nursery() as nursery:
                await node.start(nursery, stop)
                ready(node.describe())
                await stop.wait()
                nursery.cancel_scope.cancel()
    finally:
        for database in (own, records, book):
            database.close()


class Node:
    """One composed node."""

    def __init__(
        self, settings: Settings, keystore: Keystore, data: Files, streams: Libp2pStreams
    ) -> None:
        self._settings = settings
        self._streams = streams
        self._clock = SystemClock()
        self.events = Events(data.own)
        self._stop = trio.Event()
        self._metrics = ""  # where they are served
        ground = Ground(settings, keystore, data, streams)
        self._rooms = compose(ground, self.events, self._house_routes())

    async def start(self, nursery: trio.Nursery, stop: trio.Event) -> None:
        """Start every room; returns when all of them answer."""
        self._stop, rooms = stop, self._rooms
        ground, market = rooms.ground, rooms.market
        nursery.start_soon(trio.to_thread.run_sync, backend_second.warm)
        await nursery.start(ground.dht.run)
        nursery.start_soon(ground.minute.run)
        if self._settings.metrics:
            await self._serve_metrics(nursery)
        if self._settings.looks_around:
            self._look_around(nursery)
        await ground.dht.join(self._seeds())
        if isinstance(ground.chain, ElectrumChain):
            await nursery.start(ground.chain.run)
            await nursery.start(ground.wallet.run)
        await nursery.start(market.gossip.run)
        await nursery.start(market.sync.run)
        await nursery.start(rooms.box.run)
        await nursery.start(rooms.exchange.run)
        nursery.start_soon(market.prices.run)
        nursery.start_soon(market.maker.run)
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
            "peers": len(self._rooms.ground.dht.peers()),
            "pid": os.getpid(),
            "version": __version__,
            "last_event": self.events.last(),
            "markets": self._rooms.market.sync.view(),
        }
        try:
            tip = self._rooms.ground.chain.tip()
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

        streams, meet = self._streams, self._rooms.ground.dht.meet
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
                view=self._rooms.ground.dht.view(),
                dht=self._rooms.ground.dht.tally.counts,
                transport=self._streams.tally.counts,
                inbound=self._streams.inbound(),
                connected=len(self._streams.connected()),
                mailbox=lies,
                delivery=delivered,
                prices=self._rooms.market.prices.counts,
                book=self._rooms.market.sync.counts,
            )

        host, port = metrics_address("metrics", self._settings.metrics)
        self._metrics = await nursery.start(MetricsServer(read).serve, host, port)
        if not ipaddress.ip_address(host).is_loopback:
            log.warning("the metrics are open to whoever reaches %s", self._metrics)

    async def _announce(self) -> None:
        """Make our address findable; the DHT keeps it so. Alone on the network, try again."""
        while True:
            try:
                if (await self._rooms.ground.dht.announce()).acked:
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
