"""`p2pnode demo`: its money recounted from the blocks, and nothing left however it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from pathlib import Path

import independent_decoder as blocks
import pytest

from p2pnode.app.client import Client
from p2pnode.app.demo import market, story
from p2pnode.app.demo.processes import ChildDied, CommandFailed, Processes, ProcessFault, TooSlow
from p2pnode.app.demo.show import HumanShow

ROOT = Path(__file__).resolve().parents[2]
NODES = ("seed", "arbiter1", "arbiter2", "arbiter3", "maker", "taker")
WALLETS = NODES[1:]
LIMIT_S = 120  # two busy cores; on idle ones a demo takes a quarter of it
DAY_S = 86_400
RATE = 2  # sat/vB: the sandbox's
OFFERS = 54  # so many that every kind of odd one is among them


class Demo:
    """A demo as a user starts it, marked so that all its descendants can be found."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.mark = f"DEMO_MARK={uuid.uuid4().hex}"
        name, value = self.mark.split("=")
        self.folder = folder
        self.lines: list[dict] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cli", "demo", "--json", *options],
            cwd=ROOT,
            env=os.environ | {name: value, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=(folder.parent / f"{value}.err").open("w+b"),
            text=True,
            start_new_session=True,
        )
        self._err = folder.parent / f"{value}.err"

    def __enter__(self) -> "Demo":
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.alive():
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def until(self, event: str, step: str = "") -> dict:
        """Read lines until this one has come."""
        for text in self.process.stdout:
            line = json.loads(text)
            self.lines.append(line)
            if line["event"] == event and line.get("step", "") == step:
                return line
        raise AssertionError(f"the demo ended before {step or event}: {self.stderr()}")

    def end(self) -> int:
        """Read to the end and return the exit code."""
        self.process.stdout.read()
        return self.process.wait(LIMIT_S)

    def stderr(self) -> str:
        return self._err.read_text()

    def alive(self) -> list[int]:
        """Return the processes that carry the mark, wherever they were moved."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (path / "environ").read_bytes().split(b"\0"):
                    state = (path / "stat").read_text().rpartition(")")[2].split()[0]
                    found += [int(path.name)] if state != "Z" else []
            except OSError:
                continue
        return found

    def nothing_left(self, root: Path) -> None:
        assert self.alive() == []
        for name in ("lock", "sandbox.lock", "api.sock", "api.path"):
            assert list(root.rglob(name)) == []

    def node(self, name: str) -> Path:
        """Return a node's data, wherever the demo put it."""
        found = [p for p in self.folder.rglob(name) if p.is_dir()]
        assert len(found) == 1
        return found[0]


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "d"
    made.mkdir()
    return made


# ------------------------------------------------------------------ a whole run


def test_a_demo_moves_exactly_the_money_that_contracts_and_blocks_say(folder):
    """One demo, kept up at its end, so that its chain can be read."""
    root = folder / "net"
    with Demo(folder, "--keep", "--data-dir", str(root)) as demo:
        done = demo.until("done")
        chain = fetch_chain((root / "chain" / "electrum.addr").read_text())
        owners = {name: addresses(root / name) for name in WALLETS}
        check_shape(demo.lines, done)
        check_kept(demo.lines, root)
        check_money(chain, demo.lines, done, owners)
        check_deadline(chain, done)
        os.kill(demo.process.pid, signal.SIGINT)
        assert demo.end() == 0
        demo.nothing_left(root)


def fetch_chain(address: str) -> list[blocks.Block]:
    """Read every block over the sandbox's own protocol."""
    host, port = address.strip().rsplit(":", 1)
    with socket.create_connection((host, int(port)), 10) as connection:
        lines = connection.makefile("rwb")

        def call(method: str, *params: object) -> object:
            lines.write(json.dumps({"id": 1, "method": method, "params": params}).encode() + b"\n")
            lines.flush()
            return json.loads(lines.readline())["result"]

        height = call("sandbox.stats")["height"]
        return blocks.decode_chain([call("sandbox.block", h) for h in range(height + 1)])


def addresses(data_dir: Path) -> set[str]:
    """Return where a wallet says its coins lie; what lies there the blocks say."""
    return {coin["address"] for coin in Client(data_dir).get("/v1/wallet/utxos")}


