"""`p2pnode arbiter bond` and `pause` against a daemon's real socket."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import trio
from bond_node import SAT, Arbiter, funded
from chain_kit import rig
from click.testing import CliRunner, Result

from p2pnode.app import routes_bonds, routes_cases
from p2pnode.app.api import Api
from p2pnode.app.commands.arbiter import arbiter
from p2pnode.app.events import Events
from p2pnode.base.store import Database
from p2pnode.base.units import moment


class Daemon:
    def __init__(self, a: Arbiter, folder: Path) -> None:
        self.arbiter, self.rig, self.folder = a, a.rig, folder

    async def __call__(self, *argv: str) -> Result:
        words = [*argv, "--data-dir", str(self.folder)]
        call: Callable[[], Result] = lambda: CliRunner().invoke(arbiter, words)  # noqa: E731
        return await trio.to_thread.run_sync(call)

    async def rows(self, *argv: str) -> list[dict[str, Any]]:
        result = await self(*argv, "--json")
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in result.stdout.splitlines()]


@asynccontextmanager
async def daemon(folder: Path) -> AsyncIterator[Daemon]:
    async with rig() as r:
        database = Database(folder / "node.sqlite")
        a = await funded(r, 8_000_000, 8_000_000, database=database)

        async def seen() -> tuple[Any, ...]:
            await trio.lowlevel.checkpoint()
            return ()

        exchange: Any = SimpleNamespace(
            world=a.world,
            bonds=a.bonds,
            redemption=a.redemption,
            arbiter=a.service,
            earnings=SimpleNamespace(seen=seen),
        )
        routes = [*routes_bonds.routes(exchange), *routes_cases.routes(exchange)]
        await r.nursery.start(Api(routes, Events(database), database).serve, folder, trio.Event())
        yield Daemon(a, folder)


async def test_a_bond_from_create_to_redeem(tmp_path: Path) -> None:
    async with daemon(tmp_path) as d:
        (made,) = await d.rows("bond", "create", "--amount", "0.05", "--lock", "1", "--yes")
        assert (made["number"], made["state"], made["amount_sat"]) == (0, "pending", SAT)
        assert made["address"].startswith("bcrt1q")
        early = await d("bond", "proof", "--json")
        assert early.exit_code == 70
        assert "wait for a block" in json.loads(early.stderr)["error"]["message"]
        d.rig.mine(9)
        await d.arbiter.stands(0, "drawable")
        (shown,) = await d.rows("bond", "show")
        assert (shown["state"], shown["note"]) == ("drawable", "")
        assert shown["weight"] == SAT * (shown["lock_time"] - shown["mtp"]) // 31_536_000
        said = await d("bond", "show")
        assert "drawable" in said.stdout
        assert moment(shown["lock_time"]) in said.stdout

        (proof,) = await d.rows("bond", "proof")
        bond = await d.arbiter.bonds.best()
        assert bond is not None
        assert proof["transaction"] == bond[1].transaction.hex()
        assert proof["branch"] == [b.hex() for b in bond[1].branch]
        assert proof["outpoint"] == shown["outpoint"]
        assert proof["script"].endswith(f"b17521{proof['bond_key']}ac")
        assert proof["key_path"] == "m/8383h/1h/3h/0h"
        number = proof["key_path"].rpartition("/")[2].rstrip("h")
        (same,) = await d.rows("bond", "recover", number, str(proof["lock_time"]))
        assert same["outpoint"] == shown["outpoint"]
        other = await d("bond", "recover", "5", str(proof["lock_time"]))
        assert other.exit_code == 70
        assert "p2pnode arbiter bond proof" in other.output
        words = await d("bond", "proof", "0")
        assert proof["script"] in words.stdout

        no = await d("bond", "redeem", "--yes", "--json")
        assert no.exit_code == 70
        assert "no bond of yours has expired" in json.loads(no.stderr)["error"]["message"]
        await d.arbiter.expire()
        (done,) = await d.rows("bond", "redeem", "--rate", "2", "--yes")
        assert done["amount_sat"] == SAT - done["fee_sat"]
        d.rig.mine()
        await d.arbiter.stands(0, "redeemed")


async def test_renew_and_until(tmp_path: Path) -> None:
    async with daemon(tmp_path) as d:
        nothing = await d("bond", "renew", "--lock", "2", "--yes")
        assert nothing.exit_code == 70
        assert "arbiter bond create" in nothing.output
        (day, _) = moment(d.arbiter.world.chain.tip().mtp + 40 * 86_400).split(" ", 1)
        (made,) = await d.rows("bond", "create", "--amount", "0.02", "--until", day, "--yes")
        assert moment(made["lock_time"]) == f"{day} 00:00 UTC"
        d.rig.mine()
        await d.arbiter.purse.wallet.sync()
        (again,) = await d.rows("bond", "renew", "--lock", "60", "--yes")
        assert (again["number"], again["amount_sat"]) == (1, 2_000_000)
        assert len(await d.rows("bond", "show")) == 2


async def test_wrong_words_name_the_remedy(tmp_path: Path) -> None:
    async with daemon(tmp_path) as d:
        for argv, code, words in (
            (("--amount", "0.05"), 2, "name one of --lock DAYS and --until DATE"),
            (("--amount", "0.05", "--lock", "1", "--until", "2030-01-01"), 2, "name one of"),
            (("--amount", "0.05", "--until", "soon"), 65, "is not a day such as 2027-06-30"),
            (("--amount", "0.05", "--until", "2020-01-01"), 70, "lock it beyond"),
            (("--amount", "0.05", "--lock", "3650"), 70, "name a nearer date"),
            (("--amount", "much", "--lock", "1"), 65, "is not a decimal number"),
            (("--amount", "9", "--lock", "1"), 70, "not enough funds"),
        ):
            refused = await d("bond", "create", *argv, "--yes")
            assert refused.exit_code == code, refused.output
            assert words in " ".join(refused.output.split())
        asked = await d("bond", "create", "--amount", "0.05", "--lock", "1")
        assert asked.exit_code == 2
        assert "It cannot be undone" in asked.output
        assert await d.rows("bond", "show") == []
        missing = await d("bond", "proof", "7")
        assert missing.exit_code == 70
        assert "arbiter bond show" in missing.output


async def test_register_pause_and_resume_say_what_counts(tmp_path: Path) -> None:
    async with daemon(tmp_path) as d:
        for verb in ("pause", "resume"):
            early = await d(verb)
            assert early.exit_code == 70
            assert "p2pnode arbiter register" in early.output
        (bare,) = await d.rows("register")
        assert (bare["weight"], bare["bond"], bare["waiting"], bare["paused"]) == (1, "", "", False)
        await d.rows("bond", "create", "--amount", "0.05", "--lock", "365", "--yes")
        d.rig.mine(2)
        await d.arbiter.stands(0, "young")
        (young,) = await d.rows("status")
        assert young["waiting"].startswith("bond 0: drawable from block")
        d.rig.mine(8)
        await d.arbiter.stands(0, "drawable")
        (full,) = await d.rows("register", "--fee-base", "2000")
        assert full["bond_sat"] == SAT
        assert SAT - 2000 < full["weight"] <= SAT
        assert (full["fee_base_sat"], full["waiting"]) == (2000, "")
        said = await d("status")
        assert "by a bond" in said.stdout
        (paused,) = await d.rows("pause")
        assert paused["paused"] is True
        assert paused["drawable_until_height"] == full["at_height"] + 294
        told = await d("pause")
        assert f"until block {paused['drawable_until_height']}" in told.stderr
        assert "paused: p2pnode arbiter resume" in (await d("status")).stdout
        (resumed,) = await d.rows("resume")
        assert (resumed["paused"], resumed["holders"]) == (False, 3)
