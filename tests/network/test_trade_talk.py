"""Talk, evidence, another end and the docket: the command line against three running nodes.

Each node serves its local API on a real socket; every step is a command, and what it prints is
what is judged. A damaged disk, files that lie and words that a terminal would obey are among it.
"""

import hashlib
import json
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result
from trade_kit import Frame, Rig, rig

import cli
from escrow.messages import Kind
from escrow.model import Agreed, ArbiterLost, Disputed, Hearing, RuledCase
from escrow.payloads import Evidence
from p2pnode.app import (
    desk,
    routes_cases,
    routes_export,
    routes_hearing,
    routes_talk,
    routes_trades,
)
from p2pnode.app.api import Api
from p2pnode.app.routes import Call, Route

ROOT = Path(__file__).resolve().parents[2]
DAY = 86_400
PNG = b"\x89PNG\r\n\x1a\n" + random.Random(5).randbytes(200_000)
JPEG = b"\xff\xd8\xff\xe0" + random.Random(6).randbytes(70_000)


class Desks:
    """The rig's nodes, each behind its socket."""

    def __init__(self, r: Rig, folder: Path) -> None:
        self.rig, self.folder = r, folder
        self.apis: dict[str, Api] = {}

    async def serve(self, name: str) -> None:
        node, folder = self.rig[name], self.folder / name
        folder.mkdir()
        exchange, events = node.exchange, node.exchange.world.announce
        nobody: Any = None

        async def status(call: Call) -> dict[str, Any]:
            return {"last_event": events.last()}  # type: ignore[attr-defined]

        routes = [
            Route("GET", "/v1/status", status),
            *routes_trades.routes(exchange, nobody, nobody),
            *routes_talk.routes(exchange),
            *routes_export.routes(exchange),
            *routes_cases.routes(exchange),
            *routes_hearing.routes(exchange),
        ]
        api = Api(routes, events, node.database)  # type: ignore[arg-type]
        self.apis[name] = api
        await self.rig.nursery.start(api.serve, folder, trio.Event())

    async def run(self, name: str, *argv: str, json_: bool = False) -> Result:
        """Run a command as that node's user."""
        await self.rig.synced()
        words = [*argv, "--data-dir", str(self.folder / name), *(["--json"] if json_ else [])]
        return await trio.to_thread.run_sync(lambda: CliRunner().invoke(cli.main, words))

    async def do(self, name: str, *argv: str) -> str:
        """Run a command that must succeed; returns what it prints."""
        done = await self.run(name, *argv)
        assert done.exit_code == 0, done.stderr
        return done.stdout

    async def ask(self, name: str, *argv: str) -> list[dict[str, Any]]:
        """Run a command that must succeed with --json; returns its objects."""
        done = await self.run(name, *argv, json_=True)
        assert done.exit_code == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    async def shows(self, name: str, *argv: str, words: str) -> str:
        """Wait until a command's output holds `words`."""

        async def there() -> str:
            self.rig.poke()
            shown = " ".join((await self.do(name, *argv)).split())
            assert words in shown, shown
            return shown

        found: str = await self.rig.eventually(there)
        return found

    def events(self, name: str, kind: str) -> list[dict[str, Any]]:
        rows = self.rig[name].database.all("SELECT data FROM event WHERE kind = ?", kind)
        return [json.loads(row["data"]) for row in rows]


@asynccontextmanager
async def desks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desks]:
    monkeypatch.setattr(desk, "details", lambda raw, account_hash, network: "the rig's account")
    async with rig() as r:
        made = Desks(r, folder)
        for name in r.nodes:
            await made.serve(name)
        yield made


async def process(*words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, str(ROOT / "cli.py"), *words]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return await trio.to_thread.run_sync(lambda: subprocess.Popen(command, text=True, **pipes))


def until_closed(watching: "subprocess.Popen[str]") -> list[str]:
    """What a watcher prints until a trade is closed; it would go on."""
    assert watching.stdout is not None
    told: list[str] = []
    for line in watching.stdout:
        told.append(line)
        if json.loads(line)["state"] == "Closed":
            break
    return told


def content(path: str) -> bytes:
    return Path(path).read_bytes()


def readable(text: str) -> None:
    assert all(c.isprintable() or c == "\n" for c in text), repr(text)


