"""`p2pnode demo`: a whole network on this machine, a trade that ends well and one that does not."""

import json
import shlex
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import click

from p2pnode.app.demo.market import MAX_OFFERS
from p2pnode.app.demo.processes import Processes, ProcessFault
from p2pnode.app.demo.show import HumanShow, JsonShow, Show
from p2pnode.app.demo.stage import TAKER
from p2pnode.app.demo.story import NODES, Ended, check, play
from p2pnode.base.errors import LocalFault, NodeError, StorageFault

LOOK_S: Final = 0.2


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a step.")
@click.option("--keep", is_flag=True, help="Leave the network up until Ctrl-C.")
@click.option(
    "--offers",
    type=click.IntRange(1, MAX_OFFERS),
    help="Then fill the order book with so many offers, such as 200.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="A new folder for all nodes' data, which stays [default: a temporary one].",
)
def demo(as_json: bool, keep: bool, offers: int | None, data_dir: Path | None) -> None:
    r"""Run a whole network on this machine and trade on it, in under a minute.

    A private chain, a seed, three bonded arbiters, a maker and a taker, each a process of its
    own: a trade that ends well, then one that the arbiter must rule on. Nothing is left running.

    \b
    p2pnode demo
    p2pnode demo --keep               then talk to the nodes from another terminal
    p2pnode demo --keep --offers 200  with an order book to look round in
    p2pnode demo --json | jq -c 'select(.event=="done").balances'
    """
    show: Show = JsonShow() if as_json else HumanShow()
    with _interruptible(), _folder(data_dir) as root:
        try:
            with Processes(root) as net:
                ended = play(net, show, offers or 0)
                if ended.book:
                    show.book(ended.book.line)
                show.done(ended.answer, ended.draws, _commands(net, ended) if keep else ())
                check(ended.answer)
                if keep:
                    _stay(net)
        except NodeError as error:
            show.clear()
            _fail(error, as_json)
        except OSError as error:
            show.clear()
            _fail(StorageFault(f"{error.filename or root}: {error.strerror}"), as_json)
        finally:
            show.clear()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the demo as Ctrl-C does: with everything stopped."""

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup says otherwise
        numbers.append(signal.SIGHUP)
    before = [signal.signal(number, end) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _folder(data_dir: Path | None) -> Iterator[Path]:
    """Give a folder for the run; a temporary one goes with it. Raises LocalFault, StorageFault."""
    try:
        if data_dir is not None:
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            if any(data_dir.iterdir()):
                raise LocalFault(f"{data_dir}: is not empty; name a new folder")
            yield data_dir.absolute()
            return
        root = Path(tempfile.mkdtemp(prefix="p2pnode-demo-"))
    except OSError as error:
        raise StorageFault(f"{data_dir or tempfile.gettempdir()}: {error.strerror}") from None
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _commands(net: Processes, ended: Ended) -> list[str]:
    """Return a command for each process that stays up, and a look round the order book."""
    program = "p2pnode"
    lines = [f"{program} sandbox mine 1 --electrum {net.electrum}"]
    for name in NODES:
        verb = {"maker": "wallet balance", "taker": "trade list"}.get(name, "status")
        verb = "arbiter cases" if name.startswith("arbiter") else verb
        lines.append(f"{program} {verb} --data-dir {shlex.quote(str(net.data_dir(name)))}")
    if ended.book:
        where = f"--data-dir {shlex.quote(str(net.data_dir(TAKER)))}"
        lines += [f"{program} {words} {where}" for words in ended.book.looks]
    return lines


def _stay(net: Processes) -> None:
    """Watch the network until the user ends it. Raises ProcessFault if a process dies."""
    click.echo("Ctrl-C ends it.", err=True)
    try:
        while True:
            net.look()
            time.sleep(LOOK_S)
    except KeyboardInterrupt:
        return


def _fail(error: NodeError, as_json: bool) -> None:
    """Name the node, show its last log lines, and leave with the error's exit code."""
    log = error.log if isinstance(error, ProcessFault) else ()
    if as_json:
        body = {"code": error.code, "field": error.field, "message": str(error)}
        click.echo(json.dumps({"error": body | {"log": list(log)}}, ensure_ascii=False), err=True)
    else:
        click.secho(f"error: {error}", fg="red", err=True)
        for line in log:
            click.echo(f"  | {line}", err=True)
    raise SystemExit(error.exit_code)
