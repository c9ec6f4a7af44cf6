"""Evidence: whole or not shown, whatever a peer sends and whatever the disk has done to it."""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from escrow import evidence
from escrow.evidence import Head, check_more, check_part, export_name, head, join
from escrow.messages import ZERO, Kind, Message
from escrow.model import Noticed
from escrow.payloads import MAX_EVIDENCE, PART_BYTES, Evidence
from escrow.store_evidence import Shelf
from escrow.store_journal import ARBITER, Journal
from p2pnode.base import wire
from p2pnode.base.errors import InvalidRecord, LocalFault, StorageFault
from p2pnode.base.identity import Identity
from p2pnode.base.networks import NETWORKS
from p2pnode.base.store import Database

NET = NETWORKS["sandbox"]
TRADER = Identity.grind(NET, b"evidence trader".ljust(32))
JUDGE = Identity.grind(NET, b"evidence judge".ljust(32))
TRADE = hashlib.sha256(b"a trade").digest()
PNG = b"\x89PNG\r\n\x1a\n" + random.Random(4).randbytes(3 * PART_BYTES)
NOW = 1_787_000_000


class SetClock:
    def now(self) -> int:
        return NOW


def said(parts: Any, start: int = 0, prev: bytes = ZERO) -> list[Message]:
    """Chain parts as one trader's messages to the arbiter."""
    made = []
    for seq, part in enumerate(parts, start):
        message = Message(
            network=NET,
            kind=Kind.EVIDENCE,
            trade_id=TRADE,
            sender=TRADER.node_id,
            recipient=JUDGE.node_id,
            seq=seq,
            prev=prev,
            seen=ZERO,
            tip_height=250,
            tip_hash=b"\x07" * 32,
            draw_no=0,
            payload=part.wire(),
        ).signed(TRADER)
        made.append(message)
        prev = message.id
    return made


# ------------------------------------------------------------------ split and join


@pytest.mark.parametrize(
    "size", [1, 2, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 5 * PART_BYTES, MAX_EVIDENCE]
)
def test_a_file_comes_back_from_its_parts_in_any_order_and_twice(size: int) -> None:
    data = (b"a line of text\n" * (size // 15 + 1))[:size]
    parts = evidence.split("bank statement.txt", data)
    assert len(parts) == -(-size // PART_BYTES)
    assert all(Evidence.from_wire(p.wire()) == p for p in parts)
    shuffled = [*parts, *parts]
    random.Random(size).shuffle(shuffled)
    assert join(hashlib.sha256(data).digest(), shuffled) == data


@pytest.mark.parametrize("size", [0, MAX_EVIDENCE + 1])
def test_a_file_of_no_size_or_too_much_is_refused(size: int) -> None:
    with pytest.raises(InvalidRecord, match="file: is not 1 to 1048576 bytes"):
        evidence.split("x", b"a" * size)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PNG, "png"),
        (b"\xff\xd8\xff\xe0jfif", "jpg"),
        (b"%PDF-1.7\n\x00\xff", "pdf"),
        ("\ufeffpaid\r\n\t612,40 \u20ac \u2026".encode(), "txt"),
    ],
)
def test_the_type_is_told_by_the_bytes(data: bytes, kind: str) -> None:
    assert evidence.file_type(data) == kind


@pytest.mark.parametrize(
    "data",
    [
        b"MZ\x90\x00",
        b"\x7fELF",
        b"PK\x03\x04",
        b"\x89PNG\r\n",
        b"plain\x1b[2Jtext",
        b"null\x00",
        "turned \u202egnp.exe".encode(),
        "C1 \u009b31m".encode(),
        b"\xff\xfe\x41\x00",
        b" %PDF-1.7\x00",
        b"broken \xe2\x82",
    ],
)
def test_what_is_no_known_type_or_could_redraw_a_terminal_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRecord, match="neither PNG, JPEG, PDF nor plain UTF-8 text"):
        evidence.split("x.png", data)


def test_a_part_that_never_came_is_named() -> None:
    parts = evidence.split("x", PNG)
    with pytest.raises(InvalidRecord, match="part: of 4 lack 1, 3"):
        join(parts[0].file_hash, [parts[2], parts[0]])
    with pytest.raises(InvalidRecord, match="is no file that was shown"):
        join(bytes(32), parts)


def test_parts_that_make_another_file_are_not_shown() -> None:
    parts = list(evidence.split("x", PNG))
    parts[1] = replace(parts[1], data=bytes(PART_BYTES))
    with pytest.raises(InvalidRecord, match="is not what its parts make"):
        join(parts[0].file_hash, parts)


