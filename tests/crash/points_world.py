"""One trade of whole nodes in memory, told by users who repeat what a death has cut short.

A `Base` is a trade stopped between two steps: the disks of its nodes and the chain. A scenario
begins at one, so that a run plays only the steps whose points it is about. Time is virtual, the
scheduler, keys and random bytes are seeded: the same scenario reaches the same points.
"""

import shutil
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import trio
import trio.testing
from points_chain import Ledger
from points_node import FILE, Died, PointNode, Points, seeded
from trade_kit import Board, Rig
from trade_post import Post

from escrow import backend_second, backend_signatures, model
from escrow.contract import Contract
from escrow.messages import Kind
from p2pnode.base.errors import NodeError
from p2pnode.base.transaction import Outpoint

PATIENCE_S = 900  # of virtual time, before a wait is a failure
LOOK_S = 0.25
LONGEST_S = 4 * PATIENCE_S  # a whole act
TRADERS = ("maker", "taker")
ARBITERS = ("arbiter0", "arbiter1", "arbiter2")


@dataclass
class Base:
    """What is left of a trade between two steps."""

    folder: Path
    ledger: Ledger
    records: list[bytes]
    given: dict[str, list[bytes]]
    desks: dict[str, Any]
    counts: dict[str, int]  # of random bytes drawn
    time: int
    trade_id: bytes = b""
    names: dict[str, str] = field(default_factory=dict)  # buyer, seller, arbiter, runner-up

    def __getitem__(self, role: str) -> str:
        return self.names[role]


class Clock:
    """Wall-clock time, which moves when the scenario says so."""

    def __init__(self, time: int) -> None:
        self.time = time

    def now(self) -> int:
        return self.time


class World(Rig):
    """The nodes that run, and their users."""

    def __init__(self, base: Base, folder: Path, points: Points) -> None:
        self.base, self.points, self.trade_id = base, points, base.trade_id
        self.ledger, self.records = base.ledger.copy(), list(base.records)
        self.clock, self.post, self.board = Clock(base.time), Post(), Board()
        self.nodes, self.port, self.mailbox = {}, 0, None
        self.folder, self.over = folder, False
        self.post.names = {seeded(name)[0].node_id: name for name in (*TRADERS, *ARBITERS)}
        self.first_signed: dict[bytes, set[Any]] = defaultdict(set)  # by key: (split, branch)

    def add(self, name: str) -> PointNode:
        folder = self.folder / name
        folder.mkdir()
        for path in (self.base.folder / name).glob(f"{FILE}*"):
            shutil.copy2(path, folder / path.name)
        node = PointNode(name, self, folder)
        node.given = list(self.base.given.get(name, []))
        node.randomness._count = self.base.counts.get(name, 0)
        if name in self.base.desks:
            offers, reserved = self.base.desks[name]
            node.desk.offers, node.desk.reserved = dict(offers), dict(reserved)
        self.nodes[name] = node
        return node

    def save(self, folder: Path) -> Base:
        """Keep what there is, once every node has stopped."""
        for name, node in self.nodes.items():
            shutil.copytree(node.folder, folder / name)
        for name in seen(self.base.folder) - set(self.nodes):
            shutil.copytree(self.base.folder / name, folder / name)
        return Base(
            folder,
            self.ledger.copy(),
            list(self.records),
            self.base.given | {n: list(node.given) for n, node in self.nodes.items()},
            self.base.desks
            | {n: (dict(d.desk.offers), dict(d.desk.reserved)) for n, d in self.nodes.items()},
            self.base.counts | {n: node.randomness._count for n, node in self.nodes.items()},
            self.clock.time,
            self.trade_id,
            dict(self.base.names),
        )

    # -- users

    async def eventually(self, check: Callable[[], Any]) -> Any:
        """Wait in virtual time until `check` gives something true; a dead node is no answer."""
        last: Any = None
        for _ in range(int(PATIENCE_S / LOOK_S)):
            try:
                if last := check():
                    return last
            except (NodeError, Died) as error:
                last = error
            await trio.sleep(LOOK_S)
        seen_at = {n: node.state(self.trade_id) for n, node in self.nodes.items()}
        raise AssertionError(f"nobody goes on: {last!r:.300}; {seen_at!r:.900}")

    async def user(
        self, name: str, do: Callable[[], Awaitable[Any]], done: Callable[[], Any]
    ) -> None:
        """Say a user's word, again if his node died of it or could not yet, until it is done."""

        async def attempt() -> bool:
            node = self.nodes[name]
            if node.dead:
                return False
            try:
                if done():
                    return True
                await do()
            except (Died, NodeError):
                return False
            return bool(done())

        for _ in range(int(PATIENCE_S / LOOK_S)):
            if await attempt():
                return
            await trio.sleep(LOOK_S)
        raise AssertionError(f"{name}'s word is never done: {self.nodes[name].note(self.trade_id)}")

    async def say(
        self, role: str, make: Callable[[], model.Event], done: Callable[[], Any]
    ) -> None:
        name = self.base.names[role]

        async def do() -> None:
            await self.nodes[name].exchange.act(self.trade_id, make())

        await self.user(name, do, done)

    def at(self, role: str) -> str:
        """Name the state of a role's trade."""
        return type(self[self.base.names[role]].state(self.trade_id)).__name__

    def both_are(self, *states: str) -> bool:
        return all(self.at(role) in states for role in ("buyer", "seller"))

    def said(self, role: str, kind: Kind) -> bool:
        return self[self.base.names[role]].said(self.trade_id, kind) is not None

    def heard(self, role: str, kind: Kind) -> bool:
        return self[self.base.names[role]].heard(self.trade_id, kind) is not None

    async def mine(self, count: int = 1) -> None:
        """Mine, and let everyone see it; a day of blocks is a day of the wall clock."""
        self.ledger.mine(count)
        await trio.sleep(LOOK_S)

    async def paid_out(self) -> None:
        """Let the payout come, be buried, and be seen."""
        await self.eventually(lambda: self.ledger.pool)
        await self.mine(6)
        await self.eventually(lambda: self.both_are("Closed"))

    # -- what must hold

    def contract(self) -> Contract:
        return self["maker"].facts(self.trade_id).contract

    def escrow(self) -> Outpoint:
        return self["maker"].facts(self.trade_id).outpoint

    def check(self) -> None:
        """Nothing signed twice, nothing paid twice, nothing lost."""
        for key, splits in self.first_signed.items():
            assert len(splits) == 1, f"{key.hex()} first-signed {splits}"
        for node in self.nodes.values():
            for row in node.database.all("SELECT id, recipient FROM message WHERE undelivered = 0"):
                peer = self.nodes.get(self.post.names[row["recipient"]])
                if peer is not None and row["recipient"] != node.id:
                    assert peer.journal.known(row["id"]), "an acknowledged message is lost"

    def check_spend(self, *paid: tuple[bytes, int]) -> None:
        """The escrow is spent once, by a transaction with exactly these outputs."""
        escrow = self.escrow()
        spends = self.ledger.spenders(escrow)
        confirmed = [t for t in spends if t in self.ledger.heights]
        assert len(confirmed) == 1, f"{len(confirmed)} confirmed spends of the escrow"
        outs = [(o.script, o.value) for o in self.ledger.known[confirmed[0]].outputs]
        assert outs == list(paid), f"paid {outs}, not {paid}"
        assert len(self.ledger.spenders(self.ledger.known[escrow.txid].inputs[0].outpoint)) == 1


