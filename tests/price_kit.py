"""What the tests of price sources share: servers and proxies on loopback, clocks, sources."""

import json
import ssl
from collections.abc import Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from orderbook.prices import Said

NOW = 1_788_000_000
# The answers that the six interfaces document, in their own shape, with prices of one day.
ANSWERS: dict[str, dict[str, Any]] = {
    "kraken": {
        "/0/public/Ticker?pair=XXBTZUSD,XXBTZEUR": {
            "error": [],
            "result": {
                pair: {
                    "a": [price, "1", "1.000"],
                    "b": [price, "2", "2.000"],
                    "c": [price, "0.00210000"],
                    "v": ["105.1", "1200.9"],
                    "p": [price, price],
                    "t": [901, 20123],
                    "l": [price, price],
                    "h": [price, price],
                    "o": price,
                }
                for pair, price in (("XXBTZUSD", "66010.20000"), ("XXBTZEUR", "61240.10000"))
            },
        }
    },
    "coinbase": {
        "/v2/exchange-rates?currency=BTC": {
            "data": {
                "currency": "BTC",
                "rates": {"AED": "242400.1", "EUR": "61240.15", "USD": "66010.25", "XXX": "1e5"},
            }
        }
    },
    "bitstamp": {
        f"/api/v2/ticker/btc{cur}/": {
            "timestamp": str(NOW - 3),
            "open": price,
            "high": price,
            "low": price,
            "last": price,
            "volume": "1500.1",
            "vwap": price,
            "bid": price,
            "ask": price,
            "side": "0",
            "open_24": price,
            "percent_change_24": "1.57",
        }
        for cur, price in (("usd", "66010.3"), ("eur", "61240.2"))
    },
    "coingecko": {
        "/api/v3/simple/price?ids=bitcoin&vs_currencies=eur,usd&include_last_updated_at=true": {
            "bitcoin": {"usd": 66010.35, "eur": 61240.25, "last_updated_at": NOW - 40}
        }
    },
    "mempool": {
        "/api/v1/prices": {
            "time": NOW - 200,
            "USD": 66010,
            "EUR": 61240,
            "GBP": -1,
            "CAD": 90000,
            "CHF": 58000,
            "AUD": 99000,
            "JPY": 9812345,
        }
    },
    "blockchain": {
        "/ticker": {
            cur: {"15m": price, "last": price, "buy": price, "sell": price, "symbol": cur}
            for cur, price in (("USD", 66010.45), ("EUR", 61240.3), ("JPY", 9812345.67))
        }
    },
}


class FakeClock:
    def __init__(self, now: int = NOW) -> None:
        self.time = now

    def now(self) -> int:
        return self.time


class Still:
    """No jitter: the middle of every range."""

    def bytes(self, count: int) -> bytes:
        return b"\x7f" + b"\xff" * (count - 1)


class Scripted:
    """A source that says what it is told, and counts how often it is asked for what."""

    every_s, live, docs = 60, True, ""

    def __init__(self, name: str, said: Any) -> None:
        self.name, self.said = name, said
        self.asked: list[tuple[str, ...]] = []
        self.times: list[float] = []

    async def ask(self, currencies: Any) -> Said:
        self.asked.append(tuple(currencies))
        self.times.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if isinstance(self.said, Exception):
            raise self.said
        if isinstance(self.said, Said):
            return self.said
        return Said(dict.fromkeys(currencies, (self.said, 0)))


class Server:
    """HTTP/1.1 on loopback. `answer(path)` is a body, (status, headers, body) or a fault."""

    def __init__(self, answer: Callable[[str], Any]) -> None:
        self._answer = answer
        self.asked: list[str] = []
        self.headers: list[bytes] = []
        self.port = 0

    async def handle(self, stream: Any) -> None:
        try:
            raw = b""
            while b"\r\n\r\n" not in raw:
                part = await stream.receive_some(4096)
                if not part:
                    return
                raw += part
            path = raw.split(b" ", 2)[1].decode()
            self.asked.append(path)
            self.headers.append(raw.lower())
            found = self._answer(path)
            if callable(found):
                await found(stream)
                return
            status, headers, body = found if isinstance(found, tuple) else (200, {}, found)
            if not isinstance(body, bytes):
                body = json.dumps(body).encode()
            head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close"]
            head += [f"{name}: {value}" for name, value in headers.items()]
            await stream.send_all("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
            return  # the client has gone, or did not want our certificate
        finally:
            with trio.move_on_after(1) as scope:
                scope.shield = True
                await stream.aclose()


@asynccontextmanager
async def serving(answer: Callable[[str], Any], tls: ssl.SSLContext | None = None) -> Any:
    server = Server(answer)
    async with trio.open_nursery() as nursery:
        if tls is None:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        else:
            listeners = await trio.open_ssl_over_tcp_listeners(0, tls, host="127.0.0.1")
        socket = getattr(listeners[0], "socket", None) or listeners[0].transport_listener.socket
        server.port = socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, server.handle, listeners)
        yield server
        nursery.cancel_scope.cancel()


class Socks:
    """A SOCKS5 proxy (RFC 1928) that reaches `port` whatever the name; it notes the names."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.named: list[tuple[int, bytes, int]] = []  # address type, name or address, port
        self.port = 0

    async def handle(self, stream: trio.SocketStream) -> None:
        async with stream:
            assert (await stream.receive_some(4096))[:1] == b"\x05"
            await stream.send_all(b"\x05\x00")
            ask = await stream.receive_some(4096)
            assert ask[:3] == b"\x05\x01\x00"
            kind = ask[3]
            name = ask[5 : 5 + ask[4]] if kind == 3 else ask[4:-2]
            self.named.append((kind, name, int.from_bytes(ask[-2:], "big")))
            await stream.send_all(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50")
            async with await trio.open_tcp_stream("127.0.0.1", self._target) as onward:
                await both_ways(stream, onward)


class Forward:
    """An HTTP proxy: CONNECT for https, whole addresses for http; it notes what it is asked."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.named: list[bytes] = []
        self.port = 0

    async def handle(self, stream: trio.SocketStream) -> None:
        async with stream:
            raw = b""
            while b"\r\n\r\n" not in raw:
                part = await stream.receive_some(4096)
                if not part:
                    return
                raw += part
            method, address, _ = raw.split(b" ", 2)
            self.named.append(address)
            async with await trio.open_tcp_stream("127.0.0.1", self._target) as onward:
                if method == b"CONNECT":
                    await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
                else:
                    path = b"/" + address.split(b"/", 3)[3]
                    await onward.send_all(raw.replace(address, path, 1))
                await both_ways(stream, onward)


@asynccontextmanager
async def proxying(proxy: Any) -> Any:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        proxy.port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, proxy.handle, listeners)
        yield proxy
        nursery.cancel_scope.cancel()


async def both_ways(stream: trio.SocketStream, onward: trio.SocketStream) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump, stream, onward)
        await pump(onward, stream)
        nursery.cancel_scope.cancel()


async def pump(source: trio.SocketStream, drain: trio.SocketStream) -> None:
    try:
        while part := await source.receive_some(65536):
            await drain.send_all(part)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return


def certificate(folder: Any, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return (the server's context, one of a client that trusts it), made for `name`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    path = folder / "server.pem"
    path.write_bytes(
        pem
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cadata=pem.decode())