# ------------------------------------------------------------------ words and another end


async def test_two_traders_talk_and_agree_on_another_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desks(tmp_path, monkeypatch) as d:
        trade_id = await d.rig.take()
        await d.rig.funded(trade_id)
        short = trade_id.hex()[:8]
        seller, buyer = "maker", "taker"

        # chat: both see it, with time and speaker; fillers are written out
        said = await d.do(buyer, "trade", "chat", short, "Which reference\u200b? \u00fc")
        assert "you to the seller" in said
        await d.shows(seller, "trade", "show", short, words="1 message: p2pnode trade chat")
        await d.shows(seller, "trade", "list", words="unread: 1 message")
        heard = await d.shows(seller, "trade", "chat", short, words="the buyer to you")
        assert "Which reference\\u200b? \u00fc" in heard
        assert "unread" not in await d.do(seller, "trade", "show", short)
        (own,) = await d.ask(buyer, "trade", "chat", short)
        assert own["delivered"]
        (one,) = await d.ask(seller, "trade", "chat", short)
        assert (one["speaker"], one["listener"], one["mine"]) == ("buyer", "seller", False)
        assert one["at"] == d.rig.clock.now()
        refused = await d.run(buyer, "trade", "chat", short, "hello", "--with", "arbiter")
        assert refused.exit_code == 70
        assert "has not acknowledged a dispute" in refused.stderr

        # a private note stays at home
        await d.do(buyer, "trade", "note", short, "the CANARY note")
        assert "the CANARY note" in await d.do(buyer, "trade", "show", short)
        assert "CANARY" not in await d.do(seller, "trade", "show", short)

        # a proposal, declined: the asker's node withdraws it
        await d.do(seller, "trade", "ask", short, "--refund", "--note", "no time", "--yes")
        assert "trade ask" in await d.do(seller, "trade", "show", short)  # how to take it back
        shown = await d.shows(buyer, "trade", "list", words="p2pnode trade agree")
        assert "the other side proposes 0.0005 BTC to the buyer" in shown
        await d.do(buyer, "trade", "decline", short, "--note", "I can pay")

        async def free() -> None:
            d.rig.poke()
            (found,) = await d.ask(seller, "trade", "show", short)
            assert [a["standing"] for a in found["asks"]] == ["free"]
            assert [a["declined"] for a in found["asks"]] == ["I can pay"]

        await d.rig.eventually(free)
        assert "I can pay" in await d.do(seller, "trade", "show", short)

        # who is away has nothing delivered, and it is said
        async def away(frame: Frame) -> list[bytes]:
            return [] if frame.kind is Kind.CHAT else [frame.raw]

        d.rig.post.hook = away
        said = await d.do(buyer, "trade", "chat", short, "are you there?")
        assert "you to the seller, on its way, not delivered yet" in said
        assert [one["delivered"] for one in await d.ask(buyer, "trade", "chat", short)] == [
            True,
            False,
        ]
        d.rig.post.hook = None

        # another one, agreed: paid out as agreed, and watched to the end by a process
        watching = await process("trade", "watch", short, "--data-dir", str(tmp_path / buyer))
        every = await process("trade", "watch", "--json", "--data-dir", str(tmp_path / buyer))
        try:

            async def listens() -> None:
                assert d.apis[buyer].listeners == 2

            await d.rig.eventually(listens)
            await d.do(seller, "trade", "ask", short, "--buyer", "0.002", "--yes")
            await d.shows(buyer, "trade", "show", short, words="p2pnode trade agree")
            await d.do(buyer, "trade", "agree", short, "--yes")
            await d.rig.both(trade_id, Agreed)
            late = await d.run(buyer, "trade", "pay-sent", short, "--yes")
            assert late.exit_code == 70
            assert "another split is agreed: do not pay" in late.stderr
            await d.rig.closed(trade_id, "agreed")
            with trio.fail_after(20):
                out, err = await trio.to_thread.run_sync(
                    watching.communicate, abandon_on_cancel=True
                )
                told = await trio.to_thread.run_sync(until_closed, every, abandon_on_cancel=True)
        finally:
            watching.kill()
            every.kill()
            every.wait()
        found = [json.loads(line) for line in told]
        assert {f["trade_id"] for f in found} == {trade_id.hex()}
        assert (found[0]["event"], found[0]["state"]) == (None, "Funded")
        assert all(f["event"]["trade_id"] == trade_id.hex() for f in found[1:])
        assert [f["state"] for f in found[-2:]] == ["Agreed", "Closed"]
        assert watching.returncode == 0, err
        readable(out)
        changes = [line for line in out.splitlines() if f" {short} " in line]
        assert changes[-1].endswith(
            " Closed: nothing: the escrow is paid out, as both sides agreed"
        )
        assert any(f" {short} Agreed: wait" in line for line in changes)
        assert max(map(len, out.splitlines())) <= 80

        # and taken to any other wallet
        target = tmp_path / "export.json"
        await d.do(buyer, "trade", "export", short, "--out", str(target))
        exported = json.loads(target.read_text())
        contract = d.rig[buyer].facts(trade_id).contract
        assert exported["contract_hash"] == contract.hash.hex()
        agreed = [p for p in exported["payouts"] if p["name"] == "agreed"]
        assert agreed
        kinds = [m.kind for m in d.rig[buyer].facts(trade_id).messages]
        assert len(exported["messages"]) == len(kinds)
        assert Kind.CHAT in kinds
        again = await d.run(buyer, "trade", "export", short, "--out", str(target))
        assert again.exit_code == 70
        assert "is there already" in again.stderr


