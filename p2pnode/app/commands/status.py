"""`p2pnode status`: who the running node is and how it stands."""

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
    lines = [f"{name:<{width}}  {_plain(name, value)}" for name, value in answer.items()]
    session.emit(answer, *lines)


def _plain(name: str, value: object) -> str:
    if name == "mtp" and isinstance(value, int):
        return f"{moment(value)} (the chain's time)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None or value == "" else str(value)
