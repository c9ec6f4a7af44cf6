"""`p2pnode account`: how you are paid. Details stay encrypted on this machine."""

import json
from typing import Any, Final, TextIO

import click

from p2pnode.app.commands.frame import Session, common, hanging
from p2pnode.base.errors import InvalidRecord, UsageFault

MAX_FILE: Final = 100_000  # characters


@click.group()
def account() -> None:
    """Payment accounts: what your counterparty pays you into."""


@account.command()
@common
def methods(session: Session) -> None:
    r"""List the payment methods and their fields.

    \b
    p2pnode account methods
    """
    session.emit_rows(
        session.client.get("/v1/accounts/methods"),
        f"{'METHOD':<14}  {'PERIOD':>6}  FIELDS",
        lambda m: (
            f"{m['method']:<14}  {m['period_s'] // 86_400:>4} d  "
            + ", ".join(f"{f['name']} ({f['max_bytes']} bytes)" for f in m["fields"])
        ),
        "no payment methods",
    )


@account.command()
@click.argument("file", required=False, type=click.File(encoding="utf-8"))
@click.option("--name", help="What you call it; unique, at most 40 bytes.")
@click.option("--method", help="A method of `p2pnode account methods`.")
@click.option("--details", help="The text of a CUSTOM account; others may read your arguments.")
@common
def add(
    session: Session,
    file: TextIO | None,
    name: str | None,
    method: str | None,
    details: str | None,
) -> None:
    r"""Add an account.

    From options, or from a JSON FILE such as the one below; "-" reads standard input.

    \b
    p2pnode account add --name home --method CUSTOM --details "cash at noon"
    p2pnode account add account.json
    {"name": "home", "method": "CUSTOM", "details": {"details": "pay to …"}}
    """
    body = _from_file(file) if file else {}
    given = {"name": name, "method": method, "details": details and {"details": details}}
    body |= {key: value for key, value in given.items() if value is not None}
    for key in given:
        if key not in body:
            raise UsageFault(f"{key}: is missing; give --{key} or a FILE with it", field=key)
    added = session.client.post("/v1/accounts", **body)
    session.emit(added, f"account {added['name']} added ({added['method']})")


@account.command("list")
@common
def list_accounts(session: Session) -> None:
    r"""List your accounts with their details.

    \b
    p2pnode account list
    """
    session.emit_rows(
        session.client.get("/v1/accounts"),
        f"{'NAME':<20}  {'METHOD':<14}  DETAILS",
        lambda a: hanging(
            f"{a['name']:<20}  {a['method']:<14}  ", "; ".join(a["details"].values())
        ),
        "no accounts yet: p2pnode account add",
    )


def _from_file(file: TextIO) -> dict[str, Any]:
    try:
        value = json.loads(file.read(MAX_FILE))
    except (ValueError, RecursionError):
        raise InvalidRecord("file", f"is not JSON of at most {MAX_FILE} characters") from None
    if not isinstance(value, dict) or not set(value) <= {"name", "method", "details"}:
        raise InvalidRecord("file", "is not an object of name, method and details")
    return value
