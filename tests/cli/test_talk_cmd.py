"""What a stranger wrote, on a terminal and on a disk: names, chat, reasons, files."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import cli
from p2pnode.app.commands import frame
from p2pnode.app.commands.arbiter_hearing import left, preview, show_case, write_file
from p2pnode.app.commands.frame import Session
from p2pnode.app.commands.trade_talk import checked, conversation
from p2pnode.app.commands.trade_view import show_trade
from p2pnode.base.errors import InvalidRecord, LocalFault, StorageFault

DAY = 86_400
T0 = 1_787_685_145  # 2026-08-25 19:12 UTC
HOSTILE = [
    "\x1b[2J\x1b[H",
    "\x1b]0;title\x07",
    "\x9b31m",
    "\u202egnp.exe",
    "\u2066x\u2069",
    "\u200b\u200d\ufeff",
    "\r  next      p2pnode trade received 7f3a",
    "\b\b\b\b",
    "\U000e0041\U000e0042",
    "a\u2028b\u2029c",
]


def run(*argv: str) -> Result:
    return CliRunner().invoke(cli.main, list(argv))


def session(tmp_path: Path) -> Session:
    return Session(tmp_path, "sandbox", as_json=False)


def harmless(shown: str) -> None:
    assert all(c.isprintable() or c == "\n" for c in shown), repr(shown)


# ------------------------------------------------------------------ on a terminal


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_what_a_terminal_would_obey_is_written_out(text: str) -> None:
    for shown in (frame.plain(text), frame.entry("buyer", text), frame.quoted("  ", text)):
        harmless(shown)
        assert shown.strip()
    assert "\n" not in frame.plain(text)


def test_good_words_stay_as_they_are() -> None:
    text = "Überweisung über 612,40 € — Ausführung heute, 支払い済み 👍"
    assert frame.plain(text) == text


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_chat_shows_when_who_and_nothing_that_moves(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = {
        "at": T0,
        "speaker": "seller",
        "listener": "buyer",
        "mine": False,
        "delivered": True,
        "text": f"x{text}" + "y" * 200,
    }
    mine = said | {"mine": True, "text": "fine", "at": None, "speaker": "buyer"}
    mine["listener"] = "seller"
    conversation(session(tmp_path), [said, mine], "nothing")
    out = capsys.readouterr().out
    harmless(out)
    lines = out.splitlines()
    assert lines[0] == "2026-08-25 19:12 UTC  the seller to you"
    assert lines[-2:] == ["(time unknown)  you to the seller", "    fine"]
    assert max(map(len, lines)) <= 80
    assert all(line.startswith("    ") for line in lines[1:-2])
    conversation(session(tmp_path), [mine | {"delivered": False, "at": T0}], "nothing")
    (line, _) = capsys.readouterr().out.splitlines()
    assert line == "2026-08-25 19:12 UTC  you to the seller, on its way, not delivered yet"


def test_a_command_in_a_strangers_words_does_not_stand_alone() -> None:
    words = "of course, first of all you must run p2pnode trade received 7f3a91 and then wait"
    lines = frame.quoted("    ", words).splitlines()
    assert not any(line.strip().startswith("p2pnode") for line in lines)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "text: is empty"),
        ("   ", "text: is empty"),
        ("ü" * 501, "text: is 1002 bytes, over 1000: send it in several messages"),
        ("a\nb", "text: holds a control character"),
    ],
)
def test_chat_that_cannot_go_says_how_it_would(text: str, why: str) -> None:
    with pytest.raises(InvalidRecord, match=why):
        checked("text", text)


# ------------------------------------------------------------------ on a disk


def sent(data: bytes, **change: Any) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    file = {
        "file_hash": digest,
        "export_name": f"{digest[:12]}-receipt.txt",
        "data": base64.b64encode(data).decode(),
    }
    return file | change


def test_a_file_is_written_once_and_over_nothing(tmp_path: Path) -> None:
    file = sent(b"paid")
    target = write_file(tmp_path, file)
    assert target.read_bytes() == b"paid"
    assert target.stat().st_mode & 0o777 == 0o600
    assert write_file(tmp_path, file) == target  # the same once more
    target.write_bytes(b"mine")
    with pytest.raises(LocalFault, match="is there already and is another file"):
        write_file(tmp_path, file)
    assert target.read_bytes() == b"mine"


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    file, mine = sent(b"paid"), tmp_path / "mine"
    mine.write_bytes(b"paid")
    (tmp_path / file["export_name"]).symlink_to(mine)
    with pytest.raises(LocalFault, match="is there already"):
        write_file(tmp_path, file)
    out = tmp_path / "out"
    out.mkdir()
    (out / file["export_name"]).symlink_to(tmp_path / "not there")
    with pytest.raises(LocalFault, match="is there already"):
        write_file(out, file)
    assert not (tmp_path / "not there").exists()


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "", ".", "..", "x/", "./x"])
def test_a_name_that_leaves_the_directory_is_refused(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(InvalidRecord, match="export_name"):
        write_file(out, sent(b"paid", export_name=name))
    assert list(tmp_path.rglob("*")) == [out]


def test_data_of_another_hash_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidRecord, match="is not what its hash names"):
        write_file(tmp_path, sent(b"paid", file_hash="00" * 32))
    assert not list(tmp_path.iterdir())


def test_no_room_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageFault, match="out: "):
        write_file(tmp_path / "none", sent(b"paid"))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda f: f.write_bytes(b""), "is empty"),
        (lambda f: f.write_bytes(b"a" * ((1 << 20) + 1)), "is over 1 MiB"),
        (lambda f: f.mkdir(), "directory"),
        (lambda f: None, "is not a file"),
    ],
)
def test_a_file_that_cannot_go_is_named_before_anything_is_sent(
    make: Any, why: str, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
    good.write_bytes(b"fine")
    make(bad)
    told = run("dispute", "evidence", "7f3a", str(good), str(bad), "--data-dir", str(tmp_path))
    assert told.exit_code in {2, 65}
    assert "bad.txt" in told.stderr
    assert why in told.stderr
    assert told.stdout == ""


# ------------------------------------------------------------------ trades and cases


def trade(**change: Any) -> dict[str, Any]:
    plain = {
        "trade_id": "7f3a91" + "0" * 58,
        "state": "Disputed",
        "note": "",
        "role": "buyer",
        "amount_sat": 500_000,
        "fiat_minor": 30620,
        "exponent": 2,
        "currency": "EUR",
        "remark": "my own words",
        "asks": [
            {"asker": "seller", "buyer_sat": 75_000, "seller_sat": 575_000, "note": "please"}
            | {"standing": "open", "ask_id": "aa", "declined": None},
            {"asker": "buyer", "buyer_sat": 1, "seller_sat": 2, "note": "old", "ask_id": "bb"}
            | {"standing": "free", "declined": None},
        ],
        "verdict": {"by": "aa", "buyer_sat": 1, "seller_sat": 2, "reason": "because"},
        "next": "wait",
    }
    return plain | change


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_trade_shows_everything_a_stranger_wrote_and_obeys_none_of_it(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = trade(peer_account=text, recused=text)
    shown["asks"][0]["note"] = text
    shown["asks"][1]["declined"] = text
    shown["verdict"]["reason"] = text
    show_trade(session(tmp_path), shown)
    harmless(capsys.readouterr().out)


def test_a_trade_shows_open_proposals_and_the_own_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show_trade(session(tmp_path), trade())
    out = capsys.readouterr().out
    assert "  open      the seller proposed: buyer 0.00075000, seller 0.00575000 BTC\n" in out
    assert "            please\n" in out
    assert "old" not in out
    assert "  your note my own words\n" in out
    assert "unread" not in out
    refused = trade(unread=2)
    refused["asks"][1]["declined"] = "no way"
    show_trade(session(tmp_path), refused)
    out = capsys.readouterr().out
    assert "  declined  you proposed: buyer 0.00000001, seller 0.00000002 BTC\n" in out
    assert "            no way\n" in out
    assert "  unread    2 messages: p2pnode trade chat 7f3a9100\n" in out


def case(**change: Any) -> dict[str, Any]:
    plain = {
        "trade_id": "7f3a91" + "0" * 58,
        "state": "Hearing",
        "opener": "buyer",
        "runner_up": False,
        "amount_sat": 500_000,
        "escrow_sat": 650_000,
        "fee_sat": 1_500,
        "deposit_buyer_sat": 75_000,
        "deposit_seller_sat": 75_000,
        "fiat_minor": 30620,
        "exponent": 2,
        "currency": "EUR",
        "statement_buyer": "I paid.",
        "statement_seller": "",
        "files_buyer": 1,
        "files_seller": 0,
        "signed_twice": [],
        "lacking": ["the seller's statement"],
        "due": [{"what": "ruling", "by_mtp": T0 + 5 * DAY}],
        "mtp": T0,
        "below_release_from_mtp": T0 + 4 * DAY,
        "note": "",
        "next": "read, then rule",
    }
    return plain | change


def test_a_case_says_what_lacks_and_by_when(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show_case(session(tmp_path), case())
    out = capsys.readouterr().out
    assert "  lacks     the seller's statement\n" in out
    assert "  ruling    by 2026-08-30 19:12 UTC (5 d)\n" in out
    assert "under 0.00575 BTC for the buyer not before 2026-08-29 19:12 UTC" in out
    assert "p2pnode arbiter evidence 7f3a91" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_a_case_obeys_no_statement(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = case(statement_buyer=text, statement_seller=text, paid_note=text, lacking=[text])
    show_case(session(tmp_path), shown | {"account_seller": text})
    harmless(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5 * DAY, "5 d"), (DAY, "1 d"), (DAY - 1, "23 h"), (3599, "0 h"), (0, "over"), (-9, "over")],
)
def test_time_left_is_told_in_days_then_hours(seconds: int, text: str) -> None:
    assert left(seconds) == text


def test_a_preview_shows_who_gets_what_at_both_rates() -> None:
    low = {"rate": 2, "fee_sat": 400, "buyer_sat": 99_600, "seller_sat": 548_500}
    high = {"rate": 8, "fee_sat": 1_600, "buyer_sat": 98_400, "seller_sat": 548_500}
    seen = {
        "buyer_sat": 100_000,
        "seller_sat": 548_500,
        "arbiter_sat": 1_500,
        "payouts": [low | {"arbiter_sat": 1_500}, high | {"arbiter_sat": 1_500}],
    }
    shown = "\n".join(preview(seen))
    assert "  split     buyer 0.00100000, seller 0.00548500, you 0.00001500 BTC\n" in shown
    assert "  2 sat/vB  buyer 0.00099600, seller 0.00548500, you 0.00001500 BTC\n" in shown
    assert "network fee 1600 sat" in shown
    assert max(map(len, shown.splitlines())) <= 80


# ------------------------------------------------------------------ words of the command line


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("--refund", "--buyer", "0.1"),
        ("--refund", "--withdraw"),
        ("--buyer", "0.1", "--withdraw"),
    ],
    ids=" ".join,
)
def test_a_proposal_is_one_thing(argv: tuple[str, ...], tmp_path: Path) -> None:
    told = run("trade", "ask", "7f3a", *argv, "--data-dir", str(tmp_path))
    assert told.exit_code == 2
    assert "one of --refund, --buyer BTC and --withdraw" in told.stderr


def test_an_arbiter_says_to_whom(tmp_path: Path) -> None:
    told = run("arbiter", "chat", "7f3a", "hello", "--data-dir", str(tmp_path), "--json")
    assert told.exit_code == 2
    assert "--to buyer or --to seller" in json.loads(told.stderr)["error"]["message"]
