"""The course of one measurement, the same for every system (docs/benchmarks.md).

Puts, gets, news, then 30 % of the nodes fall silent and every caller reads once. What has
been measured so far is printed as one JSON object a line after each part, so a run that has to
be killed still tells what it knew; the last line counts. Standard library only: it also runs
in the peers' own environment.
"""

import gc
import json
import os
import random
import socket
import time
from pathlib import Path
from typing import Any, Final, Protocol

NODES: Final = int(os.environ.get("BENCH_NODES", "64"))
ONE_WAY_S: Final = float(os.environ.get("BENCH_ONE_WAY_MS", "25")) / 1000
VALUE_BYTES: Final = 990  # with its length prefix the 1,000 that the BitTorrent family allows
PUTS: Final = 40
NEWS: Final = 20
DEAD_SHARE: Final = 0.3
OWN_STORE_S: Final = 1.6 * ONE_WAY_S  # a get under 0.8 RTT did not come from another node
PART_S: Final = 15.0  # no operation begins later than this after its part began
GET_LIMIT_S: Final = 30.0  # a get that has not ended by then has not found
SEED: Final = 3

Key = Any


class System(Protocol):
    """What a peer's program has to be able to do; nodes are numbers from 0."""

    news: str | None  # why it cannot push, None if it can
    at_once: int  # gets under way at a time after the deaths (1: one after the other)
    callers: list[int]  # who puts, gets and listens; none of them dies
    doomed: list[int]  # who will fall silent

    async def put(self, node: int, value: bytes) -> tuple[float, Key | None]:
        """Return the seconds until the system calls it done, and the key if it was."""

    async def get(self, node: int, key: Key, value: bytes) -> tuple[float, bool]:
        """Return the seconds until the first valid value is at the caller, and if it came."""

    async def hear(self, listener: int, speaker: int) -> float | None:
        """Listen at one node, put at another; return the seconds from the put to the news."""

    async def kill(self) -> None:
        """Silence the doomed without a goodbye."""

    async def all(self, jobs: list[Any]) -> list[Any]:
        """Await coroutines at the same time, return what they returned."""

    def silenced(self) -> int:
        """Return how much the silence has swallowed: 0 is a fault that never fired."""

    async def holders(self, key: Key) -> set[int]:
        """Return the callers that hold a key themselves, as far as that can be told."""

    async def spent(self) -> tuple[float, int]:
        """Return the CPU seconds and the RPCs of all nodes so far."""


class State:
    """The file shared with the UDP shim: who is silent, how much was sent."""

    PORTS: Final = 65_536

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDWR)

    @classmethod
    def create(cls, path: Path) -> None:
        """Write an empty state: nobody is silent, nothing was sent."""
        path.write_bytes(bytes(cls.PORTS + 16))

    def silence(self, port: int) -> None:
        """Let nothing leave the port, and nothing reach it."""
        os.pwrite(self._file, b"\1", port)

    def sent(self) -> int:
        """Return how many datagrams were sent so far."""
        return int.from_bytes(os.pread(self._file, 8, self.PORTS), "little")

    def swallowed(self) -> int:
        """Return how many datagrams silent ports have swallowed so far."""
        return int.from_bytes(os.pread(self._file, 8, self.PORTS + 8), "little")

    def spent(self) -> tuple[float, int]:
        """Return this process's CPU seconds, and its datagrams as RPCs: two make one."""
        return time.process_time(), self.sent() // 2


def resident(process: int | str = "self") -> int:
    """Return the bytes of memory that a process holds now."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def cpu(process: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def freeze() -> None:
    """Take what exists out of the garbage collector's sight.

    A full collection over dozens of nodes in one process stops it for a second, which no node
    by itself would see.
    """
    gc.collect()
    gc.freeze()


def stopped(process: int) -> bool:
    """Tell whether a process stands still, as after SIGSTOP."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def fates(nodes: int = NODES) -> tuple[list[int], list[int]]:
    """Return who lives and who is doomed."""
    doomed = sorted(random.Random(SEED).sample(range(nodes), int(DEAD_SHARE * nodes)))
    return [node for node in range(nodes) if node not in doomed], doomed


def free_ports(count: int) -> list[int]:
    """Return UDP ports of loopback that were free a moment ago."""
    held = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


class Datagrams:
    """What the systems over UDP share: the shim silences their ports and counts for them."""

    def __init__(self, ports, state):
        self.callers, self.doomed = fates()
        self.ports, self.state = ports, state

    async def kill(self):
        """Let the datagrams of the doomed vanish."""
        for node in self.doomed:
            self.state.silence(self.ports[node])

    def silenced(self):
        """Return how many datagrams have vanished."""
        return self.state.swallowed()

    async def all(self, jobs):
        """Run jobs one after the other: the library blocks the thread."""
        return [await job for job in jobs]

    async def holders(self, key):
        """Return the callers that hold a key, where that can be told."""
        return set()

    async def spent(self):
        """Return what the shim counted."""
        return self.state.spent()


