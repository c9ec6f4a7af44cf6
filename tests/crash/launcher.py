"""`p2pnode …` as a user runs it, that can be told to die at one exact point of a trade.

    python launcher.py run --data-dir ROOT/NAME …      reads orders in ROOT/NAME.orders/

    plan      [["Funding", "after"], …]: die there, once each, in whatever order they come
    fired     what has happened, one JSON list a line; written before the SIGKILL
    clock     seconds added to this node's clock
    blind     node ids, a line each: this node's DHT does not show their records

Points of a plan, by what comes first:

    [state, "before"]     all of the first step into a state is written, COMMIT is not
    [state, "after"]      COMMIT is; no duty, delivery or answer to anybody has begun
    [event, "signed"]     a duty is done (keys used, coins chosen), its event not journalled
    [state, "published"]  the state's transaction is broadcast, nothing has taken note
    [kind, "applied"]     a message of this kind was applied and is committed, not answered
    [kind, "answered"]    the peer has answered our message, which is not noted here

An unarmed node runs the same code. The process kills itself by SIGKILL: nothing is flushed,
no `finally` runs.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


class Orders:
    """The folder through which a test tells a running node when to die."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> str:
        """Return a file's text, or nothing."""
        try:
            return (self._folder / name).read_text()
        except FileNotFoundError:
            return ""

    def reach(self, what: str, point: str) -> None:
        """Die if that is ordered."""
        plan = json.loads(self.read("plan") or "[]")
        if [what, point] not in plan:
            return
        plan.remove([what, point])
        beside = self._folder / "plan.new"
        beside.write_text(json.dumps(plan))
        beside.replace(self._folder / "plan")
        with (self._folder / "fired").open("a") as fired:
            fired.write(json.dumps([what, point]) + "\n")
        os.kill(os.getpid(), signal.SIGKILL)


def arm(orders: Orders) -> None:
    """Wrap the seams of the trade's shells."""
    from escrow.shell_courier import Courier
    from escrow.shell_tender import Tender
    from escrow.shell_trades import Trades

    _watch_commits(orders)
    advance, do, settle = Trades.advance, Tender._do, Courier._settle

    def advancing(self: Any, trade_id: bytes, event: Any, **more: Any) -> Any:
        orders.reach(type(event).__name__, "signed")
        return advance(self, trade_id, event, **more)

    async def doing(self: Any, row: Any, duty: Any) -> None:
        await do(self, row, duty)
        if type(duty).__name__ == "Publish":
            orders.reach(type(row.state).__name__, "published")

    def settling(self: Any, peer: bytes, message_id: bytes, *rest: Any) -> None:
        found = self._journal.database.one("SELECT kind FROM message WHERE id = ?", message_id)
        orders.reach(_kind(found["kind"]), "answered")
        settle(self, peer, message_id, *rest)

    Trades.advance, Tender._do, Courier._settle = advancing, doing, settling  # type: ignore[method-assign]
    _bend_the_world(orders)


def _watch_commits(orders: Orders) -> None:
    """Know which states and messages a transaction brings, and stop on either side of COMMIT."""
    from escrow.store_journal import Journal
    from p2pnode.base.store import Database

    transaction, save, begin, add = Database.transaction, Journal.save, Journal.begin, Journal.add
    entered: list[str] = []
    applied: list[str] = []

    @contextmanager
    def watched(self: Any) -> Iterator[None]:
        if self._depth:
            with transaction(self):
                yield
            return
        entered.clear()
        applied.clear()
        with transaction(self):
            yield
            for state in entered:
                orders.reach(state, "before")
        for state in entered:
            orders.reach(state, "after")
        for kind in applied:
            orders.reach(kind, "applied")

    def saving(self: Any, trade_id: bytes, state: Any, now: int) -> None:
        before = self.row(trade_id)
        if before is None or type(before.state) is not type(state):
            entered.append(type(state).__name__)
        save(self, trade_id, state, now)

    def beginning(self: Any, trade_id: bytes, role: str, state: Any, *rest: Any) -> None:
        entered.append(type(state).__name__)
        begin(self, trade_id, role, state, *rest)

    def adding(self: Any, message: Any, *, mine: bool) -> None:
        if not mine:
            applied.append(message.kind.name)
        add(self, message, mine=mine)

    Database.transaction = watched  # type: ignore[assignment]
    Journal.save, Journal.begin, Journal.add = saving, beginning, adding  # type: ignore[method-assign]


def _bend_the_world(orders: Orders) -> None:
    """Shift this node's clock; hide arbiters from it."""
    from p2pnode.app.fit import DhtRecords
    from p2pnode.base.clock import SystemClock

    now, find = SystemClock.now, DhtRecords.find

    def shifted(self: Any) -> int:
        return now(self) + int(orders.read("clock") or 0)

    async def finding(self: Any, *args: Any) -> tuple[bytes, ...]:
        hidden = [bytes.fromhex(line) for line in orders.read("blind").split()]
        return tuple(
            raw for raw in await find(self, *args) if not any(node_id in raw for node_id in hidden)
        )

    SystemClock.now, DhtRecords.find = shifted, finding  # type: ignore[method-assign]


def _kind(number: int) -> str:
    from escrow.messages import Kind

    return Kind(number).name


if __name__ == "__main__":
    from cli import main

    if sys.argv[1:2] == ["run"]:
        data_dir = Path(sys.argv[sys.argv.index("--data-dir") + 1])
        arm(Orders(data_dir.with_name(f"{data_dir.name}.orders")))
    main()
