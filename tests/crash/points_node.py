"""Trading halves that die at numbered points: real shells and journal, chain and streams in memory.

A point is either side of a commit, or of an effect: a message, a reply, a broadcast. `Points`
counts them in the order in which a seeded run reaches them, so the same run reaches them again;
one is armed, and whoever reaches it dies there: `Died` goes through everything, the object graph
is dropped, and what a SIGKILL would leave of the SQLite file is what the next life opens.
"""

import hashlib
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bdkpython as bdk
import escrow_tx_kit
import trade_node
import trio
from points_chain import ChainView, Ledger
from trade_fakes import Desk, Registry
from trade_post import NET, TRADE, MemoryStreams, Post

from escrow.messages import Message
from escrow.store_locks import CoinLocks
from p2pnode.base.identity import Identity
from p2pnode.base.store import Database
from p2pnode.base.transaction import Outpoint

FILE = "node.sqlite"
_WRITES = re.compile(r"(?:INSERT(?: OR \w+)? INTO|UPDATE|DELETE FROM) (\w+)")


class Died(BaseException):
    """The process is gone. Nothing but the runner of nodes catches it."""


@dataclass
class Points:
    """Counts the points of one run, and lets whoever reaches the armed one die."""

    armed: int | None = None  # the number of the point to die at
    second: int | None = None  # and the number of the next death, of the same node's own points
    trace: list[tuple[str, str]] = field(default_factory=list)  # (node, point)
    deaths: list[tuple[str, str]] = field(default_factory=list)
    since: Counter[str] = field(default_factory=Counter)  # points of each node since a death
    served_s: list[float] = field(default_factory=list)  # from each death until it served again

    def reach(self, node: "PointNode", what: str) -> None:
        """Note a point; die there if it is armed. The dead reach no more."""
        if node.dead:
            raise Died
        self.trace.append((node.name, what))
        self.since[node.name] += 1
        if self.dies(node):
            self.deaths.append((node.name, what))
            self.since.clear()
            node.die()
            raise Died

    def dies(self, node: "PointNode") -> bool:
        """Tell whether the point just noted is armed, or the second death's."""
        if not self.deaths:
            return len(self.trace) - 1 == self.armed
        once = len(self.deaths) == 1 and self.deaths[0][0] == node.name
        return once and self.since[node.name] - 1 == self.second


class PointDatabase(Database):
    """Either side of each outermost commit is a point."""

    def __init__(self, path: Path, node: "PointNode") -> None:
        self._node = node
        self._written: dict[str, None] = {}
        super().__init__(path)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        if self._depth:
            with super().transaction():
                yield
            return
        self._node.alive()
        self._written = {}
        with super().transaction():
            yield
            tables = ",".join(self._written) or "nothing"
            self._node.reach(f"before commit of {tables}")
        self._node.reach(f"after commit of {tables}")

    def run(self, sql: str, *args: Any) -> int:
        self._node.alive()
        if found := _WRITES.match(sql):
            self._written[found[1]] = None
        return super().run(sql, *args)


class PointChain(ChainView):
    """Either side of a broadcast is a point; the server may have it though we died."""

    def __init__(self, ledger: Ledger, node: "PointNode") -> None:
        super().__init__(ledger)
        self._node = node

    async def broadcast(self, raw: bytes) -> bytes:
        self._node.reach("before broadcast")
        txid = await super().broadcast(raw)
        self._node.reach("after broadcast")
        return txid


class _Telling:
    """A channel on which each frame of ours is two points."""

    def __init__(self, channel: Any, node: "PointNode", name: Callable[[bytes], str]) -> None:
        self._channel, self._node, self._name, self.peer = channel, node, name, channel.peer

    async def send(self, payload: bytes) -> None:
        name = self._name(payload)
        self._node.reach(f"before {name}")
        await self._channel.send(payload)
        self._node.reach(f"after {name}")

    async def receive(self) -> bytes:
        return await self._channel.receive()

    async def close(self) -> None:
        await self._channel.close()


class PointStreams(MemoryStreams):
    """Each message, and each reply, is two points."""

    def __init__(self, post: Post, node: "PointNode") -> None:
        super().__init__(post, node.id)
        self._node = node

    def serve(self, protocol: str, handler: Any, *, limit: int) -> None:
        if protocol != TRADE:  # who shows whom his receipts: nothing of a trade hangs on it
            super().serve(protocol, handler, limit=limit)
            return

        async def answering(channel: Any) -> None:
            await handler(_Telling(channel, self._node, lambda _raw: "reply"))

        super().serve(protocol, answering, limit=limit)
        if self._node.died_at:
            self._node.points.served_s.append(time.monotonic() - self._node.died_at)
            self._node.died_at = 0.0

    async def open(self, peer: bytes, addrs: Sequence[str], protocol: str, **more: Any) -> Any:
        channel = await super().open(peer, addrs, protocol, **more)
        if protocol != TRADE:
            return channel
        return _Telling(channel, self._node, self._named)

    def _named(self, raw: bytes) -> str:
        message = Message.from_wire(raw, NET)
        journal = self._node.journal
        assert not journal.database._depth, "a message leaves in the middle of a transaction"
        assert journal.known(message.id), f"{message.kind.name} leaves before it is committed"
        return message.kind.name


