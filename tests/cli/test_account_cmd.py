"""`p2pnode account`: streams, exit codes and JSON are an interface."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from orderbook_daemon import Daemon, daemon

from p2pnode.app.commands.account import account

SECRET = "CANARY DE89 3704"
ADD = ["add", "--name", "home", "--method", "CUSTOM", "--details", SECRET]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Daemon]:
    with daemon(tmp_path) as one:
        yield one


def test_methods_are_listed_with_what_they_ask_for(node: Daemon) -> None:
    told = node(account, "methods")
    assert told.stdout == (
        "METHOD          PERIOD  FIELDS\nCUSTOM             4 d  details (500 bytes)\n"
    )
    (form,) = [json.loads(line) for line in node(account, "methods", "--json").stdout.splitlines()]
    assert (form["method"], form["period_s"]) == ("CUSTOM", 345_600)
    assert form["fields"][0]["name"] == "details"


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
        ("", "file: is not JSON"),
        ("[", "file: is not JSON"),
        ("[1]", "file: is not an object"),
        ('{"name": "x", "iban": "y"}', "file: is not an object of name, method and details"),
        ("[" * 50_000, "file: is not JSON"),
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
        (["add", "--name", "a", "--method", "SEPA", "--details", "x"], 65, "method: 'SEPA'"),
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
