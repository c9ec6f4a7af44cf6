"""`run --metrics IP:PORT`: what this node does, in Prometheus' text format, at GET /metrics.

Read when asked for: the DHT's view, the tallies of DHT and transport, and the process. No
name, address or id of anybody is in it. The names are explained in docs/operations.md.

Who connects may be a stranger, so connections, their time and the size of a question are
bounded, and each ends after one answer. h11 reads and writes HTTP/1.1 over trio's streams:
hypercorn, which serves the owner's socket, lets a garbled upgrade end the whole server.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import h11
import trio
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from p2pnode.base.errors import Misconfigured, NodeError

log: Final = logging.getLogger(__name__)

TEXT: Final = "text/plain; charset=utf-8"
PATH: Final = "/metrics"
MAX_CONNECTIONS: Final = 16
MAX_QUESTION: Final = 8 * 1024  # bytes
MAX_LATE: Final = 8  # reads of what comes after a question
CONNECTION_S: Final = 10.0  # seconds to ask and to take the answer

GAUGES: Final = {
    "contacts": "Nodes in the routing table",
    "buckets": "Buckets of the routing table",
    "streams": "Streams open to contacts",
    "records": "Records held for the network",
    "listens": "Keys that peers listen to here, all of them together",
    "subscriptions": "Keys that this node listens to",
    "bans": "Bans in force",
}
MAILBOX: Final = {
    "waiting": "Entries of ours that lie in mailboxes until their recipients have them",
    "deletions": "Deletions of mailbox entries that nobody holds yet",
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
    mailbox: Mapping[str, int] = field(default_factory=dict)  # what lies there now
    delivery: Mapping[str, int] = field(default_factory=dict)  # trade messages, since the start
    book: Mapping[str, int] = field(default_factory=dict)  # the order book, since the start
    prices: Mapping[str, int] = field(default_factory=dict)  # price sources, since the start


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
        for name, value in now.mailbox.items():
            yield GaugeMetricFamily(f"p2pnode_mailbox_{name}", MAILBOX[name], value=value)
        said = "Offers that a source withheld for over two minutes while two others held them"
        yield CounterMetricFamily("p2pnode_book_omitted", said, value=now.book.get("omitted", 0))
        rooms = (
            *(("dht", now.dht), ("transport", now.transport)),
            *(("delivery", now.delivery), ("book", now.book), ("prices", now.prices)),
        )
        for room, counts in rooms:
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
        """Answer one question and hang up, whatever comes."""
        if self._open >= MAX_CONNECTIONS:
            await trio.aclose_forcefully(tcp)
            return
        self._open += 1
        try:
            with suppress(trio.BrokenResourceError), trio.move_on_after(CONNECTION_S):
                await self._converse(tcp, h11.Connection(h11.SERVER, MAX_QUESTION))
        finally:
            self._open -= 1
            await trio.aclose_forcefully(tcp)

    async def _converse(self, tcp: trio.SocketStream, talk: h11.Connection) -> None:
        try:
            asked = await _question(tcp, talk)
        except h11.RemoteProtocolError as error:
            said = talk.send(_head(error.error_status_hint, TEXT, 0))
        else:
            if asked is None:
                return
            status, kind, body = self._page(asked)
            said = talk.send(_head(status, kind, len(body)))
            if body and asked.method != b"HEAD":
                said = (said or b"") + (talk.send(h11.Data(data=body)) or b"")
        await tcp.send_all(said or b"")
        await tcp.send_eof()
        for _ in range(MAX_LATE):  # unread, it would reset our answer on its way
            if not await tcp.receive_some(MAX_QUESTION):
                return

    def _page(self, asked: h11.Request) -> tuple[int, str, bytes]:
        """Return the status, the type and the body that a question is answered with."""
        if asked.target.partition(b"?")[0] != PATH.encode():
            return 404, TEXT, b"only /metrics is here\n"
        if asked.method not in (b"GET", b"HEAD"):
            return 405, TEXT, b"only GET is answered\n"
        try:
            body = generate_latest(self._registry)
        except NodeError as error:
            log.warning("the metrics cannot be read: %s", error)
            return 503, TEXT, f"{error}\n".encode()
        return 200, CONTENT_TYPE_LATEST, body


async def _question(tcp: trio.SocketStream, talk: h11.Connection) -> h11.Request | None:
    """Read the head of a question, or None if there is none. Raises RemoteProtocolError."""
    while True:
        event = talk.next_event()
        if event is h11.NEED_DATA:
            talk.receive_data(await tcp.receive_some(MAX_QUESTION))
        else:
            return event if isinstance(event, h11.Request) else None


def _head(status: int, kind: str, length: int) -> h11.Response:
    headers = [("Content-Type", kind), ("Content-Length", str(length)), ("Connection", "close")]
    return h11.Response(status_code=status, headers=headers)
