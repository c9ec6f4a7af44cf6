"""`p2pnode wallet` against a daemon's real socket: tables, JSON, exit codes."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from chain_kit import SCRIPT, Purse, eventually, rig
from click.testing import CliRunner, Result

from p2pnode.app.api import Api
from p2pnode.app.commands.wallet import wallet
from p2pnode.app.events import Events
from p2pnode.app.routes_wallet import routes
from p2pnode.base.store import Database

TRADE = bytes.fromhex("7f3a91" + "00" * 29)


class Daemon:
    def __init__(self, purse: Purse, folder: Path) -> None:
        self.purse, self.rig, self.folder = purse, purse.rig, folder

    async def __call__(self, *argv: str) -> Result:
        words = [*argv, "--data-dir", str(self.folder)]
        call: Callable[[], Result] = lambda: CliRunner().invoke(wallet, words)  # noqa: E731
        return await trio.to_thread.run_sync(call)

    async def json(self, *argv: str) -> list[dict[str, Any]]:
        result = await self(*argv, "--json")
        assert result.exit_code == 0, result.stderr
        return [json.loads(line) for line in result.stdout.splitlines()]


@asynccontextmanager
async def daemon(folder: Path) -> AsyncIterator[Daemon]:
    async with rig() as r:
        database = Database(folder / "node.sqlite")
        purse = Purse(r, database)
        api = Api(routes(purse.wallet, r.chain, purse.locks), Events(database), database)
        await r.nursery.start(api.serve, folder, trio.Event())
        yield Daemon(purse, folder)


async def test_balance_tells_locked_and_pending_apart(tmp_path: Path) -> None:
    async with daemon(tmp_path) as d:
        await d.purse.funded(150_000_000, 10_000_000)
        small = min(d.purse.wallet.coins(), key=lambda c: c.value)
        d.purse.locks.lock([small.outpoint], TRADE)
        d.rig.fund(d.purse.wallet.script_for_payout(), 5_000_000)
        await d.purse.holds(160_000_000, pending=5_000_000)
        (answer,) = await d.json("balance")
        assert answer == {
            "available_sat": 150_000_000,
            "locked_sat": 10_000_000,
            "confirmed_sat": 160_000_000,
            "pending_sat": 5_000_000,
            "height": d.rig.box.height,
        }
        shown = (await d("balance")).stdout.split()
        assert shown[:3] == ["available", "1.50000000", "BTC"]
        assert shown[3:5] == ["locked", "0.10000000"]

        rows = await d.json("utxos")
        assert [row["trade_id"] for row in rows if row["amount_sat"] == 10_000_000] == [TRADE.hex()]
        assert {row["confirmations"] for row in rows} == {0, 1}
        assert all(row["address"].startswith("bcrt1q") for row in rows)
        table = (await d("utxos")).stdout.splitlines()
        assert len(table) == 1 + 2 * 3
        assert max(map(len, table)) <= 80
        assert sum(line.endswith("7f3a91000000") for line in table) == 1


async def test_an_empty_wallet_lists_nothing_and_exits_0(tmp_path: Path) -> None:
    async with daemon(tmp_path) as d:
        for command in ("utxos", "history"):
            result = await d(command)
            assert (result.exit_code, result.stdout) == (0, "")
            assert result.stderr
            assert await d.json(command) == []


async def test_addresses_are_fresh(tmp_path: Path) -> None:
    async with daemon(tmp_path) as d:
        first, second = (await d("address")).stdout.strip(), (await d("address")).stdout.strip()
        assert first.startswith("bcrt1q")
        assert first != second


async def test_send_moves_money_once_and_shows_in_the_history(tmp_path: Path) -> None:
    async with daemon(tmp_path) as d:
        await d.purse.funded(100_000_000)
        target = d.purse.wallet.address_of(SCRIPT)
        refused = await d("send", target, "0.3", "--rate", "2")
        assert refused.exit_code == 2  # no terminal to ask on, and no --yes
        assert not d.rig.box.pool.entries
        (sent,) = await d.json("send", target, "0.3", "--rate", "2", "--yes")
        (entry,) = d.rig.box.pool.entries.values()
        assert sent["txid"] == entry.tx.txid[::-1].hex()
        assert sent["amount_sat"] == 30_000_000
        d.rig.mine()
        await d.purse.holds(70_000_000 - entry.fee)
        newest, oldest = await d.json("history")
        assert newest["txid"] == sent["txid"]
        assert (newest["amount_sat"], newest["fee_sat"]) == (-30_000_000 - entry.fee, entry.fee)
        assert newest["confirmations"] == 1
        assert newest["chain_time"] == d.rig.chain.mtp(newest["height"])
        assert oldest["amount_sat"] == 100_000_000
        table = (await d("history")).stdout
        assert "-0.3000" in table
        assert "+1.00000000" in table


async def test_one_key_sends_once(tmp_path: Path) -> None:
    from p2pnode.app.client import Client

    async with daemon(tmp_path) as d:
        await d.purse.funded(50_000_000, 50_000_000)
        body = {"address": d.purse.wallet.address_of(SCRIPT), "amount_sat": 1_000_000, "rate": 1}

        def post() -> Any:
            return Client(tmp_path).call("POST", "/v1/wallet/send", body, key="once")

        answers = [await trio.to_thread.run_sync(post) for _ in range(2)]
        assert answers[0] == answers[1]
        assert len(d.rig.box.pool.entries) == 1


async def test_what_cannot_be_sent_is_a_sentence_and_an_exit_code(tmp_path: Path) -> None:
    async with daemon(tmp_path) as d:
        await d.purse.funded(1_000_000)
        target = d.purse.wallet.address_of(SCRIPT)
        for argv, code, words in (
            ((target, "5"), 70, "not enough funds: 5.00000000 BTC"),
            ((target, "0.000001"), 70, "too little"),
            ((target, "0"), 2, "amount: is not 0.00000001 to 21,000,000"),
            ((target, "1e3"), 65, "amount"),
            ((target, "0.123456789"), 65, "8 decimals"),
            (("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "0.001"), 65, "address"),
            ((target, "0.001", "--rate", "0"), 2, "rate"),
        ):
            result = await d("send", *argv, "--yes")
            assert (result.exit_code, result.stdout) == (code, ""), result.stderr
            assert words in result.stderr
            assert "Traceback" not in result.stderr
        assert not d.rig.box.pool.entries


async def test_without_a_chain_server_there_is_no_balance_to_show(tmp_path: Path) -> None:
    async with daemon(tmp_path) as d:
        d.rig.relay.target = 1
        for connection in list(d.rig.server._connections):
            await trio.aclose_forcefully(connection._stream)

        async def away() -> None:
            assert not d.rig.chain.connected

        await eventually(away)
        result = await d("balance", "--json")
        assert result.exit_code == 69
        assert json.loads(result.stderr)["error"]["code"] == "unavailable"
