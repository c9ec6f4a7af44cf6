"""The table of a market's offers, as wide as its rows need and no wider than the screen."""

from shutil import get_terminal_size
from typing import Any, Final

from p2pnode.app.commands.frame import WIDTH
from p2pnode.app.commands.offer_view import deposit, price, span

DAY_S: Final = 86_400
LEAST: Final = 6  # columns that stay for the method

Row = dict[str, Any]
Column = tuple[str, str, list[str]]  # title, alignment, cells


def table(rows: list[Row], currency: str, now: int, *, with_side: bool) -> tuple[str, list[str]]:
    """Return the header and a line for each offer."""
    columns: list[Column] = [
        ("ID", "<", [o["offer_id"][:6] for o in rows]),
        ("SIDE", "<", [o["side"] for o in rows]),
        (f"PRICE {currency}", ">", [price(o) for o in rows]),
        ("vs MKT", ">", [_beside(o) for o in rows]),
        ("BTC min-max", "<", [span(o) for o in rows]),
        ("METHOD", "<", [_method(o) for o in rows]),
        ("DEP", ">", [deposit(o) for o in rows]),
        ("AGE", ">", [_age(o, now) for o in rows]),
        ("MAKER", "<", ["you" if o["mine"] else f"{o['maker'][:4]}…" for o in rows]),
        ("TRADES", ">", [_trades(o) for o in rows]),
        ("", "<", ["!" if o["obstacles"] and not o["mine"] else "" for o in rows]),
    ]
    if not with_side:
        del columns[1]
    widths, room = _widths(columns), max(WIDTH, get_terminal_size((WIDTH, 24)).columns)
    for spared in ("AGE", "DEP", ""):  # what a row that is too long does without
        over = sum(widths) + len(widths) - 1 - room
        at = next(i for i, column in enumerate(columns) if column[0] == "METHOD")
        widths[at] = max(LEAST, widths[at] - max(0, over))
        if over <= 0 or widths[at] > LEAST or not spared:
            break
        columns = [column for column in columns if column[0] != spared]
        widths = _widths(columns)

    def line(cells: list[str]) -> str:
        shaped = (
            f"{_cut(cell, width):{column[1]}{width}}"
            for cell, column, width in zip(cells, columns, widths, strict=True)
        )
        return " ".join(shaped).rstrip()

    lines = [line([column[2][i] for column in columns]) for i in range(len(rows))]
    return line([column[0] for column in columns]), lines


def _widths(columns: list[Column]) -> list[int]:
    return [max([len(title), *map(len, cells)]) for title, _, cells in columns]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _beside(o: Row) -> str:
    """Write how far a price lies above the reference, in percent."""
    reference = o["reference"]
    if not (reference and o["price_now"]):
        return "-"
    tenths = (2000 * (o["price_now"] - reference) + reference) // (2 * reference)
    if tenths >= 10_000:
        return ">999%"
    sign = "-" if tenths < 0 else "+" if tenths else ""
    return f"{sign}{abs(tenths) // 10}.{abs(tenths) % 10}%"


def _method(o: Row) -> str:
    first, *more = o["methods"]
    return f"{first}+{len(more)}" if more else str(first)


def _age(o: Row, now: int) -> str:
    """Write the days since the maker's first trade, proven or else said."""
    if o["proven_since"]:
        return f"{o['proven_days']}d"  # by the chain's clock
    since = o["said_since"]
    return f"{max(0, now - since) // DAY_S}d" if since else "-"


def _trades(o: Row) -> str:
    if o["proven_trades"]:
        return str(o["proven_trades"])
    return f"{o['said_trades']}?" if o["said_trades"] else "-"
