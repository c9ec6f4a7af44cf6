"""Whole nodes' trading halves in one process, on a real sandbox chain, with a thief between them.

Real: sandbox, Electrum server and client, bdk wallets, coin locks, journals, keys, signatures,
second opinions, `Exchange` with its courier and inbox. Faked: the streams (channels in memory
through `Post`, where a hook sees, drops, rewrites or repeats each frame), the arbiters' registry
(one list), the order book (`Desk`) and the clock. Waiting is by conditions only.
"""

import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import bdkpython as bdk
import trio
import trio.testing
from trade_fakes import Board, Desk, Registry, SetClock, disclose
from trade_node import Node
from trade_post import NET, Frame, Hook, Post, connect

from dht.shell_mailbox import Mailbox
from escrow import backend_second
from escrow.contract import KINDS_ALLOWED
from escrow.messages import Kind, Message
from escrow.model import (
    Broadcast,
    Closed,
    Funded,
    MakeStatement,
    OpenDispute,
    Paid,
    Publish,
    SayPaid,
    State,
)
from escrow.payloads import Dispute
from escrow.shell_inbox import read_reply
from escrow.terms import Terms
from p2pnode.app.sandbox.mempool import Sandbox
from p2pnode.app.sandbox.server import ElectrumServer
from p2pnode.base.clock import SystemRandomness
from p2pnode.base.errors import NodeError, Unreachable
from p2pnode.base.identity import Identity
from p2pnode.base.store import Database
from p2pnode.base.transaction import Outpoint

__all__ = ["AMOUNT", "NET", "Frame", "Hook", "Node", "Rig", "resigned", "rig"]

PATIENCE = 20  # seconds before a wait is a failure
AMOUNT = 500_000
PERIOD_S = 4 * 86_400
PRICE = 61_240_000_000
STEP = 600