class Wallet:
    """Coins of one seed on the shared ledger; what was given out is known whatever dies."""

    def __init__(self, keys: escrow_tx_kit.BdkWallet, scripts: list[bytes], given: list[bytes],
                 chain: PointChain, locks: CoinLocks) -> None:  # fmt: skip
        self._keys, self._scripts, self._given = keys, scripts, given
        self._chain, self._locks = chain, locks

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.sleep_forever()

    async def sync(self) -> None:
        await trio.lowlevel.checkpoint()

    def coins(self) -> list[Any]:
        locked = self._locks.locked()
        found = self._chain.ledger.coins(set(self._scripts))
        return [
            SimpleNamespace(outpoint=p, value=o.value, script=o.script)
            for p, o in found
            if p not in locked
        ]

    def script_for_payout(self) -> bytes:
        script = self._scripts[len(self._given) + 1]
        self._given.append(script)
        return script

    change_script = script_for_payout

    def owns_script(self, script: bytes) -> bool:
        return script in self._scripts

    async def declared(self, outpoint: Outpoint) -> Any:
        raw = self._chain.ledger.known[outpoint.txid].serialize(witness=False)
        height = self._chain.ledger.heights[outpoint.txid]
        branch, position = await self._chain.proof(outpoint.txid, height)
        return SimpleNamespace(stripped=raw, height=height, position=position, branch=branch)

    def sign_psbt(self, psbt: str, only: Any) -> str:
        return self._keys.sign(psbt)


@cache
def seeded(name: str) -> tuple[Identity, str, escrow_tx_kit.BdkWallet, list[bytes]]:
    """A node's identity and words, its coins' keys and scripts."""
    seed = hashlib.sha256(name.encode()).digest()
    words = str(bdk.Mnemonic.from_entropy(seed[:16]))
    keys = escrow_tx_kit.BdkWallet(words)
    return Identity.grind(NET, seed), words, keys, [keys.script(n) for n in range(20)]


class PointNode(trade_node.Node):
    """One node over many lives; `folder` is its disk."""

    def __init__(self, name: str, world: Any, folder: Path) -> None:
        identity, words, self.coin_keys, self.scripts = seeded(name)
        desk, registry = Desk(name), Registry(world.records)
        super().__init__(name, world, identity, words, None, desk, registry)
        self.folder, self.points, self.ledger = folder, world.points, world.ledger
        self.given: list[bytes] = []
        self.dead, self.died_at, self.lives = False, 0.0, 0
        self.randomness = _Randomness(name)

    # -- dying

    def alive(self) -> None:
        if self.dead:
            raise Died

    def reach(self, what: str) -> None:
        self.points.reach(self, what)

    def die(self) -> None:
        """From here on nothing of this life does anything, and the disk is as it is now."""
        self.dead, self.died_at = True, time.monotonic()
        self.copy_disk(self.folder.with_name(f"{self.name}.{self.lives}"))
        self.folder = self.folder.with_name(f"{self.name}.{self.lives}")
        self.scope.cancel()

    def copy_disk(self, to: Path) -> None:
        """Copy what SQLite has written, its journal too, and not what it holds in memory."""
        to.mkdir()
        for path in self.folder.glob(f"{FILE}*"):
            if not path.name.endswith("-shm"):
                shutil.copy2(path, to / path.name)

    # -- living

    def build(self) -> None:
        self.dead = False
        self.lives += 1
        self.database = PointDatabase(self.folder / FILE, self)
        with _ours(self):
            super().build()
        self.exchange.world.randomness = self.randomness

    async def live(self) -> None:
        """Run, and after each death run again, until cancelled."""
        while True:
            try:
                await self.run()
            except* Died:
                assert self.dead
            self.database.close()
            if not self.dead or self.rig.over:
                return


class _Randomness:
    """Unpredictable to nobody: the same bytes in every run."""

    def __init__(self, name: str) -> None:
        self._name, self._count = name, 0

    def bytes(self, count: int) -> bytes:
        self._count += 1
        return hashlib.sha256(f"{self._name} {self._count}".encode()).digest()[:count]


@contextmanager
def _ours(node: PointNode) -> Iterator[None]:
    """Let `trade_node.Node.build` take chain, wallet and streams in memory."""
    ours = {
        "ElectrumChain": lambda *_, **__: PointChain(node.ledger, node),
        "BdkWallet": lambda _words, _net, _db, chain, locks: Wallet(
            node.coin_keys, node.scripts, node.given, chain, locks
        ),
        "MemoryStreams": lambda post, _me: PointStreams(post, node),
    }
    theirs = {name: getattr(trade_node, name) for name in ours}
    try:
        for name, made in ours.items():
            setattr(trade_node, name, made)
        yield
    finally:
        for name, made in theirs.items():
            setattr(trade_node, name, made)
