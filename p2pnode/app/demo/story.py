"""The story of the demo: a network comes up, one trade ends well, one before its arbiter.

    chain ── seed ── arbiter1..3, maker, taker      seven processes, joined through the seed
    bonds     three arbiters lock bitcoin, and are drawn by its weight
    trade 1   offered, found, taken, drawn, funded, paid, released
    trade 2   offered, found, taken, drawn, funded, paid, disputed, heard, ruled
    book      with --offers alone: many offers by all of them, listed by others, one taken

Everything is said through the command line and watched through the local API; each wait is
for a condition, bounded, and names whom it waits for.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from p2pnode.app.demo import fill, ledger, market, trading
from p2pnode.app.demo.processes import CHAIN, Processes, ProcessFault
from p2pnode.app.demo.show import Show
from p2pnode.app.demo.stage import ARBITERS, MAKER, SEED, TAKER, WALLETS, Stage
from p2pnode.base.units import decimal

FUNDS: Final = {MAKER: "0.5", TAKER: "0.5"} | dict.fromkeys(ARBITERS, "0.1")
BONDS: Final = dict(zip(ARBITERS, ("0.04", "0.05", "0.06"), strict=True))
LOCK_DAYS: Final = 365
RIPE_BLOCKS: Final = 9  # one to confirm, two to age, six down to the anchor
NODES: Final = (SEED, *WALLETS)

PRICES: Final = "prices.json"  # in a node's data directory: what bitcoin costs


@dataclass(frozen=True, slots=True)
class Ended:
    """What came out: the last object, the verified draws, the order book if there is one."""

    answer: dict[str, Any]
    draws: list[dict[str, Any]]
    book: fill.Filled | None = None


def play(net: Processes, show: Show, offers: int = 0) -> Ended:
    """Play it all, then fill an order book with so many offers; return what came out.

    Raises ProcessFault naming who did not do his part.
    """
    stage = Stage(net, show)
    show.part("A chain, a seed, three arbiters, a maker and a taker, each a process")
    _start(stage, judging_seed=offers > 0)
    _fund(stage)
    _bond(stage)
    _register(stage)
    before = {name: stage.held(name) for name in WALLETS}
    show.part(f"Trade 1: {trading.LOW} BTC, and everybody keeps his word")
    first = trading.play_released(stage)
    show.part(f"Trade 2: {trading.HIGH} BTC, and the two disagree")
    second = trading.play_ruled(stage)
    draws = stage.checked()
    due = ledger.expected(before, [first.end, second.end])
    balances = _balances(stage, before, due)
    book = fill.fill(stage, offers) if offers else None
    trades = [first.line, second.line]
    done = {"event": "done", "seconds": show.seconds, "trades": trades, "balances": balances}
    return Ended(done, draws, book)


def _start(stage: Stage, *, judging_seed: bool = False) -> None:
    """Start the processes; what need not wait for another does not.

    A seed that is to judge needs the chain, as every arbiter does.
    """
    net, show = stage.net, stage.show
    show.doing(CHAIN, "starts; each node draws its key")
    seed = net.begin_init(SEED)
    net.begin_chain()
    made = {SEED: seed.answer()}
    if judging_seed:
        net.chain_ready()
    net.run(SEED, "--seed")
    begun = {name: net.begin_init(name) for name in WALLETS}
    chain = net.chain_ready()
    stage.height = chain["height"]
    show.step("chain", CHAIN, f"serves Electrum on {chain['electrum']}, height {stage.height}")
    made |= {name: command.answer() for name, command in begun.items()}
    stage.names = {answer["node_id"]: name for name, answer in made.items()}
    for name in made:
        (net.data_dir(name) / PRICES).write_text(json.dumps(market.prices(), indent=1) + "\n")
    show.doing(SEED, "starts")
    seed_ready = net.ready(SEED)
    show.step("ready", SEED, f"listens on {seed_ready['addrs'][0]}")
    for name in WALLETS:
        net.run(name, "--bootstrap", seed_ready["multiaddrs"][0])
    for name in WALLETS:
        show.doing(name, "starts and joins the network")
        node_id = net.ready(name)["node_id"]
        show.step("ready", name, f"joins through the seed: node {node_id[:16]}…")


def _register(stage: Stage) -> None:
    """The arbiters consent to be drawn, the traders say where money can be sent."""
    net, show = stage.net, stage.show
    show.doing(ARBITERS[0], "publishes his consent to be drawn")
    begun = {name: net.begin(name, "arbiter", "register") for name in ARBITERS}
    accounts = []
    for name in (MAKER, TAKER):
        details = f"The {name}'s bank account; the other side alone reads this"
        words = ("account", "add", "--name", "bank", "--method", "CUSTOM", "--details", details)
        accounts.append(net.begin(name, *words))
    for name, command in begun.items():
        answer = command.answer()
        if not answer["bond"]:
            raise ProcessFault(name, "registered without his bond")
        weight = decimal(answer["weight"], 8)
        text = f"registers: weight {weight} BTC·years; {answer['holders']} nodes hold it"
        show.step("register", name, text)
    for command in accounts:
        command.answer()


def _fund(stage: Stage) -> None:
    net, show = stage.net, stage.show
    show.doing(CHAIN, "pays traders and arbiters")
    asked = {name: net.begin(name, "wallet", "address") for name in FUNDS}
    for name, command in asked.items():
        paid = net.cli(CHAIN, "sandbox", "fund", command.answer()["address"], FUNDS[name])
        use = "lock as a bond" if name in BONDS else "trade with"
        show.step("fund", name, f"gets {FUNDS[name]} BTC to {use}", paid["txid"])
    stage.mine(1, "the coins confirm")


def _bond(stage: Stage) -> None:
    """The arbiters lock bitcoin, and wait until it is old enough to be drawn by."""
    net, show = stage.net, stage.show
    for name in ARBITERS:
        show.doing(name, "sees his coins")
        stage.held(name)
    lock = ("--lock", str(LOCK_DAYS), "--yes")
    begun = {
        name: net.begin(name, "arbiter", "bond", "create", "--amount", amount, *lock)
        for name, amount in BONDS.items()
    }
    for name, command in begun.items():
        text = f"locks {BONDS[name]} BTC for {LOCK_DAYS} days"
        show.step("bond", name, text, command.answer()["txid"])
    stage.bonds = dict(BONDS)
    stage.mine(RIPE_BLOCKS, "the bonds grow old enough")
    for name in ARBITERS:
        stage.ask(name, "sees his bond", "/v1/bonds", lambda b: b[0]["state"] == "drawable")


def _balances(
    stage: Stage, before: Mapping[str, int], due: Mapping[str, int]
) -> dict[str, dict[str, int]]:
    """Measure what each holds now beside what he must hold."""
    return {
        name: {
            "before_sat": before[name],
            "after_sat": stage.held(name),
            "expected_sat": due[name],
        }
        for name in WALLETS
    }


def check(answer: Mapping[str, Any]) -> None:
    """Hold the balances against what they must be. Raises ProcessFault."""
    for name, row in answer["balances"].items():
        if row["after_sat"] != row["expected_sat"]:
            raise ProcessFault(name, f"holds {row['after_sat']} sat, not {row['expected_sat']} sat")
    ends = [trade["outcome"] for trade in answer["trades"]]
    if ends != ["released", "ruled"]:
        raise ProcessFault(MAKER, f"the trades ended {ends}, not released and ruled")
