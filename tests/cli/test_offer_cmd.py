"""`p2pnode offer`: streams, exit codes, tables and JSON are an interface."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from orderbook_daemon import Daemon, daemon
from orderbook_kit import KEY, NOW, OTHER

from p2pnode.app.commands.account import account
from p2pnode.app.commands.offer import offer
from p2pnode.app.routes_offers import offer_json

CREATE = [
    "create",
    "--sell",
    "--cur",
    "eur",
    "--min",
    "0.002",
    "--max",
    "0.01",
    "--price",
    "61240.00",
    "--account",
    "home",
]


@pytest.fixture
def maker(tmp_path: Path) -> Iterator[Daemon]:
    (tmp_path / "maker").mkdir()
    with daemon(tmp_path / "maker") as one:
        details = ["--method", "CUSTOM", "--details", "CANARY"]
        assert one(account, "add", "--name", "home", *details).exit_code == 0
        yield one


@pytest.fixture
def taker(tmp_path: Path, maker: Daemon) -> Iterator[Daemon]:
    (tmp_path / "taker").mkdir()
    with daemon(tmp_path / "taker", maker.market, maker.clock, OTHER, "taker") as one:
        yield one


def create(node: Daemon, *more: str) -> dict[str, Any]:
    result = node(offer, *CREATE, *more, "--json")
    assert result.exit_code == 0, result.stderr
    made: dict[str, Any] = json.loads(result.stdout)
    return made


def test_json_of_an_own_offer(maker: Daemon) -> None:
    made = create(maker, "--terms", "no calls", "--deposit", "12.5")
    published = maker.market.last(NOW)
    assert made == offer_json(published, mine=True) | {
        "state": "enabled",
        "why": "",
        "accounts": {"CUSTOM": "home"},
        "ends_at": None,
        "disable_below": None,
        "disable_above": None,
        "holders": 4,
        "trade_id": None,
        "created_at": NOW,
        "accept_bp": 0,
        "counter_bp": 0,
        "otherwise": "ask",
    }
    assert (made["min_sat"], made["max_sat"]) == (200_000, 1_000_000)
    assert (made["price"], made["exponent"]) == (61_240_000_000, 2)
    assert (made["deposit_buyer_bp"], made["deposit_seller_bp"]) == (1250, 1250)
    assert (made["side"], made["currency"], made["terms"]) == ("sell", "EUR", "no calls")
    assert made["maker"] == KEY.node_id.hex()
    assert b"CANARY" not in maker.market.records[0]
    assert b"home" not in maker.market.records[0]


def test_cancel_takes_it_back_everywhere(maker: Daemon, taker: Daemon) -> None:
    made = create(maker)
    name = made["offer_id"][:8]
    assert maker(offer, "cancel", name).stdout == f"offer {name[:6]} withdrawn\n"
    assert taker(offer, "list", "--cur", "EUR").stdout == ""
    assert maker(offer, "list", "--cur", "EUR").stdout == ""
    (row,) = [json.loads(line) for line in maker(offer, "mine", "--json").stdout.splitlines()]
    assert (row["state"], row["max_sat"]) == ("withdrawn", 1_000_000)
    again = maker(offer, "cancel", name)
    assert (again.exit_code, again.stdout) == (70, "")
    assert again.stderr == f"error: offer {name[:6]} is withdrawn\n"


def test_only_the_maker_cancels(maker: Daemon, taker: Daemon) -> None:
    made = create(maker)
    taker(offer, "list", "--cur", "EUR")
    result = taker(offer, "cancel", made["offer_id"])
    assert result.exit_code == 70
    assert len(taker(offer, "list", "--cur", "EUR").stdout.splitlines()) == 2


def test_mine_shows_state_and_account(maker: Daemon) -> None:
    made = create(maker)
    lines = maker(offer, "mine").stdout.splitlines()
    assert lines[0].split() == [
        "ID",
        "SIDE",
        "PRICE",
        "BTC",
        "min-max",
        "STATE",
        "HELD",
        "ACCOUNT",
    ]
    words = f"{made['offer_id'][:6]} sell 61,240.00 EUR 0.0020-0.0100 enabled 4 home"
    assert lines[1].split() == words.split()


@pytest.mark.parametrize("words", [(*CREATE,), ("list", "--sell", "--cur", "EUR")])
def test_a_side_is_one_side(words: tuple[str, ...]) -> None:
    ran = CliRunner().invoke(offer, [*words, "--buy", "--data-dir", "/nonexistent"])
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "Say --sell or --buy, not both." in ran.stderr


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"--cur": "XAU"}, 65, "currency: 'XAU'"),
        ({"--cur": "../../stop"}, 65, "currency: '../../stop' is not three letters"),
        ({"--min": "0.0019"}, 65, "min: is not 0.0020 to "),
        ({"--min": "0"}, 65, "min: is not 0.0020 to "),
        ({"--max": "0.001"}, 65, "max: is not 0.0020 to "),
        ({"--max": "-1"}, 65, "max: '-1' is not a decimal number"),
        ({"--max": "0.000000001"}, 65, "max: has more than 8 decimals"),
        ({"--max": "1e3"}, 65, "max: "),
        ({"--price": "61240.0000001"}, 65, "price: has more than 6 decimals"),
        ({"--price": "9999999999999999"}, 65, "price: '9999999999999999' is not 0.000001 to 9,"),
        ({"--price": "99999999999999999"}, 65, "price: has more than 16 digits before"),
        ({"--price": "0"}, 65, "price: '0' is not 0.000001 to 9,007,199,254.740991"),
        ({"--account": "nobody"}, 70, "account: there is none called 'nobody'"),
        ({"--deposit": "9.99"}, 65, "deposit: is not 10 to 50 percent"),
        ({"--deposit": "51"}, 65, "deposit: is not 10 to 50 percent"),
        ({"--buyer-deposit": "9.99"}, 65, "deposit: is not 10 to 50 percent"),
        ({"--buyer-deposit": "-1"}, 65, "buyer-deposit: '-1' is not a decimal number"),
        ({"--accept-within": "50.01"}, 65, "accept-within: is not 0 to 50 percent"),
        ({"--accept-within": "x"}, 65, "accept-within: 'x' is not a decimal number"),
        ({"--counter-within": "51"}, 65, "counter-within: is not 0 to 50 percent"),
        (
            {"--accept-within": "5", "--counter-within": "1"},
            65,
            "counter-within: is under --accept-within 5",
        ),
        ({"--terms": "x" * 501}, 65, "terms: is 501 bytes of text, not 0 to 500"),
        ({"--terms": "\x1b[2J"}, 65, "terms: holds a control or direction character"),
    ],
)
def test_bad_words_are_one_sentence_and_publish_nothing(
    maker: Daemon, change: dict[str, str], code: int, words: str
) -> None:
    argv = list(CREATE)
    for name, value in change.items():
        if name in argv:
            argv[argv.index(name) + 1] = value
        else:
            argv += [name, value]
    result = maker(offer, *argv)
    assert (result.exit_code, result.stdout) == (code, "")
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert maker.market.records == []


def test_errors_in_json_carry_code_and_field(maker: Daemon) -> None:
    argv = [*CREATE[:-1], "nobody", "--json"]
    error = json.loads(maker(offer, *argv).stderr)["error"]
    assert (error["code"], error["field"]) == ("not_found", "account")


def test_a_side_must_be_said(maker: Daemon) -> None:
    result = maker(offer, "create", *CREATE[2:])
    assert result.exit_code == 2
    assert "--sell or --buy" in result.stderr


def test_no_network(maker: Daemon) -> None:
    maker.market.down = True
    result = maker(offer, "list", "--cur", "EUR")
    assert (result.exit_code, result.stdout) == (69, "")
    made = maker(offer, *CREATE)
    assert made.exit_code == 0
    assert "the daemon goes on trying" in made.stderr


def test_the_same_key_creates_one_offer(maker: Daemon) -> None:
    body = {
        "side": "buy",
        "currency": "EUR",
        "min_sat": 200_000,
        "max_sat": 300_000,
        "price": 10**10,
        "account": "home",
    }
    answers = [maker.client().call("POST", "/v1/offers", body, key="k" * 20) for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(maker.market.records) == 1


@pytest.mark.parametrize("name", ["", "zz", "mine/../..", "%2e", "a" * 65])
def test_an_id_that_is_none_is_refused_before_it_is_sent(maker: Daemon, name: str) -> None:
    result = maker(offer, "show", name)
    assert result.exit_code == 65
    assert "offer_id: is not 1 to 64 hex digits" in result.stderr
