"""`p2pnode market`: what people read at 80 and 120 columns, what programs read, what is said of faults."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from market_daemon import MAKERS, NOW, Daemon, daemon, offers
from price_kit import Scripted

from escrow.standing import Sale
from orderbook.offer import Side
from orderbook.prices import Said
from p2pnode.app.commands.market import market
from p2pnode.base.errors import Unreachable

ROOT = Path(__file__).resolve().parents[2]
EUR = 61_240_000_000
MINUTE = 60


class Never(Scripted):
    live, docs = False, "https://prices.example/docs"


@pytest.fixture
def node(tmp_path: Path) -> Any:
    sources = (
        Scripted("file:prices.json", EUR),
        Never("kraken", EUR + 10_000_000),
        Never("mempool", Said({"EUR": (66_000_000_000, NOW - 200)})),
        Never("coinbase", Unreachable("answers with HTTP status 503")),
    )
    rows = [(Side.SELL, EUR + i * 10_000_000, 1_000_000) for i in range(1, 6)]
    rows += [(Side.BUY, EUR - i * 10_000_000, 2_000_000) for i in range(1, 4)]
    records = offers(rows)
    samples = [("EUR", NOW - i * 600, EUR + i * 1_000_000, 12) for i in range(400, 0, -1)]
    sales = {"EUR": tuple(Sale(NOW - i * 86_400, 500_000, 30_620) for i in range(5, 0, -1))}
    with daemon(tmp_path, sources, records, samples=samples, sales=sales) as one:
        yield one


def ask(node: Daemon, *argv: str) -> Any:
    result = node(market, *argv, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_price_names_its_sources_and_those_left_out(node: Daemon) -> None:
    (found,) = ask(node, "price", "eur")
    assert (found["currency"], found["exponent"]) == ("EUR", 2)
    assert (found["price"], found["spread_bp"], found["why"]) == (EUR + 5_000_000, 2, "")
    by_name = {source["source"]: source for source in found["sources"]}
    assert {name for name, source in by_name.items() if source["used"]} == {
        "file:prices.json",
        "kraken",
    }
    assert by_name["coinbase"]["reason"] == "answers with HTTP status 503"
    assert by_name["coinbase"]["price"] is by_name["coinbase"]["at"] is None
    assert by_name["mempool"]["reason"].startswith("strays: 7.77 %")
    assert by_name["mempool"]["age_s"] == 200
    assert by_name["kraken"]["live"] is False
    assert by_name["kraken"]["docs"] == "https://prices.example/docs"
    assert by_name["file:prices.json"]["live"] is True


def test_a_price_for_people(node: Daemon) -> None:
    result = node(market, "price", "EUR")
    assert result.stdout.splitlines()[:3] == [
        "EUR   61,245.00 per BTC   (2 sources, 0.02 % apart, 0 s old)",
        "  file:prices.json          61,240.00     0 s",
        "  kraken *                  61,250.00     0 s",
    ]
    assert "left out: answers with HTTP status 503" in result.stdout
    assert "left out: strays: 7.77 % from the median of the others" in result.stdout
    assert result.stdout.endswith("  * never run live: known from its documentation alone\n")
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_every_market_asked_for_is_a_line(node: Daemon) -> None:
    assert node(market, "price").stderr == "no market was asked for yet: p2pnode market price EUR\n"
    ask(node, "price", "EUR")
    ask(node, "price", "JPY")
    assert [found["currency"] for found in ask(node, "price")] == ["EUR", "JPY"]
    lines = node(market, "price").stdout.splitlines()
    assert lines[1].split() == ["EUR", "61,245.00", "0.02", "%", "0", "s", "2", "of", "4"]


def test_without_a_source_it_says_how_to_name_one(tmp_path: Path) -> None:
    with daemon(tmp_path) as one:
        (found,) = ask(one, "price", "EUR")
        assert found["price"] is found["spread_bp"] is found["age_s"] is None
        assert (found["why"], found["sources"]) == ("no price source is named", [])
        result = one(market, "price", "EUR")
        assert result.stdout == "EUR   no reference price: no price source is named\n"
        assert 'prices = ["kraken", "bitstamp", "coinbase"]' in result.stderr
        assert result.exit_code == 0


def test_a_missing_file_is_answered_with_what_to_write(tmp_path: Path) -> None:
    source = Scripted("file:prices.json", Said({}, {"EUR": "the file: No such file or directory"}))
    with daemon(tmp_path, (source,)) as one:
        result = one(market, "price", "EUR")
        assert result.stdout.startswith("EUR   no reference price: no source has said a price\n")
        assert result.stderr == f'write {{"EUR": "61240.00"}} into {tmp_path}/prices.json\n'


def test_two_that_disagree_give_no_reference_and_it_says_so(tmp_path: Path) -> None:
    with daemon(tmp_path, (Scripted("a", EUR), Scripted("b", EUR * 2))) as one:
        (found,) = ask(one, "price", "EUR")
        assert found["price"] is None
        assert "100.00 % apart" in found["why"]
        assert {source["reason"] for source in found["sources"]} == {"the sources disagree"}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("price", "EU"), "currency: 'EU' is not three letters"),
        (("book", "ZZZ"), "currency: 'ZZZ' is n"),
        (("chart", "../x"), "currency: '../x' is not three letters"),
        (("stats", "é€ü"), "is not three letters"),
        (("price", "ZZZ"), "currency: 'ZZZ' is n"),
    ],
)
def test_a_currency_that_is_none_is_a_sentence_and_65(
    node: Daemon, argv: tuple[str, ...], words: str
) -> None:
    result = node(market, *argv)
    assert (result.exit_code, result.stdout) == (65, "")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


# ------------------------------------------------------------------ depth


def test_the_depth_adds_up(node: Daemon) -> None:
    (found,) = ask(node, "book", "EUR")
    assert found["reference"] == EUR + 5_000_000
    assert found["step"] is None
    assert [(level["price"], level["total_sat"]) for level in found["sell"]] == [
        (EUR + i * 10_000_000, i * 1_000_000) for i in range(1, 6)
    ]
    assert [(level["price"], level["total_sat"]) for level in found["buy"]] == [
        (EUR - i * 10_000_000, i * 2_000_000) for i in range(1, 4)
    ]
    assert {level["offers"] for level in found["buy"] + found["sell"]} == {1}
    curve = found["curve"]
    assert max(curve["sell_sat"]) == curve["sell_sat"][-1] == 5_000_000
    assert max(curve["buy_sat"]) == curve["buy_sat"][0] == 6_000_000
    assert curve["low"] < EUR - 30_000_000 < EUR + 50_000_000 < curve["high"]


def test_the_depth_for_people(node: Daemon) -> None:
    lines = node(market, "book", "EUR").stdout.splitlines()
    assert lines[0] == "EUR   reference 61,245.00 per BTC"
    assert lines[3].split() == [
        "1",
        "0.0200",
        "0.0200",
        "61,230.00",
        "│",
        "61,250.00",
        "0.0100",
        "0.0100",
        "1",
    ]
    assert lines[7].split() == ["│", "61,290.00", "0.0100", "0.0500", "1"]
    assert any("█" in line for line in lines)
    assert sum("BTC sold at" in line or "BTC bought at" in line for line in lines) == 2


def test_floating_offers_without_a_reference_are_counted_and_not_priced(tmp_path: Path) -> None:
    rows = [(Side.SELL, 0, 1_000_000), (Side.BUY, EUR, 1_000_000)]
    with daemon(tmp_path, (), offers(rows)) as one:
        (found,) = ask(one, "book", "EUR")
        assert (found["unpriced"], found["sell"], len(found["buy"])) == (1, [], 1)
        text = one(market, "book", "EUR").stdout
        assert "no reference price: no price source is named" in text
        assert "1 more float with a reference price that there is not" in text


def test_floating_offers_stand_at_the_reference_and_their_margin(tmp_path: Path) -> None:
    records = offers([(Side.SELL, 0, 1_000_000)], margin_bp=100)
    with daemon(tmp_path, (Scripted("a", EUR),), records) as one:
        (found,) = ask(one, "book", "EUR")
        assert found["sell"][0]["price"] == EUR * 101 // 100
        assert found["unpriced"] == 0


def test_the_same_offer_in_other_slots_counts_once(tmp_path: Path) -> None:
    rows = [(Side.SELL, EUR, 1_000_000)] * (3 * len(MAKERS))
    with daemon(tmp_path, (), offers(rows)) as one:
        (found,) = ask(one, "book", "EUR")
        assert found["repeated"] == 2 * len(MAKERS)
        assert found["sell"][0]["offers"] == len(MAKERS)
        assert f"{2 * len(MAKERS)} more repeat an offer" in one(market, "book", "EUR").stdout


def test_an_empty_market(node: Daemon) -> None:
    (found,) = ask(node, "book", "CHF")
    assert (found["buy"], found["sell"], found["curve"]) == ([], [], None)
    assert "no offers with a price" in node(market, "book", "CHF").stdout


# ------------------------------------------------------------------ history and sales


def test_the_history_is_drawn_over_its_span(node: Daemon) -> None:
    samples = ask(node, "chart", "EUR")
    assert 140 <= len(samples) <= 146
    assert all(NOW - 86_400 - 60 <= sample["at"] <= NOW for sample in samples)
    assert len(ask(node, "chart", "EUR", "--span", "90d")) > 390
    text = node(market, "chart", "EUR").stdout
    assert "samples" in text.splitlines()[0]
    assert "█" in text
    assert text.count("UTC") == 3


def test_one_sample_is_no_chart(tmp_path: Path) -> None:
    source = Scripted("a", Said({"EUR": (EUR, 0)}))
    with daemon(tmp_path, (source,), samples=[("EUR", NOW - 60, EUR, 12)]) as one:
        result = one(market, "chart", "EUR")
        assert result.stdout == ""
        assert result.stderr.startswith("no history of EUR yet: one sample, of ")


def test_a_market_without_a_history_is_followed_from_now_on(tmp_path: Path) -> None:
    source = Scripted("a", Said({"EUR": (EUR, 0)}))
    with daemon(tmp_path, (source,)) as one:
        result = one(market, "chart", "CHF", "--span", "1h")
        assert result.stdout == ""
        assert "followed from now on" in result.stderr
        assert source.asked == [("CHF",)]


def test_what_receipts_say(node: Daemon) -> None:
    (found,) = ask(node, "stats")
    price = 30_620 * 10**8 * 10**4 // 500_000
    assert found == {
        "currency": "EUR",
        "exponent": 2,
        "trades": 5,
        "amount_sat": 2_500_000,
        "fiat_minor": 153_100,
        "price_low": price,
        "price_median": price,
        "price_high": price,
        "price_average": price,
        "first_at": NOW - 5 * 86_400,
        "last_at": NOW - 86_400,
    }
    (recent,) = ask(node, "stats", "EUR", "--days", "2")
    assert recent["trades"] in (1, 2)
    assert ask(node, "stats", "JPY") == []
    assert "0.0250" in node(market, "stats").stdout
    assert "no receipt" in node(market, "stats", "JPY").stderr


# ------------------------------------------------------------------ terminals

VERBS = (("price", "EUR"), ("price",), ("book", "EUR"), ("chart", "EUR"), ("stats",))


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
@pytest.mark.parametrize("argv", VERBS, ids=" ".join)
def test_no_line_is_wider_than_the_terminal(
    node: Daemon, argv: tuple[str, ...], columns: int
) -> None:
    ask(node, "price", "EUR")
    text = node(market, *argv, env={"COLUMNS": str(columns)}).stdout
    widest = max(map(len, text.splitlines()))
    assert widest <= max(80, columns)
    if argv[0] == "chart":
        assert widest <= columns
        assert widest >= min(columns, 160) * 3 // 4
    assert all(line == line.rstrip() for line in text.splitlines())


@pytest.mark.parametrize("argv", VERBS, ids=" ".join)
def test_a_pipe_gets_no_escapes_and_a_poor_terminal_no_blocks(
    node: Daemon, argv: tuple[str, ...]
) -> None:
    ask(node, "price", "EUR")
    command = [sys.executable, "-m", "cli", "market", *argv, "--data-dir", str(node.folder)]
    for name in ("utf-8", "ascii"):
        env = os.environ | {"PYTHONIOENCODING": name, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
        done = subprocess.run(command, env=env, capture_output=True, timeout=30, check=True)
        text = done.stdout.decode(name)
        assert text
        assert "\x1b" not in text
        if name == "ascii" and argv[0] in ("book", "chart"):
            assert "#" in text


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_a_terminal_gets_colours_unless_no_color_is_set(
    node: Daemon, no_color: str, coloured: bool
) -> None:
    """In a pseudo-terminal of its own, as a user sees it."""
    import pty

    command = [sys.executable, "-m", "cli", "market", "book", "EUR", "--data-dir", str(node.folder)]
    env = os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": no_color, "TERM": "xterm"}
    master, slave = pty.openpty()
    with subprocess.Popen(command, env=env, stdout=slave, stderr=slave, stdin=slave) as process:
        os.close(slave)
        raw = b""
        while True:
            try:
                part = os.read(master, 65_536)
            except OSError:
                break  # Linux says so at the end of a terminal
            if not part:
                break
            raw += part
        assert process.wait(30) == 0
    os.close(master)
    assert b"BUYERS" in raw
    assert (b"\x1b[" in raw) is coloured
