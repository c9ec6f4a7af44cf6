"""Mailboxes: the format field by field, who may write and delete, what links to what, the shell.

Vectors: tests/vectors/mailbox.json, recomputed here by msgpack, hashlib and `cryptography`.
"""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from mailbox_kit import (
    ALICE,
    BOB,
    CAROL,
    NETWORK,
    NOW,
    TODAY,
    TRADE,
    Clock,
    Net,
    Node,
    closed,
    entry_of,
    flood,
    identity,
    kinds,
    sealed_part,
    secret,
    to,
    worked,
)
from nacl.bindings import crypto_box_open

from dht import letters, mailbox, shell_mailbox, shell_mailread
from dht.keys import record_key
from dht.mailbox import BOUNDS, CLOSED, DAY, DELETED, KIND, OPEN, PER_KEY, STEPS, Work
from dht.records import MAX_LIFETIME, MAX_PER_OWNER_AND_KEY, merge
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, LocalFault, StorageFault, Unreachable
from p2pnode.base.identity import Identity, seal
from p2pnode.base.networks import NETWORKS
from p2pnode.base.store import Database

VECTORS = Path(__file__).parents[1] / "vectors" / "mailbox.json"
SMALL = [
    bytes(32),
    b"\1" + bytes(31),
    bytes.fromhex("ec" + "ff" * 30 + "7f"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
]


# ------------------------------------------------------------------ vectors


def h(kind, array):
    tag = f"p2pnode/sandbox/{kind}/1".encode() + b"\0"
    return hashlib.sha256(tag + msgpack.packb(array, use_bin_type=True)).digest()


def x25519(seed, public):
    """RFC 7748 with the keys that RFC 8032's convert to, by another library."""
    p = 2**255 - 19
    y = int.from_bytes(public, "little") & ((1 << 255) - 1)
    u = (1 + y) * pow(1 - y, -1, p) % p
    own = X25519PrivateKey.from_private_bytes(hashlib.sha512(seed).digest()[:32])
    return own, u.to_bytes(32, "little")


def public_of(seed):
    key = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def vectors():
    """Made once: what is sealed is random. P2PNODE_RENEW=1 makes them anew."""
    box = closed()
    part = box.sign(entry := entry_of(box, number=7, slot=3, payload=b"sealed for Bob"))
    word_box = letters.word_box(NETWORK, secret(), BOB.node_id, TODAY)
    word = worked(word_box.entry(0, letters.seal_word(word_box, BOB.node_id, ALICE.node_id, TRADE)))
    return {
        "network": NETWORK.name,
        "sender_seed": ALICE.secret_seed().hex(),
        "recipient_seed": BOB.secret_seed().hex(),
        "trade_id": TRADE.hex(),
        "day": TODAY,
        "now": NOW,
        "line": secret().reveal().hex(),
        "closed": [
            {
                "shelf": shelf,
                "owner": closed(shelf=shelf).signer.node_id.hex(),
                "name": closed(shelf=shelf).name.hex(),
                "key": closed(shelf=shelf).key.hex(),
            }
            for shelf in range(2)
        ],
        "open": {
            "owner": word_box.signer.node_id.hex(),
            "name": word_box.name.hex(),
            "key": word_box.key.hex(),
        },
        "letter": {
            "number": 7,
            "slot": 3,
            "payload": b"sealed for Bob".hex(),
            "record": part.hex(),
        },
        "deletion": box.sign(entry.gone()).hex(),
        "word": word_box.sign(word).hex(),
    }


@pytest.fixture(scope="module")
def stored():
    if os.environ.get("P2PNODE_RENEW"):
        VECTORS.write_text(json.dumps(vectors(), indent=1) + "\n")
    return json.loads(VECTORS.read_text())


def test_the_places_by_other_means(stored):
    """X25519 of `cryptography`, msgpack and SHA-256 alone, as docs/wire/mailbox.md says."""
    a, b = bytes.fromhex(stored["sender_seed"]), bytes.fromhex(stored["recipient_seed"])
    sender, recipient = public_of(a), public_of(b)
    own, theirs = x25519(a, recipient)
    shared = own.exchange(X25519PublicKey.from_public_bytes(theirs))
    other, back = x25519(b, sender)
    assert shared == other.exchange(X25519PublicKey.from_public_bytes(back))
    line = h("mailbox-line", [shared, bytes.fromhex(stored["trade_id"]), sender, recipient])
    assert line.hex() == stored["line"] == secret().reveal().hex()
    for box in stored["closed"]:
        owner = public_of(h("mailbox-seed", [line, stored["day"], box["shelf"]]))
        name = h("mailbox-name", [owner])
        key = h("dht-key", ["mailbox", f"closed {name.hex()}", 0])
        assert (owner.hex(), name.hex(), key.hex()) == (box["owner"], box["name"], box["key"])
        made = closed(shelf=box["shelf"])
        assert (made.signer.node_id, made.name, made.key) == (owner, name, key)
    owner = public_of(h("mailbox-word-seed", [line, stored["day"]]))
    name = h("mailbox-word", [recipient, stored["day"]])
    key = h("dht-key", ["mailbox", f"open {name.hex()}", 0])
    found = stored["open"]
    assert (owner.hex(), name.hex(), key.hex()) == (found["owner"], found["name"], found["key"])
    assert letters.word_key(NETWORK, BOB.node_id, TODAY) == key


def opened(stored, record):
    """Check and open a record by msgpack, hashlib, `cryptography` and crypto_box alone."""
    body, signature = msgpack.unpackb(bytes.fromhex(record), use_list=False)
    fields = msgpack.unpackb(body, use_list=False)
    version, net, door, name, owner, number, _, expires_at, digest, nonce, sealed = fields
    assert (version, net) == (1, "sandbox")
    Ed25519PublicKey.from_public_bytes(owner).verify(
        signature, b"p2pnode/sandbox/mailbox/1\0" + body
    )
    head = h("mailbox-head", [door, name, owner, number, expires_at, digest])
    assert h("mailbox-work", [head, nonce])[0] == 0
    assert expires_at == (stored["day"] + 29) * 86400
    if sealed:
        assert hashlib.sha256(sealed).digest() == digest
        recipient = bytes.fromhex(stored["recipient_seed"])
        own, theirs = x25519(recipient, public_of(recipient))
        box_nonce = hashlib.blake2b(sealed[:32] + theirs, digest_size=24).digest()
        plain = crypto_box_open(sealed[32:], box_nonce, sealed[:32], own.private_bytes_raw())
        size = int.from_bytes(plain[:4], "big")
        assert not any(plain[4 + size :])
        assert len(plain) == 512
        return fields, msgpack.unpackb(plain[4 : 4 + size], use_list=False)
    return fields, None


def test_the_letter_the_word_and_the_deletion_by_other_means(stored):
    fields, inner = opened(stored, stored["letter"]["record"])
    name, payload = bytes.fromhex(stored["closed"][0]["name"]), b"sealed for Bob"
    assert (fields[2], fields[3], fields[5], fields[6]) == (0, name, 3, 0)
    assert inner == (1, "sandbox", name, 3, 7, 0, 1, hashlib.sha256(payload).digest(), payload)
    gone, nothing = opened(stored, stored["deletion"])
    assert nothing is None
    assert gone == (*fields[:6], 2**53 - 1, *fields[7:10], b"")
    word, inner = opened(stored, stored["word"])
    name = bytes.fromhex(stored["open"]["name"])
    assert (word[2], word[3], word[5]) == (1, name, 0)
    assert inner == (1, "sandbox", name, 0, ALICE.node_id, TRADE)


def test_the_vectors_are_read_and_written_back(stored):
    raw = bytes.fromhex(stored["letter"]["record"])
    entry = mailbox.parse(raw, NETWORK, NOW)
    assert letters.open_part(BOB, closed(), entry).chunk == b"sealed for Bob"
    assert closed().sign(entry) == raw
    assert closed().sign(entry.gone()).hex() == stored["deletion"]
    word = mailbox.parse(bytes.fromhex(stored["word"]), NETWORK, NOW)
    assert letters.open_word(BOB, NETWORK, TODAY, word)[:2] == (ALICE.node_id, TRADE)


# ------------------------------------------------------------------ the format


def signed(signer=None, **change):
    """A closed entry with fields changed, its work done and signed anew."""
    box = closed()
    entry = replace(entry_of(box), **change)
    signer = signer or box.signer
    return mailbox.sign(signer, NETWORK, worked(replace(entry, owner=signer.node_id)))


def body_of(raw):
    return list(wire.unpack("b", wire.unpack("r", raw, limit=1 << 14)[0], limit=1 << 14))


def again(fields, signer=None):
    body = wire.pack(fields)
    return wire.pack([body, (signer or closed().signer).sign(wire.tag("sandbox", KIND) + body)])


GOOD = signed()
MIDNIGHT = (TODAY + 29) * DAY
FIELDS = {
    "version": (0, [0, 2, b"1"]),
    "network": (1, ["main", "regtest", "", 7]),
    "door": (2, [2, -1, b"", "0"]),
    "name": (3, [bytes(32), bytes(31), b"", "x" * 32]),
    "owner": (4, [bytes(31), bytes(33), 1]),
    "number": (5, [-1, 16, b"\0", 2**53]),
    "seq": (6, [-1, 2**53, "1"]),
    "expires_at": (7, [MIDNIGHT + 1, NOW, (TODAY + 31) * DAY, 0, -1, 2**41, b""]),
    "digest": (8, [bytes(32), bytes(31), 0]),
    "nonce": (9, [bytes(7), bytes(9), 0, b""]),
    "sealed": (10, [b"", bytes(559), bytes(561), bytes(11_825), "x"]),
}


@pytest.mark.parametrize(
    ("field", "at", "bad"),
    [(name, at, bad) for name, (at, worse) in FIELDS.items() for bad in worse],
)
def test_a_field_out_of_bounds_is_named(field, at, bad):
    fields = body_of(GOOD)
    fields[at] = bad
    with pytest.raises(InvalidRecord) as caught:
        mailbox.parse(again(fields), NETWORK, NOW)
    assert caught.value.field == field


@pytest.mark.parametrize("at", range(11))
def test_every_field_is_signed(at):
    fields = body_of(GOOD)
    signature = wire.unpack("r", GOOD, limit=1 << 14)[1]
    old = fields[at]
    if type(old) is int:
        fields[at] = old + 1
    else:
        fields[at] = old[:-1] + "y" if type(old) is str else old[:-1] + bytes([old[-1] ^ 1])
    with pytest.raises(InvalidRecord):
        mailbox.parse(wire.pack([wire.pack(fields), signature]), NETWORK, NOW)


@pytest.mark.parametrize(
    "raw",
    [b"", b"\x90", b"\xc1", GOOD[:-1], GOOD + b"\0", bytes(12 * 1024 + 1), "x", None, 7],
    ids=repr,
)
def test_what_is_no_record_is_refused(raw):
    with pytest.raises(InvalidRecord):
        mailbox.parse(raw, NETWORK, NOW)


@pytest.mark.parametrize("count", [0, 10, 12])
def test_more_or_fewer_fields_are_refused(count):
    fields = [*body_of(GOOD), 0][:count]
    with pytest.raises(InvalidRecord):
        mailbox.parse(again(fields), NETWORK, NOW)


@pytest.mark.parametrize("name", ["main", "testnet4", "signet", "regtest"])
def test_nothing_is_valid_on_another_network(name):
    with pytest.raises(InvalidRecord):
        mailbox.parse(GOOD, NETWORKS[name], NOW)


def test_a_signature_of_another_kind_or_key_is_refused():
    fields = body_of(GOOD)
    body = wire.pack(fields)
    for bad in (
        CAROL.sign(wire.tag("sandbox", KIND) + body),
        closed().signer.sign(wire.tag("sandbox", "address") + body),
        bytes(64),
        b"",
    ):
        with pytest.raises(InvalidRecord, match="signature"):
            mailbox.parse(wire.pack([body, bad]), NETWORK, NOW)


@pytest.mark.parametrize("owner", SMALL)
def test_a_one_time_key_of_small_order_signs_nothing(owner):
    fields = body_of(GOOD)
    fields[4], fields[3] = owner, mailbox.closed_name(NETWORK, owner)
    for nonce in range(4000):  # until the work is right, so that the signature decides
        fields[9] = nonce.to_bytes(8, "big")
        body = wire.pack(fields)
        with pytest.raises(InvalidRecord) as caught:
            mailbox.parse(wire.pack([body, owner + bytes(32)]), NETWORK, NOW)
        if caught.value.field == "signature":
            return
    pytest.fail("no nonce had the work")


def test_the_largest_entry_fits_the_bound_and_the_kind_registers():
    box = closed()
    chunk = bytes(letters.CHUNK)
    part = letters.Part(letters.MAX_NUMBER, 95, 96, bytes(32), chunk)
    entry = worked(box.entry(15, letters.seal_part(box, BOB.node_id, 15, part)))
    raw = box.sign(replace(entry, seq=DELETED - 1))
    assert len(entry.sealed) == STEPS[-1] + 48
    assert len(raw) < BOUNDS.record_bytes == 12 * 1024
    record = kinds().accept(KIND, raw, NOW)
    assert (record.owner, record.id, record.key) == (box.signer.node_id, b"\x0f", box.key)
    assert record.rank >= NETWORK.mailbox_bits
    longest = max(len(name) for name in NETWORKS)
    assert len(raw) + longest - len("sandbox") < BOUNDS.record_bytes
    assert letters.MAX_PAYLOAD > 1 << 20  # a whole trade message
    assert letters.MAX_PARTS <= letters.SHELVES * mailbox.SLOTS
    assert mailbox.SLOTS <= MAX_PER_OWNER_AND_KEY


def test_sizes_say_no_more_than_a_step():
    box, sizes = closed(), {}
    for length in (1, 200, 400, 500, 1400, 1500, 4000, 5000, letters.CHUNK):
        sizes.setdefault(len(sealed_part(box, payload=bytes(length))), []).append(length)
    assert list(sizes) == [step + 48 for step in STEPS]
    assert [len(v) for v in sizes.values()] == [3, 2, 2, 2]


@pytest.mark.parametrize("day", [TODAY - 28, TODAY, TODAY + 1])
def test_an_entry_lives_while_its_day_is_read(day):
    raw = closed(day=day).sign(entry_of(closed(day=day)))
    assert mailbox.parse(raw, NETWORK, NOW).expires_at <= NOW + MAX_LIFETIME
    end = (day + 29) * DAY
    mailbox.parse(raw, NETWORK, end - 1)
    with pytest.raises(InvalidRecord, match="expires_at"):
        mailbox.parse(raw, NETWORK, end)


@pytest.mark.parametrize("day", [TODAY - 29, TODAY + 2])
def test_an_entry_of_another_day_is_refused(day):
    with pytest.raises(InvalidRecord, match="expires_at"):
        mailbox.parse(closed(day=day).sign(entry_of(closed(day=day))), NETWORK, NOW)


# ------------------------------------------------------------------ work and quota


def test_work_is_bound_to_everything_but_seq_and_cannot_be_reused():
    entry = entry_of(closed())
    bits = NETWORK.mailbox_bits
    assert Work(NETWORK, entry).bits(entry.nonce) >= bits
    assert Work(NETWORK, replace(entry, seq=9)).bits(entry.nonce) >= bits
    lost = 0
    for change in (
        {"door": OPEN},
        {"name": bytes(32)},
        {"owner": bytes(32)},
        {"number": 1},
        {"expires_at": entry.expires_at + DAY},
        {"digest": bytes(32)},
    ):
        lost += Work(NETWORK, replace(entry, **change)).bits(entry.nonce) < bits
    lost += Work(NETWORKS["regtest"], entry).bits(entry.nonce) < bits
    assert lost >= 5  # each keeps it by chance once in 256


def lazy(entries):
    """The first of these that has not the work by chance."""
    return next(e for e in entries if Work(NETWORK, e).bits(e.nonce) < NETWORK.mailbox_bits)


def test_an_entry_without_work_is_refused():
    entry = entry_of(closed())
    bad = lazy(replace(entry, nonce=n.to_bytes(8, "big")) for n in range(99))
    with pytest.raises(InvalidRecord, match="nonce"):
        mailbox.parse(closed().sign(bad), NETWORK, NOW)


def test_public_networks_ask_for_about_a_second():
    assert {NETWORKS[name].mailbox_bits for name in ("main", "testnet4", "signet")} == {20}
    assert {NETWORKS[name].mailbox_bits for name in ("regtest", "sandbox")} == {8}


def word(sender=CAROL, recipient=BOB, day=TODAY, bits=None):
    line = secret(sender, recipient)
    box = letters.word_box(NETWORK, line, recipient.node_id, day)
    sealed = letters.seal_word(box, recipient.node_id, sender.node_id, TRADE)
    return box, worked(box.entry(0, sealed), bits)


def test_a_full_mailbox_keeps_the_most_work():
    admit = kinds()
    box, entry = word(bits=12)
    honest = admit.accept(KIND, box.sign(entry), NOW)
    weak = admit.accept(KIND, word(sender=ALICE)[0].sign(word(sender=ALICE)[1]), NOW)
    crowd = [admit.accept(KIND, raw, NOW) for raw in flood(PER_KEY + 16, 9)]
    kept = merge([weak, honest], crowd, per_key=BOUNDS.per_key)
    assert len(kept) == PER_KEY
    assert honest in kept
    assert min(r.rank for r in kept) >= sorted(r.rank for r in [*crowd, weak, honest])[-PER_KEY]


def test_an_open_box_takes_small_entries_of_one_number_alone():
    box, entry = word()
    mailbox.parse(box.sign(entry), NETWORK, NOW)
    large = os.urandom(STEPS[1] + 48)
    for bad, field in (
        ({"number": 1}, "number"),
        ({"sealed": large, "digest": hashlib.sha256(large).digest()}, "sealed"),
    ):
        with pytest.raises(InvalidRecord) as caught:
            mailbox.parse(box.sign(worked(replace(entry, **bad))), NETWORK, NOW)
        assert caught.value.field == field


# ------------------------------------------------------------------ who writes, who deletes


def test_nobody_else_writes_into_a_closed_box():
    """A holder knows name and key of what he holds: he can fill neither."""
    box, mallory = closed(), Identity(bytes(32))
    entry = worked(replace(entry_of(box), owner=mallory.node_id))
    with pytest.raises(InvalidRecord, match="name"):
        mailbox.parse(mailbox.sign(mallory, NETWORK, entry), NETWORK, NOW)
    elsewhere = replace(entry, name=mailbox.closed_name(NETWORK, mallory.node_id))
    record = mailbox.validator(NETWORK)(mailbox.sign(mallory, NETWORK, worked(elsewhere)), NOW)
    assert record.key != box.key
    beside = replace(entry, door=OPEN)  # an open box of that name is another place
    raw = mailbox.sign(mallory, NETWORK, worked(beside))
    assert mailbox.validator(NETWORK)(raw, NOW).key != box.key


def test_either_side_deletes_and_both_write_the_same_bytes():
    entry = entry_of(closed())
    theirs = letters.line_secret(BOB, NETWORK, ALICE.node_id, TRADE, outgoing=False)
    by_bob = letters.closed_box(NETWORK, theirs, TODAY, 0)
    gone = closed().sign(entry.gone())
    assert by_bob.sign(entry.gone()) == gone
    admit = kinds()
    live, dead = (admit.accept(KIND, raw, NOW) for raw in (closed().sign(entry), gone))
    for order in ([live, dead], [dead, live]):
        assert merge(order) == (dead,)
    risen = admit.accept(KIND, closed().sign(replace(entry, seq=DELETED - 1)), NOW)
    assert merge([dead, risen]) == (dead,)  # final


def test_nobody_else_deletes():
    entry, mallory = entry_of(closed()), Identity(bytes(32))
    forged = replace(entry.gone(), owner=mallory.node_id)
    with pytest.raises(InvalidRecord, match="name"):
        mailbox.parse(mailbox.sign(mallory, NETWORK, worked(forged)), NETWORK, NOW)
    body = wire.unpack("r", closed().sign(entry.gone()), limit=1 << 14)[0]
    stolen = wire.pack([body, mallory.sign(wire.tag("sandbox", KIND) + body)])
    with pytest.raises(InvalidRecord, match="signature"):
        mailbox.parse(stolen, NETWORK, NOW)
    with pytest.raises(ValueError, match="does not belong"):
        mailbox.sign(mallory, NETWORK, entry)


def test_a_deletion_carries_the_work_of_its_entry_and_one_without_is_refused():
    entry = entry_of(closed())
    gone = mailbox.parse(closed().sign(entry.gone()), NETWORK, NOW)
    assert (gone.digest, gone.nonce, gone.sealed) == (entry.digest, entry.nonce, b"")
    for bad, field in (
        (
            {"digest": lazy(replace(entry, digest=bytes([i]) * 32) for i in range(99)).digest},
            "nonce",
        ),
        ({"nonce": lazy(replace(entry, nonce=bytes([i]) * 8) for i in range(99)).nonce}, "nonce"),
        ({"sealed": entry.sealed}, "sealed"),
        ({"seq": DELETED - 1}, "sealed"),
    ):
        with pytest.raises(InvalidRecord) as caught:
            mailbox.parse(closed().sign(replace(entry.gone(), **bad)), NETWORK, NOW)
        assert caught.value.field == field


# ------------------------------------------------------------------ what opens where


def test_a_copy_opens_nowhere_else():
    """Each copied ciphertext below is properly signed, by whoever could sign there."""
    box = closed()
    good = entry_of(box, slot=0)
    assert letters.open_part(BOB, box, good).chunk == b"hello"
    other_number = replace(good, number=1)
    with pytest.raises(InvalidRecord, match="letter"):
        letters.open_part(BOB, box, other_number)
    for elsewhere in (
        closed(day=TODAY + 1),
        closed(shelf=1),
        closed(trade_id=bytes(32)),
        closed(CAROL, BOB),
        closed(BOB, ALICE),
    ):
        copy = worked(elsewhere.entry(0, good.sealed))
        mailbox.parse(elsewhere.sign(copy), NETWORK, NOW)  # holders cannot tell
        with pytest.raises(InvalidRecord):
            letters.open_part(BOB, elsewhere, copy)
        with pytest.raises(InvalidRecord):
            letters.open_part(BOB, box, copy)
    with pytest.raises(InvalidRecord, match="sealed"):
        letters.open_part(CAROL, box, good)


def test_an_entry_that_would_outlive_its_box_is_refused():
    box, good = closed(), entry_of(closed())
    longer = worked(replace(good, expires_at=good.expires_at + DAY))
    mailbox.parse(box.sign(longer), NETWORK, NOW)
    with pytest.raises(InvalidRecord, match="another day"):
        letters.open_part(BOB, box, longer)


def test_what_was_sealed_on_another_network_is_refused():
    foreign = replace(closed(), network=NETWORKS["regtest"])
    entry = closed().entry(0, sealed_part(foreign))
    with pytest.raises(InvalidRecord, match="letter"):
        letters.open_part(BOB, closed(), entry)


BAD_INSIDE = {
    "number": {4: -1},
    "number too high": {4: 2**31},
    "part": {5: 96},
    "part beyond parts": {5: 3, 6: 3},
    "no parts": {6: 0},
    "too many parts": {6: 97},
    "whole": {7: bytes(31)},
    "empty chunk": {8: b""},
    "long chunk": {8: bytes(letters.CHUNK + 1)},
    "short chunk that is not the last": {5: 0, 6: 2},
    "version": {0: 2},
    "text for bytes": {8: "x"},
}


@pytest.mark.parametrize("what", BAD_INSIDE)
def test_a_wrong_letter_inside_a_good_seal_is_refused(what):
    box = closed()
    inner = [1, "sandbox", box.name, 0, 0, 0, 1, bytes(32), b"x"]
    letters.open_part(BOB, box, box.entry(0, seal(BOB.node_id, letters.pad(wire.pack(inner)))))
    for at, bad in BAD_INSIDE[what].items():
        inner[at] = bad
    entry = box.entry(0, seal(BOB.node_id, letters.pad(wire.pack(inner))))
    with pytest.raises(InvalidRecord):
        letters.open_part(BOB, box, entry)


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        bytes(3),
        bytes(512),
        (508).to_bytes(4, "big") + bytes(507),
        (1).to_bytes(4, "big") + b"\x90" + bytes(506) + b"\1",
        (1).to_bytes(4, "big") + b"\x90" + bytes(1531),
        (2**32 - 1).to_bytes(4, "big") + bytes(508),
    ],
    ids=["empty", "short", "no letter", "cut", "not zeros", "too large a step", "huge"],
)
def test_wrong_padding_inside_a_good_seal_is_refused(plain):
    entry = closed().entry(0, seal(BOB.node_id, plain))
    with pytest.raises(InvalidRecord):
        letters.open_part(BOB, closed(), entry)


