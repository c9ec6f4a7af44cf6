"""What the demo prints while it goes: a line a step for people, an object a step for programs."""

import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from p2pnode.base.units import decimal

NARROW: Final = 80
MAX_WIDTH: Final = 140
TXID: Final = 64
_WHO: Final = 9
_LEAD: Final = 8 + 2 + _WHO + 1  # "  12.3 s  maker     "


class Show:
    """Prints steps as they are done. Subclassed for each form; this one is silent."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the beginning, to a hundredth."""
        return round(time.monotonic() - self._begun, 2)

    def part(self, title: str) -> None:
        """Begin a part of the story."""

    def doing(self, who: str, what: str) -> None:
        """Say what is under way, until the next line."""

    def step(self, step: str, who: str, what: str, txid: str = "") -> None:
        """Tell of a step that is done."""

    def book(self, line: Mapping[str, Any]) -> None:
        """Tell what the order book holds, for programs: people have read it in the steps."""

    def done(
        self,
        answer: Mapping[str, Any],
        draws: Sequence[Mapping[str, Any]],
        commands: Sequence[str] = (),
    ) -> None:
        """Tell the end: trades, balances, verified draws, and how to talk to what stays up."""

    def clear(self) -> None:
        """Remove an unfinished line."""


class JsonShow(Show):
    """One object a line on stdout."""

    def step(self, step: str, who: str, what: str, txid: str = "") -> None:
        """Print {"event":"step",…}; `txid` is there if the step has one."""
        answer: dict[str, Any] = {"event": "step", "step": step, "who": who}
        if txid:
            answer["txid"] = txid
        self._print(answer | {"seconds": self.seconds, "text": what})

    def book(self, line: Mapping[str, Any]) -> None:
        """Print the object of the event `offers`."""
        self._print(line)

    def done(
        self,
        answer: Mapping[str, Any],
        draws: Sequence[Mapping[str, Any]],
        commands: Sequence[str] = (),
    ) -> None:
        """Print the draws and, if the network stays up, the commands; last of all `answer`."""
        for draw in draws:
            self._print({"event": "draw"} | dict(draw))
        if commands:
            self._print({"event": "keep", "commands": list(commands)})
        self._print(answer)

    def _print(self, answer: Mapping[str, Any]) -> None:
        print(json.dumps(answer, ensure_ascii=False), flush=True)


class HumanShow(Show):
    """A line a step, at any width from 80 columns; colours unless NO_COLOR is set."""

    def __init__(self) -> None:
        super().__init__()
        self._live = sys.stdout.isatty()
        self._colour = None if not os.environ.get("NO_COLOR") else False
        self._open = False

    def part(self, title: str) -> None:
        """Print a heading."""
        self._line("")
        self._line(click.style(title, bold=True))

    def doing(self, who: str, what: str) -> None:
        """Write what is under way on a terminal; the next line replaces it."""
        if self._live:
            self.clear()
            lead = f"{self.seconds:>6.1f} s  {who:<{_WHO}} "
            text = click.style(f"{lead}{_cut(f'{what} …', self._width() - _LEAD)}", dim=True)
            click.echo(text, nl=False, color=self._colour)
            self._open = True

    def step(self, step: str, who: str, what: str, txid: str = "") -> None:
        """Print who did what when, and the transaction: whole where there is room."""
        room = self._width() - _LEAD
        whole = room - TXID - 2
        if not txid:
            shown = ""
        elif len(what) <= whole:
            shown = txid.rjust(room - len(what))
        else:
            short = f"{txid[:8]}…{txid[-8:]}"
            what = _cut(what, room - len(short) - 2)
            shown = short.rjust(room - len(what))
        seconds = click.style(f"{self.seconds:>6.1f} s", dim=True)
        name = click.style(f"{who:<{_WHO}}", fg=_COLOURS.get(who.rstrip("123 "), None))
        self._line(f"{seconds}  {name} {_cut(what, room)}{click.style(shown, fg='cyan')}")

    def done(
        self,
        answer: Mapping[str, Any],
        draws: Sequence[Mapping[str, Any]],
        commands: Sequence[str] = (),
    ) -> None:
        """Print the table of balances, the verified draws, and the commands if there are any."""
        self.part("Balances in BTC, by each node's own wallet")
        self._line(
            f"  {'':<{_WHO}} {'before':>13} {'after':>13} {'expected':>13}   from the contracts"
        )
        for name, row in answer["balances"].items():
            numbers = [row["before_sat"], row["after_sat"], row["expected_sat"]]
            good = row["after_sat"] == row["expected_sat"]
            cells = " ".join(f"{decimal(n, 8):>13}" for n in numbers)
            mark = click.style("equal", fg="green") if good else click.style("DIFFERS", fg="red")
            self._line(f"  {name:<{_WHO}} {cells}   {mark}")
        self.part("Draws, verified from their transcripts and the chain alone")
        for draw in draws:
            text = (
                f"  trade {draw['trade_id'][:8]}: {draw['name']} ({draw['arbiter'][:16]}…), "
                f"drawn from {draw['eligible']}"
            )
            self._line(f"{text:<64} {click.style('verified', fg='green')}")
        self._line("")
        count = len(answer["trades"])
        self._line(click.style(f"{count} trades done in {answer['seconds']:.1f} s", bold=True))
        if commands:
            self.part("The network stays up. From another terminal:")
            for command in commands:
                self._line(f"  {command}")

    def clear(self) -> None:
        """Remove an unfinished line."""
        if self._open:
            click.echo("\r\x1b[2K", nl=False, color=True)
            self._open = False

    def _line(self, text: str) -> None:
        self.clear()
        click.echo(text, color=self._colour)

    def _width(self) -> int:
        return max(NARROW, min(MAX_WIDTH, shutil.get_terminal_size((NARROW, 24)).columns))


_COLOURS: Final = {"maker": "yellow", "taker": "blue", "arbiter": "magenta"}


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"
