"""Real processes on this machine: one chain, any number of nodes, each with its own data.

    with Processes(root) as net:
        net.start_chain()                  # or Processes(root, electrum="HOST:PORT")
        net.init("seed", "maker")          # all at once
        net.run("seed", "--seed")          # returns at once; ready() waits
        net.run("maker", "--bootstrap", net.ready("seed")["multiaddrs"][0])
        net.ready("maker")
        net.cli("maker", "wallet", "balance")       # the parsed answer of a command
        net.client("maker").get("/v1/status")       # the local API
        net.kill("maker"); net.restart("maker")     # SIGKILL, and up again on the same data

After the block nothing runs any more, also after Ctrl-C, a failed step or the death of
this process (guard.py). Whatever takes too long, dies unasked or refuses becomes a
ProcessFault that names the node. Standard library and the API's client alone.
"""

import atexit
import contextlib
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from p2pnode.app import api_socket
from p2pnode.app.client import Client
from p2pnode.app.demo import guard
from p2pnode.app.demo.child import (
    POLL_S,
    Child,
    ChildDied,
    Command,
    CommandFailed,
    ProcessFault,
    TooSlow,
)
from p2pnode.base.errors import NodeError, Unreachable

__all__ = ["CHAIN", "ChildDied", "Command", "CommandFailed", "ProcessFault", "Processes", "TooSlow"]

CHAIN: Final = "chain"
# The command line beside this very package, whatever lies in the folder we are called from.
PROGRAM: Final = (sys.executable, str(Path(__file__).resolve().parents[3] / "cli.py"))
READY_S: Final = 90.0  # from spawn to the ready line
COMMAND_S: Final = 90.0
WAIT_S: Final = 90.0
STOP_S: Final = 10.0  # from SIGTERM to SIGKILL
T = TypeVar("T")


