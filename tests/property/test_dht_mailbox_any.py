"""Mailboxes: any bytes make one error; seals, padding and parts come back; death at any step.

A death is ordered before or after each put and get, and before each statement, before
and after each commit of either peer's database. Afterwards the peer starts again with its database alone. Whatever the step,
the letters are applied exactly once: the journal's UNIQUE fails on a second time, and what
is applied is committed with the mailbox's own word for it.
"""

import hashlib
from dataclasses import replace

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mailbox_kit import (
    ALICE,
    BOB,
    NETWORK,
    NOW,
    TODAY,
    TRADE,
    Clock,
    Crash,
    Net,
    Node,
    Steps,
    closed,
    entry_of,
    sealed_part,
    secret,
    to,
    worked,
)

from dht import letters, mailbox
from dht.mailbox import DAY, DELETED, KIND, STEPS
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord
from p2pnode.base.identity import seal

GOOD = closed().sign(entry_of(closed()))
VALUES = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.binary(max_size=70),
    st.text(max_size=40),
    st.lists(st.integers(0, 3), max_size=3),
)


def is_refused_or(parse, *args):
    try:
        return parse(*args)
    except InvalidRecord:
        return None


# ------------------------------------------------------------------ any bytes


@given(st.binary(max_size=2000))
def test_any_bytes_are_one_error(raw):
    assert is_refused_or(mailbox.parse, raw, NETWORK, NOW) is None


@given(st.data())
def test_a_changed_byte_is_one_error(data):
    raw = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    if bytes(raw) != GOOD:
        assert is_refused_or(mailbox.parse, bytes(raw), NETWORK, NOW) is None


@given(st.lists(VALUES, max_size=12), st.integers(0, 10), VALUES)
def test_any_signed_body_is_an_entry_or_one_error(values, at, value):
    fields = list(wire.unpack("b", wire.unpack("r", GOOD, limit=1 << 14)[0], limit=1 << 14))
    fields[at] = value
    for array in (values, fields):
        body = wire.pack(array) if values or array is fields else b"\x90"
        signer = closed().signer
        raw = wire.pack([body, signer.sign(wire.tag("sandbox", KIND) + body)])
        entry = is_refused_or(mailbox.parse, raw, NETWORK, NOW)
        assert entry is None or signer.node_id == entry.owner
        if entry is not None:
            assert closed().sign(entry) == raw


@given(st.binary(max_size=600))
def test_anything_sealed_to_us_is_a_letter_or_one_error(plain):
    box = closed()
    for inside in (plain, letters.pad(plain)):
        entry = box.entry(0, seal(BOB.node_id, inside))
        assert is_refused_or(letters.open_part, BOB, box, entry) is None
        word = letters.word_box(NETWORK, secret(), BOB.node_id, TODAY).entry(0, entry.sealed)
        assert is_refused_or(letters.open_word, BOB, NETWORK, TODAY, word) is None


@given(st.lists(VALUES, max_size=9))
def test_any_fields_sealed_to_us_are_a_letter_or_one_error(values):
    box = closed()
    fields = [*(1, "sandbox", box.name, 0), *values]
    entry = box.entry(0, seal(BOB.node_id, letters.pad(wire.pack(fields))))
    found = is_refused_or(letters.open_part, BOB, box, entry)
    if found is not None:
        assert 0 <= found.part < found.parts <= letters.MAX_PARTS
    assert is_refused_or(letters.open_word, BOB, NETWORK, TODAY, entry) is None


@given(st.binary(max_size=700))
def test_any_bytes_unseal_to_one_error(sealed):
    assert is_refused_or(BOB.unseal, sealed) is None


@given(st.binary(min_size=32, max_size=32))
@example(bytes(32))
@example(b"\xff" * 32)
def test_any_key_is_sealed_to_or_one_error(node_id):
    sealed = is_refused_or(seal, node_id, b"x")
    shared = is_refused_or(ALICE.shared_secret, node_id)
    assert (sealed is None) == (shared is None)
    if shared is not None:
        assert any(shared.reveal())


