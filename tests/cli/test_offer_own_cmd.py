"""`p2pnode offer create|edit|enable|disable|clone|mine`: all that an offer can say."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from orderbook_daemon import Daemon, daemon
from orderbook_kit import NOW

from orderbook.limits import cap_sat
from p2pnode.app.commands import offer as module
from p2pnode.app.commands.account import account
from p2pnode.app.commands.offer import offer

EUR = 61_240_000_000
CREATE = ["create", "--sell", "--cur", "eur", "--min", "0.002", "--max", "0.01"]
FIXED = [*CREATE, "--price", "61240.00", "--account", "home"]
ALL = [
    *CREATE,
    *("--margin", "-1.25", "--account", "home", "--account", "bank"),
    *("--country", "de", "--country", "AT", "--language", "EN", "--language", "de"),
    *("--deposit", "20", "--buyer-deposit", "0", "--escrow", "wsh-2of3"),
    *("--peer-trades", "3", "--peer-days", "30", "--terms", "weekdays", "--expires", "7d"),
    *("--disable-below", "55000", "--disable-above", "70000.50"),
    *("--accept-within", "0.5", "--counter-within", "2", "--otherwise", "refuse"),
]


@pytest.fixture
def maker(tmp_path: Path) -> Iterator[Daemon]:
    with daemon(tmp_path) as one:
        words = ("add", "--name", "home", "--method", "CUSTOM", "--details", "CANARY")
        assert one(account, *words).exit_code == 0
        for name, user in (("bank", "mariasch1"), ("other", "mariasch2")):
            body = {"name": name, "method": "REVOLUT", "details": {"user_name": user}}
            assert one.client().post("/v1/accounts", **body)["name"] == name
        one.references.prices["EUR"] = EUR
        yield one


def run(node: Daemon, *words: str) -> dict[str, Any]:
    result = node(offer, *words, "--json")
    assert result.exit_code == 0, result.stderr
    made: dict[str, Any] = json.loads(result.stdout)
    return made


def test_everything_an_offer_can_say_is_said(maker: Daemon) -> None:
    made = run(maker, *ALL)
    out = maker.market.last(NOW)
    assert (out.price, out.margin_bp, out.methods) == (0, -125, ("CUSTOM", "REVOLUT"))
    assert (out.countries, out.languages) == (("AT", "DE"), ("de", "en"))
    assert (out.dep_b_bp, out.dep_s_bp, out.escrow_kinds) == (0, 2000, ("wsh-2of3",))
    assert (out.peer_trades, out.peer_days, out.terms) == (3, 30, "weekdays")
    assert made["accounts"] == {"CUSTOM": "home", "REVOLUT": "bank"}
    assert (made["price"], made["margin_bp"], made["reference"]) == (0, -125, EUR)
    assert made["price_now"] == EUR * 9875 // 10_000
    assert made["ends_at"] == NOW + 7 * 86_400
    assert (made["disable_below"], made["disable_above"]) == (55_000_000_000, 70_000_500_000)
    assert (made["accept_bp"], made["counter_bp"], made["otherwise"]) == (50, 200, "refuse")
    raw = maker.market.records[0]
    assert not any(word in raw for word in (b"CANARY", b"home", b"bank", b"maria"))


def test_it_is_written_out_for_people(maker: Daemon) -> None:
    made = run(maker, *ALL)
    shown = maker(offer, "show", made["offer_id"]).stdout.splitlines()
    assert shown[0] == (
        f"Offer {made['offer_id'][:6]}   maker SELLS 0.0020-0.0100 BTC at 60,474.50 EUR"
    )
    assert shown[3:] == [
        "  maker     you",
        "  price     1.25 % below the reference price of 61,240.00 EUR",
        "  method    CUSTOM, REVOLUT",
        "  countries AT, DE",
        "  languages de, en",
        "  deposit   buyer 0.00 %, seller 20.00 %",
        "  asks      3 trades and a first one 30 days ago proven by its counterparty",
        "  escrow    wsh-2of3",
        "  state     enabled, 4 holders",
        "  account   home for CUSTOM",
        "            bank for REVOLUT",
        "  ends      2027-01-22 08:00 UTC",
        "  disabled  at a reference price below 55,000.00 or above 70,000.50 EUR",
        "  proposals agreed to within 0.50 % below the price, answered with that limit",
        "            within 2.00 %, else no",
        "  terms     weekdays",
    ]


def test_edit_changes_what_is_said_and_nothing_else(maker: Daemon) -> None:
    made = run(maker, *ALL)
    name = made["offer_id"][:8]
    changed = run(maker, "edit", name, "--price", "61000", "--max", "0.005", "--account", "other")
    moved = {
        "price": 61_000_000_000,
        "margin_bp": None,
        "price_now": 61_000_000_000,
        "max_sat": 500_000,
        "methods": ["REVOLUT"],
        "accounts": {"REVOLUT": "other"},
    }
    versions = ("seq", "offer_hash")
    assert {k: v for k, v in changed.items() if k not in versions} == {
        k: v for k, v in (made | moved).items() if k not in versions
    }
    assert changed["seq"] > made["seq"]
    assert maker.market.last(NOW).max_sat == 500_000
    took = ("--country", "any", "--language", "ANY", "--expires", "never", "--disable-below", "0")
    bare = run(maker, "edit", name, *took, "--disable-above", "0", "--buyer-deposit", "15")
    assert (bare["countries"], bare["languages"], bare["ends_at"]) == ([], [], None)
    assert (bare["disable_below"], bare["disable_above"]) == (None, None)
    assert (bare["deposit_buyer_bp"], bare["deposit_seller_bp"]) == (1500, 2000)
    out = len(maker.market.records)
    kept = run(maker, "edit", name, "--counter-within", "3")
    assert (kept["accept_bp"], kept["counter_bp"], kept["otherwise"]) == (50, 300, "refuse")
    assert len(maker.market.records) == out  # what is published stays as it is


def test_disable_keeps_it_back_and_enable_brings_it_again(maker: Daemon) -> None:
    made = run(maker, *FIXED)
    name = made["offer_id"][:8]
    assert maker(offer, "disable", name).stdout == f"offer {name[:6]} disabled\n"
    assert maker.market.last(NOW).withdrawn
    assert maker(offer, "list", "--cur", "EUR").stdout == ""
    again = maker(offer, "disable", name)
    assert (again.exit_code, again.stderr) == (70, f"error: offer {name[:6]} is disabled already\n")
    shown = maker(offer, "show", name).stdout
    assert "  state     disabled: by its maker\n" in shown
    assert "61,240.00 EUR" in shown
    assert maker(offer, "enable", name).stdout == f"offer {name[:6]} enabled\n"
    assert not maker.market.last(NOW).withdrawn
    assert maker(offer, "list", "--cur", "EUR").stdout.count(name[:6]) == 1


def test_clone_says_the_same_but_for_what_is_said(maker: Daemon) -> None:
    made = run(maker, *ALL)
    assert maker(offer, "cancel", made["offer_id"]).exit_code == 0
    same = run(maker, "clone", made["offer_id"][:8])
    own = {"offer_id", "offer_hash", "seq", "ends_at"}
    assert {k: v for k, v in same.items() if k not in own} == {
        k: v for k, v in made.items() if k not in own
    }
    assert (same["offer_id"] != made["offer_id"], same["ends_at"]) == (True, None)
    other = run(maker, "clone", same["offer_id"][:8], "--buy", "--margin", "-2")
    assert (other["side"], other["margin_bp"], other["slot"]) == ("buy", -200, 1)
    words = ("--cur", "CHF", "--price", "58000", "--disable-below", "0", "--disable-above", "0")
    there = run(maker, "clone", same["offer_id"][:8], *words)
    assert (there["currency"], there["price"], there["slot"]) == ("CHF", 58_000_000_000, 0)
    blind = maker(offer, "clone", same["offer_id"][:8], "--cur", "CHF")
    assert blind.exit_code == 2
    assert "A price is one of a market" in blind.stderr


def test_a_clone_of_an_offer_whose_account_was_removed_needs_another(maker: Daemon) -> None:
    made = run(maker, *CREATE[:-1], "0.01", "--price", "61240", "--account", "bank")
    ident = made["offer_id"][:8]
    assert maker(offer, "cancel", ident).exit_code == 0
    assert maker(account, "remove", "bank", "--yes").exit_code == 0
    refused = maker(offer, "clone", ident)
    assert (refused.exit_code, refused.stdout) == (70, "")
    assert refused.stderr == (
        "error: account: that of REVOLUT was removed; name others with --account\n"
    )
    assert run(maker, "clone", ident, "--account", "home")["accounts"] == {"CUSTOM": "home"}


def test_mine_says_why(maker: Daemon) -> None:
    made = run(maker, *ALL, "--expires", "1h")
    lines = maker(offer, "mine").stdout.splitlines()
    words = f"{made['offer_id'][:6]} sell -1.25 % EUR 0.0020-0.0100 enabled 4 home,bank"
    assert lines[1].split() == words.split()
    assert max(map(len, lines)) <= 80
    why = "the reference price 54,999.00 EUR is below 55,000.00 EUR"
    row = module._mine(made | {"state": "disabled", "why": why})
    assert row.splitlines()[1:] == [f"        {why}"]
    assert max(map(len, row.splitlines())) <= 80
    assert "\n" not in module._mine(made | {"state": "disabled", "why": "by its maker"})
    many = module._mine(made | {"accounts": dict.fromkeys("abc", "faster_payments")})
    assert many.splitlines()[1] == "        faster_payments, faster_payments, faster_payments"
    assert max(map(len, many.splitlines())) <= 80


def test_an_offer_that_its_trigger_would_disable_at_once_is_refused(maker: Daemon) -> None:
    maker.references.prices["EUR"] = 54_999_000_000
    refused = maker(offer, *ALL)
    assert (refused.exit_code, refused.stdout) == (70, "")
    assert refused.stderr == (
        "error: this would be disabled at once: the reference price 54,999.00 EUR is below "
        "55,000.00 EUR\n"
    )


def test_what_a_search_for_work_will_cost_is_told(maker: Daemon) -> None:
    run(maker, *FIXED)
    found = maker.client().get("/v1/offers/work?currency=EUR")
    assert found == {"currency": "EUR", "slot": 1, "bits": 8, "expected": 256, "tries": 0}


def test_a_long_search_is_told_on_the_way(
    maker: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = [{"tries": 0}, {"tries": 1_500_000, "expected": 1_048_576, "bits": 20}]

    class Client:
        def get(self, path: str) -> dict[str, int]:
            assert path == "/v1/offers/work?currency=EUR"
            if len(answers) == 1:
                told.set()
            return answers.pop(0) if answers else {"tries": 0}

    class Session:
        client = Client()

        def remark(self, text: str) -> None:
            said.append(text)

    import threading

    said: list[str] = []
    told = threading.Event()
    monkeypatch.setattr(module, "PATIENCE_S", 0.001)
    monkeypatch.setattr(module, "AGAIN_S", 0.001)
    with module._patience(Session(), "EUR"):  # type: ignore[arg-type]
        assert told.wait(10)
    assert said == [
        "looking for its proof of work of 20 bits: 1,500,000 tries, 143 % of what it takes on "
        "average …"
    ]


REVOLUT_MOST = cap_sat("REVOLUT")


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"--margin": "50.01"}, 65, "margin: is not -50 to 50 percent"),
        ({"--margin": "-50.01"}, 65, "margin: is not -50 to 50 percent"),
        ({"--margin": "1.001"}, 65, "margin: has more than 2 decimals"),
        ({"--margin": "--1"}, 65, "margin: '-1' is not a decimal number"),
        ({"--margin": "٣"}, 65, "margin: "),
        ({"--price": "1"}, 2, "Say --price or --margin, not both."),
        ({"--country": "DEU"}, 65, "countries: 'DEU' is no country of ISO 3166-1"),
        ({"--country": "XX"}, 65, "countries: 'XX' is no country of ISO 3166-1"),
        ({"--country": "D\u0415"}, 65, "countries: 'D\\u0415' is no country"),
        ({"--language": "english"}, 65, "languages: 'english' is no language of ISO 639-1"),
        ({"--language": "xx"}, 65, "languages: 'xx' is no language of ISO 639-1"),
        ({"--language": "\x1b["}, 65, "languages: holds a control or direction character"),
        ({"--peer-trades": "65"}, 65, "peer_trades: is not an integer in 0..64"),
        ({"--peer-trades": "x"}, 2, "'x' is not a valid integer"),
        ({"--peer-trades": "9" * 30}, 2, "peer_trades: is not an integer"),
        ({"--peer-days": "-1"}, 65, "peer_days: is not an integer in 0..3650"),
        ({"--escrow": "wsh-3of3"}, 2, "'wsh-3of3' is not one of"),
        ({"--expires": "59"}, 65, "expires: '59' is not a time such as 12h, 7d or never"),
        ({"--expires": "0d"}, 65, "expires: '0d' is not a time such as"),
        ({"--expires": "-1d"}, 65, "expires: '-1d' is not a time such as"),
        ({"--expires": "1y"}, 65, "expires: '1y' is not a time such as"),
        ({"--expires": "367d"}, 65, "expires: is not 60 s to 366 days from now"),
        ({"--expires": "999999w"}, 65, "expires: is not 60 s to 366 days from now"),
        ({"--disable-below": "70000.50"}, 65, "disable_below: is not below disable_above"),
        ({"--disable-below": "1e5"}, 65, "disable-below: '1e5' is not a decimal number"),
        ({"--disable-above": "9" * 16}, 65, "disable-above: '9999999999999999' is not 0"),
        ({"--max": "0.01000001"}, 65, "max: is not 0.0020 to 0.0100 BTC"),  # no buyer's deposit
        ({"--max": "0.0019"}, 65, "max: is not 0.0020 to "),
        ({"--min": "0.011"}, 65, "max: is not 0.0110 to "),
        ({"--max": "99999999999"}, 65, "max: '99999999999' is not 0"),
        ({"--terms": "\u00e9" * 251}, 65, "terms: is 502 bytes of text, not 0 to 500"),
        ({"--terms": "pay \u202emoc.liam"}, 65, "terms: holds a control or direction character"),
        ({"--terms": "a\x00b"}, 65, "terms: holds a control or direction character"),
        ({"--cur": "\u0415UR"}, 65, "currency: '\u0415UR' is not three letters"),
        ({"--cur": "EU\u200b"}, 65, "is not three letters"),
        ({"--cur": "XTS"}, 65, "currency: 'XTS'"),
        ({"--account": "other"}, 2, "account: 'other' is a second one of REVOLUT"),
        ({"--account": "h\u043eme"}, 70, "account: there is none called 'h\u043eme'"),
        ({"--buyer-deposit": "60"}, 65, "deposit: is not 10 to 50 percent"),
    ],
)
def test_bad_words_are_one_sentence_and_publish_nothing(
    maker: Daemon, change: dict[str, str], code: int, words: str
) -> None:
    argv = list(ALL)
    for name, value in change.items():
        if name in ("--account", "--price"):
            argv += [name, value]
        elif name in argv:
            argv[argv.index(name) + 1] = value
        else:
            argv += [name, value]
    result = maker(offer, *argv)
    assert (result.exit_code, result.stdout) == (code, ""), result.stderr
    assert words in result.stderr
    assert "\x1b" not in result.stderr
    assert result.stderr.splitlines()[-1].lower().startswith("error: ")
    assert maker.market.records == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--price", "6124"), "you would sell at 90.00 % below the reference price"),
        (("--price", "250000"), "you would sell at 308.22 % above the reference price"),
        (("--margin", "-20.01"), "you would sell at 20.01 % below the reference price"),
    ],
)
def test_a_price_that_hardly_anybody_means_is_published_only_if_it_is_meant(
    maker: Daemon, words: tuple[str, ...], said: str
) -> None:
    rest = [*CREATE[:-1], "0.01", "--account", "bank"]
    refused = maker(offer, *rest, *words)
    assert (refused.exit_code, refused.stdout) == (70, "")
    assert said in refused.stderr
    assert "if it is, say --yes" in refused.stderr
    assert maker.market.records == []
    made = run(maker, *rest, "--price", "61240")
    changed = maker(offer, "edit", made["offer_id"][:8], *words)
    assert (changed.exit_code, changed.stdout) == (70, "")
    cloned = maker(offer, "clone", made["offer_id"][:8], *words)
    assert (cloned.exit_code, cloned.stdout) == (70, "")
    assert run(maker, *rest, *words, "--yes")["state"] == "enabled"


def test_an_amount_over_the_methods_limit_names_method_and_bound(maker: Daemon) -> None:
    words = [*CREATE[:-1], "0.0625", "--price", "61240", "--account", "bank"]
    assert REVOLUT_MOST == 6_250_000
    assert run(maker, *words)["max_sat"] == REVOLUT_MOST
    words[CREATE.index("--max") + 1] = "0.06250001"
    refused = maker(offer, *words)
    assert refused.exit_code == 65
    assert refused.stderr == ("error: max: is over 0.0625 BTC, the most of one trade by REVOLUT\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("edit", "ID"), "Say what is to change."),
        ([*CREATE[:2], *CREATE[4:], "--price", "1", "--account", "home"], "Missing option '--cur'"),
        ([*CREATE[:4], "--price", "1", "--account", "home"], "Missing option '--min'"),
        ([*CREATE, "--account", "home"], "Say --price or --margin."),
        ([*CREATE, "--price", "1"], "Missing option '--account'"),
    ],
)
def test_what_is_missing_is_named(maker: Daemon, words: list[str], said: str) -> None:
    made = run(maker, *FIXED)
    result = maker(offer, *(made["offer_id"] if word == "ID" else word for word in words))
    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"accounts": "home"}, "accounts: is not a list of texts"),
        ({"accounts": [1]}, "accounts: is not a list of texts"),
        ({"accounts": []}, "methods: is empty"),
        ({"countries": "DE"}, "countries: is not a list of texts"),
        ({"languages": {"en": 1}}, "languages: is not a list of texts"),
        ({"escrow_kinds": ["x"]}, "escrow_kinds: holds one that is none of wsh-2of3"),
        ({"price": 1.5}, "price: is not an integer"),
        ({"price": True}, "price: is not an integer"),
        ({"price": 2**53}, "price: is not an integer in 0.."),
        ({"price": 1, "margin_bp": 1}, "margin_bp: stands beside a fixed price"),
        ({"margin_bp": -5001}, "margin_bp: is not an integer in -5000..5000"),
        ({"min_sat": "0x1"}, "min_sat: is not an integer"),
        ({"ends_in_s": -5}, "expires: is not 60 s to 366 days from now"),
        ({"disable_below": -1}, "disable_below: is not an integer in 0.."),
        ({"terms": ["x"]}, "terms: is not text"),
        ({"countries": ["DE"] * 3 + ["FR", "de"]}, "countries: 'de' is no country"),
        ({"countries": [f"{a}{b}" for a in "ABCDE" for b in "ABCDEFGHIJKLMNOP"]}, "countries: "),
    ],
)
def test_the_api_bounds_every_field(maker: Daemon, body: dict[str, Any], words: str) -> None:
    whole: dict[str, Any] = {
        "side": "sell",
        "currency": "EUR",
        "min_sat": 200_000,
        "max_sat": 300_000,
        "price": EUR,
        "accounts": ["home"],
    }
    if "margin_bp" in body and "price" not in body:
        del whole["price"]
    with pytest.raises(Exception, match="^" + words.replace(".", r"\.")):
        maker.client().post("/v1/offers", **(whole | body))
    made = maker.client().post("/v1/offers", **({"price": EUR} | whole))
    out = len(maker.market.records)
    with pytest.raises(Exception, match="^" + words.replace(".", r"\.")):
        maker.client().post(f"/v1/offers/{made['offer_id']}/edit", **body)
    assert len(maker.market.records) == out