class Rig:
    """Maker, taker, arbiters and a stranger on one chain."""

    patience = PATIENCE

    def __init__(
        self, nursery: trio.Nursery, box: Any = None, server: Any = None, salt: bytes = b""
    ) -> None:
        self.nursery, self.salt = nursery, salt  # the salt makes other people of the same names
        self.box = box or Sandbox(None)
        self.server = server or ElectrumServer(self.box)
        self.clock = SetClock()
        self.post = Post()
        self.mailbox: Callable[[Node], Mailbox] | None = None  # makes each node's, at each start
        self.records: list[bytes] = []
        self.board = Board()
        self.nodes: dict[str, Node] = {}
        self.log: list[str] = []
        self.port = 0
        self._poked = 0.0

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def by_id(self, node_id: bytes) -> Node:
        return self.nodes[self.post.names[node_id]]

    def applied(self, node_id: bytes, trade_id: bytes) -> set[bytes]:
        """Ids of the messages that a node has applied in a trade."""
        node = self.by_id(node_id)
        found = node.database.all("SELECT id FROM message WHERE trade_id = ?", trade_id)
        return {row["id"] for row in found}

    async def start(self, arbiters: int, sats: Sequence[int], strangers: Sequence[str]) -> None:
        self.port = await self.nursery.start(self.server.serve, 0)
        names = ["maker", "taker", *strangers, *(f"arbiter{n}" for n in range(arbiters))]
        async with trio.open_nursery() as starting:
            for name in names:
                starting.start_soon(self._add, name)
        for name in ("maker", "taker", *strangers):
            for sat in sats:
                self.box.fund(self[name].wallet.script_for_payout(), sat)
        self.mine(1)
        for name in names:
            if name.startswith("arbiter"):
                await self[name].exchange.arbiter.register(1000, 1000)
        for name in ("maker", "taker", *strangers):
            await self.eventually(lambda name=name: self._funded(name, sum(sats)))

    async def _funded(self, name: str, sat: int) -> None:
        await self[name].wallet.sync()
        assert self[name].balance() == sat

    async def _add(self, name: str) -> None:
        secret = hashlib.sha256(self.salt + name.encode()).digest()
        words = str(bdk.Mnemonic.from_entropy(secret[:16]))
        identity = Identity.grind(NET, secret)
        node = Node(name, self, identity, words, Database(None), Desk(name), Registry(self.records))
        self.nodes[name] = node
        self.post.names[node.id] = name
        await self.nursery.start(node.run)

    async def stop(self, name: str) -> None:
        """Kill a node between two commits."""
        self[name].scope.cancel()
        await self[name].ended.wait()

    async def restart(self, name: str) -> None:
        """Kill a node and start another over what it had committed."""
        await self.stop(name)
        await self.nursery.start(self[name].run)

    # -- the chain and the clock

    def mine(self, count: int = 1, step: int = STEP) -> None:
        self.box.mine(count, step=step)
        self.server.flush()

    async def synced(self) -> None:
        """Wait until every running node has seen the tip."""

        async def there() -> None:
            for node in self.nodes.values():
                if node.id in self.post.handlers:
                    assert node.chain.tip().hash == self.box.chain.tip

        await self.eventually(there)

    def reorg(self, depth: int, **options: Any) -> None:
        self.box.reorg(depth, **options)
        self.server.flush()

    def pass_time(self, seconds: int) -> None:
        self.clock.time += seconds
        for node in self.nodes.values():
            node.exchange.trades.wake_all()

    def mempool(self) -> set[bytes]:
        return set(self.box.pool.entries)

    def confirmed(self, txid: bytes) -> bool:
        return any(Outpoint(txid, n) in self.box.chain.index.coins for n in range(4))

    # -- trading

    def offer(self, *, maker: str = "maker", maker_sells: bool = True, **change: Any) -> Terms:
        """Put an offer on the maker's desk and return its terms."""
        values: dict[str, Any] = {
            "offer_hash": hashlib.sha256(
                f"{maker}/{len(self[maker].desk.offers)}".encode()
            ).digest(),
            "maker": self[maker].id,
            "maker_is_seller": int(maker_sells),
            "currency": "EUR",
            "exponent": 2,
            "min_sat": 200_000,
            "max_sat": 2_000_000,
            "price": PRICE,
            "slack_bp": 0,
            "method": "CUSTOM",
            "period_s": PERIOD_S,
            "dep_b_bp": 1000,
            "dep_s_bp": 1500,
            "escrow_kinds": KINDS_ALLOWED,
        }
        terms = Terms(**(values | change))
        self[maker].desk.offers[terms.offer_hash] = terms
        return terms

    async def take(
        self, terms: Terms | None = None, amount: int = AMOUNT, *, taker: str = "taker"
    ) -> bytes:
        """Take an offer (a new one of the maker's by default); returns the trade's id."""
        terms = terms or self.offer()
        account = disclose(taker, SystemRandomness().bytes(32))
        return await self[taker].exchange.opening.take(terms, amount, account)

    async def act(self, name: str, trade_id: bytes, event: Any) -> None:
        """Do what a node's user says; while the node starts, he says it again."""
        with trio.fail_after(self.patience):
            while True:
                try:
                    await self.synced()
                    return await self[name].exchange.act(trade_id, event)
                except Unreachable:
                    await trio.sleep(0.005)

    async def dispute(
        self, name: str, trade_id: bytes, words: str = "no money came", *, second: bool = False
    ) -> None:
        """Call the arbiter, or the runner-up."""
        facts = self[name].facts(trade_id)
        to = facts.contract.runner_up if second else facts.contract.arbiter
        await self.act(name, trade_id, OpenDispute(facts.dispute(words, to), to))

    async def answer(
        self, name: str, trade_id: bytes, words: str = "not so", *, second: bool = False
    ) -> None:
        """Make a statement to the arbiter, or to the runner-up."""
        facts = self[name].facts(trade_id)
        to = facts.contract.runner_up if second else facts.contract.arbiter
        await self.act(name, trade_id, MakeStatement(facts.statement(words, to), to))

    def papers(self, name: str, trade_id: bytes, words: str) -> Dispute:
        facts = self[name].facts(trade_id)
        return facts.dispute(words, facts.contract.arbiter)

    async def published(self, trade_id: bytes) -> bytes:
        """Wait until the funding is in the mempool; returns its txid."""

        async def there() -> bytes:
            self.poke()
            txid = self["maker"].facts(trade_id).outpoint.txid
            assert txid in self.mempool()
            return txid

        txid: bytes = await self.eventually(there)
        return txid

    async def funded(self, trade_id: bytes) -> None:
        """Bring a trade to Funded on both sides, the buyer's ACK delivered."""
        await self.published(trade_id)
        await self.both(trade_id, Broadcast)
        self.mine()
        await self.both(trade_id, Funded)
        contract = self["maker"].facts(trade_id).contract
        await self.delivered(self.post.names[contract.seller], trade_id, Kind.ACK)

    async def paid(self, trade_id: bytes) -> None:
        """Bring a trade to Paid on both sides."""
        await self.funded(trade_id)
        contract = self["maker"].facts(trade_id).contract
        await self.act(self.post.names[contract.buyer], trade_id, SayPaid("sent"))
        await self.both(trade_id, Paid)

    async def closed(self, trade_id: bytes, outcome: str) -> None:
        """Let the payout be mined and both sides see it 6 deep."""

        async def paid_out() -> None:
            self.poke()
            assert self.mempool()

        await self.eventually(paid_out)
        self.mine(6)
        await self.both(trade_id, Closed)
        for name in ("maker", "taker"):
            state = self[name].state(trade_id)
            assert isinstance(state, Closed)
            assert state.outcome == outcome
            assert not self[name].locked()

    def arbiter(self, trade_id: bytes) -> str:
        """Name of the arbiter drawn."""
        return self.post.names[self["maker"].facts(trade_id).contract.arbiter]

    def runner_up(self, trade_id: bytes) -> str:
        """Name of the runner-up."""
        return self.post.names[self["maker"].facts(trade_id).contract.runner_up]

    def untouched(self, *names: str) -> None:
        """Assert that nothing of these nodes is in any trade, and no transaction is under way."""
        assert not self.mempool()
        for name in names:
            assert not self[name].locked()
            assert not self[name].database.all("SELECT * FROM declared_coin")
            assert not self[name].database.all("SELECT * FROM split")
            assert not self[name].desk.reserved

    async def inject(self, sender: str, recipient: str, raw: bytes) -> tuple[int, str]:
        """Deliver bytes past the hook, on a connection of `sender`; returns the reply."""
        pipe = connect(self.post, self[sender].id, self[recipient].id)
        try:
            await pipe.send(raw)
            with trio.fail_after(PATIENCE):
                return read_reply(await pipe.receive())[:2]
        finally:
            await pipe.close()

    # -- waiting

    async def eventually(self, check: Callable[[], Awaitable[Any]]) -> Any:
        """Repeat `check` until it neither asserts nor fails; then return its answer."""
        last: BaseException | None = None
        with trio.move_on_after(self.patience):
            while True:
                try:
                    return await check()
                except (NodeError, AssertionError) as error:
                    last = error
                await trio.sleep(0.005)
        raise AssertionError(
            f"in {self.patience} s: {last!r}\n" + "\n".join(self.log[-30:])
        ) from last

    async def until(self, name: str, trade_id: bytes, *states: type[State]) -> State:
        """Wait until a node's trade is in one of these states."""

        async def there() -> State:
            self.poke()
            state, note = self[name].state(trade_id), self[name].note(trade_id)
            assert isinstance(state, states), f"{name} is {state!r:.300} ({note}), not {states}"
            return state

        found: State = await self.eventually(there)
        return found

    async def both(self, trade_id: bytes, *states: type[State]) -> None:
        for name in ("maker", "taker"):
            await self.until(name, trade_id, *states)

    async def noted(self, name: str, trade_id: bytes, words: str) -> None:
        """Wait until the trade's note holds `words`."""

        async def there() -> None:
            self.poke()
            assert words in self[name].note(trade_id), self[name].note(trade_id)

        await self.eventually(there)

    async def delivered(self, name: str, trade_id: bytes, kind: Kind) -> Message:
        """Wait until a node has applied a message of that kind."""

        async def there() -> Message:
            self.poke()
            found = self[name].heard(trade_id, kind)
            assert found is not None, f"{name} has no {kind.name}"
            return found

        message: Message = await self.eventually(there)
        return message

    def poke(self) -> None:
        """Let every courier try again now, and not twenty times a second."""
        if trio.current_time() < self._poked + 0.05:
            return
        self._poked = trio.current_time()
        for node in self.nodes.values():
            if node.id in self.post.handlers:
                for peer in node.journal.recipients():
                    node.exchange._courier.poke(peer)

    async def quiet(self, name: str, trade_id: bytes) -> None:
        """Wait until a node has nothing left to do in a trade but to publish."""

        async def there() -> None:
            await trio.testing.wait_all_tasks_blocked(0.002)
            row = self[name].journal.row(trade_id)
            if row is not None and row.own:
                todo = self[name].exchange.tender._duties(row)
                assert all(isinstance(d, Publish) for d in todo), todo

        await self.eventually(there)

    async def quiet_of_others(self, name: str, trade_id: bytes) -> None:
        """Wait until every trader but this one has nothing left to do."""
        for other in ("maker", "taker"):
            if other != name:
                await self.quiet(other, trade_id)