# ------------------------------------------------------------------ a dispute with files


async def test_an_arbiter_sees_files_and_rules_from_the_docket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desks(tmp_path, monkeypatch) as d:
        trade_id = await d.rig.take()
        await d.rig.paid(trade_id)
        short, judge = trade_id.hex()[:8], d.rig.arbiter(trade_id)
        files = tmp_path / "mine"
        files.mkdir()
        (files / "bank statement.png").write_bytes(PNG)
        (files / "photo.jpg").write_bytes(JPEG)
        (files / "virus.png").write_bytes(b"MZ\x90\x00")
        good = [str(files / n) for n in ("bank statement.png", "photo.jpg")]

        early = await d.run("taker", "dispute", "evidence", short, *good)
        assert early.exit_code == 70
        await d.do("taker", "dispute", "open", short, "--statement", "I paid.", "--yes")
        await d.rig.both(trade_id, Disputed)
        await d.rig.delivered("taker", trade_id, Kind.NOTICE)

        # evidence: bounded and typed before it leaves, whole or not shown where it arrives
        bad = await d.run("taker", "dispute", "evidence", short, str(files / "virus.png"))
        assert bad.exit_code == 65
        assert "neither PNG, JPEG, PDF nor plain UTF-8 text" in bad.stderr
        sent = await d.ask("taker", "dispute", "evidence", short, *good)
        assert [(f["name"], f["parts"]) for f in sent] == [
            ("bank statement.png", 4),
            ("photo.jpg", 2),
        ]
        twice = await d.run("taker", "dispute", "evidence", short, good[0])
        assert twice.exit_code == 70
        assert "shown already" in twice.stderr
        await d.shows("taker", "dispute", "evidence", short, words="4 of 4 parts delivered")
        await d.shows(judge, "arbiter", "evidence", short, words="4 of 4")
        listed = await d.ask(judge, "arbiter", "evidence", short)
        assert [(f["side"], f["name"], f["complete"]) for f in listed] == [
            ("buyer", "bank statement.png", True),
            ("buyer", "photo.jpg", True),
        ]
        out = tmp_path / "case"
        written = await d.ask(judge, "arbiter", "evidence", short, "--out", str(out))
        assert [content(w["path"]) for w in written] == [PNG, JPEG]
        assert {p.name for p in out.iterdir()} == {
            f"{hashlib.sha256(PNG).hexdigest()[:12]}-bank_statement_png.png",
            f"{hashlib.sha256(JPEG).hexdigest()[:12]}-photo_jpg.jpg",
        }
        for name in ("taker", judge):  # sealed on both disks
            rows = d.rig[name].database.all("SELECT raw FROM message")
            assert not any(PNG[100:150] in r["raw"] or b"bank statement" in r["raw"] for r in rows)

        # the arbiter talks to one side, and is answered
        await d.do(judge, "arbiter", "chat", short, "Show the receipt.", "--to", "seller")
        await d.shows("maker", "trade", "chat", short, words="the arbiter to you")
        await d.do("maker", "trade", "chat", short, "None came.", "--with", "arbiter")
        await d.shows(judge, "arbiter", "chat", short, words="the seller to you")

        # the queue says what lacks and by when; the seller answers
        queue = await d.do(judge, "arbiter", "queue")
        assert "lacks: the seller's statement" in queue
        assert max(map(len, queue.splitlines())) <= 80
        await d.do("maker", "dispute", "answer", short, "--statement", "Nothing came.")
        await d.rig.until(judge, trade_id, Hearing)
        (waits,) = await d.ask(judge, "arbiter", "queue")
        assert [w["what"] for w in waits["due"]] == ["ruling"]
        assert any("not before" in text for text in waits["lacking"])

        # a ruling is shown before it is made, and refused in the machine's words (R4)
        early = await d.run(judge, "arbiter", "decide", short, "--buyer", "0", "--reason", "x")
        assert early.exit_code == 70
        assert "less than a release for the buyer is not allowed before" in early.stderr
        contract = d.rig["maker"].facts(trade_id).contract
        whole = contract.amount_sat + contract.dep_b
        amount = f"{whole / 100_000_000:.8f}"
        unasked = await d.run(judge, "arbiter", "decide", short, "--buyer", amount, "--reason", "x")
        assert unasked.exit_code == 2
        assert f"{contract.rate} sat/vB" in unasked.stderr
        assert f"{min(4 * contract.rate, contract.escrow_sat // 4000)} sat/vB" in unasked.stderr
        shown = await d.do(
            judge, "arbiter", "decide", short, "--buyer", amount, "--reason", "Paid.", "--yes"
        )
        assert "RuledCase" in shown
        await d.rig.until(judge, trade_id, RuledCase)
        await d.rig.closed(trade_id, "ruled")
        assert await d.ask(judge, "arbiter", "queue") == []


