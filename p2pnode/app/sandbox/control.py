"""A small blocking client of a running sandbox, for its command line. Standard library only."""

import json
import socket
from typing import Any, Final

from p2pnode.base.errors import LocalFault, PeerFault, Unreachable, UsageFault

MAX_ANSWER: Final = 16 * 1024 * 1024
TIMEOUT: Final = 60  # seconds


def parse_address(text: str) -> tuple[str, int]:
    """Read HOST:PORT. Raises UsageFault."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) < 65536:
        raise UsageFault(f"electrum: {text[:60]!r} is not HOST:PORT", field="electrum")
    return host, int(port)


class Control:
    """One connection to a sandbox's Electrum port."""

    def __init__(self, address: str, timeout: float = TIMEOUT) -> None:
        where = parse_address(address)
        self._address, self._id = address, 0
        try:
            self._socket = socket.create_connection(where, timeout)
        except OSError as error:
            raise Unreachable(
                f"no sandbox answers on {address} ({error.strerror or error}): "
                "start it with `p2pnode sandbox run`"
            ) from None
        self._lines = self._socket.makefile("rb")

    def __enter__(self) -> "Control":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._lines.close()
        self._socket.close()

    def call(self, method: str, *params: Any) -> Any:
        """Return a call's result. Raises LocalFault as refused, Unreachable, PeerFault."""
        self._id += 1
        request = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": params}
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            line = self._lines.readline(MAX_ANSWER)
        except OSError as error:
            raise Unreachable(f"the sandbox on {self._address} did not answer: {error}") from None
        if not line.endswith(b"\n"):
            raise Unreachable(f"the sandbox on {self._address} ended the connection")
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            raise PeerFault(f"the server on {self._address} does not speak JSON") from None
        if type(answer) is not dict or answer.get("id") != self._id:
            raise PeerFault(f"the server on {self._address} does not speak the Electrum protocol")
        if fault := answer.get("error"):
            text = fault.get("message") if type(fault) is dict else fault
            raise LocalFault(str(text)[:1_000])
        return answer.get("result")
