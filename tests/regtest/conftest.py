"""A real bitcoind in regtest and a real ElectrumX on it, once a session.

`make test` unpacks them (.bitcoind, .exv); P2PNODE_BITCOIND and P2PNODE_ELECTRUMX_PYTHON
name others. Without them the tests skip; with CI set that is a failure.
"""

import base64
import contextlib
import ctypes
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
START_S = 60
PR_SET_PDEATHSIG = 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.regtest)


class RpcError(Exception):
    """The node refused a call."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code


class Bitcoind:
    """A running node: its RPC, its miner, its wallet full of coins."""

    def __init__(self, rpc_port: int, cookie: Path) -> None:
        self.rpc_port = rpc_port
        self._cookie = cookie

    @property
    def auth(self) -> str:
        """`user:password` of the RPC."""
        return self._cookie.read_text()

    def rpc(self, method: str, *params: Any, wallet: str | None = "miner") -> Any:
        """Call the node. Raises RpcError."""
        path = f"/wallet/{wallet}" if wallet else "/"
        token = base64.b64encode(self.auth.encode()).decode()
        connection = http.client.HTTPConnection("127.0.0.1", self.rpc_port, timeout=60)
        try:
            body = json.dumps({"id": 0, "method": method, "params": params})
            connection.request("POST", path, body, {"Authorization": f"Basic {token}"})
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if answer.get("error"):
            raise RpcError(answer["error"]["code"], answer["error"]["message"])
        return answer["result"]

    def mine(self, count: int = 1, address: str | None = None) -> list[str]:
        """Mine blocks, to the node's own wallet unless told otherwise; return their hashes."""
        where = address or self.rpc("getnewaddress", "", "bech32")
        return self.rpc("generatetoaddress", count, where)

    def fund(self, address: str, sat: int) -> str:
        """Pay from the node's wallet; return the txid. Mine to confirm it."""
        whole, rest = divmod(sat, 100_000_000)
        return self.rpc("sendtoaddress", address, f"{whole}.{rest:08}")


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _absent(what: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"CI needs {what}", pytrace=False)
    pytest.skip(f"no {what}: `make bitcoind electrumx` fetches both")


def _wait(process: subprocess.Popen[bytes], log: Path, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"{process.args[0]} did not start:\n{log.read_text()[-3000:]}")
        time.sleep(0.05)


@contextlib.contextmanager
def _running(
    argv: list[str], log: Path, ready: Callable[[], bool], env: dict[str, str] | None = None
) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=env,
            preexec_fn=_die_with_parent,
        )
    try:
        _wait(process, log, ready)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def bitcoind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bitcoind]:
    """A regtest node with its own data, a funded wallet "miner" and 110 blocks."""
    program = (
        os.environ.get("P2PNODE_BITCOIND")
        or shutil.which(str(ROOT / ".bitcoind/bin/bitcoind"))
        or shutil.which("bitcoind")
    )
    if not program:
        _absent("bitcoind")
    folder = tmp_path_factory.mktemp("bitcoind")
    port = _free_port()
    (folder / "bitcoin.conf").write_text(
        "regtest=1\nserver=1\ntxindex=1\nfallbackfee=0.00002\ncorepolicy=1\n"
        f"[regtest]\nlisten=0\nrpcbind=127.0.0.1\nrpcallowip=127.0.0.1\nrpcport={port}\n"
    )
    node = Bitcoind(port, folder / "regtest" / ".cookie")

    def ready() -> bool:
        try:
            return bool(node.rpc("getblockchaininfo", wallet=None))
        except (OSError, ValueError, RpcError, http.client.HTTPException):
            return False

    with _running([program, f"-datadir={folder}"], folder / "stdout.log", ready):
        node.rpc("createwallet", "miner", wallet=None)
        node.mine(110)
        yield node


@pytest.fixture(scope="session")
def electrumx(bitcoind: Bitcoind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Electrum server on the node; yields "127.0.0.1:PORT"."""
    python = os.environ.get("P2PNODE_ELECTRUMX_PYTHON") or shutil.which(
        str(ROOT / ".exv/bin/python")
    )
    if not python:
        _absent("ElectrumX")
    folder = tmp_path_factory.mktemp("electrumx")
    port = _free_port()
    env = {
        "PATH": os.environ["PATH"],
        "COIN": "Bitcoin",
        "NET": "regtest",
        "DB_ENGINE": "leveldb",
        "DB_DIRECTORY": str(folder),
        "DAEMON_URL": f"http://{bitcoind.auth}@127.0.0.1:{bitcoind.rpc_port}/",
        "SERVICES": f"tcp://127.0.0.1:{port}",
        "ALLOW_ROOT": "1",
        "PEER_DISCOVERY": "off",
        "PEER_ANNOUNCE": "",
        "REPORT_SERVICES": "",
        "CACHE_MB": "50",
        "COST_SOFT_LIMIT": "0",
        "COST_HARD_LIMIT": "0",
        "DAEMON_POLL_INTERVAL_BLOCKS": "100",
        "DAEMON_POLL_INTERVAL_MEMPOOL": "100",
    }

    def ready() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    argv = [python, str(Path(__file__).with_name("fast_electrumx.py"))]
    with _running(argv, folder / "log", ready, env):
        yield f"127.0.0.1:{port}"
