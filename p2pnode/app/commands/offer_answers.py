"""How an offer's maker answers proposals of another price: the options, and their words."""

from collections.abc import Callable
from typing import Any, Final

import click

from p2pnode.base.errors import InvalidRecord
from p2pnode.base.units import decimal, parse_decimal

MAX_WITHIN_BP: Final = 5000


def with_answers(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say how proposals of another price are answered."""
    for option in (
        click.option(
            "--otherwise",
            type=click.Choice(("ask", "refuse")),
            default="ask",
            show_default=True,
            help="What happens to other proposals.",
        ),
        click.option(
            "--counter-within",
            metavar="PERCENT",
            help="Answer proposals that far off with your limit.",
        ),
        click.option(
            "--accept-within",
            metavar="PERCENT",
            default="0",
            show_default=True,
            help="Agree to proposals that far below your price (above, if you buy).",
        ),
    ):
        function = option(function)
    return function


def _share(field: str, text: str) -> int:
    """Read a percentage of 0 to 50 in basis points. Raises InvalidRecord."""
    found = parse_decimal(field, text, 2)
    if found > MAX_WITHIN_BP:
        raise InvalidRecord(field, f"is not 0 to {MAX_WITHIN_BP // 100} percent")
    return found


def policy(accept_within: str, counter_within: str | None, otherwise: str) -> dict[str, Any]:
    """Return the options as the API takes them. Raises InvalidRecord."""
    accept_bp = counter_bp = _share("accept-within", accept_within)
    if counter_within is not None:
        counter_bp = _share("counter-within", counter_within)
        if counter_bp < accept_bp:
            raise InvalidRecord(
                "counter-within", f"is under --accept-within {decimal(accept_bp, 2)}"
            )
    return {"accept_bp": accept_bp, "counter_bp": counter_bp, "otherwise": otherwise}


def answered(o: dict[str, Any]) -> str:
    """Say how proposals of another price are answered."""
    below = "below" if o["side"] == "sell" else "above"
    words = [f"agreed to within {decimal(o['accept_bp'], 2)} % {below} the price"]
    if o["counter_bp"] > o["accept_bp"]:
        words.append(f"answered with that limit within {decimal(o['counter_bp'], 2)} %")
    return ", ".join(words) + (", else you are asked" if o["otherwise"] == "ask" else ", else no")
