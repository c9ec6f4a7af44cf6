"""A server that lies, garbles or falls silent: one declared error, and the client lives on."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from chain_kit import NET, OTHER, PATIENCE, SCRIPT, Rig, Twist, double_spend, eventually, rig

from escrow import electrum
from escrow.backend_electrum import ElectrumChain
from p2pnode.base.clock import SystemClock
from p2pnode.base.errors import LocalFault, Misconfigured, NodeError, PeerFault, Unreachable
from p2pnode.base.networks import NETWORKS

Ask = Callable[[ElectrumChain], Awaitable[Any]]
HISTORY, GET = "blockchain.scripthash.get_history", "blockchain.transaction.get"
MERKLE, HEADERS = "blockchain.transaction.get_merkle", "blockchain.block.headers"
BROADCAST, FEE = "blockchain.transaction.broadcast", "blockchain.estimatefee"


def on(method: str, change: Callable[[dict[str, Any]], dict[str, Any] | bytes | None]) -> Twist:
    return lambda asked, message: change(message) if asked == method else message


def result(value: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda message: message | {"result": value}


def flip(text: str, at: int = -9) -> str:
    return text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :]


def forged_branch(message: dict[str, Any]) -> dict[str, Any]:
    proof = message["result"]
    return message | {"result": proof | {"merkle": [flip(h) for h in proof["merkle"]]}}


def moved_position(message: dict[str, Any]) -> dict[str, Any]:
    proof = message["result"]
    return message | {"result": proof | {"pos": proof["pos"] ^ 1}}


def higher(message: dict[str, Any]) -> dict[str, Any]:
    return message | {
        "result": [row | {"height": row["height"] + 500} for row in message["result"]]
    }


def lower(message: dict[str, Any]) -> dict[str, Any]:
    return message | {"result": [row | {"height": 1} for row in message["result"]]}


def twice(message: dict[str, Any]) -> dict[str, Any]:
    return message | {"result": message["result"] * 2}


async def see(chain: ElectrumChain) -> None:
    await chain.sightings(SCRIPT)


async def fee(chain: ElectrumChain) -> None:
    await chain.fee_rate(3)


async def useful(r: Rig) -> None:
    """The very client that met the liar works with an honest server again."""
    r.relay.twist = None
    r.mine()

    async def check() -> None:
        (seen,) = await r.chain.sightings(SCRIPT)
        assert seen.height
        assert r.chain.tip().hash == r.box.chain.tip
        assert await r.chain.fee_rate(3)

    await eventually(check)


# title: how the server errs, what the client asks, what it must say
LIES: dict[str, tuple[Twist, Ask, type[NodeError]]] = {
    "garbage for an answer": (on(HISTORY, lambda _: b"\xff\x00garbage\n"), see, PeerFault),
    "a list for an object": (on(HISTORY, lambda _: b"[1,2]\n"), see, PeerFault),
    "deep nesting": (on(HISTORY, lambda _: b"[" * 200_000 + b"\n"), see, PeerFault),
    "an id never asked": (on(HISTORY, lambda m: m | {"id": 10**9}), see, PeerFault),
    "an id of another type": (on(HISTORY, lambda m: m | {"id": str(m["id"])}), see, PeerFault),
    "true for an id": (on(HISTORY, lambda m: m | {"id": True}), see, PeerFault),
    "no id": (on(HISTORY, lambda m: {"result": m["result"]}), see, PeerFault),
    "neither result nor error": (on(HISTORY, lambda m: {"id": m["id"]}), see, PeerFault),
    "a huge line": (on(HISTORY, lambda _: b"x" * (electrum.MAX_LINE + 70_000)), see, PeerFault),
    "silence": (on(HISTORY, lambda _: None), see, Unreachable),
    "half a line, then silence": (on(HISTORY, lambda _: b'{"id":'), see, Unreachable),
    "a history that is no list": (on(HISTORY, result({})), see, PeerFault),
    "a history without heights": (on(HISTORY, result([{"tx_hash": "ab" * 32}])), see, PeerFault),
    "a transaction named twice": (on(HISTORY, twice), see, PeerFault),
    "an endless history": (
        on(HISTORY, result([{"tx_hash": "ab" * 32, "height": 1}] * 21_000)),
        see,
        PeerFault,
    ),
    "a height above the tip": (on(HISTORY, higher), see, PeerFault),
    "another block than its own": (on(HISTORY, lower), see, NodeError),
    "a forged branch": (on(MERKLE, forged_branch), see, PeerFault),
    "another position": (on(MERKLE, moved_position), see, PeerFault),
    "a branch too long": (
        on(MERKLE, lambda m: m | {"result": m["result"] | {"merkle": ["ab" * 32] * 40}}),
        see,
        PeerFault,
    ),
    "a proof of another height": (
        on(MERKLE, lambda m: m | {"result": m["result"] | {"block_height": 1}}),
        see,
        PeerFault,
    ),
    "no proof": (on(MERKLE, lambda m: {"id": m["id"], "error": {"code": 1}}), see, Unreachable),
    "a forged transaction": (
        on(GET, lambda m: m | {"result": flip(m["result"], 60)}),
        see,
        PeerFault,
    ),
    "half a transaction": (on(GET, lambda m: m | {"result": m["result"][:40]}), see, PeerFault),
    "a transaction of capitals": (on(GET, lambda m: m | {"result": "AB" * 80}), see, PeerFault),
    "an absurd fee": (on(FEE, result(7)), fee, PeerFault),
    "words for a fee": (on(FEE, result("cheap")), fee, PeerFault),
    "not a number": (
        on(FEE, lambda m: f'{{"id":{m["id"]},"result":NaN}}\n'.encode()),
        fee,
        PeerFault,
    ),
}


@pytest.mark.parametrize("title", LIES)
async def test_a_lie_ends_in_its_error_and_the_client_lives_on(title: str) -> None:
    twist, ask, error = LIES[title]
    async with rig(timeout=0.3) as r:
        r.fund(SCRIPT, 50_000)
        r.mine()

        async def ready() -> None:
            assert r.chain.tip().hash == r.box.chain.tip

        await eventually(ready)
        r.relay.twist = twist
        with trio.fail_after(PATIENCE), pytest.raises(error) as caught:
            await ask(r.chain)
        assert r.relay.lies, "the lie was never told"
        assert type(caught.value) in (PeerFault, Unreachable)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 400
        await useful(r)


async def test_a_wrong_txid_for_a_broadcast_is_the_servers_fault() -> None:
    async with rig() as r:
        tx = r.fund(SCRIPT, 50_000)
        r.relay.twist = on(BROADCAST, result("ab" * 32))
        with pytest.raises(PeerFault, match="another txid"):
            await r.chain.broadcast(tx.serialize())
        r.relay.twist = on(
            BROADCAST, lambda m: {"id": m["id"], "error": {"code": -101, "message": "busy"}}
        )
        with pytest.raises(Unreachable, match="busy"):
            await r.chain.broadcast(tx.serialize())
        r.relay.twist = on(
            BROADCAST,
            lambda m: {
                "id": m["id"],
                "error": {"code": 1, "message": "\x1b[31mred\r\nline" + "x" * 9000},
            },
        )
        with pytest.raises(LocalFault) as caught:
            await r.chain.broadcast(double_spend(tx, OTHER))
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 300
        await useful(r)


def _bad_work(run: str) -> str:
    """Give the first header another nonce until it has no work."""
    from p2pnode.base.transaction import Header

    raw = bytearray(bytes.fromhex(run))
    while Header(bytes(raw[:80])).has_work:
        raw[76] = (raw[76] + 1) % 256
    return raw.hex()


def twisted_headers(change: Callable[[list[str]], list[str]]) -> Twist:
    def twist(method: str, message: dict[str, Any]) -> dict[str, Any]:
        if method != HEADERS or "result" not in message:
            return message
        answer = message["result"]
        listed = change(list(answer["headers"]))
        return message | {"result": answer | {"headers": listed, "count": len(listed)}}

    return twist


HEADER_LIES: dict[str, Twist] = {
    "headers that do not link": twisted_headers(lambda h: [*h[:-2], h[-1], h[-2]]),
    "a header without work": twisted_headers(
        lambda h: [_bad_work(h[0]) if len(h) == 1 else h[0], *h[1:-1], _bad_work(h[-1])]
    ),
    "no headers": twisted_headers(lambda h: []),
    "more than asked": twisted_headers(lambda h: [*h, h[-1]]),
    "another count": lambda m, x: x | {"result": x["result"] | {"count": 1}} if m == HEADERS else x,
    "an absurd height": on(
        "blockchain.headers.subscribe",
        lambda m: m | {"result": {"height": 10**9, "hex": "00" * 80}},
    ),
    "a header of text": on(
        "blockchain.headers.subscribe", lambda m: m | {"result": {"height": 3, "hex": "zz" * 80}}
    ),
    "no tip": on("blockchain.headers.subscribe", result(None)),
    "an old protocol": on("server.version", result(["old", "1.1"])),
    "an error for a greeting": on("server.version", lambda m: {"id": m["id"], "error": "go away"}),
}


@pytest.mark.parametrize("title", HEADER_LIES)
async def test_lies_about_headers_keep_the_client_waiting_for_a_better_server(title: str) -> None:
    async with rig() as r:
        r.fund(SCRIPT, 50_000)
        r.mine()
        r.relay.twist = HEADER_LIES[title]
        r.chain = r.client(timeout=0.5)
        with trio.fail_after(PATIENCE):
            await r.nursery.start(r.chain.run)
        assert r.relay.lies, "the lie was never told"
        assert not r.chain.connected
        with pytest.raises((PeerFault, Unreachable)):
            await r.chain.sightings(SCRIPT)
        assert r.chain.headers.height < r.box.height
        await useful(r)


async def test_another_networks_server_stops_the_start_and_names_the_setting() -> None:
    async with rig() as r:
        for name in ("main", "signet"):
            chain = ElectrumChain("127.0.0.1", r.port, NETWORKS[name], SystemClock(), timeout=3)
            with trio.fail_after(PATIENCE), pytest.raises(Misconfigured, match=name) as caught:
                await chain.run()
            assert caught.value.field == "electrum"
            assert caught.value.exit_code == 78


async def test_a_server_that_changes_networks_later_is_named_and_outlived() -> None:
    async with rig() as r:
        r.fund(SCRIPT, 50_000)
        # another genesis for every header that is asked for from the start
        tip = "blockchain.headers.subscribe"
        other = "00" * 4 + "11" * 32 + "22" * 32 + "00" * 12

        def twist(method: str, message: dict[str, Any]) -> dict[str, Any]:
            if method == tip and "result" in message:
                return message | {"result": {"height": r.box.height + 5, "hex": other}}
            if method == HEADERS:
                answer = message["result"]
                return message | {"result": answer | {"headers": [other] * len(answer["headers"])}}
            return message

        r.relay.twist = twist
        for connection in list(r.server._connections):
            await trio.aclose_forcefully(connection._stream)

        async def named() -> None:
            with pytest.raises((Misconfigured, PeerFault)):
                await r.chain.sightings(SCRIPT)

        await eventually(named)
        await useful(r)


async def test_a_server_behind_ours_takes_no_block_back() -> None:
    async with rig() as r:
        r.mine(3)

        async def ready() -> None:
            assert r.chain.tip().hash == r.box.chain.tip

        await eventually(ready)
        before = r.chain.tip()
        tip = {"height": 5, "hex": r.box.chain.index.headers[5].raw.hex()}
        notice = {"jsonrpc": "2.0", "method": "blockchain.headers.subscribe", "params": [tip]}
        r.relay.twist = on(
            FEE, lambda m: (json.dumps(notice) + "\n" + json.dumps(m) + "\n").encode()
        )
        assert await r.chain.fee_rate(3)
        r.relay.twist = None
        assert await r.chain.fee_rate(3)
        assert r.chain.tip() == before
        assert r.chain.connected


@pytest.mark.parametrize(
    "notice",
    [
        {"method": "blockchain.headers.subscribe", "params": [{"height": -1, "hex": "00" * 80}]},
        {"method": "blockchain.headers.subscribe", "params": ["tip"]},
        {"method": "blockchain.headers.subscribe", "params": {}},
        {"method": 5, "params": []},
        {"method": "blockchain.headers.subscribe"},
    ],
)
async def test_a_notice_that_makes_no_sense_ends_the_connection_alone(
    notice: dict[str, Any],
) -> None:
    async with rig() as r:
        r.fund(SCRIPT, 50_000)
        r.relay.twist = on(FEE, lambda m: json.dumps(notice).encode() + b"\n")
        with pytest.raises((PeerFault, Unreachable)):
            await r.chain.fee_rate(3)
        await useful(r)
        assert r.relay.connections == 2


async def test_notices_of_scripts_we_never_asked_about_are_nothing() -> None:
    async with rig() as r:
        r.fund(SCRIPT, 50_000)
        flood = b"".join(
            json.dumps({"method": method, "params": params}).encode() + b"\n"
            for n in range(500)
            for method, params in (
                ("blockchain.scripthash.subscribe", [f"{n:064x}", "ab" * 32]),
                ("server.gossip", [n]),
            )
        )
        r.relay.twist = on(FEE, lambda m: flood + json.dumps(m).encode() + b"\n")
        assert await r.chain.fee_rate(3)
        assert not r.chain.watched
        await useful(r)
        assert r.relay.connections == 1


async def test_many_questions_at_once_are_answered_and_cancelled_ones_do_no_harm() -> None:
    async with rig() as r:
        r.fund(SCRIPT, 50_000)
        answers: list[int | None] = []

        async def ask() -> None:
            answers.append(await r.chain.fee_rate(3))

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for _ in range(300):
                    nursery.start_soon(ask)
            assert len(answers) == 300
            for _ in range(20):
                with trio.move_on_after(0):
                    await r.chain.fee_rate(3)
        await useful(r)
        assert r.relay.connections == 1


async def test_a_server_that_takes_nothing_in_is_left() -> None:
    """Its buffers fill, the send waits no longer than its limit, the next server is used."""

    async def deaf(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, deaf, listeners)
        port = listeners[0].socket.getsockname()[1]
        chain = ElectrumChain("127.0.0.1", port, NET, SystemClock(), timeout=0.2)
        with trio.fail_after(PATIENCE):
            await nursery.start(chain.run)
        with pytest.raises(Unreachable, match="in time"):
            chain.tip()
        nursery.cancel_scope.cancel()
