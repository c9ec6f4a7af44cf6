"""Who signs two things is refused as before, and whoever meets both keeps a proof for anybody."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import trio
from click.testing import CliRunner, Result
from thief_kit import K, forged, logged, paid, says, verdict
from trade_kit import NET, Rig, resigned

import cli
from escrow.equivocation import Equivocation, What
from escrow.messages import Message
from escrow.model import Disputed, SayReceived
from escrow.payloads import Forward, Statement
from escrow.payout import Split, release, verdict_split
from escrow.shell_inbox import APPLIED, LATER, REFUSED, USED
from p2pnode.app import desk, routes_cases, routes_proofs, routes_trades
from p2pnode.app.api import Api
from p2pnode.app.routes import Call, Route
from p2pnode.base.errors import StorageFault

ROOT = Path(__file__).parents[2]


def proofs(r: Rig, name: str, trade_id: bytes) -> list[Equivocation]:
    return r[name].journal.proofs.of(trade_id)


def events(r: Rig, name: str) -> list[dict[str, Any]]:
    rows = r[name].database.all("SELECT data FROM event WHERE kind = 'equivocation'")
    return [json.loads(row["data"]) for row in rows]


def second_account(r: Rig, trade_id: bytes) -> tuple[Message, Message]:
    """The maker's ACCOUNT as the taker has it, and another message of that number."""
    held = r["taker"].heard(trade_id, K.ACCOUNT)
    assert held is not None
    raw = resigned(held, r["maker"].identity, tip_height=held.tip_height + 1)
    return held, Message.from_wire(raw, NET)


async def deliver(r: Rig, message: Message) -> int:
    sender, recipient = (r.post.names[i] for i in (message.sender, message.recipient))
    status, *_ = await r.inject(sender, recipient, message.wire())
    return int(status)


async def noticed(r: Rig, trade_id: bytes) -> str:
    """Open a dispute of the seller's; returns the arbiter's name once both have his NOTICE."""
    await r.dispute("maker", trade_id)
    await r.both(trade_id, Disputed)
    for name in ("maker", "taker"):
        await r.delivered(name, trade_id, K.NOTICE)
    return r.arbiter(trade_id)


def splits(r: Rig, trade_id: bytes) -> tuple[Split, Split]:
    contract = r["maker"].facts(trade_id).contract
    full = release(contract).buyer_sat
    return verdict_split(contract, full), verdict_split(contract, full - 50_000)


# ------------------------------------------------------------------ two messages of one number


async def test_a_second_message_of_a_number_is_refused_and_both_headers_are_kept() -> None:
    async with paid() as (r, trade_id):
        held, other = second_account(r, trade_id)
        before = r["taker"].snapshot()
        for _ in range(3):
            assert await deliver(r, other) == USED
            assert r["taker"].snapshot() == before
        (proof,) = proofs(r, "taker", trade_id)
        assert (proof.what, proof.sender) == (What.NUMBER, r["maker"].id)
        assert {m.id for m in proof} == {held.id, other.id}
        told = {"trade_id": trade_id.hex(), "by": r["maker"].id.hex(), "what": proof.what.words}
        assert events(r, "taker") == [told]
        logged(r, f"{r['maker'].id.hex()[:16]} signed two messages of one number in trade")
        assert proofs(r, "maker", trade_id) == []
        await r.act("maker", trade_id, SayReceived())  # and the trade goes on
        await r.closed(trade_id, "released")


async def test_four_are_kept_however_often_somebody_signs() -> None:
    async with paid() as (r, trade_id):
        held, _ = second_account(r, trade_id)
        for n in range(1, 9):
            raw = resigned(held, r["maker"].identity, tip_height=held.tip_height + n)
            assert await deliver(r, Message.from_wire(raw, NET)) == USED
        assert len(proofs(r, "taker", trade_id)) == len(events(r, "taker")) == 4


async def test_what_is_forged_or_before_a_trade_is_kept_by_nobody() -> None:
    async with paid(strangers=("stranger",)) as (r, trade_id):
        held, other = second_account(r, trade_id)
        bad = resigned(held, r["stranger"].identity, tip_height=held.tip_height + 1)
        assert (await r.inject("maker", "taker", bad))[0] == REFUSED
        take = r["maker"].heard(trade_id, K.TAKE)
        assert take is not None
        raw = resigned(take, r["taker"].identity, tip_height=take.tip_height - 1)
        assert await deliver(r, Message.from_wire(raw, NET)) == REFUSED
        for name in ("maker", "taker"):
            assert proofs(r, name, trade_id) == []
        assert await deliver(r, other) == USED  # the taker was looking
        assert len(proofs(r, "taker", trade_id)) == 1


