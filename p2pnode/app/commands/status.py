"""`p2pnode status`: who the running node is and how it stands."""

from typing import Any

import click

from p2pnode.app.commands.frame import Session, common
from p2pnode.base.units import moment


@click.command()
@common
def status(session: Session) -> None:
    r"""Show what the running node is doing.

    \b
    p2pnode status
    p2pnode status --json | jq -r .node_id
    """
    answer = session.client.get("/v1/status")
    width = max(map(len, answer))
    plain = {name: value for name, value in answer.items() if name != "markets"}
    lines = [f"{name:<{width}}  {_plain(name, value)}" for name, value in plain.items()]
    lines += _market_lines(answer.get("markets", {}), width)
    session.emit(answer, *lines)


def _plain(name: str, value: object) -> str:
    if name == "mtp" and isinstance(value, int):
        return f"{moment(value)} (the chain's time)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None or value == "" else str(value)


def _market_lines(markets: dict[str, Any], width: int) -> list[str]:
    """Return for each market followed its sources, and who withholds offers."""
    lines = []
    for currency, market in markets.items():
        plain = f"{currency} from {market['sources']} sources"
        for node_id, number in market["omitting"].items():
            plain += f"; {node_id[:16]} withholds {number} offers that others hold"
        lines.append(f"{'market':<{width}}  {plain}")
    return lines
