"""What every command shares: the common options, output in two forms, errors as one line.

stdout carries the answer and nothing else; remarks and errors go to stderr. With --json
an answer is one object a line, units as on the wire; an error is
{"error":{"code","field","message"}} (docs/cli.md). Lines for people keep to 80 columns,
but for ids, addresses and commands, which must stay whole to be copied.
"""

import functools
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from p2pnode.app.client import Client
from p2pnode.base.errors import InvalidRecord, NodeError
from p2pnode.base.units import decimal

DEFAULT_NETWORK: Final = "sandbox"
NETWORK_NAMES: Final = ("main", "testnet4", "signet", "regtest", "sandbox")
WIDTH: Final = 80
_RANGE: Final = re.compile(r"(\w+): is not an integer in (\d+)\.\.(\d+)", re.ASCII)
_OVER: Final = re.compile(r"(\w+)_sat: is over (\d+) sat(.*)", re.ASCII)
_DEPOSITS: Final = frozenset({"dep_b_bp", "dep_s_bp"})


@dataclass(frozen=True, slots=True)
class Session:
    """One run of a command: which node, and how to answer."""

    data_dir: Path
    network: str
    as_json: bool

    @property
    def client(self) -> Client:
        """Return a client of this data directory's daemon."""
        return Client(self.data_dir)

    def worker(self, timeout: float) -> Client:
        """Return a client that waits longer, for what takes the daemon's own work."""
        return Client(self.data_dir, timeout)

    def emit(self, answer: dict[str, Any], *lines: str) -> None:
        """Print one answer: the object with --json, else the lines for people."""
        if self.as_json:
            click.echo(json.dumps(answer, ensure_ascii=False))
        else:
            for line in lines:
                click.echo(line)

    def emit_rows(
        self,
        answers: Iterable[dict[str, Any]],
        header: str,
        row: Callable[[dict[str, Any]], str],
        empty: str,
    ) -> None:
        """Print a list: an object a line with --json, else a header and rows."""
        count = 0
        for answer in answers:
            if self.as_json:
                click.echo(json.dumps(answer, ensure_ascii=False))
            else:
                if not count:
                    click.secho(header, bold=True)
                click.echo(row(answer))
            count += 1
        if not count and not self.as_json:
            click.secho(empty, dim=True, err=True)

    def remark(self, text: str) -> None:
        """Say something that is not the answer."""
        if not self.as_json:
            click.secho(text, dim=True, err=True)

    def confirm(self, question: str, yes: bool) -> None:
        """Ask before money moves, unless --yes; without a terminal --yes is needed."""
        if yes:
            return
        if self.as_json or not sys.stdin.isatty():
            raise click.UsageError(f"{question} Nobody is there to answer: say so with --yes.")
        click.confirm(question, abort=True, err=True)


def plain(text: str) -> str:
    """Write out what a terminal would obey or hide: controls, direction marks, line breaks."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def hanging(head: str, text: str) -> str:
    """Write `text` behind `head` within 80 columns; a command gets a line of its own."""
    room, lines = WIDTH - len(head), []
    for line in map(plain, text.split("\n")):
        words, mark, command = line.partition("p2pnode ") if len(line) > room else (line, "", "")
        lines += textwrap.wrap(words, room, break_long_words=False, break_on_hyphens=False)
        lines += [mark + command] if mark else []
    return head + ("\n" + " " * len(head)).join(lines)


def quoted(head: str, text: str) -> str:
    """Write another person's words behind `head` within 80 columns; no command stands out."""
    words = textwrap.wrap(plain(text), WIDTH - len(head), break_on_hyphens=False) or [""]
    return head + ("\n" + " " * len(head)).join(words)


def coins(amount_sat: int) -> str:
    """Write satoshi in BTC with four decimals, more where it needs them."""
    text = decimal(amount_sat, 8)
    return text[:-4] + text[-4:].rstrip("0")


def entry(name: str, text: str) -> str:
    """Write one named fact of an answer."""
    return hanging(f"  {name:<9} ", text)


def hex_prefix(field: str, text: str, least: int = 4) -> str:
    """Return the beginning of an id as the API takes it. Raises InvalidRecord."""
    digits = text.strip().lower().removesuffix("…")
    if not least <= len(digits) <= 64 or any(c not in "0123456789abcdef" for c in digits):
        span = "64" if least == 64 else f"{least} to 64"
        raise InvalidRecord(field, f"is not {span} hex digits")
    return digits


def default_data_dir(network: str) -> Path:
    """Return where a node of this network keeps its data when nobody says otherwise."""
    from platformdirs import user_data_path

    return user_data_path("p2pnode", appauthor=False) / network


def common(function: Callable[..., None]) -> Callable[..., None]:
    """Add --json, --data-dir and --network; pass a Session as the first argument."""

    @click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
    @click.option(
        "--data-dir",
        type=click.Path(path_type=Path, file_okay=False),
        help="Where the node keeps its data [default: per network, in your home].",
    )
    @click.option(
        "--network", type=click.Choice(NETWORK_NAMES), default=DEFAULT_NETWORK, show_default=True
    )
    @functools.wraps(function)
    def wrapper(
        *args: Any, as_json: bool, data_dir: Path | None, network: str, **kwargs: Any
    ) -> None:
        session = Session(data_dir or default_data_dir(network), network, as_json)
        try:
            function(session, *args, **kwargs)
        except NodeError as error:
            fail(error, as_json)

    return wrapper


def fail(error: NodeError, as_json: bool) -> NoReturn:
    """Print the error in one line on stderr and leave with its exit code."""
    if as_json:
        body = {"code": error.code, "field": error.field, "message": str(error)}
        click.echo(json.dumps({"error": body}, ensure_ascii=False), err=True)
    else:
        click.secho(f"error: {_spoken(error)}", fg="red", err=True)
    raise SystemExit(error.exit_code)


def _spoken(error: NodeError) -> str:
    """Return the error's sentence, its bounds in the units that people gave."""
    over = _OVER.fullmatch(str(error))
    if over is not None:
        return f"{over[1]}: is over {coins(int(over[2]))} BTC{over[3]}"
    match = _RANGE.fullmatch(str(error))
    if match is None:
        return str(error)
    field, low, high = match[1], int(match[2]), int(match[3])
    if field.endswith("_sat"):
        return f"{field.removesuffix('_sat')}: is not {coins(low)} to {coins(high)} BTC"
    if field in _DEPOSITS:
        return f"deposit: is not {low // 100} to {high // 100} percent"
    return str(error)
