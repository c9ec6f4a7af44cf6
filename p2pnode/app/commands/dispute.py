"""`p2pnode dispute`: call the arbiter who was drawn, and answer him."""

import click

from p2pnode.app.commands.frame import Session, common


@click.group()
def dispute() -> None:
    """Ask the arbiter who was drawn."""


@dispute.command("open")
@common
@click.argument("trade_id")
@click.option("--statement", required=True, help="What happened, in your words.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def open_(session: Session, trade_id: str, statement: str, yes: bool) -> None:
    r"""Open a dispute: the arbiter gets the contract, all messages and your statement.

    He then also reads the payment details that you and the other side exchanged. Nobody
    pays any more once a dispute is open.

    \b
    p2pnode dispute open 7f3a91 --statement "I paid on Monday, the seller does not answer."
    """
    session.confirm("Call the arbiter? It cannot be taken back.", yes)
    answer = session.client.post(f"/v1/trades/{trade_id}/dispute", statement=statement)
    session.emit(answer, f"dispute opened in {answer['trade_id'][:8]}", f"next: {answer['next']}")


@dispute.command()
@common
@click.argument("trade_id")
@click.option("--statement", required=True, help="What happened, in your words.")
def answer(session: Session, trade_id: str, statement: str) -> None:
    """Tell the arbiter your side, or add to it."""
    told = session.client.post(f"/v1/trades/{trade_id}/statement", statement=statement)
    session.emit(told, f"statement sent in {told['trade_id'][:8]}", f"next: {told['next']}")


@dispute.command()
@common
@click.argument("trade_id")
def show(session: Session, trade_id: str) -> None:
    """Show how a dispute stands."""
    found = session.client.get(f"/v1/trades/{trade_id}")
    lines = [f"Trade {found['trade_id'][:8]}   {found['state']}"]
    if "arbiter" in found:
        said = "acknowledged" if found["notice"] else "not acknowledged yet"
        lines.append(f"  arbiter   {found['arbiter'][:16]}…, {said}")
    if "verdict" in found:
        lines.append(f"  verdict   {found['verdict']['reason']}")
    session.emit(found, *lines, f"  next      {found['next']}")
