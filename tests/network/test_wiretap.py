"""Somebody who records every byte between the nodes of a trade reads nothing of it.

Real processes; before every node stands a TCP relay that keeps what it carries. The trade
goes to a verdict, so that payment details travel to the peer and to the arbiter.
"""

import base64
import secrets
import socket
import sys
import threading
from pathlib import Path

import pytest
import trio

from p2pnode.app.demo.processes import CHAIN, Processes
from p2pnode.base.identity import peer_id_bytes

LAUNCHER = Path(__file__).with_name("tapped_node.py")
ARBITERS = ("seed", "a1", "a2")
NODES = (*ARBITERS, "maker", "taker")
SOURCES = {name: f"127.0.0.{n}" for n, name in enumerate(NODES, 11)}
NAMES = {address: name for name, address in SOURCES.items()}
WAIT_S = 120.0
AMOUNT = 500_000


class Relay:
    """Carries TCP from one port to another and keeps every byte, by dialler and direction."""

    def __init__(self, to: int) -> None:
        self.kept: dict[str, list[bytearray]] = {}  # the dialler's name: a stream a direction
        self._to = to
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, (host, _) = self._server.accept()
            except OSError:
                return  # closed
            try:
                far = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                near.close()
                continue
            streams = self.kept.setdefault(NAMES.get(host, host), [])
            for source, target in ((near, far), (far, near)):
                stream = bytearray()
                streams.append(stream)
                pump = threading.Thread(target=_pump, args=(source, target, stream), daemon=True)
                pump.start()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


def _pump(source: socket.socket, target: socket.socket, stream: bytearray) -> None:
    try:
        while piece := source.recv(65536):
            stream += piece
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        source.close()
        target.close()


