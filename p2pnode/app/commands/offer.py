"""`p2pnode offer`: publish, find, show and take back offers.

SIDE is always what the maker does with bitcoin: `offer list --sell` shows who sells.
"""

import functools
from collections.abc import Callable
from typing import Any, Final

import click

from p2pnode.app.commands.frame import Session, coins, common, entry, hex_prefix
from p2pnode.app.commands.offer_answers import answered, policy, with_answers
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.units import MAX_PRICE, decimal, parse_decimal

PRICE_DECIMALS: Final = 4  # beyond the currency's own (docs/wire/offers.md, "Price")


def _sides(required: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
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


@click.group()
def offer() -> None:
    """Offers to buy or sell bitcoin."""


@offer.command()
@_sides(required=True)
@click.option("--cur", "currency", required=True, help="ISO 4217, such as EUR.")
@click.option("--min", "low", required=True, metavar="BTC", help="The least you trade.")
@click.option("--max", "high", required=True, metavar="BTC", help="The most you trade.")
@click.option("--price", required=True, help="In units of the currency per BTC: 61240.00.")
@click.option("--account", required=True, help="The account you trade with; stays private.")
@click.option(
    "--deposit",
    default="15",
    show_default=True,
    metavar="PERCENT",
    help="Of the amount, from each side: 10 to 50.",
)
@click.option("--buyer-deposit", metavar="PERCENT", help="The buyer's alone; 0 asks for none.")
@click.option("--terms", default="", help="A public text of at most 500 bytes.")
@with_answers
@common
def create(
    session: Session,
    side: str | None,
    currency: str,
    low: str,
    high: str,
    price: str,
    account: str,
    deposit: str,
    buyer_deposit: str | None,
    terms: str,
    accept_within: str,
    counter_within: str | None,
    otherwise: str,
) -> None:
    r"""Publish an offer; it is kept published until you cancel it.

    A trade reserves it; when the trade is over, publish another. Who proposes another price
    is answered as the last three options say; they stay with your node.

    \b
    p2pnode offer create --sell --cur EUR --min 0.005 --max 0.02 \
        --price 61240 --account home
    p2pnode offer create --buy --cur JPY --min 0.01 --max 0.1 \
        --price 15000000 --account bank --deposit 20 --terms "weekdays"
    p2pnode offer create --sell --cur EUR --min 0.005 --max 0.02 \
        --price 61240 --account home --buyer-deposit 0 --accept-within 1
    """
    if side is None:
        raise click.UsageError("Say --sell or --buy.")
    client, currency = session.client, _currency(currency)
    places = client.get(f"/v1/currencies/{currency}")["exponent"]
    deposit_bp = _number("deposit", deposit, 2)
    buyer_bp = None if buyer_deposit is None else _number("buyer-deposit", buyer_deposit, 2)
    made = client.post(
        "/v1/offers",
        side=side,
        currency=currency,
        min_sat=_number("min", low, 8),
        max_sat=_number("max", high, 8),
        price=_number("price", price, places + PRICE_DECIMALS, 1),
        account=account,
        deposit_buyer_bp=deposit_bp if buyer_bp is None else buyer_bp,
        deposit_seller_bp=deposit_bp,
        terms=terms,
        **policy(accept_within, counter_within, otherwise),
    )
    session.emit(made, *_lines(made))
    if not made["holders"]:
        session.remark("no node has taken it yet; the daemon goes on trying")


@offer.command("list")
@_sides(required=False)
@click.option("--cur", "currency", required=True, help="ISO 4217, such as EUR.")
@common
def list_offers(session: Session, side: str | None, currency: str) -> None:
    r"""List a market's offers, best price first.

    \b
    p2pnode offer list --sell --cur EUR       who sells bitcoin for euro
    p2pnode offer list --cur EUR --json | jq -r .offer_id
    """
    currency = _currency(currency)
    query = f"?currency={currency}" + (f"&side={side}" if side else "")
    header, row = _table(currency, with_side=side is None)
    what = {"sell": "to sell for", "buy": "to buy for", None: "in"}[side]
    session.emit_rows(
        session.client.get(f"/v1/offers{query}"), header, row, f"no offers {what} {currency}"
    )


@offer.command()
@click.argument("offer_id", metavar="ID")
@common
def show(session: Session, offer_id: str) -> None:
    r"""Show one offer in full.

    ID is a unique beginning of its id or hash; `offer list` must have seen it first.

    \b
    p2pnode offer show c05e12
    """
    found = session.client.get(f"/v1/offers/{hex_prefix('offer_id', offer_id, 1)}")
    session.emit(found, *_lines(found))


@offer.command()
@common
def mine(session: Session) -> None:
    r"""List your own offers in every state.

    \b
    p2pnode offer mine
    p2pnode offer mine --json | jq -r 'select(.state=="enabled").offer_id'
    """
    session.emit_rows(
        session.client.get("/v1/offers/mine"),
        f"{'ID':<6}  {'SIDE':<4}  {'PRICE':>17}  {'BTC min-max':<21}  {'STATE':<9}  "
        f"{'HELD':>4}  ACCOUNT",
        lambda o: (
            f"{o['offer_id'][:6]}  {o['side']:<4}  {price(o) + ' ' + o['currency']:>17}  "
            f"{_range(o):<21}  {o['state']:<9}  {o['holders']:>4}  {o['account']}"
        ),
        "you have no offers: p2pnode offer create",
    )


@offer.command()
@click.argument("offer_id", metavar="ID")
@with_answers
@common
def edit(
    session: Session,
    offer_id: str,
    accept_within: str,
    counter_within: str | None,
    otherwise: str,
) -> None:
    r"""Set how proposals for one of your offers are answered.

    What is published stays as it is.

    \b
    p2pnode offer edit c05e12 --accept-within 0.5 --counter-within 3
    p2pnode offer edit c05e12 --otherwise refuse
    """
    digits = hex_prefix("offer_id", offer_id, 1)
    answers = policy(accept_within, counter_within, otherwise)
    changed = session.client.post(f"/v1/offers/{digits}/answers", **answers)
    session.emit(changed, *_lines(changed))


@offer.command()
@click.argument("offer_id", metavar="ID")
@common
def cancel(session: Session, offer_id: str) -> None:
    r"""Take one of your offers back.

    \b
    p2pnode offer cancel c05e12
    """
    gone = session.client.post(f"/v1/offers/{hex_prefix('offer_id', offer_id, 1)}/cancel")
    session.emit(gone, f"offer {gone['offer_id'][:6]} withdrawn")


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
            f"{_range(o):<15}",
            f"{','.join(o['methods']):<13}",
            f"{_deposit(o):<5}",
            f"{o['maker'][:4]}…" + (" (you)" if o["mine"] else ""),
        )

    return header, row


