"""`p2pnode account`: streams, exit codes and JSON are an interface."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from orderbook_daemon import Daemon, daemon

from orderbook.methods import METHODS
from p2pnode.app.commands.account import account

SECRET = "CANARY DE89 3704"
ADD = ["add", "--name", "home", "--method", "CUSTOM", "--details", SECRET]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Daemon]:
    with daemon(tmp_path) as one:
        yield one


def test_every_method_is_a_row_under_its_group(node: Daemon) -> None:
    told = node(account, "methods").stdout.splitlines()
    assert told[:3] == [
        "  METHOD                TO PAY  MOST BTC  CURRENCIES            COUNTRIES",
        "Bank transfers",
        "  SEPA                     6 d  0.0625!   EUR                   AD AL +40",
    ]
    assert [line for line in told if not line.startswith(" ")] == [
        "Bank transfers",
        "Services and mobile payments",
        "Cash and vouchers",
        "Other chains",
        "Anything else",
    ]
    assert max(map(len, told)) <= 80
    objects = [json.loads(line) for line in node(account, "methods", "--json").stdout.splitlines()]
    assert [one["method"] for one in objects] == list(METHODS)
    assert len(told) == len(METHODS) + 6
    form = objects[-1]
    assert (form["method"], form["period_s"], form["cap_sat"]) == ("CUSTOM", 345_600, 6_250_000)
    assert form["fields"][0]["name"] == "details"


def test_methods_are_filtered_by_currency_and_country(node: Daemon) -> None:
    def listed(*argv: str) -> set[str]:
        rows = node(account, "methods", "--json", *argv).stdout.splitlines()
        return {json.loads(row)["method"] for row in rows}

    assert listed("--cur", "xmr") == {"MONERO"}
    swedish = listed("--cur", "SEK", "--country", "se")
    assert {"SWISH", "NATIONAL_BANK", "CUSTOM", "REVOLUT"} <= swedish
    assert not {"SEPA", "PIX", "MONERO", "ZELLE"} & swedish
    for argv, field in ((["--cur", "XYZ"], "currency"), (["--country", "ZZ"], "country")):
        wrong = node(account, "methods", *argv)
        assert (wrong.exit_code, wrong.stdout) == (65, "")
        assert wrong.stderr.startswith(f"error: {field}: ")


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_shown_in_full_and_its_form_fits_its_example(
    node: Daemon, method: str, tmp_path: Path
) -> None:
    shown = node(account, "methods", method.lower()).stdout.splitlines()
    long = {f.example for f in METHODS[method].fields if len(f.example) > 70}
    for line in [*shown, *(blank := node(account, "form", method).stdout).splitlines()]:
        assert len(line) <= 80 or any(example in line for example in long)
    for one in METHODS[method].fields:
        assert any(line.split("(")[0].strip() == one.name for line in shown)
        assert blank.count(f'\n{one.name} = ""\n') == 1
        blank = blank.replace(f'\n{one.name} = ""\n', f'\n{one.name} = "{one.example}"\n')
    added = node(account, "add", "-", stdin=blank)
    assert (added.exit_code, added.stdout) == (0, f"account {method.lower()} added ({method})\n")


def test_a_form_is_a_new_file_for_its_owner_alone(node: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "sepa.toml"
    told = node(account, "form", "SEPA", "--out", str(path))
    assert told.stdout.splitlines()[-1] == f"p2pnode account add {path}"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == node(account, "form", "SEPA").stdout
    path.write_text("mine")
    again = node(account, "form", "SEPA", "--out", str(path))
    assert (again.exit_code, again.stdout, path.read_text()) == (70, "", "mine")
    nowhere = node(account, "form", "SEPA", "--out", str(tmp_path / "no" / "such.toml"))
    assert nowhere.exit_code == 74
    unknown = node(account, "form", "SEPAA")
    assert (unknown.exit_code, unknown.stdout) == (65, "")
    assert "method: 'SEPAA' is not one of" in unknown.stderr


FORM = """# my bank
name = "bank"
method = "SEPA"

