"""`p2pnode trade chat` and `note`: words between people, and words to oneself."""

from collections.abc import Iterable
from typing import Any, Final

import click

from p2pnode.app.commands.frame import Session, common, quoted
from p2pnode.app.commands.trade_view import path
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.units import moment

MAX_CHAT: Final = 1000  # bytes of one message


def conversation(session: Session, said: Iterable[dict[str, Any]], empty: str) -> None:
    """Print what was said, oldest first: when, by whom to whom, and the words, escaped."""
    found = list(said)
    for one in found:
        when = moment(one["at"]) if one["at"] else "(time unknown)"
        speaker = "you" if one["mine"] else f"the {one['speaker']}"
        listener = f"to the {one['listener']}" if one["mine"] else "to you"
        listener += "" if one["delivered"] else ", on its way, not delivered yet"
        session.emit(one, f"{when}  {speaker} {listener}", quoted("    ", one["text"]))
    if not found:
        session.remark(empty)


@click.command()
@common
@click.argument("trade_id")
@click.argument("text", required=False)
@click.option(
    "--with",
    "whom",
    type=click.Choice(("peer", "arbiter")),
    help="Whom [default: with TEXT the peer, else everybody].",
)
def chat(session: Session, trade_id: str, text: str | None, whom: str | None) -> None:
    r"""Say TEXT to the other side, or show what was said.

    At most 1,000 bytes, 30 messages to each. Encrypted on its way; the arbiter of a dispute
    reads what the traders wrote to each other. An arbiter can be written to once he has
    acknowledged a dispute.

    \b
    p2pnode trade chat 7f3a91
    p2pnode trade chat 7f3a91 "Which reference did you use?"
    p2pnode trade chat 7f3a91 "The bank confirms it today." --with arbiter
    """
    where = path(trade_id, "/chat")
    if text is None:
        said = session.client.get(f"{where}?to={whom}" if whom else where)
        conversation(session, said, "nothing was said in this trade")
        return
    session.client.post(where, text=checked("text", text), to=whom or "peer")
    said = session.client.get(f"{where}?to={whom or 'peer'}")
    conversation(session, [s for s in said[:-1] if s["unread"]] + said[-1:], "")


def checked(field: str, text: str) -> str:
    """Return text as it may be sent. Raises InvalidRecord saying how to make it fit."""
    if not text.strip():
        raise InvalidRecord(field, "is empty")
    if (size := len(text.encode(errors="replace"))) > MAX_CHAT:
        raise InvalidRecord(field, f"is {size} bytes, over {MAX_CHAT}: send it in several messages")
    if plainly := next((c for c in text if not c.isprintable() and ord(c) < 0xA0), ""):
        raise InvalidRecord(field, f"holds a control character ({plainly!r}): write it in one line")
    return text


@click.command()
@common
@click.argument("trade_id")
@click.argument("text")
def note(session: Session, trade_id: str, text: str) -> None:
    r"""Keep a private remark on a trade; an empty one removes it.

    It is sent to nobody, and no arbiter sees it.

    \b
    p2pnode trade note 7f3a91 "asked the bank on Monday"
    p2pnode trade note 7f3a91 ""
    """
    answer = session.client.post(path(trade_id, "/note"), text=text)
    done = "note kept for" if answer["remark"] else "note removed from"
    session.emit(answer, f"{done} {answer['trade_id'][:8]}")
