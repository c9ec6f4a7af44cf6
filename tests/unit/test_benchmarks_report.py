"""A benchmark's rows: their format, what holds, what is missing, and the exit status."""

import io
import json
import sys
import time
from types import SimpleNamespace

import pytest

from benchmarks import dht, payouts, takes, trade
from benchmarks.report import OURS, Report, percentile
from escrow.messages import Kind

FIELDS = ["bench", "row", "unit", "ours", "theirs", "better", "ratio", "bar", "ok", "missing"]


@pytest.fixture
def out():
    return io.StringIO()


def printed(out):
    return [json.loads(line) for line in out.getvalue().splitlines()]


def row(out, *args, **kwargs):
    Report("b", out=out).row(*args, **kwargs)
    return printed(out)[-1]


def test_a_row_has_all_fields_in_order_and_its_ratio_is_over_the_best(out):
    got = row(out, "get", "ms", 55.0, {"x": 50.0, "y": 80.0}, bar=1.1, missing={"z": "no node"})
    assert list(got) == FIELDS
    assert (got["ratio"], got["ok"], got["missing"]) == (1.1, True, {"z": "no node"})


@pytest.mark.parametrize(
    ("ours", "theirs", "more", "ratio", "ok"),
    [
        (55.01, {"x": 50.0}, {"bar": 1.1}, 1.1, False),  # judged before it is rounded
        (140, {"x": 200}, {"limit": 150, "bar": 1}, 0.933, True),
        (140, {"x": 120}, {"limit": 150, "bar": 1}, 1.167, False),  # within, and not ahead
        (160, {"x": 200}, {"limit": 150, "bar": 1}, 1.067, False),  # ahead, and not within
        (90, {"x": 50}, {"limit": 110, "bar": 1, "against": "limit"}, 0.818, True),
        (100, {"x": 100}, {"limit": 100, "bar": 1, "better": "higher"}, 1, True),
        (97, {}, {"limit": 100, "bar": 1, "better": "higher"}, 0.97, False),
        (5, {"x": 4}, {}, 1.25, True),  # only printed
        (None, {"x": 4}, {"bar": 2}, None, False),
        (5, {}, {"bar": 2}, None, False),  # with nobody to compare
        (None, {}, {}, None, True),
    ],
)
def test_what_holds(out, ours, theirs, more, ratio, ok):
    got = row(out, "r", "ms", ours, theirs, **more)
    assert (got["ratio"], got["ok"]) == (ratio, ok)
    assert got["theirs"].get("limit") == more.get("limit")


def test_the_exit_status_wants_every_row_and_every_bar(out, capsys):
    report = Report("b", ("one", "two"), out=out)
    report.row("one", "ms", 1, {"x": 2}, bar=1)
    assert report.status() == 1
    assert "two" in capsys.readouterr().err
    report.row("two", "ms", 9, {"x": 2})
    assert report.status() == 0
    report.row("three", "ms", 9, {"x": 2}, bar=1)
    assert report.status() == 1
    with pytest.raises(ValueError, match="two"):
        report.row("two", "ms", 1, {})


def test_a_percentile_is_one_of_the_values():
    values = [5, 1, 4, 2, 3]
    assert [percentile(values, p) for p in (1, 50, 90, 99)] == [1, 3, 5, 5]
    assert percentile([7], 50) == 7
    assert percentile([], 50) is None


FULL = {
    "idle_bytes": 2**21, "put_s": [0.1, 0.2], "get_s": [0.05], "notify_s": [0.05],
    "dead30_s": [0.06] * 3, "dead30_found": 3, "dead30_second_s": [0.05],
    "dead30_second_found": 1, "silenced": 4, "cpu_s": 2.0, "rpcs": 500, "missing": {},
}  # fmt: skip


def report_of(out, **changes):
    """The rows when every system has found FULL, but for some."""
    ran = dht.entries()
    for entry in ran:
        entry.found = {**FULL, **changes.get(entry.name, {})}
    report = Report("dht", dht.MUST, out=out)
    dht.rows(ran, report)
    return {one["row"]: one for one in printed(out)}, report.status()


def test_all_rows_that_must_appear_do_and_name_every_peer(out):
    rows, status = report_of(out, kademlia={"put_s": [0.3]}, libtorrent={"put_s": [0.3]})
    assert set(dht.MUST) <= set(rows)
    assert status == 0
    six = {"kademlia", "kad_dht", "libtorrent", "opendht", "hyperdht", "bittorrent-dht"}
    for name in dht.MUST:
        assert set(rows[name]["theirs"]) - {"limit"} == six
        assert not rows[name]["missing"]
    assert rows["put_p50_rtt50"]["ours"] == 100
    assert rows["idle_memory"]["ours"] == 2
    assert rows["cpu_per_1000_rpcs"]["ours"] == 4


def test_a_peer_without_a_figure_is_named_with_the_reason(out):
    ran = dht.entries()
    for entry in ran:
        entry.found = dict(FULL)
    by_name = {entry.name: entry for entry in ran}
    by_name["libtorrent"].found, by_name["libtorrent"].reason = {}, "pip: no such version"
    by_name["hyperdht"].found |= {"notify_s": [], "missing": {"notify": "has no push"}}
    by_name["opendht"].found |= {"silenced": 0}  # its deaths never were
    report = Report("dht", dht.MUST, out=out)
    dht.rows(ran, report)
    rows = {one["row"]: one for one in printed(out)}
    for name in dht.MUST:
        assert rows[name]["missing"]["libtorrent"] == "pip: no such version"
        assert "libtorrent" not in rows[name]["theirs"]
    assert rows["notify_p50_rtt50"]["missing"]["hyperdht"] == "has no push"
    assert "opendht" in rows["found_dead30"]["missing"]
    assert "opendht" in rows["get_p50_dead30"]["missing"]


