"""`p2pnode dispute`: call the arbiter who was drawn, and answer him."""

import base64
from pathlib import Path
from typing import Any, Final

import click

from p2pnode.app.commands.frame import Session, coins, common, entry, hanging, plain
from p2pnode.app.commands.trade_view import deadlines, path, verdict
from p2pnode.base.errors import InvalidRecord, LocalFault

MAX_EVIDENCE: Final = 1 << 20  # bytes of one file
_FILES: Final = f"{'FILE':<12} {'BYTES':>9}  {'':<26} NAME"


@click.group()
def dispute() -> None:
    """Ask the arbiter who was drawn."""


@dispute.command("open")
@common
@click.argument("trade_id")
@click.option("--statement", required=True, help="What happened, in your words.")
@click.option(
    "--runner-up", "runner_up", is_flag=True, help="The second one, once the first is out."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def open_(session: Session, trade_id: str, statement: str, runner_up: bool, yes: bool) -> None:
    r"""Call the arbiter.

    He gets the contract, all messages of the trade and your statement, and with them the
    payment details that you and the other side exchanged. Nobody pays any more once a
    dispute is open.

    \b
    p2pnode dispute open 7f3a91 --statement "I paid on Monday. No answer."
    """
    session.confirm("Call the arbiter? It cannot be taken back.", yes)
    body = {"statement": statement} | ({"runner_up": True} if runner_up else {})
    answer = session.client.post(path(trade_id, "/dispute"), **body)
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
@click.argument("file", nargs=-1, type=click.Path(path_type=Path, dir_okay=False))
def evidence(session: Session, trade_id: str, file: tuple[Path, ...]) -> None:
    r"""Show the arbiter files; without FILE, list what you have shown.

    PNG, JPEG, PDF or plain UTF-8 text, each at most 1 MiB, eight in a trade. They go to the
    arbiter alone, encrypted, and cannot be taken back.

    \b
    p2pnode dispute evidence 7f3a91 statement.pdf screenshot.png
    p2pnode dispute evidence 7f3a91
    """
    where = path(trade_id, "/evidence")
    if not file:
        session.emit_rows(session.client.get(where), _FILES, _file, "you have shown no file")
        return
    for name, data in [(one.name, _read(one)) for one in file]:
        shown = session.client.post(where, name=name, data=base64.b64encode(data).decode())
        parts = shown["file"]["parts"]
        how = f"{parts} part{'s' if parts > 1 else ''}"
        session.emit(shown["file"], f"{plain(shown['file']['name'])}: on its way in {how}")


def _read(file: Path) -> bytes:
    """Return a file's bytes. Raises InvalidRecord naming the file and what would help."""
    try:
        if not file.is_file():
            raise InvalidRecord("file", f"{file} is not a file")
        with file.open("rb") as stream:
            data = stream.read(MAX_EVIDENCE + 1)
    except OSError as error:
        raise InvalidRecord("file", f"{file}: {error.strerror}") from None
    if not 0 < len(data) <= MAX_EVIDENCE:
        how = "is over 1 MiB: make it smaller, or show a part of it" if data else "is empty"
        raise InvalidRecord("file", f"{file} {how}")
    return data


def _file(f: dict[str, Any]) -> str:
    state = f"{f['parts_delivered']} of {f['parts']} parts delivered"
    return f"{f['file_hash'][:12]} {f['size']:>9,}  {state:<26} {plain(f['name'])}"


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
        said = "not yet"
        if found["notice"]:
            said = "the dispute is acknowledged"
        lines.append(entry("arbiter", f"{found['arbiter'][:16]}…"))
        if "backup" in found.get("escrow_kind", ""):
            lines.append(entry("runner-up", f"{found['runner_up'][:16]}…"))
        lines.append(entry("heard", said))
    lines += deadlines(found) + verdict(found)
    if found.get("recused"):
        lines.append(entry("recused", found["recused"]))
    session.emit(found, *lines, entry("next", found["next"]))


@dispute.command()
@common
@click.argument("trade_id")
@click.option("--yes", is_flag=True, help="Do not ask.")
def accept(session: Session, trade_id: str, yes: bool) -> None:
    r"""Complete a verdict by your own word.

    Your node completes a verdict by itself only if it gives you your own end of the trade by
    what you told it, less the arbiter's fee: not more, and not less, without this word of yours.

    \b
    p2pnode dispute accept 7f3a91
    """
    found = session.client.get(path(trade_id))
    if "verdict" not in found:
        raise LocalFault("there is no verdict to accept in this trade", field="trade_id")
    given = found["verdict"]
    shares = f"buyer {coins(given['buyer_sat'])}, seller {coins(given['seller_sat'])}"
    session.confirm(f"Take this verdict ({shares} BTC)? Your node will sign it.", yes)
    told = session.client.post(path(trade_id, "/accept"), buyer_sat=given["buyer_sat"])
    done = f"verdict accepted in {told['trade_id'][:8]}"
    session.emit(told, done, hanging("next: ", told["next"]))