def test_a_word_proves_its_sender():
    _, entry = word()
    assert letters.open_word(BOB, NETWORK, TODAY, entry)[:2] == (CAROL.node_id, TRADE)
    forger = letters.word_box(NETWORK, secret(ALICE), BOB.node_id, TODAY)
    for sender, trade_id in ((CAROL.node_id, TRADE), (ALICE.node_id, bytes(32))):
        sealed = letters.seal_word(forger, BOB.node_id, sender, trade_id)
        with pytest.raises(InvalidRecord, match="did not write"):
            letters.open_word(BOB, NETWORK, TODAY, forger.entry(0, sealed))
    copied = forger.entry(0, entry.sealed)  # the ciphertext under another throwaway key
    with pytest.raises(InvalidRecord, match="did not write"):
        letters.open_word(BOB, NETWORK, TODAY, copied)
    with pytest.raises(InvalidRecord):
        letters.open_word(BOB, NETWORK, TODAY + 1, entry)
    with pytest.raises(InvalidRecord, match="expires_at"):
        late = replace(entry, expires_at=entry.expires_at + DAY)
        letters.open_word(BOB, NETWORK, TODAY, late)
    with pytest.raises(InvalidRecord):
        letters.open_word(CAROL, NETWORK, TODAY, entry)


@pytest.mark.parametrize("bad", [*SMALL, b"\xff" * 32, b"\2" + bytes(31), bytes(31), b""])
def test_a_key_of_small_order_or_none_is_refused_everywhere(bad):
    for use in (
        lambda: seal(bad, b"x"),
        lambda: ALICE.shared_secret(bad),
        lambda: letters.line_secret(ALICE, NETWORK, bad, TRADE, outgoing=True),
    ):
        with pytest.raises(InvalidRecord):
            use()
    node = Node(ALICE, Net(Clock()))
    with pytest.raises(InvalidRecord):
        node.box.post(letters.Line(bad, TRADE), 0, b"x")


