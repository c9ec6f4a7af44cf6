"""How `market book` and `market chart` are written for people."""

import time
from typing import Any, Final

import click

from p2pnode.app.commands import market_draw
from p2pnode.app.commands.market_view import headline, short
from p2pnode.app.commands.offer_view import written
from p2pnode.base.units import decimal

DAY_S: Final = 86_400
SAMPLE_S: Final = 600  # between two samples (docs/storage.md)
CHART_ROWS: Final = 12
PANEL_ROWS: Final = 5  # of each side's depth


def book_lines(found: dict[str, Any]) -> list[str]:
    """Write a market's depth as a table."""
    lines = [headline(found, "reference")]
    sides = found["buy"], found["sell"]
    if any(sides):
        lines += _table(found)
    else:
        lines.append("  no offers with a price")
    if found["step"]:
        lines.append(f"  prices in steps of {written(found['step'], found['exponent'])}")
    if any(level["beyond"] for level in (*found["buy"], *found["sell"])):
        lines.append("  …: all that is worse, up to that price")
    if found["unpriced"]:
        lines.append(f"  {found['unpriced']} more float with a reference price that there is not")
    if found["repeated"]:
        lines.append(f"  {found['repeated']} more repeat an offer of the same maker")
    return lines


def _table(found: dict[str, Any]) -> list[str]:
    buys, sells = ([_cells(found, level) for level in found[side]] for side in ("buy", "sell"))
    names = "OFFERS", "TOTAL BTC", "BTC", "PRICE"
    sizes = [max(len(row[i]) for row in (names, *buys, *sells)) for i in range(4)]
    shown = [0, 1, 2, 3] if 2 * (sum(sizes) + 6) + 3 <= market_draw.width() else [0, 1, 3]
    bar = " │ " if market_draw.blocks() else " | "

    def left(row: tuple[str, ...]) -> str:
        return "  ".join(f"{row[i]:>{sizes[i]}}" for i in shown)

    def right(row: tuple[str, ...]) -> str:
        return "  ".join(f"{row[i]:>{sizes[i]}}" for i in reversed(shown))

    room = len(left(names))
    none = ("",) * 4
    title = f"{'BUYERS of bitcoin':>{room}}{bar}SELLERS of bitcoin"
    lines = [title, left(names) + bar + right(names)]
    for i in range(max(len(buys), len(sells))):
        buy, sell = (side[i] if i < len(side) else none for side in (buys, sells))
        lines.append((left(buy) + bar + right(sell)).rstrip())
    return lines


def _cells(found: dict[str, Any], level: dict[str, Any]) -> tuple[str, ...]:
    price = written(level["price"], found["exponent"])
    return (
        f"{level['offers']:,}",
        decimal(level["total_sat"] // 10_000, 4),
        decimal(level["amount_sat"] // 10_000, 4),
        f"… {price}" if level["beyond"] else price,
    )


def draw_depth(found: dict[str, Any]) -> None:
    """Draw what is sold and bought along one axis of prices."""
    drawn = found["curve"]
    top = max(*drawn["buy_sat"], *drawn["sell_sat"])
    sides = (
        ("sell_sat", "BTC sold at that price or less", "red"),
        (
            "buy_sat",
            "BTC bought at that price or more",
            "green",
        ),
    )
    for field, title, colour in sides:
        spans = [(0, total) if total else None for total in drawn[field]]
        lines = market_draw.plot(spans, 0, top, PANEL_ROWS, _btc)
        click.echo()
        click.echo(f"{'':>{market_draw.lead(lines)}}  {title}")
        for line in lines:
            click.secho(line, fg=colour)
    ends = [written(_round(drawn[end]), found["exponent"]) for end in ("low", "high")]
    for line in market_draw.axis(market_draw.lead(lines), len(drawn["buy_sat"]), ends):
        click.echo(line)


def _btc(sat: int) -> str:
    return f"{decimal(sat // 1_000_000, 2):>10}"


def draw_history(currency: str, samples: list[dict[str, Any]], since: int, now: int) -> None:
    """Draw the samples of a span that ends `now`."""
    places = samples[0]["exponent"]
    low, high = (pick(s["price"] for s in samples) for pick in (min, max))
    if low == high:
        low, high = low - max(1, low // 1000), high + high // 1000
    room = max(len(short(price, places)) for price in (low, high))
    columns = market_draw.width() - room - 2
    span = now - since
    bins = max(1, min(columns, span // SAMPLE_S))
    columns = columns // bins * bins
    found: list[market_draw.Span] = [None] * bins
    for sample in samples:
        i = min(bins - 1, max(0, (sample["at"] - since) * bins // span))
        old = found[i] or (sample["price"], sample["price"])
        found[i] = min(old[0], sample["price"]), max(old[1], sample["price"])
    spans = [one for one in market_draw.joined(found) for _ in range(columns // bins)]
    first, last = samples[0]["price"], samples[-1]["price"]
    change = (last - first) * 10_000 // first
    moved = f"{'+' if change >= 0 else ''}{decimal(change, 2)} %"
    title = f"{currency}   {written(last, places)} per BTC   {moved} over {len(samples)} sample"
    title += "" if len(samples) == 1 else "s"
    click.secho(title, bold=True)
    for line in market_draw.plot(spans, low, high, CHART_ROWS, lambda p: short(p, places)):
        click.echo(line)
    times = [_clock(since + span * i // 2, span) for i in range(3)]
    for line in market_draw.axis(room, columns, times):
        click.echo(line)


def _clock(at: int, span: int) -> str:
    return time.strftime("%m-%d %H:%M" if span > DAY_S else "%H:%M", time.gmtime(at)) + " UTC"


def _round(price: int) -> int:
    return (price + 5_000) // 10_000 * 10_000