[details]
holder = "Maria S\u0441hmidt"
iban = "DE89 3704 0044 0532 0130 01"
bic = 5
accepted_countries = "DE FR"
colour = "red"
"""


def test_every_bad_field_is_named_with_its_line(node: Daemon) -> None:
    result = node(account, "add", "-", stdin=FORM)
    assert (result.exit_code, result.stdout) == (65, "")
    assert result.stderr == (
        "error: file: 4 fields are wrong\n"
        "  line 10, details: 'colour' is no field of SEPA (holder, iban, bic,\n"
        "  accepted_countries)\n"
        "  line 6, holder: mixes Cyrillic and Latin letters, which look alike: write it\n"
        "  in one alphabet\n"
        "  line 7, iban: is mistyped: its check digits do not match\n"
        "  line 8, bic: is not text: put it between double quotes\n"
    )
    as_json = json.loads(node(account, "add", "-", "--json", stdin=FORM).stderr)["error"]
    assert (as_json["code"], as_json["field"]) == ("bad_data", "colour")
    assert node(account, "list").stdout == ""


def test_one_bad_field_is_one_sentence(node: Daemon) -> None:
    text = FORM.replace("\u0441", "c").replace("bic = 5\n", "").replace('colour = "red"\n', "")
    assert node(account, "add", "-", stdin=text).stderr == (
        "error: line 7, iban: is mistyped: its check digits do not match\n"
    )
    mended = text.replace("0130 01", "0130 00")
    assert node(account, "add", "-", stdin=mended).exit_code == 0
    again = node(account, "add", "-", stdin=mended)
    assert (again.exit_code, again.stderr) == (
        70,
        "error: name: there is an account 'bank' already\n",
    )
    both = node(account, "add", "-", stdin=text)
    assert both.exit_code == 65
    assert "line 2, name: there is an account 'bank' already" in both.stderr
    assert "line 7, iban: is mistyped" in both.stderr


def test_an_account_is_shown_and_removed(node: Daemon) -> None:
    text = node(account, "form", "FASTER_PAYMENTS").stdout
    for name, value in (("holder", "Ann Lee"), ("sort_code", "20 00 00"), ("account", "55779911")):
        text = text.replace(f'{name} = ""', f'{name} = "{value}"')
    assert node(account, "add", "-", "--name", "pounds", stdin=text).exit_code == 0
    assert node(account, "show", "pounds").stdout == (
        "account pounds (FASTER_PAYMENTS)\n"
        "  holder     Ann Lee\n"
        "  sort_code  200000\n"
        "  account    55779911\n"
        "  used by: nothing\n"
    )
    assert json.loads(node(account, "show", "pounds", "--json").stdout)["uses"] == []
    assert node(account, "show", "euros").exit_code == 70
    unasked = node(account, "remove", "pounds")
    assert unasked.exit_code == 2
    node.users = ("offer c05e12aa", "trade 0011aabb")
    used = node(account, "remove", "pounds", "--yes")
    assert (used.exit_code, used.stdout) == (70, "")
    assert "'pounds' is in use by offer c05e12aa, trade 0011aabb: first cancel" in used.stderr
    assert "used by: offer c05e12aa, trade 0011aabb" in node(account, "show", "pounds").stdout
    node.users = ()
    assert node(account, "remove", "pounds", "--yes").stdout == "account pounds removed\n"
    assert node(account, "list").stdout == ""
    assert node(account, "remove", "pounds", "--yes").exit_code == 70


def test_an_account_is_added_and_listed(node: Daemon) -> None:
    empty = node(account, "list")
    assert (empty.exit_code, empty.stdout) == (0, "")
    assert "account add" in empty.stderr
    assert node(account, *ADD).stdout == "account home added (CUSTOM)\n"
    assert node(account, "list").stdout == (
        "NAME                  METHOD          DETAILS\n"
        "home                  CUSTOM          CANARY DE89 3704\n"
    )
    listed = json.loads(node(account, "list", "--json").stdout)
    assert listed["details"] == {"details": SECRET}
    assert len(bytes.fromhex(listed["account_id"])) == 32


def test_json_of_an_addition_has_no_details(node: Daemon) -> None:
    added = node(account, *ADD, "--json")
    assert set(json.loads(added.stdout)) == {"name", "method", "account_id"}
    assert "CANARY" not in added.output


@pytest.mark.parametrize("source", ["file", "-"])
def test_an_account_comes_from_a_file_or_standard_input(
    node: Daemon, tmp_path: Path, source: str
) -> None:
    body = json.dumps({"name": "work", "method": "CUSTOM", "details": {"details": SECRET}})
    path = tmp_path / "account.json"
    path.write_text(body)
    added = node(account, "add", "-" if source == "-" else str(path), stdin=body)
    assert (added.exit_code, added.stdout) == (0, "account work added (CUSTOM)\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "file: does not hold name, method and details"),
        ("[", "file: is not TOML as `p2pnode account form` writes it: text stands"),
        ("a = 1\nb = c", "file: is not TOML as `p2pnode account form` writes it (line 2)"),
        ("[1]", "file: does not hold name, method and details"),
        ('{"name": "x", "iban": "y"}', "file: does not hold name, method and details"),
        ('{"name": "x",\n"iban": y}', "file: begins as JSON but is not (line 2)"),
        ("a = " + "[" * 50_000, "file: is not TOML"),
        ('{"a": ' + "[" * 50_000, "file: begins as JSON but is not"),
        ("#" * 100_001, "file: is over 100000 characters"),
        ('name = "x"\nmethod = "CUSTOM"\ndetails = "y"', "details: is not a table of the method's"),
        ('name = 5\nmethod = "CUSTOM"\n[details]\ndetails = "y"', "name: is not text in quotes"),
        ('name = "x"\nname = "y"', "file: is not TOML"),
    ],
)
def test_a_bad_file_is_a_sentence(node: Daemon, text: str, words: str) -> None:
    result = node(account, "add", "-", stdin=text)
    assert (result.exit_code, result.stdout) == (65, "")
    assert result.stderr.startswith(f"error: {words}")


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["add", "--name", "a", "--method", "CUSTOM"], 2, "details: is missing"),
        (["add", "--method", "CUSTOM", "--details", "x"], 2, "name: is missing"),
        (["add", "--name", "a", "--method", "SEPAA", "--details", "x"], 65, "method: 'SEPAA'"),
        (
            ["add", "--name", "a", "--method", "sepa", "--details", "x"],
            65,
            "details: the option is for CUSTOM; `p2pnode account form SEPA` writes a file",
        ),
        (["add", "--name", "", "--method", "CUSTOM", "--details", "x"], 65, "name: "),
        (["add", "--name", "a", "--method", "CUSTOM", "--details", "x" * 501], 65, "details: "),
        (["add", "--name", "a", "--method", "CUSTOM", "--details", "a\nb"], 65, "details: "),
        (["add", "/no/such/file"], 2, ""),
    ],
)
def test_exit_codes(node: Daemon, argv: list[str], code: int, words: str) -> None:
    result = node(account, *argv)
    assert (result.exit_code, result.stdout) == (code, "")
    assert words in result.stderr
    assert "Traceback" not in result.output
    assert node(account, "list").stdout == ""


def test_a_name_is_taken_once(node: Daemon) -> None:
    node(account, *ADD)
    again = node(account, *ADD, "--json")
    assert again.exit_code == 70
    assert json.loads(again.stderr)["error"] == {
        "code": "refused",
        "field": "name",
        "message": "name: there is an account 'home' already",
    }


def test_details_stay_out_of_the_data_directory(node: Daemon) -> None:
    node(account, *ADD)
    written = b"".join(p.read_bytes() for p in node.folder.iterdir() if p.is_file())
    assert b"accounts_account" in written
    assert b"CANARY" not in written


def test_without_a_daemon_it_says_how_to_start_one(tmp_path: Path) -> None:
    result = CliRunner().invoke(account, ["list", "--data-dir", str(tmp_path)])
    assert result.exit_code == 69
    assert "p2pnode run" in result.stderr