def test_a_line_to_oneself_is_refused():
    with pytest.raises(InvalidRecord, match="peer"):
        letters.line_secret(ALICE, NETWORK, ALICE.node_id, TRADE, outgoing=True)


@pytest.mark.parametrize("sealed", [b"", bytes(47), bytes(48), bytes(560)])
def test_what_is_not_sealed_to_us_does_not_open(sealed):
    with pytest.raises(InvalidRecord, match="sealed"):
        BOB.unseal(sealed)


def test_no_secret_is_shown():
    line, box = secret(), closed()
    shown = repr((line, box, entry_of(box), ALICE, ALICE.shared_secret(BOB.node_id)))
    seed = h("mailbox-seed", [line.reveal(), TODAY, 0])
    assert Identity(seed).node_id == box.signer.node_id
    for hidden in (line.reveal(), seed, ALICE.shared_secret(BOB.node_id).reveal()):
        assert hidden.hex() not in shown
        assert repr(hidden)[2:-1] not in shown


# ------------------------------------------------------------------ what links to what


def test_keys_of_two_days_directions_trades_or_peers_share_nothing():
    boxes = [
        closed(a, b, trade, TODAY + day, shelf)
        for a, b in ((ALICE, BOB), (BOB, ALICE), (ALICE, CAROL), (CAROL, BOB))
        for trade in (TRADE, bytes(32))
        for day in range(3)
        for shelf in range(2)
    ]
    for part in (lambda b: b.key, lambda b: b.name, lambda b: b.signer.node_id):
        values = [part(box) for box in boxes]
        assert len({v[:6] for v in values}) == len(values)
    words = [
        letters.word_box(NETWORK, secret(a, b), b.node_id, TODAY + day)
        for a, b in ((ALICE, BOB), (CAROL, BOB), (ALICE, CAROL))
        for day in range(2)
    ]
    owners = {box.signer.node_id for box in (*boxes, *words)}
    assert len(owners) == len(boxes) + len(words)


