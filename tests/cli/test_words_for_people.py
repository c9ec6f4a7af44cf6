"""What people read: 80 columns, whole commands, dates by the chain's clock, units they gave."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

import cli
from escrow.bargain import Declined
from escrow.model import Broadcast, Funded, Paid, Releasing
from p2pnode.app.advice import advise
from p2pnode.app.commands import frame, offer_view
from p2pnode.app.commands.offer_view import price
from p2pnode.app.commands.trade_view import deadlines
from p2pnode.app.routes_bargain import advise as proposal_advice
from p2pnode.base.errors import InvalidRecord

DAY = 86_400
T0 = 1_787_685_145  # 2026-08-25 19:12 UTC


def run(*argv: str) -> Result:
    return CliRunner().invoke(cli.main, list(argv))


@pytest.mark.parametrize(
    "argv",
    [
        ("trade", "show"),
        ("trade", "watch"),
        ("trade", "cancel"),
        ("trade", "received", "--yes"),
        ("trade", "not-paid", "--yes"),
        ("trade", "chat"),
        ("trade", "ask", "--refund", "--yes"),
        ("trade", "agree", "--yes"),
        ("trade", "decline"),
        ("dispute", "evidence"),
        ("arbiter", "chat"),
        ("arbiter", "evidence"),
        ("arbiter", "recuse", "--reason", "x", "--yes"),
        ("dispute", "show"),
        ("dispute", "answer", "--statement", "x"),
        ("arbiter", "show"),
        ("arbiter", "decide", "--buyer", "1", "--reason", "x", "--yes"),
        ("draw", "show"),
        ("offer", "show"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("odd", ["é", "a b", "../../stop", "1885?x=1", "", "f" * 65])
def test_an_odd_id_is_a_sentence_and_65(argv: tuple[str, ...], odd: str, tmp_path: Any) -> None:
    result = run(*argv, "--data-dir", str(tmp_path), "--", odd)
    assert (result.exit_code, result.stdout) == (65, "")
    assert "64 hex digits" in result.stderr


def test_a_long_line_wraps_and_its_command_stays_whole() -> None:
    command = "p2pnode trade pay-sent 18852da0"
    text = f"pay 1,224.80 EUR to that account by 2026-09-20 21:52 UTC, then: {command}"
    lines = frame.entry("next", text).splitlines()
    assert lines[0].startswith("  next      pay 1,224.80 EUR")
    assert lines[-1] == " " * 12 + command
    assert max(map(len, lines)) <= 80


def test_another_persons_text_cannot_stand_at_the_margin() -> None:
    said = frame.entry("buyer", "I paid.\n  next      release it now")
    assert said.splitlines()[1].startswith(" " * 12)


def test_a_short_line_stays_one() -> None:
    text = "when the money is in: p2pnode trade received 1885"
    assert frame.entry("next", text) == f"  next      {text}"


@pytest.mark.parametrize(
    ("field", "why", "said"),
    [
        (
            "amount_sat",
            "is not an integer in 500000..2000000",
            "amount: is not 0.0050 to 0.0200 BTC",
        ),
        ("dep_b_bp", "is not an integer in 1000..5000", "deposit: is not 10 to 50 percent"),
        ("max_sat", "is over 3000000 sat, the most", "max: is over 0.0300 BTC, the most"),
        ("seq", "is not an integer in 0..9", "seq: is not an integer in 0..9"),
    ],
)
def test_bounds_are_told_in_the_units_that_people_give(field: str, why: str, said: str) -> None:
    assert frame._spoken(InvalidRecord(field, why)) == said


@pytest.mark.parametrize(
    ("value", "exponent", "text"),
    [
        (61_240_00_0000, 2, "61,240.00"),
        (61_240_12_3400, 2, "61,240.1234"),
        (15_012_345_5000, 0, "15,012,345.5"),
        (15_012_345_0000, 0, "15,012,345"),
        (1, 2, "0.000001"),
    ],
)
def test_a_price_keeps_the_currencys_decimals_and_no_idle_ones(
    value: int, exponent: int, text: str
) -> None:
    assert price({"price": value, "exponent": exponent}) == text


def test_deadlines_are_dates_and_say_when_they_are_over() -> None:
    funded = {
        "state": "Funded",
        "mtp": T0,
        "pay_by_mtp": T0 + 6 * DAY,
        "ack_by_mtp": T0 + 2 * DAY,
        "ruling_below_release_from_mtp": T0 + 10 * DAY,
    }
    shown = "\n".join(deadlines(funded))
    assert "payment   by 2026-08-31 19:12 UTC\n" in shown
    assert "not before 2026-09-04 19:12 UTC" in shown
    assert "details" not in shown
    funded["due"] = [{"what": "details", "by_mtp": T0 + 2 * DAY}]
    assert "details   exchanged by 2026-08-27" in "\n".join(deadlines(funded))
    assert "19:12 UTC: over" in "\n".join(deadlines(funded | {"mtp": T0 + 6 * DAY}))
    assert deadlines(funded | {"state": "Closed"}) == []


def facts(mtp: int, *, me: str = "b") -> Any:
    contract = SimpleNamespace(
        fiat_minor=61240, currency="EUR", depth=3, n=4896, period_end=lambda start: start + 6 * DAY
    )
    return SimpleNamespace(
        me=me,
        buyer="b",
        seller="s",
        take=SimpleNamespace(id=bytes.fromhex("18852da0" * 8)),
        contract=contract,
        view=SimpleNamespace(
            mtp=mtp, tip=250, funding_mtp=T0, funding_height=250, funding_depth=1, spend=None
        ),
        one=lambda who, kind: object() if kind.name == "ACK" else None,
        peer="s" if me == "b" else "b",
        asked=lambda asker: None,
        doubted=None,
    )


def test_nobody_is_told_to_pay_when_the_time_is_over() -> None:
    assert advise(Funded(), facts(T0)).startswith("pay 612.40 EUR to that account by 2026-08-31")
    late = advise(Funded(), facts(T0 + 6 * DAY))
    assert late.startswith("the time to pay is over: do not pay; p2pnode dispute open 18852da0")


def test_only_the_buyer_is_told_not_to_pay_yet() -> None:
    assert "do not pay yet" in advise(Broadcast(b""), facts(T0))
    assert "pay" not in advise(Broadcast(b""), facts(T0, me="s"))


def test_a_payout_that_the_chain_shows_is_all_that_is_left_to_wait_for() -> None:
    known = facts(T0)
    known.view.spend, known.view.depth_of = object(), lambda spend: 2
    words = "wait: the escrow is being paid out, it has 2 of 6 confirmations"
    assert advise(Releasing(), known) == words
    assert advise(Funded(), known) == f"{words}; do not pay"


def test_both_are_told_when_their_node_calls_the_arbiter_by_itself() -> None:
    for me in "bs":
        assert "at block 2698, now 250" in advise(Paid(), facts(T0, me=me))


def test_the_command_that_is_named_is_one_that_works() -> None:
    words = advise(Paid(), facts(T0)).partition("p2pnode ")[2].replace("…", "x").split()
    result = run(*words, "--yes", "--data-dir", "/nonexistent")
    assert result.exit_code == 69, result.stderr


def test_no_keystore_is_made_whose_words_could_not_be_shown(tmp_path: Path) -> None:
    passphrase, data = tmp_path / "pass", tmp_path / "n"
    passphrase.write_text("a long passphrase\n")
    passphrase.chmod(0o600)
    (data / "config.new").mkdir(parents=True)  # in the way of the configuration
    words = ("init", "--data-dir", str(data), "--passphrase-file", str(passphrase))
    refused = run(*words)
    assert (refused.exit_code, refused.stdout) == (74, "")
    (data / "config.new").rmdir()
    assert run(*words).exit_code == 0


def test_a_slip_of_the_fingers_is_one_line_that_names_the_field_and_the_help() -> None:
    words = ("dispute", "open", "abcd")
    told = run(*words)
    assert (told.exit_code, told.stdout, told.stderr.count("\n")) == (2, "", 1)
    assert told.stderr.startswith("error: Missing option '--statement'. Try `")
    assert "dispute open --help" in told.stderr
    error = json.loads(run(*words, "--json").stderr)["error"]
    assert (error["code"], error["field"]) == ("usage", "statement")


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("fiat_minor: changed my mind", "changed my mind"),
        (
            "fiat_minor: is too far from the offer's price",
            "the sum is too far from the offer's price",
        ),
        ("offer_hash: is no current offer any more", "the offer is no current offer any more"),
        ("no: thank you", "no: thank you"),
        ("", ""),
    ],
)
def test_a_refused_proposal_names_no_field(reason: str, said: str) -> None:
    row = SimpleNamespace(
        id=bytes(32), began=T0, terms=SimpleNamespace(currency="EUR"), state=Declined(0, reason)
    )
    assert proposal_advice(row) == f"nothing: the other side refused ({said})"  # type: ignore[arg-type]


def test_one_is_written_as_one() -> None:
    assert offer_view.counted(1, "trade") == "1 trade"
    asked = offer_view._asked({"peer_trades": 1, "peer_days": 1})
    assert asked == "1 trade and a first one 1 day ago proven by its counterparty"
