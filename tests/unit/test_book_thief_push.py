"""Versions without end, stored at a holder: those who listen there are told so many."""

from dataclasses import replace

import trio.testing
from book_kit import who
from dht_kit import NOTE, Clock, identity, note, note_key, validate_note
from orderbook_kit import NET

from dht import rpc
from dht.endpoint import Peer
from dht.records import Kinds
from dht.rpc import Ask
from dht.shell_answers import NEWS, NEWS_S, Answers
from dht.shell_serve import Caller
from dht.store_records import RecordStore
from dht.tally import Tally
from orderbook import market_server
from p2pnode.app import fit
from p2pnode.app.crowd import server_key
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


def test_the_places_of_a_markets_servers_are_drawn_and_not_held() -> None:
    """A thief fills a market's key with servers of his own, first and for longest."""
    found = fit.kinds(NET)
    store, clock = RecordStore(Database(None)), Clock()
    thieves = [who(f"sybil {n}") for n in range(market_server.MAX_SERVERS + 44)]
    honest = [who(f"server {n}") for n in range(100)]
    key = server_key(NET, "EUR")
    kept = set()
    for crowd, life in ((thieves, market_server.MAX_LIFE_S), (honest, market_server.LIFE_S)):
        for one in crowd:
            raw = market_server.sign(one, NET, "EUR", clock.now() + life)
            record = found.admit(market_server.KIND, key, raw, clock.now())
            store.put(record, found.bounds(market_server.KIND))
    held = store.page(market_server.KIND, key, b"", clock.now(), 1000)
    kept = {record.owner for record in held}
    assert len(kept) == market_server.MAX_SERVERS
    assert 40 <= len(kept & {one.node_id for one in honest}) <= 85  # of 100, by lot
    tomorrow = market_server.sign(thieves[0], NET, "EUR", clock.now() + market_server.LIFE_S)
    one = market_server.parse(tomorrow, NET, clock.now())
    assert replace(one, expires_at=one.expires_at + market_server.DAY_S).lot != one.lot
