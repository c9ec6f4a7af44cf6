"""One spawned process, one command under way, and the faults that name them."""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from p2pnode.base.errors import NodeError, Unreachable

TAIL_LINES: Final = 12
TAIL_BYTES: Final = 64 * 1024
TURN_S: Final = 0.2  # how often somebody who waits looks at the other processes
DEATH_S: Final = 0.5  # between a socket's end and that of its process
POLL_S: Final = 0.02


class ProcessFault(NodeError):
    """A process did not do what was asked; `who` names it, `log` is its last lines."""

    exit_code = 69
    code = "process"

    def __init__(self, who: str, message: str, log: tuple[str, ...] = ()) -> None:
        super().__init__(f"{who}: {message}", field=who)
        self.who, self.log = who, log


class ChildDied(ProcessFault):
    """A process ended without being asked to."""


class TooSlow(ProcessFault):
    """A process did not get there in its time."""


class CommandFailed(ProcessFault):
    """A command was refused: `status` is its exit code, `error` its error object."""

    def __init__(
        self, who: str, words: str, status: int, error: dict[str, Any], log: tuple[str, ...]
    ) -> None:
        reason = error.get("message", f"exit code {status}")
        super().__init__(who, f"{words} failed: {reason}", log)
        self.status, self.error = status, error


def tail(path: Path, lines: int = TAIL_LINES) -> tuple[str, ...]:
    """Return the last lines of a file that may not exist."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL_BYTES))
            return tuple(file.read().decode(errors="replace").splitlines()[-lines:])
    except OSError:
        return ()


@dataclass
class Child:
    """A process that is to live until it is stopped."""

    name: str
    words: tuple[str, ...]  # its command line, without the program
    process: subprocess.Popen[bytes]
    out: Path  # its stdout: the ready line
    err: Path
    log: Path  # the node's own log
    answer: dict[str, Any] = field(default_factory=dict)  # the ready line, once read

    def alive(self) -> bool:
        """Tell whether it runs."""
        return self.process.poll() is None

    def last_words(self) -> tuple[str, ...]:
        """Return the last lines that it wrote, its log before its stderr."""
        return (*tail(self.log), *tail(self.err))

    def died(self) -> ChildDied:
        """Return the fault that tells of its end."""
        status = self.process.returncode
        how = f"was killed by signal {-status}" if status < 0 else f"ended with exit code {status}"
        return ChildDied(self.name, f"the process {how}", self.last_words())

    def ready(self) -> bool:
        """Read the ready line if it is written."""
        if not self.answer:
            with self.out.open("rb") as file:
                line = file.readline()
            if line.endswith(b"\n"):
                self.answer = json.loads(line)
        return bool(self.answer)


class Command:
    """A command under way; several may run at once.

    `look` raises if a process has died; `last_words` are those of the node it talks to.
    """

    def __init__(
        self,
        who: str,
        words: tuple[str, ...],
        process: subprocess.Popen[bytes],
        look: Callable[[], None],
        last_words: Callable[[], tuple[str, ...]],
        limit_s: float,
    ) -> None:
        self.who, self.process, self._look, self._last_words = who, process, look, last_words
        self._said, self._limit_s = f"`p2pnode {' '.join(words)}`", limit_s
        self._deadline = time.monotonic() + limit_s

    def rows(self) -> list[Any]:
        """Wait for its end and return its answers, an object a line. Raises ProcessFault."""
        out, err = self._finish()
        status = self.process.returncode
        if status:
            self._blame(status)
            raise CommandFailed(self.who, self._said, status, _error(err), self._last_words())
        return [json.loads(line) for line in out.splitlines()]

    def answer(self) -> dict[str, Any]:
        """Wait for its end and return its one answer. Raises ProcessFault."""
        rows = self.rows()
        if len(rows) != 1 or not isinstance(rows[0], dict):
            raise ProcessFault(self.who, f"{self._said} gave {len(rows)} answers")
        return rows[0]

    def _finish(self) -> tuple[bytes, bytes]:
        while True:
            try:
                return self.process.communicate(timeout=TURN_S)
            except subprocess.TimeoutExpired:
                self._look()
                if time.monotonic() > self._deadline:
                    self.process.kill()
                    text = f"{self._said} took over {self._limit_s:g} s"
                    raise TooSlow(self.who, text, self._last_words()) from None

    def _blame(self, status: int) -> None:
        """Raise the death of a process if that is why nobody answered."""
        deadline = time.monotonic() + (DEATH_S if status == Unreachable.exit_code else 0)
        while True:
            self._look()
            if time.monotonic() >= deadline:
                return
            time.sleep(POLL_S)


def _error(err: bytes) -> dict[str, Any]:
    """Return the error object of a command's stderr, or its last line as the message."""
    lines = err.decode(errors="replace").splitlines() or ["(nothing on stderr)"]
    try:
        found = json.loads(lines[-1])["error"]
    except (ValueError, KeyError, TypeError):
        found = None
    return found if isinstance(found, dict) else {"message": lines[-1]}
