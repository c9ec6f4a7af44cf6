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
            help="What happens to other proposals [default: ask].",
        ),
        click.option(
            "--counter-within",
            metavar="PERCENT",
            help="Answer proposals that far off with your limit.",
        ),
        click.option(
            "--accept-within",
            metavar="PERCENT",
            help="Agree to proposals that far below your price (above, if you buy) [default: 0].",
        ),
    ):
        function = option(function)
    return function


def share(field: str, text: str) -> int:
    """Read a percentage of 0 to 50 in basis points. Raises InvalidRecord."""
    found = parse_decimal(field, text, 2)
    if found > MAX_WITHIN_BP:
        raise InvalidRecord(field, f"is not 0 to {MAX_WITHIN_BP // 100} percent")
    return found


def policy(
    accept_within: str | None, counter_within: str | None, otherwise: str | None
) -> dict[str, Any]:
    """Return what the options say as the API takes it. Raises InvalidRecord."""
    said: dict[str, Any] = {}
    if accept_within is not None:
        said["accept_bp"] = share("accept-within", accept_within)
    if counter_within is not None:
        said["counter_bp"] = share("counter-within", counter_within)
        accept_bp = said.get("accept_bp", 0)
        if said["counter_bp"] < accept_bp:
            raise InvalidRecord(
                "counter-within", f"is under --accept-within {decimal(accept_bp, 2)}"
            )
    return said if otherwise is None else said | {"otherwise": otherwise}


def answered(o: dict[str, Any]) -> str:
    """Say how proposals of another price are answered."""
    below = "below" if o["side"] == "sell" else "above"
    words = [f"agreed to within {decimal(o['accept_bp'], 2)} % {below} the price"]
    if o["counter_bp"] > o["accept_bp"]:
        words.append(f"answered with that limit within {decimal(o['counter_bp'], 2)} %")
    return ", ".join(words) + (", else you are asked" if o["otherwise"] == "ask" else ", else no")
