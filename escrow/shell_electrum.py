"""Staying with one Electrum server: connect, greet, follow its headers, subscribe again.

    Away ──connect, greet, headers, resubscribe──▶ Serving ──silence, garbage, end──▶ Away
     └────── back-off, doubling ──────┘

Headers go through `HeaderChain`, so a server can lag or hide but not invent. Garbage and
silence end the connection; the next one starts afresh and subscribes to every script
again, for an Electrum server remembers nothing. A server of another network is
Misconfigured, field `electrum`.
"""

import math
from typing import Any, Final

import trio

from escrow import electrum
from escrow.electrum import Refusal
from escrow.headers import SIZE, HeaderChain
from escrow.transport_electrum import Connection, together
from escrow.watched import Watch
from p2pnode.base.errors import InvalidRecord, Misconfigured, NodeError, PeerFault, Unreachable
from p2pnode.base.networks import Network
from p2pnode.base.ports import Clock

MAX_REWRITE: Final = 100_000  # headers of one reorg
PING_EVERY: Final = 60  # seconds; servers drop a silent client after some minutes
LAST_DELAY: Final = 30.0  # seconds between two attempts, at most
STEADY_AFTER: Final = 10  # seconds of service after which the next attempt is soon again


class ElectrumLink:
    """The connection and the headers; `run` keeps them. `ElectrumChain` adds the questions."""

    def __init__(
        self,
        host: str,
        port: int,
        network: Network,
        clock: Clock,
        *,
        timeout: float = 20,
        first_delay: float = 0.1,
    ) -> None:
        self.host, self.port, self.network = host, port, network
        self.software = ""
        self.heard_at = 0  # unix seconds of the last good answer; for people alone
        self._clock, self._timeout, self._first_delay = clock, timeout, first_delay
        self.headers = HeaderChain(network)
        self._following = trio.Lock()
        self.connection: Connection | None = None
        self.fault: NodeError = Unreachable(f"no chain server at {host}:{port} yet")
        self._announced: tuple[int, bytes] | None = None
        self._notice = trio.Event()
        self.watched: dict[str, Watch] = {}
        self.reorgs = 0
        self.version = 0
        self.news = trio.Event()

    # -- the connection

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Stay connected until cancelled; started once the first attempt is over.

        Raises Misconfigured if that first server follows another network's chain.
        """
        delay, started = self._first_delay, False
        while True:
            served_at = math.inf

            def ready() -> None:
                nonlocal started, served_at
                served_at = trio.current_time()
                if not started:
                    started = True
                    task_status.started()

            self.fault = fault = await self._session(ready)
            if not started:
                if isinstance(fault, Misconfigured):
                    raise fault
                started = True
                task_status.started()
            await trio.sleep(delay)
            steady = trio.current_time() - served_at > STEADY_AFTER
            delay = self._first_delay if steady else min(2 * delay, LAST_DELAY)

    async def _session(self, ready: Any) -> NodeError:
        """Connect once and serve until it ends; returns what ended it."""
        try:
            with trio.fail_after(self._timeout):
                stream = await trio.open_tcp_stream(self.host, self.port)
        except (OSError, trio.TooSlowError):
            return Unreachable(f"no chain server answers at {self.host}:{self.port}")
        self._announced, self._notice = None, trio.Event()
        connection = Connection(
            stream,
            timeout=self._timeout,
            notice=self._noticed,
            ended=lambda: self._notice.set(),
        )
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.read)
                try:
                    await self._serve(connection, ready)
                except NodeError as error:
                    fault = error
                except Refusal as error:
                    fault = self.refused(error)
                nursery.cancel_scope.cancel()
        finally:
            self.connection = None
            await trio.aclose_forcefully(stream)
        return fault

    async def _serve(self, connection: Connection, ready: Any) -> None:
        hello = await connection.call("server.version", "p2pnode", list(electrum.PROTOCOLS))
        self.software, _ = self.strict(electrum.version, hello)
        await self.refresh(connection)
        while stale := [w for w in self.watched.values() if w.on is not connection]:
            await together([lambda w=w: self.subscribe(connection, w) for w in stale])  # type: ignore[misc]
        self.connection = connection
        self._changed()
        ready()
        while True:
            with trio.move_on_after(PING_EVERY) as idle:
                await self._notice.wait()
            connection.check()
            if idle.cancelled_caught:
                await connection.call("server.ping")
                continue
            self._notice = trio.Event()
            announced, self._announced = self._announced, None
            if announced is not None:
                await self._follow(connection, *announced)

    def _noticed(self, method: str, params: list[Any]) -> None:
        """Take in a notice. Raises InvalidRecord, which ends the connection."""
        if method == "blockchain.headers.subscribe" and len(params) == 1:
            self._announced = electrum.announced(params[0])
            self._notice.set()
        elif method == "blockchain.scripthash.subscribe" and len(params) == 2:
            watch = self.watched.get(str(params[0]))
            if watch is not None:
                watch.notices += 1
                watch.status = electrum.status(params[1])
                self._changed()

    @property
    def connected(self) -> bool:
        """Tell whether a server answers now."""
        return self.connection is not None

    def absence(self) -> NodeError:
        """Return the error of having no server now, as new."""
        return type(self.fault)(str(self.fault), field=self.fault.field)

    async def ask(self, method: str, *params: Any, over: Connection | None = None) -> Any:
        """Ask the server now connected. Raises Refusal, Unreachable, PeerFault."""
        connection = over or self.connection
        if connection is None:
            raise self.absence()
        answer = await connection.call(method, *params)
        self.heard_at = self._clock.now()
        return answer

    def strict(self, read: Any, *args: Any) -> Any:
        """Read an answer; what does not fit is the server's fault. Raises PeerFault."""
        try:
            return read(*args)
        except InvalidRecord as error:
            raise PeerFault(f"the chain server's answer is wrong: {error}") from None

    def refused(self, error: Refusal) -> NodeError:
        """Return the error for a question that an honest server answers."""
        return Unreachable(f"the chain server refused a question: {electrum.clean(error.words)}")

    async def subscribe(self, connection: Connection, watch: Watch) -> None:
        """Subscribe to one script and take in its status."""
        before = watch.notices
        try:
            answer = await self.ask("blockchain.scripthash.subscribe", watch.name, over=connection)
        except Refusal as error:
            raise self.refused(error) from None
        if watch.notices == before:  # else a notice has overtaken the older answer
            watch.status = self.strict(electrum.status, answer)
        watch.on = connection

    def _changed(self) -> None:
        self.version += 1
        self.news.set()
        self.news = trio.Event()

    # -- headers

    async def refresh(self, connection: Connection) -> None:
        """Ask for the tip and follow it."""
        answer = await self.ask("blockchain.headers.subscribe", over=connection)
        await self._follow(connection, *self.strict(electrum.announced, answer))

    async def _follow(self, connection: Connection, height: int, raw: bytes) -> None:
        """Make our headers reach the announced one, walking back to where they link."""
        async with self._following:
            ours = self.headers.header(height)
            if ours is not None and ours.raw == raw:
                return  # known; a server behind ours takes nothing back
            try:
                if height == self.headers.height + 1 and self.headers.links(height, raw):
                    self._offer(height, raw)
                else:
                    await self._walk(connection, height)
            except InvalidRecord as error:
                raise PeerFault(f"the chain server's headers are wrong: {error}") from None

    async def _walk(self, connection: Connection, height: int) -> None:
        start, step = min(height, self.headers.height + 1), 1
        run = await self._fetch(connection, start, height)
        while not self.headers.links(start, run):
            if start == 0:
                raise Misconfigured(
                    f"electrum: {self.host}:{self.port} follows another chain than "
                    f"{self.network.name}: its first block is not this network's",
                    field="electrum",
                )
            start, step = max(0, start - step), 2 * step
            run = await self._fetch(connection, start, height)
        grows = start == self.headers.height + 1
        reached = start + len(run) // SIZE
        while reached <= height:
            if grows:
                self._offer(start, run)
                start, run = reached, b""
            elif reached - start > MAX_REWRITE:
                raise InvalidRecord("headers", f"replace more than {MAX_REWRITE} blocks")
            run += await self._fetch(connection, reached, height)
            reached = start + len(run) // SIZE
        self._offer(start, run)

    async def _fetch(self, connection: Connection, start: int, height: int) -> bytes:
        most = min(electrum.MAX_CHUNK, height - start + 1)
        answer = await self.ask("blockchain.block.headers", start, most, over=connection)
        found: bytes = self.strict(electrum.headers, answer, most)
        return found

    def _offer(self, start: int, run: bytes) -> None:
        before = self.headers.height
        changed = self.headers.offer(start, run)
        if changed is None:
            return
        if changed <= before:
            self.reorgs += 1
            for watch in self.watched.values():
                watch.forget_from(changed)
        self._changed()