class Measurement:
    """Runs one system through the course and prints what it found."""

    def __init__(self, system: System, nodes: int, idle_bytes: float | None = None) -> None:
        self.system = system
        self.random = random.Random(SEED)
        self.kept: list[tuple[Key, bytes]] = []
        self.found: dict[str, Any] = {
            "nodes": nodes, "idle_bytes": idle_bytes, "missing": {}, "own_store": 0,
        }  # fmt: skip

    def tell(self) -> None:
        """Print what is known so far."""
        print(json.dumps(self.found), flush=True)

    async def run(self) -> None:
        """Go through all parts."""
        freeze()
        self.tell()
        before = await self.system.spent()
        await self.puts()
        self.tell()
        await self.gets()
        after = await self.system.spent()
        self.found["cpu_s"], self.found["rpcs"] = (
            b - a for a, b in zip(before, after, strict=True)
        )
        self.tell()
        await self.hears()
        self.tell()
        if not self.kept:
            self.found["missing"]["dead30"] = "no put had ended in time"
            self.tell()
            return
        await self.system.kill()
        self.found["dead"] = len(self.system.doomed)
        await self.gets_among_dead("dead30")
        self.tell()
        await self.gets_among_dead("dead30_second")
        self.tell()

    async def puts(self) -> None:
        """Store PUTS values of one key each, from callers at random, one after the other."""
        end, taken, failed = time.monotonic() + PART_S, [], 0
        for _ in range(PUTS):
            if time.monotonic() > end:
                break
            value = self.random.randbytes(VALUE_BYTES)
            seconds, key = await self.system.put(self.random.choice(self.system.callers), value)
            if key is None:
                failed += 1
                continue
            taken.append(seconds)
            self.kept.append((key, value))
        self.found["put_s"], self.found["put_failed"] = taken, failed

    async def gets(self) -> None:
        """Read each key at a caller that does not hold it, one after the other."""
        end, taken, missed = time.monotonic() + PART_S, [], 0
        for key, value in self.kept:
            if time.monotonic() > end:
                break
            seconds, found = await self._get(key, value, self._callers())
            taken.append(seconds if found else max(seconds, GET_LIMIT_S))
            missed += not found
        self.found["get_s"], self.found["get_missed"] = taken, missed

    async def hears(self) -> None:
        """Let pairs of nodes listen and speak."""
        if self.system.news is not None:
            self.found["missing"]["notify"] = self.system.news
            return
        end, taken, missed = time.monotonic() + PART_S, [], 0
        for _ in range(NEWS):
            if time.monotonic() > end:
                break
            seconds = await self.system.hear(*self.random.sample(self.system.callers, 2))
            if seconds is None:
                missed += 1
            else:
                taken.append(seconds)
        self.found["notify_s"], self.found["notify_missed"] = taken, missed

    async def gets_among_dead(self, part: str) -> None:
        """Every caller reads one key: in the first pass none has met a death."""
        end, taken, found = time.monotonic() + PART_S, [], 0
        callers = self._callers()
        while callers and time.monotonic() < end:
            jobs = []
            for _ in range(min(self.system.at_once, len(callers))):
                key, value = self.kept[len(callers) % len(self.kept)]
                holders = await self.system.holders(key)
                caller = next((c for c in callers if c not in holders), callers[0])
                callers.remove(caller)
                jobs.append(self._get(key, value, [caller]))
            for seconds, came in await self.system.all(jobs):
                if seconds < OWN_STORE_S and came:  # no second caller: all are to be fresh
                    self.found["own_store"] += 1
                    continue
                taken.append(seconds if came else max(seconds, GET_LIMIT_S))
                found += came
        self.found[f"{part}_s"], self.found[f"{part}_found"] = taken, found
        self.found["silenced"] = self.system.silenced()

    def _callers(self) -> list[int]:
        return self.random.sample(self.system.callers, len(self.system.callers))

    async def _get(self, key: Key, value: bytes, callers: list[int]) -> tuple[float, bool]:
        """Read at the first caller that has to ask others."""
        holders = await self.system.holders(key) if len(callers) > 1 else ()
        fit = [caller for caller in callers if caller not in holders] or callers
        for caller in fit:
            seconds, found = await self.system.get(caller, key, value)
            if len(fit) > 1 and found and seconds < OWN_STORE_S:
                self.found["own_store"] += 1
                continue
            break
        return seconds, found