class _Lines(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.INFO)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())


@asynccontextmanager
async def rig(
    *,
    arbiters: int = 3,
    sats: Sequence[int] = (3_000_000,),
    strangers: Sequence[str] = (),
    hook: Hook | None = None,
    mailbox: Callable[[Node], Mailbox] | None = None,
    make: Callable[[trio.Nursery], Rig] = Rig,
) -> AsyncIterator[Rig]:
    """A running rig with funded traders and registered arbiters."""
    backend_second.warm()
    async with trio.open_nursery() as nursery:
        made = make(nursery)
        made.post.hook, made.mailbox = hook, mailbox
        handler = _Lines(made.log)
        loggers = [logging.getLogger(name) for name in ("escrow", "p2pnode")]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.addHandler(handler)
            logger.setLevel(logging.INFO)
        try:
            await made.start(arbiters, sats, strangers)
            yield made
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.removeHandler(handler)
                logger.setLevel(level)
            nursery.cancel_scope.cancel()
            made.box.close()


def resigned(message: Message, key: Identity, **change: Any) -> bytes:
    """Return a message with header fields or payload changed, signed anew by `key`."""
    values = {name: getattr(message, name) for name in message.__dataclass_fields__}
    changed = Message(**(values | {"signature": b""} | change))
    with suppress(ValueError):
        return changed.signed(key).wire()
    return replace(changed, signature=key.sign(changed.id)).wire()
