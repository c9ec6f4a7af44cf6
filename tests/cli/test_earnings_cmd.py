"""`p2pnode arbiter status` and `withdraw` against a daemon's real socket."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import trio
from chain_kit import eventually, rig
from click.testing import CliRunner, Result
from earnings_kit import Court

from p2pnode.app.api import Api
from p2pnode.app.client import Client
from p2pnode.app.commands.arbiter import arbiter
from p2pnode.app.events import Events
from p2pnode.app.routes_cases import routes
from p2pnode.base.store import Database

FEE = (42 + 272 + 124) // 2


class Daemon:
    def __init__(self, court: Court, folder: Path) -> None:
        self.court, self.rig, self.folder = court, court.rig, folder

    async def __call__(self, *argv: str) -> Result:
        words = [*argv, "--data-dir", str(self.folder)]
        call: Callable[[], Result] = lambda: CliRunner().invoke(arbiter, words)  # noqa: E731
        return await trio.to_thread.run_sync(call)


@asynccontextmanager
async def daemon(folder: Path) -> AsyncIterator[Daemon]:
    async with rig() as r:
        database = Database(folder / "node.sqlite")
        court = Court(r, database)
        exchange: Any = SimpleNamespace(
            world=court.trades.world,
            trades=court.trades,
            earnings=court.earnings,
            arbiter=SimpleNamespace(registered=lambda: False),  # earned before, registered no more
        )
        api = Api(routes(exchange), Events(database), database)
        await r.nursery.start(api.serve, folder, trio.Event())
        yield Daemon(court, folder)


async def test_status_shows_what_was_earned_and_withdraw_sends_it_home(tmp_path: Path) -> None:
    async with daemon(tmp_path) as d:
        first = await d("status", "--json")
        assert json.loads(first.stdout) == {
            "registered": False,
            "earned_sat": 0,
            "earned_pending_sat": 0,
        }
        one, two = d.court.rule("one"), d.court.rule("two")
        d.court.pay(one)
        d.rig.mine()
        d.court.pay(two)
        await d.court.shows(4_000, pending=4_000)
        shown = (await d("status")).stdout
        assert "earned 0.00004000 BTC" in shown
        assert "0.00004000 BTC pending" in shown

        unasked = await d("withdraw", "--json")
        assert unasked.exit_code == 2
        assert "--yes" in unasked.stderr
        done = await d("withdraw", "--rate", "2", "--yes", "--json")
        assert done.exit_code == 0, done.stderr
        answer = json.loads(done.stdout)
        assert answer | {"txid": ""} == {
            "txid": "",
            "amount_sat": 4_000 - FEE,
            "fee_sat": FEE,
            "outputs": 1,
        }
        d.rig.mine()
        await d.court.purse.holds(4_000 - FEE)

        async def txid_shown() -> None:
            (entry,) = d.court.purse.wallet.history()
            assert entry.txid[::-1].hex() == answer["txid"]

        await eventually(txid_shown)


async def test_a_refusal_is_a_sentence_with_its_exit_code(tmp_path: Path) -> None:
    async with daemon(tmp_path) as d:
        result = await d("withdraw", "--yes")
        assert result.exit_code == 70
        assert "nothing to withdraw" in result.stderr
        assert (await d("withdraw", "--yes", "--rate", "501")).exit_code == 2


async def test_one_idempotency_key_withdraws_once(tmp_path: Path) -> None:
    async with daemon(tmp_path) as d:
        d.court.pay(d.court.rule("one"))
        d.rig.mine()
        await d.court.shows(4_000)
        client = Client(tmp_path)

        def ask() -> Any:
            return client.call("POST", "/v1/arbiter/withdraw", {"rate": 2}, key="again")

        first = await trio.to_thread.run_sync(ask)
        assert await trio.to_thread.run_sync(ask) == first
        assert len(d.rig.box.pool.entries) == 1
