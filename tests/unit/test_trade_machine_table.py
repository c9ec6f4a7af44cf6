"""All state x event pairs against reviewed tables: a change here is a change of the protocol.

Renew with `P2PNODE_RENEW=1 python -m pytest tests/unit/test_trade_machine_table.py`, then read the
difference line by line against docs/trade.md.
"""

import os
import re
from pathlib import Path

import pytest
from trade_tables import (
    CASES,
    POSITIONS,
    arbiter_table,
    case_outcomes,
    edges,
    trader_outcomes,
    trader_roles,
    trader_table,
)

from escrow import model
from escrow.model import State

VECTORS = Path(__file__).parents[1] / "vectors"
DOC = Path(__file__).parents[2] / "docs" / "trade.md"
MARK = re.compile(
    r"(<!-- machines: tests/unit/test_trade_machine_table.py -->\n).*?(<!-- end -->)", re.S
)
ENDED = {"Closed", "Aborted", "Void", "ClosedCase"}
STATES = {
    name
    for name, kind in vars(model).items()
    if isinstance(kind, type) and issubclass(kind, State) and kind not in (State, model.Payable)
}


def compare(path: Path, text: str) -> None:
    if os.environ.get("P2PNODE_RENEW"):
        path.write_text(text)
    assert path.read_text() == text


def test_every_pair_of_a_trader() -> None:
    compare(VECTORS / "machine_trader.txt", trader_table())


def test_every_pair_of_the_arbiter() -> None:
    compare(VECTORS / "machine_arbiter.txt", arbiter_table())


def test_the_tables_hold_every_state() -> None:
    held = {type(p.state).__name__ for p in (*POSITIONS, *CASES)}
    assert held == STATES


def test_an_end_is_left_by_nothing() -> None:
    assert not [e for e in edges() if e[0] in ENDED]


def test_every_other_state_is_left_and_every_one_reached() -> None:
    assert {e[0] for e in edges()} == STATES - ENDED
    begun = {"Taking", "Noticed"}  # and Drawing, for a maker
    assert {e[2] for e in edges()} == STATES - begun


ORDER = (
    *("Taking", "Drawing", "Contracting", "Funding", "Broadcast", "Funded", "Paid", "Disputed"),
    *("ArbiterLost", "Releasing", "Agreed", "Ruled", "Toxic", "Closed", "Aborted", "Void"),
    *("Noticed", "Hearing", "RuledCase", "RecusedCase", "ToxicCase", "ClosedCase"),
)


def test_no_state_goes_back_but_funded_in_a_reorg() -> None:
    back = [e for e in edges() if ORDER.index(e[0]) > ORDER.index(e[2])]
    # In Releasing, Agreed and Ruled alike an end is decided, by the seller, both or the arbiter;
    # one that gives the completer no less takes the place of one that he does not complete.
    assert {(e[0], e[2]) for e in back} == {
        *(("Funded", "Broadcast"), ("Ruled", "Releasing")),
        *(("Agreed", "Releasing"), ("Ruled", "Agreed")),
    }


@pytest.mark.parametrize("position", POSITIONS, ids=lambda p: p.name)
def test_paid_is_said_in_one_place_alone(position) -> None:  # type: ignore[no-untyped-def]
    said = [
        (position.name, outcome.event)
        for role, seller, name in trader_roles()
        if position.who in role
        for outcome in trader_outcomes(position, seller, name)
        if "sends PAID" in outcome.text
    ]
    free = {"ACK told", "own ASK freed", "peer's ASK open", "peer's ASK withdrawn"}  # R3
    allowed = {
        (f"Funded, {name}", event)
        for name in free
        for event in ("SayPaid", "SayPaid 1 s before the end")
    }
    assert set(said) == {a for a in allowed if a[0] == position.name}


def test_a_verdict_is_signed_in_one_place_alone() -> None:
    said = [
        (case.name, o.event) for case in CASES for o in case_outcomes(case) if "VERDICT" in o.text
    ]
    assert [s for s in said if s[1] not in {"VERDICT"}] == [("RuledCase", "VerdictSigned")]


def diagram() -> str:
    """Every change of state, as the machines answer, a line for each pair of states."""
    found: dict[tuple[str, str], list[str]] = {}
    for before, event, after in edges():
        found.setdefault((before, after), []).append(event)
    lines = []
    for (before, after), events in sorted(
        found.items(), key=lambda e: tuple(map(ORDER.index, e[0]))
    ):
        lines.append(f"{before:<12} → {after:<12} {', '.join(events)}")
    return "```\n" + "\n".join(lines) + "\n```\n"


def test_the_documents_diagram_is_the_machines() -> None:
    text = DOC.read_text()
    renewed = MARK.sub(lambda m: m[1] + diagram() + m[2], text)
    if os.environ.get("P2PNODE_RENEW"):
        DOC.write_text(renewed)
    assert renewed == DOC.read_text()
    assert MARK.search(text)
