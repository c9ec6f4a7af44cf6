"""Breadth-first search over frozen states: what is reached, what is bad, what is stuck.

A system says what follows from a state. Each step has a kind, and liveness may use only the
kind ones: "h", an honest node's or user's step, a delivery, a block, chain time; never "m", a
malicious party's, nor "f", a fault. A state is stuck if no good end can be reached by "h" alone.
"""

from array import array
from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

Step = tuple[str, str, Hashable]  # kind, label, the state after it


class System(Protocol):
    """What is explored."""

    def start(self) -> Hashable:
        """Return the first state."""
        ...

    def steps(self, state: Hashable) -> Iterable[Step]:
        """Return every step from a state."""
        ...

    def bad(self, state: Hashable) -> str:
        """Name what an honest party has lost, or nothing."""
        ...

    def good(self, state: Hashable) -> bool:
        """Tell whether the trade has come to an end that harms nobody honest."""
        ...

    def over(self, state: Hashable) -> bool:
        """Tell whether nothing more need happen: a stuck state is not over."""
        ...

    def stuck(self, state: Hashable) -> str:
        """Name the class of a stuck state."""
        ...


@dataclass
class Found:
    """The figures of one search, with a shortest trace for each kind of find."""

    states: int = 0
    steps: int = 0
    bad: dict[str, int] = field(default_factory=dict)
    stuck: dict[str, int] = field(default_factory=dict)
    traces: dict[str, str] = field(default_factory=dict)
    whole: bool = True  # False: the bound was reached
    used: dict[str, int] = field(default_factory=dict)  # how often each label was taken

    def lines(self) -> list[str]:
        """Each find with its count and its shortest trace."""
        said = [("BAD", self.bad), ("STUCK", self.stuck)]
        return [
            f"  {what} {count:6d} {name}  <-  {self.traces[what + name]}"
            for what, found in said
            for name, count in sorted(found.items())
        ]


def search(system: System, bound: int = 3_000_000, *, first_bad: bool = False) -> Found:
    """Explore all of `system`, up to `bound` states; `first_bad`: no further than to that."""
    begin = system.start()
    index: dict[Hashable, int] = {begin: 0}
    states: list[Hashable] = [begin]
    parent, by = array("i", [-1]), array("i", [0])
    labels: dict[str, int] = {"": 0}
    kind_from, kind_to = array("i"), array("i")  # the "h" steps, as edges
    found, queue = Found(), deque([0])
    bad: list[tuple[int, str]] = []
    while queue:
        at = queue.popleft()
        if lost := system.bad(states[at]):
            bad.append((at, lost))
            if first_bad:
                found.whole = False
                break
        for kind, label, after in system.steps(states[at]):
            found.steps += 1
            to = index.get(after)
            if to is None:
                if len(states) >= bound:
                    found.whole = False
                    continue
                to = index[after] = len(states)
                states.append(after)
                parent.append(at)
                by.append(labels.setdefault(label, len(labels)))
                queue.append(to)
            if kind == "h" and to != at:
                kind_from.append(at)
                kind_to.append(to)
    names = list(labels)
    found.states = len(states)
    found.used = dict.fromkeys(names[1:], 0)
    for label in by[1:]:
        found.used[names[label]] += 1

    def trace(at: int) -> str:
        told: list[str] = []
        while at > 0:
            told.append(names[by[at]])
            at = parent[at]
        return "; ".join(reversed(told))

    for at, lost in bad:
        found.bad[lost] = found.bad.get(lost, 0) + 1
        found.traces.setdefault("BAD" + lost, trace(at))
    if first_bad and bad:
        return found
    alive = _alive(states, system, kind_from, kind_to)
    for at, state in enumerate(states):
        if not alive[at] and not system.over(state):
            name = system.stuck(state)
            found.stuck[name] = found.stuck.get(name, 0) + 1
            found.traces.setdefault("STUCK" + name, trace(at))
    return found


def _alive(states: list[Hashable], system: System, source: array, target: array) -> bytearray:
    """Mark the states from which a good end can be reached by kind steps."""
    into: list[array | None] = [None] * len(states)
    for a, b in zip(source, target, strict=True):
        if into[b] is None:
            into[b] = array("i")
        into[b].append(a)  # type: ignore[union-attr]
    alive = bytearray(len(states))
    waiting = [n for n, state in enumerate(states) if system.good(state)]
    for n in waiting:
        alive[n] = 1
    while waiting:
        for before in into[waiting.pop()] or ():
            if not alive[before]:
                alive[before] = 1
                waiting.append(before)
    return alive
