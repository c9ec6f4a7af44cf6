"""The local API: HTTP with JSON under `/v1` on a Unix socket that its owner alone may open.

Starlette on hypercorn's trio worker, in the node's own nursery. A `Route` is turned into
an endpoint: the request is bounded and parsed, the handler called, what it returns is
written as JSON, and a NodeError becomes {"error":{"code","field","message"}} with a
status of its kind. Anything else is a bug: 500, with its traceback in the log.
"""

import json
import logging
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as Endpoint
from starlette.types import Receive, Scope, Send

from p2pnode.app import api_socket
from p2pnode.app.events import Events
from p2pnode.app.once import Once, request_hash
from p2pnode.app.routes import Call, Route
from p2pnode.base.errors import (
    InvalidRecord,
    LocalFault,
    Locked,
    Misconfigured,
    NodeError,
    NotFound,
    PeerFault,
    StorageFault,
    Unreachable,
    UsageFault,
    WrongPassphrase,
)
from p2pnode.base.store import Database

MAX_BODY: Final = 6 * 1024 * 1024  # the largest message of the protocol, in base64
MAX_LISTENERS: Final = 64
HEARTBEAT_S: Final = 15
DRAIN_S: Final = 2  # for requests under way when the node ends
_STATUS: Final[dict[type[NodeError], int]] = {
    UsageFault: HTTPStatus.BAD_REQUEST,
    InvalidRecord: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotFound: HTTPStatus.NOT_FOUND,
    LocalFault: HTTPStatus.CONFLICT,
    WrongPassphrase: HTTPStatus.FORBIDDEN,
    Locked: HTTPStatus.LOCKED,
    Unreachable: HTTPStatus.SERVICE_UNAVAILABLE,
    PeerFault: HTTPStatus.BAD_GATEWAY,
    StorageFault: HTTPStatus.INSUFFICIENT_STORAGE,
    Misconfigured: HTTPStatus.INTERNAL_SERVER_ERROR,
}
_NOTHING_DONE: Final = (UsageFault, InvalidRecord, LocalFault, WrongPassphrase, Locked)


