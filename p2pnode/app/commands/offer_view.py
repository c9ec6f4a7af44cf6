"""How an offer is written for people: its price, its range, the whole of it."""

from typing import Any

from p2pnode.app.commands.frame import coins, entry
from p2pnode.app.commands.offer_answers import answered
from p2pnode.base.units import PRICE_DECIMALS, decimal, moment, price_text

__all__ = [
    "PRICE_DECIMALS",
    "deposit",
    "margin",
    "price",
    "span",
    "whole",
    "written",
]


def whole(o: dict[str, Any]) -> list[str]:
    """Write one offer in full."""
    does = "SELLS" if o["side"] == "sell" else "BUYS"
    lines = [
        f"Offer {o['offer_id'][:6]}   maker {does} {span(o)} BTC {_at(o)}",
        f"  id        {o['offer_id']}",
        f"  hash      {o['offer_hash']}",
        f"  maker     {'you' if o['mine'] else o['maker']}",
    ]
    if o["margin_bp"] is not None:
        lines.append(entry("price", margin(o)))
    if said := _said(o):
        lines.append(entry("says", said))
    lines.append(entry("method", ", ".join(o["methods"])))
    for name in ("countries", "languages"):
        if o[name]:
            lines.append(entry(name, ", ".join(o[name])))
    both = (decimal(o[name], 2) for name in ("deposit_buyer_bp", "deposit_seller_bp"))
    lines.append("  deposit   buyer {} %, seller {} %".format(*both))
    if asked := _asked(o):
        lines.append(entry("asks", asked))
    lines.append(entry("escrow", " or ".join(reversed(o["escrow_kinds"]))))
    if o["terms"]:
        lines.append(entry("terms", o["terms"]))
    return lines + _own(o) if "state" in o else lines


def _at(o: dict[str, Any]) -> str:
    """Write at which price, in the currency."""
    known = o["margin_bp"] is None or o["price_now"]
    return f"at {price(o)} {o['currency']}" if known else f"for {o['currency']}, unpriced"


def _said(o: dict[str, Any]) -> str:
    """Write what a maker says of his past; receipts prove it when a trade begins."""
    if not o["said_trades"]:
        return ""
    since = f" since {moment(o['said_since'])[:10]}" if o["said_since"] else ""
    trades, others = counted(o["said_trades"], "trade"), counted(o["said_partners"], "other")
    return f"{trades} with {others}{since} (his own words)"


def counted(number: int, what: str) -> str:
    """Write so many of something."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _asked(o: dict[str, Any]) -> str:
    """Write the history that a counterparty must prove."""
    asked = [counted(o["peer_trades"], "trade")] if o["peer_trades"] else []
    if o["peer_days"]:
        asked.append(f"a first one {counted(o['peer_days'], 'day')} ago")
    return " and ".join(asked) + " proven by its counterparty" if asked else ""


def _own(o: dict[str, Any]) -> list[str]:
    """Write what only an offer's maker knows."""
    state = f"{o['state']}, {o['holders']} holders" if o["state"] == "enabled" else o["state"]
    lines = [entry("state", state + (f": {o['why']}" if o["why"] else ""))]
    for n, (method, name) in enumerate(o["accounts"].items()):
        text = f"{name or '(gone)'} for {method}" if len(o["accounts"]) > 1 else name or "(gone)"
        lines.append(entry("" if n else "account", text))
    if o["ends_at"]:
        lines.append(entry("ends", moment(o["ends_at"])))
    bounds = [
        f"{word} {written(o[name], o['exponent'])}"
        for word, name in (("below", "disable_below"), ("above", "disable_above"))
        if o[name]
    ]
    if bounds:
        lines.append(
            entry("disabled", f"at a reference price {' or '.join(bounds)} {o['currency']}")
        )
    return [*lines, entry("proposals", answered(o))]


def price(o: dict[str, Any]) -> str:
    """Write a price with the currency's decimals, and the finer ones only if there are any.

    A price that follows a reference is written as it is now: unpriced without one.
    """
    if o.get("margin_bp") is None:
        return written(o["price"], o["exponent"])
    return written(o["price_now"], o["exponent"]) if o["price_now"] else "unpriced"


def margin(o: dict[str, Any]) -> str:
    """Write how a price follows its reference, and what that is."""
    bp = o["margin_bp"]
    side = f"{decimal(abs(bp), 2)} % {'above' if bp > 0 else 'below'}" if bp else "at"
    if not o["reference"]:
        return f"{side} a reference price that this node does not know now"
    now = f"{written(o['reference'], o['exponent'])} {o['currency']}"
    return f"{side} the reference price of {now}"


def written(value: int, places: int) -> str:
    """Write a price of a currency with so many decimals."""
    return price_text(value, places)


def span(o: dict[str, Any]) -> str:
    """Write an offer's range in BTC."""
    return f"{coins(o['min_sat'])}-{coins(o['max_sat'])}"


def deposit(o: dict[str, Any]) -> str:
    """Write an offer's deposits as one percentage, or two."""
    both = sorted({o["deposit_buyer_bp"], o["deposit_seller_bp"]})
    return "-".join(decimal(bp, 2).removesuffix(".00") for bp in both) + "%"
