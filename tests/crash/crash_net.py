"""A network of real processes that die where a test orders it, and are started again.

    net.order("taker", ("Funding", "after"))     SIGKILL there, see launcher.py
    net.until(…)                                 meanwhile whoever died as ordered comes up again

A process that dies unordered is a failure, as everywhere. What fired is kept in `deaths`,
how long each restart took to serve in `served_s`.
"""

import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from p2pnode.app.demo.processes import CHAIN, WAIT_S, Processes
from p2pnode.app.sandbox.control import Control
from p2pnode.base.errors import NodeError, NotFound, Unreachable

LAUNCHER = Path(__file__).with_name("launcher.py")
SLOW_S = 180.0  # a wait in which processes die and come up again, on a busy machine
MARKET = "/v1/offers?currency=EUR"
Trade = dict[str, Any]


class CrashNet(Processes):
    """Processes under orders."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, (sys.executable, str(LAUNCHER)))
        self.deaths: list[tuple[str, str, str]] = []  # name, what, point
        self.served_s: list[float] = []
        self._either: list[tuple[tuple[str, ...], tuple[str, str]]] = []
        self._down: set[str] = set()  # dead by order, to stay so until `raise_up`
        self._stay: set[str] = set()
        self._rising: dict[str, float] = {}

    # -- orders

    def _orders(self, name: str) -> Path:
        folder = self.root / f"{name}.orders"
        folder.mkdir(exist_ok=True)
        return folder

    def order(self, name: str, *points: tuple[str, str], stay_down: bool = False) -> None:
        """Let a node die at each of these points, once each, and come up again (or not)."""
        plan = self._orders(name) / "plan"
        before = json.loads(plan.read_text()) if plan.exists() else []
        beside = plan.with_name("plan.test")
        beside.write_text(json.dumps([*before, *points]))
        beside.replace(plan)
        if stay_down:
            self._stay.add(name)

    def order_either(self, names: tuple[str, ...], point: tuple[str, str]) -> None:
        """Let a point be reached by whichever of these nodes is the first, or by all."""
        self._either.append((names, point))
        for name in names:
            self.order(name, point)

    def pending(self) -> dict[str, list[Any]]:
        """Return the orders that nobody has reached yet."""
        found = {}
        for plan in self.root.glob("*.orders/plan"):
            points = [tuple(point) for point in json.loads(plan.read_text())]
            for names, point in self._either:
                if point in points and any((name, *point) in self.deaths for name in names):
                    points.remove(point)
            if points:
                found[plan.parent.stem] = points
        return found

    def all_reached(self) -> None:
        """Wait until every order has been reached."""
        self.until("maker", "the last orders", self.pending, lambda left: not left, SLOW_S)

    def bend(self, name: str, *, clock_s: int = 0, blind: tuple[str, ...] = ()) -> None:
        """Shift a node's clock; hide these arbiters from it."""
        (self._orders(name) / "clock").write_text(str(clock_s))
        (self._orders(name) / "blind").write_text("\n".join(blind))

    def is_down(self, name: str) -> bool:
        """Tell whether a node has died by order and stays so."""
        self.look()
        return name in self._down

    def raise_up(self, name: str) -> None:
        """Start a node that stayed down."""
        self._down.discard(name)
        self._stay.discard(name)
        self._start_again(name)

    @contextmanager
    def without(self, name: str) -> Iterator[None]:
        """Kill a process for the time of the block, and start it again after it."""
        self._down.add(name)
        self.kill(name)
        yield
        self.raise_up(name)
        self.ready(name)

    # -- processes

    def start_chain(self) -> dict[str, Any]:
        """Start a chain that comes up on the same port when it is started again."""
        answer = super().start_chain()
        child = self._children[CHAIN]
        port = self.electrum.rpartition(":")[2]
        child.words = tuple(
            port if before == "--port" else word
            for before, word in zip(("", *child.words), child.words, strict=False)
        )
        return answer

    def look(self) -> None:
        """Start again who died by order. Raises ChildDied for anybody else."""
        for name, child in list(self._children.items()):
            if name in self._rising and child.alive() and child.ready():
                self.served_s.append(time.monotonic() - self._rising.pop(name))
            if child.alive() or name in self._down:
                continue
            fired = self._orders(name) / "fired"
            lines = fired.read_text().splitlines() if fired.exists() else []
            told = sum(death[0] == name for death in self.deaths)
            if len(lines) == told:
                raise child.died()
            self.deaths += [(name, *json.loads(line)) for line in lines[told:]]
            if name in self._stay:
                self._down.add(name)
            else:
                self._start_again(name)

    def _start_again(self, name: str) -> None:
        self._rising[name] = time.monotonic()
        self._start(name, self._children[name].words)

    def node_id(self, name: str) -> str:
        """Return a node's id."""
        found: str = self._children[name].answer["node_id"]
        return found

    # -- the chain

    def mine(self, blocks: int = 1, step: int = 600) -> None:
        """Mine blocks, `step` seconds of chain time apart."""
        with Control(self.electrum) as chain:
            chain.call("sandbox.mine", blocks, step)

    def mempool(self) -> int:
        """Return how many transactions wait for a block."""
        with Control(self.electrum) as chain:
            count: int = chain.call("sandbox.stats")["mempool"]
            return count

    def blocks(self) -> list[str]:
        """Return the whole chain, raw."""
        with Control(self.electrum) as chain:
            height = chain.call("sandbox.stats")["height"]
            return [chain.call("sandbox.block", n) for n in range(height + 1)]

    # -- trades

    def ask(
        self, name: str, path: str, accept: Callable[[Any], object], limit_s: float = SLOW_S
    ) -> Any:
        """Ask a node's API until the answer is accepted, however often it dies meanwhile."""
        client = self.client(name)

        def asked() -> Any:
            try:
                return client.get(path)
            except NotFound as error:  # it has not heard of it yet
                raise Unreachable(str(error)) from None

        return self.until(name, path, asked, accept, limit_s)

    def reach(self, trade_id: str, *states: str, by: tuple[str, ...] = ("maker", "taker")) -> Trade:
        """Wait until all see the trade in one of these states; return the last one's view."""
        seen: Trade = {}
        for name in by:
            seen = self.ask(name, f"/v1/trades/{trade_id}", lambda t: t["state"] in states)
        return seen

    def act(
        self,
        name: str,
        path: str,
        done: Callable[[], object],
        limit_s: float = SLOW_S,
        **body: Any,
    ) -> None:
        """Do what a user does when a command fails because the node died: look, and repeat.

        A refusal by the node counts unless what was asked for is done.
        """

        def attempt() -> bool:
            if done():
                return True
            try:
                self.client(name).post(path, **body)
            except Unreachable:
                return False
            except NodeError:
                if not done():
                    raise
            return True

        self.until(name, path, attempt, bool, limit_s)

    def say(self, name: str, trade_id: str, verb: str, *after: str, **body: Any) -> None:
        """Say a trader's word until the trade is in one of the states `after`."""
        path = f"/v1/trades/{trade_id}"
        client = self.client(name)
        self.act(name, f"{path}/{verb}", lambda: client.get(path)["state"] in after, **body)

    def take(self, name: str, offer_id: str, amount_sat: int) -> str:
        """Take an offer, again if the node died before it kept the TAKE; return the trade id."""
        client = self.client(name)
        before = {t["trade_id"] for t in client.get("/v1/trades")}

        def new() -> list[str]:
            return [t["trade_id"] for t in client.get("/v1/trades") if t["trade_id"] not in before]

        def look_at_the_market() -> bool:
            client.get(MARKET)  # a node that was started again knows no offers of others
            return bool(new())

        body = {"offer_id": offer_id, "amount_sat": amount_sat, "account": "bank"}
        self.act(name, "/v1/trades", look_at_the_market, **body)
        (trade_id,) = self.until(name, "its one new trade", new, bool, WAIT_S)
        return trade_id

    def offer(self, side: str) -> str:
        """Publish an offer of the maker's that the taker finds; return its id."""
        words = ("offer", "create", f"--{side}", "--cur", "EUR", "--min", "0.005", "--max", "0.02")
        made = self.cli("maker", *words, "--price", "61240.00", "--account", "bank")
        offer_id: str = made["offer_id"]
        self.ask("taker", MARKET, lambda found: offer_id in [o["offer_id"] for o in found])
        return offer_id


