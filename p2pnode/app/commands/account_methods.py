"""`p2pnode account methods|form`: the ways to be paid, and a file to fill in for one."""

import os
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import click

from p2pnode.app.commands.frame import Session, coins, common, entry, hanging
from p2pnode.base.errors import LocalFault, StorageFault

_GROUPS: Final = {
    "bank": "Bank transfers",
    "service": "Services and mobile payments",
    "cash": "Cash and vouchers",
    "coin": "Other chains",
    "custom": "Anything else",
}
_HEADER: Final = f"  {'METHOD':<21} {'TO PAY':>6}  {'MOST BTC':<8}  {'CURRENCIES':<21} COUNTRIES"


@click.command()
@click.argument("method", required=False)
@click.option("--cur", "currency", help="Only those that take this currency: EUR.")
@click.option("--country", help="Only those that work in this country: DE.")
@common
def methods(
    session: Session, method: str | None, currency: str | None, country: str | None
) -> None:
    r"""List the payment methods, or show one in full.

    A buyer without a history buys at most 0.002 BTC by methods marked with "!": such
    payments can be taken back.

    \b
    p2pnode account methods
    p2pnode account methods --cur EUR --country DE
    p2pnode account methods SEPA
    """
    if method is not None:
        if currency or country:
            raise click.UsageError("Name a method, or filter by --cur and --country.")
        found = ask(session, method)
        session.emit(found, *_whole(found))
        return
    given = {"currency": currency, "country": country}
    query = urlencode({key: value.upper() for key, value in given.items() if value})
    seen: list[str] = []
    session.emit_rows(
        session.client.get(f"/v1/accounts/methods?{query}"),
        _HEADER,
        lambda m: _row(m, seen),
        "no payment method takes that",
    )
    if seen:
        session.remark("!: can be taken back; a buyer without history buys at most 0.002 BTC so")


@click.command()
@click.argument("method")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write it here.")
@common
def form(session: Session, method: str, out: Path | None) -> None:
    r"""Write a file to fill in for an account of this method.

    It goes to standard output, or into a new file that only you can read. Add it with
    `p2pnode account add`.

    \b
    p2pnode account form SEPA --out sepa.toml
    p2pnode account form CUSTOM
    """
    found = ask(session, method)
    text = blank(found)
    if out is None:
        session.emit({"method": found["method"], "form": text}, text.rstrip("\n"))
        return
    try:
        with open(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    except FileExistsError:
        raise LocalFault(f"{out}: is there already, and stays as it is", field="out") from None
    except OSError as error:
        raise StorageFault(f"{out}: {error.strerror}", field="out") from None
    session.emit(
        {"method": found["method"], "file": str(out)},
        f"{out} written: fill it in, then",
        f"p2pnode account add {out}",
    )


def ask(session: Session, method: str) -> dict[str, Any]:
    """Return a method as the node knows it. Raises InvalidRecord for an unknown one."""
    found: dict[str, Any] = session.client.get(f"/v1/accounts/methods/{quote(method.upper(), '')}")
    return found


def blank(method: dict[str, Any]) -> str:
    """Return the commented TOML that an account of this method is filled into."""
    lines = [
        f"# An account by {method['method']}: {method['name']}.",
        *_comment(method["help"]),
        *_comment(_bounds(method)),
        "# Fill in what stands between the quotes, then: p2pnode account add FILE",
        "",
        "# What you call it; it stays with you: 1 to 40 bytes, no other account's name.",
        f'name = "{method["method"].lower()}"',
        f'method = "{method["method"]}"',
        "",
        "[details]",
    ]
    for one in method["fields"]:
        takes = one["what"][:1].upper() + one["what"][1:]
        lines += [
            "",
            *_comment(one["help"]),
            *_comment(f"{takes}{'; may stay empty' if one['optional'] else ''}."),
        ]
        if one["regions"]:
            lines += _comment(f"Of {_where(one, method)}.")
        lines += [*_comment(f"Such as: {one['example']}"), f'{one["name"]} = ""']
    return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    return hanging("# ", text).replace("\n  ", "\n# ").split("\n")


def _row(method: dict[str, Any], seen: list[str]) -> str:
    """Write one row, under its group's name where the group begins."""
    mark = "!" if method["chargeback"] else ""
    line = (
        f"  {method['method']:<21} {period(method['period_s']):>6}  "
        f"{coins(method['cap_sat']) + mark:<8}  {_few(method['currencies'], 'any', 5):<21} "
        f"{_few(method['countries'], 'any', 3)}"
    )
    if method["group"] in seen:
        return line
    seen.append(method["group"])
    return click.style(_GROUPS[method["group"]], bold=True) + "\n" + line


def _few(codes: list[str], none: str, most: int) -> str:
    if not codes:
        return none
    if len(codes) <= most:
        return " ".join(codes)
    return " ".join(codes[: most - 1]) + f" +{len(codes) - most + 1}"


def period(seconds: int) -> str:
    """Write a time to pay: days, or hours below one day."""
    return f"{seconds // 3600} h" if seconds < 86_400 else f"{seconds // 86_400} d"


def _whole(method: dict[str, Any]) -> list[str]:
    lines = [
        f"{method['method']}: {method['name']}",
        hanging("  ", method["help"]),
        hanging("  ", _bounds(method)),
        entry("takes", " ".join(method["currencies"]) or "any currency of ISO 4217"),
        entry("in", " ".join(method["countries"]) or "any country"),
        "",
    ]
    for one in method["fields"]:
        optional = " (may stay empty)" if one["optional"] else ""
        lines += [
            f"  {one['name']}{optional}",
            hanging("    ", one["help"]),
            hanging(
                "    ",
                one["what"]
                + (f", of {_where(one, method)}" if one["regions"] else "")
                + f"; such as {one['example']}",
            ),
        ]
    lines += ["", f"p2pnode account form {method['method']} --out {method['method'].lower()}.toml"]
    return lines


def _where(field: dict[str, Any], method: dict[str, Any]) -> str:
    """Say which countries a field's numbers must be of."""
    if len(field["regions"]) > 6 and field["regions"] == method["countries"]:
        return "the countries that this method is for"
    return ", ".join(field["regions"])


def _bounds(method: dict[str, Any]) -> str:
    text = (
        f"{period(method['period_s'])} to pay; risk {method['risk'].replace('_', ' ')}, at most "
        f"{coins(method['cap_sat'])} BTC a trade."
    )
    if method["chargeback"]:
        text += (
            f" The payment can be taken back: a buyer without history buys at most "
            f"{coins(method['newcomer_sat'])} BTC, after 30 days half, after 60 the whole."
        )
    return text
