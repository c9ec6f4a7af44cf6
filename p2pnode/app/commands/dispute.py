"""`p2pnode dispute`: call the arbiter who was drawn, and answer him."""

import click

from p2pnode.app.commands.frame import Session, common, entry, hanging
from p2pnode.app.commands.trade import deadlines, path


@click.group()
def dispute() -> None:
    """Ask the arbiter who was drawn."""


@dispute.command("open")
@common
@click.argument("trade_id")
@click.option("--statement", required=True, help="What happened, in your words.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def open_(session: Session, trade_id: str, statement: str, yes: bool) -> None:
    r"""Call the arbiter.

    He gets the contract, all messages of the trade and your statement, and with them the
    payment details that you and the other side exchanged. Nobody pays any more once a
    dispute is open.

    \b
    p2pnode dispute open 7f3a91 --statement "I paid on Monday. No answer."
    """
    session.confirm("Call the arbiter? It cannot be taken back.", yes)
    answer = session.client.post(path(trade_id, "/dispute"), statement=statement)
    done = f"dispute opened in {answer['trade_id'][:8]}"
    session.emit(answer, done, hanging("next: ", answer["next"]))


@dispute.command()
@common
@click.argument("trade_id")
@click.option("--statement", required=True, help="What happened, in your words.")
def answer(session: Session, trade_id: str, statement: str) -> None:
    r"""Tell the arbiter your side, or add to it.

    \b
    p2pnode dispute answer 7f3a91 --statement "Nothing has come by Friday."
    """
    told = session.client.post(path(trade_id, "/statement"), statement=statement)
    done = f"statement sent in {told['trade_id'][:8]}"
    session.emit(told, done, hanging("next: ", told["next"]))


@dispute.command()
@common
@click.argument("trade_id")
def show(session: Session, trade_id: str) -> None:
    r"""Show how a dispute stands.

    \b
    p2pnode dispute show 7f3a91
    """
    found = session.client.get(path(trade_id))
    lines = [f"Trade {found['trade_id'][:8]}   {found['state']}"]
    if "arbiter" in found:
        said = "acknowledged" if found["notice"] else "not acknowledged yet"
        lines.append(entry("arbiter", f"{found['arbiter'][:16]}…, {said}"))
    lines += deadlines(found)
    if "verdict" in found:
        lines.append(entry("verdict", found["verdict"]["reason"]))
    session.emit(found, *lines, entry("next", found["next"]))


@dispute.command()
@common
@click.argument("trade_id")
@click.option("--yes", is_flag=True, help="Do not ask.")
def accept(session: Session, trade_id: str, yes: bool) -> None:
    r"""Complete a verdict by your own word.

    Your node completes a verdict by itself only up to what you told it: a buyer who has not
    said that he paid gets no more than his deposit without this word of yours.

    \b
    p2pnode dispute accept 7f3a91
    """
    session.confirm("Is this verdict right? Your node will sign it.", yes)
    told = session.client.post(path(trade_id, "/accept"))
    done = f"verdict accepted in {told['trade_id'][:8]}"
    session.emit(told, done, hanging("next: ", told["next"]))
