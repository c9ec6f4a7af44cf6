"""`p2pnode status`: who the running node is and how it stands."""

import click

from p2pnode.app.commands.frame import Session, common


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
    lines = [f"{name:<{width}}  {_plain(value)}" for name, value in answer.items()]
    session.emit(answer, *lines)


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None or value == "" else str(value)
