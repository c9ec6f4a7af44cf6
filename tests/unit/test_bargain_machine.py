"""All positions of a negotiation x all events, against a reviewed table; and what must hold.

Renew with `P2PNODE_RENEW=1 python -m pytest tests/unit/test_bargain_machine.py`, then read the
difference line by line against docs/trade.md, section 2.
"""

import os
import re
from pathlib import Path

import pytest
from bargain_tables import AMOUNT, FAIR, POSITIONS, Position, edges, outcomes, table, terms

from escrow import bargain
from escrow.bargain import Facts, Policy, bounds
from escrow.payloads import Counter, Propose
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.units import MAX_FIAT_MINOR, MAX_SAT

VECTOR = Path(__file__).parents[1] / "vectors" / "machine_bargain.txt"
DOC = Path(__file__).parents[2] / "docs" / "trade.md"
MARK = re.compile(
    r"(<!-- bargain: tests/unit/test_bargain_machine.py -->\n).*?(<!-- end -->)", re.S
)
ORDER = [s.__name__ for s in bargain.STATES]


def test_every_pair() -> None:
    if os.environ.get("P2PNODE_RENEW"):
        VECTOR.write_text(table())
    assert VECTOR.read_text() == table()


def test_the_table_holds_every_state_for_both_sides() -> None:
    for side in (False, True):
        held = {type(p.state) for p in POSITIONS if p.is_maker is side}
        assert held == set(bargain.STATES)


def test_an_end_is_left_by_nothing() -> None:
    ends = {s.__name__ for s in bargain.ENDED}
    assert not [e for e in edges() if e[1] in ends]
    assert {e[3] for e in edges()} == set(ORDER) - {"Fresh"}


@pytest.mark.parametrize("position", POSITIONS, ids=lambda p: p.name)
def test_only_the_maker_names_a_sum_that_binds(position: Position) -> None:
    for outcome in outcomes(position):
        if "sends COUNTER" in outcome.text:
            assert position.is_maker
        if "sends PROPOSE" in outcome.text:
            assert not position.is_maker
        if outcome.after is not None and outcome.after != outcome.before:
            assert "at the end" not in outcome.event or outcome.event == "Tick at the end"


def diagram() -> str:
    """Every change of state, a line for each pair of states."""
    found: dict[tuple[str, str], set[str]] = {}
    for side, before, event, after in edges():
        found.setdefault((before, after), set()).add(f"{side}: {event}")
    pairs = sorted(found.items(), key=lambda e: tuple(map(ORDER.index, e[0])))
    lines = [f"{a:<9} → {b:<9}  {', '.join(sorted(events))}" for (a, b), events in pairs]
    return "```\n" + "\n".join(lines) + "\n```\n"


def test_the_documents_diagram_is_the_machines() -> None:
    text = DOC.read_text()
    renewed = MARK.sub(lambda m: m[1] + diagram() + m[2], text)
    if os.environ.get("P2PNODE_RENEW"):
        DOC.write_text(renewed)
    assert MARK.search(text)
    assert renewed == DOC.read_text()


# ------------------------------------------------------------------ sums


@pytest.mark.parametrize(
    ("amount", "price", "low", "high"),
    [
        (AMOUNT, 61_240_000_000, FAIR // 2, FAIR * 2),
        (200_000, 5_000_000, 1, 2),  # worth one minor unit
        (200_000, 2_000_000, 1, 0),  # worth nothing: no sum is good
        (200_000, 15_000_000, 2, 6),  # three minor units: half is rounded up
        (MAX_SAT // 4, 2**53 - 1, 2364389804369510138, MAX_FIAT_MINOR),
    ],
)
def test_bounds_of_a_sum(amount: int, price: int, low: int, high: int) -> None:
    assert bounds(amount, price) == (low, high)


def facts(*, sells: bool, policy: Policy | None = None) -> Facts:
    return Facts(
        is_maker=True,
        terms=terms(maker_is_seller=int(sells)),
        amount_sat=AMOUNT,
        began=0,
        messages=(),
        policy=policy or Policy(),
    )


@pytest.mark.parametrize(
    ("sells", "bp", "limit"),
    [
        (True, 0, FAIR),
        (True, 1, 61_234),  # 61,233.876 rounded up: never below the limit
        (True, 5000, 30_620),
        (False, 0, FAIR),
        (False, 1, 61_246),  # 61,246.124 rounded down
        (False, 5000, 91_860),
    ],
)
def test_a_limit_is_never_rounded_against_the_maker(sells: bool, bp: int, limit: int) -> None:
    found = facts(sells=sells)
    assert found.limit(bp) == limit
    assert found.pleases(limit, found.limit(bp))
    assert not found.pleases(limit - 1 if sells else limit + 1, found.limit(bp))


@pytest.mark.parametrize(
    "change",
    [
        {"accept_bp": -1},
        {"accept_bp": 5001},
        {"counter_bp": -1},
        {"counter_bp": 5001},
        {"accept_bp": True},
        {"otherwise": ""},
        {"otherwise": "accept"},
    ],
)
def test_a_policy_is_bounded(change: dict[str, object]) -> None:
    with pytest.raises(InvalidRecord) as caught:
        Policy(**change)  # type: ignore[arg-type]
    assert caught.value.field == next(iter(change))


@pytest.mark.parametrize("fiat", [0, -1, MAX_FIAT_MINOR + 1, 2**64 - 1, True])
def test_no_sum_off_the_bounds_has_a_wire_form(fiat: int) -> None:
    with pytest.raises(InvalidRecord):
        Propose(offer_hash=bytes(32), amount_sat=1, fiat_minor=fiat, method="CUSTOM")
    with pytest.raises(InvalidRecord):
        Counter(propose_id=bytes(32), fiat_minor=fiat, expires_at=1)
