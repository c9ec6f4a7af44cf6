"""Versions without end, stored at a holder: those who listen there are told so many."""

import trio.testing
from dht_kit import NOTE, Clock, identity, note, note_key, validate_note

from dht import rpc
from dht.endpoint import Peer
from dht.records import Kinds
from dht.rpc import Ask
from dht.shell_answers import NEWS, NEWS_S, Answers
from dht.shell_serve import Caller
from dht.store_records import RecordStore
from dht.tally import Tally
from p2pnode.base.store import Database


class Table:
    ksize = 20

    def closest(self, key: bytes, count: int) -> list[Peer]:
        return []


class Contacts:
    table = Table()

    def party(self, node_id: bytes, host: str) -> bytes:
        return node_id


class Somebody(Caller):
    """A caller without a stream, who remembers what he was told."""

    def __init__(self, name: str) -> None:
        self.peer, self.host = identity(name).node_id, "192.0.2.9"
        self.told: list[bytes] = []

    def push(self, number: int, raws: tuple[bytes, ...]) -> bool:
        self.told += raws
        return True

    def end(self) -> None:
        raise AssertionError("he has done nothing")


async def test_who_listens_hears_of_one_record_so_often(
    autojump_clock: trio.testing.MockClock,
) -> None:
    tally, owner, key = Tally(), identity("editor"), note_key("m")
    answers = Answers(
        None,  # type: ignore[arg-type]
        Contacts(),  # type: ignore[arg-type]
        Kinds({NOTE: validate_note}),
        RecordStore(Database(None)),
        Clock(),
        tally,
        listens=50,
    )
    thief, honest = Somebody("thief"), Somebody("honest")
    answers.serve(honest, Ask(1, rpc.LISTEN, (NOTE, key, 600)))

    def store(raw: bytes) -> None:
        answers.serve(thief, Ask(2, rpc.STORE, (NOTE, key, raw)))

    for seq in range(1, 101):
        store(note(owner, "m", seq=seq))
    assert len(honest.told) == NEWS
    assert tally.counts["news_held"] == 100 - NEWS
    store(note(owner, "m", id=b"\x01"))  # another of his, and somebody else's
    store(note(identity("other"), "m"))
    assert len(honest.told) == NEWS + 2
    await trio.sleep(NEWS_S + 1)
    store(note(owner, "m", seq=101))
    assert len(honest.told) == NEWS + 3