def test_both_sides_find_the_same_box_and_a_watcher_does_not():
    theirs = letters.line_secret(BOB, NETWORK, ALICE.node_id, TRADE, outgoing=False)
    assert theirs.reveal() == secret().reveal()
    # Carol knows both node ids, the trade and the day; she has only her own secrets.
    guesses = {
        letters.line_secret(CAROL, NETWORK, peer.node_id, TRADE, outgoing=outgoing).reveal()
        for peer in (ALICE, BOB)
        for outgoing in (True, False)
    }
    public = {
        wire.digest(wire.tag("sandbox", "mailbox-line"), [key, TRADE, ALICE.node_id, BOB.node_id])
        for key in (bytes(32), ALICE.node_id, BOB.node_id)
    }
    assert secret().reveal() not in guesses | public
    known = {record_key(NETWORK, KIND, text) for text in (ALICE.node_id.hex(), TRADE.hex())}
    assert closed().key not in known


async def test_holders_see_no_node_id_trade_or_number():
    """What lies at the holders after a long message: names, steps, days; no bytes of anybody."""
    net = Net(Clock())
    alice = Node(ALICE, net)
    alice.box.post(to(BOB), 4242, os.urandom(30_000), word=True)
    await alice.box.round()
    raws = [r.raw for records in net.held.values() for r in records]
    assert len(raws) == 4
    for raw in raws:
        for known in (ALICE.node_id, BOB.node_id, TRADE, ALICE.shared_secret(BOB.node_id).reveal()):
            assert known not in raw
    assert {e.number for e in net.live()} == {0, 1, 2}  # places, not the message's number
    assert {e.expires_at % DAY for e in net.live()} == {0}
    second = Node(ALICE, Net(Clock(NOW + DAY)))
    second.box.post(to(BOB), 4243, b"next")
    await second.box.round()
    assert [e.number for e in second.net.live()] == [0]  # no count runs over the days


