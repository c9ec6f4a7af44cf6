"""Where the story plays: the processes, the one who tells, and what every scene asks of them."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from p2pnode.app.demo.processes import CHAIN, Command, Processes, ProcessFault
from p2pnode.app.demo.show import Show

SEED: Final = "seed"
ARBITERS: Final = ("arbiter1", "arbiter2", "arbiter3")
MAKER: Final = "maker"
TAKER: Final = "taker"
WALLETS: Final = (MAKER, TAKER, *ARBITERS)
CURRENCY: Final = "EUR"

Answer = Mapping[str, Any]


class Stage:
    """The network while the story plays on it."""

    def __init__(self, net: Processes, show: Show) -> None:
        self.net, self.show = net, show
        self.names: dict[str, str] = {}  # node id -> name
        self.bonds: dict[str, str] = {}  # arbiter -> BTC that he has locked
        self.height = 0
        self._checks: list[tuple[str, str, Command]] = []

    def ask(
        self, name: str, what: str, path: str, accept: Callable[[Any], object]
    ) -> dict[str, Any]:
        """Ask a node's local API until the answer is accepted. Raises ProcessFault."""
        client = self.net.client(name)
        answer: dict[str, Any] = self.net.until(name, what, lambda: client.get(path), accept)
        return answer

    def trade(
        self, name: str, trade_id: str, what: str, accept: Callable[[Any], object]
    ) -> dict[str, Any]:
        """Wait until a trade looks so to one of its sides. Raises ProcessFault."""
        return self.ask(name, what, f"/v1/trades/{trade_id}", accept)

    def mine(self, blocks: int, why: str, step: int = 600) -> None:
        """Mine blocks; `step` is the seconds of chain time that each takes."""
        self.show.doing(CHAIN, f"mines: {why}")
        words = ("sandbox", "mine", str(blocks), "--step", str(step))
        self.height = self.net.cli(CHAIN, *words)["height"]
        plural = "block" if blocks == 1 else "blocks"
        self.show.step("mine", CHAIN, f"{blocks} {plural}, height {self.height}: {why}")

    def held(self, name: str) -> int:
        """Return what a node holds, in satoshi, at the chain's height of now.

        A wallet's confirmed coins; an arbiter's fees lie at keys of their cases and are
        counted with them.
        """
        path, height = "/v1/wallet/balance", self.height
        balance = self.ask(name, "sees the newest block", path, lambda b: b["height"] >= height)
        confirmed: int = balance["confirmed_sat"]
        if name in ARBITERS:
            confirmed += self.ask(name, "counts its fees", "/v1/arbiter", bool)["earned_sat"]
        return confirmed

    def begin_check(self, name: str, trade_id: str, arbiter: str) -> None:
        """Write a draw's transcript to a file and let a process without a node verify it."""
        file = self.net.root / f"draw-{trade_id[:8]}.json"
        self.net.cli(name, "draw", "show", trade_id, "--out", str(file))
        words = ("draw", "verify", str(file), "--electrum", self.net.electrum)
        self._checks.append((trade_id, arbiter, self.net.begin(name, *words)))

    def checked(self) -> list[dict[str, Any]]:
        """Return the verified draws. Raises ProcessFault if one does not hold."""
        found = []
        for trade_id, arbiter, command in self._checks:
            answer = command.answer()
            if answer["arbiter"] != arbiter:
                raise ProcessFault(command.who, f"drew {arbiter}, its transcript says otherwise")
            name = self.names[arbiter]
            self.show.step("verify", name, f"verified: was rightly drawn for trade {trade_id[:8]}")
            found.append({"trade_id": trade_id, "name": name} | answer)
        return found
