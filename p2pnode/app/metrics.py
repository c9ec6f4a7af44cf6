"""`run --metrics IP:PORT`: what this node does, in Prometheus' text format, at GET /metrics.

Read when asked for: the DHT's view, the tallies of DHT and transport, and the process. No
name, address or id of anybody is in it. The names are explained in docs/operations.md.
Starlette on hypercorn's trio connections, in the node's own nursery; who connects is a
stranger, so connections, their time and the size of a question are bounded.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from p2pnode.base.errors import Misconfigured, NodeError

log: Final = logging.getLogger(__name__)

PATH: Final = "/metrics"
MAX_CONNECTIONS: Final = 16
MAX_QUESTION: Final = 8 * 1024  # bytes
IDLE_S: Final = 5  # seconds until a question is there, whole
CONNECTION_S: Final = 60.0  # seconds that a connection lasts at the most
SEND_S: Final = 5.0  # seconds for a reader to take an answer

GAUGES: Final = {
    "contacts": "Nodes in the routing table",
    "buckets": "Buckets of the routing table",
    "streams": "Streams open to contacts",
    "records": "Records held for the network",
    "listens": "Keys that peers listen to here, all of them together",
    "subscriptions": "Keys that this node listens to",
    "bans": "Bans in force",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the node says of itself at one moment."""

    info: Mapping[str, str]
    view: Mapping[str, Any]  # numbers, and `kinds`: records by kind
    dht: Mapping[str, int]  # events counted since the start
    transport: Mapping[str, int]
    inbound: int  # connections others have made to us
    connected: int  # nodes a live connection leads to


class NodeCollector(Collector):
    """Turns a reading into Prometheus' families of samples."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        """Say nothing of what will come, so that registering reads nothing."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Read the node once."""
        now = self._read()
        info = GaugeMetricFamily("p2pnode_info", "Who runs", labels=list(now.info))
        info.add_metric(list(now.info.values()), 1)
        yield info
        for name, value in now.view.items():
            if type(value) is int:
                yield GaugeMetricFamily(f"p2pnode_dht_{name}", GAUGES.get(name, name), value=value)
        kinds = GaugeMetricFamily(
            "p2pnode_dht_records_of_kind", "Records held, by kind", labels=["kind"]
        )
        for kind, count in now.view.get("kinds", {}).items():
            kinds.add_metric([kind], count)
        yield kinds
        said = "Connections that others have made to this node, open now"
        yield GaugeMetricFamily("p2pnode_connections_inbound", said, value=now.inbound)
        said = "Nodes that a live connection leads to"
        yield GaugeMetricFamily("p2pnode_nodes_connected", said, value=now.connected)
        for room, counts in (("dht", now.dht), ("transport", now.transport)):
            events = CounterMetricFamily(
                f"p2pnode_{room}_events", f"What happened in the {room}", labels=["event"]
            )
            for name, count in sorted(counts.items()):
                events.add_metric([name], count)
            yield events


def registry(read: Callable[[], Reading]) -> CollectorRegistry:
    """Return what is served: the node, and its process' memory, descriptors and CPU time."""
    found = CollectorRegistry(auto_describe=False)
    found.register(NodeCollector(read))
    ProcessCollector(registry=found)
    return found


class MetricsServer:
    """Answers GET /metrics on one address until cancelled."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._registry = registry(read)
        self._open = 0
        self._config = Config()
        self._config.accesslog = None
        self._config.errorlog = logging.getLogger("p2pnode.app.http")
        self._config.h11_max_incomplete_size = MAX_QUESTION
        self._config.keep_alive_timeout = IDLE_S
        self._config.include_server_header = False
        self._context = WorkerContext(None)
        app: Any = Starlette(routes=[Route(PATH, self._metrics, methods=["GET"])])
        self._app = wrap_app(app, 0, "asgi")

    async def serve(
        self, host: str, port: int, *, task_status: Any = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve; reports `host:port` once it listens. Raises Misconfigured."""
        try:
            listeners = await trio.open_tcp_listeners(port, host=host, backlog=MAX_CONNECTIONS)
        except OSError as error:
            why = error.strerror or str(error)
            raise Misconfigured(f"metrics: {host}:{port}: {why}", field="metrics") from None
        bound = listeners[0].socket.getsockname()[1]
        task_status.started(f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}")
        await trio.serve_listeners(self._connection, listeners)

    async def _connection(self, tcp: trio.SocketStream) -> None:
        if self._open >= MAX_CONNECTIONS:
            await trio.aclose_forcefully(tcp)
            return
        self._open += 1
        try:
            with trio.move_on_after(CONNECTION_S):
                stream: Any = _Reader(tcp)
                await TCPServer(self._app, self._config, self._context, ConnectionState({}), stream)
        finally:
            self._open -= 1
            await trio.aclose_forcefully(tcp)

    async def _metrics(self, _: Request) -> Response:
        try:
            text = generate_latest(self._registry)
        except NodeError as error:
            log.warning("the metrics cannot be read: %s", error)
            return Response(f"{error}\n", 503, media_type="text/plain")
        return Response(text, media_type=CONTENT_TYPE_LATEST)


class _Reader:
    """A connection whose peer must take what it is sent: hypercorn shields its sending."""

    def __init__(self, tcp: trio.SocketStream) -> None:
        self.socket = tcp.socket
        self.receive_some, self.send_eof, self.aclose = tcp.receive_some, tcp.send_eof, tcp.aclose
        self._send = tcp.send_all

    async def send_all(self, data: bytes) -> None:
        """Send within a time. Raises BrokenResourceError."""
        with trio.move_on_after(SEND_S) as scope:
            await self._send(data)
        if scope.cancelled_caught:
            raise trio.BrokenResourceError("the reader takes nothing")
