"""How `market price` and `market stats` are written for people."""

import time
from pathlib import Path
from typing import Any, Final

from p2pnode.app.commands.frame import WIDTH, hanging, plain
from p2pnode.app.commands.offer_view import written
from p2pnode.base.units import decimal

DAY_S: Final = 86_400


def price_row(found: dict[str, Any]) -> str:
    """Write one market in a line."""
    if found["price"] is None:
        return hanging(f"{found['currency']:<3}  {'-':>17}  ", found["why"])
    used = sum(source["used"] for source in found["sources"])
    return (
        f"{found['currency']:<3}  {_money(found, 'price'):>17}  {_bp(found['spread_bp']):>7}  "
        f"{_age(found['age_s']):>6}  {used} of {len(found['sources'])}"
    )


def price_lines(found: dict[str, Any]) -> list[str]:
    """Write one market's reference and its sources."""
    lines = [headline(found)]
    if found["price"] is not None:
        used = sum(source["used"] for source in found["sources"])
        counted = f"{used} sources, {_bp(found['spread_bp'])} apart" if used > 1 else "one source"
        lines[0] += f"   ({counted}, {_age(found['age_s'])} old)"
    room = max((len(_source(source)) for source in found["sources"]), default=0)
    for source in found["sources"]:
        price = written(source["price"], found["exponent"]) if source["price"] else "-"
        old = _age(source["age_s"]) if source["age_s"] is not None else ""
        head = f"  {_source(source):<{room}}  {price:>17}  {old:>6}"
        why = "" if source["used"] else f"left out: {source['reason']}"
        if len(head) + len(why) + 2 <= WIDTH:
            lines.append(f"{head}  {why}".rstrip())
        else:
            lines += [head.rstrip(), hanging("      ", why)]
    if any(not source["live"] for source in found["sources"]):
        lines.append("  * never run live: known from its documentation alone")
    return lines


def _source(source: dict[str, Any]) -> str:
    return plain(source["source"]) + ("" if source["live"] else " *")


def headline(found: dict[str, Any], field: str = "price") -> str:
    """Write the reference price, or why there is none."""
    if found[field] is None:
        return hanging(f"{found['currency']}   ", f"no reference price: {found['why']}")
    name = "" if field == "price" else "reference "
    return f"{found['currency']}   {name}{_money(found, field)} per BTC"


def remedies(found: dict[str, Any], data_dir: Path) -> list[str]:
    """Return what can be done about a reference that is missing."""
    if not found["sources"]:
        return [
            "name sources in config.toml and start the node again, such as\n"
            '  prices = ["kraken", "bitstamp", "coinbase"]'
        ]
    missing = [s for s in found["sources"] if "No such file" in s["reason"]]
    example = f'{{"{found["currency"]}": "61240.00"}}'
    paths = [data_dir / source["source"].removeprefix("file:") for source in missing]
    return [f"write {example} into {path}" for path in paths]


def stats_row(found: dict[str, Any]) -> str:
    """Write what was traded in one market."""
    places = found["exponent"]
    prices = (short(found[f"price_{name}"], places) for name in ("low", "median", "high"))
    low, median, high = prices
    day = time.strftime("%Y-%m-%d", time.gmtime(found["last_at"]))
    traded = decimal(found["amount_sat"] // 10_000, 4)
    return (
        f"{found['currency']:<3}  {found['trades']:>6,}  {traded:>12}  "
        f"{low:>12}  {median:>12}  {high:>12}  {day}"
    )


def _money(found: dict[str, Any], field: str) -> str:
    return written(found[field], found["exponent"])


def short(price: int, places: int) -> str:
    """Write a price to the minor unit, without the decimals that are finer."""
    return decimal((price + 5_000) // 10_000, places)


def _bp(value: int) -> str:
    return f"{decimal(value, 2)} %"


def _age(seconds: int) -> str:
    for unit, name in ((DAY_S, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds // unit} {name}"
    return f"{max(0, seconds)} s"