def test_parts_of_two_files_of_one_hash_do_not_mix() -> None:
    parts = evidence.split("x", PNG)
    forged = Evidence(
        file_hash=parts[0].file_hash, name="x", size=2 * PART_BYTES, part=1, data=bytes(PART_BYTES)
    )
    assert join(parts[0].file_hash, [*parts, forged]) == PNG
    with pytest.raises(InvalidRecord, match="lack"):  # the first part says which file is meant
        join(parts[0].file_hash, [forged, *parts])
    with pytest.raises(InvalidRecord, match="size: is not what an earlier part"):
        check_part(head(forged), [head(parts[0])])
    renamed = replace(parts[1], name="y")
    with pytest.raises(InvalidRecord, match="name: is not what an earlier part"):
        check_part(head(renamed), [head(parts[0])])


def test_a_ninth_file_and_a_flood_of_parts_are_refused() -> None:
    shown = [head(evidence.split("x", b"file %d" % n)[0]) for n in range(evidence.MAX_FILES)]
    for n, one in enumerate(shown):
        check_part(one, shown[:n])
    ninth = evidence.split("x", b"one more")
    with pytest.raises(InvalidRecord, match="file_hash: names more than 8 files"):
        check_part(head(ninth[0]), shown)
    with pytest.raises(InvalidRecord, match="names more than 8 files"):
        check_more(ninth, shown)
    check_part(shown[0], shown)  # a sender who has lost data shows it anew
    flood = [shown[0]] * evidence.MAX_SHOWN
    with pytest.raises(InvalidRecord, match="beyond the 256"):
        check_part(shown[0], flood)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"size": 0}, "size"),
        ({"size": MAX_EVIDENCE + 1}, "size"),
        ({"part": -1}, "part"),
        ({"part": 4}, "part"),
        ({"part": 16}, "part"),
        ({"data": b""}, "data"),
        ({"data": bytes(PART_BYTES - 1)}, "data"),
        ({"data": bytes(PART_BYTES + 1)}, "data"),
        ({"file_hash": bytes(31)}, "file_hash"),
        ({"name": ""}, "name"),
        ({"name": "n" * 129}, "name"),
        ({"name": "a\x1b[31m"}, "name"),
        ({"name": "a\u202eb"}, "name"),
        ({"name": "a\nb"}, "name"),
    ],
)
def test_a_hostile_part_is_refused_by_name(change: dict[str, Any], field: str) -> None:
    good = evidence.split("x", PNG)[0]
    with pytest.raises(InvalidRecord) as caught:
        replace(good, **change)
    assert caught.value.field == field
    values = good.array()
    names = ("file_hash", "name", "size", "part", "data")
    raw = wire.pack([change.get(n, v) for n, v in zip(names, values, strict=True)])
    with pytest.raises(InvalidRecord):
        Evidence.from_wire(raw)


# ------------------------------------------------------------------ names


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "..",
        ".",
        "/root/.ssh/authorized_keys",
        "C:\\Windows\\system32\\x.exe",
        ".bashrc",
        "-rf",
        "a\x00b",
        "con",
        "\u202egnp.exe",
        "x" * 500,
        "\U0001f600",
        "$(reboot).png",
        "a b;c|d&e`f`",
        "~",
        "",
    ],
)
def test_no_name_of_a_peer_reaches_a_disk(name: str) -> None:
    made = export_name(hashlib.sha256(b"x").digest(), name, "png")
    assert made.startswith("2d711642b726-")
    assert made.endswith(".png")
    assert made.count(".") == 1
    assert len(made) <= 12 + 1 + 60 + 4
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
    assert Path("/out").joinpath(made).resolve().parent == Path("/out")
    label = evidence.clean_name(name)
    assert wire.text("name", label, 128, low=1) == label
    assert "/" not in label


def test_a_good_name_keeps_its_letters() -> None:
    assert evidence.clean_name("/home/b/Kontoauszug März.pdf") == "Kontoauszug März.pdf"
    assert export_name(bytes(32), "Kontoauszug 2026-08.pdf", "pdf") == (
        "000000000000-Kontoauszug_2026-08_pdf.pdf"
    )


# ------------------------------------------------------------------ the journal


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    one = Database(tmp_path / "node.sqlite")
    yield one
    one.close()


def journal(database: Database, key: bytes = b"k" * 32) -> Journal:
    return Journal(database, NET, Shelf(key, NET), SetClock())


def kept(database: Database, *, mine: bool = False) -> list[Message]:
    messages = said(evidence.split("secret name.png", PNG))
    kept_in = journal(database)
    with database.transaction():
        kept_in.begin(TRADE, ARBITER, Noticed(0), b"", b"", 0)
        for message in messages:
            kept_in.add(message, mine=mine)
    return messages