def seen(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


@contextmanager
def _spied(world: World) -> Iterator[None]:
    """Note every first signature; let nothing run in a thread, whose end no seed decides."""
    real, inline = backend_signatures.first_sign, trio.to_thread.run_sync

    def first_sign(
        contract: Any, outpoint: Any, split: Any, key: Any, branch: Any, *rest: Any
    ) -> Any:
        world.first_signed[key.public].add((split, branch))
        return real(contract, outpoint, split, key, branch, *rest)

    async def run_sync(job: Callable[..., Any], *args: Any, **_: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return job(*args)

    with ExitStack() as stack:
        stack.enter_context(patch.object(backend_signatures, "first_sign", first_sign))
        stack.enter_context(patch.object(trio.to_thread, "run_sync", run_sync))
        yield
    assert trio.to_thread.run_sync is inline


Scenario = Callable[[World], Awaitable[None]]


def play(base: Base, names: tuple[str, ...], scenario: Scenario, points: Points, folder: Path,
         save: Path | None = None) -> Base | None:  # fmt: skip
    """Run a scenario from a base, with these nodes; check what must hold; keep the end if asked."""
    world = World(base, folder, points)

    async def main() -> None:
        with trio.fail_after(LONGEST_S):  # of virtual time, too
            await told()

    async def told() -> None:
        async with trio.open_nursery() as nursery:
            world.nursery = nursery
            nodes = [world.add(name) for name in names]
            for node in nodes:
                nursery.start_soon(node.live)
            await world.eventually(lambda: all(node.id in world.post.handlers for node in nodes))
            await scenario(world)
            await world.eventually(lambda: not any(node.dead for node in nodes))
            world.check()
            world.over = True  # who dies in this very moment stays so
            for node in nodes:
                node.scope.cancel()

    backend_second.warm()
    trio._core._run._r.seed(1)
    with _spied(world), patch.object(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True):
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return world.save(save) if save else None