def build(root: Path, arbiters: tuple[str, ...] = ("seed", "a1", "a2", "a3")) -> CrashNet:
    """Start a chain, arbiters (the first is the seed), maker and taker, both with funds.

    The taker's DHT hides the last arbiter until `bend` says otherwise.
    """
    net = CrashNet(root)
    try:
        names = (*arbiters, "maker", "taker")
        net.start_chain()
        net.init(*names)
        net.run(arbiters[0], "--seed", "--listen", f"/ip4/127.0.0.1/tcp/{free_port()}")
        through = net.ready(arbiters[0])["multiaddrs"][0]
        for name in names[1:]:
            net.run(name, "--bootstrap", through)
        for name in names[1:]:
            net.ready(name)
        with Control(net.electrum) as chain:
            for name in ("maker", "taker"):
                address = net.client(name).post("/v1/wallet/address")["address"]
                net.cli(CHAIN, "sandbox", "fund", address, "0.5")
            chain.call("sandbox.mine", 1, 600)
        net.bend("taker", blind=(net.node_id(arbiters[-1]),))
        for name in arbiters:
            net.client(name).post("/v1/arbiter")
        for name in ("maker", "taker"):
            secret = f"IBAN of {name}, not for others"
            words = ("account", "add", "--name", "bank", "--method", "CUSTOM", "--details", secret)
            net.cli(name, *words)
    except BaseException:
        net.stop_all()
        raise
    return net


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