def spellings(text: str) -> list[bytes]:
    """Return a text's bytes as an eavesdropper might meet them: raw, hex, base64, UTF-16."""
    raw = text.encode()
    found = [raw, raw[::-1], raw.hex().encode(), raw.hex().upper().encode()]
    found += [text.encode("utf-16-le"), text.encode("utf-16-be")]
    for shift in range(3):  # where in its groups of three the text begins
        whole = base64.b64encode(bytes(shift) + raw + bytes(3))
        inner = whole[4 if shift else 0 : (shift + len(raw)) // 3 * 4]
        found += [inner, inner.translate(bytes.maketrans(b"+/", b"-_"))]
    return found


def overheard(text: str, streams) -> bool:
    """Tell whether any third of a text can be read in what was recorded."""
    third = len(text) // 3
    pieces = [text[n : n + third] for n in range(0, 3 * third, third)]
    return any(s in stream for piece in pieces for s in spellings(piece) for stream in streams)


class Tapped(Processes):
    """Nodes that reach each other through relays alone."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, (sys.executable, str(LAUNCHER)))
        self.relays: dict[str, Relay] = {}
        self.listens: dict[str, int] = {}

    def run(self, name: str, *options: str) -> None:
        self.listens[name] = port = free_port()
        self.relays[name] = relay = Relay(port)
        announced = f"/ip4/127.0.0.1/tcp/{relay.port}"
        (self.root / f"{name}.tap").write_text(f"{announced}\n{SOURCES[name]}\n")
        super().run(name, "--listen", f"/ip4/127.0.0.1/tcp/{port}", *options)

    def stop_all(self) -> None:
        super().stop_all()
        for relay in self.relays.values():
            relay.close()
        self.relays.clear()

    def between(self, a: str, b: str) -> int:
        """Return how many bytes went between two nodes, whoever dialled."""
        pairs = ((a, b), (b, a))
        return sum(len(s) for d, to in pairs for s in self.relays[to].kept.get(d, []))

    def streams(self) -> list[bytes]:
        return [bytes(s) for r in self.relays.values() for kept in r.kept.values() for s in kept]

    def ask(self, name, path, accept):
        return self.until(name, path, lambda: self.client(name).get(path), accept, WAIT_S)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    with Tapped(tmp_path_factory.mktemp("tap") / "net") as net:
        net.start_chain()
        net.init(*NODES)
        net.run("seed", "--seed")
        through = net.ready("seed")["multiaddrs"][0]
        for name in NODES[1:]:
            net.run(name, "--bootstrap", through)
        for name in NODES[1:]:
            net.ready(name)
        yield net


def said(words: str) -> str:
    """Return words that nobody else would say."""
    return f"{words} {secrets.token_hex(16)}"


def test_the_recording_would_show_a_text_that_is_sent_in_the_clear():
    text = said("IBAN DE00")
    with socket.create_server(("127.0.0.1", 0)) as server:
        relay = Relay(server.getsockname()[1])
        with socket.create_connection(("127.0.0.1", relay.port)) as near:
            far, _ = server.accept()
            for spelling in (text.encode().hex().encode(), b"x" + base64.b64encode(text.encode())):
                near.sendall(spelling)
                assert far.recv(1000) == spelling
                assert overheard(text, [bytes(s) for s in relay.kept["127.0.0.1"]])
            far.close()
        relay.close()
    assert not overheard(text, [said("IBAN DE00 in another text").encode().hex().encode()])


def test_a_trade_and_its_dispute_leave_nothing_to_read_on_the_wire(net):
    texts = {name: said(f"account of {name}") for name in ("maker", "taker")}
    terms, claim, answer, reason = (said(w) for w in ("terms", "claim", "answer", "reason"))
    for name, details in texts.items():
        address = net.client(name).post("/v1/wallet/address")["address"]
        net.cli(CHAIN, "sandbox", "fund", address, "0.5")
        words = ("account", "add", "--name", "bank", "--method", "CUSTOM", "--details", details)
        net.cli(name, *words)
    net.cli(CHAIN, "sandbox", "mine", "1")
    for name in ARBITERS:
        net.client(name).post("/v1/arbiter")
    words = ("offer", "create", "--sell", "--cur", "EUR", "--min", "0.005", "--max", "0.02")
    words = (*words, "--price", "61240.00", "--account", "bank", "--terms", terms)
    offer_id = net.cli("maker", *words)["offer_id"]
    market = "/v1/offers?currency=EUR"
    found = net.ask("taker", market, lambda rows: offer_id in [o["offer_id"] for o in rows])
    assert [o["terms"] for o in found] == [terms]  # it did travel

    taker = net.client("taker")
    body = {"offer_id": offer_id, "amount_sat": AMOUNT, "account": "bank"}
    path = f"/v1/trades/{taker.post('/v1/trades', **body)['trade_id']}"
    net.ask("taker", path, lambda t: t["state"] == "Broadcast")
    net.cli(CHAIN, "sandbox", "mine", "1")
    seen = net.ask("taker", path, lambda t: t["next"].startswith("pay"))
    assert texts["maker"] in seen["peer_account"]
    seen = net.ask("maker", path, lambda t: t.get("peer_account"))
    assert texts["taker"] in seen["peer_account"]
    arbiter = next(n for n in ARBITERS if _id(net, n) == seen["arbiter"])
    taker.post(f"{path}/paid", note="paid")
    taker.post(f"{path}/dispute", statement=claim)
    net.ask("maker", path, lambda t: t.get("notice"))
    net.client("maker").post(f"{path}/statement", statement=answer)
    case = path.replace("trades", "cases")
    heard = net.ask(arbiter, case, lambda c: c["state"] == "Hearing")
    assert (heard["statement_buyer"], heard["statement_seller"]) == (claim, answer)
    share = AMOUNT + seen["deposit_buyer_sat"]
    net.client(arbiter).post(f"{case}/decide", buyer_sat=share, reason=reason)
    for name in texts:
        ruled = net.ask(name, path, lambda t: t["state"] == "Ruled")
        assert ruled["verdict"]["reason"] == reason

    for a, b in (("maker", "taker"), (arbiter, "maker"), (arbiter, "taker")):
        assert net.between(a, b) > 5_000, f"{a} and {b} were not recorded"
    streams = net.streams()
    assert any(b"/noise" in stream for stream in streams)  # what may be read, the tap does read
    for text in (*texts.values(), terms, claim, answer, reason):
        assert not overheard(text, streams), text


def _id(net, name):
    return net.client(name).get("/v1/status")["node_id"]


async def test_a_running_node_refuses_a_dialler_who_speaks_plaintext_alone(net):
    from libp2p.crypto.ed25519 import create_new_key_pair
    from libp2p.io.trio import TrioTCPStream
    from libp2p.network.connection.raw_connection import RawConnection
    from libp2p.peer.id import ID
    from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
    from libp2p.transport.exceptions import SecurityUpgradeFailure
    from libp2p.transport.upgrader import TransportUpgrader

    keys = create_new_key_pair(secrets.token_bytes(32))
    plain = TransportUpgrader({PLAINTEXT_PROTOCOL_ID: InsecureTransport(keys)}, {})
    tcp = await trio.open_tcp_stream("127.0.0.1", net.listens["maker"])
    peer = ID(peer_id_bytes(bytes.fromhex(_id(net, "maker"))))
    with trio.fail_after(10), pytest.raises(SecurityUpgradeFailure):
        await plain.upgrade_security(RawConnection(TrioTCPStream(tcp), True), True, peer)
    tcp.socket.close()
    net.look()
