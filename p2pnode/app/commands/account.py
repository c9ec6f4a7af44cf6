"""`p2pnode account`: how you are paid. Details stay encrypted on this machine."""

from typing import Any, TextIO

import click

from p2pnode.app.commands.account_file import read_file, refusal
from p2pnode.app.commands.account_methods import form, methods
from p2pnode.app.commands.frame import Session, common, hanging
from p2pnode.base.errors import InvalidRecord, LocalFault, NotFound, UsageFault


@click.group()
def account() -> None:
    """Payment accounts: what your counterparty pays you into."""


account.add_command(methods)
account.add_command(form)


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
    r"""Add an account from a filled-in form, or from options.

    FILE is what `p2pnode account form` wrote, or a JSON object of name, method and
    details; "-" reads standard input. Every field is checked, and all that is wrong told
    at once.

    \b
    p2pnode account add sepa.toml
    p2pnode account add --name home --method CUSTOM --details "cash at noon"
    """
    body, text = read_file(file) if file else ({}, "")
    given = {"name": name, "method": method, "details": details and {"details": details}}
    body |= {key: value for key, value in given.items() if value is not None}
    if isinstance(body.get("method"), str):
        body["method"] = body["method"].upper()
    for key in ("name", "method", "details"):
        if key not in body:
            raise UsageFault(
                f"{key}: is missing; give --{key} or a FILE with it "
                "(`p2pnode account form METHOD` writes one)",
                field=key,
            )
        if not isinstance(body[key], dict if key == "details" else str):
            what = "a table of the method's fields" if key == "details" else "text in quotes"
            raise InvalidRecord(key, f"is not {what}")
    found = session.client.post("/v1/accounts/check", **body)["problems"]
    if any(problem["code"] != LocalFault.code for problem in found):
        if details is not None and body["method"] != "CUSTOM":
            raise InvalidRecord(
                "details",
                f"the option is for CUSTOM; `p2pnode account form {body['method']}` writes a file "
                "to fill in",
            )
        raise refusal(found, text)
    added = session.client.post("/v1/accounts", **body)
    session.emit(added, f"account {added['name']} added ({added['method']})")


@account.command("list")
@common
def list_accounts(session: Session) -> None:
    r"""List your accounts with their details.

    \b
    p2pnode account list
    """
    accounts = session.client.get("/v1/accounts")
    width = max([14, *(len(a["method"]) for a in accounts)])
    session.emit_rows(
        accounts,
        f"{'NAME':<20}  {'METHOD':<{width}}  DETAILS",
        lambda a: hanging(
            f"{a['name']:<20}  {a['method']:<{width}}  ",
            "; ".join(value for value in a["details"].values() if value),
        ),
        "no accounts yet: p2pnode account add",
    )


@account.command()
@click.argument("name")
@common
def show(session: Session, name: str) -> None:
    r"""Show one account, field by field, and what uses it.

    \b
    p2pnode account show home
    """
    found = _named(session, name)
    width = max(len(field) for field in found["details"]) + 2
    session.emit(
        found,
        f"account {found['name']} ({found['method']})",
        *(
            hanging(f"  {field:<{width}}", value)
            for field, value in found["details"].items()
            if value
        ),
        hanging("  used by: ", ", ".join(found["uses"]) or "nothing"),
    )


@account.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common
def remove(session: Session, name: str, yes: bool) -> None:
    r"""Forget an account that no offer, proposal or trade of yours uses.

    \b
    p2pnode account remove home
    """
    found = _named(session, name)
    session.confirm(f"Forget account {found['name']} ({found['method']}) for good?", yes)
    gone = session.client.post("/v1/accounts/remove", name=found["name"])
    session.emit(gone, f"account {gone['name']} removed")


def _named(session: Session, name: str) -> dict[str, Any]:
    for found in session.client.get("/v1/accounts"):
        if found["name"] == name:
            return dict(found)
    raise NotFound(
        f"account: there is none called {name[:40]!r}; see `p2pnode account list`",
        field="account",
    )
