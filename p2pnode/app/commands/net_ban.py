"""`p2pnode net ban`: who is kept out, why and for how long; to add and to lift a ban."""

import re
import time
from typing import Any, Final

import click

from p2pnode.app.commands.frame import Session, common, hanging
from p2pnode.base.units import moment

EVER: Final = "ever"
_SPAN: Final = re.compile(r"(\d{1,4})([mhdw])", re.ASCII)
_SECONDS: Final = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SHOWN: Final = 16  # hex digits of a node id


def span(seconds: int) -> str:
    """Write a time in the largest unit that fits twice: 90 s, 22 min, 3 h, 2 d."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds // unit} {name}"
    return f"{max(0, seconds)} s"


@click.group()
def ban() -> None:
    """Who is kept out of this node, and why."""


@ban.command("list")
@common
def list_(session: Session) -> None:
    r"""List the bans in force, the latest first.

    A ban by hand is yours; the others were earned by misdeeds and end by themselves.

    \b
    p2pnode net ban list
    p2pnode net ban list --json | jq -r 'select(.by_hand).subject'
    """
    now = int(time.time())
    session.emit_rows(
        session.client.get("/v1/net/bans"),
        f"{'SUBJECT':<20} {'ENDS':<14} {'BY':<5} REASON",
        lambda row: _ban_row(row, now),
        "nobody is banned",
    )


def _ban_row(row: dict[str, Any], now: int) -> str:
    head = f"{_subject(row):<20} {_ends(row, now):<14} {'hand' if row['by_hand'] else 'node':<5} "
    return hanging(head, row["reason"])


def _subject(row: dict[str, Any]) -> str:
    subject = str(row["subject"])
    return f"{subject[:_SHOWN]}…" if len(subject) == 64 else subject


def _ends(row: dict[str, Any], now: int) -> str:
    return "for ever" if row["until"] is None else f"{span(row['until'] - now)} left"


def _seconds(_context: click.Context, _parameter: click.Parameter, text: str) -> int:
    """Read a span of time such as 30m, 2h, 7d, 2w; `ever` is 0."""
    match = _SPAN.fullmatch(text)
    if text != EVER and (match is None or not int(match[1])):
        raise click.BadParameter(f"{text!r} is not a time such as 30m, 2h, 7d, 2w, or {EVER}.")
    return int(match[1]) * _SECONDS[match[2]] if match else 0


@ban.command()
@click.argument("subject")
@click.option(
    "--for",
    "seconds",
    metavar="TIME",
    default="24h",
    show_default=True,
    callback=_seconds,
    help="30m, 2h, 7d, 2w, or ever.",
)
@click.option("--reason", default="banned by hand", show_default=True, help="For your own memory.")
@common
def add(session: Session, subject: str, seconds: int, reason: str) -> None:
    r"""Keep a node, an address or a network out, and close its connections.

    A node is named by its id, or by the beginning of one that `p2pnode net peers` lists. Keys
    are cheap, so who comes back with another one is banned by his address or network.

    \b
    p2pnode net ban add a4c21f --for 2h --reason "asks all day"
    p2pnode net ban add 192.0.2.7
    p2pnode net ban add 192.0.2.0/24 --for ever
    """
    row = session.client.post("/v1/net/bans", subject=subject, seconds=seconds, reason=reason)
    ends = "for ever" if row["until"] is None else f"until {moment(row['until'])}"
    session.emit(row, f"banned {row['subject']} {ends}")
    session.remark(f"to let it in again: p2pnode net ban remove {_subject(row).removesuffix('…')}")


@ban.command()
@click.argument("subject")
@common
def remove(session: Session, subject: str) -> None:
    r"""Let a node, an address or a network in again, and forget what was held against it.

    \b
    p2pnode net ban remove a4c21f
    p2pnode net ban remove 192.0.2.0/24
    """
    row = session.client.post("/v1/net/bans/remove", subject=subject)
    session.emit(row, f"{row['subject']} may come in again")