def test_no_secret_lies_in_the_database(tmp_path):
    path = tmp_path / "db"
    db = Database(path)
    net = Net(Clock())
    box = shell_mailbox.Mailbox(net, ALICE, NETWORK, net.clock, db)
    box.post(to(BOB), 0, b"the words themselves", word=True)
    trio.run(box.round)
    box.seen(to(BOB), 0)
    db.close()
    text = b"".join(p.read_bytes() for p in tmp_path.iterdir())
    line = secret().reveal()
    for hidden in (
        line,
        ALICE.secret_seed(),
        ALICE.shared_secret(BOB.node_id).reveal(),
        h("mailbox-seed", [line, TODAY, 0]),
        h("mailbox-word-seed", [line, TODAY]),
        b"the words themselves",
    ):
        assert hidden not in text
    assert TRADE in text


# ------------------------------------------------------------------ the shell


async def test_a_letter_is_delivered_once_and_nothing_is_left():
    net = Net(Clock())
    alice, bob = Node(ALICE, net), Node(BOB, net)
    alice.box.post(to(BOB), 0, b"first")
    alice.box.post(to(BOB), 1, b"second" * 5000)
    await alice.box.round()
    assert len(net.live()) == 4
    found = await bob.take(to(ALICE))
    assert [x.number for x in found] == [0, 1]
    assert bob.got() == [b"first", b"second" * 5000]
    await bob.box.round()
    assert net.live() == []
    assert await bob.box.collect([to(ALICE)]) == ()
    net.clock.seconds += shell_mailbox.REPUT_S
    puts = len(net.puts)
    await alice.box.round()
    assert (len(net.puts), alice.box.counts()) == (puts, {"waiting": 0, "deletions": 0})


async def test_a_letter_comes_again_until_it_is_applied():
    net = Net(Clock())
    alice, bob = Node(ALICE, net), Node(BOB, net)
    alice.box.post(to(BOB), 0, b"x")
    await alice.box.round()
    for _ in range(3):
        (letter,) = await bob.box.collect([to(ALICE)])
    bob.box.applied(letter)
    bob.box.applied(letter)
    assert await bob.box.collect([to(ALICE)]) == ()
    bob.start()
    assert await bob.box.collect([to(ALICE)]) == ()


async def test_what_is_seen_is_deleted_and_put_no_more():
    net = Net(Clock())
    alice, bob = Node(ALICE, net), Node(BOB, net)
    for number in range(3):
        alice.box.post(to(BOB), number, b"%d" % number)
    await alice.box.round()
    alice.box.seen(to(BOB), 1)  # by the stream, say: Bob never collected
    alice.box.seen(to(BOB), 1)
    assert alice.box.counts() == {"waiting": 1, "deletions": 2}
    await alice.box.round()
    assert [x.number for x in await bob.take(to(ALICE))] == [2]
    alice.box.post(to(BOB), 0, b"0")  # again: nothing, it was seen
    assert alice.box.counts() == {"waiting": 1, "deletions": 0}


