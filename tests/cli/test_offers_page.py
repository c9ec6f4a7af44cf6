"""docs/offers.md: every example on it runs, and its bounds are the code's."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from orderbook_daemon import Daemon, daemon

import cli
from orderbook import own
from orderbook.offer_bounds import (
    MAX_COUNTRIES,
    MAX_FREE_SAT,
    MAX_LANGUAGES,
    MAX_LIST,
    MAX_MARGIN_BP,
    MAX_PEER_DAYS,
    MAX_PEER_TRADES,
    MAX_TERMS,
)
from orderbook.shell_maker import MAX_OWN
from orderbook.shell_versions import MAX_MARKET

PAGE = (Path(__file__).resolve().parents[2] / "docs/offers.md").read_text()
NAMED = "c05e12"  # the offer that the examples speak of


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Daemon]:
    with daemon(tmp_path) as one:
        one.references.prices["EUR"] = 61_240_000_000
        yield one


def examples() -> list[list[str]]:
    """Return the words of each command on the page, its lines joined."""
    blocks = re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines]


def test_every_example_runs_as_it_stands(node: Daemon) -> None:
    ran = []
    for program, *words in examples():
        assert program == "p2pnode"
        mine = node.client().get("/v1/offers/mine")
        told = [mine[0]["offer_id"] if word == NAMED else word for word in words]
        result = node(cli.main, *told)
        assert result.exit_code == 0, (words, result.stderr)
        ran.append(" ".join(words[:2]))
    verbs = {"create", "mine", "edit", "disable", "enable", "clone", "cancel"}
    assert {f"offer {verb}" for verb in verbs} | {"account add"} == set(ran)


@pytest.mark.parametrize(
    "words",
    [
        f"−{MAX_MARGIN_BP // 100} to {MAX_MARGIN_BP // 100}, two decimals",
        f"{MAX_LIST} methods, each used for the currency",
        f"ISO 3166-1, {MAX_COUNTRIES};",
        f"ISO 639-1, {MAX_LANGUAGES};",
        f"may be 0 up to {MAX_FREE_SAT / 10**8:.2f} BTC",
        f"0 to {MAX_PEER_TRADES:,}; 0 to {MAX_PEER_DAYS:,}",
        f"{MAX_TERMS} bytes, no control",
        f"one minute to {own.MAX_END_DAYS} days",
        f"At most {MAX_OWN} of yours, at most {MAX_MARKET} enabled in one market",
    ],
)
def test_the_bounds_on_the_page_are_the_codes(words: str) -> None:
    assert words in PAGE
    assert own.MIN_END_S == 60
