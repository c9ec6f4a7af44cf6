"""Account details: committed to by salted hashes, encrypted at rest, disclosed once."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from orderbook_kit import NET, NOW, TERMS, Counted, FakeClock, Market, make_book

from orderbook.account_details import as_text, check_details
from orderbook.accounts import Account, check_disclosure
from orderbook.methods import METHODS, check_method
from orderbook.store_accounts import MAX_ACCOUNTS, AccountStore
from p2pnode.base.errors import InvalidRecord, LocalFault, NotFound, StorageFault
from p2pnode.base.networks import NETWORKS
from p2pnode.base.store import Database

SECRET = "CANARY-DE89370400440532013000"
DETAILS = {"details": f"transfer to {SECRET}"}
KEY = b"k" * 32
FRESH = b"f" * 32


def account(**change: Any) -> Account:
    values = {
        "name": "home",
        "method": "CUSTOM",
        "details": (DETAILS["details"],),
        "fixed_salt": b"s" * 32,
    }
    return Account(**(values | change))  # type: ignore[arg-type]


def store(path: Path | None = None, key: bytes = KEY) -> AccountStore:
    return AccountStore(Database(path), NET, key, Counted())


# -- methods


def test_the_registry_has_custom_with_four_days_to_pay() -> None:
    assert METHODS["CUSTOM"].period_s == 4 * 86_400
    assert [f.name for f in METHODS["CUSTOM"].fields] == ["details"]


@pytest.mark.parametrize(
    ("details", "field"),
    [
        ({}, "details"),
        ({"details": ""}, "details"),
        ({"details": "x" * 501}, "details"),
        ({"details": "\u00e9" * 251}, "details"),
        ({"details": 5}, "details"),
        ({"details": None}, "details"),
        ({"details": b"bytes"}, "details"),
        ({"details": "two\nlines"}, "details"),
        ({"details": "\x1b]0;title\x07"}, "details"),
        ({"details": "ok", "iban": "x"}, "details"),
        ({5: "ok"}, "details"),
    ],
)
def test_bad_details_name_their_field(details: dict[Any, Any], field: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        check_details("CUSTOM", details)
    assert caught.value.field == field


def test_an_unknown_method_is_named() -> None:
    for name in ("SEPAA", "custom", "", "x" * 33):
        with pytest.raises(InvalidRecord, match="method: "):
            check_details(name, DETAILS)
    with pytest.raises(InvalidRecord, match="method: 'SEPAA' is not one of"):
        check_method("method", "SEPAA")


def test_details_of_one_field_stand_alone() -> None:
    assert as_text("CUSTOM", check_details("CUSTOM", DETAILS)) == DETAILS["details"]


# -- commitments


def test_disclosure_opens_the_commitment() -> None:
    committed = account().account_hash(NET, FRESH)
    assert check_disclosure(account().disclose(FRESH), committed, NET) == (
        "CUSTOM",
        DETAILS["details"],
    )


def test_any_other_disclosure_is_refused() -> None:
    committed = account().account_hash(NET, FRESH)
    others = [
        account(details=("transfer elsewhere",)).disclose(FRESH),
        account(fixed_salt=b"t" * 32).disclose(FRESH),
        account().disclose(b"g" * 32),
        ("CUSTOM", (DETAILS["details"],), FRESH, b"s" * 32),  # salts swapped
    ]
    for array in others:
        with pytest.raises(InvalidRecord, match="account: is not the one"):
            check_disclosure(array, committed, NET)
    with pytest.raises(InvalidRecord, match="account: is not the one"):
        check_disclosure(account().disclose(FRESH), committed, NETWORKS["regtest"])


@pytest.mark.parametrize(
    ("array", "field"),
    [
        ((), "account"),
        (None, "account"),
        (("CUSTOM", ("x",), b"s" * 32), "account"),
        (("SEPAA", ("x",), b"s" * 32, FRESH), "method"),
        (("SEPA", ("x",), b"s" * 32, FRESH), "details"),
        ((1, ("x",), b"s" * 32, FRESH), "method"),
        (("CUSTOM", (), b"s" * 32, FRESH), "details"),
        (("CUSTOM", ("x", "y"), b"s" * 32, FRESH), "details"),
        (("CUSTOM", "x", b"s" * 32, FRESH), "details"),
        (("CUSTOM", (b"x",), b"s" * 32, FRESH), "details"),
        (("CUSTOM", ("\x1b[2J",), b"s" * 32, FRESH), "details"),
        (("CUSTOM", ("x",), b"s" * 31, FRESH), "fixed_salt"),
        (("CUSTOM", ("x",), b"s" * 32, "f" * 32), "fresh_salt"),
    ],
)
def test_malformed_disclosures_name_their_field(array: object, field: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        check_disclosure(array, bytes(32), NET)
    assert caught.value.field == field


def test_two_trades_of_one_account_cannot_be_linked_by_their_hashes() -> None:
    assert account().account_hash(NET, FRESH) != account().account_hash(NET, b"g" * 32)
    assert account().account_id(NET) == account(name="other name").account_id(NET)


def test_details_do_not_show_in_a_repr() -> None:
    assert SECRET not in repr(account())
    assert repr(b"s" * 32) not in repr(account())


# -- at rest


def test_an_account_survives_a_restart(tmp_path: Path) -> None:
    made = store(tmp_path / "node.sqlite").add("home", "CUSTOM", DETAILS, now=NOW)
    again = store(tmp_path / "node.sqlite")
    assert again.all() == (made,)
    assert again.named("home") == again.get(made.account_id(NET)) == made


def test_names_are_unique_and_bounded() -> None:
    accounts = store()
    accounts.add("home", "CUSTOM", DETAILS, now=NOW)
    with pytest.raises(LocalFault, match="name: there is an account 'home' already"):
        accounts.add("home", "CUSTOM", DETAILS, now=NOW)
    for name in ("", " home", "x" * 41, "a\tb", "a  b", "a\u200bb"):
        with pytest.raises(InvalidRecord, match="name: "):
            accounts.add(name, "CUSTOM", DETAILS, now=NOW)
    with pytest.raises(NotFound, match="account: there is none called 'work'"):
        accounts.named("work")
    with pytest.raises(NotFound):
        accounts.get(bytes(32))
    assert len(accounts.all()) == 1


def test_there_is_a_most() -> None:
    accounts = store()
    with accounts._db.transaction():
        for i in range(MAX_ACCOUNTS):
            accounts.add(f"a{i}", "CUSTOM", DETAILS, now=NOW)
    with pytest.raises(LocalFault, match="200 accounts already"):
        accounts.add("one more", "CUSTOM", DETAILS, now=NOW)


def test_what_is_removed_is_gone(tmp_path: Path) -> None:
    accounts = store(tmp_path / "node.sqlite")
    home, work = (accounts.add(name, "CUSTOM", DETAILS, now=NOW) for name in ("home", "work"))
    accounts.remove(home)
    assert store(tmp_path / "node.sqlite").all() == (work,)
    with pytest.raises(NotFound):
        accounts.get(home.account_id(NET))
    assert accounts.add("home", "CUSTOM", DETAILS, now=NOW) != home


def files_of(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


async def test_no_byte_of_details_reaches_the_disk_or_an_offer(tmp_path: Path) -> None:
    path = tmp_path / "node.sqlite"
    database, market = Database(path), Market()
    accounts = AccountStore(database, NET, KEY, Counted())
    made = accounts.add("my canary name", "CUSTOM", DETAILS, now=NOW)
    book = make_book(market, FakeClock(), database=database)
    terms = TERMS | {"accounts": {made.method: made.account_id(NET)}}
    await book.maker.create(**terms)
    written = files_of(tmp_path)
    assert b"offers_own" in written
    for secret in (SECRET.encode(), b"canary name", made.fixed_salt):
        assert secret not in written
        assert secret not in market.records[0]
    assert made.account_id(NET) not in market.records[0]


def rows(path: Path) -> list[tuple[bytes, bytes]]:
    with sqlite3.connect(path) as db:
        return db.execute("SELECT account_id, sealed FROM accounts_account").fetchall()


def test_without_the_key_nothing_opens(tmp_path: Path) -> None:
    path = tmp_path / "node.sqlite"
    store(path).add("home", "CUSTOM", DETAILS, now=NOW)
    before = rows(path)
    stranger = store(path, key=b"x" * 32)
    with pytest.raises(StorageFault, match="does not open with this keystore's key"):
        stranger.all()
    with pytest.raises(StorageFault):
        stranger.add("work", "CUSTOM", DETAILS, now=NOW)
    assert rows(path) == before


@pytest.mark.parametrize("where", [0, 23, 24, 40, -1])
def test_one_changed_byte_is_found(tmp_path: Path, where: int) -> None:
    path = tmp_path / "node.sqlite"
    store(path).add("home", "CUSTOM", DETAILS, now=NOW)
    ((account_id, sealed),) = rows(path)
    altered = bytearray(sealed)
    altered[where] ^= 1
    with sqlite3.connect(path) as db:
        db.execute("UPDATE accounts_account SET sealed = ?", (bytes(altered),))
    with pytest.raises(StorageFault, match=account_id.hex()[:12]):
        store(path).get(account_id)


def test_rows_that_change_places_are_found(tmp_path: Path) -> None:
    path = tmp_path / "node.sqlite"
    accounts = store(path)
    mine = accounts.add("mine", "CUSTOM", DETAILS, now=NOW)
    accounts.add("thief", "CUSTOM", {"details": "to the thief"}, now=NOW)
    (_, first), (_, second) = rows(path)
    other = second if Account.unseal(KEY, first) == mine else first
    with sqlite3.connect(path) as db:
        db.execute(
            "UPDATE accounts_account SET sealed = ? WHERE account_id = ?",
            (other, mine.account_id(NET)),
        )
    with pytest.raises(StorageFault, match="lies under another account's id"):
        store(path).get(mine.account_id(NET))


@pytest.mark.parametrize("sealed", [b"", bytes(39), bytes(40), bytes(70_000)])
def test_garbage_on_disk_is_an_invalid_record(sealed: bytes) -> None:
    with pytest.raises(InvalidRecord, match="account: "):
        Account.unseal(KEY, sealed)


def test_no_nonce_is_used_twice(tmp_path: Path) -> None:
    path = tmp_path / "node.sqlite"
    accounts = store(path)
    for i in range(5):
        accounts.add(f"a{i}", "CUSTOM", DETAILS, now=NOW)
    assert len({sealed[:24] for _, sealed in rows(path)}) == 5
