"""`p2pnode offer list|show|block|unblock|blocked`: other people's offers.

SIDE is always what the maker does with bitcoin: `offer list --sell` shows who sells.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlencode

import click

from p2pnode.app.commands.frame import Session, common, entry, hanging, hex_prefix, quoted
from p2pnode.app.commands.offer_table import table
from p2pnode.app.commands.offer_view import whole
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.units import MAX_PRICE, PRICE_DECIMALS, moment, parse_decimal

SORTS: Final = ("price", "age", "amount", "history")
LIMIT: Final = 50


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
@click.option("--method", default="", help="Paid by this method, such as SEPA.")
@click.option("--country", default="", help="For this country (ISO 3166), such as DE.")
@click.option("--lang", "language", default="", help="In this language (ISO 639), such as en.")
@click.option("--amount", metavar="BTC", help="Offers that this amount fits.")
@click.option("--fiat", metavar="MONEY", help="Offers that this sum of the currency fits.")
@click.option("--min-price", metavar="PRICE", help="In units of the currency per BTC.")
@click.option("--max-price", metavar="PRICE", help="The same.")
@click.option("--min-trades", type=click.IntRange(0), default=0, help="That the maker has proven.")
@click.option("--takeable", is_flag=True, help="Only what you can take.")
@click.option("--all", "hidden", is_flag=True, help="Blocked makers and repeated offers too.")
@click.option("--why", is_flag=True, help="Say why an offer is marked.")
@click.option("--sort", type=click.Choice(SORTS), default="price", show_default=True)
@click.option("--limit", type=click.IntRange(1, 1000), default=LIMIT, show_default=True)
@common
def list_offers(
    session: Session,
    side: str | None,
    currency: str,
    amount: str | None,
    fiat: str | None,
    min_price: str | None,
    max_price: str | None,
    why: bool,
    limit: int,
    min_trades: int,
    hidden: bool,
    takeable: bool,
    **asked: str,
) -> None:
    r"""List a market's offers, best price first.

    A ! at the end marks what you could not or should not take (--why says why). vs MKT is the
    price beside the reference price. TRADES are those that the maker has proven to this
    node; with a question mark he only says so. AGE is how long ago his first one was.

    \b
    p2pnode offer list --sell --cur EUR       who sells bitcoin for euro
    p2pnode offer list --sell --cur EUR --method SEPA --fiat 300 --takeable
    p2pnode offer list --buy --cur JPY --min-price 9000000 --sort history --why
    p2pnode offer list --cur EUR --json | jq -r .offer_id
    """
    currency = currency_code(currency)
    query: dict[str, Any] = {"currency": currency, "side": side, "limit": limit}
    query |= {"least_trades": min_trades, "hidden": int(hidden), "takeable": int(takeable)}
    query |= {name: value.strip() for name, value in asked.items()}
    query["method"] = query["method"].upper()
    if amount is not None:
        query["amount_sat"] = _number("amount", amount, 8)
    if fiat is not None or min_price is not None or max_price is not None:
        places = session.client.get(f"/v1/currencies/{currency}")["exponent"]
        for name, field, text, more in (
            ("fiat_minor", "fiat", fiat, 0),
            ("least_price", "min-price", min_price, PRICE_DECIMALS),
            ("most_price", "max-price", max_price, PRICE_DECIMALS),
        ):
            if text is not None:
                query[name] = _number(field, text, places + more)
    found = session.client.get(f"/v1/offers?{urlencode({k: v for k, v in query.items() if v})}")
    rows = [o for o in found if hidden or not o["repeats"]]
    if session.as_json:
        for o in rows:
            session.emit(o)
        return
    _remark_unread(session, currency)
    header, lines = table(rows, currency, int(time.time()), with_side=side is None)
    if not rows:
        what = {"sell": "to sell for", "buy": "to buy for", None: "in"}[side]
        session.remark(f"no offers {what} {currency}{_narrower(query)}")
        return
    click.secho(header, bold=True)
    for o, line in zip(rows, lines, strict=True):
        click.echo(line)
        for one in o["obstacles"] if why and not o["mine"] else ():
            click.echo(hanging("       ! ", one["text"]))
    if len(rows) < len(found):
        session.remark(f"{len(found) - len(rows)} that repeat another of their maker: --all")
    if len(found) == limit:
        session.remark(f"the first {limit}: --limit shows more")


def _remark_unread(session: Session, currency: str) -> None:
    """Say so where a listing may lack what others have."""
    state = session.client.get(f"/v1/markets/{currency}")
    sources = state["sources"]
    if not state["whole"]:
        from_whom = f"from {sources or 'no'} other node{'' if sources == 1 else 's'} until now"
        session.remark(f"{currency} is still being read, {from_whom}: list it again")
    elif sources == 0:
        session.remark(f"no other node that holds {currency} was found yet: p2pnode net peers")


@click.command()
@click.argument("offer_id", metavar="ID")
@common
def show(session: Session, offer_id: str) -> None:
    r"""Show one offer in full, and what keeps you from taking it.

    ID is a unique beginning of its id or hash; `offer list` must have seen it first.
    What cannot be seen in its terms, and letters that pass for others, are written out.

    \b
    p2pnode offer show c05e12
    """
    found = session.client.get(f"/v1/offers/{hex_prefix('offer_id', offer_id, 1)}")
    lines = whole(found | {"terms": ""})
    if found["terms"]:
        lines.append(quoted("  terms     ", found.get("terms_shown", found["terms"])))
        lines += [entry("!", f"the text {one}") for one in found.get("terms_remarks", ())]
    if not found["mine"]:
        lines += [*_proven(found), *_kept_from(found)]
    session.emit(found, *lines)


def _proven(found: dict[str, Any]) -> list[str]:
    """Write what the maker has proven to this node."""
    if not found["proven_trades"]:
        return []
    since = moment(found["proven_since"])[:10]
    text = f"trades {found['proven_trades']}, partners {found['proven_partners']}, since {since}"
    return [entry("proven", text)]


def _kept_from(found: dict[str, Any]) -> list[str]:
    if not found["obstacles"]:
        return [entry("next", f"p2pnode trade take {found['offer_id'][:6]} --amount …")]
    return [entry("!", one["text"]) for one in found["obstacles"]]


@click.command()
@click.argument("node_id", metavar="NODE")
@click.option("--note", default="", help="Why, for yourself; at most 200 bytes.")
@common
def block(session: Session, node_id: str, note: str) -> None:
    r"""Hide a maker's offers from your lists.

    NODE is a unique beginning of the maker's id, as `offer show` writes it. Your own list
    alone changes; nobody is told.

    \b
    p2pnode offer block a4c2 --note "did not pay"
    """
    digits = hex_prefix("node_id", node_id)
    made = session.client.post("/v1/blocks", node_id=digits, note=note)
    session.emit(made, f"offers of {made['node_id'][:16]}… are hidden")


@click.command()
@click.argument("node_id", metavar="NODE")
@common
def unblock(session: Session, node_id: str) -> None:
    r"""Show a blocked maker's offers again.

    \b
    p2pnode offer unblock a4c2
    """
    gone = session.client.post("/v1/blocks/remove", node_id=hex_prefix("node_id", node_id))
    session.emit(gone, f"offers of {gone['node_id'][:16]}… are shown again")


@click.command()
@common
def blocked(session: Session) -> None:
    r"""List the makers whose offers are hidden.

    \b
    p2pnode offer blocked
    p2pnode offer blocked --json | jq -r .node_id
    """
    session.emit_rows(
        session.client.get("/v1/blocks"),
        f"{'NODE':<17} {'SINCE':<20} NOTE",
        lambda one: quoted(f"{one['node_id'][:16]}… {moment(one['at']):<20} ", one["note"]),
        "nobody is blocked",
    )


FINDING: Final = (list_offers, show, block, unblock, blocked)


def currency_code(text: str) -> str:
    """Read three letters. Raises InvalidRecord."""
    code = text.strip().upper()
    if not (len(code) == 3 and code.isascii() and code.isalpha()):
        raise InvalidRecord("currency", f"{text[:40]!r} is not three letters (ISO 4217)")
    return code


def _number(field: str, text: str, places: int) -> int:
    """Read a decimal over 0 as an integer. Raises InvalidRecord."""
    value = parse_decimal(field, text, places)
    if not 0 < value <= MAX_PRICE:
        raise InvalidRecord(field, f"{text[:40]!r} is too {'large' if value else 'small'}")
    return value


def _narrower(query: dict[str, Any]) -> str:
    """Say that a list is empty perhaps because it was asked for so narrowly."""
    plain = {"currency", "side", "limit", "sort", "hidden"}
    return " that fit what you ask for" if any(query[k] for k in query.keys() - plain) else ""
