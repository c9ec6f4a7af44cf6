"""`python -m benchmarks dht|attack|start|trade|book`."""

import sys

import click

ROWS = """
\b
put_p50_rtt50       a put until the system calls it done; <= 150 ms and ahead of every peer
get_p50_rtt50       a get until the first valid value, at a node without it; <= 1.1 x the best
notify_p50_rtt50    from a put to the news at a listener; <= 100 ms
get_p50_dead30      the same get after 30 % of the nodes fell silent, first pass; <= 110 ms
get_p99_dead30      its 99th percentile; <= 1 s
found_dead30        share of those gets that found; 100 %
idle_memory         resident memory a node, nothing happening
cpu_per_1000_rpcs   CPU of all nodes in the puts and gets, for 1,000 requests

Further rows are only printed: put_p99_rtt50, get_p99_rtt50, and *_dead30_second (a second
pass) and *_dead30_closed (the dead close their connections). All are explained in
docs/benchmarks.md.
"""


@click.group()
def main() -> None:
    """Measure against peers in one run; one JSON object a row on stdout.

    Exit 1 if a row that must appear is absent or one is over its bar.
    """


@main.command(epilog=ROWS)
@click.option("--only", multiple=True, metavar="PEER", help="Run this peer alone (repeatable).")
@click.option("--install", is_flag=True, help="Only bring the peers into build/bench.")
def dht(only: tuple[str, ...], install: bool) -> None:
    """Our DHT beside six others: 64 nodes, 1 KB values, 50 ms round trip.

    Takes about ten minutes. Install what is missing into build/bench first.
    """
    from benchmarks import dht as bench

    sys.exit(bench.prepare() if install else bench.main(only))


@main.command()
@click.option("--only", multiple=True, metavar="ATTACK", help="Run this attack alone (repeatable).")
def attack(only: tuple[str, ...]) -> None:
    """How long an honest peer waits while strangers attack the node; some three minutes.

    attack_p99_garbage, attack_p99_half_open, attack_p99_store_storm and
    attack_p99_idle_connections: its p99 over that of the quiet around it; <= 2.
    """
    from benchmarks import attack as bench

    sys.exit(bench.main(only))


@main.command()
def start() -> None:
    """What `p2pnode --help` costs beside Python's own start."""
    from benchmarks import start as bench

    sys.exit(bench.main())


@main.command()
def trade() -> None:
    """A payout, the way from take to contract, the pure machines; half a minute.

    \b
    payout                  both signatures at both rates, checked and whole; <= 5 x the
                            operations of libsecp256k1 inside
    take_contract_rtt100    from take to both CONTRACTs; <= 1.3 x its messages' round trips
    take_contract_rtt0      the same without a delay
    machine_trades          whole trades a second through the pure machines, on one core
    """
    from benchmarks import trade as bench

    sys.exit(bench.main())


@main.command()
@click.option("--only", multiple=True, type=click.Choice(["store", "sync", "gossip"]))
def book(only: tuple[str, ...]) -> None:
    """The check of an offer, the book's file, sync and gossip; two minutes.

    \b
    verify              offers checked a second; >= 0.7 of bare libsodium
    list_best50         the best 50 of 10,000; <= 1.5 x the same SELECT on bare sqlite3
    list_best50_shown   the same with what keeps one from each, as JSON; < 5 ms
    warm_start          a file of 10,000 opened until the first listing; < 2 s
    warm_start_node     `p2pnode run` with that file until it is ready; < 2 s
    memory_10000        what 10,000 offers take; printed
    sync_10000          10,000 offers into an empty node; <= 2 x raw TCP and bare verification
    spread_50           a new offer at 50 of 50 nodes; <= 1.5 x the hops' one-way delays
    """
    from benchmarks import book as bench

    sys.exit(bench.main(only))


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