async def test_what_was_seen_before_its_first_put_is_never_put():
    net = Net(Clock())
    alice = Node(ALICE, net)
    alice.box.post(to(BOB), 0, b"x")
    alice.box.seen(to(BOB), 0)
    await alice.box.round()
    assert (net.puts, alice.box.counts()) == ([], {"waiting": 0, "deletions": 0})


async def test_a_seen_during_the_work_stops_it(monkeypatch):
    net = Net(Clock())
    alice = Node(ALICE, net)
    alice.box.post(to(BOB), 0, b"x")
    search, calls = Work.search, []

    def slow(self, bits, start, count):
        calls.append(start)
        if len(calls) == 1:
            alice.box.seen(to(BOB), 0)
            return None
        return search(self, bits, 0, 1 << 20)

    monkeypatch.setattr(Work, "search", slow)
    await alice.box.round()
    assert len(calls) == 2
    assert net.puts == []


async def test_the_same_number_twice_is_one_letter_and_another_payload_is_refused():
    net = Net(Clock())
    alice = Node(ALICE, net)
    alice.box.post(to(BOB), 0, b"x")
    alice.box.post(to(BOB), 0, b"x")
    with pytest.raises(LocalFault, match="another letter"):
        alice.box.post(to(BOB), 0, b"y")
    await alice.box.round()
    assert len(net.puts) == 1


async def test_a_post_that_is_rolled_back_was_never_posted():
    net = Net(Clock())
    alice = Node(ALICE, net)
    with pytest.raises(RuntimeError), alice.db.transaction():
        alice.box.post(to(BOB), 0, b"x")
        raise RuntimeError
    await alice.box.round()
    assert net.puts == []


@pytest.mark.parametrize("payload", [b"", bytes(letters.MAX_PAYLOAD + 1), "text"])
def test_a_payload_that_fits_no_mailbox_is_refused(payload):
    with pytest.raises(InvalidRecord):
        Node(ALICE, Net(Clock())).box.post(to(BOB), 0, payload)


@pytest.mark.parametrize("number", [-1, 2**31, b"0"])
def test_a_number_that_is_none_is_refused(number):
    with pytest.raises(InvalidRecord):
        Node(ALICE, Net(Clock())).box.post(to(BOB), number, b"x")


async def test_a_day_holds_128_entries_over_eight_shelves_and_the_next_day_more():
    net = Net(Clock())
    alice, bob = Node(ALICE, net), Node(BOB, net)
    largest = os.urandom(1 << 20)  # 92 parts
    alice.box.post(to(BOB), 0, largest)
    for number in range(1, 37):
        alice.box.post(to(BOB), number, b"%d" % number)
    with pytest.raises(LocalFault, match="full"):
        alice.box.post(to(BOB), 37, b"37")
    await alice.box.round()
    assert len({e.name for e in net.live()}) == letters.SHELVES
    assert max(len(held) for held in net.held.values()) == mailbox.SLOTS
    net.clock.seconds += DAY
    alice.box.post(to(BOB), 37, b"37")
    await alice.box.round()
    await bob.take(to(ALICE))
    assert bob.got() == [largest, *(b"%d" % n for n in range(1, 38))]


async def test_what_nobody_held_is_put_again_and_again():
    net = Net(Clock())
    net.down = True
    alice, pauses = Node(ALICE, net), []
    alice.box.post(to(BOB), 0, b"x")
    for _ in range(12):
        await alice.box.round()
        pauses.append(alice.box._store.next_due() - net.clock.now())
        net.clock.seconds += pauses[-1]
    assert pauses[:3] == [60, 120, 240]
    assert pauses[-1] == shell_mailbox.REPUT_S
    net.down = False
    await alice.box.round()
    assert len(net.live()) == 1
    assert await alice.box.round() == shell_mailbox.LONGEST_SLEEP_S


