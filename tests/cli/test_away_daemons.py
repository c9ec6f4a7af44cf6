"""Buyer and seller as processes that never run at the same time once the coins are in escrow."""

import sqlite3
from pathlib import Path
from typing import Any

from p2pnode.app.demo import story, trading
from p2pnode.app.demo.processes import Processes
from p2pnode.app.demo.show import Show
from p2pnode.app.demo.stage import MAKER, TAKER, Stage


class Quiet(Show):
    """Says nothing."""

    def step(self, step: str, who: str, what: str, txid: str = "") -> None:
        """Keep it to oneself."""


def left(net: Processes, name: str) -> None:
    """Wait until every letter that waits is held by somebody; then end the process."""

    def waits() -> tuple[int, int]:
        path = net.data_dir(name) / "node.sqlite"
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
            ended = "SELECT count(*) FROM mailbox_out WHERE ended = 0 AND"
            (held,) = db.execute(f"{ended} acked > 0").fetchone()
            (lacking,) = db.execute(f"{ended} acked = 0").fetchone()
        return held, lacking

    net.until(name, "leaves its letters", waits, lambda n: n[0] and not n[1])
    net.stop(name)


def test_paid_and_received_travel_between_processes_that_never_meet(tmp_path: Path) -> None:
    with Processes(tmp_path / "net") as net:
        stage = Stage(net, Quiet())
        for act in (story._start, story._fund, story._bond, story._register):
            act(stage)
        seed = net.client("seed").get("/v1/status")["multiaddrs"][0]

        def comes(name: str) -> None:
            net.run(name, "--bootstrap", seed)
            net.ready(name)

        def state(name: str, trade_id: str, *wanted: str) -> dict[str, Any]:
            return stage.trade(name, trade_id, wanted[0], lambda t: t["state"] in wanted)

        trade_id = trading._take(stage, trading.LOW)
        trading._fund(stage, trade_id)
        state(MAKER, trade_id, "Funded")
        net.stop(MAKER)
        net.cli(TAKER, "trade", "pay-sent", trade_id, "--yes")
        left(net, TAKER)

        comes(MAKER)
        state(MAKER, trade_id, "Paid")
        net.cli(MAKER, "trade", "received", trade_id, "--yes")
        left(net, MAKER)

        comes(TAKER)
        state(TAKER, trade_id, "Releasing")
        stage.mine(trading.FINAL_DEPTH, "the payout is final")
        state(TAKER, trade_id, "Closed")
