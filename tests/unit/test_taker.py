"""What offers are judged by: the settings' countries and languages, accounts, coins, a past."""

from pathlib import Path

import pytest
from maker_kit import Histories
from orderbook_kit import NET, NOW, OTHER, Counted, FakeClock, Market, make_book

from orderbook.store_accounts import AccountStore
from p2pnode.app.config import Settings
from p2pnode.app.taker import Takers
from p2pnode.base.errors import Misconfigured, Unreachable
from p2pnode.base.history import History
from p2pnode.base.store import Database


def takers(**more: object) -> Takers:
    clock = FakeClock()
    book = make_book(Market(), clock, OTHER)
    accounts = AccountStore(Database(None), NET, b"k" * 32, Counted())
    return Takers(book, accounts, clock, **more)  # type: ignore[arg-type]


def test_he_has_what_his_node_has() -> None:
    clock, histories = FakeClock(), Histories()
    book = make_book(Market(), clock, OTHER)
    accounts = AccountStore(Database(None), NET, b"k" * 32, Counted())
    accounts.add("home", "CUSTOM", {"details": "by hand"}, now=NOW)
    histories.known[OTHER.node_id] = History(trades=2, partners=1, first_at=5)
    book.maker.histories = histories
    book.store.block(b"b" * 32, "", NOW)
    found = Takers(
        book, accounts, clock, countries=["DE"], languages=["de", "en"], balance=lambda: 7
    ).taker()
    assert (found.node_id, found.now, found.balance_sat) == (OTHER.node_id, NOW, 7)
    assert found.methods == {"CUSTOM"}
    assert (found.countries, found.languages) == ({"DE"}, {"de", "en"})
    assert found.history == histories.known[OTHER.node_id]
    assert found.blocked == {b"b" * 32}


def test_a_wallet_that_was_not_read_yet_says_nothing() -> None:
    def unread() -> int:
        raise Unreachable("not read yet")

    assert takers(balance=unread).taker().balance_sat is None
    assert takers().taker().balance_sat is None


@pytest.mark.parametrize(
    ("field", "code"), [("countries", "XX"), ("languages", "xx"), ("countries", "de")]
)
def test_a_code_that_is_none_is_named_at_the_start(field: str, code: str) -> None:
    with pytest.raises(Misconfigured, match=f"{field}: .*{code}") as told:
        takers(**{field: [code]})
    assert told.value.field == field


def test_the_settings_keep_their_codes(tmp_path: Path) -> None:
    made = Settings(data_dir=tmp_path, network=NET, countries=("DE", "AT"), languages=("de",))
    made.save()
    again = Settings.load(tmp_path)
    assert (again.countries, again.languages) == (("DE", "AT"), ("de",))


@pytest.mark.parametrize(
    ("field", "codes"),
    [
        ("countries", ("de",)),
        ("countries", ("DEU",)),
        ("countries", ("D\u00cb",)),
        ("languages", ("DE",)),
        ("languages", ("",)),
        ("countries", ("DE",) * 65),
    ],
)
def test_settings_of_another_form_are_refused(
    tmp_path: Path, field: str, codes: tuple[str, ...]
) -> None:
    with pytest.raises(Misconfigured) as told:
        Settings(data_dir=tmp_path, network=NET, **{field: codes})  # type: ignore[arg-type]
    assert told.value.field == field
