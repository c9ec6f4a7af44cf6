"""`p2pnode sandbox`: a private chain for learning, demos and tests, and its controls."""

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from p2pnode.app.commands.frame import fail
from p2pnode.base.errors import NodeError

if TYPE_CHECKING:
    from p2pnode.app.sandbox.control import Control

PORT: Final = 50001
ADDRESS_FILE: Final = "electrum.addr"


@click.group()
def sandbox() -> None:
    """Run a private Bitcoin chain: Bitcoin Core validates, you mine."""


def _answers(function: Callable[..., None]) -> Callable[..., None]:
    """Add --json and print a NodeError in one line with its exit code."""

    @click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
    @functools.wraps(function)
    def wrapper(*args: Any, as_json: bool, **kwargs: Any) -> None:
        try:
            function(*args, as_json=as_json, **kwargs)
        except NodeError as error:
            fail(error, as_json)

    return wrapper


def _controls(function: Callable[..., None]) -> Callable[..., None]:
    """Add --electrum and pass an open connection to the sandbox first."""

    @click.option(
        "--electrum",
        metavar="HOST:PORT",
        default=f"127.0.0.1:{PORT}",
        show_default=True,
        help="Where the sandbox listens.",
    )
    @_answers
    @functools.wraps(function)
    def wrapper(*args: Any, electrum: str, **kwargs: Any) -> None:
        from p2pnode.app.sandbox.control import Control

        with Control(electrum) as control:
            function(control, *args, **kwargs)

    return wrapper


def _emit(as_json: bool, answer: dict[str, Any], text: str) -> None:
    click.echo(json.dumps(answer, ensure_ascii=False) if as_json else text)


@sandbox.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=PORT,
    show_default=True,
    help="Electrum port on loopback; 0 picks a free one.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the chain here [default: it ends with the program].",
)
@_answers
def run(port: int, data_dir: Path | None, as_json: bool) -> None:
    r"""Serve the chain until SIGTERM or Ctrl-C.

    \b
    p2pnode sandbox run                       a chain that ends with the program
    p2pnode sandbox run --data-dir ./sandbox  one that stays
    """
    from p2pnode.app.sandbox.program import serve

    def ready(address: str, height: int) -> None:
        answer = {"event": "ready", "electrum": address, "height": height, "pid": os.getpid()}
        kept = f"kept in {data_dir}" if data_dir else "gone when this ends"
        _emit(as_json, answer, f"Electrum on tcp://{address}, height {height}, {kept}")

    serve(port, data_dir, ready, data_dir / ADDRESS_FILE if data_dir else None)


@sandbox.command()
@click.argument("blocks", type=click.IntRange(1, 10_000))
@click.option(
    "--step",
    type=click.IntRange(min=1),
    default=600,
    show_default=True,
    help="Seconds of chain time a block.",
)
@_controls
def mine(control: "Control", blocks: int, step: int, as_json: bool) -> None:
    r"""Mine BLOCKS blocks; the only way chain time moves.

    \b
    p2pnode sandbox mine 6
    p2pnode sandbox mine 20 --step 86400      twenty days go by
    """
    hashes = control.call("sandbox.mine", blocks, step)
    stats = control.call("sandbox.stats")
    answer = {"blocks": hashes, "height": stats["height"], "time": stats["time"]}
    _emit(as_json, answer, f"mined {len(hashes)}: height {stats['height']}")


@sandbox.command()
@click.argument("address")
@click.argument("amount_btc")
@_controls
def fund(control: "Control", address: str, amount_btc: str, as_json: bool) -> None:
    r"""Pay AMOUNT_BTC to ADDRESS from the faucet.

    A block confirms it.

    \b
    p2pnode sandbox fund bcrt1q… 0.1
    """
    from p2pnode.base import address as addresses
    from p2pnode.base.units import COIN, decimal, parse_decimal

    script = addresses.decode("address", address, "bcrt")
    sat = parse_decimal("amount_btc", amount_btc, len(str(COIN)) - 1)
    txid = control.call("sandbox.fund", script.hex(), sat)
    answer = {"txid": txid, "address": address, "amount_sat": sat}
    _emit(as_json, answer, f"{txid}\npays {decimal(sat, 8)} BTC once a block confirms it")


@sandbox.command()
@click.argument("depth", type=click.IntRange(1, 1_000))
@_controls
def reorg(control: "Control", depth: int, as_json: bool) -> None:
    r"""Replace the last DEPTH blocks.

    Empty ones and one more take their place; what they held waits again.

    \b
    p2pnode sandbox reorg 2
    """
    hashes = control.call("sandbox.reorg", depth)
    stats = control.call("sandbox.stats")
    answer = {"blocks": hashes, "height": stats["height"], "mempool": stats["mempool"]}
    text = f"{depth} blocks replaced by {len(hashes)}: height {stats['height']}"
    _emit(as_json, answer, f"{text}, {stats['mempool']} transactions wait again")
