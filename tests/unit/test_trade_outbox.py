"""What waits for a peer: taken out by his word alone, up to where it reaches, and never half."""

from dataclasses import replace

import pytest
from trade_facts import NET, NOW

from escrow.messages import ZERO, Kind, Message
from escrow.model import Aborted, Paid
from escrow.store_journal import TRADER, Journal
from p2pnode.base.identity import Identity
from p2pnode.base.store import Database

ME, PEER, OTHER = (Identity.grind(NET, name) for name in (b"me", b"peer", b"other"))
TRADE, ANOTHER = b"\x01" * 32, b"\x02" * 32


def message(
    seq: int, sender: Identity = ME, recipient: Identity = PEER, **change: object
) -> Message:
    values = {
        "network": NET,
        "kind": Kind.CHAT,
        "trade_id": TRADE,
        "sender": sender.node_id,
        "recipient": recipient.node_id,
        "seq": seq,
        "prev": b"\x07" * 32 if seq else ZERO,
        "seen": ZERO,
        "tip_height": 100,
        "tip_hash": b"\x09" * 32,
        "draw_no": 0,
        "payload": b"\x91\xa1x",
    }
    return Message(**(values | change)).signed(sender)  # type: ignore[arg-type]


class Told(list[tuple[bytes, bytes, int]]):
    def __call__(self, peer: bytes, trade_id: bytes, seq: int) -> None:
        self.append((peer, trade_id, seq))


@pytest.fixture
def journal() -> Journal:
    made = Journal(Database(None), NET)
    with made.database.transaction():
        made.begin(TRADE, TRADER, Paid(), b"", b"", NOW)
        for seq in range(4):
            made.add(message(seq), mine=True)
        made.add(message(0, recipient=OTHER), mine=True)
        made.add(message(0, trade_id=ANOTHER), mine=True)
    made.settled = Told()
    return made


def seqs(journal: Journal, peer: Identity = PEER) -> list[tuple[bytes, int]]:
    return [(one.trade_id, one.seq) for one in journal.waits_for(peer.node_id)]


def test_a_reply_takes_out_a_message_and_what_came_before_it(journal: Journal) -> None:
    journal.delivered(message(2).id)
    assert seqs(journal) == [(TRADE, 3), (ANOTHER, 0)]
    assert seqs(journal, OTHER) == [(TRADE, 0)]
    assert journal.settled == [(PEER.node_id, TRADE, 2)]
    journal.delivered(message(1).id)
    journal.delivered(b"\x00" * 32)
    assert journal.settled == [(PEER.node_id, TRADE, 2)]  # nothing new


def test_a_peers_seen_takes_out_what_it_covers(journal: Journal) -> None:
    journal.covered(message(0, PEER, ME, seen=message(1).id))
    assert seqs(journal) == [(TRADE, 2), (TRADE, 3), (ANOTHER, 0)]
    assert journal.settled == [(PEER.node_id, TRADE, 1)]


@pytest.mark.parametrize(
    "said",
    [
        message(0, PEER, ME),
        message(0, PEER, ME, seen=b"\x05" * 32),
        message(0, PEER, ME, seen=message(0, recipient=OTHER).id),
        message(0, PEER, ME, seen=message(0, trade_id=ANOTHER).id),
        message(0, OTHER, ME, seen=message(3).id),
        message(0, PEER, ME, seen=message(3).id, trade_id=ANOTHER),
    ],
    ids=["nothing", "unknown", "to another", "of another trade", "by another", "in another"],
)
def test_a_seen_that_names_nothing_of_ours_to_him_takes_out_nothing(
    journal: Journal, said: Message
) -> None:
    journal.covered(said)
    assert len(seqs(journal)) == 5
    assert journal.settled == []


def test_what_settles_is_undone_with_its_transaction(journal: Journal) -> None:
    with pytest.raises(ZeroDivisionError), journal.database.transaction():
        journal.covered(message(0, PEER, ME, seen=message(3).id))
        assert len(seqs(journal)) == 1
        raise ZeroDivisionError
    assert len(seqs(journal)) == 5


def test_a_refusal_drops_one_trade_for_one_peer(journal: Journal) -> None:
    assert journal.drop_outbox(TRADE, PEER.node_id) == 4
    assert seqs(journal) == [(ANOTHER, 0)]
    assert seqs(journal, OTHER) == [(TRADE, 0)]
    assert journal.drop_outbox(TRADE, PEER.node_id) == 0
    assert journal.settled == [(PEER.node_id, TRADE, 3)]


def test_only_what_waits_in_a_trade_that_ended_before_is_abandoned(journal: Journal) -> None:
    assert journal.abandon(["Aborted"], NOW + 100) == []
    journal.save(TRADE, Aborted("over"), NOW + 50)
    assert journal.abandon(["Aborted"], NOW + 50) == []
    gone = journal.abandon(["Aborted", "Closed"], NOW + 51)
    assert sorted((one.peer, one.count) for one in gone) == sorted(
        [(PEER.node_id, 4), (OTHER.node_id, 1)]
    )
    assert seqs(journal) == [(ANOTHER, 0)]


def test_a_contract_is_known_by_whom_it_was_signed_for(journal: Journal) -> None:
    assert not journal.contracted(TRADE, PEER.node_id)
    said = replace(message(4), kind=Kind.CONTRACT, signature=b"").signed(ME)
    journal.add(said, mine=True)
    assert journal.contracted(TRADE, PEER.node_id)
    assert not journal.contracted(TRADE, OTHER.node_id)
    assert not journal.contracted(ANOTHER, PEER.node_id)
