"""The sandbox's Electrum server as clients meet it, honest ones and hostile ones."""

import hashlib
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import bdkpython as bdk
import pytest
import trio
from sandbox_kit import SOMEONE, M, make

from p2pnode.app.sandbox import electrum, rpc, server
from p2pnode.app.sandbox.mempool import Sandbox
from p2pnode.app.sandbox.server import ElectrumServer
from p2pnode.base.networks import NETWORKS
from p2pnode.base.transaction import (
    Header,
    Outpoint,
    display,
    parse_block,
    parse_transaction,
    root_from_branch,
    scripthash,
)

NAME = scripthash(SOMEONE)


class Client:
    """Lines of JSON over TCP, nothing more; notices are kept apart from answers."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream, self.buffer, self.notices = stream, b"", []

    async def line(self) -> Any:
        with trio.fail_after(10):
            while b"\n" not in self.buffer:
                chunk = await self.stream.receive_some()
                if not chunk:
                    raise EOFError
                self.buffer += chunk
        line, _, self.buffer = self.buffer.partition(b"\n")
        return json.loads(line)

    async def send(self, value: Any) -> None:
        await self.stream.send_all(json.dumps(value).encode() + b"\n")

    async def raw(self, method: Any, *params: Any) -> Any:
        await self.send({"id": 7, "method": method, "params": list(params)})
        while "method" in (answer := await self.line()):
            self.notices.append((answer["method"], answer["params"]))
        assert answer["id"] == 7
        return answer

    async def call(self, method: str, *params: Any) -> Any:
        return (await self.raw(method, *params))["result"]

    async def refusal(self, method: Any, *params: Any) -> str:
        return (await self.raw(method, *params))["error"]["message"]

    async def notice(self) -> tuple[str, Any]:
        if not self.notices:
            answer = await self.line()
            return answer["method"], answer["params"]
        return self.notices.pop(0)


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[Sandbox, ElectrumServer, int]]:
    box = Sandbox(None, **options)
    try:
        async with trio.open_nursery() as nursery:
            electrum_server = ElectrumServer(box)
            port = await nursery.start(electrum_server.serve, 0)
            yield box, electrum_server, port
            nursery.cancel_scope.cancel()
    finally:
        box.close()


async def connect(port: int) -> Client:
    return Client(await trio.open_tcp_stream("127.0.0.1", port))


# ------------------------------------------------------------------ honest clients


async def test_versions_are_negotiated_between_1_4_and_1_6() -> None:
    async with serving() as (_, _, port):
        for wanted, got in (("1.4", "1.4"), (["1.4", "1.6"], "1.6"), (["1.4", "1.4.2"], "1.4.2")):
            client = await connect(port)
            assert (await client.call("server.version", "test", wanted))[1] == got
        for wanted in (
            "1.3",
            "2.0",
            ["1.7", "1.9"],
            ["1.6", "1.4"],
            "x",
            5,
            ["1.4"],
            [1, 2],
            "1.4.1.1",
        ):
            assert "version" in await client.refusal("server.version", "test", wanted)
        features = await client.call("server.features")
        assert features["genesis_hash"] == NETWORKS["sandbox"].genesis


async def test_headers_chain_to_the_genesis_and_come_as_each_protocol_writes_them() -> None:
    async with serving() as (box, _, port):
        client = await connect(port)
        tip = await client.call("blockchain.headers.subscribe")
        assert tip["height"] == box.height
        old = await client.call("blockchain.block.headers", 0, 5_000)
        assert old["count"] == box.height + 1
        raw = bytes.fromhex(old["hex"])
        headers = [Header(raw[i : i + 80]) for i in range(0, len(raw), 80)]
        assert all(b.prev == a.hash for a, b in itertools.pairwise(headers))
        assert headers[-1].raw.hex() == tip["hex"]
        await client.call("server.version", "test", ["1.4", "1.6"])
        new = await client.call("blockchain.block.headers", 0, 5_000)
        assert "".join(new["headers"]) == old["hex"]
        assert await client.call("blockchain.block.header", 5) == headers[5].raw.hex()
        assert "range" in await client.refusal("blockchain.block.header", box.height + 1)
        assert "unknown method" in await client.refusal("blockchain.relayfee")
        assert (await client.call("mempool.get_info"))["mempoolminfee"] == 1e-5


async def test_a_payment_is_told_seen_confirmed_and_proven() -> None:
    async with serving() as (box, flushing, port):
        client = await connect(port)
        await client.call("blockchain.headers.subscribe")
        assert await client.call("blockchain.scripthash.subscribe", NAME) is None
        tx = box.fund(SOMEONE, M)
        flushing.flush()
        method, (name, status) = await client.notice()
        assert (method, name) == ("blockchain.scripthash.subscribe", NAME)
        assert status == hashlib.sha256(f"{display(tx.txid)}:0:".encode()).hexdigest()
        assert await client.call("blockchain.scripthash.get_balance", NAME) == {
            "confirmed": 0,
            "unconfirmed": M,
        }
        (row,) = await client.call("blockchain.scripthash.get_mempool", NAME)
        assert (row["tx_hash"], row["height"]) == (display(tx.txid), 0)
        await client.call("sandbox.mine", 1)
        assert (await client.notice())[0] == "blockchain.headers.subscribe"
        method, (_, status) = await client.notice()
        assert status == hashlib.sha256(f"{display(tx.txid)}:{box.height}:".encode()).hexdigest()
        (row,) = await client.call("blockchain.scripthash.listunspent", NAME)
        assert row == {"tx_hash": display(tx.txid), "tx_pos": 0, "height": box.height, "value": M}
        proof = await client.call("blockchain.transaction.get_merkle", display(tx.txid), box.height)
        branch = [bytes.fromhex(h)[::-1] for h in proof["merkle"]]
        header = Header(bytes.fromhex(await client.call("blockchain.block.header", box.height)))
        assert root_from_branch(tx.txid, branch, proof["pos"]) == header.merkle_root
        raw = bytes.fromhex(await client.call("blockchain.transaction.get", display(tx.txid)))
        assert parse_transaction("tx", raw).txid == tx.txid
        by_place = await client.call(
            "blockchain.transaction.id_from_pos", box.height, proof["pos"], True
        )
        assert by_place == {"tx_hash": display(tx.txid), "merkle": proof["merkle"]}
        assert await client.call("blockchain.scripthash.unsubscribe", NAME) is True
        assert await client.call("blockchain.scripthash.unsubscribe", NAME) is False


async def test_a_status_that_did_not_change_is_not_told_again() -> None:
    async with serving() as (_, _, port):
        client = await connect(port)
        await client.call("sandbox.fund", SOMEONE.hex(), M)
        await client.call("blockchain.scripthash.subscribe", NAME)
        await client.call("sandbox.congest", 900_000)
        await client.call("sandbox.mine", 1)  # the payment waits
        await client.call("server.ping")
        assert client.notices == []
        await client.call("sandbox.congest", 0)
        await client.call("sandbox.mine", 1)
        assert [await client.notice()]


async def test_a_reorg_is_told_and_the_payment_waits_again() -> None:
    async with serving() as (box, _, port):
        client = await connect(port)
        txid = await client.call("sandbox.fund", SOMEONE.hex(), M)
        await client.call("sandbox.mine", 2)
        await client.call("blockchain.headers.subscribe")
        before = await client.call("blockchain.scripthash.subscribe", NAME)
        assert len(await client.call("sandbox.reorg", 2)) == 3
        method, (head,) = await client.notice()
        assert (method, head["height"]) == ("blockchain.headers.subscribe", box.height)
        _, (_, status) = await client.notice()
        assert status != before
        (row,) = await client.call("blockchain.scripthash.get_history", NAME)
        assert (row["tx_hash"], row["height"]) == (txid, 0)
        stats = await client.call("sandbox.stats")
        assert stats["entries_admitted"] == stats["entries_script_checked"] > 0
        assert stats["blocks_submitted"] == stats["tips_compared"]


async def test_refused_broadcasts_carry_the_nodes_reason() -> None:
    async with serving() as (_, _, port):
        client = await connect(port)
        stray = make([Outpoint(b"\7" * 32, 0)], [M])
        text = await client.refusal("blockchain.transaction.broadcast", stray.serialize().hex())
        assert text.split("\n\n")[1].startswith("bad-txns-inputs-missingorspent")
        assert "hex" in await client.refusal("blockchain.transaction.broadcast", "zz")
        assert "TX decode" in await client.refusal("blockchain.transaction.broadcast", "00")
        assert "No such" in await client.refusal("blockchain.transaction.get", "00" * 32)


async def test_any_target_costs_two_sat_a_vbyte() -> None:
    async with serving() as (_, _, port):
        client = await connect(port)
        for target in (1, 6, 144, 1008):
            assert await client.call("blockchain.estimatefee", target) == 2e-05


async def test_blocks_come_whole_so_that_anyone_can_recompute_them() -> None:
    async with serving() as (box, _, port):
        client = await connect(port)
        prev = b""
        for height in range(box.height + 1):
            head, txs = parse_block(bytes.fromhex(await client.call("sandbox.block", height)))
            assert not prev or Header(head).prev == prev
            assert txs
            prev = Header(head).hash
        assert prev == box.chain.tip


async def test_mining_over_the_limit_mines_nothing() -> None:
    async with serving() as (box, _, port):
        client = await connect(port)
        height = box.height
        assert "clock" in await client.refusal("sandbox.mine", 100, 86_400)
        assert box.height == height
        assert len(await client.call("sandbox.mine", 25, 3_600)) == 25
        assert box.height == height + 25


def bdk_wallet() -> bdk.Wallet:
    key = bdk.DescriptorSecretKey(bdk.NetworkKind.TEST, bdk.Mnemonic(bdk.WordCount.WORDS12), None)
    external, internal = (
        bdk.Descriptor.new_bip84(key, chain, bdk.NetworkKind.TEST)
        for chain in (bdk.KeychainKind.EXTERNAL, bdk.KeychainKind.INTERNAL)
    )
    return bdk.Wallet(external, internal, bdk.Network.REGTEST, bdk.Persister.new_in_memory())


async def test_bdk_syncs_pays_and_sees_the_payment_confirm() -> None:
    async with serving() as (box, flushing, port):
        wallet = bdk_wallet()
        info = wallet.reveal_next_address(bdk.KeychainKind.EXTERNAL)
        script = bytes(info.address.script_pubkey().to_bytes())

        def sync() -> Any:
            client = bdk.ElectrumClient(f"tcp://127.0.0.1:{port}")
            wallet.apply_update(
                client.sync(wallet.start_sync_with_revealed_spks().build(), 20, False)
            )
            return wallet.balance()

        box.fund(script, M)
        flushing.flush()
        balance = await trio.to_thread.run_sync(sync)
        assert balance.untrusted_pending.to_sat() == M
        box.mine(1)
        flushing.flush()
        balance = await trio.to_thread.run_sync(sync)
        assert balance.confirmed.to_sat() == M
        to = bdk.Script(SOMEONE)
        psbt = bdk.TxBuilder().add_recipient(to, bdk.Amount.from_sat(M // 2)).finish(wallet)
        assert wallet.sign(psbt)
        tx = psbt.extract_tx()
        await trio.to_thread.run_sync(
            lambda: bdk.ElectrumClient(f"tcp://127.0.0.1:{port}").transaction_broadcast(tx)
        )
        assert bytes.fromhex(str(tx.compute_txid()))[::-1] in box.pool.entries
        box.mine(1)
        assert box.chain.index.history[NAME]


# ------------------------------------------------------------------ hostile clients

GARBAGE = [
    b"\0\xff\n",
    b"{\n",
    b"[" * 100_000 + b"\n",
    b"9" * 5_000 + b"\n",
    b"[]\n",
    b"[" + b"1," * 60 + b"1]\n",
    b"\n",
]
ODD = [
    5,
    None,
    "text",
    {"id": 1},
    {"id": 1, "method": 5},
    {"id": 1, "method": "x" * 1_000},
    {"id": 1, "method": "__init__"},
    {"id": 1, "method": "server.ping", "params": 5},
    {"id": [1], "method": "server.ping"},
    {"id": 1e300, "method": "server.banner"},
    {"id": 1, "method": "blockchain.block.header", "params": ["x"]},
    {"id": 1, "method": "blockchain.block.header", "params": [-1]},
    {"id": 1, "method": "blockchain.block.header", "params": [True]},
    {"id": 1, "method": "blockchain.block.header", "params": [10**30]},
    {"id": 1, "method": "blockchain.block.header", "params": [1, 2, 3]},
    {"id": 1, "method": "blockchain.block.header", "params": {"foreign": 1}},
    {"id": 1, "method": "blockchain.block.headers", "params": [-3, 5]},
    {"id": 1, "method": "blockchain.scripthash.subscribe", "params": [7]},
    {"id": 1, "method": "blockchain.scripthash.subscribe", "params": ["AB" * 32]},
    {"id": 1, "method": "blockchain.scripthash.subscribe", "params": ["\ud800" * 64]},
    {"id": 1, "method": "blockchain.transaction.get", "params": ["00" * 32, 1]},
    {"id": 1, "method": "blockchain.transaction.get_merkle", "params": ["00" * 32, 10**6]},
    {"id": 1, "method": "blockchain.transaction.broadcast", "params": ["00" * 450_000]},
    {"id": 1, "method": "blockchain.estimatefee", "params": ["1"]},
    {"id": 1, "method": "sandbox.mine", "params": [-1]},
    {"id": 1, "method": "sandbox.mine", "params": [1, 0]},
    {"id": 1, "method": "sandbox.mine", "params": [10**9]},
    {"id": 1, "method": "sandbox.fund", "params": ["00", 5]},
    {"id": 1, "method": "sandbox.fund", "params": [SOMEONE.hex(), -5]},
    {"id": 1, "method": "sandbox.fund", "params": [SOMEONE.hex(), 1.5]},
    {"id": 1, "method": "sandbox.reorg", "params": [10**5]},
    {"id": 1, "method": "sandbox.reorg", "params": [1, ["00"] * 200]},
    {"id": 1, "method": "sandbox.reorg", "params": [1, [], ["00"]]},
    {"id": 1, "method": "sandbox.block", "params": [111]},
]


async def test_garbage_ends_its_own_session_and_odd_requests_get_an_error() -> None:
    async with serving() as (box, _, port):
        witness = await connect(port)
        tip = box.chain.tip
        for line in GARBAGE:
            client = await connect(port)
            await client.stream.send_all(line)
            assert "error" in await client.line()
            with pytest.raises(EOFError):
                await client.line()
        client = await connect(port)
        for item in ODD:
            await client.send(item)
            answer = await client.line()
            assert answer.get("error") or item["method"] in ("server.banner", "server.ping"), item
        await client.send(ODD)  # and all at once, as a batch
        assert len(await client.line()) == len(ODD)
        assert await witness.call("server.banner")
        assert box.chain.tip == tip


async def test_a_line_without_an_end_is_cut_off_at_its_bound() -> None:
    async with serving() as (_, _, port):
        client = await connect(port)
        with pytest.raises((trio.BrokenResourceError, EOFError)):
            for _ in range(100):
                await client.stream.send_all(b"a" * 100_000)
            await client.line()
        assert await (await connect(port)).call("server.banner")


async def test_a_dawdler_is_cut_off_and_a_quiet_subscriber_is_not(
    autojump_clock: trio.testing.MockClock,
) -> None:
    box = Sandbox(None)
    listening = ElectrumServer(box)

    async def session() -> tuple[Any, trio.testing.MemorySendStream]:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(listening._handle, theirs)
        return ours

    async with trio.open_nursery() as nursery:
        silent, half, quiet = [await session() for _ in range(3)]
        await quiet.send_all(b'{"id":1,"method":"blockchain.headers.subscribe"}\n')
        await quiet.receive_some()
        await half.send_all(b'{"id":1,"method":"server.ping"}\n')
        await half.receive_some()
        await trio.sleep(10 * server.LINE_SECONDS)
        assert listening.sessions == 2  # the silent one is gone
        assert await silent.receive_some() == b""
        for _ in range(server.LINE_SECONDS + 5):
            try:
                await half.send_all(b" ")
            except trio.BrokenResourceError:
                break
            await trio.sleep(1)
        assert listening.sessions == 1
        box.mine(1)
        listening.flush()
        assert b"headers.subscribe" in await quiet.receive_some()
        nursery.cancel_scope.cancel()
    box.close()


async def test_a_client_that_does_not_read_is_not_read_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "SEND_SECONDS", 0.3)
    async with serving() as (_, _, port):
        deaf = await connect(port)
        request = b'{"id":1,"method":"blockchain.block.headers","params":[0,2016]}\n'
        with pytest.raises(trio.BrokenResourceError), trio.fail_after(10):
            while True:
                await deaf.stream.send_all(request * 100)
        assert await (await connect(port)).call("server.banner")


async def test_unread_notices_cut_off_one_subscriber_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_NOTICES", 3)
    async with serving() as (box, flushing, port):
        client = await connect(port)
        await client.call("blockchain.headers.subscribe")
        for _ in range(10):  # without a pause: the writer never gets its turn
            box.mine(1)
            flushing.flush()
        with pytest.raises(EOFError):
            for _ in range(20):
                await client.line()
        assert await (await connect(port)).call("server.banner")


async def test_subscriptions_and_sessions_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(electrum, "MAX_SUBSCRIPTIONS", 2)
    monkeypatch.setattr(server, "MAX_SESSIONS", 3)
    async with serving() as (_, flushing, port):
        first = await connect(port)
        for n in (1, 2, 1):
            await first.call("blockchain.scripthash.subscribe", f"{n:064x}")
        assert "at most 2" in await first.refusal("blockchain.scripthash.subscribe", f"{3:064x}")
        others = [await connect(port) for _ in range(2)]
        for client in others:
            await client.call("server.ping")
        beyond = await connect(port)
        with pytest.raises((EOFError, trio.BrokenResourceError)):
            await beyond.call("server.ping")
        await others[0].stream.aclose()
        await first.call("server.ping")
        with trio.fail_after(5):
            while flushing.sessions > 2:
                await trio.lowlevel.checkpoint()
        assert (await (await connect(port)).raw("server.ping"))["result"] is None


async def test_a_client_with_much_to_do_does_not_keep_another_waiting() -> None:
    async with serving() as (box, _, port):
        greedy, modest = await connect(port), await connect(port)
        start = box.height
        line = b'{"id":1,"method":"sandbox.mine","params":[100,1]}\n'
        await greedy.stream.send_all(line * 10)
        with trio.fail_after(5):
            while box.height == start:
                await trio.lowlevel.checkpoint()
        assert await modest.call("server.banner")
        assert box.height < start + 1_000  # answered in between, not after
        for _ in range(10):
            await greedy.line()
        assert box.height == start + 1_000


def test_a_request_line_has_one_bound_that_fits_the_largest_transaction() -> None:
    assert rpc.MAX_LINE > 2 * 400_000
