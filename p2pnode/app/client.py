"""The local API's client: HTTP with JSON over the daemon's Unix socket (docs/cli.md).

Standard library alone, so that a command starts fast. An error answer becomes the same
NodeError that the daemon raised, with its exit code.
"""

import http.client
import json
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from p2pnode.base import errors
from p2pnode.base.errors import NodeError, Unreachable

SOCKET: Final = "api.sock"
SOCKET_POINTER: Final = "api.path"  # names a socket elsewhere when the path is too long
MAX_ANSWER: Final = 64 * 1024 * 1024


def socket_path(data_dir: Path) -> Path:
    """Return where the daemon of this data directory listens."""
    pointer = data_dir / SOCKET_POINTER
    if pointer.exists():
        return Path(pointer.read_text().strip())
    return data_dir / SOCKET


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Open the Unix socket in place of a TCP one."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Client:
    """Calls to one daemon, a connection each."""

    def __init__(self, data_dir: Path, timeout: float = 60) -> None:
        self.data_dir = data_dir
        self._timeout = timeout

    def get(self, path: str) -> Any:
        """Ask. Raises NodeError as the daemon did, Unreachable if none runs."""
        return self.call("GET", path)

    def post(self, path: str, **body: Any) -> Any:
        """Act, with a fresh idempotency key. Raises like `get`."""
        return self.call("POST", path, body, key=secrets.token_hex(16))

    def call(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, key: str = ""
    ) -> Any:
        """Send one request and return the parsed answer. Raises NodeError."""
        connection = _UnixConnection(socket_path(self.data_dir), self._timeout)
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        try:
            connection.request(method, path, json.dumps(body or {}), headers)
            response = connection.getresponse()
            raw = response.read(MAX_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        finally:
            connection.close()
        try:
            answer = json.loads(raw)
        except ValueError as error:
            raise self._unreachable(error) from None
        if response.status >= 400:
            raise _rebuild(answer.get("error", {}))
        return answer

    def events(self, after: int = 0, *, timeout: float = 60) -> Iterator[dict[str, Any]]:
        """Yield events with an id above `after`, old ones first, then live ones."""
        connection = _UnixConnection(socket_path(self.data_dir), timeout)
        try:
            connection.request("GET", f"/v1/events?after={after}")
            response = connection.getresponse()
            for line in iter(response.readline, b""):
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        finally:
            connection.close()

    def _unreachable(self, error: Exception) -> Unreachable:
        if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
            return Unreachable(
                f"no daemon runs on {self.data_dir}: start it with `p2pnode run "
                f"--data-dir {self.data_dir}`"
            )
        return Unreachable(f"the daemon on {self.data_dir} did not answer: {error}")


def _rebuild(error: dict[str, Any]) -> NodeError:
    """Turn the error object of an answer back into the exception that caused it."""
    known = {
        kind.code: kind
        for kind in reversed(vars(errors).values())  # of one code the general one, which is first
        if isinstance(kind, type) and issubclass(kind, NodeError)
    }
    fault: NodeError = NodeError.__new__(known.get(str(error.get("code")), NodeError))
    NodeError.__init__(fault, str(error.get("message", "")), field=str(error.get("field", "")))
    return fault