async def test_a_damaged_part_is_named_and_the_case_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desks(tmp_path, monkeypatch) as d:
        trade_id = await d.rig.take()
        await d.rig.paid(trade_id)
        short, judge = trade_id.hex()[:8], d.rig.arbiter(trade_id)
        file = tmp_path / "statement.png"
        file.write_bytes(PNG)
        await d.do("taker", "dispute", "open", short, "--statement", "I paid.", "--yes")
        await d.rig.delivered("taker", trade_id, Kind.NOTICE)
        await d.do("taker", "dispute", "evidence", short, str(file))
        await d.shows(judge, "arbiter", "evidence", short, words="4 of 4")
        database = d.rig[judge].database
        row = database.one(
            "SELECT id, raw FROM message WHERE kind = ? ORDER BY number LIMIT 1 OFFSET 1",
            int(Kind.EVIDENCE),
        )
        assert row is not None
        broken = bytearray(row["raw"])
        broken[-9] ^= 1
        with database.transaction():
            database.run("UPDATE message SET raw = ? WHERE id = ?", bytes(broken), row["id"])

        out = tmp_path / "case"
        told = await d.run(judge, "arbiter", "evidence", short, "--out", str(out))
        assert told.exit_code == 74
        assert f"the row {row['id'].hex()[:16]} does not open" in told.stderr
        assert list(out.iterdir()) == []
        assert "I paid." in await d.do(judge, "arbiter", "show", short)

        await d.rig.restart(judge)  # what was remembered is gone: the row is met again
        (tmp_path / judge / "api.sock").unlink(missing_ok=True)
        (tmp_path / judge).rename(tmp_path / "before")
        await d.serve(judge)
        await d.shows(judge, "arbiter", "evidence", short, words="3 of 4")
        shown = " ".join((await d.do(judge, "arbiter", "queue")).split())
        assert "1 parts of the buyer's files: their rows are damaged here" in shown
        await d.do(judge, "arbiter", "recuse", short, "--reason", "my disk \u200bis bad", "--yes")
        await d.rig.both(trade_id, ArbiterLost)
        shown = await d.shows("maker", "trade", "show", short, words="has recused himself")
        assert "my disk \\u200bis bad" in shown
        readable(shown)


