"""`p2pnode market`: reference prices, depth, price history and what receipts say of trades."""

import time
from typing import Final

import click

from p2pnode.app.commands import market_draw
from p2pnode.app.commands.frame import Session, common
from p2pnode.app.commands.market_chart import book_lines, draw_depth, draw_history
from p2pnode.app.commands.market_view import price_lines, price_row, remedies, stats_row
from p2pnode.base.errors import InvalidRecord

DAY_S: Final = 86_400
SPANS: Final = {
    "1h": 3600,
    "6h": 6 * 3600,
    "1d": DAY_S,
    "7d": 7 * DAY_S,
    "30d": 30 * DAY_S,
    "90d": 90 * DAY_S,
}
ROWS: Final = 12  # of a table, by default


@click.group()
def market() -> None:
    """Prices, depth, charts and what was traded."""


@market.command("price")
@click.argument("currency", metavar="CUR", required=False)
@common
def price_(session: Session, currency: str | None) -> None:
    r"""Show the reference price of bitcoin and where it comes from.

    The median of the sources that `config.toml` names, those left out with the reason.
    Without CUR: every market that was asked for lately, in a line each.

    \b
    p2pnode market price EUR
    p2pnode market price EUR --json | jq .price
    """
    if currency is None:
        session.emit_rows(
            session.client.get("/v1/market/prices"),
            f"{'CUR':<3}  {'PRICE':>17}  {'APART':>7}  {'AGE':>6}  SOURCES",
            price_row,
            "no market was asked for yet: p2pnode market price EUR",
        )
        return
    found = session.client.get(f"/v1/market/prices/{_code(currency)}")
    session.emit(found, *price_lines(found))
    for text in remedies(found, session.data_dir):
        session.remark(text)


@market.command()
@click.argument("currency", metavar="CUR")
@click.option(
    "--rows", type=click.IntRange(3, 100), default=ROWS, show_default=True, help="Levels a side."
)
@common
def book(session: Session, currency: str, rows: int) -> None:
    r"""Show a market's depth: what is wanted and offered at which price.

    Buyers on the left, sellers on the right, the best prices on top; TOTAL counts the
    better prices too. An offer counts with the most that it trades; nothing shows that its
    maker has it. Many prices are gathered in round steps.

    \b
    p2pnode market book EUR
    p2pnode market book EUR --json | jq '.sell[0].price'
    """
    columns = max(20, market_draw.width() - 14)
    query = f"currency={_code(currency)}&levels={rows}&columns={columns}"
    found = session.client.get(f"/v1/market/book?{query}")
    session.emit(found, *book_lines(found))
    if not session.as_json and found["curve"]:
        draw_depth(found)


@market.command()
@click.argument("currency", metavar="CUR")
@click.option("--span", type=click.Choice(tuple(SPANS)), default="1d", show_default=True)
@common
def chart(session: Session, currency: str, span: str) -> None:
    r"""Draw the reference price over time, as this node has seen it.

    A sample every ten minutes while the market is followed, kept for 90 days; a gap is
    where there was no reference.

    \b
    p2pnode market chart EUR
    p2pnode market chart EUR --span 30d
    p2pnode market chart EUR --json | jq -r '[.at,.price]|@csv'
    """
    name, now = _code(currency), int(time.time())
    since = now - SPANS[span]
    samples = session.client.get(f"/v1/market/history?currency={name}&since={since}")
    if session.as_json:
        for sample in samples:
            session.emit(sample)
    elif len(samples) == 1:
        at = time.strftime("%H:%M UTC", time.gmtime(samples[0]["at"]))
        session.remark(f"no history of {name} yet: one sample, of {at}; one comes each ten minutes")
    elif samples:
        draw_history(name, samples, since, now)
    else:
        session.remark(f"no price of {name} was kept in this span; it is followed from now on")


@market.command()
@click.argument("currency", metavar="CUR", required=False)
@click.option("--days", type=click.IntRange(1, 36_500), help="Only trades funded since then.")
@common
def stats(session: Session, currency: str | None, days: int | None) -> None:
    r"""Show what was traded, as far as receipts prove it.

    They are this node's own and those that counterparties have shown it: a part of all
    trades.

    \b
    p2pnode market stats
    p2pnode market stats EUR --days 30
    """
    query = f"?since={int(time.time()) - days * DAY_S if days else 0}"
    if currency:
        query += f"&currency={_code(currency)}"
    session.emit_rows(
        session.client.get(f"/v1/market/stats{query}"),
        f"{'CUR':<3}  {'TRADES':>6}  {'BTC':>12}  {'LOWEST':>12}  {'MEDIAN':>12}  "
        f"{'HIGHEST':>12}  LAST",
        stats_row,
        "no receipt of a released trade is held here",
    )


def _code(text: str) -> str:
    code = text.strip().upper()
    if not (len(code) == 3 and code.isascii() and code.isalpha()):
        raise InvalidRecord("currency", f"{text[:40]!r} is not three letters, such as EUR")
    return code