# ------------------------------------------------------------------ there and back


@given(st.binary(max_size=STEPS[-1] - 4))
@example(bytes(STEPS[0] - 4))
@example(bytes(STEPS[0] - 3))
@example(bytes(STEPS[-1] - 4))
def test_padding_comes_back_and_is_a_step(plain):
    padded = letters.pad(plain)
    assert len(padded) in STEPS
    assert letters.unpad(padded) == plain


@given(st.binary(max_size=2000))
def test_padding_has_one_spelling(padded):
    plain = is_refused_or(letters.unpad, padded)
    assert plain is None or letters.pad(plain) == padded


@given(
    st.binary(min_size=1, max_size=letters.CHUNK),
    st.integers(0, letters.MAX_NUMBER),
    st.integers(0, 15),
    st.integers(TODAY - 28, TODAY + 1),
    st.integers(0, letters.SHELVES - 1),
)
def test_what_is_sealed_opens_in_its_place(payload, number, slot, day, shelf):
    box = closed(day=day, shelf=shelf)
    entry = entry_of(box, number=number, payload=payload, slot=slot)
    read = mailbox.parse(box.sign(entry), NETWORK, NOW)
    assert read == entry
    theirs = letters.line_secret(BOB, NETWORK, ALICE.node_id, TRADE, outgoing=False)
    part = letters.open_part(BOB, letters.closed_box(NETWORK, theirs, day, shelf), read)
    assert (part.number, part.chunk) == (number, payload)
    gone = mailbox.parse(box.sign(entry.gone()), NETWORK, NOW)
    assert (gone.seq, gone.deleted) == (DELETED, True)


@given(st.randoms(use_true_random=False), st.integers(1, 5 * letters.CHUNK))
def test_parts_in_any_order_are_the_letter(random, size):
    payload = random.randbytes(size)
    chunks, whole = letters.split(payload), hashlib.sha256(payload).digest()
    box, opened = closed(), []
    for index, chunk in enumerate(chunks):
        part = letters.Part(5, index, len(chunks), whole, chunk)
        opened.append((box, box.entry(index, b""), part))
    random.shuffle(opened)
    assert [x.payload for x in letters.joined(to(ALICE), [*opened, *opened])] == [payload]
    assert letters.joined(to(ALICE), opened[1:]) == []


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(0, 12))
def test_work_is_found_where_it_is(start, bits):
    work = mailbox.Work(NETWORK, closed().entry(0, sealed_part(closed())))
    nonce = work.search(bits, start, 1 << 17)
    if nonce is not None:
        assert work.bits(nonce) >= bits
        at = int.from_bytes(nonce, "big")
        assert all(work.bits(n.to_bytes(8, "big")) < bits for n in range(start, at))


# ------------------------------------------------------------------ death at any step

LETTERS = {0: b"first", 1: b"second" * 2500}  # the second in two parts


def send(alice):
    """What the sender's node does: it posts what its journal holds, until it is seen."""
    for number, payload in LETTERS.items():
        alice.box.post(to(BOB), number, payload, word=True)


async def live_on(node, net):
    """Go on with one peer for a while: a round, a reading, the time between."""
    if node.who is ALICE:
        send(node)
    else:
        await node.take(to(ALICE), words=True)
    await node.box.round()


async def story(net, nodes, rounds):
    """Both live, one after the other; whoever dies starts again and does not go on at once."""
    for _ in range(rounds):
        for node in nodes:
            try:
                await live_on(node, net)
            except* Crash:
                node.start()
        net.clock.seconds += 4 * 3600