async def test_it_is_put_again_every_four_hours_the_same_bytes_until_its_day_ends():
    net = Net(Clock())
    alice, bob = Node(ALICE, net), Node(BOB, net)
    alice.box.post(to(BOB), 0, b"x")
    while net.clock.now() < closed().expires_at:
        await alice.box.round()
        net.held.clear()  # every holder has forgotten it
        net.clock.seconds += shell_mailbox.REPUT_S
    assert len({r.raw for r in net.puts}) == 1
    assert len(net.puts) == pytest.approx(29 * 6, abs=7)
    await alice.box.round()
    assert alice.box.counts() == {"waiting": 0, "deletions": 0}
    alice.box.post(to(BOB), 0, b"x")  # its owner still waits: a box of today
    await alice.box.round()
    assert [r.expires_at for r in net.puts[-1:]] == [(net.clock.now() // DAY + 29) * DAY]
    assert [x.payload for x in await bob.take(to(ALICE))] == [b"x"]


async def test_a_clock_set_back_or_far_ahead_strands_nothing():
    net = Net(Clock())
    alice = Node(ALICE, net)
    alice.box.post(to(BOB), 0, b"x")
    await alice.box.round()
    net.clock.seconds -= DAY
    assert len(net.puts) == 1
    await alice.box.round()
    assert len(net.puts) == 2  # due in the future by more than a pause: put now
    ahead = Clock(NOW + 40 * DAY)
    carol = Node(CAROL, net, ahead)
    carol.box.post(to(BOB), 0, b"dated in a month")
    await carol.box.round()
    ahead.seconds = NOW
    carol.box.post(to(BOB), 0, b"dated in a month")
    await carol.box.round()
    assert [x.payload for x in await Node(BOB, net).take(to(CAROL))] == [b"dated in a month"]


@pytest.mark.parametrize("skew", [-DAY, -3600, 3600, DAY])
async def test_clocks_a_day_apart_meet(skew):
    """Twice: at the first reading, which looks at every day, and later, which looks at three."""
    net = Net(Clock())
    alice = Node(ALICE, net, Clock(NOW + skew))
    bob = Node(BOB, net)
    for number in range(2):
        alice.box.post(to(BOB), number, b"%d" % number)
        await alice.box.round()
        await bob.take(to(ALICE))
        await bob.box.round()
    assert bob.got() == [b"0", b"1"]


async def test_how_many_lookups_a_reading_makes():
    net = Net(Clock())
    bob = Node(BOB, net)
    counts = []
    for wait in (0, 3600, 3600, DAY):
        net.clock.seconds += wait
        net.gets.clear()
        await bob.box.collect([to(ALICE)])
        counts.append(len(net.gets))
    assert counts == [30, 3, 3, 30]
    net.gets.clear()
    await bob.box.collect([to(ALICE, trade_id=bytes(32), since=net.clock.now())])
    assert len(net.gets) == 3  # a trade begun today
    net.gets.clear()
    bob.start()
    await bob.box.collect([], words=True)
    assert len(net.gets) == 30


async def test_an_entry_put_late_into_an_old_box_is_found_within_a_day():
    net = Net(Clock())
    alice, bob = Node(ALICE, net), Node(BOB, net)
    alice.box.post(to(BOB), 0, b"from long ago")
    for _ in range(5):
        await bob.take(to(ALICE))
        net.clock.seconds += DAY
    await bob.take(to(ALICE))
    await alice.box.round()  # only now could she reach anybody
    assert await bob.take(to(ALICE)) == ()
    net.clock.seconds += shell_mailread.SWEEP_S
    assert [x.payload for x in await bob.take(to(ALICE))] == [b"from long ago"]


async def test_a_reading_that_failed_is_not_taken_for_all_days():
    net = Net(Clock())
    alice, bob = Node(ALICE, net), Node(BOB, net)
    alice.box.post(to(BOB), 0, b"x")
    await alice.box.round()
    net.clock.seconds += 5 * DAY
    net.down = True
    assert await bob.box.collect([to(ALICE)], words=True) == ()
    net.down = False
    assert [x.payload for x in await bob.take(to(ALICE))] == [b"x"]


async def test_a_part_that_is_missing_keeps_its_letter_back_and_no_other():
    net = Net(Clock())
    alice, bob = Node(ALICE, net), Node(BOB, net)
    alice.box.post(to(BOB), 0, os.urandom(30_000))
    alice.box.post(to(BOB), 1, b"later")
    await alice.box.round()
    key = closed().key
    whole = net.held[key]
    net.held[key] = tuple(r for r in whole if r.id != b"\1")
    assert [x.number for x in await bob.take(to(ALICE))] == [1]
    net.held[key] = whole
    assert [x.number for x in await bob.take(to(ALICE))] == [0]


# ------------------------------------------------------------------ first words


async def test_a_first_word_leads_an_arbiter_to_a_stranger():
    net = Net(Clock())
    alice, bob = Node(ALICE, net), Node(BOB, net)
    dispute = os.urandom(14_000)
    alice.box.post(to(BOB), 0, dispute, word=True)
    await alice.box.round()
    assert net.puts[-1].key == letters.word_key(NETWORK, BOB.node_id, TODAY)  # the word is last
    assert await bob.box.collect([]) == ()
    (letter,) = await bob.take(words=True)
    assert (letter.line, letter.payload) == (to(ALICE), dispute)
    await bob.box.round()
    assert net.live() == []  # the word too
    net.clock.seconds += shell_mailbox.REPUT_S
    await alice.box.round()
    await alice.box.round()  # at once: she withdraws the word of a line that is known
    assert alice.box.counts() == {"waiting": 0, "deletions": 0}


async def test_a_word_waits_for_its_letter():
    net = Net(Clock())
    alice, key = Node(ALICE, net), letters.word_key(NETWORK, BOB.node_id, TODAY)
    real, failed = net.put, []

    async def put(kind, raw):
        if not failed:
            failed.append(raw)
            raise Unreachable("nobody answers")
        return await real(kind, raw)

    net.put = put
    alice.box.post(to(BOB), 0, b"x", word=True)
    await alice.box.round()
    assert (len(failed), net.puts) == (1, [])
    net.clock.seconds += 60
    await alice.box.round()
    assert [r.key == key for r in net.puts] == [False, True]


async def test_one_word_a_line_and_seen_deletes_it():
    net = Net(Clock())
    alice = Node(ALICE, net)
    alice.box.post(to(BOB), 0, b"x", word=True)
    alice.box.post(to(BOB), 1, b"y", word=True)
    await alice.box.round()
    assert [e.door for e in net.live()].count(OPEN) == 1
    alice.box.seen(to(BOB), 0)
    await alice.box.round()
    assert [e.door for e in net.live()] == [CLOSED]


# ------------------------------------------------------------------ the thief


async def test_garbage_in_an_open_box_is_skipped():
    net = Net(Clock())
    alice, bob = Node(ALICE, net), Node(BOB, net)
    for raw in flood(8):
        await net.put(KIND, raw)
    alice.box.post(to(BOB), 0, b"x", word=True)
    await alice.box.round()
    assert [x.payload for x in await bob.take(words=True)] == [b"x"]


async def test_a_flooded_open_box_is_outworked():
    """The sender sees that the box is full and does one bit more than its least."""
    net = Net(Clock())
    alice, bob = Node(ALICE, net), Node(BOB, net)
    for raw in flood(PER_KEY, NETWORK.mailbox_bits + 2):
        await net.put(KIND, raw)
    alice.box.post(to(BOB), 0, b"x", word=True)
    await alice.box.round()
    least = min(r.rank for r in net.held[letters.word_key(NETWORK, BOB.node_id, TODAY)])
    assert least >= NETWORK.mailbox_bits + 2
    assert [x.payload for x in await bob.take(words=True)] == [b"x"]


async def test_a_word_that_was_driven_out_works_its_way_back():
    for attempt in range(64):  # a word whose luck does not outrank the flood below
        net, trade = Net(Clock()), bytes([attempt]) * 32
        alice, bob = Node(ALICE, net), Node(BOB, net)
        alice.box.post(to(BOB, trade), 0, b"x", word=True)
        await alice.box.round()
        key = letters.word_key(NETWORK, BOB.node_id, TODAY)
        (before,) = net.held[key]
        if before.rank <= NETWORK.mailbox_bits + 1:
            break
    for raw in flood(PER_KEY, before.rank + 1):
        await net.put(KIND, raw)
    assert before not in net.held[key]  # the fault fired
    net.clock.seconds += shell_mailbox.REPUT_S
    await alice.box.round()
    (after,) = [r for r in net.held[key] if r.owner == before.owner]
    assert after.seq == before.seq + 1
    assert after.rank > before.rank
    assert [x.payload for x in await bob.take(words=True)] == [b"x"]
    await bob.box.round()
    assert all(e.owner != before.owner or e.deleted for e in net.entries())


async def test_nobody_outworks_a_rich_flooder_and_the_work_stays_bounded():
    net = Net(Clock())
    alice = Node(ALICE, net)

    async def rich(kind, key):
        records = [kinds().accept(KIND, raw, NOW) for raw in flood(PER_KEY)]
        return type("Found", (), {"records": [replace(r, rank=60) for r in records]})

    net.get = rich
    alice.box.post(to(BOB), 0, b"x", word=True)
    await alice.box.round()
    (put,) = [r for r in net.puts if r.id == b"\0" and r.key != closed().key]
    assert put.rank >= NETWORK.mailbox_bits + shell_mailbox.EXTRA_BITS


async def put_word(net, sender, trade_id, day=TODAY, bits=None):
    """A word of whoever, for Bob, with nothing behind it."""
    box = letters.word_box(NETWORK, secret(sender, BOB, trade_id), BOB.node_id, day)
    sealed = letters.seal_word(box, BOB.node_id, sender.node_id, trade_id)
    await net.put(KIND, box.sign(worked(box.entry(0, sealed), bits)))


async def test_words_that_lead_nowhere_cost_few_lookups():
    """Sixteen words of Carol's: four lines are followed, one lookup each, ever more rarely."""
    net = Net(Clock())
    bob = Node(BOB, net)
    for index in range(16):
        await put_word(net, CAROL, bytes([index]) * 32)
    counts = []
    for _ in range(19 * 12):  # 19 hours, every five minutes
        net.gets.clear()
        await bob.box.collect([], words=True)
        counts.append(len(net.gets))
        net.clock.seconds += 300
    assert counts[:5] == [30 + 4, 3 + 4, 3, 3 + 4, 3]
    assert sum(count > 3 for count in counts) == 8
    assert sum(counts) - 3 * len(counts) == 27 + 8 * 4


async def test_a_new_word_is_followed_before_those_that_led_nowhere(monkeypatch):
    monkeypatch.setattr(shell_mailread, "WORDS_AT_ONCE", 4)
    net = Net(Clock())
    alice, bob = Node(ALICE, net), Node(BOB, net)
    for index in range(12):
        sender = identity(f"mallory {index // 4}")
        await put_word(net, sender, bytes([index]) * 32, bits=NETWORK.mailbox_bits + 4)
    for _ in range(3):
        assert await bob.take(words=True) == ()
        net.clock.seconds += 3600
    alice.box.post(to(BOB), 0, b"x", word=True)
    await alice.box.round()
    assert [x.payload for x in await bob.take(words=True)] == [b"x"]


async def test_a_word_before_a_box_of_rubbish_is_not_read_each_time():
    net = Net(Clock())
    bob = Node(BOB, net)
    await put_word(net, ALICE, TRADE)
    box = closed()
    for slot in range(16):
        part = letters.Part(slot, 0, 2, bytes(32), bytes(letters.CHUNK))
        sealed = letters.seal_part(box, BOB.node_id, slot, part)
        await net.put(KIND, box.sign(worked(box.entry(slot, sealed))))
    for _ in range(12):
        assert await bob.take(words=True) == ()
        net.clock.seconds += 300
    assert net.gets.count(box.key) == 4


async def test_a_word_whose_lookup_failed_is_followed_at_once_again():
    net = Net(Clock())
    alice, bob = Node(ALICE, net), Node(BOB, net)
    alice.box.post(to(BOB), 0, b"x", word=True)
    await alice.box.round()
    real, failed = net.get, []

    async def get(kind, key):
        if key == closed().key and not failed:
            failed.append(key)
            raise Unreachable("nobody answers")
        return await real(kind, key)

    net.get = get
    assert await bob.take(words=True) == ()
    assert failed
    assert [x.payload for x in await bob.take(words=True)] == [b"x"]


async def test_a_disk_that_refuses_for_a_while_loses_nothing(autojump_clock):
    net = Net(Clock())
    alice = Node(ALICE, net)
    alice.box.post(to(BOB), 0, b"x")
    real, refused = alice.db.run, []

    def run(sql, *args):
        if len(refused) < 3:
            refused.append(sql)
            raise StorageFault("disk full")
        return real(sql, *args)

    alice.db.run = run
    async with trio.open_nursery() as nursery:
        await nursery.start(alice.box.run)
        with trio.fail_after(600):
            while not net.puts:  # noqa: ASYNC110 - virtual time
                await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert len(refused) == 3
    assert len(net.live()) == 1


async def test_a_replayed_entry_is_neither_delivered_nor_left():
    """A holder kept the bytes and puts them back after the deletion was forgotten."""
    net = Net(Clock())
    alice, bob = Node(ALICE, net), Node(BOB, net)
    alice.box.post(to(BOB), 0, b"x")
    await alice.box.round()
    kept = net.puts[0].raw
    await bob.take(to(ALICE))
    await bob.box.round()
    net.held.clear()
    await net.put(KIND, kept)
    assert len(net.live()) == 1
    bob.start()
    assert await bob.take(to(ALICE)) == ()
    await bob.box.round()
    assert (net.live(), bob.got()) == ([], [b"x"])


async def test_a_peer_who_fills_his_own_boxes_is_read_up_to_a_bound(monkeypatch):
    """Parts of letters that never become whole: bounded, and later letters of others come."""
    monkeypatch.setattr(shell_mailread, "MAX_OPENED", 40)
    net = Net(Clock())
    bob, carol = Node(BOB, net), Node(CAROL, net)
    for day in range(TODAY - 4, TODAY + 1):
        for slot in range(16):
            box = closed(day=day)
            part = letters.Part(slot, 0, 2, bytes(32), bytes(letters.CHUNK))
            sealed = letters.seal_part(box, BOB.node_id, slot, part)
            await net.put(KIND, box.sign(worked(box.entry(slot, sealed))))
    carol.box.post(to(BOB), 0, b"honest")
    await carol.box.round()
    opened = []
    real = letters.open_part
    monkeypatch.setattr(letters, "open_part", lambda *a: opened.append(a) or real(*a))
    assert [x.payload for x in await bob.take(to(ALICE), to(CAROL))] == [b"honest"]
    assert len(opened) <= 40 + 16 + 1


async def test_a_false_part_of_the_peers_spoils_only_his_own_letter():
    net = Net(Clock())
    bob = Node(BOB, net)
    box = closed()
    good, whole = b"good", hashlib.sha256(b"good").digest()
    for slot, part in enumerate(
        [
            letters.Part(0, 0, 1, whole, b"evil"),
            letters.Part(1, 0, 1, whole, good),
            letters.Part(2, 1, 2, whole, good),
        ]
    ):
        sealed = letters.seal_part(box, BOB.node_id, slot, part)
        await net.put(KIND, box.sign(worked(box.entry(slot, sealed))))
    assert [(x.number, x.payload) for x in await bob.take(to(ALICE))] == [(1, good)]


async def test_run_puts_what_is_posted_and_stops_when_it_is_told(autojump_clock):
    net = Net(Clock())
    alice = Node(ALICE, net)
    async with trio.open_nursery() as nursery:
        await nursery.start(alice.box.run)
        alice.box.post(to(BOB), 0, b"x")
        with trio.fail_after(10):
            while not net.puts:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert len(net.live()) == 1