class Api:
    """Serves routes, events and idempotency keys; one for each node."""

    def __init__(self, routes: Sequence[Route], events: Events, database: Database) -> None:
        self.events = events
        self._once = Once(database)
        self.listeners = 0
        self.ending = trio.Event()
        self._active, self._idle = 0, trio.Event()
        self._app = Starlette(
            routes=[
                Endpoint("/v1/events", self._stream, methods=["GET"]),
                *(Endpoint(r.path, self._endpoint(r), methods=[r.method]) for r in routes),
            ],
            exception_handlers={HTTPException: _no_route, Exception: _bug},
        )

    async def serve(
        self,
        data_dir: Path,
        stop: trio.Event,
        *,
        task_status: Any = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until `stop` or cancellation; requests under way may end, within bounds.

        The caller holds the data directory's lock.
        """
        path = api_socket.claim(data_dir)
        config = Config()
        config.bind = [f"unix:{path}"]
        config.umask = 0o177  # the socket is the credential: 0600
        config.accesslog = None
        config.errorlog = logging.getLogger("p2pnode.app.http")
        config.graceful_timeout = 1
        config.h11_max_incomplete_size = 32 * 1024
        config.include_server_header = False

        async def ending() -> None:
            await self.ending.wait()
            with trio.move_on_after(DRAIN_S):  # the answer to /v1/stop leaves too
                while self._active:
                    await self._idle.wait()

        async def http(task_status: Any) -> None:
            with trio.CancelScope(shield=True):  # for as long as the drain allows
                run = partial(serve, shutdown_trigger=ending, mode="asgi")
                await run(self._counted, config, task_status=task_status)

        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(http)
                task_status.started()
                try:
                    await stop.wait()
                finally:
                    self.ending.set()
        finally:
            api_socket.release(data_dir)

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and know until when its answer is on its way."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._active += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._active -= 1
            idle, self._idle = self._idle, trio.Event()
            idle.set()

    # -- requests

    def _endpoint(self, route: Route) -> Any:
        async def endpoint(request: Request) -> Response:
            try:
                body = _parse(await _bounded(request))
                call = Call(dict(request.path_params), dict(request.query_params), body)
                if not route.once:
                    return _json(HTTPStatus.OK, _dump(await route.handler(call)))
                return await self._act_once(route, request, call)
            except NodeError as error:
                return _json(_status(error), _error(error))

        return endpoint

    async def _act_once(self, route: Route, request: Request, call: Call) -> Response:
        key = request.headers.get("idempotency-key", "")
        asked = request_hash(route.method, request.url.path, request.url.query, call.body)
        known = self._once.begin(key, asked)
        if known is not None:
            return _json(*known)
        try:
            status, answer = int(HTTPStatus.OK), _dump(await route.handler(call))
        except _NOTHING_DONE:
            self._once.forget(key)
            raise
        except NodeError as error:
            status, answer = _status(error), _error(error)
        self._once.finish(key, status, answer)
        return _json(status, answer)

    # -- events

    async def _stream(self, request: Request) -> Response:
        try:
            call = Call(query=dict(request.query_params))
            after = call.integer("after", int(_digits(request.headers.get("last-event-id"))))
            if self.listeners >= MAX_LISTENERS:
                raise LocalFault(f"more than {MAX_LISTENERS} listen to events already")
        except NodeError as error:
            return _json(_status(error), _error(error))
        return _EventStream(self, after)


class _EventStream(Response):
    """Server-sent events (WHATWG HTML, section 9.2) until the listener or the node ends."""

    def __init__(self, api: Api, after: int) -> None:
        super().__init__(media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        del self.headers["content-length"]
        self._api, self._after = api, after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the headers, then every event as it comes, with a heartbeat."""
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)

        async def write(text: str) -> None:
            body = {"type": "http.response.body", "body": text.encode(), "more_body": True}
            await send(body)

        async def events() -> None:
            async for event in self._api.events.stream(self._after):
                text = json.dumps(event, ensure_ascii=False)
                await write(f"id: {event['id']}\ndata: {text}\n\n")

        async def heartbeat() -> None:
            while True:
                await write(": \n\n")
                await trio.sleep(HEARTBEAT_S)

        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            nursery.cancel_scope.cancel()

        self._api.listeners += 1
        try:
            async with trio.open_nursery() as nursery:
                for task in (events, heartbeat, gone):
                    nursery.start_soon(task)
                await self._api.ending.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._api.listeners -= 1
        await send({"type": "http.response.body", "body": b"", "more_body": False})


# ------------------------------------------------------------------ reading and writing


async def _bounded(request: Request) -> bytes:
    """Read the body up to its limit. Raises UsageFault."""
    raw = bytearray()
    try:
        async for chunk in request.stream():
            raw += chunk
            if len(raw) > MAX_BODY:
                raise UsageFault(f"body: is over {MAX_BODY} bytes", field="body")
    except ClientDisconnect:
        raise UsageFault("body: was cut short", field="body") from None
    return bytes(raw)


def _parse(raw: bytes) -> dict[str, Any]:
    """Return the JSON object of a body; no body is an empty one. Raises UsageFault."""
    if not raw:
        return {}
    try:
        value = json.loads(raw, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UsageFault("body: is not one JSON object with each name once", field="body")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name appears twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _digits(text: str | None) -> str:
    return text if text and text.isascii() and text.isdecimal() and len(text) < 19 else "0"


def _dump(answer: Any) -> str:
    return json.dumps(answer, ensure_ascii=False, allow_nan=False)


def _json(status: int, text: str) -> Response:
    body = text.encode(errors="replace")
    return Response(body, status, media_type="application/json")


def _status(error: NodeError) -> int:
    """Return the HTTP status of the nearest class that has one."""
    return next((_STATUS[c] for c in type(error).__mro__ if c in _STATUS), HTTPStatus.CONFLICT)


def _error(error: NodeError) -> str:
    return _dump({"error": {"code": error.code, "field": error.field, "message": str(error)}})


def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  the table above says so
    fault = UsageFault(f"{request.method} {request.url.path[:100]}: {error.detail}")
    return _json(error.status_code, _error(fault))


def _bug(request: Request, error: Exception) -> Response:
    fault = NodeError("the node met a fault of its own; its log (node.log) says where")
    return _json(HTTPStatus.INTERNAL_SERVER_ERROR, _error(fault))
