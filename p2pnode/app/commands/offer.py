"""`p2pnode offer`: publish and take back offers; offer_find finds and shows them.

SIDE is always what the maker does with bitcoin: `offer list --sell` shows who sells.
"""

import click

from p2pnode.app.commands.frame import Session, common, hex_prefix
from p2pnode.app.commands.offer_answers import policy, with_answers
from p2pnode.app.commands.offer_find import FINDING, currency_code, sides
from p2pnode.app.commands.offer_view import PRICE_DECIMALS, price, span, whole
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.units import MAX_PRICE, parse_decimal


@click.group()
def offer() -> None:
    """Offers to buy or sell bitcoin."""


for _command in FINDING:
    offer.add_command(_command)


@offer.command()
@sides(required=True)
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
    client, currency = session.client, currency_code(currency)
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
    session.emit(made, *whole(made))
    if not made["holders"]:
        session.remark("no node has taken it yet; the daemon goes on trying")


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
            f"{span(o):<21}  {o['state']:<9}  {o['holders']:>4}  {o['account']}"
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
    session.emit(changed, *whole(changed))


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


def _number(field: str, text: str, places: int, least: int = 0) -> int:
    """Read a decimal as an integer that the API can carry. Raises InvalidRecord."""
    value = parse_decimal(field, text, places)
    if value > MAX_PRICE:
        raise InvalidRecord(field, f"{text[:40]!r} is too large")
    if value < least:
        raise InvalidRecord(field, f"{text[:40]!r} is too small")
    return value
