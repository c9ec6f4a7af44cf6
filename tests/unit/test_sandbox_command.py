"""`p2pnode sandbox` as a program: ready line, controls, signals, exit codes, a kill."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from p2pnode.app.commands.sandbox import sandbox
from p2pnode.app.sandbox.control import Control, parse_address
from p2pnode.base import address
from p2pnode.base.errors import LocalFault, UsageFault

PROGRAM = [sys.executable, "-c", "from p2pnode.app.commands.sandbox import sandbox; sandbox()"]
ROOT = Path(__file__).resolve().parents[2]
SCRIPT = b"\x00\x14" + b"\x55" * 20


@contextmanager
def program(*options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    child = subprocess.Popen(
        [*PROGRAM, "run", "--port", "0", "--json", *options],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        assert child.stdout
        yield child, json.loads(child.stdout.readline())
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def invoke(*args: str) -> Any:
    return CliRunner().invoke(sandbox, args)


def test_a_user_funds_mines_and_reorganises_by_command(tmp_path: Path) -> None:
    with program("--data-dir", str(tmp_path)) as (child, ready):
        assert ready["event"] == "ready"
        assert (ready["height"], ready["pid"]) == (110, child.pid)
        where = ["--electrum", ready["electrum"]]
        assert (tmp_path / "electrum.addr").read_text() == ready["electrum"] + "\n"
        to = address.encode("bcrt", SCRIPT)
        funded = json.loads(invoke("fund", to, "1.5", *where, "--json").stdout)
        assert funded["amount_sat"] == 150_000_000
        mined = json.loads(invoke("mine", "2", "--step", "3600", *where, "--json").stdout)
        assert (mined["height"], len(mined["blocks"])) == (112, 2)
        said = invoke("reorg", "2", *where)
        assert "height 113, 1 transactions wait" in said.stdout
        with Control(ready["electrum"]) as control:
            stats = control.call("sandbox.stats")
            with pytest.raises(LocalFault, match="unknown method"):
                control.call("sandbox.nothing")
        assert stats["entries_admitted"] == stats["entries_script_checked"]
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == 0
    assert not (tmp_path / "electrum.addr").exists()


def test_the_chain_is_there_after_a_kill(tmp_path: Path) -> None:
    with program("--data-dir", str(tmp_path)) as (child, ready):
        with Control(ready["electrum"]) as control:
            hashes = control.call("sandbox.mine", 5, 600)
        second = subprocess.run(
            [*PROGRAM, "run", "--port", "0", "--data-dir", str(tmp_path)],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            timeout=20,
        )
        assert (second.returncode, second.stdout) == (75, "")
        assert second.stderr.startswith("error: another sandbox runs")
        child.kill()
        child.wait()
    with program("--data-dir", str(tmp_path)) as (child, ready):
        assert ready["height"] == 115
        with Control(ready["electrum"]) as control:
            assert control.call("sandbox.stats")["tip"] == hashes[-1]
        child.send_signal(signal.SIGINT)
        assert child.wait(10) == 0


def test_a_taken_port_is_a_sentence_and_exit_75() -> None:
    with program() as (_, ready):
        result = subprocess.run(
            [*PROGRAM, "run", "--port", ready["electrum"].split(":")[1], "--json"],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            timeout=20,
        )
        assert result.returncode == 75
        assert "taken" in json.loads(result.stderr)["error"]["message"]


def test_bad_words_are_refused_with_their_exit_codes() -> None:
    with program() as (_, ready):
        where = ["--electrum", ready["electrum"]]
        mainnet = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"
        ours = address.encode("bcrt", SCRIPT)
        assert invoke("fund", mainnet, "1", *where).exit_code == 65
        assert invoke("fund", ours, "much", *where).exit_code == 65
        assert invoke("fund", ours, "0.000000001", *where).exit_code == 65
        assert invoke("fund", ours, "21000000", *where).exit_code == 70
        assert invoke("mine", "100", "--step", "86400", *where).exit_code == 70
        assert invoke("mine", "0", *where).exit_code == 2
        assert invoke("reorg", "111", *where).exit_code == 70
        assert invoke("mine", "1", "--electrum", "nowhere").exit_code == 2


def test_no_sandbox_is_a_sentence_and_exit_69() -> None:
    result = invoke("mine", "1", "--electrum", "127.0.0.1:1", "--json")
    assert result.exit_code == 69
    assert json.loads(result.stderr)["error"]["code"] == "unavailable"


@pytest.mark.parametrize(
    "text", ["", "5", ":5", "h:", "h:x", "h:0", "h:65536", "h:٣", "h:" + "9" * 5000]
)
def test_an_address_that_is_not_host_and_port_is_refused(text: str) -> None:
    with pytest.raises(UsageFault):
        parse_address(text)
