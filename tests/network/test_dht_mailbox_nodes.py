"""Mailboxes over real nodes: senders and recipients that are never there together, floods, lies.

Five nodes hold the records; the peers join, act and are killed. The files of their databases
are what they have when they come back.
"""

import hashlib
import os

import pytest
import trio
from dht_kit import NOW, Clock, identity, town
from mailbox_kit import NETWORK, TODAY, TRADE, entry_of, flood, to, worked

from dht import letters, mailbox
from dht.keys import distance
from dht.mailbox import BOUNDS, DAY, KIND, PER_KEY
from dht.shell_mailbox import REPUT_S, Mailbox
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.identity import Identity, dht_id
from p2pnode.base.store import Database

HOLDERS, K = 5, 4
ALICE, BOB, MALLORY = identity("alice"), identity("bob"), identity("mallory")


class Village:
    """Holders, and peers who come and go."""

    def __init__(self, build, tmp_path):
        self.build, self.path, self.clock = build, tmp_path, Clock()
        self.holders = []

    async def begin(self):
        for index in range(HOLDERS):
            self.holders.append(await self._node(f"holder {index}"))
            if index:
                assert await self.holders[-1].dht.join([self.holders[0].peer]) >= 1
        for node in self.holders:
            await node.dht.refresh()
        return self

    async def _node(self, name, database=None, listen=("/ip4/127.0.0.1/tcp/0",)):
        node = await self.build.node(name, k=K, database=database, clock=self.clock, listen=listen)
        node.dht._kinds.register(KIND, mailbox.validator(NETWORK), BOUNDS)
        return node

    async def comes(self, name):
        """A peer joins with what his file holds, and keeps nothing for others himself."""
        database = Database(self.path / f"{name}.sqlite")
        node = await self._node(name, database, listen=())
        assert await node.dht.join([h.peer for h in self.holders]) >= 1
        node.box = Mailbox(node.dht, node.identity, NETWORK, self.clock, database)
        node.database = database
        return node

    async def goes(self, node):
        await node.kill()
        node.database.close()

    def held(self, key, *, live=True):
        """How many holders have something under a key, deletions counted on demand."""
        return [
            [r for r in node.dht.stored(KIND, key) if not live or r.seq != mailbox.DELETED]
            for node in self.holders
        ]


@pytest.fixture
async def village(tmp_path, nursery):
    async with town() as build:
        yield await Village(build, tmp_path).begin()


async def until(condition, seconds=10):
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - the condition is another node's
            await trio.sleep(0.01)


def line_of(sender, recipient):
    return letters.line_secret(sender, NETWORK, recipient.node_id, TRADE, outgoing=True)


def box_of(sender, recipient):
    return letters.closed_box(NETWORK, line_of(sender, recipient), TODAY, 0)


async def test_two_who_are_never_there_together(village):
    words = [b"paid", os.urandom(30_000)]
    alice = await village.comes("alice")
    for number, payload in enumerate(words):
        alice.box.post(to(BOB), number, payload)
    await alice.box.round()
    await village.goes(alice)
    key = box_of(ALICE, BOB).key
    await until(lambda: sum(len(r) == 4 for r in village.held(key)) >= K - 1)

    bob = await village.comes("bob")
    found = await bob.box.collect([to(ALICE)])
    assert [(x.number, x.payload) for x in found] == list(enumerate(words))
    for letter in found:
        bob.box.applied(letter)
    await bob.box.round()
    assert bob.box.counts() == {"waiting": 0, "deletions": 0}
    await village.goes(bob)
    await until(lambda: not any(village.held(key)))

    village.clock.seconds += REPUT_S
    alice = await village.comes("alice")
    assert alice.box.counts()["waiting"] == 4
    await alice.box.round()
    assert alice.box.counts() == {"waiting": 0, "deletions": 0}
    assert not any(village.held(key))
    bob = await village.comes("bob")
    assert await bob.box.collect([to(ALICE)]) == ()


async def test_a_sender_killed_at_his_work_goes_on_when_he_is_back(village):
    alice = await village.comes("alice")
    alice.box.post(to(BOB), 0, b"committed, never put")
    await village.goes(alice)
    assert not any(village.held(box_of(ALICE, BOB).key))
    alice = await village.comes("alice")
    await alice.box.round()
    bob = await village.comes("bob")
    assert [x.payload for x in await bob.box.collect([to(ALICE)])] == [b"committed, never put"]


async def test_holders_that_die_are_made_good(village):
    alice = await village.comes("alice")
    alice.box.post(to(BOB), 0, b"x")
    await alice.box.round()
    key = box_of(ALICE, BOB).key
    await until(lambda: sum(map(bool, village.held(key))) >= K - 1)
    had = [node for node, r in zip(village.holders, village.held(key), strict=True) if r]
    for node in had[: len(had) - 1]:
        village.holders.remove(node)
        await node.kill()
    newcomer = await village._node("newcomer")
    assert await newcomer.dht.join([h.peer for h in village.holders]) >= 1
    village.holders.append(newcomer)
    village.clock.seconds += REPUT_S
    await alice.box.round()
    await until(lambda: sum(map(bool, village.held(key))) == 3)
    bob = await village.comes("bob")
    assert [x.payload for x in await bob.box.collect([to(ALICE)])] == [b"x"]