def check_shape(lines: list[dict], done: dict) -> None:
    assert set(done) == {"event", "seconds", "trades", "balances"}
    assert set(done["balances"]) == set(WALLETS)
    keys = {"trade_id", "outcome", "arbiter", "escrow_txid", "payout_txid"}
    keys |= {"buyer_sat", "seller_sat", "fee_sat"}
    assert [set(trade) for trade in done["trades"]] == [keys, keys]
    assert [trade["outcome"] for trade in done["trades"]] == ["released", "ruled"]
    assert lines[-1] == done
    for line in lines:
        if line["event"] == "step":
            assert {"step", "who", "seconds"} <= set(line)
            assert line["who"] in {"chain", *NODES}
    named = {line["step"] for line in lines if line["event"] == "step"}
    assert {
        "register",
        "fund",
        "bond",
        "offer",
        "find",
        "take",
        "draw",
        "escrow",
        "pay-sent",
    } <= named
    assert {"received", "payout", "dispute", "notice", "statement", "refused", "verdict"} <= named
    draws = [line for line in lines if line["event"] == "draw"]
    assert [d["verified"] for d in draws] == [True, True]
    assert [d["arbiter"] for d in draws] == [t["arbiter"] for t in done["trades"]]
    assert [d["eligible"] for d in draws] == [3, 3]


def check_kept(lines: list[dict], root: Path) -> None:
    """The commands that --keep prints work."""
    commands = next(line["commands"] for line in lines if line["event"] == "keep")
    for name in NODES:
        assert any(str(root / name) in command for command in commands)
    balance = next(c for c in commands if str(root / "maker") in c).split()
    assert balance[0] == "p2pnode"
    run = subprocess.run([sys.executable, "-m", "cli", *balance[1:]], cwd=ROOT, capture_output=True)
    assert run.returncode == 0, run.stderr


def check_money(chain, lines: list[dict], done: dict, owners: dict[str, set[str]]) -> None:
    first, second = done["trades"]
    bonds = {e["who"]: e["txid"] for e in lines if e.get("step") == "bond"}
    funds = {e["who"]: e["txid"] for e in lines if e.get("step") == "fund"}
    assert set(funds) == set(owners)
    for name, txid in funds.items():
        tx, _ = blocks.find_tx(chain, txid)
        sat = 10_000_000 if name in bonds else 50_000_000
        owners[name] |= {out.address for out in tx.outputs if out.value == sat}
    born = check_bonds(chain, bonds)
    payouts = [blocks.find_tx(chain, trade["payout_txid"]) for trade in done["trades"]]
    judge = judge_of(lines, second)
    strangers = {
        out.address
        for tx, _ in payouts
        for out in tx.outputs
        if out.address not in owners["maker"] | owners["taker"]
    }
    assert len(strangers) == 1  # the arbiter's fee of the verdict, and nothing else
    owners[judge] |= strangers

    before = blocks.balances(chain[: born + 1], owners)
    after = blocks.balances(chain, owners)
    for name, row in done["balances"].items():
        assert row["before_sat"] == before[name], name
        assert row["after_sat"] == after[name], name
        due = by_hand()
        earned = due["fee"] if name == judge else 0
        assert row["expected_sat"] == (before[name] + earned if name in bonds else due[name])

    fees = 0
    for trade, (tx, height) in zip(done["trades"], payouts, strict=True):
        assert [point[0] for point in tx.inputs] == [trade["escrow_txid"]]
        assert blocks.find_spend(chain, tx.inputs[0]) == tx
        assert chain[-1].height - height + 1 >= 6
        paid = {name: paid_to(tx, owners[name]) for name in ("maker", "taker")}
        assert paid == {"taker": trade["buyer_sat"], "maker": trade["seller_sat"]}
        assert blocks.fee(chain, tx) == trade["fee_sat"]
        fees += trade["fee_sat"] + blocks.fee(chain, blocks.find_tx(chain, trade["escrow_txid"])[0])
    assert sum(before.values()) - sum(after.values()) == fees  # not a satoshi elsewhere
    assert first["buyer_sat"] == 500_000 + 75_000 - fee_of(42 + 530 + 2 * 124)
    assert second["buyer_sat"] == 1_000_000 < 2_000_000 + 300_000


