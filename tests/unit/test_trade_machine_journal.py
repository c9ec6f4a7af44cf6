"""States on disk: each comes back as it was; what is unknown or damaged is a fault, never a guess."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from trade_facts import NET, NOW, Play
from trade_tables import CASES, POSITIONS

from escrow import bargain, model
from escrow.model import State
from escrow.payout import Split
from escrow.store_journal import (
    ARBITER,
    TRADER,
    Journal,
    dump_state,
    load_state,
    own_of,
    terms_of,
)
from p2pnode.base import wire
from p2pnode.base.errors import LocalFault, StorageFault
from p2pnode.base.store import Database

STATES = {
    name: kind
    for name, kind in vars(model).items()
    if isinstance(kind, type) and issubclass(kind, State) and kind not in (State, model.Payable)
}
SAMPLES = [
    *(p.state for p in (*POSITIONS, *CASES)),
    model.Aborted("the peer aborted: \u2026 words"),
    model.Broadcast(bytes(range(256)) * 400),
    model.Releasing(b"\0" * 100),
    model.Closed(b"\xff" * 32, "ruled", b"\0" * 200),
    model.Agreed(b"\1" * 100, b"\2" * 100, 2**32, 0, 2**50),
    model.Toxic(why="\u2026", base=9000, conceding=1, accepted=1),
    model.Ruled(buyer_sat=0, seller_sat=2**50),
]


@pytest.mark.parametrize("state", SAMPLES, ids=lambda s: type(s).__name__)
def test_every_state_comes_back_as_it_was(state: State) -> None:
    found = load_state(*dump_state(state))
    assert found == state
    assert type(found) is type(state)


def test_the_samples_hold_every_state() -> None:
    assert {type(s) for s in SAMPLES} == set(STATES.values())


@pytest.mark.parametrize(
    "name", ["", "State", "Payable", "Asked", "taking", "Paid ", "Event", "Closed\0"]
)
def test_an_unknown_name_is_a_fault(name: str) -> None:
    with pytest.raises(StorageFault, match="unknown here"):
        load_state(name, 1, wire.pack(()))


@pytest.mark.parametrize("name", STATES)
def test_an_unknown_version_is_a_fault(name: str) -> None:
    body = dump_state(next(s for s in SAMPLES if type(s).__name__ == name))[2]
    for version in (0, 2, -1, 1000):
        with pytest.raises(StorageFault, match=f"state {name} version {version}, unknown here"):
            load_state(name, version, body)


@pytest.mark.parametrize("name", STATES)
def test_a_damaged_body_is_a_fault(name: str) -> None:
    state = next(s for s in SAMPLES if type(s).__name__ == name)
    values = tuple(getattr(state, f.name) for f in fields(state))
    damaged: list[bytes] = [b"", b"\xc1", b"\x80", wire.pack((*values, 1)), wire.pack(("x",) * 9)]
    for n, value in enumerate(values):
        damaged.append(wire.pack(values[:n] + values[n + 1 :]))
        wrong: Any = b"x" if type(value) is not bytes else 7
        damaged.append(wire.pack((*values[:n], wrong, *values[n + 1 :])))
    for body in damaged:
        with pytest.raises(StorageFault, match="damaged"):
            load_state(name, 1, body)


# ------------------------------------------------------------------ the tables


@pytest.fixture
def journal(tmp_path: Path) -> Any:
    database = Database(tmp_path / "node.sqlite")
    yield Journal(database, NET)
    database.close()


def begin(journal: Journal, play: Play, role: str = TRADER) -> bytes:
    trade_id = play.messages[0].id
    terms, own = play.terms, play.own(play.maker)
    with journal.database.transaction():
        journal.begin(
            trade_id,
            role,
            model.Drawing(NOW),
            wire.pack(terms.array()),
            wire.pack(own.array()),
            NOW,
        )
        for message in play.messages:
            journal.add(message, mine=message.sender == play.maker.node_id)
    return trade_id


def test_a_trade_comes_back_with_terms_own_part_and_messages(journal: Journal) -> None:
    play = Play().acknowledge()
    trade_id = begin(journal, play)
    row = journal.row(trade_id)
    assert row is not None
    assert (row.state, row.role, row.began) == (model.Drawing(NOW), TRADER, NOW)
    assert terms_of(row) == play.terms
    assert own_of(row) == play.own(play.maker)
    assert journal.messages(trade_id) == tuple(play.messages)


@pytest.mark.parametrize("state", SAMPLES, ids=lambda s: type(s).__name__)
def test_every_state_survives_the_table(journal: Journal, state: State) -> None:
    play = Play()
    play.say(play.taker, play.take())
    trade_id = begin(journal, play)
    with journal.database.transaction():
        journal.save(trade_id, state, NOW + 1)
    row = journal.row(trade_id)
    assert row is not None
    assert (row.state, row.changed) == (state, NOW + 1)


def test_trades_begun_in_one_second_are_listed_newest_first(journal: Journal) -> None:
    begun = [bytes([n]) * 32 for n in (3, 9, 1, 7)]
    for trade_id in begun:
        with journal.database.transaction():
            journal.begin(trade_id, TRADER, model.Drawing(NOW), b"", b"", NOW)
    assert [row.trade_id for row in journal.rows(TRADER)] == begun[::-1]


def test_a_state_is_known_by_its_own_table(journal: Journal) -> None:
    name, version, body = dump_state(bargain.Proposed(1, 500))
    assert load_state(name, version, body, {name: bargain.Proposed}) == bargain.Proposed(1, 500)
    with pytest.raises(StorageFault, match="unknown here"):
        load_state(name, version, body)


def test_a_newer_nodes_state_is_a_fault_and_stays_as_it_was(journal: Journal) -> None:
    play = Play()
    play.say(play.taker, play.take())
    trade_id = begin(journal, play)
    with journal.database.transaction():
        journal.database.run("UPDATE trade SET state = 'Asked', version = 3")
    with pytest.raises(StorageFault, match="state Asked version 3, unknown here"):
        journal.row(trade_id)
    found = journal.database.one("SELECT state, version FROM trade")
    assert found is not None
    assert (found["state"], found["version"]) == ("Asked", 3)


def test_a_split_is_committed_once_and_for_all(journal: Journal) -> None:
    """R1: the same split again is the same; another is refused, also after it was saved."""
    split = Split(1, 2, 3)
    with journal.database.transaction():
        journal.commit_split(bytes(32), split)
        journal.commit_split(bytes(32), split)
    for other in (Split(2, 1, 3), Split(1, 2, 2), Split(0, 0, 0)):
        with (
            pytest.raises(LocalFault, match="another split"),
            journal.database.transaction(),
        ):
            journal.commit_split(bytes(32), other)
    assert journal.split(bytes(32)) == split
    assert journal.split(bytes(31) + b"\1") is None


def test_a_number_of_a_chain_is_kept_once(journal: Journal) -> None:
    """The inbox deduplicates: a second body of one number cannot be journalled."""
    import sqlite3

    play = Play()
    play.say(play.taker, play.take())
    begin(journal, play, ARBITER)
    again = replace(play.messages[0], tip_height=7, signature=b"").signed(play.taker)
    other = replace(again, trade_id=play.messages[0].id)
    with pytest.raises((sqlite3.IntegrityError, StorageFault)), journal.database.transaction():
        journal.add(play.messages[0], mine=False)
    assert not journal.known(other.id)
    assert journal.known(play.messages[0].id)
