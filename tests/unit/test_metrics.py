"""The metrics: what is in them, who can hang the server, and that every name is explained."""

import ast
import random
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from dht_kit import NOTE, note, town, until
from prometheus_client.parser import text_string_to_metric_families as parse

from dht import gossip, rpc
from dht.store_records import Kept
from p2pnode.app import metrics
from p2pnode.app.metrics import GAUGES, MAILBOX, MetricsServer, Reading
from p2pnode.base.errors import Misconfigured, StorageFault

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/operations.md").read_text()


def reading(**changed):
    told = {
        "info": {"version": "1", "network": "sandbox", "seed": "yes"},
        "view": {"contacts": 3, "records": 7, "kinds": {"offer": 5, "address": 2}},
        "dht": {"answered_ping": 41, "bans": 1},
        "transport": {"connections_in": 9},
        "inbound": 2,
        "connected": 4,
        "mailbox": {"waiting": 6, "deletions": 1},
        "delivery": {"letters_applied": 12},
        "book": {"omitted": 2, "repaired": 3},
    }
    return Reading(**(told | changed))


class Served:
    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self.host, self.port = host.strip("[]"), int(port)

    async def connect(self):
        return await trio.open_tcp_stream(self.host, self.port)

    async def ask(self, request=b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"):
        async with await self.connect() as stream:
            await stream.send_all(request)
            answer = b""
            with trio.fail_after(10):
                while part := await stream.receive_some(65536):
                    answer += part
        head, _, body = answer.partition(b"\r\n\r\n")
        return head.decode(), body.decode()


@pytest.fixture
async def serve(nursery):
    async def start(read=reading, host="127.0.0.1", port=0):
        return Served(await nursery.start(MetricsServer(read).serve, host, port))

    return start


def samples(text):
    return {(s.name, *sorted(s.labels.values())): s.value for f in parse(text) for s in f.samples}


async def test_what_the_node_says_is_what_prometheus_reads(serve):
    head, body = await (await serve()).ask()
    assert head.startswith("HTTP/1.1 200")
    assert "content-type: text/plain; version=" in head.lower()
    found = samples(body)
    assert found["p2pnode_info", "1", "sandbox", "yes"] == 1
    assert found["p2pnode_dht_contacts",] == 3
    assert found["p2pnode_dht_records_of_kind", "offer"] == 5
    assert found["p2pnode_dht_events_total", "answered_ping"] == 41
    assert found["p2pnode_transport_events_total", "connections_in"] == 9
    assert found["p2pnode_connections_inbound",] == 2
    assert found["p2pnode_nodes_connected",] == 4
    assert found["p2pnode_mailbox_waiting",] == 6
    assert found["p2pnode_mailbox_deletions",] == 1
    assert found["p2pnode_delivery_events_total", "letters_applied"] == 12
    assert found["p2pnode_book_omitted_total",] == 2
    assert found["p2pnode_book_events_total", "repaired"] == 3
    assert found["process_resident_memory_bytes",] > 1_000_000
    assert found["process_open_fds",] > 2
    assert found["process_max_fds",] > found["process_open_fds",]


async def test_a_real_node_is_read_and_nobody_is_named(serve):
    async with town() as build:
        a, b = await build.node("a"), await build.node("b")
        await b.dht.join([a.peer])
        await until(lambda: b.id in a.dht.table)
        await a.dht.put(NOTE, note(a.identity, "m"))

        def read():
            return reading(
                view=a.dht.view(), dht=a.dht.tally.counts, transport=a.streams.tally.counts,
                inbound=a.streams.inbound(), connected=len(a.streams.connected()),
            )  # fmt: skip

        _, body = await (await serve(read)).ask()
        assert set(a.dht.view()) - {"kinds"} <= set(GAUGES)
    found = samples(body)
    assert found["p2pnode_dht_contacts",] == 1
    assert found["p2pnode_dht_records_of_kind", "note"] == 1
    assert found["p2pnode_dht_events_total", "answered_ping"] >= 1
    assert found["p2pnode_transport_events_total", "connections_in"] >= 1
    for name in (a.id.hex()[:16], b.id.hex()[:16], "127.0.0.1", "12D3"):
        assert name not in body


async def test_ipv6_loopback(serve):
    served = await serve(host="::1")
    assert (await served.ask())[0].startswith("HTTP/1.1 200")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        (b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "405"),
        (b"CONNECT /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "405"),
        (b"GET /metrics HTTP/1.1\r\n\r\n", "400"),  # HTTP/1.1 wants a host
        (b"GET /metrics HTTP/1.1\r\n" + b"A: " + b"x" * 20_000 + b"\r\n\r\n", "431"),
        (b"\x00\xff garbage \r\n\r\n", "400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(50), "4"),
    ],
)
async def test_another_question_is_refused_and_the_next_is_answered(serve, request_, status):
    served = await serve()
    head, _ = await served.ask(request_)
    assert head.split(" ", 1)[1].startswith(status)
    assert (await served.ask())[0].startswith("HTTP/1.1 200")


@pytest.mark.parametrize(
    "more",
    [
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\n",
        b"Expect: 100-continue\r\nContent-Length: 5\r\n",
    ],
)
async def test_what_else_is_asked_for_is_ignored(serve, more):
    served = await serve()
    question = b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + more + b"\r\n"
    head, body = await served.ask(question + bytes(30))
    assert head.startswith("HTTP/1.1 200")
    assert samples(body)["p2pnode_dht_contacts",] == 3


async def test_a_head_has_no_body(serve):
    head, body = await (await serve()).ask(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert head.startswith("HTTP/1.1 200")
    assert body == ""


async def test_garbled_questions_end_their_connection_alone(serve):
    """Seeded: 500 mangled questions, half-closed and reset connections among them."""
    dice, answered = random.Random(5), 0
    served = await serve()
    whole = b"GET /metrics HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n"

    async def one(raw, how):
        nonlocal answered
        async with await served.connect() as stream:
            with suppress(trio.BrokenResourceError), trio.move_on_after(5):
                await stream.send_all(raw)
                if how == "reset":
                    reset = struct.pack("ii", 1, 0)
                    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                    return
                await stream.send_eof()
                head = await stream.receive_some(100)
                answered += head.startswith(b"HTTP/1.1 ")

    for _ in range(50):
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                raw = bytearray(whole * dice.randint(1, 3))
                for _ in range(dice.randint(0, 6)):
                    raw[dice.randrange(len(raw))] = dice.randrange(256)
                nursery.start_soon(one, bytes(raw), dice.choice(["reset", "eof", "eof"]))
    assert answered > 300
    assert (await served.ask())[0].startswith("HTTP/1.1 200")


async def test_a_disk_that_fails_is_an_answer_too(serve):
    def broken():
        raise StorageFault("node.sqlite: disk I/O error")

    head, body = await (await serve(broken)).ask()
    assert head.startswith("HTTP/1.1 503")
    assert body == "node.sqlite: disk I/O error\n"


async def test_connections_are_bounded_and_idle_ones_make_room(serve, monkeypatch):
    monkeypatch.setattr(metrics, "CONNECTION_S", 0.5)
    served = await serve()
    held = [await served.connect() for _ in range(metrics.MAX_CONNECTIONS)]
    for stream in held[:8]:
        await stream.send_all(b"GET /metrics HTTP/1.1\r\n")  # and never the rest
    refused = await served.connect()
    with trio.fail_after(5):
        assert await refused.receive_some(10) == b""  # closed at once, unread
    with trio.fail_after(10):
        for stream in held:
            with suppress(trio.BrokenResourceError):
                while await stream.receive_some(1000):
                    pass
    assert (await served.ask())[0].startswith("HTTP/1.1 200")
    for stream in [*held, refused]:
        await stream.aclose()


async def test_a_reader_that_takes_nothing_is_let_go(serve, monkeypatch):
    monkeypatch.setattr(metrics, "CONNECTION_S", 0.5)
    many = {f"event_{n}": n for n in range(200_000)}  # far more than any buffer holds
    served = await serve(lambda: reading(dht=many))
    stream = await served.connect()
    await stream.send_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    await trio.testing.wait_all_tasks_blocked(0.8)
    taken = 0
    with trio.fail_after(10):
        try:
            while part := await stream.receive_some(1 << 20):
                taken += len(part)
        except trio.BrokenResourceError:
            pass
    assert 0 < taken < 5_000_000  # cut off
    await stream.aclose()


async def test_a_taken_address_is_named(serve):
    served = await serve()
    with pytest.raises(Misconfigured) as caught:
        await MetricsServer(reading).serve("127.0.0.1", served.port)
    assert caught.value.field == "metrics"
    assert str(served.port) in str(caught.value)


# ------------------------------------------------------------------ every name is explained

MEANS = {  # what a name that is made up at run time can hold
    "method": [*rpc.METHODS],
    "ask.method": [*rpc.METHODS],
    "kept.name.lower()": [kept.name.lower() for kept in Kept],
    "COUNTED[verdict]": [*gossip.COUNTED.values()],
}


def names(node: ast.expr) -> Iterator[str]:
    """Yield every text that an expression can be."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=one, orelse=other):
            yield from names(one)
            yield from names(other)
        case ast.JoinedStr(values=[ast.Constant(value=str(text)), ast.FormattedValue(value=part)]):
            yield from (text + name for name in MEANS[ast.unparse(part)])
        case ast.Subscript() if ast.unparse(node) in MEANS:
            yield from MEANS[ast.unparse(node)]
        case _:
            raise AssertionError(f"cannot tell what {ast.unparse(node)} counts")


def counted() -> set[str]:
    """Return every name that the code can add to a tally."""
    found: set[str] = set()
    rooms = [(ROOT / name).rglob("*.py") for name in ("dht", "escrow", "orderbook", "p2pnode")]
    for path in (path for room in rooms for path in room):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and re.search(r"tally\.add$", ast.unparse(node.func)):
                found |= set(names(node.args[0]))
            if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("tally"):
                found |= set(names(node.slice))
    return found


def explained(header: str) -> set[str]:
    """Return the names in the first column of the table that begins so."""
    table = PAGE.split(f"| {header} |")[1].split("\n\n")[0]
    return {
        name
        for line in table.splitlines()[2:]
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }


def test_every_counter_is_on_the_page_with_its_meaning_and_no_other():
    assert len(counted()) > 30
    assert explained("event") == counted()


def test_every_gauge_is_on_the_page_and_no_other():
    others = {"p2pnode_info", "p2pnode_dht_records_of_kind", "p2pnode_connections_inbound"}
    others |= {"p2pnode_nodes_connected", "p2pnode_dht_events_total"}
    others |= {"p2pnode_prices_events_total"}
    others |= {"p2pnode_book_events_total", "p2pnode_book_omitted_total"}
    others |= {"p2pnode_transport_events_total", "p2pnode_delivery_events_total"}
    others |= {f"p2pnode_mailbox_{name}" for name in MAILBOX}
    process = {"process_resident_memory_bytes", "process_open_fds", "process_max_fds"}
    process |= {"process_cpu_seconds_total", "process_start_time_seconds"}
    process |= {"process_virtual_memory_bytes"}
    assert explained("metric") == {f"p2pnode_dht_{name}" for name in GAUGES} | others | process