def fee_of(weight: int) -> int:
    return -(-RATE * weight // 4)


def check_bonds(chain, bonds: dict[str, str]) -> int:
    """Each arbiter's bond is on the chain, locked and unspent; returns the last one's height."""
    heights = []
    for name, sat in zip(NODES[1:4], (4_000_000, 5_000_000, 6_000_000), strict=True):
        tx, height = blocks.find_tx(chain, bonds[name])
        (vout,) = (n for n, out in enumerate(tx.outputs) if out.value == sat)
        assert tx.outputs[vout].script[:2] == b"\x00\x20"  # P2WSH
        assert blocks.find_spend(chain, (tx.txid, vout)) is None
        heights.append(height)
    return max(heights)


def by_hand() -> dict[str, int]:
    """Return what everybody must hold, from the demo's two contracts written out by hand."""
    share = fee_of(107 + 272 + 124)  # half the common part, one coin, one change
    release, verdict = fee_of(42 + 530 + 2 * 124), fee_of(42 + 530 + 3 * 124)
    arbiter_fee = 1_000 + 2_000_000 // 1_000
    taker = 50_000_000 - (75_000 + share) + (575_000 - release) - (300_000 + share) + 1_000_000
    rest = 2_600_000 - arbiter_fee - 1_000_000 - verdict
    maker = 50_000_000 - (575_000 + share) + 75_000 - (2_300_000 + share) + rest
    return {"maker": maker, "taker": taker, "fee": arbiter_fee}


def judge_of(lines: list[dict], trade: dict) -> str:
    return next(e["who"] for e in lines if e.get("step") == "verdict")


def paid_to(tx: blocks.Tx, owned: set[str]) -> int:
    return sum(out.value for out in tx.outputs if out.address in owned)


def check_deadline(chain, done: dict) -> None:
    """The verdict below RELEASE was paid only after the buyer's time and the replies' (R4)."""
    trade = done["trades"][1]
    _, funded = blocks.find_tx(chain, trade["escrow_txid"])
    _, paid = blocks.find_tx(chain, trade["payout_txid"])
    to_pay, to_reply = 2 * DAY_S + 4 * DAY_S, 4 * DAY_S
    assert median_time(chain, paid - 1) >= median_time(chain, funded) + to_pay + to_reply


def median_time(chain, height: int) -> int:
    return sorted(block.time for block in chain[height - 10 : height + 1])[5]


# ------------------------------------------------------------------ an order book


def test_an_order_book_is_listed_by_others_and_can_be_traded_in(folder):
    """A demo with offers, kept up at its end, so that its order book can be read."""
    root = folder / "net"
    with Demo(folder, "--keep", "--offers", str(OFFERS), "--data-dir", str(root)) as demo:
        demo.until("done")
        check_book(demo.lines, root)
        check_looks(demo.lines, root)
        os.kill(demo.process.pid, signal.SIGINT)
        assert demo.end() == 0
        demo.nothing_left(root)


def check_book(lines: list[dict], root: Path) -> None:
    """What was told of the order book is what a node of it lists."""
    book = next(line for line in lines if line["event"] == "offers")
    planned = market.plan(OFFERS)
    assert {offer.odd for offer in planned} == {o.odd for o in market.plan(market.MAX_OFFERS)}
    assert book["count"] == OFFERS == book["buy"] + book["sell"]
    assert book["buy"] > 0
    assert book["odd"] == sum(1 for offer in planned if offer.odd) > 0
    assert set(book["listed_seconds"]) == {"taker", "seed"}
    assert book["currencies"] == sorted({offer.body["currency"] for offer in planned})
    found = {}
    for currency in book["currencies"]:
        for row in Client(root / "taker").get(f"/v1/offers?currency={currency}&hidden=1"):
            found[row["offer_id"]] = row
    taken = book["taken"]
    assert len(found.keys() | {taken["offer_id"]}) == OFFERS
    assert {row["side"] for row in found.values()} == {"buy", "sell"}
    codes = {o["code"] for row in found.values() for o in row["obstacles"]}
    assert {"own", "absurd", "history", "method"} <= codes
    assert {market.LOOKS_LATIN, market.UNSEEN} <= {row["terms"] for row in found.values()}
    assert any(row["margin_bp"] is not None for row in found.values())
    trade = Client(root / "taker").get(f"/v1/trades/{taken['trade_id']}")
    assert (trade["state"], trade["escrow_txid"]) == ("Broadcast", taken["escrow_txid"])


def check_looks(lines: list[dict], root: Path) -> None:
    """The commands to look round in the order book work, and another offer can be taken."""
    commands = next(line["commands"] for line in lines if line["event"] == "keep")
    said = [c.split() for c in commands if str(root / "taker") in c and "trade list" not in c]
    assert {" ".join(words[1:3]) for words in said} == {
        *("offer list", "offer show", "market book", "market price", "trade take")
    }
    for words in said:
        yes = ["--yes"] if "take" in words else []
        full = [sys.executable, "-m", "cli", *words[1:], *yes]
        run = subprocess.run(full, cwd=ROOT, capture_output=True)
        assert run.returncode == 0, run.stderr
        assert run.stdout


def test_an_order_book_is_the_same_each_time_and_fits_its_makers():
    everything = market.plan(market.MAX_OFFERS)
    assert everything == market.plan(market.MAX_OFFERS)
    assert everything[:OFFERS] == market.plan(OFFERS)
    assert everything != market.plan(market.MAX_OFFERS, seed=1)
    makers = Counter(offer.maker for offer in everything)
    assert set(makers) == set(WALLETS)
    assert max(makers.values()) <= 64
    markets = Counter((offer.maker, offer.body["currency"]) for offer in everything)
    assert max(markets.values()) <= 32
    assert len({method for offer in everything for method in offer.methods}) >= 15
    assert len({offer.body["currency"] for offer in everything}) == 10
    sides = Counter(offer.body["side"] for offer in everything)
    assert min(sides.values()) > len(everything) // 3
    assert {"margin_bp", "price"} == {
        key for offer in everything for key in offer.body if key in ("margin_bp", "price")
    }
    assert len({offer.odd for offer in everything}) == 6  # five kinds, and nothing odd


# ------------------------------------------------------------------ how it may end


def test_a_killed_node_is_named_and_nothing_is_left(folder):
    with Demo(folder) as demo:
        demo.until("step", "escrow")
        maker = demo.node("maker")
        os.kill(int((maker / "lock").read_text()), signal.SIGKILL)
        assert demo.end() == 69
        error = json.loads(demo.stderr().splitlines()[-1])["error"]
        assert error["field"] == "maker"
        assert "killed by signal 9" in error["message"]
        assert any("TAKE" in line for line in error["log"])  # its last log lines
        demo.nothing_left(folder)
        assert list(folder.glob("p2pnode-demo-*")) == []


def test_ctrl_c_leaves_nothing_but_exit_code_130(folder):
    with Demo(folder) as demo:
        demo.until("step", "take")
        assert len(demo.alive()) > len(NODES)
        os.kill(demo.process.pid, signal.SIGINT)
        assert demo.end() == 130
        demo.nothing_left(folder)
        assert list(folder.glob("p2pnode-demo-*")) == []


def test_a_killed_demo_takes_its_processes_with_it(folder):
    with Demo(folder) as demo:
        demo.until("step", "chain")
        assert len(demo.alive()) >= 3  # the demo, its chain, a node
        os.kill(demo.process.pid, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while demo.alive() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert demo.alive() == []


def test_a_folder_in_use_is_refused(folder):
    (folder / "something").touch()
    with Demo(folder, "--data-dir", str(folder)) as demo:
        assert demo.end() == 70
        assert "not empty" in demo.stderr()


# ------------------------------------------------------------------ faults have names


def test_money_that_is_not_where_the_contract_says_is_a_failed_step():
    right = {"before_sat": 5, "after_sat": 4, "expected_sat": 4}
    wrong = right | {"after_sat": 3}
    ends = [{"outcome": "released"}, {"outcome": "ruled"}]
    story.check({"balances": {"maker": right}, "trades": ends})
    with pytest.raises(ProcessFault, match=r"^taker: holds 3 sat, not 4 sat"):
        story.check({"balances": {"maker": right, "taker": wrong}, "trades": ends})
    with pytest.raises(ProcessFault, match="not released and ruled"):
        story.check({"balances": {}, "trades": [ends[0], {"outcome": "other"}]})


def test_processes_are_killed_named_and_brought_back(folder):
    with Processes(folder / "net") as net:
        made = net.init("seed")[0]
        with pytest.raises(CommandFailed, match=r"seed: .* no daemon runs on") as refused:
            net.cli("seed", "status")
        assert refused.value.status == 69
        net.run("seed", "--seed")
        assert net.ready("seed")["node_id"] == made["node_id"]
        assert net.cli("seed", "status")["pid"] == net.pid("seed")
        with pytest.raises(TooSlow, match=r"seed: a miracle: not within 0.1 s"):
            net.until("seed", "a miracle", lambda: 1, lambda n: n == 2, 0.1)
        with pytest.raises(ProcessFault, match="seed: still runs"):
            net.restart("seed")
        net.kill("seed")
        with pytest.raises(ChildDied, match="seed: the process was killed by signal 9"):
            net.look()
        assert net.restart("seed")["node_id"] == made["node_id"]
        pid = net.pid("seed")
    assert not Path(f"/proc/{pid}").exists()
    assert list((folder / "net").rglob("lock")) == []


# ------------------------------------------------------------------ how it looks


@pytest.mark.parametrize("width", [80, 120, 200])
def test_lines_fit_the_terminal(width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    show, txid = HumanShow(), "ab" * 32
    show.part("Part")
    show.step("escrow", "maker", "both sign: 0.02600000 BTC into the escrow", txid)
    show.step("payout", "arbiter1", "a text that is far too long " * 9, txid)
    show.step("ready", "arbiter1", "a text that is far too long " * 9)
    row = {"before_sat": 2**50, "after_sat": 2**50, "expected_sat": 0}
    draw = {"trade_id": "ab" * 32, "arbiter": "cd" * 32, "name": "arbiter1", "eligible": 3}
    answer = {"balances": {"arbiter1": row}, "trades": [{}, {}], "seconds": 9.0}
    show.done(answer, [draw])
    out = capsys.readouterr().out
    assert max(len(line) for line in out.splitlines()) <= width
    assert "\x1b" not in out
    assert "DIFFERS" in out
    assert (txid in out) == (width >= 140)
    assert "abababab…abababab" in out