def test_without_our_own_figures_the_run_fails_and_says_why(out):
    rows, status = report_of(out, ours={"put_s": [], "missing": {"put": "was killed"}})
    assert status == 1
    assert rows["put_p50_rtt50"]["missing"] == {OURS: "was killed"}
    assert not rows["put_p50_rtt50"]["ok"]


@pytest.mark.parametrize("lost", [{"dead30_found": 2}, {"dead30_s": [1.2] * 3}, {"silenced": 0}])
def test_a_loss_among_the_dead_fails_the_run(out, lost):
    assert report_of(out)[1] == 0
    assert report_of(io.StringIO(), ours=lost)[1] == 1


def entry(code, limit_s=20.0):
    return dht.Entry("x", [sys.executable, "-c", code], limit_s=limit_s)


def test_the_last_line_a_program_printed_counts():
    one = entry('print(\'{"rpcs": 1}\'); print("noise"); print(\'{"rpcs": 2}\')')
    dht.measured(one)
    assert one.found == {"rpcs": 2}


def test_a_program_that_hangs_is_killed_with_its_children_and_what_it_said_is_kept(tmp_path):
    held = tmp_path / "child"
    code = (
        "import subprocess, sys, time\n"
        "print('{\"rpcs\": 3}', flush=True)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(held)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)"
    )
    one = entry(code, limit_s=2.0)
    start = time.monotonic()
    dht.measured(one)
    assert time.monotonic() - start < 20
    assert one.found == {"rpcs": 3}
    assert one.reason == "was killed after 2 s"
    try:
        with open(f"/proc/{held.read_text()}/stat") as stat:
            assert stat.read().rpartition(")")[2].split()[0] == "Z"  # dead, its parent too
    except FileNotFoundError:
        pass


def test_a_program_that_fails_tells_the_end_of_its_complaint():
    one = entry("raise SystemExit('no such library')")
    dht.measured(one)
    assert one.found == {}
    assert one.reason == "no such library"


def test_what_a_peer_needs_and_cannot_have_is_the_reason():
    one = dht.Entry("x", ["/nowhere"], needs=(lambda: "node is not installed",))
    dht.measured(one)
    assert one.reason == "node is not installed"


def trade_rows(monkeypatch, capsys, *, warm=2000.0, ms=(250.0, 240.0, 260.0), rate=60.0):
    """What `python -m benchmarks trade` prints when it has measured this; and its status."""
    found = payouts.Found(warm, 3000.0, 500.0, payouts.Counted(4, 13.5))
    monkeypatch.setattr(payouts, "measured", lambda: found)
    monkeypatch.setattr(takes, "take", lambda rtt_s, count: takes.Takes(ms, 2.0))
    monkeypatch.setattr(trade, "trades_a_second", lambda count: rate)
    status = trade.main()
    return {
        one["row"]: one for one in map(json.loads, capsys.readouterr().out.splitlines())
    }, status


def test_the_trade_has_all_rows_that_must_appear(monkeypatch, capsys):
    rows, status = trade_rows(monkeypatch, capsys)
    assert set(trade.MUST) <= set(rows)
    assert status == 0
    assert (rows["payout"]["ratio"], rows["payout"]["bar"]) == (4, 5)
    assert rows["take_contract_rtt100"]["theirs"] == {"limit": 200}  # two round trips
    assert rows["take_contract_rtt100"]["ratio"] == 1.25
    assert rows["take_contract_rtt0"]["bar"] is None
    assert rows["machine_trades"]["better"] == "higher"


@pytest.mark.parametrize("slow", [{"warm": 2501.0}, {"ms": (270.0,)}, {"rate": 20.0}])
def test_a_slow_trade_fails_the_run(monkeypatch, capsys, slow):
    assert trade_rows(monkeypatch, capsys, **slow)[1] == 1


def test_a_payout_s_floor_makes_the_very_signatures_and_verifies_as_often():
    deal = payouts.Deal(1)
    digests = deal.digests()
    assert payouts.same_signatures(deal, digests)
    checks = payouts.count_checks(deal)
    assert checks == 8  # at either rate: two of our own, the other's before and after signing
    verified = payouts.bare(deal, digests, checks)
    assert verified - checks in (4, 6)  # by OP_CHECKMULTISIG at either rate: two, or three
    found = payouts.measured(rounds=2)
    assert 0 < found.floor < found.warm
    assert found.inside.made == 4


def test_the_machines_bring_whole_trades_to_their_good_end():
    assert trade.trades_a_second(1) > 0  # it asserts how each has ended


def message(sender, kind):
    return SimpleNamespace(sender=sender, kind=kind)


def test_the_round_trips_of_a_take_are_counted_from_its_messages():
    said = [message(s, k) for s, k in zip("tmttmm", ["TAKE", "DRAW", "REVEAL", Kind.CONTRACT,
            Kind.CONTRACT, "INPUTS"], strict=True)]  # fmt: skip
    assert takes.one_ways(said) == 4
    pages = [message(s, k) for s, k in zip("tmtmttm", ["TAKE", "DRAW", "GET", "PAGE", "REVEAL",
             Kind.CONTRACT, Kind.CONTRACT], strict=True)]  # fmt: skip
    assert takes.one_ways(pages) == 6