async def delivered(alice_dies_at, bob_dies_at):
    net = Net(Clock())
    nodes = [Node(ALICE, net, steps=Steps()), Node(BOB, net, steps=Steps())]
    for node, at in zip(nodes, (alice_dies_at, bob_dies_at), strict=True):
        node.steps.taken, node.steps.crash_at = 0, at
    await story(net, nodes, 4)
    fired, taken = ([getattr(n.steps, what) for n in nodes] for what in ("fired", "taken"))
    for node in nodes:
        node.steps.crash_at = None
        await node.box.round()  # what the last round found is done at once, not in four hours
    alice, bob = nodes
    assert bob.got() == list(LETTERS.values()), "not exactly once"
    assert net.live() == [], "entries are left at the holders"
    assert alice.box.counts() == {"waiting": 0, "deletions": 0}
    assert bob.box.counts() == {"waiting": 0, "deletions": 0}
    return fired, taken


def test_a_death_at_any_step_of_either_peer():
    _, counts = trio.run(delivered, None, None)
    assert min(counts) > 30
    print(f"{counts[0]} steps of the sender, {counts[1]} of the recipient")
    for who, count in enumerate(counts):
        for at in range(1, count + 1):
            orders = [None, None]
            orders[who] = at
            try:
                fired, _ = trio.run(delivered, *orders)
            except AssertionError as error:
                pytest.fail(f"{('sender', 'recipient')[who]} died at step {at}: {error}")
            assert fired[who], f"{('sender', 'recipient')[who]} never reached step {at}"


@settings(max_examples=40)
@given(st.integers(1, 120), st.integers(1, 240))
def test_deaths_of_both(one, other):
    trio.run(delivered, one, other)


@settings(max_examples=60)
@given(st.data())
def test_any_order_of_posts_rounds_readings_seen_and_loss(data):
    """Whatever happens in between: applied at most once each, all once the trouble ends."""

    async def play():
        net = Net(Clock())
        alice, bob = Node(ALICE, net), Node(BOB, net)
        posted = {}
        for _ in range(data.draw(st.integers(1, 14))):
            what = data.draw(
                st.sampled_from(
                    ["post", "alice", "bob", "lose", "down", "restart", "wait", "replay"]
                )
            )
            if what == "post":
                number = len(posted)
                posted[number] = b"letter %d" % number
                alice.box.post(to(BOB), number, posted[number])
            elif what == "alice":
                await alice.box.round()
            elif what == "bob":
                await bob.take(to(ALICE))
                await bob.box.round()
            elif what == "lose" and net.held:
                net.held.pop(data.draw(st.sampled_from(sorted(net.held))))
            elif what == "down":
                net.down = not net.down
            elif what == "restart":
                alice.start()
                bob.start()
            elif what == "wait":
                net.clock.seconds += data.draw(st.integers(1, 2 * DAY))
            elif what == "replay" and net.puts and not net.down:
                record = data.draw(st.sampled_from(net.puts))
                if record.expires_at > net.clock.now():
                    await net.put(KIND, record.raw)
        net.down = False
        for _ in range(4):
            net.clock.seconds += 20 * 3600
            for number, payload in posted.items():
                alice.box.post(to(BOB), number, payload)
            await alice.box.round()
            await bob.take(to(ALICE))
            await bob.box.round()
            await alice.box.round()
        assert sorted(bob.got()) == sorted(posted.values())
        assert net.live() == []

    trio.run(play)


@given(st.lists(st.sampled_from(["live", "gone", "again"]), min_size=1, max_size=6))
def test_a_deletion_is_final_in_whatever_order_versions_come(order):
    """`again`: the sender has done more work for it, under a higher seq."""
    entry = entry_of(closed())
    versions = {
        "live": entry,
        "gone": entry.gone(),
        "again": worked(replace(entry, seq=1), start=int.from_bytes(entry.nonce, "big") + 1),
    }

    async def play():
        net = Net(Clock())
        for which in order:
            await net.put(KIND, closed().sign(versions[which]))
        assert (net.live() == []) == ("gone" in order)

    trio.run(play)
