"""The file of bans holds what the node remembers, no more, and over a restart no less."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht import standing, store_bans
from dht.standing import LONGEST_BAN, Event, Standing
from dht.store_bans import BanStore
from dht.subnets import Subnets
from p2pnode.base.store import Database

NOW = 1_800_000_000
KEYS = [bytes([number]) * 32 for number in range(9)]

events = st.tuples(
    st.integers(0, 8),
    st.sampled_from(["ban", "points", "lift"]),
    st.sampled_from([0, 60, 3600, 40 * 3600]),  # seconds that a ban by hand lasts
    st.sampled_from([0, 1, 1800, 30 * 3600]),  # seconds until it happens
)


def misbehave(it, key, now):
    while not (made := it.note(key, "", Event.GARBAGE, now)):
        assert not it.barred(key, "", now)
    return made


@given(st.lists(events, max_size=40))
def test_the_file_follows_what_is_remembered(happening):
    with pytest.MonkeyPatch.context() as patch:
        for module in (standing, store_bans):
            patch.setattr(module, "MAX_BANS", 4)
        database, now = Database(None), NOW
        store = BanStore(database)
        it = Standing(Subnets())
        for number, what, seconds, later in happening:
            now, key = now + later, KEYS[number]
            if what == "lift":
                it.lift(key.hex())
                store.remove(key.hex())
            elif what == "ban":
                store.save(it.ban(key.hex(), "by hand", seconds, now))
            elif not it.barred(key, "", now):
                for ban in misbehave(it, key, now):
                    store.save(ban)
            rows = database.all("SELECT subject, until, by_hand FROM dht_ban")
            table = {row["subject"]: (row["until"], bool(row["by_hand"])) for row in rows}
            assert table == {b.subject: (b.until, b.by_hand) for b in it._bans.values()}
            assert len(table) <= 4
        again = Standing(Subnets(), store.all(now))
        assert again.bans(now) == it.bans(now)
        database.close()


def test_the_next_ban_is_twice_as_long_over_a_restart():
    store, now = BanStore(Database(None)), NOW
    for hours in (1, 2, 4, 8):
        it = Standing(Subnets(), store.all(now))
        assert not it.barred(KEYS[0], "", now)
        (ban,) = misbehave(it, KEYS[0], now)
        assert ban.until - ban.since == hours * 3600
        store.save(ban)
        now = ban.until + LONGEST_BAN - 1
    assert store.all(now + 1) == []
    (ban,) = misbehave(Standing(Subnets(), store.all(now + 1)), KEYS[0], now + 1)
    assert ban.until - ban.since == 3600


def test_what_is_over_leaves_before_what_was_banned_by_hand_and_that_once_it_is_over(monkeypatch):
    for module in (standing, store_bans):
        monkeypatch.setattr(module, "MAX_BANS", 2)
    store, it = BanStore(Database(None)), Standing(Subnets())
    store.save(it.ban(KEYS[0].hex(), "for good", 0, NOW))
    store.save(it.ban(KEYS[1].hex(), "a minute", 60, NOW))
    (ban,) = misbehave(it, KEYS[2], NOW + 61)
    store.save(ban)
    kept = {KEYS[0].hex(), KEYS[2].hex()}
    assert {b.subject for b in it.bans(NOW + 61)} == kept
    assert {b.subject for b in store.all(NOW + 61)} == kept
