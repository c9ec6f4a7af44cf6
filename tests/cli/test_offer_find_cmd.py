"""`p2pnode offer list|show|block`: what a user sees of everybody's offers."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from maker_kit import EUR, Histories, References
from orderbook_daemon import Daemon, daemon
from orderbook_kit import KEY, NET, NOW, OTHER
from orderbook_kit import offer as made

from orderbook.offer import Side
from p2pnode.app.commands.account import account
from p2pnode.app.commands.offer import offer
from p2pnode.app.routes_offers import offer_json
from p2pnode.base.history import History
from p2pnode.base.identity import Identity

THIRD = Identity.grind(NET, b"third".ljust(32))
USER = Identity.grind(NET, b"user".ljust(32))
DAY = 86_400


@pytest.fixture
def taker(tmp_path: Path) -> Iterator[Daemon]:
    with daemon(tmp_path, identity=USER) as one:
        details = ["--method", "CUSTOM", "--details", "by hand"]
        assert one(account, "add", "--name", "home", *details).exit_code == 0
        yield one


def publish(node: Daemon, key: Identity = KEY, **terms: Any) -> str:
    """Put an offer into the market; return its id."""
    number = len(node.market.records)
    one = made(
        maker=key.node_id, **({"offer_id": bytes([number + 1]) * 16, "slot": number} | terms)
    )
    node.market.records.append(one.to_wire(key))
    return one.offer_id.hex()


def rows(node: Daemon, *words: str) -> list[dict[str, Any]]:
    result = node(offer, "list", "--cur", "EUR", *words, "--json")
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def ids(node: Daemon, *words: str) -> str:
    """Return the first byte of each id listed."""
    return " ".join(str(bytes.fromhex(o["offer_id"])[0]) for o in rows(node, *words))


class Reading:
    """A follower that has read so much of every market."""

    def __init__(self, whole: bool, sources: int) -> None:
        self._said = whole, sources

    async def follow(self, currency: str) -> None:
        pass

    def reading(self, currency: str) -> tuple[bool, int]:
        return self._said


@pytest.mark.parametrize(
    ("whole", "sources", "said"),
    [
        (False, 0, "EUR is still being read, from no other nodes until now: list it again\n"),
        (False, 1, "EUR is still being read, from 1 other node until now: list it again\n"),
        (True, 0, "no other node that holds EUR was found yet: p2pnode net peers\n"),
        (True, 3, ""),
    ],
)
def test_a_listing_that_may_lack_offers_says_so(
    taker: Daemon, whole: bool, sources: int, said: str
) -> None:
    taker.book.follower = Reading(whole, sources)
    empty = taker(offer, "list", "--sell", "--cur", "EUR")
    assert (empty.exit_code, empty.stdout) == (0, "")
    assert empty.stderr == said + "no offers to sell for EUR\n"
    assert taker(offer, "list", "--cur", "EUR", "--json").stderr == ""


def test_the_table_and_the_json(taker: Daemon) -> None:
    ident = publish(taker, said_trades=34, said_partners=9, said_since=int(time.time()) - 212 * DAY)
    taker.book.maker.references = References()
    listed = taker(offer, "list", "--sell", "--cur", "EUR")
    node = KEY.node_id.hex()[:4]
    assert listed.stdout == (
        "ID     PRICE EUR vs MKT BTC min-max   METHOD DEP  AGE MAKER TRADES\n"
        f"{ident[:6]} 61,240.00   0.0% 0.0020-0.0100 CUSTOM 15% 212d {node}…    34?\n"
    )
    (seen,) = rows(taker)
    stored = taker.market.last(NOW)
    assert seen == offer_json(stored, mine=False, reference=EUR) | {
        "first_seen": NOW,
        "repeats": False,
        "proven_trades": 0,
        "proven_partners": 0,
        "proven_since": 0,
        "proven_days": 0,
        "obstacles": [],
    }


def test_the_table_fits_eighty_columns_or_the_terminal_and_gives_up_the_method_first(
    taker: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    publish(
        taker,
        price=0,
        margin_bp=-5000,
        methods=("ADVANCED_CASH", "CASH_DEPOSIT", "CUSTOM"),
        max_sat=20 * 10**8,
        said_trades=1234,
        said_since=1_700_000_000,
        dep_b_bp=1250,
        dep_s_bp=2000,
    )
    publish(taker, side=Side.BUY, price=1_876_543_210_000)
    taker.book.maker.references = References()
    listed = taker(offer, "list", "--cur", "EUR").stdout.splitlines()
    assert len(listed) == 3
    assert max(map(len, listed)) <= 80
    assert "ADVANCE…" in listed[1]
    assert ">999%" in listed[2]
    assert "AGE" not in listed[0]
    monkeypatch.setenv("COLUMNS", "120")
    wide = taker(offer, "list", "--cur", "EUR").stdout.splitlines()
    assert "ADVANCED_CASH+2" in wide[1]
    assert "AGE" in wide[0]
    assert 80 < max(map(len, wide)) <= 120


def test_prices_keep_the_currencys_decimals(taker: Daemon) -> None:
    for currency, price, text in (
        ("JPY", 99_000_000_000, "9,900,000"),
        ("KWD", 185_001_250_000, "18,500.125"),
        ("EUR", 61_240_000_001, "61,240.000001"),
    ):
        publish(taker, currency=currency, price=price)
        line = taker(offer, "list", "--sell", "--cur", currency).stdout.splitlines()[1]
        assert line.split()[1] == text


def test_without_a_side_both_are_listed_and_said(taker: Daemon) -> None:
    publish(taker, side=Side.BUY)
    publish(taker)
    lines = taker(offer, "list", "--cur", "EUR").stdout.splitlines()
    assert lines[0].split()[1] == "SIDE"
    assert [line.split()[1] for line in lines[1:]] == ["sell", "buy"]
    assert len(taker(offer, "list", "--buy", "--cur", "EUR").stdout.splitlines()) == 2


def test_an_empty_market_exits_zero_with_a_remark(taker: Daemon) -> None:
    result = taker(offer, "list", "--cur", "JPY", "--sell")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "no offers to sell for JPY\n"
    assert taker(offer, "list", "--cur", "JPY", "--json").output == ""
    narrow = taker(offer, "list", "--cur", "JPY", "--method", "SEPA")
    assert narrow.stderr == "no offers in JPY that fit what you ask for\n"


def test_filters_and_orders(taker: Daemon) -> None:
    publish(taker, methods=("CUSTOM", "SEPA"), countries=("AT", "DE"))
    publish(taker, OTHER, price=50_000_000_000, languages=("de", "en"), min_sat=900_000)
    publish(taker, THIRD, price=0, margin_bp=-100, max_sat=5_000_000)
    assert ids(taker) == "2 1 3"  # the floating one is unpriced, so last
    assert rows(taker)[2]["price_now"] == 0
    taker.book.maker.references = References()
    assert ids(taker) == "2 3 1"
    assert ids(taker, "--method", "SEPA") == ids(taker, "--method", " sepa") == "1"
    assert ids(taker, "--country", "FR") == "2 3"
    assert ids(taker, "--lang", "de") == "2 3 1"
    assert ids(taker, "--lang", "fr") == "3 1"
    assert ids(taker, "--amount", "0.003") == "3 1"
    assert ids(taker, "--fiat", "500") == "2 3 1"
    assert ids(taker, "--fiat", "300") == "3 1"
    assert ids(taker, "--fiat", "3000") == "3"
    assert ids(taker, "--max-price", "61000") == "2 3"
    assert ids(taker, "--min-price", "61000", "--max-price", "61240") == "1"
    assert ids(taker, "--sort", "amount").startswith("3")
    assert ids(taker, "--limit", "1") == "2"
    shown = taker(offer, "list", "--cur", "EUR", "--limit", "2")
    assert shown.stderr == "the first 2: --limit shows more\n"


def test_orders_by_history_and_asks_for_it(taker: Daemon) -> None:
    publish(taker, said_trades=500, said_partners=400)
    publish(taker, OTHER)
    histories = Histories()
    seen = History(trades=3, partners=2, first_at=NOW - 40 * DAY, as_of=NOW - 5 * DAY)
    histories.known[OTHER.node_id] = seen  # on a chain that lags five days behind
    taker.book.maker.histories = histories
    assert ids(taker, "--sort", "history") == "2 1"
    assert ids(taker, "--min-trades", "3") == "2"
    assert ids(taker, "--min-trades", "4") == ""
    (one,) = rows(taker, "--min-trades", "1")
    assert (one["proven_trades"], one["proven_days"]) == (3, 35)
    assert " 35d " in taker(offer, "list", "--cur", "EUR", "--min-trades", "1").stdout
    shown = taker(offer, "show", one["offer_id"]).stdout
    assert "  proven    trades 3, partners 2, since 2026-12-06" in shown


def test_what_one_cannot_take_is_marked_and_the_reason_told(taker: Daemon) -> None:
    publish(taker, methods=("SEPA",), peer_trades=5)
    publish(taker, OTHER, price=62_000_000_000)
    plain = taker(offer, "list", "--sell", "--cur", "EUR").stdout.splitlines()
    assert [line.endswith("!") for line in plain] == [False, True, False]
    told = taker(offer, "list", "--sell", "--cur", "EUR", "--why").stdout
    assert "methods: you have no account of SEPA" in told
    assert "p2pnode account form SEPA" in told
    assert "peer_trades: the maker asks for 5 proven trades, you have none" in told
    codes = [one["code"] for one in rows(taker)[0]["obstacles"]]
    assert codes == ["method", "history"]
    assert ids(taker, "--takeable") == "2"


def test_repeated_offers_are_left_out_unless_asked_for(taker: Daemon) -> None:
    publish(taker)
    publish(taker, seq=7, said_trades=1)
    publish(taker, OTHER)
    listed = taker(offer, "list", "--sell", "--cur", "EUR")
    assert len(listed.stdout.splitlines()) == 3
    assert listed.stderr == "1 that repeat another of their maker: --all\n"
    again = [o["repeats"] for o in rows(taker, "--all")]
    assert sorted(again) == [False, False, True]


def test_a_blocked_maker_is_hidden_until_he_is_unblocked(taker: Daemon) -> None:
    bad, node = publish(taker), KEY.node_id.hex()
    publish(taker, OTHER, price=62_000_000_000)
    assert ids(taker) == "1 2"
    done = taker(offer, "block", node[:8], "--note", "did not pay")
    assert done.stdout == f"offers of {node[:16]}… are hidden\n"
    assert ids(taker) == "2"
    assert ids(taker, "--all") == "1 2"
    assert [o["code"] for o in rows(taker, "--all")[0]["obstacles"]] == ["blocked"]
    assert f"p2pnode offer unblock {node[:8]}" in taker(offer, "show", bad).stdout
    (line,) = taker(offer, "blocked").stdout.splitlines()[1:]
    assert line.split()[0] == f"{node[:16]}…"
    assert line.endswith("did not pay")
    assert json.loads(taker(offer, "blocked", "--json").stdout) == {
        "node_id": node,
        "note": "did not pay",
        "at": NOW,
    }
    assert taker(offer, "unblock", node[:4]).exit_code == 0
    assert ids(taker) == "1 2"
    assert taker(offer, "blocked").stderr == "nobody is blocked\n"


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("block", "xyzw"), 65, "node_id: is not 4 to 64 hex digits"),
        (("block", "0000"), 70, "node_id: '0000' fits no maker known here"),
        (("block", USER.node_id.hex()), 65, "node_id: is your own"),
        (("block", "a" * 64, "--note", "x" * 201), 65, "note: is 201 bytes"),
        (("block", "a" * 64, "--note", "\x1b[2J"), 65, "note: holds a control"),
        (("unblock", "0000"), 70, "node_id: '0000' fits no blocked maker"),
        (("list", "--cur", "E1R"), 65, "currency: 'E1R' is not three letters"),
        (("list", "--cur", "XAU"), 65, "currency: 'XAU'"),
        (("list", "--cur", "EUR", "--method", "NONE"), 65, "method: 'NONE'"),
        (("list", "--cur", "EUR", "--country", "XX"), 65, "country: 'XX' is no country"),
        (("list", "--cur", "EUR", "--lang", "xx"), 65, "language: 'xx' is no language"),
        (("list", "--cur", "EUR", "--amount", "0"), 65, "amount: '0' is too small"),
        (("list", "--cur", "EUR", "--amount", "x"), 65, "amount: 'x' is not a decimal"),
        (("list", "--cur", "EUR", "--amount", "90000000"), 65, "amount: is not 0"),
        (("list", "--cur", "EUR", "--fiat", "1.001"), 65, "fiat: has more than 2 decimals"),
        (("list", "--cur", "EUR", "--max-price", "-1"), 65, "max-price: '-1'"),
        (("list", "--cur", "EUR", "--limit", "0"), 2, "--limit"),
        (("list", "--cur", "EUR", "--sort", "luck"), 2, "--sort"),
        (("list", "--cur", "EUR", "--sell", "--buy"), 2, "not both"),
    ],
)
def test_bad_words_are_one_sentence(
    taker: Daemon, words: tuple[str, ...], code: int, text: str
) -> None:
    result = taker(offer, *words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert text in result.stderr


def test_show_takes_a_prefix_of_id_or_hash(taker: Daemon) -> None:
    ident = publish(taker, terms="weekdays only")
    unknown = taker(offer, "show", ident)
    assert unknown.exit_code == 70
    assert "list its market first" in unknown.stderr
    listed = rows(taker)[0]
    for name in (ident[:8], listed["offer_hash"][:8].upper()):
        shown = taker(offer, "show", name)
        assert shown.exit_code == 0
        assert "maker SELLS 0.0020-0.0100 BTC at 61,240.00 EUR" in shown.stdout
        assert "weekdays only" in shown.stdout
        assert f"p2pnode trade take {ident[:6]}" in shown.stdout
        assert "state" not in shown.stdout


def test_show_tells_each_obstacle(taker: Daemon) -> None:
    ident = publish(taker, methods=("SEPA",), price=0, margin_bp=100)
    rows(taker)
    shown = taker(offer, "show", ident).stdout
    assert "! " in shown
    assert "methods: you have no account of SEPA" in shown
    assert "price: is a margin on a reference price of EUR" in shown
    seen = json.loads(taker(offer, "show", ident, "--json").stdout)
    assert [one["code"] for one in seen["obstacles"]] == ["method", "unpriced"]


def test_terms_cannot_deceive_the_eye(taker: Daemon) -> None:
    ident = publish(
        taker, terms="p\u0430y to\u200b me; \u043f\u0440\u0438\u0432\u0435\u0442, 日本語"
    )
    rows(taker)
    shown = " ".join(taker(offer, "show", ident).stdout.split())
    assert r"p\u0430y to\u200b me; привет, 日本語" in shown
    assert "holds characters that cannot be seen: \\u200b (zero width space)" in shown
    assert "that look like Latin: \\u0430 (cyrillic small letter a)" in shown
    seen = json.loads(taker(offer, "show", ident, "--json").stdout)
    assert seen["terms"].startswith("p\u0430y")
    assert len(seen["terms_remarks"]) == 2


def test_no_network_is_said(taker: Daemon) -> None:
    taker.market.down = True
    result = taker(offer, "list", "--cur", "EUR")
    assert (result.exit_code, result.stdout) == (69, "")