class Processes:
    """The processes below one folder: `root/NAME` is a node's data, `root/logs` their words."""

    def __init__(
        self,
        root: Path,
        program: Sequence[str] = PROGRAM,
        *,
        network: str = "sandbox",
        electrum: str = "",
    ) -> None:
        self.root, self.network, self.electrum = root, network, electrum
        self._program = tuple(program)
        self._children: dict[str, Child] = {}
        self._guard: subprocess.Popen[bytes] | None = None
        self._logs = root / "logs"
        self._logs.mkdir(parents=True)
        self.passphrase_file = root / "passphrase"
        self.passphrase_file.write_text(secrets.token_hex(16) + "\n")
        self.passphrase_file.chmod(0o600)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop_all()

    # -- starting

    def begin_chain(self) -> None:
        """Start a sandbox chain; `chain_ready` waits for it."""
        words = ("sandbox", "run", "--port", "0", "--data-dir", str(self.root / CHAIN), "--json")
        self._start(CHAIN, words)

    def chain_ready(self) -> dict[str, Any]:
        """Wait until the chain serves, and use it for every node from now on."""
        answer = self.ready(CHAIN)
        self.electrum = answer["electrum"]
        return answer

    def start_chain(self) -> dict[str, Any]:
        """Start a sandbox chain, wait until it serves, and use it for every node."""
        self.begin_chain()
        return self.chain_ready()

    def begin_init(self, name: str) -> Command:
        """Begin to make a node."""
        return self.begin(name, "init", "--passphrase-file", str(self.passphrase_file))

    def init(self, *names: str) -> list[dict[str, Any]]:
        """Make a node for each name, all at the same time."""
        return [command.answer() for command in [self.begin_init(name) for name in names]]

    def run(self, name: str, *options: str) -> None:
        """Start the node of this name; `ready` waits for it."""
        words = ["run", "--data-dir", str(self.data_dir(name)), "--json"]
        words += ["--network", self.network, "--passphrase-file", str(self.passphrase_file)]
        if self.electrum and "--electrum" not in options:
            words += ["--electrum", self.electrum]
        self._start(name, (*words, *options))

    def ready(self, name: str) -> dict[str, Any]:
        """Wait for the ready line of a process and return it. Raises ProcessFault."""
        child = self._children[name]
        deadline = time.monotonic() + READY_S
        while not child.ready():
            self.look()
            if time.monotonic() > deadline:
                raise TooSlow(name, f"was not ready within {READY_S:g} s", child.last_words())
            time.sleep(POLL_S)
        return child.answer

    def restart(self, name: str) -> dict[str, Any]:
        """Start a node that was killed or stopped again, as it was started; wait for it."""
        child = self._children[name]
        if child.alive():
            raise ProcessFault(name, "still runs")
        self._start(name, child.words)
        return self.ready(name)

    # -- talking

    def data_dir(self, name: str) -> Path:
        """Return where a node keeps its data."""
        return self.root / name

    def pid(self, name: str) -> int:
        """Return the process id that a name has, or had last."""
        return self._children[name].process.pid

    def names(self) -> list[str]:
        """Return the names of all that were started and not stopped, in that order."""
        return list(self._children)

    def client(self, name: str, timeout: float = 30) -> Client:
        """Return a client of a node's local API."""
        return Client(self.data_dir(name), timeout)

    def cli(self, name: str, *words: str) -> dict[str, Any]:
        """Run one command on a node, or `sandbox …` on the chain; return its one answer."""
        return self.begin(name, *words).answer()

    def rows(self, name: str, *words: str) -> list[Any]:
        """Run one command that lists; return its rows."""
        return self.begin(name, *words).rows()

    def begin(self, name: str, *words: str, limit_s: float = COMMAND_S) -> Command:
        """Start one command and return; several may run at the same time."""
        full = [*self._program, *words, "--json"]
        if name == CHAIN:
            full += ["--electrum", self.electrum]
        else:
            full += ["--data-dir", str(self.data_dir(name)), "--network", self.network]
        process = self._spawn(full, subprocess.PIPE, subprocess.PIPE)
        return Command(name, words, process, self.look, lambda: self.last_words(name), limit_s)

    def until(
        self,
        name: str,
        what: str,
        ask: Callable[[], T],
        accept: Callable[[T], object],
        limit_s: float = WAIT_S,
    ) -> T:
        """Ask until the answer is accepted, and return it. Raises ProcessFault.

        A node that does not answer for a moment is asked again; one that has died is not.
        """
        deadline, seen = time.monotonic() + limit_s, "nothing"
        while True:
            self.look()
            try:
                answer = ask()
                if accept(answer):
                    return answer
                seen = str(answer)
            except ProcessFault:
                raise
            except Unreachable as error:
                seen = str(error)
            except NodeError as error:
                raise ProcessFault(name, f"{what}: {error}", self.last_words(name)) from None
            if time.monotonic() > deadline:
                text = f"{what}: not within {limit_s:g} s; last seen: {seen[:300]}"
                raise TooSlow(name, text, self.last_words(name))
            time.sleep(POLL_S)

    def last_words(self, name: str) -> tuple[str, ...]:
        """Return the last lines of a process's log and stderr."""
        child = self._children.get(name)
        return child.last_words() if child else ()

    def look(self) -> None:
        """Raise ChildDied if any process has ended unasked."""
        for child in self._children.values():
            if not child.alive():
                raise child.died()

    # -- ending

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to one process and wait for its end; `restart` brings it back."""
        child = self._children[name]
        child.process.send_signal(number)
        self._reap([child])

    def stop(self, name: str) -> None:
        """End one process as a user would."""
        self.kill(name, signal.SIGTERM)
        del self._children[name]

    def stop_all(self) -> None:
        """End every process: nodes first, then the chain; nothing survives this."""
        children = list(self._children.values())
        try:
            self._end([c for c in children if c.name != CHAIN])
            self._end([c for c in children if c.name == CHAIN])
        finally:  # also when the user presses Ctrl-C again
            for child in children:
                if child.alive():
                    child.process.kill()
                    child.process.wait()
                self._forget_lock(child)
            self._children.clear()
            if self._guard is not None and self._guard.stdin is not None:
                self._guard.stdin.close()
                self._guard.wait()
                self._guard = None
            atexit.unregister(self.stop_all)

    # -- inside

    def _start(self, name: str, words: tuple[str, ...]) -> None:
        out, err = self._logs / f"{name}.out", self._logs / f"{name}.err"
        with out.open("wb") as stdout, err.open("ab") as stderr:
            process = self._spawn([*self._program, *words], stdout, stderr)
        log = self.data_dir(name) / "node.log"
        self._children[name] = Child(name, words, process, out, err, log)

    def _spawn(self, words: list[str], stdout: Any, stderr: Any) -> subprocess.Popen[bytes]:
        """Start a process in the guard's group."""
        group = self._guarded()
        return subprocess.Popen(  # noqa: S603
            words, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, process_group=group
        )

    def _guarded(self) -> int:
        """Return the guard's process group, which a first call makes."""
        if self._guard is None:
            atexit.register(self.stop_all)
            self._guard = subprocess.Popen(  # noqa: S603
                (sys.executable, "-I", "-S", guard.__file__),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                process_group=0,
            )
            assert self._guard.stdout is not None  # noqa: S101  a pipe was asked for
            with self._guard.stdout as words:
                words.readline()  # from here on it ignores signals
        return self._guard.pid

    def _end(self, children: list[Child]) -> None:
        for child in children:
            if child.alive():
                child.process.terminate()
        self._reap(children)

    def _reap(self, children: list[Child]) -> None:
        deadline = time.monotonic() + STOP_S
        for child in children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0.0, deadline - time.monotonic()))
                continue
            child.process.kill()
            child.process.wait()

    def _forget_lock(self, child: Child) -> None:
        """Remove what a killed daemon leaves in its folder; its lock itself died with it."""
        folder = self.data_dir(child.name)
        for name in ("lock", "sandbox.lock"):
            (folder / name).unlink(missing_ok=True)
        api_socket.release(folder)
