"""What the chain's and the wallet's tests share: a sandbox, a lying relay before it, waiting."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from escrow.backend_electrum import ElectrumChain
from escrow.backend_wallet import Balance, BdkWallet
from escrow.store_locks import CoinLocks
from p2pnode.app.sandbox.mempool import Sandbox
from p2pnode.app.sandbox.server import ElectrumServer
from p2pnode.base.clock import SystemClock
from p2pnode.base.errors import NodeError
from p2pnode.base.networks import NETWORKS
from p2pnode.base.store import Database
from p2pnode.base.transaction import Transaction, parse_transaction

NET = NETWORKS["sandbox"]
SCRIPT = b"\x00\x14" + b"\x11" * 20
OTHER = b"\x00\x14" + b"\x22" * 20
WORDS = "abandon " * 11 + "about"
PATIENCE = 10  # seconds before a wait is a failure

# Takes the method and the server's message; returns what to send, None for nothing at all.
Twist = Callable[[str, dict[str, Any]], dict[str, Any] | bytes | None]


class Relay:
    """Stands between client and server and twists answers while `twist` is set."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.twist: Twist | None = None
        self.lies = 0
        self.connections = 0
        self.asked: list[str] = []

    async def serve(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        task_status.started(listeners[0].socket.getsockname()[1])
        await trio.serve_listeners(self._handle, listeners)

    async def _handle(self, client: trio.SocketStream) -> None:
        self.connections += 1
        methods: dict[Any, str] = {}
        try:
            server = await trio.open_tcp_stream("127.0.0.1", self.target)
        except OSError:
            return
        async with server, trio.open_nursery() as nursery:

            async def up() -> None:
                async for line in _lines(client):
                    request = json.loads(line)
                    methods[request["id"]] = request["method"]
                    self.asked.append(request["method"])
                    await server.send_all(line + b"\n")

            async def down() -> None:
                async for line in _lines(server):
                    message = json.loads(line)
                    method = message.get("method") or methods.get(message.get("id"), "")
                    out: Any = message
                    if self.twist is not None:
                        out = self.twist(method, json.loads(line))
                        self.lies += out != message
                    if isinstance(out, dict):
                        out = json.dumps(out).encode() + b"\n"
                    if out is not None:
                        await client.send_all(out)

            for pump in (up, down):
                nursery.start_soon(_quiet, pump, nursery.cancel_scope)


async def _quiet(pump: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
    try:
        await pump()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    scope.cancel()


async def _lines(stream: trio.SocketStream) -> AsyncIterator[bytes]:
    buffer = b""
    async for chunk in stream:
        *lines, buffer = (buffer + chunk).split(b"\n")
        for line in lines:
            yield line


class Rig:
    """A sandbox, its server, the relay before it and a chain that looks through the relay."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.box = Sandbox(None)
        self.server = ElectrumServer(self.box)
        self.relay: Relay
        self.port = 0
        self.chain: ElectrumChain

    async def start(self, **options: Any) -> None:
        self.relay = Relay(await self.nursery.start(self.server.serve, 0))
        self.port = await self.nursery.start(self.relay.serve)
        self.chain = self.client(**options)
        await self.nursery.start(self.chain.run)

    def client(self, **options: Any) -> ElectrumChain:
        options = {"timeout": 3, "first_delay": 0.01} | options
        return ElectrumChain("127.0.0.1", self.port, NET, SystemClock(), **options)

    def mine(self, count: int = 1, step: int = 600) -> None:
        self.box.mine(count, step=step)
        self.server.flush()

    def fund(self, script: bytes, sat: int) -> Transaction:
        tx = self.box.fund(script, sat)
        self.server.flush()
        return tx

    def reorg(self, depth: int, **options: Any) -> None:
        self.box.reorg(depth, **options)
        self.server.flush()

    async def depth(self, script: bytes, height: int) -> None:
        """Wait until the only transaction on `script` is at `height`."""

        async def there() -> None:
            seen = await self.chain.sightings(script)
            assert [s.height for s in seen] == [height]

        await eventually(there)


@asynccontextmanager
async def rig(**options: Any) -> AsyncIterator[Rig]:
    async with trio.open_nursery() as nursery:
        made = Rig(nursery)
        try:
            await made.start(**options)
            yield made
        finally:
            nursery.cancel_scope.cancel()
            made.box.close()


async def eventually(check: Callable[[], Awaitable[Any]]) -> Any:
    """Repeat `check` until it neither asserts nor fails; then return its answer."""
    with trio.fail_after(PATIENCE):
        while True:
            try:
                return await check()
            except (NodeError, AssertionError) as error:
                last = error
            try:
                await trio.sleep(0.005)
            except trio.Cancelled:
                print(f"the last answer: {last!r}")
                raise


def double_spend(tx: Transaction, script: bytes) -> bytes:
    """Return the faucet's payment again, to another script: its coins need no signature."""
    raw = tx.serialize()
    paid = tx.outputs[0].script
    forged = raw.replace(paid, script, 1)
    assert parse_transaction("tx", forged).txid != tx.txid
    return forged


class Purse:
    """A wallet on a rig's chain, with its locks and database."""

    def __init__(self, r: Rig, database: Database | None = None, words: str = WORDS) -> None:
        self.rig = r
        self.database = database or Database(None)
        self.locks = CoinLocks(self.database)
        self.wallet = BdkWallet(words, NET, self.database, r.chain, self.locks)

    async def holds(self, confirmed: int, pending: int = 0) -> Balance:
        """Wait until the balance is this."""

        async def check() -> None:
            await self.wallet.sync()
            balance = self.wallet.balance()
            assert (balance.confirmed, balance.pending) == (confirmed, pending)

        await eventually(check)
        return self.wallet.balance()

    async def funded(self, *sats: int) -> None:
        """Get confirmed coins from the faucet."""
        for sat in sats:
            self.rig.box.fund(self.wallet.script_for_payout(), sat)
        self.rig.mine()
        await self.holds(sum(sats))