def test_evidence_lies_sealed_and_comes_back_whole(database: Database, tmp_path: Path) -> None:
    messages = kept(database)
    one = journal(database)
    found = one.messages(TRADE)
    assert [m.id for m in found] == [m.id for m in messages]
    assert [m.seq for m in found] == [0, 1, 2, 3]
    assert evidence.heads(found, TRADER.node_id) == tuple(
        head(Evidence.from_wire(m.payload)) for m in messages
    )
    assert all(len(m.payload) < 200 for m in found)
    assert [one.whole(m) for m in found] == messages
    shown = evidence.files(evidence.heads(found, TRADER.node_id))
    assert [(s.name, s.size, s.parts, s.complete) for s in shown] == [
        ("secret name.png", len(PNG), 4, True)
    ]
    parts = [Evidence.from_wire(one.whole(m).payload) for m in found]
    assert join(shown[0].file_hash, parts) == PNG
    assert one.times(TRADE) == {m.id: NOW for m in messages}
    database.run("PRAGMA wal_checkpoint(TRUNCATE)")
    raw = (tmp_path / "node.sqlite").read_bytes()
    assert b"secret name" not in raw
    assert PNG[100:164] not in raw
    assert hashlib.sha256(PNG).digest() not in raw


def test_a_cut_message_cannot_be_sent_in_place_of_the_whole(database: Database) -> None:
    messages = kept(database, mine=True)
    one = journal(database)
    with pytest.raises(ValueError, match="lies elsewhere"):
        one.messages(TRADE)[0].wire()
    assert [raw for _, _, raw in one.outbox(JUDGE.node_id)] == [m.wire() for m in messages]


def test_a_second_look_opens_nothing(database: Database, monkeypatch: Any) -> None:
    kept(database)
    one = journal(database)
    first = one.messages(TRADE)
    opened: list[bytes] = []
    monkeypatch.setattr(Shelf, "cut", lambda self, i, row: opened.append(i))
    assert one.messages(TRADE) == first
    assert opened == []


def flip(database: Database, number: int, place: int) -> None:
    row = database.one("SELECT id, raw FROM message ORDER BY number LIMIT 1 OFFSET ?", number)
    assert row is not None
    raw = bytearray(row["raw"])
    raw[place] ^= 1
    database.run("UPDATE message SET raw = ? WHERE id = ?", bytes(raw), row["id"])


def test_a_damaged_part_is_named_never_shown_and_the_case_goes_on(database: Database) -> None:
    messages = kept(database, mine=True)
    flip(database, 2, -5)
    one = journal(database)
    found = one.messages(TRADE)
    assert [m.id for m in found] == [m.id for m in messages]  # its place in the chain is kept
    assert evidence.head_of(found[2]) is None
    assert evidence.files(evidence.heads(found, TRADER.node_id))[0].complete is False
    with pytest.raises(StorageFault, match=r"evidence: the row [0-9a-f]{16} does not open"):
        one.whole(found[2])
    sent = [i for i, _, _ in one.outbox(JUDGE.node_id)]
    assert sent == [m.id for m in messages[:2]]  # what comes after it could not be applied


def test_a_damaged_header_and_a_row_under_another_id_are_named(database: Database) -> None:
    messages = kept(database)
    flip(database, 0, 30)
    with pytest.raises(StorageFault, match="is damaged or was altered"):
        journal(database).messages(TRADE)
    first, second = (
        database.one("SELECT raw FROM message WHERE id = ?", m.id) for m in messages[1:3]
    )
    assert first is not None
    assert second is not None
    shelf = Shelf(b"k" * 32, NET)
    assert shelf.whole(messages[1].id, first["raw"]) == messages[1]
    with pytest.raises(StorageFault, match="damaged"):
        shelf.whole(messages[1].id, second["raw"])
    with pytest.raises(StorageFault, match="damaged"):
        shelf.cut(messages[1].id, second["raw"])


def test_another_keystore_opens_nothing_and_no_key_keeps_nothing(database: Database) -> None:
    messages = kept(database)
    other = journal(database, b"o" * 32)
    found = other.messages(TRADE)
    assert [evidence.head_of(m) for m in found] == [None] * 4
    with pytest.raises(StorageFault, match="does not open under this keystore"):
        other.whole(found[0])
    with pytest.raises(LocalFault, match="it has no key for it"):
        Journal(database, NET).add(messages[0], mine=False)


def test_a_shelf_shows_no_key() -> None:
    assert "k" * 8 not in repr(Shelf(b"k" * 32, NET))


def test_heads_of_a_whole_and_a_cut_message_are_one(database: Database) -> None:
    messages = kept(database)
    for whole, cut in zip(messages, journal(database).messages(TRADE), strict=True):
        assert evidence.head_of(whole) == evidence.head_of(cut)
        assert isinstance(evidence.head_of(cut), Head)
        assert whole.id == cut.id
