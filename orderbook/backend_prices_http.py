"""Price sources over HTTP: one of `price_adapters`, asked with httpx.

An answer is 200 with a body of at most MAX_BODY bytes within TIMEOUT_S; redirects are not
followed, certificates are verified, and nothing of the environment (proxies, credentials)
is used. With a proxy configured every byte goes through it, and the source's name with
it: the proxy looks it up, this machine does not (RFC 1928, address type 3).
"""

import functools
import re
import ssl
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

import trio

from orderbook.price_adapters import Adapter, read_answer
from orderbook.prices import Said
from p2pnode.base.errors import InvalidRecord, NodeError, Unreachable

if TYPE_CHECKING:
    import httpx

MAX_BODY: Final = 256 * 1024
TIMEOUT_S: Final = 20  # for a whole answer
CONNECT_S: Final = 10
POLL_S: Final = 60
_GROUP: Final = re.compile(r" \(\d+ sub-exceptions?\)$")
HEADERS: Final = {"User-Agent": "p2pnode", "Accept-Encoding": "identity"}


class HttpPrices:
    """One source. httpx is loaded with the first question."""

    every_s = POLL_S

    def __init__(
        self,
        adapter: Adapter,
        proxy: str = "",
        *,
        base: str = "",
        trust: ssl.SSLContext | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.name, self.live, self.docs = adapter.name, adapter.live, adapter.docs
        self._adapter, self._proxy, self._timeout_s = adapter, proxy, timeout_s
        self._base = base or adapter.base
        self._trust = trust

    async def ask(self, currencies: Collection[str]) -> Said:
        """Return what it says. Raises Unreachable, InvalidRecord."""
        prices: dict[str, tuple[int, int]] = {}
        faults: dict[str, str] = {}
        failed: NodeError | None = None
        for path, covered in self._adapter.questions(currencies):
            try:
                said = read_answer(self._adapter, await self._in_time(path), covered)
            except (Unreachable, InvalidRecord) as error:
                failed, said = error, Said({}, dict.fromkeys(covered, str(error)))
            prices |= said.prices
            faults |= said.faults
        if failed and not prices:
            raise failed
        return Said(prices, faults)

    async def _in_time(self, path: str) -> bytes:
        with trio.move_on_after(self._timeout_s):
            return await self._get(path)
        raise Unreachable(f"has not answered within {self._timeout_s:g} s")

    async def _get(self, path: str) -> bytes:
        import httpx
        from socksio import SOCKSError

        trust = self._trust or _certificates()
        try:
            async with (
                httpx.AsyncClient(
                    proxy=self._proxy or None,
                    verify=trust,
                    trust_env=False,
                    timeout=CONNECT_S,
                    headers=HEADERS,
                ) as client,
                client.stream("GET", self._base + path) as answer,
            ):
                return await _body(answer)
        except httpx.TimeoutException:
            raise Unreachable("has not answered in time") from None
        except (httpx.HTTPError, httpx.InvalidURL, SOCKSError) as error:
            way = " through the proxy" if self._proxy else ""
            raise Unreachable(f"cannot be reached{way}: {_words(error)}") from None


async def _body(answer: "httpx.Response") -> bytes:
    """Return a whole body, as sent. Raises Unreachable, InvalidRecord."""
    if answer.status_code != 200:
        raise Unreachable(f"answers with HTTP status {answer.status_code}")
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise InvalidRecord("answer", "is compressed, which was not asked for")
    raw = b""
    async for part in answer.aiter_raw():
        raw += part
        if len(raw) > MAX_BODY:
            raise InvalidRecord("answer", f"is over {MAX_BODY} bytes")
    return raw


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Return a context that trusts the roots which come with httpx; made once, it is slow."""
    import httpx

    return httpx.create_ssl_context(trust_env=False)


def _words(error: BaseException) -> str:
    """Return the reason that lies deepest: of a refused certificate the outer ones say nothing."""
    said, below = type(error).__name__, error
    for _ in range(8):
        said = " ".join(str(below).split()) or said
        deeper = below.__cause__ or below.__context__
        if deeper is None:
            break
        below = deeper
    return _GROUP.sub("", said)[:120]