async def test_parts_that_lie_are_refused_or_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desks(tmp_path, monkeypatch) as d:
        trade_id = await d.rig.take()
        await d.rig.paid(trade_id)
        short, judge = trade_id.hex()[:8], d.rig.arbiter(trade_id)
        await d.do("taker", "dispute", "open", short, "--statement", "I paid.", "--yes")
        await d.rig.delivered("taker", trade_id, Kind.NOTICE)
        thief, digest = d.rig["taker"], hashlib.sha256(b"what it is not").digest()

        async def send(part: Evidence) -> tuple[int, str]:
            message = thief.next_message(trade_id, d.rig[judge].id, Kind.EVIDENCE, part.wire())
            answer = await d.rig.inject("taker", judge, message.wire())
            if answer[0] == 0:  # the thief keeps his own chain
                with thief.database.transaction():
                    thief.journal.add(message, mine=False)
            return answer

        name = "../../../../etc/cron.d/x"
        lie = Evidence(file_hash=digest, name=name, size=5, part=0, data=b"a lie")
        assert (await send(lie))[0] == 0
        told = await d.run(judge, "arbiter", "evidence", short, "--out", str(tmp_path / "case"))
        assert told.exit_code == 65
        assert "is not what its parts make" in told.stderr
        assert list((tmp_path / "case").iterdir()) == []
        other = Evidence(file_hash=digest, name=name, size=6, part=0, data=b"longer")
        assert "size: is not what an earlier part of this file says" in (await send(other))[1]
        program = b"\x7fELF" + bytes(40)
        elf = Evidence(
            file_hash=hashlib.sha256(program).digest(),
            name="receipt.png",
            size=len(program),
            part=0,
            data=program,
        )
        assert (await send(elf))[0] == 0
        told = await d.run(judge, "arbiter", "evidence", short, "--out", str(tmp_path / "case"))
        assert "neither PNG, JPEG, PDF nor plain UTF-8 text" in told.stderr
        assert list((tmp_path / "case").iterdir()) == []
        for n in range(6):
            data = b"file %d" % n
            more = Evidence(
                file_hash=hashlib.sha256(data).digest(), name="x", size=6, part=0, data=data
            )
            assert (await send(more))[0] == 0
        ninth = Evidence(file_hash=bytes(32), name="x", size=1, part=0, data=b"x")
        assert "names more than 8 files" in (await send(ninth))[1]
        listed = await d.ask(judge, "arbiter", "evidence", short)
        assert len(listed) == 8


# ------------------------------------------------------------------ reminders


async def test_both_roles_are_reminded_once_each_over_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desks(tmp_path, monkeypatch) as d:
        trade_id = await d.rig.take()
        await d.rig.paid(trade_id)
        short, judge = trade_id.hex()[:8], d.rig.arbiter(trade_id)
        await d.do("taker", "dispute", "open", short, "--statement", "I paid.", "--yes")
        await d.rig.both(trade_id, Disputed)
        await d.rig.until(judge, trade_id, *(type(d.rig[judge].state(trade_id)),))

        def left(name: str) -> int:
            """Hours by the chain's clock until the reply is due, as the trade shows it."""
            facts = d.rig[name].facts(trade_id)
            state = d.rig[name].state(trade_id)
            assert isinstance(state, Disputed)
            due = state.mtp + facts.contract.reply_s
            return (due - d.rig[name].chain.tip().mtp) // 3600

        async def heard(name: str, count: int) -> list[tuple[str, int]]:
            async def there() -> list[tuple[str, int]]:
                d.rig.poke()
                found = [(e["what"], e["hours"]) for e in d.events(name, "reminder")]
                assert len(found) >= count, found
                return found

            told: list[tuple[str, int]] = await d.rig.eventually(there)
            return told

        async def pass_until(hours: int) -> None:
            while left("maker") >= hours:
                d.rig.mine(1, step=3600)
                await d.rig.synced()

        await pass_until(47)
        assert await heard("maker", 1) == [("reply", 48)]
        assert await heard(judge, 1) == [("reply", 48)]
        assert d.events("taker", "reminder") == []  # he has spoken
        await d.rig.restart("maker")
        await pass_until(23)
        assert await heard("maker", 2) == [("reply", 48), ("reply", 24)]
        assert any("reply is due within 24 h" in line for line in d.rig.log)
