"""A real bitcoind in regtest and a real ElectrumX: started, killed, started again, stopped."""

import base64
import contextlib
import ctypes
import hashlib
import hmac
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

ROOT = Path(__file__).resolve().parents[2]
COIN = 100_000_000
START_S = 60
SPACING = 600  # seconds of chain time between two blocks, where the test owns the clock
DAY_BLOCKS = 144
PR_SET_PDEATHSIG = 1
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class RpcError(Exception):
    """The node refused a call."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code


class Bitcoind:
    """A node with data of its own: its RPC, its miner, its wallet full of coins.

    With `clock` the node lives at that time, which moves only by `mine`.
    """

    def __init__(self, program: str, folder: Path, clock: int = 0) -> None:
        self.folder, self.clock = folder, clock
        self.rpc_port = _free_port()
        self.auth = f"test:{secrets.token_hex(16)}"
        user, _, password = self.auth.partition(":")
        (folder / "bitcoin.conf").write_text(
            "regtest=1\nserver=1\ntxindex=1\nfallbackfee=0.00002\ncorepolicy=1\n"
            f"[regtest]\nlisten=0\nrpcbind=127.0.0.1\nrpcallowip=127.0.0.1\n"
            f"rpcport={self.rpc_port}\nrpcuser={user}\nrpcpassword={password}\n"
        )
        self._argv = [program, f"-datadir={folder}"]
        self._process: Service | None = None

    def __enter__(self) -> Self:
        self.start()
        self.rpc("createwallet", "miner", wallet=None)
        self.mine(10, self.rpc("getnewaddress", "", "bech32"))
        self.leap(100)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- the process

    def start(self, *options: str) -> None:
        """Start it on its data."""
        argv = [*self._argv, *([f"-mocktime={self.clock}"] if self.clock else []), *options]
        self._process = Service(argv, self.folder / "stdout.log")
        self._process.wait_for(self._ready)

    def stop(self) -> None:
        """End it as a user would."""
        if self._process:
            self._process.stop()

    def kill(self) -> None:
        """Kill it; the chain is on the disk before, the mempool never is."""
        self.rpc("gettxoutsetinfo")
        assert self._process
        self._process.kill()
        with pytest.raises(ConnectionRefusedError):
            self.rpc("getblockcount")

    def forget(self, *options: str) -> None:
        """Start it again with an empty mempool, and with other options."""
        self.stop()
        self.start("-persistmempool=0", *options)
        self.rpc("loadwallet", "miner", wallet=None)
        self.rpc("syncwithvalidationinterfacequeue", wallet=None)

    def _ready(self) -> bool:
        try:
            return bool(self.rpc("getblockchaininfo", wallet=None))
        except (OSError, ValueError, RpcError, http.client.HTTPException):
            return False

    # -- the RPC

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

    def mine(
        self,
        count: int = 1,
        address: str | None = None,
        *,
        step: int = SPACING,
        empty: bool = False,
    ) -> list[str]:
        """Mine blocks, to nobody unless told otherwise; return their hashes.

        A block for the node's own wallet costs a hundred times as long. `step` is their distance in seconds where the test owns the clock; an empty block
        leaves the mempool where it is.
        """
        where = address or self.nobody
        if not self.clock and not empty:
            return self.rpc("generatetoaddress", count, where)
        found = []
        for _ in range(count):
            if self.clock:
                self.clock += step
                self.rpc("setmocktime", self.clock, wallet=None)
            if empty:
                found.append(self.rpc("generateblock", where, [])["hash"])
            else:
                found += self.rpc("generatetoaddress", 1, where)
        return found

    def leap(self, count: int, *, step: int = SPACING, chunk: int = DAY_BLOCKS) -> None:
        """Mine very many blocks fast; a clock of ours moves once a chunk, by all its time."""
        while count:
            some = min(count, chunk)
            if self.clock:
                self.clock += some * step
                self.rpc("setmocktime", self.clock, wallet=None)
            self.rpc("generatetoaddress", some, self.nobody)
            count -= some

    def reorg(self, depth: int) -> None:
        """Replace the last blocks by a longer run of empty ones; their payments wait again."""
        height = self.rpc("getblockcount")
        self.rpc("invalidateblock", self.rpc("getblockhash", height - depth + 1))
        self.mine(depth + 1, empty=True)

    def fund(self, address: str, value: int) -> str:
        """Pay satoshi from the node's wallet; return the txid. Mine to confirm it."""
        whole, rest = divmod(value, COIN)
        return self.rpc("sendtoaddress", address, f"{whole}.{rest:08}")

    def spike(self, rate: int, blocks: int) -> None:
        """Mine blocks of other people's payments alone, each at `rate` sat/vB.

        From the fifth on the node estimates that rate.
        """
        for _ in range(blocks):
            if self.clock:
                self.clock += SPACING
                self.rpc("setmocktime", self.clock, wallet=None)
            terms = ("", "", False, True, None, "unset", False, rate)
            paid = [self.rpc("sendtoaddress", self.nobody, 0.001, *terms) for _ in range(4)]
            self.rpc("generateblock", self.nobody, paid)

    def double_spend(self, words: str, victim: str, pays: int) -> int:
        """Replace an unconfirmed transaction by one that spends the inputs of these words.

        It leaves `pays` to the miner and the rest to the node's wallet. Returns the
        satoshi that it takes from the owner of the words.
        """
        thief = self._thief(words)
        tx = self.decoded(victim)
        spent, taken = [], 0
        for point, output in zip(tx["vin"], self.spent_outputs(tx), strict=True):
            address = output["scriptPubKey"]["address"]
            if self.rpc("getaddressinfo", address, wallet=thief)["ismine"]:
                spent.append({"txid": point["txid"], "vout": point["vout"]})
                taken += value(output)
        assert 0 < len(spent) < len(tx["vin"])
        outputs = {self.rpc("getnewaddress", "", "bech32"): f"{(taken - pays) / COIN:.8f}"}
        raw = self.rpc("createrawtransaction", spent, outputs, 0, True)
        signed = self.rpc("signrawtransactionwithwallet", raw, wallet=thief)
        assert signed["complete"], signed
        self.rpc("sendrawtransaction", signed["hex"])
        assert victim not in self.rpc("getrawmempool")
        return taken

    def child(self, words: str, parent: str, pays: int) -> str:
        """Spend the output of an unconfirmed transaction that these words own, to themselves.

        It leaves `pays` to the miner. Returns the txid.
        """
        thief = self._thief(words)
        for n, output in enumerate(self.decoded(parent)["vout"]):
            address = output["scriptPubKey"]["address"]
            if self.rpc("getaddressinfo", address, wallet=thief)["ismine"]:
                point = {"txid": parent, "vout": n}
                outputs = {address: f"{(value(output) - pays) / COIN:.8f}"}
                raw = self.rpc("createrawtransaction", [point], outputs, 0, True)
                signed = self.rpc("signrawtransactionwithwallet", raw, wallet=thief)
                assert signed["complete"], signed
                return str(self.rpc("sendrawtransaction", signed["hex"], 0))
        raise AssertionError("no output of it is theirs")

    def _thief(self, words: str) -> str:
        """Make a second wallet of a BIP 84 wallet's words; returns its name."""
        thief = f"thief-{secrets.token_hex(4)}"
        self.rpc("createwallet", thief, False, True, wallet=None)
        for chain in (0, 1):
            bare = f"wpkh({master_key(words)}/84h/1h/0h/{chain}/*)"
            check = self.rpc("getdescriptorinfo", bare)["checksum"]
            keys = {"desc": f"{bare}#{check}", "range": 100, "timestamp": "now"}
            assert self.rpc("importdescriptors", [keys], wallet=thief)[0]["success"]
        return thief

    # -- what it decodes

    @cached_property
    def nobody(self) -> str:
        """The address of a script that anyone could spend."""
        return str(self.rpc("decodescript", "51")["segwit"]["address"])

    def spender(self, txid: str, vout: int) -> str:
        """Return the txid of the unconfirmed spend of an output, or nothing."""
        (found,) = self.rpc("gettxspendingprevout", [{"txid": txid, "vout": vout}])
        return str(found.get("spendingtxid", ""))

    def decoded(self, txid: str) -> dict[str, Any]:
        """Return the node's own reading of a transaction, confirmed or not."""
        return self.rpc("getrawtransaction", txid, True)

    def spent_outputs(self, tx: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the outputs that a decoded transaction spends, in its order."""
        return [self.decoded(i["txid"])["vout"][i["vout"]] for i in tx["vin"]]

    def fee(self, tx: dict[str, Any]) -> int:
        """Return what a decoded transaction leaves to the miner, in satoshi."""
        return sum(map(value, self.spent_outputs(tx))) - sum(map(value, tx["vout"]))

    def median_time(self, block: str) -> int:
        """Return the median time past of a block."""
        return self.rpc("getblockheader", block)["mediantime"]

    def holdings(self, words: str) -> int:
        """Return the confirmed satoshi of a BIP 84 wallet, by the node's own derivation."""
        key = master_key(words)
        wanted = [{"desc": f"wpkh({key}/84h/1h/0h/{c}/*)", "range": 100} for c in (0, 1)]
        return round(self.rpc("scantxoutset", "start", wanted)["total_amount"] * COIN)


def value(output: dict[str, Any]) -> int:
    """Return a decoded output's satoshi."""
    return round(output["value"] * COIN)


def master_key(words: str) -> str:
    """Return the extended private key of BIP 39 words on a test network (BIP 32)."""
    seed = hashlib.pbkdf2_hmac("sha512", words.encode(), b"mnemonic", 2048)
    node = hmac.new(b"Bitcoin seed", seed, "sha512").digest()
    raw = bytes.fromhex("04358394") + bytes(9) + node[32:] + b"\0" + node[:32]
    raw += hashlib.sha256(hashlib.sha256(raw).digest()).digest()[:4]
    number, text = int.from_bytes(raw), ""
    while number:
        number, digit = divmod(number, 58)
        text = BASE58[digit] + text
    return text


class Service:
    """A server process; it dies with the tests, its words are in `log`."""

    def __init__(self, argv: list[str], log: Path, env: dict[str, str] | None = None) -> None:
        self._log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=env,
                preexec_fn=_die_with_parent,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def wait_for(self, ready: Callable[[], bool]) -> None:
        """Wait until it serves."""
        deadline = time.monotonic() + START_S
        while not ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                words = self._log.read_text()[-3000:]
                self.stop()
                pytest.fail(f"{self._process.args[0]} did not start:\n{words}")
            time.sleep(0.05)

    def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Ask it to end; kill it if it does not."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()


def bitcoind_program() -> str:
    """Return the program, or skip the test; in CI fail it."""
    found = (
        os.environ.get("P2PNODE_BITCOIND")
        or shutil.which(str(ROOT / ".bitcoind/bin/bitcoind"))
        or shutil.which("bitcoind")
    )
    return found or _absent("bitcoind")


@contextlib.contextmanager
def electrum_server(node: Bitcoind, folder: Path) -> Iterator[str]:
    """Run a real Electrum server on a node; yields "127.0.0.1:PORT"."""
    python = os.environ.get("P2PNODE_ELECTRUMX_PYTHON") or shutil.which(
        str(ROOT / ".exv/bin/python")
    )
    if not python:
        _absent("ElectrumX")
    port = _free_port()
    env = {
        "PATH": os.environ["PATH"],
        "COIN": "Bitcoin",
        "NET": "regtest",
        "DB_ENGINE": "leveldb",
        "DB_DIRECTORY": str(folder),
        "DAEMON_URL": f"http://{node.auth}@127.0.0.1:{node.rpc_port}/",
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
    with Service(argv, folder / "log", env) as server:
        server.wait_for(ready)
        yield f"127.0.0.1:{port}"


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _absent(what: str) -> Any:
    if os.environ.get("CI"):
        pytest.fail(f"CI needs {what}", pytrace=False)
    pytest.skip(f"no {what}: `make bitcoind electrumx` fetches both")
