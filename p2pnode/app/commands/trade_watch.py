"""`p2pnode trade watch`: one line for each change, until the trade ends.

The events are numbered for ever, so nothing is missed between the first look and the stream.
"""

from typing import Any, Final

import click

from p2pnode.app.client import Client
from p2pnode.app.commands.frame import Session, common, hanging, quoted
from p2pnode.app.commands.trade_view import path, show_trade
from p2pnode.base.errors import NotFound, Unreachable
from p2pnode.base.units import moment

ENDED: Final = frozenset({"Closed", "Aborted", "Void"})
SILENCE_S: Final = 60  # the stream has a heartbeat every 15 s
_STOPPED: Final = "the daemon has stopped; start it and watch on: nothing is lost meanwhile"
_ABOUT: Final = frozenset({"trade", "stalled", "reminder"})


@click.command()
@common
@click.argument("trade_id", required=False)
def watch(session: Session, trade_id: str | None) -> None:
    r"""Follow one trade until it ends, or all of yours until Ctrl-C.

    Each change is a line: when, which trade, its state and what to do next and by when. With
    --json each is a trade as `trade show` prints it, and in `event` what changed it.

    \b
    p2pnode trade watch 7f3a91
    p2pnode trade watch
    p2pnode trade watch --json | jq -c '[.trade_id, .state, .next]'
    """
    client, where = session.client, "" if trade_id is None else path(trade_id)
    after = client.get("/v1/status")["last_event"]
    last: dict[str, tuple[Any, ...]] = {}
    if trade_id is None:
        for answer in reversed(client.get("/v1/trades")):
            if answer["state"] not in ENDED:
                last[answer["trade_id"]] = _gist(answer)
                session.emit(answer | {"event": None}, _line("now", answer))
        wanted = None
    else:
        whole = client.get(where)
        wanted, last[whole["trade_id"]] = whole["trade_id"], _gist(whole)
        show_trade(session, whole | {"event": None})
        if whole["state"] in ENDED:
            return
    for event in client.events(after, timeout=SILENCE_S):
        if event["event"] not in _ABOUT or event.get("role") == "arbiter":
            continue
        if wanted is not None and event["trade_id"] != wanted:
            continue
        answer = _changed(session, client, event, last)
        if wanted is not None and answer is not None and answer["state"] in ENDED:
            return
    raise Unreachable(_STOPPED)


def _gist(answer: dict[str, Any]) -> tuple[Any, ...]:
    return answer["state"], answer["next"], answer["note"]


def _changed(
    session: Session, client: Client, event: dict[str, Any], last: dict[str, tuple[Any, ...]]
) -> dict[str, Any] | None:
    """Print what an event changed, if it changed something to a reader; return the trade."""
    ident = event["trade_id"]
    try:
        answer: dict[str, Any] = client.get(path(ident))
    except NotFound:
        return None  # a case that we judge
    except Unreachable:
        raise Unreachable(_STOPPED) from None  # it was killed while it answered
    lines = _told(client, event, answer)
    if last.get(ident) != _gist(answer):
        lines.append(_line(moment(event["at"])[11:16], answer))
    last[ident] = _gist(answer)
    if lines:
        session.emit(answer | {"event": event}, *lines)
    return answer


def _line(when: str, answer: dict[str, Any]) -> str:
    short = answer["trade_id"][:8]
    return hanging(f"{when:<5} ", f"{short} {answer['state']}: {answer['next']}")


def _told(client: Client, event: dict[str, Any], answer: dict[str, Any]) -> list[str]:
    """Return what an event says beside the trade's state: words, a reminder, a fault."""
    head = f"{moment(event['at'])[11:16]} {answer['trade_id'][:8]} "
    if event["event"] == "stalled":
        return [hanging(f"{head}stalls: ", event["why"])]
    if event["event"] == "reminder":
        until = f"{event['what']} is due by {moment(event['by_mtp'])}"
        return [hanging(f"{head}reminder: ", f"{until}, within {event['hours']} h")]
    if event.get("received") == "CHAT":
        said = [s for s in client.get(path(answer["trade_id"], "/chat")) if not s["mine"]]
        new = [s for s in said[:-1] if s["unread"]] + said[-1:]
        return [quoted(f"{head}the {s['speaker']} says: ", s["text"]) for s in new]
    if event.get("received") == "ASK":
        theirs = [a for a in answer.get("asks", ()) if a["asker"] != answer["role"]]
        return [quoted(f"{head}proposal: ", a["note"]) for a in theirs[-1:] if a["note"]]
    if event.get("received") == "REFUSE":
        ours = [a for a in answer.get("asks", ()) if a["asker"] == answer["role"] and a["declined"]]
        return [quoted(f"{head}declined: ", a["declined"]) for a in ours[-1:]]
    return []
