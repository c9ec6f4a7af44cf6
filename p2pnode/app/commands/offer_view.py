"""How an offer is written for people: its price, its range, the whole of it."""

from typing import Any, Final

from p2pnode.app.commands.frame import coins, entry
from p2pnode.app.commands.offer_answers import answered
from p2pnode.base.units import decimal

PRICE_DECIMALS: Final = 4  # beyond the currency's own (docs/wire/offers.md, "Price")


def whole(o: dict[str, Any]) -> list[str]:
    """Write one offer in full."""
    does = "SELLS" if o["side"] == "sell" else "BUYS"
    who = "you" if o["mine"] else o["maker"]
    lines = [
        f"Offer {o['offer_id'][:6]}   maker {does} {span(o)} BTC at {price(o)} {o['currency']}",
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


def span(o: dict[str, Any]) -> str:
    """Write an offer's range in BTC."""
    return f"{coins(o['min_sat'])}-{coins(o['max_sat'])}"


def deposit(o: dict[str, Any]) -> str:
    """Write an offer's deposits as one percentage, or two."""
    both = sorted({o["deposit_buyer_bp"], o["deposit_seller_bp"]})
    return "-".join(decimal(bp, 2).removesuffix(".00") for bp in both) + "%"