async def test_a_disk_that_is_full_costs_the_proof_and_not_the_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with paid() as (r, trade_id):
        _, other = second_account(r, trade_id)
        tried = []

        def full(proof: Equivocation, now: int) -> bool:
            tried.append(proof)
            raise StorageFault("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(r["taker"].journal.proofs, "keep", full)
            before = r["taker"].snapshot()
            assert await deliver(r, other) == USED
            assert r["taker"].snapshot() == before
        assert len(tried) == 1
        logged(r, "no proof was looked for")
        assert proofs(r, "taker", trade_id) == events(r, "taker") == []
        assert await deliver(r, other) == USED
        assert len(proofs(r, "taker", trade_id)) == 1


# ------------------------------------------------------------------ two verdicts


async def test_a_trader_who_is_sent_two_verdicts_refuses_one_and_keeps_both() -> None:
    async with paid() as (r, trade_id):
        arbiter = await noticed(r, trade_id)
        one, two = splits(r, trade_id)
        assert (await says(r, arbiter, "maker", trade_id, verdict(r, trade_id, one)))[0] == APPLIED
        assert proofs(r, "maker", trade_id) == []
        before = r["maker"].snapshot()
        status, text = await says(r, arbiter, "maker", trade_id, verdict(r, trade_id, two))
        assert (status, text) == (REFUSED, "VERDICT was said before")
        assert r["maker"].snapshot() == before
        (proof,) = proofs(r, "maker", trade_id)
        assert (proof.what, proof.sender) == (What.VERDICTS, r[arbiter].id)
        (event,) = events(r, "maker")
        assert event["what"] == "two verdicts"
        answer = routes_trades.trade_json(
            r["maker"].exchange, r["maker"].exchange.trades.row(trade_id)
        )
        assert answer["proofs"] == [
            {"what": "two verdicts", "by": "arbiter", "node_id": r[arbiter].id.hex()}
        ]


async def test_a_verdict_that_was_told_to_the_other_trader_counts_too() -> None:
    """He forwards to one what he has signed for the other."""
    async with paid() as (r, trade_id):
        arbiter = await noticed(r, trade_id)
        one, two = splits(r, trade_id)
        assert (await says(r, arbiter, "taker", trade_id, verdict(r, trade_id, one)))[0] == APPLIED
        ruled = verdict(r, trade_id, two)
        to_maker = forged(r, arbiter, "maker", trade_id, K.VERDICT, ruled.wire())
        await says(r, arbiter, "taker", trade_id, Forward(messages=(to_maker.wire(),)))
        (proof,) = proofs(r, "taker", trade_id)
        assert proof.what is What.VERDICTS
        assert {m.recipient for m in proof} == {r["maker"].id, r["taker"].id}


async def test_a_stranger_fills_nobodys_disk_with_proofs_against_strangers() -> None:
    async with paid(strangers=("stranger",)) as (r, trade_id):
        arbiter = await noticed(r, trade_id)
        one, two = (verdict(r, trade_id, s).wire() for s in splits(r, trade_id))
        own = [
            forged(
                r, "stranger", "maker", trade_id, K.VERDICT, payload, seq=n, prev=bytes([n]) * 32
            )
            for n, payload in ((1, one), (2, two))
        ]
        carried = Forward(messages=tuple(m.wire() for m in own))
        for sender in ("stranger", arbiter):
            assert (await says(r, sender, "maker", trade_id, carried))[0] == REFUSED
        assert proofs(r, "maker", trade_id) == []


# ------------------------------------------------------------------ before an arbiter


def papers(r: Rig, name: str, trade_id: bytes, *replaced: Message) -> tuple[bytes, ...]:
    """What a trader shows, with messages of the same number in place of his own."""
    places = {(m.sender, m.seq): m.wire() for m in replaced}
    return tuple(places.get((m.sender, m.seq), m.wire()) for m in r[name].facts(trade_id).between)


async def heard(r: Rig, arbiter: str, trade_id: bytes, **shown: Sequence[bytes]) -> None:
    """The taker's node is still, and then the taker shows this."""
    await r.quiet("taker", trade_id)
    words = {"messages": (), "rulings": ()} | {k: tuple(v) for k, v in shown.items()}
    statement = Statement(statement="see for yourself", **words)
    assert await says(r, "taker", arbiter, trade_id, statement) == (APPLIED, "")


async def test_an_arbiter_keeps_the_proof_that_a_trader_shows_two_chains() -> None:
    async with paid() as (r, trade_id):
        arbiter = await noticed(r, trade_id)
        said = r["maker"].heard(trade_id, K.PAID)
        assert said is not None
        raw = resigned(said, r["taker"].identity, tip_height=said.tip_height + 1)
        forged_papers = papers(r, "taker", trade_id, Message.from_wire(raw, NET))
        await heard(r, arbiter, trade_id, messages=forged_papers)
        (proof,) = proofs(r, arbiter, trade_id)
        assert (proof.what, proof.sender) == (What.NUMBER, r["taker"].id)
        exchange = r[arbiter].exchange
        answer = routes_cases.case_json(exchange, exchange.trades.row(trade_id))
        assert answer["signed_twice"] == ["buyer"]
        assert [p["by"] for p in answer["proofs"]] == ["buyer"]


async def test_an_arbiter_keeps_the_proof_of_the_other_ones_two_verdicts() -> None:
    async with paid() as (r, trade_id):
        arbiter, second = await noticed(r, trade_id), r.runner_up(trade_id)
        shown = [
            forged(
                r, second, "taker", trade_id, K.VERDICT, verdict(r, trade_id, split).wire(),
                seq=seq, prev=bytes([seq]) * 32,
            )
            for seq, split in enumerate(splits(r, trade_id), 1)
        ]  # fmt: skip
        await heard(r, arbiter, trade_id, rulings=[m.wire() for m in shown])
        (proof,) = proofs(r, arbiter, trade_id)
        assert (proof.what, proof.sender) == (What.VERDICTS, r[second].id)


async def test_a_dispute_may_bring_the_proof_and_brings_none_where_no_case_opens() -> None:
    async with paid() as (r, trade_id):
        arbiter, second = r.arbiter(trade_id), r.runner_up(trade_id)
        shown = [
            forged(
                r, second, "taker", trade_id, K.VERDICT, verdict(r, trade_id, split).wire(),
                seq=seq, prev=bytes([seq]) * 32,
            ).wire()
            for seq, split in enumerate(splits(r, trade_id), 1)
        ]  # fmt: skip
        called = replace(r.papers("taker", trade_id, "see for yourself"), rulings=tuple(shown))
        early = await says(r, "taker", second, trade_id, called)  # before the timelock's end
        assert (early[0], r[second].state(trade_id)) == (LATER, None)
        assert proofs(r, second, trade_id) == []
        odd = replace(called, contract=called.contract[:-1])
        assert (await says(r, "taker", arbiter, trade_id, odd))[0] == REFUSED
        assert proofs(r, arbiter, trade_id) == []
        assert (await says(r, "taker", arbiter, trade_id, called))[0] == APPLIED
        (proof,) = proofs(r, arbiter, trade_id)
        assert (proof.what, proof.sender) == (What.VERDICTS, r[second].id)
        assert len(events(r, arbiter)) == 1


async def test_nobody_keeps_a_proof_against_himself() -> None:
    """An arbiter whose data were lost is shown what he said; he is toxic, and that is all."""
    async with paid() as (r, trade_id):
        arbiter = await noticed(r, trade_id)
        notice = r["taker"].heard(trade_id, K.NOTICE)
        assert notice is not None
        raw = resigned(notice, r[arbiter].identity, tip_height=notice.tip_height + 1)
        await heard(r, arbiter, trade_id, rulings=[raw])
        assert type(r[arbiter].state(trade_id)).__name__ == "ToxicCase"
        assert proofs(r, arbiter, trade_id) == []


# ------------------------------------------------------------------ on the command line


async def verify(path: Path, *more: str) -> CompletedProcess[bytes]:
    """A process with the file alone: no node, no chain, no data directory."""
    argv = [sys.executable, str(ROOT / "cli.py"), "proof", "verify", str(path), *more]
    with trio.fail_after(30):
        return await trio.run_process(argv, capture_stdout=True, capture_stderr=True, check=False)


async def test_a_proof_is_shown_written_and_verified_by_anybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "details", lambda raw, account_hash, network: "the rig's account")
    async with paid() as (r, trade_id):
        exchange, nobody = r["maker"].exchange, None
        served: list[Route] = [
            *routes_proofs.routes(exchange),
            *routes_trades.routes(exchange, nobody, nobody),  # type: ignore[arg-type]
        ]
        api = Api(served, exchange.world.announce, r["maker"].database)  # type: ignore[arg-type]
        await r.nursery.start(api.serve, tmp_path, trio.Event())

        async def run(*argv: str) -> Result:
            words = [*argv, "--data-dir", str(tmp_path)]
            return await trio.to_thread.run_sync(lambda: CliRunner().invoke(cli.main, words))

        short = trade_id.hex()[:8]
        none = await run("proof", "show", short)
        assert (none.exit_code, none.stdout) == (0, "")
        assert "nobody is proven" in none.stderr

        arbiter = await noticed(r, trade_id)
        rulings = [verdict(r, trade_id, split) for split in splits(r, trade_id)]
        for ruling in rulings:
            await says(r, arbiter, "maker", trade_id, ruling)
        said = r["maker"].heard(trade_id, K.PAID)
        assert said is not None
        raw = resigned(said, r["taker"].identity, tip_height=said.tip_height + 1)
        assert await deliver(r, Message.from_wire(raw, NET)) == USED

        shown = (await run("trade", "show", short)).stdout
        assert "the arbiter signed two verdicts" in shown
        assert "the buyer signed two messages of one number" in shown
        assert f"p2pnode proof show {short}" in shown
        listed = await run("proof", "show", short)
        assert [line[:3] for line in listed.stdout.splitlines() if line[0] != " "] == [
            "NO ", "1  ", "2  ",
        ]  # fmt: skip
        assert max(map(len, listed.stdout.splitlines())) <= 100
        assert (await run("proof", "show", short, "--pick", "3")).exit_code == 2
        several = await run("proof", "show", short, "--out", str(tmp_path / "both.json"))
        assert several.exit_code == 2
        assert not (tmp_path / "both.json").exists()

        for number, what, who in ((1, "two verdicts", arbiter), (2, What.NUMBER.words, "taker")):
            out = tmp_path / f"{number}.json"
            done = await run("proof", "show", short, "--pick", str(number), "--out", str(out))
            assert (done.exit_code, done.stderr) == (0, "")
            again = await run("proof", "show", short, "--pick", str(number), "--out", str(out))
            assert again.exit_code == 70  # nothing is overwritten
            checked = await verify(out, "--json")
            assert (checked.returncode, checked.stderr) == (0, b"")
            answer = json.loads(checked.stdout)
            assert (answer["verified"], answer["what"]) == (True, what)
            assert answer["by"] == r[who].id.hex()
            assert answer["trade_id"] == trade_id.hex()
            assert len({m["id"] for m in answer["messages"]}) == 2
            if number == 1:
                given = {m["buyer_sat"] for m in answer["messages"]}
                assert given == {ruling.buyer_sat for ruling in rulings}
            plain = (await verify(out)).stdout.decode()
            assert f"signed by  {r[who].id.hex()}" in plain

            good = json.loads(out.read_text())
            for line, bad in (
                ("first.signature", good | {"first": good["first"] | {"seq": 9999}}),
                ("second", good | {"second": good["first"]}),
                ("network", good | {"network": "main"}),
            ):
                bent = tmp_path / "bent.json"
                bent.write_text(json.dumps(bad))
                refused = await verify(bent, "--json")
                assert (refused.returncode, refused.stdout) == (65, b"")
                assert json.loads(refused.stderr)["error"]["field"] == line
        assert (await verify(tmp_path / "nothing.json")).returncode == 74


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"x" * 70_000, b"NaN"])
async def test_what_is_no_proof_is_65(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "proof.json"
    path.write_bytes(raw)
    run = await verify(path, "--json")
    assert (run.returncode, run.stdout) == (65, b"")
    assert json.loads(run.stderr)["error"]["code"] == "bad_data"


async def test_a_proof_is_asked_for_by_a_trade_of_this_node() -> None:
    async with paid() as (r, trade_id):
        (route,) = routes_proofs.routes(r["maker"].exchange)
        assert await route.handler(Call(path={"trade_id": trade_id.hex()})) == []
