"""What a trade costs: its payout, its way to the contract, its pure machines.

Run: python -m benchmarks trade. Rows and method: docs/benchmarks.md, "The trade".
"""

import gc
import sys
import time
from pathlib import Path

from benchmarks.report import Report

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

MUST = ("payout", "take_contract_rtt100", "take_contract_rtt0", "machine_trades")
RTT_S = 0.1
TAKES = 9
PAYOUT_BAR = 5
TAKE_BAR = 1.3
MACHINE_TRADES = 60
# 10,000 simulated trades in the three minutes that `make test` gives them on two cores.
MACHINE_LIMIT = 10_000 / 180 / 2


def say(text):
    """Print progress."""
    print(text, file=sys.stderr, flush=True)


def payout_row(report):
    """Both first signatures, both payouts, over the curve's operations inside."""
    from benchmarks import payouts

    found = payouts.measured()
    inside, floor = found.inside, {"libsecp256k1": found.floor}
    say(f"payout: {inside.made} signatures, {inside.checked:.1f} verifications")
    report.row("payout", "us", found.warm, floor, bar=PAYOUT_BAR)
    report.row("payout_cold", "us", found.cold, floor)


def take_rows(report):
    """From take to both CONTRACTs, over the round trips of its messages."""
    from benchmarks import takes

    far = takes.take(RTT_S, TAKES)
    say(f"take: {far.round_trips} round trips")
    limit = 1000 * RTT_S * far.round_trips
    report.row("take_contract_rtt100", "ms", takes.median(far), {}, limit=limit, bar=TAKE_BAR)
    report.row("take_contract_rtt0", "ms", takes.median(takes.take(0.0, TAKES)), {})


def machine_row(report):
    """Whole trades a second through the pure machines, one core."""
    rate = trades_a_second(MACHINE_TRADES)
    report.row("machine_trades", "trades/s", rate, {}, limit=MACHINE_LIMIT, better="higher", bar=1)


def trades_a_second(count):
    """Let `count` trades come to their good end, three nodes of machines in memory each."""
    from trade_world import World

    def one(maker_is_seller):
        world = World(maker_is_seller)
        world.finish()
        assert {t.state.outcome for t in world.traders} == {"released"}

    for turn in range(2):
        one(turn)
    gc.collect()
    start = time.process_time()
    for turn in range(count):
        one(turn % 2)
    return count / (time.process_time() - start)


def main():
    """Measure, print every row, return the exit status."""
    report = Report("trade", MUST)
    for rows in (payout_row, machine_row, take_rows):
        rows(report)
    return report.status()