async def test_a_first_word_survives_a_flood_by_more_work(village):
    """Mallory fills the arbiter's box before and after; its sender outworks the least entry."""
    alice, bob = await village.comes("alice"), await village.comes("bob")
    mallory = await village.comes("mallory")
    key = letters.word_key(NETWORK, BOB.node_id, TODAY)
    for raw in flood(PER_KEY, NETWORK.mailbox_bits + 1, recipient=BOB):
        await mallory.dht.put(KIND, raw, whole=True)
    assert max(map(len, village.held(key))) == PER_KEY  # the fault fired
    alice.box.post(to(BOB), 0, b"dispute", word=True)
    await alice.box.round()
    (letter,) = await bob.box.collect([], words=True)
    assert (letter.line.peer, letter.payload) == (ALICE.node_id, b"dispute")
    assert max(map(len, village.held(key))) == PER_KEY

    before = {r.owner for rs in village.held(key) for r in rs}
    for raw in flood(PER_KEY, NETWORK.mailbox_bits + 5, recipient=BOB, salt=b"again"):
        await mallory.dht.put(KIND, raw, whole=True)
    after = {r.owner for rs in village.held(key) for r in rs}
    assert len(after - before) >= PER_KEY - 8  # they drove nearly all others out
    village.clock.seconds += REPUT_S
    await alice.box.round()
    held = {r.owner for rs in village.held(key) for r in rs}
    assert letters.word_box(NETWORK, line_of(ALICE, BOB), BOB.node_id, TODAY).signer.node_id in held
    (letter,) = await bob.box.collect([], words=True)
    assert letter.payload == b"dispute"
    bob.box.applied(letter)
    await bob.box.round()
    assert await bob.box.collect([], words=True) == ()


async def test_a_closed_box_cannot_be_flooded_nor_its_entries_deleted(village):
    """Mallory holds the record, knows key and name, and has all the work in the world."""
    alice, mallory = await village.comes("alice"), await village.comes("mallory")
    alice.box.post(to(BOB), 0, b"x")
    await alice.box.round()
    box = box_of(ALICE, BOB)
    await until(lambda: any(village.held(box.key)))
    (record,) = next(r for r in village.held(box.key) if r)
    entry = mailbox.parse(record.raw, NETWORK, NOW)
    thief = Identity(hashlib.sha256(b"thief").digest())
    for bad in (
        letters.Box(NETWORK, entry.door, entry.name, TODAY, thief).entry(0, entry.sealed),
        letters.Box(NETWORK, entry.door, entry.name, TODAY, thief).entry(0, entry.sealed).gone(),
    ):
        raw = mailbox.sign(thief, NETWORK, worked(bad, 12))
        with pytest.raises(InvalidRecord, match="name"):
            await mallory.dht.put(KIND, raw)
    bob = await village.comes("bob")
    assert [x.payload for x in await bob.box.collect([to(ALICE)])] == [b"x"]


async def test_garbage_under_the_key_is_skipped(village):
    """A holder lies: it serves rubbish, forgeries and copies beside what is there."""
    alice = await village.comes("alice")
    alice.box.post(to(BOB), 0, b"x")
    await alice.box.round()
    box = box_of(ALICE, BOB)
    await until(lambda: sum(map(bool, village.held(box.key))) >= K - 1)
    liar = min(village.holders, key=lambda n: distance(dht_id(n.id), box.key))
    good = mailbox.parse(liar.dht.stored(KIND, box.key)[0].raw, NETWORK, NOW)
    elsewhere = box_of(BOB, ALICE)
    lies = [
        os.urandom(800),
        box.sign(good)[:-1] + b"\0",
        elsewhere.sign(entry_of(elsewhere, ALICE)),
        box.sign(worked(box.entry(3, os.urandom(560)))),  # signed in the box, sealed to nobody
        box.sign(worked(box.entry(4, good.sealed))),  # a copy in another place
    ]
    served = []
    real = liar.dht._answers._page

    def lie(*args):
        peers, raws, cursor = real(*args)
        if raws:
            served.append(1)
            raws = [*lies, *raws]
        return peers, raws, cursor

    liar.dht._answers._page = lie
    bob = await village.comes("bob")
    found = await bob.box.collect([to(ALICE)])
    assert served  # the fault fired
    assert [x.payload for x in found] == [b"x"]


async def test_run_delivers_between_nodes_that_are_both_there(village):
    alice, bob = await village.comes("alice"), await village.comes("bob")
    async with trio.open_nursery() as nursery:
        await nursery.start(alice.box.run)
        await nursery.start(bob.box.run)
        alice.box.post(to(BOB), 0, b"x")
        with trio.fail_after(20):
            while not (found := await bob.box.collect([to(ALICE)])):
                await trio.lowlevel.checkpoint()
        for letter in found:
            bob.box.applied(letter)
        await until(lambda: not any(village.held(box_of(ALICE, BOB).key)))
        assert village.clock.now() < NOW + DAY
        nursery.cancel_scope.cancel()
