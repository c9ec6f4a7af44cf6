"""`p2pnode offer list|show`: find other people's offers.

SIDE is always what the maker does with bitcoin: `offer list --sell` shows who sells.
"""

import functools
from collections.abc import Callable
from typing import Any, Final

import click

from p2pnode.app.commands.frame import Session, common, hex_prefix
from p2pnode.app.commands.offer_view import deposit, price, span, whole
from p2pnode.base.errors import InvalidRecord


def sides(required: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add --sell and --buy, passed on as `side`; the words say whose they are."""
    what = "You sell bitcoin.", "You buy bitcoin."
    if not required:
        what = "Who sells bitcoin.", "Who buys bitcoin."

    def add(function: Callable[..., None]) -> Callable[..., None]:
        @click.option("--buy", is_flag=True, help=what[1])
        @click.option("--sell", is_flag=True, help=what[0])
        @functools.wraps(function)
        def one(*args: Any, sell: bool, buy: bool, **kwargs: Any) -> None:
            if sell and buy:
                raise click.UsageError("Say --sell or --buy, not both.")
            function(*args, side="sell" if sell else "buy" if buy else None, **kwargs)

        return one

    return add


@click.command("list")
@sides(required=False)
@click.option("--cur", "currency", required=True, help="ISO 4217, such as EUR.")
@common
def list_offers(session: Session, side: str | None, currency: str) -> None:
    r"""List a market's offers, best price first.

    \b
    p2pnode offer list --sell --cur EUR       who sells bitcoin for euro
    p2pnode offer list --cur EUR --json | jq -r .offer_id
    """
    currency = currency_code(currency)
    query = f"?currency={currency}" + (f"&side={side}" if side else "")
    header, row = _table(currency, with_side=side is None)
    what = {"sell": "to sell for", "buy": "to buy for", None: "in"}[side]
    session.emit_rows(
        session.client.get(f"/v1/offers{query}"), header, row, f"no offers {what} {currency}"
    )


@click.command()
@click.argument("offer_id", metavar="ID")
@common
def show(session: Session, offer_id: str) -> None:
    r"""Show one offer in full.

    ID is a unique beginning of its id or hash; `offer list` must have seen it first.

    \b
    p2pnode offer show c05e12
    """
    found = session.client.get(f"/v1/offers/{hex_prefix('offer_id', offer_id, 1)}")
    session.emit(found, *whole(found))


FINDING: Final = (list_offers, show)


def _table(currency: str, *, with_side: bool) -> tuple[str, Callable[[dict[str, Any]], str]]:
    """Return the header and the row writer of a market's table."""

    def columns(*cells: str) -> str:
        if not with_side:
            cells = (cells[0], *cells[2:])
        return "  ".join(cells).rstrip()

    header = columns(
        f"{'ID':<6}",
        "SIDE",
        f"{'PRICE ' + currency:>13}",
        f"{'BTC min-max':<15}",
        f"{'METHOD':<13}",
        f"{'DEP':<5}",
        "MAKER",
    )

    def row(o: dict[str, Any]) -> str:
        return columns(
            o["offer_id"][:6],
            f"{o['side']:<4}",
            f"{price(o):>13}",
            f"{span(o):<15}",
            f"{','.join(o['methods']):<13}",
            f"{deposit(o):<5}",
            f"{o['maker'][:4]}…" + (" (you)" if o["mine"] else ""),
        )

    return header, row


def currency_code(text: str) -> str:
    """Read three letters. Raises InvalidRecord."""
    code = text.strip().upper()
    if not (len(code) == 3 and code.isascii() and code.isalpha()):
        raise InvalidRecord("currency", f"{text[:40]!r} is not three letters (ISO 4217)")
    return code
