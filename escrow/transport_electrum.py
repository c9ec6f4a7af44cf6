"""One connection to an Electrum server: JSON lines over TCP, on trio.

Bounded in every direction: lines of at most 4 MB, at most 64 questions under way, a time
limit on each. The first line that breaks the protocol, and the first silence, end the
connection for good: a late answer can then never be taken for another's. Whoever waits
gets the one error that ended it, Unreachable or PeerFault.
"""

import itertools
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import trio

from escrow import electrum
from p2pnode.base.errors import InvalidRecord, NodeError, PeerFault, Unreachable

MAX_PENDING: Final = 64
_READ_SIZE: Final = 65_536
_SEND_WITHIN: Final = 2  # seconds


async def together(calls: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Run calls side by side and raise the first NodeError among them, not a group."""
    faults: list[NodeError] = []
    limit = trio.Semaphore(MAX_PENDING)

    async def one(call: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        try:
            await call()
        except NodeError as fault:
            faults.append(fault)
            scope.cancel()
        finally:
            limit.release()

    async with trio.open_nursery() as nursery:
        for call in calls:
            await limit.acquire()
            nursery.start_soon(one, call, nursery.cancel_scope)
    if faults:
        raise faults[0]


class _Question:
    def __init__(self) -> None:
        self.answered = trio.Event()
        self.message: dict[str, Any] | None = None


class Connection:
    """Questions and answers on one stream; notices go to `notice` as (method, params)."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        timeout: float,
        notice: Callable[[str, list[Any]], None],
        ended: Callable[[], None],
    ) -> None:
        self._stream, self._timeout = stream, timeout
        self._notice, self._ended = notice, ended
        self._numbers = itertools.count()
        self._last = -1
        self._pending: dict[int, _Question] = {}
        self._slots = trio.Semaphore(MAX_PENDING)
        self._sending = trio.Lock()
        self._fault: NodeError | None = None

    def check(self) -> None:
        """Raise what ended the connection, if anything did."""
        if self._fault is not None:
            raise type(self._fault)(str(self._fault))

    def end(self, fault: NodeError) -> None:
        """End the connection: everyone who waits gets `fault`."""
        if self._fault is None:
            self._fault = fault
            for question in self._pending.values():
                question.answered.set()
            self._ended()

    async def call(self, method: str, *params: Any) -> Any:
        """Ask, and return the result. Raises Refusal, Unreachable, PeerFault."""
        async with self._slots:
            self.check()
            self._last = number = next(self._numbers)
            question = self._pending[number] = _Question()
            body = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            try:
                with trio.move_on_after(self._timeout):
                    await self._send(json.dumps(body).encode() + b"\n")
                    await question.answered.wait()
            finally:
                del self._pending[number]
            if question.message is None:  # silence, or the connection ended
                self.end(Unreachable(f"the chain server did not answer {method} in time"))
                self.check()
            assert question.message is not None  # noqa: S101 - check() raised otherwise
        try:
            return electrum.answer_of(question.message)
        except InvalidRecord as error:
            fault = PeerFault(f"the chain server broke its protocol: {error}")
            self.end(fault)
            raise fault from None

    async def _send(self, line: bytes) -> None:
        """Send a whole line; the shield keeps a cancelled caller from leaving half of one."""
        whole = False
        async with self._sending:
            with trio.CancelScope(deadline=trio.current_time() + _SEND_WITHIN, shield=True):
                try:
                    await self._stream.send_all(line)
                    whole = True
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass
            if not whole:
                self.end(Unreachable("the chain server took no more questions"))

    async def read(self) -> None:
        """Take in lines until the connection ends. Raises nothing of its own."""
        try:
            await self._read_lines()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.end(Unreachable("the chain server closed the connection"))
        except InvalidRecord as error:
            self.end(PeerFault(f"the chain server broke its protocol: {error}"))

    async def _read_lines(self) -> None:
        buffer = bytearray()
        while self._fault is None:
            chunk = await self._stream.receive_some(_READ_SIZE)
            if not chunk:
                self.end(Unreachable("the chain server closed the connection"))
            searched = len(buffer)
            buffer += chunk
            while (at := buffer.find(b"\n", searched)) >= 0:
                line = bytes(buffer[:at])
                del buffer[: at + 1]
                searched = 0
                self._take(electrum.parse_line(line))
            if len(buffer) > electrum.MAX_LINE:
                raise InvalidRecord("line", f"is longer than {electrum.MAX_LINE} bytes")

    def _take(self, message: dict[str, Any]) -> None:
        if "method" in message:
            method, params = message["method"], message.get("params")
            if type(method) is not str or type(params) is not list:
                raise InvalidRecord("notice", "is not a method with a list of parameters")
            self._notice(method, params)
            return
        number = message.get("id")
        if type(number) is not int or not 0 <= number <= self._last:
            raise InvalidRecord("id", "answers what was never asked")
        question = self._pending.get(number)
        if question is not None and question.message is None:  # else its asker has gone away
            question.message = message
            question.answered.set()