def _lines(o: dict[str, Any]) -> list[str]:
    """Write one offer in full."""
    does = "SELLS" if o["side"] == "sell" else "BUYS"
    who = "you" if o["mine"] else o["maker"]
    lines = [
        f"Offer {o['offer_id'][:6]}   maker {does} {_range(o)} BTC at {price(o)} {o['currency']}",
        f"  id        {o['offer_id']}",
        f"  hash      {o['offer_hash']}",
        f"  maker     {who}",
        f"  method    {', '.join(o['methods'])}",
        f"  deposit   buyer {decimal(o['deposit_buyer_bp'], 2)} %, "
        f"seller {decimal(o['deposit_seller_bp'], 2)} %",
    ]
    lines.append(entry("escrow", " or ".join(reversed(o["escrow_kinds"]))))
    if o["terms"]:
        lines.append(entry("terms", o["terms"]))
    if "state" in o:
        lines.append(
            f"  state     {o['state']}, {o['holders']} holders, account {o['account'] or '(gone)'}"
        )
        lines.append(entry("proposals", answered(o)))
    return lines


def price(o: dict[str, Any]) -> str:
    """Write a price with the currency's decimals, and the finer ones only if there are any."""
    return written(o["price"], o["exponent"])


def written(value: int, places: int) -> str:
    """Write a price of a currency with so many decimals."""
    text, fine = decimal(value, places + PRICE_DECIMALS), PRICE_DECIMALS
    while fine and text.endswith("0"):
        text, fine = text[:-1], fine - 1
    return text.rstrip(".")


def _range(o: dict[str, Any]) -> str:
    return f"{coins(o['min_sat'])}-{coins(o['max_sat'])}"


def _deposit(o: dict[str, Any]) -> str:
    both = sorted({o["deposit_buyer_bp"], o["deposit_seller_bp"]})
    return "-".join(decimal(bp, 2).removesuffix(".00") for bp in both) + "%"


def _number(field: str, text: str, places: int, least: int = 0) -> int:
    """Read a decimal as an integer that the API can carry. Raises InvalidRecord."""
    value = parse_decimal(field, text, places)
    if value > MAX_PRICE:
        raise InvalidRecord(field, f"{text[:40]!r} is too large")
    if value < least:
        raise InvalidRecord(field, f"{text[:40]!r} is too small")
    return value


def _currency(text: str) -> str:
    code = text.strip().upper()
    if not (len(code) == 3 and code.isascii() and code.isalpha()):
        raise InvalidRecord("currency", f"{text[:40]!r} is not three letters (ISO 4217)")
    return code
