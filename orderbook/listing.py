"""The SELECT behind a listing: text and arguments, for the table `book_offer`.

The best prices of the fixed offers and the best margins of the floating ones each come from
the head of one index; only those heads are merged, at the price that a margin makes of the
reference.
"""

from typing import Any

from orderbook.book_table import FIXED, FLOATING, LIVE, live
from orderbook.offer import Side
from orderbook.query import Query, Sort
from p2pnode.base.units import COIN, MAX_PRICE, PRICE_SCALE

Sql = tuple[str, tuple[Any, ...]]


def listing(query: Query, reference: int, now: int, blocks: bool) -> Sql:
    """Return (price, first seen, repeated, hash, raw) of the offers that a query asks for.

    `blocks` says whether there are blocked makers to be left out.
    """
    heads, args = [], []
    sides = (Side.SELL, Side.BUY) if query.side is None else (query.side,)
    for side in sides:
        for priced in (FIXED, FLOATING):
            if priced == FLOATING and not reference and _asks_price(query):
                continue  # nobody knows whether it is within the bounds
            sql, more = _head(query, side, priced, reference, now, blocks)
            heads.append(f"SELECT * FROM ({sql})")  # noqa: S608 - only names of ours in it
            args += more
    order = "side DESC, unpriced, cost, margin, first_seen, place"
    if query.sort is Sort.AGE:
        order = "first_seen, place"
    elif query.sort is Sort.AMOUNT:
        order = "max_sat DESC, place"
    chosen = f"{' UNION ALL '.join(heads)} ORDER BY {order} LIMIT ? OFFSET ?"
    repeated = (
        "SELECT 1 FROM book_offer AS b INDEXED BY book_maker "  # noqa: S608
        f"WHERE b.place >= substr(a.place, 1, 32) AND b.place < a.place "
        f"AND b.alike = a.alike AND b.priced > 0 AND {LIVE}"
    )
    sql = (
        f"SELECT a.price, a.first_seen, EXISTS ({repeated}), o.hash, o.raw "  # noqa: S608
        f"FROM ({chosen}) AS a CROSS JOIN book_offer AS o ON o.rowid = a.id"
    )
    return sql, (*live(now), *args, query.limit, query.offset)


def _head(
    query: Query, side: Side, priced: int, reference: int, now: int, blocks: bool
) -> tuple[str, list[Any]]:
    """Return the SELECT of one side's fixed or floating offers, as many as can be listed."""
    sign = 1 if side is Side.SELL else -1
    price, told = _price(sign, priced, reference)
    unpriced = int(priced == FLOATING and not reference)
    where = ["currency = ?", "side = ?", "priced = ?", LIVE]
    args: list[Any] = [*told, query.currency, int(side), priced, *live(now)]
    if query.method:
        where.append("instr(methods, ?)")
        args.append(f",{query.method},")
    for column, value in (("countries", query.country), ("languages", query.language)):
        if value:
            where.append(f"({column} = '' OR instr({column}, ?))")
            args.append(f",{value},")
    if query.amount_sat:
        where.append("min_sat <= ? AND max_sat >= ?")
        args += [query.amount_sat, query.amount_sat]
    if query.fiat_minor:  # both sums are rounded half up; the products are over 64 bits
        unit, money = float(COIN * PRICE_SCALE), query.fiat_minor
        where.append(f"1.0 * {price} * min_sat < ? AND 1.0 * {price} * max_sat >= ?")
        args += [*told, (money + 0.5) * unit, *told, (money - 0.5) * unit]
    for sense, bound in ((">=", query.least_price), ("<=", query.most_price)):
        if bound:
            where.append(f"{price} {sense} ?")
            args += [*told, bound]
    if blocks and not query.hidden:
        where.append("substr(place, 1, 32) NOT IN (SELECT node_id FROM book_block)")
    order = {
        Sort.AGE: "first_seen, place",
        Sort.AMOUNT: "max_sat DESC, place",
    }.get(query.sort, "best, first_seen, place")
    margin = "best" if priced == FLOATING else "0"
    sql = (
        f"SELECT rowid AS id, side, {unpriced} AS unpriced, {price} AS price, "  # noqa: S608
        f"{sign} * {price} AS cost, {margin} AS margin, first_seen, place, max_sat, alike "
        f"FROM book_offer WHERE {' AND '.join(where)} ORDER BY {order} LIMIT ?"
    )
    return sql, [*told, *args, query.limit + query.offset]


def _asks_price(query: Query) -> bool:
    return bool(query.least_price or query.most_price or query.fiat_minor)


def _price(sign: int, priced: int, reference: int) -> Sql:
    """Return the price as SQL; the reference is split, since 64 bits do not hold the product."""
    if priced == FIXED:
        return f"{sign} * best", ()
    if not reference:
        return "0", ()
    share = f"(10000 + {sign} * best)"
    whole, rest = divmod(reference, 10_000)
    return f"min(?, ? * {share} + (? * {share} + 5000) / 10000)", (MAX_PRICE, whole, rest)
